//! The header line that stamps the next message, ready to be copied.

use super::{STAMP_HEADER, SourceName, Stamp};
use crate::decimal;

/// `Seq: source.epoch.number` and a line end, with the longest name and the longest numbers.
const LINE_BYTES_MAX: usize = 80;
const LINE_END: &[u8] = b"\r\n";

/// `Seq: source.epoch.number` and a line end, counted up in place.
///
/// Nine times in ten the next number differs in its last digit alone.
#[derive(Debug, Clone)]
pub(super) struct StampLine {
    /// The line, and zeros: all of it is copied, which takes less time than its part.
    text: [u8; LINE_BYTES_MAX],
    /// Where the number begins and ends.
    number_at: usize,
    number_end: usize,
}

impl StampLine {
    /// Begins with number 1.
    pub(super) fn new(source: &SourceName, epoch: u64) -> Self {
        let mut prefix = Vec::new();
        prefix.extend_from_slice(STAMP_HEADER.as_bytes());
        prefix.extend_from_slice(b": ");
        Stamp::write_prefix(&mut prefix, source, epoch);
        let number_at = prefix.len();
        let line = prefix.into_iter().chain(*b"1\r\n");
        let mut text = [0; LINE_BYTES_MAX];
        for (to, from) in text.iter_mut().zip(line) {
            *to = from;
        }
        Self {
            text,
            number_at,
            number_end: number_at.saturating_add(1),
        }
    }

    /// Bytes before the number.
    pub(super) const fn prefix_len(&self) -> usize {
        self.number_at
    }

    /// Appends the line, and goes to the next number.
    #[inline]
    pub(super) fn write_next(&mut self, line: &mut Vec<u8>, prev: Option<u64>) {
        let number_end = line.len().wrapping_add(self.number_end);
        line.extend_from_slice(&self.text);
        match prev {
            None => line.truncate(number_end.wrapping_add(LINE_END.len())),
            Some(_) => {
                line.truncate(number_end);
                Self::finish(line, prev);
            }
        }
        self.advance();
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
        line.extend_from_slice(LINE_END);
    }

    #[inline]
    fn advance(&mut self) {
        match self.text.get_mut(self.number_end.wrapping_sub(1)) {
            Some(digit) if *digit < b'9' => *digit = digit.wrapping_add(1),
            _ => self.carry(),
        }
    }

    /// Counts up a number whose last digit is 9.
    fn carry(&mut self) {
        let number = self.text.get_mut(self.number_at..self.number_end);
        for digit in number.unwrap_or_default().iter_mut().rev() {
            if *digit < b'9' {
                *digit = digit.wrapping_add(1);
                return;
            }
            *digit = b'0';
        }
        // 99 is 00 now, and is to be 100.
        if let Some(first) = self.text.get_mut(self.number_at) {
            *first = b'1';
        }
        let behind = self.text.get_mut(self.number_end..).unwrap_or_default();
        for (to, from) in behind.iter_mut().zip(*b"0\r\n") {
            *to = from;
        }
        self.number_end = self.number_end.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::NUMBER_MAX;

    #[test]
    fn counting_up_writes_what_each_number_is() {
        let mut stamp = StampLine::new(&SourceName::new("a").unwrap(), 7);
        for seq in 1..=20_000 {
            let prev = (seq % 3 == 0).then_some(3);
            let (mut counted, mut written) = (b"H: v\r\n".to_vec(), b"H: v\r\n".to_vec());
            stamp.write_next(&mut counted, prev);
            stamp.write_as(&mut written, seq, prev);
            let end = if prev.is_some() { ".3" } else { "" };
            let expected = format!("H: v\r\nSeq: a.7.{seq}{end}\r\n");
            assert_eq!(counted, expected.into_bytes());
            assert_eq!(counted, written);
        }
    }

    #[test]
    fn the_longest_name_and_numbers_have_room() {
        let name = SourceName::new(&"x".repeat(32)).unwrap();
        let stamp = StampLine::new(&name, u64::MAX);
        let len = stamp.prefix_len() + NUMBER_MAX.to_string().len() + LINE_END.len();
        assert!(len <= LINE_BYTES_MAX, "{len}");
    }
}
