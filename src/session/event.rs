//! What a session tells its owner, and why a connection ended.

use std::fmt;
use std::time::Duration;

use crate::wire::{FrameError, ServerError};

use super::auth::CredentialsError;
use super::refusal::Refusal;
use super::server_addr::ServerAddr;
use super::tls_error::TlsError;

/// Something that happened to the connection, in the order in which it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The handshake is complete, and the server has read the subscriptions and what waited to be
    /// published. A connection that is lost before is told by [`Event::Disconnected`] alone; one that is
    /// left before is told right before [`Event::Moved`] at the latest.
    Connected {
        /// Where to.
        server: ServerAddr,
        /// 1 for the first connection of the session, then one more each time.
        generation: u64,
    },
    /// A connection that was up has ended.
    Disconnected {
        /// Why.
        reason: LinkError,
        /// Messages written after the last PONG: they may have arrived, or not.
        in_doubt: u64,
    },
    /// A server could not be reached or did not accept us; the next one follows.
    DialFailed {
        /// Which.
        server: ServerAddr,
        /// Why.
        reason: LinkError,
    },
    /// The server said `-ERR` and did not (yet) close the connection.
    ServerError {
        /// Its words, without the outer quotes; their first 512 bytes.
        text: String,
    },
    /// The server is about to shut down (lame duck mode). If the pool has another server the session
    /// moves to it, and says so with [`Event::Moved`].
    LameDuck,
    /// Servers that were not known before have joined the pool.
    ServersDiscovered {
        /// Which.
        servers: Vec<ServerAddr>,
    },
    /// The session has moved to another server before the old one ended. Subscriptions went on all
    /// the time.
    Moved(Box<Moved>),
    /// A subscription is full: from now on its new messages are dropped, until there is room.
    /// [`Event::SlowConsumerOver`] ends the episode; nothing is said in between.
    SlowConsumer {
        /// The subscription's filter.
        filter: String,
        /// Its number.
        sid: u64,
        /// Messages dropped for it in all earlier episodes.
        dropped_before: u64,
    },
    /// The session has ended and will not connect again.
    Closed {
        /// Why, unless the owner asked for it.
        reason: Option<LinkError>,
        /// Messages that were queued and will not be written, for want of a connection. Those that
        /// were written, or begun, count as in doubt instead.
        discarded_messages: u64,
    },
    /// A slow subscriber has made room (half of the limits), or its subscription has ended.
    SlowConsumerOver {
        /// The subscription's filter.
        filter: String,
        /// Its number.
        sid: u64,
        /// Messages dropped in this episode, exactly.
        dropped: u64,
        /// Bytes of their whole frames.
        dropped_bytes: u64,
    },
    /// The server refused a subscription, or withdrew it: it has ended, unless refused ones are to be
    /// tried again. Takes the place of [`Event::ServerError`].
    SubscriptionRefused(Refusal),
    /// The server refused a published message. Takes the place of [`Event::ServerError`].
    PublishRefused(Refusal),
    /// The server takes smaller messages than the one before, and some of those that waited for it were
    /// larger: they were dropped, since it would have ended the connection. Whoever waits for answers to
    /// them waits until the time is over.
    PayloadTooLarge {
        /// How many were dropped.
        discarded_messages: u64,
        /// Bytes of headers and payload that the server takes.
        max: usize,
    },
    /// The owner drains the connection.
    Draining {
        /// How far it has come.
        stage: DrainStage,
    },
    /// The drain is over; [`Event::Closed`] follows.
    Drained {
        /// As in [`Event::Closed`].
        discarded_messages: u64,
        /// Messages and replies that were received and not taken in time.
        untaken_messages: u64,
    },
    /// A subscription that shall lose nothing is full: the connection is not read until there is
    /// room. [`Event::ReadingResumed`] follows.
    ReadingStopped {
        /// The subscription's filter.
        filter: String,
        /// Its number.
        sid: u64,
    },
    /// The connection is read again.
    ReadingResumed {
        /// How long it was not.
        held: Duration,
    },
}

/// How far a drain has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DrainStage {
    /// Subscriptions end after what is under way; publishing goes on, subscribing fails.
    Subscriptions,
    /// Everything was taken; publishing fails, what is queued is written.
    Publishing,
}

