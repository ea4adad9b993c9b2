//! Asking: one answer, with options.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{timeout, timeout_at};

use crate::subject::{Subject, ToSubject};
use crate::wire::{Headers, Message};

use super::Client;
use super::error::{Error, ErrorKind};
use super::pending::{Answer, Outcome, Sink};
use super::publication::{Publication, ToPayload};
use super::replies::{Ending, Replies, Source, open_own};
use super::shared::Shared;

/// The status of a server's answer when nobody subscribes to a request's subject.
const NO_RESPONDERS: u16 = 503;

impl Client {
    /// Publishes a request and waits for the first answer.
    ///
    /// While there is no connection the request waits for the next one, as anything published does,
    /// and when the connection is lost the answer may still come on the next one: both at most until
    /// the timeout. [`ConnectOptions::fail_requests_at_disconnect`](super::ConnectOptions) and
    /// [`Requester::fail_at_disconnect`] choose otherwise.
    ///
    /// Cancel safe: an answer to a cancelled request is dropped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoResponders`] when nobody subscribes to the subject,
    /// [`ErrorKind::PermissionDenied`] when the server refuses the request,
    /// [`ErrorKind::Timeout`] after
    /// [`ConnectOptions::request_timeout`](super::ConnectOptions::request_timeout), and those of
    /// [`Client::publish`].
    pub async fn request(
        &self,
        subject: impl ToSubject,
        payload: impl ToPayload,
    ) -> Result<Message, Error> {
        let options = self.shared().options.requests();
        ask(self, Publication::new(&subject, payload)?, &options).await
    }

    /// Begins requests with options.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(client: natseq::Client) -> Result<(), natseq::Error> {
    /// let ask = client.requester("prices.eur")?.timeout(Duration::from_secs(1));
    /// let answer = ask.request("now").await?;
    /// let mut all = ask.replies_max(3).request_many("now").await?;
    /// while let Some(reply) = all.next().await {
    ///     println!("{:?}", reply.payload());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Subject`] when `subject` is no literal subject.
    pub fn requester(&self, subject: impl ToSubject) -> Result<Requester, Error> {
        Ok(Requester {
            client: self.clone(),
            subject: subject.to_subject()?.to_owned(),
            headers: None,
            options: self.shared().options.requests(),
            ending: Ending::default(),
        })
    }

    /// Requests that wait for answers.
    #[must_use]
    pub fn pending_requests(&self) -> usize {
        self.shared().core().requests.len()
    }
}

/// What is asked in which way.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestOptions {
    pub(super) timeout: Duration,
    pub(super) fails_at_disconnect: bool,
    pub(super) has_own_inbox: bool,
}

/// Asks one subject, with options, as often as wanted.
#[derive(Clone)]
pub struct Requester {
    client: Client,
    subject: Subject,
    headers: Option<Headers>,
    options: RequestOptions,
    ending: Ending,
}

