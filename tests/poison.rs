//! Malformed header blocks and odd subjects through real servers: what arrives, and what can be sent on.
//!
//! A raw socket publishes them, because the client cannot. Each message arrives with exactly its bytes, or the server
//! drops it for a reason that [`Fate`] names. The subscriber stays connected, every header block can be read, and
//! nothing of what came can be sent on with CR, LF or NUL in a subject or a header.
//!
//! Replay a failure with `NATSEQ_POISON_SEED=<seed> cargo test --test poison`.
#![cfg(feature = "client")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic"
)]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use natseq::client::{Client, ConnectOptions, Publication};
use natseq::jitter::Jitter;
use natseq::subject::{Filter, QueueGroup, Subject, SubjectRef};
use natseq::wire::{Headers, Message};
use support::{PATIENCE, RealServer, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The oldest, a middle one and the newest.
const VERSIONS: [&str; 3] = ["2.9.10", "2.12.8", "2.15.1"];

/// Messages for each server, some of them well-formed; those with a CR in the control line come on top.
const MESSAGES: usize = 12_000;

/// Messages with a CR in the control line: each takes a round trip.
const MESSAGES_WITH_CR: usize = 300;

/// The smallest buffer that a server reads into. A line with a CR inside must not be cut: a server makes something
/// else of it then.
const SERVER_READ_BYTES_MIN: usize = 64;

#[tokio::test]
async fn poison_is_delivered_as_it_was_published_and_cannot_be_sent_on() {
    let seed = std::env::var("NATSEQ_POISON_SEED").map_or(3, |text| text.parse().unwrap());
    for version in VERSIONS {
        let Some(binary) = server("poison", version) else {
            continue;
        };
        let server = RealServer::start(&binary, "");
        let context = format!("seed {seed} on {version}");
        let mut jitter = Jitter::new(seed);
        let has_reserved = version != "2.9.10";
        let mut poisons: Vec<_> = (0..MESSAGES)
            .map(|number| Poison::new(number, has_reserved, &mut jitter))
            .collect();
        let with_cr: Vec<_> = (0..MESSAGES_WITH_CR)
            .map(|number| Poison::with_cr(MESSAGES + number, &mut jitter))
            .collect();

        let client = connect(&server.url()).await;
        let mut events = client.events();
        let mut subscription = client.subscribe(">").unwrap();
        client.flush().await.unwrap();
        let mut publisher = RawPublisher::connect(server.address()).await;
        publisher.publish_at_once(&poisons).await;
        publisher.publish_one_by_one(&with_cr).await;
        poisons.extend(with_cr);

        let mut sink = Sink::start().await;
        for poison in poisons
            .iter()
            .filter(|poison| poison.fate == Fate::Delivered)
        {
            let context = format!("{poison} with {context}");
            let message = timeout(PATIENCE, subscription.next())
                .await
                .unwrap_or_else(|_| panic!("nothing came for {context}"))
                .unwrap_or_else(|| panic!("the subscription ended before {context}"));
            poison.check(&message, &context);
            sink.answer(&message, &context).await;
        }
        client.flush().await.unwrap();
        let statistics = subscription.statistics();
        assert_eq!(
            (statistics.waiting, statistics.dropped),
            (0, 0),
            "nothing else came, {context}"
        );
        assert_eq!(client.statistics().connects, 1, "{context}");
        let event = timeout(Duration::ZERO, events.next()).await;
        assert!(event.is_err(), "{event:?}, {context}");
        let reserved = poisons
            .iter()
            .filter(|poison| poison.fate == Fate::Reserved);
        assert_eq!(publisher.refusals, reserved.count(), "{context}");
        sink.finish(&context).await;
        client.close().await;
    }
}

/// What becomes of a message that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Delivered,
    /// A token is empty: the subject matches no subscription, not even `>`, and the server says nothing.
    MatchesNothing,
    /// The reply subject is the server's own: it answers with a permissions violation.
    Reserved,
}

/// One message as it is published, and what is expected of it.
struct Poison {
    kind: String,
    subject: Vec<u8>,
    reply: Option<Vec<u8>>,
    /// `None`: PUB. Empty: HPUB with a header size of 0, which arrives without headers.
    block: Option<Vec<u8>>,
    payload: Vec<u8>,
    fate: Fate,
}

