//! What is asked of the source, and when: its scope, and the numbers that are missing.

use core::time::Duration;
use std::collections::VecDeque;

use super::archive::{Archives, OF_ARCHIVE, is_of_archive};
use super::{Line, Surroundings};
use crate::jitter::Jitter;
use crate::sequence::coverage::Coverage;
use crate::sequence::defect::Defect;
use crate::sequence::event::LossReason;
use crate::sequence::gaps::Gap;
use crate::sequence::nanos::Nanos;
use crate::sequence::ranges::{REQUEST_RANGES_MAX, Ranges};
use crate::sequence::receiver::{ReceiverOptions, Weight};
use crate::sequence::repair::RepairEnd;
use crate::sequence::sender::ReplyStatus;

/// The longest text of a request.
const REQUEST_BYTES_MAX: usize = 1_024;
/// Bounds of the time after which an unanswered request is sent again: four times what the last
/// answer took.
pub(super) const ANSWER_TIME_MIN: Duration = Duration::from_millis(20);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);
/// No longer than that, unless the last answer took more than half of it: many attempts are to fit
/// into the gap timeout.
const PATIENCE: Duration = Duration::from_millis(500);
/// A late answer to one of so many earlier requests tells how slow the path is.
const UNANSWERED_MAX: usize = 16;
/// Sources answer the same request only once in 10 ms.
const REPEAT_PAUSE: Duration = Duration::from_millis(16);
/// The shortest pause after a request that the source refused; twice that after the next.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);
/// It doubles so often.
const REFUSALS_MAX: u32 = 3;
/// The pause after "nobody listens".
pub(super) const NOBODY_PAUSE: Duration = Duration::from_millis(250);
/// "Nobody listens" this often in a row, and what is not won back is the source's fault.
pub(super) const NOBODY_MAX: u32 = 2;
/// "That run is over" this often in a row, and nobody has what it sent, ...
const WRONG_EPOCHS_MAX: u32 = 4;
/// ... when nothing of it was heard for as long as a run lingers.
const DISOWNED_TIME: Duration = Duration::from_secs(2);
/// The last number of a request before the first is used again.
const NUMBER_LAST: RequestNumber = OF_ARCHIVE - 1;
/// The longest pause between questions for the source's scope.
const QUESTION_PAUSE_MAX: Duration = Duration::from_secs(5);
/// The same while numbers are missing: they are asked for only once the scope is known.
pub(super) const QUESTION_PAUSE_MISSING: Duration = Duration::from_millis(200);

/// Tells the requests of a line apart; see [`is_of_archive`]. Used again after 32,767 others: no answer
/// is as late.
pub(in crate::sequence) type RequestNumber = u16;

/// What matters while something is missing or to be learned.
#[derive(Debug, Clone, Default)]
pub(super) struct Asking {
    pub(super) asked: Option<Asked>,
    /// Numbers and times of the last requests that were no longer waited for.
    unanswered: VecDeque<(RequestNumber, Duration)>,
    pub(super) ask_after: Duration,
    /// Requests in a row that won nothing back.
    fruitless: u32,
    /// Requests in a row that were refused.
    refusals: u32,
    /// Times in a row that nobody listened.
    pub(super) nobody: u32,
    pub(super) question: Option<Question>,
    /// When a message was won back last.
    pub(super) progress: Duration,
    /// What matters of archives.
    pub(super) archives: Archives,
}

#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// See [`is_of_archive`].
    pub(super) number: RequestNumber,
    pub(super) ranges: Ranges,
    pub(super) at: Duration,
    pub(super) due: Duration,
    pub(super) has_won: bool,
    /// The highest number that was known of when it was asked.
    known: u64,
    /// Whether a later run has said that this one is over.
    is_disowned: bool,
}

