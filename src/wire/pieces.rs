//! Frames in pieces, for callers that do not want a whole body in memory: proxies, recorders.
//!
//! ```text
//!   Line --> [Headers ... Payload ... End]     bytes may be dropped after each
//! ```

use super::error::FrameError;
use super::frame::{Frame, at};
use super::limits::Limits;
use super::parser::{Parser, has_terminator};

/// What [`Pieces::next`] found at the beginning of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a frame has no other parts")]
pub enum Piece {
    /// A control line. Its frame tells how long headers and payload are going to be; read with the
    /// line's bytes alone, both are empty.
    Line(Frame),
    /// That many bytes of the header block.
    Headers(usize),
    /// That many bytes of the payload.
    Payload(usize),
    /// The CR LF behind a body: the frame is complete.
    End,
    /// Nothing yet: more bytes are needed.
    More,
}

impl Piece {
    /// Bytes of the buffer that the piece is, and that the next call must come without.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Line(frame) => frame.line_len(),
            Self::Headers(len) | Self::Payload(len) => *len,
            Self::End => 2,
            Self::More => 0,
        }
    }

    /// Returns true when nothing was found.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A [`Parser`] that hands out bodies as they arrive, with the same verdicts.
///
/// The payload limit holds here too: it bounds what a peer may declare.
///
/// ```
/// use natseq::wire::{Limits, Parser, Piece, Pieces};
///
/// let mut stream: &[u8] = b"MSG greet 1 5\r\nhello\r\n";
/// let mut pieces = Pieces::new(Parser::of_server(Limits::SERVER_OPS));
/// let mut payload = Vec::new();
/// while !stream.is_empty() {
///     let piece = pieces.next(stream)?;
///     let (taken, rest) = stream.split_at(piece.len());
///     if let Piece::Payload(_) = piece {
///         payload.extend_from_slice(taken);
///     }
///     stream = rest;
/// }
/// assert_eq!(payload, b"hello");
/// # Ok::<(), natseq::wire::FrameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pieces {
    parser: Parser,
    headers_left: usize,
    payload_left: usize,
    is_in_body: bool,
}

impl Pieces {
    /// Begins with `parser`, which must stand between two frames.
    #[must_use]
    pub const fn new(parser: Parser) -> Self {
        Self {
            parser,
            headers_left: 0,
            payload_left: 0,
            is_in_body: false,
        }
    }

    /// Looks at the beginning of `buffer`.
    ///
    /// Come back with what follows the [`Piece::len`] bytes; after [`Piece::More`] with the same
    /// bytes and more behind them. A control line has to be there as a whole, a body does not.
    ///
    /// # Errors
    ///
    /// [`FrameError`]: the stream is lost, and every later call repeats the error.
    pub fn next(&mut self, buffer: &[u8]) -> Result<Piece, FrameError> {
        if !self.is_in_body {
            let Some(frame) = self.parser.next_line(buffer)? else {
                return Ok(Piece::More);
            };
            self.is_in_body = frame.has_body;
            self.headers_left = at(frame.header_len);
            self.payload_left = frame.payload_len();
            return Ok(Piece::Line(frame));
        }
        if buffer.is_empty() {
            return Ok(Piece::More);
        }
        if self.headers_left > 0 {
            let len = buffer.len().min(self.headers_left);
            self.headers_left = self.headers_left.saturating_sub(len);
            return Ok(Piece::Headers(len));
        }
        if self.payload_left > 0 {
            let len = buffer.len().min(self.payload_left);
            self.payload_left = self.payload_left.saturating_sub(len);
            return Ok(Piece::Payload(len));
        }
        match has_terminator(buffer) {
            Ok(true) => {
                self.is_in_body = false;
                Ok(Piece::End)
            }
            Ok(false) => Ok(Piece::More),
            Err(error) => {
                self.is_in_body = false;
                self.parser.fail(error);
                Err(error)
            }
        }
    }

