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

mod drains;
mod endings;
mod limits;
mod many;
mod refusals;

use std::time::Duration;

use natseq::client::{Client, Event, Events, Subscription};
use natseq::wire::Message;
use support::{PATIENCE, RealServer, servers};

/// One server of each version, started when its turn comes.
fn started(test: &str, config: &'static str) -> impl Iterator<Item = RealServer> {
    servers(test)
        .into_iter()
        .map(move |binary| RealServer::start(&binary, config))
}

/// Publishes `count` numbers, and returns when the server has them.
async fn publish_numbers(client: &Client, subject: &str, count: usize) {
    for number in 0..count {
        client.publish(subject, number.to_string()).await.unwrap();
    }
    client.flush().await.unwrap();
}

async fn next(sub: &mut Subscription) -> Message {
    next_or_end(sub)
        .await
        .unwrap_or_else(|| panic!("the subscription ended"))
}

async fn next_or_end(sub: &mut Subscription) -> Option<Message> {
    within(sub.next()).await
}

/// The next event that is wanted, and those before it are forgotten.
async fn wait_for(events: &mut Events, wanted: impl Fn(&Event) -> bool) -> Event {
    within(async {
        loop {
            let event = events.next().await.unwrap();
            if wanted(&event) {
                return event;
            }
        }
    })
    .await
}

async fn connected(events: &mut Events) {
    wait_for(events, |event| matches!(event, Event::Connected { .. })).await;
}

async fn disconnected(events: &mut Events) {
    wait_for(events, |event| matches!(event, Event::Disconnected { .. })).await;
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap()
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

fn text(message: &Message) -> String {
    String::from_utf8(message.payload().to_vec()).unwrap()
}
