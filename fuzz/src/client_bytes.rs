//! A hostile server's bytes, through parser and session, end to end.
//!
//! Input: a byte for options, then what the server says. 0xFF and the byte behind it are no bytes of
//! the server: they let the socket, the clock or the client's owner act.

use std::time::Duration;

use natseq::session::{LinkError, ServerAddr, SessionOptions};
use natseq::wire::{Limits, OpKind, Parser, Step};

use bytes::Bytes;

use crate::conversation::{Conversation, Socket};

const MARK: u8 = 0xff;
const SECOND: Duration = Duration::from_secs(1);
const FILTERS: [&str; 3] = ["a", "a.*", "b.>"];

/// Plays the script, then waits until the session rests.
pub fn run(data: &[u8]) {
    let (flags, mut script) = data.split_first().unwrap_or((&0, &[]));
    let servers = ["a", "a,b", "tls://a", "nats://user:secret@a"][usize::from(flags & 3)];
    let mut options = SessionOptions::new(ServerAddr::parse_list(servers).unwrap());
    options.retries_first_connect = flags & 4 == 0;
    let mut client = Client::new(Conversation::new(options, 1, false));
    client.rest();
    while let Some((first, rest)) = script.split_first() {
        if *first == MARK {
            let (action, rest) = rest.split_first().unwrap_or((&0, &[]));
            client.act(*action);
            script = rest;
        } else {
            let len = script.iter().position(|byte| *byte == MARK);
            let (said, rest) = script.split_at(len.unwrap_or(script.len()));
            client.hear(said);
            script = rest;
        }
        client.rest();
    }
    client.with.check_tables();
    client.with.lose(LinkError::Closed);
    client.rest();
    client.with.close();
    client.rest();
    assert!(client.with.session.is_closed());
    assert_eq!(client.with.session.poll_timeout(), None);
}

struct Client {
    with: Conversation,
    parser: Parser,
    unread: Vec<u8>,
    socket: Socket,
}

impl Client {
    const fn new(with: Conversation) -> Self {
        Self {
            with,
            parser: Parser::of_server(Limits::SERVER_OPS),
            unread: Vec::new(),
            socket: Socket::None,
        }
    }

    /// Carries out what the session asks for; dialing and TLS succeed at once.
    fn rest(&mut self) {
        for _ in 0..8 {
            self.with.rest();
            if matches!(self.with.socket, Socket::None | Socket::Open) {
                return self.note_socket();
            }
            let was_dialing = self.with.socket == Socket::Dialing;
            if !was_dialing && !self.unread.is_empty() {
                // Bytes between INFO and TLS could speak in the server's name.
                self.with
                    .lose(LinkError::InfoMalformed("bytes before TLS".into()));
                continue;
            }
            self.with.opened();
            self.begin();
        }
        panic!("dialing without end");
    }

    fn note_socket(&mut self) {
        if self.with.socket != self.socket {
            self.socket = self.with.socket;
            self.begin();
        }
    }

    fn begin(&mut self) {
        self.parser = Parser::of_server(Limits::SERVER_OPS);
        self.unread.clear();
    }

    fn hear(&mut self, said: &[u8]) {
        if self.with.socket != Socket::Open {
            return;
        }
        self.unread.extend_from_slice(said);
        self.with.hear_bytes();
        loop {
            let generation = self.with.session.generation();
            match self.parser.next(&self.unread) {
                Ok(Step::Frame(frame)) => {
                    let bytes: Vec<u8> = self.unread.drain(..frame.len()).collect();
                    if matches!(frame.kind(), OpKind::Msg | OpKind::Hmsg) {
                        self.take(&frame.message(Bytes::from(bytes)));
                    } else {
                        self.with.say(&frame.server_op(&bytes));
                    }
                }
                Ok(Step::More { .. }) => return,
                Err(error) => return self.with.lose(LinkError::Frame(error)),
            }
            let unread = std::mem::take(&mut self.unread);
            self.with.rest();
            if self.with.socket != Socket::Open {
                // What came behind it came on a connection that is gone, or before TLS.
                self.unread = unread;
                return;
            }
            assert!(self.with.session.generation() <= generation + 1);
            self.unread = unread;
        }
    }

    /// A message arrives, also where no honest server sends one.
    fn take(&mut self, message: &natseq::wire::Message) {
        let _ = (
            message.status(),
            message.headers().map(|block| block.check()),
        );
        if self.with.session.is_connected() {
            if let Some(sid) = message.sid_number() {
                self.with.route(sid);
            }
        } else {
            let op = natseq::wire::ServerOp::Msg(natseq::wire::MsgView {
                subject: message.subject(),
                sid: message.sid(),
                reply: message.reply(),
                headers: message.headers(),
                payload: message.payload(),
            });
            self.with.say(&op);
        }
    }

    fn act(&mut self, action: u8) {
        let with = &mut self.with;
        match action % 16 {
            0 => with.lose(LinkError::Closed),
            1 => with.wait(SECOND / 10),
            2 => with.wait_until_due(SECOND * 10),
            3 => with.subscribe(FILTERS[usize::from(action / 16) % 3], None),
            4 => with.subscribe("q.*", Some("q")),
            5 => with.publish(action >= 128),
            6 => with.flush(),
            7 => with.write(usize::from(action / 16)),
            8 => with.write(usize::MAX),
            9 => with.unsubscribe(u64::from(action / 16)),
            10 => with.limit(1 + u64::from(action / 64), 1 + u64::from(action / 16 % 4)),
            11 => with.drain(u64::from(action / 16)),
            12 => with.drain_all(),
            13 => with.forget(u64::from(action / 16)),
            14 if action == 0xfe => with.close(),
            _ => with.wait(SECOND * u32::from(action / 16)),
        }
    }
}
