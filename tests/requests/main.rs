//! Requests against real servers of every pinned version, and a hundred thousand cancelled ones.
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

mod cancellations;
mod many_replies;
mod one_reply;

use natseq::client::{Client, Event, Events, Subscription};
use natseq::wire::Message;
use support::{PATIENCE, RealServer, servers};

/// One server of each version, started when its turn comes.
fn started(test: &str, config: &'static str) -> impl Iterator<Item = RealServer> {
    servers(test)
        .into_iter()
        .map(move |binary| RealServer::start(&binary, config))
}

/// Answers each message on `sub` with what `answers` says, until the client is gone.
fn serve(
    client: &Client,
    mut sub: Subscription,
    answers: impl Fn(&Message) -> Vec<String> + Send + 'static,
) -> tokio::task::JoinHandle<()> {
    let client = client.clone();
    tokio::spawn(async move {
        while let Some(question) = sub.next().await {
            for answer in answers(&question) {
                let reply = std::str::from_utf8(question.reply().unwrap()).unwrap();
                // The client may be closed already.
                let _ = client.publish(reply, answer).await;
            }
        }
    })
}

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

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap()
}

fn text(message: &Message) -> String {
    String::from_utf8(message.payload().to_vec()).unwrap()
}