/// A question for the source's scope.
#[derive(Debug, Clone, Copy)]
pub(in crate::sequence) struct Question {
    /// When it came up.
    pub(super) since: Duration,
    pub(super) due: Duration,
    pub(super) pause: Duration,
    /// When it was asked last: its number, and the highest number that was known of.
    asked: Option<(RequestNumber, u64)>,
    /// Whether only an answer to it will do: what is said without being asked was doubted.
    pub(super) is_doubt: bool,
}

impl Question {
    pub(super) const fn new(due: Duration, pause: Duration) -> Self {
        Self {
            since: due,
            due,
            pause,
            asked: None,
            is_doubt: false,
        }
    }
}

impl Asking {
    /// An answer that did not come in time is asked for again.
    pub(super) fn handle_timeout(&mut self, now: Duration) {
        if let Some(asked) = self.asked.take_if(|asked| now >= asked.due) {
            if self.unanswered.len() >= UNANSWERED_MAX {
                self.unanswered.pop_front();
            }
            self.unanswered.push_back((asked.number, asked.at));
            self.fruitless = self.fruitless.saturating_add(1);
            self.ask_after = now;
        }
        self.archives.handle_timeout(now);
    }

    pub(super) fn handle_connected(&mut self, ask_after: Duration) {
        self.asked = None;
        self.unanswered.clear();
        self.nobody = 0;
        self.ask_after = ask_after;
    }

    /// While we were busy no answer was looked at.
    pub(super) fn handle_pause(&mut self, now: Duration, pause: Duration) {
        self.progress = self.progress.saturating_add(pause).min(now);
        self.archives.handle_pause(now, pause);
        if let Some(asked) = &mut self.asked {
            let patience = asked.due.saturating_sub(asked.at);
            asked.at = asked.at.saturating_add(pause).min(now);
            asked.due = asked.at.saturating_add(patience);
        }
        for (_, at) in &mut self.unanswered {
            *at = at.saturating_add(pause).min(now);
        }
    }

    /// How long the answer to a request took that was no longer waited for.
    pub(super) fn lateness(&mut self, now: Duration, number: RequestNumber) -> Option<Duration> {
        let at = self.unanswered.iter().position(|(of, _)| *of == number)?;
        let (_, at) = self.unanswered.remove(at)?;
        Some(now.saturating_sub(at))
    }

    /// The source wants no more for now. Who is refused again and again comes back less and less
    /// often: refusals cost what repairs are paid from.
    fn refuse(&mut self, retry: Duration) -> Duration {
        let pause_min = REFUSED_PAUSE.saturating_mul(1 << self.refusals);
        self.refusals = self.refusals.saturating_add(1).min(REFUSALS_MAX);
        retry.max(pause_min)
    }

    /// A message was won back.
    pub(super) const fn win(&mut self, now: Duration) {
        self.progress = now;
        if let Some(asked) = &mut self.asked {
            asked.has_won = true;
        }
    }

    /// `base`, twice that after something fruitless, and scattered. More patience would leave too
    /// few attempts within the gap timeout on a bad path.
    pub(super) fn pause(&self, jitter: &mut Jitter, base: Duration) -> Duration {
        let doubled = base.saturating_mul(1 << self.fruitless.min(1));
        let pause = doubled.min(base.max(PATIENCE));
        pause.mul_f64(0.75 + 0.5 * jitter.unit())
    }
}

impl<M: Weight> Line<M> {
    /// What matters while something waits, made if there is none.
    pub(super) fn asking_mut(&mut self) -> &mut Asking {
        self.asking.get_or_insert_default()
    }

    pub(in crate::sequence) fn question(&self) -> Option<Question> {
        self.asking.as_ref()?.question
    }

    /// Whether the server said often enough that nobody listens.
    pub(super) fn is_nobody_there(&self) -> bool {
        let asking = self.asking.as_ref();
        asking.is_some_and(|asking| asking.nobody >= NOBODY_MAX)
    }

    /// Requests in a row that won nothing back.
    pub(super) fn fruitless(&self) -> u32 {
        self.asking.as_ref().map_or(0, |asking| asking.fruitless)
    }

