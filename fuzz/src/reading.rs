//! Runs parsers over a stream, whole or in pieces, and keeps what came out.

use natseq::wire::{Frame, FrameError, Limits, Parser, Piece, Pieces, Step};

/// Limits that short inputs exceed.
pub(crate) const TIGHT: Limits = Limits::CLIENT_OPS
    .with_line_bytes_max(24)
    .with_payload_bytes_max(40);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaker {
    Server,
    Client,
}

/// Both directions, with the usual limits and with tight ones.
pub(crate) const READERS: [(Speaker, Limits); 4] = [
    (Speaker::Server, Limits::SERVER_OPS),
    (Speaker::Client, Limits::CLIENT_OPS),
    (Speaker::Server, TIGHT),
    (Speaker::Client, TIGHT),
];

pub(crate) const fn parser((speaker, limits): (Speaker, Limits)) -> Parser {
    match speaker {
        Speaker::Server => Parser::of_server(limits),
        Speaker::Client => Parser::of_client(limits),
    }
}

/// What a stream came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Every frame and where it begins.
    pub(crate) frames: Vec<(usize, Frame)>,
    /// Where the first byte is that belongs to no complete frame.
    pub(crate) rest_at: usize,
    /// What was found there: so many bytes are missing at least, or an error.
    pub(crate) end: Result<usize, FrameError>,
}

/// Reads `stream` while it arrives; `next_piece` says how many bytes come next, told how many the
/// parser wants. The whole stream arrives in the end.
pub(crate) fn read(
    mut parser: Parser,
    stream: &[u8],
    mut next_piece: impl FnMut(usize) -> usize,
) -> Reading {
    let mut frames = Vec::new();
    let (mut start, mut arrived) = (0, next_piece(1).min(stream.len()));
    // The largest length that the parser promised for the frame that is under way.
    let mut length_min = 0;
    loop {
        match parser.next(&stream[start..arrived]) {
            Ok(Step::Frame(frame)) => {
                let len = frame.len();
                assert!(len > 0 && len <= arrived - start, "{frame:?} of {arrived}");
                assert!(length_min <= len, "{length_min} promised, {frame:?}");
                frames.push((start, frame));
                start += len;
                length_min = 0;
            }
            Ok(Step::More { bytes }) => {
                assert!(bytes > 0, "nothing is missing and nothing is there");
                length_min = arrived - start + bytes;
                if arrived == stream.len() {
                    return Reading {
                        frames,
                        rest_at: start,
                        end: Ok(bytes),
                    };
                }
                let piece = next_piece(bytes).max(1);
                arrived = arrived.saturating_add(piece).min(stream.len());
            }
            Err(error) => {
                for later in [&stream[start..arrived], b"", b"PING\r\n", stream] {
                    assert_eq!(parser.next(later), Err(error), "an error is permanent");
                }
                return Reading {
                    frames,
                    rest_at: start,
                    end: Err(error),
                };
            }
        }
    }
}

/// Reads the stream as one piece.
pub(crate) fn read_whole(parser: Parser, stream: &[u8]) -> Reading {
    read(parser, stream, |_| usize::MAX)
}

/// Holds what [`Pieces`] hands out, however the stream arrives, against what the parser said.
pub(crate) fn check_pieces(
    parser: Parser,
    stream: &[u8],
    whole: &Reading,
    mut next_piece: impl FnMut() -> usize,
) {
    let mut pieces = Pieces::new(parser);
    let (mut at, mut arrived) = (0, next_piece().min(stream.len()));
    let mut frames = whole.frames.iter();
    let mut under_way: Option<Body> = None;
    loop {
        match pieces.next(&stream[at..arrived]) {
            Ok(Piece::More) => {
                let is_between = under_way.is_none();
                assert_eq!(pieces.is_between_frames(), is_between, "{under_way:?}");
                if arrived == stream.len() {
                    assert!(whole.end.is_ok(), "no error, but {whole:?}");
                    let start = under_way.as_ref().map_or(at, |body| body.start);
                    assert_eq!(start, whole.rest_at, "{whole:?}");
                    assert_eq!(frames.len(), 0, "frames are left: {frames:?}");
                    return;
                }
                arrived = arrived
                    .saturating_add(next_piece().max(1))
                    .min(stream.len());
            }
            Ok(piece) => {
                assert!(piece.len() <= arrived - at, "{piece:?} of {}", arrived - at);
                match piece {
                    Piece::Line(frame) => {
                        assert!(under_way.is_none(), "{frame:?} inside {under_way:?}");
                        if frame.len() > frame.line_len() {
                            under_way = Some(Body::new(frame, at));
                        } else {
                            assert_eq!(frames.next(), Some(&(at, frame)));
                        }
                    }
                    Piece::Headers(len) => under_way.as_mut().unwrap().headers += len,
                    Piece::Payload(len) => under_way.as_mut().unwrap().payload += len,
                    Piece::End => {
                        let body = under_way.take().unwrap();
                        let (frame, start) = (body.frame, body.start);
                        let lens = (body.headers, body.payload);
                        assert_eq!(lens, (frame.header_len(), frame.payload_len()));
                        assert_eq!(frames.next(), Some(&(start, frame)));
                        assert_eq!(at + piece.len(), start + frame.len());
                    }
                    Piece::More => unreachable!("it has an arm"),
                }
                at += piece.len();
            }
            Err(error) => {
                assert_eq!(whole.end, Err(error));
                assert_eq!(pieces.next(&stream[at..arrived]), Err(error), "permanent");
                assert_eq!(pieces.next(b"PING\r\n"), Err(error), "permanent");
                let start = under_way.as_ref().map_or(at, |body| body.start);
                assert_eq!(start, whole.rest_at, "{whole:?}");
                assert_eq!(frames.len(), 0, "frames are left: {frames:?}");
                return;
            }
        }
    }
}

/// A frame whose body is arriving.
#[derive(Debug)]
struct Body {
    frame: Frame,
    start: usize,
    headers: usize,
    payload: usize,
}

impl Body {
    const fn new(frame: Frame, start: usize) -> Self {
        Self {
            frame,
            start,
            headers: 0,
            payload: 0,
        }
    }
}
