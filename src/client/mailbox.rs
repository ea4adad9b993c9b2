//! Where one subscriber's messages wait: filled once per socket read, emptied in batches.
//!
//! Several subscriptions may share a mailbox; their messages keep the order of the connection.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

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

/// Counts of one mailbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MailboxStatistics {
    /// Messages put in.
    pub accepted: u64,
    /// Messages dropped because the mailbox was full.
    pub dropped: u64,
    /// Messages that wait now.
    pub waiting: usize,
}

#[derive(Debug)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
    /// Tells that nothing waits and nothing will come.
    has_emptied: Notify,
    limits: MailboxLimits,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Message>,
    bytes: usize,
    waker: Option<Waker>,
    is_ended: bool,
    is_dropping: bool,
    accepted: u64,
    dropped: u64,
}

impl Mailbox {
    pub(crate) fn new(limits: MailboxLimits) -> Self {
        Self {
            state: Mutex::new(State::default()),
            has_emptied: Notify::new(),
            limits,
        }
    }

    /// Moves a batch in and wakes the subscriber once.
    ///
    /// What exceeds the limits is dropped, newest first. Returns the count dropped in earlier
    /// episodes when this batch begins a new one.
    pub(crate) fn push(&self, batch: &mut Vec<Message>) -> Option<u64> {
        let mut state = self.lock();
        let dropped_before = state.dropped;
        for message in batch.drain(..) {
            let bytes = state.bytes.saturating_add(message.frame_len());
            if state.messages.len() >= self.limits.messages_max || bytes > self.limits.bytes_max {
                state.dropped = state.dropped.saturating_add(1);
                continue;
            }
            state.bytes = bytes;
            state.accepted = state.accepted.saturating_add(1);
            state.messages.push_back(message);
        }
        let has_dropped = state.dropped > dropped_before;
        let begins_episode = has_dropped && !state.is_dropping;
        state.is_dropping = has_dropped;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        begins_episode.then_some(dropped_before)
    }

    /// Copies the newest messages, of those that still wait, out of the buffer that they arrived in.
    pub(crate) fn detach(&self, newest: usize) {
        for message in self.lock().messages.iter_mut().rev().take(newest) {
            *message = message.detached();
        }
    }

    /// No more will come; what waits can still be taken.
    pub(crate) fn end(&self) {
        let waker = {
            let mut state = self.lock();
            state.is_ended = true;
            if state.messages.is_empty() {
                self.has_emptied.notify_waiters();
            }
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The subscriber is gone: forgets what waits.
    pub(crate) fn abandon(&self) {
        self.lock().messages.clear();
        self.end();
    }

    /// Waits until the mailbox has ended and its subscriber has taken everything.
    pub(crate) async fn emptied(&self) {
        loop {
            let has_emptied = self.has_emptied.notified();
            tokio::pin!(has_emptied);
            has_emptied.as_mut().enable();
            {
                let state = self.lock();
                if state.is_ended && state.messages.is_empty() {
                    return;
                }
            }
            has_emptied.await;
        }
    }

    /// Moves everything that waits into `into`. `Ready(false)`: ended and empty.
    pub(crate) fn poll_take(&self, cx: &Context<'_>, into: &mut VecDeque<Message>) -> Poll<bool> {
        let mut state = self.lock();
        if !state.messages.is_empty() {
            state.bytes = 0;
            if into.is_empty() {
                std::mem::swap(into, &mut state.messages);
            } else {
                into.append(&mut state.messages);
            }
            if state.is_ended {
                self.has_emptied.notify_waiters();
            }
            return Poll::Ready(true);
        }
        if state.is_ended {
            return Poll::Ready(false);
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => state.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    pub(crate) fn statistics(&self) -> MailboxStatistics {
        let state = self.lock();
        MailboxStatistics {
            accepted: state.accepted,
            dropped: state.dropped,
            waiting: state.messages.len(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
