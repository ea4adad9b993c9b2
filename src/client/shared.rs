//! What the driver's task and the handles share.
//!
//! Two locks. `core` holds the session and the mailboxes, `outbox` what is to be written; whoever
//! needs both takes `core` first. Publishing takes `outbox` alone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::{Notify, broadcast, oneshot, watch};

use crate::session::{Event, Outbox, Route, Session, Slots, WriteBatch};
use crate::subject::{Filter, QueueGroup};
use crate::wire::Message;
use crate::wire::encode::Publish;

use super::clock::Clock;
use super::error::{Error, ErrorKind};
use super::mailbox::Mailbox;
use super::options::ConnectOptions;

/// Events that may wait for each reader of them; a reader that is further behind is told so.
const EVENTS_MAX: usize = 1_024;

/// A mailbox that got less than this share of a read buffer keeps copies of its messages instead.
const BUFFER_SHARE_MIN: usize = 8;

/// The mailbox key that stands for "replies to our requests".
pub(super) const REPLIES: u64 = u64::MAX;

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
    /// Wakes the driver while it has no socket to poll.
    pub(super) kick: Notify,
    pub(super) events: broadcast::Sender<Event>,
    pub(super) link: watch::Sender<Link>,
    payload_bytes_max: AtomicUsize,
    has_headers: AtomicBool,
    is_publishing_over: AtomicBool,
}

#[derive(Debug)]
pub(super) struct OutboxCell {
    pub(super) outbox: Outbox,
    /// What is still to be written after the owner has closed the session.
    pub(super) last_words: WriteBatch,
    pub(super) waker: Option<Waker>,
}

#[derive(Debug)]
pub(super) struct Core {
    pub(super) session: Session,
    mailboxes: Slots<Entry>,
    touched: Vec<u64>,
    /// Mailboxes that got something out of the read buffer in use.
    sharers: Vec<u64>,
    requests: Slots<oneshot::Sender<Message>>,
    inbox: Option<String>,
    pings: BTreeMap<u64, oneshot::Sender<()>>,
    received_messages: u64,
    received_bytes: u64,
}

#[derive(Debug)]
struct Entry {
    mailbox: Arc<Mailbox>,
    filter: String,
    batch: Vec<Message>,
    is_touched: bool,
    ends: bool,
    /// What it got out of the read buffer in use.
    shared_messages: usize,
    shared_bytes: usize,
}

