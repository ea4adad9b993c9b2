//! What a server says, as bytes: for embedded servers, proxies and tests.

use super::decimal_of;

/// A word of a server's control line: any bytes but blank, tab and line feed, and not empty.
///
/// Wider than a [`Subject`](crate::subject::Subject), because servers repeat what clients wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token<'a>(&'a [u8]);

impl<'a> Token<'a> {
    /// Takes the bytes; `None` when they are empty or hold a blank, a tab or a line feed.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let is_word = !bytes.is_empty()
            && !bytes
                .iter()
                .any(|byte| matches!(byte, b' ' | b'\t' | b'\n'));
        is_word.then_some(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// A message to deliver: MSG, or HMSG when it has a header block.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::exhaustive_structs, reason = "the protocol is complete")]
pub struct Deliver<'a> {
    /// What it was published to.
    pub subject: Token<'a>,
    /// The subscription's name.
    pub sid: Token<'a>,
    /// Where an answer is expected.
    pub reply: Option<Token<'a>>,
    /// The header block, passed on unchecked.
    pub headers: Option<&'a [u8]>,
    /// The payload.
    pub payload: &'a [u8],
    /// The publisher's own digits for the header length and the total, which servers repeat; they
    /// must say the same as the lengths. `None` writes the lengths plainly.
    pub digits: Option<(Option<Token<'a>>, Token<'a>)>,
}

impl Deliver<'_> {
    /// Appends the frame.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.headers.is_some() {
            b"HMSG "
        } else {
            b"MSG "
        });
        for word in [Some(self.subject), Some(self.sid), self.reply]
            .into_iter()
            .flatten()
        {
            out.extend_from_slice(word.0);
            out.push(b' ');
        }
        let headers = self.headers.unwrap_or_default();
        if let Some((header_digits, total_digits)) = self.digits {
            if let Some(digits) = header_digits {
                out.extend_from_slice(digits.0);
                out.push(b' ');
            }
            out.extend_from_slice(total_digits.0);
        } else {
            if self.headers.is_some() {
                decimal_of(out, headers.len());
                out.push(b' ');
            }
            decimal_of(out, headers.len().saturating_add(self.payload.len()));
        }
        for piece in [b"\r\n", headers, self.payload, b"\r\n"] {
            out.extend_from_slice(piece);
        }
    }
}

/// Appends an INFO, with the blank before its line end that every server writes.
#[cfg(feature = "json")]
pub fn info(out: &mut Vec<u8>, info: &crate::wire::handshake::ServerInfo) {
    out.extend_from_slice(b"INFO ");
    out.extend_from_slice(&info.to_json());
    out.extend_from_slice(b" \r\n");
}

/// Appends a +OK.
pub fn ok(out: &mut Vec<u8>) {
    out.extend_from_slice(b"+OK\r\n");
}

/// Appends an -ERR; line ends in `text` become blanks.
pub fn err(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(b"-ERR '");
    out.extend(text.iter().map(|byte| {
        if matches!(byte, b'\r' | b'\n') {
            b' '
        } else {
            *byte
        }
    }));
    out.extend_from_slice(b"'\r\n");
}
