//! Operations as borrowed views: every part is a slice of the bytes that arrived.

use super::headers::HeaderBlock;

/// What a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the protocol is complete")]
pub enum ServerOp<'a> {
    /// What the server says about itself, in JSON.
    Info {
        /// One JSON object, unchecked.
        json: &'a [u8],
    },
    /// A message, with headers (HMSG) or without (MSG).
    Msg(MsgView<'a>),
    /// Asks for a PONG.
    Ping,
    /// Answers a PING.
    Pong,
    /// Confirms an operation to a verbose client.
    Ok,
    /// Refuses something; see [`ServerError`](super::ServerError).
    Err {
        /// The text without its outer quotes; may be empty.
        text: &'a [u8],
    },
}

/// A message that a server delivers. Bytes are as a publisher wrote them: not always UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the protocol is complete")]
pub struct MsgView<'a> {
    /// What it was published to.
    pub subject: &'a [u8],
    /// The subscription, as the subscriber named it.
    pub sid: &'a [u8],
    /// Where an answer is expected.
    pub reply: Option<&'a [u8]>,
    /// The header block, unparsed.
    pub headers: Option<HeaderBlock<'a>>,
    /// The payload.
    pub payload: &'a [u8],
}

/// What a client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the protocol is complete")]
pub enum ClientOp<'a> {
    /// What the client says about itself, in JSON.
    Connect {
        /// One JSON object, unchecked.
        json: &'a [u8],
    },
    /// A message to publish, with headers (HPUB) or without (PUB).
    Pub(PubView<'a>),
    /// Begins a subscription.
    Sub {
        /// The filter, unchecked.
        subject: &'a [u8],
        /// The group among whose members messages are shared.
        queue_group: Option<&'a [u8]>,
        /// The client's name for the subscription: any bytes but blanks.
        sid: &'a [u8],
    },
    /// Ends a subscription.
    Unsub {
        /// The client's name for the subscription.
        sid: &'a [u8],
        /// After how many messages since the SUB. Servers read anything but 1 to 9 digits as "now".
        max: Option<&'a [u8]>,
    },
    /// Asks for a PONG.
    Ping,
    /// Answers a PING.
    Pong,
    /// Ignored by servers.
    Ok,
    /// Parsed and ignored by servers.
    Info {
        /// One JSON object, unchecked.
        json: &'a [u8],
    },
    /// Makes a server close the connection.
    Err {
        /// The text without its outer quotes.
        text: &'a [u8],
    },
}

/// A message that a client publishes. Servers check neither the subject nor the header block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the protocol is complete")]
pub struct PubView<'a> {
    /// Where to.
    pub subject: &'a [u8],
    /// Where an answer is expected.
    pub reply: Option<&'a [u8]>,
    /// The header block, unparsed; `None` for PUB and for an HPUB that declares none.
    pub headers: Option<HeaderBlock<'a>>,
    /// The payload.
    pub payload: &'a [u8],
    /// The header length as written; empty for PUB. Servers repeat it to subscribers as it is.
    pub header_digits: &'a [u8],
    /// The total length as written.
    pub total_digits: &'a [u8],
}
