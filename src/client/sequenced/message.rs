//! A message of a sequenced subscription: as it was published, also when it came as a repair.

use bytes::Bytes;

use crate::sequence::{REPLY_TO, SEQ_SUBJECT, Weight};
use crate::wire::{HeaderBlock, Message};

/// A message with the subject and reply subject that its publisher gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequencedMessage {
    message: Message,
    is_repair: bool,
}

impl SequencedMessage {
    pub(super) const fn new(message: Message, is_repair: bool) -> Self {
        Self { message, is_repair }
    }

    /// What it was published to.
    #[must_use]
    pub fn subject(&self) -> &[u8] {
        if self.is_repair {
            self.header(SEQ_SUBJECT).unwrap_or_default()
        } else {
            self.message.subject()
        }
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

    /// The header block, unparsed. It begins with the stamp; a repair has `Seq-Subject` and
    /// perhaps `Seq-Reply` behind it.
    #[must_use]
    pub fn headers(&self) -> Option<HeaderBlock<'_>> {
        self.message.headers()
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.message.payload()
    }

    /// The payload with shared ownership; it keeps the read buffer alive.
    #[must_use]
    pub fn payload_bytes(&self) -> Bytes {
        self.message.payload_bytes()
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.message.headers()?.first(name)
    }
}

impl Weight for SequencedMessage {
    fn weight(&self) -> usize {
        self.message.frame_len()
    }
}
