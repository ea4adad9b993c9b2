//! What the owner asks for its subscriptions.

use crate::session::outbox::Outbox;
use crate::session::subscriptions::Route;
use crate::subject::{Filter, QueueGroup};

use super::Session;

impl Session {
    /// Adds a subscription whose messages go to `mailbox`; returns its sid and queues its line.
    ///
    /// `None` when 2^32 subscriptions are alive.
    pub fn subscribe(
        &mut self,
        filter: Filter,
        queue_group: Option<QueueGroup>,
        mailbox: u64,
        outbox: &mut Outbox,
    ) -> Option<u64> {
        let (sid, line) = self
            .subscriptions
            .add(&filter, queue_group.as_ref(), mailbox)?;
        outbox.line(line);
        Some(sid)
    }

    /// The subscription's SUB was queued alone before the PING of this number.
    pub(crate) fn await_confirmation(&mut self, sid: u64, ping: u64, outbox: &Outbox) {
        let answered = outbox.pings_answered();
        self.subscriptions.await_confirmation(sid, ping, answered);
    }

    /// The mailbox has several subscriptions, which end together when the main one is refused.
    pub(crate) fn join(&mut self, mailbox: u64, main: u64) {
        self.subscriptions.join(mailbox, main);
    }

    /// The mailbox is gone.
    pub(crate) fn unjoin(&mut self, mailbox: u64) {
        self.subscriptions.unjoin(mailbox);
    }

    /// The mailbox is gone, and its subscriptions with it.
    pub(super) fn part(&mut self, mailbox: u64, outbox: &mut Outbox) {
        for sid in self.subscriptions.part(mailbox) {
            self.unsubscribe(sid, outbox);
        }
    }

    /// Whether a refused subscription is asked for again on the next connection.
    pub(crate) const fn restores_refused(&self) -> bool {
        self.options.restores_refused
    }

    /// Ends a subscription now. Returns false when it had ended already.
    pub fn unsubscribe(&mut self, sid: u64, outbox: &mut Outbox) -> bool {
        let Some(line) = self.subscriptions.remove(sid) else {
            return false;
        };
        self.tell_old(line.clone());
        outbox.line(line);
        true
    }

    /// Ends a subscription after that many messages in all. Returns true when it has ended already.
    pub fn limit(&mut self, sid: u64, delivered_max: u64, outbox: &mut Outbox) -> bool {
        let has_room = outbox.check_lines().is_ok();
        let limited = self.subscriptions.limit(sid, delivered_max, has_room);
        let Some((line, has_ended)) = limited else {
            return true;
        };
        if has_ended {
            self.tell_old(line.clone());
        }
        outbox.line(line);
        has_ended
    }

    /// Asks the server to stop; what is under way still arrives.
    pub fn drain(&mut self, sid: u64, outbox: &mut Outbox) {
        if let Some(line) = self.subscriptions.drain(sid) {
            self.tell_old(line.clone());
            outbox.line(line);
        }
    }

    /// Drains every subscription but those of mailboxes that `is_kept`.
    pub fn drain_others(&mut self, is_kept: impl Fn(u64) -> bool, outbox: &mut Outbox) {
        let lines = self.subscriptions.drain_others(is_kept);
        self.tell_old(lines.clone());
        outbox.line(lines);
    }

    /// Forgets a drained subscription.
    pub fn forget(&mut self, sid: u64) {
        self.subscriptions.remove(sid);
    }

    /// Whether the server holds the subscription, as far as is known.
    pub(crate) fn is_held(&self, sid: u64) -> bool {
        self.subscriptions.is_held(sid)
    }

    /// The filter of a subscription that is alive.
    pub(crate) fn filter(&self, sid: u64) -> Option<&str> {
        self.subscriptions.filter(sid)
    }

    /// Counts a message for `sid` and says where it goes.
    pub fn route(&mut self, sid: u64) -> Route {
        self.subscriptions.route(sid)
    }
}
