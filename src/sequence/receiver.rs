//! One subscription: gives every number that it is owed exactly one outcome.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::jitter::Jitter;
use crate::subject::Filter;

use super::defect::Defect;
use super::event::Event;
use super::heartbeat::{Heartbeat, Prior};
use super::line::{Arrived, Line, SCATTER_TIME, Start, Surroundings};
use super::ranges::Ranges;
use super::repair::RepairEnd;
use super::source::SourceName;
use super::stamp::Stamp;
use super::statistics::LineStatistics;

/// How often all sources are looked at for silence and idleness.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);
/// After a reconnect only sources that were heard within this time are asked where they are.
const RECENT_TIME: Duration = Duration::from_secs(30);
/// The lowest bits of [`Request::line`] tell the requests of a line apart.
const REQUEST_BITS: u32 = 8;
/// Then one after another: a thousand in a second.
const QUESTION_SPACING: Duration = Duration::from_millis(1);

/// How messages are delivered and what is done about gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Delivery {
    /// As they arrive; repairs come later than their successors.
    #[default]
    Immediate,
    /// In the order of their numbers, for each run of a source; what comes early is held.
    Ordered,
    /// As they arrive; nothing is asked for, what is missing is reported lost.
    DetectOnly,
}

/// How a receiver behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ReceiverOptions {
    /// What the subscription receives: a source whose scope lies within it owes us every number.
    pub filter: Filter,
    /// A scope that reaches the subscription whole although its filter does not show it: the
    /// subjects come by another name here, through an import or a mapping. Sources whose scope is
    /// not known are taken to have it, and those that announce a scope within it owe us every
    /// number too. Default none.
    pub assume_scope: Option<Filter>,
    /// How messages are delivered. Default [`Delivery::Immediate`].
    pub delivery: Delivery,
    /// From where on numbers are owed. Default [`Start::Live`].
    pub start: Start,
    /// Whether the subscription shares its messages with others (a queue group): no gaps are
    /// claimed then. Default false.
    pub is_shared: bool,
    /// How long a missing number may be late. Default 0: connections keep order.
    pub grace: Duration,
    /// The same after the path has changed. Default 25 ms.
    pub unsettled_grace: Duration,
    /// How long a number that the source no longer has may be late after the path has changed.
    /// Default 50 ms.
    pub settle_time: Duration,
    /// How long a change of the path matters. Default 2 s.
    pub path_change_time: Duration,
    /// Connected time without any number won back, after which a gap is lost. Default 5 s.
    pub gap_timeout: Duration,
    /// Time after which a source that is not heard is forgotten, unless it has gaps.
    /// Default 10 min.
    pub idle_time: Duration,
    /// Runs of sources in the table; the one heard least recently is evicted. Default 65,536.
    pub sources_max: usize,
    /// Gaps of one run; the oldest is reported lost. Default 16,384.
    pub gaps_max: usize,
    /// Messages of one run held for the order; later ones are asked for again. Default 8,192, what
    /// a source retains by default.
    pub hold_messages_max: usize,
    /// Their bytes. Default 4 MiB.
    pub hold_bytes_max: usize,
}

impl ReceiverOptions {
    /// The defaults.
    #[must_use]
    pub const fn new(filter: Filter) -> Self {
        Self {
            filter,
            assume_scope: None,
            delivery: Delivery::Immediate,
            start: Start::Live,
            is_shared: false,
            grace: Duration::ZERO,
            unsettled_grace: Duration::from_millis(25),
            settle_time: Duration::from_millis(50),
            path_change_time: Duration::from_secs(2),
            gap_timeout: Duration::from_secs(5),
            idle_time: Duration::from_secs(600),
            sources_max: 65_536,
            gaps_max: 16_384,
            hold_messages_max: 8_192,
            hold_bytes_max: 4 << 20,
        }
    }

    /// Whether everything within `scope` comes to the subscription.
    pub(super) fn covers(&self, scope: &Filter) -> bool {
        let assumed = self.assume_scope.as_ref();
        scope.is_subset_of(&self.filter) || assumed.is_some_and(|wide| scope.is_subset_of(wide))
    }
}

/// What a receiver needs to know of a message that it carries.
pub trait Weight {
    /// Bytes that the message keeps in memory; they count towards
    /// [`ReceiverOptions::hold_bytes_max`].
    fn weight(&self) -> usize;

    /// What it was published to, also when it came as a repair. Where this is not told, less is
    /// proven of sources that the subscription sees only a part of.
    fn subject(&self) -> &[u8] {
        &[]
    }
}

