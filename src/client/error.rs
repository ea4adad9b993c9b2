//! The client's error: one opaque type with a kind.

use std::fmt;

use crate::sequence::{SendError, SourceNameError};
use crate::session::{LinkError, OutboxError, Refusal, RefusalKind, ServerAddrError};
use crate::subject::SubjectError;
use crate::wire::HeaderFieldError;

/// Why a call on the client failed. The client stays usable unless the kind is
/// [`ErrorKind::Closed`].
///
/// One word, so that calls that succeed do not move around what they would say if they failed.
pub struct Error(Box<Detail>);

#[derive(Debug)]
struct Detail {
    kind: ErrorKind,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No server could be reached, or none accepted us.
    Connect,
    /// The address of a server is malformed.
    ServerAddr,
    /// The credentials are malformed, or two kinds exclude each other; the source says why.
    Credentials,
    /// The text is no subject, filter or queue group, or cannot be used for this.
    Subject,
    /// A header's name or value cannot be sent.
    Header,
    /// The server does not support headers.
    HeadersUnsupported,
    /// Headers and payload together are larger than the server takes.
    PayloadTooLarge {
        /// Their bytes.
        found: usize,
        /// What the server takes.
        max: usize,
    },
    /// Subject, reply and sizes together are longer than servers read in one line.
    LineTooLong {
        /// Bytes of the line's arguments.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// The outbox is full; nothing was queued.
    OutboxFull {
        /// Bytes that wait.
        waiting_bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// Nobody subscribes to the request's subject.
    NoResponders,
    /// The server does not permit it; [`Error::refusal`] says what.
    PermissionDenied,
    /// The server takes no more subscriptions of this connection or account.
    TooManySubscriptions,
    /// It took longer than the time allowed.
    Timeout,
    /// There is no connection at the moment, and the call needs one.
    Disconnected,
    /// The client is draining or closed.
    Closed,
    /// 2^32 subscriptions or requests are alive, or 2^21 flushes are unanswered.
    TooMany,
    /// The operating system gave no random numbers.
    Random,
    /// The text cannot name a source.
    SourceName,
    /// Another run holds the source's name.
    NameInUse {
        /// Its epoch.
        epoch: u64,
    },
    /// Another run has taken the source's name over.
    Fenced {
        /// Its epoch.
        by: u64,
    },
    /// The file of a [`DurableName`](super::DurableName) cannot be used; the source says why.
    DurableName,
    /// The sequencing layer refused; the source says why.
    Sequence,
}

impl Error {
    #[cold]
    pub(crate) fn new(kind: ErrorKind) -> Self {
        Self(Box::new(Detail { kind, source: None }))
    }

    pub(crate) fn with_source(
        kind: ErrorKind,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self(Box::new(Detail {
            kind,
            source: Some(source.into()),
        }))
    }

    /// What kind of failure it was.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    pub(super) fn is_outbox_full(&self) -> bool {
        matches!(self.kind(), ErrorKind::OutboxFull { .. })
    }

    /// What the server refused, with [`ErrorKind::PermissionDenied`] and
    /// [`ErrorKind::TooManySubscriptions`].
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        self.0.source.as_ref()?.downcast_ref()
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("source", &self.0.source)
            .finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            ErrorKind::Connect => out.write_str("no connection to any server"),
            ErrorKind::ServerAddr => out.write_str("malformed server address"),
            ErrorKind::Credentials => out.write_str("unusable credentials"),
            ErrorKind::Subject => out.write_str("malformed subject"),
            ErrorKind::Header => out.write_str("malformed header"),
            ErrorKind::HeadersUnsupported => out.write_str("server does not support headers"),
            ErrorKind::PayloadTooLarge { found, max } => {
                write!(
                    out,
                    "headers and payload of {found} bytes exceed {max} bytes"
                )
            }
            ErrorKind::LineTooLong { found, max } => {
                write!(
                    out,
                    "subject and reply make a line of {found} bytes, more than {max} bytes"
                )
            }
            ErrorKind::OutboxFull {
                waiting_bytes,
                bytes_max,
            } => {
                write!(
                    out,
                    "outbox is full, {waiting_bytes} of {bytes_max} bytes wait"
                )
            }
            ErrorKind::NoResponders => out.write_str("nobody subscribes to the subject"),
            ErrorKind::PermissionDenied => out.write_str("the server does not permit it"),
            ErrorKind::TooManySubscriptions => {
                out.write_str("the server takes no more subscriptions")
            }
            ErrorKind::Timeout => out.write_str("timed out"),
            ErrorKind::Disconnected => out.write_str("not connected"),
            ErrorKind::Closed => out.write_str("client is closed"),
            ErrorKind::TooMany => out.write_str("too many subscriptions, requests or flushes"),
            ErrorKind::Random => out.write_str("no random numbers from the operating system"),
            ErrorKind::SourceName => out.write_str("malformed source name"),
            ErrorKind::NameInUse { epoch } => {
                write!(out, "the run {epoch} holds the source's name")
            }
            ErrorKind::Fenced { by } => {
                write!(out, "the run {by} has taken the source's name over")
            }
            ErrorKind::DurableName => out.write_str("unusable file of a source's name"),
            ErrorKind::Sequence => out.write_str("sequencing refused"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.0.source.as_ref();
        source.map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}

impl From<OutboxError> for Error {
    fn from(error: OutboxError) -> Self {
        Self::new(match error {
            OutboxError::Full {
                waiting_bytes,
                bytes_max,
            } => ErrorKind::OutboxFull {
                waiting_bytes,
                bytes_max,
            },
            OutboxError::TooLarge { found, max } => ErrorKind::PayloadTooLarge { found, max },
            OutboxError::Ended => ErrorKind::Closed,
        })
    }
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        let kind = match error {
            SendError::Closed => ErrorKind::Closed,
            SendError::Fenced { by } => ErrorKind::Fenced { by },
            SendError::TooLarge { found, max } => ErrorKind::PayloadTooLarge { found, max },
            SendError::OutOfScope
            | SendError::ReservedToken { .. }
            | SendError::RetentionFull { .. }
            | SendError::TooLargeToRetain { .. }
            | SendError::NumbersUsedUp
            | SendError::EpochsUsedUp => ErrorKind::Sequence,
        };
        Self::with_source(kind, error)
    }
}

impl From<SourceNameError> for Error {
    fn from(error: SourceNameError) -> Self {
        Self::with_source(ErrorKind::SourceName, error)
    }
}

impl From<SubjectError> for Error {
    fn from(error: SubjectError) -> Self {
        Self::with_source(ErrorKind::Subject, error)
    }
}

impl From<HeaderFieldError> for Error {
    fn from(error: HeaderFieldError) -> Self {
        Self::with_source(ErrorKind::Header, error)
    }
}

impl From<ServerAddrError> for Error {
    fn from(error: ServerAddrError) -> Self {
        Self::with_source(ErrorKind::ServerAddr, error)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let kind = if refusal.kind == RefusalKind::TooManySubscriptions {
            ErrorKind::TooManySubscriptions
        } else {
            ErrorKind::PermissionDenied
        };
        Self::with_source(kind, refusal)
    }
}

impl From<LinkError> for Error {
    fn from(error: LinkError) -> Self {
        Self::with_source(ErrorKind::Connect, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_a_call_succeeded_fits_into_a_register() {
        assert_eq!(size_of::<Result<(), Error>>(), size_of::<usize>());
    }
}
