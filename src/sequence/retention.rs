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

/// Bytes of a chunk, unless one message is larger.
const CHUNK_BYTES: usize = 64 << 10;
const CHUNK_BYTES_MIN: usize = 1 << 10;
/// Messages of a chunk.
const CHUNK_MESSAGES: usize = 2_048;
/// Places in a chunk have 32 bits.
const BYTES_MAX: usize = u32::MAX as usize;
/// No number.
const NO_NUMBER: u64 = u64::MAX;

#[derive(Debug, Clone)]
pub(super) struct Retention {
    limits: RetentionLimits,
    overflow: RetentionOverflow,
    age_nanos_max: u64,
    /// The oldest first; in each some message is retained.
    chunks: VecDeque<Chunk>,
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

/// A retained message, copied out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Retained {
    pub(super) prev: Option<u64>,
    pub(super) subject: Vec<u8>,
    pub(super) reply: Vec<u8>,
    pub(super) headers: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

// Numbers, and counts of what is in memory, are added with `wrapping_add`: they do not overflow.
impl Retention {
    pub(super) fn new(mut limits: RetentionLimits, overflow: RetentionOverflow) -> Self {
        limits.bytes_max = limits.bytes_max.min(BYTES_MAX);
        Self {
            limits,
            overflow,
            age_nanos_max: Nanos::new(limits.age_max).since(Nanos::ZERO),
            chunks: VecDeque::new(),
            spare: Chunk::new(),
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
        for (at, len) in self.chunks.iter().flat_map(Chunk::retained) {
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
                return;
            }
        }
        let newest = self.chunks.back();
        if !newest.is_some_and(|newest| newest.has_room(len)) {
            self.begin_chunk();
        }
        if let Some(newest) = self.chunks.back_mut() {
            newest.push(now, message, len, prev);
        }
        self.bytes = self.bytes.wrapping_add(len);
        self.next = self.next.wrapping_add(1);
    }

    /// Copies the message with this number; `None` when it is not retained.
    pub(super) fn get(&self, seq: u64) -> Option<Retained> {
        if !(self.first..self.next).contains(&seq) {
            return None;
        }
        let later = self.chunks.partition_point(|chunk| chunk.first <= seq);
        self.chunks.get(later.checked_sub(1)?)?.get(seq)
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
        let oldest = |chunks: &VecDeque<Chunk>| chunks.front()?.retained().next();
        while let Some((at, _)) = oldest(&self.chunks) {
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
            || self.bytes.saturating_add(len) > self.limits.bytes_max;
        is_full && !Defect::NoRetentionBound.is_planted()
    }

    /// Forgets the oldest message; false when there is none.
    #[inline]
    fn pop(&mut self) -> bool {
        let Some(oldest) = self.chunks.front_mut() else {
            return false;
        };
        self.bytes = self.bytes.wrapping_sub(oldest.forget_first());
        self.first = self.first.wrapping_add(1);
        if oldest.is_forgotten() {
            self.recycle();
        }
        true
    }

    fn begin_chunk(&mut self) {
        let mut chunk = core::mem::replace(&mut self.spare, Chunk::new());
        chunk.first = self.next;
        self.chunks.push_back(chunk);
    }

    /// Frees the first chunk, whose messages are all forgotten.
    fn recycle(&mut self) {
        // One that grew for a large message does not stay.
        if let Some(chunk) = self.chunks.pop_front()
            && chunk.bytes.len() <= CHUNK_BYTES
        {
            self.spare = chunk;
            self.spare.clear();
        }
    }
}

#[derive(Debug, Clone)]
struct Chunk {
    /// The number of its first message, retained or forgotten.
    first: u64,
    entries: Vec<Entry>,
    /// Messages that are forgotten, and their bytes.
    forgotten: usize,
    forgotten_bytes: usize,
    /// Bytes of all messages.
    used: usize,
    /// Those, and zeros.
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    at: Nanos,
    /// The number before it on its subject, 0 for none.
    prev: u64,
    /// Where its bytes end in the chunk; they begin where those of the message before end.
    end: u32,
    subject_len: u32,
    reply_len: u32,
    headers_len: u32,
}

impl Chunk {
    const fn new() -> Self {
        Self {
            first: 0,
            entries: Vec::new(),
            forgotten: 0,
            forgotten_bytes: 0,
            used: 0,
            bytes: Vec::new(),
        }
    }

