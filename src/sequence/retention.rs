//! What a sender keeps for repairs: the newest messages, in chunks that are used again.
//!
//! ```text
//!   entries   [ 41 | 42 | 43 ]    [ 44 | 45 | 46 |      ]     where each message ends, and its parts
//!   bytes     [ 41 42 43 ..... ]  [ 44 45 46 .......... ]
//!               oldest chunk          newest chunk
//! ```
//!
//! A message lies within one chunk. A chunk is free when its last message is forgotten, so at its
//! ends the ring holds up to two chunks more than its messages need.

use core::time::Duration;
use std::collections::VecDeque;

use super::chunk::{BYTES_MAX, Chunk, Retained};
use super::defect::Defect;
use super::error::SendError;
use super::nanos::Nanos;
use super::sender::Outgoing;

/// Bounds of what is retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "callers set all three")]
pub struct RetentionLimits {
    /// Messages. Default 8,192.
    pub messages_max: usize,
    /// Bytes of subjects, headers and payloads. Default 8 MiB; more than 4 GiB count as 4 GiB.
    pub bytes_max: usize,
    /// Age. Default 60 s.
    pub age_max: Duration,
}

impl Default for RetentionLimits {
    fn default() -> Self {
        Self {
            messages_max: 8_192,
            bytes_max: 8 << 20,
            age_max: Duration::from_secs(60),
        }
    }
}

/// What happens when a new message does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum RetentionOverflow {
    /// The oldest are forgotten, for age too. Publishing never waits.
    #[default]
    Evict,
    /// The oldest are forgotten only when there is no room and they are older than the age bound;
    /// until then the new message is refused.
    Refuse,
}

#[derive(Debug, Clone)]
pub(super) struct Retention {
    limits: RetentionLimits,
    overflow: RetentionOverflow,
    age_nanos_max: u64,
    /// Full ones, the oldest first; in each some message is retained.
    full: VecDeque<Chunk>,
    newest: Chunk,
    /// One that is free.
    spare: Chunk,
    /// Bytes of what is retained.
    bytes: usize,
    /// The oldest retained number.
    first: u64,
    /// One past the newest.
    next: u64,
    /// Until then nothing is too old.
    fresh_until: Nanos,
}

// Numbers, and counts of what is in memory, are added with `wrapping_add`: they do not overflow.
impl Retention {
    pub(super) fn new(mut limits: RetentionLimits, overflow: RetentionOverflow) -> Self {
        limits.bytes_max = limits.bytes_max.min(BYTES_MAX);
        Self {
            limits,
            overflow,
            age_nanos_max: Nanos::new(limits.age_max).since(Nanos::ZERO),
            full: VecDeque::new(),
            newest: Chunk::default().emptied(1),
            spare: Chunk::default(),
            bytes: 0,
            first: 1,
            next: 1,
            fresh_until: Nanos::ZERO,
        }
    }

    /// The oldest retained number; one past the newest when there is none.
    pub(super) const fn trail(&self) -> u64 {
        self.first
    }

    /// Fails when the message may not be retained now. Changes nothing.
    #[inline]
    pub(super) fn check(&self, now: Duration, message_bytes: usize) -> Result<(), SendError> {
        match self.overflow {
            RetentionOverflow::Evict => Ok(()),
            RetentionOverflow::Refuse => self.check_room(now, message_bytes),
        }
    }

    fn check_room(&self, now: Duration, found: usize) -> Result<(), SendError> {
        let max = self.limits.bytes_max;
        if found > max {
            return Err(SendError::TooLargeToRetain { found, max });
        }
        let mut messages = self.messages();
        let mut bytes = self.bytes;
        for (at, len) in self.chunks().flat_map(Chunk::retained) {
            if messages < self.limits.messages_max as u64 && bytes.saturating_add(found) <= max {
                return Ok(());
            }
            let free_at = at.get().saturating_add(self.limits.age_max);
            if free_at > now {
                return Err(SendError::RetentionFull { free_at });
            }
            messages = messages.saturating_sub(1);
            bytes = bytes.saturating_sub(len);
        }
        Ok(())
    }

