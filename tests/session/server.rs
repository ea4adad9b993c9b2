//! A server as the simulator imagines it: connections with tables of their own, and moods.
//!
//! It reads every byte that a client writes, and knows what a client that keeps its promises may say
//! when.

use std::collections::BTreeMap;
use std::time::Duration;

use natseq::subject::Filter;
use natseq::wire::handshake::{Connect, ServerInfo};
use natseq::wire::{ClientOp, Limits, Parser, Step};

pub(crate) struct Server {
    pub(crate) is_up: bool,
    /// It is about to stop.
    pub(crate) is_leaving: bool,
    /// It does nothing, and what comes waits.
    pub(crate) is_frozen: bool,
    /// It takes no credentials.
    pub(crate) refuses: bool,
    pub(crate) offers_tls: bool,
    pub(crate) requires_tls: bool,
    pub(crate) says_info_late: bool,
    /// Other servers, as INFO names them.
    pub(crate) connect_urls: Vec<String>,
    pub(crate) links: BTreeMap<u64, Conn>,
    /// How often it was started.
    pub(crate) runs: u64,
}

/// One connection.
pub(crate) struct Conn {
    parser: Parser,
    unread: Vec<u8>,
    has_connect: bool,
    pub(crate) has_greeted: bool,
    is_verbose: bool,
    pub(crate) is_tls: bool,
    pub(crate) must_be_tls: bool,
    /// PINGs of ours without an answer.
    pings: usize,
    pub(crate) table: BTreeMap<u64, Sub>,
    /// Messages read on this connection.
    pub(crate) read: u64,
}

/// A subscription as a server knows it.
#[derive(Debug, Clone)]
pub(crate) struct Sub {
    pub(crate) filter: Filter,
    pub(crate) group: Option<String>,
    pub(crate) sent: u64,
    pub(crate) max: Option<u64>,
    pub(crate) since: Duration,
}

/// What hearing led to.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) reply: Vec<u8>,
    pub(crate) closes: bool,
    /// Numbers of the messages that came.
    pub(crate) messages: Vec<u64>,
    /// How many messages were read on this connection before each PONG in `reply`.
    pub(crate) pongs: Vec<u64>,
    /// Subscriptions that were asked for.
    pub(crate) subs: Vec<u64>,
}

impl Server {
    pub(crate) const fn new() -> Self {
        Self {
            is_up: true,
            is_leaving: false,
            is_frozen: false,
            refuses: false,
            offers_tls: false,
            requires_tls: false,
            says_info_late: false,
            connect_urls: Vec::new(),
            links: BTreeMap::new(),
            runs: 1,
        }
    }

    pub(crate) fn info(&self) -> Vec<u8> {
        let mut info = ServerInfo::default();
        info.headers = true;
        info.proto = 1;
        info.max_payload = 1 << 20;
        info.tls_available = self.offers_tls;
        info.tls_required = self.requires_tls;
        info.ldm = self.is_leaving;
        info.connect_urls.clone_from(&self.connect_urls);
        let mut line = b"INFO ".to_vec();
        line.extend_from_slice(&info.to_json());
        line.extend_from_slice(b"\r\n");
        line
    }

    pub(crate) fn accept(&mut self, link: u64, must_be_tls: bool) -> Vec<u8> {
        let conn = Conn {
            parser: Parser::of_client(Limits::CLIENT_OPS),
            unread: Vec::new(),
            has_connect: false,
            has_greeted: false,
            is_verbose: false,
            is_tls: false,
            must_be_tls,
            pings: 0,
            table: BTreeMap::new(),
            read: 0,
        };
        self.links.insert(link, conn);
        self.info()
    }

    /// Asks every client whether it is there.
    pub(crate) fn ping(&mut self) -> Vec<u64> {
        let greeted = self.links.iter_mut().filter(|(_, conn)| conn.has_greeted);
        greeted
            .map(|(link, conn)| {
                conn.pings += 1;
                *link
            })
            .collect()
    }

