//! A subscriber's end of a mailbox.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use crate::wire::Message;

use super::Client;
use super::error::Error;
use super::mailbox::{Mailbox, MailboxStatistics};

/// Receives the messages of one subscription; dropping it unsubscribes.
///
/// It survives reconnects. Messages that come while its mailbox is full are dropped, counted in
/// [`Subscription::statistics`] and reported once per episode as
/// [`Event::SlowConsumer`](super::Event::SlowConsumer).
#[derive(Debug)]
pub struct Subscription {
    client: Client,
    mailbox: Arc<Mailbox>,
    key: u64,
    sids: Vec<u64>,
    taken: VecDeque<Message>,
}

impl Subscription {
    pub(super) const fn new(
        client: Client,
        mailbox: Arc<Mailbox>,
        key: u64,
        sids: Vec<u64>,
    ) -> Self {
        Self {
            client,
            mailbox,
            key,
            sids,
            taken: VecDeque::new(),
        }
    }

    /// Waits for the next message; `None` once the subscription has ended and is empty.
    ///
    /// Cancel safe: a message is either returned or still there.
    pub async fn next(&mut self) -> Option<Message> {
        poll_fn(|cx| self.poll_message(cx)).await
    }

    /// Waits for at least one message and moves at most `messages_max` into `into`.
    ///
    /// Returns how many; 0 once the subscription has ended and is empty, or when `messages_max`
    /// is 0. Cancel safe as [`Subscription::next`].
    pub async fn next_batch(&mut self, into: &mut Vec<Message>, messages_max: usize) -> usize {
        if messages_max == 0 {
            return 0;
        }
        let Some(first) = self.next().await else {
            return 0;
        };
        into.push(first);
        let more = self.taken.len().min(messages_max.saturating_sub(1));
        into.extend(self.taken.drain(..more));
        more.saturating_add(1)
    }

    /// Ends the subscription once it has delivered `delivered_max` messages in all.
    ///
    /// Counted across reconnects, from the beginning of the subscription.
    pub fn unsubscribe_after(&self, delivered_max: u64) {
        let has_ended = self.client.shared().with_both(|core, outbox| {
            let mut has_ended = true;
            for sid in &self.sids {
                has_ended &= core.session.limit(*sid, delivered_max, outbox);
            }
            has_ended
        });
        if has_ended {
            self.client.shared().core().end_mailbox(self.key);
        }
    }

    /// Ends the subscription now. What was received already can still be taken.
    pub fn unsubscribe(&self) {
        self.client.shared().unsubscribe(self.key, &self.sids);
    }

    /// Ends the subscription after what is under way: tells the server to stop and waits until
    /// it has. Take the rest with [`Subscription::next`] until `None`.
    ///
    /// # Errors
    ///
    /// [`Disconnected`](super::ErrorKind::Disconnected) when the connection is lost meanwhile,
    /// [`Timeout`](super::ErrorKind::Timeout)
    /// after the request timeout; the subscription has ended in both cases.
    pub async fn drain(&self) -> Result<(), Error> {
        self.client.shared().with_both(|core, outbox| {
            for sid in &self.sids {
                core.session.drain(*sid, outbox);
            }
        });
        let result = self.client.shared().flush().await;
        let mut core = self.client.shared().core();
        for sid in &self.sids {
            core.session.forget(*sid);
        }
        core.end_mailbox(self.key);
        drop(core);
        result
    }

    /// The subscription's sids, in the order in which they were made.
    pub(super) fn sids(&self) -> &[u64] {
        &self.sids
    }

    /// Counts of what came and what was dropped.
    #[must_use]
    pub fn statistics(&self) -> MailboxStatistics {
        let mut statistics = self.mailbox.statistics();
        statistics.waiting = statistics.waiting.saturating_add(self.taken.len());
        statistics
    }

    /// [`Subscription::next`] for hand-written futures.
    pub fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        if let Some(message) = self.taken.pop_front() {
            return Poll::Ready(Some(message));
        }
        if !ready!(self.mailbox.poll_take(cx, &mut self.taken)) {
            return Poll::Ready(None);
        }
        Poll::Ready(self.taken.pop_front())
    }
}

impl Stream for Subscription {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.poll_message(cx)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.client.shared().unsubscribe(self.key, &self.sids);
        self.mailbox.abandon();
    }
}
