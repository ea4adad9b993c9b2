//! Stamping what goes out and checking what comes in: no socket, one thread.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a bench measures; it may panic"
)]

mod support;

use std::hint::black_box;
use std::time::Duration;

use natseq::sequence::{
    Event, Heartbeat, Outgoing, Receiver, ReceiverOptions, Sender, SenderOptions, SourceName,
    Weight,
};
use natseq::subject::Filter;
use support::{Contender, compare, scaled};

const NOW: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
struct Unit;

impl Weight for Unit {
    fn weight(&self) -> usize {
        64
    }
}

fn main() {
    compare(
        "stamp (numbering, retaining, header line)",
        vec![
            Contender::timed("copy of 16 B and a header", || copy(16)),
            Contender::timed("stamp 16 B", || stamp(16, "orders.eu.7")),
            Contender::timed("stamp 128 B", || stamp(128, "orders.eu.7")),
            Contender::timed("stamp 16 B with chains", || stamp(16, "orders.>")),
        ],
    );
    let sizes = [1, 100, 10_000, 1_000_000];
    let sizes = sizes.into_iter().filter(|size| *size <= scaled(1_000_000));
    let mut tables: Vec<Table> = sizes.map(Table::new).collect();
    let texts = stamps(1, 1, messages());
    let mut contenders = vec![Contender::timed("look at every stamp", || look(&texts))];
    contenders.extend(tables.iter_mut().map(|table| {
        let name = match table.sources {
            1 => "1 source",
            100 => "100 sources in turn",
            10_000 => "10,000 sources in turn",
            _ => "1,000,000 sources in turn",
        };
        Contender::measured(name, || table.check())
    }));
    compare("check (Immediate, known sources, event taken)", contenders);
}

/// Messages in one round.
fn messages() -> u64 {
    scaled(200_000)
}

/// `count` stamps of as many sources in turn, from number `first` on.
fn stamps(sources: u64, first: u64, count: u64) -> Vec<Vec<u8>> {
    let of = |at: u64| (at % sources, first + at / sources);
    let stamps = (0..count).map(of);
    stamps
        .map(|(source, seq)| format!("source-{source}.1763683200123456.{seq}").into_bytes())
        .collect()
}

/// A receiver to which every source is known, with its scope.
struct Table {
    sources: u64,
    next: u64,
    receiver: Receiver<Unit>,
}

impl Table {
    fn new(sources: u64) -> Self {
        let mut options = ReceiverOptions::new(Filter::new("orders.>").expect("a pattern"));
        options.sources_max = 2_000_000;
        let mut receiver = Receiver::new(options, 1, NOW);
        let heartbeat = hello();
        for source in 0..sources {
            let stamp = format!("source-{source}.1763683200123456.0");
            receiver.handle_heartbeat(NOW, stamp.as_bytes(), &heartbeat);
            while receiver.poll_event().is_some() {}
        }
        Self {
            sources,
            next: 1,
            receiver,
        }
    }

    /// Every source once, or as often as there is to measure.
    fn check(&mut self) -> (u64, Duration) {
        let count = messages().max(self.sources);
        let stamps = stamps(self.sources, self.next, count);
        self.next += count / self.sources;
        let mut delivered = 0;
        let time = support::time(|| {
            for stamp in &stamps {
                self.receiver.handle_message(NOW, Some(stamp), Unit);
                while let Some(event) = self.receiver.poll_event() {
                    delivered += u64::from(matches!(event, Event::Message { .. }));
                }
            }
        });
        assert_eq!(delivered, count);
        (count, time)
    }
}

fn hello() -> Heartbeat {
    let name = SourceName::new("a").expect("a name");
    let scope = Filter::new("orders.>").expect("a pattern");
    let mut sender = Sender::new(SenderOptions::new(name, 1, scope), 1, NOW);
    sender.handle_connected(NOW);
    sender.poll_heartbeat(NOW).expect("a hello")
}

fn copy(bytes: usize) -> u64 {
    let payload = vec![b'x'; bytes];
    let mut out = Vec::with_capacity(1 << 20);
    for _ in 0..messages() {
        if out.len() > (1 << 19) {
            out.clear();
        }
        out.extend_from_slice(black_box(&payload));
        out.extend_from_slice(black_box(b"Seq: pricing-a.1763683200123456.100000\r\n"));
    }
    messages()
}

fn stamp(bytes: usize, scope: &str) -> u64 {
    let payload = vec![b'x'; bytes];
    let name = SourceName::new("pricing-a").expect("a name");
    let scope = Filter::new(scope).expect("a pattern");
    let mut sender = Sender::new(
        SenderOptions::new(name, 1_763_683_200_123_456, scope),
        1,
        NOW,
    );
    sender.handle_connected(NOW);
    let mut line = Vec::new();
    let message = Outgoing {
        subject: "orders.eu.7",
        reply: None,
        headers: b"",
        payload: &payload,
    };
    for _ in 0..messages() {
        line.clear();
        sender
            .stamp(NOW, black_box(&message), 1 << 20, &mut line)
            .expect("room");
        black_box(&line);
    }
    messages()
}

fn look(stamps: &[Vec<u8>]) -> u64 {
    for stamp in stamps {
        black_box(stamp.iter().map(|byte| u64::from(*byte)).sum::<u64>());
    }
    messages()
}
