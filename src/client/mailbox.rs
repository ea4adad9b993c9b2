//! Where one subscriber's messages wait: filled once per socket read, emptied in batches.
//!
//! ```text
//!   driver --- batch ---> messages --- all of them ---> in hand ---> the subscriber
//! ```
//!
//! Several subscriptions may share a mailbox; their messages keep the order of the connection. A mailbox
//! that nothing came to is small, because there may be a million of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::session::Refusal;
use crate::wire::Message;

/// Bounds of what may wait for one subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailboxLimits {
    /// Messages. Default 524,288.
    pub messages_max: usize,
    /// Bytes of whole frames. Default 64 MiB, what a server holds for a slow client.
    pub bytes_max: usize,
}

impl Default for MailboxLimits {
    fn default() -> Self {
        Self {
            messages_max: 524_288,
            bytes_max: 64 << 20,
        }
    }
}

/// What happens to a message whose subscriber has as much waiting as it may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// It is dropped and counted; the others are not disturbed.
    #[default]
    DropNewest,
    /// Nothing is dropped: the whole connection is not read until half of the limits is free, or the
    /// subscription has ended. The last message read may exceed the limit of bytes.
    ///
    /// Everything on the connection waits then: other subscriptions, answers to requests and to
    /// flushes, repairs, and the answers to the server's PINGs. The connection is not given up for
    /// that, but a server that cannot write for 10 s, or has 64 MiB waiting, ends it (both are its
    /// defaults), and what waited there is lost. So this is for a subscriber that falls behind for
    /// seconds, best on a connection of its own.
    StopReading,
}

/// A batch that fills less than this share of its memory is copied out of it.
const BATCH_SHARE_MIN: usize = 4;

/// Memory with room for more messages than this is not kept for one that is alone.
const LITTLE_MEMORY_MESSAGES: usize = 64;

/// What a mailbox takes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Policy {
    pub(crate) limits: MailboxLimits,
    pub(crate) overflow: Overflow,
    /// Whether the subscriber asks where messages were dropped.
    pub(crate) marks_drops: bool,
}

/// Messages that were dropped in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// So many messages were put in before.
    pub(crate) at: u64,
    pub(crate) count: u64,
}

/// Counts of one subscription. Bytes are those of whole frames: control line, headers and payload.
///
/// At any moment `accepted` is `delivered` and `waiting` together, and what the server sent is `accepted`
/// and `dropped` together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MailboxStatistics {
    /// Messages put in.
    pub accepted: u64,
    /// Their bytes.
    pub accepted_bytes: u64,
    /// Messages that the subscriber has taken.
    pub delivered: u64,
    /// Their bytes.
    pub delivered_bytes: u64,
    /// Messages dropped because the mailbox was full.
    pub dropped: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
    /// Messages that wait now.
    pub waiting: usize,
    /// Their bytes.
    pub waiting_bytes: usize,
    /// The most messages that have waited at a time.
    pub waiting_max: usize,
    /// The most bytes that have waited at a time.
    pub waiting_bytes_max: usize,
}

/// A span of time in which messages were dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Episode {
    pub(crate) filter: String,
    pub(crate) sid: u64,
    pub(crate) dropped_before: u64,
    dropped_bytes_before: u64,
}

/// An episode that is over, and the messages and bytes dropped in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EpisodeEnd {
    pub(crate) episode: Box<Episode>,
    pub(crate) dropped: u64,
    pub(crate) dropped_bytes: u64,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(crate) struct Pushed {
    pub(crate) dropped: u64,
    pub(crate) begun: Option<Box<Episode>>,
    pub(crate) over: Option<EpisodeEnd>,
}

/// Why a mailbox has ended before its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EndReason {
    Refused(Arc<Refusal>),
    Disconnected,
}

#[derive(Debug)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
    policy: Arc<Policy>,
    /// Messages that the subscriber has in hand and not yet returned; it alone writes them.
    in_hand: AtomicUsize,
    in_hand_bytes: AtomicUsize,
    /// Whether the connection is not read until there is room here.
    is_blocking: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Made when something comes, or is waited for.
    active: Option<Box<Active>>,
    is_ended: bool,
}

#[derive(Debug, Default)]
struct Active {
    messages: VecDeque<Message>,
    bytes: usize,
    waker: Option<Waker>,
    accepted: u64,
    accepted_bytes: u64,
    dropped: u64,
    dropped_bytes: u64,
    waiting_max: usize,
    waiting_bytes_max: usize,
    episode: Option<Box<Episode>>,
    reason: Option<EndReason>,
    /// Subscriptions that were refused while the mailbox goes on, the last refusal of each.
    asides: Vec<Refusal>,
    /// Where messages were dropped, one for each place that is still waited for.
    drops: VecDeque<Dropped>,
}

