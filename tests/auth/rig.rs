//! What the tests of this folder share: connecting, proving that it works, and waiting for events.

use std::error::Error as _;
use std::time::Duration;

use natseq::client::{Error, Events};
use natseq::session::{Event, LinkError, RedialOptions};
use natseq::{Client, ConnectOptions};
use tokio::time::timeout;

use crate::support::PATIENCE;

/// Connects, and proves that messages pass.
pub(crate) async fn connected(options: ConnectOptions, url: &str) -> Client {
    let client = options.connect(url).await;
    let client = client.unwrap_or_else(|error| panic!("{error}: {:?}", error.source()));
    prove(&client).await;
    client
}

/// Sends a message to ourselves.
pub(crate) async fn prove(client: &Client) {
    let subject = client.new_inbox().unwrap();
    let mut subscription = client.subscribe(&subject).unwrap();
    client.publish(subject.as_str(), "x").await.unwrap();
    let message = timeout(PATIENCE, subscription.next()).await.unwrap();
    assert_eq!(message.unwrap().payload(), b"x");
}

/// Tries to connect and returns why it could not.
pub(crate) async fn refused(options: ConnectOptions, url: &str) -> LinkError {
    let error = options.connect(url).await.unwrap_err();
    reason(&error)
}

/// Why a call to connect failed.
pub(crate) fn reason(error: &Error) -> LinkError {
    let source = error.source().and_then(|source| source.downcast_ref());
    let reason: Option<&LinkError> = source;
    reason.unwrap_or_else(|| panic!("{error:?}")).clone()
}

/// Options of a client that comes back quickly.
pub(crate) fn quick() -> ConnectOptions {
    let redial = RedialOptions {
        pause_max: Duration::from_millis(100),
        ..RedialOptions::default()
    };
    ConnectOptions::new().redial(redial)
}

/// Waits for an event, and returns what came before it.
pub(crate) async fn until(events: &mut Events, is_it: impl Fn(&Event) -> bool) -> Vec<Event> {
    let mut seen = Vec::new();
    loop {
        let event = timeout(PATIENCE, events.next()).await;
        let event = event.unwrap_or_else(|_| panic!("waited in vain after {seen:?}"));
        let Some(event) = event else {
            panic!("the events ended after {seen:?}");
        };
        let is_last = is_it(&event);
        seen.push(event);
        if is_last {
            return seen;
        }
    }
}

/// Waits until the client has given up, and returns why and what came before.
pub(crate) async fn until_closed(events: &mut Events) -> (LinkError, Vec<Event>) {
    let seen = until(events, |event| matches!(event, Event::Closed { .. })).await;
    match seen.last() {
        Some(Event::Closed {
            reason: Some(reason),
            ..
        }) => (reason.clone(), seen),
        other => panic!("{other:?}"),
    }
}

/// Returns true for the connection with this number.
pub(crate) fn is_connected(event: &Event, number: u64) -> bool {
    matches!(event, Event::Connected { generation, .. } if *generation == number)
}
