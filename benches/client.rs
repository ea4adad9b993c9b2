//! The whole client against a null server in another process, beside a raw blocking socket that
//! does the minimum. Figures are processor time of the client's thread per message.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a bench measures; it may panic"
)]

#[path = "support/null_server.rs"]
mod null_server;
#[path = "support/raw.rs"]
mod raw;
mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use natseq::client::ConnectOptions;
use support::{Contender, compare, scaled, thread_cpu};

/// Names the null server's role on the command line.
const NULL_SERVER: &str = "null-server";

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(NULL_SERVER) {
        return null_server::serve();
    }
    for (bytes, messages) in [(16, 500_000), (128, 400_000), (1_024, 200_000)] {
        let messages = scaled(messages);
        let server = NullServer::start(bytes, messages);
        compare(
            &format!("receive {bytes} B"),
            vec![
                Contender::measured("raw socket, fields cut", || {
                    raw::receive(server.port, messages)
                }),
                Contender::measured("natseq", || receive(server.port, messages)),
            ],
        );
        compare(
            &format!("publish {bytes} B"),
            vec![
                Contender::measured("raw socket, encoded", || {
                    raw::publish(server.port, bytes, messages)
                }),
                Contender::measured("natseq", || publish(server.port, bytes, messages)),
            ],
        );
    }
}

/// This program again, as the null server.
struct NullServer {
    process: Child,
    port: u16,
}

impl NullServer {
    fn start(bytes: usize, messages: u64) -> Self {
        let program = std::env::current_exe().expect("the bench's own path");
        let mut process = Command::new(program)
            .args([NULL_SERVER, &bytes.to_string(), &messages.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the bench starts itself");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("stdout is piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("the server names its port");
        let port = line.trim().parse().expect("a port");
        Self { process, port }
    }
}

impl Drop for NullServer {
    fn drop(&mut self) {
        // It has nothing to lose.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

fn receive(port: u16, messages: u64) -> (u64, Duration) {
    runtime().block_on(async {
        let client = ConnectOptions::new()
            .connect(&format!("127.0.0.1:{port}"))
            .await
            .expect("connect");
        let begun = thread_cpu();
        let mut subscription = client.subscribe("bench").expect("subscribe");
        let mut batch = Vec::new();
        let mut taken = 0;
        while taken < messages {
            let before = taken / null_server::BURST;
            taken += subscription.next_batch(&mut batch, 1_024).await as u64;
            batch.clear();
            for _ in before..taken / null_server::BURST {
                client.publish("ack", "").await.expect("publish");
            }
        }
        let spent = thread_cpu().saturating_sub(begun);
        assert_eq!(
            subscription.statistics().dropped,
            0,
            "the sender is windowed"
        );
        (messages, spent)
    })
}

fn publish(port: u16, bytes: usize, messages: u64) -> (u64, Duration) {
    let payload = vec![b'x'; bytes];
    runtime().block_on(async {
        let client = ConnectOptions::new()
            .connect(&format!("127.0.0.1:{port}"))
            .await
            .expect("connect");
        let begun = thread_cpu();
        for _ in 0..messages {
            client
                .publish("bench", payload.as_slice())
                .await
                .expect("publish");
        }
        client.flush().await.expect("flush");
        (messages, thread_cpu().saturating_sub(begun))
    })
}
