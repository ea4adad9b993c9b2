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

mod clock;
mod driver;
mod error;
mod inbox;
mod mailbox;
mod options;
mod publication;
mod sequenced;
mod shared;
mod subscription;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{broadcast, oneshot};

use crate::session::{OutboxFull, SHARED_PAYLOAD_BYTES_MIN};
use crate::subject::{Filter, QueueGroup, ToSubject};
use crate::wire::Message;
use crate::wire::handshake::ServerInfo;

pub use crate::session::Event;
pub use error::{Error, ErrorKind};
pub use mailbox::{MailboxLimits, MailboxStatistics};
pub use options::ConnectOptions;
pub use publication::{Publication, ToPayload};
pub use sequenced::{
    ClosedSource, SequencedMessage, SequencedPublisher, SequencedPublisherBuilder,
    SequencedSubscriber, SequencedSubscriberBuilder,
};
pub use subscription::Subscription;
#[cfg(feature = "tls")]
pub use tokio_rustls::rustls;
#[cfg(feature = "tls")]
pub use transport::TlsOptions;
pub use transport::{BoxFuture, BoxedTransport, Dialer, Resolver, Transport};

use shared::Shared;

/// How long [`Client::drain`] waits for subscribers to take what they have.
const DRAIN_TIME: Duration = Duration::from_secs(30);

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

