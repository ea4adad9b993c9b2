//! A publisher that numbers its messages and repairs what receivers miss.
//!
//! ```text
//!   publish ------\                      under one lock: number, retain, append
//!   heartbeats ----+--> Sender --> outbox
//!   repairs ------/        ^------ requests
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::sleep_until;

use crate::client::Client;
use crate::client::error::{Error, ErrorKind};
use crate::client::inbox;
use crate::client::publication::{Publication, ToPayload};
use crate::sequence::{
    Carrier, ControlSubjects, Dressed, NamePolicy, Outgoing, Prior, SendError, Sender,
    SenderOptions, SenderStatistics, SourceName, Wardrobe,
};
use crate::session::{OutboxError, SHARED_PAYLOAD_BYTES_MIN};
use crate::subject::{Subject, ToSubject};
use crate::wire::{HeaderLines, Headers};

use super::builder::new_epoch;
use super::claim::{Hold, claim, listen};
use super::identity::DurableName;
use super::service::Service;

/// Bytes that a stamp may add to the sizes in a control line.
const LINE_MARGIN_BYTES: usize = 16;

/// Publishes the numbered messages of one source.
///
/// Dropping it ends the source as [`SequencedPublisher::close`] does, in the background: it keeps
/// the connection until the linger is over.
#[derive(Debug)]
pub struct SequencedPublisher {
    pub(super) lane: Arc<Lane>,
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
    /// Whether the end was said. Without a connection it is said on the next, which is waited for
    /// for 60 s; a client that was closed says nothing more.
    pub is_announced: bool,
}

impl SequencedPublisher {
    /// Publishes a message and returns its number; waits while the outbox or the retention is full.
    ///
    /// Cancel safe: a cancelled call has published nothing and taken no number.
    ///
    /// # Errors
    ///
    /// As [`Client::publish`], and [`ErrorKind::Sequence`] for a subject outside the scope or a
    /// message too large to be retained; [`ErrorKind::Fenced`] once another run has taken the name
    /// over. No number was taken then.
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
                Refusal::OutboxFull(full) => full.into(),
                Refusal::RetentionFull(free_at) => SendError::RetentionFull { free_at }.into(),
            })
    }

    /// Ends the source: announces its end three times or more and serves repairs through the linger,
    /// which begins again with each request, 60 s at most. Without a connection it waits for one as
    /// long; closing the client ends the wait.
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
            prior: sender.as_prior(),
            statistics: sender.statistics(),
            is_announced: sender.has_announced_end(),
        }
    }

    /// Ends this run and begins the next of the same name, from number 1. What this run retains is
    /// repaired through its linger, and receivers learn where it has ended.
    ///
    /// One that was fenced takes its name back, without asking.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Sequence`] when there is no higher epoch, because somebody claimed the name with
    /// the highest: the run goes on as it was. Others as
    /// [`SequencedPublisherBuilder::start`](super::SequencedPublisherBuilder::start); then it has ended
    /// and none has begun.
    pub fn reset(&mut self) -> Result<(), Error> {
        let lane = &self.lane;
        let (nonce, epoch) = {
            let state = lane.state();
            let last = state
                .sender
                .epoch()
                .max(state.sender.fenced_by().unwrap_or_default());
            (state.sender.nonce(), new_epoch(last.saturating_add(1))?)
        };
        let hold = match nonce {
            Some(nonce) => Some(Hold {
                nonce,
                notices: listen(&lane.client, &lane.name_subject).subscribe()?,
            }),
            None => None,
        };
        self.succeed(epoch, None, hold)
    }

    /// Claims the source's name again, as
    /// [`SequencedPublisherBuilder::claim`](super::SequencedPublisherBuilder::claim) does, and begins
    /// the next run with it: the way back for one that was fenced.
    ///
    /// Cancel safe: a cancelled call has changed nothing.
    ///
    /// # Errors
    ///
    /// As [`SequencedPublisherBuilder::claim`](super::SequencedPublisherBuilder::claim). The run goes
    /// on as it was unless the name was had and the next run could not begin.
    pub async fn reacquire(&mut self, policy: NamePolicy) -> Result<(), Error> {
        let epoch = new_epoch(self.epoch().saturating_add(1))?;
        let held = claim(&self.lane.client, &self.lane.name_subject, policy, epoch).await?;
        self.succeed(held.epoch, held.prior, Some(held.hold))
    }

    fn succeed(
        &mut self,
        epoch: u64,
        prior: Option<Prior>,
        hold: Option<Hold>,
    ) -> Result<(), Error> {
        self.lane.close();
        let mut options = self.lane.state().sender.successor(epoch);
        options.prior = prior.or(options.prior);
        let (client, subjects) = (self.lane.client.clone(), self.lane.subjects.clone());
        let durable = self.lane.durable.clone();
        self.lane = Lane::open(client, self.lane.carrier, subjects, options, durable, hold)?;
        Ok(())
    }

    /// The run that has taken the source's name over, if one has: publishing fails from then on.
    #[must_use]
    pub fn fenced_by(&self) -> Option<u64> {
        self.lane.state().sender.fenced_by()
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
pub(super) struct Lane {
    pub(super) client: Client,
    pub(super) carrier: Carrier,
    pub(super) state: Mutex<State>,
    pub(super) subjects: ControlSubjects,
    pub(super) heartbeat_subject: Subject,
    pub(super) name_subject: Subject,
    /// Where runs are noted: of this one the end, by its service, and those that follow it.
    pub(super) durable: Option<Arc<Mutex<DurableName>>>,
    /// Wakes the service when its timer is too late.
    pub(super) has_changed: Notify,
    pub(super) is_finished: watch::Sender<bool>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) sender: Sender,
    pub(super) stamp: Vec<u8>,
    /// What has to be written anew to carry it.
    pub(super) wardrobe: Wardrobe,
    /// When the service wakes next by itself.
    pub(super) armed: Duration,
    pub(super) repairing: Repairing,
    /// Retained bytes, as they were counted last.
    pub(super) noted_bytes: usize,
}

