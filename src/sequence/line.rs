//! What a receiver knows of one run of one source: which numbers are decided and which are not.
//!
//! ```text
//!   base ......... highest        every number in between is delivered, lost, held, or in a gap
//!         ^^  ^^^
//!         gaps: ascending, disjoint, the oldest first
//! ```

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use crate::jitter::Jitter;

use super::event::{Event, LossReason, Origin};
use super::gaps::{Gap, Gaps};
use super::heartbeat::{Heartbeat, HeartbeatKind};
use super::ranges::{REQUEST_RANGES_MAX, Ranges, width};
use super::receiver::{Delivery, ReceiverOptions, Weight};
use super::repair::RepairEnd;
use super::source::SourceName;
use super::stamp::Stamp;

/// A heartbeat that jumps further is believed only when the source repeats it to us.
const JUMP_MAX: u64 = 1 << 20;
/// The longest text of a request.
const REQUEST_BYTES_MAX: usize = 1_024;
/// Bounds of the time after which an unanswered request is sent again.
const ANSWER_TIME_MIN: Duration = Duration::from_millis(20);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);
/// Receivers spread what they ask at the same moment over this time.
pub(super) const SCATTER_TIME: Duration = Duration::from_millis(10);
/// Sources answer the same request only once in 10 ms.
const REPEAT_PAUSE: Duration = Duration::from_millis(16);
/// The pause after "nobody listens".
const NOBODY_PAUSE: Duration = Duration::from_millis(250);
/// "Nobody listens" this often in a row, and what is not won back is the source's fault.
const NOBODY_MAX: u32 = 2;
/// The longest pause between questions for the source's scope.
const QUESTION_PAUSE_MAX: Duration = Duration::from_secs(5);
/// The same while numbers are missing: they are asked for only once the scope is known.
const QUESTION_PAUSE_MISSING: Duration = Duration::from_millis(200);

/// Counts of one run of one source, as one receiver sees it.
///
/// `base` to `highest` are the numbers owed: each is delivered, lost, undecided or unverifiable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct LineStatistics {
    /// The source.
    pub source: SourceName,
    /// Its run.
    pub epoch: u64,
    /// The first number owed.
    pub base: u64,
    /// The highest number known to have been sent; `base` - 1 when none is owed.
    pub highest: u64,
    /// Messages delivered.
    pub delivered: u64,
    /// Delivered messages that came as repairs.
    pub repaired: u64,
    /// Messages dropped because their number was decided already.
    pub duplicates: u64,
    /// Numbers reported lost.
    pub lost: u64,
    /// Numbers that are missing, or held back for the order.
    pub undecided: u64,
    /// Numbers that are missing where nothing proves that they were meant for the subscription.
    pub unverifiable: u64,
    /// Whether the source has said that it ended, or a later run took its place.
    pub is_ended: bool,
}

/// Everything that a line needs from its receiver.
pub(super) struct Surroundings<'a, M> {
    pub(super) now: Duration,
    pub(super) options: &'a ReceiverOptions,
    pub(super) events: &'a mut VecDeque<Event<M>>,
    pub(super) jitter: &'a mut Jitter,
    /// When our end of the path changed last: older bytes may come late until it has settled.
    pub(super) path_changed: Option<Duration>,
}

#[derive(Debug, Clone)]
pub(super) struct Line<M> {
    source: SourceName,
    epoch: u64,
    prefix: Vec<u8>,
    base: u64,
    highest: u64,
    coverage: Coverage,
    gaps: Gaps,
    held: BTreeMap<u64, Held<M>>,
    held_bytes: usize,
    asked: Option<Asked>,
    ask_after: Duration,
    answer_time: Duration,
    fruitless: u32,
    nobody: u32,
    question: Option<Question>,
    progress: Duration,
    /// Within this time the source promised to be heard again.
    next: Option<Duration>,
    /// The source's connections so far, 0 while unknown.
    generation: u64,
    /// When its end of the path changed last.
    path_changed: Option<Duration>,
    pub(super) heard: Duration,
    pub(super) is_silent: bool,
    end: Option<u64>,
    is_superseded: bool,
    is_end_told: bool,
    delivered: u64,
    repaired: u64,
    duplicates: u64,
    lost: u64,
    unverifiable: u64,
    /// Which of the last 128 numbers were seen, the highest first; for a source that we see a part
    /// of.
    seen: u128,
}

/// Whether the subscription is sure to get every message of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coverage {
    /// The source's scope is not known.
    Unknown,
    /// It is: gaps are losses.
    Whole,
    /// It is not: gaps are no news.
    Part,
}

