//! Names that nobody else uses: inboxes, and names for sources that were given none.

use super::error::{Error, ErrorKind};

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Characters of an inbox: 22 base62 digits hold 131 bits, so that it cannot be guessed.
pub(super) const INBOX_CHARS: usize = 22;

/// Returns `chars` random base62 characters.
///
/// # Errors
///
/// [`ErrorKind::Random`] when the operating system gives none.
pub(super) fn random_name(chars: usize) -> Result<String, Error> {
    let mut name = String::with_capacity(chars);
    while name.len() < chars {
        let mut bytes = [0_u8; 32];
        fill(&mut bytes)?;
        // Bytes from 248 on are left out: 248 is the largest multiple of 62, so each digit is as
        // likely as the others.
        let digits = bytes.iter().filter(|byte| **byte < 248);
        let missing = chars.saturating_sub(name.len());
        name.extend(digits.take(missing).filter_map(|byte| {
            BASE62
                .get(usize::from(*byte).checked_rem(BASE62.len())?)
                .map(|digit| char::from(*digit))
        }));
    }
    Ok(name)
}

/// Returns a seed for jitter.
///
/// # Errors
///
/// As [`random_name`].
pub(crate) fn random_seed() -> Result<u64, Error> {
    let mut bytes = [0_u8; 8];
    fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(|error| Error::with_source(ErrorKind::Random, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_length_and_do_not_repeat() {
        let one = random_name(INBOX_CHARS).unwrap();
        let two = random_name(INBOX_CHARS).unwrap();
        assert_eq!(one.len(), INBOX_CHARS);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_ne!(one, two);
    }
}
