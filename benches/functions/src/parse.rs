//! Parsing: where a message lies, as an owned message, and in chunks as reads bring them.

use std::hint::black_box;

use bytes::{Buf, BytesMut};
use natseq::wire::{Limits, OpKind, Parser, ServerOp, Step};

use crate::{Function, REPEATS, messages};

/// Messages as a server writes them, and what their payloads amount to.
pub(crate) struct Stream {
    bytes: Vec<u8>,
    payload_bytes: usize,
}

impl Stream {
    pub(crate) fn msg(bytes: usize) -> Self {
        Self::of(REPEATS * bytes, |out, _| messages::msg(out, 7, bytes))
    }

    pub(crate) fn hmsg(bytes: usize) -> Self {
        Self::of(REPEATS * bytes, |out, _| messages::hmsg(out, bytes))
    }

    pub(crate) fn mix() -> Self {
        let turn_bytes = 16 + 128 + 16 + 1_024 + 128;
        Self::of(REPEATS / 5 * turn_bytes, messages::mixed)
    }

    fn of(payload_bytes: usize, one: impl Fn(&mut Vec<u8>, usize)) -> Self {
        let mut bytes = Vec::new();
        for turn in 0..REPEATS {
            one(&mut bytes, turn);
        }
        Self {
            bytes,
            payload_bytes,
        }
    }
}

pub(crate) fn borrowed(stream: Stream) -> Box<dyn Function> {
    Box::new(Borrowed { stream })
}

struct Borrowed {
    stream: Stream,
}

impl Function for Borrowed {
    fn bytes(&self) -> usize {
        self.stream.bytes.len()
    }

    fn run(&mut self) {
        let mut parser = Parser::of_server(Limits::SERVER_OPS);
        let mut seen = Seen::default();
        let used = seen.parse(&mut parser, &self.stream.bytes);
        assert_eq!(used, self.stream.bytes.len());
        seen.check(&self.stream);
    }
}

pub(crate) fn chunks(stream: Stream, chunk_bytes: usize) -> Box<dyn Function> {
    Box::new(Chunks {
        stream,
        chunk_bytes,
        buffer: Vec::new(),
    })
}

struct Chunks {
    stream: Stream,
    chunk_bytes: usize,
    /// Kept, as a reader keeps it.
    buffer: Vec<u8>,
}

impl Function for Chunks {
    fn bytes(&self) -> usize {
        self.stream.bytes.len()
    }

    fn run(&mut self) {
        let mut parser = Parser::of_server(Limits::SERVER_OPS);
        let mut seen = Seen::default();
        for chunk in self.stream.bytes.chunks(self.chunk_bytes) {
            self.buffer.extend_from_slice(chunk);
            let used = seen.parse(&mut parser, &self.buffer);
            self.buffer.drain(..used);
        }
        assert!(self.buffer.is_empty());
        seen.check(&self.stream);
    }
}

/// What was parsed so far.
#[derive(Default)]
struct Seen {
    messages: usize,
    payload_bytes: usize,
}

impl Seen {
    /// Parses what is complete and returns how many bytes that was.
    fn parse(&mut self, parser: &mut Parser, buffer: &[u8]) -> usize {
        let mut at = 0;
        while let Ok(Step::Frame(frame)) = parser.next(&buffer[at..]) {
            if let ServerOp::Msg(message) = black_box(frame.server_op(&buffer[at..])) {
                self.messages += 1;
                self.payload_bytes += message.payload.len();
            }
            at += frame.len();
        }
        at
    }

    fn check(&self, stream: &Stream) {
        assert_eq!(self.messages, REPEATS);
        assert_eq!(self.payload_bytes, stream.payload_bytes);
    }
}

pub(crate) fn owned(stream: Stream) -> Box<dyn Function> {
    Box::new(Owned {
        stream,
        buffer: BytesMut::new(),
    })
}

struct Owned {
    stream: Stream,
    buffer: BytesMut,
}

impl Function for Owned {
    fn bytes(&self) -> usize {
        self.stream.bytes.len()
    }

    fn prepare(&mut self) {
        self.buffer = BytesMut::from(self.stream.bytes.as_slice());
    }

    fn run(&mut self) {
        let mut parser = Parser::of_server(Limits::SERVER_OPS);
        let mut seen = Seen::default();
        while let Ok(Step::Frame(frame)) = parser.next(&self.buffer) {
            if matches!(frame.kind(), OpKind::Msg | OpKind::Hmsg) {
                let bytes = self.buffer.split_to(frame.len()).freeze();
                let message = black_box(frame.message(bytes));
                seen.messages += 1;
                seen.payload_bytes += message.payload().len();
            } else {
                self.buffer.advance(frame.len());
            }
        }
        assert!(self.buffer.is_empty());
        seen.check(&self.stream);
    }
}
