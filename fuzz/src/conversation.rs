//! A session at one end, a model of a server at the other, and a socket between them.
//!
//! The model reads every byte that the session writes, as a server does, and knows what a client
//! that keeps its promises may say when.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::IoSlice;
use std::time::Duration;

use natseq::session::{
    Action, Event, Heard, LinkError, Outbox, OutboxError, OutboxLimits, Route, ServerAddr, Session,
    SessionOptions, WriteBatch,
};
use natseq::subject::{Filter, QueueGroup, SubjectRef};
use natseq::wire::encode::Publish;
use natseq::wire::handshake::{Connect, ServerInfo};
use natseq::wire::{ClientOp, Limits, Parser, ServerOp, Step};

use bytes::Bytes;

/// Bounds that a short script reaches.
pub(crate) const OUTBOX: OutboxLimits = OutboxLimits {
    connected_bytes_max: 200,
    pending_bytes_max: 300,
};
/// The most that a queued message adds to the bound.
const FRAME_BYTES_MAX: usize = 100;
/// The digits of a message's number.
const PAYLOAD_BYTES_MAX: i64 = 20;
/// Actions that one input can cause.
const ACTIONS_MAX: usize = 64;
/// Events that one input can cause.
const EVENTS_MAX: usize = 64;
/// The server reads a maximum of ten digits as "now"; the client keeps such a limit to itself.
const TOLD_MAX: u64 = 999_999_999;

/// What the socket is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Socket {
    /// There is none.
    None,
    /// Being dialed.
    Dialing,
    /// Open.
    Open,
    /// Open, and TLS is being set up.
    StartingTls,
}

#[derive(Debug)]
pub(crate) struct Conversation {
    pub(crate) session: Session,
    pub(crate) outbox: Outbox,
    pub(crate) now: Duration,
    pub(crate) socket: Socket,
    /// The server's view of the connection.
    pub(crate) server: Server,
    /// What the client has subscribed to and not ended.
    pub(crate) live: BTreeMap<u64, Subscription>,
    batch: WriteBatch,
    /// The most that one write to the socket takes.
    pub(crate) write_bytes_max: usize,
    /// Everything that was written and told, in order.
    pub(crate) transcript: Vec<u8>,
    /// Whether the server keeps the protocol; one that does not may confuse the counts.
    is_honest: bool,
    dialed: Option<ServerAddr>,
    /// The link that the socket belongs to.
    link: u64,
    generation: u64,
    published: u64,
    taken: u64,
    confirmed: u64,
    /// How many messages were published before each PING that has no answer.
    watermarks: VecDeque<u64>,
    /// So many of them belong to PINGs that were taken.
    pings_taken: usize,
    flushes_out: usize,
    is_finished: bool,
    /// Subscriptions that the server ended before it heard of a higher limit: they overtake each
    /// other on the wire, and nobody can help that.
    outrun: BTreeSet<u64>,
    /// Subscriptions that the server refused, perhaps before it heard of them.
    refused: BTreeSet<u64>,
}

/// What a subscription came to, in all or on one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) filter: String,
    pub(crate) group: Option<String>,
    pub(crate) delivered: u64,
    pub(crate) max: Option<u64>,
    pub(crate) is_draining: bool,
}

impl Subscription {
    const fn left(&self) -> Option<u64> {
        match self.max {
            Some(max) => Some(max.saturating_sub(self.delivered)),
            None => None,
        }
    }
}

/// One connection as the server sees it.
#[derive(Debug)]
pub(crate) struct Server {
    parser: Parser,
    unread: Vec<u8>,
    /// Whether INFO was said, CONNECT heard, and PONG said.
    has_introduced: bool,
    has_connect: bool,
    has_greeted: bool,
    is_tls: bool,
    /// PINGs of ours that have no answer, and of theirs.
    pings: usize,
    pub(crate) pings_heard: usize,
    next_publish: u64,
    pub(crate) table: BTreeMap<u64, Subscription>,
}

