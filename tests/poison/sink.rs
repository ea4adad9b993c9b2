//! A client that sends on what came, and the raw socket that hears it.

use natseq::client::{Client, Publication};
use natseq::subject::{Filter, QueueGroup, Subject, SubjectRef};
use natseq::wire::{Headers, Message};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::PATIENCE;
use crate::{MESSAGES, connect};

/// A client that answers to what came, and the raw socket that listens to it.
pub(crate) struct Sink {
    client: Client,
    listening: JoinHandle<Vec<u8>>,
    expected: Vec<u8>,
    taken: usize,
    refused: usize,
}

impl Sink {
    pub(crate) async fn start() -> Self {
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
    pub(crate) async fn answer(&mut self, message: &Message, context: &str) {
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

    pub(crate) async fn finish(self, context: &str) {
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