impl Shared {
    pub(super) fn new(options: ConnectOptions, session: Session, clock: Clock) -> Self {
        let outbox = Outbox::new(options.outbox);
        Self {
            clock,
            options,
            core: Mutex::new(Core {
                session,
                mailboxes: Slots::new(0),
                touched: Vec::new(),
                sharers: Vec::new(),
                requests: Slots::new(0),
                inbox: None,
                pings: BTreeMap::new(),
                received_messages: 0,
                received_bytes: 0,
            }),
            outbox: Mutex::new(OutboxCell {
                outbox,
                last_words: WriteBatch::default(),
                waker: None,
            }),
            room: Notify::new(),
            kick: Notify::new(),
            events: broadcast::Sender::new(EVENTS_MAX),
            link: watch::Sender::new(Link::Down),
            payload_bytes_max: AtomicUsize::new(usize::MAX),
            has_headers: AtomicBool::new(true),
            is_publishing_over: AtomicBool::new(false),
        }
    }

    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

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
        self.end_publishing();
        let mut core = self.core();
        let mut cell = self.outbox();
        if !core.session.is_closed() {
            let OutboxCell {
                outbox, last_words, ..
            } = &mut *cell;
            outbox.take(last_words);
            core.session.close(outbox);
        }
        let waker = cell.waker.take();
        drop(cell);
        drop(core);
        wake(waker);
        self.kick.notify_one();
    }

    /// Takes over what the last INFO said.
    pub(super) fn note_info(&self, core: &Core) {
        let info = core.session.info();
        let max = usize::try_from(info.max_payload)
            .ok()
            .filter(|max| *max > 0);
        self.payload_bytes_max
            .store(max.unwrap_or(usize::MAX), Ordering::Relaxed);
        self.has_headers.store(info.headers, Ordering::Relaxed);
    }

    /// Fails when the server or the client would not take this frame.
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
    pub(super) const fn check_line(&self, found: usize) -> Result<(), Error> {
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

    /// Runs `write` on the outbox, then lets the driver look at it.
    pub(super) fn with_outbox<T>(&self, write: impl FnOnce(&mut Outbox) -> T) -> T {
        let mut cell = self.outbox();
        let result = write(&mut cell.outbox);
        let waker = cell.waker.take();
        drop(cell);
        wake(waker);
        result
    }

    /// Sends a PING behind everything queued so far; the receiver fires with its PONG, or is
    /// dropped with the connection. `None` without a connection.
    pub(super) fn ping(&self) -> Option<oneshot::Receiver<()>> {
        self.with_both(|core, outbox| {
            let number = outbox.ping()?;
            let (answered, answer) = oneshot::channel();
            core.pings.insert(number, answered);
            Some(answer)
        })
    }

    /// Waits until the server has read everything queued so far.
    pub(super) async fn flush(&self) -> Result<(), Error> {
        let answer = self
            .ping()
            .ok_or_else(|| Error::new(ErrorKind::Disconnected))?;
        match tokio::time::timeout(self.options.request_timeout, answer).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Error::new(ErrorKind::Disconnected)),
            Err(_) => Err(Error::new(ErrorKind::Timeout)),
        }
    }

    /// Makes a mailbox with a subscription for each of `filters`; returns its key and the sids.
    pub(super) fn subscribe(
        &self,
        filters: &[(Filter, Option<QueueGroup>)],
    ) -> Result<(u64, Arc<Mailbox>, Vec<u64>), Error> {
        let mailbox = Arc::new(Mailbox::new(self.options.mailbox));
        let entry = Entry {
            mailbox: Arc::clone(&mailbox),
            filter: filters
                .first()
                .map(|(filter, _)| filter.to_string())
                .unwrap_or_default(),
            batch: Vec::new(),
            is_touched: false,
            ends: false,
            shared_messages: 0,
            shared_bytes: 0,
        };
        self.with_both(|core, outbox| {
            if core.session.is_closed() {
                return Err(Error::new(ErrorKind::Closed));
            }
            let too_many = || Error::new(ErrorKind::TooMany);
            let key = core.mailboxes.insert(entry).ok_or_else(too_many)?;
            let mut sids = Vec::with_capacity(filters.len());
            for (filter, group) in filters {
                let (filter, group) = (filter.clone(), group.clone());
                let Some(sid) = core.session.subscribe(filter, group, key, outbox) else {
                    for sid in sids {
                        core.session.unsubscribe(sid, outbox);
                    }
                    core.mailboxes.remove(key);
                    return Err(too_many());
                };
                sids.push(sid);
            }
            Ok((key, mailbox, sids))
        })
    }

    /// Ends subscriptions and their mailbox now.
    pub(super) fn unsubscribe(&self, key: u64, sids: &[u64]) {
        let entry = self.with_both(|core, outbox| {
            for sid in sids {
                core.session.unsubscribe(*sid, outbox);
            }
            core.mailboxes.remove(key)
        });
        if let Some(entry) = entry {
            entry.mailbox.end();
        }
    }

    /// Reserves a reply subject; the receiver fires with its first message.
    pub(super) fn open_request(
        &self,
        new_inbox: impl FnOnce() -> Result<String, Error>,
    ) -> Result<(u64, String, oneshot::Receiver<Message>), Error> {
        self.with_both(|core, outbox| {
            if core.session.is_closed() {
                return Err(Error::new(ErrorKind::Closed));
            }
            let too_many = || Error::new(ErrorKind::TooMany);
            let inbox = match &core.inbox {
                Some(inbox) => inbox.clone(),
                None => {
                    let inbox = new_inbox()?;
                    let filter = Filter::new(&format!("{inbox}.*"))?;
                    let sid = core.session.subscribe(filter, None, REPLIES, outbox);
                    sid.ok_or_else(too_many)?;
                    core.inbox = Some(inbox.clone());
                    inbox
                }
            };
            let (answered, answer) = oneshot::channel();
            let key = core.requests.insert(answered).ok_or_else(too_many)?;
            Ok((key, format!("{inbox}.{key}"), answer))
        })
    }

    /// Forgets a request; a late answer to it is dropped.
    pub(super) fn close_request(&self, key: u64) {
        self.core().requests.remove(key);
    }
}

