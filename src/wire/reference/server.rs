//! What a server says, as a client reads it.

use nom::Parser as _;
use nom::branch::alt;
use nom::sequence::preceded;

use super::fields::{Sizes, fields, text, unquoted};
use super::lexical::{
    self, Read, Rule, blanks, body, is_blank, line, line_may_end, name, refusal, some_blanks,
    without_cr,
};
use crate::wire::{FrameError, Limits, MsgView, ServerOp};

/// Any operation of a server.
pub(super) fn op<'a>(limits: Limits) -> impl Rule<'a, ServerOp<'a>> {
    alt((
        preceded(name("INFO"), info(limits)),
        preceded(name("MSG"), msg(limits)),
        preceded(name("HMSG"), hmsg(limits)),
        preceded(name("-ERR"), err(limits)),
        preceded(name("+OK"), junk(limits)).map(|_| ServerOp::Ok),
        preceded(name("PING"), junk(limits)).map(|_| ServerOp::Ping),
        preceded(name("PONG"), junk(limits)).map(|_| ServerOp::Pong),
    ))
}

fn info<'a>(limits: Limits) -> impl Rule<'a, ServerOp<'a>> {
    json(limits).map(|json| ServerOp::Info { json })
}

/// The one op with a text that may be missing, and the blank with it.
fn err<'a>(limits: Limits) -> impl Rule<'a, ServerOp<'a>> {
    let max = limits.line_bytes_max;
    let begin = alt((some_blanks(max), line_may_end));
    preceded(begin, line(without_cr, max)).map(|line| ServerOp::Err {
        text: unquoted(text(line)),
    })
}

fn msg<'a>(limits: Limits) -> impl Rule<'a, ServerOp<'a>> {
    move |input: &'a [u8]| {
        let (rest, line) = arguments(limits).parse(input)?;
        let (subject, sid, reply, total) = match *fields(line, is_blank) {
            [subject, sid, total] => (subject, sid, None, total),
            [subject, sid, reply, total] => (subject, sid, Some(reply), total),
            _ => return Err(refusal(FrameError::ArgumentCount)),
        };
        let sizes = Sizes::read(limits, None, total)?;
        message(rest, &sizes, subject, sid, reply)
    }
}

fn hmsg<'a>(limits: Limits) -> impl Rule<'a, ServerOp<'a>> {
    move |input: &'a [u8]| {
        let (rest, line) = arguments(limits).parse(input)?;
        if !limits.allows_headers {
            return Err(refusal(FrameError::HeadersRefused));
        }
        let (subject, sid, reply, headers, total) = match *fields(line, is_blank) {
            [subject, sid, headers, total] => (subject, sid, None, headers, total),
            [subject, sid, reply, headers, total] => (subject, sid, Some(reply), headers, total),
            _ => return Err(refusal(FrameError::ArgumentCount)),
        };
        let sizes = Sizes::read(limits, Some(headers), total)?;
        message(rest, &sizes, subject, sid, reply)
    }
}

/// What follows the line of MSG and HMSG.
fn message<'a>(
    input: &'a [u8],
    sizes: &Sizes,
    subject: &'a [u8],
    sid: &'a [u8],
    reply: Option<&'a [u8]>,
) -> Read<'a, ServerOp<'a>> {
    let (rest, body) = body(sizes.total).parse(input)?;
    let (headers, payload) = sizes.cut(body);
    let view = MsgView {
        subject,
        sid,
        reply,
        headers,
        payload,
    };
    Ok((rest, ServerOp::Msg(view)))
}

/// The one argument of INFO, which need not be JSON but must be there.
fn json<'a>(limits: Limits) -> impl Rule<'a, &'a [u8]> {
    let max = limits.line_bytes_max;
    move |input: &'a [u8]| {
        let (rest, line) = preceded(blanks(max), line(without_cr, max)).parse(input)?;
        match text(line) {
            [] => Err(refusal(FrameError::ArgumentCount)),
            json => Ok((rest, json)),
        }
    }
}

/// The line behind a name that needs a blank.
fn arguments<'a>(limits: Limits) -> impl Rule<'a, &'a [u8]> {
    let max = limits.line_bytes_max;
    preceded(some_blanks(max), lexical::arguments(without_cr, max))
}

/// What stands behind a name that takes no arguments.
fn junk<'a>(limits: Limits) -> impl Rule<'a, &'a [u8]> {
    line(without_cr, limits.line_bytes_max)
}
