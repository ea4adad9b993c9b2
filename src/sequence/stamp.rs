//! The stamp: which source a message comes from, and its number there.

use crate::decimal;

use super::NUMBER_MAX;
use super::source::{NAME_BYTES_MAX, SourceName, is_name_byte};

/// The header that carries a stamp. It is the first of a stamped message.
pub const STAMP_HEADER: &str = "Seq";

/// A stamp: `source.epoch.seq`, or `source.epoch.seq.prev`.
///
/// Numbers are decimal without sign or leading zeros and at most [`NUMBER_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Stamp<'a> {
    /// The source's name.
    pub source: &'a str,
    /// The run of the source: microseconds since 1970 when it began.
    pub epoch: u64,
    /// The message's number, from 1; in a heartbeat the last number sent, 0 for none.
    pub seq: u64,
    /// The number before this one on the same subject, 0 for none, where the source tells it.
    pub prev: Option<u64>,
}

impl<'a> Stamp<'a> {
    /// Reads a stamp; `None` for anything that is not one.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let Parts {
            name,
            epoch,
            seq,
            prev,
        } = Parts::parse(text)?;
        let source = core::str::from_utf8(name).ok()?;
        Some(Self {
            source,
            epoch,
            seq,
            prev,
        })
    }

    /// Reads the numbers of a stamp that begins with `prefix`, which is `source.epoch.`.
    ///
    /// `None` when it begins otherwise or is more than that: then [`Stamp::parse`] decides.
    #[inline]
    pub(super) fn numbers_after(prefix: &[u8], text: &[u8]) -> Option<(u64, Option<u64>)> {
        let rest = text.strip_prefix(prefix)?;
        if let Some(seq) = number(rest) {
            return Some((seq, None));
        }
        let dot = rest.iter().position(|byte| *byte == b'.')?;
        let (seq, prev) = rest.split_at_checked(dot)?;
        Some((number(seq)?, Some(number(prev.get(1..)?)?)))
    }

    /// Writes `source.epoch.`, with which every stamp of that run begins.
    pub(super) fn write_prefix(out: &mut Vec<u8>, source: &SourceName, epoch: u64) {
        out.extend_from_slice(source.as_str().as_bytes());
        out.push(b'.');
        decimal::write(out, epoch);
        out.push(b'.');
    }
}

/// A [`Stamp`] whose name stays bytes: to look a source up takes no text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    name: &'a [u8],
    pub(super) epoch: u64,
    pub(super) seq: u64,
    pub(super) prev: Option<u64>,
}

impl<'a> Parts<'a> {
    /// Reads a stamp; `None` for anything that is not one.
    #[inline]
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        let (name, rest) = name_before_dot(text)?;
        let (epoch, rest) = leading_number(rest)?;
        let (seq, rest) = leading_number(rest.strip_prefix(b".")?)?;
        let prev = match rest {
            [] => None,
            [b'.', digits @ ..] => Some(number(digits)?),
            [..] => return None,
        };
        (epoch > 0).then_some(Self {
            name,
            epoch,
            seq,
            prev,
        })
    }

    /// The source's name, whose text was checked.
    #[inline]
    pub(super) fn source(&self) -> SourceName {
        SourceName::of(self.name)
    }

    /// The length of `source.epoch.`.
    pub(super) fn prefix_len(&self) -> usize {
        let digits = self
            .epoch
            .checked_ilog10()
            .map_or(1, |power| power.saturating_add(1));
        self.name
            .len()
            .saturating_add(digits as usize)
            .saturating_add(2)
    }
}

/// Cuts the source's name off at its dot.
#[inline]
fn name_before_dot(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let candidates = text.get(..=NAME_BYTES_MAX).unwrap_or(text);
    let len = candidates.iter().position(|byte| !is_name_byte(*byte))?;
    let (name, rest) = text.split_at_checked(len)?;
    let rest = rest.strip_prefix(b".")?;
    (!name.is_empty()).then_some((name, rest))
}

/// Reads 1 to 16 digits without leading zeros, at most [`NUMBER_MAX`].
#[inline]
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    match leading_number(digits) {
        Some((number, [])) => Some(number),
        _ => None,
    }
}