    /// The highest number that was known of when the question with this number was asked.
    pub(super) fn known_before(&self, question: RequestNumber) -> Option<u64> {
        let (number, known) = self.question()?.asked?;
        (number == question).then_some(known)
    }

    /// Nothing is to be learned any more, unless something was doubted and `is_answered` is not.
    pub(super) fn forget_question(&mut self, is_answered: bool) {
        if let Some(asking) = &mut self.asking {
            asking
                .question
                .take_if(|question| is_answered || !question.is_doubt);
        }
    }

    /// Everything that the source sends for our last request has come.
    pub(in crate::sequence) fn handle_repair_end(
        &mut self,
        around: &mut Surroundings<'_, M>,
        number: RequestNumber,
        end: &RepairEnd,
    ) {
        let now = around.now;
        if is_of_archive(number) {
            return self.handle_archive_end(around, number, end);
        }
        if end.status == ReplyStatus::WrongEpoch {
            // Only the heartbeat that comes with it can say so.
            return;
        }
        self.hear(now);
        // The end of an earlier request may come late: that one is over already.
        let asking = self.asking.as_mut();
        let asked = asking.and_then(|asking| asking.asked.take_if(|asked| asked.number == number));
        match &asked {
            Some(asked) if end.gone.is_empty() && means_gone(end.status) => {
                self.forget(around, &asked.ranges);
            }
            _ => self.forget(around, &end.gone),
        }
        let late = self.asking.as_mut();
        if let Some(took) = late.and_then(|asking| asking.lateness(now, number)) {
            self.answer_time = Nanos::new(answer_time(took));
        }
        if let Some(asked) = asked {
            if let Some(lead) = end.lead {
                self.deny(around, lead, asked.known);
            }
            self.answer_time = Nanos::new(answer_time(now.saturating_sub(asked.at)));
            let is_refused = matches!(end.status, ReplyStatus::SlowDown | ReplyStatus::BadRequest);
            let is_missing = asked
                .ranges
                .iter()
                .any(|(from, to)| self.gaps.awaits_source(from, to));
            let asking = self.asking_mut();
            if asked.has_won {
                asking.fruitless = 0;
            } else if !is_refused {
                asking.fruitless = asking.fruitless.saturating_add(1);
            }
            if !is_refused {
                asking.refusals = 0;
            }
            asking.ask_after = if is_refused {
                let retry = asking.refuse(end.retry);
                now.saturating_add(asking.pause(around.jitter, retry))
            } else if end.retry > Duration::ZERO {
                now.saturating_add(end.retry)
            } else if end.has_more || !is_missing {
                now
            } else {
                // The repairs were lost on their way: the path is bad, the source is well.
                asked
                    .at
                    .saturating_add(asking.pause(around.jitter, REPEAT_PAUSE))
            };
        } else if end.status == ReplyStatus::SlowDown {
            // A question was refused: to repeat it at once would be more of what is too much.
            let asking = self.asking_mut();
            let retry = now.saturating_add(asking.refuse(end.retry));
            if let Some(question) = &mut asking.question {
                question.due = question.due.max(retry);
            }
        }
        self.tell_end(around);
    }

    /// The name has a later run. The earlier may linger beside it and answer too, so that only
    /// saying it again and again counts, with nothing in between for some time.
    pub(in crate::sequence) fn handle_wrong_epoch(
        &mut self,
        around: &mut Surroundings<'_, M>,
        number: RequestNumber,
    ) {
        if let Some(took) = self.asking_mut().lateness(around.now, number) {
            self.answer_time = Nanos::new(answer_time(took));
        }
        let is_quiet = around.now >= self.heard().saturating_add(DISOWNED_TIME);
        let Asking { asked, nobody, .. } = self.asking_mut();
        let is_asked = |asked: &&mut Asked| asked.number == number && !asked.is_disowned;
        let Some(asked) = asked.as_mut().filter(is_asked) else {
            return;
        };
        asked.is_disowned = true;
        if *nobody > 0 {
            // It seems to be gone. Until then its own answer may be right behind.
            asked.due = asked.due.max(around.now.saturating_add(NOBODY_PAUSE));
        }
        *nobody = nobody.saturating_add(1);
        if *nobody >= WRONG_EPOCHS_MAX && is_quiet {
            self.asking_mut().asked = None;
            self.give_up_source(around, 0, u64::MAX, LossReason::SourceGone);
        }
        self.tell_end(around);
    }

