//! Names of sources.

use core::fmt;
use core::hash::{Hash, Hasher};

/// The longest name in bytes: it stands in every message and in control subjects.
pub(super) const NAME_BYTES_MAX: usize = 32;

/// Names a source: 1 to 32 letters, digits, `-` and `_`. Kept in place: cloning copies 33 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceName {
    /// Zero behind the name, and no name holds a zero: so bytes are ordered like texts.
    bytes: [u8; NAME_BYTES_MAX],
    len: u8,
}

impl SourceName {
    /// Takes `text` if it can name a source.
    ///
    /// # Errors
    ///
    /// [`SourceNameError`] names what was found.
    pub fn new(text: &str) -> Result<Self, SourceNameError> {
        if text.is_empty() {
            return Err(SourceNameError::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(SourceNameError::TooLong {
                found: text.len(),
                max: NAME_BYTES_MAX,
            });
        }
        if let Some(found) = text.chars().find(|found| !is_allowed(*found)) {
            return Err(SourceNameError::Character { found });
        }
        Ok(Self::of(text.as_bytes()))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // It is ASCII.
        core::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The text as bytes.
    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The name that these bytes are; whoever calls has checked them.
    #[inline]
    pub(super) fn of(name: &[u8]) -> Self {
        let mut bytes = [0; NAME_BYTES_MAX];
        if let Some(to) = bytes.get_mut(..name.len()) {
            to.copy_from_slice(name);
        }
        Self {
            bytes,
            len: u8::try_from(name.len()).unwrap_or_default(),
        }
    }

    /// The bytes in words, as many as there is text.
    #[inline]
    pub(super) fn words(&self) -> impl Iterator<Item = u64> {
        let words = usize::from(self.len).div_ceil(8);
        let (chunks, _) = self.bytes.as_chunks::<8>();
        chunks
            .iter()
            .take(words)
            .map(|word| u64::from_le_bytes(*word))
    }
}

/// As its text, which it can be looked up by.
impl Hash for SourceName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl core::borrow::Borrow<str> for SourceName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for SourceName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), out)
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// Why a text names no source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceNameError {
    /// There is no text.
    Empty,
    /// It is too long.
    TooLong {
        /// Bytes.
        found: usize,
        /// The bound in bytes.
        max: usize,
    },
    /// A character is not allowed.
    Character {
        /// The first such character.
        found: char,
    },
}

impl fmt::Display for SourceNameError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => out.write_str("source name is empty"),
            Self::TooLong { found, max } => {
                write!(out, "source name of {found} bytes exceeds {max} bytes")
            }
            Self::Character { found } => write!(
                out,
                "source name holds {found:?}, allowed are letters, digits, `-` and `_`"
            ),
        }
    }
}

impl core::error::Error for SourceNameError {}

const fn is_allowed(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_')
}

/// Returns true for a byte of a name.
#[inline]
pub(super) fn is_name_byte(byte: u8) -> bool {
    NAME_BYTES
        .get(usize::from(byte))
        .is_some_and(|allowed| *allowed)
}

/// [`is_allowed`] of every byte.
static NAME_BYTES: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut rest: &mut [bool] = &mut allowed;
    let mut byte = 0_u8;
    while let [first, others @ ..] = rest {
        *first = is_allowed(byte as char);
        rest = others;
        byte = byte.wrapping_add(1);
    }
    allowed
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_and_found_like_their_texts() {
        let texts = ["a", "a-", "a1", "b", "pricing-a", "pricing-b"];
        let names = texts.map(|text| SourceName::new(text).unwrap());
        assert!(names.is_sorted());
        assert_eq!(names.each_ref().map(SourceName::as_str), texts);
        let set = std::collections::HashSet::from(names);
        assert!(texts.iter().all(|text| set.contains(*text)));
        let longest = "x".repeat(NAME_BYTES_MAX);
        assert_eq!(SourceName::new(&longest).unwrap().as_str(), longest);
        assert!(SourceName::new(&"x".repeat(NAME_BYTES_MAX + 1)).is_err());
    }
}
