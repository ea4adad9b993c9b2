//! One valid operation that owns its parts.

use arbitrary::{Arbitrary, Result, Unstructured};

use crate::wire::{ClientOp, HeaderBlock, MsgView, PubView, ServerOp};

use super::words;

/// What a message has besides its subject.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MessageParts {
    /// Where an answer is expected.
    pub reply: Option<Vec<u8>>,
    /// A well-formed header block.
    pub headers: Option<Vec<u8>>,
    /// The payload.
    pub payload: Vec<u8>,
}

/// Something that a client may say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientOperation {
    /// CONNECT.
    Connect {
        /// One JSON object.
        json: Vec<u8>,
    },
    /// PUB, or HPUB when there are headers.
    Publish {
        /// Where to.
        subject: Vec<u8>,
        /// The rest.
        parts: MessageParts,
    },
    /// SUB.
    Subscribe {
        /// The filter.
        filter: Vec<u8>,
        /// The group among whose members messages are shared.
        queue_group: Option<Vec<u8>>,
        /// The subscription's name.
        sid: Vec<u8>,
    },
    /// UNSUB.
    Unsubscribe {
        /// The subscription's name.
        sid: Vec<u8>,
        /// After how many messages.
        max: Option<Vec<u8>>,
    },
    /// PING.
    Ping,
    /// PONG.
    Pong,
    /// +OK, which servers ignore.
    Ok,
    /// INFO, which servers read and ignore.
    Info {
        /// One JSON object.
        json: Vec<u8>,
    },
}

/// Something that a server may say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerOperation {
    /// INFO.
    Info {
        /// One JSON object.
        json: Vec<u8>,
    },
    /// MSG, or HMSG when there are headers.
    Message {
        /// What it was published to.
        subject: Vec<u8>,
        /// The subscription.
        sid: Vec<u8>,
        /// The rest.
        parts: MessageParts,
    },
    /// PING.
    Ping,
    /// PONG.
    Pong,
    /// +OK.
    Ok,
    /// -ERR.
    Err {
        /// The text between the quotes.
        text: Vec<u8>,
    },
}

impl ClientOperation {
    /// The operation as a view of its parts. Digits are left to whoever writes it.
    #[must_use]
    pub fn as_op(&self) -> ClientOp<'_> {
        match self {
            Self::Connect { json } => ClientOp::Connect { json },
            Self::Publish { subject, parts } => ClientOp::Pub(PubView {
                subject,
                reply: parts.reply.as_deref(),
                headers: parts.headers.as_deref().map(HeaderBlock::new),
                payload: &parts.payload,
                header_digits: &[],
                total_digits: &[],
            }),
            Self::Subscribe {
                filter,
                queue_group,
                sid,
            } => ClientOp::Sub {
                subject: filter,
                queue_group: queue_group.as_deref(),
                sid,
            },
            Self::Unsubscribe { sid, max } => ClientOp::Unsub {
                sid,
                max: max.as_deref(),
            },
            Self::Ping => ClientOp::Ping,
            Self::Pong => ClientOp::Pong,
            Self::Ok => ClientOp::Ok,
            Self::Info { json } => ClientOp::Info { json },
        }
    }

    /// The operation's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let written = self.as_op().write(&mut bytes);
        debug_assert!(written.is_ok(), "a generated operation is valid: {self:?}");
        bytes
    }
}

impl ServerOperation {
    /// The operation as a view of its parts.
    #[must_use]
    pub fn as_op(&self) -> ServerOp<'_> {
        match self {
            Self::Info { json } => ServerOp::Info { json },
            Self::Message {
                subject,
                sid,
                parts,
            } => ServerOp::Msg(MsgView {
                subject,
                sid,
                reply: parts.reply.as_deref(),
                headers: parts.headers.as_deref().map(HeaderBlock::new),
                payload: &parts.payload,
            }),
            Self::Ping => ServerOp::Ping,
            Self::Pong => ServerOp::Pong,
            Self::Ok => ServerOp::Ok,
            Self::Err { text } => ServerOp::Err { text },
        }
    }

    /// The operation's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let written = self.as_op().write(&mut bytes);
        debug_assert!(written.is_ok(), "a generated operation is valid: {self:?}");
        bytes
    }
}

impl<'a> Arbitrary<'a> for MessageParts {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let has_headers = u.ratio(2_u8, 5)?;
        Ok(Self {
            reply: words::reply(u)?,
            headers: has_headers.then(|| words::headers(u)).transpose()?,
            payload: words::payload(u)?,
        })
    }
}