/// Something to ask a source: publish the payload to its repair subject, with a reply subject that
/// leads back to `line`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// Names what was asked: the run of the source within this receiver, and which request of it.
    /// Never used for another.
    pub line: u64,
    /// The source.
    pub source: SourceName,
    /// Its run.
    pub epoch: u64,
    /// What to ask.
    pub kind: RequestKind,
}

/// What is asked of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestKind {
    /// A heartbeat.
    Heartbeat,
    /// These numbers.
    Messages(Ranges),
}

impl RequestKind {
    /// The request's payload.
    #[must_use]
    pub fn to_payload(&self) -> Vec<u8> {
        match self {
            Self::Heartbeat => b"?".to_vec(),
            Self::Messages(ranges) => ranges.to_text(),
        }
    }
}

/// One subscription; see the [module](super).
///
/// Feed it with the `handle_*` methods; after each, take events and requests until there are none.
#[derive(Debug, Clone)]
pub struct Receiver<M> {
    options: ReceiverOptions,
    lines: BTreeMap<u64, Line<M>>,
    next_line: u64,
    /// The runs of each source in ascending order.
    names: BTreeMap<SourceName, Vec<(u64, u64)>>,
    /// Lines that wait for time or for an answer.
    active: BTreeSet<u64>,
    /// The line of the last message.
    last: u64,
    events: VecDeque<Event<M>>,
    jitter: Jitter,
    next_scan: Duration,
    disconnected: Option<Duration>,
    path_changed: Option<Duration>,
    subscribed: Option<Duration>,
    unsequenced: u64,
    bad_stamps: u64,
}

impl<M: Weight> Receiver<M> {
    /// Makes a receiver on a connection that is up. `seed` is for the jitter of requests.
    #[must_use]
    pub fn new(options: ReceiverOptions, seed: u64, now: Duration) -> Self {
        Self {
            options,
            lines: BTreeMap::new(),
            next_line: 0,
            names: BTreeMap::new(),
            active: BTreeSet::new(),
            last: 0,
            events: VecDeque::new(),
            jitter: Jitter::new(seed),
            next_scan: now.saturating_add(SCAN_INTERVAL),
            disconnected: None,
            path_changed: None,
            subscribed: None,
            unsequenced: 0,
            bad_stamps: 0,
        }
    }

    /// Takes a message of the subscription; `stamp` is the value of its first `Seq` header.
    #[inline]
    pub fn handle_message(&mut self, now: Duration, stamp: Option<&[u8]>, message: M) {
        let Some(stamp) = stamp else {
            self.unsequenced = self.unsequenced.saturating_add(1);
            return self.events.push_back(Event::Unsequenced { message });
        };
        if let Some(line) = self.lines.get(&self.last)
            && let Some(seq) = Stamp::seq_after(line.prefix(), stamp)
            && seq > 0
        {
            let arrived = Arrived {
                seq,
                prev: None,
                is_repaired: false,
            };
            return self.take(now, self.last, &arrived, message);
        }
        let Some(stamp) = Stamp::parse(stamp).filter(|stamp| stamp.seq > 0) else {
            self.bad_stamps = self.bad_stamps.saturating_add(1);
            return self.events.push_back(Event::Unsequenced { message });
        };
        if let Some(line) = self.line_of(now, &stamp, stamp.seq, true) {
            self.last = line;
            let arrived = Arrived {
                seq: stamp.seq,
                prev: stamp.prev,
                is_repaired: false,
            };
            self.take(now, line, &arrived, message);
        }
    }

    /// Takes a heartbeat; `stamp` is the value of its `Seq` header.
    pub fn handle_heartbeat(&mut self, now: Duration, stamp: &[u8], heartbeat: &Heartbeat) {
        let Some(stamp) = Stamp::parse(stamp) else {
            self.bad_stamps = self.bad_stamps.saturating_add(1);
            return;
        };
        self.handle_prior(now, &stamp, heartbeat.prior);
        // A run that has ended may say so for a while beside the next.
        let is_news = !heartbeat.kind.is_end();
        let first_owed = heartbeat.lead.saturating_add(1);
        if let Some(line) = self.line_of(now, &stamp, first_owed, is_news) {
            self.supersede_before(now, &stamp);
            self.with(now, line, |line, around| {
                line.handle_heartbeat(around, heartbeat, None)
            });
        }
    }

    /// Takes the heartbeat that answers a request for one.
    pub fn handle_heartbeat_answer(
        &mut self,
        now: Duration,
        line: u64,
        stamp: &[u8],
        heartbeat: &Heartbeat,
    ) {
        let (line, question) = split(line);
        let Some(stamp) = Stamp::parse(stamp).filter(|stamp| self.is_of(line, stamp)) else {
            self.bad_stamps = self.bad_stamps.saturating_add(1);
            return;
        };
        self.handle_prior(now, &stamp, heartbeat.prior);
        self.with(now, line, |line, around| {
            line.handle_heartbeat(around, heartbeat, Some(question))
        });
    }

