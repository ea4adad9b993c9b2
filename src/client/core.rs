//! Session, mailboxes and requests: what the driver's task and the handles change under one lock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::session::{Event, Outbox, Refused, Route, Session, Slots};
use crate::wire::Message;

use super::events::EventSender;
use super::mailbox::{EndReason, EpisodeEnd, Mailbox};
use super::pending::PendingRequests;

/// A mailbox that got less than this share of a read buffer keeps copies of its messages instead.
const BUFFER_SHARE_MIN: usize = 8;

/// Batches kept for the next read, and messages that each of them has room for at most, unless it was
/// at least half full.
const SPARE_BATCHES_MAX: usize = 64;
const SPARE_BATCH_MESSAGES_MAX: usize = 4_096;

/// The mailbox key that stands for "replies to our requests".
pub(super) const REPLIES: u64 = u64::MAX;

/// The mark of a mailbox that got nothing out of the read buffer in use.
const NO_SHARE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Core {
    pub(super) session: Session,
    mailboxes: Slots<Entry>,
    /// Mailboxes that got something out of the read buffer in use.
    sharers: Vec<Sharer>,
    /// Of these, the ones whose batch is not yet in their mailbox.
    touched: Vec<usize>,
    spare_batches: Vec<VecDeque<Message>>,
    pub(super) requests: PendingRequests,
    /// Callers that wait for the answers to PINGs.
    pings: BTreeMap<u64, watch::Sender<Option<Duration>>>,
    /// Tells whoever drains that a mailbox may be over.
    emptied: Arc<Notify>,
    events: EventSender,
    blocked: Option<Blocked>,
    totals: Totals,
}

/// A mailbox that shall lose nothing is full: nothing is read.
#[derive(Debug)]
struct Blocked {
    key: u64,
    /// When the driver learned of it.
    since: Option<Duration>,
}

/// Becomes true with a PONG; the sender is gone when its connection is.
pub(super) type Pong = watch::Receiver<Option<Duration>>;

/// Counts of messages that came, in header and payload bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) received_messages: u64,
    pub(super) received_bytes: u64,
    pub(super) dropped_messages: u64,
    pub(super) unrouted_messages: u64,
}

#[derive(Debug)]
struct Entry {
    mailbox: Arc<Mailbox>,
    /// Where it stands among the sharers.
    share: u32,
    /// Whether it goes on until the end of a drain.
    drains_last: bool,
}

#[derive(Debug)]
struct Sharer {
    key: u64,
    /// The first message, while it is the only one: where thousands of mailboxes get one each, none
    /// of them needs memory for a batch.
    lone: Option<Message>,
    batch: VecDeque<Message>,
    batch_bytes: usize,
    ends: bool,
    /// What is in its mailbox already.
    messages: usize,
    bytes: usize,
    /// Messages and bytes after which nothing more is to be read, if there is such a bound.
    room: Option<(usize, usize)>,
}

impl Sharer {
    /// Puts the first message into a batch.
    fn begin(&mut self, spare_batches: &mut Vec<VecDeque<Message>>) {
        if self.batch.capacity() == 0 {
            self.batch = spare_batches.pop().unwrap_or_default();
        }
        self.batch.extend(self.lone.take());
    }
}

impl Core {
    pub(super) const fn new(session: Session, events: EventSender, emptied: Arc<Notify>) -> Self {
        Self {
            session,
            mailboxes: Slots::new(0),
            sharers: Vec::new(),
            touched: Vec::new(),
            spare_batches: Vec::new(),
            requests: PendingRequests::new(),
            pings: BTreeMap::new(),
            emptied,
            events,
            blocked: None,
            totals: Totals {
                received_messages: 0,
                received_bytes: 0,
                dropped_messages: 0,
                unrouted_messages: 0,
            },
        }
    }

    /// Adds a mailbox; `None` when 2^32 are alive.
    pub(super) fn add_mailbox(&mut self, mailbox: Arc<Mailbox>, drains_last: bool) -> Option<u64> {
        self.mailboxes.insert(Entry {
            mailbox,
            share: NO_SHARE,
            drains_last,
        })
    }

    /// Takes a mailbox out of the table without ending it.
    pub(super) fn remove_mailbox(&mut self, key: u64) {
        self.mailboxes.remove(key);
    }

