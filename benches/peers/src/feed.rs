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
}

impl Feed {
    /// What the payload of `start` asks for. `line` writes a message's verb, its subject and, from a
    /// server, the sid.
    pub(crate) fn new(start: &str, mut line: impl FnMut(&mut Vec<u8>, &str, bool)) -> Self {
        let mut numbers = start.split(' ').map(|word| word.parse().expect("a number"));
        let mut number = || -> u64 { numbers.next().expect("seven numbers") };
        let (burst, window, bytes) = (number(), number(), number() as usize);
        let (has_headers, messages) = (number() == 1, number());
        let (subscriptions, active) = (number(), number());
        let headers = if has_headers { headers() } else { Vec::new() };
        let mut feed = Self {
            burst,
            window,
            messages,
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

/// Whether messages for this subject go nowhere.
pub(crate) fn is_swallowed(subject: &[u8]) -> bool {
    subject.starts_with(SUBJECT.as_bytes())
}