#[derive(Debug, Clone)]
struct Held<M> {
    message: M,
    bytes: usize,
    is_repaired: bool,
}

#[derive(Debug, Clone)]
struct Asked {
    ranges: Ranges,
    at: Duration,
    due: Duration,
    has_won: bool,
}

/// A question for the source's scope.
#[derive(Debug, Clone, Copy)]
struct Question {
    due: Duration,
    pause: Duration,
}

impl<M: Weight> Line<M> {
    /// Begins a line whose first owed number is `base`.
    pub(super) fn new(source: SourceName, epoch: u64, base: u64, now: Duration) -> Self {
        let mut prefix = Vec::new();
        Stamp::write_prefix(&mut prefix, &source, epoch);
        Self {
            source,
            epoch,
            prefix,
            base,
            highest: base.saturating_sub(1),
            coverage: Coverage::Unknown,
            gaps: Gaps::default(),
            held: BTreeMap::new(),
            held_bytes: 0,
            asked: None,
            ask_after: Duration::ZERO,
            answer_time: ANSWER_TIME_MIN,
            fruitless: 0,
            nobody: 0,
            question: Some(Question {
                due: now,
                pause: NOBODY_PAUSE,
            }),
            progress: Duration::ZERO,
            next: None,
            generation: 0,
            path_changed: None,
            heard: now,
            is_silent: false,
            end: None,
            is_superseded: false,
            is_end_told: false,
            delivered: 0,
            repaired: 0,
            duplicates: 0,
            lost: 0,
            unverifiable: 0,
            seen: 0,
        }
    }

    pub(super) const fn source(&self) -> &SourceName {
        &self.source
    }

    pub(super) const fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// Whether anything waits for time or for an answer.
    pub(super) fn is_active(&self) -> bool {
        !self.gaps.is_empty() || self.question.is_some()
    }

    /// Whether every number is decided.
    pub(super) fn is_settled(&self) -> bool {
        self.gaps.is_empty() && self.held.is_empty()
    }

    /// Whether nothing more is to come.
    pub(super) fn is_ended(&self) -> bool {
        (self.end.is_some() || self.is_superseded) && self.is_settled()
    }

    /// Whether the last number is known.
    pub(super) const fn has_end(&self) -> bool {
        self.end.is_some()
    }

    pub(super) fn statistics(&self) -> LineStatistics {
        let held = u64::try_from(self.held.len()).unwrap_or(u64::MAX);
        LineStatistics {
            source: self.source.clone(),
            epoch: self.epoch,
            base: self.base,
            highest: self.highest,
            delivered: self.delivered,
            repaired: self.repaired,
            duplicates: self.duplicates,
            lost: self.lost,
            undecided: self.gaps.numbers().saturating_add(held),
            unverifiable: self.unverifiable,
            is_ended: self.is_ended(),
        }
    }

    /// Asks nothing: the receiver only detects.
    pub(super) const fn detect_only(&mut self) {
        self.question = None;
    }

    /// The subscription shares its messages with others: no number is owed to it alone.
    pub(super) fn share(&mut self) {
        self.coverage = Coverage::Part;
        self.question = None;
    }

    /// Takes a message. Returns false when its run was superseded and its number is new.
    pub(super) fn handle_message(
        &mut self,
        around: &mut Surroundings<'_, M>,
        seq: u64,
        message: M,
        is_repaired: bool,
    ) -> bool {
        self.hear(around.now);
        if self.coverage == Coverage::Part {
            return self.handle_share(around, seq, message);
        }
        if seq > self.highest {
            if self.is_superseded {
                return false;
            }
            self.advance(around, seq.saturating_sub(1));
            let gap_before = self.gaps.width_before(self.highest);
            self.highest = seq;
            self.settle(around, seq, message, is_repaired, gap_before);
        } else if let Some(from) = self.gaps.holding(seq) {
            self.win_back(around, from, seq, message, is_repaired);
        } else {
            self.duplicates = self.duplicates.saturating_add(1);
        }
        true
    }

