//! Messages one after another: their bytes, and where each ends.

use super::nanos::Nanos;
use super::sender::Outgoing;
use super::short;

/// Bytes of a chunk, unless one message is larger.
pub(super) const CHUNK_BYTES: usize = 64 << 10;
/// Bytes of one that begins.
const CHUNK_BYTES_MIN: usize = 1 << 10;
/// Messages of a chunk.
const CHUNK_MESSAGES: usize = 2_048;
/// Places in a chunk have 32 bits.
pub(super) const BYTES_MAX: usize = u32::MAX as usize;
/// No number.
const NO_NUMBER: u64 = u64::MAX;

#[derive(Debug, Clone, Default)]
pub(super) struct Chunk {
    /// The number of its first message, retained or forgotten.
    pub(super) first: u64,
    entries: Vec<Entry>,
    /// Messages that are forgotten, and their bytes.
    forgotten: usize,
    forgotten_bytes: usize,
    /// Bytes of all messages.
    pub(super) used: usize,
    /// Those, and zeros.
    pub(super) bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    at: Nanos,
    /// The number before it on its subject: 0 for the first, [`NO_NUMBER`] where none is told.
    prev: u64,
    /// Where its bytes end in the chunk; they begin where those of the message before end.
    end: u32,
    subject_len: u32,
    reply_len: u32,
    headers_len: u32,
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

// Places and counts are below [`BYTES_MAX`], so nothing that is added overflows.
impl Chunk {
    /// The same, of which all is free again; `first` is the number to come.
    pub(super) fn emptied(mut self, first: u64) -> Self {
        // What grew for a large message does not stay.
        if self.bytes.len() > CHUNK_BYTES {
            self.bytes = Vec::new();
        }
        self.entries.clear();
        Self {
            first,
            entries: self.entries,
            bytes: self.bytes,
            ..Self::default()
        }
    }

    #[inline]
    pub(super) const fn has_room(&self, len: usize) -> bool {
        self.used.wrapping_add(len) <= CHUNK_BYTES && self.entries.len() < CHUNK_MESSAGES
    }

    /// Appends a message for which there is room, or the first.
    #[inline]
    pub(super) fn push(
        &mut self,
        at: Nanos,
        message: &Outgoing<'_>,
        len: usize,
        prev: Option<u64>,
    ) {
        let end = self.used.wrapping_add(len);
        if end > self.bytes.len() {
            self.grow(end);
        }
        let subject = message.subject.as_bytes();
        let reply = message.reply.unwrap_or_default().as_bytes();
        let mut room = self.bytes.get_mut(self.used..).unwrap_or_default();
        room = put(room, subject);
        if !reply.is_empty() || !message.headers.is_empty() {
            room = put(room, reply);
            room = put(room, message.headers);
        }
        put(room, message.payload);
        self.entries.push(Entry {
            at,
            prev: prev.unwrap_or(NO_NUMBER),
            end: narrow(end),
            subject_len: narrow(subject.len()),
            reply_len: narrow(reply.len()),
            headers_len: narrow(message.headers.len()),
        });
        self.used = end;
    }

    /// Many sources send little, so a chunk begins small.
    #[cold]
    fn grow(&mut self, needed: usize) {
        let usual = self.bytes.len().saturating_mul(4);
        let len = usual.clamp(CHUNK_BYTES_MIN, CHUNK_BYTES).max(needed);
        self.bytes
            .reserve_exact(len.saturating_sub(self.bytes.len()));
        self.bytes.resize(len, 0);
    }

    pub(super) fn get(&self, seq: u64) -> Option<Retained> {
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
    pub(super) fn retained(&self) -> impl Iterator<Item = (Nanos, usize)> {
        let entries = self.entries.get(self.forgotten..).unwrap_or_default();
        entries.iter().scan(self.forgotten_bytes, |begin, entry| {
            let end = entry.end as usize;
            let len = end.saturating_sub(core::mem::replace(begin, end));
            Some((entry.at, len))
        })
    }

    /// Forgets the oldest retained message; returns its bytes.
    #[inline]
    pub(super) fn forget_first(&mut self) -> usize {
        let end = self
            .entries
            .get(self.forgotten)
            .map_or(0, |entry| entry.end as usize);
        self.forgotten = self.forgotten.wrapping_add(1);
        end.wrapping_sub(core::mem::replace(&mut self.forgotten_bytes, end))
    }

    /// Whether it has no message, not even a forgotten one.
    pub(super) const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[inline]
    pub(super) const fn is_forgotten(&self) -> bool {
        self.forgotten >= self.entries.len()
    }
}

/// A length or place in a chunk; none exceeds [`BYTES_MAX`].
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "it is at most `BYTES_MAX`")]
const fn narrow(len: usize) -> u32 {
    len as u32
}

/// Copies the part to where there is room for it; returns the room behind it.
#[inline]
fn put<'a>(room: &'a mut [u8], part: &[u8]) -> &'a mut [u8] {
    let Some((to, behind)) = room.split_at_mut_checked(part.len()) else {
        return &mut [];
    };
    short::copy(to, part);
    behind
}
