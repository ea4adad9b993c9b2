//! Which numbers of a run are owed to a subscription: all of them, or only some.

use crate::sequence::coverage::Coverage;
use crate::sequence::defect::Defect;
use crate::sequence::event::{Cause, Event, LossReason};
use crate::sequence::heartbeat::Heartbeat;
use crate::sequence::receiver::{Delivery, Weight};

use super::chains::Chains;
use super::{Arrived, Line, Surroundings};

/// Numbers that are decided, and whose chains are not forgotten yet.
const FLOORS_SPARE: u64 = 8;

/// Which of the last 128 numbers have come. What is only announced does not count: messages may
/// come behind the heartbeat that names them, and a heartbeat may be made up.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    newest: u64,
    /// The newest first.
    marks: u128,
}

impl Seen {
    /// What has come until now is not told apart any more: it is taken as seen.
    pub(super) const fn all_until(newest: u64) -> Self {
        let marks = u128::MAX;
        Self { newest, marks }
    }

    const fn is_too_old(&self, seq: u64) -> bool {
        self.newest.saturating_sub(seq) >= u128::BITS as u64
    }

    /// Marks a number. Returns false for one that was marked before, or is too old to tell.
    fn mark(&mut self, seq: u64) -> bool {
        let steps = u32::try_from(seq.saturating_sub(self.newest)).unwrap_or(u32::MAX);
        self.marks = self.marks.checked_shl(steps).unwrap_or_default();
        self.newest = self.newest.max(seq);
        let age = u32::try_from(self.newest.saturating_sub(seq)).unwrap_or(u32::MAX);
        let bit = 1_u128.checked_shl(age).unwrap_or_default();
        let is_new = bit & !self.marks != 0;
        self.marks |= bit;
        is_new
    }
}

impl<M: Weight> Line<M> {
    /// Takes a message of a source that we see a part of: copies are told apart, and what its chain
    /// proves to be missing is. Returns false when its run was superseded and its number is new.
    pub(super) fn handle_share(
        &mut self,
        around: &mut Surroundings<'_, M>,
        arrived: &Arrived,
        message: M,
    ) -> bool {
        let seq = arrived.seq;
        if let Some(from) = self.gaps.holding(seq) {
            // What is missing before it must be known before it is handed over.
            let chains = self.chains.as_mut();
            let missing = chains.and_then(|chains| chains.follow(seq, arrived.prev));
            let missing = missing.filter(|_| !Defect::ShortChain.is_planted());
            self.open_chained(around, missing);
            self.win_back(around, from, seq, message, arrived.is_repaired);
            return true;
        }
        let is_new = !arrived.is_repaired && self.begin_again_at(seq);
        let is_late = seq <= self.highest && !is_new;
        if !is_late && !arrived.is_repaired {
            if self.is_superseded {
                return false;
            }
            self.go_on();
            self.advance(around, seq, Cause::Unknown);
        }
        let is_ordered = around.options.delivery == Delivery::Ordered;
        let newest = self.seen.as_deref().map_or(0, |seen| seen.newest);
        let is_old = is_ordered && seq <= newest;
        if arrived.is_repaired || is_old || !self.see(seq) {
            let seen = self.seen.get_or_insert_default();
            let is_unknown = seen.is_too_old(seq) || is_old && seen.mark(seq);
            if !arrived.is_repaired && is_unknown {
                self.doubt_highest(around);
            }
            self.counts_mut().count_duplicate();
            return true;
        }
        // The first that was seen need not be the first that was sent.
        let before = self.base.saturating_sub(seq);
        self.base = self.base.min(seq);
        let counts = self.counts_mut();
        counts.unverifiable = counts.unverifiable.saturating_add(before).saturating_sub(1);
        // One that a heartbeat overtook goes on with its chain as well.
        let chains = self.chains.as_mut();
        let missing = chains.and_then(|chains| {
            chains.note(around.subjects_max, message.subject(), seq, arrived.prev)
        });
        let missing = missing.filter(|_| !Defect::NoChain.is_planted());
        self.open_chained(around, missing);
        if is_late {
            self.counts_mut().count_late();
        } else {
            self.marks = around.marks;
        }
        self.settle(around, seq, message, false, 0);
        true
    }

