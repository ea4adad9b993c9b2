//! Numbers as decimal text, without allocation and formatting machinery.

/// Appends a number in decimal.
#[inline]
pub(crate) fn write(out: &mut Vec<u8>, mut number: u64) {
    let mut text = [0_u8; 20];
    let mut start = text.len();
    for place in text.iter_mut().rev() {
        let digit = (number % 10) as u8;
        *place = b'0'.wrapping_add(digit);
        start = start.saturating_sub(1);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(text.get(start..).unwrap_or_default());
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
        for number in [0, 9, 10, 99, 100, u64::MAX] {
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