impl Poison {
    fn new(number: usize, has_reserved: bool, jitter: &mut Jitter) -> Self {
        let (subject_kind, subject, fate) = odd_subject(number, jitter);
        let (block_kind, block) = match jitter.below(8) {
            0 => ("no block", None),
            _ => {
                let (kind, make) = BLOCKS[index(jitter, BLOCKS.len())];
                (kind, Some(make(jitter)))
            }
        };
        let mut poison = Self {
            kind: format!("{subject_kind}, {block_kind}"),
            subject,
            reply: odd_reply(jitter),
            block,
            payload: payload(number, jitter),
            fate,
        };
        if has_reserved && fate == Fate::Delivered && jitter.below(200) == 0 {
            poison.reply = Some(b"_R_.x".to_vec());
            poison.fate = Fate::Reserved;
        }
        poison
    }

    /// Short enough that the server reads the control line at once.
    fn with_cr(number: usize, jitter: &mut Jitter) -> Self {
        let mut subject = format!("cr.{number}").into_bytes();
        let place = index(jitter, subject.len()) + 1;
        subject.insert(place, b'\r');
        let reply = (jitter.below(2) == 0).then(|| b"r\r.\r\rs".to_vec());
        let block = (jitter.below(2) == 0).then(|| b"NATS/1.0\rA: b\r\r".to_vec());
        let poison = Self {
            kind: "CR inside the control line".to_owned(),
            subject,
            reply,
            block,
            payload: payload(number, jitter),
            fate: Fate::Delivered,
        };
        assert!(poison.control_line().len() <= SERVER_READ_BYTES_MIN);
        poison
    }

    fn control_line(&self) -> Vec<u8> {
        let op: &[u8] = match self.block {
            Some(_) => b"HPUB ",
            None => b"PUB ",
        };
        let mut line = op.to_vec();
        line.extend_from_slice(&self.subject);
        line.push(b' ');
        if let Some(reply) = &self.reply {
            line.extend_from_slice(reply);
            line.push(b' ');
        }
        let header_len = self.block.as_ref().map_or(0, Vec::len);
        if self.block.is_some() {
            line.extend_from_slice(format!("{header_len} ").as_bytes());
        }
        let total = header_len + self.payload.len();
        line.extend_from_slice(format!("{total}\r\n").as_bytes());
        line
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.control_line());
        out.extend_from_slice(self.block.as_deref().unwrap_or_default());
        out.extend_from_slice(&self.payload);
        out.extend_from_slice(b"\r\n");
    }

    /// Compares every byte, and reads the header block in every way there is.
    fn check(&self, message: &Message, context: &str) {
        let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
        assert_eq!(
            shown(message.subject()),
            shown(&self.subject),
            "subject, {context}"
        );
        assert_eq!(
            message.reply().map(shown),
            self.reply.as_deref().map(shown),
            "reply, {context}"
        );
        let block = self.block.as_deref().filter(|block| !block.is_empty());
        assert_eq!(
            message.headers().map(|block| shown(block.raw())),
            block.map(shown),
            "header block, {context}"
        );
        assert_eq!(
            shown(message.payload()),
            shown(&self.payload),
            "payload, {context}"
        );
        let Some(block) = message.headers() else {
            assert_eq!(message.status(), None, "{context}");
            return;
        };
        let has_bad_field = block.iter().any(|field| field.is_err());
        let is_bad = block.status().is_err() || has_bad_field;
        assert_eq!(block.check().is_err(), is_bad, "{context}");
        assert_eq!(message.status(), block.status().ok().flatten(), "{context}");
        for (name, value) in block.iter().flatten() {
            let Ok(name) = std::str::from_utf8(name) else {
                continue;
            };
            assert!(block.all(name).any(|other| other == value), "{context}");
            assert!(block.first(name).is_some(), "{context}");
            assert!(block.last(name).is_some(), "{context}");
        }
    }
}

impl std::fmt::Display for Poison {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line = self.control_line();
        write!(out, "{} ({})", self.kind, line.escape_ascii())
    }
}

