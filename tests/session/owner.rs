//! The owner's end: a session, its outbox, and sockets that do what it asks for, without a network.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::time::Duration;

use bytes::BytesMut;
use natseq::session::{
    Action, Event, Heard, LinkError, Outbox, OutboxLimits, Route, ServerAddr, Session,
    SessionOptions, WriteBatch,
};
use natseq::wire::{Limits, Message, OpKind, Parser, Step};

/// Actions that one input can cause.
const ACTIONS_MAX: usize = 1_000;

/// What came out of the session, in its order.
#[derive(Debug)]
pub(crate) enum Output {
    Action(Action),
    Event(Event),
    /// The server of this link answered a PING, whoever had sent it.
    Pong(u64),
    /// The outbox's PING with this number was answered.
    Answered(u64),
    /// This link serves; the number of the connection.
    Entered(u64, u64),
    Message(Message, Route),
}

pub(crate) struct Owner {
    pub(crate) session: Session,
    pub(crate) outbox: Outbox,
    pub(crate) now: Duration,
    pub(crate) sockets: BTreeMap<u64, Socket>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) is_finished: bool,
    last_link: u64,
}

pub(crate) struct Socket {
    pub(crate) server: ServerAddr,
    pub(crate) is_open: bool,
    pub(crate) is_starting_tls: bool,
    /// Messages taken from the outbox.
    pub(crate) taken: u64,
    parser: Parser,
    buffer: BytesMut,
    urgent: Vec<u8>,
    batch: WriteBatch,
}

impl Socket {
    fn new(server: ServerAddr) -> Self {
        Self {
            server,
            is_open: false,
            is_starting_tls: false,
            taken: 0,
            parser: Parser::of_server(Limits::SERVER_OPS),
            buffer: BytesMut::new(),
            urgent: Vec::new(),
            batch: WriteBatch::default(),
        }
    }

    pub(crate) fn has_written_all(&self) -> bool {
        self.urgent.is_empty() && self.batch.is_finished()
    }
}

impl Owner {
    pub(crate) fn new(options: SessionOptions, limits: OutboxLimits, seed: u64) -> Self {
        Self {
            session: Session::new(options, seed, Duration::ZERO),
            outbox: Outbox::new(limits),
            now: Duration::ZERO,
            sockets: BTreeMap::new(),
            outputs: Vec::new(),
            is_finished: false,
            last_link: 0,
        }
    }

    /// Does what the session asks for until it rests.
    pub(crate) fn act(&mut self) {
        for _ in 0..ACTIONS_MAX {
            self.session.handle_timeout(self.now, &mut self.outbox);
            let action = self.session.poll_action(self.now, &mut self.outbox);
            while let Some(message) = self.session.poll_message() {
                self.route(message);
            }
            while let Some(event) = self.session.poll_event() {
                self.outputs.push(Output::Event(event));
            }
            let answered = self.session.poll_answered();
            self.outputs.extend(answered.map(Output::Answered));
            let Some(action) = action else {
                return self.check_rest();
            };
            assert!(!self.is_finished, "{action:?} behind the last");
            self.carry_out(&action);
            self.outputs.push(Output::Action(action));
        }
        panic!("actions without end");
    }

    fn check_rest(&self) {
        let due = self.session.poll_timeout();
        assert!(
            due.is_none_or(|due| due > self.now),
            "{due:?} is over at {:?}",
            self.now
        );
        let is_alive = !self.session.is_closed();
        assert_eq!(due.is_some(), is_alive, "somebody waits for ever");
        assert_eq!(self.is_finished, !is_alive, "finished and closed");
        assert!(!self.session.has_news(), "news at rest");
        assert_eq!(self.outbox.is_open(), self.session.is_connected());
        if !self.session.is_connected() {
            assert_eq!(self.outbox.pings_out(), 0, "PINGs without a connection");
        }
        let writing = self.session.writing_link();
        assert!(
            writing.is_none_or(|link| self.sockets.contains_key(&link)),
            "{writing:?} has no socket"
        );
    }

