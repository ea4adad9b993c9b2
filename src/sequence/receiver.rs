//! One subscription: gives every number that it is owed exactly one outcome.

mod identity;
mod upkeep;

use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};

use crate::jitter::Jitter;

use self::identity::Contests;
use super::defect::Defect;
use super::event::{Event, Lacking};
use super::heartbeat::Heartbeat;
use super::line::{
    Arrived, Line, Load, Marks, RequestNumber, SCATTER_TIME, Surroundings, is_of_archive,
};
use super::nanos::Nanos;
pub(super) use super::options::{Delivery, ReceiverOptions, Weight};
use super::ranges::Ranges;
use super::repair::RepairEnd;
use super::source::SourceName;
use super::stamp::{Parts, Stamp};
use super::statistics::LineStatistics;
use super::table::{LineId, Table};

/// How often all sources are looked at for silence and idleness.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);
/// Subjects of all runs whose last number is remembered, for sources that are seen in part: with a
/// few hundred bytes each they take no more than 40 MiB.
const SUBJECTS_TOTAL_MAX: usize = 65_536;
/// After a reconnect only sources that were heard within this time are asked where they are.
const RECENT_TIME: Duration = Duration::from_secs(30);
/// The lowest bits of [`Request::line`] tell the requests of a line apart.
pub(super) const REQUEST_BITS: u32 = 16;
/// Sources are asked for heartbeats one after another: a thousand in a second.
const QUESTION_SPACING: Duration = Duration::from_millis(1);

/// Something to ask a source: publish the payload to its repair subject, with a reply subject that
/// leads back to `line`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// Names what was asked: the run of the source within this receiver, and which request of it. Used
    /// for another only after 32,767 requests of the run, or 65,536 runs in its place.
    pub line: u64,
    /// The source.
    pub source: SourceName,
    /// Its run.
    pub epoch: u64,
    /// What to ask.
    pub kind: RequestKind,
    /// Whether an archive is to be asked, not the source: see [`ReceiverOptions::archive`].
    pub is_for_archive: bool,
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
    table: Table<M>,
    /// When which line is to be looked at: those that wait for time or for an answer.
    timers: BTreeSet<(Nanos, LineId)>,
    /// What all lines hold together.
    load: Load,
    /// The line of the last message.
    last: Option<LineId>,
    /// What its stamps begin with, once two have come in a row.
    last_prefix: Vec<u8>,
    events: VecDeque<Event<M>>,
    jitter: Jitter,
    next_scan: Duration,
    /// Where the next scan begins.
    scan_from: usize,
    /// The runs to evict next, the one heard least recently first.
    oldest: VecDeque<(Rank, LineId)>,
    contests: Contests,
    disconnected: Option<Duration>,
    path_changed: Option<Duration>,
    /// Since when runs that begin are owed whole: none of them was forgotten.
    subscribed: Option<Duration>,
    /// Whether heartbeats come only when they are asked for.
    is_deaf: bool,
    /// When the next source may be asked for one.
    next_question: Duration,
    /// What is handed in now came after that.
    heard_until: Option<Duration>,
    forgotten: Option<Duration>,
    /// Since when the caller has no room.
    full: Option<Duration>,
    marks: Marks,
    dropped: u64,
    unsequenced: u64,
    bad_stamps: u64,
}

/// Runs are evicted in this order: those in which nothing is undecided first, and among them the
/// one heard least recently.
type Rank = (bool, Nanos);

impl<M: Weight> Receiver<M> {
    /// Makes a receiver on a connection that is up. `seed` is for the jitter of requests.
    #[must_use]
    pub fn new(options: ReceiverOptions, seed: u64, now: Duration) -> Self {
        Self {
            options,
            table: Table::new(seed),
            timers: BTreeSet::new(),
            load: Load::default(),
            last: None,
            last_prefix: Vec::new(),
            events: VecDeque::new(),
            jitter: Jitter::new(seed),
            next_scan: now.saturating_add(SCAN_INTERVAL),
            scan_from: 0,
            oldest: VecDeque::new(),
            contests: Contests::default(),
            disconnected: None,
            path_changed: None,
            subscribed: None,
            is_deaf: false,
            next_question: now,
            heard_until: None,
            forgotten: None,
            full: None,
            marks: Marks::default(),
            dropped: 0,
            unsequenced: 0,
            bad_stamps: 0,
        }
    }

