//! The session's state machine: handshake, keep-alive, redial and what survives a connection.

use std::collections::VecDeque;
use std::time::Duration;

use crate::subject::{Filter, QueueGroup};
use crate::wire::encode;
use crate::wire::handshake::{Connect, ServerInfo};
use crate::wire::{Limits, ServerError, ServerOp};

use super::auth::{Auth, greeting};
use super::event::{Event, LinkError};
use super::keepalive::{Due, Keepalive, KeepaliveOptions};
use super::outbox::Outbox;
use super::redial::{Redial, RedialOptions};
use super::refusal::{Refused, told};
use super::server_addr::ServerAddr;
use super::subscriptions::{Route, Subscriptions};

/// PINGs answered within one handshake. Servers send none before their first PONG.
const EARLY_PONGS_MAX: u32 = 16;

/// Events that may wait for the owner; older ones are given up first.
const EVENTS_MAX: usize = 1_024;

/// How a session connects.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// The servers, dialed in this order.
    pub servers: Vec<ServerAddr>,
    /// Credentials for servers whose URL has none.
    pub auth: Auth,
    /// The name that server monitoring shows. Default none.
    pub name: Option<String>,
    /// Whether our own messages come back to our own subscriptions. Default true.
    pub echo: bool,
    /// The longest control line that the servers read, CONNECT included. Default 4,096 bytes.
    pub line_bytes_max: usize,
    /// Whether to insist on TLS with every server. Default false: as the URL and INFO say.
    pub is_tls_required: bool,
    /// Bound on dialing and handshake together. Default 5 s.
    pub connect_timeout: Duration,
    /// Whether the first connect goes on as a reconnect does when no server answers. Default false.
    pub retries_first_connect: bool,
    /// When to ping.
    pub keepalive: KeepaliveOptions,
    /// When to dial again.
    pub redial: RedialOptions,
    /// Whether a subscription that the server has refused is asked for again on the next
    /// connection. Default false: it is gone.
    pub restores_refused: bool,
}

impl SessionOptions {
    /// The defaults, for these servers.
    #[must_use]
    pub fn new(servers: Vec<ServerAddr>) -> Self {
        Self {
            servers,
            auth: Auth::None,
            name: None,
            echo: true,
            line_bytes_max: Limits::CLIENT_OPS.line_bytes_max,
            is_tls_required: false,
            connect_timeout: Duration::from_secs(5),
            retries_first_connect: false,
            keepalive: KeepaliveOptions::default(),
            redial: RedialOptions::default(),
            restores_refused: false,
        }
    }
}

/// What the owner has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Open a socket, then call `handle_connected` or `handle_disconnected`.
    Dial(ServerAddr),
    /// Begin TLS on the socket, then call `handle_tls_started` or `handle_disconnected`.
    StartTls(ServerAddr),
    /// Write these bytes ahead of everything in the outbox.
    Send(Vec<u8>),
    /// Close the socket.
    Hang,
    /// Nothing will be asked any more.
    Finish,
}

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
    phase: Phase,
    server: Option<ServerAddr>,
    info: ServerInfo,
    deadline: Option<Duration>,
    keepalive: Keepalive,
    redial: Redial,
    subscriptions: Subscriptions,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
    refused: VecDeque<Refused>,
    generation: u64,
    last_refusal: Option<LinkError>,
    early_pongs: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting { due: Duration },
    Dialing,
    AwaitingInfo,
    StartingTls,
    AwaitingPong,
    Connected,
    Closed,
}

