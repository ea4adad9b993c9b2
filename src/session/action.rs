//! What a session asks its owner to do.

use std::fmt;

use crate::secret::SecretBytes;

use super::server_addr::ServerAddr;

/// What the owner has to do. Every dial begins a link of its own, and links are numbered: a session
/// may hold two, when it moves to another server before the old one ends.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Open a socket, then call `handle_connected` or `handle_disconnected`.
    Dial {
        /// The number of the new link.
        link: u64,
        /// Where to.
        server: ServerAddr,
    },
    /// Begin TLS on the socket, then call `handle_tls_started` or `handle_disconnected`.
    StartTls {
        /// Which link.
        link: u64,
        /// The server, for its name.
        server: ServerAddr,
    },
    /// Find out how to identify ourselves, then call `handle_credentials`.
    Authenticate {
        /// Which link.
        link: u64,
        /// The server.
        server: ServerAddr,
        /// What is to be signed, if the server gave it.
        nonce: Option<String>,
    },
    /// Write these bytes behind what this link has begun to write, ahead of the outbox.
    Send {
        /// Which link.
        link: u64,
        /// What to write; it may hold credentials.
        bytes: SecretBytes,
    },
    /// Close the socket, or stop opening it. Nothing more is to be reported of this link.
    Hang {
        /// Which link.
        link: u64,
    },
    /// Nothing will be asked any more.
    Finish,
}

impl Action {
    /// The link that it is about; none for [`Action::Finish`].
    pub(crate) const fn link(&self) -> Option<u64> {
        match self {
            Self::Dial { link, .. }
            | Self::StartTls { link, .. }
            | Self::Authenticate { link, .. }
            | Self::Send { link, .. }
            | Self::Hang { link } => Some(*link),
            Self::Finish => None,
        }
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial { link, server } => write!(out, "Dial({link}, {server})"),
            Self::StartTls { link, server } => write!(out, "StartTls({link}, {server})"),
            Self::Authenticate { link, server, .. } => {
                write!(out, "Authenticate({link}, {server})")
            }
            Self::Send { link, bytes } => write!(out, "Send({link}, {bytes:?})"),
            Self::Hang { link } => write!(out, "Hang({link})"),
            Self::Finish => out.write_str("Finish"),
        }
    }
}
