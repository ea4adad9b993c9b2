//! Which subscriptions are alive, so that they can be restored on the next connection.
//!
//! Knows filters and counts; where messages go is a number that the owner gives a meaning to. There may
//! be a million of them: what few have is kept apart.

use std::collections::{BTreeMap, VecDeque};

use crate::subject::{Filter, QueueGroup};
use crate::wire::{ServerError, Violation, encode};

use super::refusal::{Refusal, RefusalKind, Refused, told};
use super::slots::Slots;

/// The first sid; a sid is never used twice within a session.
const FIRST_SID: u64 = 1;

#[derive(Debug)]
pub(crate) struct Subscriptions {
    table: Slots<Entry>,
    /// Subscriptions that wait to be confirmed, and the number of the PING behind each.
    unconfirmed: VecDeque<(u64, u64)>,
    /// Where the search for a refused subscription begins: servers answer SUBs in their order.
    searched: usize,
    /// Mailboxes with several subscriptions, and the main one of each: they end with it.
    joined: BTreeMap<u64, u64>,
    restores_refused: bool,
    /// Subscriptions that had all they asked for while the server did not know their maximum.
    overdue: Vec<u64>,
    /// Those whose maximum was changed while the server read nothing.
    untold: Vec<u64>,
    /// Whether two connections serve them.
    is_moving: bool,
    /// Whether the connection moved to was asked for them all and has not answered.
    is_asking: bool,
}

#[derive(Debug)]
struct Entry {
    /// Filter and queue group, as a SUB names them.
    interest: Box<[u8]>,
    mailbox: u64,
    delivered: u64,
    rare: Option<Box<Rare>>,
}

/// What few subscriptions have.
#[derive(Debug, Default)]
struct Rare {
    /// Messages delivered on earlier connections: a server counts from the SUB that it was told.
    delivered_before: u64,
    delivered_max: Option<u64>,
    /// Whether the server knows the maximum.
    is_max_told: bool,
    /// Messages that the connection moved to has sent, copies included.
    moved: u64,
    is_draining: bool,
    /// The server has refused it on this connection.
    is_refused: bool,
}

impl Entry {
    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Whether the server holds it, as far as is known.
    fn is_held(&self) -> bool {
        let rare = self.rare.as_ref();
        rare.is_none_or(|rare| !rare.is_draining && !rare.is_refused)
    }

    fn is_grouped(&self) -> bool {
        self.interest.contains(&b' ')
    }

    fn delivered_max(&self) -> Option<u64> {
        self.rare.as_ref()?.delivered_max
    }
}

impl Rare {
    /// A maximum as the server counts it: from the SUB on.
    fn told_max(&self, delivered_max: u64, was_limited: bool) -> u64 {
        let told_max = delivered_max.saturating_sub(self.delivered_before);
        if was_limited {
            // The server may hold a lower one, which it would keep.
            return told_max.min(SERVER_MAX_DIGITS_LIMIT);
        }
        told_max
    }
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
    pub(crate) const fn new(restores_refused: bool) -> Self {
        Self {
            table: Slots::new(FIRST_SID),
            unconfirmed: VecDeque::new(),
            searched: 0,
            joined: BTreeMap::new(),
            restores_refused,
            overdue: Vec::new(),
            untold: Vec::new(),
            is_moving: false,
            is_asking: false,
        }
    }

