//! How a link comes up: its dial, its handshake, and what follows when it fails.

use std::time::Duration;

use crate::session::action::Action;
use crate::session::event::{Event, LinkError};
use crate::session::handshake::{Handshake, Step};
use crate::session::keepalive::Keepalive;
use crate::session::outbox::Outbox;
use crate::session::server_addr::ServerAddr;

use super::{Connection, Heard, Session};

impl Session {
    /// Begins a link, if there is a server to dial and an attempt left.
    pub(super) fn dial(&mut self, now: Duration, outbox: &mut Outbox) -> Option<Action> {
        self.due = None;
        let server = match &self.current {
            Some(current) => {
                let server = self.pool.next_other(&current.server, &self.info)?;
                self.redial.note_dial();
                server
            }
            None => {
                let is_counted = self.generation > 0 || self.options.retries_first_connect;
                let has_attempt = self.redial.note_dial() || !is_counted;
                let Some(server) = self.pool.next(&self.info).filter(|_| has_attempt) else {
                    self.finish(Some(LinkError::AttemptsUsedUp), outbox);
                    return self.actions.pop_front();
                };
                server
            }
        };
        self.links = self.links.saturating_add(1);
        let deadline = now.saturating_add(self.options.connect_timeout);
        self.opening = Some(Handshake::new(self.links, server.clone(), deadline));
        Some(Action::Dial {
            link: self.links,
            server,
        })
    }

    /// Carries out what an input to the handshake led to.
    pub(super) fn step(
        &mut self,
        link: u64,
        step: Result<Step, LinkError>,
        now: Duration,
        outbox: &mut Outbox,
    ) -> Heard {
        match step {
            Ok(Step::Nothing) => {}
            Ok(Step::Do(action)) => self.actions.push_back(action),
            Ok(Step::Told(text)) => self.report(Event::ServerError { text }),
            Ok(Step::Accepted) => return self.enter(now, outbox),
            Err(reason) => self.fail(link, now, reason, outbox),
        }
        Heard::Nothing
    }

    fn enter(&mut self, now: Duration, outbox: &mut Outbox) -> Heard {
        let Some((link, server, info)) = self.opening.take().map(Handshake::finish) else {
            return Heard::Nothing;
        };
        if self.current.is_some() && info.ldm {
            // It is about to stop as well.
            self.pool.note_leaving(&server);
            self.actions.push_back(Action::Hang { link });
            self.due = Some(self.redial.due_after_failure(now, self.pool.len()));
            return Heard::Nothing;
        }
        self.pool.note_success(&server);
        self.redial.note_success(now);
        if self.generation == 0 && !self.options.retries_first_connect {
            self.redial.forgive();
        }
        self.generation = self.generation.saturating_add(1);
        let connection = Connection {
            link,
            server: server.clone(),
            keepalive: Keepalive::new(self.options.keepalive, now),
            last_refusal: None,
        };
        match self.current.replace(connection) {
            Some(old) => self.begin_move(old, now, outbox),
            None => {
                outbox.open(self.subscriptions.replay());
                let generation = self.generation;
                self.restoring = Some(Event::Connected { server, generation });
                self.restored_at = if outbox.can_take() {
                    outbox.ping()
                } else {
                    None
                };
                self.tell_connected(outbox.pings_answered());
            }
        }
        self.is_leaving = false;
        self.take_over(info, now, outbox);
        Heard::Connected(self.generation)
    }

    /// Tells of the connection once the server has read the subscriptions and what waited for it:
    /// PINGs up to this number are answered.
    pub(super) fn tell_connected(&mut self, answered: u64) {
        let is_restored = self.restored_at.is_none_or(|ping| answered >= ping);
        if let Some(event) = self.restoring.take_if(|_| is_restored) {
            self.report(event);
        }
    }

    pub(super) fn handle_failed_dial(
        &mut self,
        now: Duration,
        reason: LinkError,
        outbox: &mut Outbox,
    ) {
        let Some((_, server, _)) = self.opening.take().map(Handshake::finish) else {
            return;
        };
        self.report(Event::DialFailed {
            server: server.clone(),
            reason: reason.clone(),
        });
        let is_refused_for_good = self.is_refused_for_good(&server, &reason);
        let pass_is_over = self.redial.is_first_pass_over(self.pool.len());
        let is_first = self.generation == 0 && !self.options.retries_first_connect;
        if self.current.is_some() {
            if is_refused_for_good {
                // We stay where we are as long as it lasts.
                return;
            }
        } else if is_refused_for_good || (is_first && pass_is_over) {
            return self.finish(Some(reason), outbox);
        }
        self.due = Some(self.redial.due_after_failure(now, self.pool.len()));
    }

    /// Dials another server while the one that is about to stop still serves.
    pub(super) fn look_for_another(&mut self, now: Duration) {
        let is_busy = self.opening.is_some() || self.moving.is_some();
        if self.is_leaving && !is_busy && !self.is_closed {
            self.redial.begin(now);
            self.due = Some(now);
        }
    }

    pub(super) fn is_refused_for_good(&mut self, server: &ServerAddr, reason: &LinkError) -> bool {
        if !reason.is_auth() {
            self.pool.note_other_failure(server);
            return false;
        }
        let is_again = self.pool.note_auth_failure(server, &reason.to_string());
        is_again && !self.options.retries_refused
    }
}
