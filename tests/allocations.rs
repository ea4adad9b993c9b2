//! Publishing takes no memory for each message: what it needs is there after the first few.
#![cfg(all(feature = "broker", feature = "client"))]
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a test may panic"
)]

use std::alloc::System;

use natseq::broker::{Broker, BrokerOptions};
use natseq::client::connect;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MESSAGES: u64 = 1_000;

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

    let publisher = client.sequenced_publisher("d.x").unwrap().start().unwrap();
    let stamped = || {
        publisher.try_publish("d.x", b"0123456789abcdef").unwrap();
    };
    // More than is retained, so that the ring has its size.
    for _ in 0..12 {
        allocations(&stamped);
        client.flush().await.unwrap();
    }
    assert_eq!(allocations(&stamped), 0, "stamped");
}

fn allocations(publish: &dyn Fn()) -> usize {
    let region = Region::new(ALLOCATOR);
    for _ in 0..MESSAGES {
        publish();
    }
    let change = region.change();
    change.allocations + change.reallocations
}
