//! Which subscriptions are alive, so that they can be restored on the next connection.
//!
//! Knows filters and counts; where messages go is a number that the owner gives a meaning to.

use crate::subject::{Filter, QueueGroup};
use crate::wire::encode;

use super::slots::Slots;

/// The first sid; a sid is never used twice within a session.
const FIRST_SID: u64 = 1;

#[derive(Debug)]
pub(crate) struct Subscriptions {
    table: Slots<Entry>,
}

#[derive(Debug)]
struct Entry {
    filter: Filter,
    queue_group: Option<QueueGroup>,
    mailbox: u64,
    delivered: u64,
    /// Of these, on earlier connections: a server counts from the SUB that it was told.
    delivered_before: u64,
    delivered_max: Option<u64>,
    is_draining: bool,
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route {
    /// To a subscription.
    Mailbox {
        /// The mailbox that it was made with.
        mailbox: u64,
        /// Whether it has had all that it asked for, and has ended.
        is_last: bool,
    },
    /// Nobody: the subscription is gone.
    Nowhere,
}

impl Subscriptions {
    pub(crate) const fn new() -> Self {
        Self {
            table: Slots::new(FIRST_SID),
        }
    }

    /// Adds a subscription and returns its sid and the line that tells the server.
    pub(crate) fn add(
        &mut self,
        filter: Filter,
        queue_group: Option<QueueGroup>,
        mailbox: u64,
    ) -> Option<(u64, Vec<u8>)> {
        let mut line = Vec::new();
        let sid = self.table.insert(Entry {
            filter,
            queue_group,
            mailbox,
            delivered: 0,
            delivered_before: 0,
            delivered_max: None,
            is_draining: false,
        })?;
        let entry = self.table.get(sid)?;
        encode::subscribe(&mut line, &entry.filter, entry.queue_group.as_ref(), sid);
        Some((sid, line))
    }

    /// Removes a subscription; `None` when it is gone already.
    pub(crate) fn remove(&mut self, sid: u64) -> Option<Vec<u8>> {
        self.table.remove(sid)?;
        Some(unsubscribe_line(sid, None))
    }

    /// Ends a subscription after `delivered_max` messages in all.
    ///
    /// The outer `None`: it is gone. The flag: it has had that many already and is removed.
    pub(crate) fn limit(&mut self, sid: u64, delivered_max: u64) -> Option<(Vec<u8>, bool)> {
        let entry = self.table.get_mut(sid)?;
        if entry.delivered >= delivered_max {
            return self.remove(sid).map(|line| (line, true));
        }
        let was_limited = entry.delivered_max.replace(delivered_max).is_some();
        let mut told_max = delivered_max.saturating_sub(entry.delivered_before);
        if was_limited {
            // The server may hold a lower one, which it would keep.
            told_max = told_max.min(SERVER_MAX_DIGITS_LIMIT);
        }
        Some((unsubscribe_line(sid, Some(told_max)), false))
    }

    /// Tells the server to send no more, and stops restoring the subscription.
    pub(crate) fn drain(&mut self, sid: u64) -> Option<Vec<u8>> {
        let entry = self.table.get_mut(sid)?;
        entry.is_draining = true;
        Some(unsubscribe_line(sid, None))
    }

    /// Drains every subscription but those of the mailbox `kept`.
    pub(crate) fn drain_all(&mut self, kept: u64) -> Vec<u8> {
        let sids = self.table.keys();
        let is_drained = |sid: &u64| {
            self.table
                .get(*sid)
                .is_some_and(|entry| entry.mailbox != kept)
        };
        let sids: Vec<u64> = sids.into_iter().filter(is_drained).collect();
        sids.into_iter()
            .filter_map(|sid| self.drain(sid))
            .flatten()
            .collect()
    }

    /// Counts one message for `sid` and says where it goes.
    pub(crate) fn route(&mut self, sid: u64) -> Route {
        let Some(entry) = self.table.get_mut(sid) else {
            return Route::Nowhere;
        };
        entry.delivered = entry.delivered.saturating_add(1);
        let mailbox = entry.mailbox;
        let is_last = entry
            .delivered_max
            .is_some_and(|max| entry.delivered >= max);
        if is_last {
            self.table.remove(sid);
        }
        Route::Mailbox { mailbox, is_last }
    }

