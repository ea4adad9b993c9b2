//! Sequence numbers: knowing of every message whether it arrived, and getting what was lost.
//!
//! `cargo run --features broker --example sequencing`
#![allow(
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    clippy::arithmetic_side_effects,
    reason = "an example says what it does, and is about one thing at a time"
)]

mod server;

use std::time::Duration;

use natseq::broker::{BrokerOptions, Direction, FaultPlan, FaultRule};
use natseq::client::SequencedSubscriber;
use natseq::sequence::{Delivery, Event, SourceName};
use natseq::subject::Filter;
use tokio::time::timeout;

use server::{Embedded, Outcome, SOON, Server};

/// Messages that each part sends.
const MESSAGES: u64 = 500;

#[tokio::main]
async fn main() -> Outcome {
    let server = Server::find().await?;
    run(server.url()).await?;
    what_is_lost_is_won_back().await
}

/// What any server shows, one after the other.
pub(crate) async fn run(url: &str) -> Outcome {
    every_number_arrives(url).await?;
    others_see_ordinary_messages(url).await
}

/// Each source counts its own messages. The end of a source is known, too.
async fn every_number_arrives(url: &str) -> Outcome {
    let linger = Duration::from_millis(200);
    let (sent, numbers) = exchange(url, "shop-a", linger).await?;
    assert_eq!(numbers, (1..=sent).collect::<Vec<_>>());
    println!("sequenced: {sent} sent, and all arrived");
    Ok(())
}

/// On a link that drops every fifth message and doubles every tenth, the same holds.
pub(crate) async fn what_is_lost_is_won_back() -> Outcome {
    let mut rule = FaultRule::new(Filter::new("example.>")?, Direction::ToClient);
    rule.drop = 0.2;
    rule.duplicate = 0.1;
    let mut options = BrokerOptions::default();
    options.faults = FaultPlan::one(rule);
    let server = Embedded::start(options).await?;
    let linger = Duration::from_secs(2);
    let (sent, numbers) = exchange(&server.url(), "shop-b", linger).await?;
    assert_eq!(numbers, (1..=sent).collect::<Vec<_>>());
    let faults = server.broker().map(|broker| broker.statistics().faults);
    println!("lossy: {sent} sent, and all arrived in order, despite {faults:?}");
    Ok(())
}

/// The number is one header line: other subscribers, in any language, need not know of it.
async fn others_see_ordinary_messages(url: &str) -> Outcome {
    let client = natseq::connect(url).await?;
    let mut plain = client.subscribe("example.plain")?;
    let source = SourceName::new("shop-c")?;
    let publisher = client
        .sequenced_publisher("example.plain")?
        .source(source)
        .linger(Duration::from_millis(100))
        .start()?;
    publisher.publish("example.plain", "two apples").await?;
    let message = timeout(SOON, plain.next()).await?.ok_or("ended")?;
    assert_eq!(message.payload(), b"two apples");
    let stamp = message.headers().and_then(|headers| headers.first("Seq"));
    println!("stamp: {}", stamp.unwrap_or_default().escape_ascii());
    assert!(stamp.is_some_and(|stamp| stamp.starts_with(b"shop-c.")));
    publisher.close().await;
    client.close().await;
    Ok(())
}

/// Publishes numbered messages on one connection, and receives them on another until their source
/// has ended. Returns how many were sent, and the numbers that arrived.
async fn exchange(url: &str, source: &str, linger: Duration) -> Outcome<(u64, Vec<u64>)> {
    let subject = "example.fruit";
    let receiving = natseq::connect(url).await?;
    let receiver = receiving
        .sequenced_subscriber(subject)?
        .delivery(Delivery::Ordered)
        .start()?;
    // A receiver that comes later begins with what it hears first.
    receiving.flush().await?;
    let taking = tokio::spawn(take(receiver));

    let sending = natseq::connect(url).await?;
    let publisher = sending
        .sequenced_publisher(subject)?
        .source(SourceName::new(source)?)
        .linger(linger)
        .start()?;
    for _ in 0..MESSAGES {
        publisher.publish(subject, "an apple").await?;
    }
    // Serves repairs for that long, and returns.
    publisher.close().await;
    let numbers = timeout(SOON, taking).await???;
    sending.close().await;
    receiving.close().await;
    Ok((MESSAGES, numbers))
}

async fn take(mut receiver: SequencedSubscriber) -> Outcome<Vec<u64>> {
    let mut numbers = Vec::new();
    while let Some(event) = receiver.next().await {
        match event {
            Event::Message { origin, .. } => numbers.push(origin.seq),
            Event::Lost {
                from, to, reason, ..
            } => {
                return Err(format!("{from} to {to} are lost: {reason}").into());
            }
            Event::SourceEnded { .. } => break,
            _ => {}
        }
    }
    Ok(numbers)
}
