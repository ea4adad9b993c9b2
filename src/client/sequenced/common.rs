//! What the sources of one client share: what they may send again, and what they may retain.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sequence::{Bucket, Rate, Sender};

/// What all sources of a client send again.
const REPAIR_RATE: Rate = Rate {
    bytes_per_second: 16 << 20,
    burst_bytes: 4 << 20,
};

#[derive(Debug)]
pub(crate) struct Common {
    repairs: Mutex<Bucket>,
    sources: AtomicUsize,
    retained_bytes: AtomicUsize,
}

impl Common {
    pub(crate) const fn new() -> Self {
        Self {
            repairs: Mutex::new(Bucket::new(REPAIR_RATE)),
            sources: AtomicUsize::new(0),
            retained_bytes: AtomicUsize::new(0),
        }
    }

    /// What may be sent again; taken after a source's lock and before the outbox's.
    pub(super) fn repairs(&self) -> MutexGuard<'_, Bucket> {
        self.repairs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self) {
        self.sources.fetch_add(1, Ordering::Relaxed);
    }

    /// A source that retained `noted` bytes is over.
    pub(super) fn end(&self, noted: usize) {
        self.sources.fetch_sub(1, Ordering::Relaxed);
        self.retained_bytes.fetch_sub(noted, Ordering::Relaxed);
    }

    /// Counts what a source retains, of which `noted` bytes were counted. Beyond the bound a source
    /// forgets what is more than an equal share.
    pub(super) fn bound(&self, bytes_max: usize, sender: &mut Sender, noted: &mut usize) {
        let all = self.note(sender, noted);
        let excess = all.saturating_sub(bytes_max);
        if excess > 0 {
            let sources = self.sources.load(Ordering::Relaxed).max(1);
            let share = bytes_max.checked_div(sources).unwrap_or_default();
            sender.forget(excess.min(noted.saturating_sub(share)));
            self.note(sender, noted);
        }
    }

    /// Counts what a source retains now; returns what all retain.
    pub(super) fn note(&self, sender: &Sender, noted: &mut usize) -> usize {
        let kept = sender.retained_bytes();
        // Adding what wraps around subtracts.
        let change = kept.wrapping_sub(*noted);
        *noted = kept;
        let before = self.retained_bytes.fetch_add(change, Ordering::Relaxed);
        before.wrapping_add(change)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sequence::{Outgoing, RetentionOverflow, SenderOptions, SourceName};
    use crate::subject::Filter;

    fn sender(overflow: RetentionOverflow) -> Sender {
        let name = SourceName::new("a").unwrap();
        let mut options = SenderOptions::new(name, 1, Filter::new("a").unwrap());
        options.overflow = overflow;
        Sender::new(options, 1, Duration::ZERO)
    }

    fn push(common: &Common, sender: &mut Sender, noted: &mut usize, payload: usize) {
        let message = Outgoing {
            subject: "a",
            reply: None,
            headers: b"",
            payload: &vec![0; payload],
        };
        sender
            .stamp(Duration::ZERO, &message, 1 << 20, &mut Vec::new())
            .unwrap();
        common.bound(1_000, sender, noted);
    }

    #[test]
    fn sources_share_what_they_may_retain_and_give_it_back() {
        let common = Common::new();
        let mut many = (sender(RetentionOverflow::Evict), 0);
        let mut few = (sender(RetentionOverflow::Evict), 0);
        common.begin();
        for _ in 0..99 {
            push(&common, &mut many.0, &mut many.1, 99);
        }
        assert_eq!(many.0.retained_bytes(), 1_000, "alone it has everything");
        common.begin();
        for _ in 0..4 {
            push(&common, &mut few.0, &mut few.1, 99);
        }
        assert_eq!(few.0.trail(), 1, "it has less than its share");
        for _ in 0..4 {
            push(&common, &mut many.0, &mut many.1, 99);
        }
        assert_eq!((few.1, many.1), (400, 600));
        common.end(many.1);
        common.end(few.1);
        let left = common.retained_bytes.load(Ordering::Relaxed);
        assert_eq!((left, common.sources.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn a_source_that_may_forget_nothing_forgets_nothing() {
        let common = Common::new();
        common.begin();
        let mut source = (sender(RetentionOverflow::Refuse), 0);
        for _ in 0..20 {
            push(&common, &mut source.0, &mut source.1, 99);
        }
        assert_eq!((source.0.trail(), source.1), (1, 2_000));
    }
}
