//! Any operation back to bytes, for proxies, recorders and fuzzers.
//!
//! Views are open structs that hold whatever bytes they were given, so everything is checked here.

use core::fmt;

use crate::decimal;
use crate::wire::{ClientOp, HeaderBlock, MsgView, PubView, ServerOp};

/// What nine digits can say.
const BODY_BYTES_MAX: usize = 999_999_999;

/// Why an operation cannot be written. Nothing was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EncodeError {
    /// A subject, reply, queue group or sid is empty.
    EmptyWord,
    /// A subject, reply, queue group or sid holds this byte.
    Word {
        /// The byte.
        found: u8,
    },
    /// The argument of INFO or CONNECT is empty or begins or ends with a blank, or that of UNSUB
    /// is empty.
    Argument,
    /// The argument of INFO, CONNECT or -ERR holds this byte.
    Text {
        /// The byte: CR or LF.
        found: u8,
    },
    /// Headers and payload together are longer than a size can say.
    BodyTooLong {
        /// Bytes.
        found: usize,
        /// The bound in bytes.
        max: usize,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyWord => out.write_str("word of a control line is empty"),
            Self::Word { found } => write!(out, "word of a control line holds byte {found}"),
            Self::Argument => out.write_str("argument is empty or has blanks around it"),
            Self::Text { found } => write!(out, "argument holds byte {found}, a line end"),
            Self::BodyTooLong { found, max } => {
                write!(out, "body of {found} bytes exceeds {max} bytes")
            }
        }
    }
}

impl core::error::Error for EncodeError {}

impl ServerOp<'_> {
    /// Bytes that [`ServerOp::write`] appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let mut len = Length(0);
        self.put(&mut len);
        len.0
    }

    /// Appends the operation in its plainest form: upper case, single blanks, sizes without leading
    /// zeros. [`Parser::of_server`](crate::wire::Parser::of_server) reads it back.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] for what no reader would take for one operation. A CR inside a word is
    /// allowed: servers repeat it.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::Info { json } => check_argument(json)?,
            Self::Msg(message) => {
                // A line that has only begun does not end with a line feed.
                let behind = message.subject.strip_prefix(b"\n");
                if behind != Some(&[]) {
                    check_word(behind.or(Some(message.subject)), b" \t\n")?;
                }
                for word in [Some(message.sid), message.reply] {
                    check_word(word, b" \t\n")?;
                }
                check_body(body_len(
                    message.headers.map(HeaderBlock::raw),
                    message.payload,
                ))?;
            }
            Self::Err { text } => check_text(text)?,
            Self::Ping | Self::Pong | Self::Ok => {}
        }
        out.reserve(self.encoded_len());
        self.put(out);
        Ok(())
    }

    fn put(&self, out: &mut impl Sink) {
        match self {
            Self::Info { json } => out.put_all(&[b"INFO ", json, b" \r\n"]),
            Self::Msg(message) => put_msg(message, out),
            Self::Ping => out.put(b"PING\r\n"),
            Self::Pong => out.put(b"PONG\r\n"),
            Self::Ok => out.put(b"+OK\r\n"),
            Self::Err { text } => out.put_all(&[b"-ERR '", text, b"'\r\n"]),
        }
    }
}

