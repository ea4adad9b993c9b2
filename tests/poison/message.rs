//! One message as it is published, and what becomes of it.

use natseq::jitter::Jitter;
use natseq::wire::Message;

use crate::kinds::{BLOCKS, index, odd_reply, odd_subject, payload};

/// The smallest buffer that a server reads into. A line with a CR inside must not be cut: a server makes something
/// else of it then.
const SERVER_READ_BYTES_MIN: usize = 64;

/// What becomes of a message that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Delivered,
    /// A token is empty: the subject matches no subscription, not even `>`, and the server says nothing.
    MatchesNothing,
    /// The reply subject is the server's own: it answers with a permissions violation.
    Reserved,
}

/// One message as it is published, and what is expected of it.
pub(crate) struct Poison {
    pub(crate) kind: String,
    pub(crate) subject: Vec<u8>,
    pub(crate) reply: Option<Vec<u8>>,
    /// `None`: PUB. Empty: HPUB with a header size of 0, which arrives without headers.
    pub(crate) block: Option<Vec<u8>>,
    pub(crate) payload: Vec<u8>,
    pub(crate) fate: Fate,
}

impl Poison {
    pub(crate) fn new(number: usize, has_reserved: bool, jitter: &mut Jitter) -> Self {
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
    pub(crate) fn with_cr(number: usize, jitter: &mut Jitter) -> Self {
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

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.control_line());
        out.extend_from_slice(self.block.as_deref().unwrap_or_default());
        out.extend_from_slice(&self.payload);
        out.extend_from_slice(b"\r\n");
    }

    /// Compares every byte, and reads the header block in every way there is.
    pub(crate) fn check(&self, message: &Message, context: &str) {
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