    /// Marks a number. Returns false for one that was marked before, or is too old to tell.
    fn see(&mut self, seq: u64) -> bool {
        self.seen.get_or_insert_default().mark(seq)
    }

    /// A later message on its subject names this number, and it has not come.
    fn open_chained(&mut self, around: &mut Surroundings<'_, M>, missing: Option<u64>) {
        let Some(seq) = missing.filter(|seq| *seq >= self.base) else {
            return;
        };
        let seen = self.seen.get_or_insert_default();
        let is_known = !seen.is_too_old(seq) && !seen.mark(seq);
        if is_known || self.gaps.holding(seq).is_some() {
            return;
        }
        let counts = self.counts_mut();
        counts.unverifiable = counts.unverifiable.saturating_sub(1);
        let due = self.gap_due(around);
        let cause = self.cause(around);
        self.gaps.open(seq, seq, around.now, due, cause);
        self.counts_mut().count_gap();
        around.events.push_back(self.gap_event(seq, seq, cause));
        self.bound_gaps(around);
        let (gaps, missing) = (&self.gaps, self.gaps.numbers().saturating_mul(2));
        if let Some(chains) = &mut self.chains
            && u64::try_from(chains.len()).unwrap_or(u64::MAX)
                > missing.saturating_add(FLOORS_SPARE)
        {
            chains.retain(|seq| gaps.holding(seq).is_some());
        }
    }

    pub(super) fn learn_scope(&mut self, around: &mut Surroundings<'_, M>, heartbeat: &Heartbeat) {
        if self.coverage.is_part() {
            return;
        }
        let is_claimed = Defect::FilterClaims.is_planted();
        if !is_claimed && !around.options.covers(&heartbeat.scope) {
            self.give_up_claims(around);
            self.change_coverage(around, Coverage::Partial);
            self.next = None;
            self.seen = Some(Box::new(Seen::all_until(self.highest)));
            self.chains = Some(Box::new(Chains::new(self.highest)));
        } else if self.coverage == Coverage::Unverified {
            self.change_coverage(around, Coverage::Strict);
            for gap in self.gaps.iter() {
                around
                    .events
                    .push_back(self.gap_event(gap.from, gap.to, gap.cause));
            }
        }
    }

    /// Takes the coverage, and tells it when it is not what the owner has reason to expect.
    fn change_coverage(&mut self, around: &mut Surroundings<'_, M>, coverage: Coverage) {
        self.coverage = coverage;
        if self.told_coverage != coverage {
            self.told_coverage = coverage;
            around.events.push_back(Event::CoverageChanged {
                source: self.source.clone(),
                epoch: self.epoch,
                coverage,
            });
        }
    }

    /// Forgets the gaps of a source whose scope stays unknown, and says so once. What came and found
    /// no room is lost: nobody was asked for it.
    pub(super) fn give_up_unverified(
        &mut self,
        around: &mut Surroundings<'_, M>,
        reason: LossReason,
    ) {
        self.change_coverage(around, Coverage::Unverified);
        self.give_up_claims(around);
        self.lose(around, 0, u64::MAX, reason);
    }

