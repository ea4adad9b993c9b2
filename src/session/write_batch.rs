//! What one pass of the writer sends, however the socket cuts it.
//!
//! ```text
//!   head | frames, with pieces inserted between
//! ```

use bytes::Bytes;

const PING: &[u8] = b"PING\r\n";

/// Buffers larger than this are given back after a batch, so that one burst does not pin memory.
const KEPT_BUFFER_BYTES_MAX: usize = 4 << 20;

/// What one pass of the writer sends: filled by [`Outbox::take`](super::Outbox::take), emptied
/// by [`WriteBatch::advance`].
#[derive(Debug, Default)]
pub struct WriteBatch {
    pub(super) head: Vec<u8>,
    head_at: usize,
    pub(super) frames: Vec<u8>,
    frames_at: usize,
    pub(super) inserts: Vec<Insert>,
    insert_index: usize,
    insert_at: usize,
}

impl WriteBatch {
    /// Returns true when everything was written.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        self.head_at >= self.head.len()
            && self.frames_at >= self.frames.len()
            && self.insert_index >= self.inserts.len()
    }

    /// Lays the next slices to write into `slices` and returns how many were laid.
    pub fn fill<'a>(&'a self, slices: &mut [std::io::IoSlice<'a>]) -> usize {
        let mut filled = 0_usize;
        let mut places = slices.iter_mut();
        let mut lay = |bytes: &'a [u8]| {
            if bytes.is_empty() {
                return true;
            }
            let Some(place) = places.next() else {
                return false;
            };
            *place = std::io::IoSlice::new(bytes);
            filled = filled.saturating_add(1);
            true
        };
        if !lay(self.head.get(self.head_at..).unwrap_or_default()) {
            return filled;
        }
        let mut from = self.frames_at;
        let mut skip = self.insert_at;
        for insert in self.inserts.get(self.insert_index..).unwrap_or_default() {
            if !lay(self.frames.get(from..insert.at).unwrap_or_default())
                || !lay(insert.piece.bytes().get(skip..).unwrap_or_default())
            {
                return filled;
            }
            from = insert.at.max(from);
            skip = 0;
        }
        lay(self.frames.get(from..).unwrap_or_default());
        filled
    }

    /// Counts `written` bytes as gone.
    pub fn advance(&mut self, mut written: usize) {
        step(&mut self.head_at, self.head.len(), &mut written);
        while let Some(insert) = self.inserts.get(self.insert_index) {
            step(&mut self.frames_at, insert.at, &mut written);
            step(
                &mut self.insert_at,
                insert.piece.bytes().len(),
                &mut written,
            );
            if self.frames_at < insert.at || self.insert_at < insert.piece.bytes().len() {
                return;
            }
            self.insert_index = self.insert_index.saturating_add(1);
            self.insert_at = 0;
        }
        step(&mut self.frames_at, self.frames.len(), &mut written);
    }

    /// Forgets what was not written.
    pub fn clear(&mut self) {
        for buffer in [&mut self.head, &mut self.frames] {
            buffer.clear();
            if buffer.capacity() > KEPT_BUFFER_BYTES_MAX {
                *buffer = Vec::new();
            }
        }
        self.head_at = 0;
        self.frames_at = 0;
        self.inserts.clear();
        self.insert_index = 0;
        self.insert_at = 0;
    }
}

/// A piece of what is written, and how many bytes of frames go before it.
#[derive(Debug)]
pub(super) struct Insert {
    pub(super) at: usize,
    pub(super) piece: Piece,
}

/// What stands between published frames, or within one.
#[derive(Debug)]
pub(super) enum Piece {
    /// SUB and UNSUB; they belong to this connection only.
    Lines(Vec<u8>),
    /// Belongs to this connection only.
    Ping,
    /// Part of a published frame.
    Payload(Bytes),
}

impl Piece {
    pub(super) fn len(&self) -> usize {
        self.bytes().len()
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Lines(lines) => lines,
            Self::Ping => PING,
            Self::Payload(payload) => payload,
        }
    }
}

/// Moves `at` towards `end` by at most `written`, and takes that from `written`.
fn step(at: &mut usize, end: usize, written: &mut usize) {
    let moved = end.saturating_sub(*at).min(*written);
    *at = at.saturating_add(moved);
    *written = written.saturating_sub(moved);
}
