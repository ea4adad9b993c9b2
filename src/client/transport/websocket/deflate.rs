//! Compression of messages (RFC 7692), a buffer at a time: what a server sends is never held in
//! memory as a whole, so a small frame cannot become a large allocation.

use std::fmt;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// What ends each message and is not sent.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Inflates the messages of a server.
pub(super) struct Inflater {
    state: Decompress,
    forgets: bool,
    /// Bytes of [`TAIL`] that this message has still to be given; all while it goes on.
    tail: &'static [u8],
    /// Whether the last call filled its buffer, so that there may be more.
    may_hold_more: bool,
}

/// What one call took and gave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) taken: usize,
    pub(super) given: usize,
}

impl Inflater {
    /// `forgets` when the server begins each message anew.
    pub(super) fn new(forgets: bool) -> Self {
        Self {
            state: Decompress::new(false),
            forgets,
            tail: &TAIL,
            may_hold_more: false,
        }
    }

    /// Returns true when [`Inflater::inflate`] may give something without input.
    pub(super) const fn may_hold_more(&self) -> bool {
        self.may_hold_more
    }

    /// Inflates part of a message.
    ///
    /// # Errors
    ///
    /// What is wrong with `input`.
    pub(super) fn inflate(&mut self, input: &[u8], out: &mut [u8]) -> Result<Progress, String> {
        let (before_in, before_out) = (self.state.total_in(), self.state.total_out());
        let status = self
            .state
            .decompress(input, out, FlushDecompress::None)
            .map_err(|error| format!("compressed message cannot be read: {error}"))?;
        let progress = Progress {
            taken: moved(before_in, self.state.total_in()),
            given: moved(before_out, self.state.total_out()),
        };
        self.may_hold_more = progress.given == out.len();
        if status == Status::StreamEnd {
            // A last block, after which another stream may begin.
            self.state.reset(false);
            self.may_hold_more = false;
        } else if progress.taken == 0 && !input.is_empty() && progress.given == 0 {
            return Err("compressed message cannot be read".to_owned());
        }
        Ok(progress)
    }

    /// Gives what is left of a message whose bytes were all taken. Over when nothing is given.
    ///
    /// # Errors
    ///
    /// As [`Inflater::inflate`].
    pub(super) fn finish(&mut self, out: &mut [u8]) -> Result<usize, String> {
        loop {
            let progress = self.inflate(self.tail, out)?;
            self.tail = self.tail.get(progress.taken..).unwrap_or_default();
            if progress.given > 0 {
                return Ok(progress.given);
            }
            if self.tail.is_empty() {
                break;
            }
        }
        self.tail = &TAIL;
        self.may_hold_more = false;
        if self.forgets {
            self.state.reset(false);
        }
        Ok(0)
    }
}

/// Deflates messages, each by itself.
pub(super) struct Deflater {
    state: Compress,
    out: Vec<u8>,
}

impl Deflater {
    pub(super) fn new() -> Self {
        Self {
            state: Compress::new(Compression::fast(), false),
            out: Vec::new(),
        }
    }

    /// Deflates one whole message; `None` when it would not become smaller.
    pub(super) fn deflate(&mut self, message: &[u8]) -> Option<&[u8]> {
        self.state.reset();
        self.out.clear();
        self.out.reserve(message.len());
        let status = self
            .state
            .compress_vec(message, &mut self.out, FlushCompress::Sync);
        let taken = usize::try_from(self.state.total_in()).ok()?;
        // Whatever does not fit beside the tail has not become smaller.
        let has_room = self.out.len() < self.out.capacity();
        if status.is_err() || taken < message.len() || !has_room {
            return None;
        }
        let deflated = self.out.strip_suffix(&TAIL)?;
        (deflated.len() < message.len()).then_some(deflated)
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Inflater").finish_non_exhaustive()
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Deflater").finish_non_exhaustive()
    }
}

fn moved(before: u64, after: u64) -> usize {
    usize::try_from(after.saturating_sub(before)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inflates whole messages with input and output cut into small pieces.
    fn inflated(inflater: &mut Inflater, message: &[u8], step: usize) -> Vec<u8> {
        let mut whole = Vec::new();
        let mut out = vec![0; step];
        for mut piece in message.chunks(step) {
            while !piece.is_empty() || inflater.may_hold_more() {
                let progress = inflater.inflate(piece, &mut out).unwrap();
                piece = &piece[progress.taken..];
                whole.extend_from_slice(&out[..progress.given]);
            }
        }
        loop {
            let given = inflater.finish(&mut out).unwrap();
            if given == 0 {
                return whole;
            }
            whole.extend_from_slice(&out[..given]);
        }
    }

    #[test]
    fn what_was_deflated_is_inflated_however_it_is_cut() {
        for forgets in [false, true] {
            for step in [1, 2, 7, 4_096] {
                let mut deflater = Deflater::new();
                let mut inflater = Inflater::new(forgets);
                for len in [100, 1_000, 70_000] {
                    let message: Vec<u8> = (0..13).cycle().take(len).collect();
                    let deflated = deflater.deflate(&message).unwrap().to_vec();
                    assert!(deflated.len() < len / 2, "{len}");
                    assert_eq!(inflated(&mut inflater, &deflated, step), message);
                }
            }
        }
    }

    #[test]
    fn what_does_not_become_smaller_is_left_as_it_is() {
        let mut noise = crate::jitter::Jitter::new(1);
        let message: Vec<u8> = (0..5_000)
            .map(|_| noise.next_u64().to_le_bytes()[0])
            .collect();
        let mut deflater = Deflater::new();
        assert_eq!(deflater.deflate(&message), None);
        assert_eq!(deflater.deflate(b""), None);
        assert!(deflater.deflate(&[7; 5_000]).is_some());
    }

    #[test]
    fn a_message_that_is_not_deflated_is_an_error() {
        let mut inflater = Inflater::new(true);
        let result = inflater.inflate(&[0xff; 64], &mut [0; 64]);
        assert!(result.unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn a_last_block_may_be_followed_by_the_next_message() {
        // `Hello` as one final block with fixed codes, and the byte that RFC 7692, 7.2.3.4 adds.
        let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
        for forgets in [false, true] {
            let mut inflater = Inflater::new(forgets);
            assert_eq!(inflated(&mut inflater, &last, 3), b"Hello");
            assert_eq!(inflated(&mut inflater, &last, 64), b"Hello");
        }
    }
}
