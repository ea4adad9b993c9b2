//! What an archive is asked for: what the source no longer has, or is not there to send.
//!
//! ```text
//!   source -- gone, over, or silent for the gap timeout --> archive, for good --> lost
//!   source -- nobody listens, twice --> archive --> source --> ... until the gap timeout
//! ```

use core::time::Duration;

use super::asking::{NOBODY_MAX, NOBODY_PAUSE, RequestNumber};
use super::{Line, Surroundings};
use crate::sequence::event::{Cause, LossReason};
use crate::sequence::gaps::{Gap, Handed};
use crate::sequence::ranges::Ranges;
use crate::sequence::receiver::Weight;
use crate::sequence::repair::RepairEnd;
use crate::sequence::sender::ReplyStatus;

/// Marks the numbers of requests that go to an archive: what answers them says nothing about the
/// source.
pub(super) const OF_ARCHIVE: RequestNumber = 0x8000;

/// The shortest pause after an answer of an archive that lacks what may be on its way into it.
const LATE_PAUSE: Duration = Duration::from_millis(100);

/// Whether the request with this number went to an archive.
pub(in crate::sequence) const fn is_of_archive(number: RequestNumber) -> bool {
    number & OF_ARCHIVE != 0
}

/// What a line keeps in mind about archives.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Archives {
    /// Whether the last request went to one.
    pub(super) was_last: bool,
    /// Until when one is to be asked what came behind the last number that we know of.
    probe_until: Option<Duration>,
    /// How long that was at first.
    probe_time: Duration,
    /// Times in a row that none listened.
    nobody: u32,
}

impl Archives {
    /// What nobody has answered by then is not asked any more.
    pub(super) fn handle_timeout(&mut self, now: Duration) {
        self.probe_until = self.probe_until.filter(|until| now < *until);
    }

    /// Nothing was asked for `pause`.
    pub(super) fn handle_pause(&mut self, now: Duration, pause: Duration) {
        let latest = now.saturating_add(self.probe_time);
        let later = |until: Duration| until.saturating_add(pause).min(latest);
        self.probe_until = self.probe_until.map(later);
    }
}

impl<M: Weight> Line<M> {
    /// The source will not send these: an archive may, or they are lost.
    pub(super) fn give_up_source(
        &mut self,
        around: &mut Surroundings<'_, M>,
        from: u64,
        to: u64,
        reason: LossReason,
    ) {
        if !around.options.asks_archives() {
            return self.lose(around, from, to, reason);
        }
        if !self.coverage.has_claims() {
            return;
        }
        let handed = Handed {
            reason,
            is_final: true,
        };
        self.gaps.hand_on(from, to, around.now, handed);
        self.bound_gaps(around);
    }

    /// What has waited for the source for too long; `reason` is why it is given up.
    pub(super) fn give_up_waiting(&mut self, around: &mut Surroundings<'_, M>, reason: LossReason) {
        let is_over =
            |gap: &&Gap| !gap.is_final() && around.now >= self.deadline(gap, around.options);
        let over: Vec<_> = self.gaps.iter().filter(is_over).copied().collect();
        for gap in over {
            self.give_up_source(around, gap.from, gap.to, reason);
        }
    }

    /// Nobody listens for the source, again and again: it may come back, or be gone.
    pub(super) fn ask_archive_meanwhile(&mut self, around: &Surroundings<'_, M>) {
        if !around.options.asks_archives() || !self.is_nobody_there() {
            return;
        }
        let handed = Handed {
            reason: LossReason::SourceGone,
            is_final: false,
        };
        self.gaps.hand_on(0, u64::MAX, around.now, handed);
        self.asking_mut().ask_after = around.now;
    }

