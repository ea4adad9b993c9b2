//! Encoding what a client publishes.

use std::hint::black_box;

use natseq::subject::SubjectRef;
use natseq::wire::HeaderLines;
use natseq::wire::encode::Publish;

use crate::{Function, REPEATS};

const SUBJECT: &str = "orders.eu.7";
const LINES: &[u8] = b"Seq: pricing-a.1763683200123456.42\r\n";

/// `PUB` frames.
pub(crate) fn plain(payload_bytes: usize) -> Box<dyn Function> {
    let head = format!("PUB {SUBJECT} {payload_bytes}\r\n");
    make(head.into_bytes(), payload_bytes, None)
}

/// `HPUB` frames with a stamp in front of no other header.
pub(crate) fn stamped(payload_bytes: usize) -> Box<dyn Function> {
    let block = [b"NATS/1.0\r\n", LINES, b"\r\n"].concat();
    let (headers, total) = (block.len(), block.len() + payload_bytes);
    let mut head = format!("HPUB {SUBJECT} {headers} {total}\r\n").into_bytes();
    head.extend_from_slice(&block);
    let lines = HeaderLines::new(LINES).expect("one line");
    make(head, payload_bytes, Some(lines))
}

fn make(
    head: Vec<u8>,
    payload_bytes: usize,
    lines: Option<HeaderLines<'static>>,
) -> Box<dyn Function> {
    let payload = vec![b'x'; payload_bytes];
    let frame = [&head, &payload, &b"\r\n"[..]].concat();
    Box::new(Encode {
        payload,
        lines,
        out: Vec::with_capacity(REPEATS * frame.len()),
        frame,
    })
}

struct Encode {
    payload: Vec<u8>,
    lines: Option<HeaderLines<'static>>,
    /// What one frame must be.
    frame: Vec<u8>,
    out: Vec<u8>,
}

impl Function for Encode {
    fn bytes(&self) -> usize {
        REPEATS * self.frame.len()
    }

    fn prepare(&mut self) {
        self.out.clear();
    }

    fn run(&mut self) {
        let subject = SubjectRef::new(SUBJECT).expect("a literal subject");
        let mut publish = Publish::new(subject, &self.payload);
        if let Some(lines) = self.lines {
            publish = publish.first_lines(lines);
        }
        for _ in 0..REPEATS {
            black_box(&publish).write(&mut self.out);
        }
        assert_eq!(self.out.len(), REPEATS * self.frame.len());
        assert!(self.out.ends_with(&self.frame));
    }
}