    fn carry_out(&mut self, action: &Action) {
        match action {
            Action::Dial { link, server } => {
                assert!(*link > self.last_link, "link {link} was there before");
                self.last_link = *link;
                self.sockets.insert(*link, Socket::new(server.clone()));
                let opening = self.sockets.keys().filter(|link| !self.serves(**link));
                assert_eq!(opening.count(), 1, "links that are being opened");
                assert!(self.sockets.len() <= 3, "{} links", self.sockets.len());
            }
            Action::StartTls { link, server } => {
                let socket = self.sockets.get_mut(link).expect("a link for TLS");
                assert_eq!(&socket.server, server);
                socket.is_starting_tls = true;
            }
            Action::Authenticate { link, .. } => {
                assert!(self.sockets.contains_key(link), "no link {link}");
            }
            Action::Send { link, bytes } => {
                let socket = self.sockets.get_mut(link).expect("a link to send on");
                assert!(socket.is_open && !socket.is_starting_tls);
                socket.urgent.extend_from_slice(bytes.expose());
            }
            Action::Hang { link } => {
                self.sockets.remove(link);
            }
            Action::Finish => {
                let left: Vec<_> = self.sockets.keys().collect();
                assert!(left.is_empty(), "links {left:?} were never closed");
                self.is_finished = true;
            }
            other => panic!("unknown action {other:?}"),
        }
    }

    /// Whether messages of this link are told.
    pub(crate) fn serves(&self, link: u64) -> bool {
        self.session.is_receiving(link)
    }

    pub(crate) fn opened(&mut self, link: u64) {
        if let Some(socket) = self.sockets.get_mut(&link) {
            socket.is_open = true;
            self.session
                .handle_connected(link, self.now, &mut self.outbox);
            self.act();
        }
    }

    pub(crate) fn tls_started(&mut self, link: u64) {
        if let Some(socket) = self.sockets.get_mut(&link) {
            socket.is_starting_tls = false;
            self.session
                .handle_tls_started(link, self.now, &mut self.outbox);
            self.act();
        }
    }

    pub(crate) fn lost(&mut self, link: u64, reason: LinkError) {
        if self.sockets.remove(&link).is_some() {
            self.session
                .handle_disconnected(link, self.now, reason, &mut self.outbox);
            self.act();
        }
    }

    /// Bytes have come, cut wherever.
    pub(crate) fn read(&mut self, link: u64, bytes: &[u8]) {
        let Some(socket) = self.sockets.get_mut(&link) else {
            return;
        };
        socket.buffer.extend_from_slice(bytes);
        self.session.handle_bytes(link, self.now);
        loop {
            let Some(socket) = self.sockets.get_mut(&link) else {
                return;
            };
            let frame = match socket.parser.next(&socket.buffer) {
                Ok(Step::Frame(frame)) => frame,
                Ok(Step::More { .. }) => break,
                Err(error) => return self.lost(link, LinkError::Frame(error)),
            };
            let bytes = socket.buffer.split_to(frame.len()).freeze();
            let is_message = matches!(frame.kind(), OpKind::Msg | OpKind::Hmsg);
            if is_message && self.session.is_receiving(link) {
                let message = self.session.handle_message(link, frame.message(bytes));
                if let Some(message) = message {
                    self.route(message);
                }
                continue;
            }
            if frame.kind() == OpKind::Pong {
                self.outputs.push(Output::Pong(link));
            }
            let op = frame.server_op(&bytes);
            let heard = self
                .session
                .handle_op(link, self.now, &op, &mut self.outbox);
            match heard {
                Heard::Pong(number) => self.outputs.push(Output::Answered(number)),
                Heard::Connected(generation) => {
                    self.outputs.push(Output::Entered(link, generation));
                }
                _ => {}
            }
            self.act();
        }
        self.act();
    }

    fn route(&mut self, message: Message) {
        let sid = message.sid_number().expect("a number");
        let route = self.session.route(sid);
        self.outputs.push(Output::Message(message, route));
    }

    /// Takes at most that many bytes that this link has to write.
    pub(crate) fn write(&mut self, link: u64, at_most: usize) -> Vec<u8> {
        let is_writing = self.session.writing_link() == Some(link);
        let mut written = Vec::new();
        let Some(socket) = self.sockets.get_mut(&link).filter(|socket| socket.is_open) else {
            return written;
        };
        while written.len() < at_most {
            let room = at_most - written.len();
            if !socket.batch.is_finished() {
                let mut slices = [IoSlice::new(&[]); 3];
                let filled = socket.batch.fill(&mut slices);
                assert!(filled > 0, "a batch that is not finished has bytes");
                let before = written.len();
                let bytes = slices[..filled].iter().flat_map(|slice| slice.iter());
                written.extend(bytes.take(room).copied());
                socket.batch.advance(written.len() - before);
            } else if !socket.urgent.is_empty() {
                let count = socket.urgent.len().min(room);
                written.extend(socket.urgent.drain(..count));
            } else {
                let waiting = self.outbox.waiting_messages();
                if !is_writing || !self.outbox.take(&mut socket.batch) {
                    break;
                }
                socket.taken += waiting;
            }
        }
        written
    }
}
