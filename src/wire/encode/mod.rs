//! Operations to bytes, appended to the caller's buffer with exact lengths.
//!
//! Nothing here can emit a blank or a line end inside a subject, a queue group or a header: the
//! types it takes cannot hold one.

mod ops;
pub mod server;

pub use ops::EncodeError;

use crate::decimal;
use crate::subject::{Filter, QueueGroup, SubjectRef};

use super::headers::{HeaderLines, Headers, VERSION};

/// A message to publish: PUB, or HPUB when it has headers.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    subject: SubjectRef<'a>,
    reply: Option<&'a [u8]>,
    /// What follows the version on the block's first line.
    status: &'a [u8],
    first_lines: HeaderLines<'a>,
    lines: HeaderLines<'a>,
    /// Bytes of the header block; 0 without headers.
    header_len: usize,
    payload: &'a [u8],
}

impl<'a> Publish<'a> {
    /// A message without reply subject and headers.
    #[inline]
    #[must_use]
    pub const fn new(subject: SubjectRef<'a>, payload: &'a [u8]) -> Self {
        let none = HeaderLines::trusted(&[]);
        Self {
            subject,
            reply: None,
            status: &[],
            first_lines: none,
            lines: none,
            header_len: 0,
            payload,
        }
    }

    /// Names the subject for answers.
    #[inline]
    #[must_use]
    pub const fn reply(mut self, reply: SubjectRef<'a>) -> Self {
        self.reply = Some(reply.as_str().as_bytes());
        self
    }

    /// [`Publish::reply`] with the bytes of a literal subject.
    #[cfg(feature = "client")]
    #[inline]
    pub(crate) const fn inbox(mut self, reply: &'a [u8]) -> Self {
        self.reply = Some(reply);
        self
    }

    /// Adds headers; empty ones add nothing.
    #[inline]
    #[must_use]
    pub fn headers(mut self, headers: &'a Headers) -> Self {
        self.status = headers.status_text();
        self.lines = headers.lines();
        self.measured()
    }

    /// Puts fields, such as a stamp, ahead of the other headers.
    #[inline]
    #[must_use]
    pub const fn first_lines(mut self, lines: HeaderLines<'a>) -> Self {
        self.first_lines = lines;
        self.measured()
    }

    /// Puts encoded fields where [`Publish::headers`] puts its own.
    #[inline]
    #[must_use]
    pub const fn lines(mut self, lines: HeaderLines<'a>) -> Self {
        self.lines = lines;
        self.measured()
    }

    /// Returns true when it is an HPUB.
    #[inline]
    #[must_use]
    pub const fn has_headers(&self) -> bool {
        self.header_len > 0
    }

    /// Returns true when it has neither headers nor a reply subject.
    #[cfg(feature = "client")]
    #[inline]
    pub(crate) const fn is_plain(&self) -> bool {
        !self.has_headers() && self.reply.is_none()
    }

