//! A delivered message that owns its bytes.

use core::fmt;
use core::str::Utf8Error;

use bytes::Bytes;

use super::frame::{Frame, at};
use super::headers::HeaderBlock;
use super::status::Status;

/// A message: one reference count on the bytes it arrived in, and where its parts lie.
///
/// It keeps the whole read buffer alive that it was cut from; [`Message::detached`] copies it out.
/// Subjects and headers are as a publisher wrote them: any bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    bytes: Bytes,
    frame: Frame,
}

impl Message {
    #[inline]
    pub(super) const fn new(bytes: Bytes, frame: Frame) -> Self {
        Self { bytes, frame }
    }

    /// What it was published to.
    #[inline]
    #[must_use]
    pub fn subject(&self) -> &[u8] {
        self.frame.parts.subject.of(&self.bytes)
    }

    /// The subject as text.
    ///
    /// # Errors
    ///
    /// [`Utf8Error`]: servers do not check what clients publish to.
    pub fn subject_str(&self) -> Result<&str, Utf8Error> {
        core::str::from_utf8(self.subject())
    }

    /// Where an answer is expected.
    #[inline]
    #[must_use]
    pub fn reply(&self) -> Option<&[u8]> {
        let reply = self.frame.parts.reply;
        (!reply.is_empty()).then(|| reply.of(&self.bytes))
    }

    /// The header block, unparsed; `None` for a message without headers.
    #[inline]
    #[must_use]
    pub fn headers(&self) -> Option<HeaderBlock<'_>> {
        self.frame.header_block(&self.bytes)
    }

    /// The payload.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.frame.payload_span().of(&self.bytes)
    }

    /// The payload with shared ownership; it keeps the read buffer alive.
    #[must_use]
    pub fn payload_bytes(&self) -> Bytes {
        self.bytes.slice_ref(self.payload())
    }

    /// The subscription, as the subscriber named it.
    #[must_use]
    pub fn sid(&self) -> &[u8] {
        self.frame.parts.sid.of(&self.bytes)
    }

    /// The sid as a number; `None` when it is not 1 to 19 digits.
    #[must_use]
    pub fn sid_number(&self) -> Option<u64> {
        self.frame.sid_number(&self.bytes)
    }

    /// The status line that a server (or an earlier publisher) wrote.
    ///
    /// `None` without one, for one that is malformed, and for a message from a stream: there the
    /// line was written by whoever published it and says nothing.
    #[must_use]
    pub fn status(&self) -> Option<Status<'_>> {
        let is_data = self
            .reply()
            .is_some_and(|reply| reply.starts_with(b"$JS.ACK."));
        if is_data {
            return None;
        }
        self.headers()?.status().ok().flatten()
    }

    /// Bytes of the whole frame, control line included.
    #[inline]
    #[must_use]
    pub const fn frame_len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of headers and payload.
    #[inline]
    #[must_use]
    pub const fn body_len(&self) -> usize {
        at(self.frame.body_len)
    }

    /// Copies the message into a buffer of its own, so that it no longer keeps its read buffer.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self {
            bytes: Bytes::copy_from_slice(&self.bytes),
            frame: self.frame,
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Message")
            .field("subject", &self.subject().escape_ascii().to_string())
            .field(
                "reply",
                &self.reply().map(|reply| reply.escape_ascii().to_string()),
            )
            .field("header_len", &self.frame.header_len())
            .field("payload_len", &self.frame.payload_len())
            .finish()
    }
}
