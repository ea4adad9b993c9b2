//! Published frames, one behind the other.
//!
//! Messages often have the same head as the one before: `PUB orders.eu 16`. It is copied then rather
//! than made.

use crate::wire::encode::Publish;

const WORD: &[u8] = b"PUB ";
const LINE_END: &[u8] = b"\r\n";

/// Longer heads are not remembered.
const HEAD_BYTES_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    last: Head,
}

/// The head of a message with neither reply subject nor headers, and what it was made of.
#[derive(Debug)]
struct Head {
    bytes: [u8; HEAD_BYTES_MAX],
    /// 0 while there is none.
    len: usize,
    subject_len: usize,
    payload_len: usize,
}

impl Frames {
    pub(super) const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            last: Head {
                bytes: [0; HEAD_BYTES_MAX],
                len: 0,
                subject_len: 0,
                payload_len: 0,
            },
        }
    }

    /// Appends a whole frame.
    #[inline]
    pub(super) fn push(&mut self, message: &Publish<'_>) {
        self.push_head(message);
        self.bytes.extend_from_slice(message.payload());
        self.end_frame();
    }

    /// Appends a control line and headers; the payload and [`Frames::end_frame`] must follow.
    #[inline]
    pub(super) fn push_head(&mut self, message: &Publish<'_>) {
        if !message.is_plain() {
            return message.write_head(&mut self.bytes);
        }
        let start = self.bytes.len();
        if self.last.is_of(message) {
            // A copy of known length takes less than one of the right length.
            self.bytes.extend_from_slice(&self.last.bytes);
            self.bytes.truncate(start.saturating_add(self.last.len));
            return;
        }
        message.write_head(&mut self.bytes);
        let head = self.bytes.get(start..).unwrap_or_default();
        self.last.remember(message, head);
    }

    #[inline]
    pub(super) fn end_frame(&mut self) {
        self.bytes.extend_from_slice(LINE_END);
    }

    /// Replaces the frames; returns those before.
    pub(super) const fn replace(&mut self, frames: Vec<u8>) -> Vec<u8> {
        std::mem::replace(&mut self.bytes, frames)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl Head {
    /// Whether a message without reply subject and headers has this head.
    #[inline]
    fn is_of(&self, message: &Publish<'_>) -> bool {
        let subject = message.subject().as_str().as_bytes();
        let place = WORD.len()..WORD.len().saturating_add(self.subject_len);
        self.len > 0
            && self.payload_len == message.payload().len()
            && self.bytes.get(place) == Some(subject)
    }

    fn remember(&mut self, message: &Publish<'_>, head: &[u8]) {
        self.len = 0;
        if let Some(place) = self.bytes.get_mut(..head.len()) {
            place.copy_from_slice(head);
            self.len = head.len();
            self.subject_len = message.subject().as_str().len();
            self.payload_len = message.payload().len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::SubjectRef;
    use crate::wire::HeaderLines;

    #[test]
    fn frames_are_those_that_the_encoder_writes() {
        let subject = |text| SubjectRef::new(text).unwrap();
        let (one, other) = (subject("a.b"), subject("a.c"));
        let lines = HeaderLines::new(b"A: b\r\n").unwrap();
        let mut kinds = Vec::new();
        let long = "x".repeat(HEAD_BYTES_MAX);
        for name in [one, other, subject("a"), subject("a.b.c"), subject(&long)] {
            for payload in [&b""[..], b"x", b"y", b"0123456789"] {
                let plain = Publish::new(name, payload);
                kinds.extend([plain, plain.reply(one), plain.lines(lines)]);
            }
        }
        for first in &kinds {
            for second in &kinds {
                let mut frames = Frames::new();
                let mut written = Vec::new();
                for message in [first, first, second, first] {
                    frames.push(message);
                    message.write(&mut written);
                }
                assert_eq!(frames.as_bytes(), written, "{}", written.escape_ascii());
                assert_eq!(frames.replace(Vec::new()), written);
                frames.push(first);
                let mut written = Vec::new();
                first.write(&mut written);
                assert_eq!(frames.as_bytes(), written, "{}", written.escape_ascii());
            }
        }
    }
}
