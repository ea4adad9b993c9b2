//! Text and bytes that nobody is to see: without `Debug` of their content, and wiped when dropped.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A text that is not shown by `Debug`, cannot be serialised, and is wiped when its last copy is dropped.
///
/// Clones share one copy. Comparing takes as long wherever two texts of one length differ.
///
/// What cannot be wiped from here: the text that the caller made it from, what was copied out of
/// [`Secret::expose`], and what the layers of TLS and WebSocket and the operating system hold of the
/// bytes that were written. CONNECT itself is built in one buffer, which is wiped once it is written.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Keeps a text. A `String` is taken as it is, a `&str` is copied.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(text.into())))
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&String> for Secret {
    fn from(text: &String) -> Self {
        Self::new(text)
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        is_same(self.expose(), other.expose())
    }
}

impl Eq for Secret {}

impl Hash for Secret {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.expose().hash(state);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("..")
    }
}

/// Bytes that are not shown by `Debug` and are wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// The bytes themselves.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} bytes", self.0.len())
    }
}

/// Returns true when the texts are the same, in a time that depends on their lengths alone.
pub(crate) fn is_same(found: &str, expected: &str) -> bool {
    found.as_bytes().ct_eq(expected.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_and_compares_by_its_text() {
        let secret = Secret::new("canary");
        assert_eq!(format!("{secret:?}"), "..");
        assert_eq!(secret, Secret::from("canary".to_owned()));
        assert_ne!(secret, Secret::from("canarz"));
        assert_ne!(secret, Secret::from("canar"));
        assert_eq!(secret.expose(), "canary");
    }
}