impl State {
    fn active(&mut self) -> &mut Active {
        self.active.get_or_insert_default()
    }

    fn is_empty(&self) -> bool {
        let active = self.active.as_ref();
        active.is_none_or(|active| active.messages.is_empty())
    }

    fn take_waker(&mut self) -> Option<Waker> {
        self.active.as_mut()?.waker.take()
    }
}

impl Active {
    /// A message was dropped behind those that were put in. There are no more places than messages
    /// that wait.
    fn mark_drop(&mut self) {
        let at = self.accepted;
        match self.drops.back_mut().filter(|dropped| dropped.at == at) {
            Some(dropped) => dropped.count = dropped.count.saturating_add(1),
            None => self.drops.push_back(Dropped { at, count: 1 }),
        }
    }

    /// Moves a batch in. Into an empty mailbox it goes as a whole, memory and all, unless the memory is
    /// much more than it needs. A message that is alone goes into what little memory is there, or takes
    /// no more than its own.
    fn put(&mut self, batch: &mut VecDeque<Message>) {
        if batch.len() == 1
            && self.messages.capacity() <= LITTLE_MEMORY_MESSAGES
            && let Some(message) = batch.pop_front()
        {
            if self.messages.capacity() == 0 {
                self.messages.reserve_exact(1);
            }
            self.messages.push_back(message);
        } else if self.messages.is_empty() && batch.len() >= batch.capacity() / BATCH_SHARE_MIN {
            std::mem::swap(&mut self.messages, batch);
        } else {
            self.messages.append(batch);
        }
    }

    fn end_episode(&mut self) -> Option<EpisodeEnd> {
        let episode = self.episode.take()?;
        Some(EpisodeEnd {
            dropped: self.dropped.saturating_sub(episode.dropped_before),
            dropped_bytes: self
                .dropped_bytes
                .saturating_sub(episode.dropped_bytes_before),
            episode,
        })
    }
}

impl Mailbox {
    pub(crate) fn new(policy: Arc<Policy>) -> Self {
        Self {
            state: Mutex::new(State::default()),
            policy,
            in_hand: AtomicUsize::new(0),
            in_hand_bytes: AtomicUsize::new(0),
            is_blocking: AtomicBool::new(false),
        }
    }

    /// Moves a batch of so many bytes in, which is empty then, and wakes the subscriber once.
    ///
    /// What exceeds the limits is dropped, newest first. `filter` names a subscription by its sid, for
    /// an episode that begins.
    pub(crate) fn push(
        &self,
        batch: &mut VecDeque<Message>,
        batch_bytes: usize,
        filter: impl Fn(u64) -> String,
    ) -> Pushed {
        let mut state = self.lock();
        let in_hand = self.in_hand.load(Ordering::Relaxed);
        let in_hand_bytes = self.in_hand_bytes.load(Ordering::Relaxed);
        let active = state.active();
        let bytes_before = active.bytes.saturating_add(in_hand_bytes);
        let mut waiting = active.messages.len().saturating_add(in_hand);
        let mut bytes = bytes_before;
        let (dropped_before, dropped_bytes_before) = (active.dropped, active.dropped_bytes);
        let mut dropped_sid = None;
        if self.takes(
            waiting.saturating_add(batch.len()),
            bytes.saturating_add(batch_bytes),
        ) {
            waiting = waiting.saturating_add(batch.len());
            bytes = bytes.saturating_add(batch_bytes);
            active.accepted = active.accepted.saturating_add(wide(batch.len()));
        } else {
            batch.retain(|message| {
                let len = message.frame_len();
                let is_taken = self.takes(waiting.saturating_add(1), bytes.saturating_add(len));
                if is_taken {
                    waiting = waiting.saturating_add(1);
                    bytes = bytes.saturating_add(len);
                    active.accepted = active.accepted.saturating_add(1);
                } else {
                    active.dropped = active.dropped.saturating_add(1);
                    active.dropped_bytes = active.dropped_bytes.saturating_add(wide(len));
                    if self.policy.marks_drops {
                        active.mark_drop();
                    }
                    dropped_sid = dropped_sid.or_else(|| message.sid_number());
                }
                is_taken
            });
        }
        let taken_bytes = bytes.saturating_sub(bytes_before);
        active.bytes = active.bytes.saturating_add(taken_bytes);
        active.accepted_bytes = active.accepted_bytes.saturating_add(wide(taken_bytes));
        active.put(batch);
        active.waiting_max = active.waiting_max.max(waiting);
        active.waiting_bytes_max = active.waiting_bytes_max.max(bytes);
        let mut pushed = Pushed {
            dropped: active.dropped.saturating_sub(dropped_before),
            ..Pushed::default()
        };
        match dropped_sid {
            Some(sid) if active.episode.is_none() => {
                let episode = Box::new(Episode {
                    filter: filter(sid),
                    sid,
                    dropped_before,
                    dropped_bytes_before,
                });
                active.episode = Some(episode.clone());
                pushed.begun = Some(episode);
            }
            None if self.has_recovered(waiting, bytes) => pushed.over = active.end_episode(),
            Some(_) | None => {}
        }
        let waker = active.waker.take();
        drop(state);
        wake(waker);
        pushed
    }

