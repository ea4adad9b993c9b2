//! The header block: a status line, fields, and a blank line.

use nom::Parser as _;
use nom::branch::alt;
use nom::bytes::complete::{tag, take_till, take_while_m_n, take_while1};
use nom::combinator::{eof, peek, rest};
use nom::sequence::{pair, preceded, separated_pair, terminated};

use super::fields::trimmed;
use super::lexical::{Read, is_blank, without_cr};
use crate::wire::{HeaderError, Status};

/// What the grammar says of a header block.
///
/// ```text
/// block   = first *field [CR] LF *<any byte>
/// first   = "NATS/1.0" *blank [3DIGIT [1*blank text]] *blank [CR] LF
/// field   = name ":" *blank value *blank [CR] LF
/// name    = 1*<any byte but ":" and LF>
/// value   = *<any byte but LF>
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the protocol is complete")]
pub struct Headers<'a> {
    /// What the first line says of a status: none, one, or that it cannot be read.
    pub status: Result<Option<Status<'a>>, HeaderError>,
    /// The fields in order, up to the first line that is none.
    pub fields: Vec<(&'a [u8], &'a [u8])>,
    /// What is wrong behind those fields.
    pub end: Result<(), HeaderError>,
}

/// Reads a header block. Never fails as a whole: what can be read of it is read.
///
/// ```
/// let block = natseq::wire::reference::headers(b"NATS/1.0 503\r\nA: 1\r\nB:\t2 \r\n\r\n");
/// assert_eq!(block.status.unwrap().unwrap().code, 503);
/// assert_eq!(block.fields, [(&b"A"[..], &b"1"[..]), (b"B", b"2")]);
/// assert_eq!(block.end, Ok(()));
/// ```
#[must_use]
pub fn headers(block: &[u8]) -> Headers<'_> {
    let mut fields = Vec::new();
    let Ok((mut remaining, first)) = line(block) else {
        return Headers {
            status: Err(HeaderError::Unterminated),
            fields,
            end: Err(HeaderError::Unterminated),
        };
    };
    let end = loop {
        let Ok((after, line)) = line(remaining) else {
            break Err(HeaderError::Unterminated);
        };
        if line.is_empty() {
            break Ok(());
        }
        match field(line) {
            Ok(field) => fields.push(field),
            Err(error) => break Err(error),
        }
        remaining = after;
    };
    Headers {
        status: status(first),
        fields,
        end,
    }
}

/// One line without its line end.
fn line(input: &[u8]) -> Read<'_, &[u8]> {
    let (rest, line) = terminated(take_till(|byte| byte == b'\n'), tag(&b"\n"[..])).parse(input)?;
    Ok((rest, without_cr(line)))
}

/// The version, and a status where there is one.
fn status(first: &[u8]) -> Result<Option<Status<'_>>, HeaderError> {
    let version: Read<'_, _> = tag(&b"NATS/1.0"[..])(first);
    let (text, _) = version.map_err(|_| HeaderError::Version)?;
    if trimmed(text).is_empty() {
        return Ok(None);
    }
    let digits = take_while_m_n(3, 3, |byte: u8| byte.is_ascii_digit());
    let description = alt((eof, preceded(peek(take_while1(is_blank)), rest)));
    let read: Read<'_, _> = pair(digits, description).parse(trimmed(text));
    let (_, (digits, description)) = read.map_err(|_| HeaderError::Status)?;
    let code = str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok());
    Ok(Some(Status {
        code: code.ok_or(HeaderError::Status)?,
        description: trimmed(description),
    }))
}

/// A name and its value.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), HeaderError> {
    let read: Read<'_, _> =
        separated_pair(take_till(|byte| byte == b':'), tag(&b":"[..]), rest).parse(line);
    match read {
        Err(_) => Err(HeaderError::NoColon),
        Ok((_, ([], _))) => Err(HeaderError::NoName),
        Ok((_, (name, value))) => Ok((name, trimmed(value))),
    }
}
