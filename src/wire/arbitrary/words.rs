//! The words that operations are made of.

use arbitrary::{Result, Unstructured};

/// Few names, so that publishers and subscribers meet.
const TOKENS: &[&str] = &[
    "a", "b", "foo", "bar", "x1", "A", "a-b", "_x", "$y", "\u{e9}", "a*", "b>c",
];

/// Names that the protocol gives a meaning to.
const RESERVED: &[&str] = &[
    "_INBOX.a.1",
    "_GR_.a",
    "_R_.a",
    "$NRG.a",
    "$JS.ACK.S.C.1.1.1.1.0",
];

const TOKENS_MAX: u8 = 4;

/// A subject to publish to.
pub(super) fn subject(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    if u.ratio(1_u8, 24)? {
        return Ok(u.choose(RESERVED)?.as_bytes().to_vec());
    }
    dotted(u, false)
}

/// A filter to subscribe to.
pub(super) fn filter(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    dotted(u, true)
}

/// An optional reply subject.
pub(super) fn reply(u: &mut Unstructured<'_>) -> Result<Option<Vec<u8>>> {
    if u.ratio(1_u8, 3)? {
        subject(u).map(Some)
    } else {
        Ok(None)
    }
}

fn dotted(u: &mut Unstructured<'_>, has_wildcards: bool) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let count = u.int_in_range(1..=TOKENS_MAX)?;
    for index in 0..count {
        if index > 0 {
            text.push(b'.');
        }
        let is_last = index.saturating_add(1) == count;
        match u.int_in_range(0..=7_u8)? {
            0 if has_wildcards && is_last => text.push(b'>'),
            0 | 1 if has_wildcards => text.push(b'*'),
            _ => text.extend_from_slice(u.choose(TOKENS)?.as_bytes()),
        }
    }
    Ok(text)
}

/// A payload: short, and now and then longer than a server's first read.
pub(super) fn payload(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let len = match u.int_in_range(0..=15_u8)? {
        0 => 0,
        1 => u.int_in_range(0..=2_000_u16)?,
        _ => u.int_in_range(0..=24_u16)?,
    };
    let pattern: [u8; 4] = u.arbitrary()?;
    Ok(pattern.into_iter().cycle().take(usize::from(len)).collect())
}

/// A well-formed header block.
pub(super) fn headers(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let statuses = [
        "",
        "",
        "",
        " 503",
        " 404 No Messages",
        " 100 Idle Heartbeat",
    ];
    let mut block = b"NATS/1.0".to_vec();
    block.extend_from_slice(u.choose(&statuses)?.as_bytes());
    block.extend_from_slice(b"\r\n");
    for _ in 0..u.int_in_range(0..=3_u8)? {
        let names = ["A", "a", "Seq", "Nats-Msg-Id", "X-Y", "Status"];
        block.extend_from_slice(u.choose(&names)?.as_bytes());
        block.extend_from_slice(b": ");
        let values = ["", "1", "b c", "s.7.1", "v:w", "\u{e9}"];
        block.extend_from_slice(u.choose(&values)?.as_bytes());
        block.extend_from_slice(b"\r\n");
    }
    block.extend_from_slice(b"\r\n");
    Ok(block)
}