impl Requester {
    /// Bound on the whole request. Default:
    /// [`ConnectOptions::request_timeout`](super::ConnectOptions::request_timeout).
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = timeout;
        self
    }

    /// Headers of the request. Default: none.
    #[must_use]
    pub fn headers(mut self, headers: Headers) -> Self {
        self.headers = Some(headers);
        self
    }

    /// Whether the request fails when there is no connection or it is lost. Default:
    /// [`ConnectOptions::fail_requests_at_disconnect`](super::ConnectOptions::fail_requests_at_disconnect).
    #[must_use]
    pub const fn fail_at_disconnect(mut self, fails: bool) -> Self {
        self.options.fails_at_disconnect = fails;
        self
    }

    /// Subscribes to an inbox for each request instead of sharing the connection's, as older clients
    /// do. Default: the connection's is shared.
    #[must_use]
    pub const fn own_inbox(mut self) -> Self {
        self.options.has_own_inbox = true;
        self
    }

    /// Ends [`Requester::request_many`] after that many replies. Default: their number ends nothing.
    #[must_use]
    pub const fn replies_max(mut self, replies: u64) -> Self {
        self.ending.replies_max = Some(replies);
        self
    }

    /// Ends [`Requester::request_many`] when nothing has come for so long after a reply. Default:
    /// only [`Requester::timeout`] does.
    #[must_use]
    pub const fn stall(mut self, silence: Duration) -> Self {
        self.ending.stall = Some(silence);
        self
    }

    /// Ends [`Requester::request_many`] at the first reply that `is_last`, which is not returned.
    /// Default: none is the last by itself.
    #[must_use]
    pub fn sentinel(mut self, is_last: impl Fn(&Message) -> bool + Send + Sync + 'static) -> Self {
        self.ending.sentinel = Some(Arc::new(is_last));
        self
    }

    /// Ends [`Requester::request_many`] at the first reply without payload, which is not returned.
    #[must_use]
    pub fn until_empty(self) -> Self {
        self.sentinel(|reply| reply.payload().is_empty())
    }

    /// Publishes a request and waits for the first answer, as [`Client::request`].
    ///
    /// # Errors
    ///
    /// As [`Client::request`], and [`ErrorKind::HeadersUnsupported`].
    pub async fn request(&self, payload: impl ToPayload) -> Result<Message, Error> {
        ask(&self.client, self.publication(payload)?, &self.options).await
    }

    /// Publishes a request and returns its replies as they come.
    ///
    /// They end with what was chosen ([`Requester::replies_max`], [`Requester::stall`],
    /// [`Requester::sentinel`]) and in any case after [`Requester::timeout`]. Those that wait are
    /// bounded as the messages of a subscription are.
    ///
    /// # Errors
    ///
    /// Those of [`Client::publish`], and [`ErrorKind::Timeout`] when the outbox stays full.
    pub async fn request_many(&self, payload: impl ToPayload) -> Result<Replies, Error> {
        let client = &self.client;
        let shared = client.shared();
        let publication = self.publication(payload)?;
        if self.options.fails_at_disconnect && !client.is_connected() {
            return Err(Error::new(ErrorKind::Disconnected));
        }
        let source = Source::open(client, &self.subject, &self.options)?;
        let due = shared.clock.now().saturating_add(self.options.timeout);
        let replies = Replies::new(source, self.ending.clone(), due, shared.clock);
        let sending = async {
            let publication = publication.inbox(replies.reply());
            client.send(publication).await
        };
        match timeout(self.options.timeout, sending).await {
            Ok(sent) => sent.map(|()| replies),
            Err(_) => Err(Error::new(ErrorKind::Timeout)),
        }
    }

    fn publication<P: ToPayload>(&self, payload: P) -> Result<Publication<'_, P>, Error> {
        let publication = Publication::new(&self.subject, payload)?;
        Ok(match &self.headers {
            Some(headers) => publication.headers(headers),
            None => publication,
        })
    }
}

impl fmt::Debug for Requester {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Requester")
            .field("subject", &self.subject)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Publishes a request and waits for the first answer.
async fn ask<P: ToPayload>(
    client: &Client,
    publication: Publication<'_, P>,
    options: &RequestOptions,
) -> Result<Message, Error> {
    let subject = publication.subject;
    tracing::trace!(subject = subject.as_str(), "request");
    let answer = if options.fails_at_disconnect && !client.is_connected() {
        Err(Error::new(ErrorKind::Disconnected))
    } else if options.has_own_inbox {
        Box::pin(ask_alone(client, publication, options)).await
    } else {
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        match Request::open(client, publication, options, waker) {
            Ok((mut request, None)) => poll_fn(|cx| request.poll(cx)).await,
            Ok((request, Some(unsent))) => Box::pin(request.send(client, unsent)).await,
            Err(error) => Err(error),
        }
    };
    let answer = answer.and_then(answered);
    if let Err(error) = &answer {
        tracing::debug!(subject = subject.as_str(), %error, "request failed");
    }
    answer
}

/// Asks with an inbox of the request's own.
async fn ask_alone<P: ToPayload>(
    client: &Client,
    publication: Publication<'_, P>,
    options: &RequestOptions,
) -> Result<Message, Error> {
    let subject = publication.subject.as_str();
    let (mut answers, key, reply) = open_own(client, subject, options, Some(1))?;
    let shared = client.shared();
    let _forgotten = Forgotten { shared, key };
    let asking = async {
        client.send(publication.inbox(&reply)).await?;
        match answers.next().await {
            Some(answer) => Ok(answer),
            None => Err(match answers.mailbox().reason() {
                Some(reason) => reason.into(),
                None => Error::new(ErrorKind::Closed),
            }),
        }
    };
    let in_time = timeout(options.timeout, asking).await;
    in_time.unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout)))
}

