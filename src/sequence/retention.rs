//! What a sender keeps for repairs: the newest messages, their bytes in chunks that are used again.
//!
//! ```text
//!   entries   [ 41 | 42 | 43 | 44 | 45 | 46 ]     one for each message, oldest first
//!   chunks    [ ..41 42 43 ][ 44 45 46 ..... ]    a message lies within one chunk
//! ```
//!
//! A chunk is free when its last message is forgotten, so at its ends the ring holds up to two chunks
//! more than its messages need.

use core::time::Duration;
use std::collections::VecDeque;

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
    /// Bytes of subjects, headers and payloads. Default 8 MiB.
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

/// Bytes of a chunk, unless one message is larger.
const CHUNK_BYTES: usize = 64 << 10;

#[derive(Debug, Clone)]
pub(super) struct Retention {
    limits: RetentionLimits,
    overflow: RetentionOverflow,
    age_nanos_max: u64,
    chunks: VecDeque<Chunk>,
    /// The number of the first chunk.
    first_chunk: u64,
    /// One that is free.
    spare: Chunk,
    /// Bytes of what is retained.
    bytes: usize,
    entries: VecDeque<Entry>,
    /// The number of the first entry.
    first: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    at: Nanos,
    chunk: u64,
    /// Where it begins in its chunk.
    start: usize,
    /// The number before it on its subject, 0 for none.
    prev: Option<u64>,
    len: usize,
    subject_len: u32,
    reply_len: u32,
    headers_len: u32,
}

#[derive(Debug, Clone, Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// Messages in it that are retained.
    messages: usize,
}

/// A retained message, copied out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Retained {
    pub(super) prev: Option<u64>,
    pub(super) subject: Vec<u8>,
    pub(super) reply: Vec<u8>,
    pub(super) headers: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

impl Retention {
    pub(super) const fn new(limits: RetentionLimits, overflow: RetentionOverflow) -> Self {
        Self {
            limits,
            overflow,
            age_nanos_max: Nanos::new(limits.age_max).since(Nanos::ZERO),
            chunks: VecDeque::new(),
            first_chunk: 0,
            spare: Chunk {
                bytes: Vec::new(),
                messages: 0,
            },
            bytes: 0,
            entries: VecDeque::new(),
            first: 1,
        }
    }

    /// The oldest retained number; one past the newest when there is none.
    pub(super) const fn trail(&self) -> u64 {
        self.first
    }

    /// Fails when the message may not be retained now. Changes nothing.
    #[inline]
    pub(super) fn check(&self, now: Duration, message: &Outgoing<'_>) -> Result<(), SendError> {
        if self.overflow == RetentionOverflow::Evict {
            return Ok(());
        }
        let (found, max) = (message.len(), self.limits.bytes_max);
        if found > max {
            return Err(SendError::TooLargeToRetain { found, max });
        }
        let mut messages = self.entries.len();
        let mut bytes = self.bytes;
        for entry in &self.entries {
            if messages < self.limits.messages_max && bytes.saturating_add(found) <= max {
                return Ok(());
            }
            let free_at = entry.at.get().saturating_add(self.limits.age_max);
            if free_at > now {
                return Err(SendError::RetentionFull { free_at });
            }
            messages = messages.saturating_sub(1);
            bytes = bytes.saturating_sub(entry.len);
        }
        Ok(())
    }

    /// Keeps the message with the next number, forgetting what the bounds require.
    #[inline]
    pub(super) fn push(&mut self, now: Duration, message: &Outgoing<'_>, prev: Option<u64>) {
        let now = Nanos::new(now);
        self.expire_at(now);
        let bytes_max = self.limits.bytes_max;
        let message_bytes = message.len();
        while self.entries.len() >= self.limits.messages_max.max(1)
            || self.bytes.saturating_add(message_bytes) > bytes_max
        {
            if Defect::NoRetentionBound.is_planted() || !self.pop() {
                break;
            }
        }
        if message_bytes > bytes_max || self.limits.messages_max == 0 {
            // It cannot be kept at all: nothing up to it is retained.
            self.first = self.first.saturating_add(1);
            return;
        }
        self.make_room(message_bytes);
        let last = (self.chunks.len() as u64).saturating_sub(1);
        let number = self.first_chunk.saturating_add(last);
        let Some(chunk) = self.chunks.back_mut() else {
            return;
        };
        let len = |part: &[u8]| u32::try_from(part.len()).unwrap_or(u32::MAX);
        let reply = message.reply.unwrap_or_default();
        self.entries.push_back(Entry {
            at: now,
            chunk: number,
            start: chunk.bytes.len(),
            prev,
            len: message_bytes,
            subject_len: len(message.subject.as_bytes()),
            reply_len: len(reply.as_bytes()),
            headers_len: len(message.headers),
        });
        chunk.bytes.extend_from_slice(message.subject.as_bytes());
        for part in [reply.as_bytes(), message.headers] {
            if !part.is_empty() {
                chunk.bytes.extend_from_slice(part);
            }
        }
        chunk.bytes.extend_from_slice(message.payload);
        chunk.messages = chunk.messages.saturating_add(1);
        self.bytes = self.bytes.saturating_add(message_bytes);
    }

