//! Subscriptions against real servers of every pinned version: limits, refusals, drains, many of them.
#![cfg(all(feature = "client", feature = "broker"))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "test code: a surprise here fails the test"
)]

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/waiting.rs"]
mod waiting;

mod drains;
mod endings;
mod limits;
mod many;
mod refusals;

use std::time::Duration;

use natseq::client::{Client, Event, Events};
use support::PATIENCE;
use waiting::{hears_numbers_and_the_end, next, next_or_end, started, text, wait_for, within};

/// Publishes `count` numbers, and returns when the server has them.
async fn publish_numbers(client: &Client, subject: &str, count: usize) {
    for number in 0..count {
        client.publish(subject, number.to_string()).await.unwrap();
    }
    client.flush().await.unwrap();
}

async fn connected(events: &mut Events) {
    wait_for(events, |event| matches!(event, Event::Connected { .. })).await;
}

async fn disconnected(events: &mut Events) {
    wait_for(events, |event| matches!(event, Event::Disconnected { .. })).await;
}

/// Asks again and again, and fails after [`PATIENCE`].
async fn until(what: &str, condition: impl Fn() -> bool) {
    let asking = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let asked = tokio::time::timeout(PATIENCE, asking).await;
    assert!(asked.is_ok(), "waited {PATIENCE:?} for {what}");
}
