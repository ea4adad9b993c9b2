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
#[path = "../support/waiting.rs"]
mod waiting;

mod cancellations;
mod many_replies;
mod one_reply;
mod together;

use natseq::client::{Client, Subscription};
use natseq::wire::Message;
use waiting::{started, text, wait_for, within};

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