impl Session {
    /// Makes a session that wants to dial at once. `seed` is for the jitter of its pauses.
    #[must_use]
    pub fn new(options: SessionOptions, seed: u64, now: Duration) -> Self {
        let mut redial = Redial::new(options.servers.clone(), options.redial, seed);
        redial.begin(now);
        Self {
            phase: Phase::Waiting { due: now },
            server: None,
            info: ServerInfo::default(),
            deadline: None,
            keepalive: Keepalive::new(options.keepalive, now),
            redial,
            subscriptions: Subscriptions::new(options.restores_refused),
            refused: VecDeque::new(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            generation: 0,
            last_refusal: None,
            early_pongs: 0,
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

    /// The socket is open.
    pub fn handle_connected(&mut self, _now: Duration) {
        if self.phase == Phase::Dialing {
            self.phase = Phase::AwaitingInfo;
        }
    }

    /// TLS is up on the socket.
    pub fn handle_tls_started(&mut self, now: Duration, outbox: &mut Outbox) {
        if self.phase == Phase::StartingTls {
            self.introduce(now, outbox);
        }
    }

    /// Bytes came from the server.
    pub const fn handle_bytes(&mut self, now: Duration) {
        self.keepalive.handle_bytes(now);
    }

    /// Takes an operation other than a message.
    pub fn handle_op(&mut self, now: Duration, op: &ServerOp<'_>, outbox: &mut Outbox) -> Heard {
        match self.phase {
            Phase::AwaitingInfo => self.handle_first_op(now, op, outbox),
            Phase::AwaitingPong => return self.handle_greeting_op(now, op, outbox),
            Phase::Connected => return self.handle_connected_op(op, outbox),
            Phase::Waiting { .. } | Phase::Dialing | Phase::StartingTls | Phase::Closed => {}
        }
        Heard::Nothing
    }

    /// The socket is gone, or could not be opened.
    pub fn handle_disconnected(&mut self, now: Duration, reason: LinkError, outbox: &mut Outbox) {
        if self.phase == Phase::Closed {
            // What closing asked for is still to be done.
            return;
        }
        self.deadline = None;
        self.actions.clear();
        match self.phase {
            Phase::Closed | Phase::Waiting { .. } => {}
            Phase::Connected => {
                let reason = self.last_refusal.take().unwrap_or(reason);
                let in_doubt = outbox.close();
                if reason.is_auth() && self.note_refusal() {
                    self.events.push_back(Event::Disconnected {
                        reason: reason.clone(),
                        in_doubt,
                    });
                    return self.finish(Some(reason), outbox);
                }
                self.report(Event::Disconnected { reason, in_doubt });
                self.phase = Phase::Waiting {
                    due: self.redial.resume(now),
                };
            }
            Phase::Dialing | Phase::AwaitingInfo | Phase::StartingTls | Phase::AwaitingPong => {
                self.handle_failed_dial(now, reason, outbox);
            }
        }
    }

    /// A moment that [`Session::poll_timeout`] named has come.
    pub fn handle_timeout(&mut self, now: Duration, outbox: &mut Outbox) {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.fail(now, LinkError::HandshakeTimeout, outbox);
        }
        if self.phase == Phase::Connected {
            match self.keepalive.handle_timeout(now) {
                Due::Nothing => {}
                // A PONG that is owed already says as much as another.
                Due::Ping if outbox.pings_out() > 0 => {}
                Due::Ping => {
                    outbox.ping();
                }
                Due::GiveUp => self.fail(now, LinkError::Stale, outbox),
            }
        }
    }

    /// What to do next; call until `None`.
    #[must_use]
    pub fn poll_action(&mut self, now: Duration, outbox: &mut Outbox) -> Option<Action> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        let Phase::Waiting { due } = self.phase else {
            return None;
        };
        if now < due {
            return None;
        }
        let Some(server) = self.redial.next_server() else {
            self.finish(Some(LinkError::AttemptsUsedUp), outbox);
            return self.actions.pop_front();
        };
        self.phase = Phase::Dialing;
        self.server = Some(server.clone());
        self.deadline = Some(now.saturating_add(self.options.connect_timeout));
        Some(Action::Dial(server))
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

    /// When to call [`Session::handle_timeout`], and [`Session::poll_action`] after it.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        match self.phase {
            Phase::Waiting { due } => Some(due),
            Phase::Connected => Some(self.keepalive.timeout()),
            Phase::Dialing | Phase::AwaitingInfo | Phase::StartingTls | Phase::AwaitingPong => {
                self.deadline
            }
            Phase::Closed => None,
        }
    }