/// A kind of header block and how to make one.
type Block = (&'static str, fn(&mut Jitter) -> Vec<u8>);

const BLOCKS: &[Block] = &[
    ("well-formed", |jitter| good_block(jitter)),
    ("LF-only line ends", |jitter| {
        replaced(&good_block(jitter), b"\r\n", b"\n")
    }),
    ("bare CR", |jitter| {
        replaced(&good_block(jitter), b"\r\n", b"\r")
    }),
    ("mixed line ends", |jitter| {
        let mut block = b"NATS/1.0".to_vec();
        for _ in 0..=jitter.below(5) {
            block.extend_from_slice(pick(
                jitter,
                &[b"\r\n", b"\n", b"\r", b"\n\r", b"\r\r\n", b"\n\n"],
            ));
            block.extend_from_slice(pick(jitter, &[b"A: b", b"C:d", b"E", b": f", b""]));
        }
        block
    }),
    ("NUL", |jitter| spoiled(&good_block(jitter), &[0], jitter)),
    ("CR inside", |jitter| {
        spoiled(&good_block(jitter), b"\r", jitter)
    }),
    ("folded line", |jitter| {
        with_line(jitter, &[b" folded", b"\tfolded", b"  folded: line"])
    }),
    ("second blank line", |jitter| {
        let mut block = good_block(jitter);
        block.extend_from_slice(pick(
            jitter,
            &[b"\r\n", b"A: b\r\n\r\n", b"NATS/1.0\r\n\r\n", b"x"],
        ));
        block
    }),
    ("no blank line", |jitter| {
        let block = good_block(jitter);
        block[..block.len() - 2].to_vec()
    }),
    ("cut short", |jitter| {
        let block = good_block(jitter);
        let len = index(jitter, block.len());
        block[..len].to_vec()
    }),
    ("missing colon", |jitter| {
        with_line(jitter, &[b"Name value", b"Name", b"-"])
    }),
    ("empty name", |jitter| {
        with_line(jitter, &[b": value", b":", b"::"])
    }),
    ("blank in the name", |jitter| {
        with_line(jitter, &[b"A b: c", b"A : c", b" A: c", b"A\t: c"])
    }),
    ("not UTF-8", |jitter| {
        with_line(
            jitter,
            &[
                b"A: \xff\xfe",
                b"\xc3\x28: b",
                b"\x80: \x80",
                b"A: \xed\xa0\x80",
            ],
        )
    }),
    ("wrong version", |jitter| {
        let version: &[u8] = pick(
            jitter,
            &[
                b"NATS/2.0",
                b"nats/1.0",
                b"NATS/1.1",
                b"NATS/1.",
                b"HTTP/1.1",
                b" NATS/1.0",
                b"NATS/1.00",
                b"",
            ],
        );
        replaced(&good_block(jitter), b"NATS/1.0", version)
    }),
    ("status", |jitter| {
        let huge = vec![b'5'; 1 + index(jitter, 4_000)];
        let status = pick(
            jitter,
            &[
                b"",
                b"5",
                b"50",
                b"503",
                b"5035",
                b"abc",
                b"-50",
                b"5 03",
                b"503\t",
                b"000",
                b"\xff\xff\xff",
                b"503 No Responders",
                b"404   ",
                &huge,
            ],
        );
        let blank: &[u8] = pick(jitter, &[b" ", b"", b"  ", b"\t"]);
        [b"NATS/1.0", blank, status, b"\r\n\r\n"].concat()
    }),
    ("size 0", |_| Vec::new()),
    ("many fields", |jitter| {
        let mut block = b"NATS/1.0\r\n".to_vec();
        for _ in 0..index(jitter, 200) {
            block.extend_from_slice(b"A: b\r\n");
        }
        block.extend_from_slice(b"\r\n");
        block
    }),
    ("any bytes", |jitter| {
        let len = 1 + index(jitter, 80);
        (0..len).map(|_| byte(jitter)).collect()
    }),
];

fn good_block(jitter: &mut Jitter) -> Vec<u8> {
    let mut block = b"NATS/1.0\r\n".to_vec();
    for _ in 0..jitter.below(4) {
        block.extend_from_slice(pick(
            jitter,
            &[b"A: b\r\n", b"Trace:  x y \r\n", b"a:\r\n", b"Key: a:b\r\n"],
        ));
    }
    block.extend_from_slice(b"\r\n");
    block
}

/// A good block with one of `lines` among its fields.
fn with_line(jitter: &mut Jitter, lines: &[&[u8]]) -> Vec<u8> {
    let mut block = b"NATS/1.0\r\nFirst: 1\r\n".to_vec();
    block.extend_from_slice(pick(jitter, lines));
    block.extend_from_slice(b"\r\nLast: 2\r\n\r\n");
    block
}

fn spoiled(block: &[u8], with: &[u8], jitter: &mut Jitter) -> Vec<u8> {
    let (before, after) = block.split_at(index(jitter, block.len() + 1));
    [before, with, after].concat()
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut rest = text;
    let mut result = Vec::new();
    while let Some((first, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(from) {
            result.extend_from_slice(to);
            rest = after;
        } else {
            result.push(*first);
            rest = after;
        }
    }
    result
}

fn odd_subject(number: usize, jitter: &mut Jitter) -> (&'static str, Vec<u8>, Fate) {
    let mut fate = Fate::Delivered;
    let (kind, subject) = match jitter.below(10) {
        0 | 1 => ("plain subject", format!("p.{number}").into_bytes()),
        2 => (
            "control bytes in the subject",
            odd_tokens(jitter, 3, control),
        ),
        3 => ("high bytes in the subject", odd_tokens(jitter, 3, high)),
        4 => {
            let subjects: &[&[u8]] = &[
                b"p.*", b"*", b">", b"p.>", b"p.>.x", b"*.*", b"p*", b"p>x.y",
            ];
            ("wildcards in the subject", pick(jitter, subjects).to_vec())
        }
        5 => {
            fate = Fate::MatchesNothing;
            let subjects: &[&[u8]] = &[b"p..x", b".p", b"p.", b".", b"..", b".*", b">.", b"\0."];
            (
                "empty token in the subject",
                pick(jitter, subjects).to_vec(),
            )
        }
        6 => ("subject of one byte", vec![letter(jitter)]),
        7 if jitter.below(4) == 0 => {
            let mut subject = odd_tokens(jitter, 3_000, letter);
            subject.resize(3_000, b'x');
            ("subject of 3000 bytes", subject)
        }
        7 => {
            let tokens = vec!["t"; 1 + index(jitter, 200)];
            ("subject of many tokens", tokens.join(".").into_bytes())
        }
        8 => {
            let subjects: &[&[u8]] = &[
                b"MSG",
                b"PING",
                b"+OK",
                b"1",
                b"-1",
                b"p.\\r\\n",
                b"p.'\"`",
                b"{}",
            ];
            ("subject like an operation", pick(jitter, subjects).to_vec())
        }
        _ => ("any bytes in the subject", odd_tokens(jitter, 20, letter)),
    };
    (kind, subject, fate)
}

fn odd_reply(jitter: &mut Jitter) -> Option<Vec<u8>> {
    match jitter.below(10) {
        0..4 => None,
        4 => Some(b"_INBOX.a.1".to_vec()),
        5 => Some(odd_tokens(jitter, 4, control)),
        6 => Some(odd_tokens(jitter, 4, high)),
        7 => Some(odd_tokens(jitter, 100, letter)),
        // Nobody looks at a reply subject: empty tokens and wildcards pass.
        8 => Some(pick(jitter, &[b"r..s", b".", b"r.", b".r", b"*", b">", b"r.>.s"]).to_vec()),
        _ => Some(
            pick(
                jitter,
                &[b"0", b"12", b"+1", b"PUB", b"\0", b"\x7f", b"\xff"],
            )
            .to_vec(),
        ),
    }
}

/// Between one and `tokens_max` tokens, none empty.
fn odd_tokens(jitter: &mut Jitter, bytes_max: usize, one: fn(&mut Jitter) -> u8) -> Vec<u8> {
    let mut subject = vec![one(jitter)];
    for _ in 0..index(jitter, bytes_max) {
        if subject.len() + 1 < bytes_max && jitter.below(4) == 0 {
            subject.push(b'.');
        }
        subject.push(one(jitter));
    }
    subject.truncate(bytes_max);
    if subject.last() == Some(&b'.') {
        subject.pop();
    }
    subject
}

/// A byte that can stand in a subject, but a dot.
fn letter(jitter: &mut Jitter) -> u8 {
    loop {
        let byte = byte(jitter);
        if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'.') {
            return byte;
        }
    }
}

fn control(jitter: &mut Jitter) -> u8 {
    let bytes = b"\0\x01\x07\x08\x0b\x0c\x0e\x1b\x1f\x7fc*";
    bytes[index(jitter, bytes.len())]
}

fn high(jitter: &mut Jitter) -> u8 {
    0x80 | byte(jitter)
}

fn byte(jitter: &mut Jitter) -> u8 {
    jitter.next_u64().to_le_bytes()[0]
}

/// Begins with its number, so that a loss is noticed; whatever follows is any bytes.
fn payload(number: usize, jitter: &mut Jitter) -> Vec<u8> {
    if jitter.below(10) == 0 {
        // The header block is all there is.
        return Vec::new();
    }
    let mut payload = format!("{number} ").into_bytes();
    for _ in 0..jitter.below(4) {
        payload.extend_from_slice(pick(
            jitter,
            &[
                b"\r\n",
                b"\0",
                b"PING\r\n",
                b"\xff",
                b"MSG a 1 1\r\n",
                b"-ERR 'x'\r\n",
            ],
        ));
    }
    payload
}

fn pick<'a>(jitter: &mut Jitter, from: &[&'a [u8]]) -> &'a [u8] {
    from[index(jitter, from.len())]
}

