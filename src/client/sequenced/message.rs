//! A message of a sequenced subscription: as it was published, however it came.

use bytes::Bytes;

use crate::sequence::{Carried, REPLY_TO, SEQ_SUBJECT, Weight};
use crate::wire::{HeaderBlock, Message};

/// A message with the subject, reply subject and payload that its publisher gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequencedMessage {
    message: Message,
    /// Behind that the subject is a stamp.
    subject_len: usize,
    /// Before that the payload is a stamp or, in a repair, the headers.
    payload_at: usize,
    is_repair: bool,
}

/// Where the parts of a message lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    subject_len: usize,
    payload_at: usize,
}

impl Cut {
    /// Nothing was added to `message`.
    pub(super) fn none(message: &Message) -> Self {
        Self {
            subject_len: message.subject().len(),
            payload_at: 0,
        }
    }

    /// Takes what the carrier has found in `message`.
    pub(super) fn new(message: &Message, carried: &Carried<'_>) -> Self {
        let payload_len = message.payload().len();
        Self {
            subject_len: carried.subject.len(),
            payload_at: payload_len.saturating_sub(carried.payload.len()),
        }
    }
}

impl SequencedMessage {
    /// A message that came as it was published.
    pub(super) const fn published(message: Message, cut: Cut) -> Self {
        Self {
            message,
            subject_len: cut.subject_len,
            payload_at: cut.payload_at,
            is_repair: false,
        }
    }

    /// A repair; `block_len` bytes of headers stand in its payload.
    pub(super) const fn repaired(message: Message, block_len: usize) -> Self {
        Self {
            message,
            subject_len: 0,
            payload_at: block_len,
            is_repair: true,
        }
    }

    /// What it was published to.
    #[must_use]
    pub fn subject(&self) -> &[u8] {
        if self.is_repair {
            return self.header(SEQ_SUBJECT).unwrap_or_default();
        }
        let subject = self.message.subject();
        subject.get(..self.subject_len).unwrap_or(subject)
    }

    /// Where an answer is expected. Behind a repair the requester may have gone meanwhile.
    #[must_use]
    pub fn reply(&self) -> Option<&[u8]> {
        if self.is_repair {
            self.header(REPLY_TO)
        } else {
            self.message.reply()
        }
    }

    /// The header block, unparsed. Where headers carry the stamps it begins with the stamp; a
    /// repair always does, and has `Seq-Subject` and perhaps `Seq-Reply` behind it.
    #[must_use]
    pub fn headers(&self) -> Option<HeaderBlock<'_>> {
        if self.is_repair && self.payload_at > 0 {
            let block = self.message.payload().get(..self.payload_at);
            return block.map(HeaderBlock::new);
        }
        self.message.headers()
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        let payload = self.message.payload();
        payload.get(self.payload_at..).unwrap_or(payload)
    }

    /// The payload with shared ownership; it keeps the read buffer alive.
    #[must_use]
    pub fn payload_bytes(&self) -> Bytes {
        self.message.payload_bytes().slice_ref(self.payload())
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers()?.first(name)
    }
}

impl Weight for SequencedMessage {
    fn weight(&self) -> usize {
        self.message.frame_len()
    }

    fn subject(&self) -> &[u8] {
        self.subject()
    }
}
