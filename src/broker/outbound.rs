//! What waits to be written to one client, with the faults of the link.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::faults::Fate;

/// One client's queue. Its writer waits on `has_changed`.
#[derive(Debug)]
pub(super) struct Outbound {
    state: Mutex<State>,
    pub(super) has_changed: Notify,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    ready: Vec<u8>,
    /// Messages that are overtaken, by the time at which they go out.
    overtaken: BTreeMap<(Duration, u64), Vec<u8>>,
    overtaken_bytes: usize,
    overtaken_count: u64,
    /// Nothing is written before.
    stalled_until: Duration,
    end: Option<End>,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// After everything that waits was written.
    Gentle,
    /// After everything that waits was written, without lingering: the link breaks.
    Cut,
    /// At once.
    Abrupt,
}

/// What the writer does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work {
    Write(Vec<u8>),
    /// Nothing until this time, or until something changes.
    Wait(Option<Duration>),
    End(End),
}

impl Outbound {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            state: Mutex::new(State::default()),
            has_changed: Notify::new(),
            bytes_max,
        }
    }

    /// Queues what a server says itself. Over the bound the connection ends at once.
    pub(super) fn say(&self, bytes: &[u8]) {
        let mut state = self.lock();
        if state.end.is_none() {
            state.ready.extend_from_slice(bytes);
            state.hold_bound(self.bytes_max);
        }
        drop(state);
        self.has_changed.notify_one();
    }

    /// Queues a message with its fate. Over the bound the connection ends at once.
    pub(super) fn deliver(&self, now: Duration, frame: &[u8], fate: Fate) {
        let mut state = self.lock();
        if state.end.is_some() {
            return;
        }
        if let Some(delay) = fate.delay {
            state.stalled_until = state.stalled_until.max(now.saturating_add(delay));
        }
        for _ in 0..fate.copies {
            if let Some(time) = fate.reorder {
                state.overtaken_count = state.overtaken_count.saturating_add(1);
                state.overtaken_bytes = state.overtaken_bytes.saturating_add(frame.len());
                let key = (now.saturating_add(time), state.overtaken_count);
                state.overtaken.insert(key, frame.to_vec());
            } else {
                state.ready.extend_from_slice(frame);
            }
        }
        if fate.is_truncated {
            let kept = state.ready.len().saturating_sub(frame.len() / 2);
            state.ready.truncate(kept);
            state.end = Some(End::Cut);
        } else if fate.is_cut {
            state.end = Some(End::Cut);
        }
        state.hold_bound(self.bytes_max);
        drop(state);
        self.has_changed.notify_one();
    }

    /// Ends the connection. Only an abrupt end goes before one that was already asked for.
    pub(super) fn end(&self, end: End) {
        let mut state = self.lock();
        if state.end.is_none() || end == End::Abrupt {
            state.end = Some(end);
        }
        drop(state);
        self.has_changed.notify_one();
    }

    /// Waits for an abrupt end. For the writer alone: it takes the news of other changes with it.
    pub(super) async fn aborted(&self) {
        loop {
            let has_changed = self.has_changed.notified();
            if self.lock().end == Some(End::Abrupt) {
                return;
            }
            has_changed.await;
        }
    }

    pub(super) fn is_ending(&self) -> bool {
        self.lock().end.is_some()
    }

    pub(super) fn next(&self, now: Duration) -> Work {
        let mut state = self.lock();
        if state.end == Some(End::Abrupt) {
            return Work::End(End::Abrupt);
        }
        if state.end.is_none() && now < state.stalled_until {
            return Work::Wait(Some(state.stalled_until));
        }
        let is_ending = state.end.is_some();
        while let Some(entry) = state.overtaken.first_entry() {
            if entry.key().0 > now && !is_ending {
                break;
            }
            let frame = entry.remove();
            state.overtaken_bytes = state.overtaken_bytes.saturating_sub(frame.len());
            // Behind a cut nothing arrives any more.
            if state.end != Some(End::Cut) {
                state.ready.extend_from_slice(&frame);
            }
        }
        if !state.ready.is_empty() {
            return Work::Write(std::mem::take(&mut state.ready));
        }
        match state.end {
            Some(end) => Work::End(end),
            None => Work::Wait(state.overtaken.first_key_value().map(|((due, _), _)| *due)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn hold_bound(&mut self, bytes_max: usize) {
        if self.ready.len().saturating_add(self.overtaken_bytes) > bytes_max {
            self.end = Some(End::Abrupt);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);
    const WHOLE: Fate = Fate {
        copies: 1,
        reorder: None,
        delay: None,
        is_truncated: false,
        is_cut: false,
    };

    #[test]
    fn an_overtaken_message_comes_later() {
        let outbound = Outbound::new(1_000);
        outbound.deliver(
            MILLI,
            b"1",
            Fate {
                reorder: Some(MILLI),
                ..WHOLE
            },
        );
        outbound.deliver(MILLI, b"2", Fate { copies: 2, ..WHOLE });
        assert_eq!(outbound.next(MILLI), Work::Write(b"22".to_vec()));
        assert_eq!(outbound.next(MILLI), Work::Wait(Some(MILLI * 2)));
        assert_eq!(outbound.next(MILLI * 2), Work::Write(b"1".to_vec()));
    }

    #[test]
    fn a_delay_holds_up_what_is_behind_it() {
        let outbound = Outbound::new(1_000);
        outbound.deliver(
            MILLI,
            b"1",
            Fate {
                delay: Some(MILLI),
                ..WHOLE
            },
        );
        outbound.deliver(MILLI, b"2", WHOLE);
        assert_eq!(outbound.next(MILLI), Work::Wait(Some(MILLI * 2)));
        assert_eq!(outbound.next(MILLI * 2), Work::Write(b"12".to_vec()));
    }

    #[test]
    fn a_truncated_message_ends_the_connection_in_its_middle() {
        let outbound = Outbound::new(1_000);
        outbound.deliver(
            MILLI,
            b"1234",
            Fate {
                is_truncated: true,
                ..WHOLE
            },
        );
        outbound.deliver(MILLI, b"5678", WHOLE);
        assert_eq!(outbound.next(MILLI), Work::Write(b"12".to_vec()));
        assert_eq!(outbound.next(MILLI), Work::End(End::Cut));
    }

    #[test]
    fn a_client_that_does_not_read_is_dropped() {
        let outbound = Outbound::new(3);
        outbound.deliver(MILLI, b"1234", WHOLE);
        assert_eq!(outbound.next(MILLI), Work::End(End::Abrupt));
        let outbound = Outbound::new(3);
        outbound.say(b"PONG");
        assert_eq!(outbound.next(MILLI), Work::End(End::Abrupt));
    }
}
