//! Copies and compares what is nearly always short: in two pieces that may overlap, without a call.

/// Copies `from` to where as many bytes are.
#[inline]
pub(super) fn copy(to: &mut [u8], from: &[u8]) {
    match from.len() {
        8..16 => copy_ends::<8>(to, from),
        16..=32 => copy_ends::<16>(to, from),
        _ => to.copy_from_slice(from),
    }
}

/// Returns true when the bytes are the same.
#[inline]
pub(super) fn is_same(one: &[u8], other: &[u8]) -> bool {
    match one.len() {
        len if len != other.len() => false,
        8..=16 => has_same_ends::<8>(one, other),
        17..=32 => has_same_ends::<16>(one, other),
        _ => one == other,
    }
}

#[inline]
fn copy_ends<const LEN: usize>(to: &mut [u8], from: &[u8]) {
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<LEN>(), from.first_chunk()) {
        *to = *from;
    }
    if let (Some(to), Some(from)) = (to.last_chunk_mut::<LEN>(), from.last_chunk()) {
        *to = *from;
    }
}

#[inline]
fn has_same_ends<const LEN: usize>(one: &[u8], other: &[u8]) -> bool {
    one.first_chunk::<LEN>() == other.first_chunk() && one.last_chunk::<LEN>() == other.last_chunk()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_copied_whole_and_each_byte_is_compared() {
        for len in 0..70_u8 {
            let bytes: Vec<u8> = (1..=len).collect();
            let mut copied = vec![0; bytes.len()];
            copy(&mut copied, &bytes);
            assert_eq!(copied, bytes);
            assert!(is_same(&copied, &bytes));
            for at in 0..bytes.len() {
                let mut other = bytes.clone();
                other[at] ^= 1;
                assert!(!is_same(&bytes, &other), "{len} bytes, at {at}");
                assert!(!is_same(&bytes, &bytes[at + 1..]), "{len} bytes, {at} less");
            }
        }
    }
}
