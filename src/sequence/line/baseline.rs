//! From which number on a run is owed to a subscription.
//!
//! At first the base is that of the first contact. A run that began after the subscription is owed
//! from 1, even when its first words were lost: its age tells, counted from the moment at which we
//! asked for it, so that no clocks need to agree.

use core::time::Duration;
use std::collections::VecDeque;

use crate::sequence::defect::Defect;
use crate::sequence::event::Cause;
use crate::sequence::heartbeat::Heartbeat;
use crate::sequence::receiver::{Delivery, Weight};

use super::asking::{Question, RequestNumber};
use super::chains::Chains;
use super::{JUMP_MAX, Line, Surroundings};

/// How long order waits for a source to tell where it begins.
const JOIN_TIME_ORDERED: Duration = Duration::from_millis(500);
/// The first pause between questions for it.
const JOIN_PAUSE: Duration = Duration::from_millis(40);
/// What a heartbeat that nobody asked for may have waited on its way.
const WAY_TIME_MAX: Duration = Duration::from_secs(1);
/// Questions whose times are remembered.
const QUESTIONS_MAX: usize = 8;
/// Steady clocks differ by less than one part in this many.
const DRIFT_PARTS: u32 = 1_000;

/// From where on a subscription is owed the numbers of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Start {
    /// From the first number that is heard of, and from 1 when the run began after the subscription.
    #[default]
    Live,
    /// From the oldest number that the source retains when it is first asked. What it forgets
    /// before it has sent it is reported lost.
    Retained,
}

/// A base that may still be lowered.
#[derive(Debug, Clone)]
pub(super) struct Join {
    /// The base stays as it is when nothing is known by then; `None` to wait without asking.
    until: Option<Duration>,
    /// How long that was from the first contact.
    patience: Duration,
    /// Numbers and times of the questions under way.
    asked: VecDeque<(RequestNumber, Duration)>,
}

impl Join {
    /// The base was not asked for while nobody asked for anything.
    pub(super) fn handle_pause(&mut self, now: Duration, pause: Duration) {
        let latest = now.saturating_add(self.patience);
        let later = |until: Duration| until.saturating_add(pause).min(latest);
        self.until = self.until.map(later);
    }
}

impl<M: Weight> Line<M> {
    /// The first contact was in the middle of the run: its beginning may be owed too.
    pub(in crate::sequence) fn join(&mut self, around: &Surroundings<'_, M>) {
        let detects = around.options.delivery == Delivery::DetectOnly;
        let may_be_lower = match around.options.start {
            Start::Live => around.subscribed.is_some(),
            Start::Retained => !detects,
        };
        if self.base <= 1 || !may_be_lower || self.has_forgotten_runs || self.coverage.is_part() {
            return;
        }
        let patience = match around.options.delivery {
            Delivery::Ordered => JOIN_TIME_ORDERED,
            Delivery::Immediate | Delivery::DetectOnly => around.options.gap_timeout,
        };
        self.join = Some(Box::new(Join {
            until: (!detects).then(|| around.now.saturating_add(patience)),
            patience,
            asked: VecDeque::new(),
        }));
        if !detects {
            self.asking_mut().question = Some(Question::new(around.now, JOIN_PAUSE));
        }
    }

    /// Whether the base is being asked for.
    pub(super) fn is_joining(&self) -> bool {
        self.joining_until().is_some()
    }

    /// When asking for the base ends.
    pub(super) fn joining_until(&self) -> Option<Duration> {
        self.join.as_ref()?.until
    }

    /// The question with this number is asked now.
    pub(super) fn note_question(&mut self, number: RequestNumber, now: Duration) {
        if let Some(join) = &mut self.join {
            if join.asked.len() >= QUESTIONS_MAX {
                join.asked.pop_front();
            }
            join.asked.push_back((number, now));
        }
    }

    /// Learns from a heartbeat where the run begins for us; `question` is the number of the
    /// question that it answers.
    pub(super) fn learn_base(
        &mut self,
        around: &mut Surroundings<'_, M>,
        heartbeat: &Heartbeat,
        question: Option<RequestNumber>,
    ) {
        let Some(join) = &self.join else {
            return;
        };
        if self.coverage.is_part() || Defect::NoProof.is_planted() {
            return self.fix_base(around, self.base);
        }
        let asked = question.and_then(|question| {
            let asked = join.asked.iter().find(|(number, _)| *number == question);
            asked.map(|(_, at)| *at)
        });
        let age = heartbeat.age.map(|age| {
            let drift = age.checked_div(DRIFT_PARTS).unwrap_or_default();
            (age, age.saturating_add(drift))
        });
        if around.options.start == Start::Retained {
            // What was forgotten may have been delivered before.
            let is_new = |forgotten: Duration| {
                asked
                    .zip(age)
                    .is_some_and(|(asked, (_, age_max))| asked >= forgotten.saturating_add(age_max))
            };
            if question.is_some() {
                let is_whole = around.forgotten.is_none_or(is_new);
                let base = if is_whole { heartbeat.trail } else { self.base };
                self.fix_base(around, base);
            }
            return;
        }
        let (Some((age, age_max)), Some(subscribed)) = (age, around.subscribed) else {
            return self.fix_base(around, self.base);
        };
        // A run of this moment would have begun then.
        let began_before_all = |said: Duration| said >= subscribed.saturating_add(age_max);
        let said = match (asked, join.until) {
            (Some(asked), _) => Some(asked),
            (None, Some(_)) => None,
            // It may also have waited for us.
            (None, None) => around.came_after.checked_sub(WAY_TIME_MAX),
        };
        if said.is_some_and(began_before_all) {
            self.fix_base(around, 1);
        } else if around.now < subscribed.saturating_add(age) {
            self.fix_base(around, self.base);
        }
    }

