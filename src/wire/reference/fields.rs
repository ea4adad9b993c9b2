//! What stands on a line: fields, sizes, texts.

use nom::Parser as _;
use nom::bytes::complete::{take_till1, take_while, take_while_m_n};
use nom::combinator::{all_consuming, rest};
use nom::multi::many0;
use nom::sequence::{preceded, terminated};

use super::lexical::{Read, Refusal, is_blank, is_blank_or_line_end, refusal};
use crate::wire::{FrameError, HeaderBlock, Limits};

/// The fields of a line, between runs of bytes that `is_separator` names.
pub(super) fn fields(line: &[u8], is_separator: fn(u8) -> bool) -> Vec<&[u8]> {
    let field = preceded(take_while(is_separator), take_till1(is_separator));
    let read: Read<'_, _> =
        all_consuming(terminated(many0(field), take_while(is_separator))).parse(line);
    read.map_or_else(|_| Vec::new(), |(_, fields)| fields)
}

/// A size: one to nine digits.
fn size(field: &[u8]) -> Result<usize, nom::Err<Refusal>> {
    let digit = |byte: u8| byte.is_ascii_digit();
    let read: Read<'_, &[u8]> = all_consuming(take_while_m_n(1, 9, digit)).parse(field);
    let digits = read
        .ok()
        .and_then(|(_, digits)| str::from_utf8(digits).ok());
    let size = digits.and_then(|digits| digits.parse().ok());
    size.ok_or(refusal(FrameError::BadSize))
}

/// The sizes of one message: how much of the body is headers, and all of it.
pub(super) struct Sizes {
    headers: usize,
    pub(super) total: usize,
}

impl Sizes {
    /// Reads the sizes of a message with headers, and of one without: that has no bytes of them.
    pub(super) fn read(
        limits: Limits,
        headers: Option<&[u8]>,
        total: &[u8],
    ) -> Result<Self, nom::Err<Refusal>> {
        let headers = headers.map_or(Ok(0), size)?;
        let total = size(total)?;
        let max = limits.payload_bytes_max;
        if headers > total {
            return Err(refusal(FrameError::HeaderLargerThanTotal));
        }
        if total > max {
            return Err(refusal(FrameError::PayloadTooLong { found: total, max }));
        }
        Ok(Self { headers, total })
    }

    /// Cuts a body in two: its header block, unless that has no bytes, and its payload.
    pub(super) fn cut<'a>(&self, body: &'a [u8]) -> (Option<HeaderBlock<'a>>, &'a [u8]) {
        match body.split_at_checked(self.headers) {
            None | Some(([], _)) => (None, body),
            Some((block, payload)) => (Some(HeaderBlock::new(block)), payload),
        }
    }
}

/// A text: a line without the blanks and line ends behind it.
pub(super) fn text(line: &[u8]) -> &[u8] {
    without_end(line, is_blank_or_line_end)
}

/// The text of -ERR: without its pair of quotes, where it has both.
pub(super) fn unquoted(text: &[u8]) -> &[u8] {
    match text {
        [b'\'', inner @ .., b'\''] => inner,
        _ => text,
    }
}

/// A line without blanks at both ends.
pub(super) fn trimmed(line: &[u8]) -> &[u8] {
    let read: Read<'_, _> = preceded(take_while(is_blank), rest).parse(line);
    read.map_or(line, |(_, behind)| without_end(behind, is_blank))
}

fn without_end(mut line: &[u8], is_end: fn(u8) -> bool) -> &[u8] {
    while let [before @ .., last] = line
        && is_end(*last)
    {
        line = before;
    }
    line
}