    /// Ends the subscription: what is missing is reported lost ([`LossReason::Closed`]), and what
    /// was held for the order is delivered. Nothing is to be handed in after it; events are still
    /// to be taken.
    ///
    /// [`LossReason::Closed`]: super::LossReason::Closed
    pub fn finish(&mut self, now: Duration) {
        for id in self.table.within(0, usize::MAX).collect::<Vec<_>>() {
            self.with(now, id, Line::finish);
        }
    }

    /// Takes a message of the subscription; `stamp` is the value of its first `Seq` header.
    #[inline]
    pub fn handle_message(&mut self, now: Duration, stamp: Option<&[u8]>, message: M) {
        let Some(text) = stamp else {
            self.unsequenced = self.unsequenced.saturating_add(1);
            return self.events.push_back(Event::Unsequenced { message });
        };
        if let Some(line) = self.last
            && !self.last_prefix.is_empty()
            && let Some((seq, prev)) = Stamp::numbers_after(&self.last_prefix, text)
            && seq > 0
        {
            let arrived = Arrived {
                seq,
                prev,
                is_repaired: false,
                is_archived: false,
            };
            return self.take(now, line, &arrived, message);
        }
        let Some(stamp) = Parts::parse(text).filter(|stamp| stamp.seq > 0) else {
            self.bad_stamps = self.bad_stamps.saturating_add(1);
            return self.events.push_back(Event::Unsequenced { message });
        };
        if let Some(line) = self.line_of(now, &stamp, stamp.seq, true, None) {
            // Where sources take turns, remembering each would be in vain.
            self.last_prefix.clear();
            if self.last.replace(line) == Some(line) {
                let prefix = text.get(..stamp.prefix_len()).unwrap_or_default();
                self.last_prefix.extend_from_slice(prefix);
            }
            let arrived = Arrived {
                seq: stamp.seq,
                prev: stamp.prev,
                is_repaired: false,
                is_archived: false,
            };
            self.take(now, line, &arrived, message);
        }
    }

    /// Takes a heartbeat; `stamp` is the value of its `Seq` header.
    pub fn handle_heartbeat(&mut self, now: Duration, stamp: &[u8], heartbeat: &Heartbeat) {
        let Some(stamp) = Parts::parse(stamp) else {
            self.bad_stamps = self.bad_stamps.saturating_add(1);
            return;
        };
        // A run that has ended may say so for a while beside the next.
        let is_news = !heartbeat.kind.is_end();
        let first_owed = heartbeat.lead.saturating_add(1);
        if let Some(id) = self.line_of(now, &stamp, first_owed, is_news, heartbeat.prior) {
            if is_news {
                self.come_back(now, id);
            }
            let is_taken = self.with(now, id, |line, around| {
                line.handle_heartbeat(around, heartbeat, None)
            });
            if is_taken == Some(false) {
                self.bad_stamps = self.bad_stamps.saturating_add(1);
                return;
            }
            self.succeed(now, id, heartbeat.prior);
        }
    }

