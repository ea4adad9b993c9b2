//! The other side of a conversation: feeds subscribers in a window, answers requests, swallows the rest.
//!
//! As the null server it is the cheapest peer that speaks the protocol. Behind a real server it is a
//! client that does the same for whoever is measured.

use std::collections::HashMap;
use std::io::{Result, Write as _};
use std::net::TcpStream;

use crate::feed::{Feed, is_swallowed};
use crate::raw::{Stream, read_line};
use crate::spec::{ACK, ECHO, START};

const READ_BYTES: usize = 1 << 20;

/// Speaks as a server to one client, until that leaves.
pub(crate) fn as_server(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(
        b"INFO {\"server_id\":\"null\",\"server_name\":\"null\",\"version\":\"2.12.0\",\"go\":\"go1.25\",\
          \"host\":\"127.0.0.1\",\"port\":4222,\"proto\":1,\"headers\":true,\"max_payload\":1048576,\
          \"client_id\":1} \r\n",
    )?;
    converse(stream, Side::Server(HashMap::new()))
}

/// Speaks as a client to a real server, until that ends. Prints a line once it is subscribed.
pub(crate) fn through_server(mut stream: impl Stream) -> Result<()> {
    stream.write_all(b"SUB echo 2\r\nSUB start 3\r\nSUB ack 4\r\nPING\r\n")?;
    while read_line(&mut stream) != "PONG\r" {}
    println!("ready");
    converse(stream, Side::Client)
}

/// On which side of the protocol we are.
enum Side {
    /// With the sid of each filter.
    Server(HashMap<Vec<u8>, String>),
    Client,
}

/// One operation with its payload, whichever side says it.
struct Operation<'a> {
    verb: &'a [u8],
    subject: &'a [u8],
    /// The reply subject of a message, the sid of a SUB.
    other: &'a [u8],
    payload: &'a [u8],
    bytes: usize,
}

fn converse(mut stream: impl Stream, mut side: Side) -> Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    let mut held = 0;
    let mut out = Vec::new();
    let mut feed = Feed::default();
    loop {
        let count = stream.read(&mut buffer[held..])?;
        if count == 0 {
            return Ok(());
        }
        held += count;
        let mut at = 0;
        while let Some(operation) = cut(&buffer[at..held], &side) {
            at += operation.bytes;
            handle(&operation, &mut side, &mut feed, &mut out);
        }
        buffer.copy_within(at..held, 0);
        held -= at;
        stream.write_all(&out)?;
        out.clear();
        while let Some(burst) = feed.poll_burst() {
            stream.write_all(burst)?;
        }
    }
}

fn handle(operation: &Operation<'_>, side: &mut Side, feed: &mut Feed, out: &mut Vec<u8>) {
    match operation.verb {
        b"PUB" | b"HPUB" | b"MSG" | b"HMSG" if is_swallowed(operation.subject) => {}
        b"PUB" | b"HPUB" | b"MSG" | b"HMSG" => {
            if operation.subject == ACK.as_bytes() {
                feed.handle_ack();
            } else if operation.subject == START.as_bytes() {
                let start = String::from_utf8_lossy(operation.payload);
                *feed = Feed::new(feed, &start, |out, subject, has_headers| {
                    side.begin(out, subject.as_bytes(), has_headers);
                });
            } else if operation.subject == ECHO.as_bytes() {
                side.begin(out, operation.other, false);
                let _ = write!(out, " {}\r\n", operation.payload.len());
                out.extend_from_slice(operation.payload);
                out.extend_from_slice(b"\r\n");
            }
        }
        b"PING" => out.extend_from_slice(b"PONG\r\n"),
        b"SUB" => {
            if let Side::Server(sids) = side {
                let sid = String::from_utf8_lossy(operation.other).into_owned();
                sids.insert(operation.subject.to_vec(), sid);
            }
        }
        _ => {}
    }
}

impl Side {
    /// Begins a message: verb, subject and, from a server, the sid.
    fn begin(&self, out: &mut Vec<u8>, subject: &[u8], has_headers: bool) {
        if has_headers {
            out.push(b'H');
        }
        match self {
            Self::Client => {
                out.extend_from_slice(b"PUB ");
                out.extend_from_slice(subject);
            }
            Self::Server(sids) => {
                out.extend_from_slice(b"MSG ");
                out.extend_from_slice(subject);
                out.push(b' ');
                out.extend_from_slice(sid(sids, subject).as_bytes());
            }
        }
    }
}

/// The sid of the filter that a subject matches: itself, or an inbox with a wildcard at its end.
fn sid<'a>(sids: &'a HashMap<Vec<u8>, String>, subject: &[u8]) -> &'a str {
    let dot = memchr::memrchr(b'.', subject).unwrap_or(0);
    let mut wildcard = subject[..dot].to_vec();
    wildcard.extend_from_slice(b".*");
    let found = sids.get(subject).or_else(|| sids.get(&wildcard));
    found.expect("somebody is subscribed")
}

/// Cuts the first operation off, if it is whole.
fn cut<'a>(bytes: &'a [u8], side: &Side) -> Option<Operation<'a>> {
    let end = memchr::memchr(b'\n', bytes)?;
    let line = &bytes[..end - 1];
    let mut words = line.split(|byte| *byte == b' ');
    let verb = words.next()?;
    let mut operation = Operation {
        verb,
        subject: b"",
        other: b"",
        payload: b"",
        bytes: end + 1,
    };
    let has_headers = verb.starts_with(b"H");
    match verb {
        b"PUB" | b"HPUB" | b"MSG" | b"HMSG" => {
            operation.subject = words.next()?;
            if matches!(side, Side::Client) {
                let _sid = words.next();
            }
            let size = number(words.next_back()?);
            let head = if has_headers {
                number(words.next_back()?)
            } else {
                0
            };
            operation.other = words.next().unwrap_or_default();
            let payload = bytes.get(end + 1..end + 1 + size + 2)?;
            operation.payload = &payload[head..size];
            operation.bytes += size + 2;
        }
        b"SUB" => {
            operation.subject = words.next()?;
            operation.other = words.next_back()?;
        }
        _ => {}
    }
    Some(operation)
}

fn number(digits: &[u8]) -> usize {
    let digit = |number: usize, digit: &u8| number * 10 + usize::from(digit - b'0');
    digits.iter().fold(0, digit)
}
