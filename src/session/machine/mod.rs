//! The session's state machine: which link is being opened, which one serves, what comes after it.

mod ending;
mod opening;
mod relocate;
mod serving;
mod subscribing;

use std::collections::VecDeque;
use std::time::Duration;

use crate::wire::handshake::ServerInfo;
use crate::wire::{Message, ServerOp};

use super::action::Action;
use super::auth::{Credentials, CredentialsError};
use super::event::{Event, LinkError};
use super::handshake::Handshake;
use super::keepalive::{Due, Keepalive};
use super::moving::{Move, Verdict};
use super::options::SessionOptions;
use super::outbox::Outbox;
use super::pool::Pool;
use super::redial::Redial;
use super::refusal::Refused;
use super::server_addr::ServerAddr;
use super::subscriptions::Subscriptions;

/// Events that may wait for the owner; older ones are given up first.
const EVENTS_MAX: usize = 1_024;

/// What an operation meant to the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Heard {
    /// Nothing that the owner waits for.
    Nothing,
    /// The PING with this number was answered, and so were all before it.
    Pong(u64),
    /// The connection is up; its generation.
    Connected(u64),
}

/// One client's conversation; pure, and alive across connections.
#[derive(Debug)]
pub struct Session {
    options: SessionOptions,
    pool: Pool,
    redial: Redial,
    /// When to dial next, while no link is being opened.
    due: Option<Duration>,
    opening: Option<Handshake>,
    current: Option<Connection>,
    moving: Option<Move>,
    /// What is told of the connection once this PING is answered.
    restoring: Option<Event>,
    restored_at: Option<u64>,
    /// The server is about to stop and there is, or will be, another one to move to.
    is_leaving: bool,
    is_closed: bool,
    info: ServerInfo,
    subscriptions: Subscriptions,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
    refused: VecDeque<Refused>,
    messages: VecDeque<Message>,
    answered: Option<u64>,
    generation: u64,
    links: u64,
    seed: u64,
}

/// The link that serves.
#[derive(Debug)]
struct Connection {
    link: u64,
    server: ServerAddr,
    keepalive: Keepalive,
    last_refusal: Option<LinkError>,
}

impl Session {
    /// Makes a session that wants to dial at once. `seed` is for its order of servers, the jitter of
    /// its pauses, and what it remembers of messages when it moves.
    #[must_use]
    pub fn new(options: SessionOptions, seed: u64, now: Duration) -> Self {
        let pool = Pool::new(
            options.servers.clone(),
            options.select_server.clone(),
            options.keeps_server_order,
            seed,
        );
        let mut redial = Redial::new(options.redial, options.redial_delay.clone(), seed);
        redial.begin(now);
        Self {
            pool,
            redial,
            due: Some(now),
            opening: None,
            current: None,
            moving: None,
            restoring: None,
            restored_at: None,
            is_leaving: false,
            is_closed: false,
            info: ServerInfo::default(),
            subscriptions: Subscriptions::new(options.restores_refused),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            refused: VecDeque::new(),
            messages: VecDeque::new(),
            answered: None,
            generation: 0,
            links: 0,
            seed,
            options,
        }
    }

    /// Ends the session.
    pub fn close(&mut self, outbox: &mut Outbox) {
        self.finish(None, outbox);
    }

    /// Leaves the connection, if there is one, and dials anew at once.
    pub fn reconnect(&mut self, now: Duration, outbox: &mut Outbox) {
        let link = self.current.as_ref().map(|current| current.link);
        if let Some(link) = link {
            self.fail(link, now, LinkError::Forced, outbox);
            self.redial.begin_forced(now);
        }
        if self.due.is_some() {
            self.due = Some(now);
        }
    }

    /// Replaces the pool. The connection stays, whether or not its server is among them, unless it is
    /// about to stop: then another is dialed at once.
    pub fn set_servers(&mut self, servers: Vec<ServerAddr>, now: Duration) {
        self.pool.replace(servers);
        self.look_for_another(now);
    }

    /// The socket is open.
    pub fn handle_connected(&mut self, link: u64, now: Duration, outbox: &mut Outbox) {
        if let Some(handshake) = self
            .opening
            .as_mut()
            .filter(|opening| opening.link() == link)
        {
            let step = handshake.handle_connected(&self.options);
            self.step(link, step, now, outbox);
        }
    }

