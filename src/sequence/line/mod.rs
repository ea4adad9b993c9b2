//! What a receiver knows of one run of one source: which numbers are decided and which are not.
//!
//! ```text
//!   base ......... highest        every number in between is delivered, lost, held, or in a gap
//!         ^^  ^^^
//!         gaps: ascending, disjoint, the oldest first
//! ```

mod archive;
mod asking;
mod baseline;
mod chains;
mod coverage;
mod denial;
mod identity;
mod order;

use core::time::Duration;
use std::collections::VecDeque;

use crate::jitter::Jitter;

use super::coverage::Coverage;
use super::defect::Defect;
use super::event::{Cause, Event, LossReason, Origin};
use super::gaps::{Gap, Gaps};
use super::heartbeat::{Heartbeat, Prior};
use super::nanos::Nanos;
use super::ranges::width;
use super::receiver::{Delivery, ReceiverOptions, Weight};
use super::source::SourceName;
use super::statistics::{Counts, LineStatistics};

pub(super) use self::archive::is_of_archive;
pub(super) use self::asking::RequestNumber;
use self::asking::{ANSWER_TIME_MIN, Asking, QUESTION_PAUSE_MISSING};
use self::baseline::Join;
pub use self::baseline::Start;
use self::chains::Chains;
use self::coverage::Seen;
use self::identity::can_ask;
use self::order::Held;

/// A lead that jumps further is believed only when the source repeats it to us.
const JUMP_MAX: u64 = 1 << 20;
/// Receivers spread what they ask at the same moment over this time.
pub(super) const SCATTER_TIME: Duration = Duration::from_millis(10);

/// Everything that a line needs from its receiver.
pub(super) struct Surroundings<'a, M> {
    pub(super) now: Duration,
    pub(super) options: &'a ReceiverOptions,
    /// Gaps that this line may have, bytes that it may hold, and subjects that it may remember,
    /// beside all others.
    pub(super) gaps_max: usize,
    pub(super) hold_bytes_max: usize,
    pub(super) subjects_max: usize,
    pub(super) events: &'a mut VecDeque<Event<M>>,
    pub(super) jitter: &'a mut Jitter,
    /// When our end of the path changed last: older bytes may come late until it has settled.
    pub(super) path_changed: Option<Duration>,
    /// When the server had taken the subscription.
    pub(super) subscribed: Option<Duration>,
    /// When a run was evicted last.
    pub(super) forgotten: Option<Duration>,
    /// What is handed in came after that.
    pub(super) came_after: Duration,
    pub(super) marks: Marks,
}

/// How often something happened at our end that explains what is missing after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Marks {
    /// The caller dropped messages.
    pub(super) drops: u32,
    /// The connection came back.
    pub(super) connections: u32,
}

/// What a line, or all together, take of what is bounded.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Load {
    pub(super) gaps: usize,
    pub(super) held_bytes: usize,
    /// Subjects of which the last number is remembered.
    pub(super) subjects: usize,
    /// Lines that have not ended.
    pub(super) running: usize,
}

impl Load {
    #[inline]
    pub(super) const fn with(self, line: Self) -> Self {
        Self {
            gaps: self.gaps.saturating_add(line.gaps),
            held_bytes: self.held_bytes.saturating_add(line.held_bytes),
            subjects: self.subjects.saturating_add(line.subjects),
            running: self.running.saturating_add(line.running),
        }
    }

    #[inline]
    pub(super) const fn without(self, line: Self) -> Self {
        Self {
            gaps: self.gaps.saturating_sub(line.gaps),
            held_bytes: self.held_bytes.saturating_sub(line.held_bytes),
            subjects: self.subjects.saturating_sub(line.subjects),
            running: self.running.saturating_sub(line.running),
        }
    }
}

/// What a message says about itself and how it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived {
    pub(super) seq: u64,
    /// The number before it on its subject, where it says so.
    pub(super) prev: Option<u64>,
    pub(super) is_repaired: bool,
    /// Whether the repair came from an archive: then the source was not heard.
    pub(super) is_archived: bool,
}

