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
