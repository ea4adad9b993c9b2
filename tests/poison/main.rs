//! Malformed header blocks and odd subjects through real servers: what arrives, and what can be sent on.
//!
//! A raw socket publishes them, because the client cannot. Each message arrives with exactly its bytes, or the server
//! drops it for a reason that `Fate` names. The subscriber stays connected, every header block can be read, and
//! nothing of what came can be sent on with CR, LF or NUL in a subject or a header.
//!
//! Replay a failure with `NATSEQ_POISON_SEED=<seed> cargo test --test poison`.
#![cfg(feature = "client")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic"
)]

mod kinds;
mod message;
mod sink;
#[path = "../support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::time::Duration;

use message::{Fate, Poison};
use natseq::client::{Client, ConnectOptions};
use natseq::jitter::Jitter;
use sink::Sink;
use support::{PATIENCE, RealServer, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The oldest, a middle one and the newest.
const VERSIONS: [&str; 3] = ["2.9.10", "2.12.8", "2.15.1"];

/// Messages for each server, some of them well-formed; those with a CR in the control line come on top.
const MESSAGES: usize = 12_000;

/// Messages with a CR in the control line: each takes a round trip.
const MESSAGES_WITH_CR: usize = 300;

#[tokio::test]
async fn poison_is_delivered_as_it_was_published_and_cannot_be_sent_on() {
    let seed = std::env::var("NATSEQ_POISON_SEED").map_or(3, |text| text.parse().unwrap());
    for version in VERSIONS {
        let Some(binary) = server("poison", version) else {
            continue;
        };
        let server = RealServer::start(&binary, "");
        let context = format!("seed {seed} on {version}");
        let mut jitter = Jitter::new(seed);
        let has_reserved = version != "2.9.10";
        let mut poisons: Vec<_> = (0..MESSAGES)
            .map(|number| Poison::new(number, has_reserved, &mut jitter))
            .collect();
        let with_cr: Vec<_> = (0..MESSAGES_WITH_CR)
            .map(|number| Poison::with_cr(MESSAGES + number, &mut jitter))
            .collect();

        let client = connect(&server.url()).await;
        let mut events = client.events();
        let mut subscription = client.subscribe(">").unwrap();
        client.flush().await.unwrap();
        let mut publisher = RawPublisher::connect(server.address()).await;
        publisher.publish_at_once(&poisons).await;
        publisher.publish_one_by_one(&with_cr).await;
        poisons.extend(with_cr);

        let mut sink = Sink::start().await;
        for poison in poisons
            .iter()
            .filter(|poison| poison.fate == Fate::Delivered)
        {
            let context = format!("{poison} with {context}");
            let message = timeout(PATIENCE, subscription.next())
                .await
                .unwrap_or_else(|_| panic!("nothing came for {context}"))
                .unwrap_or_else(|| panic!("the subscription ended before {context}"));
            poison.check(&message, &context);
            sink.answer(&message, &context).await;
        }
        client.flush().await.unwrap();
        let statistics = subscription.statistics();
        assert_eq!(
            (statistics.waiting, statistics.dropped),
            (0, 0),
            "nothing else came, {context}"
        );
        assert_eq!(client.statistics().connects, 1, "{context}");
        let event = timeout(Duration::ZERO, events.next()).await;
        assert!(event.is_err(), "{event:?}, {context}");
        let reserved = poisons
            .iter()
            .filter(|poison| poison.fate == Fate::Reserved);
        assert_eq!(publisher.refusals, reserved.count(), "{context}");
        sink.finish(&context).await;
        client.close().await;
    }
}
async fn connect(address: &str) -> Client {
    // No PING of our own between what the test compares.
    let options = ConnectOptions::new().ping_interval(PATIENCE);
    options.connect(address).await.unwrap()
}
/// A connection that publishes any bytes.
struct RawPublisher {
    stream: TcpStream,
    heard: Vec<u8>,
    /// Permissions violations so far.
    refusals: usize,
}

impl RawPublisher {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut publisher = Self {
            stream,
            heard: Vec::new(),
            refusals: 0,
        };
        let connect = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n";
        publisher.send(connect).await;
        publisher
    }

    async fn publish_at_once(&mut self, poisons: &[Poison]) {
        let mut bytes = Vec::new();
        for poison in poisons {
            poison.write(&mut bytes);
        }
        self.send(&bytes).await;
    }

    async fn publish_one_by_one(&mut self, poisons: &[Poison]) {
        for poison in poisons {
            let mut bytes = Vec::new();
            poison.write(&mut bytes);
            self.send(&bytes).await;
        }
    }

    /// Writes and waits until the server has read everything.
    async fn send(&mut self, bytes: &[u8]) {
        let bytes = [bytes, b"PING\r\n"].concat();
        let (mut reader, mut writer) = self.stream.split();
        let heard = &mut self.heard;
        let refusals = &mut self.refusals;
        let reading = async {
            loop {
                while let Some(end) = heard.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = heard.drain(..=end).collect();
                    if line == b"PONG\r\n" {
                        return;
                    }
                    if line.starts_with(b"-ERR 'Permissions Violation") {
                        *refusals += 1;
                    } else {
                        let is_known = line.starts_with(b"INFO ") || line == b"PING\r\n";
                        assert!(is_known, "server said {}", line.escape_ascii());
                    }
                }
                let count = reader.read_buf(heard).await.unwrap();
                assert_ne!(count, 0, "the server closed the publisher's connection");
            }
        };
        let both = async {
            let (written, ()) = tokio::join!(writer.write_all(&bytes), reading);
            written.unwrap();
        };
        timeout(PATIENCE, both).await.unwrap();
    }
}
