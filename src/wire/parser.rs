//! Cuts a stream of bytes into frames, however the bytes arrive.
//!
//! ```text
//!   Word --> Blanks --> Line --> [Body] --> a frame, and Word again
//! ```
//!
//! The state is where the search stands; no byte is looked for twice. The same bytes give the same
//! frames and the same error in whatever pieces they come.

use memchr::memchr;

use super::error::FrameError;
use super::frame::{Frame, OpKind, Parts, Span, at};
use super::limits::Limits;

/// The most that offsets of 32 bits leave for a line; a payload's length has nine digits at most.
const LINE_BYTES_CEILING: usize = 1 << 30;

/// What [`Parser::next`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a frame is there or it is not")]
pub enum Step {
    /// A complete frame at the beginning of the buffer.
    Frame(Frame),
    /// The frame is not complete.
    More {
        /// Bytes that are missing at least; never 0, never more than are missing.
        bytes: usize,
    },
}

/// The incremental parser for one direction of a connection.
///
/// ```
/// use natseq::wire::{Limits, Parser, ServerOp, Step};
///
/// let bytes = b"MSG greet.joe 1 5\r\nhello\r\nPING\r\n";
/// let mut parser = Parser::of_server(Limits::SERVER_OPS);
/// let Step::Frame(frame) = parser.next(bytes)? else { panic!("the frame is complete") };
/// let ServerOp::Msg(message) = frame.server_op(bytes) else { panic!("it is a message") };
/// assert_eq!((message.subject, message.payload), (&b"greet.joe"[..], &b"hello"[..]));
///
/// let rest = &bytes[frame.len()..];
/// assert!(matches!(parser.next(rest)?, Step::Frame(_)));
/// # Ok::<(), natseq::wire::FrameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Parser {
    speaker: Speaker,
    limits: Limits,
    stage: Stage,
    /// Up to here the search of the current stage has been.
    scanned: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Speaker {
    Server,
    Client,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    /// The operation's name is not complete.
    Word,
    /// The blanks after the name are not over.
    Blanks(OpKind),
    /// The line's end is not there; the arguments begin at `args_at`.
    Line {
        kind: OpKind,
        args_at: usize,
    },
    /// The body is not complete.
    Body(Frame),
    Failed(FrameError),
}

/// Names in the order in which a reader meets them most.
const SERVER_WORDS: &[(&[u8], OpKind)] = &[
    (b"MSG", OpKind::Msg),
    (b"HMSG", OpKind::Hmsg),
    (b"PING", OpKind::Ping),
    (b"PONG", OpKind::Pong),
    (b"+OK", OpKind::Ok),
    (b"INFO", OpKind::Info),
    (b"-ERR", OpKind::Err),
];

const CLIENT_WORDS: &[(&[u8], OpKind)] = &[
    (b"PUB", OpKind::Pub),
    (b"HPUB", OpKind::Hpub),
    (b"PING", OpKind::Ping),
    (b"PONG", OpKind::Pong),
    (b"SUB", OpKind::Sub),
    (b"UNSUB", OpKind::Unsub),
    (b"CONNECT", OpKind::Connect),
    (b"+OK", OpKind::Ok),
    (b"-ERR", OpKind::Err),
    (b"INFO", OpKind::Info),
];

impl Parser {
    /// Reads what a server says: the client's role.
    #[must_use]
    pub const fn of_server(limits: Limits) -> Self {
        Self {
            speaker: Speaker::Server,
            limits,
            stage: Stage::Word,
            scanned: 0,
        }
    }

    /// Reads what a client says: the server's role, with a server's verdicts.
    #[must_use]
    pub const fn of_client(limits: Limits) -> Self {
        Self {
            speaker: Speaker::Client,
            limits,
            stage: Stage::Word,
            scanned: 0,
        }
    }

