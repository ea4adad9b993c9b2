//! A client, its real server, the proxy between them, and waiting with a deadline.

use std::future::Future;
use std::time::Duration;

use natseq::client::{Client, ConnectOptions, Event, Events, Subscription, connect};
use natseq::session::{LinkError, RedialOptions};
use tokio::time::timeout;

use crate::support::proxy::Proxy;
use crate::support::{PATIENCE, RealServer, ServerBinary, server, servers};

/// The version that the faults are shown with where versions do not matter.
pub(crate) const VERSION: &str = "2.15.1";

/// A client behind a proxy, and another that talks to the server directly.
pub(crate) struct Rig {
    pub(crate) client: Client,
    pub(crate) events: Events,
    /// Connected without the proxy: what it sees is what the server got.
    pub(crate) direct: Client,
    pub(crate) proxy: Proxy,
    pub(crate) server: RealServer,
}

impl Rig {
    /// `None`, loudly, where there is no server.
    pub(crate) async fn new(test: &str) -> Option<Self> {
        Self::with(test, options()).await
    }

    pub(crate) async fn with(test: &str, options: ConnectOptions) -> Option<Self> {
        let binary = server(test, VERSION)?;
        Some(Self::on(&binary, "", options).await)
    }

    /// One for each version.
    pub(crate) async fn on(binary: &ServerBinary, config: &str, options: ConnectOptions) -> Self {
        let server = RealServer::start(binary, config);
        let proxy = Proxy::start(server.address(), SEED);
        proxy.record();
        let client = options.connect(&proxy.url()).await.unwrap();
        let events = client.events();
        let direct = connect(&server.url()).await.unwrap();
        Self {
            client,
            events,
            direct,
            proxy,
            server,
        }
    }

    /// Waits for the end of the connection and returns why, and how many messages are in doubt.
    pub(crate) async fn disconnected(&mut self) -> (LinkError, u64) {
        let event = self
            .event(|event| matches!(event, Event::Disconnected { .. }))
            .await;
        let Event::Disconnected { reason, in_doubt } = event else {
            unreachable!()
        };
        (reason, in_doubt)
    }

    /// Waits for the next connection.
    pub(crate) async fn connected(&mut self) {
        self.event(|event| matches!(event, Event::Connected { .. }))
            .await;
    }

    /// Waits for a dial that failed for such a reason.
    pub(crate) async fn dial_failed(&mut self, wanted: impl Fn(&LinkError) -> bool) {
        self.event(|event| matches!(event, Event::DialFailed { reason, .. } if wanted(reason)))
            .await;
    }

    /// Proves that nothing was told.
    pub(crate) async fn no_event(&mut self, context: &str) {
        let event = timeout(Duration::ZERO, self.events.next()).await;
        assert!(event.is_err(), "{event:?}: {context}");
    }

    /// Waits for an event and passes over others.
    pub(crate) async fn event(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        event(&mut self.events, wanted).await
    }

    /// Proves that the client publishes and receives, and that nothing stands before it in `subscription`.
    pub(crate) async fn works(&self, subscription: &mut Subscription, subject: &str, word: &str) {
        self.client.publish(subject, word).await.unwrap();
        assert_eq!(next(subscription).await, word);
    }
}

/// Options with which a test waits for nothing: dials follow each other at once, and no PING is in the way.
pub(crate) fn options() -> ConnectOptions {
    ConnectOptions::new()
        .redial(RedialOptions {
            pause_min: Duration::ZERO,
            pause_max: Duration::from_millis(2),
            ..RedialOptions::default()
        })
        .ping_interval(PATIENCE * 2)
}

/// All versions, or none, loudly.
pub(crate) fn binaries(test: &str) -> Vec<ServerBinary> {
    servers(test)
}

/// Waits for an event and passes over others.
pub(crate) async fn event(events: &mut Events, wanted: impl Fn(&Event) -> bool) -> Event {
    within("an event", async {
        loop {
            let event = events.next().await.expect("the client is there");
            if wanted(&event) {
                return event;
            }
        }
    })
    .await
}

/// The text of the next message.
pub(crate) async fn next(subscription: &mut Subscription) -> String {
    let message = within("a message", subscription.next()).await;
    let message = message.expect("the subscription goes on");
    String::from_utf8(message.payload().to_vec()).unwrap()
}

/// Waits until `condition` holds, without blocking the runtime.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    within(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Waits for `future`, and fails the test when it takes too long.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}

/// Of the proxies' chunks; printed by a failing test's assertions on chunks.
pub(crate) const SEED: u64 = 20_261_121;