/// A number below `bound`.
fn index(jitter: &mut Jitter, bound: usize) -> usize {
    usize::try_from(jitter.below(u64::try_from(bound).unwrap())).unwrap()
}

async fn connect(address: &str) -> Client {
    // No PING of our own between what the test compares.
    let options = ConnectOptions::new().ping_interval(PATIENCE);
    options.connect(address).await.unwrap()
}

/// A connection that publishes any bytes.
struct RawPublisher {
    stream: TcpStream,
    heard: Vec<u8>,
    /// Permissions violations so far.
    refusals: usize,
}

impl RawPublisher {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut publisher = Self {
            stream,
            heard: Vec::new(),
            refusals: 0,
        };
        let connect = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n";
        publisher.send(connect).await;
        publisher
    }

    async fn publish_at_once(&mut self, poisons: &[Poison]) {
        let mut bytes = Vec::new();
        for poison in poisons {
            poison.write(&mut bytes);
        }
        self.send(&bytes).await;
    }

    async fn publish_one_by_one(&mut self, poisons: &[Poison]) {
        for poison in poisons {
            let mut bytes = Vec::new();
            poison.write(&mut bytes);
            self.send(&bytes).await;
        }
    }

    /// Writes and waits until the server has read everything.
    async fn send(&mut self, bytes: &[u8]) {
        let bytes = [bytes, b"PING\r\n"].concat();
        let (mut reader, mut writer) = self.stream.split();
        let heard = &mut self.heard;
        let refusals = &mut self.refusals;
        let reading = async {
            loop {
                while let Some(end) = heard.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = heard.drain(..=end).collect();
                    if line == b"PONG\r\n" {
                        return;
                    }
                    if line.starts_with(b"-ERR 'Permissions Violation") {
                        *refusals += 1;
                    } else {
                        let is_known = line.starts_with(b"INFO ") || line == b"PING\r\n";
                        assert!(is_known, "server said {}", line.escape_ascii());
                    }
                }
                let count = reader.read_buf(heard).await.unwrap();
                assert_ne!(count, 0, "the server closed the publisher's connection");
            }
        };
        let both = async {
            let (written, ()) = tokio::join!(writer.write_all(&bytes), reading);
            written.unwrap();
        };
        timeout(PATIENCE, both).await.unwrap();
    }
}

