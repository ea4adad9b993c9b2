//! Messages for a subscriber, prepared once, and the window in which they are sent.

use std::io::Write;

use crate::spec::{HEADERS, SUBJECT, filter};

/// What is sent after a `start`.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// Messages for each active subscription in turn, often enough for a burst.
    cycle: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    burst: u64,
    window: u64,
    messages: u64,
    sent: u64,
    acknowledged: u64,
    /// Of stamped messages: where the number is in each of the cycle, and the next number.
    stamps: Vec<usize>,
    next_seq: u64,
}

/// Has as many digits as all that follow.
const SEQ_FIRST: u64 = 1_000_000_000;
const SEQ_DIGITS: usize = 10;

impl Feed {
    /// What the payload of `start` asks for; stamps go on behind those of `before`. `line` writes a
    /// message's verb, its subject and, from a server, the sid.
    pub(crate) fn new(
        before: &Self,
        start: &str,
        mut line: impl FnMut(&mut Vec<u8>, &str, bool),
    ) -> Self {
        let mut numbers = start.split(' ').map(|word| word.parse().expect("a number"));
        let mut number = || -> u64 { numbers.next().expect("eight numbers") };
        let (burst, window, bytes) = (number(), number(), number() as usize);
        let (has_headers, is_sequenced, messages) = (number() == 1, number() == 1, number());
        let (subscriptions, active) = (number(), number());
        let headers = match (is_sequenced, has_headers) {
            (true, _) => stamp().into_bytes(),
            (false, true) => headers(),
            (false, false) => Vec::new(),
        };
        let has_headers = !headers.is_empty();
        let mut feed = Self {
            burst,
            window,
            messages,
            next_seq: before.next_seq.max(SEQ_FIRST),
            ..Self::default()
        };
        for index in 0..active * burst.div_ceil(active) {
            let subject = filter(index % active, subscriptions);
            line(&mut feed.cycle, &subject, has_headers);
            if has_headers {
                let _ = write!(feed.cycle, " {}", headers.len());
            }
            let _ = write!(feed.cycle, " {}\r\n", headers.len() + bytes);
            feed.cycle.extend_from_slice(&headers);
            if is_sequenced {
                let line_ends = 4;
                feed.stamps.push(feed.cycle.len() - line_ends - SEQ_DIGITS);
            }
            feed.cycle.resize(feed.cycle.len() + bytes, b'x');
            feed.cycle.extend_from_slice(b"\r\n");
            feed.ends.push(feed.cycle.len());
        }
        feed
    }

    pub(crate) fn handle_ack(&mut self) {
        self.acknowledged += 1;
    }

    /// The bytes of messages that may be sent now, up to one burst.
    pub(crate) fn poll_burst(&mut self) -> Option<&[u8]> {
        if self.sent == self.messages || self.sent / self.burst >= self.acknowledged + self.window {
            return None;
        }
        let count = self.ends.len() as u64;
        let from = self.sent % count;
        let left = self.burst - self.sent % self.burst;
        let taken = left.min(count - from).min(self.messages - self.sent);
        self.sent += taken;
        let start = match from {
            0 => 0,
            _ => self.ends[from as usize - 1],
        };
        let numbers = from as usize..(from + taken) as usize;
        for at in self.stamps.get(numbers).unwrap_or_default() {
            let mut number = &mut self.cycle[*at..*at + SEQ_DIGITS];
            write!(number, "{}", self.next_seq).expect("ten digits");
            self.next_seq += 1;
        }
        Some(&self.cycle[start..self.ends[(from + taken) as usize - 1]])
    }
}

/// The header block of every message with headers.
pub(crate) fn headers() -> Vec<u8> {
    let mut block = b"NATS/1.0\r\n".to_vec();
    for (name, value) in HEADERS {
        let _ = write!(block, "{name}: {value}\r\n");
    }
    block.extend_from_slice(b"\r\n");
    block
}

/// The header block of every stamped message; the number is replaced.
fn stamp() -> String {
    format!("NATS/1.0\r\nSeq: feed.1763683200123456.{SEQ_FIRST}\r\n\r\n")
}

/// Whether messages for this subject go nowhere.
pub(crate) fn is_swallowed(subject: &[u8]) -> bool {
    subject.starts_with(SUBJECT.as_bytes())
}