    /// Everything that an archive sends for our last request has come.
    pub(super) fn handle_archive_end(
        &mut self,
        around: &mut Surroundings<'_, M>,
        number: RequestNumber,
        end: &RepairEnd,
    ) {
        let now = around.now;
        let asking = self.asking_mut();
        let asked = asking.asked.take_if(|asked| asked.number == number);
        if asked.is_none() && asking.lateness(now, number).is_none() {
            return;
        }
        // A late answer says what the archive has as well.
        let ranges = asked.map_or_else(Ranges::new, |asked| asked.ranges);
        asking.archives.nobody = 0;
        if matches!(end.status, ReplyStatus::SlowDown | ReplyStatus::BadRequest) {
            let retry = end.retry.max(LATE_PAUSE);
            asking.ask_after = now.saturating_add(asking.pause(around.jitter, retry));
            return;
        }
        asking.archives.probe_until = None;
        asking.ask_after = now.saturating_add(end.retry);
        for (from, to) in end.gone.iter() {
            self.give_up_archive(around, from, to);
        }
        let is_all_said = !end.has_more && end.retry.is_zero();
        if is_all_said && ranges.iter().any(|(from, to)| self.gaps.touches(from, to)) {
            // It may be on its way into the archive, or from the source.
            for (from, to) in ranges.iter() {
                self.gaps.take_back(from, to);
            }
            self.asking_mut().ask_after = now.saturating_add(LATE_PAUSE);
        }
        if let Some(lead) = end.lead.filter(|lead| !self.is_far(*lead))
            && lead > self.highest
            && (self.is_silent || self.is_superseded)
        {
            // The source cannot tell any more what it has sent.
            let from = self.highest.saturating_add(1);
            self.advance(around, lead, Cause::Unknown);
            let handed = Handed {
                reason: LossReason::SourceGone,
                is_final: false,
            };
            self.gaps.hand_on(from, lead, now, handed);
            self.asking_mut().ask_after = now;
        }
        self.tell_end(around);
    }

    /// No archive listens.
    pub(super) fn handle_no_archive(
        &mut self,
        around: &mut Surroundings<'_, M>,
        number: RequestNumber,
    ) {
        let asking = self.asking_mut();
        let Some(asked) = asking.asked.take_if(|asked| asked.number == number) else {
            return;
        };
        asking.archives.nobody = asking.archives.nobody.saturating_add(1);
        asking.ask_after = around.now.saturating_add(NOBODY_PAUSE);
        let is_gone = asking.archives.nobody >= NOBODY_MAX;
        if is_gone {
            asking.archives.probe_until = None;
        }
        for (from, to) in asked.ranges.iter() {
            if is_gone {
                self.give_up_archive(around, from, to);
            } else {
                self.gaps.take_back(from, to);
            }
        }
        self.tell_end(around);
    }

    /// No archive has these: they are lost if the source does not have them either.
    fn give_up_archive(&mut self, around: &mut Surroundings<'_, M>, from: u64, to: u64) {
        for (start, from, to) in self.gaps.within(from, to) {
            let gap = self.gaps.gap_of(start);
            match gap.and_then(|gap| gap.handed) {
                Some(handed) if handed.is_final => self.lose(around, from, to, handed.reason),
                Some(_) => self.gaps.take_back(from, to),
                // It was handed to nobody.
                None => {}
            }
        }
    }

    /// The source will tell no more what it has sent: an archive may know of later numbers.
    pub(in crate::sequence) fn probe_archive(&mut self, around: &Surroundings<'_, M>) {
        if around.options.asks_archives() && self.end.is_none() && self.coverage.has_claims() {
            let time = around.options.gap_timeout;
            let archives = &mut self.asking_mut().archives;
            archives.probe_until = Some(around.now.saturating_add(time));
            archives.probe_time = time;
        }
    }

    /// The number to ask an archive for only to learn what it has.
    pub(super) fn probe(&self, around: &Surroundings<'_, M>) -> Option<u64> {
        let asking = self.asking.as_ref()?;
        let is_due = around.options.asks_archives() && asking.archives.probe_until.is_some();
        is_due.then(|| self.highest.saturating_add(1))
    }

    /// When that is to be asked, or was in vain.
    pub(super) fn probe_due(&self) -> Option<Duration> {
        let asking = self.asking.as_ref().filter(|_| self.is_probing())?;
        let asked = asking.asked.as_ref();
        Some(asked.map_or(asking.ask_after, |asked| asked.due))
    }

