//! The header line that stamps a message, counted up in place.

use super::{STAMP_HEADER, SourceName, Stamp};
use crate::decimal;

/// `Seq: source.epoch.number` for the newest number.
///
/// Nine times in ten the next number differs in its last digit alone.
#[derive(Debug, Clone)]
pub(super) struct StampLine {
    text: Vec<u8>,
    /// Where the number begins.
    number_at: usize,
}

impl StampLine {
    /// Begins with number 0.
    pub(super) fn new(source: &SourceName, epoch: u64) -> Self {
        let mut text = Vec::new();
        text.extend_from_slice(STAMP_HEADER.as_bytes());
        text.extend_from_slice(b": ");
        Stamp::write_prefix(&mut text, source, epoch);
        let number_at = text.len();
        text.push(b'0');
        Self { text, number_at }
    }

    /// Bytes before the number.
    pub(super) const fn prefix_len(&self) -> usize {
        self.number_at
    }

    /// Goes to the next number.
    #[inline]
    pub(super) fn advance(&mut self) {
        let number = self.text.get_mut(self.number_at..).unwrap_or_default();
        for digit in number.iter_mut().rev() {
            if *digit < b'9' {
                *digit = digit.wrapping_add(1);
                return;
            }
            *digit = b'0';
        }
        // 99 is 00 now, and is to be 100.
        self.text.push(b'0');
        if let Some(first) = self.text.get_mut(self.number_at) {
            *first = b'1';
        }
    }

    /// Appends the line of the newest number.
    #[inline]
    pub(super) fn write(&self, line: &mut Vec<u8>, prev: Option<u64>) {
        line.extend_from_slice(&self.text);
        Self::finish(line, prev);
    }

    /// Appends the line of another number.
    pub(super) fn write_as(&self, line: &mut Vec<u8>, seq: u64, prev: Option<u64>) {
        line.extend_from_slice(self.text.get(..self.number_at).unwrap_or_default());
        decimal::write(line, seq);
        Self::finish(line, prev);
    }

    #[inline]
    fn finish(line: &mut Vec<u8>, prev: Option<u64>) {
        if let Some(prev) = prev {
            line.push(b'.');
            decimal::write(line, prev);
        }
        line.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_up_writes_what_each_number_is() {
        let mut stamp = StampLine::new(&SourceName::new("a").unwrap(), 7);
        for seq in 0..=20_000 {
            let (mut counted, mut written) = (Vec::new(), Vec::new());
            stamp.write(&mut counted, Some(3));
            stamp.write_as(&mut written, seq, Some(3));
            assert_eq!(counted, format!("Seq: a.7.{seq}.3\r\n").into_bytes());
            assert_eq!(counted, written);
            stamp.advance();
        }
    }
}