    #[inline]
    const fn has_room(&self, len: usize) -> bool {
        self.used.saturating_add(len) <= CHUNK_BYTES && self.entries.len() < CHUNK_MESSAGES
    }

    /// Appends a message for which there is room, or the first.
    #[inline]
    fn push(&mut self, at: Nanos, message: &Outgoing<'_>, len: usize, prev: Option<u64>) {
        let (start, end) = (self.used, self.used.wrapping_add(len));
        if end > self.bytes.len() {
            self.grow(end);
        }
        let reply = message.reply.unwrap_or_default();
        let mut room = self.bytes.get_mut(start..end).unwrap_or_default();
        for part in [
            message.subject.as_bytes(),
            reply.as_bytes(),
            message.headers,
            message.payload,
        ] {
            if let Some((to, behind)) = core::mem::take(&mut room).split_at_mut_checked(part.len())
            {
                copy(to, part);
                room = behind;
            }
        }
        self.entries.push(Entry {
            at,
            prev: prev.unwrap_or(NO_NUMBER),
            end: narrow(end),
            subject_len: narrow(message.subject.len()),
            reply_len: narrow(reply.len()),
            headers_len: narrow(message.headers.len()),
        });
        self.used = end;
    }

    /// Makes a chunk of what was begun small: many sources send little.
    #[cold]
    fn grow(&mut self, needed: usize) {
        let usual = if self.bytes.is_empty() {
            CHUNK_BYTES_MIN
        } else {
            CHUNK_BYTES
        };
        let len = usual.max(needed);
        self.bytes
            .reserve_exact(len.saturating_sub(self.bytes.len()));
        self.bytes.resize(len, 0);
    }

    fn get(&self, seq: u64) -> Option<Retained> {
        let index = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        let entry = self.entries.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => self.entries.get(before)?.end,
            None => 0,
        };
        let mut rest = self.bytes.get(start as usize..entry.end as usize)?;
        let mut part = |len: u32| {
            let (part, after) = rest.split_at_checked(len as usize)?;
            rest = after;
            Some(part.to_vec())
        };
        Some(Retained {
            prev: Some(entry.prev).filter(|prev| *prev != NO_NUMBER),
            subject: part(entry.subject_len)?,
            reply: part(entry.reply_len)?,
            headers: part(entry.headers_len)?,
            payload: rest.to_vec(),
        })
    }

    /// When each retained message was kept, and its bytes; the oldest first.
    fn retained(&self) -> impl Iterator<Item = (Nanos, usize)> {
        let entries = self.entries.get(self.forgotten..).unwrap_or_default();
        entries.iter().scan(self.forgotten_bytes, |begin, entry| {
            let end = entry.end as usize;
            let len = end.saturating_sub(core::mem::replace(begin, end));
            Some((entry.at, len))
        })
    }

    /// Forgets the oldest retained message; returns its bytes.
    #[inline]
    fn forget_first(&mut self) -> usize {
        let end = self
            .entries
            .get(self.forgotten)
            .map_or(0, |entry| entry.end as usize);
        self.forgotten = self.forgotten.wrapping_add(1);
        end.wrapping_sub(core::mem::replace(&mut self.forgotten_bytes, end))
    }

    #[inline]
    const fn is_forgotten(&self) -> bool {
        self.forgotten >= self.entries.len()
    }

    fn clear(&mut self) {
        self.entries.clear();
        (self.forgotten, self.forgotten_bytes, self.used) = (0, 0, 0);
    }
}

/// A length or place in a chunk; none exceeds [`BYTES_MAX`].
#[inline]
fn narrow(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Copies between slices of one length; what is short is two pieces that may overlap, and no call.
#[inline]
fn copy(to: &mut [u8], from: &[u8]) {
    match from.len() {
        0 => {}
        8..16 => copy_ends::<8>(to, from),
        16..=32 => copy_ends::<16>(to, from),
        _ => to.copy_from_slice(from),
    }
}

#[inline]
fn copy_ends<const LEN: usize>(to: &mut [u8], from: &[u8]) {
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<LEN>(), from.first_chunk()) {
        *to = *from;
    }
    if let (Some(to), Some(from)) = (to.last_chunk_mut::<LEN>(), from.last_chunk()) {
        *to = *from;
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
            let held: usize = retention.chunks.iter().map(|chunk| chunk.used).sum();
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