impl Core {
    /// Puts a message where it belongs; [`Core::hand_over`] wakes the subscribers.
    pub(super) fn deliver(&mut self, message: Message) {
        self.received_messages = self.received_messages.saturating_add(1);
        let bytes = u64::try_from(message.body_len()).unwrap_or(u64::MAX);
        self.received_bytes = self.received_bytes.saturating_add(bytes);
        let Some(sid) = message.sid_number() else {
            return;
        };
        let Route::Mailbox {
            mailbox: key,
            is_last,
        } = self.session.route(sid)
        else {
            return;
        };
        if key == REPLIES {
            return self.answer(message);
        }
        let Some(entry) = self.mailboxes.get_mut(key) else {
            return;
        };
        if entry.shared_messages == 0 {
            self.sharers.push(key);
        }
        entry.shared_messages = entry.shared_messages.saturating_add(1);
        entry.shared_bytes = entry.shared_bytes.saturating_add(message.frame_len());
        entry.batch.push(message);
        entry.ends |= is_last;
        if !entry.is_touched {
            entry.is_touched = true;
            self.touched.push(key);
        }
    }

    /// Moves what was delivered into the mailboxes, one push and one wake for each.
    pub(super) fn hand_over(&mut self, events: &broadcast::Sender<Event>) {
        while let Some(key) = self.touched.pop() {
            let Some(entry) = self.mailboxes.get_mut(key) else {
                continue;
            };
            entry.is_touched = false;
            if let Some(dropped_before) = entry.mailbox.push(&mut entry.batch) {
                let filter = entry.filter.clone();
                // Without a reader of events nobody is told, by their own choice.
                let _ = events.send(Event::SlowConsumer {
                    filter,
                    dropped_before,
                });
            }
            if entry.ends {
                entry.mailbox.end();
                self.mailboxes.remove(key);
            }
        }
    }

    /// The read buffer of `len` bytes is used up. Where a few messages of it still wait, they must not
    /// keep all of it.
    pub(super) fn leave_buffer(&mut self, len: usize) {
        let bytes_min = len.checked_div(BUFFER_SHARE_MIN).unwrap_or_default();
        while let Some(key) = self.sharers.pop() {
            let Some(entry) = self.mailboxes.get_mut(key) else {
                continue;
            };
            if entry.shared_bytes < bytes_min {
                entry.mailbox.detach(entry.shared_messages);
            }
            entry.shared_messages = 0;
            entry.shared_bytes = 0;
        }
    }

    /// The PING with this number was answered, and so were all before it.
    pub(super) fn answer_pings(&mut self, number: u64) {
        while let Some(entry) = self.pings.first_entry() {
            if *entry.key() > number {
                return;
            }
            // A caller that gave up waiting does not care.
            let _ = entry.remove().send(());
        }
    }

    /// The connection is gone: nobody answers its PINGs any more.
    pub(super) fn drop_pings(&mut self) {
        self.pings.clear();
    }

    /// Ends every mailbox and request.
    pub(super) fn end_all(&mut self) {
        self.end_mailboxes();
        for key in self.requests.keys() {
            self.requests.remove(key);
        }
        self.pings.clear();
    }

    /// Ends every mailbox after what was delivered to it.
    pub(super) fn end_mailboxes(&mut self) {
        for key in self.mailboxes.keys() {
            self.end_mailbox(key);
        }
    }

    /// Ends the mailbox after what was delivered to it.
    pub(super) fn end_mailbox(&mut self, key: u64) {
        if let Some(entry) = self.mailboxes.remove(key) {
            entry.mailbox.end();
        }
    }

    /// Every mailbox that is alive.
    pub(super) fn mailboxes(&self) -> Vec<Arc<Mailbox>> {
        self.mailboxes
            .iter()
            .map(|(_, entry)| Arc::clone(&entry.mailbox))
            .collect()
    }

    pub(super) const fn received(&self) -> (u64, u64) {
        (self.received_messages, self.received_bytes)
    }

    pub(super) fn timeout(&self) -> Option<Duration> {
        self.session.poll_timeout()
    }

    fn answer(&mut self, message: Message) {
        let token = message.subject().rsplit(|byte| *byte == b'.').next();
        let key = token.and_then(|token| std::str::from_utf8(token).ok()?.parse().ok());
        if let Some(request) = key.and_then(|key| self.requests.remove(key)) {
            // A requester that gave up does not care.
            let _ = request.send(message);
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
