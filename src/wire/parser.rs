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
use super::frame::{Frame, OpKind, Parts, at};
use super::glance::glance;
use super::limits::Limits;
use super::line::{Line, is_blank, offset};

/// The most that offsets of 32 bits leave for a line; a payload's length has nine digits at most.
pub(super) const LINE_BYTES_CEILING: usize = 1 << 30;

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
pub(super) enum Speaker {
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
            && let Some(frame) = glance(self.speaker, &self.limits, buffer)
        {
            return Ok(Step::Frame(frame));
        }
        let step = self.advance(buffer);
        if let Err(error) = step {
            self.fail(error);
        }
        step
    }

    /// The limits in force.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Replaces the limits; a control line that has begun is held to the new ones.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    #[inline(never)]
    fn advance(&mut self, buffer: &[u8]) -> Result<Step, FrameError> {
        let frame = match self.stage {
            Stage::Body(frame) => frame,
            Stage::Word | Stage::Blanks(_) | Stage::Line { .. } | Stage::Failed(_) => {
                match self.find_line(buffer)? {
                    Some(frame) if frame.has_body => frame,
                    Some(frame) => return Ok(Step::Frame(frame)),
                    None => return Ok(Step::More { bytes: 1 }),
                }
            }
        };
        let end = frame.len();
        self.stage = Stage::Body(frame);
        let behind = buffer.get(end.saturating_sub(2)..).unwrap_or_default();
        if !has_terminator(behind)? {
            let bytes = end.saturating_sub(buffer.len());
            return Ok(Step::More { bytes });
        }
        self.stage = Stage::Word;
        self.scanned = 0;
        Ok(Step::Frame(frame))
    }

    /// Looks for a control line alone; its body is left to the caller.
    pub(super) fn next_line(&mut self, buffer: &[u8]) -> Result<Option<Frame>, FrameError> {
        let line = self.find_line(buffer);
        if let Err(error) = line {
            self.fail(error);
        }
        line
    }

    pub(super) const fn fail(&mut self, error: FrameError) {
        self.stage = Stage::Failed(error);
    }

    #[inline]
    fn find_line(&mut self, buffer: &[u8]) -> Result<Option<Frame>, FrameError> {
        loop {
            match self.stage {
                Stage::Word => match self.find_word(buffer)? {
                    Some((kind, len)) => {
                        self.scanned = len;
                        self.stage = Stage::Blanks(kind);
                    }
                    None => return Ok(None),
                },
                Stage::Blanks(kind) => match self.skip_blanks(kind, buffer)? {
                    Some(args_at) => self.stage = Stage::Line { kind, args_at },
                    None => return Ok(None),
                },
                Stage::Line { kind, args_at } => {
                    let line = self.read_line(kind, args_at, buffer)?;
                    if line.is_some() {
                        self.stage = Stage::Word;
                        self.scanned = 0;
                    }
                    return Ok(line);
                }
                Stage::Body(frame) => {
                    self.stage = Stage::Word;
                    self.scanned = 0;
                    return Ok(Some(frame));
                }
                Stage::Failed(error) => return Err(error),
            }
        }
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
        let word_len = kind.name().len();
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

    /// Takes off what belongs to the line end.
    ///
    /// A server remembers that it met a CR behind the first byte, and takes one byte off before the
    /// LF then, whichever it is.
    fn without_line_end<'a>(&self, args: &'a [u8], is_ignored: bool) -> &'a [u8] {
        let has_cr = match self.speaker {
            Speaker::Client if !is_ignored => args
                .get(1..)
                .is_some_and(|rest| memchr(b'\r', rest).is_some()),
            Speaker::Client | Speaker::Server => args.last() == Some(&b'\r'),
        };
        let len = args.len().saturating_sub(usize::from(has_cr));
        args.get(..len).unwrap_or_default()
    }

    /// Whether `byte` may follow the operation's name directly.
    fn needs_no_blank(&self, kind: OpKind, byte: u8) -> bool {
        match (kind, self.speaker) {
            (OpKind::Info | OpKind::Connect, _) => true,
            (OpKind::Err, Speaker::Server) => matches!(byte, b'\r' | b'\n'),
            _ => false,
        }
    }

    /// Whether the first byte that is no blank belongs to the arguments even when it is LF.
    ///
    /// Servers read so, and then deliver a subject that begins with LF.
    const fn takes_any_byte_first(&self, kind: OpKind) -> bool {
        match kind {
            OpKind::Ping | OpKind::Pong | OpKind::Ok => false,
            OpKind::Info | OpKind::Err => matches!(self.speaker, Speaker::Client),
            OpKind::Connect
            | OpKind::Pub
            | OpKind::Hpub
            | OpKind::Sub
            | OpKind::Unsub
            | OpKind::Msg
            | OpKind::Hmsg => true,
        }
    }

    fn read_line(
        &mut self,
        kind: OpKind,
        args_at: usize,
        buffer: &[u8],
    ) -> Result<Option<Frame>, FrameError> {
        let begin = args_at.saturating_add(usize::from(self.takes_any_byte_first(kind)));
        let begin = begin.max(self.scanned);
        let unseen = buffer.get(begin..).unwrap_or_default();
        let line_end = memchr(b'\n', unseen).map(|found| begin.saturating_add(found));
        self.scanned = buffer.len();
        let args = buffer
            .get(args_at..line_end.unwrap_or(buffer.len()))
            .unwrap_or_default();
        let is_ignored = matches!(kind, OpKind::Ping | OpKind::Pong | OpKind::Ok);
        let bytes_max = match self.speaker {
            // Servers ignore any number of bytes; who plays one holds as many as a payload may have.
            Speaker::Client if is_ignored => self.limits.payload_bytes_max,
            Speaker::Client | Speaker::Server => self.limits.line_bytes_max,
        };
        let bytes_max = bytes_max.min(LINE_BYTES_CEILING);
        // Looked at once for each line, however slowly it grows.
        let args = if line_end.is_some() || args.len() > bytes_max {
            self.without_line_end(args, is_ignored)
        } else {
            args
        };
        if args.len() > bytes_max {
            return Err(FrameError::LineTooLong { max: bytes_max });
        }
        let Some(line_end) = line_end else {
            return Ok(None);
        };
        if !self.limits.allows_headers && matches!(kind, OpKind::Hmsg | OpKind::Hpub) {
            return Err(FrameError::HeadersRefused);
        }
        let args_end = args_at.saturating_add(args.len());
        let line = Line {
            bytes: buffer.get(..args_end).unwrap_or_default(),
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
}

/// Whether the CR LF behind a body is at the beginning of `buffer`.
#[inline]
pub(super) fn has_terminator(buffer: &[u8]) -> Result<bool, FrameError> {
    match buffer {
        [b'\r', b'\n', ..] => Ok(true),
        [] | [b'\r'] => Ok(false),
        // A server does not wait for the second byte when the first is wrong.
        [..] => Err(FrameError::PayloadTerminator),
    }
}

#[cfg(test)]
#[path = "parser_tests.rs"]
mod tests;
