//! Real servers one after the other, and waiting with a deadline.
#![allow(dead_code, reason = "not every test binary needs all of it")]

use std::future::Future;

use natseq::client::{Event, Events, Subscription};
use natseq::wire::Message;

use crate::support::{PATIENCE, RealServer, servers};

/// One server of each version, started when its turn comes.
pub(crate) fn started(test: &str, config: &'static str) -> impl Iterator<Item = RealServer> {
    servers(test)
        .into_iter()
        .map(move |binary| RealServer::start(&binary, config))
}

pub(crate) async fn next(sub: &mut Subscription) -> Message {
    next_or_end(sub)
        .await
        .unwrap_or_else(|| panic!("the subscription ended"))
}

pub(crate) async fn next_or_end(sub: &mut Subscription) -> Option<Message> {
    within(sub.next()).await
}

/// Proves that the numbers below `count` come in order, and then the end.
pub(crate) async fn hears_numbers_and_the_end(sub: &mut Subscription, count: usize, version: &str) {
    for number in 0..count {
        assert_eq!(text(&next(sub).await), number.to_string(), "{version}");
    }
    assert!(next_or_end(sub).await.is_none(), "{version}");
}

/// The next event that is wanted, and those before it are forgotten.
pub(crate) async fn wait_for(events: &mut Events, wanted: impl Fn(&Event) -> bool) -> Event {
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

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap()
}

pub(crate) fn text(message: &Message) -> String {
    String::from_utf8(message.payload().to_vec()).unwrap()
}