impl Server {
    const fn new(next_publish: u64) -> Self {
        Self {
            parser: Parser::of_client(Limits::CLIENT_OPS),
            unread: Vec::new(),
            has_introduced: false,
            has_connect: false,
            has_greeted: false,
            is_tls: false,
            pings: 0,
            pings_heard: 0,
            next_publish,
            table: BTreeMap::new(),
        }
    }
}

impl Conversation {
    pub(crate) fn new(options: SessionOptions, seed: u64, is_honest: bool) -> Self {
        let now = Duration::from_secs(1);
        Self {
            session: Session::new(options, seed, now),
            outbox: Outbox::new(OUTBOX),
            now,
            socket: Socket::None,
            server: Server::new(1),
            live: BTreeMap::new(),
            batch: WriteBatch::default(),
            write_bytes_max: usize::MAX,
            transcript: Vec::new(),
            is_honest,
            dialed: None,
            link: 0,
            generation: 0,
            published: 0,
            taken: 0,
            confirmed: 0,
            watermarks: VecDeque::new(),
            pings_taken: 0,
            flushes_out: 0,
            is_finished: false,
            outrun: BTreeSet::new(),
            refused: BTreeSet::new(),
        }
    }

    // What the client's owner does.

    pub(crate) fn subscribe(&mut self, filter: &str, group: Option<&str>) {
        let (Ok(name), group) = (
            Filter::new(filter),
            group.and_then(|group| QueueGroup::new(group).ok()),
        ) else {
            return;
        };
        let subscription = Subscription {
            filter: filter.to_owned(),
            group: group.as_ref().map(|group| group.as_str().to_owned()),
            delivered: 0,
            max: None,
            is_draining: false,
        };
        let mailbox = self.live.len() as u64;
        let sid = self
            .session
            .subscribe(name, group, mailbox, &mut self.outbox);
        let before = self.live.insert(sid.expect("there is room"), subscription);
        assert_eq!(before, None, "a sid is used twice");
    }

    pub(crate) fn unsubscribe(&mut self, sid: u64) {
        let was_there = self.session.unsubscribe(sid, &mut self.outbox);
        assert_eq!(was_there, self.live.remove(&sid).is_some(), "sid {sid}");
    }

    pub(crate) fn limit(&mut self, sid: u64, max: u64) {
        let has_ended = self.session.limit(sid, max, &mut self.outbox);
        let is_over = self.live.get(&sid).is_none_or(|of| of.delivered >= max);
        assert_eq!(has_ended, is_over, "sid {sid} of at most {max}");
        if is_over {
            self.live.remove(&sid);
        } else if let Some(of) = self.live.get_mut(&sid) {
            of.max = Some(max);
        }
    }

    pub(crate) fn drain(&mut self, sid: u64) {
        self.session.drain(sid, &mut self.outbox);
        if let Some(of) = self.live.get_mut(&sid) {
            of.is_draining = true;
        }
    }

    pub(crate) fn drain_all(&mut self) {
        self.session.drain_others(|_| false, &mut self.outbox);
        self.live.values_mut().for_each(|of| of.is_draining = true);
    }

    pub(crate) fn forget(&mut self, sid: u64) {
        if self.live.get(&sid).is_some_and(|of| of.is_draining) {
            self.session.forget(sid);
            self.live.remove(&sid);
        }
    }

