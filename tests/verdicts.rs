//! Holds the embedded broker against what real servers answered to the same bytes.
//!
//! `data/server-verdicts.json` was captured with raw sockets from nats-server 2.9.10, 2.10.29,
//! 2.11.0, 2.12.15, 2.14.5 and a 2.15 development build.
#![cfg(feature = "broker")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::time::Duration;

use natseq::broker::{Broker, BrokerOptions};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Says that a connection which stays open has nothing more to say.
const LAST_WORD: &[u8] = b"PING\r\n";

/// Every answer comes within this time on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(10);

fn latin1(text: &str) -> Vec<u8> {
    text.chars()
        .map(|character| u8::try_from(u32::from(character)).unwrap())
        .collect()
}

#[tokio::test]
async fn the_broker_answers_as_real_servers_do() {
    let text = include_str!("data/server-verdicts.json");
    let verdicts: Value = serde_json::from_str(text).unwrap();
    let mut compared = 0;
    for vector in verdicts["vectors"].as_array().unwrap() {
        let name = vector["name"].as_str().unwrap();
        let input = latin1(vector["input"].as_str().unwrap());
        for answer in vector["answers"].as_array().unwrap() {
            let output = latin1(answer["output"].as_str().unwrap());
            let is_closed = answer["closed"].as_bool().unwrap();
            for version in answer["servers"].as_array().unwrap() {
                // A development build is the broker's default.
                let version = version.as_str().unwrap().parse().unwrap_or_default();
                let mut options = BrokerOptions::default();
                options.version = version;
                let broker = Broker::listen("127.0.0.1:0", options).await.unwrap();
                for is_byte_by_byte in [false, true] {
                    let heard = converse(&broker, &input, is_closed, is_byte_by_byte).await;
                    assert_eq!(
                        heard.escape_ascii().to_string(),
                        output.escape_ascii().to_string(),
                        "{name}, {version:?}, byte by byte: {is_byte_by_byte}"
                    );
                }
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 48 * 6, "every vector, every version");
}

/// Sends `input` and returns what is answered behind INFO, until the close or the last PONG.
async fn converse(
    broker: &Broker,
    input: &[u8],
    is_closed: bool,
    is_byte_by_byte: bool,
) -> Vec<u8> {
    let mut stream = tokio::net::TcpStream::connect(broker.local_addr().unwrap())
        .await
        .unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(b"\r\n") {
        timeout(PATIENCE, stream.read_buf(&mut heard))
            .await
            .unwrap()
            .unwrap();
    }
    assert!(heard.starts_with(b"INFO {"), "{}", heard.escape_ascii());
    heard.clear();
    // The broker may close before everything is sent.
    if is_byte_by_byte {
        for byte in input.chunks(1) {
            if stream.write_all(byte).await.is_err() {
                break;
            }
        }
    } else {
        let _ = stream.write_all(input).await;
    }
    if !is_closed {
        stream.write_all(LAST_WORD).await.unwrap();
    }
    loop {
        let count = timeout(PATIENCE, stream.read_buf(&mut heard))
            .await
            .expect("an answer");
        if matches!(count, Ok(0) | Err(_)) {
            assert!(is_closed, "closed: {}", heard.escape_ascii());
            return heard;
        }
        if !is_closed && heard.ends_with(b"PONG\r\n") && pongs(&heard) == pings(input) + 1 {
            heard.truncate(heard.len() - b"PONG\r\n".len());
            return heard;
        }
    }
}

fn pongs(bytes: &[u8]) -> usize {
    bytes
        .windows(6)
        .filter(|window| *window == b"PONG\r\n")
        .count()
}

/// Lines that begin with PING are answered, whatever follows.
fn pings(input: &[u8]) -> usize {
    let lines = input.split(|byte| *byte == b'\n');
    lines
        .filter(|line| {
            line.get(..4)
                .is_some_and(|word| word.eq_ignore_ascii_case(b"PING"))
        })
        .count()
}