    /// Takes a heartbeat; `is_answer` when it came to our own question.
    pub(super) fn handle_heartbeat(
        &mut self,
        around: &mut Surroundings<'_, M>,
        heartbeat: &Heartbeat,
        is_answer: bool,
    ) {
        self.hear(around.now);
        self.next = Some(heartbeat.next);
        if self.generation > 0 && heartbeat.generation > self.generation {
            // What it sent on the connection before may still be on another way to us.
            self.path_changed = Some(around.now);
        }
        self.generation = self.generation.max(heartbeat.generation);
        self.learn_scope(around, heartbeat);
        let is_far = heartbeat.lead > self.highest.saturating_add(JUMP_MAX);
        let may_ask =
            around.options.delivery != Delivery::DetectOnly && self.coverage != Coverage::Part;
        if is_far && !is_answer && may_ask {
            self.question = Some(Question {
                due: around.now,
                pause: NOBODY_PAUSE,
            });
            return;
        }
        self.advance(around, heartbeat.lead);
        if heartbeat.kind == HeartbeatKind::End {
            self.end = Some(heartbeat.lead);
        }
        self.tell_end(around);
    }

    /// A later run has begun; `lead` is this one's last number where that is known.
    pub(super) fn supersede(&mut self, around: &mut Surroundings<'_, M>, lead: Option<u64>) {
        if let Some(lead) = lead {
            self.advance(around, lead);
            self.end = Some(lead);
        }
        self.is_superseded = true;
        self.tell_end(around);
    }

    /// Everything that the source sends for our last request has come.
    pub(super) fn handle_repair_end(&mut self, around: &mut Surroundings<'_, M>, end: &RepairEnd) {
        let now = around.now;
        self.hear(now);
        let is_claimed = self.coverage == Coverage::Whole;
        for (from, to) in end.gone.iter().filter(|_| is_claimed) {
            if self.is_unsettled(around) {
                let due = now.saturating_add(around.options.settle_time);
                self.gaps.doom(from, to, due);
            } else {
                self.lose(around, from, to, LossReason::NotRetained);
            }
        }
        if let Some(asked) = self.asked.take() {
            let took = now.saturating_sub(asked.at).saturating_mul(4);
            self.answer_time = took.clamp(ANSWER_TIME_MIN, ANSWER_TIME_MAX);
            self.fruitless = if asked.has_won {
                0
            } else {
                self.fruitless.saturating_add(1)
            };
            let is_missing = asked
                .ranges
                .iter()
                .any(|(from, to)| self.gaps.touches(from, to));
            self.ask_after = if end.retry > Duration::ZERO {
                now.saturating_add(end.retry)
            } else if end.has_more || !is_missing {
                now
            } else {
                // The repairs were lost on their way: the path is bad, the source is well.
                asked.at.saturating_add(self.pause(around, REPEAT_PAUSE))
            };
        }
        self.tell_end(around);
    }

    /// Nobody listens where the source takes requests.
    pub(super) fn handle_no_responders(&mut self, around: &mut Surroundings<'_, M>) {
        self.nobody = self.nobody.saturating_add(1);
        if self.asked.take().is_some() {
            // The source may be between two connections; whether it is gone, time will tell.
            self.ask_after = around.now.saturating_add(NOBODY_PAUSE);
        } else if self.nobody >= NOBODY_MAX && self.gaps.is_empty() {
            self.question = None;
        }
        self.tell_end(around);
    }

    /// Does what has become due.
    pub(super) fn handle_timeout(&mut self, around: &mut Surroundings<'_, M>) {
        let now = around.now;
        if self.asked.as_ref().is_some_and(|asked| now >= asked.due) {
            self.asked = None;
            self.fruitless = self.fruitless.saturating_add(1);
            self.ask_after = now;
        }
        for (from, to) in self.gaps.take_doomed(now) {
            self.lose(around, from, to, LossReason::NotRetained);
        }
        while let Some(gap) = self.gaps.first() {
            let (from, to) = (gap.from, gap.to);
            let deadline = self.deadline(gap, around.options);
            let is_detected = around.options.delivery == Delivery::DetectOnly && now >= gap.due;
            if is_detected && self.coverage == Coverage::Whole {
                self.lose(around, from, to, LossReason::Missing);
            } else if now >= deadline && self.coverage == Coverage::Whole {
                let is_gone = self.nobody >= NOBODY_MAX;
                let reason = if is_gone {
                    LossReason::SourceGone
                } else {
                    LossReason::Timeout
                };
                self.lose(around, from, to, reason);
            } else if now >= deadline {
                self.give_up_claims(around);
            } else {
                break;
            }
        }
        self.tell_end(around);
    }

    /// Decides everything that is undecided: the line is about to be forgotten.
    pub(super) fn give_up(&mut self, around: &mut Surroundings<'_, M>) {
        self.lose(around, 0, u64::MAX, LossReason::Overflow);
        self.give_up_claims(around);
    }

