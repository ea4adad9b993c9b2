//! The hot path: a plain message that is there as a whole, read at a glance.
//!
//! Whatever is not plain - another word, blanks in a row, a line end without CR, a bound exceeded - is
//! left to the stages of the parser, which give the same frame and tell errors.

use super::frame::{Frame, OpKind, Span, at};
use super::limits::Limits;
use super::line::{ARGUMENTS_MAX, Line};
use super::parser::{LINE_BYTES_CEILING, Speaker};

/// Reads the message at the beginning of `buffer`, if it is plain and there as a whole.
#[inline(always)]
pub(super) fn glance(speaker: Speaker, limits: &Limits, buffer: &[u8]) -> Option<Frame> {
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
    let Cut {
        ends: [a, b, c, d, e],
        count,
        line_end,
    } = cut(buffer, args_at)?;
    if at(line_end.wrapping_sub(args_at)) > limits.line_bytes_max {
        return None;
    }
    let line = Line {
        bytes: buffer.get(..at(line_end))?,
        args_at,
        len: line_end.wrapping_add(2),
    };
    let first = Span {
        start: args_at,
        end: a,
    };
    // Those that are not there are not looked at.
    let behind = |blank: u32, end| Span {
        start: blank.wrapping_add(1),
        end,
    };
    let spans = [
        first,
        behind(a, b),
        behind(b, c),
        behind(c, d),
        behind(d, e),
    ];
    let frame = line.message(kind, spans, count).ok()?;
    let is_fine = at(frame.body_len) <= limits.payload_bytes_max && is_whole(&frame, buffer);
    is_fine.then_some(frame)
}

/// Where the arguments of a line end.
struct Cut {
    /// The blanks, and the CR behind the last one.
    ends: [u32; ARGUMENTS_MAX],
    count: usize,
    line_end: u32,
}

/// Cuts the arguments at single blanks.
#[inline(always)]
fn cut(buffer: &[u8], args_at: u32) -> Option<Cut> {
    let mut ends = [0; ARGUMENTS_MAX];
    let mut count = 0_usize;
    let mut start = args_at;
    let mut block_at = args_at;
    loop {
        let rest = buffer.get(at(block_at)..)?;
        let mut low = match rest.first_chunk() {
            Some(block) => low_bytes(block),
            None => low_bytes(&padded(rest)),
        };
        while low != 0 {
            let end = block_at.wrapping_add(low.trailing_zeros());
            low &= low.wrapping_sub(1);
            if end == start {
                return None;
            }
            *ends.get_mut(count)? = end;
            count = count.wrapping_add(1);
            start = end.wrapping_add(1);
            match buffer.get(at(end)..)? {
                [b' ' | b'\t', ..] => {}
                [b'\r', b'\n', ..] => {
                    let line_end = end;
                    return Some(Cut {
                        ends,
                        count,
                        line_end,
                    });
                }
                _ => return None,
            }
        }
        block_at = block_at.wrapping_add(u32::BITS);
        if at(block_at) > LINE_BYTES_CEILING {
            return None;
        }
    }
}

/// What a line is looked at in: a bit for each byte fits in 32.
type Block = [u8; 32];

/// The last bytes of a buffer, with zeros behind them.
#[cold]
fn padded(rest: &[u8]) -> Block {
    let mut block = [0; 32];
    block
        .iter_mut()
        .zip(rest)
        .for_each(|(to, from)| *to = *from);
    block
}

/// A bit for every byte that is a blank or a control character: nothing above 0x20.
#[inline(always)]
fn low_bytes(block: &Block) -> u32 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let (words, _) = block.as_chunks::<8>();
    let mut bits = 0;
    for word in words.iter().rev() {
        let word = u64::from_le_bytes(*word);
        let carried = (word & (0x7f * ONES)).wrapping_add(0x5f * ONES);
        let low = !(carried | word) & (0x80 * ONES);
        // The product has the highest bits of the eight bytes, in order, in its last byte.
        let [.., gathered] = low.wrapping_mul(0x0002_0408_1020_4081).to_le_bytes();
        bits = (bits << 8) | u32::from(gathered);
    }
    bits
}

/// Whether the body and its line end are there.
#[inline(always)]
fn is_whole(frame: &Frame, buffer: &[u8]) -> bool {
    let body_end = at(frame.line_len).wrapping_add(at(frame.body_len));
    matches!(buffer.get(body_end..), Some([b'\r', b'\n', ..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_bytes_are_those_up_to_a_space() {
        for byte in 0..=u8::MAX {
            for place in 0..32 {
                let mut block = [b'x'; 32];
                block[place] = byte;
                let expected = if byte <= b' ' { 1 << place } else { 0 };
                assert_eq!(low_bytes(&block), expected, "{byte} at {place}");
            }
        }
        assert_eq!(low_bytes(&[0; 32]), u32::MAX);
    }

    #[test]
    fn a_block_ends_with_zeros_where_bytes_are_missing() {
        let mut expected = [0; 32];
        expected[..3].copy_from_slice(b"abc");
        assert_eq!(padded(b"abc"), expected);
    }
}