    /// Takes the heartbeat of a later run, which says in answer to a request of `line` that the run
    /// asked is over. A source speaks for its own name only, and an archive for none.
    pub fn handle_wrong_epoch(
        &mut self,
        now: Duration,
        line: u64,
        stamp: &[u8],
        heartbeat: &Heartbeat,
    ) {
        let (id, number) = split(line);
        let asked = self.table.get(id).filter(|_| !is_of_archive(number));
        let is_later = asked
            .zip(Stamp::parse(stamp))
            .is_some_and(|(asked, stamp)| {
                asked.source().as_str() == stamp.source && asked.epoch() < stamp.epoch
            });
        if !is_later {
            self.bad_stamps = self.bad_stamps.saturating_add(1);
            return;
        }
        self.handle_heartbeat(now, stamp, heartbeat);
        self.with(now, id, |line, around| {
            line.handle_wrong_epoch(around, number)
        });
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
        if !Stamp::parse(stamp).is_some_and(|stamp| self.is_of(line, &stamp)) {
            self.bad_stamps = self.bad_stamps.saturating_add(1);
            return;
        }
        if !heartbeat.kind.is_end() {
            self.come_back(now, line);
        }
        self.with(now, line, |line, around| {
            line.handle_heartbeat(around, heartbeat, Some(question))
        });
        self.succeed(now, line, heartbeat.prior);
    }

    /// Takes a message that came in answer to a request of `line`.
    pub fn handle_repair(&mut self, now: Duration, line: u64, stamp: &[u8], message: M) {
        let (line, number) = split(line);
        match Stamp::parse(stamp).filter(|stamp| stamp.seq > 0 && self.is_of(line, stamp)) {
            Some(stamp) => {
                let arrived = Arrived {
                    seq: stamp.seq,
                    prev: stamp.prev,
                    is_repaired: true,
                    is_archived: is_of_archive(number),
                };
                self.take(now, line, &arrived, message);
                if !arrived.is_archived {
                    self.prove(now, line);
                }
            }
            None => self.bad_stamps = self.bad_stamps.saturating_add(1),
        }
    }

    /// Takes the end of an answer to a request of `line`. "That run is over" is taken with the
    /// heartbeat that proves it, by [`Receiver::handle_wrong_epoch`]; here it says nothing.
    pub fn handle_repair_end(&mut self, now: Duration, line: u64, end: &RepairEnd) {
        let (line, number) = split(line);
        self.with(now, line, |line, around| {
            line.handle_repair_end(around, number, end)
        });
    }

