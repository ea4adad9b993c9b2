//! The tokio client: sockets and clocks around a [`Session`](crate::session::Session).
//!
//! ```text
//!   publish ---> outbox ----------+                     +---> mailbox ---> Subscription
//!                                 v                     |
//!                            driver task <--> socket ---+---> mailbox ---> Subscription
//!   subscribe -> session table ---^
//! ```
//!
//! A message is encoded straight into the outbox under one short lock. One socket read is cut
//! into frames without copying, and each mailbox gets its share in one push and one wake.

mod auth;
mod clock;
mod core;
mod drain;
mod driver;
mod error;
mod events;
mod inbox;
mod link;
mod mailbox;
mod options;
mod pending;
mod publication;
mod replies;
mod requests;
mod sequenced;
mod shared;
mod statistics;
mod subscribing;
mod subscription;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::broadcast;

use crate::session::ServerAddr;
use crate::subject::ToSubject;

pub use crate::session::{Credentials, CredentialsError, Secret};
pub use crate::session::{DrainStage, Event, Moved, Refusal, RefusalKind};
#[cfg(feature = "jetstream")]
pub(crate) use clock::Clock;
pub use error::{Error, ErrorKind};
#[cfg(feature = "jetstream")]
pub(crate) use inbox::random_seed;
pub use mailbox::{MailboxLimits, MailboxStatistics, Overflow};
pub use options::ConnectOptions;
pub use publication::{Publication, ToPayload};
pub use replies::{Replies, RepliesEnd};
pub use requests::Requester;
pub use sequenced::{
    ClosedSource, DurableName, SequencedMessage, SequencedPublisher, SequencedPublisherBuilder,
    SequencedSubscriber, SequencedSubscriberBuilder,
};
pub use statistics::{Statistics, Status};
pub use subscribing::SubscriptionBuilder;
pub use subscription::Subscription;
#[cfg(feature = "tls")]
pub use tokio_rustls::rustls;
#[cfg(feature = "tls")]
pub use transport::TlsOptions;
pub use transport::{BoxFuture, BoxedTransport, Dialer, Resolver, Transport};

use shared::Shared;

/// Connects with the default options to the first of `servers` (comma-separated) that accepts us.
///
/// # Errors
///
/// As [`ConnectOptions::connect`].
pub async fn connect(servers: &str) -> Result<Client, Error> {
    ConnectOptions::new().connect(servers).await
}

/// A connection to NATS that comes back by itself. Cloning it is cheap and shares the connection,
/// which ends with the last clone and the last subscription.
#[derive(Debug, Clone)]
pub struct Client {
    owner: Arc<Owner>,
}

/// Closes the connection when the last handle is gone.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
}