    /// Takes a message of this link; [`Core::hand_over`] wakes the subscribers.
    pub(super) fn receive(&mut self, link: u64, message: Message) {
        if !self.session.is_moving() {
            return self.deliver(message);
        }
        if let Some(message) = self.session.handle_message(link, message) {
            self.deliver(message);
        }
    }

    /// Delivers the messages that waited while the session moved.
    pub(super) fn deliver_held(&mut self) {
        let mut has_any = false;
        while let Some(message) = self.session.poll_message() {
            self.deliver(message);
            has_any = true;
        }
        if has_any {
            self.hand_over();
        }
    }

    /// Answers the PINGs whose PONGs waited for these messages, and for what was told of the move.
    pub(super) fn answer_held(&mut self, now: Duration) {
        if let Some(number) = self.session.poll_answered() {
            self.answer_pings(now, number);
        }
    }

    /// Puts a message where it belongs.
    fn deliver(&mut self, message: Message) {
        let totals = &mut self.totals;
        totals.received_messages = totals.received_messages.saturating_add(1);
        let bytes = u64::try_from(message.body_len()).unwrap_or(u64::MAX);
        totals.received_bytes = totals.received_bytes.saturating_add(bytes);
        let route = message.sid_number().map(|sid| self.session.route(sid));
        let Some(Route::Mailbox {
            mailbox: key,
            is_last,
        }) = route
        else {
            totals.unrouted_messages = totals.unrouted_messages.saturating_add(1);
            return;
        };
        if key == REPLIES {
            if let Some((key, message)) = self.requests.answer(message) {
                self.share_out(key, message, false);
            }
            return;
        }
        self.share_out(key, message, is_last);
    }

    /// Puts a message into the batch of its mailbox.
    fn share_out(&mut self, key: u64, message: Message, is_last: bool) {
        let totals = &mut self.totals;
        let Some(entry) = self.mailboxes.get_mut(key) else {
            totals.unrouted_messages = totals.unrouted_messages.saturating_add(1);
            return;
        };
        if entry.share == NO_SHARE {
            entry.share = u32::try_from(self.sharers.len()).unwrap_or(NO_SHARE);
            self.sharers.push(Sharer {
                key,
                lone: None,
                batch: VecDeque::new(),
                batch_bytes: 0,
                ends: false,
                messages: 0,
                bytes: 0,
                room: None,
            });
        }
        let share = entry.share as usize;
        let Some(sharer) = self.sharers.get_mut(share) else {
            return;
        };
        let is_first = sharer.batch.is_empty() && sharer.lone.is_none();
        if is_first {
            self.touched.push(share);
            sharer.room = entry.mailbox.room();
        }
        let len = message.frame_len();
        sharer.batch_bytes = sharer.batch_bytes.saturating_add(len);
        sharer.ends |= is_last;
        if let Some((messages, bytes)) = &mut sharer.room {
            *messages = messages.saturating_sub(1);
            *bytes = bytes.saturating_sub(len);
            if (*messages == 0 || *bytes == 0) && self.blocked.is_none() {
                entry.mailbox.set_blocking(true);
                self.blocked = Some(Blocked { key, since: None });
                let sid = message.sid_number().unwrap_or_default();
                let filter = self.session.filter(sid).unwrap_or_default().to_owned();
                tell(&self.events, Event::ReadingStopped { filter, sid });
            }
        }
        if is_first {
            sharer.lone = Some(message);
            return;
        }
        if sharer.batch.is_empty() {
            sharer.begin(&mut self.spare_batches);
        }
        sharer.batch.push_back(message);
    }

    /// Returns true when nothing more is to be read for now.
    pub(super) const fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// Returns true while a subscriber has to make room before anything is read.
    pub(super) fn stays_blocked(&mut self, now: Duration) -> bool {
        let Some(blocked) = &mut self.blocked else {
            return false;
        };
        let since = *blocked.since.get_or_insert(now);
        let mailbox = self.mailboxes.get(blocked.key);
        let mailbox = mailbox.map(|entry| &entry.mailbox);
        if mailbox.is_some_and(|mailbox| !mailbox.has_room()) {
            return true;
        }
        if let Some(mailbox) = mailbox {
            mailbox.set_blocking(false);
        }
        self.blocked = None;
        let held = now.saturating_sub(since);
        tell(&self.events, Event::ReadingResumed { held });
        false
    }

