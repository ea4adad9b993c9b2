//! One connection to one party: what is said, and what must be answered.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use natseq::broker::{Broker, BrokerOptions};
use natseq::wire::{Limits, Parser, ServerOp, StatusKind, Step};
use tokio::runtime::{Builder, Runtime};

use crate::support::{RealServer, servers};

/// Every answer comes within this time on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\
                       \"no_responders\":true,\"protocol\":1}\r\n";
pub(crate) const VERBOSE: &str = "CONNECT {\"verbose\":true,\"pedantic\":false}\r\n";
pub(crate) const PEDANTIC: &str = "CONNECT {\"verbose\":false,\"pedantic\":true}\r\n";
pub(crate) const NO_HEADERS: &str =
    "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":false}\r\n";
pub(crate) const UNKNOWN_OP: &str = "-ERR 'Unknown Protocol Operation'\r\n";

/// Somebody who reads what clients say.
pub(crate) struct Party {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) version: Option<&'static str>,
    server: Option<RealServer>,
    _broker: Option<(Runtime, Broker)>,
}

impl Party {
    pub(crate) fn of(server: RealServer) -> Self {
        Self {
            name: format!("nats-server {}", server.version()),
            address: server.address(),
            version: Some(server.version()),
            server: Some(server),
            _broker: None,
        }
    }

    fn broker() -> Self {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let listening = Broker::listen("127.0.0.1:0", BrokerOptions::default());
        let broker = runtime.block_on(listening).unwrap();
        Self {
            name: "the embedded broker".to_owned(),
            address: broker.local_addr().unwrap(),
            version: None,
            server: None,
            _broker: Some((runtime, broker)),
        }
    }

    pub(crate) const fn server(&self) -> &RealServer {
        self.server.as_ref().expect("a real server")
    }

    pub(crate) const fn is_real(&self) -> bool {
        self.version.is_some()
    }

    pub(crate) fn is_at_least(&self, major: u32, minor: u32) -> bool {
        let mut parts = self.version.unwrap_or_default().split('.');
        let mut next = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
        (next(), next()) >= (major, minor)
    }

    /// Behind an ordinary CONNECT, `input` is answered with exactly `output`.
    pub(crate) fn stays(&self, input: impl AsRef<[u8]>, output: impl AsRef<[u8]>) {
        self.talk(CONNECT, input, output, false);
    }

    /// The same, and then the connection is closed.
    pub(crate) fn closes(&self, input: impl AsRef<[u8]>, output: impl AsRef<[u8]>) {
        self.talk(CONNECT, input, output, true);
    }

    pub(crate) fn talk(
        &self,
        connect: &str,
        input: impl AsRef<[u8]>,
        output: impl AsRef<[u8]>,
        is_closed: bool,
    ) {
        let mut conversation = Conversation::begin(self, connect);
        conversation.say(&input);
        let mut output = output.as_ref().to_vec();
        if is_closed {
            conversation.hear_the_end(output);
        } else {
            conversation.say("PING\r\n");
            output.extend_from_slice(b"PONG\r\n");
            conversation.hear(output);
        }
    }

    /// Says `input` alone, and hears the last words where there are some.
    pub(crate) fn without_connect(&self, input: &str, last_words: Option<&str>) -> Conversation {
        let mut conversation = Conversation::begin(self, "");
        conversation.say(input);
        if let Some(words) = last_words {
            conversation.hear_the_end(words);
        }
        conversation
    }
}

/// One connection, and what was said on it.
pub(crate) struct Conversation {
    pub(crate) stream: TcpStream,
    with: String,
    said: Vec<u8>,
    pub(crate) heard: Vec<u8>,
    pub(crate) is_over: bool,
}

impl Conversation {
    pub(crate) fn begin(party: &Party, connect: &str) -> Self {
        let stream = TcpStream::connect(party.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut conversation = Self {
            stream,
            with: party.name.clone(),
            said: Vec::new(),
            heard: Vec::new(),
            is_over: false,
        };
        // INFO is there before anything is said, so that an early close cannot take it along.
        while !conversation.heard.ends_with(b"\r\n") {
            assert!(conversation.read(), "no INFO from {}", party.name);
        }
        if !connect.is_empty() {
            conversation.say(connect);
        }
        conversation
    }

    /// Publishes a request and waits for an answer with this end.
    pub(crate) fn asks(&mut self, subject: &str, body: &str, end: &[u8]) {
        let len = body.len();
        self.say(format!("SUB r 1\r\nPUB {subject} r {len}\r\n{body}\r\n"));
        while !self.answers().ends_with(end) {
            assert!(self.read(), "{} does not answer {}", self.with, self.said());
        }
    }

    /// The status of the first message that was heard.
    pub(crate) fn status(&self) -> StatusKind {
        let answers = self.answers();
        let mut parser = Parser::of_server(Limits::SERVER_OPS);
        let Ok(Step::Frame(frame)) = parser.next(&answers) else {
            panic!("not a frame: {}", answers.escape_ascii())
        };
        let ServerOp::Msg(message) = frame.server_op(&answers) else {
            panic!("no message: {}", answers.escape_ascii())
        };
        let status = message.headers.map(|block| block.status().unwrap());
        status.flatten().expect("a status").kind()
    }

    pub(crate) fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.said.extend_from_slice(bytes.as_ref());
        // The other side may have closed before it heard everything.
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// All that was said up to now, INFO and PING apart, is `output`.
    pub(crate) fn hear(&mut self, output: impl AsRef<[u8]>) {
        let output = output.as_ref();
        while self.answers().len() < output.len() && self.read() {}
        self.compare(output);
        assert!(!self.is_over, "{} closed after {}", self.with, self.said());
    }

    /// The same, and then the connection is closed.
    pub(crate) fn hear_the_end(&mut self, output: impl AsRef<[u8]>) {
        while self.read() {}
        self.compare(output.as_ref());
        assert!(self.is_over, "{} stays after {}", self.with, self.said());
    }

    fn compare(&self, output: &[u8]) {
        let (found, wanted) = (self.answers(), output.escape_ascii().to_string());
        let found = found.escape_ascii().to_string();
        assert_eq!(found, wanted, "{} answers {}", self.with, self.said());
    }

    pub(crate) fn read(&mut self) -> bool {
        let mut bytes = [0; 4_096];
        match self.stream.read(&mut bytes) {
            Ok(0) => self.is_over = true,
            Ok(count) => {
                self.heard.extend_from_slice(&bytes[..count]);
                return true;
            }
            Err(error) => self.is_over = error.kind() == ErrorKind::ConnectionReset,
        }
        false
    }

    pub(crate) fn answers(&self) -> Vec<u8> {
        let lines = self.heard.split_inclusive(|byte| *byte == b'\n');
        let lines = lines.filter(|line| !line.starts_with(b"INFO {") && *line != b"PING\r\n");
        lines.flatten().copied().collect()
    }

    pub(crate) fn said(&self) -> String {
        let end = self.said.len().min(400);
        self.said[..end].escape_ascii().to_string()
    }
}

/// The embedded broker, and the real servers of all versions that are there.
pub(crate) fn everyone(rule: &str) -> Vec<Party> {
    let mut parties = vec![Party::broker()];
    for server in servers(rule) {
        parties.push(Party::of(RealServer::start(&server, "")));
    }
    parties
}
