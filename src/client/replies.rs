//! The replies to one request of which there may be many, and how they ended.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use tokio::time::{Sleep, sleep_until};

use crate::session::Refusal;
use crate::subject::Subject;
use crate::wire::Message;

use super::Client;
use super::clock::Clock;
use super::core::tell_over;
use super::error::{Error, ErrorKind};
use super::mailbox::{EndReason, Mailbox, MailboxStatistics};
use super::pending::Sink;
use super::requests::{RequestOptions, is_no_responders};
use super::shared::Shared;
use super::subscription::Subscription;

/// How replies end, besides the timeout.
#[derive(Clone, Default)]
pub(super) struct Ending {
    pub(super) replies_max: Option<u64>,
    pub(super) stall: Option<Duration>,
    pub(super) sentinel: Option<Sentinel>,
}

/// Says of a reply whether it ends them.
pub(super) type Sentinel = Arc<dyn Fn(&Message) -> bool + Send + Sync>;

/// How the replies to a request have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RepliesEnd {
    /// As many have come as were wanted.
    Count,
    /// The last one said so.
    Sentinel,
    /// None has come for the time allowed after a reply.
    Stall,
    /// The time for all of them is over.
    Timeout,
    /// Nobody subscribes to the request's subject.
    NoResponders,
    /// The server refused the request, or the inbox.
    Refused(Refusal),
    /// The connection was lost, and the request was to fail then.
    Disconnected,
    /// The client is closed.
    Closed,
}

/// Returns the replies to one request; dropping it forgets the request.
pub struct Replies {
    source: Source,
    ending: Ending,
    clock: Clock,
    due: Duration,
    stalls_at: Option<Duration>,
    timer: Pin<Box<Sleep>>,
    returned: u64,
    end: Option<RepliesEnd>,
}

/// Where replies come from.
pub(super) enum Source {
    /// The connection's inbox.
    Shared {
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox>,
        mailbox_key: u64,
        key: u64,
        reply: String,
        taken: VecDeque<Message>,
    },
    /// An inbox of the request's own.
    Own {
        subscription: Box<Subscription>,
        key: u64,
        reply: String,
    },
}

impl Source {
    pub(super) fn open(
        client: &Client,
        subject: &Subject,
        options: &RequestOptions,
    ) -> Result<Self, Error> {
        if options.has_own_inbox {
            let (subscription, key, reply) = open_own(client, subject.as_str(), options, None)?;
            return Ok(Self::Own {
                subscription: Box::new(subscription),
                key,
                reply,
            });
        }
        let shared = Arc::clone(client.shared());
        let mailbox = Arc::new(Mailbox::new(Arc::clone(&shared.policy)));
        let too_many = || Error::new(ErrorKind::TooMany);
        // Drained with the requests, not with the subscriptions.
        let mailbox_key = shared.core().add_mailbox(Arc::clone(&mailbox), true);
        let mailbox_key = mailbox_key.ok_or_else(too_many)?;
        let sink = Sink::Many(Arc::clone(&mailbox), mailbox_key);
        match shared.open_request(subject.as_str(), options.fails_at_disconnect, sink) {
            Ok((key, reply)) => Ok(Self::Shared {
                shared,
                mailbox,
                mailbox_key,
                key,
                reply,
                taken: VecDeque::new(),
            }),
            Err(error) => {
                shared.core().end_mailbox(mailbox_key);
                Err(error)
            }
        }
    }

    /// Forgets the request; what comes late is dropped.
    fn close(&self) {
        match self {
            Self::Shared {
                shared,
                mailbox_key,
                key,
                ..
            } => {
                shared.core().end_mailbox(*mailbox_key);
                shared.close_request(*key);
            }
            Self::Own {
                subscription, key, ..
            } => subscription.client().shared().close_request(*key),
        }
    }

