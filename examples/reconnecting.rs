//! Automatic reconnections: none at all, how often, with which pauses, and what happens meanwhile.
//!
//! Plays its own outages, with embedded servers.
//!
//! `cargo run --features broker --example reconnecting`
#![allow(
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    clippy::arithmetic_side_effects,
    reason = "an example says what it does, and is about one thing at a time"
)]

mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use natseq::broker::{Broker, BrokerOptions};
use natseq::client::{ErrorKind, Event, Events};
use natseq::session::{LinkError, OutboxLimits, RedialOptions};
use natseq::{ConnectOptions, connect};
use tokio::time::timeout;

use server::{Embedded, Outcome, SOON};

#[tokio::main]
async fn main() -> Outcome {
    run().await
}

/// Everything below, one after the other.
pub(crate) async fn run() -> Outcome {
    no_reconnect().await?;
    number_of_attempts().await?;
    no_thundering_herd().await?;
    pauses().await?;
    events().await?;
    buffering().await?;
    forced().await?;
    other_servers().await
}

/// No attempts at all: the client ends with its first connection.
async fn no_reconnect() -> Outcome {
    let mut server = Embedded::start(BrokerOptions::default()).await?;
    let options = RedialOptions {
        attempts_max: Some(0),
        ..RedialOptions::default()
    };
    let client = ConnectOptions::new()
        .redial(options)
        .connect(&server.url())
        .await?;
    let mut events = client.events();
    server.stop();
    let end = until(&mut events, |event| matches!(event, Event::Closed { .. })).await?;
    println!("no reconnect: {end:?}");
    let refused = client.publish("example.late", "").await;
    assert_eq!(
        refused.err().map(|error| error.kind()),
        Some(ErrorKind::Closed)
    );
    Ok(())
}

/// So many attempts, over all servers together, and then the client ends. By default it never does.
async fn number_of_attempts() -> Outcome {
    let mut server = Embedded::start(BrokerOptions::default()).await?;
    let options = RedialOptions {
        attempts_max: Some(3),
        ..RedialOptions::default()
    };
    let client = ConnectOptions::new()
        .redial(options)
        .connect(&server.url())
        .await?;
    let mut events = client.events();
    server.stop();
    let mut failed = 0;
    let reason = loop {
        match next(&mut events).await? {
            Event::DialFailed { .. } => failed += 1,
            Event::Closed { reason, .. } => break reason,
            _ => {}
        }
    };
    assert_eq!(failed, 3);
    assert_eq!(reason, Some(LinkError::AttemptsUsedUp));
    Ok(())
}

/// When a server dies, its clients must not all rush to the same other one: each has its own
/// random order of the servers, and pauses differ from client to client.
async fn no_thundering_herd() -> Outcome {
    let servers = [
        Embedded::start(BrokerOptions::default()).await?,
        Embedded::start(BrokerOptions::default()).await?,
    ];
    let urls = servers.each_ref().map(Embedded::url).join(",");
    let mut clients = Vec::new();
    for _ in 0..32 {
        clients.push(connect(&urls).await?);
    }
    let connections = servers.each_ref().map(|server| {
        let statistics = server.broker().map(Broker::statistics);
        statistics.map_or(0, |statistics| statistics.connections)
    });
    println!("no herd: {connections:?} connections");
    assert!(connections.iter().all(|count| *count > 0));
    for client in clients {
        client.close().await;
    }
    Ok(())
}

/// The first pass over the servers does not wait. After it a pause is a quarter of the outage so
/// far, within these bounds; or what our own function says.
async fn pauses() -> Outcome {
    let mut server = Embedded::start(BrokerOptions::default()).await?;
    let options = RedialOptions {
        pause_min: Duration::from_millis(1),
        pause_max: Duration::from_secs(1),
        ..RedialOptions::default()
    };
    let asked = Arc::new(AtomicU64::new(0));
    let asked_here = Arc::clone(&asked);
    let client = ConnectOptions::new()
        .redial(options)
        .redial_delay(move |dials| {
            asked_here.store(dials, Ordering::Relaxed);
            Duration::from_millis(dials.min(10))
        })
        .connect(&server.url())
        .await?;
    let mut events = client.events();
    server.stop();
    for _ in 0..3 {
        until(&mut events, |event| {
            matches!(event, Event::DialFailed { .. })
        })
        .await?;
    }
    server.restart().await?;
    until(&mut events, |event| {
        matches!(event, Event::Connected { .. })
    })
    .await?;
    assert!(asked.load(Ordering::Relaxed) >= 2);
    client.close().await;
    Ok(())
}

