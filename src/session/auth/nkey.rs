//! The keys of NATS: Ed25519 keys with a kind and a check sum, in base32.
//!
//! ```text
//!   public key   kind, 32 bytes, CRC-16           -> 56 characters, first one of P O A U ...
//!   seed         S and kind, 32 bytes, CRC-16     -> 58 characters, first two SP SO SA SU ...
//! ```

use std::fmt;
use std::sync::Arc;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD, DecodeKind};
use ed25519_dalek::{Signer, SigningKey};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// What a key is for; the first letter of its public form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyKind {
    /// `O`: signs accounts.
    Operator,
    /// `A`: signs users.
    Account,
    /// `U`: signs the nonces of servers.
    User,
}

impl KeyKind {
    /// The five bits of its letter, at the upper end of a byte.
    const fn prefix(self) -> u8 {
        match self {
            Self::Operator => 14 << 3,
            Self::Account => 0,
            Self::User => 20 << 3,
        }
    }

    fn of(prefix: u8) -> Option<Self> {
        [Self::Operator, Self::Account, Self::User]
            .into_iter()
            .find(|kind| kind.prefix() == prefix)
    }
}

/// A private key. Not shown by `Debug`, and wiped when the last clone is dropped; clones share it.
#[derive(Clone)]
pub struct KeyPair {
    kind: KeyKind,
    key: Arc<SigningKey>,
}

impl KeyPair {
    /// Makes a key out of 32 random bytes, which the caller draws and wipes.
    #[must_use]
    pub fn new(kind: KeyKind, entropy: &[u8; KEY_BYTES]) -> Self {
        Self {
            kind,
            key: Arc::new(SigningKey::from_bytes(entropy)),
        }
    }

    /// Reads a seed, `SUA...` for instance.
    ///
    /// # Errors
    ///
    /// [`NKeyError`], which never repeats the text.
    pub fn from_seed(seed: &str) -> Result<Self, NKeyError> {
        let bytes = decode::<SEED_BYTES>(seed, SEED_CHARS)?;
        let [first, second, rest @ ..] = &*bytes;
        if first & PREFIX_MASK != SEED_PREFIX {
            return Err(NKeyError::NoSeed);
        }
        // The kind's byte lies across both.
        let kind = ((first & !PREFIX_MASK) << 5) | (second >> 3);
        let kind = KeyKind::of(kind).ok_or(NKeyError::Kind)?;
        let entropy = rest.first_chunk().ok_or(NKeyError::NoSeed)?;
        Ok(Self::new(kind, entropy))
    }

    /// What the key is for.
    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The public key, 56 characters.
    #[must_use]
    pub fn public_key(&self) -> String {
        let mut bytes = Vec::with_capacity(PUBLIC_BYTES);
        bytes.push(self.kind.prefix());
        bytes.extend_from_slice(self.key.verifying_key().as_bytes());
        bytes.extend_from_slice(&check_sum(&bytes).to_le_bytes());
        BASE32_NOPAD.encode(&bytes)
    }

    /// The seed that [`KeyPair::from_seed`] reads, 58 characters.
    #[must_use]
    pub fn seed(&self) -> Secret {
        let kind = self.kind.prefix();
        let mut bytes = Zeroizing::new(Vec::with_capacity(SEED_BYTES));
        bytes.extend([SEED_PREFIX | (kind >> 5), kind << 3]);
        bytes.extend_from_slice(self.key.as_bytes());
        let sum = check_sum(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        Secret::new(BASE32_NOPAD.encode(&bytes))
    }

    /// The Ed25519 signature of `data`.
    #[must_use]
    pub fn sign(&self, data: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.key.sign(data).to_bytes()
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "KeyPair({:?}, ..)", self.kind)
    }
}

/// Why a text is no key. The text itself is not repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NKeyError {
    /// It has another length than keys of its form have.
    Length {
        /// Characters.
        found: usize,
        /// What is allowed.
        expected: usize,
    },
    /// A character that is not one of A to Z and 2 to 7.
    Character {
        /// How many characters go before it.
        position: usize,
    },
    /// The check sum is wrong: a character was changed.
    CheckSum,
    /// It is no seed: those begin with S.
    NoSeed,
    /// It is a key of another kind than is needed here, or of an unknown kind.
    Kind,
}

impl fmt::Display for NKeyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { found, expected } => {
                write!(out, "key of {found} characters, allowed are {expected}")
            }
            Self::Character { position } => write!(
                out,
                "character {position} of a key is not one of A to Z and 2 to 7"
            ),
            Self::CheckSum => out.write_str("check sum of a key is wrong"),
            Self::NoSeed => out.write_str("key is no seed, seeds begin with S"),
            Self::Kind => out.write_str("key is of another kind than is needed here"),
        }
    }
}

impl std::error::Error for NKeyError {}

/// Checks that a text is the public key of a user.
pub(super) fn check_user(public_key: &str) -> Result<(), NKeyError> {
    let bytes = decode::<PUBLIC_BYTES>(public_key, PUBLIC_CHARS)?;
    match bytes.first().copied().and_then(KeyKind::of) {
        Some(KeyKind::User) => Ok(()),
        Some(KeyKind::Operator | KeyKind::Account) | None => Err(NKeyError::Kind),
    }
}

