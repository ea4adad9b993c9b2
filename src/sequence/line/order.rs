//! How messages are handed over: at once, or held for the order of their numbers.

use std::collections::BTreeMap;

use super::{Line, Surroundings};
use crate::sequence::defect::Defect;
use crate::sequence::event::{Event, Origin};
use crate::sequence::receiver::{Delivery, Weight};

/// Messages that wait for earlier ones.
#[derive(Debug, Clone)]
pub(super) struct Held<M> {
    messages: BTreeMap<u64, Waiting<M>>,
    bytes: usize,
}

#[derive(Debug, Clone)]
struct Waiting<M> {
    message: M,
    bytes: usize,
    is_repaired: bool,
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
        let is_full = self.is_hold_full(around, bytes);
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
        let held = self.held.get_or_insert_with(|| {
            Box::new(Held {
                messages: BTreeMap::new(),
                bytes: 0,
            })
        });
        held.bytes = held.bytes.saturating_add(bytes);
        let waiting = Waiting {
            message,
            bytes,
            is_repaired,
        };
        held.messages.insert(seq, waiting);
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
        if !is_first && self.is_hold_full(around, message.weight()) {
            // Nothing was won. Asked for again, for as long as anything that is new, but never at the
            // price of another gap: one may become three.
            if self.gaps.len().saturating_add(2) <= around.gaps_max {
                self.gaps.put_back(seq, around.now);
            }
            return;
        }
        let born = self.gaps.gap_of(seq).map(|gap| gap.born);
        self.asking_mut().win(around.now);
        let counts = self.counts_mut();
        if is_repaired {
            counts.note_repair(around.now.saturating_sub(born.unwrap_or(around.now)));
        } else {
            counts.count_late();
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
        if is_repaired {
            let counts = self.counts_mut();
            counts.repaired = counts.repaired.saturating_add(1);
        }
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
        while let Some(held) = &mut self.held
            && let Some(entry) = held.messages.first_entry()
            && *entry.key() <= blocked_from
        {
            let (seq, waiting) = entry.remove_entry();
            held.bytes = held.bytes.saturating_sub(waiting.bytes);
            if held.messages.is_empty() {
                self.held = None;
            }
            self.deliver(around, seq, waiting.message, waiting.is_repaired, 0);
        }
    }

    /// Drops what is held of these numbers: it was made up.
    pub(super) fn drop_held(&mut self, from: u64, to: u64) {
        let Some(held) = &mut self.held else {
            return;
        };
        held.messages.retain(|seq, waiting| {
            let is_kept = *seq < from || *seq > to;
            if !is_kept {
                held.bytes = held.bytes.saturating_sub(waiting.bytes);
            }
            is_kept
        });
        if held.messages.is_empty() {
            self.held = None;
        }
    }

    /// How many messages are held.
    pub(super) fn held_len(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.messages.len())
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.bytes)
    }

    /// Whether a message of so many bytes cannot be held.
    fn is_hold_full(&self, around: &Surroundings<'_, M>, bytes: usize) -> bool {
        around.options.delivery == Delivery::Ordered
            && !Defect::NoHoldBound.is_planted()
            && (self.held_len() >= around.options.hold_messages_max
                || self.held_bytes().saturating_add(bytes) > around.hold_bytes_max)
    }
}
