//! The messages that every bench parses, as a server writes them.

#![allow(dead_code, reason = "each bench uses its part")]

/// The lines of the header block: a stamp, and one more.
pub(crate) const HEADER_BLOCK: &str =
    "NATS/1.0\r\nSeq: pricing-a.1763683200123456.42\r\nTrace: 0123456789\r\n\r\n";

/// Appends a `MSG` with a payload of `bytes`.
pub(crate) fn msg(out: &mut Vec<u8>, subject: usize, bytes: usize) {
    out.extend_from_slice(format!("MSG orders.eu.{subject} 12 {bytes}\r\n").as_bytes());
    out.extend(std::iter::repeat_n(b'x', bytes));
    out.extend_from_slice(b"\r\n");
}

/// Appends an `HMSG` with two headers and a payload of `bytes`.
pub(crate) fn hmsg(out: &mut Vec<u8>, bytes: usize) {
    let total = HEADER_BLOCK.len() + bytes;
    let line = format!("HMSG orders.eu.7 12 {} {total}\r\n", HEADER_BLOCK.len());
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(HEADER_BLOCK.as_bytes());
    out.extend(std::iter::repeat_n(b'x', bytes));
    out.extend_from_slice(b"\r\n");
}

/// Appends the message that has its turn in the mix of all.
pub(crate) fn mixed(out: &mut Vec<u8>, turn: usize) {
    match turn % 5 {
        0 => msg(out, 7, 16),
        1 => msg(out, 7, 128),
        2 => hmsg(out, 16),
        3 => msg(out, 7, 1_024),
        _ => hmsg(out, 128),
    }
}

/// Appends one of the mix as `random` has it, or now and then one of 16 KiB.
pub(crate) fn drawn(out: &mut Vec<u8>, random: u64) {
    match random % 64 {
        0 => msg(out, 7, 16 << 10),
        _ => mixed(out, (random / 64) as usize),
    }
}