/// A client that answers to what came, and the raw socket that listens to it.
struct Sink {
    client: Client,
    listening: JoinHandle<Vec<u8>>,
    expected: Vec<u8>,
    taken: usize,
    refused: usize,
}

impl Sink {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listening = tokio::spawn(listen(listener));
        Self {
            client: connect(&address.to_string()).await,
            listening,
            expected: Vec::new(),
            taken: 0,
            refused: 0,
        }
    }

    /// Sends on as much of `message` as the types take, and notes what must come out.
    async fn answer(&mut self, message: &Message, context: &str) {
        let mut names = Vec::new();
        for bytes in message.reply().into_iter().chain([message.subject()]) {
            match self.note(
                SubjectRef::from_bytes(bytes).ok(),
                is_subject(bytes),
                context,
            ) {
                Some(subject) => names.push(subject.to_owned()),
                None => check_filter(bytes, context),
            }
        }
        let mut headers = Headers::new();
        let mut fields = Vec::new();
        for (name, value) in message.headers().into_iter().flatten().flatten() {
            // `append` takes text: what is not UTF-8 cannot even be tried.
            let Ok(name) = std::str::from_utf8(name) else {
                continue;
            };
            let is_field =
                is_name(name.as_bytes()) && !value.iter().any(|byte| b"\r\n\0".contains(byte));
            let appended = headers.append(name, value).ok();
            if self.note(appended, is_field, context).is_some() {
                fields.extend_from_slice(format!("{name}: ").as_bytes());
                fields.extend_from_slice(value);
                fields.extend_from_slice(b"\r\n");
            }
        }
        let Some(subject) = names.first() else {
            return;
        };
        let payload = message.payload();
        let mut publication = Publication::new(subject, payload)
            .unwrap()
            .headers(&headers);
        if let Some(reply) = names.get(1) {
            publication = publication.reply(reply).unwrap();
        }
        timeout(PATIENCE, self.client.send(publication))
            .await
            .unwrap()
            .unwrap_or_else(|error| panic!("{error}, {context}"));
        self.expect(&names, &fields, payload);
    }

    /// What the socket must see, put together without the encoder.
    fn expect(&mut self, names: &[Subject], fields: &[u8], payload: &[u8]) {
        let names: Vec<_> = names.iter().map(Subject::as_str).collect();
        let names = names.join(" ");
        let head = if fields.is_empty() {
            format!("PUB {names} {}\r\n", payload.len())
        } else {
            let header_len = "NATS/1.0\r\n\r\n".len() + fields.len();
            let total = header_len + payload.len();
            format!("HPUB {names} {header_len} {total}\r\nNATS/1.0\r\n")
        };
        self.expected.extend_from_slice(head.as_bytes());
        if !fields.is_empty() {
            self.expected.extend_from_slice(fields);
            self.expected.extend_from_slice(b"\r\n");
        }
        self.expected.extend_from_slice(payload);
        self.expected.extend_from_slice(b"\r\n");
    }

    /// Counts what was taken and what was refused; both must be as a naive look says.
    fn note<T>(&mut self, made: Option<T>, is_clean: bool, context: &str) -> Option<T> {
        assert_eq!(made.is_some(), is_clean, "{context}");
        self.taken += usize::from(is_clean);
        self.refused += usize::from(!is_clean);
        made
    }

    async fn finish(self, context: &str) {
        assert!(
            self.taken > MESSAGES / 4 && self.refused > MESSAGES / 4,
            "{} taken, {} refused: the test says something, {context}",
            self.taken,
            self.refused
        );
        self.client.close().await;
        let heard = timeout(PATIENCE, self.listening).await.unwrap().unwrap();
        let expected = [b"PING\r\n", self.expected.as_slice(), b"PING\r\n"].concat();
        let connect_end = heard.iter().position(|byte| *byte == b'\n').unwrap();
        let (connect, heard) = heard.split_at(connect_end + 1);
        assert!(connect.starts_with(b"CONNECT {"), "{context}");
        if let Some(at) =
            (0..heard.len().max(expected.len())).find(|at| heard.get(*at) != expected.get(*at))
        {
            let around = |bytes: &[u8]| {
                let end = bytes.len().min(at + 60);
                bytes[at.saturating_sub(60).min(end)..end]
                    .escape_ascii()
                    .to_string()
            };
            panic!(
                "at {at}: {} instead of {}, {context}",
                around(heard),
                around(&expected)
            );
        }
    }
}