    /// The connection is back after `away`: waiting did not count meanwhile.
    pub(super) fn handle_connected(&mut self, now: Duration, away: Duration, ask_after: Duration) {
        self.gaps.shift(away, now);
        self.heard = self.heard.saturating_add(away).min(now);
        self.asked = None;
        self.nobody = 0;
        self.ask_after = ask_after;
    }

    /// Where the source is, is to be asked for.
    pub(super) fn question_scope(&mut self, due: Duration) {
        if !self.is_ended() && self.coverage != Coverage::Part {
            self.question = Some(Question {
                due,
                pause: NOBODY_PAUSE,
            });
        }
    }

    /// Whether the scope is to be asked for now.
    pub(super) fn take_question(&mut self, now: Duration) -> bool {
        let is_missing = !self.gaps.is_empty();
        let Some(question) = self
            .question
            .as_mut()
            .filter(|question| now >= question.due)
        else {
            return false;
        };
        if is_missing {
            question.due = now.saturating_add(QUESTION_PAUSE_MISSING);
        } else {
            question.due = now.saturating_add(question.pause);
            question.pause = question.pause.saturating_mul(2).min(QUESTION_PAUSE_MAX);
        }
        true
    }

    /// The numbers to ask for now.
    pub(super) fn take_request(&mut self, around: &mut Surroundings<'_, M>) -> Option<Ranges> {
        let now = around.now;
        let is_waiting = self.asked.is_some() || now < self.ask_after;
        if is_waiting || self.coverage != Coverage::Whole {
            return None;
        }
        let mut ranges = Ranges::new();
        let mut text_len = 0_usize;
        for gap in self.gaps.iter() {
            if gap.due > now || ranges.len() >= REQUEST_RANGES_MAX {
                break;
            }
            if gap.gone_due.is_some() {
                continue;
            }
            // Two numbers, a dash and a comma.
            text_len = text_len
                .saturating_add(digits(gap.from))
                .saturating_add(digits(gap.to))
                .saturating_add(2);
            if text_len > REQUEST_BYTES_MAX {
                break;
            }
            // Repairs come in ascending order, so even a full hold has use for the first.
            ranges.push(gap.from, gap.to);
        }
        if ranges.is_empty() {
            return None;
        }
        let due = now.saturating_add(self.pause(around, self.answer_time));
        self.asked = Some(Asked {
            ranges: ranges.clone(),
            at: now,
            due,
            has_won: false,
        });
        Some(ranges)
    }

    /// When to look at this line again.
    pub(super) fn timeout(&self, options: &ReceiverOptions) -> Option<Duration> {
        let question = self.question.map(|question| question.due);
        let doomed = self.gaps.doomed_due();
        let gap = self.gaps.first().map(|gap| {
            let deadline = self.deadline(gap, options);
            if self.coverage != Coverage::Whole {
                return deadline;
            }
            let act = match &self.asked {
                Some(asked) => asked.due,
                None => gap.due.max(self.ask_after),
            };
            if gap.gone_due.is_some() {
                deadline
            } else {
                act.min(deadline)
            }
        });
        [question, doomed, gap].into_iter().flatten().min()
    }

    /// When the source has broken its promise to be heard.
    pub(super) fn silent_due(&self) -> Option<Duration> {
        if self.is_silent || self.end.is_some() || self.is_superseded {
            return None;
        }
        let patience = self
            .next?
            .saturating_mul(2)
            .saturating_add(Duration::from_secs(1));
        Some(self.heard.saturating_add(patience))
    }

    const fn hear(&mut self, now: Duration) {
        self.heard = now;
        self.is_silent = false;
        self.nobody = 0;
    }

    /// Takes a message of a source that we see a part of: only copies are told apart. Returns
    /// false when its run was superseded and its number is new.
    fn handle_share(&mut self, around: &mut Surroundings<'_, M>, seq: u64, message: M) -> bool {
        let is_late = seq <= self.highest;
        if !is_late {
            if self.is_superseded {
                return false;
            }
            self.advance(around, seq);
        }
        let is_ordered = around.options.delivery == Delivery::Ordered;
        let age = self.highest.saturating_sub(seq);
        let bit = u32::try_from(age)
            .ok()
            .and_then(|age| 1_u128.checked_shl(age));
        match bit {
            Some(bit) if self.seen & bit == 0 && !(is_late && is_ordered) => {
                self.seen |= bit;
                // The first that was seen need not be the first that was sent.
                let before = self.base.saturating_sub(seq);
                self.base = self.base.min(seq);
                self.unverifiable = self.unverifiable.saturating_add(before).saturating_sub(1);
                self.deliver(around, seq, message, false, 0);
            }
            _ => self.duplicates = self.duplicates.saturating_add(1),
        }
        true
    }