    /// Takes a message that came in answer to a request of `line`.
    pub fn handle_repair(&mut self, now: Duration, line: u64, stamp: &[u8], message: M) {
        let (line, _) = split(line);
        match Stamp::parse(stamp).filter(|stamp| stamp.seq > 0 && self.is_of(line, stamp)) {
            Some(stamp) => {
                let arrived = Arrived {
                    seq: stamp.seq,
                    prev: stamp.prev,
                    is_repaired: true,
                };
                self.take(now, line, &arrived, message);
            }
            None => self.bad_stamps = self.bad_stamps.saturating_add(1),
        }
    }

    /// Takes the end of an answer to a request of `line`.
    pub fn handle_repair_end(&mut self, now: Duration, line: u64, end: &RepairEnd) {
        let (line, number) = split(line);
        self.with(now, line, |line, around| {
            line.handle_repair_end(around, number, end)
        });
    }

    /// The server says that nobody listens to requests of `line`.
    pub fn handle_no_responders(&mut self, now: Duration, line: u64) {
        let (line, _) = split(line);
        self.with(now, line, Line::handle_no_responders);
    }

    /// The server has taken the subscription: runs that begin later are owed whole, even when
    /// their first words are lost. Without this call a run is owed from its first contact on.
    pub fn handle_subscribed(&mut self, now: Duration) {
        self.subscribed.get_or_insert(now);
    }

    /// Whether [`Receiver::handle_subscribed`] was called.
    #[must_use]
    pub const fn is_subscribed(&self) -> bool {
        self.subscribed.is_some()
    }

    /// The connection is gone. Nothing is asked for and nothing is given up until it is back.
    pub fn handle_disconnected(&mut self, now: Duration) {
        self.disconnected.get_or_insert(now);
    }

    /// The connection is back, perhaps to another server.
    pub fn handle_connected(&mut self, now: Duration) {
        let away = self
            .disconnected
            .take()
            .map_or(Duration::ZERO, |at| now.saturating_sub(at));
        self.path_changed = Some(now);
        let may_ask = self.options.delivery != Delivery::DetectOnly;
        let mut spacing = Duration::ZERO;
        for (id, line) in &mut self.lines {
            let silence = now.saturating_sub(away).saturating_sub(line.heard);
            let scatter = SCATTER_TIME.mul_f64(self.jitter.unit());
            let ask_after = now.saturating_add(scatter);
            line.handle_connected(now, away, ask_after);
            if may_ask && silence <= RECENT_TIME {
                line.question_scope(ask_after.saturating_add(spacing));
                spacing = spacing.saturating_add(QUESTION_SPACING);
            }
            if line.is_active() {
                self.active.insert(*id);
            }
        }
    }

    /// For `pause` nobody asked for anything, because the caller was busy: that time does not count
    /// towards [`ReceiverOptions::gap_timeout`].
    pub fn handle_pause(&mut self, now: Duration, pause: Duration) {
        for id in &self.active {
            if let Some(line) = self.lines.get_mut(id) {
                line.handle_pause(now, pause);
            }
        }
    }