    /// Looks for one frame at the beginning of `buffer`.
    ///
    /// After [`Step::More`] come back with the same bytes and more behind them; after
    /// [`Step::Frame`] with what follows its [`Frame::len`] bytes.
    ///
    /// # Errors
    ///
    /// [`FrameError`]: the stream is lost, and every later call repeats the error.
    #[inline]
    pub fn next(&mut self, buffer: &[u8]) -> Result<Step, FrameError> {
        if self.stage == Stage::Word
            && let Some(frame) = self.whole_message(buffer)
        {
            return Ok(Step::Frame(frame));
        }
        let step = self.advance(buffer);
        if let Err(error) = step {
            self.stage = Stage::Failed(error);
        }
        step
    }

    /// The limits in force.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Replaces the limits, from the next control line on.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    #[inline]
    fn advance(&mut self, buffer: &[u8]) -> Result<Step, FrameError> {
        loop {
            match self.stage {
                Stage::Word => match self.find_word(buffer)? {
                    Some((kind, len)) => {
                        self.scanned = len;
                        self.stage = Stage::Blanks(kind);
                    }
                    None => return Ok(Step::More { bytes: 1 }),
                },
                Stage::Blanks(kind) => match self.skip_blanks(kind, buffer)? {
                    Some(args_at) => self.stage = Stage::Line { kind, args_at },
                    None => return Ok(Step::More { bytes: 1 }),
                },
                Stage::Line { kind, args_at } => {
                    let Some(frame) = self.read_line(kind, args_at, buffer)? else {
                        return Ok(Step::More { bytes: 1 });
                    };
                    if !frame.has_body {
                        return Ok(self.complete(frame));
                    }
                    self.stage = Stage::Body(frame);
                }
                Stage::Body(frame) => return self.read_body(frame, buffer),
                Stage::Failed(error) => return Err(error),
            }
        }
    }

    /// The hot path: a plain message that is there as a whole. Anything else is left to the stages,
    /// which give the same frame and tell errors.
    #[inline]
    fn whole_message(&self, buffer: &[u8]) -> Option<Frame> {
        let (kind, args_at) = match (self.speaker, buffer.first_chunk()?) {
            (Speaker::Server, b"MSG ") => (OpKind::Msg, 4),
            (Speaker::Server, b"HMSG") if buffer.get(4) == Some(&b' ') => (OpKind::Hmsg, 5),
            (Speaker::Client, b"PUB ") => (OpKind::Pub, 4),
            (Speaker::Client, b"HPUB") if buffer.get(4) == Some(&b' ') => (OpKind::Hpub, 5),
            _ => return None,
        };
        let args = buffer.get(args_at..)?;
        let line_end = memchr(b'\n', args)?;
        let args = args.get(..line_end)?.strip_suffix(b"\r")?;
        if args.len() > self.limits.line_bytes_max
            || args.first().is_none_or(|byte| is_blank(*byte))
        {
            return None;
        }
        let len = offset(args_at.checked_add(line_end)?.checked_add(1)?);
        let frame = Line {
            args,
            args_at: offset(args_at),
            len,
        }
        .read(kind)
        .ok()?;
        if at(frame.body_len) > self.limits.payload_bytes_max {
            return None;
        }
        let end = frame.len();
        (buffer.get(end.checked_sub(2)?..end)? == b"\r\n").then_some(frame)
    }

    const fn complete(&mut self, frame: Frame) -> Step {
        self.stage = Stage::Word;
        self.scanned = 0;
        Step::Frame(frame)
    }

    fn find_word(&self, buffer: &[u8]) -> Result<Option<(OpKind, usize)>, FrameError> {
        let words = match self.speaker {
            Speaker::Server => SERVER_WORDS,
            Speaker::Client => CLIENT_WORDS,
        };
        let mut is_begun = false;
        for (word, kind) in words {
            match buffer.split_at_checked(word.len()) {
                Some((start, _)) if start.eq_ignore_ascii_case(word) => {
                    return Ok(Some((*kind, word.len())));
                }
                Some(_) => {}
                None => {
                    let start = word.get(..buffer.len()).unwrap_or_default();
                    is_begun |= buffer.eq_ignore_ascii_case(start);
                }
            }
        }
        if is_begun {
            Ok(None)
        } else {
            Err(FrameError::UnknownOp)
        }
    }

