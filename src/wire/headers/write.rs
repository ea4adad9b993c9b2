//! Headers to publish with, kept encoded as they are made.

use core::fmt;

use memchr::memchr;

use super::{VERSION, trim};

/// Headers to publish with, in order; a name may occur more than once.
///
/// ```
/// use natseq::wire::Headers;
///
/// let mut headers = Headers::new();
/// headers.append("Trace", "7")?;
/// assert!(headers.append("Bad name", "x").is_err());
/// # Ok::<(), natseq::wire::HeaderFieldError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Headers {
    /// What follows the version: empty, or a blank, the code and the description.
    status: Vec<u8>,
    lines: Vec<u8>,
}

impl Headers {
    /// Makes an empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            status: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// Makes an empty set with a status line, which servers and services answer with.
    ///
    /// # Errors
    ///
    /// [`HeaderFieldError::Code`] for a code of other than three digits,
    /// [`HeaderFieldError::Value`] for a description with CR or LF.
    pub fn with_status(code: u16, description: &str) -> Result<Self, HeaderFieldError> {
        if !(100..=999).contains(&code) {
            return Err(HeaderFieldError::Code { found: code });
        }
        check_value(description.as_bytes())?;
        let mut status = Vec::new();
        status.push(b' ');
        crate::decimal::write(&mut status, u64::from(code));
        if !description.is_empty() {
            status.push(b' ');
            status.extend_from_slice(description.as_bytes());
        }
        Ok(Self {
            status,
            lines: Vec::new(),
        })
    }

    /// Adds a field behind those that are there.
    ///
    /// # Errors
    ///
    /// [`HeaderFieldError`] says which byte is not allowed; nothing was added then.
    pub fn append(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), HeaderFieldError> {
        let value = value.as_ref();
        check_name(name.as_bytes())?;
        check_value(value)?;
        self.lines.extend_from_slice(name.as_bytes());
        self.lines.extend_from_slice(b": ");
        self.lines.extend_from_slice(value);
        self.lines.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Puts a field behind those that are there, in place of all of its name.
    ///
    /// # Errors
    ///
    /// As [`Headers::append`]; nothing was changed then.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), HeaderFieldError> {
        let before = self.lines.len();
        self.append(name, value)?;
        let new = self.lines.split_off(before);
        self.remove(name);
        self.lines.extend_from_slice(&new);
        Ok(())
    }

    /// Takes all fields of this name out; returns how many there were.
    pub fn remove(&mut self, name: &str) -> usize {
        let mut kept = Vec::with_capacity(self.lines.len());
        let mut removed = 0_usize;
        for line in self.lines.split_inclusive(|byte| *byte == b'\n') {
            let rest = line.strip_prefix(name.as_bytes());
            if rest.is_some_and(|rest| rest.starts_with(b":")) {
                removed = removed.saturating_add(1);
            } else {
                kept.extend_from_slice(line);
            }
        }
        self.lines = kept;
        removed
    }

    /// The fields in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let lines = self.lines.split_inclusive(|byte| *byte == b'\n');
        lines.filter_map(|line| {
            let line = line.strip_suffix(b"\r\n")?;
            let (name, value) = line.split_at_checked(memchr(b':', line)?)?;
            let value = value.strip_prefix(b": ")?;
            Some((core::str::from_utf8(name).ok()?, value))
        })
    }

    /// The values of `name` in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let fields = self.iter().filter(move |(found, _)| *found == name);
        fields.map(|(_, value)| value)
    }

    /// Returns true when there is neither a status nor a field.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.status.is_empty() && self.lines.is_empty()
    }

    /// Returns true when there is a status line.
    #[must_use]
    pub const fn has_status(&self) -> bool {
        !self.status.is_empty()
    }

    /// The fields, encoded.
    #[must_use]
    pub fn lines(&self) -> HeaderLines<'_> {
        HeaderLines(&self.lines)
    }

    /// What follows the version on the first line.
    #[inline]
    pub(in crate::wire) fn status_text(&self) -> &[u8] {
        &self.status
    }

    /// The whole block, encoded.
    #[must_use]
    pub fn to_block(&self) -> Vec<u8> {
        let mut block = Vec::new();
        for piece in [VERSION, &self.status, b"\r\n", &self.lines, b"\r\n"] {
            block.extend_from_slice(piece);
        }
        block
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "Headers({}{})",
            self.status.escape_ascii(),
            self.lines.escape_ascii()
        )
    }
}

