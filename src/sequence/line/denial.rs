//! What a source denies: numbers that came or were announced in its name, and that it has not sent.
//!
//! A message shows nothing of who sent it. One with a number far ahead makes those that the source
//! sends next look like copies, until the source says where it is:
//!
//! ```text
//!   request, question ---->  what is known of by then has been sent by then, or never was
//!                     <----  lead: what was known and lies above it was made up
//! ```
//!
//! Who asks is certain, on any path. Who may not ask takes the word of heartbeats that nothing
//! contradicts for a while.

use core::time::Duration;

use crate::sequence::event::{Cause, Event};
use crate::sequence::ranges::width;
use crate::sequence::receiver::Weight;

use super::chains::Chains;
use super::coverage::Seen;
use super::identity::can_ask;
use super::{Line, Surroundings};

/// Whoever may not ask believes heartbeats that name a smaller number than came, when they do so
/// for as long: twice the longest pause between heartbeats, and a second. A source that has sent
/// what came says so meanwhile.
const DENIAL_TIME: Duration = Duration::from_secs(11);

impl<M: Weight> Line<M> {
    /// A heartbeat that nobody asked for names `lead`, and a higher number is known of.
    pub(super) fn doubt(&mut self, around: &mut Surroundings<'_, M>, lead: u64) {
        if can_ask(around) {
            return self.doubt_highest(around);
        }
        let (now, known) = (around.now, self.highest);
        let denied = &mut self.counts_mut().denied;
        let (_, since) = *match denied {
            Some(since) if since.0 == known => since,
            _ => denied.insert((known, now)),
        };
        if now >= since.saturating_add(DENIAL_TIME) {
            self.deny(around, lead, known);
        }
    }

    /// A message comes so far below the highest number that it is no copy that we know of.
    pub(super) fn doubt_highest(&mut self, around: &Surroundings<'_, M>) {
        if can_ask(around) {
            self.question_by(around.now).is_doubt = true;
        }
    }

    /// A heartbeat names the highest number, or one above.
    pub(super) fn confirm(&mut self) {
        if let Some(counts) = &mut self.counts {
            counts.denied = None;
        }
    }

    /// The source names `lead` as its last, asked when `known` was the highest number known of: what
    /// lies between was made up.
    pub(super) fn deny(&mut self, around: &mut Surroundings<'_, M>, lead: u64, known: u64) {
        let (first, last) = (lead.saturating_add(1), known.min(self.highest));
        let is_later = self.highest > last;
        if first > last || is_later && self.base > last {
            return;
        }
        if is_later && self.coverage.is_part() {
            // What came since may be the source's: only an answer behind it tells.
            return self.doubt_highest(around);
        }
        let from = first.max(self.base);
        if from <= last {
            self.withdraw(around, from, last);
        }
        self.base = self.base.min(first);
        if self.end.is_some_and(|end| end > lead) {
            self.go_on();
        }
        if is_later {
            // What came since may be the source's: then these are, too.
            let due = self.gap_due(around);
            self.gaps.open(first, last, around.now, due, Cause::Unknown);
            self.counts_mut().count_gap();
            if self.coverage.has_claims() {
                let gap = self.gap_event(first, last, Cause::Unknown);
                around.events.push_back(gap);
            }
            self.bound_gaps(around);
        } else {
            self.highest = lead;
            let counts = self.counts.as_ref();
            let doubted_end = counts.and_then(|counts| counts.doubted_end);
            let doubted_end = doubted_end.filter(|end| *end == lead);
            self.end = self.end.or(doubted_end);
            if self.coverage.is_part() {
                // What came until now is taken as seen.
                self.seen = Some(Box::new(Seen::all_until(lead)));
                self.chains = self.chains.take().map(|_| Box::new(Chains::new(lead)));
            }
        }
        self.release(around);
        self.tell_end(around);
    }