/// What went through a client since it was made. Bytes are headers and payloads, without control
/// lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Messages received, replies and dropped ones included.
    pub received_messages: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Messages queued for the server.
    pub published_messages: u64,
    /// Their bytes.
    pub published_bytes: u64,
    /// Connections made, the first included.
    pub connects: u64,
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
        self.send(Publication::new(&subject, payload)?).await
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
        let mut publication = match self.append(publication)? {
            Appended::Yes => return Ok(()),
            Appended::Full(_, publication) => publication,
        };
        loop {
            let has_room = self.shared().room.notified();
            tokio::pin!(has_room);
            has_room.as_mut().enable();
            publication = match self.append(publication)? {
                Appended::Yes => return Ok(()),
                Appended::Full(_, publication) => publication,
            };
            has_room.await;
        }
    }

    /// [`Client::try_publish`] with a reply subject or headers.
    ///
    /// # Errors
    ///
    /// As [`Client::try_publish`], and [`ErrorKind::HeadersUnsupported`].
    pub fn try_send<P: ToPayload>(&self, publication: Publication<'_, P>) -> Result<(), Error> {
        match self.append(publication)? {
            Appended::Yes => Ok(()),
            Appended::Full(
                OutboxFull {
                    waiting_bytes,
                    bytes_max,
                },
                _,
            ) => Err(Error::new(ErrorKind::OutboxFull {
                waiting_bytes,
                bytes_max,
            })),
        }
    }

    /// Queues a message; gives it back when the outbox is full.
    fn append<'a, P: ToPayload>(
        &self,
        publication: Publication<'a, P>,
    ) -> Result<Appended<'a>, Error> {
        let shared = self.shared();
        shared.check(&publication.frame())?;
        let is_large = publication.payload.bytes().len() >= SHARED_PAYLOAD_BYTES_MIN;
        let frame = publication.frame();
        if !is_large
            && shared
                .with_outbox(|outbox| outbox.publish(&frame, None))
                .is_ok()
        {
            return Ok(Appended::Yes);
        }
        let Publication {
            subject,
            reply,
            headers,
            payload,
        } = publication;
        let publication = Publication {
            subject,
            reply,
            headers,
            payload: payload.into_shared(),
        };
        let payload = is_large.then_some(&publication.payload);
        let frame = publication.frame();
        Ok(
            match shared.with_outbox(|outbox| outbox.publish(&frame, payload)) {
                Ok(()) => Appended::Yes,
                Err(full) => Appended::Full(full, publication),
            },
        )
    }

    /// Receives what is published to subjects that match `filter`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Subject`], [`ErrorKind::Closed`] or [`ErrorKind::TooMany`].
    pub fn subscribe(&self, filter: &str) -> Result<Subscription, Error> {
        self.subscribe_all(&[(Filter::new(filter)?, None)])
    }

    /// [`Client::subscribe`] as one of a group whose members share the messages.
    ///
    /// # Errors
    ///
    /// As [`Client::subscribe`].
    pub fn queue_subscribe(&self, filter: &str, group: &str) -> Result<Subscription, Error> {
        let group = QueueGroup::new(group)?;
        self.subscribe_all(&[(Filter::new(filter)?, Some(group))])
    }

    /// Several subscriptions whose messages come in the order of the connection.
    fn subscribe_all(
        &self,
        filters: &[(Filter, Option<QueueGroup>)],
    ) -> Result<Subscription, Error> {
        let (key, mailbox, sids) = self.shared().subscribe(filters)?;
        Ok(Subscription::new(self.clone(), mailbox, key, sids))
    }

    /// Publishes a request and waits for the first answer.
    ///
    /// Cancel safe: an answer to a cancelled request is dropped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoResponders`] when nobody subscribes to the subject, [`ErrorKind::Timeout`]
    /// after [`ConnectOptions::request_timeout`], and those of [`Client::publish`].
    pub async fn request(
        &self,
        subject: impl ToSubject,
        payload: impl ToPayload,
    ) -> Result<Message, Error> {
        let shared = self.shared();
        let publication = Publication::new(&subject, payload)?;
        let mut request = Request::open(shared)?;
        let answer = async {
            self.send(publication.reply(&request.reply)?).await?;
            (&mut request.answer)
                .await
                .map_err(|_| Error::new(ErrorKind::Closed))
        };
        let Ok(answer) = tokio::time::timeout(shared.options.request_timeout, answer).await else {
            return Err(Error::new(ErrorKind::Timeout));
        };
        let message = answer?;
        let is_refusal = message
            .status()
            .is_some_and(|status| status.code == NO_RESPONDERS);
        if is_refusal && message.payload().is_empty() {
            return Err(Error::new(ErrorKind::NoResponders));
        }
        Ok(message)
    }

    /// Waits until the server has read everything published before.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`] without a connection or when it is lost meanwhile,
    /// [`ErrorKind::Timeout`] after [`ConnectOptions::request_timeout`].
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

    /// Ends all subscriptions after what is under way, waits until it was taken, at most 30 s,
    /// then flushes and closes. Publishing stays possible until the subscribers are done.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`] or [`ErrorKind::Timeout`]; the client is closed in any case.
    pub async fn drain(&self) -> Result<(), Error> {
        let shared = self.shared();
        let mailboxes = shared.with_both(|core, outbox| {
            core.session.drain_all(shared::REPLIES, outbox);
            core.mailboxes()
        });
        let mut result = shared.flush().await;
        shared.core().end_mailboxes();
        let emptied = async {
            for mailbox in &mailboxes {
                mailbox.emptied().await;
            }
        };
        if tokio::time::timeout(DRAIN_TIME, emptied).await.is_err() {
            result = Err(Error::new(ErrorKind::Timeout));
        }
        shared.end_publishing();
        let flushed = shared.flush().await;
        shared.end();
        result.and(flushed)
    }

    /// Flushes and closes. Calls that wait on this client end with an error.
    pub async fn close(&self) {
        self.shared().end_publishing();
        // Without a connection there is nothing to wait for: the caller wants to leave.
        let _ = self.flush().await;
        self.shared().end();
        let mut link = self.shared().link.subscribe();
        // Fails only when the driver is gone, which is what we wait for.
        let _ = link.wait_for(|link| *link == shared::Link::Closed).await;
    }

    /// What happens to the connection from now on, in order.
    #[must_use]
    pub fn events(&self) -> Events {
        Events {
            receiver: self.shared().events.subscribe(),
            missed: 0,
        }
    }

    /// What went through this client.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let (received_messages, received_bytes, connects) = {
            let core = self.shared().core();
            let (messages, bytes) = core.received();
            (messages, bytes, core.session.generation())
        };
        let (published_messages, published_bytes) = self.shared().outbox().outbox.published();
        Statistics {
            received_messages,
            received_bytes,
            published_messages,
            published_bytes,
            connects,
        }
    }

    /// What the server said about itself last.
    #[must_use]
    pub fn server_info(&self) -> ServerInfo {
        self.shared().core().session.info().clone()
    }

    /// Returns true while a connection is up.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared().core().session.is_connected()
    }

    /// Returns a subject that nobody else uses, for answers.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Random`].
    pub fn new_inbox(&self) -> Result<String, Error> {
        new_inbox(self.shared())
    }

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

/// What became of a message that was to be queued.
enum Appended<'a> {
    Yes,
    Full(OutboxFull, Publication<'a, Bytes>),
}

/// A request under way; forgotten when it is dropped.
struct Request<'a> {
    shared: &'a Shared,
    key: u64,
    reply: String,
    answer: oneshot::Receiver<Message>,
}

impl<'a> Request<'a> {
    fn open(shared: &'a Shared) -> Result<Self, Error> {
        let (key, reply, answer) = shared.open_request(|| new_inbox(shared))?;
        Ok(Self {
            shared,
            key,
            reply,
            answer,
        })
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.shared.close_request(self.key);
    }
}

/// The status of a server's answer when nobody subscribes to a request's subject.
const NO_RESPONDERS: u16 = 503;

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