/// Encoded fields, each a complete line; a value that exists is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct HeaderLines<'a>(&'a [u8]);

impl<'a> HeaderLines<'a> {
    /// Takes `Name: value` lines, each with its CR LF.
    ///
    /// # Errors
    ///
    /// [`HeaderFieldError`] for the first line that could not be written.
    pub fn new(mut lines: &'a [u8]) -> Result<Self, HeaderFieldError> {
        let whole = Self(lines);
        while !lines.is_empty() {
            let Some((line, rest)) = memchr(b'\n', lines)
                .and_then(|end| lines.split_at_checked(end.saturating_add(1)))
                .and_then(|(line, rest)| Some((line.strip_suffix(b"\r\n")?, rest)))
            else {
                return Err(HeaderFieldError::Line);
            };
            let colon = memchr(b':', line).ok_or(HeaderFieldError::Line)?;
            let (name, value) = line.split_at_checked(colon).ok_or(HeaderFieldError::Line)?;
            check_name(name)?;
            let value = value.strip_prefix(b": ").ok_or(HeaderFieldError::Line)?;
            check_value(value)?;
            lines = rest;
        }
        Ok(whole)
    }

    /// Takes lines that this crate has just made.
    #[inline]
    pub(crate) const fn trusted(lines: &'a [u8]) -> Self {
        Self(lines)
    }

    /// The bytes.
    #[must_use]
    #[inline]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// Why a header field cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HeaderFieldError {
    /// The name is empty.
    EmptyName,
    /// The name holds this byte; allowed are 33 to 126 without the colon.
    Name {
        /// The byte.
        found: u8,
    },
    /// The value holds this byte; allowed is any but CR, LF and NUL.
    Value {
        /// The byte.
        found: u8,
    },
    /// The value begins or ends with a blank, which readers disagree about.
    Blank,
    /// The status code has other than three digits.
    Code {
        /// The code.
        found: u16,
    },
    /// A line is not `Name: value` with CR LF.
    Line,
}

impl fmt::Display for HeaderFieldError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyName => out.write_str("header name is empty"),
            Self::Name { found } => {
                write!(
                    out,
                    "header name holds byte {found}, allowed are 33 to 126 without `:`"
                )
            }
            Self::Value { found } => {
                write!(
                    out,
                    "header value holds byte {found}, allowed are all but CR, LF and NUL"
                )
            }
            Self::Blank => out.write_str("header value begins or ends with a blank"),
            Self::Code { found } => write!(out, "status code {found} is not within 100 to 999"),
            Self::Line => out.write_str("header line is not `Name: value` and CR LF"),
        }
    }
}

impl core::error::Error for HeaderFieldError {}

fn check_name(name: &[u8]) -> Result<(), HeaderFieldError> {
    if name.is_empty() {
        return Err(HeaderFieldError::EmptyName);
    }
    let is_bad = |byte: &&u8| !(33..=126).contains(*byte) || **byte == b':';
    name.iter().find(is_bad).map_or(Ok(()), |found| {
        Err(HeaderFieldError::Name { found: *found })
    })
}

fn check_value(value: &[u8]) -> Result<(), HeaderFieldError> {
    if let Some(found) = value.iter().find(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return Err(HeaderFieldError::Value { found: *found });
    }
    if trim(value).len() != value.len() {
        return Err(HeaderFieldError::Blank);
    }
    Ok(())
}