/// Small while nothing is wrong: what is seldom needed is in boxes.
#[derive(Debug, Clone)]
pub(super) struct Line<M> {
    source: SourceName,
    epoch: u64,
    base: u64,
    /// While the base may still be lowered.
    join: Option<Box<Join>>,
    highest: u64,
    /// The marks when `highest` was heard of.
    pub(super) marks: Marks,
    coverage: Coverage,
    /// What the owner was told of it, or may take for granted.
    told_coverage: Coverage,
    /// What proves losses of a source that we see a part of.
    chains: Option<Box<Chains>>,
    gaps: Gaps,
    held: Option<Box<Held<M>>>,
    asking: Option<Box<Asking>>,
    answer_time: Nanos,
    /// The number of the last request.
    request_number: RequestNumber,
    /// Within this time the source promised to be heard again.
    next: Option<Nanos>,
    /// The source's connections so far, 0 while unknown.
    generation: u64,
    /// When its end of the path changed last.
    path_changed: Option<Nanos>,
    heard: Nanos,
    pub(super) is_silent: bool,
    /// Whether no run of its source was evicted before it began.
    pub(super) is_never_forgotten: bool,
    /// Whether an earlier run of its source was evicted for it and others: one that begins between
    /// them may be that one.
    pub(super) has_forgotten_runs: bool,
    end: Option<u64>,
    is_superseded: bool,
    /// Whether the source itself has answered for this run.
    is_proven: bool,
    /// Whether it is asked to, because another run speaks in its name.
    wants_proof: bool,
    /// The run before this one, until that is proven.
    pub(super) prior: Option<Box<Prior>>,
    is_end_told: bool,
    delivered: u64,
    counts: Option<Box<Counts>>,
    /// Which of the last numbers have come, of a source that we see a part of.
    seen: Option<Box<Seen>>,
}

impl<M: Weight> Line<M> {
    /// Begins a line whose first owed number is `base`.
    pub(super) fn new(source: SourceName, epoch: u64, base: u64, now: Duration) -> Self {
        let mut line = Self {
            source,
            epoch,
            base,
            join: None,
            highest: base.saturating_sub(1),
            marks: Marks::default(),
            coverage: Coverage::Unverified,
            told_coverage: Coverage::Strict,
            chains: None,
            gaps: Gaps::default(),
            held: None,
            asking: None,
            answer_time: Nanos::new(ANSWER_TIME_MIN),
            request_number: 0,
            next: None,
            generation: 0,
            path_changed: None,
            heard: Nanos::new(now),
            is_silent: false,
            is_never_forgotten: true,
            has_forgotten_runs: false,
            end: None,
            is_superseded: false,
            is_proven: false,
            wants_proof: false,
            prior: None,
            is_end_told: false,
            delivered: 0,
            counts: None,
            seen: None,
        };
        line.question_by(now);
        line
    }

    pub(super) const fn source(&self) -> &SourceName {
        &self.source
    }

    pub(super) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether only a part of the run is seen.
    pub(super) const fn is_part(&self) -> bool {
        self.coverage.is_part()
    }

    /// Messages delivered.
    pub(super) const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// When it was heard last.
    pub(super) const fn heard(&self) -> Duration {
        self.heard.get()
    }

    /// Whether anything waits for time or for an answer.
    pub(super) fn is_active(&self) -> bool {
        !self.gaps.is_empty() || self.question().is_some() || self.is_probing()
    }

    /// Whether nothing waits, not even for what was asked.
    #[inline]
    pub(super) const fn is_at_rest(&self) -> bool {
        self.gaps.is_empty() && self.asking.is_none() && self.join.is_none()
    }

    #[inline]
    pub(super) fn load(&self) -> Load {
        Load {
            gaps: self.gaps.len(),
            held_bytes: self.held_bytes(),
            subjects: self.chains.as_ref().map_or(0, |chains| chains.subjects()),
            running: usize::from(!self.is_ended()),
        }
    }

