//! Publishing, receiving and checking take no memory for each message: what they need is there after the
//! first few. And a source that rests takes little.
#![cfg(all(feature = "broker", feature = "client"))]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::alloc::System;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use bytes::Bytes;
use natseq::broker::{Broker, BrokerOptions};
use natseq::client::connect;
use natseq::sequence::{Receiver, ReceiverOptions, Sender, SenderOptions, SourceName, Weight};
use natseq::subject::Filter;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MESSAGES: u64 = 1_000;
const NOW: Duration = Duration::from_secs(1);
/// All that a receiver keeps for a source that is at rest.
const IDLE_SOURCE_BYTES_MAX: usize = 256;

struct Unit;

impl Weight for Unit {
    fn weight(&self) -> usize {
        1
    }
}

/// One thread and no await between the two looks, so that nobody else allocates. Both kinds stand
/// in one test, because tests of one binary run beside each other.
#[tokio::test]
async fn published_messages_are_not_allocated() {
    let broker = Broker::listen("127.0.0.1:0", BrokerOptions::default())
        .await
        .unwrap();
    let client = connect(&broker.local_addr().unwrap().to_string())
        .await
        .unwrap();
    // Both buffers that the writer swaps grow to their size.
    for _ in 0..4 {
        allocations(&|| client.try_publish("d.x", b"0123456789abcdef").unwrap());
        client.flush().await.unwrap();
    }
    let taken = allocations(&|| client.try_publish("d.x", b"0123456789abcdef").unwrap());
    assert_eq!(taken, 0, "plain");
    client.flush().await.unwrap();

    let large = Bytes::from(vec![b'x'; 32_768]);
    let mut taken = 0;
    for _ in 0..4 {
        let region = Region::new(ALLOCATOR);
        // Fewer than the outbox has room for.
        for _ in 0..16 {
            client.publish("d.x", &large).await.unwrap();
        }
        taken = region.change().allocations + region.change().reallocations;
        client.flush().await.unwrap();
    }
    assert_eq!(taken, 0, "by reference");

    let publisher = client.sequenced_publisher("d.x").unwrap().start().unwrap();
    let stamped = || {
        publisher.try_publish("d.x", b"0123456789abcdef").unwrap();
    };
    // More than is retained, so that the ring has its size.
    for _ in 0..24 {
        allocations(&stamped);
        client.flush().await.unwrap();
    }
    assert_eq!(allocations(&stamped), 0, "stamped");

    received_messages_are_hardly_allocated().await;
    what_is_checked_is_not_allocated();
    an_idle_source_takes_little_memory();
}

/// One allocation for each read buffer at most, and little for waking.
async fn received_messages_are_hardly_allocated() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || deliver(&listener));
    let client = connect(&address).await.unwrap();
    let mut subscription = client.subscribe("d.x").unwrap();
    let wanted = usize::try_from(MESSAGES).unwrap();
    let mut batch = Vec::with_capacity(wanted);
    let mut taken = 0;
    for _ in 0..24 {
        let region = Region::new(ALLOCATOR);
        client.try_publish("more", b"").unwrap();
        while batch.len() < wanted {
            subscription.next_batch(&mut batch, wanted).await;
        }
        batch.clear();
        let change = region.change();
        taken = change.allocations + change.reallocations;
    }
    println!("{taken} allocations for {MESSAGES} received messages");
    assert!(taken * 10 < wanted, "{taken} for {MESSAGES} messages");
}

/// Sends a burst of messages whenever more are asked for, and allocates nothing meanwhile.
fn deliver(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().unwrap();
    let burst = b"MSG d.x 1 16\r\n0123456789abcdef\r\n".repeat(usize::try_from(MESSAGES).unwrap());
    stream.write_all(b"INFO {} \r\n").unwrap();
    let mut buffer = [0; 4_096];
    while let Ok(len @ 1..) = stream.read(&mut buffer) {
        let said = &buffer[..len];
        if said.ends_with(b"PING\r\n") {
            stream.write_all(b"PONG\r\n").unwrap();
        }
        for _ in said.windows(9).filter(|said| *said == b"PUB more ") {
            stream.write_all(&burst).unwrap();
        }
    }
}

/// A receiver that knows so many sources and their scope, at rest.
fn receiver(sources: u64) -> Receiver<Unit> {
    let scope = Filter::new("d.>").unwrap();
    let name = SourceName::new("a").unwrap();
    let mut sender = Sender::new(SenderOptions::new(name, 1, scope.clone()), 1, NOW);
    sender.handle_connected(NOW);
    let hello = sender.poll_heartbeat(NOW).unwrap();
    let mut options = ReceiverOptions::new(scope);
    options.sources_max = 1 << 20;
    let mut receiver = Receiver::new(options, 1, NOW);
    for source in 0..sources {
        let stamp = format!("source-{source}.1763683200123456.0");
        receiver.handle_heartbeat(NOW, stamp.as_bytes(), &hello);
        while receiver.poll_event().is_some() {}
    }
    receiver
}

fn what_is_checked_is_not_allocated() {
    let mut receiver = receiver(10);
    let stamps: Vec<String> = (0..MESSAGES)
        .map(|at| format!("source-{}.1763683200123456.{}", at % 10, 1 + at / 10))
        .collect();
    let (first, rest) = stamps.split_at(10);
    let mut check = |stamp: &String| {
        receiver.handle_message(NOW, Some(stamp.as_bytes()), Unit);
        assert!(receiver.poll_event().is_some());
    };
    first.iter().for_each(&mut check);
    let region = Region::new(ALLOCATOR);
    rest.iter().for_each(&mut check);
    let change = region.change();
    assert_eq!(change.allocations + change.reallocations, 0, "checked");
}

fn an_idle_source_takes_little_memory() {
    // The worst number of sources: the index has just doubled.
    for sources in [3_000, 100_000, 200_000] {
        let region = Region::new(ALLOCATOR);
        let receiver = receiver(sources);
        let change = region.change();
        let bytes = change.bytes_allocated - change.bytes_deallocated;
        let each = bytes / usize::try_from(sources).unwrap();
        println!("{sources} idle sources take {each} bytes each");
        assert!(each <= IDLE_SOURCE_BYTES_MAX, "{each} bytes");
        drop(receiver);
    }
}

fn allocations(publish: &dyn Fn()) -> usize {
    let region = Region::new(ALLOCATOR);
    for _ in 0..MESSAGES {
        publish();
    }
    let change = region.change();
    change.allocations + change.reallocations
}
