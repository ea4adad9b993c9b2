//! What a client says, as nats-server reads it.

use nom::Parser as _;
use nom::branch::alt;
use nom::sequence::preceded;

use super::fields::{Sizes, fields, text, unquoted};
use super::lexical::{
    self, Read, Rule, blanks, body, is_blank, is_blank_or_line_end, line, name, refusal,
    some_blanks, without_cr,
};
use crate::wire::{ClientOp, FrameError, Limits, PubView};

/// Any operation of a client.
pub(super) fn op<'a>(limits: Limits) -> impl Rule<'a, ClientOp<'a>> {
    alt((
        preceded(name("CONNECT"), connect(limits)),
        preceded(name("PUB"), publish(limits)),
        preceded(name("HPUB"), publish_with_headers(limits)),
        preceded(name("SUB"), subscribe(limits)),
        preceded(name("UNSUB"), unsubscribe(limits)),
        preceded(name("INFO"), info(limits)),
        preceded(name("-ERR"), err(limits)),
        preceded(name("+OK"), junk(limits)).map(|_| ClientOp::Ok),
        preceded(name("PING"), junk(limits)).map(|_| ClientOp::Ping),
        preceded(name("PONG"), junk(limits)).map(|_| ClientOp::Pong),
    ))
}

fn connect<'a>(limits: Limits) -> impl Rule<'a, ClientOp<'a>> {
    json(limits).map(|json| ClientOp::Connect { json })
}

fn info<'a>(limits: Limits) -> impl Rule<'a, ClientOp<'a>> {
    json(limits).map(|json| ClientOp::Info { json })
}

fn err<'a>(limits: Limits) -> impl Rule<'a, ClientOp<'a>> {
    arguments(limits).map(|line| ClientOp::Err {
        text: unquoted(text(line)),
    })
}

fn publish<'a>(limits: Limits) -> impl Rule<'a, ClientOp<'a>> {
    move |input: &'a [u8]| {
        let (rest, line) = arguments(limits).parse(input)?;
        let (subject, reply, total) = match *fields(line, is_blank) {
            [subject, total] => (subject, None, total),
            [subject, reply, total] => (subject, Some(reply), total),
            _ => return Err(refusal(FrameError::ArgumentCount)),
        };
        let sizes = Sizes::read(limits, None, total)?;
        message(rest, &sizes, subject, reply, (b"", total))
    }
}

fn publish_with_headers<'a>(limits: Limits) -> impl Rule<'a, ClientOp<'a>> {
    move |input: &'a [u8]| {
        let (rest, line) = arguments(limits).parse(input)?;
        if !limits.allows_headers {
            return Err(refusal(FrameError::HeadersRefused));
        }
        let (subject, reply, headers, total) = match *fields(line, is_blank) {
            [subject, headers, total] => (subject, None, headers, total),
            [subject, reply, headers, total] => (subject, Some(reply), headers, total),
            _ => return Err(refusal(FrameError::ArgumentCount)),
        };
        let sizes = Sizes::read(limits, Some(headers), total)?;
        message(rest, &sizes, subject, reply, (headers, total))
    }
}

/// What follows the line of PUB and HPUB, whose digits are kept as they were written.
fn message<'a>(
    input: &'a [u8],
    sizes: &Sizes,
    subject: &'a [u8],
    reply: Option<&'a [u8]>,
    (header_digits, total_digits): (&'a [u8], &'a [u8]),
) -> Read<'a, ClientOp<'a>> {
    let (rest, body) = body(sizes.total).parse(input)?;
    let (headers, payload) = sizes.cut(body);
    let view = PubView {
        subject,
        reply,
        headers,
        payload,
        header_digits,
        total_digits,
    };
    Ok((rest, ClientOp::Pub(view)))
}

fn subscribe<'a>(limits: Limits) -> impl Rule<'a, ClientOp<'a>> {
    move |input: &'a [u8]| {
        let (rest, line) = arguments(limits).parse(input)?;
        let (subject, queue_group, sid) = match *fields(line, is_blank_or_line_end) {
            [subject, sid] => (subject, None, sid),
            [subject, queue_group, sid] => (subject, Some(queue_group), sid),
            _ => return Err(refusal(FrameError::ArgumentCount)),
        };
        let op = ClientOp::Sub {
            subject,
            queue_group,
            sid,
        };
        Ok((rest, op))
    }
}

fn unsubscribe<'a>(limits: Limits) -> impl Rule<'a, ClientOp<'a>> {
    move |input: &'a [u8]| {
        let (rest, line) = arguments(limits).parse(input)?;
        match *fields(line, is_blank_or_line_end) {
            [sid] => Ok((rest, ClientOp::Unsub { sid, max: None })),
            [sid, max] => {
                let max = Some(max);
                Ok((rest, ClientOp::Unsub { sid, max }))
            }
            _ => Err(refusal(FrameError::ArgumentCount)),
        }
    }
}

/// The one argument of CONNECT and INFO, which need not be JSON but must be there.
fn json<'a>(limits: Limits) -> impl Rule<'a, &'a [u8]> {
    let max = limits.line_bytes_max;
    move |input: &'a [u8]| {
        let (rest, line) =
            preceded(blanks(max), lexical::arguments(without_last, max)).parse(input)?;
        match text(line) {
            [] => Err(refusal(FrameError::ArgumentCount)),
            json => Ok((rest, json)),
        }
    }
}

/// The line behind a name that needs a blank.
fn arguments<'a>(limits: Limits) -> impl Rule<'a, &'a [u8]> {
    let max = limits.line_bytes_max;
    preceded(some_blanks(max), lexical::arguments(without_last, max))
}

/// What stands behind a name that takes no arguments.
fn junk<'a>(limits: Limits) -> impl Rule<'a, &'a [u8]> {
    line(without_cr, limits.payload_bytes_max)
}

/// Drops the byte before LF, whatever it is, where a CR comes after the first byte.
fn without_last(line: &[u8]) -> &[u8] {
    match line {
        [_, behind_first @ ..] if behind_first.contains(&b'\r') => {
            line.split_last().map_or(line, |(_, before)| before)
        }
        _ => line,
    }
}