    /// Publishes a message whose payload is its number.
    pub(crate) fn publish(&mut self, is_shared: bool) {
        let payload = (self.published + 1).to_string();
        let message = Publish::new(SubjectRef::new("a.b").unwrap(), payload.as_bytes());
        let shared = Bytes::copy_from_slice(payload.as_bytes());
        let waiting = self.outbox.waiting_bytes();
        let bytes_max = if self.outbox.is_open() {
            OUTBOX.connected_bytes_max
        } else {
            OUTBOX.pending_bytes_max
        };
        match self.outbox.publish(&message, is_shared.then_some(&shared)) {
            Ok(()) => {
                assert!(waiting < bytes_max, "{waiting} bytes waited already");
                self.published += 1;
            }
            Err(OutboxError::Ended) => assert!(self.session.is_closed()),
            Err(full) => {
                let expected = OutboxError::Full {
                    waiting_bytes: waiting,
                    bytes_max,
                };
                assert!(full == expected && waiting >= bytes_max, "{full:?}");
            }
        }
    }

    pub(crate) fn flush(&mut self) {
        let before = self.outbox.pings_out();
        let number = self.outbox.ping();
        assert_eq!(number.is_some(), self.session.is_connected());
        // One that waits with nothing behind it serves again.
        if self.outbox.pings_out() > before {
            self.watermarks.push_back(self.published);
            self.flushes_out += 1;
        } else if number.is_some() {
            assert_eq!(self.watermarks.back(), Some(&self.published));
        }
    }

    pub(crate) fn close(&mut self) {
        self.session.close(&mut self.outbox);
    }

    // What the socket and the clock do.

    pub(crate) fn opened(&mut self) {
        match self.socket {
            Socket::Dialing => {
                self.socket = Socket::Open;
                self.server = Server::new(self.taken + 1);
                self.batch.clear();
                self.session
                    .handle_connected(self.link, self.now, &mut self.outbox);
            }
            Socket::StartingTls => {
                self.socket = Socket::Open;
                self.server.is_tls = true;
                self.session
                    .handle_tls_started(self.link, self.now, &mut self.outbox);
            }
            Socket::None | Socket::Open => {}
        }
    }

    pub(crate) fn lose(&mut self, reason: LinkError) {
        if self.socket != Socket::None {
            self.socket = Socket::None;
            self.batch.clear();
            self.session
                .handle_disconnected(self.link, self.now, reason, &mut self.outbox);
        }
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.tick();
    }

    /// Goes to the next moment that the session has named, if it comes within `at_most`.
    pub(crate) fn wait_until_due(&mut self, at_most: Duration) {
        let due = self.session.poll_timeout().unwrap_or(self.now);
        self.now = due.max(self.now).min(self.now + at_most);
        self.tick();
    }

    fn tick(&mut self) {
        let before = self.outbox.pings_out();
        let was_connected = self.session.is_connected();
        self.session.handle_timeout(self.now, &mut self.outbox);
        if was_connected && self.session.is_connected() && self.outbox.pings_out() > before {
            self.watermarks.push_back(self.published);
        }
    }

    /// Writes at most that many bytes.
    pub(crate) fn write(&mut self, at_most: usize) {
        let mut left = at_most;
        while self.socket == Socket::Open && left > 0 {
            if self.batch.is_finished() {
                if !self.outbox.take(&mut self.batch) {
                    return;
                }
                self.taken = self.published;
                self.pings_taken = self.watermarks.len();
            }
            let mut slices = [IoSlice::new(&[]); 3];
            let filled = self.batch.fill(&mut slices);
            assert!(filled > 0, "a batch that is not finished has bytes");
            let taken = left.min(self.write_bytes_max);
            let bytes = slices[..filled].iter().flat_map(|slice| slice.iter());
            let bytes: Vec<u8> = bytes.take(taken).copied().collect();
            left -= bytes.len();
            self.batch.advance(bytes.len());
            self.hear_client(&bytes);
        }
    }

    // What the server does.

    /// Bytes of the server have come.
    pub(crate) fn hear_bytes(&mut self) {
        self.session.handle_bytes(self.link, self.now);
    }