    /// TLS is up on the socket.
    pub fn handle_tls_started(&mut self, link: u64, now: Duration, outbox: &mut Outbox) {
        if let Some(handshake) = self
            .opening
            .as_mut()
            .filter(|opening| opening.link() == link)
        {
            let step = handshake.handle_tls_started(&self.options);
            self.step(link, step, now, outbox);
        }
    }

    /// The owner found out how to identify ourselves, or could not: `Err` says why.
    pub fn handle_credentials(
        &mut self,
        link: u64,
        now: Duration,
        credentials: Result<Credentials, CredentialsError>,
        outbox: &mut Outbox,
    ) {
        if let Some(handshake) = self
            .opening
            .as_mut()
            .filter(|opening| opening.link() == link)
        {
            let step = match credentials {
                Ok(credentials) => handshake.handle_credentials(&self.options, &credentials),
                Err(error) => Err(LinkError::Credentials(error)),
            };
            self.step(link, step, now, outbox);
        }
    }

    /// Bytes came from the server.
    pub fn handle_bytes(&mut self, link: u64, now: Duration) {
        if let Some(current) = self.current.as_mut().filter(|current| current.link == link) {
            current.keepalive.handle_bytes(now);
        }
    }

    /// Nothing is read for now, by the owner's choice: no server is given up for what it may have said.
    /// To be called before [`Session::handle_timeout`] as long as that lasts.
    pub fn handle_standstill(&mut self, now: Duration) {
        if let Some(current) = &mut self.current {
            current.keepalive.handle_standstill(now);
        }
        if let Some(moving) = &mut self.moving {
            moving.handle_standstill(now.saturating_add(self.options.connect_timeout));
        }
    }

    /// Takes an operation other than a message; before the handshake is over, messages, too.
    pub fn handle_op(
        &mut self,
        link: u64,
        now: Duration,
        op: &ServerOp<'_>,
        outbox: &mut Outbox,
    ) -> Heard {
        if let Some(handshake) = self
            .opening
            .as_mut()
            .filter(|opening| opening.link() == link)
        {
            let step = handshake.handle_op(&self.options, op);
            return self.step(link, step, now, outbox);
        }
        if self.serves(link) {
            return self.handle_current_op(now, op, outbox);
        }
        if self.old_link() == Some(link) {
            return self.handle_old_op(now, op, outbox);
        }
        Heard::Nothing
    }

    /// Takes a message of a link that [`Session::is_receiving`]. Returns it, or `None` when it waits
    /// for [`Session::poll_message`] or was told already: so it goes while the session moves.
    pub fn handle_message(&mut self, link: u64, message: Message) -> Option<Message> {
        let Some(moving) = &mut self.moving else {
            return Some(message);
        };
        let sid = message.sid_number()?;
        if moving.old_link() != Some(link) {
            self.subscriptions.note_moved(sid);
        }
        if self.subscriptions.is_grouped(sid) {
            return Some(message);
        }
        match moving.handle_message(link, message) {
            Verdict::Tell(message) => Some(message),
            Verdict::Keep => None,
        }
    }

    /// The socket is gone, or could not be opened.
    pub fn handle_disconnected(
        &mut self,
        link: u64,
        now: Duration,
        reason: LinkError,
        outbox: &mut Outbox,
    ) {
        if self.is_closed {
            // What closing asked for is still to be done.
            return;
        }
        self.actions.retain(|action| action.link() != Some(link));
        if self
            .opening
            .as_ref()
            .is_some_and(|opening| opening.link() == link)
        {
            self.handle_failed_dial(now, reason, outbox);
        } else if self.old_link() == Some(link) {
            self.handle_old_gone(now, outbox);
        } else if self.serves(link) {
            self.handle_lost(now, reason, outbox);
        }
    }

