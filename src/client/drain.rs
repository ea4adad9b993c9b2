//! Ending in good order: what is under way arrives and is taken, what was published is written.
//!
//! ```text
//!   subscriptions end -> all was taken -> requests are answered -> publishing ends -> flush -> close
//! ```

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::session::{DrainStage, Event};

use super::Client;
use super::error::{Error, ErrorKind};
use super::mailbox::Mailbox;
use super::shared::{Link, Shared};
use super::subscription::Subscription;

impl Client {
    /// Ends all subscriptions after what is under way, waits until it was taken and until pending
    /// requests are answered, then writes what was published, and closes.
    ///
    /// Publishing stays possible until the subscribers are done, subscribing does not. The inbox for
    /// answers and the repairs of sequenced publishers go on until the end. All of it takes at most
    /// [`ConnectOptions::drain_timeout`](super::ConnectOptions::drain_timeout).
    /// [`Event::Draining`] and [`Event::Drained`] tell how it goes. Cancel safe: a cancelled drain
    /// goes on. A second one waits for the end of the first.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`], and [`ErrorKind::Disconnected`] when there is no connection, at once, or
    /// when it is lost meanwhile; the source says what was discarded. The client is closed in any
    /// case, and what subscribers have not taken is still theirs to take.
    pub async fn drain(&self) -> Result<(), Error> {
        let shared = self.shared();
        if !shared.begin_drain() {
            let mut link = shared.link.subscribe();
            // Fails only when the driver is gone, which is what we wait for.
            let _ = link.wait_for(|link| *link == Link::Closed).await;
            return Ok(());
        }
        in_background(shared, drain_client(self.clone())).await
    }

    /// Flushes and closes. Calls that wait on this client end with an error.
    ///
    /// The flush takes at most [`ConnectOptions::request_timeout`](super::ConnectOptions::request_timeout).
    /// What it leaves is told by [`Event::Disconnected`] and [`Event::Closed`]. Cancel safe: a
    /// cancelled close goes on.
    pub async fn close(&self) {
        let shared = self.shared();
        shared.end_publishing();
        let client = self.clone();
        let closing = in_background(shared, async move {
            let flushed = client.flush().await;
            client.shared().end();
            flushed
        });
        // Without a connection there is nothing to wait for: the caller wants to leave.
        let _ = closing.await;
        let mut link = shared.link.subscribe();
        // Fails only when the driver is gone, which is what we wait for.
        let _ = link.wait_for(|link| *link == Link::Closed).await;
    }
}

impl Subscription {
    /// Ends the subscription after what is under way: tells the server to stop and waits until
    /// it has. Take the rest with [`Subscription::next`] until `None`; [`Subscription::drained`] tells
    /// others when that is done. Cancel safe: a cancelled drain goes on.
    ///
    /// It is not restored on another connection.
    ///
    /// # Errors
    ///
    /// [`Disconnected`](ErrorKind::Disconnected) when the connection is lost meanwhile,
    /// [`Timeout`](ErrorKind::Timeout)
    /// after the request timeout; the subscription has ended in both cases.
    pub async fn drain(&self) -> Result<(), Error> {
        let shared = self.client().shared();
        let sids = self.sids().to_vec();
        shared.with_both(|core, outbox| {
            for sid in &sids {
                core.session.drain(*sid, outbox);
            }
        });
        let (client, key) = (self.client().clone(), self.key());
        in_background(shared, async move {
            let shared = client.shared();
            let result = shared.flush().await;
            let mut core = shared.core();
            for sid in sids {
                core.session.forget(sid);
            }
            core.end_mailbox(key);
            drop(core);
            result
        })
        .await
    }

    /// Waits until the subscription has ended, by [`Subscription::drain`] or otherwise, and
    /// everything was taken from it. The future needs neither the subscription nor the client.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) after `timeout`; nothing is discarded then.
    pub fn drained(
        &self,
        timeout: Duration,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let emptied = Arc::clone(&self.client().shared().emptied);
        let mailbox = Arc::clone(self.mailbox());
        async move {
            tokio::time::timeout(timeout, taken(&emptied, &mailbox))
                .await
                .map_err(|_| Error::new(ErrorKind::Timeout))
        }
    }
}

async fn drain_client(client: Client) -> Result<(), Error> {
    let shared = client.shared();
    let due = shared
        .clock
        .now()
        .saturating_add(shared.options.drain_timeout);
    let due = shared.clock.instant(due);
    let mut result = Ok(());
    let mut mailboxes = Vec::new();
    if client.is_connected() {
        let stage = DrainStage::Subscriptions;
        tell_before_the_end(shared, Event::Draining { stage });
        mailboxes = shared.with_both(|core, outbox| core.drain_first(outbox));
        result = flush(shared, due).await;
        shared.core().end_drained();
        let done = async {
            for mailbox in &mailboxes {
                taken(&shared.emptied, mailbox).await;
            }
            answered(shared).await;
        };
        if timeout_at(due, done).await.is_err() {
            result = Err(Error::new(ErrorKind::Timeout));
        }
    }
    shared.end_publishing();
    let stage = DrainStage::Publishing;
    tell_before_the_end(shared, Event::Draining { stage });
    let flushed = flush(shared, due).await;
    let untaken = mailboxes.iter().map(|mailbox| mailbox.statistics().waiting);
    let untaken_messages = u64::try_from(untaken.sum::<usize>()).unwrap_or(u64::MAX);
    let mut discarded_messages = 0;
    shared.end_with(|discarded| {
        discarded_messages = discarded;
        Some(Event::Drained {
            discarded_messages,
            untaken_messages,
        })
    });
    if let Err(error) = &flushed
        && discarded_messages > 0
    {
        let text = format!("{discarded_messages} published messages were discarded");
        return Err(Error::with_source(error.kind(), text));
    }
    result.and(flushed)
}

/// Tells an event unless a close has come between: nothing is told behind [`Event::Closed`].
fn tell_before_the_end(shared: &Shared, event: Event) {
    // Closing needs the same lock, and is told later.
    let core = shared.core();
    if !core.session.is_closed() {
        shared.tell(event);
    }
}

async fn flush(shared: &Shared, due: Instant) -> Result<(), Error> {
    match timeout_at(due, shared.flush()).await {
        Ok(flushed) => flushed,
        Err(_) => Err(Error::new(ErrorKind::Timeout)),
    }
}

/// Waits until the mailbox has ended and its subscriber has taken everything.
async fn taken(emptied: &Notify, mailbox: &Mailbox) {
    until(emptied, || mailbox.is_over()).await;
}

/// Waits until no request is pending.
async fn answered(shared: &Shared) {
    until(&shared.answered, || shared.core().requests.len() == 0).await;
}

async fn until(changed: &Notify, is_so: impl Fn() -> bool) {
    while !is_so() {
        let change = changed.notified();
        tokio::pin!(change);
        change.as_mut().enable();
        if is_so() {
            return;
        }
        change.await;
    }
}

/// Does `work` in the driver's runtime, so that it goes on when nobody waits for it any more.
async fn in_background(
    shared: &Shared,
    work: impl Future<Output = Result<(), Error>> + Send + 'static,
) -> Result<(), Error> {
    match &shared.runtime {
        // The runtime is gone, and the connection with it.
        Some(runtime) => (runtime.spawn(work).await).unwrap_or(Err(Error::new(ErrorKind::Closed))),
        None => work.await,
    }
}