/// Tells a server's "nobody is there" from an answer.
fn answered(message: Message) -> Result<Message, Error> {
    if is_no_responders(&message) {
        return Err(Error::new(ErrorKind::NoResponders));
    }
    Ok(message)
}

pub(super) fn is_no_responders(message: &Message) -> bool {
    message.payload().is_empty()
        && message
            .status()
            .is_some_and(|status| status.code == NO_RESPONDERS)
}

/// A request under way, on the connection's inbox; forgotten when it is dropped.
struct Request<'a> {
    shared: &'a Shared,
    key: u64,
    due: Duration,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Made in this very poll: its waker is the right one.
    New,
    Polled,
    Over,
}

/// What the outbox had no room for, and its reply subject.
type Unsent<'a> = (String, Publication<'a, Bytes>);

impl<'a> Request<'a> {
    /// Adds and queues a request. The driver watches the time and wakes.
    fn open<'p, P: ToPayload>(
        client: &'a Client,
        publication: Publication<'p, P>,
        options: &RequestOptions,
        waker: Waker,
    ) -> Result<(Self, Option<Unsent<'p>>), Error> {
        let shared = client.shared();
        let due = shared.clock.now().saturating_add(options.timeout);
        let sink = Sink::One(Outcome::Open { waker, due });
        let fails = options.fails_at_disconnect;
        let (key, unsent) = if publication.is_large() {
            // What is refused is not copied.
            shared.check(&publication.frame())?;
            let publication = publication.into_shared();
            let payload = Some(&publication.payload);
            let (key, reply) = shared.ask(&publication.frame(), payload, fails, sink)?;
            (key, reply.map(|reply| (reply, publication)))
        } else {
            let (key, reply) = shared.ask(&publication.frame(), None, fails, sink)?;
            (key, reply.map(|reply| (reply, publication.into_shared())))
        };
        let request = Self {
            shared,
            key,
            due,
            stage: Stage::New,
        };
        Ok((request, unsent))
    }

    /// Queues it once there is room, and waits for the answer.
    async fn send(mut self, client: &Client, unsent: Unsent<'_>) -> Result<Message, Error> {
        let (reply, publication) = unsent;
        let sending = client.wait_and_send(publication.inbox(&reply));
        let in_time = timeout_at(self.shared.clock.instant(self.due), sending).await;
        in_time.unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout)))?;
        self.stage = Stage::Polled;
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &Context<'_>) -> Poll<Answer> {
        if self.stage == Stage::New {
            self.stage = Stage::Polled;
            return Poll::Pending;
        }
        let answer = ready!(self.shared.poll_answer(self.key, cx));
        self.stage = Stage::Over;
        Poll::Ready(answer)
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        if self.stage != Stage::Over {
            self.shared.close_request(self.key);
        }
    }
}

/// A request with an inbox of its own; forgotten when this is dropped.
struct Forgotten<'a> {
    shared: &'a Shared,
    key: u64,
}

impl Drop for Forgotten<'_> {
    fn drop(&mut self) {
        self.shared.close_request(self.key);
    }
}