/// How many bytes of answers went into what is written next.
#[derive(Debug, Default)]
pub(super) struct Repairing {
    /// Messages that were taken from the outbox when it was counted last.
    pub(super) taken: u64,
    pub(super) bytes: usize,
}

/// Why a message was not appended. It has no number then.
enum Refusal {
    Error(Error),
    OutboxFull(OutboxError),
    /// Until then.
    RetentionFull(Duration),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<OutboxError> for Refusal {
    fn from(error: OutboxError) -> Self {
        match error {
            OutboxError::Full { .. } => Self::OutboxFull(error),
            OutboxError::TooLarge { .. } | OutboxError::Ended => Self::Error(error.into()),
        }
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
    /// Begins a run: listens for repair requests, says hello, and lets the service go on.
    pub(super) fn open(
        client: Client,
        carrier: Carrier,
        subjects: ControlSubjects,
        mut options: SenderOptions,
        durable: Option<Arc<Mutex<DurableName>>>,
        hold: Option<Hold>,
    ) -> Result<Arc<Self>, Error> {
        let (source, epoch) = (&options.source, options.epoch);
        let heartbeat_subject = subjects.heartbeat(&options.scope)?;
        let name_subject = subjects.name(source)?;
        // Whoever holds the name answers for earlier runs, too.
        let repairs = match &hold {
            Some(_) => subjects.repairs(source)?.as_str().to_owned(),
            None => subjects.repair(source, epoch)?.as_str().to_owned(),
        };
        // Receivers may miss what was published last until the very end.
        let requests = client.subscription(&repairs).drains_last().subscribe()?;
        if let Some(durable) = &durable {
            let mut durable = durable.lock().unwrap_or_else(PoisonError::into_inner);
            durable.begin(epoch)?;
        }
        options.nonce = hold.as_ref().map(|hold| hold.nonce);
        let sender = Sender::new(options, inbox::random_seed()?, client.shared().clock.now());
        let lane = Arc::new(Self {
            client,
            carrier,
            state: Mutex::new(State {
                sender,
                stamp: Vec::new(),
                wardrobe: Wardrobe::default(),
                armed: Duration::ZERO,
                repairing: Repairing::default(),
                noted_bytes: 0,
            }),
            subjects,
            heartbeat_subject,
            name_subject,
            durable,
            has_changed: Notify::new(),
            is_finished: watch::Sender::new(false),
        });
        lane.client.shared().sources.begin();
        // The hello goes out before the first message can.
        let notices = hold.map(|hold| hold.notices);
        let service = Service::new(Arc::clone(&lane), requests, notices);
        tokio::spawn(service.run());
        Ok(lane)
    }

    /// Whether the server of now passes on what the carrier needs. One that does not would close the
    /// connection.
    pub(super) fn may_speak(&self) -> bool {
        !self.carrier.has_headers() || self.client.shared().has_headers()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
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
        let margin = LINE_MARGIN_BYTES.saturating_add(self.carrier.subject_bytes_max());
        shared.check_line(frame.line_len().saturating_add(margin))?;
        if publication.headers.is_some_and(Headers::has_status) {
            return Err(Error::new(ErrorKind::Header).into());
        }
        // The server of now need not be the one that the source began with.
        if !self.may_speak() {
            return Err(Error::new(ErrorKind::HeadersUnsupported).into());
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
        let mut state = self.state();
        let State {
            sender,
            stamp,
            wardrobe,
            armed,
            noted_bytes,
            ..
        } = &mut *state;
        let seq = shared.with_outbox(|outbox| {
            outbox.check_room()?;
            stamp.clear();
            let bytes_max = outbox.body_bytes_max();
            let seq = sender.stamp(now, &message, bytes_max, stamp)?;
            // From here on nothing can fail: a number without its message would be a loss.
            let (subject, payload) = (publication.subject, message.payload);
            match self.carrier.dress(stamp, subject, payload, wardrobe) {
                Dressed::Subject(subject) => {
                    outbox.push(&publication.frame_as(subject, payload), shared_payload);
                }
                Dressed::Payload(payload) => {
                    outbox.push(&publication.frame_as(subject, payload), None);
                }
                Dressed::Lines(lines) => {
                    let frame = frame.first_lines(HeaderLines::trusted(lines));
                    outbox.push(&frame, shared_payload);
                }
            }
            Ok::<_, Refusal>(seq)
        })?;
        let bytes_max = shared.options.retained_bytes_max;
        shared.sources.bound(bytes_max, sender, noted_bytes);
        let is_late = sender.poll_timeout().is_some_and(|due| due < *armed);
        drop(state);
        if is_late {
            self.has_changed.notify_one();
        }
        Ok(seq)
    }

    pub(super) fn close(&self) {
        let now = self.client.shared().clock.now();
        self.state().sender.close(now);
        self.has_changed.notify_one();
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let noted = self.state().noted_bytes;
        self.client.shared().sources.end(noted);
    }
}