    /// The subject.
    #[must_use]
    pub const fn subject(&self) -> SubjectRef<'a> {
        self.subject
    }

    /// The payload.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Bytes of the header block; 0 without headers.
    #[inline]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        self.header_len
    }

    /// Bytes of headers and payload: what a server compares with its `max_payload`.
    #[inline]
    #[must_use]
    pub const fn body_len(&self) -> usize {
        self.header_len().saturating_add(self.payload.len())
    }

    /// Bytes of the control line's arguments: what a server compares with `max_control_line`.
    #[inline]
    #[must_use]
    pub const fn line_len(&self) -> usize {
        let mut len = self.subject.as_str().len();
        if let Some(reply) = self.reply {
            len = len.saturating_add(1).saturating_add(reply.len());
        }
        if self.has_headers() {
            len = len
                .saturating_add(1)
                .saturating_add(digits(self.header_len()));
        }
        len.saturating_add(1)
            .saturating_add(digits(self.body_len()))
    }

    /// Bytes of the whole frame.
    #[inline]
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        let word_and_line_ends = if self.has_headers() { 9 } else { 8 };
        self.line_len()
            .saturating_add(self.body_len())
            .saturating_add(word_and_line_ends)
    }

    /// Appends the frame.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) {
        let names = self
            .subject
            .as_str()
            .len()
            .saturating_add(self.reply.map_or(0, <[u8]>::len));
        let len = names.saturating_add(self.body_len());
        out.reserve(len.saturating_add(HEAD_MARGIN_BYTES));
        self.write_head(out);
        out.extend_from_slice(self.payload);
        out.extend_from_slice(b"\r\n");
    }

    /// Appends the control line and the headers; the payload and CR LF must follow.
    #[inline]
    pub fn write_head(&self, out: &mut Vec<u8>) {
        if self.has_headers() {
            out.extend_from_slice(b"HPUB ");
            self.write_names(out);
            decimal::write_and(out, self.header_len as u64, b" ");
            decimal::write_and(out, self.body_len() as u64, b"\r\n");
            // A copy of nothing is a call as well.
            if self.status.is_empty() {
                out.extend_from_slice(b"NATS/1.0\r\n");
            } else {
                out.extend_from_slice(VERSION);
                out.extend_from_slice(self.status);
                out.extend_from_slice(b"\r\n");
            }
            for lines in [self.first_lines, self.lines] {
                if !lines.as_bytes().is_empty() {
                    out.extend_from_slice(lines.as_bytes());
                }
            }
            out.extend_from_slice(b"\r\n");
        } else {
            out.extend_from_slice(b"PUB ");
            self.write_names(out);
            decimal::write_and(out, self.body_len() as u64, b"\r\n");
        }
    }

    #[inline]
    fn write_names(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.subject.as_str().as_bytes());
        out.push(b' ');
        if let Some(reply) = self.reply {
            out.extend_from_slice(reply);
            out.push(b' ');
        }
    }

    /// Takes the length of the header block anew.
    #[inline]
    const fn measured(mut self) -> Self {
        let len = self.status.len();
        let len = len.saturating_add(self.first_lines.as_bytes().len());
        let len = len.saturating_add(self.lines.as_bytes().len());
        let line_ends = 4_usize;
        self.header_len = match len {
            0 => 0,
            len => len.saturating_add(VERSION.len()).saturating_add(line_ends),
        };
        self
    }
}

/// More than the bytes of a control line and of line ends, without what has a name or is counted.
const HEAD_MARGIN_BYTES: usize = 64;

/// Appends a SUB.
pub fn subscribe(out: &mut Vec<u8>, filter: &Filter, group: Option<&QueueGroup>, sid: u64) {
    out.extend_from_slice(b"SUB ");
    interest(out, filter, group);
    out.push(b' ');
    decimal::write(out, sid);
    out.extend_from_slice(b"\r\n");
}

/// Appends what a SUB names: a filter and, behind a blank, its queue group.
pub(crate) fn interest(out: &mut Vec<u8>, filter: &Filter, group: Option<&QueueGroup>) {
    out.extend_from_slice(filter.as_str().as_bytes());
    if let Some(group) = group {
        out.push(b' ');
        out.extend_from_slice(group.as_str().as_bytes());
    }
}

/// Appends a SUB of what [`interest`] has made.
#[cfg(feature = "client")]
pub(crate) fn subscribe_again(out: &mut Vec<u8>, interest: &[u8], sid: u64) {
    out.extend_from_slice(b"SUB ");
    out.extend_from_slice(interest);
    out.push(b' ');
    decimal::write(out, sid);
    out.extend_from_slice(b"\r\n");
}

