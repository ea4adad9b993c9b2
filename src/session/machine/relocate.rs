//! The session's part in a move: what it asks of both links, and when.

use std::time::Duration;

use crate::session::action::Action;
use crate::session::event::{Event, LinkError, Moved};
use crate::session::moving::{Move, OldPong};
use crate::session::outbox::Outbox;
use crate::session::refusal::told;
use crate::wire::{ServerError, ServerOp, encode};

use super::{Connection, Heard, Session};

impl Session {
    /// The new link serves from now on; the old one tells what it has.
    pub(super) fn begin_move(&mut self, old: Connection, now: Duration, outbox: &mut Outbox) {
        let Some(current) = &self.current else {
            return;
        };
        let to = current.server.clone();
        let pings_owed = outbox.suspend();
        let asks_at = now.saturating_add(self.options.move_overlap);
        let deadline = asks_at.saturating_add(self.options.connect_timeout);
        let mut bytes = Vec::new();
        for _ in 0..outbox.take_pongs() {
            encode::pong(&mut bytes);
        }
        // It goes on telling until the move is over, and to nobody whom we have told to leave.
        bytes.append(&mut outbox.take_lines());
        self.send_ping(old.link, bytes);
        self.subscriptions.note_moving();
        self.moving = Some(Move::new(
            old.link, old.server, to, pings_owed, asks_at, deadline, self.seed,
        ));
    }

    /// Asks the new server for the subscriptions if it is time; without a moment it is.
    fn ask_new(&mut self, now: Option<Duration>, outbox: &mut Outbox) {
        let Some(link) = self.writing_link() else {
            return;
        };
        if let Some(moving) = &mut self.moving
            && moving.handle_asking(now)
        {
            // They are all in the table.
            outbox.take_lines();
            let lines = self.subscriptions.restore();
            self.send_ping(link, lines);
        }
    }

    /// An operation of the server that is being left.
    pub(super) fn handle_old_op(
        &mut self,
        now: Duration,
        op: &ServerOp<'_>,
        outbox: &mut Outbox,
    ) -> Heard {
        let Some(moving) = &mut self.moving else {
            return Heard::Nothing;
        };
        match op {
            ServerOp::Pong => match moving.handle_old_pong() {
                OldPong::OfOutbox => {
                    let Some(number) = outbox.handle_pong() else {
                        return Heard::Nothing;
                    };
                    self.tell_connected(number);
                    return Heard::Pong(number);
                }
                OldPong::Confirms => {
                    self.ask_new(None, outbox);
                    outbox.resume_confirmed();
                    self.handle_move_timeout(now, outbox);
                }
                OldPong::HasSaidAll => self.hang_old(now, outbox),
                OldPong::Nothing => {}
            },
            ServerOp::Ping => {
                if let Some(link) = moving.old_link()
                    && moving.handle_old_ping()
                {
                    let mut bytes = Vec::new();
                    encode::pong(&mut bytes);
                    self.actions.push_back(Action::Send {
                        link,
                        bytes: bytes.into(),
                    });
                }
            }
            ServerOp::Err { text } => {
                let text = told(text);
                if !ServerError::new(text.as_bytes()).closes() {
                    self.report(Event::ServerError { text });
                }
            }
            ServerOp::Info { .. } | ServerOp::Ok | ServerOp::Msg(_) => {}
        }
        Heard::Nothing
    }

    pub(super) fn handle_move_timeout(&mut self, now: Duration, outbox: &mut Outbox) {
        self.ask_new(Some(now), outbox);
        let Some(moving) = &mut self.moving else {
            return;
        };
        let Some(old) = moving.old_link() else {
            if moving.is_over(now) {
                self.end_move(now, outbox);
            }
            return;
        };
        if moving.is_late(now, self.options.connect_timeout) {
            if !moving.is_registered() {
                // The new server does not answer: it is no better than the old one.
                if let Some(link) = self.writing_link() {
                    self.fail(link, now, LinkError::HandshakeTimeout, outbox);
                }
                return;
            }
            return self.hang_old(now, outbox);
        }
        if moving.handle_timeout(now, || outbox.ping()) {
            self.send_ping(old, Vec::new());
        }
    }

    /// Members of a queue group get each message once, so the old one leaves as soon as the new one is known.
    pub(super) fn leave_queue_groups(&mut self) {
        let lines = self.subscriptions.leave_queue_groups();
        self.tell_old(lines);
    }

    /// Tells the server that is being left about subscriptions, too: as long as it serves.
    pub(super) fn tell_old(&mut self, lines: Vec<u8>) {
        if let Some(link) = self.old_link()
            && !lines.is_empty()
        {
            self.actions.push_back(Action::Send {
                link,
                bytes: lines.into(),
            });
        }
    }

    /// Nothing more is wanted of the old link.
    fn hang_old(&mut self, now: Duration, outbox: &mut Outbox) {
        if let Some(link) = self.old_link() {
            self.actions.retain(|action| action.link() != Some(link));
            self.actions.push_back(Action::Hang { link });
            self.handle_old_gone(now, outbox);
        }
    }

    /// The old link is gone: what the new one held is told.
    pub(super) fn handle_old_gone(&mut self, now: Duration, outbox: &mut Outbox) {
        self.ask_new(None, outbox);
        let until = now.saturating_add(self.options.move_overlap);
        let Some(moving) = &mut self.moving else {
            return;
        };
        if !moving.is_confirmed() {
            let in_doubt = outbox.resume(moving.pings_owed());
            moving.note_in_doubt(in_doubt);
        }
        let held = moving.handle_old_gone(outbox.ping(), until);
        self.messages.extend(held);
        self.answered = moving.take_pong();
    }

    /// No copy can come any more.
    fn end_move(&mut self, now: Duration, outbox: &mut Outbox) {
        self.moving = None;
        // Behind the SUBs that may wait in the outbox.
        outbox.line(self.subscriptions.settle());
        self.look_for_another(now);
    }

    /// The new link is lost, or the session ends: the old one goes with it. What was published to
    /// either is in doubt, and the outbox counts it.
    pub(super) fn abandon_move(&mut self) {
        let Some(moving) = &mut self.moving else {
            return;
        };
        if let Some(link) = moving.old_link() {
            self.actions.retain(|action| action.link() != Some(link));
            self.actions.push_back(Action::Hang { link });
            self.messages
                .extend(moving.handle_old_gone(None, Duration::ZERO));
        } else if !moving.is_told() {
            self.tell_move();
        }
        self.moving = None;
    }

    pub(super) fn tell_move(&mut self) {
        // Its PING may have been given up with the server that was left.
        self.tell_connected(u64::MAX);
        let Some(moving) = &self.moving else {
            return;
        };
        self.report(Event::Moved(Box::new(Moved {
            from: moving.from().clone(),
            to: moving.to().clone(),
            generation: self.generation,
            in_doubt: moving.in_doubt(),
            copies: moving.copies(),
        })));
    }

    pub(super) fn send_ping(&mut self, link: u64, mut bytes: Vec<u8>) {
        encode::ping(&mut bytes);
        self.actions.push_back(Action::Send {
            link,
            bytes: bytes.into(),
        });
    }
}
