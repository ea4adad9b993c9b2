//! The session's state machine: which link is being opened, which one serves, what comes after it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::subject::{Filter, QueueGroup};
use crate::wire::handshake::ServerInfo;
use crate::wire::{Message, ServerError, ServerOp};

use super::action::Action;
use super::auth::{Credentials, CredentialsError};
use super::event::{Event, LinkError};
use super::handshake::{Handshake, Step};
use super::keepalive::{Due, Keepalive};
use super::moving::{Move, Verdict};
use super::options::SessionOptions;
use super::outbox::Outbox;
use super::pool::Pool;
use super::redial::Redial;
use super::refusal::{Refused, told};
use super::server_addr::ServerAddr;
use super::subscriptions::{Route, Subscriptions};

/// Events that may wait for the owner; older ones are given up first.
const EVENTS_MAX: usize = 1_024;

/// What an operation meant to the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Heard {
    /// Nothing that the owner waits for.
    Nothing,
    /// The PING with this number was answered.
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
    /// The server is about to stop and there is, or will be, another one to move to.
    is_leaving: bool,
    is_closed: bool,
    info: ServerInfo,
    subscriptions: Subscriptions,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
    refused: VecDeque<Refused>,
    messages: VecDeque<Message>,
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
            is_leaving: false,
            is_closed: false,
            info: ServerInfo::default(),
            subscriptions: Subscriptions::new(options.restores_refused),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            refused: VecDeque::new(),
            messages: VecDeque::new(),
            generation: 0,
            links: 0,
            seed,
            options,
        }
    }

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

    /// The mailbox has several subscriptions, which end together when one is refused.
    pub(crate) fn join(&mut self, mailbox: u64) {
        self.subscriptions.join(mailbox);
    }

    /// The mailbox is gone.
    pub(crate) fn unjoin(&mut self, mailbox: u64) {
        self.subscriptions.unjoin(mailbox);
    }

    /// The mailbox is gone, and its subscriptions with it.
    fn part(&mut self, mailbox: u64, outbox: &mut Outbox) {
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
        let line = self.subscriptions.remove(sid);
        line.map(|line| outbox.line(line)).is_some()
    }

    /// Ends a subscription after that many messages in all. Returns true when it has ended already.
    pub fn limit(&mut self, sid: u64, delivered_max: u64, outbox: &mut Outbox) -> bool {
        let Some((line, has_ended)) = self.subscriptions.limit(sid, delivered_max) else {
            return true;
        };
        outbox.line(line);
        has_ended
    }

    /// Asks the server to stop; what is under way still arrives.
    pub fn drain(&mut self, sid: u64, outbox: &mut Outbox) {
        if let Some(line) = self.subscriptions.drain(sid) {
            outbox.line(line);
        }
    }

    /// Drains every subscription but those of the mailbox `kept`.
    pub fn drain_all(&mut self, kept: u64, outbox: &mut Outbox) {
        self.drain_others(|mailbox| mailbox == kept, outbox);
    }

    /// Drains every subscription but those of mailboxes that `is_kept`.
    pub(crate) fn drain_others(&mut self, is_kept: impl Fn(u64) -> bool, outbox: &mut Outbox) {
        outbox.line(self.subscriptions.drain_all(is_kept));
    }

    /// Forgets a drained subscription.
    pub fn forget(&mut self, sid: u64) {
        self.subscriptions.remove(sid);
    }

    /// The filter of a subscription that is alive.
    pub(crate) fn filter(&self, sid: u64) -> Option<&str> {
        self.subscriptions.filter(sid)
    }

    /// Counts a message for `sid` and says where it goes.
    pub fn route(&mut self, sid: u64) -> Route {
        self.subscriptions.route(sid)
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
            self.redial.begin(now);
        }
        if self.due.is_some() {
            self.due = Some(now);
        }
    }

    /// Replaces the pool. The connection stays, whether or not its server is among them.
    pub fn set_servers(&mut self, servers: Vec<ServerAddr>) {
        self.pool.replace(servers);
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
        self.due = None;
        let server = match &self.current {
            Some(current) => {
                let server = self.pool.next_other(&current.server)?;
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
        !self.actions.is_empty() || !self.events.is_empty() || !self.messages.is_empty()
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

    /// Carries out what an input to the handshake led to.
    fn step(
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
            self.due = Some(now);
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
                self.report(Event::Connected {
                    server,
                    generation: self.generation,
                });
            }
        }
        self.is_leaving = false;
        self.take_over(info, now);
        Heard::Connected(self.generation)
    }

    fn handle_current_op(
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
                    self.take_over(info, now);
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
        if let Refused::Subscription { mailbox, .. } = &refused
            && !self.options.restores_refused
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
        if let Some(moving) = &mut self.moving {
            let (overlap, patience) = (self.options.move_overlap, self.options.connect_timeout);
            if moving.handle_registered(now, overlap, patience) {
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
        if let Some(moving) = &mut self.moving
            && moving.handle_pong(number)
        {
            self.tell_move();
        }
        Heard::Pong(number)
    }

    /// A later INFO replaces the stored one.
    fn take_over(&mut self, info: ServerInfo, now: Duration) {
        let Some(server) = self.current.as_ref().map(|current| current.server.clone()) else {
            return;
        };
        self.info = info;
        if self.options.discovers_servers {
            let servers = self.pool.discover(&server, &self.info.connect_urls);
            if !servers.is_empty() {
                self.report(Event::ServersDiscovered { servers });
            }
        }
        if self.info.ldm && !self.is_leaving {
            self.is_leaving = true;
            self.pool.note_leaving(&server);
            self.report(Event::LameDuck);
            self.look_for_another(now);
        }
    }

    /// Dials another server while the one that is about to stop still serves.
    fn look_for_another(&mut self, now: Duration) {
        let is_busy = self.opening.is_some() || self.moving.is_some();
        if self.is_leaving && !is_busy && !self.is_closed {
            self.redial.begin(now);
            self.due = Some(now);
        }
    }

    /// Ends this link from our side.
    fn fail(&mut self, link: u64, now: Duration, reason: LinkError, outbox: &mut Outbox) {
        self.handle_disconnected(link, now, reason, outbox);
        let hang = Action::Hang { link };
        if !self.actions.contains(&hang) {
            self.actions.push_front(hang);
        }
    }

    fn handle_lost(&mut self, now: Duration, reason: LinkError, outbox: &mut Outbox) {
        let Some(current) = self.current.take() else {
            return;
        };
        self.abandon_move();
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

    fn handle_failed_dial(&mut self, now: Duration, reason: LinkError, outbox: &mut Outbox) {
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

    fn is_refused_for_good(&mut self, server: &ServerAddr, reason: &LinkError) -> bool {
        if !reason.is_auth() {
            self.pool.note_other_failure(server);
            return false;
        }
        let is_again = self.pool.note_auth_failure(server, &reason.to_string());
        is_again && !self.options.retries_refused
    }

    fn finish(&mut self, reason: Option<LinkError>, outbox: &mut Outbox) {
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
        self.report(Event::Closed { reason });
    }

    fn report(&mut self, event: Event) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

mod relocate;

#[cfg(test)]
mod tests;