    /// Moves what was delivered into the mailboxes, one push and one wake for each, and ends those
    /// that the server refused.
    pub(super) fn hand_over(&mut self) {
        while let Some(share) = self.touched.pop() {
            let Some(sharer) = self.sharers.get_mut(share) else {
                continue;
            };
            let Some(entry) = self.mailboxes.get(sharer.key) else {
                sharer.lone = None;
                sharer.batch.clear();
                continue;
            };
            let is_lone = sharer.lone.is_some();
            if is_lone {
                sharer.begin(&mut self.spare_batches);
            }
            let session = &self.session;
            let filter = |sid| session.filter(sid).unwrap_or_default().to_owned();
            sharer.messages = sharer.messages.saturating_add(sharer.batch.len());
            sharer.bytes = sharer.bytes.saturating_add(sharer.batch_bytes);
            let batch_bytes = std::mem::take(&mut sharer.batch_bytes);
            let pushed = entry.mailbox.push(&mut sharer.batch, batch_bytes, filter);
            // The next one that is alone takes the same memory.
            if is_lone
                && sharer.batch.capacity() <= SPARE_BATCH_MESSAGES_MAX
                && self.spare_batches.len() < SPARE_BATCHES_MAX
            {
                self.spare_batches.push(std::mem::take(&mut sharer.batch));
            }
            self.totals.dropped_messages =
                self.totals.dropped_messages.saturating_add(pushed.dropped);
            if let Some(episode) = pushed.begun {
                tell(
                    &self.events,
                    Event::SlowConsumer {
                        filter: episode.filter,
                        sid: episode.sid,
                        dropped_before: episode.dropped_before,
                    },
                );
            }
            tell_over(&self.events, pushed.over);
            if sharer.ends {
                let key = sharer.key;
                self.end_mailbox(key);
            }
        }
        while let Some(refused) = self.session.poll_refused() {
            self.refuse(refused);
        }
    }

    /// The read buffer of `len` bytes is used up. Where a few messages of it still wait, they must not
    /// keep all of it.
    pub(super) fn leave_buffer(&mut self, len: usize) {
        let bytes_min = len.checked_div(BUFFER_SHARE_MIN).unwrap_or_default();
        for sharer in &mut self.sharers {
            let capacity = sharer.batch.capacity();
            let messages_max = sharer.messages.saturating_mul(2);
            if capacity > 0
                && capacity <= messages_max.max(SPARE_BATCH_MESSAGES_MAX)
                && self.spare_batches.len() < SPARE_BATCHES_MAX
            {
                sharer.batch.clear();
                self.spare_batches.push(std::mem::take(&mut sharer.batch));
            }
            let Some(entry) = self.mailboxes.get_mut(sharer.key) else {
                continue;
            };
            entry.share = NO_SHARE;
            if sharer.bytes < bytes_min {
                entry.mailbox.detach(sharer.messages);
            }
        }
        self.sharers.clear();
        self.touched.clear();
    }

    /// Waits for the PONG to the PING of that number.
    pub(super) fn await_pong(&mut self, number: u64) -> Pong {
        let answered = self.pings.entry(number);
        answered
            .or_insert_with(|| watch::Sender::new(None))
            .subscribe()
    }

    /// The PING with this number was answered, and so were all before it.
    pub(super) fn answer_pings(&mut self, now: Duration, number: u64) {
        while let Some(entry) = self.pings.first_entry() {
            if *entry.key() > number {
                return;
            }
            entry.remove().send_replace(Some(now));
        }
    }

    /// PINGs up to this number that have no answer were lost with their connection.
    pub(super) fn drop_pings(&mut self, settled: u64) {
        while let Some(entry) = self
            .pings
            .first_entry()
            .filter(|entry| *entry.key() <= settled)
        {
            entry.remove();
        }
    }

    /// The connection is gone.
    pub(super) fn fail_requests(&mut self) {
        for mailbox in self.requests.handle_disconnected() {
            self.end_mailbox(mailbox);
        }
    }

    /// Ends every mailbox and request.
    pub(super) fn end_all(&mut self) {
        self.end_mailboxes(|_| true);
        self.requests.end_all();
        self.pings.clear();
    }

