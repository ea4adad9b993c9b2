//! Why a message was not stamped. It has taken no number then.

use core::fmt;
use core::time::Duration;

use super::NUMBER_MAX;

/// Why a [`Sender`](super::Sender) refuses a message. It stays usable unless it is closed or
/// fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The subject lies outside the source's scope.
    OutOfScope,
    /// A token of the scope stands for `*` or `>` where heartbeats go.
    ReservedToken {
        /// The token.
        token: &'static str,
    },
    /// With its stamp and the room that a repair needs the message is larger than the server takes.
    TooLarge {
        /// Bytes of headers, stamp, payload and room for repair.
        found: usize,
        /// The server's bound in bytes.
        max: usize,
    },
    /// What is retained may not be forgotten yet; `free_at` is when the oldest may be.
    RetentionFull {
        /// When to try again.
        free_at: Duration,
    },
    /// The message is larger than everything that may be retained.
    TooLargeToRetain {
        /// Bytes.
        found: usize,
        /// The bound in bytes.
        max: usize,
    },
    /// The numbers are used up: begin a new epoch.
    NumbersUsedUp,
    /// No epoch is higher than that of an earlier run, or of whoever has taken the name over.
    EpochsUsedUp,
    /// The source is closed.
    Closed,
    /// Another run has taken the name over.
    Fenced {
        /// Its epoch.
        by: u64,
    },
}

impl fmt::Display for SendError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfScope => out.write_str("subject lies outside the source's scope"),
            Self::ReservedToken { token } => write!(
                out,
                "scope has the token {token}, which stands for a wildcard where heartbeats go"
            ),
            Self::TooLarge { found, max } => {
                write!(
                    out,
                    "{found} bytes with stamp and room for repair exceed {max} bytes"
                )
            }
            Self::RetentionFull { .. } => {
                out.write_str("retention is full of messages that may not be forgotten yet")
            }
            Self::TooLargeToRetain { found, max } => {
                write!(
                    out,
                    "{found} bytes exceed the {max} bytes that may be retained"
                )
            }
            Self::NumbersUsedUp => out.write_str("the epoch's numbers are used up"),
            Self::EpochsUsedUp => write!(out, "no epoch is higher than {NUMBER_MAX}"),
            Self::Closed => out.write_str("source is closed"),
            Self::Fenced { by } => write!(out, "the run {by} has taken the name over"),
        }
    }
}

impl core::error::Error for SendError {}
