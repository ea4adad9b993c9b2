//! How a link ends, and how the session does.

use std::time::Duration;

use crate::session::action::Action;
use crate::session::event::{Event, LinkError};
use crate::session::outbox::Outbox;

use super::Session;

impl Session {
    /// Ends this link from our side.
    pub(super) fn fail(
        &mut self,
        link: u64,
        now: Duration,
        reason: LinkError,
        outbox: &mut Outbox,
    ) {
        self.handle_disconnected(link, now, reason, outbox);
        let hang = Action::Hang { link };
        if !self.actions.contains(&hang) {
            self.actions.push_front(hang);
        }
    }

    pub(super) fn handle_lost(&mut self, now: Duration, reason: LinkError, outbox: &mut Outbox) {
        let Some(current) = self.current.take() else {
            return;
        };
        self.abandon_move();
        self.restoring = None;
        let reason = current.last_refusal.unwrap_or(reason);
        let in_doubt = outbox.close();
        self.is_leaving = false;
        self.report(Event::Disconnected {
            reason: reason.clone(),
            in_doubt,
        });
        if self.is_refused_for_good(&current.server, &reason) {
            return self.finish(Some(reason), outbox);
        }
        self.pool.note_lost(&current.server);
        let due = self.redial.resume(now, self.pool.len());
        if self.opening.is_none() {
            self.due = Some(due);
        }
    }

    pub(super) fn finish(&mut self, reason: Option<LinkError>, outbox: &mut Outbox) {
        if self.is_closed {
            return;
        }
        let opening = self.opening.take().map(|opening| opening.link());
        self.abandon_move();
        let current = self.current.take().map(|current| current.link);
        if current.is_some() {
            let in_doubt = outbox.close();
            self.report(Event::Disconnected {
                reason: LinkError::ByOwner,
                in_doubt,
            });
        }
        self.is_closed = true;
        self.due = None;
        self.actions
            .retain(|action| matches!(action, Action::Hang { .. }));
        let links = [opening, current].into_iter().flatten();
        self.actions.extend(links.map(|link| Action::Hang { link }));
        self.actions.push_back(Action::Finish);
        self.report(Event::Closed {
            reason,
            discarded_messages: outbox.end(),
        });
    }
}
