//! What the driver's task and the handles share.
//!
//! Two locks. `core` holds the session and the mailboxes, `outbox` what is to be written; whoever
//! needs both takes `core` first. Publishing takes `outbox` alone.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::sync::{Notify, watch};

use crate::session::{DrainStage, Event, Outbox, Session, WriteBatch};
use crate::subject::{Filter, QueueGroup};
use crate::wire::encode::Publish;

use super::clock::Clock;
use super::core::{Core, Pong, REPLIES, tell};
use super::error::{Error, ErrorKind};
use super::events::EventSender;
use super::mailbox::{Mailbox, Policy};
use super::new_inbox;
use super::options::ConnectOptions;
use super::pending::{Answer, Sink, text};
use super::sequenced::Common;

/// Whether there is a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Down,
    /// Up, for the n-th time.
    Up(u64),
    Closed,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) options: ConnectOptions,
    core: Mutex<Core>,
    outbox: Mutex<OutboxCell>,
    /// Wakes publishers when the outbox has room again.
    pub(super) room: Notify,
    pub(super) events: EventSender,
    pub(super) link: watch::Sender<Link>,
    payload_bytes_max: AtomicUsize,
    has_headers: AtomicBool,
    is_publishing_over: AtomicBool,
    is_draining: AtomicBool,
    /// Wakes those who wait until a mailbox is over.
    pub(super) emptied: Arc<Notify>,
    /// Wakes whoever waits until no request is pending.
    pub(super) answered: Notify,
    /// What a subscription without limits of its own takes.
    pub(super) policy: Arc<Policy>,
    /// Where the driver runs, and what is to go on when its caller does not wait.
    pub(super) runtime: Option<tokio::runtime::Handle>,
    last_failure: Mutex<Option<Event>>,
    pub(super) sources: Common,
}

#[derive(Debug)]
pub(super) struct OutboxCell {
    pub(super) outbox: Outbox,
    /// What is still to be written after the owner has closed the session.
    pub(super) last_words: WriteBatch,
    pub(super) waker: Option<Waker>,
}

/// What a new mailbox receives, and how.
#[derive(Debug)]
pub(super) struct Interest<'a> {
    /// What it subscribes to.
    pub(super) filters: &'a [(Filter, Option<QueueGroup>)],
    pub(super) policy: Arc<Policy>,
    pub(super) delivered_max: Option<u64>,
    /// Whether a round trip tells that the server has taken it.
    pub(super) is_confirmed: bool,
    /// Whether it goes on until the end of a drain.
    pub(super) drains_last: bool,
}

/// A mailbox and its subscriptions.
#[derive(Debug)]
pub(super) struct Subscribed {
    pub(super) key: u64,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) sids: Vec<u64>,
    /// Tells that the server has taken it.
    pub(super) confirmation: Option<Pong>,
}

impl Shared {
    pub(super) fn new(options: ConnectOptions, session: Session, clock: Clock) -> Self {
        let outbox = Outbox::new(options.outbox);
        let events = EventSender::default();
        let emptied = Arc::new(Notify::new());
        let policy = Arc::new(Policy {
            limits: options.mailbox,
            ..Policy::default()
        });
        Self {
            clock,
            options,
            core: Mutex::new(Core::new(session, events.clone(), Arc::clone(&emptied))),
            outbox: Mutex::new(OutboxCell {
                outbox,
                last_words: WriteBatch::default(),
                waker: None,
            }),
            room: Notify::new(),
            events,
            link: watch::Sender::new(Link::Down),
            payload_bytes_max: AtomicUsize::new(usize::MAX),
            has_headers: AtomicBool::new(true),
            is_publishing_over: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            emptied,
            answered: Notify::new(),
            policy,
            runtime: tokio::runtime::Handle::try_current().ok(),
            last_failure: Mutex::new(None),
            sources: Common::new(),
        }
    }

    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    pub(super) fn outbox(&self) -> MutexGuard<'_, OutboxCell> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `act` on session and outbox together, then lets the driver look at both.
    pub(super) fn with_both<T>(&self, act: impl FnOnce(&mut Core, &mut Outbox) -> T) -> T {
        let mut core = self.core();
        let mut cell = self.outbox();
        let result = act(&mut core, &mut cell.outbox);
        let waker = cell.waker.take();
        drop(cell);
        drop(core);
        wake(waker);
        result
    }

