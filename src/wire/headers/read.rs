//! Header blocks that arrived, read lazily where they lie.

use core::fmt;

use memchr::memchr;

use crate::wire::status::Status;

use super::{VERSION, is_blank, trim};

/// A header block as it arrived, unparsed.
///
/// Servers pass on what a publisher wrote, so a block can be malformed: [`HeaderBlock::check`]
/// tells. Names are compared case by case, values are read without the blanks around them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HeaderBlock<'a>(&'a [u8]);

impl<'a> HeaderBlock<'a> {
    /// Takes the bytes from `NATS/1.0` to the blank line.
    #[inline]
    #[must_use]
    pub const fn new(raw: &'a [u8]) -> Self {
        Self(raw)
    }

    /// The bytes as they arrived.
    #[inline]
    #[must_use]
    pub const fn raw(self) -> &'a [u8] {
        self.0
    }

    /// Looks at the whole block.
    ///
    /// # Errors
    ///
    /// The first [`HeaderError`]; what lies before it can still be read.
    pub fn check(self) -> Result<(), HeaderError> {
        self.status()?;
        self.iter().try_for_each(|field| field.map(|_| ()))
    }

    /// The status line's code and description; `None` for a block without a status.
    ///
    /// # Errors
    ///
    /// [`HeaderError::Version`] or [`HeaderError::Status`].
    pub fn status(self) -> Result<Option<Status<'a>>, HeaderError> {
        let (line, _) = cut_line(self.0).ok_or(HeaderError::Unterminated)?;
        let rest = line.strip_prefix(VERSION).ok_or(HeaderError::Version)?;
        let text = trim(rest);
        if text.is_empty() {
            return Ok(None);
        }
        let (digits, description) = text.split_at_checked(3).ok_or(HeaderError::Status)?;
        let is_code = digits.iter().all(u8::is_ascii_digit);
        if !is_code || description.first().is_some_and(|byte| !is_blank(*byte)) {
            return Err(HeaderError::Status);
        }
        let code = digits.iter().fold(0_u16, |code, digit| {
            code.wrapping_mul(10)
                .wrapping_add(u16::from(digit.wrapping_sub(b'0')))
        });
        Ok(Some(Status {
            code,
            description: trim(description),
        }))
    }

    /// The fields in order: name, and value without the blanks around it.
    #[must_use]
    pub fn iter(self) -> HeaderIter<'a> {
        // Most have no status.
        let rest = self.0.strip_prefix(b"NATS/1.0\r\n");
        let rest = rest.or_else(|| Some(cut_line(self.0)?.1));
        HeaderIter {
            rest: rest.unwrap_or_default(),
            is_over: false,
        }
    }

    /// The first value of `name`.
    #[must_use]
    pub fn first(self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The last value of `name`. What a server adds comes last, so read a server's fields so.
    #[must_use]
    pub fn last(self, name: &str) -> Option<&'a [u8]> {
        self.all(name).last()
    }

    /// Every value of `name` in order.
    pub fn all(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let is_wanted = move |field: &(&'a [u8], &'a [u8])| field.0 == name.as_bytes();
        self.iter()
            .map_while(Result::ok)
            .filter(is_wanted)
            .map(|(_, value)| value)
    }
}

impl<'a> IntoIterator for HeaderBlock<'a> {
    type Item = Field<'a>;
    type IntoIter = HeaderIter<'a>;

    fn into_iter(self) -> HeaderIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for HeaderBlock<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "HeaderBlock({})", self.0.escape_ascii())
    }
}

/// A name and its value, or why the line holds none.
type Field<'a> = Result<(&'a [u8], &'a [u8]), HeaderError>;

/// Fields of a header block; ends after the blank line or the first error.
#[derive(Debug, Clone)]
pub struct HeaderIter<'a> {
    rest: &'a [u8],
    is_over: bool,
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let field = self.field();
        self.is_over = !matches!(field, Some(Ok(_)));
        field
    }
}

impl<'a> HeaderIter<'a> {
    fn field(&mut self) -> Option<Field<'a>> {
        let Some((line, rest)) = cut_line(self.rest) else {
            return Some(Err(HeaderError::Unterminated));
        };
        self.rest = rest;
        if line.is_empty() {
            return None;
        }
        let Some((name, value)) = line
            .iter()
            .position(|byte| *byte == b':')
            .and_then(|colon| line.split_at_checked(colon))
        else {
            return Some(Err(HeaderError::NoColon));
        };
        if name.is_empty() {
            return Some(Err(HeaderError::NoName));
        }
        Some(Ok((name, trim(value.get(1..).unwrap_or_default()))))
    }
}

/// Why a header block that arrived cannot be read. The message and its payload are not affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HeaderError {
    /// It does not begin with `NATS/1.0`.
    Version,
    /// What follows the version is not three digits and a description.
    Status,
    /// A line has no colon.
    NoColon,
    /// A line begins with its colon.
    NoName,
    /// The blank line at the end is missing.
    Unterminated,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Version => "header block does not begin with `NATS/1.0`",
            Self::Status => "status is not three digits and a description",
            Self::NoColon => "header line has no colon",
            Self::NoName => "header line has no name",
            Self::Unterminated => "header block does not end with a blank line",
        })
    }
}

impl core::error::Error for HeaderError {}

/// Cuts the first line off; a bare LF ends it as CR LF does.
fn cut_line(block: &[u8]) -> Option<(&[u8], &[u8])> {
    let (line, rest) = block.split_at_checked(memchr(b'\n', block)?)?;
    Some((line.strip_suffix(b"\r").unwrap_or(line), rest.get(1..)?))
}
