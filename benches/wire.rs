//! Parsing and encoding alone: no socket, one thread, chunks of 64 KiB as reads would bring them.
//!
//! `fields` is the bound: it finds the line end, cuts the fields, jumps over the payload and checks
//! nothing.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a bench measures; it may panic"
)]

#[path = "support/messages.rs"]
mod messages;
mod support;

use std::hint::black_box;

use bytes::{Buf, BytesMut};
use messages::{drawn, hmsg, mixed, msg};
use natseq::subject::SubjectRef;
use natseq::wire::encode::Publish;
use natseq::wire::{HeaderLines, Limits, OpKind, Parser, ServerOp, Step};
use support::{Contender, compare, scaled};

const CHUNK_BYTES: usize = 64 << 10;
const STREAM_BYTES: u64 = 8 << 20;

fn main() {
    for (name, bytes) in [("MSG 16 B", 16), ("MSG 128 B", 128), ("MSG 1 KiB", 1_024)] {
        parse(name, &stream(|out| msg(out, 7, bytes)));
    }
    let mut subject = 0_usize;
    parse(
        "MSG 16 B, subjects in turn",
        &stream(|out| {
            subject = (subject + 1) % 10;
            msg(out, subject, 16);
        }),
    );
    parse(
        "HMSG 16 B, Seq and one more header",
        &stream(|out| hmsg(out, 16)),
    );
    let mut turn = 0_usize;
    parse(
        "mix, in turn",
        &stream(|out| {
            turn += 1;
            mixed(out, turn);
        }),
    );
    // No processor learns this order.
    let mut random = 1_u64;
    parse(
        "mix, in random order, with 16 KiB",
        &stream(|out| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            drawn(out, random >> 8);
        }),
    );
    for bytes in [16, 128, 1_024] {
        encode(bytes);
    }
}

fn stream(mut one: impl FnMut(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    let bytes = scaled(STREAM_BYTES);
    while (out.len() as u64) < bytes {
        one(&mut out);
    }
    out
}

fn parse(name: &str, stream: &[u8]) {
    let expected = fields(stream);
    assert_eq!(borrowed(stream), expected);
    assert_eq!(owned(stream), expected);
    let mut contenders = vec![
        Contender::timed("fields (bound)", || fields(stream)),
        Contender::timed("borrowed", || borrowed(stream)),
        Contender::timed("owned", || owned(stream)),
    ];
    if name.starts_with("HMSG") {
        contenders.push(Contender::timed("borrowed, Seq read", || stamped(stream)));
    }
    compare(&format!("parse {name}"), contenders);
}

/// Hands out the stream in chunks behind what was left of the one before.
fn chunked(stream: &[u8], mut parse: impl FnMut(&[u8]) -> usize) {
    let mut buffer = Vec::with_capacity(2 * CHUNK_BYTES);
    for chunk in stream.chunks(CHUNK_BYTES) {
        buffer.extend_from_slice(chunk);
        let used = parse(&buffer);
        buffer.drain(..used);
    }
}

fn fields(stream: &[u8]) -> u64 {
    let mut count = 0_u64;
    chunked(stream, |buffer| {
        let mut at = 0;
        while let Some(end) = memchr::memchr(b'\n', &buffer[at..]) {
            let line = &buffer[at..at + end - 1];
            let mut words = line.split(|byte| *byte == b' ');
            black_box((words.next(), words.next(), words.next()));
            let size = words.next_back().unwrap_or_default();
            let size = size
                .iter()
                .fold(0, |size, digit| size * 10 + usize::from(digit - b'0'));
            let next = at + end + 1 + size + 2;
            if next > buffer.len() {
                break;
            }
            at = next;
            count += 1;
        }
        at
    });
    count
}

fn borrowed(stream: &[u8]) -> u64 {
    let mut parser = Parser::of_server(Limits::SERVER_OPS);
    let mut count = 0_u64;
    chunked(stream, |buffer| {
        let mut at = 0;
        while let Ok(Step::Frame(frame)) = parser.next(&buffer[at..]) {
            black_box(frame.server_op(&buffer[at..]));
            at += frame.len();
            count += 1;
        }
        at
    });
    count
}

fn stamped(stream: &[u8]) -> u64 {
    let mut parser = Parser::of_server(Limits::SERVER_OPS);
    let mut count = 0_u64;
    chunked(stream, |buffer| {
        let mut at = 0;
        while let Ok(Step::Frame(frame)) = parser.next(&buffer[at..]) {
            if let ServerOp::Msg(message) = frame.server_op(&buffer[at..]) {
                black_box(message.headers.and_then(|block| block.first("Seq")));
            }
            at += frame.len();
            count += 1;
        }
        at
    });
    count
}

fn owned(stream: &[u8]) -> u64 {
    let mut parser = Parser::of_server(Limits::SERVER_OPS);
    let mut count = 0_u64;
    let mut buffer = BytesMut::with_capacity(2 * CHUNK_BYTES);
    for chunk in stream.chunks(CHUNK_BYTES) {
        buffer.extend_from_slice(chunk);
        while let Ok(Step::Frame(frame)) = parser.next(&buffer) {
            if matches!(frame.kind(), OpKind::Msg | OpKind::Hmsg) {
                let bytes = buffer.split_to(frame.len()).freeze();
                black_box(frame.message(bytes));
            } else {
                buffer.advance(frame.len());
            }
            count += 1;
        }
    }
    count
}

fn encode(bytes: usize) {
    let frame_count = scaled(50_000);
    let payload = vec![b'x'; bytes];
    let subject = SubjectRef::new("orders.eu.7").expect("a literal subject");
    let lines = HeaderLines::new(b"Seq: pricing-a.1763683200123456.42\r\n").expect("one line");
    let plain = Publish::new(subject, &payload);
    let stamped = plain.first_lines(lines);
    let frame_of = |publish: &Publish<'_>| {
        let mut frame = Vec::new();
        publish.write(&mut frame);
        frame
    };
    let frames = [frame_of(&plain), frame_of(&stamped)];
    let repeat = |one: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::with_capacity(2 * CHUNK_BYTES);
        for _ in 0..frame_count {
            if out.len() > CHUNK_BYTES {
                black_box(&out);
                out.clear();
            }
            one(&mut out);
        }
        frame_count
    };
    let contenders = vec![
        Contender::timed("memcpy of the PUB", || {
            repeat(&|out| out.extend_from_slice(black_box(&frames[0])))
        }),
        Contender::timed("PUB", || repeat(&|out| black_box(&plain).write(out))),
        Contender::timed("memcpy of the HPUB", || {
            repeat(&|out| out.extend_from_slice(black_box(&frames[1])))
        }),
        Contender::timed("HPUB with a stamp", || {
            repeat(&|out| black_box(&stamped).write(out))
        }),
    ];
    compare(&format!("encode {bytes} B"), contenders);
}