    /// Forgets what only matters while something waits.
    pub(super) fn rest(&mut self) {
        if self.asking.is_some() && !self.is_active() {
            self.asking = None;
        }
    }

    /// Whether every number is decided.
    pub(super) fn is_settled(&self) -> bool {
        self.gaps.is_empty() && self.held.is_none() && !self.is_joining()
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
        let none = Counts::default();
        let counts = self.counts.as_deref().unwrap_or(&none);
        LineStatistics {
            source: self.source.clone(),
            epoch: self.epoch,
            coverage: self.coverage,
            base: self.base,
            highest: self.highest,
            withdrawn: counts.withdrawn,
            delivered: self.delivered,
            repaired: counts.repaired,
            late: counts.late,
            duplicates: counts.duplicates,
            gaps: counts.gaps,
            requests: counts.requests,
            lost: counts.lost,
            undecided: self.undecided(),
            unverifiable: counts.unverifiable,
            is_ended: self.is_ended(),
            first_loss: counts.first_loss,
            last_loss: counts.last_loss,
            repair_p50: counts.repair_time(50),
            repair_p99: counts.repair_time(99),
            lost_by_reason: counts.lost_by_reason,
            lost_by_cause: counts.lost_by_cause,
        }
    }

    /// Numbers that are missing or held.
    fn undecided(&self) -> u64 {
        let held = u64::try_from(self.held_len()).unwrap_or(u64::MAX);
        self.gaps.numbers().saturating_add(held)
    }

    fn counts_mut(&mut self) -> &mut Counts {
        self.counts.get_or_insert_default()
    }

    /// Asks nothing: the receiver only detects.
    pub(super) fn detect_only(&mut self) {
        self.asking = None;
    }

    /// Everything of the source is taken to come to the subscription until it says otherwise.
    pub(super) const fn assume_covered(&mut self) {
        self.coverage = Coverage::Strict;
    }

    /// The subscription shares its messages with others: no number is owed to it alone.
    pub(super) fn share(&mut self) {
        if Defect::GroupClaims.is_planted() {
            return;
        }
        self.coverage = Coverage::Group;
        self.told_coverage = Coverage::Group;
        self.asking = None;
    }

    /// Takes the next number of a run that misses none: the short way through `handle_message`. No
    /// timer depends on what it changes.
    #[inline]
    pub(super) fn take_next(
        &mut self,
        now: Duration,
        marks: Marks,
        arrived: &Arrived,
    ) -> Option<Origin> {
        let is_next = arrived.seq == self.highest.wrapping_add(1) && !arrived.is_repaired;
        let is_plain = !self.coverage.is_part() && !self.is_superseded && self.end.is_none();
        if !is_next || !is_plain || !self.gaps.is_empty() || self.join.is_some() {
            return None;
        }
        self.hear(now);
        (self.highest, self.marks) = (arrived.seq, marks);
        self.delivered = self.delivered.saturating_add(1);
        Some(Origin {
            source: self.source.clone(),
            epoch: self.epoch,
            seq: arrived.seq,
            is_repaired: false,
            gap_before: 0,
        })
    }

    /// Takes a message. Returns false when its run was superseded and its number is new.
    pub(super) fn handle_message(
        &mut self,
        around: &mut Surroundings<'_, M>,
        arrived: &Arrived,
        message: M,
    ) -> bool {
        if !arrived.is_archived {
            self.hear(around.now);
        }
        if self.coverage.is_part() {
            return self.handle_share(around, arrived, message);
        }
        let Arrived {
            seq, is_repaired, ..
        } = *arrived;
        if seq > self.highest && !is_repaired {
            if self.is_superseded {
                return false;
            }
            self.go_on();
            self.advance(around, seq.saturating_sub(1), Cause::Unknown);
            self.marks = around.marks;
            let gap_before = self.gaps.width_before(self.highest);
            self.highest = seq;
            self.settle(around, seq, message, is_repaired, gap_before);
        } else if is_repaired && Defect::DoubleRepair.is_planted() {
            self.deliver(around, seq, message, is_repaired, 0);
        } else if let Some(from) = self.gaps.holding(seq) {
            self.win_back(around, from, seq, message, is_repaired);
        } else if !is_repaired && self.begin_again_at(seq) {
            return self.handle_message(around, arrived, message);
        } else {
            self.counts_mut().count_duplicate();
        }
        true
    }

