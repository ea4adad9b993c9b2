//! Reads the text of a `.creds` file: a user's JWT and the seed of its key, each between two marks.
//!
//! ```text
//!   -----BEGIN NATS USER JWT-----
//!   eyJ0eXAi...
//!   ------END NATS USER JWT------
//!
//!   -----BEGIN USER NKEY SEED-----
//!   SUA...
//!   ------END USER NKEY SEED------
//! ```

use std::fmt;

use crate::secret::Secret;

use super::nkey::{KeyKind, KeyPair, NKeyError};

/// The longest text that is read. A JWT is to fit into one control line of a server.
pub const CREDS_BYTES_MAX: usize = 64 << 10;

/// What a `.creds` text holds.
#[derive(Debug)]
pub(super) struct Creds {
    /// The user's JWT.
    pub(super) jwt: Secret,
    /// The key that it names.
    pub(super) key: KeyPair,
}

/// Reads the first user JWT and the seed in the block behind it. Everything else is ignored.
pub(super) fn parse(text: &str) -> Result<Creds, CredsError> {
    if text.len() > CREDS_BYTES_MAX {
        return Err(CredsError::TooLong { found: text.len() });
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines().map(str::trim);
    let is_jwt = |line: &str| label(line).is_some_and(|label| label.ends_with("USER JWT"));
    if !lines.by_ref().any(is_jwt) {
        return Err(CredsError::JwtMissing);
    }
    let jwt = word(&mut lines).map_err(|found| CredsError::JwtLines { found })?;
    if !is_jwt_form(jwt) {
        return Err(CredsError::JwtForm);
    }
    if !lines.by_ref().any(|line| label(line).is_some()) {
        return Err(CredsError::SeedMissing);
    }
    let seed = word(&mut lines).map_err(|found| CredsError::SeedLines { found })?;
    let key = KeyPair::from_seed(seed).map_err(CredsError::Seed)?;
    if key.kind() != KeyKind::User {
        return Err(CredsError::Seed(NKeyError::Kind));
    }
    Ok(Creds {
        jwt: Secret::new(jwt),
        key,
    })
}

/// Returns true for three words of base64url with dots between them.
pub(super) fn is_jwt_form(text: &str) -> bool {
    let is_word = |word: &str| {
        let is_known =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'=');
        !word.is_empty() && word.bytes().all(is_known)
    };
    text.split('.').all(is_word) && text.split('.').count() == 3
}

/// What stands behind BEGIN in the first mark of a block.
fn label(line: &str) -> Option<&str> {
    mark(line)?.strip_prefix("BEGIN ").map(str::trim)
}

/// What stands between three or more dashes on either side.
fn mark(line: &str) -> Option<&str> {
    let is_mark = line.starts_with("---") && line.ends_with("---");
    is_mark.then(|| line.trim_matches('-').trim())
}

/// The one line of a block that is not blank, up to its closing mark; else how many there are.
fn word<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Result<&'a str, usize> {
    let mut block = lines
        .take_while(|line| mark(line).is_none())
        .filter(|line| !line.is_empty());
    let first = block.next().ok_or(0_usize)?;
    match block.count() {
        0 => Ok(first),
        more => Err(more.saturating_add(1)),
    }
}

/// Why a text holds no credentials. Nothing of the text is repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CredsError {
    /// It is longer than [`CREDS_BYTES_MAX`].
    TooLong {
        /// Its bytes.
        found: usize,
    },
    /// There is no line `-----BEGIN NATS USER JWT-----`.
    JwtMissing,
    /// The JWT is not one line.
    JwtLines {
        /// Lines between the marks that are not blank.
        found: usize,
    },
    /// The JWT is not three words of base64url with dots between them.
    JwtForm,
    /// No block follows the JWT.
    SeedMissing,
    /// The seed is not one line.
    SeedLines {
        /// Lines between the marks that are not blank.
        found: usize,
    },
    /// The seed is not a user's.
    Seed(NKeyError),
}

impl fmt::Display for CredsError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { found } => {
                write!(out, "creds of {found} bytes exceed {CREDS_BYTES_MAX} bytes")
            }
            Self::JwtMissing => out.write_str("creds without a line that begins a USER JWT"),
            Self::JwtLines { found } => {
                write!(out, "JWT of {found} lines in creds, allowed is one")
            }
            Self::JwtForm => out.write_str("JWT is not three base64url words with dots between"),
            Self::SeedMissing => out.write_str("creds without a seed behind the JWT"),
            Self::SeedLines { found } => {
                write!(out, "seed of {found} lines in creds, allowed is one")
            }
            Self::Seed(error) => write!(out, "seed in creds: {error}"),
        }
    }
}

impl std::error::Error for CredsError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed() -> String {
        KeyPair::new(KeyKind::User, &[3; 32])
            .seed()
            .expose()
            .to_owned()
    }

    fn creds() -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\ncan.ar.y\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n\n***\n",
            seed()
        )
    }

    #[test]
    fn jwt_and_seed_are_found_however_lines_end() {
        let long = creds();
        for text in [
            long.clone(),
            long.replace('\n', "\r\n"),
            long.replace('\n', "  \n\n\t"),
            format!("\u{feff}{long}"),
            format!("-----BEGIN OTHER-----\nx\n-----END OTHER-----\n{long}{long}"),
            // Without the closing mark of the last block.
            long.split("------END USER NKEY").next().unwrap().to_owned(),
        ] {
            let read = parse(&text).unwrap();
            assert_eq!(read.jwt.expose(), "can.ar.y");
            assert_eq!(read.key.seed().expose(), seed());
            let shown = format!("{read:?}");
            assert!(
                !shown.contains("can.ar") && !shown.contains(&seed()),
                "{shown}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_what_it_is() {
        let account = KeyPair::new(KeyKind::Account, &[3; 32]).seed();
        let cases = [
            (String::new(), "creds without a line that begins a USER JWT"),
            (
                creds().replace("USER JWT", "JWT"),
                "creds without a line that begins a USER JWT",
            ),
            (
                creds().replace("can.", "can\n."),
                "JWT of 2 lines in creds, allowed is one",
            ),
            (
                creds().replace("can.ar.y", ""),
                "JWT of 0 lines in creds, allowed is one",
            ),
            (
                creds().replace("can.", "can"),
                "JWT is not three base64url words with dots between",
            ),
            (
                creds().replace("can.", "."),
                "JWT is not three base64url words with dots between",
            ),
            (
                creds().replace("can", "c n"),
                "JWT is not three base64url words with dots between",
            ),
            (
                creds().replace("BEGIN USER", "USER"),
                "creds without a seed behind the JWT",
            ),
            (
                creds().replace("SU", "S\nU"),
                "seed of 2 lines in creds, allowed is one",
            ),
            (
                creds().replace("SU", "SV"),
                "seed in creds: check sum of a key is wrong",
            ),
            (
                creds().replace(&seed(), account.expose()),
                "seed in creds: key is of another kind than is needed here",
            ),
            (
                " ".repeat(CREDS_BYTES_MAX + 1),
                "creds of 65537 bytes exceed 65536 bytes",
            ),
        ];
        for (text, expected) in cases {
            let error = parse(&text).unwrap_err().to_string();
            assert_eq!(error, expected, "{}", text.trim());
        }
    }
}
