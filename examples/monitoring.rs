//! Monitoring the connection: its state, what happens to it, subscribers that are too slow, counts.
//!
//! `cargo run --features broker --example monitoring`
#![allow(
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    clippy::arithmetic_side_effects,
    reason = "an example says what it does, and is about one thing at a time"
)]

mod server;

use natseq::Client;
use natseq::client::{Event, Events, Overflow, Status};
use natseq::session::LinkError;
use tokio::time::timeout;

use server::{Outcome, SOON, Server};

#[tokio::main]
async fn main() -> Outcome {
    let server = Server::find().await?;
    run(server.url()).await
}

/// Everything below, one after the other.
pub(crate) async fn run(url: &str) -> Outcome {
    connection_events(url).await?;
    slow_consumer(url).await?;
    nothing_dropped(url).await?;
    statistics(url).await
}

/// Events come in order, to everybody who asks for them. `Disconnected` says how many published
/// messages were written and not yet confirmed: they may have arrived, or not.
async fn connection_events(url: &str) -> Outcome {
    let client = natseq::connect(url).await?;
    assert_eq!(client.status(), Status::Connected);
    let mut events = client.events();
    // As if the connection was lost.
    client.reconnect();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        match next(&mut events).await? {
            Event::Disconnected { reason, in_doubt } => {
                assert_eq!((&reason, in_doubt), (&LinkError::Forced, 0));
                seen.push(format!("disconnected: {reason}"));
            }
            Event::Connected { server, generation } => {
                seen.push(format!("connection {generation}, to {server}"));
            }
            Event::DialFailed { server, reason } => println!("{server}: {reason}"),
            Event::LameDuck => println!("the server is about to stop"),
            Event::ServersDiscovered { servers } => println!("new servers: {servers:?}"),
            Event::ServerError { text } => println!("the server says {text}"),
            _ => {}
        }
    }
    println!("{}", seen.join("; "));
    client.close().await;
    let last = last(&mut events).await?;
    assert!(
        matches!(last, Event::Closed { reason: None, .. }),
        "{last:?}"
    );
    assert_eq!(client.status(), Status::Closed);
    Ok(())
}

/// A subscriber that does not keep up has at most so many messages waiting. What comes then is
/// dropped for it and counted; one event begins the episode and one ends it, with the exact number.
async fn slow_consumer(url: &str) -> Outcome {
    let client = natseq::connect(url).await?;
    let mut events = client.events();
    let mut ticks = client
        .subscription("example.ticks")
        .messages_max(10)
        .subscribe()?;
    for number in 0..100 {
        client.publish("example.ticks", number.to_string()).await?;
    }
    client.flush().await?;
    let counts = ticks.statistics();
    assert_eq!((counts.waiting, counts.dropped), (10, 90));
    for _ in 0..10 {
        timeout(SOON, ticks.next()).await?.ok_or("ended")?;
    }
    let mut has_begun = false;
    loop {
        match next(&mut events).await? {
            Event::SlowConsumer { filter, .. } => {
                println!("{filter} is too slow");
                has_begun = true;
            }
            Event::SlowConsumerOver {
                filter, dropped, ..
            } => {
                println!("{filter} has caught up: {dropped} messages were dropped");
                assert_eq!((has_begun, dropped), (true, 90));
                break;
            }
            _ => {}
        }
    }
    client.close().await;
    Ok(())
}

/// Where nothing may be dropped the connection is not read while the subscriber has enough waiting.
/// All that is on it waits then, so it is best a connection of its own.
async fn nothing_dropped(url: &str) -> Outcome {
    let slow = natseq::connect(url).await?;
    let other = natseq::connect(url).await?;
    let mut ticks = slow
        .subscription("example.ticks")
        .messages_max(10)
        .overflow(Overflow::StopReading)
        .confirmed()
        .await?;
    for number in 0..100 {
        other.publish("example.ticks", number.to_string()).await?;
    }
    other.flush().await?;
    for number in 0..100 {
        let tick = timeout(SOON, ticks.next()).await?.ok_or("ended")?;
        assert_eq!(tick.payload(), number.to_string().as_bytes());
    }
    assert_eq!(ticks.statistics().dropped, 0);
    slow.close().await;
    other.close().await;
    Ok(())
}

/// Counts of the whole client; those of a subscription are its own.
async fn statistics(url: &str) -> Outcome {
    let client = natseq::connect(url).await?;
    let orders = client.subscribe("example.orders")?;
    client.publish("example.orders", "12345").await?;
    client.flush().await?;
    let counts = client.statistics();
    assert_eq!((counts.published_messages, counts.published_bytes), (1, 5));
    assert_eq!((counts.received_messages, counts.received_bytes), (1, 5));
    assert_eq!((counts.connects, counts.subscriptions), (1, 1));
    assert_eq!(orders.statistics().accepted, 1);
    println!("statistics: {counts:?}");
    drop(orders);
    end(client).await
}

async fn end(client: Client) -> Outcome {
    client.drain().await?;
    Ok(())
}

async fn next(events: &mut Events) -> Outcome<Event> {
    Ok(timeout(SOON, events.next())
        .await?
        .ok_or("the client is gone")?)
}

/// The last event of a client that is closed.
async fn last(events: &mut Events) -> Outcome<Event> {
    loop {
        let event = next(events).await?;
        if matches!(event, Event::Closed { .. }) {
            return Ok(event);
        }
    }
}