    /// Copies the newest messages, of those that still wait, out of the buffer that they arrived in.
    pub(crate) fn detach(&self, newest: usize) {
        if let Some(active) = &mut self.lock().active {
            for message in active.messages.iter_mut().rev().take(newest) {
                *message = message.detached();
            }
        }
    }

    /// No more will come; what waits can still be taken.
    pub(crate) fn end(&self) -> Option<EpisodeEnd> {
        self.end_with(None)
    }

    /// [`Mailbox::end`] with a reason, unless it has ended before.
    pub(crate) fn end_because(&self, reason: EndReason) -> Option<EpisodeEnd> {
        self.end_with(Some(reason))
    }

    /// Keeps why it has ended, or ends next, or what was refused to a subscription that goes on.
    pub(crate) fn note_reason(&self, reason: EndReason) {
        self.lock().active().reason = Some(reason);
    }

    /// One of its subscriptions was refused, and it can do without.
    pub(crate) fn note_aside(&self, refusal: Refusal) {
        let mut state = self.lock();
        let asides = &mut state.active().asides;
        asides.retain(|aside| aside.sid != refusal.sid);
        asides.push(refusal);
        let waker = state.take_waker();
        drop(state);
        wake(waker);
    }

    /// Returns true when something was refused and not taken yet.
    pub(crate) fn has_asides(&self) -> bool {
        let state = self.lock();
        let active = state.active.as_ref();
        active.is_some_and(|active| !active.asides.is_empty())
    }

    /// Takes where messages were dropped, and how many, in order.
    pub(crate) fn take_drops(&self) -> VecDeque<Dropped> {
        let mut state = self.lock();
        let active = state.active.as_mut();
        active.map_or(VecDeque::new(), |active| std::mem::take(&mut active.drops))
    }

    /// Takes what was refused and not taken yet.
    pub(crate) fn take_asides(&self) -> Vec<Refusal> {
        let mut state = self.lock();
        let active = state.active.as_mut();
        active.map_or(Vec::new(), |active| std::mem::take(&mut active.asides))
    }

    fn end_with(&self, reason: Option<EndReason>) -> Option<EpisodeEnd> {
        let mut state = self.lock();
        if let Some(reason) = reason
            && !state.is_ended
        {
            state.active().reason = Some(reason);
        }
        state.is_ended = true;
        let over = state
            .active
            .as_mut()
            .and_then(|active| active.end_episode());
        let waker = state.take_waker();
        drop(state);
        wake(waker);
        over
    }

    /// The subscriber is gone: forgets what waits.
    pub(crate) fn abandon(&self) {
        let messages = self.lock().active.as_mut().map(|active| {
            active.bytes = 0;
            std::mem::take(&mut active.messages)
        });
        drop(messages);
        self.in_hand.store(0, Ordering::Relaxed);
        self.in_hand_bytes.store(0, Ordering::Relaxed);
    }