/// How a session has moved from one server to another.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Moved {
    /// The server that was left.
    pub from: ServerAddr,
    /// Where to.
    pub to: ServerAddr,
    /// The number of the new connection, as in [`Event::Connected`].
    pub generation: u64,
    /// Messages written to the old server that it did not confirm before it was gone.
    pub in_doubt: u64,
    /// Messages that came from both servers and were told once: alike in subscription, subject, reply
    /// subject, headers and payload. Of messages that repeat each other so, one may be among them that
    /// came once, if the old server ended before its time.
    pub copies: u64,
}

/// Why a connection ended or could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkError {
    /// The socket, or the TLS layer on it, failed.
    Io {
        /// The operating system's classification.
        kind: std::io::ErrorKind,
        /// Its words.
        text: String,
    },
    /// The server closed the connection.
    Closed,
    /// The handshake took longer than the connect timeout.
    HandshakeTimeout,
    /// The server was asked and did not answer for one ping interval more than PINGs may be
    /// unanswered, or for ten times as long while it said something else.
    Stale,
    /// The server's bytes are not the protocol.
    Frame(FrameError),
    /// The server sent something else before INFO.
    InfoMissing,
    /// The server's INFO is not what it must be.
    InfoMalformed(String),
    /// The server refused us or gave up, in its own words.
    Server(String),
    /// TLS was asked for and the server does not offer it. No credential was sent.
    TlsNotOffered,
    /// Our own messages are not to come back, and the server cannot leave them out.
    NoEchoNotOffered,
    /// The server requires TLS and this build has none (feature `tls`).
    TlsNotBuilt,
    /// TLS with the server did not come about.
    Tls(TlsError),
    /// The URL asks for WebSocket and this build has none (feature `websocket`).
    WebSocketNotBuilt,
    /// There are no credentials to show to this server. Nothing was sent.
    Credentials(CredentialsError),
    /// CONNECT would be longer than the option `line_bytes_max` allows. Nothing was sent.
    ConnectTooLong {
        /// Bytes of its JSON.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// The attempts that [`RedialOptions`](super::RedialOptions) allows are used up.
    AttemptsUsedUp,
    /// The owner asked for another connection.
    Forced,
    /// The owner closed the session.
    ByOwner,
}

impl LinkError {
    /// Returns true when the server refused our credentials.
    #[must_use]
    pub fn is_auth(&self) -> bool {
        let Self::Server(text) = self else {
            return false;
        };
        ServerError::new(text.as_bytes()).is_authentication()
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { text, .. } => out.write_str(text),
            Self::Closed => out.write_str("server closed the connection"),
            Self::HandshakeTimeout => {
                out.write_str("handshake took longer than the connect timeout")
            }
            Self::Stale => out.write_str("server does not answer"),
            Self::Frame(error) => fmt::Display::fmt(error, out),
            Self::InfoMissing => out.write_str("server did not begin with INFO"),
            Self::InfoMalformed(text) => write!(out, "INFO is malformed: {text}"),
            Self::Server(text) => write!(out, "server said `{}`", text.escape_debug()),
            Self::TlsNotOffered => {
                out.write_str("TLS was asked for and the server does not offer it")
            }
            Self::NoEchoNotOffered => {
                out.write_str("server cannot leave out the echo of our own messages")
            }
            Self::TlsNotBuilt => {
                out.write_str("server needs TLS and this build has no `tls` feature")
            }
            Self::Tls(error) => fmt::Display::fmt(error, out),
            Self::WebSocketNotBuilt => {
                out.write_str("ws and wss need the `websocket` feature, which this build has not")
            }
            Self::Credentials(error) => fmt::Display::fmt(error, out),
            Self::ConnectTooLong { found, max } => {
                write!(
                    out,
                    "CONNECT of {found} bytes exceeds the {max} bytes of line_bytes_max"
                )
            }
            Self::AttemptsUsedUp => out.write_str("all attempts to connect are used up"),
            Self::Forced => out.write_str("left for another connection, as its owner asked"),
            Self::ByOwner => out.write_str("closed by its owner"),
        }
    }
}

impl std::error::Error for LinkError {}

impl From<TlsError> for LinkError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

impl From<std::io::Error> for LinkError {
    fn from(error: std::io::Error) -> Self {
        Self::Io {
            kind: error.kind(),
            text: error.to_string(),
        }
    }
}