    /// The server says that nobody listens to requests of `line`.
    pub fn handle_no_responders(&mut self, now: Duration, line: u64) {
        let (line, number) = split(line);
        self.with(now, line, |line, around| {
            line.handle_no_responders(around, number)
        });
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

    /// The server refuses something on this connection; `reason` is why. Without heartbeats the
    /// sources heard lately are asked for theirs, each once in a second, a thousand in all.
    pub fn handle_refused(&mut self, lacking: Lacking, reason: String) {
        self.is_deaf |= lacking == Lacking::Heartbeats;
        self.events.push_back(Event::Degraded { lacking, reason });
    }

    /// The connection is gone. Nothing is asked for and nothing is given up until it is back.
    pub fn handle_disconnected(&mut self, now: Duration) {
        self.is_deaf = false;
        self.disconnected.get_or_insert(now);
    }

    /// The connection is back, perhaps to another server.
    pub fn handle_connected(&mut self, now: Duration) {
        let away = self
            .disconnected
            .take()
            .map_or(Duration::ZERO, |at| now.saturating_sub(at));
        self.path_changed = Some(now);
        self.marks.connections = self.marks.connections.wrapping_add(1);
        let may_ask = self.options.may_ask();
        let mut spacing = Duration::ZERO;
        for id in self.table.within(0, usize::MAX).collect::<Vec<_>>() {
            self.with(now, id, |line, around| {
                let silence = now.saturating_sub(away).saturating_sub(line.heard());
                let scatter = SCATTER_TIME.mul_f64(around.jitter.unit());
                let ask_after = now.saturating_add(scatter);
                line.handle_connected(now, away, ask_after);
                if may_ask && silence <= RECENT_TIME {
                    line.question_scope(ask_after.saturating_add(spacing));
                    spacing = spacing.saturating_add(QUESTION_SPACING);
                }
            });
        }
    }

    /// The caller had no room for `count` messages that came at this point between those handed in,
    /// and dropped them. What turns out to be missing next is put down to that
    /// ([`Cause::DroppedHere`](super::Cause)). Nothing is asked for and nothing is given up until
    /// [`Receiver::handle_room`]: repairs would find no room either.
    pub fn handle_dropped(&mut self, now: Duration, count: u64) {
        self.dropped = self.dropped.saturating_add(count);
        self.marks.drops = self.marks.drops.wrapping_add(1);
        self.full.get_or_insert(now);
    }

    /// There is room again for what was dropped.
    pub fn handle_room(&mut self, now: Duration) {
        if let Some(full) = self.full.take() {
            self.handle_pause(now, now.saturating_sub(full));
        }
    }

    /// Whether [`Receiver::handle_room`] is waited for.
    #[must_use]
    pub const fn is_waiting_for_room(&self) -> bool {
        self.full.is_some()
    }

    /// Everything that had come until then was handed in: what follows has come later, and may have
    /// waited since. Without this call nothing is taken to have waited.
    pub fn handle_heard_until(&mut self, until: Duration) {
        self.heard_until = self.heard_until.max(Some(until));
    }

    /// For `pause` nobody asked for anything, because the caller was busy: that time does not count
    /// towards [`ReceiverOptions::gap_timeout`].
    pub fn handle_pause(&mut self, now: Duration, pause: Duration) {
        let waiting = self.timers.iter().map(|(_, id)| *id);
        for id in waiting.collect::<Vec<_>>() {
            self.with(now, id, |line, _| line.handle_pause(now, pause));
        }
    }

    /// A moment that [`Receiver::poll_timeout`] named has come.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.disconnected.is_some() || self.full.is_some() {
            return;
        }
        let due = self.timers.range(..=until(now)).map(|(_, id)| *id);
        for id in due.collect::<Vec<_>>() {
            self.with(now, id, Line::handle_timeout);
        }
        if now >= self.next_scan {
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
        let may_ask = self.options.may_ask() || Defect::DetectorAsks.is_planted();
        if self.disconnected.is_some() || self.full.is_some() || !may_ask {
            return None;
        }
        let mut from = (Nanos::new(Duration::ZERO), 0);
        loop {
            let (due, id) = *self.timers.range(from..=until(now)).next()?;
            let request = self.with(now, id, |line, around| {
                let (number, kind) = if let Some(number) = line.take_question(now) {
                    (number, RequestKind::Heartbeat)
                } else {
                    let (number, ranges) = line.take_request(around)?;
                    (number, RequestKind::Messages(ranges))
                };
                Some(Request {
                    line: id << REQUEST_BITS | u64::from(number),
                    source: line.source().clone(),
                    epoch: line.epoch(),
                    kind,
                    is_for_archive: is_of_archive(number),
                })
            });
            if let Some(Some(request)) = request {
                return Some(request);
            }
            from = (due, id.saturating_add(1));
        }
    }