    /// The source no longer has these.
    fn forget(&mut self, around: &mut Surroundings<'_, M>, gone: &Ranges) {
        let is_claimed = self.coverage.has_claims();
        for (from, to) in gone.iter().filter(|_| is_claimed) {
            if self.is_unsettled(around) {
                let due = around.now.saturating_add(around.options.settle_time);
                self.gaps.doom(from, to, due);
            } else {
                self.give_up_source(around, from, to, LossReason::NotRetained);
            }
        }
    }

    /// Nobody listens where the source, or an archive, takes requests.
    pub(in crate::sequence) fn handle_no_responders(
        &mut self,
        around: &mut Surroundings<'_, M>,
        number: RequestNumber,
    ) {
        if is_of_archive(number) {
            return self.handle_no_archive(around, number);
        }
        // Where the run begins for us stays a question for as long as patience lasts.
        let wants_answer = !self.gaps.is_empty() || self.is_joining();
        let asking = self.asking_mut();
        asking.nobody = asking.nobody.saturating_add(1);
        let answered = asking.asked.take_if(|asked| !is_of_archive(asked.number));
        if answered.is_some() {
            // The source may be between two connections; whether it is gone, time will tell.
            asking.ask_after = around.now.saturating_add(NOBODY_PAUSE);
            self.ask_archive_meanwhile(around);
        } else if asking.nobody >= NOBODY_MAX && !wants_answer {
            asking.question = None;
        }
        self.tell_end(around);
    }

    /// The question that is to be asked, at `due` if there was none: one at a time.
    pub(super) fn question_by(&mut self, due: Duration) -> &mut Question {
        let question = Question::new(due, NOBODY_PAUSE);
        self.asking_mut().question.get_or_insert(question)
    }

    /// Where the source is, is to be asked for.
    pub(in crate::sequence) fn question_scope(&mut self, due: Duration) {
        if !self.is_ended() && !self.coverage.is_part() {
            self.asking_mut().question = Some(Question::new(due, NOBODY_PAUSE));
        }
    }

    /// A heartbeat is to be asked for, also of a source that we see a part of.
    pub(in crate::sequence) fn question_sign(&mut self, due: Duration) {
        if !self.is_ended() && self.coverage != Coverage::Group {
            self.asking_mut().question = Some(Question::new(due, NOBODY_PAUSE));
        }
    }

    /// The number of a question that is to be asked now.
    pub(in crate::sequence) fn take_question(&mut self, now: Duration) -> Option<RequestNumber> {
        let is_missing = !self.gaps.is_empty();
        let asking = self.asking.as_mut()?;
        let question = asking
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
        let number = self.next_number(false);
        let known = self.highest;
        if let Some(question) = &mut self.asking_mut().question {
            question.asked = Some((number, known));
        }
        self.note_question(number, now);
        Some(number)
    }

