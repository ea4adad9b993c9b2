//! What a sender keeps for repairs: the newest messages, in one ring of bytes.

use core::time::Duration;
use std::collections::VecDeque;

use super::error::SendError;
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

#[derive(Debug, Clone)]
pub(super) struct Retention {
    limits: RetentionLimits,
    overflow: RetentionOverflow,
    bytes: VecDeque<u8>,
    entries: VecDeque<Entry>,
    /// The number of the first entry.
    first: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    at: Duration,
    /// Where it begins, counted from the beginning of the run.
    start: u64,
    /// The number before it on its subject, 0 for none.
    prev: Option<u64>,
    subject_len: u32,
    reply_len: u32,
    headers_len: u32,
    payload_len: u32,
}

impl Entry {
    fn len(&self) -> usize {
        let parts = [
            self.subject_len,
            self.reply_len,
            self.headers_len,
            self.payload_len,
        ];
        parts
            .iter()
            .fold(0, |sum, part| sum.saturating_add(*part as usize))
    }
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
            bytes: VecDeque::new(),
            entries: VecDeque::new(),
            first: 1,
        }
    }

    /// The oldest retained number; one past the newest when there is none.
    pub(super) const fn trail(&self) -> u64 {
        self.first
    }

    /// Fails when the message may not be retained now. Changes nothing.
    pub(super) fn check(&self, now: Duration, message: &Outgoing<'_>) -> Result<(), SendError> {
        if self.overflow == RetentionOverflow::Evict {
            return Ok(());
        }
        let (found, max) = (message.len(), self.limits.bytes_max);
        if found > max {
            return Err(SendError::TooLargeToRetain { found, max });
        }
        let mut messages = self.entries.len();
        let mut bytes = self.bytes.len();
        for entry in &self.entries {
            if messages < self.limits.messages_max && bytes.saturating_add(found) <= max {
                return Ok(());
            }
            let free_at = entry.at.saturating_add(self.limits.age_max);
            if free_at > now {
                return Err(SendError::RetentionFull { free_at });
            }
            messages = messages.saturating_sub(1);
            bytes = bytes.saturating_sub(entry.len());
        }
        Ok(())
    }

    /// Keeps the message with the next number, forgetting what the bounds require.
    pub(super) fn push(&mut self, now: Duration, message: &Outgoing<'_>, prev: Option<u64>) {
        self.expire(now);
        let bytes_max = self.limits.bytes_max;
        while self.entries.len() >= self.limits.messages_max.max(1)
            || self.bytes.len().saturating_add(message.len()) > bytes_max
        {
            if !self.pop() {
                break;
            }
        }
        if message.len() > bytes_max || self.limits.messages_max == 0 {
            // It cannot be kept at all: nothing up to it is retained.
            self.first = self.first.saturating_add(1);
            return;
        }
        let start = match self.entries.back() {
            Some(last) => last.start.saturating_add(last.len() as u64),
            None => 0,
        };
        let len = |part: &[u8]| u32::try_from(part.len()).unwrap_or(u32::MAX);
        let reply = message.reply.unwrap_or_default();
        self.entries.push_back(Entry {
            at: now,
            start,
            prev,
            subject_len: len(message.subject.as_bytes()),
            reply_len: len(reply.as_bytes()),
            headers_len: len(message.headers),
            payload_len: len(message.payload),
        });
        for part in [
            message.subject.as_bytes(),
            reply.as_bytes(),
            message.headers,
            message.payload,
        ] {
            self.bytes.extend(part);
        }
    }

    /// Copies the message with this number; `None` when it is not retained.
    pub(super) fn get(&self, seq: u64) -> Option<Retained> {
        let index = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        let entry = self.entries.get(index)?;
        let base = self.entries.front()?.start;
        let mut at = usize::try_from(entry.start.saturating_sub(base)).ok()?;
        let mut part = |len: u32| {
            let from = at;
            at = at.saturating_add(len as usize);
            self.copy(from, at)
        };
        Some(Retained {
            prev: entry.prev,
            subject: part(entry.subject_len),
            reply: part(entry.reply_len),
            headers: part(entry.headers_len),
            payload: part(entry.payload_len),
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets the oldest until so many bytes are free.
    pub(super) fn forget(&mut self, bytes: usize) {
        if self.overflow == RetentionOverflow::Refuse {
            return;
        }
        let left = self.bytes.len().saturating_sub(bytes);
        while self.bytes.len() > left && self.pop() {}
    }

    /// Forgets what is too old.
    pub(super) fn expire(&mut self, now: Duration) {
        if self.overflow == RetentionOverflow::Refuse {
            return;
        }
        while let Some(oldest) = self.entries.front() {
            if now.saturating_sub(oldest.at) <= self.limits.age_max {
                return;
            }
            self.pop();
        }
    }

    fn copy(&self, from: usize, to: usize) -> Vec<u8> {
        let (head, tail) = self.bytes.as_slices();
        let ends = |at: usize| (at.min(head.len()), at.saturating_sub(head.len()));
        let ((head_from, tail_from), (head_to, tail_to)) = (ends(from), ends(to));
        let mut copy = Vec::with_capacity(to.saturating_sub(from));
        copy.extend_from_slice(head.get(head_from..head_to).unwrap_or_default());
        copy.extend_from_slice(tail.get(tail_from..tail_to).unwrap_or_default());
        copy
    }

    fn pop(&mut self) -> bool {
        let Some(oldest) = self.entries.pop_front() else {
            return false;
        };
        self.bytes.drain(..oldest.len().min(self.bytes.len()));
        self.first = self.first.saturating_add(1);
        true
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
