//! Which numbers of a source are owed to a subscription: all of them, or only some.

use super::{Line, Surroundings};
use crate::sequence::heartbeat::Heartbeat;
use crate::sequence::receiver::{Delivery, Weight};

/// Whether the subscription is sure to get every message of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coverage {
    /// The source's scope is not known.
    Unknown,
    /// It is: gaps are losses.
    Whole,
    /// It is not: gaps are no news.
    Part,
}

impl<M: Weight> Line<M> {
    /// Takes a message of a source that we see a part of: only copies are told apart. Returns
    /// false when its run was superseded and its number is new.
    pub(super) fn handle_share(
        &mut self,
        around: &mut Surroundings<'_, M>,
        seq: u64,
        message: M,
    ) -> bool {
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

    pub(super) fn learn_scope(&mut self, around: &mut Surroundings<'_, M>, heartbeat: &Heartbeat) {
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

    /// Forgets the gaps without a claim: they may not have been meant for this subscription.
    pub(super) fn give_up_claims(&mut self, around: &mut Surroundings<'_, M>) {
        self.unverifiable = self.unverifiable.saturating_add(self.gaps.clear());
        self.asked = None;
        self.release(around);
    }
}