    /// Returns true when the mailbox has ended and its subscriber has taken everything.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.lock();
        state.is_ended && state.is_empty() && self.in_hand.load(Ordering::Relaxed) == 0
    }

    /// Moves everything that waits into `into`, which is empty. `Ready(false)`: ended and empty.
    pub(crate) fn poll_take(&self, cx: &Context<'_>, into: &mut VecDeque<Message>) -> Poll<bool> {
        let mut state = self.lock();
        if !state.is_empty() {
            let active = state.active();
            std::mem::swap(into, &mut active.messages);
            self.in_hand.store(into.len(), Ordering::Relaxed);
            self.in_hand_bytes.store(active.bytes, Ordering::Relaxed);
            active.bytes = 0;
            return Poll::Ready(true);
        }
        if state.is_ended {
            return Poll::Ready(false);
        }
        match &mut state.active().waker {
            Some(waker) => waker.clone_from(cx.waker()),
            waker @ None => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// The subscriber has returned messages of that many bytes. It is the only one to call this.
    pub(crate) fn note_returned(&self, messages: usize, bytes: usize) {
        let in_hand = self.in_hand.load(Ordering::Relaxed);
        self.in_hand
            .store(in_hand.saturating_sub(messages), Ordering::Relaxed);
        let in_hand_bytes = self.in_hand_bytes.load(Ordering::Relaxed);
        self.in_hand_bytes
            .store(in_hand_bytes.saturating_sub(bytes), Ordering::Relaxed);
    }

    /// Returns true when the connection is held back for this mailbox, and need not be any more.
    pub(crate) fn unblocks(&self) -> bool {
        if self.policy.overflow == Overflow::DropNewest {
            return false;
        }
        // Either the driver sees what was returned, or we see that it is held back.
        fence(Ordering::SeqCst);
        self.is_blocking.load(Ordering::Relaxed) && self.has_room()
    }

    /// The connection is held back for this mailbox from now on, or no longer.
    pub(crate) fn set_blocking(&self, is_blocking: bool) {
        self.is_blocking.store(is_blocking, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Returns true when at least half of the limits is free.
    pub(crate) fn has_room(&self) -> bool {
        let (messages, bytes) = self.waiting(&self.lock());
        self.has_recovered(messages, bytes)
    }

    /// Messages and bytes until nothing more is to be read; `None` where the rest is dropped.
    pub(crate) fn room(&self) -> Option<(usize, usize)> {
        if self.policy.overflow == Overflow::DropNewest {
            return None;
        }
        let (messages, bytes) = self.waiting(&self.lock());
        let limits = self.policy.limits;
        Some((
            limits.messages_max.saturating_sub(messages),
            limits.bytes_max.saturating_sub(bytes),
        ))
    }

    /// The subscriber has nothing in hand any more: perhaps that ends an episode. Returns with it
    /// whether the mailbox has ended, which somebody may wait for.
    pub(crate) fn note_empty_handed(&self) -> (Option<EpisodeEnd>, bool) {
        let mut state = self.lock();
        let is_ended = state.is_ended;
        let has_episode = |active: &&mut Box<Active>| active.episode.is_some();
        let Some(active) = state.active.as_mut().filter(has_episode) else {
            return (None, is_ended);
        };
        if !self.has_recovered(active.messages.len(), active.bytes) {
            return (None, is_ended);
        }
        (active.end_episode(), is_ended)
    }

    pub(crate) fn reason(&self) -> Option<EndReason> {
        self.lock().active.as_ref()?.reason.clone()
    }

    pub(crate) fn statistics(&self) -> MailboxStatistics {
        let state = self.lock();
        let (waiting, waiting_bytes) = self.waiting(&state);
        let Some(active) = &state.active else {
            return MailboxStatistics::default();
        };
        MailboxStatistics {
            accepted: active.accepted,
            accepted_bytes: active.accepted_bytes,
            delivered: active.accepted.saturating_sub(wide(waiting)),
            delivered_bytes: active.accepted_bytes.saturating_sub(wide(waiting_bytes)),
            dropped: active.dropped,
            dropped_bytes: active.dropped_bytes,
            waiting,
            waiting_bytes,
            waiting_max: active.waiting_max,
            waiting_bytes_max: active.waiting_bytes_max,
        }
    }

    fn waiting(&self, state: &State) -> (usize, usize) {
        let (messages, bytes) = state
            .active
            .as_ref()
            .map_or((0, 0), |active| (active.messages.len(), active.bytes));
        (
            messages.saturating_add(self.in_hand.load(Ordering::Relaxed)),
            bytes.saturating_add(self.in_hand_bytes.load(Ordering::Relaxed)),
        )
    }

    /// Whether so many messages may wait.
    fn takes(&self, messages: usize, bytes: usize) -> bool {
        let limits = &self.policy.limits;
        self.policy.overflow == Overflow::StopReading
            || (messages <= limits.messages_max && bytes <= limits.bytes_max)
    }

    /// Half of the limits, so that a mailbox at its limit does not begin an episode with each message.
    fn has_recovered(&self, waiting: usize, bytes: usize) -> bool {
        let limits = self.policy.limits;
        waiting <= limits.messages_max / 2 && bytes <= limits.bytes_max / 2
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn wide(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