    pub(crate) fn hear(&mut self, link: u64, bytes: &[u8], now: Duration) -> Heard {
        let info = self.info();
        let mut heard = Heard::default();
        let Some(conn) = self.links.get_mut(&link) else {
            return heard;
        };
        conn.unread.extend_from_slice(bytes);
        let unread = std::mem::take(&mut conn.unread);
        let mut rest = &unread[..];
        while !heard.closes {
            match conn.parser.next(rest) {
                Ok(Step::Frame(frame)) => {
                    let op = frame.client_op(rest);
                    conn.hear(&op, now, self.refuses, &mut heard);
                    if matches!(op, ClientOp::Ping) && !conn.has_greeted && !heard.closes {
                        conn.has_greeted = true;
                        if self.says_info_late {
                            heard.reply.extend_from_slice(&info);
                        }
                    }
                    rest = &rest[frame.len()..];
                }
                Ok(Step::More { .. }) => break,
                Err(error) => panic!("{error}: {}", rest.escape_ascii()),
            }
        }
        conn.unread = rest.to_vec();
        heard
    }
}

impl Conn {
    fn hear(&mut self, op: &ClientOp<'_>, now: Duration, refuses: bool, heard: &mut Heard) {
        if let ClientOp::Connect { json } = op {
            assert!(!self.has_connect, "a second CONNECT");
            let connect = Connect::parse(json).expect("CONNECT is JSON");
            assert_eq!(connect.tls_required, self.is_tls);
            assert!(
                self.is_tls || !self.must_be_tls,
                "credentials before TLS, which was asked for"
            );
            self.has_connect = true;
            self.is_verbose = connect.verbose;
            if refuses {
                heard
                    .reply
                    .extend_from_slice(b"-ERR 'Authorization Violation'\r\n");
                heard.closes = true;
            } else {
                self.confirm(heard);
            }
            return;
        }
        assert!(self.has_connect, "{op:?} before CONNECT");
        assert!(
            self.has_greeted || matches!(op, ClientOp::Ping | ClientOp::Pong),
            "{op:?} before the first PONG"
        );
        match op {
            ClientOp::Ping => {
                heard.pongs.push(self.read);
                heard.reply.extend_from_slice(b"PONG\r\n");
            }
            ClientOp::Pong => {
                assert!(self.pings > 0, "a PONG that nobody asked for");
                self.pings -= 1;
            }
            ClientOp::Pub(message) => {
                self.read += 1;
                heard.messages.push(number(message.payload));
                self.confirm(heard);
            }
            ClientOp::Sub {
                subject,
                queue_group,
                sid,
            } => {
                let sub = Sub {
                    filter: Filter::new(&text(subject)).expect("a filter"),
                    group: queue_group.map(text),
                    sent: 0,
                    max: None,
                    since: now,
                };
                let sid = number(sid);
                let before = self.table.insert(sid, sub);
                assert!(before.is_none(), "sid {sid} is asked for twice");
                heard.subs.push(sid);
                self.confirm(heard);
            }
            ClientOp::Unsub { sid, max } => {
                let sid = number(sid);
                let max = max.map(number);
                if let Some(sub) = self.table.get_mut(&sid) {
                    sub.max = max;
                    if max.is_none_or(|max| sub.sent >= max) {
                        self.table.remove(&sid);
                    }
                }
                self.confirm(heard);
            }
            other => panic!("clients do not say {other:?}"),
        }
    }

    fn confirm(&self, heard: &mut Heard) {
        if self.is_verbose {
            heard.reply.extend_from_slice(b"+OK\r\n");
        }
    }

    /// Sends a message to one of its subscriptions.
    pub(crate) fn deliver(&mut self, sid: u64, subject: &str, payload: &str, out: &mut Vec<u8>) {
        let Some(sub) = self.table.get_mut(&sid) else {
            return;
        };
        sub.sent += 1;
        if sub.max.is_some_and(|max| sub.sent >= max) {
            self.table.remove(&sid);
        }
        let len = payload.len();
        out.extend_from_slice(format!("MSG {subject} {sid} {len}\r\n{payload}\r\n").as_bytes());
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn number(bytes: &[u8]) -> u64 {
    let digits = text(bytes);
    let end = digits.find(|letter: char| !letter.is_ascii_digit());
    let digits = &digits[..end.unwrap_or(digits.len())];
    digits.parse().expect("a number")
}