    /// The server says something other than a message.
    pub(crate) fn say(&mut self, op: &ServerOp<'_>) -> Heard {
        if let ServerOp::Info { json } = op
            && let Ok(info) = ServerInfo::parse(json)
            && (1..PAYLOAD_BYTES_MAX).contains(&info.max_payload)
        {
            // What becomes too large while it waits has a test of its own.
            return Heard::Nothing;
        }
        self.session.handle_bytes(self.link, self.now);
        let pings_out = self.outbox.pings_out();
        match op {
            ServerOp::Info { .. } => self.server.has_introduced = true,
            ServerOp::Pong if self.server.has_connect => self.server.has_greeted = true,
            ServerOp::Ping => self.server.pings += 1,
            _ => {}
        }
        let was_connected = self.session.is_connected();
        let heard = self
            .session
            .handle_op(self.link, self.now, op, &mut self.outbox);
        if let Heard::Connected(generation) = heard {
            self.generation += 1;
            assert_eq!(generation, self.generation);
            self.outrun.clear();
            // Its answer says that all is restored.
            if self.outbox.pings_out() > 0 {
                self.watermarks.push_back(self.published);
                self.flushes_out += 1;
            }
        }
        if matches!(op, ServerOp::Pong) && was_connected {
            if self.pings_taken == 0 {
                assert_eq!(heard, Heard::Nothing, "a PONG without a PING");
            } else if let Some(watermark) = self.watermarks.pop_front() {
                self.pings_taken -= 1;
                self.confirmed = watermark;
                self.flushes_out = self.flushes_out.min(self.watermarks.len());
                assert!(matches!(heard, Heard::Pong(_)), "{heard:?}");
                assert_eq!(self.outbox.pings_out(), pings_out - 1);
            }
        }
        heard
    }

    /// The server answers a PING, if there is one without an answer.
    pub(crate) fn answer(&mut self) {
        if self.server.pings_heard > 0 {
            self.server.pings_heard -= 1;
            self.say(&ServerOp::Pong);
        }
    }

    /// The server delivers one message to a subscription that it knows.
    pub(crate) fn deliver(&mut self, sid: u64) {
        if !self.session.is_connected() {
            return;
        }
        let Some(of) = self.server.table.get_mut(&sid) else {
            return;
        };
        of.delivered += 1;
        let has_ended = of.left() == Some(0);
        if has_ended {
            self.server.table.remove(&sid);
        }
        self.route(sid);
        let is_unwritten = !self.outbox.is_empty() || !self.batch.is_finished();
        if has_ended && is_unwritten && self.live.contains_key(&sid) {
            self.outrun.insert(sid);
        }
    }

    /// A message for `sid` has come, from whichever server.
    pub(crate) fn route(&mut self, sid: u64) {
        self.session.handle_bytes(self.link, self.now);
        let route = self.session.route(sid);
        let Some(of) = self.live.get_mut(&sid) else {
            assert_eq!(route, Route::Nowhere, "sid {sid}");
            return;
        };
        of.delivered += 1;
        let has_ended = of.left() == Some(0);
        let Route::Mailbox { is_last, .. } = route else {
            panic!("{route:?} for sid {sid}, which is alive");
        };
        assert_eq!(is_last, has_ended, "sid {sid}: {of:?}");
        if has_ended {
            self.live.remove(&sid);
        }
    }

    // What must be true.