impl ClientOp<'_> {
    /// Bytes that [`ClientOp::write`] appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let mut len = Length(0);
        self.put(&mut len);
        len.0
    }

    /// Appends the operation in its plainest form: upper case, single blanks, sizes without leading
    /// zeros. [`Parser::of_client`](crate::wire::Parser::of_client) reads it back.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] for what no server would take for one operation, and for words with CR or
    /// NUL, which servers would pass on.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let forbidden = b" \t\r\n\0";
        match self {
            Self::Connect { json } | Self::Info { json } => check_argument(json)?,
            Self::Pub(message) => {
                for word in [Some(message.subject), message.reply] {
                    check_word(word, forbidden)?;
                }
                check_body(body_len(
                    message.headers.map(HeaderBlock::raw),
                    message.payload,
                ))?;
            }
            Self::Sub {
                subject,
                queue_group,
                sid,
            } => {
                for word in [Some(*subject), *queue_group, Some(*sid)] {
                    check_word(word, forbidden)?;
                }
            }
            Self::Unsub { sid, max } => {
                for word in [Some(*sid), *max] {
                    check_word(word, forbidden)?;
                }
            }
            Self::Err { text } => check_text(text)?,
            Self::Ping | Self::Pong | Self::Ok => {}
        }
        out.reserve(self.encoded_len());
        self.put(out);
        Ok(())
    }

    fn put(&self, out: &mut impl Sink) {
        match self {
            Self::Connect { json } => out.put_all(&[b"CONNECT ", json, b"\r\n"]),
            Self::Pub(message) => put_pub(message, out),
            Self::Sub {
                subject,
                queue_group,
                sid,
            } => {
                out.put_all(&[b"SUB ", subject, b" "]);
                if let Some(group) = queue_group {
                    out.put_all(&[group, b" "]);
                }
                out.put_all(&[sid, b"\r\n"]);
            }
            Self::Unsub { sid, max } => {
                out.put_all(&[b"UNSUB ", sid]);
                if let Some(max) = max {
                    out.put_all(&[b" ", max]);
                }
                out.put(b"\r\n");
            }
            Self::Ping => out.put(b"PING\r\n"),
            Self::Pong => out.put(b"PONG\r\n"),
            Self::Ok => out.put(b"+OK\r\n"),
            Self::Info { json } => out.put_all(&[b"INFO ", json, b"\r\n"]),
            Self::Err { text } => out.put_all(&[b"-ERR '", text, b"'\r\n"]),
        }
    }
}

fn put_msg(message: &MsgView<'_>, out: &mut impl Sink) {
    let word: &[u8] = if message.headers.is_some() {
        b"HMSG "
    } else {
        b"MSG "
    };
    out.put_all(&[word, message.subject, b" ", message.sid, b" "]);
    let headers = message.headers.map(|block| block.raw());
    put_body(message.reply, headers, message.payload, out);
}

fn put_pub(message: &PubView<'_>, out: &mut impl Sink) {
    let has_header_size = message.headers.is_some() || !message.header_digits.is_empty();
    let word: &[u8] = if has_header_size { b"HPUB " } else { b"PUB " };
    out.put_all(&[word, message.subject, b" "]);
    let block = message.headers.map(|block| block.raw());
    let headers = has_header_size.then(|| block.unwrap_or_default());
    put_body(message.reply, headers, message.payload, out);
}

fn put_body(reply: Option<&[u8]>, headers: Option<&[u8]>, payload: &[u8], out: &mut impl Sink) {
    if let Some(reply) = reply {
        out.put_all(&[reply, b" "]);
    }
    if let Some(headers) = headers {
        out.put_number(headers.len());
        out.put(b" ");
    }
    out.put_number(body_len(headers, payload));
    out.put_all(&[b"\r\n", headers.unwrap_or_default(), payload, b"\r\n"]);
}

/// Where bytes go, or are only counted.
trait Sink {
    fn put(&mut self, bytes: &[u8]);
    fn put_number(&mut self, number: usize);

    fn put_all(&mut self, pieces: &[&[u8]]) {
        for piece in pieces {
            self.put(piece);
        }
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn put_number(&mut self, number: usize) {
        decimal::write(self, number as u64);
    }
}

struct Length(usize);

impl Sink for Length {
    fn put(&mut self, bytes: &[u8]) {
        self.0 = self.0.saturating_add(bytes.len());
    }

