//! Raw blocking sockets that do the minimum: the bound for a whole client.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use natseq::client::rustls::pki_types::pem::PemObject as _;
use natseq::client::rustls::pki_types::{CertificateDer, ServerName};
use natseq::client::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::feed::headers;
use crate::meter::{Meter, Report, now};
use crate::open_loop::{moment, wait_until};
use crate::spec::{ACK, ECHO, START, SUBJECT, Spec, Workload, address, filter};

const READ_BYTES: usize = 256 << 10;
const WRITE_BYTES: usize = 256 << 10;

/// Bytes of requests that are written before the answers are read; more could block both sides.
const ASKED_BYTES: usize = 128 << 10;

/// Where answers go.
const INBOX: &str = "_INBOX.raw.1";

/// A connection, plain or under TLS.
pub(crate) trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

pub(crate) fn run(spec: &Spec) -> Report {
    match spec.workload {
        Workload::Publish => publish(spec),
        Workload::Subscribe => subscribe(spec),
        Workload::Request => request(spec),
        Workload::Parallel => parallel(spec),
        Workload::OpenLoop => open_loop(spec),
        Workload::IdleSubscriptions | Workload::IdleConnections => {
            panic!("a raw socket has nothing to hold")
        }
    }
}

/// Encodes every message and writes in large gathers.
fn publish(spec: &Spec) -> Report {
    let mut stream = connect(&spec.url);
    let mut out = Vec::with_capacity(WRITE_BYTES + spec.bytes + 256);
    let message = Outgoing::new(SUBJECT, "", spec);
    let send = |stream: &mut dyn Stream, out: &mut Vec<u8>, messages: u64| {
        for _ in 0..messages {
            message.encode(out);
            if out.len() >= WRITE_BYTES {
                stream.write_all(out).expect("write");
                out.clear();
            }
        }
        Outgoing::empty(ECHO, INBOX).encode(out);
        stream.write_all(out).expect("write");
        out.clear();
    };
    let mut incoming = Incoming::new();
    send(&mut stream, &mut out, spec.warm_up);
    incoming.take(&mut stream, 1);
    let meter = Meter::start();
    send(&mut stream, &mut out, spec.messages);
    incoming.take(&mut stream, 1);
    meter.stop(spec.messages)
}

/// Cuts every message's fields and acknowledges each burst.
fn subscribe(spec: &Spec) -> Report {
    let mut stream = connect(&spec.url);
    let mut out = Vec::new();
    for index in 0..spec.subscriptions {
        let filter = filter(index, spec.subscriptions);
        let _ = write!(out, "SUB {filter} {}\r\n", index + 2);
    }
    Outgoing::empty(ECHO, INBOX).encode(&mut out);
    stream.write_all(&out).expect("SUB");
    let mut incoming = Incoming::new();
    incoming.take(&mut stream, 1);
    let mut take = |messages: u64| {
        let start = spec.start(messages);
        let line = format!("PUB {START} {}\r\n{start}\r\n", start.len());
        stream.write_all(line.as_bytes()).expect("start");
        let mut taken = 0;
        while taken < messages {
            let before = taken / spec.burst;
            taken += incoming.take(&mut stream, 1);
            for _ in before..taken / spec.burst {
                let ack = format!("PUB {ACK} 0\r\n\r\n");
                stream.write_all(ack.as_bytes()).expect("ack");
            }
        }
    };
    take(spec.warm_up);
    let meter = Meter::start();
    take(spec.messages);
    meter.stop(spec.messages)
}

fn request(spec: &Spec) -> Report {
    let mut stream = connect(&spec.url);
    let message = Outgoing::new(ECHO, INBOX, spec);
    let mut incoming = Incoming::new();
    let mut out = Vec::new();
    let mut ask = || {
        out.clear();
        message.encode(&mut out);
        stream.write_all(&out).expect("a request");
        incoming.take(&mut stream, 1);
    };
    for _ in 0..spec.warm_up {
        ask();
    }
    let mut latencies = Vec::with_capacity(spec.messages as usize);
    let meter = Meter::start();
    for _ in 0..spec.messages {
        let begun = now();
        ask();
        latencies.push(now().saturating_duration_since(begun));
    }
    Report {
        latencies,
        ..meter.stop(spec.messages)
    }
}

/// Writes as many requests at once as there would be tasks, and reads their answers.
fn parallel(spec: &Spec) -> Report {
    let mut stream = connect(&spec.url);
    let message = Outgoing::new(ECHO, INBOX, spec);
    let together = (ASKED_BYTES / (spec.bytes + 64)).max(1) as u64;
    let together = together.min(spec.tasks);
    let mut incoming = Incoming::new();
    let mut out = Vec::new();
    let mut ask = |requests: u64| {
        let mut asked = 0;
        while asked < requests {
            out.clear();
            for _ in 0..together {
                message.encode(&mut out);
            }
            stream.write_all(&out).expect("requests");
            incoming.take(&mut stream, together);
            asked += together;
        }
        asked
    };
    ask(spec.warm_up);
    let meter = Meter::start();
    let asked = ask(spec.messages);
    meter.stop(asked)
}

