//! How messages are handed over: at once, or held for the order of their numbers.

use super::{Line, Surroundings};
use crate::sequence::defect::Defect;
use crate::sequence::event::{Event, Origin};
use crate::sequence::receiver::{Delivery, ReceiverOptions, Weight};

#[derive(Debug, Clone)]
pub(super) struct Held<M> {
    pub(super) message: M,
    pub(super) bytes: usize,
    pub(super) is_repaired: bool,
}

impl<M: Weight> Line<M> {
    /// Delivers a message whose number was not seen before, or holds it for the order.
    pub(super) fn settle(
        &mut self,
        around: &mut Surroundings<'_, M>,
        seq: u64,
        message: M,
        is_repaired: bool,
        gap_before: u64,
    ) {
        let is_blocked = self.join.is_some() || self.gaps.first().is_some_and(|gap| gap.from < seq);
        let is_ordered = around.options.delivery == Delivery::Ordered;
        if !is_ordered || !is_blocked {
            self.deliver(around, seq, message, is_repaired, gap_before);
            return self.release(around);
        }
        let bytes = message.weight();
        let is_full = self.hold_room(around.options) == 0
            || self.held_bytes.saturating_add(bytes) > around.options.hold_bytes_max;
        if is_full && self.join.is_some() {
            // The order cannot wait any longer for where it begins. What is released stops before
            // this message, whose number is missing until it is settled.
            self.gaps.open_local(seq, around.now);
            self.fix_base(around, self.base);
            if let Some(start) = self.gaps.holding(seq) {
                self.gaps.cut(start, seq, seq);
            }
            return self.settle(around, seq, message, is_repaired, gap_before);
        }
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
    pub(super) fn win_back(
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
        if !Defect::KeptGap.is_planted() {
            self.gaps.cut(from, seq, seq);
        }
        let gap_before = seq.saturating_sub(from);
        self.settle(around, seq, message, is_repaired, gap_before);
        // A number from its middle makes two gaps of one.
        self.bound_gaps(around);
        self.tell_end(around);
    }

    pub(super) fn deliver(
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
    pub(super) fn release(&mut self, around: &mut Surroundings<'_, M>) {
        if self.join.is_some() {
            return;
        }
        let blocking = self.gaps.first();
        let blocking = blocking.filter(|_| !Defect::EarlyRelease.is_planted());
        let blocked_from = blocking.map_or(u64::MAX, |gap| gap.from);
        while let Some(entry) = self.held.first_entry() {
            if *entry.key() > blocked_from {
                return;
            }
            let (seq, held) = entry.remove_entry();
            self.held_bytes = self.held_bytes.saturating_sub(held.bytes);
            self.deliver(around, seq, held.message, held.is_repaired, 0);
        }
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