    fn mailbox(&self) -> &Arc<Mailbox> {
        match self {
            Self::Shared { mailbox, .. } => mailbox,
            Self::Own { subscription, .. } => subscription.mailbox(),
        }
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        match self {
            Self::Own { subscription, .. } => subscription.poll_message(cx),
            Self::Shared {
                shared,
                mailbox,
                taken,
                ..
            } => {
                if taken.is_empty() && !ready!(mailbox.poll_take(cx, taken)) {
                    return Poll::Ready(None);
                }
                let message = taken.pop_front();
                if let Some(message) = &message {
                    mailbox.note_returned(1, message.frame_len());
                }
                if taken.is_empty() {
                    let (over, _) = mailbox.note_empty_handed();
                    tell_over(&shared.events, over);
                }
                Poll::Ready(message)
            }
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.close();
    }
}

/// Subscribes to an inbox for one request, and has its failures told to it; returns the request's
/// key and its reply subject.
pub(super) fn open_own(
    client: &Client,
    subject: &str,
    options: &RequestOptions,
    delivered_max: Option<u64>,
) -> Result<(Subscription, u64, String), Error> {
    let reply = client.new_inbox()?;
    let mut subscription = client.subscription(&reply).drains_last();
    if let Some(delivered_max) = delivered_max {
        subscription = subscription.delivered_max(delivered_max);
    }
    let subscription = subscription.subscribe_untold()?;
    let sink = Sink::Many(Arc::clone(subscription.mailbox()), subscription.key());
    let shared = client.shared();
    let key = shared.open_own_request(subject, options.fails_at_disconnect, &reply, sink)?;
    Ok((subscription, key, reply))
}

impl Replies {
    pub(super) fn new(source: Source, ending: Ending, due: Duration, clock: Clock) -> Self {
        Self {
            source,
            ending,
            clock,
            due,
            stalls_at: None,
            timer: Box::pin(sleep_until(clock.instant(due))),
            returned: 0,
            end: None,
        }
    }

    /// Waits for the next reply; `None` once they have ended. Cancel safe.
    pub async fn next(&mut self) -> Option<Message> {
        poll_fn(|cx| self.poll_reply(cx)).await
    }

    /// How they have ended; `None` while they have not.
    #[must_use]
    pub const fn end(&self) -> Option<&RepliesEnd> {
        self.end.as_ref()
    }

    /// Counts of what came and what was dropped.
    #[must_use]
    pub fn statistics(&self) -> MailboxStatistics {
        self.source.mailbox().statistics()
    }

    /// [`Replies::next`] for hand-written futures.
    pub fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        if self.end.is_some() {
            return Poll::Ready(None);
        }
        if self.ending.replies_max == Some(self.returned) {
            return self.finish(RepliesEnd::Count);
        }
        match self.source.poll_message(cx) {
            Poll::Ready(Some(reply)) => self.take(reply),
            Poll::Ready(None) => {
                let end = match self.source.mailbox().reason() {
                    Some(EndReason::Refused(refusal)) => {
                        RepliesEnd::Refused(refusal.as_ref().clone())
                    }
                    Some(EndReason::Disconnected) => RepliesEnd::Disconnected,
                    None => RepliesEnd::Closed,
                };
                self.finish(end)
            }
            Poll::Pending => self.poll_timer(cx),
        }
    }

    fn take(&mut self, reply: Message) -> Poll<Option<Message>> {
        if self.returned == 0 && is_no_responders(&reply) {
            return self.finish(RepliesEnd::NoResponders);
        }
        let is_last = self.ending.sentinel.as_ref();
        if is_last.is_some_and(|is_last| is_last(&reply)) {
            return self.finish(RepliesEnd::Sentinel);
        }
        self.returned = self.returned.saturating_add(1);
        if self.ending.replies_max == Some(self.returned) {
            // Nothing more is wanted: the request is forgotten before the caller asks again.
            let _ = self.finish(RepliesEnd::Count);
        }
        let now = self.clock.now();
        self.stalls_at = self.ending.stall.map(|stall| now.saturating_add(stall));
        Poll::Ready(Some(reply))
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let (due, end) = match self.stalls_at {
            Some(stalls_at) if stalls_at < self.due => (stalls_at, RepliesEnd::Stall),
            Some(_) | None => (self.due, RepliesEnd::Timeout),
        };
        let due = self.clock.instant(due);
        if self.timer.deadline() != due {
            self.timer.as_mut().reset(due);
        }
        ready!(self.timer.as_mut().poll(cx));
        self.finish(end)
    }

    fn finish(&mut self, end: RepliesEnd) -> Poll<Option<Message>> {
        tracing::debug!(?end, replies = self.returned, "replies ended");
        self.end = Some(end);
        self.source.close();
        Poll::Ready(None)
    }

    pub(super) fn reply(&self) -> &str {
        match &self.source {
            Source::Shared { reply, .. } | Source::Own { reply, .. } => reply,
        }
    }
}

impl std::fmt::Debug for Replies {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Replies")
            .field("returned", &self.returned)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl Stream for Replies {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.poll_reply(cx)
    }
}
