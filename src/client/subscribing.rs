//! How to subscribe: in short, or with options.

use std::sync::Arc;

use crate::subject::{Filter, QueueGroup};

use super::Client;
use super::core::Pong;
use super::error::{Error, ErrorKind};
use super::mailbox::{EndReason, Overflow, Policy};
use super::shared::Interest;
use super::subscription::Subscription;

impl Client {
    /// Receives what is published to subjects that match `filter`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Subject`], [`ErrorKind::LineTooLong`], [`ErrorKind::Closed`],
    /// [`ErrorKind::TooMany`], or [`ErrorKind::OutboxFull`] when 64 MiB of subscriptions wait for a
    /// server that does not read.
    pub fn subscribe(&self, filter: &str) -> Result<Subscription, Error> {
        self.subscription(filter).subscribe()
    }

    /// [`Client::subscribe`] as one of a group whose members share the messages.
    ///
    /// # Errors
    ///
    /// As [`Client::subscribe`].
    pub fn queue_subscribe(&self, filter: &str, group: &str) -> Result<Subscription, Error> {
        self.subscription(filter).queue_group(group).subscribe()
    }

    /// [`Client::subscribe`], and waits until the server has taken it.
    ///
    /// # Errors
    ///
    /// As [`SubscriptionBuilder::confirmed`].
    pub async fn subscribe_confirmed(&self, filter: &str) -> Result<Subscription, Error> {
        self.subscription(filter).confirmed().await
    }

    /// Begins a subscription with options.
    ///
    /// ```no_run
    /// # async fn example(client: natseq::Client) -> Result<(), natseq::Error> {
    /// let mut orders = client
    ///     .subscription("orders.*")
    ///     .queue_group("billing")
    ///     .messages_max(10_000)
    ///     .confirmed()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn subscription(&self, filter: &str) -> SubscriptionBuilder {
        SubscriptionBuilder {
            client: self.clone(),
            filter: filter.to_owned(),
            group: None,
            policy: None,
            delivered_max: None,
            drains_last: false,
        }
    }

    /// Several subscriptions whose messages come in the order of the connection. Without the first one
    /// it ends; of the others it tells when they are refused, and asks for them again on the next
    /// connection. The PONG says when the server has taken them, if there is a connection.
    pub(super) fn subscribe_all(
        &self,
        filters: &[(Filter, Option<QueueGroup>)],
    ) -> Result<(Subscription, Option<Pong>), Error> {
        let shared = self.shared();
        let mut subscribed = shared.subscribe(&Interest {
            filters,
            policy: Arc::new(Policy {
                marks_drops: true,
                ..*shared.policy
            }),
            delivered_max: None,
            is_confirmed: true,
            drains_last: false,
        })?;
        let confirmation = subscribed.confirmation.take();
        Ok((Subscription::new(self.clone(), subscribed), confirmation))
    }
}

/// Options of a [`Subscription`].
#[derive(Debug, Clone)]
pub struct SubscriptionBuilder {
    client: Client,
    filter: String,
    group: Option<String>,
    /// `None`: what the connection's options say.
    policy: Option<Policy>,
    delivered_max: Option<u64>,
    drains_last: bool,
}

impl SubscriptionBuilder {
    /// Makes it one of a group whose members share the messages. Default: it receives all.
    #[must_use]
    pub fn queue_group(mut self, group: &str) -> Self {
        self.group = Some(group.to_owned());
        self
    }

    /// Messages that may wait for the subscriber. Default: those of
    /// [`ConnectOptions::mailbox`](super::ConnectOptions::mailbox).
    #[must_use]
    pub fn messages_max(mut self, messages: usize) -> Self {
        self.policy().limits.messages_max = messages;
        self
    }

    /// Bytes of whole frames that may wait for the subscriber. Default: those of
    /// [`ConnectOptions::mailbox`](super::ConnectOptions::mailbox).
    #[must_use]
    pub fn bytes_max(mut self, bytes: usize) -> Self {
        self.policy().limits.bytes_max = bytes;
        self
    }

    /// What happens when more than that would wait. Default: [`Overflow::DropNewest`].
    #[must_use]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.policy().overflow = overflow;
        self
    }

    /// Ends it after that many messages in all, across reconnects. Default: it goes on.
    #[must_use]
    pub const fn delivered_max(mut self, messages: u64) -> Self {
        self.delivered_max = Some(messages);
        self
    }

    /// Lets it go on until the end of [`Client::drain`]: others may still need its answers.
    pub(super) const fn drains_last(mut self) -> Self {
        self.drains_last = true;
        self
    }

    /// Subscribes. What the server says about it comes later: [`Subscription::refusal`].
    ///
    /// # Errors
    ///
    /// As [`Client::subscribe`].
    pub fn subscribe(self) -> Result<Subscription, Error> {
        tracing::debug!(filter = self.filter, group = self.group, "subscribe");
        self.subscribe_untold()
    }

    /// [`SubscriptionBuilder::subscribe`] without a word in the log, where inboxes do not belong.
    pub(super) fn subscribe_untold(self) -> Result<Subscription, Error> {
        Ok(self.make(false)?.0)
    }

    /// Subscribes and waits until the server has taken it: what is published anywhere on that server
    /// after this returns arrives.
    ///
    /// Cancel safe: a cancelled call has unsubscribed.
    ///
    /// # Errors
    ///
    /// As [`Client::subscribe`]; [`ErrorKind::PermissionDenied`] and
    /// [`ErrorKind::TooManySubscriptions`] when the server refuses it,
    /// [`ErrorKind::Disconnected`] without a connection or when it is lost meanwhile,
    /// [`ErrorKind::Timeout`] after
    /// [`ConnectOptions::request_timeout`](super::ConnectOptions::request_timeout).
    pub async fn confirmed(self) -> Result<Subscription, Error> {
        tracing::debug!(filter = self.filter, group = self.group, "subscribe");
        let client = self.client.clone();
        let (subscription, confirmation) = self.make(true)?;
        let confirmation = confirmation.ok_or_else(|| Error::new(ErrorKind::Disconnected))?;
        client.shared().within_request_timeout(confirmation).await?;
        match subscription.mailbox().reason() {
            Some(EndReason::Refused(refusal)) => Err(refusal.as_ref().clone().into()),
            Some(EndReason::Disconnected) | None => Ok(subscription),
        }
    }

    fn make(self, is_confirmed: bool) -> Result<(Subscription, Option<Pong>), Error> {
        let shared = self.client.shared();
        let group = self.group.as_deref().map(QueueGroup::new).transpose()?;
        let policy = match self.policy {
            Some(policy) => Arc::new(policy),
            None => Arc::clone(&shared.policy),
        };
        let mut subscribed = shared.subscribe(&Interest {
            filters: &[(Filter::new(&self.filter)?, group)],
            policy,
            delivered_max: self.delivered_max,
            is_confirmed,
            drains_last: self.drains_last,
        })?;
        let confirmation = subscribed.confirmation.take();
        Ok((Subscription::new(self.client, subscribed), confirmation))
    }

    fn policy(&mut self) -> &mut Policy {
        let default = &self.client.shared().policy;
        self.policy.get_or_insert_with(|| **default)
    }
}
