//! What a sequenced subscriber is made with.

use crate::client::Client;
use crate::client::error::Error;
use crate::sequence::{Carrier, ControlSubjects, Delivery, ReceiverOptions};
use crate::subject::{Filter, QueueGroup};

use super::subscriber::SequencedSubscriber;

impl Client {
    /// Receives what is published within `filter`, checked and repaired.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Subject`](crate::client::ErrorKind::Subject) when `filter` is no subject or
    /// pattern.
    pub fn sequenced_subscriber(&self, filter: &str) -> Result<SequencedSubscriberBuilder, Error> {
        let filter = Filter::new(filter)?;
        Ok(SequencedSubscriberBuilder {
            client: self.clone(),
            options: ReceiverOptions::new(filter),
            carrier: Carrier::default(),
            group: None,
            subjects: ControlSubjects::default(),
        })
    }
}

/// Options of a [`SequencedSubscriber`].
#[derive(Debug, Clone)]
pub struct SequencedSubscriberBuilder {
    pub(super) client: Client,
    pub(super) options: ReceiverOptions,
    pub(super) carrier: Carrier,
    pub(super) group: Option<QueueGroup>,
    pub(super) subjects: ControlSubjects,
}

impl SequencedSubscriberBuilder {
    /// How messages are delivered. Default: [`Delivery::Immediate`].
    #[must_use]
    pub const fn delivery(mut self, delivery: Delivery) -> Self {
        self.options.delivery = delivery;
        self
    }

    /// Where messages carry their stamps, as their publishers have it. Default:
    /// [`Carrier::Header`].
    #[must_use]
    pub const fn carrier(mut self, carrier: Carrier) -> Self {
        self.carrier = carrier;
        self
    }

    /// Shares the messages with the others of a queue group. No gaps are claimed then.
    #[must_use]
    pub fn queue_group(mut self, group: QueueGroup) -> Self {
        self.group = Some(group);
        self
    }

    /// Whether an archive is asked before anything is lost, such as `natseq archive` or
    /// `jetstream::Archive`: see [`ReceiverOptions::archive`].
    /// Default false: where there is none, each loss would be told later for nothing.
    #[must_use]
    pub const fn archive(mut self, asks: bool) -> Self {
        self.options.archive = asks;
        self
    }

    /// Changes the receiver's bounds and times.
    #[must_use]
    pub fn options(mut self, change: impl FnOnce(&mut ReceiverOptions)) -> Self {
        change(&mut self.options);
        self
    }

    /// Where control messages go. Default: under `_SEQ`.
    #[must_use]
    pub fn subjects(mut self, subjects: ControlSubjects) -> Self {
        self.subjects = subjects;
        self
    }

    /// Starts the subscription.
    ///
    /// # Errors
    ///
    /// As [`Client::subscribe`].
    pub fn start(self) -> Result<SequencedSubscriber, Error> {
        SequencedSubscriber::start(self)
    }
}