    /// Returns where the arguments begin.
    fn skip_blanks(&mut self, kind: OpKind, buffer: &[u8]) -> Result<Option<usize>, FrameError> {
        if matches!(kind, OpKind::Ping | OpKind::Pong | OpKind::Ok) {
            return Ok(Some(self.scanned));
        }
        let word_len = word_len(kind);
        let unseen = buffer.get(self.scanned..).unwrap_or_default();
        let blanks = unseen.iter().take_while(|byte| is_blank(**byte)).count();
        self.scanned = self.scanned.saturating_add(blanks);
        // Blanks do not count as arguments, but somebody has to hold them.
        let max = self.limits.line_bytes_max;
        if self.scanned.saturating_sub(word_len) > max {
            return Err(FrameError::LineTooLong { max });
        }
        let Some(byte) = buffer.get(self.scanned) else {
            return Ok(None);
        };
        if self.scanned == word_len && !self.needs_no_blank(kind, *byte) {
            return Err(FrameError::UnknownOp);
        }
        Ok(Some(self.scanned))
    }

    /// Whether `byte` may follow the operation's name directly.
    fn needs_no_blank(&self, kind: OpKind, byte: u8) -> bool {
        match (kind, self.speaker) {
            (OpKind::Info | OpKind::Connect, _) => true,
            (OpKind::Err, Speaker::Server) => matches!(byte, b'\r' | b'\n'),
            _ => false,
        }
    }

    fn read_line(
        &mut self,
        kind: OpKind,
        args_at: usize,
        buffer: &[u8],
    ) -> Result<Option<Frame>, FrameError> {
        let unseen = buffer.get(self.scanned..).unwrap_or_default();
        let line_end = memchr(b'\n', unseen).map(|found| self.scanned.saturating_add(found));
        self.scanned = buffer.len();
        let args = buffer
            .get(args_at..line_end.unwrap_or(buffer.len()))
            .unwrap_or_default();
        let args = args.strip_suffix(b"\r").unwrap_or(args);
        let is_ignored = matches!(kind, OpKind::Ping | OpKind::Pong | OpKind::Ok);
        let bytes_max = if is_ignored {
            self.limits.payload_bytes_max
        } else {
            self.limits.line_bytes_max
        };
        let bytes_max = bytes_max.min(LINE_BYTES_CEILING);
        if args.len() > bytes_max {
            return Err(FrameError::LineTooLong { max: bytes_max });
        }
        let Some(line_end) = line_end else {
            return Ok(None);
        };
        let line = Line {
            args,
            args_at: offset(args_at),
            len: offset(line_end).saturating_add(1),
        };
        let frame = if is_ignored {
            line.frame(kind, Parts::default())
        } else {
            line.read(kind)?
        };
        let (found, max) = (at(frame.body_len), self.limits.payload_bytes_max);
        if found > max {
            return Err(FrameError::PayloadTooLong { found, max });
        }
        Ok(Some(frame))
    }

    fn read_body(&mut self, frame: Frame, buffer: &[u8]) -> Result<Step, FrameError> {
        let end = frame.len();
        let body_end = end.saturating_sub(2);
        match buffer.get(body_end..end) {
            Some(b"\r\n") => Ok(self.complete(frame)),
            Some(_) => Err(FrameError::PayloadTerminator),
            // A server does not wait for the second byte when the first is wrong.
            None if buffer.get(body_end).is_some_and(|byte| *byte != b'\r') => {
                Err(FrameError::PayloadTerminator)
            }
            None => Ok(Step::More {
                bytes: end.saturating_sub(buffer.len()),
            }),
        }
    }
}