    fn learn_scope(&mut self, around: &mut Surroundings<'_, M>, heartbeat: &Heartbeat) {
        self.question = None;
        if self.coverage == Coverage::Part {
            return;
        }
        if !heartbeat.scope.is_subset_of(&around.options.filter) {
            self.give_up_claims(around);
            self.coverage = Coverage::Part;
            // What came until now is taken as seen.
            self.seen = u128::MAX;
        } else if self.coverage == Coverage::Unknown {
            self.coverage = Coverage::Whole;
            for gap in self.gaps.iter() {
                around.events.push_back(self.gap_event(gap.from, gap.to));
            }
        }
    }

    /// Numbers up to `to` were sent: what we have not seen of them is missing.
    fn advance(&mut self, around: &mut Surroundings<'_, M>, to: u64) {
        if to <= self.highest {
            return;
        }
        let from = self.highest.saturating_add(1);
        self.highest = to;
        if self.coverage == Coverage::Part {
            let steps = u32::try_from(width(from, to)).unwrap_or(u32::MAX);
            self.seen = self.seen.checked_shl(steps).unwrap_or_default();
            self.unverifiable = self.unverifiable.saturating_add(width(from, to));
            return;
        }
        let grace = if self.is_unsettled(around) {
            // Many receivers on one server must not ask in step.
            let scatter = SCATTER_TIME.mul_f64(around.jitter.unit());
            let unsettled = around.options.unsettled_grace.saturating_add(scatter);
            around.options.grace.max(unsettled)
        } else {
            around.options.grace
        };
        let due = around.now.saturating_add(grace);
        self.gaps.open(from, to, around.now, due);
        if self.coverage == Coverage::Unknown && around.options.delivery != Delivery::DetectOnly {
            let soon = around.now.saturating_add(QUESTION_PAUSE_MISSING);
            let pause = NOBODY_PAUSE;
            let question = self.question.get_or_insert(Question { due: soon, pause });
            question.due = question.due.min(soon);
        }
        if self.coverage == Coverage::Whole {
            around.events.push_back(self.gap_event(from, to));
        }
        self.bound_gaps(around);
    }

    /// Whether bytes may overtake each other now.
    fn is_unsettled(&self, around: &Surroundings<'_, M>) -> bool {
        let time = around.options.path_change_time;
        let changed = self.path_changed.max(around.path_changed);
        changed.is_some_and(|at| around.now < at.saturating_add(time))
    }

    /// Gives up the oldest gaps when there are too many.
    fn bound_gaps(&mut self, around: &mut Surroundings<'_, M>) {
        while self.gaps.len() > around.options.gaps_max
            && let Some(gap) = self.gaps.first()
        {
            let (from, to) = (gap.from, gap.to);
            if self.coverage == Coverage::Whole {
                self.lose(around, from, to, LossReason::Overflow);
            } else {
                self.give_up_claims(around);
            }
        }
    }

    /// Delivers a message whose number was not seen before, or holds it for the order.
    fn settle(
        &mut self,
        around: &mut Surroundings<'_, M>,
        seq: u64,
        message: M,
        is_repaired: bool,
        gap_before: u64,
    ) {
        let is_blocked = self.gaps.first().is_some_and(|gap| gap.from < seq);
        let is_ordered = around.options.delivery == Delivery::Ordered;
        if !is_ordered || !is_blocked {
            self.deliver(around, seq, message, is_repaired, gap_before);
            return self.release(around);
        }
        let bytes = message.weight();
        let is_full = self.hold_room(around.options) == 0
            || self.held_bytes.saturating_add(bytes) > around.options.hold_bytes_max;
        if is_full {
            // Given up for the bound and asked for again when there is room.
            self.gaps.open_local(seq, around.now);
            return self.bound_gaps(around);
        }
        self.held_bytes = self.held_bytes.saturating_add(bytes);
        self.held.insert(
            seq,
            Held {
                message,
                bytes,
                is_repaired,
            },
        );
    }