impl<'a> Arbitrary<'a> for ClientOperation {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u.int_in_range(0..=15_u8)? {
            0..=5 => Self::Publish {
                subject: words::subject(u)?,
                parts: u.arbitrary()?,
            },
            6..=8 => Self::Subscribe {
                filter: words::filter(u)?,
                queue_group: u.ratio(1_u8, 4)?.then(|| b"q".to_vec()),
                sid: sid(u)?,
            },
            9 | 10 => Self::Unsubscribe {
                sid: sid(u)?,
                max: max(u)?,
            },
            11 => Self::Connect {
                json: connect_json(u)?,
            },
            12 => Self::Pong,
            13 => Self::Ok,
            14 => Self::Info {
                json: b"{}".to_vec(),
            },
            _ => Self::Ping,
        })
    }
}

impl<'a> Arbitrary<'a> for ServerOperation {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u.int_in_range(0..=15_u8)? {
            0..=9 => Self::Message {
                subject: words::subject(u)?,
                sid: sid(u)?,
                parts: u.arbitrary()?,
            },
            10 => Self::Info {
                json: info_json(u)?,
            },
            11 => Self::Err {
                text: u.choose(REFUSALS)?.as_bytes().to_vec(),
            },
            12 => Self::Ok,
            13 => Self::Pong,
            _ => Self::Ping,
        })
    }
}

/// A sid, usually a small number.
pub(super) fn sid(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let odd = ["0", "abc", "18446744073709551615", "a-\u{e9}!"];
    if u.ratio(1_u8, 12)? {
        return Ok(u.choose(&odd)?.as_bytes().to_vec());
    }
    Ok(u.int_in_range(1..=6_u8)?.to_string().into_bytes())
}

/// UNSUB's maximum: also those that servers read as "now".
pub(super) fn max(u: &mut Unstructured<'_>) -> Result<Option<Vec<u8>>> {
    let texts = [
        "",
        "",
        "1",
        "2",
        "5",
        "0",
        "007",
        "999999999",
        "1000000000",
        "x",
        "-1",
    ];
    let text = u.choose(&texts)?;
    Ok((!text.is_empty()).then(|| text.as_bytes().to_vec()))
}

/// A CONNECT that servers accept, except where it asks for what they refuse.
pub(super) fn connect_json(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let names = ["verbose", "pedantic", "echo", "headers", "no_responders"];
    let mut json = String::from("{\"lang\":\"any\"");
    for name in names {
        match u.int_in_range(0..=2_u8)? {
            0 => {}
            value => json.push_str(&format!(",\"{name}\":{}", value == 1)),
        }
    }
    let odd = [
        ",\"protocol\":2",
        ",\"account\":\"A\"",
        ",\"VERBOSE\":false",
        ",\"verbose\":null",
        ",\"name\":7",
        ",\"new\":[1,{}]",
    ];
    match u.int_in_range(0..=15_u8)? {
        0 => json.push_str(u.choose(&odd)?),
        1..=9 => json.push_str(",\"protocol\":1"),
        _ => {}
    }
    json.push('}');
    Ok(json.into_bytes())
}

/// An INFO of a server that is free to use.
pub(super) fn info_json(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut json = String::from(
        "{\"server_id\":\"S\",\"version\":\"2.15.1\",\"proto\":1,\"host\":\"127.0.0.1\",\"port\":4222,\
         \"headers\":true",
    );
    let payload = u.choose(&["1048576", "-1", "0", "64", "9999999999"])?;
    json.push_str(&format!(",\"max_payload\":{payload}"));
    let fields = [
        ",\"ldm\":true",
        ",\"connect_urls\":[\"127.0.0.1:1\",\"[::1]:2\",\"x\"]",
        ",\"nonce\":\"abc\"",
        ",\"connect_info\":true,\"remote_account\":\"$G\"",
        ",\"new\":{\"a\":[]}",
    ];
    for field in fields {
        if u.ratio(1_u8, 6)? {
            json.push_str(field);
        }
    }
    json.push('}');
    Ok(json.into_bytes())
}

/// What servers say when they refuse.
const REFUSALS: &[&str] = &[
    "Unknown Protocol Operation",
    "Stale Connection",
    "Authorization Violation",
    "Permissions Violation for Publish to \"a\"",
    "Permissions Violation for Subscription to \"a.>\" using queue \"q\"",
    "Invalid Subject",
    "maximum connections exceeded",
    "",
    "something new",
];
