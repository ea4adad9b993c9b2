//! The demonstration's three sources.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::client::{Client, Error, SequencedPublisher};
use crate::sequence::{Prior, SourceName};

/// What one run of a source sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Run {
    pub(super) source: SourceName,
    pub(super) epoch: u64,
    pub(super) sent: u64,
}

/// Messages that the bursty source sends at once.
const BURST_MESSAGES: u64 = 250;
const BURST_PAUSE: Duration = Duration::from_millis(30);

/// Between two messages of the slow source.
const SLOW_PAUSE: Duration = Duration::from_millis(1);

/// Who listens: sources begin when everybody has heard them, so that every number is owed.
#[derive(Debug)]
pub(super) struct Audience {
    receivers: usize,
    subscribed: AtomicUsize,
    heard: Mutex<BTreeMap<String, Vec<usize>>>,
    has_changed: Notify,
}

impl Audience {
    pub(super) const fn new(receivers: usize) -> Self {
        Self {
            receivers,
            subscribed: AtomicUsize::new(0),
            heard: Mutex::new(BTreeMap::new()),
            has_changed: Notify::const_new(),
        }
    }

    pub(super) fn note_subscribed(&self) {
        self.subscribed.fetch_add(1, Ordering::Relaxed);
        self.has_changed.notify_waiters();
    }

    pub(super) fn note_heard(&self, receiver: usize, source: &SourceName) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let receivers = heard.entry(source.to_string()).or_default();
        if !receivers.contains(&receiver) {
            receivers.push(receiver);
        }
        drop(heard);
        self.has_changed.notify_waiters();
    }

    /// Waits until every receiver listens.
    pub(super) async fn subscribed(&self) {
        self.wait(|| self.subscribed.load(Ordering::Relaxed) >= self.receivers)
            .await;
    }

    async fn heard(&self, source: &SourceName) {
        self.wait(|| {
            let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard
                .get(source.as_str())
                .is_some_and(|receivers| receivers.len() >= self.receivers)
        })
        .await;
    }

    async fn wait(&self, is_met: impl Fn() -> bool) {
        loop {
            let has_changed = self.has_changed.notified();
            tokio::pin!(has_changed);
            has_changed.as_mut().enable();
            if is_met() {
                return;
            }
            has_changed.await;
        }
    }
}

/// Runs all three sources, each on a connection of its own, until their lingers are over.
pub(super) async fn run(
    address: &str,
    messages: u64,
    audience: &Audience,
) -> Result<Vec<Run>, Error> {
    let (bursty, slow, restarted) = tokio::join!(
        bursty(address, messages, audience),
        slow(address, messages, audience),
        restarted(address, messages, audience),
    );
    let mut runs = vec![bursty?, slow?];
    runs.extend(restarted?);
    Ok(runs)
}

async fn bursty(address: &str, messages: u64, audience: &Audience) -> Result<Run, Error> {
    let client = super::connect(address).await?;
    let publisher = start(&client, "bursty", None)?;
    audience.heard(&publisher.source()).await;
    let mut sent = 0;
    while sent < messages {
        let burst = BURST_MESSAGES.min(messages.saturating_sub(sent));
        publish(&publisher, burst).await?;
        sent = sent.saturating_add(burst);
        tokio::time::sleep(BURST_PAUSE).await;
    }
    Ok(end(&client, publisher).await)
}

async fn slow(address: &str, messages: u64, audience: &Audience) -> Result<Run, Error> {
    let client = super::connect(address).await?;
    let publisher = start(&client, "slow", None)?;
    audience.heard(&publisher.source()).await;
    for _ in 0..messages {
        publish(&publisher, 1).await?;
        tokio::time::sleep(SLOW_PAUSE).await;
    }
    Ok(end(&client, publisher).await)
}

/// Ends in the middle and begins again, telling where it ended.
async fn restarted(address: &str, messages: u64, audience: &Audience) -> Result<Vec<Run>, Error> {
    let client = super::connect(address).await?;
    let first = start(&client, "restarted", None)?;
    audience.heard(&first.source()).await;
    publish(&first, messages / 2).await?;
    let prior = Prior {
        epoch: first.epoch(),
        lead: first.lead(),
    };
    // The first run still serves repairs while the second begins.
    let (first, second) = tokio::join!(first.close(), async {
        let second = start(&client, "restarted", Some(prior))?;
        publish(&second, messages.saturating_sub(messages / 2)).await?;
        Ok::<_, Error>(second.close().await)
    });
    client.close().await;
    Ok([first, second?].into_iter().map(run_of).collect())
}

fn start(client: &Client, name: &str, prior: Option<Prior>) -> Result<SequencedPublisher, Error> {
    let builder = client
        .sequenced_publisher(&format!("demo.{name}"))?
        .source(SourceName::new(name)?);
    match prior {
        Some(prior) => builder.prior(prior).start(),
        None => builder.start(),
    }
}

async fn publish(publisher: &SequencedPublisher, messages: u64) -> Result<(), Error> {
    let subject = format!("demo.{}", publisher.source());
    for _ in 0..messages {
        let body = publisher.lead().saturating_add(1).to_string();
        publisher.publish(&subject, body).await?;
    }
    Ok(())
}

async fn end(client: &Client, publisher: SequencedPublisher) -> Run {
    let closed = publisher.close().await;
    client.close().await;
    run_of(closed)
}

fn run_of(closed: crate::client::ClosedSource) -> Run {
    Run {
        source: closed.source,
        epoch: closed.prior.epoch,
        sent: closed.prior.lead,
    }
}
