//! A subscriber that checks numbers and asks for what is missing.
//!
//! ```text
//!   data, heartbeats, repairs --> one mailbox --> Receiver --> events
//! ```
//!
//! All three come through one mailbox, so that they keep the order of the connection: then a
//! heartbeat proves what came before it, and so does the end of a repair. Everything happens inside
//! [`SequencedSubscriber::next`]; there is no task.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::{broadcast, watch};
use tokio::time::sleep_until;

use crate::client::Refusal;
use crate::client::clock::Clock;
use crate::client::core::Pong;
use crate::client::error::Error;
use crate::client::inbox;
use crate::client::mailbox::{Dropped, MailboxStatistics};
use crate::client::publication::Publication;
use crate::client::shared::Link;
use crate::client::{Client, Event as ClientEvent, Subscription, new_inbox};
use crate::sequence::{
    Carrier, ControlSubjects, Event, Heartbeat, Lacking, LineStatistics, Receiver, RepairEnd,
    ReplyStatus, SEQ_SUBJECT, STAMP_HEADER,
};
use crate::subject::Filter;
use crate::wire::Message;

use super::answer::Answer;
use super::message::{Cut, SequencedMessage};
use super::subscriber_builder::SequencedSubscriberBuilder;

/// Messages that are checked with one look at the clock.
const BATCH_MESSAGES: usize = 1_024;

/// A program that was busy for less than this has not kept anything waiting.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// The status of a server's answer when nobody serves repairs.
const NO_RESPONDERS: u16 = 503;

/// Receives checked messages, and what is known of those that are missing.
///
/// Dropping it unsubscribes.
#[derive(Debug)]
pub struct SequencedSubscriber {
    client: Client,
    subscription: Subscription,
    data_sid: u64,
    heartbeat_sid: u64,
    answer_sid: u64,
    subjects: ControlSubjects,
    carrier: Carrier,
    filter: Filter,
    inbox: String,
    /// Where is told what may not be asked.
    events: broadcast::Receiver<ClientEvent>,
    /// Whether that was passed on for this connection.
    is_asking_refused: bool,
    receiver: Receiver<SequencedMessage>,
    /// Says when the server has taken the subscription, until it has.
    confirmation: Option<Pong>,
    link: watch::Receiver<Link>,
    link_seen: Link,
    clock: Clock,
    batch: Vec<Message>,
    /// When everything that had come was taken out of the mailbox last.
    taken_at: Duration,
    /// The receiver has seen everything that came until then.
    heard_until: Duration,
    /// When the program was given the turn last.
    left_at: Duration,
    is_over: bool,
    /// The scope that comes by other names here.
    assumed: Option<Filter>,
    misplaced_heartbeats: u64,
    /// What the mailbox dropped, and was not told yet.
    drops: VecDeque<Dropped>,
    /// Messages taken out of the mailbox.
    taken: u64,
}

impl SequencedSubscriber {
    pub(super) fn start(builder: SequencedSubscriberBuilder) -> Result<Self, Error> {
        let SequencedSubscriberBuilder {
            client,
            mut options,
            carrier,
            group,
            subjects,
        } = builder;
        options.is_shared = group.is_some();
        let shared = client.shared();
        let inbox = new_inbox(shared)?;
        let heartbeats = subjects.heartbeats(&options.filter)?;
        let answers = Filter::new(&format!("{inbox}.*"))?;
        // Data before heartbeats, so that the first heartbeat proves something.
        let filters = [
            (carrier.subscription(&options.filter)?, group),
            (heartbeats, None),
            (answers, None),
        ];
        let (subscription, confirmation) = client.subscribe_all(&filters)?;
        let [data_sid, heartbeat_sid, answer_sid] = subscription.sids() else {
            return Err(Error::new(crate::client::ErrorKind::TooMany));
        };
        let clock = shared.clock;
        let now = clock.now();
        let mut link = shared.link.subscribe();
        let link_seen = *link.borrow_and_update();
        let filter = options.filter.clone();
        let assumed = options.assume_scope.clone();
        let mut receiver = Receiver::new(options, inbox::random_seed()?, now);
        if !matches!(link_seen, Link::Up(_)) {
            receiver.handle_disconnected(now);
        }
        let events = shared.events.subscribe();
        Ok(Self {
            confirmation,
            data_sid: *data_sid,
            heartbeat_sid: *heartbeat_sid,
            answer_sid: *answer_sid,
            subscription,
            subjects,
            carrier,
            filter,
            inbox,
            events,
            is_asking_refused: false,
            receiver,
            link,
            link_seen,
            clock,
            client,
            batch: Vec::new(),
            taken_at: now,
            heard_until: now,
            left_at: now,
            is_over: false,
            assumed,
            misplaced_heartbeats: 0,
            drops: VecDeque::new(),
            taken: 0,
        })
    }

