//! What is asked of the source, and when: its scope, and the numbers that are missing.

use core::time::Duration;

use super::coverage::Coverage;
use super::{Line, Surroundings};
use crate::sequence::event::LossReason;
use crate::sequence::gaps::Gap;
use crate::sequence::ranges::{REQUEST_RANGES_MAX, Ranges};
use crate::sequence::receiver::{ReceiverOptions, Weight};
use crate::sequence::repair::RepairEnd;

/// The longest text of a request.
const REQUEST_BYTES_MAX: usize = 1_024;
/// Bounds of the time after which an unanswered request is sent again.
pub(super) const ANSWER_TIME_MIN: Duration = Duration::from_millis(20);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);
/// Sources answer the same request only once in 10 ms.
const REPEAT_PAUSE: Duration = Duration::from_millis(16);
/// The pause after "nobody listens".
pub(super) const NOBODY_PAUSE: Duration = Duration::from_millis(250);
/// "Nobody listens" this often in a row, and what is not won back is the source's fault.
pub(super) const NOBODY_MAX: u32 = 2;
/// The longest pause between questions for the source's scope.
const QUESTION_PAUSE_MAX: Duration = Duration::from_secs(5);
/// The same while numbers are missing: they are asked for only once the scope is known.
pub(super) const QUESTION_PAUSE_MISSING: Duration = Duration::from_millis(200);

#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) ranges: Ranges,
    pub(super) at: Duration,
    pub(super) due: Duration,
    pub(super) has_won: bool,
}

/// A question for the source's scope.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) due: Duration,
    pub(super) pause: Duration,
}

impl<M: Weight> Line<M> {
    /// Everything that the source sends for our last request has come.
    pub(in crate::sequence) fn handle_repair_end(
        &mut self,
        around: &mut Surroundings<'_, M>,
        end: &RepairEnd,
    ) {
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
    pub(in crate::sequence) fn handle_no_responders(&mut self, around: &mut Surroundings<'_, M>) {
        self.nobody = self.nobody.saturating_add(1);
        if self.asked.take().is_some() {
            // The source may be between two connections; whether it is gone, time will tell.
            self.ask_after = around.now.saturating_add(NOBODY_PAUSE);
        } else if self.nobody >= NOBODY_MAX && self.gaps.is_empty() {
            self.question = None;
            self.fix_base(around, self.base);
        }
        self.tell_end(around);
    }

    /// Where the source is, is to be asked for.
    pub(in crate::sequence) fn question_scope(&mut self, due: Duration) {
        if !self.is_ended() && self.coverage != Coverage::Part {
            self.question = Some(Question {
                due,
                pause: NOBODY_PAUSE,
            });
        }
    }

    /// The number of a question that is to be asked now.
    pub(in crate::sequence) fn take_question(&mut self, now: Duration) -> Option<u8> {
        let is_missing = !self.gaps.is_empty();
        let question = self
            .question
            .as_mut()
            .filter(|question| now >= question.due)?;
        if is_missing {
            let pause = question.pause.min(QUESTION_PAUSE_MISSING);
            question.due = now.saturating_add(pause);
        } else {
            question.due = now.saturating_add(question.pause);
            question.pause = question.pause.saturating_mul(2).min(QUESTION_PAUSE_MAX);
        }
        // Zero is no number.
        self.question_number = self.question_number.checked_add(1).unwrap_or(1);
        self.note_question(self.question_number, now);
        Some(self.question_number)
    }

    /// The numbers to ask for now.
    pub(in crate::sequence) fn take_request(
        &mut self,
        around: &mut Surroundings<'_, M>,
    ) -> Option<Ranges> {
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
    pub(in crate::sequence) fn timeout(&self, options: &ReceiverOptions) -> Option<Duration> {
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
        let join = self.joining_until();
        [question, doomed, gap, join].into_iter().flatten().min()
    }

    /// When waiting for a gap ends: counted from the last message that was won back.
    pub(super) fn deadline(&self, gap: &Gap, options: &ReceiverOptions) -> Duration {
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
}

/// Digits of a number.
fn digits(number: u64) -> usize {
    number
        .checked_ilog10()
        .map_or(1, |power| (power as usize).saturating_add(1))
}
