//! INFO and CONNECT as types: what server and client say about themselves.

mod connect;
mod fields;
mod info;

use core::fmt;

use serde::Serialize;

pub use connect::Connect;
#[cfg(feature = "broker")]
pub(crate) use connect::INVALID_PROTOCOL;
pub use info::{INFO_BYTES_MAX, INFO_VALUES_MAX, ServerInfo};

/// Why the JSON of INFO or CONNECT was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// It is longer than the bound.
    TooLong {
        /// Bytes.
        found: usize,
        /// The bound in bytes.
        max: usize,
    },
    /// It lists more values than the bound.
    TooManyValues {
        /// Values, counted by the commas between them.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// It is malformed, in the JSON reader's words.
    Json(String),
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { found, max } => write!(out, "{found} bytes of JSON exceed {max} bytes"),
            Self::TooManyValues { found, max } => {
                write!(out, "{found} values in JSON exceed {max}")
            }
            Self::Json(text) => out.write_str(text),
        }
    }
}

impl core::error::Error for HandshakeError {}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to `map_err`")]
fn json_error(error: serde_json::Error) -> HandshakeError {
    HandshakeError::Json(error.to_string())
}

fn write<T: Serialize>(value: &T) -> Vec<u8> {
    let mut json = Vec::new();
    write_to(&mut json, value);
    json
}

/// Writes to something that takes everything.
#[expect(
    clippy::expect_used,
    reason = "a struct of strings and numbers always has a JSON form"
)]
fn write_to<T: Serialize>(out: &mut impl std::io::Write, value: &T) {
    serde_json::to_writer(out, value).expect("plain data");
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature is serde's"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_was_found_and_what_is_allowed() {
        let (found, max) = (9, 8);
        let cases = [
            (
                HandshakeError::TooLong { found, max },
                "9 bytes of JSON exceed 8 bytes",
            ),
            (
                HandshakeError::TooManyValues { found, max },
                "9 values in JSON exceed 8",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }
}