    /// Waits for the next event; `None` once the client is closed, or the messages refused, and
    /// everything was told: what is missing then is reported lost, and what order held is delivered.
    ///
    /// Gaps are asked for only while this is being awaited, and time that passes otherwise does not
    /// count towards [`gap_timeout`](crate::sequence::ReceiverOptions::gap_timeout); nor is
    /// anything given up while messages wait that may be it. Cancel safe.
    pub async fn next(&mut self) -> Option<Event<SequencedMessage>> {
        loop {
            if let Some(event) = self.receiver.poll_event() {
                return Some(event);
            }
            if self.is_over {
                return None;
            }
            self.advance().await;
        }
    }

    /// The next event if one is known already.
    pub fn try_next(&mut self) -> Option<Event<SequencedMessage>> {
        self.receiver.poll_event()
    }

    /// Counts of every run of every source that was heard.
    pub fn statistics(&self) -> impl Iterator<Item = LineStatistics> {
        self.receiver.statistics()
    }

    /// Counts of the mailbox in front: what it dropped is missing, and asked for again once half
    /// of its limits is free.
    #[must_use]
    pub fn mailbox(&self) -> MailboxStatistics {
        self.subscription.statistics()
    }

    /// Why the server refused the messages themselves, which has ended it; `None` while it has not.
    ///
    /// Of what else is refused [`Event::Degraded`] tells.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        self.subscription.refusal()
    }

    /// Messages without a stamp.
    #[must_use]
    pub const fn unsequenced(&self) -> u64 {
        self.receiver.unsequenced()
    }

    /// Heartbeats that were not believed, because they came on the subject of another scope than
    /// the one that they announce: whoever sent them may not speak for it. Where
    /// [`assume_scope`](crate::sequence::ReceiverOptions::assume_scope) says that subjects come by
    /// other names, this is not looked at.
    #[must_use]
    pub const fn misplaced_heartbeats(&self) -> u64 {
        self.misplaced_heartbeats
    }

    /// Messages, heartbeats and answers with a malformed stamp.
    #[must_use]
    pub const fn bad_stamps(&self) -> u64 {
        self.receiver.bad_stamps()
    }

    /// Returns true when no number is undecided.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.receiver.is_settled()
    }

    /// Returns true when at least one source was heard, all have ended, nothing is undecided,
    /// and every event was taken.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.receiver.has_ended()
    }

    /// Waits for bytes, for time or for the connection, and lets the receiver know.
    async fn advance(&mut self) {
        self.note_refusals();
        self.note_confirmation();
        self.note_pause();
        self.ask();
        let due = self.receiver.poll_timeout().unwrap_or(Duration::MAX);
        let due = self.clock.instant(due);
        let Self {
            subscription,
            batch,
            clock,
            taken_at,
            heard_until,
            left_at,
            link,
            ..
        } = self;
        let clock = *clock;
        let presence = Presence { clock, left_at };
        let taking = poll_fn(move |cx| {
            // Dropped with the wait, however it ends.
            let _ = &presence;
            // Before the look: what comes in between came later.
            let now = clock.now();
            let was_empty_handed = subscription.is_empty_handed();
            let Poll::Ready(count) = subscription.poll_batch(cx, batch, BATCH_MESSAGES) else {
                *heard_until = now;
                // Looked at behind the place for the waker, so that none goes unnoticed.
                return if subscription.has_asides() {
                    Poll::Ready(None)
                } else {
                    Poll::Pending
                };
            };
            if was_empty_handed {
                *taken_at = now;
            }
            Poll::Ready(Some(count))
        });
        tokio::select! {
            // What waits may be what time is running out for.
            biased;
            count = taking => match count {
                Some(count) => self.take_batch(count),
                None => self.note_refusals(),
            },
            () = sleep_until(due) => {}
            changed = link.changed() => {
                if changed.is_err() {
                    self.is_over = true;
                }
            }
        }
        if self.is_over {
            return self.receiver.finish(self.clock.now());
        }
        self.receiver.handle_timeout(self.heard_until);
        // What was found out is asked for before the caller looks at it.
        self.ask();
    }

    fn take_batch(&mut self, count: usize) {
        self.is_over = count == 0;
        // What is in the batch may be the first sign of a run that began after it.
        self.note_confirmation();
        let now = self.clock.now();
        self.receiver.handle_heard_until(self.heard_until);
        let mut batch = std::mem::take(&mut self.batch);
        // Asked for behind the batch: what was dropped before it is among them.
        self.drops.extend(self.subscription.take_drops());
        for message in batch.drain(..) {
            self.note_drops(now);
            self.take(now, message);
            self.taken = self.taken.saturating_add(1);
        }
        self.batch = batch;
        self.note_drops(now);
        if self.receiver.is_waiting_for_room() && self.subscription.has_room() {
            self.receiver.handle_room(now);
        }
        if self.subscription.is_empty_handed() {
            self.heard_until = self.taken_at;
        }
    }

    /// Tells what the mailbox has dropped at this place.
    fn note_drops(&mut self, now: Duration) {
        while let Some(Dropped { at, count }) = self.drops.front().copied()
            && at <= self.taken
        {
            self.drops.pop_front();
            self.receiver.handle_dropped(now, count);
        }
    }

    /// While the program was busy nothing was asked for.
    fn note_pause(&mut self) {
        let now = self.clock.now();
        let pause = now.saturating_sub(self.left_at);
        if pause >= PAUSE_MIN {
            self.receiver.handle_pause(now, pause);
            self.left_at = now;
        }
    }

    /// Tells what the server has refused that there is a way without.
    fn note_refusals(&mut self) {
        // Before the link: what was refused on the next connection is news of that.
        let refusals = self.subscription.take_asides();
        self.note_link();
        for refusal in refusals {
            let lacking = if refusal.sid == Some(self.heartbeat_sid) {
                Lacking::Heartbeats
            } else {
                Lacking::Answers
            };
            self.receiver.handle_refused(lacking, refusal.text);
        }
        loop {
            match self.events.try_recv() {
                Ok(ClientEvent::PublishRefused(refusal)) if !self.is_asking_refused => {
                    if self.subjects.is_request(&refusal.subject) {
                        self.is_asking_refused = true;
                        let lacking = Lacking::Requests;
                        self.receiver.handle_refused(lacking, refusal.text);
                    }
                }
                Ok(_) | Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn note_link(&mut self) {
        let link = *self.link.borrow_and_update();
        if link == self.link_seen {
            return;
        }
        let was_up = matches!(self.link_seen, Link::Up(_));
        self.link_seen = link;
        let now = self.clock.now();
        self.is_asking_refused = false;
        if was_up {
            self.receiver.handle_disconnected(now);
        }
        if matches!(link, Link::Up(_)) {
            self.receiver.handle_connected(now);
        }
    }

    /// Learns when the server had taken the subscription; asks again after a loss.
    fn note_confirmation(&mut self) {
        if self.receiver.is_subscribed() {
            return;
        }
        let confirmation = self.confirmation.as_ref();
        if let Some(at) = confirmation.and_then(|pong| *pong.borrow()) {
            self.receiver.handle_subscribed(at);
        } else if confirmation.is_none_or(|pong| pong.has_changed().is_err()) {
            self.confirmation = self.client.shared().ping().ok();
        }
    }

    fn ask(&mut self) {
        let now = self.clock.now();
        while let Some(request) = self.receiver.poll_request(now) {
            if !self.subscription.is_held(self.answer_sid) {
                // What is asked for would come to nobody.
                continue;
            }
            let reply = format!("{}.{}", self.inbox, request.line);
            let (source, epoch) = (&request.source, request.epoch);
            let subject = if request.is_for_archive {
                self.subjects.archive(source, epoch)
            } else {
                self.subjects.repair(source, epoch)
            };
            let Ok(subject) = subject else {
                continue;
            };
            let publication = Publication::new(&subject, request.kind.to_payload());
            let publication = publication.and_then(|publication| publication.reply(&reply));
            // A request that the outbox has no room for is repeated like one that got lost.
            let _ = publication.and_then(|publication| self.client.try_send(publication));
        }
    }

    fn take(&mut self, now: Duration, message: Message) {
        match message.sid_number() {
            Some(sid) if sid == self.data_sid => self.take_data(now, message),
            Some(sid) if sid == self.heartbeat_sid => self.take_heartbeat(now, &message),
            _ => self.take_answer(now, &message),
        }
    }

    fn take_data(&mut self, now: Duration, mut message: Message) {
        if self.receiver.may_hold() {
            // What is held must not keep a whole read buffer.
            message = message.detached();
        }
        // A stream delivers in its own order: its consumers have numbers of their own.
        let is_of_stream = message
            .reply()
            .is_some_and(|reply| reply.starts_with(b"$JS.ACK."));
        if is_of_stream {
            let cut = Cut::none(&message);
            let message = SequencedMessage::published(message, cut);
            return self.receiver.handle_message(now, None, message);
        }
        let header = self
            .carrier
            .has_headers()
            .then(|| message.headers())
            .flatten();
        let header = header.and_then(|block| block.first(STAMP_HEADER));
        let carried = self
            .carrier
            .read(header, message.subject(), message.payload());
        // The stamp is taken out before the message moves.
        let mut stamp = [0_u8; STAMP_BYTES_MAX];
        let stamp = carried.stamp.map(|text| {
            let len = text.len().min(STAMP_BYTES_MAX);
            let (head, _) = stamp.split_at_mut(len);
            head.copy_from_slice(text.get(..len).unwrap_or_default());
            &*head
        });
        let cut = Cut::new(&message, &carried);
        let message = SequencedMessage::published(message, cut);
        self.receiver.handle_message(now, stamp, message);
    }

    fn take_heartbeat(&mut self, now: Duration, message: &Message) {
        let answer = Answer::new(message).and_then(Answer::heartbeat);
        if let Some((stamp, heartbeat)) = answer
            && self.is_in_place(message, &heartbeat)
        {
            self.receiver.handle_heartbeat(now, stamp, &heartbeat);
        }
    }

    /// Whether a heartbeat came on the subject of the scope that it announces. Who may publish
    /// there is for the server to say; elsewhere anybody could announce that scope.
    fn is_in_place(&mut self, message: &Message, heartbeat: &Heartbeat) -> bool {
        if self.assumed.is_some() {
            return true;
        }
        let subject = self.subjects.heartbeat(&heartbeat.scope);
        let is_in_place = subject.is_ok_and(|it| it.as_str().as_bytes() == message.subject());
        if !is_in_place {
            if self.misplaced_heartbeats == 0 {
                let subject = String::from_utf8_lossy(message.subject());
                let scope = heartbeat.scope.as_str();
                tracing::warn!(%subject, scope, "heartbeat of another scope than its subject");
            }
            self.misplaced_heartbeats = self.misplaced_heartbeats.saturating_add(1);
        }
        is_in_place
    }

    fn take_answer(&mut self, now: Duration, message: &Message) {
        let token = message.subject().rsplit(|byte| *byte == b'.').next();
        let line = token.and_then(|token| std::str::from_utf8(token).ok()?.parse().ok());
        let (Some(line), Some(answer)) = (line, Answer::new(message)) else {
            return;
        };
        let block = answer.block;
        if let Some(status) = block.status().ok().flatten() {
            if status.code == NO_RESPONDERS {
                self.receiver.handle_no_responders(now, line);
                return;
            }
            // Any other status says nothing: the request is repeated like one that got lost.
            if let Ok(end) = RepairEnd::read(status.code, |name| block.first(name)) {
                if end.status != ReplyStatus::WrongEpoch {
                    self.receiver.handle_repair_end(now, line, &end);
                } else if let Some((stamp, heartbeat)) = answer.heartbeat() {
                    // "That run is over" comes with a heartbeat of the present one.
                    self.receiver
                        .handle_wrong_epoch(now, line, stamp, &heartbeat);
                }
            }
            return;
        }
        match (block.first(STAMP_HEADER), block.first(SEQ_SUBJECT)) {
            (Some(stamp), Some(subject)) => {
                // A repair has the name that its source gave it.
                let assumed = self.assumed.as_ref();
                let is_meant = assumed.is_some_and(|scope| scope.matches(subject));
                if !is_meant && !self.filter.matches(subject) {
                    return;
                }
                let repair = SequencedMessage::repaired(message.clone(), answer.wrapped_len);
                self.receiver.handle_repair(now, line, stamp, repair);
            }
            _ => {
                if let Some((stamp, heartbeat)) = answer.heartbeat() {
                    self.receiver
                        .handle_heartbeat_answer(now, line, stamp, &heartbeat);
                }
            }
        }
    }
}

/// The program is with us; drop it when the program has the turn again.
#[derive(Debug)]
struct Presence<'a> {
    clock: Clock,
    left_at: &'a mut Duration,
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        *self.left_at = self.clock.now();
    }
}

/// The longest stamp: a name, three numbers and three dots. One byte more makes it malformed.
const STAMP_BYTES_MAX: usize = 32 + 3 * 17 + 1;