    /// Takes a heartbeat; `question` is the number of our own question that it answers. Returns
    /// false when it says what only the source itself is believed, and that is not asked.
    pub(super) fn handle_heartbeat(
        &mut self,
        around: &mut Surroundings<'_, M>,
        heartbeat: &Heartbeat,
        question: Option<RequestNumber>,
    ) -> bool {
        if question.is_some() && heartbeat.lead < self.highest && self.is_only_announced() {
            self.begin_anew(heartbeat.lead.saturating_add(1));
        }
        let known = question.and_then(|question| self.known_before(question));
        self.note_proof(around, question.is_some());
        if question.is_none() && self.is_doubtful(around, heartbeat) {
            let may_ask = can_ask(around);
            if may_ask {
                // The source itself is asked.
                self.question_by(around.now).is_doubt = true;
            }
            return may_ask;
        }
        self.hear(around.now);
        let is_moved = self.generation > 0 && heartbeat.generation > self.generation;
        if is_moved {
            // What it sent on the connection before may still be on another way to us.
            self.path_changed = Some(Nanos::new(around.now));
        }
        // Not the highest that was ever said: that may have been made up.
        self.generation = heartbeat.generation;
        self.learn_scope(around, heartbeat);
        // Of what we see a part of, heartbeats may go where we do not hear them: only one that came
        // by itself promises another.
        if question.is_none() || !self.coverage.is_part() {
            self.next = Some(Nanos::new(heartbeat.next));
        }
        self.learn_base(around, heartbeat, question);
        if heartbeat.lead < self.highest && known.is_none() {
            self.doubt(around, heartbeat.lead);
        } else {
            self.confirm();
            if !self.is_joining() && !self.wants_proof {
                self.forget_question(question.is_some());
            }
        }
        if let Some(known) = known {
            self.deny(around, heartbeat.lead, known);
        }
        // What an earlier run still sends beside a later one is refused: only its end counts.
        let may_lead = !self.is_superseded || heartbeat.kind.is_end();
        if !Defect::DeafToTails.is_planted() && may_lead && heartbeat.lead >= self.highest {
            let cause = if is_moved {
                Cause::SourceConnection
            } else {
                Cause::Unknown
            };
            self.advance(around, heartbeat.lead, cause);
            self.marks = around.marks;
        }
        if heartbeat.kind.is_end() {
            self.end = Some(heartbeat.lead);
        } else if question.is_some() && self.end.is_some_and(|end| heartbeat.lead > end) {
            self.go_on();
        }
        self.tell_end(around);
        true
    }

    /// Does what has become due.
    pub(super) fn handle_timeout(&mut self, around: &mut Surroundings<'_, M>) {
        let now = around.now;
        if let Some(asking) = &mut self.asking
            && !Defect::NoRetry.is_planted()
        {
            asking.handle_timeout(now);
        }
        if self.joining_until().is_some_and(|until| now >= until) {
            self.fix_base(around, self.base);
        }
        for (from, to) in self.gaps.take_doomed(now) {
            self.give_up_source(around, from, to, LossReason::NotRetained);
        }
        while let Some(gap) = self.gaps.first() {
            let (from, to, handed) = (gap.from, gap.to, gap.handed);
            let deadline = self.deadline(gap, around.options);
            let is_detected = around.options.delivery == Delivery::DetectOnly && now >= gap.due;
            if is_detected && self.coverage.has_claims() {
                self.lose(around, from, to, LossReason::Missing);
            } else if self.coverage.has_claims()
                && (now >= deadline || Defect::AttemptLimit.is_planted() && self.fruitless() > 2)
            {
                let is_gone = self.is_nobody_there();
                let reason = if is_gone {
                    LossReason::SourceGone
                } else {
                    LossReason::Timeout
                };
                match handed {
                    Some(handed) if handed.is_final => {
                        self.lose(around, from, to, handed.reason);
                    }
                    _ if around.options.asks_archives() => {
                        self.give_up_source(around, from, to, reason);
                        self.give_up_waiting(around, reason);
                    }
                    _ => self.lose(around, from, to, reason),
                }
            } else if now >= deadline {
                self.give_up_unverified(around, LossReason::Timeout);
            } else {
                break;
            }
        }
        self.tell_end(around);
    }