const fn word_len(kind: OpKind) -> usize {
    match kind {
        OpKind::Pub | OpKind::Sub | OpKind::Msg | OpKind::Ok => 3,
        OpKind::Hpub | OpKind::Hmsg | OpKind::Ping | OpKind::Pong | OpKind::Info | OpKind::Err => 4,
        OpKind::Unsub => 5,
        OpKind::Connect => 7,
    }
}

/// A complete control line.
struct Line<'a> {
    args: &'a [u8],
    args_at: u32,
    len: u32,
}

/// HMSG has the most arguments.
const ARGUMENTS_MAX: usize = 5;

impl Line<'_> {
    const fn frame(&self, kind: OpKind, parts: Parts) -> Frame {
        Frame {
            kind,
            line_len: self.len,
            header_len: 0,
            body_len: 0,
            has_body: false,
            parts,
        }
    }

    fn read(&self, kind: OpKind) -> Result<Frame, FrameError> {
        match kind {
            OpKind::Msg => self.read_msg(),
            OpKind::Hmsg => self.read_hmsg(),
            OpKind::Pub => self.read_pub(),
            OpKind::Hpub => self.read_hpub(),
            OpKind::Sub => self.read_sub(),
            OpKind::Unsub => self.read_unsub(),
            OpKind::Info
            | OpKind::Connect
            | OpKind::Err
            | OpKind::Ping
            | OpKind::Pong
            | OpKind::Ok => Ok(self.read_text(kind)),
        }
    }

    fn read_msg(&self) -> Result<Frame, FrameError> {
        let none = Span::default();
        let (subject, sid, reply, size) = match self.split(is_blank)? {
            ([subject, sid, size, ..], 3) => (subject, sid, none, size),
            ([subject, sid, reply, size, ..], 4) => (subject, sid, reply, size),
            _ => return Err(FrameError::ArgumentCount),
        };
        let parts = Parts {
            subject,
            reply,
            sid,
            header_digits: none,
            size_digits: size,
        };
        self.with_body(OpKind::Msg, parts)
    }

    fn read_hmsg(&self) -> Result<Frame, FrameError> {
        let (subject, sid, reply, header, size) = match self.split(is_blank)? {
            ([subject, sid, header, size, _], 4) => (subject, sid, Span::default(), header, size),
            ([subject, sid, reply, header, size], 5) => (subject, sid, reply, header, size),
            _ => return Err(FrameError::ArgumentCount),
        };
        let parts = Parts {
            subject,
            reply,
            sid,
            header_digits: header,
            size_digits: size,
        };
        self.with_body(OpKind::Hmsg, parts)
    }

    fn read_pub(&self) -> Result<Frame, FrameError> {
        let none = Span::default();
        let (subject, reply, size) = match self.split(is_blank)? {
            ([subject, size, ..], 2) => (subject, none, size),
            ([subject, reply, size, ..], 3) => (subject, reply, size),
            _ => return Err(FrameError::ArgumentCount),
        };
        let parts = Parts {
            subject,
            reply,
            sid: none,
            header_digits: none,
            size_digits: size,
        };
        self.with_body(OpKind::Pub, parts)
    }

    fn read_hpub(&self) -> Result<Frame, FrameError> {
        let none = Span::default();
        let (subject, reply, header, size) = match self.split(is_blank)? {
            ([subject, header, size, ..], 3) => (subject, none, header, size),
            ([subject, reply, header, size, _], 4) => (subject, reply, header, size),
            _ => return Err(FrameError::ArgumentCount),
        };
        let parts = Parts {
            subject,
            reply,
            sid: none,
            header_digits: header,
            size_digits: size,
        };
        self.with_body(OpKind::Hpub, parts)
    }

    fn read_sub(&self) -> Result<Frame, FrameError> {
        let (subject, reply, sid) = match self.split(is_blank_or_cr)? {
            ([subject, sid, ..], 2) => (subject, Span::default(), sid),
            ([subject, queue_group, sid, ..], 3) => (subject, queue_group, sid),
            _ => return Err(FrameError::ArgumentCount),
        };
        Ok(self.frame(
            OpKind::Sub,
            Parts {
                subject,
                reply,
                sid,
                ..Parts::default()
            },
        ))
    }

    fn read_unsub(&self) -> Result<Frame, FrameError> {
        let (sid, size_digits) = match self.split(is_blank_or_cr)? {
            ([sid, ..], 1) => (sid, Span::default()),
            ([sid, max, ..], 2) => (sid, max),
            _ => return Err(FrameError::ArgumentCount),
        };
        Ok(self.frame(
            OpKind::Unsub,
            Parts {
                sid,
                size_digits,
                ..Parts::default()
            },
        ))
    }

    /// INFO, CONNECT and -ERR have one argument, which may hold blanks.
    fn read_text(&self, kind: OpKind) -> Frame {
        let blanks = self
            .args
            .iter()
            .rev()
            .take_while(|byte| is_blank(**byte))
            .count();
        let len = self.args.len().saturating_sub(blanks);
        let end = self.args_at.saturating_add(offset(len));
        let subject = Span {
            start: self.args_at,
            end,
        };
        self.frame(
            kind,
            Parts {
                subject,
                ..Parts::default()
            },
        )
    }

    fn with_body(&self, kind: OpKind, parts: Parts) -> Result<Frame, FrameError> {
        let header_len = if matches!(kind, OpKind::Hmsg | OpKind::Hpub) {
            self.size(parts.header_digits)?
        } else {
            0
        };
        let body_len = self.size(parts.size_digits)?;
        if header_len > body_len {
            return Err(FrameError::HeaderLargerThanTotal);
        }
        Ok(Frame {
            header_len,
            body_len,
            has_body: true,
            ..self.frame(kind, parts)
        })
    }

    /// Reads one to nine digits.
    fn size(&self, digits: Span) -> Result<u32, FrameError> {
        let start = at(digits.start.saturating_sub(self.args_at));
        let end = at(digits.end.saturating_sub(self.args_at));
        let digits = self.args.get(start..end).unwrap_or_default();
        if digits.is_empty() || digits.len() > 9 {
            return Err(FrameError::BadSize);
        }
        let mut size = 0_u32;
        for byte in digits {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return Err(FrameError::BadSize);
            }
            // Nine digits stay below 2^30.
            size = size.wrapping_mul(10).wrapping_add(u32::from(digit));
        }
        Ok(size)
    }

    /// Cuts the arguments at runs of separators; returns them and how many there are.
    #[inline]
    fn split(
        &self,
        is_separator: impl Fn(u8) -> bool,
    ) -> Result<([Span; ARGUMENTS_MAX], usize), FrameError> {
        let mut spans = [Span::default(); ARGUMENTS_MAX];
        let mut count = 0_usize;
        let mut start = None;
        let mut position = self.args_at;
        for byte in self.args {
            if is_separator(*byte) {
                if let Some(start) = start.take() {
                    *spans.get_mut(count).ok_or(FrameError::ArgumentCount)? = Span {
                        start,
                        end: position,
                    };
                    count = count.saturating_add(1);
                }
            } else if start.is_none() {
                start = Some(position);
            }
            position = position.saturating_add(1);
        }
        if let Some(start) = start {
            *spans.get_mut(count).ok_or(FrameError::ArgumentCount)? = Span {
                start,
                end: position,
            };
            count = count.saturating_add(1);
        }
        Ok((spans, count))
    }
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

const fn is_blank_or_cr(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}

/// Narrows an offset that the limits keep small.
fn offset(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "parser_tests.rs"]
mod tests;