    /// Whether an archive is asked what it has, or is to be.
    pub(super) fn is_probing(&self) -> bool {
        let asking = self.asking.as_ref().filter(|_| self.coverage.has_claims());
        asking.is_some_and(|asking| {
            let asked = asking.asked.as_ref();
            asking.archives.probe_until.is_some()
                || asked.is_some_and(|asked| is_of_archive(asked.number))
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::sequence::story::{MILLI, Story};
    use crate::sequence::{Delivery, HeartbeatKind};

    fn story() -> Story {
        let mut story = Story::with(Delivery::Immediate, |options| options.archive = true);
        story.hello().data(&[1, 4]);
        assert_eq!(story.told(), "epoch7 1 gap2-3 4");
        assert_eq!(story.request().as_deref(), Some("2-3"));
        story
    }

    #[test]
    fn what_the_source_no_longer_has_is_asked_of_an_archive_before_it_is_lost() {
        let mut story = story();
        story.answered(&[], 4, "2-3");
        assert_eq!(story.told(), "");
        assert_eq!(story.request().as_deref(), Some("archive 2-3"));
        story.answered(&[2], 4, "3");
        assert_eq!(story.told(), "r2 lost3-3:not_retained");
        assert_eq!((story.request(), story.line().undecided), (None, 0));
        assert_eq!(story.line().requests, 2, "of the source and of an archive");
    }

    #[test]
    fn an_archive_that_has_it_not_yet_is_asked_again_and_the_source_is_not_kept_waiting() {
        let mut story = story();
        story.answered(&[], 4, "2-3");
        assert_eq!(story.request().as_deref(), Some("archive 2-3"));
        story.answered(&[], 1, "").data(&[6]);
        assert_eq!(
            story.told(),
            "gap5-5 6",
            "a lead of its own withdraws nothing"
        );
        story.wait(MILLI * 101);
        assert_eq!(story.request().as_deref(), Some("5"));
        story.answered(&[5], 6, "");
        assert_eq!(story.request().as_deref(), Some("archive 2-3"));
        story.answered(&[2, 3], 6, "");
        assert_eq!(story.told(), "r5 r2 r3");
    }

    #[test]
    fn without_an_archive_it_is_lost_after_two_questions() {
        let mut story = story();
        story.answered(&[], 4, "2-3");
        for _ in 0..2 {
            assert_eq!(story.told(), "");
            assert_eq!(story.request().as_deref(), Some("archive 2-3"));
            story.nobody().wait(MILLI * 251);
        }
        assert_eq!(story.told(), "lost2-3:not_retained");
    }

    #[test]
    fn an_archive_that_does_not_answer_has_as_long_as_the_source_had() {
        let mut story = story();
        story.answered(&[], 4, "2-3").wait(MILLI * 4_999);
        assert_eq!(story.told(), "silent");
        story.wait(MILLI * 2);
        assert_eq!(story.told(), "lost2-3:not_retained");
    }

    #[test]
    fn while_nobody_answers_for_the_source_an_archive_is_asked_and_the_source_again() {
        let mut story = story();
        story.nobody();
        assert_eq!(story.request(), None);
        story.wait(MILLI * 251);
        assert_eq!(story.request().as_deref(), Some("2-3"));
        story.nobody();
        assert_eq!(story.request().as_deref(), Some("archive 2-3"));
        story.answered(&[], 3, "3").wait(MILLI * 251);
        assert_eq!(
            story.told(),
            "",
            "the source may be between two connections"
        );
        assert_eq!(story.request().as_deref(), Some("2-3"));
        story.answered(&[2, 3], 4, "");
        assert_eq!(story.told(), "r2 r3");
    }

    #[test]
    fn what_neither_has_is_lost_when_the_source_had_its_time() {
        let mut story = story();
        let mut asked = [0, 0];
        while story.line().lost == 0 {
            match story.request().as_deref() {
                Some("2-3") => {
                    asked[0] += 1;
                    story.nobody();
                }
                Some("archive 2-3") => {
                    asked[1] += 1;
                    story.answered(&[], 4, "2-3");
                }
                Some("?") | None => {
                    story.wait(MILLI * 50);
                }
                Some(other) => panic!("{other}"),
            }
        }
        assert!(asked[0] > 10 && asked[1] > 10, "{asked:?}");
        assert!(story.now > MILLI * 5_000 && story.now < MILLI * 5_200);
        assert_eq!(story.told(), "silent lost2-3:source_gone");
    }

    #[test]
    fn what_an_archive_sends_is_no_sign_of_the_source() {
        let mut story = story();
        story.answered(&[], 4, "2-3").wait(MILLI * 1_000);
        assert_eq!(story.request().as_deref(), Some("archive 2-3"));
        story.answered(&[2], 4, "").wait(MILLI * 1_000);
        assert_eq!(story.told(), "r2 silent");
    }

    #[test]
    fn of_a_source_that_is_gone_an_archive_tells_what_nobody_heard() {
        let mut story = story();
        story.answered(&[2, 3], 4, "");
        story.wait(MILLI * 2_000);
        assert_eq!(story.told(), "r2 r3 silent");
        assert_eq!(story.request().as_deref(), Some("archive 5"));
        story.answered(&[], 7, "");
        assert_eq!(story.told(), "gap5-7");
        assert_eq!(story.request().as_deref(), Some("archive 5-7"));
        story.answered(&[5, 6, 7], 7, "");
        assert_eq!(story.told(), "r5 r6 r7");
        story.wait(MILLI * 10_000);
        assert_eq!((story.told().as_str(), story.request()), ("", None), "once");
    }

    #[test]
    fn an_archive_that_does_not_answer_what_it_has_is_asked_again() {
        let mut story = story();
        story.answered(&[2, 3], 4, "");
        story.wait(MILLI * 2_000).told();
        let silent = story.now;
        let mut questions = 0;
        while story.now < silent + MILLI * 3_000 {
            questions += u32::from(story.request().is_some());
            story.wait(MILLI * 100);
        }
        assert!((2..=4).contains(&questions), "{questions}");
        while story.request().is_none() {
            story.wait(MILLI * 100);
        }
        story.answered(&[], 6, "");
        assert_eq!(story.told(), "gap5-6", "although some answers were lost");

        let mut story = self::story();
        story.answered(&[2, 3], 4, "").wait(MILLI * 2_000);
        for _ in 0..120 {
            story.request();
            story.wait(MILLI * 100);
        }
        assert_eq!(story.request(), None, "not for ever");
    }

    #[test]
    fn that_nobody_answers_a_question_says_nothing_of_the_archive() {
        let mut story = story();
        story.answered(&[], 4, "2-3");
        assert_eq!(story.request().as_deref(), Some("archive 2-3"));
        // A question went out beside it.
        story.receiver.handle_no_responders(story.now, 0);
        story.answered(&[2], 4, "3");
        assert_eq!(story.told(), "r2 lost3-3:not_retained");
    }

    #[test]
    fn a_source_that_lives_says_itself_what_it_has_sent() {
        let mut story = story();
        story.answered(&[], 4, "2-3");
        assert_eq!(story.request().as_deref(), Some("archive 2-3"));
        story.answered(&[2, 3], 9, "");
        assert_eq!(story.told(), "r2 r3", "5 to 9 are on their way");
        story.data(&[5]).beat(HeartbeatKind::End, 5);
        assert_eq!(story.told(), "5 ended5");
    }

    #[test]
    fn an_archive_s_late_answer_says_what_it_has_as_well() {
        let mut story = story();
        story.answered(&[], 4, "2-3");
        assert_eq!(story.request().as_deref(), Some("archive 2-3"));
        let first = story.asked();
        assert_eq!(story.wait(MILLI * 1_300).told(), "silent");
        assert_eq!(story.request().as_deref(), Some("archive 2-3"), "again");
        let latest = story.asked();
        story.repair(first, &[2]);
        story.end_with(first, 204, &[("Seq", "a.7.4"), ("Seq-Gone", "3")]);
        assert_eq!(story.told(), "r2 lost3-3:not_retained");
        story.answered(&[2], 4, "3");
        assert_eq!((story.told().as_str(), story.line().duplicates), ("", 1));
        assert_ne!(first, latest);
        story.end_with(first, 204, &[("Seq", "a.7.4"), ("Seq-Gone", "2-4")]);
        assert_eq!(story.told(), "", "it counts once");
    }

    #[test]
    fn what_an_archive_sends_and_finds_no_room_is_asked_of_the_archive_again() {
        let mut story = Story::with(Delivery::Ordered, |options| {
            options.archive = true;
            options.hold_messages_max = 1;
        });
        story.hello().data(&[1, 4]);
        assert_eq!(story.told(), "epoch7 1 gap2-3");
        assert_eq!(story.request().as_deref(), Some("2-3"));
        story.answered(&[], 4, "2-3");
        assert_eq!(story.request().as_deref(), Some("archive 2-3"));
        // The hold is full with 4, and 2 was lost on its way.
        story.answered(&[3], 4, "").wait(MILLI * 150);
        assert_eq!(story.told(), "");
        assert_eq!(story.request().as_deref(), Some("archive 2-3"));
        story.answered(&[2, 3], 4, "");
        assert_eq!(story.told(), "r2 r3 4");
        assert_eq!(story.line().lost, 0);
    }
}
