//! A publisher that numbers its messages and repairs what receivers miss.
//!
//! ```text
//!   publish ------\                      under one lock: number, retain, append
//!   heartbeats ----+--> Sender --> outbox
//!   repairs ------/        ^------ requests
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::sleep_until;

use crate::client::clock::unix_micros;
use crate::client::error::{Error, ErrorKind};
use crate::client::inbox;
use crate::client::publication::{Publication, ToPayload};
use crate::client::shared::Link;
use crate::client::{Client, Subscription};
use crate::sequence::{
    ControlSubjects, Heartbeat, HeartbeatOptions, Outgoing, Prior, Reply, ReplyBody,
    RetentionLimits, RetentionOverflow, SendError, Sender, SenderOptions, SenderStatistics,
    SourceName,
};
use crate::session::{Outbox, OutboxFull, SHARED_PAYLOAD_BYTES_MIN};
use crate::subject::{Filter, Subject, ToSubject};
use crate::wire::encode::Publish;
use crate::wire::{HeaderLines, Headers};

/// Characters of the name of a source that was given none: 60 bits.
const NAME_CHARS: usize = 10;

/// Bytes that a stamp may add to the sizes in a control line.
const LINE_MARGIN_BYTES: usize = 16;

/// The epoch that this process used last.
static LAST_EPOCH: AtomicU64 = AtomicU64::new(0);

impl Client {
    /// Begins a source whose messages all go to subjects within `scope`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Subject`] when `scope` is no subject or pattern.
    pub fn sequenced_publisher(&self, scope: &str) -> Result<SequencedPublisherBuilder, Error> {
        Ok(SequencedPublisherBuilder {
            client: self.clone(),
            scope: Filter::new(scope)?,
            source: None,
            prior: None,
            retention: RetentionLimits::default(),
            overflow: RetentionOverflow::default(),
            heartbeat: HeartbeatOptions::default(),
            linger: None,
            subjects: ControlSubjects::default(),
        })
    }
}

/// Options of a [`SequencedPublisher`].
#[derive(Debug, Clone)]
pub struct SequencedPublisherBuilder {
    client: Client,
    scope: Filter,
    source: Option<SourceName>,
    prior: Option<Prior>,
    retention: RetentionLimits,
    overflow: RetentionOverflow,
    heartbeat: HeartbeatOptions,
    linger: Option<Duration>,
    subjects: ControlSubjects,
}

impl SequencedPublisherBuilder {
    /// Names the source. Default: ten random characters.
    #[must_use]
    pub fn source(mut self, name: SourceName) -> Self {
        self.source = Some(name);
        self
    }

    /// Names the run before this one, which ended cleanly: what it returned when it was closed.
    #[must_use]
    pub const fn prior(mut self, prior: Prior) -> Self {
        self.prior = Some(prior);
        self
    }

    /// How much is kept for repairs. Default: [`RetentionLimits::default`].
    #[must_use]
    pub const fn retention(mut self, limits: RetentionLimits) -> Self {
        self.retention = limits;
        self
    }