impl Client {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            owner: Arc::new(Owner { shared }),
        }
    }

    /// Publishes a message; waits while the outbox is full.
    ///
    /// It is on its way when this returns, not at its destination: [`Client::flush`] tells when
    /// the server has it. While there is no connection it waits in the outbox for the next one.
    /// Cancel safe: a cancelled call has published nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Subject`], [`ErrorKind::PayloadTooLarge`], [`ErrorKind::LineTooLong`] or
    /// [`ErrorKind::Closed`]. Nothing was queued then.
    pub async fn publish(
        &self,
        subject: impl ToSubject,
        payload: impl ToPayload,
    ) -> Result<(), Error> {
        match self.offer(Publication::new(&subject, payload)?) {
            Ok(outcome) => outcome,
            Err(waiting) => Box::pin(self.wait_and_send(waiting)).await,
        }
    }

    /// Publishes a message if the outbox has room for it now.
    ///
    /// # Errors
    ///
    /// As [`Client::publish`], and [`ErrorKind::OutboxFull`].
    pub fn try_publish(
        &self,
        subject: impl ToSubject,
        payload: impl ToPayload,
    ) -> Result<(), Error> {
        self.try_send(Publication::new(&subject, payload)?)
    }

    /// [`Client::publish`] with a reply subject or headers.
    ///
    /// # Errors
    ///
    /// As [`Client::publish`], and [`ErrorKind::HeadersUnsupported`].
    pub async fn send<P: ToPayload>(&self, publication: Publication<'_, P>) -> Result<(), Error> {
        match self.offer(publication) {
            Ok(outcome) => outcome,
            Err(waiting) => Box::pin(self.wait_and_send(waiting)).await,
        }
    }

    /// Queues a message, a large one by reference, or gives it back when there is no room.
    #[inline]
    fn offer<'a, P: ToPayload>(
        &self,
        publication: Publication<'a, P>,
    ) -> Result<Result<(), Error>, Publication<'a, Bytes>> {
        if publication.is_large() {
            // What is refused is not copied.
            if let Err(error) = self.shared().check(&publication.frame()) {
                return Ok(Err(error));
            }
            let publication = publication.into_shared();
            return match self.append_shared(&publication) {
                Err(error) if error.is_outbox_full() => Err(publication),
                outcome => Ok(outcome),
            };
        }
        match self.shared().append(&publication.frame(), None) {
            Err(error) if error.is_outbox_full() => Err(publication.into_shared()),
            outcome => Ok(outcome),
        }
    }

    fn append_shared(&self, publication: &Publication<'_, Bytes>) -> Result<(), Error> {
        let large = publication.is_large().then_some(&publication.payload);
        self.shared().append(&publication.frame(), large)
    }

    async fn wait_and_send(&self, publication: Publication<'_, Bytes>) -> Result<(), Error> {
        loop {
            let has_room = self.shared().room.notified();
            tokio::pin!(has_room);
            has_room.as_mut().enable();
            match self.append_shared(&publication) {
                Err(error) if error.is_outbox_full() => has_room.await,
                outcome => return outcome,
            }
        }
    }

    /// [`Client::try_publish`] with a reply subject or headers.
    ///
    /// # Errors
    ///
    /// As [`Client::try_publish`], and [`ErrorKind::HeadersUnsupported`].
    pub fn try_send<P: ToPayload>(&self, publication: Publication<'_, P>) -> Result<(), Error> {
        if publication.is_large() {
            self.shared().check(&publication.frame())?;
            return self.append_shared(&publication.into_shared());
        }
        self.shared().append(&publication.frame(), None)
    }

    /// Leaves the connection and dials anew at once, another server first if the pool has one.
    ///
    /// What was published and not confirmed is told as in doubt by [`Event::Disconnected`].
    pub fn reconnect(&self) {
        let now = self.shared().clock.now();
        self.shared()
            .with_both(|core, outbox| core.session.reconnect(now, outbox));
    }

    /// Replaces the servers that may be dialed, discovered ones included. The connection stays.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ServerAddr`]; the servers are as before then.
    pub fn set_servers(&self, servers: &str) -> Result<(), Error> {
        let servers = ServerAddr::parse_list(servers)?;
        let shared = self.shared();
        let now = shared.clock.now();
        shared.with_both(|core, _| core.session.set_servers(servers, now));
        Ok(())
    }

    /// The servers that may be dialed, the next one first.
    #[must_use]
    pub fn servers(&self) -> Vec<ServerAddr> {
        self.shared().core().session.servers()
    }

    /// The server of the connection that is up.
    #[must_use]
    pub fn server(&self) -> Option<ServerAddr> {
        self.shared().core().session.server().cloned()
    }

    /// Waits until the server has read everything published before.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`] without a connection or when it is lost meanwhile,
    /// [`ErrorKind::Timeout`] after [`ConnectOptions::request_timeout`], and [`ErrorKind::TooMany`].
    pub async fn flush(&self) -> Result<(), Error> {
        self.shared().flush().await
    }

    /// Measures a round trip to the server.
    ///
    /// # Errors
    ///
    /// As [`Client::flush`].
    pub async fn round_trip(&self) -> Result<Duration, Error> {
        let begun = self.shared().clock.now();
        self.flush().await?;
        Ok(self.shared().clock.now().saturating_sub(begun))
    }

    /// What happens to the connection from now on, in order.
    #[must_use]
    pub fn events(&self) -> Events {
        Events {
            receiver: self.shared().events.subscribe(),
            missed: 0,
        }
    }

    /// Returns a subject that nobody else uses, for answers.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Random`].
    pub fn new_inbox(&self) -> Result<String, Error> {
        new_inbox(self.shared())
    }

    #[inline]
    fn shared(&self) -> &Arc<Shared> {
        &self.owner.shared
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.end();
    }
}

fn new_inbox(shared: &Shared) -> Result<String, Error> {
    let name = inbox::random_name(inbox::INBOX_CHARS)?;
    Ok(format!("{}.{name}", shared.options.inbox_prefix))
}

/// What happens to a connection, in order.
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Event>,
    missed: u64,
}

impl Events {
    /// Waits for the next event; `None` once the client is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(count)) => {
                    self.missed = self.missed.saturating_add(count);
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// Events that this reader was too slow for.
    #[must_use]
    pub const fn missed(&self) -> u64 {
        self.missed
    }
}