    /// Takes back whatever was told of these numbers.
    fn withdraw(&mut self, around: &mut Surroundings<'_, M>, from: u64, to: u64) {
        let before = self.undecided();
        for (start, from, to) in self.gaps.within(from, to) {
            self.gaps.cut(start, from, to);
        }
        self.drop_held(from, to);
        let undecided = before.saturating_sub(self.undecided());
        let decided = width(from, to).saturating_sub(undecided);
        let counts = self.counts_mut();
        counts.withdrawn = counts.withdrawn.saturating_add(decided);
        around.events.push_back(Event::Withdrawn {
            source: self.source.clone(),
            epoch: self.epoch,
            from,
            to,
        });
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use crate::sequence::story::{MILLI, Story};
    use crate::sequence::{Delivery, HeartbeatKind};

    const SECOND: Duration = Duration::from_secs(1);

    /// A receiver of a source that has sent 1 and 2, and somebody else 9 in its name.
    fn fooled(delivery: Delivery) -> Story {
        let mut story = Story::new(delivery);
        story.hello().data(&[1, 2, 9]);
        assert!(story.told().starts_with("epoch7 1 2 gap3-8"));
        story
    }

    /// The next question; what else is asked is not answered.
    fn question(story: &mut Story) -> Option<u64> {
        core::iter::from_fn(|| story.receiver.poll_request(story.now))
            .find(|request| request.kind == crate::sequence::RequestKind::Heartbeat)
            .map(|request| request.line)
    }

    #[test]
    fn what_somebody_else_sent_far_ahead_hides_nothing_once_the_source_has_answered() {
        let mut story = fooled(Delivery::Immediate);
        assert_eq!(story.request().as_deref(), Some("3-8"));
        story.data(&[3]).answered(&[], 3, "");
        assert_eq!(story.told(), "3 unsent4-9");
        story.data(&[4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(story.told(), "4 5 6 7 8 9 10");
        let line = story.line();
        assert_eq!((line.duplicates, line.withdrawn, line.lost), (0, 1, 0));
        assert!(line.is_balanced() && line.expected() == 11, "{line:?}");
    }

    #[test]
    fn what_came_after_the_request_may_be_the_source_s() {
        let mut story = fooled(Delivery::Immediate);
        assert_eq!(story.request().as_deref(), Some("3-8"));
        // All of it is sent behind the answer, and 10 overtakes the others.
        story.data(&[10]).answered(&[], 2, "");
        assert_eq!(story.told(), "10 unsent3-9 gap3-9");
        story.data(&[3, 9, 10]);
        assert_eq!(story.told(), "3 9", "10 is not told twice");
        assert!(story.line().is_balanced());
    }

    #[test]
    fn what_waits_for_its_order_and_was_made_up_is_never_delivered() {
        let mut story = fooled(Delivery::Ordered);
        assert_eq!(story.request().as_deref(), Some("3-8"));
        story.answered(&[], 2, "").data(&[3]);
        assert_eq!(story.told(), "unsent3-9 3");
        let line = story.line();
        assert_eq!((line.withdrawn, line.undecided), (0, 0), "nothing was told");
        assert!(line.is_balanced());
    }

    #[test]
    fn a_heartbeat_below_what_came_is_asked_about_and_not_believed_alone() {
        let mut story = Story::new(Delivery::Immediate);
        story.hello().data(&[1, 2, 3]);
        for _ in 0..50 {
            story.beat(HeartbeatKind::Beat, 2);
        }
        let line = question(&mut story).unwrap();
        assert_eq!(question(&mut story), None, "once at a time");
        story.answer(line, 3, 1, SECOND * 60).data(&[4, 3]);
        assert_eq!(story.told(), "epoch7 1 2 3 4", "it was not true");
        assert_eq!(story.line().duplicates, 1);
        story.beat(HeartbeatKind::Beat, 3);
        let line = question(&mut story).unwrap();
        // This one comes behind the answer.
        story.data(&[5]).answer(line, 3, 1, SECOND * 60);
        assert_eq!(story.told(), "5 unsent4-4 gap4-4");
    }

    #[test]
    fn the_end_that_the_source_names_takes_back_what_lies_behind_it() {
        let mut story = fooled(Delivery::Immediate);
        story.beat(HeartbeatKind::End, 2);
        assert_eq!(story.told(), "", "only the source itself is believed");
        let line = question(&mut story).unwrap();
        story.end_of("a.7", line, 2);
        assert_eq!(story.told(), "unsent3-9 ended2");
        assert_eq!((story.line().highest, story.line().undecided), (2, 0));
    }

    #[test]
    fn an_end_that_something_made_up_came_behind_holds_again_once_that_is_denied() {
        let mut story = Story::new(Delivery::Immediate);
        story.hello().data(&[1, 2]).beat(HeartbeatKind::End, 2);
        assert_eq!(story.told(), "epoch7 1 2 ended2");
        story.data(&[9]);
        assert_eq!(story.told(), "gap3-8 9");
        assert_eq!(story.request().as_deref(), Some("3-8"));
        story.answered(&[], 2, "");
        assert_eq!(story.told(), "unsent3-9 ended2");
        assert!(story.line().is_ended);
    }

    #[test]
    fn what_is_doubted_stays_asked_though_something_else_is_said_meanwhile() {
        let mut story = fooled(Delivery::Immediate);
        story.beat(HeartbeatKind::End, 2);
        let lost = question(&mut story).unwrap();
        assert_eq!(story.request().as_deref(), Some("3-8"));
        story
            .answered(&[], 2, "")
            .beat(HeartbeatKind::Beat, 9)
            .wait(SECOND);
        assert!(story.told().contains("unsent3-9"));
        let line = question(&mut story).expect("asked again");
        assert_ne!(line, lost);
        story.end_of("a.7", line, 2);
        assert!(story.told().ends_with("ended2"));
    }

    #[test]
    fn whoever_hears_somebody_else_first_is_owed_what_the_source_sends_next() {
        let mut story = Story::new(Delivery::Immediate);
        story.data(&[1_000]);
        let line = question(&mut story).unwrap();
        story.answer(line, 5, 1, SECOND * 60);
        assert_eq!(story.told(), "epoch7 1000 unsent1000-1000");
        story.data(&[6, 7]);
        assert_eq!(story.told(), "6 7");
        assert_eq!((story.line().base, story.line().highest), (6, 7));
        assert!(story.line().is_balanced());
    }

    #[test]
    fn a_part_of_a_source_is_heard_again_once_it_has_answered() {
        for delivery in [Delivery::Immediate, Delivery::Ordered] {
            let mut story = Story::new(delivery);
            story.data(&[1]);
            story.heartbeat(7, HeartbeatKind::Beat, 3, ">", None).told();
            assert_eq!(question(&mut story), None);
            story.chained(1_000, 0).chained(5, 1);
            let line = question(&mut story).unwrap();
            story.answer(line, 5, 1, SECOND * 60).chained(6, 5);
            let told = story.told();
            assert!(told.ends_with("unsent6-1000 6"), "{told}");
            assert!(story.line().is_balanced(), "{:?}", story.line());
        }
    }

    #[test]
    fn whoever_may_not_ask_believes_what_nothing_contradicts_for_eleven_seconds() {
        for is_shared in [false, true] {
            let delivery = [Delivery::DetectOnly, Delivery::Immediate][usize::from(is_shared)];
            let mut story = Story::with(delivery, |options| options.is_shared = is_shared);
            story.hello().data(&[1, 2, 1_000]).wait(MILLI).told();
            for second in 0..=11 {
                story.data(&[3]);
                assert_eq!(story.told(), "", "after {second} s");
                story.beat(HeartbeatKind::Beat, 3).wait(SECOND);
            }
            assert_eq!(story.told(), "unsent4-1000", "{delivery:?}");
            story.data(&[4, 5]);
            assert_eq!(story.told(), "4 5");
            assert!(story.line().is_balanced(), "{:?}", story.line());
        }
    }

    #[test]
    fn a_source_that_lives_contradicts_what_is_said_below_its_last_number() {
        let mut story = Story::new(Delivery::DetectOnly);
        story.hello().data(&[1, 2]).told();
        for second in 0..60 {
            story.beat(HeartbeatKind::Beat, 1);
            if second % 5 == 0 {
                story.beat(HeartbeatKind::Beat, 2);
            }
            story.wait(SECOND);
        }
        assert_eq!(story.told(), "");
    }
}