    /// Decides everything that is undecided: the line is about to be forgotten.
    pub(super) fn give_up(&mut self, around: &mut Surroundings<'_, M>) {
        self.fix_base(around, self.base);
        self.lose(around, 0, u64::MAX, LossReason::Overflow);
        self.give_up_claims(around);
    }

    /// Decides everything that is undecided: nothing more will be heard.
    pub(super) fn finish(&mut self, around: &mut Surroundings<'_, M>) {
        self.fix_base(around, self.base);
        self.lose(around, 0, u64::MAX, LossReason::Closed);
        if !self.gaps.is_empty() {
            self.give_up_unverified(around, LossReason::Closed);
        }
        self.asking = None;
        self.tell_end(around);
    }

    /// Nobody asked for anything for `pause`.
    pub(super) fn handle_pause(&mut self, now: Duration, pause: Duration) {
        self.gaps.shift(pause, now);
        if let Some(join) = &mut self.join {
            join.handle_pause(now, pause);
        }
        if let Some(asking) = &mut self.asking
            && !Defect::AgingOutage.is_planted()
        {
            asking.handle_pause(now, pause);
        }
    }

    /// The connection is back after `away`: waiting did not count meanwhile.
    pub(super) fn handle_connected(&mut self, now: Duration, away: Duration, ask_after: Duration) {
        self.handle_pause(now, away);
        self.heard = Nanos::new(self.heard().saturating_add(away).min(now));
        if self.is_active() {
            let asking = self.asking_mut();
            asking.handle_connected(ask_after);
        }
    }

    /// When the source has broken its promise to be heard.
    pub(super) fn silent_due(&self) -> Option<Duration> {
        if self.is_silent || self.end.is_some() || self.is_superseded {
            return None;
        }
        let patience = self
            .next?
            .get()
            .saturating_mul(2)
            .saturating_add(Duration::from_secs(1));
        Some(self.heard().saturating_add(patience))
    }

    /// Whether what a heartbeat says would change so much that the source should say it to us.
    fn is_doubtful(&self, around: &Surroundings<'_, M>, heartbeat: &Heartbeat) -> bool {
        let may_ask = can_ask(around) && !self.coverage.is_part();
        let is_end = heartbeat.kind.is_end();
        let is_elsewhere =
            self.coverage == Coverage::Strict && !around.options.covers(&heartbeat.scope);
        let takes_back = is_end && heartbeat.lead < self.highest;
        may_ask && (is_elsewhere || takes_back) || self.is_far(heartbeat.lead)
    }

    const fn is_far(&self, lead: u64) -> bool {
        lead > self.highest.saturating_add(JUMP_MAX)
    }

    #[inline]
    fn hear(&mut self, now: Duration) {
        self.heard = Nanos::new(now);
        self.is_silent = false;
        if let Some(asking) = &mut self.asking {
            asking.nobody = 0;
        }
    }

    /// Numbers up to `to` were sent: what we have not seen of them is missing. `cause` is taken
    /// where nothing at our end explains it.
    fn advance(&mut self, around: &mut Surroundings<'_, M>, to: u64, cause: Cause) {
        if to <= self.highest {
            return;
        }
        let from = self.highest.saturating_add(1);
        self.highest = to;
        if self.coverage.is_part() {
            let counts = self.counts_mut();
            counts.unverifiable = counts.unverifiable.saturating_add(width(from, to));
            return;
        }
        let due = self.gap_due(around);
        let ours = self.cause(around);
        let cause = if ours == Cause::Unknown { cause } else { ours };
        self.gaps.open(from, to, around.now, due, cause);
        self.counts_mut().count_gap();
        if self.coverage == Coverage::Unverified && around.options.delivery != Delivery::DetectOnly
        {
            let soon = around.now.saturating_add(QUESTION_PAUSE_MISSING);
            let question = self.question_by(soon);
            question.due = question.due.min(soon);
        }
        if self.coverage.has_claims() {
            around.events.push_back(self.gap_event(from, to, cause));
        }
        self.bound_gaps(around);
    }

