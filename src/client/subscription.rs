//! A subscriber's end of a mailbox.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use crate::session::Refusal;
use crate::wire::Message;

use super::Client;
use super::core::tell_over;
use super::mailbox::{Dropped, EndReason, Mailbox, MailboxStatistics};
use super::shared::Subscribed;

/// Receives the messages of one subscription; dropping it unsubscribes.
///
/// It survives reconnects. Messages that come while its mailbox is full are dropped, counted in
/// [`Subscription::statistics`] and reported once per episode as
/// [`Event::SlowConsumer`](super::Event::SlowConsumer) and
/// [`Event::SlowConsumerOver`](super::Event::SlowConsumerOver).
///
/// When the server refuses it, or withdraws it later, it ends and [`Subscription::refusal`] says why.
/// It is not asked for again on the next connection, because its owner was told that it has ended; with
/// [`ConnectOptions::restore_refused`](super::ConnectOptions::restore_refused) it goes on instead.
#[derive(Debug)]
pub struct Subscription {
    client: Client,
    mailbox: Arc<Mailbox>,
    key: u64,
    sids: Sids,
    /// What is in hand: out of the mailbox, and not yet returned.
    taken: VecDeque<Message>,
}

/// Most subscriptions have one sid, and need no memory elsewhere for it.
#[derive(Debug)]
enum Sids {
    One(u64),
    Many(Box<[u64]>),
}

impl Subscription {
    pub(super) fn new(client: Client, subscribed: Subscribed) -> Self {
        let sids = match *subscribed.sids {
            [sid] => Sids::One(sid),
            _ => Sids::Many(subscribed.sids.into()),
        };
        Self {
            client,
            mailbox: subscribed.mailbox,
            key: subscribed.key,
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
        poll_fn(|cx| self.poll_batch(cx, into, messages_max)).await
    }

    /// Ends the subscription once it has delivered `delivered_max` messages in all.
    ///
    /// Counted across reconnects, from the beginning of the subscription.
    pub fn unsubscribe_after(&self, delivered_max: u64) {
        self.client.shared().with_both(|core, outbox| {
            let mut has_ended = true;
            for sid in self.sids() {
                has_ended &= core.session.limit(*sid, delivered_max, outbox);
            }
            if has_ended {
                core.end_mailbox(self.key);
            }
        });
    }

    /// Ends the subscription now. What was received already can still be taken.
    pub fn unsubscribe(&self) {
        self.client.shared().unsubscribe(self.key, self.sids());
    }

    /// Why the server refused the subscription; `None` while it has not.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self.mailbox.reason()? {
            EndReason::Refused(refusal) => Some(refusal.as_ref().clone()),
            EndReason::Disconnected => None,
        }
    }

    /// Returns true when there are refusals to take.
    pub(super) fn has_asides(&self) -> bool {
        self.mailbox.has_asides()
    }

    /// Refusals of subscriptions that it can do without, each once.
    pub(super) fn take_asides(&self) -> Vec<Refusal> {
        self.mailbox.take_asides()
    }

    /// Where messages were dropped, and how many, since this was asked last.
    pub(super) fn take_drops(&self) -> VecDeque<Dropped> {
        self.mailbox.take_drops()
    }

    /// Whether at least half of the limits is free.
    pub(super) fn has_room(&self) -> bool {
        self.mailbox.has_room()
    }

    /// Whether the server holds this one of its subscriptions, as far as is known.
    pub(super) fn is_held(&self, sid: u64) -> bool {
        self.client.shared().is_held(sid)
    }

    /// The subscription's sids, in the order in which they were made.
    pub(super) fn sids(&self) -> &[u64] {
        match &self.sids {
            Sids::One(sid) => std::slice::from_ref(sid),
            Sids::Many(sids) => sids,
        }
    }

    pub(super) const fn key(&self) -> u64 {
        self.key
    }

    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    pub(super) const fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Counts of what came and what was dropped.
    #[must_use]
    pub fn statistics(&self) -> MailboxStatistics {
        self.mailbox.statistics()
    }

    /// [`Subscription::next`] for hand-written futures.
    pub fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        if self.taken.is_empty() && !ready!(self.mailbox.poll_take(cx, &mut self.taken)) {
            return Poll::Ready(None);
        }
        let message = self.taken.pop_front();
        if let Some(message) = &message {
            self.note_returned(1, message.frame_len());
        }
        Poll::Ready(message)
    }

    /// [`Subscription::next_batch`] for hand-written futures.
    pub(super) fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<Message>,
        messages_max: usize,
    ) -> Poll<usize> {
        if messages_max == 0 {
            return Poll::Ready(0);
        }
        let Some(first) = ready!(self.poll_message(cx)) else {
            return Poll::Ready(0);
        };
        into.push(first);
        if self.taken.is_empty() {
            return Poll::Ready(1);
        }
        let more = self.taken.len().min(messages_max.saturating_sub(1));
        let start = into.len();
        into.extend(self.taken.drain(..more));
        let bytes = into.iter().skip(start).map(Message::frame_len).sum();
        self.note_returned(more, bytes);
        Poll::Ready(more.saturating_add(1))
    }

    /// Returns true when everything that was taken out of the mailbox was returned.
    pub(super) fn is_empty_handed(&self) -> bool {
        self.taken.is_empty()
    }

    fn note_returned(&self, messages: usize, bytes: usize) {
        self.mailbox.note_returned(messages, bytes);
        if self.mailbox.unblocks() {
            self.client.shared().wake_driver();
        }
        if self.taken.is_empty() {
            let shared = self.client.shared();
            let (over, is_ended) = self.mailbox.note_empty_handed();
            tell_over(&shared.events, over);
            if is_ended {
                shared.emptied.notify_waiters();
            }
        }
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
        self.mailbox.abandon();
        self.unsubscribe();
    }
}
