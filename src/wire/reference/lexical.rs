//! What operations are made of: names, blanks, lines and bodies.

use nom::bytes::{complete, streaming};
use nom::character::streaming::one_of;
use nom::combinator::{peek, recognize};
use nom::error::{ErrorKind, ParseError};
use nom::sequence::{preceded, terminated};
use nom::{IResult, Parser};

use crate::wire::FrameError;

/// What a rule makes of an input: the rest and a value; or more bytes are needed; or a refusal.
///
/// nom's `Error` means that another rule may fit, its `Failure` that none will.
pub(super) type Read<'a, Value> = IResult<&'a [u8], Value, Refusal>;

/// A rule of the grammar.
pub(super) trait Rule<'a, Value>: Parser<&'a [u8], Output = Value, Error = Refusal> {}

impl<'a, Value, This> Rule<'a, Value> for This where
    This: Parser<&'a [u8], Output = Value, Error = Refusal>
{
}

/// Why an input is refused. Where no rule fits, the bytes begin no operation.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) FrameError);

impl ParseError<&[u8]> for Refusal {
    fn from_error_kind(_: &[u8], _: ErrorKind) -> Self {
        Self(FrameError::UnknownOp)
    }

    fn append(_: &[u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

/// Refuses for good: no other rule is tried.
pub(super) const fn refusal(error: FrameError) -> nom::Err<Refusal> {
    nom::Err::Failure(Refusal(error))
}

/// What one side takes off the bytes before LF: the line end that does not belong to the arguments.
pub(super) type WithoutLineEnd = fn(&[u8]) -> &[u8];

/// An operation's name, in any case.
pub(super) fn name<'a>(upper_case: &'static str) -> impl Rule<'a, &'a [u8]> {
    streaming::tag_no_case(upper_case)
}

/// Blanks or none: at most `max` bytes. Where they end is known when another byte is there.
pub(super) fn blanks<'a>(max: usize) -> impl Rule<'a, &'a [u8]> {
    move |input: &'a [u8]| {
        let (rest, blanks) = complete::take_while(is_blank).parse(input)?;
        if blanks.len() > max {
            return Err(refusal(FrameError::LineTooLong { max }));
        }
        let (rest, _) = peek(streaming::take(1_usize)).parse(rest)?;
        Ok((rest, blanks))
    }
}

/// One blank at least: at most `max` bytes.
pub(super) fn some_blanks<'a>(max: usize) -> impl Rule<'a, &'a [u8]> {
    preceded(peek(one_of(BLANK)), blanks(max))
}

/// Arguments: a byte, whatever it is, and all up to LF. Without the line end, and at most `max`
/// bytes, also while LF is not there.
pub(super) fn arguments<'a>(without_end: WithoutLineEnd, max: usize) -> impl Rule<'a, &'a [u8]> {
    ended(
        recognize((streaming::take(1_usize), till_lf)),
        without_end,
        max,
    )
}

/// A line without arguments, or one that may be empty: all up to LF. The same holds for it.
pub(super) fn line<'a>(without_end: WithoutLineEnd, max: usize) -> impl Rule<'a, &'a [u8]> {
    ended(till_lf, without_end, max)
}

/// An unfinished line is measured as if LF came next, since then it is at its shortest.
fn ended<'a>(
    mut whole: impl Rule<'a, &'a [u8]>,
    without_end: WithoutLineEnd,
    max: usize,
) -> impl Rule<'a, &'a [u8]> {
    move |input: &'a [u8]| {
        let (rest, whole) = whole.parse(input)?;
        let line = without_end(whole);
        if line.len() > max {
            return Err(refusal(FrameError::LineTooLong { max }));
        }
        let (rest, _) = streaming::tag(&b"\n"[..]).parse(rest)?;
        Ok((rest, line))
    }
}

fn till_lf(input: &[u8]) -> Read<'_, &[u8]> {
    complete::take_till(|byte| byte == b'\n').parse(input)
}

/// Nothing, in front of CR or LF.
pub(super) fn line_may_end(input: &[u8]) -> Read<'_, &[u8]> {
    peek(one_of(&b"\r\n"[..])).parse(input)?;
    Ok((input, b""))
}

/// `total` bytes and CR LF.
pub(super) fn body<'a>(total: usize) -> impl Rule<'a, &'a [u8]> {
    terminated(streaming::take(total), payload_terminator)
}

fn payload_terminator(input: &[u8]) -> Read<'_, &[u8]> {
    match streaming::tag(&b"\r\n"[..])(input) {
        Err(nom::Err::Error(Refusal(_))) => Err(refusal(FrameError::PayloadTerminator)),
        read => read,
    }
}

/// Whether a byte stands between fields, or before or behind them.
pub(super) fn is_blank(byte: u8) -> bool {
    BLANK.contains(&byte)
}

/// Whether a byte is a blank, or of those that end lines.
pub(super) fn is_blank_or_line_end(byte: u8) -> bool {
    is_blank(byte) || matches!(byte, b'\r' | b'\n')
}

/// Drops a CR at the end.
pub(super) fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

const BLANK: &[u8] = b" \t";