    /// What the server takes in one message, headers included.
    pub(super) fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max.load(Ordering::Relaxed)
    }

    /// Publishing fails from now on.
    pub(super) fn end_publishing(&self) {
        self.is_publishing_over.store(true, Ordering::Release);
        self.room.notify_waiters();
    }

    /// Closes the session; the driver writes what was published until now.
    pub(super) fn end(&self) {
        self.end_with(|_| None);
    }

    /// [`Shared::end`], and tells what `last` makes of the number of messages that will not be
    /// written: nothing is told behind [`Event::Closed`].
    pub(super) fn end_with(&self, last: impl FnOnce(u64) -> Option<Event>) {
        self.end_publishing();
        let mut core = self.core();
        let mut cell = self.outbox();
        if !core.session.is_closed() {
            let OutboxCell {
                outbox, last_words, ..
            } = &mut *cell;
            outbox.take_last(last_words);
            if let Some(event) = last(outbox.waiting_messages()) {
                self.tell(event);
            }
            core.session.close(outbox);
        }
        let waker = cell.waker.take();
        drop(cell);
        drop(core);
        wake(waker);
    }

    /// Takes over what the last INFO said.
    pub(super) fn note_info(&self, core: &Core) {
        let info = core.session.info();
        self.payload_bytes_max
            .store(info.body_bytes_max(), Ordering::Relaxed);
        self.has_headers.store(info.headers, Ordering::Relaxed);
    }

    /// Fails when the server or the client would not take this frame.
    #[inline]
    pub(super) fn check(&self, frame: &Publish<'_>) -> Result<(), Error> {
        if self.is_publishing_over.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed));
        }
        let (found, max) = (frame.body_len(), self.payload_bytes_max());
        if found > max {
            return Err(Error::new(ErrorKind::PayloadTooLarge { found, max }));
        }
        self.check_line(frame.line_len())?;
        if frame.has_headers() && !self.has_headers.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::HeadersUnsupported));
        }
        Ok(())
    }

    /// Fails when servers would not read a control line with arguments of this length.
    pub(super) fn check_line(&self, found: usize) -> Result<(), Error> {
        let max = self.options.line_bytes_max;
        if found > max {
            return Err(Error::new(ErrorKind::LineTooLong { found, max }));
        }
        Ok(())
    }

    /// Whether the server passes headers on.
    pub(super) fn has_headers(&self) -> bool {
        self.has_headers.load(Ordering::Relaxed)
    }

    /// Queues a message; with `payload`, which must be the same bytes, by reference.
    pub(super) fn append(&self, frame: &Publish<'_>, payload: Option<&Bytes>) -> Result<(), Error> {
        self.check(frame)?;
        Ok(self.with_outbox(|outbox| outbox.publish(frame, payload))?)
    }

    /// Runs `write` on the outbox, then lets the driver look at it.
    #[inline]
    pub(super) fn with_outbox<T>(&self, write: impl FnOnce(&mut Outbox) -> T) -> T {
        let mut cell = self.outbox();
        let result = write(&mut cell.outbox);
        let waker = cell.waker.take();
        drop(cell);
        wake(waker);
        result
    }

    /// Returns true when the link is not to be read until a subscriber has made room. It is not silent
    /// then, but not listened to.
    pub(super) fn is_blocked(&self, link: u64) -> bool {
        let mut core = self.core();
        if !core.is_blocked() {
            return false;
        }
        let now = self.clock.now();
        // A handshake goes on: no message can come with it.
        let is_blocked = core.session.is_receiving(link) && core.stays_blocked(now);
        if is_blocked {
            core.session.handle_standstill(now);
        }
        is_blocked
    }

    /// Lets the driver look whether it can go on.
    pub(super) fn wake_driver(&self) {
        self.with_outbox(|_| ());
    }

    /// The last event that told of something wrong.
    pub(super) fn last_failure(&self) -> MutexGuard<'_, Option<Event>> {
        let last = self.last_failure.lock();
        last.unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells an event to whoever listens.
    pub(super) fn tell(&self, event: Event) {
        if is_failure(&event) {
            *self.last_failure() = Some(event.clone());
        }
        tell(&self.events, event);
    }

    /// Waits until the server has read everything queued so far.
    pub(super) async fn flush(&self) -> Result<(), Error> {
        self.within_request_timeout(self.ping()?).await
    }

    /// Asks the server to say when it has read everything queued so far.
    pub(super) fn ping(&self) -> Result<Pong, Error> {
        self.with_both(|core, outbox| {
            check_pings(outbox)?;
            let number = outbox.ping();
            let number = number.ok_or_else(|| Error::new(ErrorKind::Disconnected))?;
            Ok(core.await_pong(number))
        })
    }

    /// Waits for a PONG, at most for the request timeout.
    pub(super) async fn within_request_timeout(&self, mut answer: Pong) -> Result<(), Error> {
        let answered = answer.wait_for(Option::is_some);
        match tokio::time::timeout(self.options.request_timeout, answered).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::new(ErrorKind::Disconnected)),
            Err(_) => Err(Error::new(ErrorKind::Timeout)),
        }
    }

    /// No more subscriptions from now on; returns false when that was so already.
    pub(super) fn begin_drain(&self) -> bool {
        !self.is_draining.swap(true, Ordering::AcqRel)
    }

    /// How far a drain has come; `None` without one.
    pub(super) fn drain_stage(&self) -> Option<DrainStage> {
        if !self.is_draining.load(Ordering::Acquire) {
            return None;
        }
        Some(if self.is_publishing_over.load(Ordering::Acquire) {
            DrainStage::Publishing
        } else {
            DrainStage::Subscriptions
        })
    }

    /// Makes a mailbox with a subscription for each of its filters.
    pub(super) fn subscribe(&self, interest: &Interest<'_>) -> Result<Subscribed, Error> {
        for (filter, group) in interest.filters {
            let group_len = group.as_ref().map_or(0, |group| group.as_str().len());
            let len = filter.as_str().len().saturating_add(group_len);
            self.check_line(len.saturating_add(SUB_MARGIN_BYTES))?;
        }
        let mailbox = Arc::new(Mailbox::new(Arc::clone(&interest.policy)));
        self.with_both(|core, outbox| {
            if core.session.is_closed() || self.is_draining.load(Ordering::Acquire) {
                return Err(Error::new(ErrorKind::Closed));
            }
            let too_many = || Error::new(ErrorKind::TooMany);
            outbox.check_lines()?;
            if interest.is_confirmed {
                check_pings(outbox)?;
            }
            let key = core
                .add_mailbox(Arc::clone(&mailbox), interest.drains_last)
                .ok_or_else(too_many)?;
            // Alone between two PINGs, so that a refusal that names no subject can only mean it.
            if interest.is_confirmed {
                outbox.ping();
            }
            let mut sids = Vec::with_capacity(interest.filters.len());
            for (filter, group) in interest.filters {
                let (filter, group) = (filter.clone(), group.clone());
                let Some(sid) = core.session.subscribe(filter, group, key, outbox) else {
                    for sid in sids {
                        core.session.unsubscribe(sid, outbox);
                    }
                    core.remove_mailbox(key);
                    return Err(too_many());
                };
                sids.push(sid);
                if let Some(max) = interest.delivered_max
                    && core.session.limit(sid, max, outbox)
                {
                    core.end_mailbox(key);
                }
            }
            if let [main, _, ..] = *sids {
                core.session.join(key, main);
            }
            let mut confirmation = None;
            if interest.is_confirmed
                && let Some(number) = outbox.ping()
            {
                for sid in &sids {
                    core.session.await_confirmation(*sid, number, outbox);
                }
                confirmation = Some(core.await_pong(number));
            }
            Ok(Subscribed {
                key,
                mailbox: Arc::clone(&mailbox),
                sids,
                confirmation,
            })
        })
    }

    /// Whether the server holds a subscription, as far as is known.
    pub(super) fn is_held(&self, sid: u64) -> bool {
        self.core().session.is_held(sid)
    }

    /// Ends subscriptions and their mailbox now.
    pub(super) fn unsubscribe(&self, key: u64, sids: &[u64]) {
        self.with_both(|core, outbox| {
            for sid in sids {
                core.session.unsubscribe(*sid, outbox);
            }
            if sids.len() > 1 {
                core.session.unjoin(key);
            }
            core.end_mailbox(key);
        });
    }

    /// Adds a request to the connection's inbox; returns its key and reply subject.
    pub(super) fn open_request(
        &self,
        subject: &str,
        fails_at_disconnect: bool,
        sink: Sink,
    ) -> Result<(u64, String), Error> {
        self.with_both(|core, outbox| {
            let key = self.open_with(core, outbox, subject, fails_at_disconnect, sink)?;
            let reply = core.requests.reply(key);
            let reply = reply.ok_or_else(|| Error::new(ErrorKind::Closed))?;
            Ok((key, text(reply)))
        })
    }

    /// Adds a request that has one answer and queues it, with `payload` by reference; returns its key.
    /// Without room in the outbox it is added and not queued: then its reply subject comes along.
    pub(super) fn ask(
        &self,
        frame: &Publish<'_>,
        payload: Option<&Bytes>,
        fails_at_disconnect: bool,
        sink: Sink,
    ) -> Result<(u64, Option<String>), Error> {
        self.with_both(|core, outbox| {
            let subject = frame.subject().as_str();
            let key = self.open_with(core, outbox, subject, fails_at_disconnect, sink)?;
            let reply = core.requests.reply(key);
            let reply = reply.ok_or_else(|| Error::new(ErrorKind::Closed))?;
            let frame = frame.inbox(reply);
            let queued = self.check(&frame);
            match queued.and_then(|()| Ok(outbox.publish(&frame, payload)?)) {
                Ok(()) => Ok((key, None)),
                Err(error) if error.is_outbox_full() => Ok((key, Some(text(reply)))),
                Err(error) => {
                    core.requests.close(key);
                    Err(error)
                }
            }
        })
    }

    fn open_with(
        &self,
        core: &mut Core,
        outbox: &mut Outbox,
        subject: &str,
        fails_at_disconnect: bool,
        sink: Sink,
    ) -> Result<u64, Error> {
        if core.session.is_closed() {
            return Err(Error::new(ErrorKind::Closed));
        }
        let too_many = || Error::new(ErrorKind::TooMany);
        if !core.requests.has_inbox() {
            outbox.check_lines()?;
            let inbox = new_inbox(self)?;
            let filter = Filter::new(&format!("{inbox}.*"))?;
            let sid = core.session.subscribe(filter, None, REPLIES, outbox);
            sid.ok_or_else(too_many)?;
            core.requests.set_inbox(inbox);
        }
        let opened = core.requests.open(subject, fails_at_disconnect, sink);
        opened.ok_or_else(too_many)
    }

    /// Adds a request whose answers come to `own_inbox`; returns its key.
    pub(super) fn open_own_request(
        &self,
        subject: &str,
        fails_at_disconnect: bool,
        own_inbox: &str,
        sink: Sink,
    ) -> Result<u64, Error> {
        let requests = &mut self.core().requests;
        let opened = requests.open_own(subject, fails_at_disconnect, own_inbox, sink);
        opened.ok_or_else(|| Error::new(ErrorKind::TooMany))
    }

    /// Takes the outcome of a request that has one answer, or has `cx` woken when there is one.
    pub(super) fn poll_answer(&self, key: u64, cx: &Context<'_>) -> Poll<Answer> {
        self.core().requests.poll_take(key, cx)
    }

    /// Forgets a request; a late answer to it is dropped.
    pub(super) fn close_request(&self, key: u64) {
        let closed = self.core().requests.close(key);
        drop(closed);
        self.note_settled();
    }

    /// Tells whoever drains when no request waits any more.
    pub(super) fn note_settled(&self) {
        if self.is_draining.load(Ordering::Acquire) && self.core().requests.len() == 0 {
            self.answered.notify_waiters();
        }
    }
}

/// Fails when so many PINGs are under way that no more are asked for.
fn check_pings(outbox: &Outbox) -> Result<(), Error> {
    if outbox.pings_out() >= PINGS_OUT_MAX {
        return Err(Error::new(ErrorKind::TooMany));
    }
    Ok(())
}

const fn is_failure(event: &Event) -> bool {
    matches!(
        event,
        Event::Disconnected { .. }
            | Event::DialFailed { .. }
            | Event::ServerError { .. }
            | Event::SubscriptionRefused(_)
            | Event::PublishRefused(_)
            | Event::PayloadTooLarge { .. }
            | Event::Closed {
                reason: Some(_),
                ..
            }
    )
}

/// PINGs without an answer after which callers get no more of their own.
const PINGS_OUT_MAX: usize = 1 << 21;

/// Bytes of a SUB's sid and the blanks around it.
const SUB_MARGIN_BYTES: usize = 24;

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
