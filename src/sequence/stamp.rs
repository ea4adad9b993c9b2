//! The stamp: which source a message comes from, and its number there.

use crate::decimal;

use super::NUMBER_MAX;
use super::source::{SourceName, is_name};

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
        let mut fields = text.split(|byte| *byte == b'.');
        let name = fields.next().filter(|name| is_name(name))?;
        let stamp = Self {
            source: core::str::from_utf8(name).ok()?,
            epoch: number(fields.next()?)?,
            seq: number(fields.next()?)?,
            prev: match fields.next() {
                Some(digits) => Some(number(digits)?),
                None => None,
            },
        };
        (fields.next().is_none() && stamp.epoch > 0).then_some(stamp)
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

    /// The source's name, whose text was checked.
    #[inline]
    pub(super) fn source_name(&self) -> SourceName {
        SourceName::of(self.source.as_bytes())
    }

    /// The length of `source.epoch.`.
    pub(super) fn prefix_len(&self) -> usize {
        let digits = self
            .epoch
            .checked_ilog10()
            .map_or(1, |power| power.saturating_add(1));
        self.source
            .len()
            .saturating_add(digits as usize)
            .saturating_add(2)
    }

    /// Writes `source.epoch.`, with which every stamp of that run begins.
    pub(super) fn write_prefix(out: &mut Vec<u8>, source: &SourceName, epoch: u64) {
        out.extend_from_slice(source.as_str().as_bytes());
        out.push(b'.');
        decimal::write(out, epoch);
        out.push(b'.');
    }
}

/// Reads 1 to 16 digits without leading zeros, at most [`NUMBER_MAX`].
#[inline]
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 || (digits.len() > 1 && digits.first() == Some(&b'0'))
    {
        return None;
    }
    let mut number = 0_u64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    (number <= NUMBER_MAX).then_some(number)
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
