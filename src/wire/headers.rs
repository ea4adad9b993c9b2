//! Header blocks: read lazily where they lie, kept encoded where they are made.

use core::fmt;

use memchr::memchr;

use super::status::Status;

/// What every block begins with.
pub(super) const VERSION: &[u8] = b"NATS/1.0";

/// A header block as it arrived, unparsed.
///
/// Servers pass on what a publisher wrote, so a block can be malformed: [`HeaderBlock::check`]
/// tells. Names are compared case by case, values are read without the blanks around them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HeaderBlock<'a>(&'a [u8]);

impl<'a> HeaderBlock<'a> {
    /// Takes the bytes from `NATS/1.0` to the blank line.
    #[must_use]
    pub const fn new(raw: &'a [u8]) -> Self {
        Self(raw)
    }

    /// The bytes as they arrived.
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
        match cut_line(self.0) {
            Some((_, rest)) => HeaderIter {
                rest,
                is_over: false,
            },
            None => HeaderIter {
                rest: &[],
                is_over: false,
            },
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
        let Some((name, value)) = memchr(b':', line).and_then(|colon| line.split_at_checked(colon))
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
    pub(super) fn status_text(&self) -> &[u8] {
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
    pub(crate) const fn trusted(lines: &'a [u8]) -> Self {
        Self(lines)
    }

    /// The bytes.
    #[must_use]
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

/// Cuts the first line off; a bare LF ends it as CR LF does.
fn cut_line(block: &[u8]) -> Option<(&[u8], &[u8])> {
    let (line, rest) = block.split_at_checked(memchr(b'\n', block)?)?;
    Some((line.strip_suffix(b"\r").unwrap_or(line), rest.get(1..)?))
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_blank(*first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_blank(*last)
    {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(raw: &[u8]) -> HeaderBlock<'_> {
        HeaderBlock::new(raw)
    }

    #[test]
    fn names_keep_their_case_and_order_and_values_lose_the_blanks_around() {
        let block = block(b"NATS/1.0\r\nA:  b \r\na:c\r\nA: d\r\nE:\r\n\r\n");
        assert_eq!(block.check(), Ok(()));
        assert_eq!(block.first("A"), Some(&b"b"[..]));
        assert_eq!(block.last("A"), Some(&b"d"[..]));
        assert_eq!(block.first("a"), Some(&b"c"[..]));
        assert_eq!(block.first("E"), Some(&b""[..]));
        assert_eq!(block.all("A").count(), 2);
        assert_eq!(block.iter().count(), 4);
    }

    #[test]
    fn a_status_is_three_digits_and_perhaps_words() {
        let status = |raw| block(raw).status();
        let words = Status {
            code: 404,
            description: b"No Messages",
        };
        assert_eq!(
            status(b"NATS/1.0   404   No Messages \r\n\r\n"),
            Ok(Some(words))
        );
        assert_eq!(
            status(b"NATS/1.0 503\r\n\r\n"),
            Ok(Some(Status {
                code: 503,
                description: b""
            }))
        );
        assert_eq!(status(b"NATS/1.0\r\n\r\n"), Ok(None));
        for bad in [
            &b"NATS/1.0 abc\r\n\r\n"[..],
            b"NATS/1.0 99999\r\n\r\n",
            b"NATS/1.0 1\r\n\r\n",
        ] {
            assert_eq!(
                status(bad),
                Err(HeaderError::Status),
                "{}",
                bad.escape_ascii()
            );
        }
        assert_eq!(status(b"NATS/2.0\r\n\r\n"), Err(HeaderError::Version));
        assert_eq!(status(b""), Err(HeaderError::Unterminated));
    }

    #[test]
    fn a_malformed_block_says_why_and_still_gives_what_came_before() {
        let cases: [(&[u8], HeaderError); 5] = [
            (b"NATS/1.0\r\nA: b\r\nfolded\r\n\r\n", HeaderError::NoColon),
            (b"NATS/1.0\r\nA: b\r\n: c\r\n\r\n", HeaderError::NoName),
            (b"NATS/1.0\r\nA: b\r\n", HeaderError::Unterminated),
            (b"NATS/1.0\r\nA: b\r\nC: d", HeaderError::Unterminated),
            (b"garbage\r\nA: b\r\n\r\n", HeaderError::Version),
        ];
        for (raw, error) in cases {
            assert_eq!(block(raw).check(), Err(error), "{}", raw.escape_ascii());
            assert_eq!(
                block(raw).first("A"),
                Some(&b"b"[..]),
                "{}",
                raw.escape_ascii()
            );
        }
    }

    #[test]
    fn a_set_is_empty_without_status_and_fields() {
        let mut fields = Headers::new();
        assert!(fields.is_empty() && !fields.has_status());
        fields.append("A", "b").unwrap();
        assert!(!fields.is_empty() && !fields.has_status());
        let status = Headers::with_status(100, "").unwrap();
        assert!(!status.is_empty() && status.has_status());
        assert_eq!(
            format!("{fields:?} {status:?}"),
            r"Headers(A: b\r\n) Headers( 100)"
        );
        assert_eq!(format!("{:?}", block(b"a\n")), r"HeaderBlock(a\n)");
    }

    #[test]
    fn an_error_says_what_is_wrong() {
        let cases = [
            (
                HeaderError::Version,
                "header block does not begin with `NATS/1.0`",
            ),
            (
                HeaderError::Status,
                "status is not three digits and a description",
            ),
            (HeaderError::NoColon, "header line has no colon"),
            (HeaderError::NoName, "header line has no name"),
            (
                HeaderError::Unterminated,
                "header block does not end with a blank line",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
        let found = b'\n';
        let cases = [
            (HeaderFieldError::EmptyName, "header name is empty"),
            (
                HeaderFieldError::Name { found },
                "header name holds byte 10, allowed are 33 to 126 without `:`",
            ),
            (
                HeaderFieldError::Value { found },
                "header value holds byte 10, allowed are all but CR, LF and NUL",
            ),
            (
                HeaderFieldError::Blank,
                "header value begins or ends with a blank",
            ),
            (
                HeaderFieldError::Code { found: 99 },
                "status code 99 is not within 100 to 999",
            ),
            (
                HeaderFieldError::Line,
                "header line is not `Name: value` and CR LF",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn no_line_end_can_be_smuggled_into_a_field() {
        let mut headers = Headers::new();
        for (name, value) in [
            ("A\r\n", "b"),
            ("A:", "b"),
            ("", "b"),
            ("A", "b\r\nC: d"),
            ("A", " b"),
            ("Ä", "b"),
        ] {
            assert!(headers.append(name, value).is_err(), "{name:?} {value:?}");
        }
        assert!(Headers::with_status(99, "").is_err());
        assert!(Headers::with_status(200, "a\r\nb").is_err());
        assert!(headers.is_empty());
    }

    #[test]
    fn what_was_appended_is_read_back() {
        let mut headers = Headers::with_status(204, "EOB").unwrap();
        headers.append("A", "b").unwrap();
        headers.append("A", [0xff]).unwrap();
        let raw = headers.to_block();
        let block = block(&raw);
        assert_eq!(
            block.status(),
            Ok(Some(Status {
                code: 204,
                description: b"EOB"
            }))
        );
        assert_eq!(block.all("A").collect::<Vec<_>>(), [&b"b"[..], &[0xff]]);
        assert_eq!(
            HeaderLines::new(headers.lines().as_bytes()),
            Ok(headers.lines())
        );
        for bad in [
            &b"A: b"[..],
            b"A: b\n",
            b"A:b\r\n",
            b"Ab\r\n",
            b"A: b\rc\r\n",
        ] {
            assert!(HeaderLines::new(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn a_block_is_walked_like_any_collection() {
        let mut names = Vec::new();
        for field in block(b"NATS/1.0\r\nA: b\r\nC: d\r\n\r\n") {
            names.push(field.unwrap().0);
        }
        assert_eq!(names, [b"A", b"C"]);
    }
}
