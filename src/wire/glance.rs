//! The hot path: a plain message that is there as a whole, read at a glance.
//!
//! Whatever is not plain - another word, blanks in a row, a line end without CR, a bound exceeded - is
//! left to the stages of the parser, which give the same frame and tell errors.

use super::frame::{Frame, OpKind, Span, at};
use super::limits::Limits;
use super::line::{ARGUMENTS_MAX, Line, offset};
use super::parser::Speaker;

/// Longer control lines are read, and not remembered.
const MEMO_BYTES: usize = 64;

/// The control line that was read last: the next message often has the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Memo {
    line: [u8; MEMO_BYTES],
    /// Empty while there is none.
    frame: Option<Frame>,
}

impl Memo {
    pub(super) const EMPTY: Self = Self {
        line: [0; MEMO_BYTES],
        frame: None,
    };

    /// The frame of the message at the beginning, when its line is the one before.
    #[inline(always)]
    fn recall(&self, buffer: &[u8]) -> Option<Frame> {
        let frame = self.frame?;
        let line = self.line.get(..at(frame.line_len))?;
        (buffer.get(..line.len())? == line).then_some(frame)
    }

    #[inline(always)]
    fn remember(&mut self, frame: Frame, buffer: &[u8]) {
        self.frame = None;
        if at(frame.line_len) <= MEMO_BYTES
            && let Some(line) = buffer.first_chunk()
        {
            self.line = *line;
            self.frame = Some(frame);
        }
    }
}

/// Reads the message at the beginning of `buffer`, if it is plain and there as a whole.
#[inline(always)]
pub(super) fn glance(
    speaker: Speaker,
    limits: &Limits,
    memo: &mut Memo,
    buffer: &[u8],
) -> Option<Frame> {
    if let Some(frame) = memo.recall(buffer) {
        return is_whole(&frame, buffer).then_some(frame);
    }
    let (kind, args_at) = match (speaker, buffer.first_chunk()?) {
        (Speaker::Server, b"MSG ") => (OpKind::Msg, 4),
        (Speaker::Server, b"HMSG") if buffer.get(4) == Some(&b' ') => (OpKind::Hmsg, 5),
        (Speaker::Client, b"PUB ") => (OpKind::Pub, 4),
        (Speaker::Client, b"HPUB") if buffer.get(4) == Some(&b' ') => (OpKind::Hpub, 5),
        _ => return None,
    };
    if !limits.allows_headers && matches!(kind, OpKind::Hmsg | OpKind::Hpub) {
        return None;
    }
    let (spans, count, line_end) = cut(buffer, args_at)?;
    if line_end.saturating_sub(args_at) > limits.line_bytes_max {
        return None;
    }
    let line = Line {
        args: buffer.get(args_at..line_end)?,
        args_at: offset(args_at),
        len: offset(line_end).checked_add(2)?,
    };
    let frame = line.message(kind, spans, count).ok()?;
    if at(frame.body_len) > limits.payload_bytes_max || !is_whole(&frame, buffer) {
        return None;
    }
    memo.remember(frame, buffer);
    Some(frame)
}

/// Cuts the arguments at single blanks; returns them, how many there are, and where the line end is.
#[inline(always)]
fn cut(buffer: &[u8], args_at: usize) -> Option<([Span; ARGUMENTS_MAX], usize, usize)> {
    let mut spans = [Span::default(); ARGUMENTS_MAX];
    let mut count = 0_usize;
    let mut start = args_at;
    let mut word_at = args_at;
    let (words, _) = buffer.get(args_at..)?.as_chunks::<8>();
    for word in words {
        let mut low = low_bytes(u64::from_le_bytes(*word));
        while low != 0 {
            // Widens.
            let position = word_at.checked_add((low.trailing_zeros() / 8) as usize)?;
            low &= low.wrapping_sub(1);
            if position == start {
                return None;
            }
            *spans.get_mut(count)? = Span {
                start: offset(start),
                end: offset(position),
            };
            count = count.checked_add(1)?;
            start = position.checked_add(1)?;
            match buffer.get(position)? {
                b' ' | b'\t' => {}
                b'\r' if buffer.get(start) == Some(&b'\n') => {
                    return Some((spans, count, position));
                }
                _ => return None,
            }
        }
        word_at = word_at.checked_add(8)?;
    }
    None
}

/// The highest bit of every byte that is a blank or a control character: nothing above 0x20.
#[inline(always)]
const fn low_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let carried = (word & (0x7f * ONES)).wrapping_add(0x5f * ONES);
    !(carried | word) & (0x80 * ONES)
}

/// Whether the body and its line end are there.
#[inline(always)]
fn is_whole(frame: &Frame, buffer: &[u8]) -> bool {
    let end = frame.len();
    buffer.get(end.saturating_sub(2)..end) == Some(b"\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_bytes_are_those_up_to_a_space() {
        for byte in 0..=u8::MAX {
            for place in 0..8 {
                let mut word = [b'x'; 8];
                word[place] = byte;
                let expected = if byte <= b' ' { 0x80 << (8 * place) } else { 0 };
                assert_eq!(low_bytes(u64::from_le_bytes(word)), expected, "{byte}");
            }
        }
        assert_eq!(low_bytes(0), 0x8080_8080_8080_8080);
    }
}