    /// Keeps the message with the next number, forgetting what the bounds require.
    #[inline]
    pub(super) fn push(&mut self, now: Nanos, message: &Outgoing<'_>, prev: Option<u64>) {
        let len = message.len();
        if now > self.fresh_until {
            self.expire_at(now);
        }
        while self.is_full(len) {
            if !self.pop() {
                // It cannot be kept at all: nothing up to it is retained.
                self.next = self.next.wrapping_add(1);
                self.first = self.next;
                self.newest.first = self.next;
                return;
            }
        }
        if !self.newest.has_room(len) {
            self.begin_chunk();
        }
        self.newest.push(now, message, len, prev);
        self.bytes = self.bytes.wrapping_add(len);
        self.next = self.next.wrapping_add(1);
    }

    /// Copies the message with this number; `None` when it is not retained.
    pub(super) fn get(&self, seq: u64) -> Option<Retained> {
        if !(self.first..self.next).contains(&seq) {
            return None;
        }
        let later = self.full.partition_point(|chunk| chunk.first <= seq);
        let chunk = match later.checked_sub(1) {
            Some(before) if seq < self.newest.first => self.full.get(before)?,
            _ => &self.newest,
        };
        chunk.get(seq)
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets the oldest until so many bytes are free.
    pub(super) fn forget(&mut self, bytes: usize) {
        if self.overflow == RetentionOverflow::Refuse {
            return;
        }
        let left = self.bytes.saturating_sub(bytes);
        while self.bytes > left && self.pop() {}
    }

    /// Forgets what is too old.
    pub(super) fn expire(&mut self, now: Duration) {
        self.expire_at(Nanos::new(now));
    }

    fn expire_at(&mut self, now: Nanos) {
        if self.overflow == RetentionOverflow::Refuse {
            return;
        }
        while let Some(at) = self.oldest_at() {
            if now.since(at) <= self.age_nanos_max {
                self.fresh_until = at.plus(self.age_nanos_max);
                return;
            }
            self.pop();
        }
        self.fresh_until = now.plus(self.age_nanos_max);
    }

    const fn messages(&self) -> u64 {
        self.next.wrapping_sub(self.first)
    }

    /// Whether something is to be forgotten before so many bytes are kept.
    #[inline]
    fn is_full(&self, len: usize) -> bool {
        let is_full = self.messages() >= self.limits.messages_max as u64
            || self.bytes.wrapping_add(len) > self.limits.bytes_max;
        is_full && !Defect::NoRetentionBound.is_planted()
    }

    /// Forgets the oldest message; false when there is none.
    #[inline]
    fn pop(&mut self) -> bool {
        if self.messages() == 0 {
            return false;
        }
        let oldest = self.full.front_mut().unwrap_or(&mut self.newest);
        self.bytes = self.bytes.wrapping_sub(oldest.forget_first());
        self.first = self.first.wrapping_add(1);
        if oldest.is_forgotten() {
            self.recycle();
        }
        true
    }

    /// Makes the newest chunk one with room.
    #[cold]
    fn begin_chunk(&mut self) {
        // One message may take a chunk for itself.
        if !self.newest.is_empty() {
            let spare = core::mem::take(&mut self.spare);
            let full = core::mem::replace(&mut self.newest, spare);
            self.full.push_back(full);
            self.newest.first = self.next;
        }
    }

    /// Frees the oldest chunk, whose messages are all forgotten.
    #[cold]
    fn recycle(&mut self) {
        match self.full.pop_front() {
            Some(chunk) => self.spare = chunk.emptied(0),
            None => self.newest = core::mem::take(&mut self.newest).emptied(self.next),
        }
    }

    fn oldest_at(&self) -> Option<Nanos> {
        let (at, _) = self.chunks().flat_map(Chunk::retained).next()?;
        Some(at)
    }

    fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.full.iter().chain([&self.newest])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::chunk::CHUNK_BYTES;

    const SECOND: Duration = Duration::from_secs(1);

    fn message(payload: &[u8]) -> Outgoing<'_> {
        Outgoing {
            subject: "a",
            reply: Some("r"),
            headers: b"H: v\r\n",
            payload,
        }
    }