    /// What the server said about itself last.
    #[must_use]
    pub const fn info(&self) -> &ServerInfo {
        &self.info
    }

    /// Returns true between a completed handshake and the end of that connection.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.phase == Phase::Connected
    }

    /// Returns true when the session has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Connections so far.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns true when [`Session::poll_action`] or [`Session::poll_event`] has something.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.actions.is_empty()
            || !self.events.is_empty()
            || matches!(self.phase, Phase::Waiting { .. } | Phase::Closed)
    }

    /// Live subscriptions.
    #[must_use]
    pub fn subscriptions_len(&self) -> usize {
        self.subscriptions.len()
    }

    fn handle_first_op(&mut self, now: Duration, op: &ServerOp<'_>, outbox: &mut Outbox) {
        match op {
            ServerOp::Info { json } => match ServerInfo::parse(json) {
                Ok(info) => {
                    self.info = info;
                    self.choose_tls(now, outbox);
                }
                Err(error) => {
                    let text = told(error.to_string().as_bytes());
                    self.fail(now, LinkError::InfoMalformed(text), outbox);
                }
            },
            ServerOp::Err { text } => self.fail(now, LinkError::Server(told(text)), outbox),
            ServerOp::Msg(_) | ServerOp::Ping | ServerOp::Pong | ServerOp::Ok => {
                self.fail(now, LinkError::InfoMissing, outbox);
            }
        }
    }

    /// A server that withholds TLS when it was asked for gets no credentials.
    fn choose_tls(&mut self, now: Duration, outbox: &mut Outbox) {
        let Some(server) = self.server.clone() else {
            return;
        };
        let is_wanted = self.options.is_tls_required || server.is_tls();
        let is_offered = self.info.tls_required || self.info.tls_available;
        if is_wanted && !is_offered {
            return self.fail(now, LinkError::TlsNotOffered, outbox);
        }
        if !is_wanted && !self.info.tls_required {
            return self.introduce(now, outbox);
        }
        if !cfg!(feature = "tls") {
            return self.fail(now, LinkError::TlsNotBuilt, outbox);
        }
        self.phase = Phase::StartingTls;
        self.actions.push_back(Action::StartTls(server));
    }

    /// Sends CONNECT and PING; the PONG says that the server took them.
    fn introduce(&mut self, now: Duration, outbox: &mut Outbox) {
        let in_url = self.server.as_ref().and_then(ServerAddr::credentials);
        let is_tls = self.phase == Phase::StartingTls;
        let mut connect = Connect::new();
        connect.name = self.options.name.clone();
        connect.echo = self.options.echo;
        connect.tls_required = is_tls;
        connect.headers = self.info.headers;
        connect.no_responders = self.info.headers;
        let credentials = self.options.auth.for_server(in_url).unwrap_or_default();
        if let Err(error) = credentials.introduce(&mut connect, &self.info) {
            return self.fail(now, LinkError::Credentials(error), outbox);
        }
        let max = self.options.line_bytes_max;
        let mut bytes = match greeting(connect, max) {
            Ok(bytes) => bytes,
            Err(found) => {
                return self.fail(now, LinkError::ConnectTooLong { found, max }, outbox);
            }
        };
        let bytes = std::mem::take(&mut *bytes);
        self.phase = Phase::AwaitingPong;
        self.early_pongs = 0;
        self.actions.push_back(Action::Send(bytes));
    }

    fn handle_greeting_op(
        &mut self,
        now: Duration,
        op: &ServerOp<'_>,
        outbox: &mut Outbox,
    ) -> Heard {
        match op {
            ServerOp::Pong => return self.enter(now, outbox),
            ServerOp::Err { text } => {
                let text = told(text);
                if ServerError::new(text.as_bytes()).closes() {
                    self.fail(now, LinkError::Server(text), outbox);
                } else {
                    self.report(Event::ServerError { text });
                }
            }
            ServerOp::Info { json } => self.update_info(json),
            ServerOp::Ping => {
                if self.early_pongs < EARLY_PONGS_MAX {
                    self.early_pongs = self.early_pongs.saturating_add(1);
                    let mut bytes = Vec::new();
                    encode::pong(&mut bytes);
                    self.actions.push_back(Action::Send(bytes));
                }
            }
            ServerOp::Ok | ServerOp::Msg(_) => {}
        }
        Heard::Nothing
    }

    fn enter(&mut self, now: Duration, outbox: &mut Outbox) -> Heard {
        let Some(server) = self.server.clone() else {
            return Heard::Nothing;
        };
        self.phase = Phase::Connected;
        self.deadline = None;
        self.keepalive = Keepalive::new(self.options.keepalive, now);
        self.redial.note_success(&server, now);
        self.generation = self.generation.saturating_add(1);
        outbox.open(self.subscriptions.replay());
        self.report(Event::Connected {
            server,
            generation: self.generation,
        });
        Heard::Connected(self.generation)
    }

    fn handle_connected_op(&mut self, op: &ServerOp<'_>, outbox: &mut Outbox) -> Heard {
        match op {
            ServerOp::Ping => outbox.pong(),
            ServerOp::Pong => {
                return outbox.handle_pong().map_or(Heard::Nothing, Heard::Pong);
            }
            ServerOp::Info { json } => self.update_info(json),
            ServerOp::Err { text } if self.handle_refusal(text, outbox) => {}
            ServerOp::Err { text } => {
                let text = told(text);
                if ServerError::new(text.as_bytes()).closes() {
                    self.last_refusal = Some(LinkError::Server(text.clone()));
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

    /// A later INFO replaces the stored one; one that cannot be read changes nothing.
    fn update_info(&mut self, json: &[u8]) {
        let Ok(info) = ServerInfo::parse(json) else {
            return;
        };
        if info.ldm && !self.info.ldm {
            self.report(Event::LameDuck);
        }
        self.info = info;
    }

    /// Ends this connection from our side.
    fn fail(&mut self, now: Duration, reason: LinkError, outbox: &mut Outbox) {
        self.handle_disconnected(now, reason, outbox);
        if self.phase != Phase::Closed {
            self.actions.push_front(Action::Hang);
        }
    }

    fn handle_failed_dial(&mut self, now: Duration, reason: LinkError, outbox: &mut Outbox) {
        let Some(server) = self.server.clone() else {
            return;
        };
        self.report(Event::DialFailed {
            server,
            reason: reason.clone(),
        });
        let is_refused_for_good = reason.is_auth() && self.note_refusal();
        let is_first = self.generation == 0 && !self.options.retries_first_connect;
        if is_refused_for_good || (is_first && self.redial.is_first_pass_over()) {
            return self.finish(Some(reason), outbox);
        }
        self.phase = Phase::Waiting {
            due: self.redial.due_after_failure(now),
        };
    }

    fn note_refusal(&mut self) -> bool {
        let server = self.server.clone();
        server.is_some_and(|server| self.redial.note_auth_failure(&server))
    }

    fn finish(&mut self, reason: Option<LinkError>, outbox: &mut Outbox) {
        if self.phase == Phase::Closed {
            return;
        }
        if self.phase == Phase::Connected {
            let in_doubt = outbox.close();
            self.report(Event::Disconnected {
                reason: LinkError::ByOwner,
                in_doubt,
            });
        }
        self.phase = Phase::Closed;
        self.deadline = None;
        self.actions.clear();
        self.actions.extend([Action::Hang, Action::Finish]);
        self.report(Event::Closed { reason });
    }

    fn report(&mut self, event: Event) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