    /// Ends the mailboxes that drain first.
    pub(super) fn end_drained(&mut self) {
        self.end_mailboxes(|entry| !entry.drains_last);
    }

    fn end_mailboxes(&mut self, is_meant: impl Fn(&Entry) -> bool) {
        let meant = self.mailboxes.iter().filter(|(_, entry)| is_meant(entry));
        let keys: Vec<u64> = meant.map(|(key, _)| key).collect();
        for key in keys {
            self.end_mailbox(key);
        }
    }

    /// Ends the mailbox after what was delivered to it.
    pub(super) fn end_mailbox(&mut self, key: u64) {
        if let Some(entry) = self.mailboxes.remove(key) {
            tell_over(&self.events, entry.mailbox.end());
            self.emptied.notify_waiters();
        }
    }

    /// Asks the server to stop, except for answers and for what drains last; returns what drains.
    pub(super) fn drain_first(&mut self, outbox: &mut Outbox) -> Vec<Arc<Mailbox>> {
        let mailboxes = &self.mailboxes;
        let is_kept = |key| {
            let entry = mailboxes.get(key);
            key == REPLIES || entry.is_some_and(|entry| entry.drains_last)
        };
        self.session.drain_others(is_kept, outbox);
        mailboxes
            .iter()
            .filter(|(_, entry)| !entry.drains_last)
            .map(|(_, entry)| Arc::clone(&entry.mailbox))
            .collect()
    }

    pub(super) const fn totals(&self) -> Totals {
        self.totals
    }

    pub(super) fn timeout(&self) -> Option<Duration> {
        let (session, request) = (self.session.poll_timeout(), self.requests.poll_timeout());
        session.into_iter().chain(request).min()
    }

    fn refuse(&mut self, refused: Refused) {
        match refused {
            Refused::Message { subject, refusal } => {
                if let Some(mailbox) = self.requests.refuse(&subject, refusal) {
                    self.end_mailbox(mailbox);
                }
            }
            Refused::Subscription {
                mailbox: REPLIES,
                refusal,
                ..
            } => {
                // The next request asks for another inbox, and hears at once if it is refused.
                if let Some(sid) = refusal.sid {
                    self.session.forget(sid);
                }
                for mailbox in self.requests.refuse_all(refusal) {
                    self.end_mailbox(mailbox);
                }
            }
            Refused::Subscription {
                mailbox,
                is_aside,
                refusal,
            } => {
                let Some(entry) = self.mailboxes.get(mailbox) else {
                    return;
                };
                if is_aside {
                    return entry.mailbox.note_aside(refusal);
                }
                let reason = EndReason::Refused(Arc::new(refusal));
                if self.session.restores_refused() {
                    return entry.mailbox.note_reason(reason);
                }
                tell_over(&self.events, entry.mailbox.end_because(reason));
                self.mailboxes.remove(mailbox);
                self.emptied.notify_waiters();
            }
        }
    }
}

/// Tells an event to whoever listens, and to the log.
pub(super) fn tell(events: &EventSender, event: Event) {
    match &event {
        Event::Disconnected { .. }
        | Event::ServerError { .. }
        | Event::SubscriptionRefused(_)
        | Event::PublishRefused(_)
        | Event::PayloadTooLarge { .. }
        | Event::SlowConsumer { .. }
        | Event::ReadingStopped { .. }
        | Event::Closed {
            reason: Some(_), ..
        } => tracing::warn!(?event),
        Event::Connected { .. }
        | Event::Moved(_)
        | Event::LameDuck
        | Event::SlowConsumerOver { .. }
        | Event::ReadingResumed { .. }
        | Event::Closed { reason: None, .. } => tracing::info!(?event),
        Event::DialFailed { .. }
        | Event::ServersDiscovered { .. }
        | Event::Draining { .. }
        | Event::Drained { .. } => tracing::debug!(?event),
    }
    events.send(event);
}

pub(super) fn tell_over(events: &EventSender, over: Option<EpisodeEnd>) {
    if let Some(over) = over {
        let event = Event::SlowConsumerOver {
            filter: over.episode.filter,
            sid: over.episode.sid,
            dropped: over.dropped,
            dropped_bytes: over.dropped_bytes,
        };
        tell(events, event);
    }
}