    /// When to call [`Receiver::handle_timeout`], and to poll after it.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.disconnected.is_some() || self.full.is_some() || self.table.is_empty() {
            return None;
        }
        let due = self.timers.first().map(|(due, _)| due.get());
        Some(due.map_or(self.next_scan, |due| due.min(self.next_scan)))
    }

    /// Returns true when a message that comes now may be held back for the order.
    #[must_use]
    pub fn may_hold(&self) -> bool {
        self.options.delivery == Delivery::Ordered && !self.timers.is_empty()
    }

    /// Counts of every run of every source, in order. Sorts them all.
    pub fn statistics(&self) -> impl Iterator<Item = LineStatistics> {
        let mut lines: Vec<&Line<M>> = self.table.lines().collect();
        lines.sort_unstable_by(|one, two| {
            let (one, two) = ((one.source(), one.epoch()), (two.source(), two.epoch()));
            one.cmp(&two)
        });
        lines.into_iter().map(Line::statistics)
    }

    /// Messages that [`Receiver::handle_dropped`] was told of.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Messages without a stamp, those with a malformed one not counted.
    #[must_use]
    pub const fn unsequenced(&self) -> u64 {
        self.unsequenced
    }

    /// Messages, heartbeats and answers whose stamp was malformed or not of the source asked, and
    /// heartbeats with a number too far ahead to be believed where no source is asked.
    #[must_use]
    pub const fn bad_stamps(&self) -> u64 {
        self.bad_stamps
    }

    /// Returns true when no number is undecided. Looks at every run.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.table.lines().all(Line::is_settled)
    }

    /// Returns true when at least one source was heard, and every run has ended or was superseded,
    /// nothing is undecided, and every event was taken.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.events.is_empty() && !self.table.is_empty() && self.load.running == 0
    }

    #[inline]
    fn take(&mut self, now: Duration, id: LineId, arrived: &Arrived, message: M) {
        // Nearly always: the next number where none is missing, of which nothing is to be kept but that.
        if let Some((line, _)) = self.table.get_mut(id)
            && let Some(origin) = line.take_next(now, self.marks, arrived)
        {
            return self.events.push_back(Event::Message { message, origin });
        }
        let line = self.table.get(id);
        if line.is_some_and(|line| line.refuses(arrived)) {
            self.follow_again(now, id);
        }
        let is_taken = self.with(now, id, |line, around| {
            line.handle_message(around, arrived, message)
        });
        if is_taken == Some(false)
            && let Some(line) = self.table.get(id)
        {
            let (source, epoch) = (line.source().clone(), line.epoch());
            self.conflict(now, source, epoch);
        }
    }

    /// Runs `act` on a line and keeps the books about it; `None` when there is no such line.
    #[inline]
    fn with<T>(
        &mut self,
        now: Duration,
        id: LineId,
        act: impl FnOnce(&mut Line<M>, &mut Surroundings<'_, M>) -> T,
    ) -> Option<T> {
        let (line, due) = self.table.get_mut(id)?;
        let before = line.load();
        let others = self.load.without(before);
        let options = &self.options;
        let result = act(
            line,
            &mut Surroundings {
                now,
                options,
                gaps_max: options
                    .gaps_max
                    .min(options.gaps_total_max.saturating_sub(others.gaps)),
                hold_bytes_max: options.hold_bytes_max.min(
                    options
                        .hold_bytes_total_max
                        .saturating_sub(others.held_bytes),
                ),
                subjects_max: SUBJECTS_TOTAL_MAX.saturating_sub(others.subjects),
                events: &mut self.events,
                jitter: &mut self.jitter,
                path_changed: self.path_changed,
                subscribed: self.subscribed,
                forgotten: self.forgotten,
                came_after: self.heard_until.map_or(now, |until| until.min(now)),
                marks: self.marks,
            },
        );
        self.load = others.with(line.load());
        if due.is_some() || !line.is_at_rest() {
            line.rest();
            let next = line.timeout(options).map(Nanos::new);
            if *due != next {
                if let Some(due) = *due {
                    self.timers.remove(&(due, id));
                }
                if let Some(next) = next {
                    self.timers.insert((next, id));
                }
                *due = next;
            }
        }
        Some(result)
    }

    fn is_of(&self, line: LineId, stamp: &Stamp<'_>) -> bool {
        self.table.get(line).is_some_and(|line| {
            line.source().as_str() == stamp.source && line.epoch() == stamp.epoch
        })
    }
}

/// Every line whose time has come.
const fn until(now: Duration) -> (Nanos, LineId) {
    (Nanos::new(now), LineId::MAX)
}

/// What [`Request::line`] names: a line, and the number of a request.
fn split(line: u64) -> (u64, RequestNumber) {
    let [low, high, ..] = line.to_le_bytes();
    (
        line >> REQUEST_BITS,
        RequestNumber::from_le_bytes([low, high]),
    )
}

#[cfg(test)]
#[path = "receiver_tests.rs"]
mod tests;