    /// Whether all that is known of the run is what somebody announced in its name.
    pub(super) fn is_only_announced(&self) -> bool {
        let is_untouched = self.delivered == 0 && self.gaps.is_empty() && self.held.is_none();
        let lost = self.counts.as_deref().map_or(0, |counts| counts.lost);
        is_untouched && lost == 0 && !self.is_proven() && !self.is_superseded
    }

    /// A first message so far below what was only announced that this is not believed. Returns
    /// true when the run begins with it now.
    pub(super) fn begin_again_at(&mut self, seq: u64) -> bool {
        let is_far = seq.saturating_add(JUMP_MAX) < self.base;
        let begins = is_far && self.is_only_announced();
        if begins {
            self.begin_anew(seq);
        }
        begins
    }

    /// The first number owed is `base`: what was announced before was made up.
    pub(super) fn begin_anew(&mut self, base: u64) {
        self.base = base;
        self.highest = base.saturating_sub(1);
        self.seen = None;
        if self.chains.is_some() {
            self.chains = Some(Box::new(Chains::new(self.highest)));
        }
        if let Some(counts) = &mut self.counts {
            counts.unverifiable = 0;
        }
    }

    /// The base is `base` from now on, or what it was if that is lower.
    pub(super) fn fix_base(&mut self, around: &mut Surroundings<'_, M>, base: u64) {
        if self.join.take().is_none() {
            return;
        }
        let base = base.max(1);
        if base < self.base {
            let last = self.base.saturating_sub(1);
            self.base = base;
            let cause = Cause::Unknown;
            self.gaps.open(base, last, around.now, around.now, cause);
            self.counts_mut().count_gap();
            around.events.push_back(self.gap_event(base, last, cause));
            self.bound_gaps(around);
        }
        self.release(around);
        self.tell_end(around);
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::Start;
    use crate::sequence::story::{MILLI, Story};
    use crate::sequence::{Delivery, HeartbeatKind, ReceiverOptions};

    /// A receiver whose subscription was taken 100 ms ago.
    fn subscribed(delivery: Delivery, change: impl FnOnce(&mut ReceiverOptions)) -> Story {
        let mut story = Story::with(delivery, change);
        story.receiver.handle_subscribed(story.now);
        story.wait(Duration::from_millis(100));
        story
    }

    fn live(delivery: Delivery) -> Story {
        subscribed(delivery, |_| {})
    }

    #[test]
    fn a_run_that_began_after_the_subscription_is_owed_from_its_beginning() {
        let mut story = live(Delivery::Immediate);
        story.data(&[4]);
        assert_eq!(story.request().as_deref(), Some("?"));
        story.wait(MILLI * 5).answer(1, 4, 1, MILLI * 60);
        assert_eq!(story.told(), "epoch7 4 gap1-3");
        assert_eq!(story.request().as_deref(), Some("1-3"));
        story.repair(0, &[1, 2, 3]).end(0, "");
        assert_eq!(story.told(), "r1 r2 r3");
        assert_eq!((story.line().base, story.line().undecided), (1, 0));
        assert_eq!(story.request(), None, "there is nothing left to ask");
    }

    #[test]
    fn a_run_whose_first_sign_is_a_late_heartbeat_is_owed_from_its_beginning() {
        let mut story = live(Delivery::Immediate);
        story.beat(HeartbeatKind::Beat, 5);
        assert_eq!(story.told(), "epoch7", "what it says was not asked for");
        story.answer(1, 5, 1, MILLI);
        assert_eq!(story.told(), "", "nor was this");
        assert_eq!(story.request().as_deref(), Some("?"));
        story.wait(MILLI).answer(1, 5, 1, MILLI * 60);
        assert_eq!(story.told(), "gap1-5");
    }

    #[test]
    fn a_run_that_was_there_before_the_subscription_is_owed_from_the_first_contact() {
        let mut story = live(Delivery::Immediate);
        story.data(&[4]);
        assert_eq!(story.request().as_deref(), Some("?"));
        story.wait(MILLI).answer(1, 4, 1, MILLI * 102);
        assert_eq!((story.told().as_str(), story.line().base), ("epoch7 4", 4));
        story.wait(MILLI * 40);
        assert_eq!(story.request(), None, "that is certain");
    }

    #[test]
    fn an_age_counts_from_the_question_that_it_answers() {
        let mut story = live(Delivery::Immediate);
        story.data(&[4]);
        assert_eq!(story.request().as_deref(), Some("?"));
        story.wait(MILLI * 60);
        assert_eq!(story.request().as_deref(), Some("?"));
        story.wait(MILLI * 60).answer(1, 4, 1, MILLI * 140);
        assert_eq!(story.told(), "epoch7 4", "it may have begun 40 ms before");
        story.answer(2, 4, 1, MILLI * 140);
        assert_eq!(story.told(), "gap1-3", "it has begun 20 ms after");
    }

    #[test]
    fn order_waits_for_where_a_run_begins_and_not_for_long() {
        let mut story = live(Delivery::Ordered);
        story.data(&[3, 4]);
        assert_eq!(story.told(), "epoch7");
        assert_eq!(story.request().as_deref(), Some("?"));
        story.wait(MILLI).answer(1, 4, 1, MILLI * 60);
        assert_eq!(story.told(), "gap1-2");
        story.repair(0, &[1, 2]);
        assert_eq!(story.told(), "r1 r2 3 4");

        let mut story = live(Delivery::Ordered);
        story.data(&[3, 4]).wait(MILLI * 499);
        assert_eq!(story.told(), "epoch7");
        story.wait(MILLI);
        assert_eq!((story.told().as_str(), story.line().base), ("3 4", 3));

        let mut story = subscribed(Delivery::Ordered, |options| options.hold_messages_max = 1);
        story.data(&[3, 4]);
        assert_eq!(story.told(), "epoch7 3 4", "a full hold cannot wait");

        let mut story = subscribed(Delivery::Ordered, |options| options.hold_messages_max = 2);
        story.data(&[2, 4, 3]);
        assert_eq!(story.told(), "epoch7 2 3 4", "nor may it lose the order");
    }

    #[test]
    fn what_is_retained_is_owed_where_that_is_wanted() {
        let retained = |options: &mut ReceiverOptions| options.start = Start::Retained;
        let mut story = Story::with(Delivery::Ordered, retained);
        story.data(&[9]).beat(HeartbeatKind::Beat, 9);
        assert_eq!(story.told(), "epoch7", "only the source itself is believed");
        assert_eq!(story.request().as_deref(), Some("?"));
        story.answer(1, 9, 7, Duration::from_secs(60));
        assert_eq!((story.told().as_str(), story.line().base), ("gap7-8", 7));
        assert_eq!(story.request().as_deref(), Some("7-8"));
        story.repair(0, &[8]).end(0, "7");
        assert_eq!(story.told(), "lost7-7:not_retained r8 9");
    }

    #[test]
    fn a_run_that_ended_is_over_once_its_beginning_is_known() {
        let mut story = live(Delivery::Immediate);
        story.beat(HeartbeatKind::End, 2);
        assert_eq!(story.told(), "epoch7");
        assert!(!story.receiver.has_ended());
        assert_eq!(story.request().as_deref(), Some("?"));
        story.answer(1, 2, 1, MILLI * 60);
        story.repair(0, &[1, 2]);
        assert_eq!(story.told(), "gap1-2 r1 r2 ended2");
        assert!(story.receiver.has_ended());
    }

    #[test]
    fn what_waited_for_a_busy_program_makes_no_run_younger() {
        for (waited, told) in [
            (0, "lost1-4:missing"),
            (300, "lost1-4:missing"),
            (500, ""),
            (1_900, ""),
        ] {
            let mut story = live(Delivery::DetectOnly);
            story.data(&[5]).wait(MILLI * 1_900).told();
            // Read now, and it may have been said a second before it came.
            let came_after = story.now - MILLI * waited;
            story.receiver.handle_heard_until(came_after);
            story.aged_beat(5, MILLI * 600).wait(MILLI);
            assert_eq!(story.told().replace("gap1-4 ", ""), told, "{waited} ms");
        }
    }

    #[test]
    fn nobody_who_answers_leaves_the_base_where_it_is_when_patience_is_over() {
        let mut story = live(Delivery::Immediate);
        story.beat(HeartbeatKind::End, 2);
        let mut questions = 0;
        for _ in 0..50 {
            while let Some(asked) = story.request() {
                assert_eq!(asked, "?");
                questions += 1;
                story.receiver.handle_no_responders(story.now, 1);
            }
            assert!(!story.told().contains("ended"), "the source may come back");
            story.wait(MILLI * 100);
        }
        assert_eq!(story.told(), "ended2");
        assert!((4..12).contains(&questions), "{questions}");
    }
}