/// [`number`] with what follows the digits.
#[inline]
fn leading_number(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    let mut rest = text;
    // Epochs have sixteen digits.
    while let Some((eight, behind)) = rest.split_first_chunk()
        && let Some(part) = eight_digits(*eight)
    {
        if text.len().saturating_sub(rest.len()) > 8 {
            return None;
        }
        number = number.wrapping_mul(100_000_000).wrapping_add(part);
        rest = behind;
    }
    while let [byte, behind @ ..] = rest {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
        rest = behind;
    }
    let len = text.len().saturating_sub(rest.len());
    let is_padded = len > 1 && text.first() == Some(&b'0');
    let is_number = (1..=16).contains(&len) && !is_padded && number <= NUMBER_MAX;
    is_number.then_some((number, rest))
}

/// Reads eight digits at once: pairs, then fours, then all.
#[inline]
fn eight_digits(text: [u8; 8]) -> Option<u64> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le_bytes(text);
    let digits = word.wrapping_sub(0x30 * ONES);
    // A digit plus 0x76 stays below 0x80.
    if (word | digits | digits.wrapping_add(0x76 * ONES)) & (0x80 * ONES) != 0 {
        return None;
    }
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_ffff_0000_ffff;
    Some(fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_has_three_or_four_fields() {
        let stamp = Stamp::parse(b"pricing-a.1763683200123456.42").unwrap();
        assert_eq!(
            (stamp.source, stamp.epoch, stamp.seq),
            ("pricing-a", 1_763_683_200_123_456, 42)
        );
        assert_eq!(Stamp::parse(b"a.1.2.0").unwrap().prev, Some(0));
        assert_eq!(
            Stamp::parse(b"a.1.9007199254740991").unwrap().seq,
            NUMBER_MAX
        );
    }

    #[test]
    fn anything_else_is_no_stamp() {
        let bad: [&[u8]; 14] = [
            b"",
            b"a",
            b"a.1",
            b"a.1.",
            b".1.2",
            b"a.1.2.3.4",
            b"a.01.2",
            b"a.1.+2",
            b"a.1.2 ",
            b"a b.1.2",
            b"a.0.1",
            b"a.1.9007199254740992",
            b"a.1.99999999999999999",
            b"\xff.1.2",
        ];
        for text in bad {
            assert_eq!(Stamp::parse(text), None, "{}", text.escape_ascii());
        }
        let long = [&[b'a'; 33][..], b".1.2"].concat();
        assert_eq!(Stamp::parse(&long), None);
    }

    #[test]
    fn eight_bytes_are_digits_or_not() {
        assert_eq!(eight_digits(*b"12345678"), Some(12_345_678));
        assert_eq!(eight_digits(*b"00000000"), Some(0));
        assert_eq!(eight_digits(*b"99999999"), Some(99_999_999));
        for place in 0..8 {
            for byte in 0..=u8::MAX {
                let mut text = *b"90909090";
                text[place] = byte;
                let expected = str::from_utf8(&text).ok();
                let expected = expected.filter(|text| !text.contains('+'));
                let expected = expected.and_then(|text| text.parse().ok());
                assert_eq!(eight_digits(text), expected, "{byte} at {place}");
            }
        }
    }

    #[test]
    fn a_number_of_any_length_is_read_to_its_end() {
        let digits = b"9007199254740991";
        for len in 1..=digits.len() {
            let text = str::from_utf8(&digits[..len]).unwrap();
            let followed = format!("{text}.5");
            let expected: u64 = text.parse().unwrap();
            assert_eq!(number(text.as_bytes()), Some(expected));
            let found = leading_number(followed.as_bytes());
            assert_eq!(found, Some((expected, &b".5"[..])));
        }
        let long = "1".repeat(17);
        assert_eq!(number(long.as_bytes()), None);
        assert_eq!(number("1".repeat(40).as_bytes()), None);
        assert_eq!(number(b"0000000000000001"), None);
    }

    #[test]
    fn a_known_prefix_leaves_the_number() {
        let mut prefix = Vec::new();
        Stamp::write_prefix(&mut prefix, &SourceName::new("a").unwrap(), 7);
        assert_eq!(prefix, b"a.7.");
        let after = |text: &[u8]| Stamp::numbers_after(&prefix, text);
        assert_eq!(after(b"a.7.12"), Some((12, None)));
        assert_eq!(after(b"a.7.12.3"), Some((12, Some(3))));
        let other: [&[u8]; 4] = [b"a.7.12.3.4", b"a.8.12", b"a.7.12.", b"a.7."];
        assert!(other.iter().all(|text| after(text).is_none()));
    }
}