/// Plays a server that only listens; returns every byte that came until the close.
async fn listen(listener: TcpListener) -> Vec<u8> {
    let (mut stream, _) = listener.accept().await.unwrap();
    stream
        .write_all(b"INFO {\"headers\":true,\"max_payload\":1048576}\r\n")
        .await
        .unwrap();
    let mut heard = Vec::new();
    while stream.read_buf(&mut heard).await.unwrap() > 0 {
        // A payload can end so too: the client ignores a PONG that it did not ask for.
        if heard.ends_with(b"\r\nPING\r\n") {
            stream.write_all(b"PONG\r\n").await.unwrap();
        }
    }
    heard
}

/// A subscription to what came, or a group of that name, cannot hold a line end either.
fn check_filter(bytes: &[u8], context: &str) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let filter = Filter::new(text).ok().map(|filter| filter.to_string());
    let group = QueueGroup::new(text).ok().map(|group| group.to_string());
    for name in [filter, group].into_iter().flatten() {
        assert!(
            name.bytes().all(|byte| byte > b' ' && byte != 0x7f),
            "{context}"
        );
    }
}

/// The naive rule for a literal subject.
fn is_subject(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok()
        && bytes.iter().all(|byte| *byte > b' ' && *byte != 0x7f)
        && bytes
            .split(|byte| *byte == b'.')
            .all(|token| !matches!(token, b"" | b"*" | b">"))
}

/// The naive rule for a header name.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name
            .iter()
            .all(|byte| (33..=126).contains(byte) && *byte != b':')
}