/// Asks from one thread when it is time, and reads in another.
fn open_loop(spec: &Spec) -> Report {
    let mut reader = connect_plain(&spec.url);
    let mut writer = reader.try_clone().expect("a second handle");
    let all = spec.warm_up + spec.messages;
    let begun = now();
    let ticks = spec.clone();
    let thread = std::thread::spawn(move || {
        let message = Outgoing::new(ECHO, INBOX, &ticks);
        let mut out = Vec::new();
        for index in 0..all {
            wait_until(moment(begun, index, ticks.rate));
            out.clear();
            message.encode(&mut out);
            writer.write_all(&out).expect("a request");
        }
    });
    let mut incoming = Incoming::new();
    let mut latencies = Vec::with_capacity(all as usize);
    let mut meter = Meter::start();
    while (latencies.len() as u64) < all {
        let answers = incoming.take(&mut reader, 1);
        let at: Instant = now();
        for _ in 0..answers {
            let index = latencies.len() as u64;
            if index == spec.warm_up {
                meter = Meter::start();
            }
            latencies.push(at.saturating_duration_since(moment(begun, index, spec.rate)));
        }
    }
    thread.join().expect("the asking thread");
    Report {
        latencies: latencies.split_off(spec.warm_up as usize),
        ..meter.stop(spec.messages)
    }
}

/// The pieces of a message, put together anew each time.
struct Outgoing {
    verb: &'static str,
    subject: &'static str,
    reply: &'static str,
    sizes: String,
    headers: Vec<u8>,
    payload: Vec<u8>,
}

impl Outgoing {
    fn new(subject: &'static str, reply: &'static str, spec: &Spec) -> Self {
        let payload = vec![b'x'; spec.bytes];
        let mut message = Self {
            verb: "PUB ",
            subject,
            reply,
            sizes: format!("{}\r\n", spec.bytes),
            headers: Vec::new(),
            payload,
        };
        if spec.has_headers {
            message.headers = headers();
            let head = message.headers.len();
            message.verb = "HPUB ";
            message.sizes = format!("{head} {}\r\n", head + spec.bytes);
        }
        message
    }

    fn empty(subject: &'static str, reply: &'static str) -> Self {
        Self {
            verb: "PUB ",
            subject,
            reply,
            sizes: "0\r\n".to_owned(),
            headers: Vec::new(),
            payload: Vec::new(),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.verb.as_bytes());
        out.extend_from_slice(black_box(self.subject.as_bytes()));
        out.push(b' ');
        if !self.reply.is_empty() {
            out.extend_from_slice(self.reply.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(self.sizes.as_bytes());
        out.extend_from_slice(&self.headers);
        out.extend_from_slice(&self.payload);
        out.extend_from_slice(b"\r\n");
    }
}

/// Reads and cuts messages.
struct Incoming {
    buffer: Vec<u8>,
    held: usize,
}

impl Incoming {
    fn new() -> Self {
        Self {
            buffer: vec![0; 2 * READ_BYTES],
            held: 0,
        }
    }

    /// Reads until `least` messages have come, and returns how many have.
    fn take(&mut self, stream: &mut dyn Stream, least: u64) -> u64 {
        let mut taken = 0;
        while taken < least {
            let room = &mut self.buffer[self.held..self.held + READ_BYTES];
            let count = stream.read(room).expect("messages");
            assert_ne!(count, 0, "the server goes on");
            self.held += count;
            taken += self.cut(stream);
        }
        taken
    }

    fn cut(&mut self, stream: &mut dyn Stream) -> u64 {
        let (mut at, mut taken) = (0, 0);
        while let Some(end) = memchr::memchr(b'\n', &self.buffer[at..self.held]) {
            let line = &self.buffer[at..at + end - 1];
            if matches!(line.first(), Some(b'P' | b'I')) {
                if line == b"PING" {
                    stream.write_all(b"PONG\r\n").expect("PONG");
                }
                at += end + 1;
                continue;
            }
            let mut words = line.split(|byte| *byte == b' ');
            black_box((words.next(), words.next(), words.next()));
            let size = words.next_back().unwrap_or_default();
            let size = size
                .iter()
                .fold(0, |size, digit| size * 10 + usize::from(digit - b'0'));
            let next = at + end + 1 + size + 2;
            if next > self.held {
                break;
            }
            black_box(&self.buffer[next - 2 - size..next - 2]);
            at = next;
            taken += 1;
        }
        self.buffer.copy_within(at..self.held, 0);
        self.held -= at;
        taken
    }
}

/// A connection after its handshake, over TLS where the URL says so.
pub(crate) fn connect(url: &str) -> Box<dyn Stream> {
    if url.starts_with("tls://") {
        let stream = TcpStream::connect(address(url)).expect("connect");
        stream.set_nodelay(true).expect("nodelay");
        return Box::new(tls(stream));
    }
    Box::new(connect_plain(url))
}

fn connect_plain(url: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address(url)).expect("connect");
    stream.set_nodelay(true).expect("nodelay");
    read_line(&mut stream);
    greet(&mut stream);
    stream
}

fn tls(mut stream: TcpStream) -> StreamOwned<ClientConnection, TcpStream> {
    read_line(&mut stream);
    let mut roots = RootCertStore::empty();
    let file = std::env::var("SSL_CERT_FILE").expect("SSL_CERT_FILE");
    let authority = CertificateDer::from_pem_file(file).expect("a certificate");
    roots.add(authority).expect("an authority");
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a configuration");
    let mut stream = StreamOwned::new(connection, stream);
    greet(&mut stream);
    stream
}

fn greet(stream: &mut impl Stream) {
    let hello = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"protocol\":1,\
                 \"lang\":\"raw\",\"version\":\"1\"}\r\nSUB _INBOX.raw.1 1\r\nPING\r\n";
    stream.write_all(hello.as_bytes()).expect("CONNECT");
    stream.flush().expect("CONNECT");
    while read_line(stream) != "PONG\r" {}
}

/// One line, byte by byte, so that nothing behind it is lost.
pub(crate) fn read_line(stream: &mut impl Stream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte).expect("a line");
        if byte[0] == b'\n' {
            return String::from_utf8(line).expect("text");
        }
        line.push(byte[0]);
    }
}