    /// A message of the gap at `from` has come.
    fn win_back(
        &mut self,
        around: &mut Surroundings<'_, M>,
        from: u64,
        seq: u64,
        message: M,
        is_repaired: bool,
    ) {
        let is_first = self.gaps.first().is_some_and(|gap| gap.from == seq);
        let is_ordered = around.options.delivery == Delivery::Ordered;
        if is_ordered && !is_first && self.hold_room(around.options) == 0 {
            return;
        }
        self.progress = around.now;
        if let Some(asked) = &mut self.asked {
            asked.has_won = true;
        }
        self.gaps.cut(from, seq, seq);
        let gap_before = seq.saturating_sub(from);
        self.settle(around, seq, message, is_repaired, gap_before);
        // A number from its middle makes two gaps of one.
        self.bound_gaps(around);
        self.tell_end(around);
    }

    fn deliver(
        &mut self,
        around: &mut Surroundings<'_, M>,
        seq: u64,
        message: M,
        is_repaired: bool,
        gap_before: u64,
    ) {
        self.delivered = self.delivered.saturating_add(1);
        self.repaired = self.repaired.saturating_add(u64::from(is_repaired));
        let origin = Origin {
            source: self.source.clone(),
            epoch: self.epoch,
            seq,
            is_repaired,
            gap_before,
        };
        around.events.push_back(Event::Message { message, origin });
    }

    /// Delivers what was held for numbers that are decided now.
    fn release(&mut self, around: &mut Surroundings<'_, M>) {
        let blocked_from = self.gaps.first().map_or(u64::MAX, |gap| gap.from);
        while let Some(entry) = self.held.first_entry() {
            if *entry.key() > blocked_from {
                return;
            }
            let (seq, held) = entry.remove_entry();
            self.held_bytes = self.held_bytes.saturating_sub(held.bytes);
            self.deliver(around, seq, held.message, held.is_repaired, 0);
        }
    }

    /// Reports the missing numbers from `from` to `to` as lost.
    fn lose(&mut self, around: &mut Surroundings<'_, M>, from: u64, to: u64, reason: LossReason) {
        if self.coverage != Coverage::Whole {
            return;
        }
        for (start, lost_from, lost_to) in self.gaps.within(from, to) {
            self.gaps.cut(start, lost_from, lost_to);
            self.lost = self.lost.saturating_add(width(lost_from, lost_to));
            around.events.push_back(Event::Lost {
                source: self.source.clone(),
                epoch: self.epoch,
                from: lost_from,
                to: lost_to,
                reason,
            });
            self.release(around);
        }
    }

    /// Forgets the gaps without a claim: they may not have been meant for this subscription.
    fn give_up_claims(&mut self, around: &mut Surroundings<'_, M>) {
        self.unverifiable = self.unverifiable.saturating_add(self.gaps.clear());
        self.asked = None;
        self.release(around);
    }

    fn tell_end(&mut self, around: &mut Surroundings<'_, M>) {
        let Some(last_seq) = self.end.filter(|_| !self.is_end_told && self.is_settled()) else {
            return;
        };
        self.is_end_told = true;
        let (source, epoch) = (self.source.clone(), self.epoch);
        around.events.push_back(Event::SourceEnded {
            source,
            epoch,
            last_seq,
        });
    }

    fn gap_event(&self, from: u64, to: u64) -> Event<M> {
        Event::Gap {
            source: self.source.clone(),
            epoch: self.epoch,
            from,
            to,
        }
    }

    /// When waiting for a gap ends: counted from the last message that was won back.
    fn deadline(&self, gap: &Gap, options: &ReceiverOptions) -> Duration {
        gap.born
            .max(self.progress)
            .saturating_add(options.gap_timeout)
    }

    /// `base`, twice that after something fruitless, and scattered. More patience would leave too
    /// few attempts within the gap timeout on a bad path.
    fn pause(&self, around: &mut Surroundings<'_, M>, base: Duration) -> Duration {
        let doubled = base.saturating_mul(1 << self.fruitless.min(1));
        doubled.mul_f64(0.75 + 0.5 * around.jitter.unit())
    }

    /// How many more messages may be held.
    fn hold_room(&self, options: &ReceiverOptions) -> u64 {
        if options.delivery != Delivery::Ordered {
            return u64::MAX;
        }
        if self.held_bytes >= options.hold_bytes_max {
            return u64::from(self.held.is_empty());
        }
        let room = options.hold_messages_max.saturating_sub(self.held.len());
        u64::try_from(room).unwrap_or(u64::MAX)
    }
}

/// Digits of a number.
fn digits(number: u64) -> usize {
    number
        .checked_ilog10()
        .map_or(1, |power| (power as usize).saturating_add(1))
}