    fn put_number(&mut self, number: usize) {
        self.0 = self.0.saturating_add(super::digits(number));
    }
}

fn body_len(headers: Option<&[u8]>, payload: &[u8]) -> usize {
    headers
        .unwrap_or_default()
        .len()
        .saturating_add(payload.len())
}

fn check_word(word: Option<&[u8]>, forbidden: &[u8]) -> Result<(), EncodeError> {
    let Some(word) = word else {
        return Ok(());
    };
    if word.is_empty() {
        return Err(EncodeError::EmptyWord);
    }
    let found = word.iter().find(|byte| forbidden.contains(byte));
    found.map_or(Ok(()), |found| Err(EncodeError::Word { found: *found }))
}

fn check_argument(text: &[u8]) -> Result<(), EncodeError> {
    let is_blank = |byte: Option<&u8>| byte.is_none_or(|byte| matches!(byte, b' ' | b'\t'));
    if is_blank(text.first()) || is_blank(text.last()) {
        return Err(EncodeError::Argument);
    }
    check_text(text)
}

fn check_text(text: &[u8]) -> Result<(), EncodeError> {
    let found = text.iter().find(|byte| matches!(byte, b'\r' | b'\n'));
    found.map_or(Ok(()), |found| Err(EncodeError::Text { found: *found }))
}

const fn check_body(found: usize) -> Result<(), EncodeError> {
    if found > BODY_BYTES_MAX {
        let max = BODY_BYTES_MAX;
        return Err(EncodeError::BodyTooLong { found, max });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Limits, Parser, Step};

    const CLIENT: &[u8] = b"CONNECT {\"a\":1}\r\nPUB a 2\r\nhi\r\nPUB a r 0\r\n\r\n\
        HPUB a 0 1\r\nx\r\nHPUB a r 12 13\r\nNATS/1.0\r\n\r\nx\r\nSUB a.* 1\r\nSUB > q 2\r\n\
        UNSUB 1\r\nUNSUB 1 5\r\nPING\r\nPONG\r\n+OK\r\nINFO {}\r\n-ERR 'it's'\r\n";
    const SERVER: &[u8] = b"INFO {} \r\nMSG a 1 2\r\nhi\r\nMSG a\rb 1 r 0\r\n\r\n\
        HMSG a 1 12 13\r\nNATS/1.0\r\n\r\nx\r\nHMSG a 1 r 12 12\r\nNATS/1.0\r\n\r\n\r\n\
        PING\r\nPONG\r\n+OK\r\n-ERR ''\r\n";

    #[test]
    fn plain_operations_are_written_as_they_were_read() {
        let (mut written, mut rest) = (Vec::new(), CLIENT);
        let mut parser = Parser::of_client(Limits::CLIENT_OPS);
        while let Ok(Step::Frame(frame)) = parser.next(rest) {
            let op = frame.client_op(rest);
            assert_eq!(op.encoded_len(), frame.len(), "{op:?}");
            op.write(&mut written).unwrap();
            rest = &rest[frame.len()..];
        }
        assert_eq!(
            written.escape_ascii().to_string(),
            CLIENT.escape_ascii().to_string()
        );

        let (mut written, mut rest) = (Vec::new(), SERVER);
        let mut parser = Parser::of_server(Limits::SERVER_OPS);
        while let Ok(Step::Frame(frame)) = parser.next(rest) {
            let op = frame.server_op(rest);
            assert_eq!(op.encoded_len(), frame.len(), "{op:?}");
            op.write(&mut written).unwrap();
            rest = &rest[frame.len()..];
        }
        assert_eq!(
            written.escape_ascii().to_string(),
            SERVER.escape_ascii().to_string()
        );
    }

    #[test]
    fn a_view_cannot_smuggle_an_operation() {
        let evil = b"a\nPING".as_slice();
        let message = |subject, reply| PubView {
            subject,
            reply,
            headers: None,
            payload: b"",
            header_digits: b"",
            total_digits: b"",
        };
        let delivered = |subject, sid, reply| MsgView {
            subject,
            sid,
            reply,
            headers: Some(HeaderBlock::new(b"")),
            payload: b"",
        };
        let word = |found| Err(EncodeError::Word { found });
        let client = [
            (ClientOp::Pub(message(evil, None)), word(b'\n')),
            (ClientOp::Pub(message(b"a", Some(evil))), word(b'\n')),
            (ClientOp::Pub(message(b"a b", None)), word(b' ')),
            (ClientOp::Pub(message(b"a\t", None)), word(b'\t')),
            (ClientOp::Pub(message(b"a\r", None)), word(b'\r')),
            (ClientOp::Pub(message(b"\0", None)), word(0)),
            (
                ClientOp::Pub(message(b"", None)),
                Err(EncodeError::EmptyWord),
            ),
            (
                ClientOp::Unsub {
                    sid: evil,
                    max: None,
                },
                word(b'\n'),
            ),
            (
                ClientOp::Unsub {
                    sid: b"1",
                    max: Some(evil),
                },
                word(b'\n'),
            ),
            (
                ClientOp::Unsub {
                    sid: b"1",
                    max: Some(b""),
                },
                Err(EncodeError::EmptyWord),
            ),
            (sub(evil, None, b"1"), word(b'\n')),
            (sub(b"a", Some(evil), b"1"), word(b'\n')),
            (sub(b"a", None, evil), word(b'\n')),
            (
                ClientOp::Connect { json: evil },
                Err(EncodeError::Text { found: b'\n' }),
            ),
            (
                ClientOp::Info { json: b"{\r}" },
                Err(EncodeError::Text { found: b'\r' }),
            ),
            (ClientOp::Connect { json: b"" }, Err(EncodeError::Argument)),
            (
                ClientOp::Connect { json: b" {}" },
                Err(EncodeError::Argument),
            ),
            (
                ClientOp::Connect { json: b"{}\t" },
                Err(EncodeError::Argument),
            ),
            (
                ClientOp::Err { text: evil },
                Err(EncodeError::Text { found: b'\n' }),
            ),
        ];
        for (op, refused) in client {
            let mut out = Vec::new();
            assert_eq!((op.write(&mut out), out.len()), (refused, 0), "{op:?}");
        }
        let server = [
            (ServerOp::Msg(delivered(evil, b"1", None)), word(b'\n')),
            (ServerOp::Msg(delivered(b"\n\n", b"1", None)), word(b'\n')),
            (ServerOp::Msg(delivered(b"a", b"\n1", None)), word(b'\n')),
            (
                ServerOp::Msg(delivered(b"a", b"", None)),
                Err(EncodeError::EmptyWord),
            ),
            (
                ServerOp::Msg(delivered(b"a", b"1", Some(b"r x"))),
                word(b' '),
            ),
            (
                ServerOp::Info { json: evil },
                Err(EncodeError::Text { found: b'\n' }),
            ),
            (
                ServerOp::Err { text: evil },
                Err(EncodeError::Text { found: b'\n' }),
            ),
        ];
        for (op, refused) in server {
            let mut out = Vec::new();
            assert_eq!((op.write(&mut out), out.len()), (refused, 0), "{op:?}");
        }
    }

    #[test]
    fn a_body_that_no_size_can_say_is_refused() {
        let max = BODY_BYTES_MAX;
        assert_eq!(check_body(max), Ok(()));
        let found = max + 1;
        assert_eq!(
            check_body(found),
            Err(EncodeError::BodyTooLong { found, max })
        );
        let text = EncodeError::BodyTooLong { found, max }.to_string();
        assert_eq!(text, "body of 1000000000 bytes exceeds 999999999 bytes");
    }

    fn sub<'a>(subject: &'a [u8], group: Option<&'a [u8]>, sid: &'a [u8]) -> ClientOp<'a> {
        ClientOp::Sub {
            subject,
            queue_group: group,
            sid,
        }
    }

    #[test]
    fn a_refusal_names_the_byte() {
        let found = b'\n';
        let cases = [
            (EncodeError::EmptyWord, "word of a control line is empty"),
            (
                EncodeError::Word { found },
                "word of a control line holds byte 10",
            ),
            (
                EncodeError::Argument,
                "argument is empty or has blanks around it",
            ),
            (
                EncodeError::Text { found },
                "argument holds byte 10, a line end",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }
}