    /// The numbers to ask for now, and the number of the request: of an archive, or of the source.
    pub(in crate::sequence) fn take_request(
        &mut self,
        around: &mut Surroundings<'_, M>,
    ) -> Option<(RequestNumber, Ranges)> {
        let now = around.now;
        let probe = self.probe(around);
        if !self.coverage.has_claims() || self.gaps.is_empty() && probe.is_none() {
            return None;
        }
        let asking = self.asking_mut();
        if asking.asked.is_some() || now < asking.ask_after {
            return None;
        }
        // One after the other: neither keeps the other waiting.
        let mut of_archive = around.options.asks_archives() && !asking.archives.was_last;
        let mut ranges = self.due_ranges(now, of_archive);
        if ranges.is_empty() && around.options.asks_archives() {
            of_archive = !of_archive;
            ranges = self.due_ranges(now, of_archive);
        }
        if ranges.is_empty() {
            let next = probe?;
            of_archive = true;
            ranges.push(next, next);
        }
        let number = self.next_number(of_archive);
        let counts = self.counts_mut();
        counts.requests = counts.requests.saturating_add(1);
        let (answer_time, known) = (self.answer_time.get(), self.highest);
        let asking = self.asking_mut();
        let patience = if of_archive {
            asking.archives.was_last = true;
            ANSWER_TIME_MAX
        } else {
            asking.archives.was_last = false;
            answer_time
        };
        let due = now.saturating_add(asking.pause(around.jitter, patience));
        asking.asked = Some(Asked {
            number,
            ranges: ranges.clone(),
            at: now,
            due,
            has_won: false,
            known,
            is_disowned: false,
        });
        Some((number, ranges))
    }

    /// What is to be asked of the source now, or of an archive.
    fn due_ranges(&self, now: Duration, of_archive: bool) -> Ranges {
        let mut ranges = Ranges::new();
        let mut text_len = 0_usize;
        for gap in self.gaps.iter() {
            if gap.due > now || ranges.len() >= REQUEST_RANGES_MAX {
                break;
            }
            if gap.gone_due.is_some() || gap.handed.is_some() != of_archive {
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
        ranges
    }

    /// When to look at this line again.
    pub(in crate::sequence) fn timeout(&self, options: &ReceiverOptions) -> Option<Duration> {
        let question = self.question().map(|question| question.due);
        let doomed = self.gaps.doomed_due();
        let gap = self.gaps.first().map(|gap| {
            let deadline = self.deadline(gap, options);
            if !self.coverage.has_claims() {
                return deadline;
            }
            let asking = self.asking.as_deref();
            let act = match asking.and_then(|asking| asking.asked.as_ref()) {
                Some(asked) => asked.due,
                None => gap
                    .due
                    .max(asking.map_or(Duration::ZERO, |asking| asking.ask_after)),
            };
            if gap.gone_due.is_some() {
                deadline
            } else {
                act.min(deadline)
            }
        });
        let join = self.joining_until();
        let probe = self.probe_due();
        let times = [question, doomed, gap, join, probe];
        times.into_iter().flatten().min()
    }

    /// When waiting for a gap ends: counted from the last message that was won back.
    pub(super) fn deadline(&self, gap: &Gap, options: &ReceiverOptions) -> Duration {
        let progress = self.asking.as_ref().map(|asking| asking.progress);
        gap.born
            .max(progress.unwrap_or_default())
            .saturating_add(options.gap_timeout)
    }

    /// The number of the next request; zero is none.
    fn next_number(&mut self, of_archive: bool) -> RequestNumber {
        self.request_number = match self.request_number {
            last @ ..NUMBER_LAST => last.saturating_add(1),
            NUMBER_LAST.. => 1,
        };
        if of_archive {
            self.request_number | OF_ARCHIVE
        } else {
            self.request_number
        }
    }
}

/// How long the next answer is waited for when the last one took so long.
fn answer_time(took: Duration) -> Duration {
    let ordinary = took.saturating_mul(4).min(PATIENCE);
    let slow = took.saturating_mul(2);
    ordinary.max(slow).clamp(ANSWER_TIME_MIN, ANSWER_TIME_MAX)
}

/// Whether nothing of what was asked for will come.
fn means_gone(status: ReplyStatus) -> bool {
    let is_refused = status == ReplyStatus::SlowDown;
    status == ReplyStatus::NotRetained || is_refused && Defect::SlowDownIsGone.is_planted()
}

/// Digits of a number.
fn digits(number: u64) -> usize {
    number
        .checked_ilog10()
        .map_or(1, |power| (power as usize).saturating_add(1))
}

#[cfg(test)]
mod tests;