/// The form in which CONNECT carries a signature.
pub(super) fn signature_text(signature: &[u8; SIGNATURE_BYTES]) -> String {
    BASE64URL_NOPAD.encode(signature)
}

/// Resolves base32 of `chars` characters into `N` bytes whose last two are the right check sum.
fn decode<const N: usize>(text: &str, chars: usize) -> Result<Zeroizing<[u8; N]>, NKeyError> {
    if text.len() != chars {
        return Err(NKeyError::Length {
            found: text.len(),
            expected: chars,
        });
    }
    let mut bytes = Zeroizing::new([0; N]);
    if let Err(partial) = BASE32_NOPAD.decode_mut(text.as_bytes(), &mut *bytes) {
        return Err(match partial.error.kind {
            DecodeKind::Symbol => NKeyError::Character {
                position: partial.error.position,
            },
            // The last character holds bits that belong to no byte.
            DecodeKind::Length | DecodeKind::Trailing | DecodeKind::Padding => NKeyError::CheckSum,
        });
    }
    let (data, sum) = bytes.split_last_chunk().ok_or(NKeyError::CheckSum)?;
    if u16::from_le_bytes(*sum) != check_sum(data) {
        return Err(NKeyError::CheckSum);
    }
    Ok(bytes)
}

/// CRC-16 with the polynomial 0x1021, from zero.
fn check_sum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum: u16, byte| {
        (0..8).fold(sum ^ (u16::from(*byte) << 8), |sum, _| {
            let shifted = sum << 1;
            if sum & 0x8000 == 0 {
                shifted
            } else {
                shifted ^ 0x1021
            }
        })
    })
}

/// Bytes of a private key.
const KEY_BYTES: usize = 32;

/// Bytes of a signature.
pub(super) const SIGNATURE_BYTES: usize = 64;

/// The letter S, and the bits of the first byte that hold a letter.
const SEED_PREFIX: u8 = 18 << 3;
const PREFIX_MASK: u8 = 0b1111_1000;

const SEED_BYTES: usize = 36;
const SEED_CHARS: usize = 58;
const PUBLIC_BYTES: usize = 35;
const PUBLIC_CHARS: usize = 56;

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    const PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

    #[test]
    fn a_seed_is_read_and_written_and_gives_its_public_key() {
        let pair = KeyPair::from_seed(SEED).unwrap();
        assert_eq!(pair.kind(), KeyKind::User);
        assert_eq!(pair.public_key(), PUBLIC);
        assert_eq!(pair.seed().expose(), SEED);
        assert_eq!(check_user(PUBLIC), Ok(()));
        for kind in [KeyKind::Operator, KeyKind::Account, KeyKind::User] {
            let made = KeyPair::new(kind, &[7; 32]);
            let again = KeyPair::from_seed(made.seed().expose()).unwrap();
            assert_eq!(again.public_key(), made.public_key());
            assert_eq!(again.kind(), kind);
        }
    }

    #[test]
    fn every_changed_character_of_a_key_is_noticed() {
        for (text, check) in [
            (
                SEED,
                (|text| KeyPair::from_seed(text).map(drop)) as fn(&str) -> _,
            ),
            (PUBLIC, check_user),
        ] {
            for position in 0..text.len() {
                for other in "A7u1\u{e9}".chars() {
                    let mut changed = text.to_owned();
                    changed.replace_range(position..=position, &other.to_string());
                    assert!(changed == text || check(&changed).is_err(), "{changed}");
                }
            }
        }
    }

    #[test]
    fn an_error_says_what_was_found_and_not_the_key() {
        let cases = [
            (String::new(), "key of 0 characters, allowed are 58"),
            (PUBLIC.to_owned(), "key of 56 characters, allowed are 58"),
            (
                SEED.replace("SUAC", "SUA1"),
                "character 3 of a key is not one of A to Z and 2 to 7",
            ),
            (SEED.replace("SUAC", "SUAA"), "check sum of a key is wrong"),
        ];
        for (text, expected) in cases {
            assert_eq!(KeyPair::from_seed(&text).unwrap_err().to_string(), expected);
        }
        let account = KeyPair::new(KeyKind::Account, &[1; 32]);
        assert_eq!(check_user(&account.public_key()), Err(NKeyError::Kind));
        assert_eq!(format!("{account:?}"), "KeyPair(Account, ..)");
    }

    #[test]
    fn a_signature_is_the_one_of_rfc_8032() {
        let bytes = |hex: &str| HEXLOWER.decode(hex.as_bytes()).unwrap();
        let entropy = bytes("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let pair = KeyPair::new(KeyKind::User, entropy.first_chunk().unwrap());
        let expected = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555\
                        fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";
        assert_eq!(pair.sign(b"").to_vec(), bytes(expected));
        let text = signature_text(&pair.sign(b""));
        assert!(
            text.starts_with("5VZDAMNgrHKQ") && text.len() == 86,
            "{text}"
        );
    }
}