    /// The lines that restore every live subscription, what is left of its maximum included.
    ///
    /// The server counts a maximum from the SUB, so the new one is what remains.
    pub(crate) fn replay(&mut self) -> Vec<u8> {
        let mut lines = Vec::new();
        for sid in self.table.keys() {
            let Some(entry) = self.table.get_mut(sid).filter(|entry| !entry.is_draining) else {
                continue;
            };
            entry.delivered_before = entry.delivered;
            encode::subscribe(&mut lines, &entry.filter, entry.queue_group.as_ref(), sid);
            if let Some(max) = entry.delivered_max {
                let left = max.saturating_sub(entry.delivered);
                lines.extend_from_slice(&unsubscribe_line(sid, Some(left)));
            }
        }
        lines
    }

    pub(crate) fn len(&self) -> usize {
        self.table.iter().count()
    }
}

/// The server reads a maximum of ten digits or more as "now": such limits are ours alone.
const SERVER_MAX_DIGITS_LIMIT: u64 = 999_999_999;

fn unsubscribe_line(sid: u64, max: Option<u64>) -> Vec<u8> {
    let mut line = Vec::new();
    match max {
        Some(max) if max > SERVER_MAX_DIGITS_LIMIT => {}
        max => encode::unsubscribe(&mut line, sid, max),
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriptions() -> (Subscriptions, u64) {
        let mut subscriptions = Subscriptions::new();
        let group = QueueGroup::new("g").ok();
        let (sid, line) = subscriptions
            .add(Filter::new("a.*").unwrap(), group, 7)
            .unwrap();
        assert_eq!(line, b"SUB a.* g 1\r\n");
        (subscriptions, sid)
    }

    #[test]
    fn what_is_left_of_a_maximum_is_restored() {
        let (mut subscriptions, sid) = subscriptions();
        assert_eq!(
            subscriptions.limit(sid, 3),
            Some((b"UNSUB 1 3\r\n".to_vec(), false))
        );
        assert_eq!(
            subscriptions.route(sid),
            Route::Mailbox {
                mailbox: 7,
                is_last: false
            }
        );
        assert_eq!(subscriptions.replay(), b"SUB a.* g 1\r\nUNSUB 1 2\r\n");
        subscriptions.route(sid);
        assert_eq!(
            subscriptions.route(sid),
            Route::Mailbox {
                mailbox: 7,
                is_last: true
            }
        );
        assert_eq!(subscriptions.route(sid), Route::Nowhere);
        assert_eq!(subscriptions.replay(), b"");
    }

    #[test]
    fn a_maximum_set_after_a_reconnect_counts_from_the_new_connection() {
        let (mut subscriptions, sid) = subscriptions();
        subscriptions.route(sid);
        subscriptions.route(sid);
        assert_eq!(subscriptions.replay(), b"SUB a.* g 1\r\n");
        subscriptions.route(sid);
        assert_eq!(
            subscriptions.limit(sid, 5),
            Some((b"UNSUB 1 3\r\n".to_vec(), false)),
            "the server has counted one of three"
        );
        assert_eq!(subscriptions.replay(), b"SUB a.* g 1\r\nUNSUB 1 2\r\n");
    }

    #[test]
    fn a_maximum_already_reached_ends_at_once() {
        let (mut subscriptions, sid) = subscriptions();
        subscriptions.route(sid);
        assert_eq!(
            subscriptions.limit(sid, 1),
            Some((b"UNSUB 1\r\n".to_vec(), true))
        );
        assert_eq!(subscriptions.limit(sid, 1), None);
    }

    #[test]
    fn a_maximum_that_the_server_would_misread_is_kept_here() {
        let (mut subscriptions, sid) = subscriptions();
        assert_eq!(
            subscriptions.limit(sid, 1_000_000_000),
            Some((Vec::new(), false))
        );
        assert_eq!(subscriptions.replay(), b"SUB a.* g 1\r\n");
    }

    #[test]
    fn a_maximum_that_the_server_has_is_raised_as_far_as_it_can_be_told() {
        let (mut subscriptions, sid) = subscriptions();
        subscriptions.limit(sid, 3);
        assert_eq!(
            subscriptions.limit(sid, 5_000_000_000),
            Some((b"UNSUB 1 999999999\r\n".to_vec(), false))
        );
    }

    #[test]
    fn a_draining_subscription_is_not_restored() {
        let (mut subscriptions, sid) = subscriptions();
        assert_eq!(subscriptions.drain(sid), Some(b"UNSUB 1\r\n".to_vec()));
        assert_eq!(subscriptions.replay(), b"");
        assert!(
            matches!(subscriptions.route(sid), Route::Mailbox { .. }),
            "late ones still arrive"
        );
    }
}
