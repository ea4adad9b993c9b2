//! Stamping what goes out and checking what comes in.

use std::hint::black_box;
use std::time::Duration;

use natseq::sequence::{
    Carrier, Dressed, Event, Heartbeat, Outgoing, Receiver, ReceiverOptions, RetentionLimits,
    Sender, SenderOptions, SourceName, Wardrobe, Weight,
};
use natseq::subject::{Filter, SubjectRef};

use crate::{Function, REPEATS};

const NOW: Duration = Duration::from_secs(1);
const EPOCH: u64 = 1_763_683_200_123_456;
const SUBJECT: &str = "orders.eu.7";
const BODY_BYTES_MAX: usize = 1 << 20;

/// Numbers, retains and dresses messages; of a scope with several subjects, with chains.
pub(crate) fn stamp(payload_bytes: usize, scope: &str) -> Box<dyn Function> {
    let mut options = SenderOptions::new(name("pricing-a"), EPOCH, filter(scope));
    // What one run sends pushes out what the run before has sent.
    options.retention = RetentionLimits {
        messages_max: REPEATS,
        ..RetentionLimits::default()
    };
    let mut sender = Sender::new(options, 1, NOW);
    sender.handle_connected(NOW);
    let mut stamp = Stamp {
        sender,
        payload: vec![b'x'; payload_bytes],
        line: Vec::new(),
        wardrobe: Wardrobe::default(),
        stamped: 0,
    };
    // Then every chunk has its size and is used again.
    for _ in 0..4 {
        stamp.run();
    }
    Box::new(stamp)
}

struct Stamp {
    sender: Sender,
    payload: Vec<u8>,
    line: Vec<u8>,
    wardrobe: Wardrobe,
    stamped: u64,
}

impl Function for Stamp {
    fn bytes(&self) -> usize {
        REPEATS * self.payload.len()
    }

    fn run(&mut self) {
        let subject = SubjectRef::new(SUBJECT).expect("a literal subject");
        let message = Outgoing {
            subject: SUBJECT,
            reply: None,
            headers: b"",
            payload: &self.payload,
        };
        for _ in 0..REPEATS {
            self.stamped += 1;
            self.line.clear();
            let message = black_box(&message);
            let seq = self
                .sender
                .stamp(NOW, message, BODY_BYTES_MAX, &mut self.line);
            assert_eq!(seq, Ok(self.stamped));
            let dressed =
                Carrier::Header.dress(&self.line, subject, message.payload, &mut self.wardrobe);
            assert!(matches!(dressed, Dressed::Lines(_)));
        }
        let begin = format!("Seq: pricing-a.{EPOCH}.{}", self.stamped);
        assert!(self.line.starts_with(begin.as_bytes()));
    }
}

/// Checks messages of as many sources in turn, all of them known; their numbers follow each other.
pub(crate) fn check(sources: u64) -> Box<dyn Function> {
    let mut receiver = Receiver::new(ReceiverOptions::new(filter("orders.>")), 1, NOW);
    let heartbeat = hello();
    for source in 0..sources {
        receiver.handle_heartbeat(NOW, stamp_of(source, 0).as_bytes(), &heartbeat);
        while receiver.poll_event().is_some() {}
    }
    Box::new(Check {
        sources,
        receiver,
        checked: 0,
        stamps: Vec::new(),
    })
}

struct Check {
    sources: u64,
    receiver: Receiver<Unit>,
    checked: u64,
    stamps: Vec<String>,
}

impl Function for Check {
    fn bytes(&self) -> usize {
        self.stamps.iter().map(String::len).sum()
    }

    fn prepare(&mut self) {
        self.stamps.clear();
        for number in self.checked..self.checked + REPEATS as u64 {
            let (source, seq) = (number % self.sources, number / self.sources + 1);
            self.stamps.push(stamp_of(source, seq));
        }
    }

    fn run(&mut self) {
        let mut delivered = 0;
        for stamp in &self.stamps {
            let carried =
                Carrier::Header.read(Some(stamp.as_bytes()), SUBJECT.as_bytes(), black_box(b""));
            self.receiver.handle_message(NOW, carried.stamp, Unit);
            while let Some(event) = self.receiver.poll_event() {
                assert!(matches!(event, Event::Message { .. }));
                delivered += 1;
            }
        }
        assert_eq!(delivered, REPEATS);
        self.checked += REPEATS as u64;
    }
}

/// A message of which only the weight is known.
#[derive(Clone, Copy)]
struct Unit;

impl Weight for Unit {
    fn weight(&self) -> usize {
        64
    }
}

fn stamp_of(source: u64, seq: u64) -> String {
    format!("source-{source}.{EPOCH}.{seq}")
}

fn hello() -> Heartbeat {
    let options = SenderOptions::new(name("a"), 1, filter("orders.>"));
    let mut sender = Sender::new(options, 1, NOW);
    sender.handle_connected(NOW);
    sender.poll_heartbeat(NOW).expect("a hello")
}

fn name(text: &str) -> SourceName {
    SourceName::new(text).expect("a name")
}

fn filter(text: &str) -> Filter {
    Filter::new(text).expect("a filter")
}