    /// What explains at our end that numbers after the highest are missing.
    fn cause(&self, around: &Surroundings<'_, M>) -> Cause {
        if around.marks.drops != self.marks.drops {
            Cause::DroppedHere
        } else if around.marks.connections != self.marks.connections {
            Cause::ConnectionWindow
        } else {
            Cause::Unknown
        }
    }

    /// When a gap that opens now is asked for: late bytes may still fill it.
    fn gap_due(&self, around: &mut Surroundings<'_, M>) -> Duration {
        if Defect::NoGrace.is_planted() {
            return around.now;
        }
        let grace = if self.is_unsettled(around) {
            // Many receivers on one server must not ask in step.
            let scatter = SCATTER_TIME.mul_f64(around.jitter.unit());
            let unsettled = around.options.unsettled_grace.saturating_add(scatter);
            around.options.grace.max(unsettled)
        } else {
            around.options.grace
        };
        around.now.saturating_add(grace)
    }

    /// Whether bytes may overtake each other now.
    fn is_unsettled(&self, around: &Surroundings<'_, M>) -> bool {
        let time = around.options.path_change_time;
        let changed = self.path_changed.map(Nanos::get).max(around.path_changed);
        changed.is_some_and(|at| around.now < at.saturating_add(time))
    }

    /// Gives up the oldest gaps when there are too many.
    fn bound_gaps(&mut self, around: &mut Surroundings<'_, M>) {
        while self.gaps.len() > around.gaps_max
            && !Defect::NoGapBound.is_planted()
            && let Some(gap) = self.gaps.first()
        {
            let (from, to) = (gap.from, gap.to);
            if self.coverage.has_claims() {
                self.lose(around, from, to, LossReason::Overflow);
            } else {
                self.give_up_unverified(around, LossReason::Overflow);
            }
        }
    }

    /// Reports the missing numbers from `from` to `to` as lost, as far as they are known to be owed.
    fn lose(&mut self, around: &mut Surroundings<'_, M>, from: u64, to: u64, reason: LossReason) {
        for (start, lost_from, lost_to) in self.gaps.within(from, to) {
            let gap = self.gaps.gap_of(start);
            let is_owed = |gap: &&Gap| self.coverage.has_claims() || gap.is_local;
            let Some(&Gap { cause, .. }) = gap.filter(is_owed) else {
                continue;
            };
            self.gaps.cut(start, lost_from, lost_to);
            let width = width(lost_from, lost_to);
            self.counts_mut().lose(around.now, width, reason, cause);
            around.events.push_back(Event::Lost {
                source: self.source.clone(),
                epoch: self.epoch,
                from: lost_from,
                to: lost_to,
                reason,
                cause,
            });
            self.release(around);
        }
    }

    fn tell_end(&mut self, around: &mut Surroundings<'_, M>) {
        let is_settled = self.is_settled() || Defect::EarlyEnd.is_planted();
        let Some(last_seq) = self.end.filter(|_| !self.is_end_told && is_settled) else {
            return;
        };
        self.is_end_told = true;
        // Whoever only detects waits no longer for where the run begins.
        self.join = None;
        let (source, epoch) = (self.source.clone(), self.epoch);
        around.events.push_back(Event::SourceEnded {
            source,
            epoch,
            last_seq,
        });
    }

    fn gap_event(&self, from: u64, to: u64, cause: Cause) -> Event<M> {
        Event::Gap {
            source: self.source.clone(),
            epoch: self.epoch,
            from,
            to,
            cause,
        }
    }
}

#[cfg(test)]
mod tests;