    /// Forgets the gaps without a claim: they may not have been meant for this subscription.
    pub(super) fn give_up_claims(&mut self, around: &mut Surroundings<'_, M>) {
        let given_up = self.gaps.forget_unseen();
        if given_up > 0 {
            let counts = self.counts_mut();
            counts.unverifiable = counts.unverifiable.saturating_add(given_up);
        }
        if let Some(asking) = &mut self.asking {
            asking.asked = None;
        }
        self.release(around);
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use crate::sequence::story::{MILLI, Story};
    use crate::sequence::{Coverage, Delivery, HeartbeatKind};
    use crate::subject::Filter;

    /// A receiver that sees a part of a source: numbers up to 1 are known.
    fn partial(delivery: Delivery) -> Story {
        let mut story = Story::new(delivery);
        story.data(&[1]);
        story.heartbeat(7, HeartbeatKind::Beat, 3, ">", None);
        assert_eq!(story.told(), "epoch7 1 partial");
        story
    }

    #[test]
    fn what_a_chain_names_is_won_back_link_by_link() {
        let mut story = partial(Delivery::Immediate);
        story.chained(5, 1).chained(9, 7);
        assert_eq!(story.told(), "5 gap7-7 9");
        assert_eq!(story.request().as_deref(), Some("7"));
        story.repair_chained(7, 6).end(0, "");
        assert_eq!(story.told(), "gap6-6 r7");
        assert_eq!(story.request().as_deref(), Some("6"));
        story.repair_chained(6, 5).chained(7, 6).chained(6, 5);
        assert_eq!(story.told(), "r6");
        let line = story.line();
        assert_eq!((line.coverage, line.lost), (Coverage::Partial, 0));
        assert_eq!((line.delivered, line.duplicates), (5, 2));
        assert_eq!(line.unverifiable, 9 - 5);
    }

    #[test]
    fn what_a_heartbeat_overtook_is_not_fetched_again() {
        let mut story = partial(Delivery::Immediate);
        story.beat(HeartbeatKind::Beat, 5).chained(5, 1);
        story.beat(HeartbeatKind::Beat, 300).chained(301, 5);
        assert_eq!(story.told(), "5 301");
        story.chained(303, 302).chained(302, 301).chained(304, 303);
        assert_eq!(story.told(), "gap302-302 303 302 304");
    }

    #[test]
    fn what_is_announced_makes_nothing_old_that_comes_after_it() {
        for (delivery, is_shared) in [
            (Delivery::Immediate, false),
            (Delivery::Ordered, false),
            (Delivery::DetectOnly, false),
            (Delivery::Ordered, true),
        ] {
            let mut story = Story::with(delivery, |options| options.is_shared = is_shared);
            story.data(&[1]);
            story.heartbeat(7, HeartbeatKind::Beat, 1, ">", None).told();
            // Over another connection than what it names, or made up.
            story.heartbeat(7, HeartbeatKind::Beat, 1_000_000, ">", None);
            story.data(&[3, 3, 400, 3, 401]);
            assert_eq!(story.told(), "3 400 401", "{delivery:?} {is_shared}");
            assert!(story.line().is_balanced());
        }
    }

    #[test]
    fn of_what_comes_late_the_last_128_numbers_are_told_apart() {
        let mut story = partial(Delivery::Immediate);
        story.data(&[200, 73, 72, 73, 201, 74]);
        assert_eq!(story.told(), "200 73 201 74");
        assert_eq!(story.line().duplicates, 2);
        assert!(story.line().is_balanced());
    }

    #[test]
    fn a_far_lead_that_was_made_up_silences_no_part_of_a_source() {
        for (delivery, is_shared) in [
            (Delivery::Immediate, false),
            (Delivery::Ordered, false),
            (Delivery::DetectOnly, false),
            (Delivery::Immediate, true),
        ] {
            let mut story = Story::with(delivery, |options| options.is_shared = is_shared);
            story.data(&[1]);
            story.heartbeat(7, HeartbeatKind::Beat, 3, ">", None).told();
            story.heartbeat(7, HeartbeatKind::Beat, 1 << 52, ">", None);
            story.chained(4, 1);
            assert_eq!(story.told(), "4", "{delivery:?} {is_shared}");
            let is_asked = !is_shared && delivery != Delivery::DetectOnly;
            let asked = core::iter::from_fn(|| story.request()).any(|text| text == "?");
            assert_eq!(asked, is_asked, "{delivery:?} {is_shared}");
            let ignored = story.receiver.bad_stamps();
            assert_eq!(ignored, u64::from(!is_asked), "{delivery:?} {is_shared}");
        }
        let mut story = Story::new(Delivery::DetectOnly);
        story.hello().data(&[1]).beat(HeartbeatKind::Beat, 1 << 52);
        story.data(&[2]).wait(MILLI);
        assert_eq!(story.told(), "epoch7 1 2");
    }

    #[test]
    fn what_a_chain_names_is_lost_where_it_is_not_won_back() {
        let mut story = partial(Delivery::Immediate);
        story.chained(9, 7).wait(MILLI * 5_001);
        assert_eq!(story.told(), "gap7-7 9 lost7-7:timeout silent");
        story.chained(7, 6);
        assert_eq!(story.told(), "", "and never delivered after");
        let mut story = partial(Delivery::DetectOnly);
        story.chained(9, 7).wait(Duration::ZERO);
        assert_eq!(story.told(), "gap7-7 9 lost7-7:missing");
    }

    #[test]
    fn order_waits_for_what_a_chain_names() {
        let mut story = partial(Delivery::Ordered);
        story.chained(9, 7).chained(10, 9);
        assert_eq!(story.told(), "gap7-7");
        story.repair_chained(7, 6);
        assert_eq!(story.told(), "gap6-6");
        story.repair_chained(6, 1);
        assert_eq!(story.told(), "r6 r7 9 10");
    }

    #[test]
    fn a_late_message_fills_what_a_chain_named() {
        let mut story = partial(Delivery::Immediate);
        story.chained(9, 7).chained(7, 1).chained(7, 1);
        assert_eq!(story.told(), "gap7-7 9 7");
        assert_eq!(story.line().duplicates, 1);
        let line = story.line();
        assert_eq!((line.delivered, line.unverifiable), (3, 6));
    }

    #[test]
    fn claims_that_cannot_be_proven_are_given_up_aloud() {
        let mut story = Story::new(Delivery::Ordered);
        story.data(&[1, 3]).wait(MILLI * 5_001);
        assert_eq!(story.told(), "epoch7 1 unverified 3");
        assert_eq!(story.line().coverage, Coverage::Unverified);
        story.data(&[5]).wait(MILLI * 5_001);
        assert_eq!(story.told(), "5", "said once");
        story.beat(HeartbeatKind::Beat, 5).data(&[7]);
        assert_eq!(story.told(), "strict gap6-6");
    }

    /// Of an order that waits for 2 and has room for one more.
    fn crowded() -> Story {
        let mut story = Story::with(Delivery::Ordered, |options| options.hold_messages_max = 1);
        story.data(&[1, 3, 4, 6]);
        assert_eq!(story.told(), "epoch7 1", "3 is held, 4 and 6 have no room");
        story
    }

    #[test]
    fn what_came_and_found_no_room_is_owed_though_only_a_part_is_seen() {
        let mut story = crowded();
        story.heartbeat(7, HeartbeatKind::Beat, 6, ">", None);
        assert_eq!(story.told(), "3 partial");
        let line = story.line();
        assert_eq!((line.undecided, line.unverifiable), (2, 2));
        while story.request().is_some_and(|asked| asked != "4,6") {}
        story.repair(0, &[4, 6]).end(0, "");
        assert_eq!(story.told(), "r4 r6");
        story.chained(8, 6);
        assert_eq!(story.told(), "8");

        let mut story = crowded();
        story.heartbeat(7, HeartbeatKind::Beat, 6, ">", None);
        story.wait(MILLI * 5_001);
        let told = story.told();
        assert_eq!(told, "3 partial lost4-4:timeout lost6-6:timeout silent");
    }

    #[test]
    fn what_came_and_found_no_room_is_lost_where_the_scope_stays_unknown() {
        let mut story = crowded();
        story.wait(MILLI * 5_001);
        let told = story.told();
        assert_eq!(told, "unverified 3 lost4-4:timeout lost6-6:timeout");
        let line = story.line();
        assert!(line.is_balanced() && line.unverifiable == 2, "{line:?}");

        let mut story = crowded();
        story.receiver.finish(story.now);
        assert_eq!(story.told(), "lost4-4:closed lost6-6:closed unverified 3");
    }

    #[test]
    fn a_scope_that_comes_by_another_name_is_covered_where_that_is_said() {
        let wide = |options: &mut crate::sequence::ReceiverOptions| {
            options.assume_scope = Some(Filter::new("far.d.>").unwrap());
        };
        let mut story = Story::with(Delivery::Immediate, wide);
        story.data(&[1, 3]);
        assert_eq!(story.told(), "epoch7 1 gap2-2 3");
        story.heartbeat(7, HeartbeatKind::Beat, 4, "far.d.x", None);
        assert_eq!(story.told(), "gap4-4");
        assert_eq!(story.line().coverage, Coverage::Strict);
    }
}