    /// A moment that [`Receiver::poll_timeout`] named has come.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.disconnected.is_some() {
            return;
        }
        let due: Vec<u64> = self
            .active
            .iter()
            .copied()
            .filter(|id| {
                let line = self.lines.get(id);
                line.and_then(|line| line.timeout(&self.options))
                    .is_some_and(|due| due <= now)
            })
            .collect();
        for id in due {
            self.with(now, id, Line::handle_timeout);
        }
        if now >= self.next_scan {
            self.next_scan = now.saturating_add(SCAN_INTERVAL);
            self.scan(now);
        }
    }

    /// What was found out next.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event<M>> {
        self.events.pop_front()
    }

    /// What to ask next.
    #[must_use]
    pub fn poll_request(&mut self, now: Duration) -> Option<Request> {
        let may_ask =
            self.options.delivery != Delivery::DetectOnly || Defect::DetectorAsks.is_planted();
        if self.disconnected.is_some() || !may_ask {
            return None;
        }
        let mut around = Surroundings {
            now,
            options: &self.options,
            events: &mut self.events,
            jitter: &mut self.jitter,
            path_changed: self.path_changed,
            subscribed: self.subscribed,
        };
        for id in &self.active {
            let Some(line) = self.lines.get_mut(id) else {
                continue;
            };
            let (number, kind) = if let Some(number) = line.take_question(now) {
                (number, RequestKind::Heartbeat)
            } else if let Some((number, ranges)) = line.take_request(&mut around) {
                (number, RequestKind::Messages(ranges))
            } else {
                continue;
            };
            let (source, epoch) = (line.source().clone(), line.epoch());
            return Some(Request {
                line: *id << REQUEST_BITS | u64::from(number),
                source,
                epoch,
                kind,
            });
        }
        None
    }

    /// When to call [`Receiver::handle_timeout`], and to poll after it.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.disconnected.is_some() || self.lines.is_empty() {
            return None;
        }
        let lines = self.active.iter().filter_map(|id| self.lines.get(id));
        let due = lines.filter_map(|line| line.timeout(&self.options)).min();
        Some(due.map_or(self.next_scan, |due| due.min(self.next_scan)))
    }

    /// Returns true when a message that comes now may be held back for the order.
    #[must_use]
    pub fn may_hold(&self) -> bool {
        self.options.delivery == Delivery::Ordered && !self.active.is_empty()
    }

    /// Counts of every run of every source, in order.
    pub fn statistics(&self) -> impl Iterator<Item = LineStatistics> {
        self.names
            .values()
            .flatten()
            .filter_map(|(_, id)| Some(self.lines.get(id)?.statistics()))
    }

    /// Messages without a stamp, those with a malformed one not counted.
    #[must_use]
    pub const fn unsequenced(&self) -> u64 {
        self.unsequenced
    }

    /// Messages, heartbeats and answers whose stamp was malformed or not of the source asked.
    #[must_use]
    pub const fn bad_stamps(&self) -> u64 {
        self.bad_stamps
    }

    /// Returns true when no number is undecided.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.lines.values().all(Line::is_settled)
    }

    /// Returns true when at least one source was heard, and every run has ended or was superseded,
    /// nothing is undecided, and every event was taken.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let is_told = self.events.is_empty() && !self.lines.is_empty();
        is_told && self.lines.values().all(Line::is_ended)
    }

    fn take(&mut self, now: Duration, id: u64, arrived: &Arrived, message: M) {
        let is_taken = self.with(now, id, |line, around| {
            line.handle_message(around, arrived, message)
        });
        if is_taken == Some(false)
            && let Some(line) = self.lines.get(&id)
        {
            let (source, epoch) = (line.source().clone(), line.epoch());
            self.events.push_back(Event::Conflict { source, epoch });
        }
    }

    /// Runs `act` on a line; `None` when there is none with this number.
    #[inline]
    fn with<T>(
        &mut self,
        now: Duration,
        id: u64,
        act: impl FnOnce(&mut Line<M>, &mut Surroundings<'_, M>) -> T,
    ) -> Option<T> {
        let line = self.lines.get_mut(&id)?;
        let was_active = line.is_active();
        let result = act(
            line,
            &mut Surroundings {
                now,
                options: &self.options,
                events: &mut self.events,
                jitter: &mut self.jitter,
                path_changed: self.path_changed,
                subscribed: self.subscribed,
            },
        );
        match (was_active, line.is_active()) {
            (false, true) => {
                self.active.insert(id);
            }
            (true, false) => {
                self.active.remove(&id);
            }
            (true, true) | (false, false) => {}
        }
        Some(result)
    }

    fn is_of(&self, line: u64, stamp: &Stamp<'_>) -> bool {
        self.lines.get(&line).is_some_and(|line| {
            line.source().as_str() == stamp.source && line.epoch() == stamp.epoch
        })
    }

    /// Finds or begins the line of a run; `None` when an earlier run comes back.
    fn line_of(
        &mut self,
        now: Duration,
        stamp: &Stamp<'_>,
        first_owed: u64,
        is_news: bool,
    ) -> Option<u64> {
        let Some(runs) = self.names.get(stamp.source) else {
            let is_all_owed = Defect::BaseOne.is_planted();
            let base = if is_all_owed { 1 } else { first_owed };
            return self.begin(now, stamp, base, None);
        };
        if let Some((_, id)) = runs.iter().find(|(epoch, _)| *epoch == stamp.epoch) {
            return Some(*id);
        }
        let (latest, id) = *runs.last()?;
        if Defect::OneEpoch.is_planted() {
            return Some(id);
        }
        if stamp.epoch > latest {
            // Numbers of a later run are owed from its beginning.
            return self.begin(now, stamp, 1, Some((latest, id)));
        }
        if is_news {
            let source = self.lines.get(&id)?.source().clone();
            self.events.push_back(Event::Conflict {
                source,
                epoch: stamp.epoch,
            });
        }
        None
    }

    fn begin(
        &mut self,
        now: Duration,
        stamp: &Stamp<'_>,
        base: u64,
        previous: Option<(u64, u64)>,
    ) -> Option<u64> {
        if self.lines.len() >= self.options.sources_max {
            self.evict_oldest();
        }
        let source = SourceName::new(stamp.source).ok()?;
        let is_tail_known = previous
            .and_then(|(_, id)| self.lines.get(&id))
            .is_some_and(Line::has_end);
        let id = self.next_line;
        self.next_line = self.next_line.saturating_add(1);
        let mut line = Line::new(source.clone(), stamp.epoch, base, now);
        if self.options.is_shared {
            line.share();
        } else if self.options.assume_scope.is_some() {
            line.assume_covered();
        }
        if self.options.delivery == Delivery::DetectOnly && !Defect::DetectorAsks.is_planted() {
            line.detect_only();
        }
        if line.is_active() {
            self.active.insert(id);
        }
        self.lines.insert(id, line);
        self.names
            .entry(source.clone())
            .or_default()
            .push((stamp.epoch, id));
        self.events.push_back(Event::EpochStarted {
            source,
            epoch: stamp.epoch,
            previous: previous.map(|(epoch, _)| epoch),
            is_tail_known,
        });
        self.with(now, id, |line, around| line.join(around));
        Some(id)
    }

    /// A source names the last number of its run before: what we miss of that is countable.
    fn handle_prior(&mut self, now: Duration, stamp: &Stamp<'_>, prior: Option<Prior>) {
        let prior = prior.filter(|_| !Defect::NoPrior.is_planted());
        let Some(prior) = prior.filter(|prior| prior.epoch < stamp.epoch) else {
            return;
        };
        let runs = self.names.get(stamp.source);
        let id = runs.and_then(|runs| runs.iter().find(|(epoch, _)| *epoch == prior.epoch));
        if let Some((_, id)) = id.copied() {
            self.with(now, id, |line, around| {
                line.supersede(around, Some(prior.lead))
            });
        }
    }

    /// A heartbeat of a later run ends the earlier ones. Its data does not: on a path that reorders
    /// it may have overtaken theirs.
    fn supersede_before(&mut self, now: Duration, stamp: &Stamp<'_>) {
        let Some(runs) = self.names.get(stamp.source).filter(|runs| runs.len() > 1) else {
            return;
        };
        let earlier = runs.iter().filter(|(epoch, _)| *epoch < stamp.epoch);
        let earlier: Vec<u64> = earlier.map(|(_, id)| *id).collect();
        for id in earlier {
            self.with(now, id, |line, around| line.supersede(around, None));
        }
    }

    fn scan(&mut self, now: Duration) {
        let mut idle = Vec::new();
        for (id, line) in &mut self.lines {
            if line.silent_due().is_some_and(|due| now >= due) {
                line.is_silent = true;
                let (source, epoch) = (line.source().clone(), line.epoch());
                self.events.push_back(Event::SourceSilent { source, epoch });
            }
            let is_idle = now >= line.heard.saturating_add(self.options.idle_time);
            if is_idle && line.is_settled() {
                idle.push(*id);
            }
        }
        for id in idle {
            self.evict(id);
        }
    }

    fn evict_oldest(&mut self) {
        let settled = self.lines.iter().filter(|(_, line)| line.is_settled());
        let oldest = settled
            .min_by_key(|(_, line)| line.heard)
            .map(|(id, _)| *id);
        let oldest = oldest.or_else(|| self.lines.keys().next().copied());
        if let Some(id) = oldest {
            self.evict(id);
        }
    }

    /// Forgets a line; what is undecided in it is reported lost first.
    fn evict(&mut self, id: u64) {
        self.with(Duration::ZERO, id, Line::give_up);
        self.active.remove(&id);
        let Some(line) = self.lines.remove(&id) else {
            return;
        };
        let (source, epoch) = (line.source().clone(), line.epoch());
        if let Some(runs) = self.names.get_mut(&source) {
            runs.retain(|(_, run)| *run != id);
            if runs.is_empty() {
                self.names.remove(&source);
            }
        }
        self.events
            .push_back(Event::SourceEvicted { source, epoch });
    }
}

/// What [`Request::line`] names: a line, and the number of a request.
fn split(line: u64) -> (u64, u8) {
    let [number, ..] = line.to_le_bytes();
    (line >> REQUEST_BITS, number)
}

#[cfg(test)]
#[path = "receiver_tests.rs"]
mod tests;