    /// Does what the session asks for, and holds it to its promises.
    pub(crate) fn rest(&mut self) {
        let mut actions = 0;
        while let Some(action) = self.session.poll_action(self.now, &mut self.outbox) {
            actions += 1;
            assert!(actions <= ACTIONS_MAX, "actions without end");
            assert!(!self.is_finished, "{action:?} behind the last");
            self.act(action);
        }
        let mut events = 0;
        while let Some(event) = self.session.poll_event() {
            events += 1;
            assert!(events <= EVENTS_MAX, "events without end");
            self.hear_event(event);
        }
        let due = self.session.poll_timeout();
        assert!(
            due.is_none_or(|due| due > self.now),
            "{due:?} is over at {:?}",
            self.now
        );
        let is_alive = !self.session.is_closed();
        assert_eq!(due.is_some(), is_alive, "somebody waits for ever");
        assert_eq!(self.is_finished, !is_alive);
        assert_eq!(self.session.subscriptions_len(), self.live.len());
        assert_eq!(self.session.generation(), self.generation);
        assert_eq!(self.outbox.is_open(), self.session.is_connected());
        assert_eq!(self.outbox.published().0, self.published);
        let waiting = self.outbox.waiting_bytes();
        assert!(
            waiting <= OUTBOX.pending_bytes_max + FRAME_BYTES_MAX,
            "{waiting} bytes"
        );
        let pings = self.outbox.pings_out();
        assert_eq!(pings, self.watermarks.len());
        assert!(
            pings <= self.flushes_out + 1,
            "{pings} PINGs, {} flushes",
            self.flushes_out
        );
        if !self.session.is_connected() {
            assert_eq!(pings, 0, "PINGs without a connection");
        }
    }

    /// Everything is written: the server's table is the client's.
    pub(crate) fn check_tables(&mut self) {
        self.write(usize::MAX);
        if !self.session.is_connected() || !self.is_honest {
            return;
        }
        assert_eq!(
            self.server.next_publish,
            self.published + 1,
            "messages are missing"
        );
        let live = self.live.iter().filter(|(_, of)| !of.is_draining);
        let live = live.filter(|(sid, _)| !self.outrun.contains(sid));
        let plain = |(sid, of): (&u64, &Subscription)| {
            let left = of
                .left()
                .filter(|_| of.max.is_some_and(|max| max < TOLD_MAX));
            (*sid, of.filter.clone(), of.group.clone(), left)
        };
        let expected: Vec<_> = live.map(plain).collect();
        let found: Vec<_> = self.server.table.iter().map(plain).collect();
        assert_eq!(
            found, expected,
            "what the server delivers, and what is wanted"
        );
    }

    fn act(&mut self, action: Action) {
        match action {
            // The server is about to stop, and this model has no other: nobody answers there.
            Action::Dial { link, .. } if self.session.is_connected() => {
                self.session.handle_disconnected(
                    link,
                    self.now,
                    LinkError::Closed,
                    &mut self.outbox,
                );
            }
            Action::Dial { link, server } => {
                assert_eq!(self.socket, Socket::None, "a second socket");
                assert!(link > self.link, "link {link} was there before");
                self.socket = Socket::Dialing;
                self.dialed = Some(server);
                self.link = link;
            }
            Action::StartTls { link, server } => {
                assert_eq!(link, self.link);
                assert_eq!(self.socket, Socket::Open);
                assert_eq!(Some(&server), self.dialed.as_ref());
                self.socket = Socket::StartingTls;
            }
            Action::Send { link, bytes } => {
                assert_eq!(link, self.link);
                let bytes = bytes.expose();
                assert_eq!(self.socket, Socket::Open, "{}", bytes.escape_ascii());
                self.hear_client(bytes);
            }
            Action::Hang { link } => {
                assert_eq!(link, self.link);
                self.socket = Socket::None;
                self.batch.clear();
            }
            Action::Finish => self.is_finished = true,
            other => panic!("unknown action {other:?}"),
        }
    }

