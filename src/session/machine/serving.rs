//! What the server says while its link serves.

use std::time::Duration;

use crate::session::event::{Event, LinkError};
use crate::session::outbox::Outbox;
use crate::session::refusal::{Refused, told};
use crate::wire::handshake::ServerInfo;
use crate::wire::{ServerError, ServerOp};

use super::{EVENTS_MAX, Heard, Session};

impl Session {
    pub(super) fn handle_current_op(
        &mut self,
        now: Duration,
        op: &ServerOp<'_>,
        outbox: &mut Outbox,
    ) -> Heard {
        match op {
            ServerOp::Ping => outbox.pong(),
            ServerOp::Pong => return self.handle_pong(now, outbox),
            // One that cannot be read changes nothing.
            ServerOp::Info { json } => {
                if let Ok(info) = ServerInfo::parse(json) {
                    self.take_over(info, now, outbox);
                }
            }
            ServerOp::Err { text } if self.handle_refusal(text, outbox) => {}
            ServerOp::Err { text } => {
                let text = told(text);
                if ServerError::new(text.as_bytes()).closes()
                    && let Some(current) = &mut self.current
                {
                    current.last_refusal = Some(LinkError::Server(text.clone()));
                }
                self.report(Event::ServerError { text });
            }
            ServerOp::Ok | ServerOp::Msg(_) => {}
        }
        Heard::Nothing
    }

    /// Returns true when the -ERR concerns one subscription or one message, which are told.
    fn handle_refusal(&mut self, text: &[u8], outbox: &mut Outbox) -> bool {
        let answered = outbox.pings_answered();
        let Some(refused) = self.subscriptions.handle_error(text, answered) else {
            return false;
        };
        if let Refused::Subscription {
            mailbox, is_aside, ..
        } = &refused
            && !(*is_aside || self.options.restores_refused)
        {
            self.part(*mailbox, outbox);
        }
        let refusal = refused.refusal().clone();
        let is_message = matches!(refused, Refused::Message { .. });
        // Subscriptions are bounded by those that are alive.
        if !is_message || self.refused.len() < EVENTS_MAX {
            self.refused.push_back(refused);
        }
        self.report(if is_message {
            Event::PublishRefused(refusal)
        } else {
            Event::SubscriptionRefused(refusal)
        });
        true
    }

    fn handle_pong(&mut self, now: Duration, outbox: &mut Outbox) -> Heard {
        if let Some(current) = &mut self.current {
            current.keepalive.handle_pong();
        }
        if let Some(moving) = &mut self.moving {
            let (overlap, patience) = (self.options.move_overlap, self.options.connect_timeout);
            if moving.handle_registered(now, overlap, patience) {
                self.subscriptions.note_registered();
                self.leave_queue_groups();
                return Heard::Nothing;
            }
            if !moving.has_asked() {
                // Nobody has asked it anything.
                return Heard::Nothing;
            }
        }
        let Some(number) = outbox.handle_pong() else {
            return Heard::Nothing;
        };
        self.tell_connected(number);
        outbox.line(self.subscriptions.tell_maximums());
        if let Some(moving) = &mut self.moving {
            if let Some(old) = moving.old_link() {
                if moving.hold_pong(number) {
                    self.send_ping(old, Vec::new());
                }
                return Heard::Nothing;
            }
            if moving.handle_pong(number) {
                self.tell_move();
                // Whoever waits for it is to know what the move left in doubt.
                self.answered = Some(number);
                return Heard::Nothing;
            }
        }
        Heard::Pong(number)
    }

    /// A later INFO replaces the stored one.
    pub(super) fn take_over(&mut self, info: ServerInfo, now: Duration, outbox: &mut Outbox) {
        let Some(server) = self.current.as_ref().map(|current| current.server.clone()) else {
            return;
        };
        self.info = info;
        let discarded_messages = outbox.limit_bodies(self.info.body_bytes_max());
        if discarded_messages > 0 {
            let max = outbox.body_bytes_max();
            self.report(Event::PayloadTooLarge {
                discarded_messages,
                max,
            });
        }
        if self.options.discovers_servers {
            let servers = self.pool.discover(&server, &self.info.connect_urls);
            if !servers.is_empty() {
                self.report(Event::ServersDiscovered { servers });
                self.look_for_another(now);
            }
        }
        if self.info.ldm && !self.is_leaving {
            self.is_leaving = true;
            self.pool.note_leaving(&server);
            self.report(Event::LameDuck);
            self.look_for_another(now);
        }
    }
}
