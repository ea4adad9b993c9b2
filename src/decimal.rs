//! Numbers as decimal text, without allocation and formatting machinery.

/// The two digits of each number below 100.
static PAIRS: [[u8; 2]; 100] = pairs();

/// Appends a number in decimal.
#[inline]
pub(crate) fn write(out: &mut Vec<u8>, number: u64) {
    // Most are lengths of a few digits.
    match number {
        0..=99 => write_begin(out, number),
        100..=9_999 => {
            write_begin(out, number / 100);
            out.extend_from_slice(&pair(number));
        }
        _ => write_long(out, number),
    }
}

/// Appends a number below 100.
#[inline]
fn write_begin(out: &mut Vec<u8>, number: u64) {
    let [tens, units] = pair(number);
    if number >= 10 {
        out.push(tens);
    }
    out.push(units);
}

/// Appends a number in decimal and the separator behind it, of four bytes at most.
///
/// A short number and its separator are one append of eight bytes, of which the first are kept: a vector
/// that grows piece by piece waits for its length to come back from memory after each.
#[inline]
pub(crate) fn write_and<const LEN: usize>(out: &mut Vec<u8>, number: u64, separator: &[u8; LEN]) {
    let zeros = match number {
        0..=9 => 3_u32,
        10..=99 => 2,
        100..=999 => 1,
        1_000..=9_999 => 0,
        _ => {
            write_long(out, number);
            out.extend_from_slice(separator);
            return;
        }
    };
    let ([a, b], [c, d]) = (pair(number / 100), pair(number));
    let mut text = [a, b, c, d, 0, 0, 0, 0];
    let behind = text.iter_mut().skip(4);
    behind.zip(separator).for_each(|(to, from)| *to = *from);
    let text = u64::from_le_bytes(text).wrapping_shr(zeros.wrapping_mul(8));
    let len = 4_usize.saturating_add(LEN).saturating_sub(zeros as usize);
    let end = out.len().saturating_add(len);
    out.extend_from_slice(&text.to_le_bytes());
    out.truncate(end);
}

fn write_long(out: &mut Vec<u8>, mut number: u64) {
    let mut text = [0_u8; 20];
    let (pairs, _) = text.as_chunks_mut::<2>();
    let mut start = 20_usize;
    for place in pairs.iter_mut().rev() {
        *place = pair(number);
        start = start.saturating_sub(2);
        if number < 100 {
            start = start.saturating_add(usize::from(number < 10));
            break;
        }
        number /= 100;
    }
    out.extend_from_slice(text.get(start..).unwrap_or_default());
}

/// The last two digits.
#[inline]
fn pair(number: u64) -> [u8; 2] {
    let pair = PAIRS.get((number % 100) as usize);
    pair.copied().unwrap_or_default()
}

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "evaluated by the compiler"
)]
const fn pairs() -> [[u8; 2]; 100] {
    let mut pairs = [[b'0'; 2]; 100];
    let mut number = 0;
    while number < pairs.len() {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
}

/// Reads 1 to 19 digits.
pub(crate) fn read(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.wrapping_sub(b'0');
        (digit <= 9).then(|| number.wrapping_mul(10).wrapping_add(u64::from(digit)))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_decimal() {
        for number in [
            0,
            9,
            10,
            99,
            100,
            999,
            1_000,
            9_999,
            10_000,
            99_999,
            u64::MAX,
        ] {
            let mut out = Vec::new();
            super::write(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
            let mut line = b"x ".to_vec();
            super::write_and(&mut line, number, b"\r\n");
            assert_eq!(line, format!("x {number}\r\n").as_bytes());
            let short = Some(number).filter(|_| out.len() <= 19);
            assert_eq!(super::read(&out), short);
        }
        for text in ["", "1x", "-1", "00000000000000000000"] {
            assert_eq!(super::read(text.as_bytes()), None, "{text}");
        }
        assert_eq!(super::read(b"007"), Some(7));
        assert_eq!(super::read(&[b'9'; 19]), Some(9_999_999_999_999_999_999));
    }
}