    fn hear_event(&mut self, event: Event) {
        self.transcript.extend(format!("{event:?}\n").into_bytes());
        match event {
            Event::Connected { server, generation } => {
                assert_eq!(generation, self.generation);
                assert_eq!(Some(&server), self.dialed.as_ref());
            }
            Event::Disconnected { in_doubt, .. } => {
                let expected = self.taken.saturating_sub(self.confirmed);
                assert_eq!(in_doubt, expected, "messages in doubt");
                self.confirmed = self.taken;
                self.watermarks.clear();
                self.pings_taken = 0;
                self.flushes_out = 0;
            }
            Event::Closed {
                discarded_messages, ..
            } => {
                assert!(self.session.is_closed());
                assert_eq!(discarded_messages, self.outbox.waiting_messages());
            }
            Event::SubscriptionRefused(refusal) => {
                let sid = refusal.sid.expect("it is one of ours");
                let of = self.live.remove(&sid).expect("it is alive");
                assert_eq!(
                    (of.filter, of.group),
                    (refusal.subject, refusal.queue_group)
                );
                assert!(!of.is_draining, "the server may have ended it itself");
                self.server.table.remove(&sid);
                self.refused.insert(sid);
            }
            Event::DialFailed { .. }
            | Event::ServerError { .. }
            | Event::ServersDiscovered { .. }
            | Event::LameDuck => {}
            other => panic!("unexpected {other:?}"),
        }
    }

    /// The server reads.
    fn hear_client(&mut self, bytes: &[u8]) {
        self.transcript.extend_from_slice(bytes);
        self.server.unread.extend_from_slice(bytes);
        let unread = std::mem::take(&mut self.server.unread);
        let mut rest = &unread[..];
        loop {
            match self.server.parser.next(rest) {
                Ok(Step::Frame(frame)) => {
                    self.hear_op(&frame.client_op(rest));
                    rest = &rest[frame.len()..];
                }
                Ok(Step::More { .. }) => break,
                Err(error) => panic!("{error}: {}", rest.escape_ascii()),
            }
        }
        self.server.unread = rest.to_vec();
    }

    fn hear_op(&mut self, op: &ClientOp<'_>) {
        let server = &mut self.server;
        assert!(server.has_introduced, "{op:?} before INFO");
        if let ClientOp::Connect { json } = op {
            assert!(!server.has_connect, "a second CONNECT");
            let connect = Connect::parse(json).expect("CONNECT is JSON");
            assert_eq!(connect.tls_required, server.is_tls);
            let dialed = self.dialed.as_ref().unwrap();
            assert!(server.is_tls || !dialed.is_tls(), "TLS was asked for");
            server.has_connect = true;
            return;
        }
        assert!(server.has_connect, "{op:?} before CONNECT");
        let is_early = matches!(op, ClientOp::Ping | ClientOp::Pong);
        assert!(
            server.has_greeted || is_early,
            "{op:?} before the first PONG"
        );
        match op {
            ClientOp::Ping => server.pings_heard += 1,
            ClientOp::Pong => {
                assert!(server.pings > 0, "a PONG that nobody asked for");
                server.pings -= 1;
            }
            ClientOp::Pub(message) => {
                let number: u64 = text(message.payload).parse().expect("a number");
                assert_eq!(server.next_publish, number, "messages in their order, once");
                server.next_publish += 1;
            }
            ClientOp::Sub {
                subject,
                queue_group,
                sid,
            } => {
                let subscription = Subscription {
                    filter: text(subject),
                    group: queue_group.map(text),
                    delivered: 0,
                    max: None,
                    is_draining: false,
                };
                let sid = text(sid).parse().expect("a number");
                if self.refused.contains(&sid) {
                    return;
                }
                let before = server.table.insert(sid, subscription);
                assert_eq!(before, None, "sid {sid} is taken");
            }
            ClientOp::Unsub { sid, max } => {
                let sid: u64 = text(sid).parse().expect("a number");
                let max = max.map(|digits| text(digits).parse::<u64>().expect("a number"));
                assert!(
                    max.is_none_or(|max| max <= TOLD_MAX),
                    "servers read {max:?} as now"
                );
                let Some(of) = server.table.get_mut(&sid) else {
                    return;
                };
                of.max = max;
                if max.is_none_or(|max| of.delivered >= max) {
                    server.table.remove(&sid);
                    let is_raised = max.is_some() && self.live.contains_key(&sid);
                    self.outrun.extend(is_raised.then_some(sid));
                }
            }
            other => panic!("clients do not say {other:?}"),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}