    /// Copies the message with this number; `None` when it is not retained.
    pub(super) fn get(&self, seq: u64) -> Option<Retained> {
        let index = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        let entry = self.entries.get(index)?;
        let chunk = usize::try_from(entry.chunk.checked_sub(self.first_chunk)?).ok()?;
        let end = entry.start.checked_add(entry.len)?;
        let mut rest = self.chunks.get(chunk)?.bytes.get(entry.start..end)?;
        let mut part = |len: u32| {
            let (part, after) = rest.split_at_checked(len as usize)?;
            rest = after;
            Some(part.to_vec())
        };
        Some(Retained {
            prev: entry.prev,
            subject: part(entry.subject_len)?,
            reply: part(entry.reply_len)?,
            headers: part(entry.headers_len)?,
            payload: rest.to_vec(),
        })
    }

    pub(super) fn bytes(&self) -> usize {
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

    #[inline]
    fn expire_at(&mut self, now: Nanos) {
        if self.overflow == RetentionOverflow::Refuse {
            return;
        }
        while let Some(oldest) = self.entries.front() {
            if now.since(oldest.at) <= self.age_nanos_max {
                return;
            }
            self.pop();
        }
    }

    /// Makes the last chunk one that takes so many bytes more.
    #[inline]
    fn make_room(&mut self, bytes: usize) {
        let last = self.chunks.back();
        if last.is_some_and(|last| last.bytes.len().saturating_add(bytes) <= CHUNK_BYTES) {
            return;
        }
        self.chunks.push_back(core::mem::take(&mut self.spare));
    }

    #[inline]
    fn pop(&mut self) -> bool {
        let Some(oldest) = self.entries.pop_front() else {
            return false;
        };
        self.first = self.first.saturating_add(1);
        self.bytes = self.bytes.saturating_sub(oldest.len);
        if let Some(chunk) = self.chunks.front_mut() {
            chunk.messages = chunk.messages.saturating_sub(1);
            if chunk.messages == 0 {
                self.recycle();
            }
        }
        true
    }

    /// Frees the first chunk, whose messages are all forgotten.
    fn recycle(&mut self) {
        let Some(mut chunk) = self.chunks.pop_front() else {
            return;
        };
        self.first_chunk = self.first_chunk.saturating_add(1);
        chunk.bytes.clear();
        // One that grew for a large message does not stay. Growing doubles, so that a full one may
        // take nearly twice its bytes.
        if chunk.bytes.capacity() <= CHUNK_BYTES.saturating_mul(2) {
            self.spare = chunk;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            retention.push(Duration::ZERO, &message(payload), Some(prev));
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
        retention.push(SECOND * 3, &message(b"4"), None);
        assert_eq!(retention.trail(), 4, "the others were too old");
    }

    #[test]
    fn a_message_too_large_to_keep_leaves_nothing_retained() {
        let mut retention = retention(9, RetentionOverflow::Evict);
        retention.push(Duration::ZERO, &message(b"1"), None);
        retention.push(Duration::ZERO, &message(&[0; 50]), None);
        assert_eq!(retention.trail(), 3);
        retention.push(Duration::ZERO, &message(b"3"), None);
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
            retention.push(Duration::ZERO, &message(&bytes), None);
            let held: usize = retention.chunks.iter().map(|chunk| chunk.bytes.len()).sum();
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
        assert_eq!((retention.bytes(), retention.chunks.len()), (0, 0));
    }

    #[test]
    fn a_retention_that_refuses_forgets_only_the_old_and_only_for_room() {
        let mut retention = retention(2, RetentionOverflow::Refuse);
        retention.push(Duration::ZERO, &message(b"1"), None);
        retention.push(SECOND, &message(b"2"), None);
        assert_eq!(
            retention.check(SECOND / 2, &message(b"3")),
            Err(SendError::RetentionFull { free_at: SECOND })
        );
        retention.expire(SECOND * 9);
        assert_eq!(retention.trail(), 1, "age alone forgets nothing");
        assert_eq!(retention.check(SECOND, &message(b"3")), Ok(()));
        retention.push(SECOND, &message(b"3"), None);
        assert_eq!(retention.trail(), 2);
        let large = SendError::TooLargeToRetain { found: 58, max: 40 };
        assert_eq!(retention.check(SECOND, &message(&[0; 50])), Err(large));
    }
}
