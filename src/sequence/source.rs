//! Names of sources.

use core::fmt;
use std::sync::Arc;

/// The longest name in bytes: it stands in every message and in control subjects.
pub(super) const NAME_BYTES_MAX: usize = 32;

/// Names a source: 1 to 32 letters, digits, `-` and `_`. Cloning costs one reference count.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName(Arc<str>);

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
        match text.chars().find(|found| !is_allowed(*found)) {
            Some(found) => Err(SourceNameError::Character { found }),
            None => Ok(Self(text.into())),
        }
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl core::borrow::Borrow<str> for SourceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SourceName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, out)
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
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

/// Returns true when `bytes` could be a [`SourceName`].
pub(super) fn is_name(bytes: &[u8]) -> bool {
    (1..=NAME_BYTES_MAX).contains(&bytes.len())
        && bytes.iter().all(|byte| is_allowed(char::from(*byte)))
}