    /// A moment that [`Session::poll_timeout`] named has come.
    pub fn handle_timeout(&mut self, now: Duration, outbox: &mut Outbox) {
        let late = self
            .opening
            .as_ref()
            .filter(|opening| now >= opening.deadline());
        if let Some(link) = late.map(Handshake::link) {
            self.fail(link, now, LinkError::HandshakeTimeout, outbox);
        }
        self.handle_move_timeout(now, outbox);
        let Some(current) = &mut self.current else {
            return;
        };
        if outbox.is_suspended() {
            // Our PINGs wait for the old server, which has a deadline of its own.
            current.keepalive.handle_standstill(now);
        }
        match current.keepalive.handle_timeout(now) {
            Due::Nothing => {}
            // A PONG that is owed already says as much as another.
            Due::Ping if outbox.pings_out() >= current.keepalive.pings_out_max() => {}
            Due::Ping => {
                outbox.ping();
            }
            Due::GiveUp => {
                let link = current.link;
                self.fail(link, now, LinkError::Stale, outbox);
            }
        }
    }

    /// What to do next; call until `None`.
    #[must_use]
    pub fn poll_action(&mut self, now: Duration, outbox: &mut Outbox) -> Option<Action> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        if self.due.is_none_or(|due| now < due) || self.is_closed {
            return None;
        }
        self.dial(now, outbox)
    }

    /// What happened; call until `None`.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whom the server's refusals end; call until `None`.
    pub(crate) fn poll_refused(&mut self) -> Option<Refused> {
        self.refused.pop_front()
    }

    /// Messages that waited while the session moved, in their order; call until `None`, and before
    /// [`Session::handle_message`].
    #[must_use]
    pub fn poll_message(&mut self) -> Option<Message> {
        self.messages.pop_front()
    }

    /// The number of a PING that was answered while the session moved, and so were all before it: a
    /// [`Heard::Pong`] that waited for the messages before it, or for the move to be told. To be asked
    /// for behind [`Session::poll_message`] and [`Session::poll_event`].
    #[must_use]
    pub const fn poll_answered(&mut self) -> Option<u64> {
        self.answered.take()
    }

    /// When to call [`Session::handle_timeout`], and [`Session::poll_action`] after it.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.is_closed {
            return None;
        }
        let opening = self.opening.as_ref().map(Handshake::deadline);
        let current = self.current.as_ref();
        let keepalive = current.map(|current| current.keepalive.timeout());
        let moving = self.moving.as_ref().and_then(Move::timeout);
        [self.due, opening, keepalive, moving]
            .into_iter()
            .flatten()
            .min()
    }

    /// What the server said about itself last.
    #[must_use]
    pub const fn info(&self) -> &ServerInfo {
        &self.info
    }

    /// The server of the connection that is up.
    #[must_use]
    pub fn server(&self) -> Option<&ServerAddr> {
        self.current.as_ref().map(|current| &current.server)
    }

    /// The pool, in the order in which its servers would be dialed.
    #[must_use]
    pub fn servers(&self) -> Vec<ServerAddr> {
        self.pool.servers()
    }

    /// Returns true between a completed handshake and the end of that connection.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.current.is_some()
    }

    /// Returns true when messages of this link are for [`Session::handle_message`].
    #[must_use]
    pub fn is_receiving(&self, link: u64) -> bool {
        self.serves(link) || self.old_link() == Some(link)
    }

    /// Returns true while two links serve, or copies may still come: messages are for
    /// [`Session::handle_message`] then.
    #[must_use]
    pub const fn is_moving(&self) -> bool {
        self.moving.is_some()
    }

    /// Returns true when no more may be read from this link for now: what it holds is enough.
    #[must_use]
    pub fn is_full(&self, link: u64) -> bool {
        self.serves(link) && self.moving.as_ref().is_some_and(Move::is_full)
    }

    /// The link that the outbox is for.
    #[must_use]
    pub fn writing_link(&self) -> Option<u64> {
        self.current.as_ref().map(|current| current.link)
    }

    /// Returns true when the session has ended.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Connections so far.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns true when one of the `poll_` methods has something, apart from what time brings.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.actions.is_empty()
            || !self.events.is_empty()
            || !self.messages.is_empty()
            || self.answered.is_some()
    }

    /// Live subscriptions.
    #[must_use]
    pub fn subscriptions_len(&self) -> usize {
        self.subscriptions.len()
    }

    fn serves(&self, link: u64) -> bool {
        self.current
            .as_ref()
            .is_some_and(|current| current.link == link)
    }

    fn old_link(&self) -> Option<u64> {
        self.moving.as_ref().and_then(Move::old_link)
    }

    fn report(&mut self, event: Event) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

#[cfg(test)]
mod tests;
