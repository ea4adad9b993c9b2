//! What a server refused, and whom it concerns.

use std::fmt;

use crate::wire::{ServerError, Violation};

/// A server's refusal of one subscription or one published message. The connection goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// What was refused.
    pub kind: RefusalKind,
    /// The filter of the subscription, the subject of the message or, for
    /// [`RefusalKind::Reply`], its reply subject; their first 512 bytes.
    pub subject: String,
    /// The queue group of the subscription.
    pub queue_group: Option<String>,
    /// The number of the subscription.
    pub sid: Option<u64>,
    /// The server's words, without the outer quotes; their first 512 bytes.
    pub text: String,
}

/// What a server refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalKind {
    /// A subscription is not permitted, or no longer.
    Subscription,
    /// The account or connection has as many subscriptions as it may have.
    TooManySubscriptions,
    /// Publishing to the subject is not permitted.
    Publish,
    /// Publishing with the reply subject is not permitted.
    Reply,
}

impl Refusal {
    /// What `text` says, which `violation` was read from.
    pub(crate) fn new(violation: &Violation, text: &[u8]) -> Self {
        let kind = if violation.error == ServerError::PublishViolation {
            RefusalKind::Publish
        } else if violation.error == ServerError::ReplyViolation {
            RefusalKind::Reply
        } else {
            RefusalKind::Subscription
        };
        Self {
            kind,
            subject: told(&violation.subject),
            queue_group: violation.queue_group.as_deref().map(told),
            sid: None,
            text: told(text),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "server said `{}`", self.text.escape_debug())
    }
}

impl std::error::Error for Refusal {}

/// Whom a refusal ends, for the session's owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A subscription that messages of this mailbox come from; `is_aside` when it can do without.
    Subscription {
        mailbox: u64,
        is_aside: bool,
        refusal: Refusal,
    },
    /// A message with this subject, or this reply subject.
    Message { subject: Vec<u8>, refusal: Refusal },
}

impl Refused {
    pub(crate) const fn refusal(&self) -> &Refusal {
        match self {
            Self::Subscription { refusal, .. } | Self::Message { refusal, .. } => refusal,
        }
    }
}

/// Bytes of a server's words that are told: a line may hold 64 KiB, and events wait for their reader.
const TOLD_BYTES_MAX: usize = 512;

/// What the server said, as far as it is told.
pub(crate) fn told(text: &[u8]) -> String {
    let len = text.len().min(TOLD_BYTES_MAX);
    String::from_utf8_lossy(text.get(..len).unwrap_or_default()).into_owned()
}
