//! One complete operation as offsets into the bytes it came in.

use bytes::Bytes;

use super::headers::HeaderBlock;
use super::message::Message;
use super::ops::{ClientOp, MsgView, PubView, ServerOp};

/// Which operation a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the protocol is complete")]
pub enum OpKind {
    /// INFO, from the server; tolerated from a client.
    Info,
    /// CONNECT, from a client.
    Connect,
    /// PUB, from a client.
    Pub,
    /// HPUB, from a client.
    Hpub,
    /// SUB, from a client.
    Sub,
    /// UNSUB, from a client.
    Unsub,
    /// MSG, from the server.
    Msg,
    /// HMSG, from the server.
    Hmsg,
    /// PING.
    Ping,
    /// PONG.
    Pong,
    /// +OK.
    Ok,
    /// -ERR.
    Err,
}

impl OpKind {
    /// The operation's name as it is written: `MSG`, `+OK`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Connect => "CONNECT",
            Self::Pub => "PUB",
            Self::Hpub => "HPUB",
            Self::Sub => "SUB",
            Self::Unsub => "UNSUB",
            Self::Msg => "MSG",
            Self::Hmsg => "HMSG",
            Self::Ping => "PING",
            Self::Pong => "PONG",
            Self::Ok => "+OK",
            Self::Err => "-ERR",
        }
    }
}

/// A stretch of the frame; offsets fit because lines and payloads are bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    #[inline]
    pub(super) const fn is_empty(self) -> bool {
        self.start >= self.end
    }

    #[inline]
    pub(super) fn of(self, buffer: &[u8]) -> &[u8] {
        buffer.get(at(self.start)..at(self.end)).unwrap_or_default()
    }

    #[inline]
    fn of_optional(self, buffer: &[u8]) -> Option<&[u8]> {
        (!self.is_empty()).then(|| self.of(buffer))
    }
}

/// One complete operation: its kind, its length and where its parts lie.
///
/// It holds no bytes. Read it with the buffer that the parser saw; with any other bytes the parts
/// are whatever lies there, or empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Frame {
    pub(super) kind: OpKind,
    /// Bytes of the control line, its end included.
    pub(super) line_len: u32,
    pub(super) header_len: u32,
    /// Bytes of headers and payload.
    pub(super) body_len: u32,
    pub(super) has_body: bool,
    pub(super) parts: Parts,
}

/// Where the arguments lie; which are used depends on the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Parts {
    /// The subject, or the text of INFO, CONNECT and -ERR.
    pub(super) subject: Span,
    /// The reply subject, or SUB's queue group.
    pub(super) reply: Span,
    pub(super) sid: Span,
    /// The header length's digits.
    pub(super) header_digits: Span,
    /// The total length's digits, or UNSUB's maximum.
    pub(super) size_digits: Span,
}