    /// What happens when that is full. Default: the oldest are forgotten.
    ///
    /// With [`RetentionOverflow::Refuse`] publishing waits instead, until the oldest is older than
    /// the age bound.
    #[must_use]
    pub const fn overflow(mut self, overflow: RetentionOverflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// When heartbeats are sent. Default: [`HeartbeatOptions::default`].
    #[must_use]
    pub const fn heartbeat(mut self, options: HeartbeatOptions) -> Self {
        self.heartbeat = options;
        self
    }

    /// How long repairs are served after the close and after each request. Default: 2 s.
    #[must_use]
    pub const fn linger(mut self, linger: Duration) -> Self {
        self.linger = Some(linger);
        self
    }

    /// Where control messages go. Default: under `_SEQ`.
    #[must_use]
    pub fn subjects(mut self, subjects: ControlSubjects) -> Self {
        self.subjects = subjects;
        self
    }

    /// Starts the source: it listens for repair requests and says hello.
    ///
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::HeadersUnsupported`] when the server would strip the stamps,
    /// [`ErrorKind::Random`], and those of [`Client::subscribe`].
    pub fn start(self) -> Result<SequencedPublisher, Error> {
        let client = self.client;
        if !client.shared().has_headers() {
            return Err(Error::new(ErrorKind::HeadersUnsupported));
        }
        let source = match self.source {
            Some(source) => source,
            None => SourceName::new(&inbox::random_name(NAME_CHARS)?)?,
        };
        let epoch = new_epoch();
        let heartbeat_subject = self.subjects.heartbeat(&self.scope)?;
        let repairs = self.subjects.repair(&source, epoch)?;
        // Receivers may miss what was published last until the very end.
        let requests = client.subscription(repairs.as_str()).drains_last();
        let requests = requests.subscribe()?;
        let mut options = SenderOptions::new(source, epoch, self.scope);
        options.prior = self.prior;
        options.retention = self.retention;
        options.overflow = self.overflow;
        options.heartbeat = self.heartbeat;
        options.linger = self.linger.unwrap_or(options.linger);
        options.reply_prefixes = vec![format!(
            "{}.",
            client.shared().options.inbox_prefix.as_str()
        )];
        if options
            .reply_prefixes
            .iter()
            .all(|prefix| prefix != "_INBOX.")
        {
            options.reply_prefixes.push("_INBOX.".to_owned());
        }
        let sender = Sender::new(options, inbox::random_seed()?, client.shared().clock.now());
        let lane = Arc::new(Lane {
            client,
            state: Mutex::new(State {
                sender,
                stamp: Vec::new(),
                armed: Duration::ZERO,
            }),
            heartbeat_subject,
            has_changed: Notify::new(),
            is_finished: watch::Sender::new(false),
        });
        let link = lane.client.shared().link.subscribe();
        let mut service = Service {
            lane: Arc::clone(&lane),
            requests,
            link,
            link_seen: Link::Down,
        };
        // The hello goes out before the first message can.
        service.note_link();
        service.lane.beat();
        tokio::spawn(service.run());
        Ok(SequencedPublisher { lane })
    }
}

/// Publishes the numbered messages of one source.
///
/// Dropping it ends the source as [`SequencedPublisher::close`] does, in the background: it keeps
/// the connection until the linger is over.
#[derive(Debug)]
pub struct SequencedPublisher {
    lane: Arc<Lane>,
}

/// A source that ended cleanly; its next run names it as [`Prior`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClosedSource {
    /// The source.
    pub source: SourceName,
    /// Its run and last number.
    pub prior: Prior,
    /// Counts of the run.
    pub statistics: SenderStatistics,
}

impl SequencedPublisher {
    /// Publishes a message and returns its number; waits while the outbox or the retention is full.
    ///
    /// Cancel safe: a cancelled call has published nothing and taken no number.
    ///
    /// # Errors
    ///
    /// As [`Client::publish`], and [`ErrorKind::Sequence`] for a subject outside the scope or a
    /// message too large to be retained. No number was taken then.
    pub async fn publish(
        &self,
        subject: impl ToSubject,
        payload: impl ToPayload,
    ) -> Result<u64, Error> {
        self.send(Publication::new(&subject, payload)?).await
    }

    /// [`SequencedPublisher::publish`] with a reply subject or headers.
    ///
    /// # Errors
    ///
    /// As [`SequencedPublisher::publish`], and [`ErrorKind::Header`] for headers with a status
    /// line: a repair could not restore it.
    pub async fn send<P: ToPayload>(&self, publication: Publication<'_, P>) -> Result<u64, Error> {
        let shared = self.lane.client.shared();
        let is_large = publication.payload.bytes().len() >= SHARED_PAYLOAD_BYTES_MIN;
        if !is_large {
            match self.lane.append(&publication, None) {
                Ok(seq) => return Ok(seq),
                Err(Refusal::Error(error)) => return Err(error),
                Err(Refusal::OutboxFull(_) | Refusal::RetentionFull(_)) => {}
            }
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
        loop {
            let has_room = shared.room.notified();
            tokio::pin!(has_room);
            has_room.as_mut().enable();
            let payload = is_large.then_some(&publication.payload);
            match self.lane.append(&publication, payload) {
                Ok(seq) => return Ok(seq),
                Err(Refusal::Error(error)) => return Err(error),
                Err(Refusal::OutboxFull(_)) => has_room.await,
                Err(Refusal::RetentionFull(free_at)) => {
                    // Closing the client ends the wait too.
                    tokio::select! {
                        () = sleep_until(shared.clock.instant(free_at)) => {}
                        () = has_room => {}
                    }
                }
            }
        }
    }

    /// Publishes a message if there is room for it now.
    ///
    /// # Errors
    ///
    /// As [`SequencedPublisher::publish`], [`ErrorKind::OutboxFull`], and [`ErrorKind::Sequence`]
    /// while the retention is full.
    pub fn try_publish(
        &self,
        subject: impl ToSubject,
        payload: impl ToPayload,
    ) -> Result<u64, Error> {
        let publication = Publication::new(&subject, payload)?;
        self.lane
            .append(&publication, None)
            .map_err(|refusal| match refusal {
                Refusal::Error(error) => error,
                Refusal::OutboxFull(OutboxFull {
                    waiting_bytes,
                    bytes_max,
                }) => Error::new(ErrorKind::OutboxFull {
                    waiting_bytes,
                    bytes_max,
                }),
                Refusal::RetentionFull(free_at) => SendError::RetentionFull { free_at }.into(),
            })
    }

    /// Ends the source: announces its end three times and serves repairs through the linger, which
    /// begins again with each request, 60 s at most.
    ///
    /// Cancel safe: what is left goes on in the background.
    pub async fn close(self) -> ClosedSource {
        let mut is_finished = self.lane.is_finished.subscribe();
        self.lane.close();
        // Fails only when the service is gone, which is what we wait for.
        let _ = is_finished.wait_for(|is_finished| *is_finished).await;
        let state = self.lane.state();
        let sender = &state.sender;
        ClosedSource {
            source: sender.source().clone(),
            prior: Prior {
                epoch: sender.epoch(),
                lead: sender.lead(),
            },
            statistics: sender.statistics(),
        }
    }

    /// The source's name.
    #[must_use]
    pub fn source(&self) -> SourceName {
        self.lane.state().sender.source().clone()
    }

    /// Its run.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.lane.state().sender.epoch()
    }

    /// The last number given; 0 for none.
    #[must_use]
    pub fn lead(&self) -> u64 {
        self.lane.state().sender.lead()
    }

    /// Counts so far.
    #[must_use]
    pub fn statistics(&self) -> SenderStatistics {
        self.lane.state().sender.statistics()
    }
}

impl Drop for SequencedPublisher {
    fn drop(&mut self) {
        self.lane.close();
    }
}

/// What publisher and service share. Its lock comes before the outbox's.
#[derive(Debug)]
struct Lane {
    client: Client,
    state: Mutex<State>,
    heartbeat_subject: Subject,
    /// Wakes the service when its timer is too late.
    has_changed: Notify,
    is_finished: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    sender: Sender,
    stamp: Vec<u8>,
    /// When the service wakes next by itself.
    armed: Duration,
}

/// Why a message was not appended. It has no number then.
enum Refusal {
    Error(Error),
    OutboxFull(OutboxFull),
    /// Until then.
    RetentionFull(Duration),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<SendError> for Refusal {
    fn from(error: SendError) -> Self {
        if let SendError::RetentionFull { free_at } = error {
            return Self::RetentionFull(free_at);
        }
        Self::Error(error.into())
    }
}

impl Lane {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers, retains and appends a message, or does none of it.
    fn append<P: ToPayload>(
        &self,
        publication: &Publication<'_, P>,
        shared_payload: Option<&Bytes>,
    ) -> Result<u64, Refusal> {
        let shared = self.client.shared();
        let frame = publication.frame();
        shared.check(&frame)?;
        shared.check_line(frame.line_len().saturating_add(LINE_MARGIN_BYTES))?;
        if publication.headers.is_some_and(Headers::has_status) {
            return Err(Error::new(ErrorKind::Header).into());
        }
        let message = Outgoing {
            subject: publication.subject.as_str(),
            reply: publication.reply.map(|reply| reply.as_str()),
            headers: publication
                .headers
                .map_or(&[], |headers| headers.lines().as_bytes()),
            payload: publication.payload.bytes(),
        };
        let now = shared.clock.now();
        let body_bytes_max = shared.payload_bytes_max();
        let mut state = self.state();
        let State {
            sender,
            stamp,
            armed,
        } = &mut *state;
        let seq = shared.with_outbox(|outbox| {
            outbox.check_room().map_err(Refusal::OutboxFull)?;
            stamp.clear();
            let seq = sender.stamp(now, &message, body_bytes_max, stamp)?;
            outbox.push(
                &frame.first_lines(HeaderLines::trusted(stamp)),
                shared_payload,
            );
            Ok::<_, Refusal>(seq)
        })?;
        let is_late = sender.poll_timeout().is_some_and(|due| due < *armed);
        drop(state);
        if is_late {
            self.has_changed.notify_one();
        }
        Ok(seq)
    }

    /// Writes the heartbeats that are due. Nothing else of the source is written in between.
    fn beat(&self) {
        let shared = self.client.shared();
        let now = shared.clock.now();
        let mut state = self.state();
        shared.with_outbox(|outbox| {
            // A heartbeat that waits for a connection would speak of the past: the next connection
            // gets its own.
            while outbox.is_open()
                && let Some(heartbeat) = state.sender.poll_heartbeat(now)
            {
                let stamp = state.sender.stamp_line(heartbeat.lead);
                self.push_heartbeat(outbox, &heartbeat, &stamp);
            }
        });
    }

    fn push_heartbeat(&self, outbox: &mut Outbox, heartbeat: &Heartbeat, stamp: &[u8]) {
        let Ok(subject) = self.heartbeat_subject.to_subject() else {
            return;
        };
        let body = heartbeat.to_json();
        let lines = HeaderLines::trusted(stamp);
        outbox.push(&Publish::new(subject, &body).first_lines(lines), None);
    }

    /// Sends answers while there is room. Returns false when some are left.
    fn answer(&self) -> bool {
        let shared = self.client.shared();
        let now = shared.clock.now();
        let mut state = self.state();
        shared.with_outbox(|outbox| {
            while outbox.check_room().is_ok() {
                let Some(reply) = state.sender.poll_reply(now) else {
                    return true;
                };
                push_reply(outbox, &reply);
            }
            false
        })
    }

    fn close(&self) {
        let now = self.client.shared().clock.now();
        self.state().sender.close(now);
        self.has_changed.notify_one();
    }
}

fn push_reply(outbox: &mut Outbox, reply: &Reply) {
    let status = match reply.status {
        Some(status) => Headers::with_status(status.code(), status.description()),
        None => Ok(Headers::new()),
    };
    let (Ok(status), Ok(to)) = (status, reply.to.to_subject()) else {
        return;
    };
    let body = match &reply.body {
        ReplyBody::Payload(payload) => payload.clone(),
        ReplyBody::Heartbeat(heartbeat) => heartbeat.to_json(),
    };
    let lines = HeaderLines::trusted(&reply.lines);
    outbox.push(
        &Publish::new(to, &body).headers(&status).first_lines(lines),
        None,
    );
}

/// The source's task: heartbeats, repairs, and the source's part in reconnects.
struct Service {
    lane: Arc<Lane>,
    requests: Subscription,
    link: watch::Receiver<Link>,
    link_seen: Link,
}

impl Service {
    async fn run(mut self) {
        let mut batch = Vec::new();
        let mut is_deaf = false;
        let lane = Arc::clone(&self.lane);
        let shared = lane.client.shared();
        loop {
            self.note_link();
            self.lane.beat();
            // Before the look, so that room made in between is not missed.
            let has_room = shared.room.notified();
            tokio::pin!(has_room);
            has_room.as_mut().enable();
            let has_answered_all = self.lane.answer();
            let due = {
                let mut state = self.lane.state();
                if self.link_seen == Link::Closed || state.sender.is_finished(shared.clock.now()) {
                    break;
                }
                state.armed = state.sender.poll_timeout().unwrap_or(Duration::MAX);
                shared.clock.instant(state.armed)
            };
            tokio::select! {
                count = self.requests.next_batch(&mut batch, 256), if !is_deaf => {
                    // Without the right to hear requests there are still heartbeats.
                    is_deaf = self.requests.refusal().is_some();
                    if count == 0 && !is_deaf {
                        break;
                    }
                }
                () = sleep_until(due) => {}
                () = self.lane.has_changed.notified() => {}
                () = has_room, if !has_answered_all => {}
                changed = self.link.changed() => {
                    if changed.is_err() {
                        break;
                    }
                }
            }
            let now = shared.clock.now();
            let mut state = self.lane.state();
            for request in batch.drain(..) {
                state
                    .sender
                    .handle_request(now, request.reply(), request.payload());
            }
        }
        // Whoever waits for the end sees it, whether there was time for the linger or not.
        self.lane.is_finished.send_replace(true);
    }

    fn note_link(&mut self) {
        let link = *self.link.borrow_and_update();
        if link == self.link_seen {
            return;
        }
        let was_up = matches!(self.link_seen, Link::Up(_));
        self.link_seen = link;
        let now = self.lane.client.shared().clock.now();
        let mut state = self.lane.state();
        if was_up {
            state.sender.handle_disconnected();
        }
        if matches!(link, Link::Up(_)) {
            state.sender.handle_connected(now);
        }
    }
}

/// Microseconds since 1970, and more than every epoch of this process before.
fn new_epoch() -> u64 {
    let now = unix_micros();
    let next = |last: u64| now.max(last.saturating_add(1));
    let last = LAST_EPOCH.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
        Some(next(last))
    });
    next(last.unwrap_or_default())
}