    fn retention(messages_max: usize, overflow: RetentionOverflow) -> Retention {
        let limits = RetentionLimits {
            messages_max,
            bytes_max: 40,
            age_max: SECOND,
        };
        Retention::new(limits, overflow)
    }

    #[test]
    fn the_newest_messages_are_kept_whole() {
        let mut retention = retention(2, RetentionOverflow::Evict);
        for (prev, payload) in (0..).zip([&b"one"[..], b"two", b"three"]) {
            retention.push(Nanos::ZERO, &message(payload), Some(prev));
        }
        assert_eq!(retention.trail(), 2);
        assert_eq!(retention.get(1), None);
        let kept = retention.get(3).unwrap();
        assert_eq!(kept.prev, Some(2));
        assert_eq!((&kept.subject[..], &kept.reply[..]), (&b"a"[..], &b"r"[..]));
        assert_eq!(
            (&kept.headers[..], &kept.payload[..]),
            (&b"H: v\r\n"[..], &b"three"[..])
        );
        assert_eq!(retention.get(4), None);
        retention.push(Nanos::new(SECOND * 3), &message(b"4"), None);
        assert_eq!(retention.trail(), 4, "the others were too old");
    }

    #[test]
    fn a_message_too_large_to_keep_leaves_nothing_retained() {
        let mut retention = retention(9, RetentionOverflow::Evict);
        retention.push(Nanos::ZERO, &message(b"1"), None);
        retention.push(Nanos::ZERO, &message(&[0; 50]), None);
        assert_eq!(retention.trail(), 3);
        retention.push(Nanos::ZERO, &message(b"3"), None);
        assert_eq!(retention.get(3).unwrap().payload, b"3");
    }

    #[test]
    fn chunks_are_used_again_and_every_message_is_whole() {
        let limits = RetentionLimits {
            messages_max: 1_000,
            bytes_max: 3 * CHUNK_BYTES,
            age_max: SECOND,
        };
        let mut retention = Retention::new(limits, RetentionOverflow::Evict);
        let payload = |seq: u64| {
            let byte = u8::try_from(seq % 251).unwrap();
            vec![byte; usize::try_from(seq * 7_919 % 9_000).unwrap()]
        };
        for seq in 1..=5_000 {
            let bytes = match seq {
                2_500 => vec![1; 2 * CHUNK_BYTES],
                _ => payload(seq),
            };
            retention.push(Nanos::ZERO, &message(&bytes), None);
            let held: usize = retention.chunks().map(|chunk| chunk.used).sum();
            assert!(held <= retention.bytes + 2 * CHUNK_BYTES, "{held} bytes");
            for kept in retention.trail()..=seq {
                if kept != 2_500 && (kept == retention.trail() || kept + 9 > seq) {
                    assert_eq!(retention.get(kept).unwrap().payload, payload(kept));
                }
            }
        }
        let kept = 5_001 - retention.trail();
        assert!((30..60).contains(&kept), "{kept} of about 4,500 bytes each");
        assert!(retention.spare.bytes.capacity() <= CHUNK_BYTES);
        retention.expire(SECOND * 3);
        assert_eq!((retention.bytes(), retention.full.len()), (0, 0));
    }

    #[test]
    fn a_retention_that_refuses_forgets_only_the_old_and_only_for_room() {
        let mut retention = retention(2, RetentionOverflow::Refuse);
        retention.push(Nanos::ZERO, &message(b"1"), None);
        retention.push(Nanos::new(SECOND), &message(b"2"), None);
        assert_eq!(
            retention.check(SECOND / 2, message(b"3").len()),
            Err(SendError::RetentionFull { free_at: SECOND })
        );
        retention.expire(SECOND * 9);
        assert_eq!(retention.trail(), 1, "age alone forgets nothing");
        assert_eq!(retention.check(SECOND, message(b"3").len()), Ok(()));
        retention.push(Nanos::new(SECOND), &message(b"3"), None);
        assert_eq!(retention.trail(), 2);
        let large = SendError::TooLargeToRetain { found: 58, max: 40 };
        assert_eq!(retention.check(SECOND, message(&[0; 50]).len()), Err(large));
    }
}
