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
    Event, Outgoing, Receiver, ReceiverOptions, Sender, SenderOptions, SourceName, Weight,
};
use natseq::subject::Filter;
use support::{Contender, compare};

const MESSAGES: u64 = 200_000;
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
            Contender::timed("stamp 16 B", || stamp(16)),
            Contender::timed("stamp 128 B", || stamp(128)),
        ],
    );
    let stamps = |sources: u64| -> Vec<Vec<u8>> {
        let seqs = 1..=MESSAGES / sources;
        seqs.flat_map(|seq| {
            (0..sources)
                .map(move |source| format!("source-{source}.1763683200123456.{seq}").into_bytes())
        })
        .collect()
    };
    let (one, hundred, ten_thousand) = (stamps(1), stamps(100), stamps(10_000));
    compare(
        "check (Immediate, event taken)",
        vec![
            Contender::timed("look at every stamp", || look(&one)),
            Contender::timed("1 source", || check(&one)),
            Contender::timed("100 sources in turn", || check(&hundred)),
            Contender::timed("10,000 sources in turn", || check(&ten_thousand)),
        ],
    );
}

fn copy(bytes: usize) -> u64 {
    let payload = vec![b'x'; bytes];
    let mut out = Vec::with_capacity(1 << 20);
    for _ in 0..MESSAGES {
        if out.len() > (1 << 19) {
            out.clear();
        }
        out.extend_from_slice(black_box(&payload));
        out.extend_from_slice(black_box(b"Seq: pricing-a.1763683200123456.100000\r\n"));
    }
    MESSAGES
}

fn stamp(bytes: usize) -> u64 {
    let payload = vec![b'x'; bytes];
    let name = SourceName::new("pricing-a").expect("a name");
    let scope = Filter::new("orders.>").expect("a pattern");
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
    for _ in 0..MESSAGES {
        line.clear();
        sender
            .stamp(NOW, black_box(&message), 1 << 20, &mut line)
            .expect("room");
        black_box(&line);
    }
    MESSAGES
}

fn look(stamps: &[Vec<u8>]) -> u64 {
    for stamp in stamps {
        black_box(stamp.iter().map(|byte| u64::from(*byte)).sum::<u64>());
    }
    MESSAGES
}

fn check(stamps: &[Vec<u8>]) -> u64 {
    let options = ReceiverOptions::new(Filter::new("orders.>").expect("a pattern"));
    let mut receiver = Receiver::new(options, 1, NOW);
    let mut delivered = 0;
    for stamp in stamps {
        receiver.handle_message(NOW, Some(stamp), Unit);
        while let Some(event) = receiver.poll_event() {
            delivered += u64::from(matches!(event, Event::Message { .. }));
        }
    }
    assert_eq!(delivered, stamps.len() as u64);
    delivered
}