/// Appends an UNSUB; with `max` the subscription ends after that many messages since its SUB.
///
/// Servers read a `max` of ten digits or more as "now".
pub fn unsubscribe(out: &mut Vec<u8>, sid: u64, max: Option<u64>) {
    out.extend_from_slice(b"UNSUB ");
    decimal::write(out, sid);
    if let Some(max) = max {
        out.push(b' ');
        decimal::write(out, max);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a CONNECT.
#[cfg(feature = "json")]
pub fn connect(out: &mut Vec<u8>, connect: &super::handshake::Connect) {
    out.extend_from_slice(b"CONNECT ");
    connect.append_json(out);
    out.extend_from_slice(b"\r\n");
}

/// Appends a PING.
pub fn ping(out: &mut Vec<u8>) {
    out.extend_from_slice(b"PING\r\n");
}

/// Appends a PONG.
pub fn pong(out: &mut Vec<u8>) {
    out.extend_from_slice(b"PONG\r\n");
}

#[inline]
fn decimal_of(out: &mut Vec<u8>, number: usize) {
    decimal::write(out, number as u64);
}

#[inline]
const fn digits(number: usize) -> usize {
    match number {
        0..=9 => 1,
        10..=99 => 2,
        100..=999 => 3,
        1_000..=9_999 => 4,
        _ => (number.ilog10() as usize).saturating_add(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ClientOp, Limits, Parser, Step};

    fn parsed(bytes: &[u8]) -> ClientOp<'_> {
        let mut parser = Parser::of_client(Limits::CLIENT_OPS);
        let Ok(Step::Frame(frame)) = parser.next(bytes) else {
            panic!("no frame: {}", bytes.escape_ascii());
        };
        assert_eq!(frame.len(), bytes.len(), "{}", bytes.escape_ascii());
        frame.client_op(bytes)
    }

    #[test]
    fn a_block_is_written_for_a_status_or_a_field_alone() {
        let subject = SubjectRef::new("a").unwrap();
        let written = |publish: Publish<'_>| {
            let mut out = Vec::new();
            publish.write(&mut out);
            assert_eq!(out.len(), publish.encoded_len());
            assert_eq!(publish.has_headers(), out.starts_with(b"HPUB "));
            out.escape_ascii().to_string()
        };
        let plain = Publish::new(subject, b"x");
        assert_eq!(written(plain), r"PUB a 1\r\nx\r\n");
        assert_eq!(written(plain.headers(&Headers::new())), r"PUB a 1\r\nx\r\n");
        let status = Headers::with_status(503, "").unwrap();
        let block = r"HPUB a 16 17\r\nNATS/1.0 503\r\n\r\nx\r\n";
        assert_eq!(written(plain.headers(&status)), block);
        let line = HeaderLines::new(b"A: b\r\n").unwrap();
        let block = r"HPUB a 18 19\r\nNATS/1.0\r\nA: b\r\n\r\nx\r\n";
        assert_eq!(written(plain.lines(line)), block);
        assert_eq!(written(plain.first_lines(line)), block);
        assert_eq!((plain.subject(), plain.payload()), (subject, &b"x"[..]));
    }

    #[test]
    fn a_question_and_its_answer_are_one_word_each() {
        let mut out = Vec::new();
        ping(&mut out);
        pong(&mut out);
        assert_eq!(out, b"PING\r\nPONG\r\n");
    }

    #[test]
    fn a_published_frame_has_the_announced_length_and_reads_back() {
        let mut headers = Headers::new();
        headers.append("Trace", "7").unwrap();
        let subject = SubjectRef::new("a.b").unwrap();
        for payload in [&b""[..], b"x", b"0123456789", &[b'y'; 1_000]] {
            for with_reply in [false, true] {
                for (own, first) in [(false, false), (true, false), (false, true), (true, true)] {
                    let mut publish = Publish::new(subject, payload);
                    if with_reply {
                        publish = publish.reply(SubjectRef::new("r").unwrap());
                    }
                    if own {
                        publish = publish.headers(&headers);
                    }
                    if first {
                        publish = publish.first_lines(HeaderLines::new(b"Seq: a.1.2\r\n").unwrap());
                    }
                    let mut out = Vec::new();
                    publish.write(&mut out);
                    assert_eq!(out.len(), publish.encoded_len(), "{}", out.escape_ascii());
                    let line_end = out.iter().position(|byte| *byte == b'\r').unwrap();
                    let word = if publish.has_headers() { 5 } else { 4 };
                    assert_eq!(
                        line_end - word,
                        publish.line_len(),
                        "{}",
                        out.escape_ascii()
                    );
                    let ClientOp::Pub(view) = parsed(&out) else {
                        panic!("not a PUB")
                    };
                    assert_eq!((view.subject, view.payload), (&b"a.b"[..], payload));
                    assert_eq!(view.reply.is_some(), with_reply);
                    let names = view.headers.map(|block| {
                        block.check().unwrap();
                        block
                            .iter()
                            .map(|field| field.unwrap().0.to_vec())
                            .collect::<Vec<_>>()
                    });
                    let mut expected = Vec::new();
                    expected.extend(first.then(|| b"Seq".to_vec()));
                    expected.extend(own.then(|| b"Trace".to_vec()));
                    assert_eq!(names.unwrap_or_default(), expected);
                }
            }
        }
    }

    #[test]
    fn lengths_in_digits_are_exact() {
        assert_eq!([0, 9, 10, 99, 100].map(digits), [1, 1, 2, 2, 3]);
    }

    #[test]
    fn subscriptions_read_back() {
        let mut out = Vec::new();
        let filter = Filter::new("a.*").unwrap();
        subscribe(&mut out, &filter, QueueGroup::new("q").ok().as_ref(), 17);
        let sub = ClientOp::Sub {
            subject: b"a.*",
            queue_group: Some(b"q"),
            sid: b"17",
        };
        assert_eq!(parsed(&out), sub);
        out.clear();
        unsubscribe(&mut out, 17, Some(3));
        assert_eq!(
            parsed(&out),
            ClientOp::Unsub {
                sid: b"17",
                max: Some(b"3")
            }
        );
    }
}