/// Subscriptions are restored by themselves; events tell who wants to know.
async fn events() -> Outcome {
    let mut server = Embedded::start(BrokerOptions::default()).await?;
    let client = connect(&server.url()).await?;
    let mut orders = client.subscribe("example.orders")?;
    client.flush().await?;
    let mut events = client.events();
    server.restart().await?;
    let lost = until(&mut events, |event| {
        matches!(event, Event::Disconnected { .. })
    })
    .await?;
    println!("lost: {lost:?}");
    let back = until(&mut events, |event| {
        matches!(event, Event::Connected { .. })
    })
    .await?;
    println!("back: {back:?}");
    client.publish("example.orders", "two apples").await?;
    let order = timeout(SOON, orders.next()).await?.ok_or("ended")?;
    assert_eq!(order.payload(), b"two apples");
    client.close().await;
    Ok(())
}

/// What is published meanwhile waits, up to a bound in bytes: `publish` waits for room then,
/// `try_publish` fails.
async fn buffering() -> Outcome {
    let mut server = Embedded::start(BrokerOptions::default()).await?;
    let limits = OutboxLimits {
        pending_bytes_max: 1_000,
        ..OutboxLimits::default()
    };
    let client = ConnectOptions::new()
        .outbox(limits)
        .connect(&server.url())
        .await?;
    let mut events = client.events();
    server.stop();
    until(&mut events, |event| {
        matches!(event, Event::Disconnected { .. })
    })
    .await?;
    let mut waiting = 0_usize;
    let full = loop {
        match client.try_publish("example.later", "a message that waits") {
            Ok(()) => waiting += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full.kind(), ErrorKind::OutboxFull { .. }));
    println!("buffering: {waiting} messages wait, then: {full}");
    server.restart().await?;
    // Returns once there is room, which is when the others were written.
    client.publish("example.later", "another").await?;
    timeout(SOON, flushed(&client)).await?;
    let published = server.broker().map(|broker| broker.statistics().published);
    assert_eq!(published, Some(u64::try_from(waiting)? + 1));
    client.close().await;
    Ok(())
}

/// A program that knows better can leave a connection at once.
async fn forced() -> Outcome {
    let server = Embedded::start(BrokerOptions::default()).await?;
    let client = connect(&server.url()).await?;
    let mut events = client.events();
    client.reconnect();
    until(&mut events, |event| {
        matches!(event, Event::Connected { generation: 2, .. })
    })
    .await?;
    client.close().await;
    Ok(())
}

/// The servers to dial can be replaced while the client runs, and it may choose among them itself.
async fn other_servers() -> Outcome {
    let old = Embedded::start(BrokerOptions::default()).await?;
    let new = Embedded::start(BrokerOptions::default()).await?;
    let client = ConnectOptions::new()
        // The last one of the list, whatever its turn.
        .select_server(|servers, _info| servers.len().checked_sub(1))
        .connect(&old.url())
        .await?;
    let mut events = client.events();
    client.set_servers(&new.url())?;
    // The connection stays until it is lost, or left.
    client.reconnect();
    until(&mut events, |event| {
        matches!(event, Event::Connected { generation: 2, .. })
    })
    .await?;
    let server = client.server().map(|server| server.to_string());
    assert_eq!(server, Some(new.url()));
    client.close().await;
    Ok(())
}

/// Flushes on whichever connection comes next.
async fn flushed(client: &natseq::Client) {
    while client.flush().await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn until(events: &mut Events, is_it: impl Fn(&Event) -> bool) -> Outcome<Event> {
    loop {
        let event = next(events).await?;
        if is_it(&event) {
            return Ok(event);
        }
    }
}

async fn next(events: &mut Events) -> Outcome<Event> {
    Ok(timeout(SOON, events.next())
        .await?
        .ok_or("the client is gone")?)
}