    /// Adds a subscription and returns its sid and the line that tells the server.
    pub(crate) fn add(
        &mut self,
        filter: &Filter,
        queue_group: Option<&QueueGroup>,
        mailbox: u64,
    ) -> Option<(u64, Vec<u8>)> {
        let group_len = queue_group.map_or(0, |group| group.as_str().len().saturating_add(1));
        let len = filter.as_str().len().saturating_add(group_len);
        let mut interest = Vec::with_capacity(len);
        encode::interest(&mut interest, filter, queue_group);
        let mut line = Vec::new();
        let sid = self.table.insert(Entry {
            interest: interest.into(),
            mailbox,
            delivered: 0,
            rare: None,
        })?;
        encode::subscribe(&mut line, filter, queue_group, sid);
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
    pub(crate) fn limit(
        &mut self,
        sid: u64,
        delivered_max: u64,
        has_room: bool,
    ) -> Option<(Vec<u8>, bool)> {
        let entry = self.table.get_mut(sid)?;
        if entry.delivered >= delivered_max {
            return self.remove(sid).map(|line| (line, true));
        }
        let rare = entry.rare();
        let before = rare.delivered_max.replace(delivered_max);
        if before == Some(delivered_max) && rare.is_max_told {
            return Some((Vec::new(), false));
        }
        let was_told = std::mem::replace(&mut rare.is_max_told, has_room && !self.is_moving);
        if !rare.is_max_told {
            if was_told || before.is_none() {
                self.untold.push(sid);
            }
            return Some((Vec::new(), false));
        }
        let told_max = rare.told_max(delivered_max, before.is_some());
        Some((unsubscribe_line(sid, Some(told_max)), false))
    }

    /// The lines of maximums that had to wait for a server which read nothing, each once; none while
    /// the session moves.
    pub(crate) fn tell_maximums(&mut self) -> Vec<u8> {
        let mut lines = Vec::new();
        if self.is_moving {
            return lines;
        }
        for sid in self.overdue.drain(..) {
            encode::unsubscribe(&mut lines, sid, None);
        }
        for sid in self.untold.drain(..) {
            let entry = self.table.get_mut(sid);
            if let Some(rare) = entry.and_then(|entry| entry.rare.as_mut())
                && let Some(max) = rare.delivered_max
                && !rare.is_max_told
                && !rare.is_draining
            {
                rare.is_max_told = true;
                let told_max = rare.told_max(max, true);
                lines.extend_from_slice(&unsubscribe_line(sid, Some(told_max)));
            }
        }
        lines
    }

    /// Tells the server to send no more, and stops restoring the subscription.
    pub(crate) fn drain(&mut self, sid: u64) -> Option<Vec<u8>> {
        let rare = self.table.get_mut(sid)?.rare();
        let is_first = !std::mem::replace(&mut rare.is_draining, true);
        is_first.then(|| unsubscribe_line(sid, None))
    }

    /// Drains every subscription but those of mailboxes that `is_kept`.
    pub(crate) fn drain_others(&mut self, is_kept: impl Fn(u64) -> bool) -> Vec<u8> {
        let mut lines = Vec::new();
        for (sid, entry) in self.table.iter_mut() {
            let is_meant = !is_kept(entry.mailbox);
            if is_meant && !std::mem::replace(&mut entry.rare().is_draining, true) {
                encode::unsubscribe(&mut lines, sid, None);
            }
        }
        lines
    }

    /// The mailbox has several subscriptions, which are of no use without the main one.
    pub(crate) fn join(&mut self, mailbox: u64, main: u64) {
        self.joined.insert(mailbox, main);
    }

    /// Returns false when it had not several.
    pub(crate) fn unjoin(&mut self, mailbox: u64) -> bool {
        self.joined.remove(&mailbox).is_some()
    }

    /// Takes the sids of a mailbox that has several.
    pub(crate) fn part(&mut self, mailbox: u64) -> Vec<u64> {
        if !self.unjoin(mailbox) {
            return Vec::new();
        }
        let entries = self.table.iter();
        let of_mailbox = entries.filter(|(_, entry)| entry.mailbox == mailbox);
        of_mailbox.map(|(sid, _)| sid).collect()
    }

    /// Whether the server holds it, as far as is known.
    pub(crate) fn is_held(&self, sid: u64) -> bool {
        self.table.get(sid).is_some_and(Entry::is_held)
    }

    /// The filter of a subscription that is alive.
    pub(crate) fn filter(&self, sid: u64) -> Option<&str> {
        let interest = &self.table.get(sid)?.interest;
        let filter = interest.split(|byte| *byte == b' ').next()?;
        std::str::from_utf8(filter).ok()
    }

    /// The subscription's SUB stands alone before the PING of this number, which confirms it.
    pub(crate) fn await_confirmation(&mut self, sid: u64, ping: u64, pings_answered: u64) {
        while self
            .unconfirmed
            .front()
            .is_some_and(|(ping, _)| *ping <= pings_answered)
        {
            self.unconfirmed.pop_front();
        }
        self.unconfirmed.push_back((ping, sid));
    }

    /// Takes the text of an -ERR; says whom it concerns when that is known.
    ///
    /// A refused subscription is gone, unless it is to be tried again on the next connection, as every
    /// one is that its mailbox can do without.
    pub(crate) fn handle_error(&mut self, text: &[u8], pings_answered: u64) -> Option<Refused> {
        let (sid, mut refusal) = if ServerError::new(text) == ServerError::TooManySubscriptions {
            let sid = self.take_unconfirmed(pings_answered)?;
            let refusal = Refusal {
                kind: RefusalKind::TooManySubscriptions,
                subject: self.filter(sid)?.to_owned(),
                queue_group: None,
                sid: None,
                text: told(text),
            };
            (sid, refusal)
        } else {
            let violation = Violation::parse(text)?;
            let refusal = Refusal::new(&violation, text);
            if refusal.kind != RefusalKind::Subscription {
                let subject = violation.subject;
                return Some(Refused::Message { subject, refusal });
            }
            (self.find(&violation)?, refusal)
        };
        refusal.sid = Some(sid);
        let restores_refused = self.restores_refused;
        let entry = self.table.get_mut(sid)?;
        let mailbox = entry.mailbox;
        let is_aside = self.joined.get(&mailbox).is_some_and(|main| *main != sid);
        if restores_refused || is_aside {
            entry.rare().is_refused = true;
        } else {
            self.table.remove(sid);
        }
        Some(Refused::Subscription {
            mailbox,
            is_aside,
            refusal,
        })
    }

    /// The subscription that was one too many.
    ///
    /// A server that is asked for all of them refuses the last ones.
    fn take_unconfirmed(&mut self, pings_answered: u64) -> Option<u64> {
        let next_ping = pings_answered.saturating_add(1);
        let asked = self.unconfirmed.iter().enumerate();
        let asked = asked.filter(|(_, (ping, sid))| {
            let is_meant = *ping == next_ping || (self.is_asking && *ping > next_ping);
            is_meant && self.table.get(*sid).is_some()
        });
        let (index, _) = asked.max_by_key(|(_, (_, sid))| self.table.index(*sid))?;
        self.unconfirmed.remove(index).map(|(_, sid)| sid)
    }

    /// The oldest subscription that the server can mean.
    fn find(&mut self, violation: &Violation) -> Option<u64> {
        if let Some(sid) = &violation.sid {
            let sid = std::str::from_utf8(sid).ok()?.parse().ok()?;
            return self.table.get(sid)?.is_held().then_some(sid);
        }
        let mut interest = violation.subject.clone();
        if let Some(group) = &violation.queue_group {
            interest.push(b' ');
            interest.extend_from_slice(group);
        }
        let is_meant = |entry: &Entry| *entry.interest == *interest && entry.is_held();
        let sid = self.table.find_from(self.searched, is_meant)?;
        self.searched = self.table.index(sid);
        Some(sid)
    }

    /// Counts one message for `sid` and says where it goes.
    pub(crate) fn route(&mut self, sid: u64) -> Route {
        let Some(entry) = self.table.get_mut(sid) else {
            return Route::Nowhere;
        };
        entry.delivered = entry.delivered.saturating_add(1);
        let mailbox = entry.mailbox;
        let is_last = entry
            .delivered_max()
            .is_some_and(|max| entry.delivered >= max);
        if is_last {
            if entry.rare.as_ref().is_some_and(|rare| !rare.is_max_told) {
                self.overdue.push(sid);
            }
            self.table.remove(sid);
        }
        Route::Mailbox { mailbox, is_last }
    }

    /// The lines that restore every live subscription, what is left of its maximum included.
    ///
    /// The server counts a maximum from the SUB, so the new one is what remains.
    pub(crate) fn replay(&mut self) -> Vec<u8> {
        self.overdue.clear();
        self.unconfirmed.clear();
        let mut lines = self.restore();
        self.is_asking = false;
        lines.extend_from_slice(&self.settle());
        lines
    }

    /// Two connections are to serve: what is said from now on is for the new one, which is told all
    /// with [`Subscriptions::restore`].
    pub(crate) const fn note_moving(&mut self) {
        self.is_moving = true;
    }

    /// The lines that restore every live subscription, without the maximums: while another
    /// connection serves them, too, the server would count messages that come twice.
    /// [`Subscriptions::settle`] tells them.
    pub(crate) fn restore(&mut self) -> Vec<u8> {
        self.searched = 0;
        self.is_moving = true;
        self.is_asking = true;
        let mut lines = Vec::new();
        for (sid, entry) in self.table.iter_mut() {
            if let Some(rare) = &mut entry.rare {
                rare.is_refused = false;
                rare.is_max_told = false;
                rare.moved = 0;
                if rare.is_draining {
                    continue;
                }
            }
            encode::subscribe_again(&mut lines, &entry.interest, sid);
        }
        lines
    }

    /// The connection moved to has answered for all of them.
    pub(crate) const fn note_registered(&mut self) {
        self.is_asking = false;
    }

    /// The lines that tell what is left of the maximums, and end the subscriptions that have had
    /// all meanwhile. One connection serves from now on.
    pub(crate) fn settle(&mut self) -> Vec<u8> {
        self.is_moving = false;
        self.untold.clear();
        let mut lines = Vec::new();
        for sid in self.overdue.drain(..) {
            encode::unsubscribe(&mut lines, sid, None);
        }
        for (sid, entry) in self.table.iter_mut() {
            let delivered = entry.delivered;
            if delivered == 0 && entry.rare.is_none() {
                continue;
            }
            let rare = entry.rare();
            if rare.is_draining {
                continue;
            }
            rare.delivered_before = delivered.saturating_sub(rare.moved);
            if let Some(max) = rare.delivered_max {
                rare.is_max_told = true;
                let left = max.saturating_sub(rare.delivered_before);
                lines.extend_from_slice(&unsubscribe_line(sid, Some(left)));
            }
        }
        lines
    }

    /// The lines that end the subscriptions of queue groups.
    pub(crate) fn leave_queue_groups(&self) -> Vec<u8> {
        let mut lines = Vec::new();
        for (sid, entry) in self.table.iter() {
            if entry.is_grouped() && entry.is_held() {
                encode::unsubscribe(&mut lines, sid, None);
            }
        }
        lines
    }

    /// The connection moved to has sent a message.
    pub(crate) fn note_moved(&mut self, sid: u64) {
        if let Some(entry) = self.table.get_mut(sid) {
            let rare = entry.rare();
            rare.moved = rare.moved.saturating_add(1);
        }
    }

    /// Whether each of its messages goes to one connection only.
    pub(crate) fn is_grouped(&self, sid: u64) -> bool {
        self.table.get(sid).is_some_and(Entry::is_grouped)
    }

    pub(crate) const fn len(&self) -> usize {
        self.table.len()
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
        let mut subscriptions = Subscriptions::new(false);
        let group = QueueGroup::new("g").ok();
        let (sid, line) = subscriptions
            .add(&Filter::new("a.*").unwrap(), group.as_ref(), 7)
            .unwrap();
        assert_eq!(line, b"SUB a.* g 1\r\n");
        (subscriptions, sid)
    }

    #[test]
    fn what_is_left_of_a_maximum_is_restored() {
        let (mut subscriptions, sid) = subscriptions();
        assert_eq!(
            subscriptions.limit(sid, 3, true),
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
            subscriptions.limit(sid, 5, true),
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
            subscriptions.limit(sid, 1, true),
            Some((b"UNSUB 1\r\n".to_vec(), true))
        );
        assert_eq!(subscriptions.limit(sid, 1, true), None);
    }

    #[test]
    fn a_maximum_that_the_server_would_misread_is_kept_here() {
        let (mut subscriptions, sid) = subscriptions();
        assert_eq!(
            subscriptions.limit(sid, 1_000_000_000, true),
            Some((Vec::new(), false))
        );
        assert_eq!(subscriptions.replay(), b"SUB a.* g 1\r\n");
    }

    #[test]
    fn a_maximum_that_the_server_has_is_raised_as_far_as_it_can_be_told() {
        let (mut subscriptions, sid) = subscriptions();
        subscriptions.limit(sid, 3, true);
        assert_eq!(
            subscriptions.limit(sid, 5_000_000_000, true),
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

    fn refused(subscriptions: &mut Subscriptions, text: &str) -> Option<(u64, u64)> {
        match subscriptions.handle_error(text.as_bytes(), 0)? {
            Refused::Subscription {
                mailbox, refusal, ..
            } => Some((mailbox, refusal.sid?)),
            Refused::Message { .. } => None,
        }
    }

    #[test]
    fn a_refusal_means_the_oldest_of_those_with_its_filter_and_group() {
        let (mut subscriptions, sid) = subscriptions();
        let filter = Filter::new("a.*").unwrap();
        subscriptions.add(&filter, None, 8).unwrap();
        let group = QueueGroup::new("g").unwrap();
        let (other, _) = subscriptions.add(&filter, Some(&group), 9).unwrap();
        let text = r#"Permissions Violation for Subscription to "a.*" using queue "g""#;
        assert_eq!(refused(&mut subscriptions, text), Some((7, sid)));
        assert_eq!(refused(&mut subscriptions, text), Some((9, other)));
        assert_eq!(refused(&mut subscriptions, text), None);
        assert_eq!(subscriptions.replay(), b"SUB a.* 2\r\n");
    }

    #[test]
    fn a_refusal_with_a_sid_means_that_one() {
        let (mut subscriptions, _) = subscriptions();
        let filter = Filter::new("a.*").unwrap();
        subscriptions.add(&filter, None, 8).unwrap();
        let (last, _) = subscriptions.add(&filter, None, 9).unwrap();
        let text = format!(r#"Permissions Violation for Subscription to "a.*" (sid "{last}")"#);
        assert_eq!(refused(&mut subscriptions, &text), Some((9, last)));
        assert_eq!(subscriptions.len(), 2);
    }

    #[test]
    fn a_refused_subscription_is_tried_again_where_that_is_wanted() {
        let mut subscriptions = Subscriptions::new(true);
        let filter = Filter::new("a").unwrap();
        subscriptions.add(&filter, None, 7).unwrap();
        let text = r#"Permissions Violation for Subscription to "a""#;
        assert_eq!(refused(&mut subscriptions, text), Some((7, 1)));
        assert_eq!(
            refused(&mut subscriptions, text),
            None,
            "it is known already"
        );
        assert_eq!(subscriptions.replay(), b"SUB a 1\r\n");
        assert_eq!(refused(&mut subscriptions, text), Some((7, 1)));
    }

    #[test]
    fn a_mailbox_that_can_do_without_a_subscription_keeps_it_for_the_next_connection() {
        let mut subscriptions = Subscriptions::new(false);
        for subject in ["a", "b"] {
            let filter = Filter::new(subject).unwrap();
            subscriptions.add(&filter, None, 7).unwrap();
        }
        subscriptions.join(7, 1);
        let mut refuse = |subject: &str| {
            let text = format!("Permissions Violation for Subscription to \"{subject}\"");
            match subscriptions.handle_error(text.as_bytes(), 0) {
                Some(Refused::Subscription { is_aside, .. }) => {
                    (is_aside, subscriptions.replay().to_vec())
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(refuse("b"), (true, b"SUB a 1\r\nSUB b 2\r\n".to_vec()));
        assert_eq!(refuse("a"), (false, b"SUB b 2\r\n".to_vec()));
    }

    #[test]
    fn too_many_subscriptions_means_the_one_before_the_next_pong() {
        let (mut subscriptions, sid) = subscriptions();
        let filter = Filter::new("b").unwrap();
        let (other, _) = subscriptions.add(&filter, None, 8).unwrap();
        subscriptions.await_confirmation(sid, 2, 0);
        subscriptions.await_confirmation(other, 4, 0);
        let text = b"maximum subscriptions exceeded";
        assert_eq!(subscriptions.handle_error(text, 0), None);
        let found = subscriptions.handle_error(text, 3);
        let Some(Refused::Subscription {
            mailbox: 8,
            refusal,
            ..
        }) = found
        else {
            panic!("{found:?}");
        };
        assert_eq!(refusal.kind, RefusalKind::TooManySubscriptions);
        assert_eq!((refusal.subject.as_str(), refusal.sid), ("b", Some(other)));
        assert_eq!(subscriptions.replay(), b"SUB a.* g 1\r\n");
    }

    #[test]
    fn maximums_that_change_while_nothing_is_read_are_told_once_and_drains_too() {
        let mut subscriptions = Subscriptions::new(false);
        let filter = Filter::new("a").unwrap();
        let (sid, _) = subscriptions.add(&filter, None, 0).unwrap();
        for max in [5, 6, 5, 6, 7] {
            let told = subscriptions.limit(sid, max, false);
            assert_eq!(told, Some((Vec::new(), false)));
        }
        assert_eq!(subscriptions.tell_maximums(), b"UNSUB 1 7\r\n");
        assert_eq!(subscriptions.tell_maximums(), b"");
        let again = subscriptions.limit(sid, 7, true);
        assert_eq!(again, Some((Vec::new(), false)), "it knows");
        assert!(subscriptions.drain(sid).is_some());
        assert_eq!(subscriptions.drain(sid), None);
        assert_eq!(subscriptions.drain_others(|_| false), b"");
    }
}
