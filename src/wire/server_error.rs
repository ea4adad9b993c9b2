//! What a server means by `-ERR`.

/// A server's refusal, told apart by how its text begins.
///
/// Servers differ in the case of their letters, so only lower-cased beginnings are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServerError {
    /// Credentials were refused, or have ended.
    Authorization,
    /// A publish or a subscription is not permitted; the connection stays.
    Permissions,
    /// A subject is malformed; the connection stays.
    InvalidSubject,
    /// There are too many subscriptions already; the connection stays.
    TooManySubscriptions,
    /// The server or the account takes no more connections.
    TooManyConnections,
    /// We did not answer PINGs.
    Stale,
    /// We broke the protocol or one of its limits.
    Protocol,
    /// A text that is not known; the connection may stay.
    Other,
}

const BEGINNINGS: &[(&[u8], ServerError)] = &[
    (b"permissions violation", ServerError::Permissions),
    (b"authorization violation", ServerError::Authorization),
    (b"authentication timeout", ServerError::Authorization),
    (b"user authentication", ServerError::Authorization),
    (b"account authentication", ServerError::Authorization),
    (b"invalid subject", ServerError::InvalidSubject),
    (b"invalid publish subject", ServerError::InvalidSubject),
    (b"maximum subscriptions", ServerError::TooManySubscriptions),
    (b"maximum connections", ServerError::TooManyConnections),
    (
        b"maximum account active connections",
        ServerError::TooManyConnections,
    ),
    (b"connection throttling", ServerError::TooManyConnections),
    (b"stale connection", ServerError::Stale),
    (b"unknown protocol", ServerError::Protocol),
    (b"maximum control line", ServerError::Protocol),
    (b"maximum payload", ServerError::Protocol),
    (b"invalid client protocol", ServerError::Protocol),
    (b"no responders requires", ServerError::Protocol),
    (b"secure connection", ServerError::Protocol),
    (b"attempted to connect to", ServerError::Protocol),
];

impl ServerError {
    /// Tells what `text` (without its outer quotes) means.
    #[must_use]
    pub fn new(text: &[u8]) -> Self {
        let begins = |start: &[u8]| {
            text.split_at_checked(start.len())
                .is_some_and(|(head, _)| head.eq_ignore_ascii_case(start))
        };
        let known = BEGINNINGS.iter().find(|(start, _)| begins(start));
        known.map_or(Self::Other, |(_, meaning)| *meaning)
    }

    /// Returns true when servers close the connection after it.
    #[must_use]
    pub const fn closes(self) -> bool {
        match self {
            Self::Authorization | Self::TooManyConnections | Self::Stale | Self::Protocol => true,
            Self::Permissions | Self::InvalidSubject | Self::TooManySubscriptions | Self::Other => {
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_may_be_of_either_case_and_more_may_follow() {
        let text = br#"permissions violation for Publish to "it's""#;
        assert_eq!(ServerError::new(text), ServerError::Permissions);
        assert!(ServerError::new(b"MAXIMUM PAYLOAD violation").closes());
    }

    #[test]
    fn an_unknown_text_does_not_end_the_connection() {
        assert!(!ServerError::new(b"").closes());
        assert!(!ServerError::new(b"Something new").closes());
    }
}