    /// Replaces the limits; a control line that has begun is held to the new ones, a body is not.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.parser.set_limits(limits);
    }

    /// Whether no body is pending. A control line may have begun: then the buffer is not empty.
    #[must_use]
    pub const fn is_between_frames(&self) -> bool {
        !self.is_in_body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Step;

    const STREAM: &[u8] = b"PING\r\nHMSG a 1 r 12 17\r\nNATS/1.0\r\n\r\nhello\r\nMSG b 2 0\r\n\r\n\
        HMSG a 1 4 4\r\nNATS\r\n+OK\r\n";

    /// What the pieces of `stream` add up to when it arrives `step` bytes at a time.
    fn read(parser: Parser, stream: &[u8], step: usize) -> (Vec<Vec<u8>>, Option<FrameError>) {
        let mut pieces = Pieces::new(parser);
        let mut frames = Vec::<Vec<u8>>::new();
        let mut buffer = Vec::new();
        for arrived in stream.chunks(step) {
            buffer.extend_from_slice(arrived);
            loop {
                let piece = match pieces.next(&buffer) {
                    Ok(piece) => piece,
                    Err(error) => {
                        assert_eq!(pieces.next(&buffer), Err(error), "an error is permanent");
                        return (frames, Some(error));
                    }
                };
                if piece.is_empty() {
                    break;
                }
                if let Piece::Line(_) = piece {
                    frames.push(Vec::new());
                }
                let taken = buffer.drain(..piece.len());
                frames.last_mut().unwrap().extend(taken);
            }
        }
        assert!(pieces.is_between_frames() && buffer.is_empty());
        (frames, None)
    }

    #[test]
    fn pieces_are_the_frames_that_the_parser_finds() {
        let parser = Parser::of_server(Limits::SERVER_OPS);
        let mut whole = Vec::new();
        let mut rest = STREAM;
        let mut frames = parser.clone();
        while let Ok(Step::Frame(frame)) = frames.next(rest) {
            let (frame, behind) = rest.split_at(frame.len());
            whole.push(frame.to_vec());
            rest = behind;
        }
        assert_eq!((whole.len(), rest.len()), (5, 0));
        for step in 1..=STREAM.len() {
            let cut = read(parser.clone(), STREAM, step);
            assert_eq!(cut, (whole.clone(), None), "{step} bytes at a time");
        }
    }

    #[test]
    fn a_body_needs_no_room() {
        let mut pieces = Pieces::new(Parser::of_client(
            Limits::CLIENT_OPS.with_payload_bytes_max(999_999_999),
        ));
        let line = b"HPUB a 10 999999999\r\n";
        let Ok(Piece::Line(frame)) = pieces.next(line) else {
            panic!("not a line")
        };
        assert_eq!((frame.header_len(), frame.line_len()), (10, line.len()));
        let chunk = [0; 4_096];
        assert_eq!(pieces.next(&chunk), Ok(Piece::Headers(10)));
        let mut left = 999_999_989;
        while left > 0 {
            let Ok(Piece::Payload(len)) = pieces.next(&chunk) else {
                panic!("not the payload, {left} left")
            };
            left -= len;
        }
        assert!(!pieces.is_between_frames());
        assert_eq!(pieces.next(b"\r"), Ok(Piece::More));
        assert_eq!(pieces.next(b"\r\n"), Ok(Piece::End));
        assert!(pieces.is_between_frames());
    }

    #[test]
    fn new_limits_hold_from_the_next_line_on() {
        let mut pieces = Pieces::new(Parser::of_client(Limits::CLIENT_OPS));
        assert!(matches!(pieces.next(b"PUB a 5\r\n"), Ok(Piece::Line(_))));
        pieces.set_limits(Limits::CLIENT_OPS.with_payload_bytes_max(4));
        assert_eq!(pieces.next(b"hello\r\n"), Ok(Piece::Payload(5)));
        assert_eq!(pieces.next(b"\r\n"), Ok(Piece::End));
        let (found, max) = (5, 4);
        assert_eq!(
            pieces.next(b"PUB a 5\r\n"),
            Err(FrameError::PayloadTooLong { found, max })
        );
    }

    #[test]
    fn a_wrong_terminator_is_the_same_error() {
        let parser = Parser::of_server(Limits::SERVER_OPS);
        for step in 1..12 {
            let (frames, error) = read(parser.clone(), b"MSG a 1 1\r\nh\rX\n", step);
            assert_eq!(error, Some(FrameError::PayloadTerminator));
            assert_eq!(frames.concat(), b"MSG a 1 1\r\nh");
        }
    }

    #[test]
    fn a_parser_that_waits_for_a_body_may_go_on_in_pieces() {
        let mut parser = Parser::of_server(Limits::SERVER_OPS);
        let bytes = b"MSG a 1 2\r\nhi\r\n";
        assert!(matches!(parser.next(&bytes[..12]), Ok(Step::More { .. })));
        assert_eq!(read(parser, bytes, 12).0, [bytes]);
    }
}
