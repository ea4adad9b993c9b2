//! Leaves messages out of what waits, when the next server takes smaller ones.

use crate::wire::{self, Limits, Parser, Pieces};

use super::write_batch::{Insert, Piece};

/// What waits, without the messages that were too large.
#[derive(Debug, Default)]
pub(super) struct Sifted {
    pub(super) frames: Vec<u8>,
    pub(super) inserts: Vec<Insert>,
    /// Bytes of the payloads among the inserts.
    pub(super) shared_bytes: usize,
    /// How many messages were left out.
    pub(super) left_out: u64,
    /// How many of them stood before each PING.
    pub(super) left_out_before_pings: Vec<u64>,
}

/// Copies the messages with at most `body_bytes_max` bytes of headers and payload. What stands
/// between them keeps its place.
pub(super) fn sift(frames: &[u8], inserts: Vec<Insert>, body_bytes_max: usize) -> Sifted {
    let mut sifted = Sifted::default();
    let mut inserts = inserts.into_iter().peekable();
    let mut at = 0_usize;
    loop {
        while let Some(Insert { piece, .. }) = inserts.next_if(|insert| insert.at <= at) {
            if matches!(piece, Piece::Ping) {
                sifted.left_out_before_pings.push(sifted.left_out);
            }
            let at = sifted.frames.len();
            sifted.inserts.push(Insert { at, piece });
        }
        let rest = frames.get(at..).filter(|rest| !rest.is_empty());
        let Some(rest) = rest else {
            return sifted;
        };
        let lengths = lengths(rest);
        debug_assert!(lengths.is_some(), "{}", rest.escape_ascii());
        let (body_len, frame_len) = lengths.unwrap_or((0, rest.len()));
        // Nothing but its own payload stands within a frame.
        let payload = inserts.next_if(|insert| insert.at < at.saturating_add(frame_len));
        let shared_len = payload.as_ref().map_or(0, |insert| insert.piece.len());
        let len = frame_len.saturating_sub(shared_len);
        if body_len > body_bytes_max {
            sifted.left_out = sifted.left_out.saturating_add(1);
        } else {
            if let Some(Insert { at: inner, piece }) = payload {
                let at = sifted.frames.len().saturating_add(inner.saturating_sub(at));
                sifted.shared_bytes = sifted.shared_bytes.saturating_add(shared_len);
                sifted.inserts.push(Insert { at, piece });
            }
            let frame = rest.get(..len).unwrap_or_default();
            sifted.frames.extend_from_slice(frame);
        }
        at = at.saturating_add(len);
    }
}

/// Bytes of headers and payload of the message at the beginning, and of its whole frame.
fn lengths(frames: &[u8]) -> Option<(usize, usize)> {
    let limits = Limits::CLIENT_OPS
        .with_line_bytes_max(usize::MAX)
        .with_payload_bytes_max(usize::MAX);
    match Pieces::new(Parser::of_client(limits)).next(frames) {
        Ok(wire::Piece::Line(frame)) => {
            let body_len = frame.header_len().saturating_add(frame.payload_len());
            Some((body_len, frame.len()))
        }
        Ok(_) | Err(_) => None,
    }
}