impl Frame {
    /// Bytes of the whole frame.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        let line = at(self.line_len);
        if self.has_body {
            line.saturating_add(at(self.body_len)).saturating_add(2)
        } else {
            line
        }
    }

    /// Always false: a frame has at least its line end.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Which operation it is.
    #[inline]
    #[must_use]
    pub const fn kind(&self) -> OpKind {
        self.kind
    }

    /// Bytes of the control line, its end included.
    #[inline]
    #[must_use]
    pub const fn line_len(&self) -> usize {
        at(self.line_len)
    }

    /// Bytes of the header block; 0 without one.
    #[inline]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        at(self.header_len)
    }

    /// Bytes of the payload, headers not counted.
    #[inline]
    #[must_use]
    pub const fn payload_len(&self) -> usize {
        at(self.body_len.saturating_sub(self.header_len))
    }

    /// The sid of MSG and HMSG as a number; `None` when it is not 1 to 19 digits.
    #[inline]
    #[must_use]
    pub fn sid_number(&self, buffer: &[u8]) -> Option<u64> {
        crate::decimal::read(self.parts.sid.of(buffer))
    }

    /// Reads the frame as something that a server said.
    ///
    /// A frame of [`Parser::of_client`](super::Parser::of_client) that no server can say reads as
    /// [`ServerOp::Ok`], which means nothing.
    #[inline]
    #[must_use]
    pub fn server_op<'a>(&self, buffer: &'a [u8]) -> ServerOp<'a> {
        let text = self.parts.subject.of(buffer);
        match self.kind {
            OpKind::Msg | OpKind::Hmsg => ServerOp::Msg(self.msg_view(buffer)),
            OpKind::Ping => ServerOp::Ping,
            OpKind::Pong => ServerOp::Pong,
            OpKind::Info => ServerOp::Info { json: text },
            OpKind::Err => ServerOp::Err {
                text: unquoted(text),
            },
            OpKind::Ok
            | OpKind::Connect
            | OpKind::Pub
            | OpKind::Hpub
            | OpKind::Sub
            | OpKind::Unsub => ServerOp::Ok,
        }
    }

    /// Reads the frame as something that a client said.
    ///
    /// A frame of [`Parser::of_server`](super::Parser::of_server) that no client can say reads as
    /// [`ClientOp::Ok`], which servers ignore.
    #[inline]
    #[must_use]
    pub fn client_op<'a>(&self, buffer: &'a [u8]) -> ClientOp<'a> {
        let parts = &self.parts;
        let text = parts.subject.of(buffer);
        match self.kind {
            OpKind::Pub | OpKind::Hpub => {
                let (headers, payload) = self.body(buffer);
                ClientOp::Pub(PubView {
                    subject: text,
                    reply: parts.reply.of_optional(buffer),
                    headers,
                    payload,
                    header_digits: parts.header_digits.of(buffer),
                    total_digits: parts.size_digits.of(buffer),
                })
            }
            OpKind::Sub => ClientOp::Sub {
                subject: text,
                queue_group: parts.reply.of_optional(buffer),
                sid: parts.sid.of(buffer),
            },
            OpKind::Unsub => ClientOp::Unsub {
                sid: parts.sid.of(buffer),
                max: parts.size_digits.of_optional(buffer),
            },
            OpKind::Connect => ClientOp::Connect { json: text },
            OpKind::Info => ClientOp::Info { json: text },
            OpKind::Ping => ClientOp::Ping,
            OpKind::Pong => ClientOp::Pong,
            OpKind::Err => ClientOp::Err {
                text: unquoted(text),
            },
            OpKind::Ok | OpKind::Msg | OpKind::Hmsg => ClientOp::Ok,
        }
    }

    /// Makes a message that owns `frame`, which must be exactly this frame's bytes.
    #[inline]
    #[must_use]
    pub const fn message(&self, frame: Bytes) -> Message {
        Message::new(frame, *self)
    }

    #[inline]
    pub(super) fn msg_view<'a>(&self, buffer: &'a [u8]) -> MsgView<'a> {
        let (headers, payload) = self.body(buffer);
        MsgView {
            subject: self.parts.subject.of(buffer),
            sid: self.parts.sid.of(buffer),
            reply: self.parts.reply.of_optional(buffer),
            headers,
            payload,
        }
    }

    #[inline]
    pub(super) fn header_block<'a>(&self, buffer: &'a [u8]) -> Option<HeaderBlock<'a>> {
        if self.header_len == 0 {
            return None;
        }
        let end = self.line_len.saturating_add(self.header_len);
        Some(HeaderBlock::new(
            Span {
                start: self.line_len,
                end,
            }
            .of(buffer),
        ))
    }

    #[inline]
    pub(super) const fn payload_span(&self) -> Span {
        Span {
            start: self.line_len.saturating_add(self.header_len),
            end: self.line_len.saturating_add(self.body_len),
        }
    }

    #[inline]
    fn body<'a>(&self, buffer: &'a [u8]) -> (Option<HeaderBlock<'a>>, &'a [u8]) {
        (self.header_block(buffer), self.payload_span().of(buffer))
    }
}

/// Widens an offset.
#[inline]
pub(super) const fn at(offset: u32) -> usize {
    offset as usize
}

/// Takes one pair of quotes off; quotes inside stay.
fn unquoted(text: &[u8]) -> &[u8] {
    let inside = text
        .strip_prefix(b"'")
        .and_then(|text| text.strip_suffix(b"'"));
    inside.unwrap_or(text)
}
