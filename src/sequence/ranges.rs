//! Sets of numbers as text: `1017-1019,1025`.

use core::fmt;

use crate::decimal;

use super::stamp::number;

/// Ranges in one repair request.
pub(super) const REQUEST_RANGES_MAX: usize = 64;

/// The longest text that is read: a reply's list of what is gone may be longer than a request.
const TEXT_BYTES_MAX: usize = 4_096;

/// Ascending, disjoint ranges of numbers, both ends included.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Makes an empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Reads the text form.
    ///
    /// # Errors
    ///
    /// [`RangeError`] for text that is too long or malformed, and for ranges that are empty, out
    /// of order or overlap.
    pub fn parse(text: &[u8]) -> Result<Self, RangeError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(RangeError::TooLong {
                found: text.len(),
                max: TEXT_BYTES_MAX,
            });
        }
        let mut ranges = Vec::new();
        let mut after = 0_u64;
        for part in text.split(|byte| *byte == b',') {
            let mut ends = part.splitn(2, |byte| *byte == b'-');
            let from = ends.next().and_then(number).ok_or(RangeError::Malformed)?;
            let to = match ends.next() {
                Some(digits) => number(digits).ok_or(RangeError::Malformed)?,
                None => from,
            };
            if from <= after || to < from {
                return Err(RangeError::Order);
            }
            after = to;
            ranges.push((from, to));
        }
        Ok(Self(ranges))
    }

    /// Adds a range behind the others; one that is not behind them is not added.
    pub fn push(&mut self, from: u64, to: u64) {
        match self.0.last_mut() {
            Some(last) if from <= last.1 => {}
            Some(last) if last.1.saturating_add(1) == from => last.1 = to.max(from),
            Some(_) | None => self.0.push((from, to.max(from))),
        }
    }

    /// The numbers that do not lie from `from` to `to`.
    #[must_use]
    pub(crate) fn without(&self, from: u64, to: u64) -> Self {
        let mut left = Self::new();
        for (first, last) in self.iter() {
            if to < from || last < from || first > to {
                left.push(first, last);
                continue;
            }
            if first < from {
                left.push(first, from.saturating_sub(1));
            }
            if last > to {
                left.push(to.saturating_add(1), last);
            }
        }
        left
    }

    /// The ranges in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().copied()
    }

    /// How many ranges there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns true when there are no numbers.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many numbers there are.
    #[must_use]
    pub fn numbers(&self) -> u64 {
        self.iter()
            .fold(0, |sum, (from, to)| sum.saturating_add(width(from, to)))
    }

    /// The text form; empty for an empty set.
    #[must_use]
    pub fn to_text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for (from, to) in self.iter() {
            if !text.is_empty() {
                text.push(b',');
            }
            decimal::write(&mut text, from);
            if to > from {
                text.push(b'-');
                decimal::write(&mut text, to);
            }
        }
        text
    }
}

/// How many numbers lie from `from` to `to`.
pub(super) const fn width(from: u64, to: u64) -> u64 {
    to.saturating_sub(from).saturating_add(1)
}

/// Why a text is no set of ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RangeError {
    /// The text is too long.
    TooLong {
        /// Bytes.
        found: usize,
        /// The bound in bytes.
        max: usize,
    },
    /// A part is neither a number nor two with `-` between them.
    Malformed,
    /// A range is empty, or not behind the one before it.
    Order,
}

impl fmt::Display for RangeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { found, max } => {
                write!(out, "{found} bytes of ranges exceed {max} bytes")
            }
            Self::Malformed => out.write_str("range is neither `number` nor `number-number`"),
            Self::Order => out.write_str("ranges are not ascending and disjoint"),
        }
    }
}

impl core::error::Error for RangeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_ranges_are_the_same() {
        let ranges = Ranges::parse(b"1017-1019,1025").unwrap();
        assert_eq!(
            ranges.iter().collect::<Vec<_>>(),
            [(1_017, 1_019), (1_025, 1_025)]
        );
        assert_eq!((ranges.numbers(), ranges.len()), (4, 2));
        assert_eq!(ranges.to_text(), b"1017-1019,1025");
        let mut pushed = Ranges::new();
        pushed.push(1, 2);
        pushed.push(3, 3);
        pushed.push(2, 9);
        pushed.push(5, 5);
        assert_eq!(pushed.to_text(), b"1-3,5");
    }

    #[test]
    fn what_is_taken_out_of_ranges_leaves_their_ends() {
        let ranges = Ranges::parse(b"2-5,8,10-12").unwrap();
        for (from, to, left) in [
            (1, 1, "2-5,8,10-12"),
            (1, 2, "3-5,8,10-12"),
            (3, 4, "2,5,8,10-12"),
            (5, 10, "2-4,11-12"),
            (9, 4, "2-5,8,10-12"),
            (0, 99, ""),
        ] {
            let found = ranges.without(from, to).to_text();
            assert_eq!(String::from_utf8(found).unwrap(), left, "{from}-{to}");
        }
    }

    #[test]
    fn malformed_and_unordered_text_is_refused() {
        for text in [&b""[..], b"a", b"1-", b"-1", b"1,,2", b"1-2-3", b"01"] {
            assert_eq!(
                Ranges::parse(text),
                Err(RangeError::Malformed),
                "{}",
                text.escape_ascii()
            );
        }
        for text in [&b"0"[..], b"2-1", b"1-3,3", b"5,4"] {
            assert_eq!(
                Ranges::parse(text),
                Err(RangeError::Order),
                "{}",
                text.escape_ascii()
            );
        }
        assert!(matches!(
            Ranges::parse(&[b'1'; 5_000]),
            Err(RangeError::TooLong { .. })
        ));
    }
}
