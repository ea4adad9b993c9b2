//! What a server means by `-ERR`.

/// A server's refusal, told apart by how its text begins.
///
/// Servers differ in the case of their letters, so only lower-cased beginnings are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServerError {
    /// The bytes are no operation, or a payload does not end where its size says.
    UnknownOp,
    /// A control line is longer than the server's `max_control_line`.
    LineTooLong,
    /// Headers and payload are longer than the server's `max_payload`.
    PayloadTooLong,
    /// Credentials are missing or refused.
    Authorization,
    /// CONNECT came too late.
    AuthenticationTimeout,
    /// The user's credentials have ended.
    UserExpired,
    /// The account's credentials have ended.
    AccountExpired,
    /// The user's credentials were withdrawn.
    UserRevoked,
    /// The account could not be set up for this connection.
    AccountRegistration,
    /// The server takes no more connections.
    TooManyConnections,
    /// The account takes no more connections.
    TooManyAccountConnections,
    /// The server takes TLS connections more slowly than they come.
    Throttled,
    /// CONNECT's `protocol` is neither 0 nor 1.
    InvalidProtocol,
    /// CONNECT asks for `no_responders` and not for `headers`.
    NoRespondersWithoutHeaders,
    /// PINGs were not answered.
    Stale,
    /// TLS is required and did not come about.
    TlsRequired,
    /// The port is for routes, leaf nodes or gateways.
    WrongPort,
    /// A subject to subscribe to is malformed.
    InvalidSubject,
    /// A subject to publish to is malformed; only a pedantic connection hears of it.
    InvalidPublishSubject,
    /// There are too many subscriptions already.
    TooManySubscriptions,
    /// Publishing to a subject is not permitted; see [`Violation`].
    PublishViolation,
    /// Publishing with a reply subject is not permitted; see [`Violation`].
    ReplyViolation,
    /// Subscribing is not permitted, or no longer; see [`Violation`].
    SubscriptionViolation,
    /// A text that is not known.
    Other,
}

/// Lower-cased beginnings, as servers write them; a longer one goes before what it begins with.
const BEGINNINGS: &[(&str, ServerError)] = &[
    ("unknown protocol operation", ServerError::UnknownOp),
    ("maximum control line exceeded", ServerError::LineTooLong),
    ("maximum payload violation", ServerError::PayloadTooLong),
    ("authorization violation", ServerError::Authorization),
    ("authentication timeout", ServerError::AuthenticationTimeout),
    ("user authentication expired", ServerError::UserExpired),
    (
        "account authentication expired",
        ServerError::AccountExpired,
    ),
    ("user authentication revoked", ServerError::UserRevoked),
    (
        "failed account registration",
        ServerError::AccountRegistration,
    ),
    (
        "maximum connections exceeded",
        ServerError::TooManyConnections,
    ),
    (
        "maximum account active connections exceeded",
        ServerError::TooManyAccountConnections,
    ),
    ("connection throttling is active", ServerError::Throttled),
    ("invalid client protocol", ServerError::InvalidProtocol),
    (
        "no responders requires headers support",
        ServerError::NoRespondersWithoutHeaders,
    ),
    ("stale connection", ServerError::Stale),
    ("secure connection - tls required", ServerError::TlsRequired),
    ("attempted to connect to", ServerError::WrongPort),
    ("invalid subject", ServerError::InvalidSubject),
    (
        "invalid publish subject",
        ServerError::InvalidPublishSubject,
    ),
    (
        "maximum subscriptions exceeded",
        ServerError::TooManySubscriptions,
    ),
    (
        "permissions violation for publish with reply of",
        ServerError::ReplyViolation,
    ),
    (
        "permissions violation for publish",
        ServerError::PublishViolation,
    ),
    (
        "permissions violation for subscription",
        ServerError::SubscriptionViolation,
    ),
];

impl ServerError {
    /// Tells what `text` (without its outer quotes) means.
    #[must_use]
    pub fn new(text: &[u8]) -> Self {
        let begins = |start: &str| {
            text.split_at_checked(start.len())
                .is_some_and(|(head, _)| head.eq_ignore_ascii_case(start.as_bytes()))
        };
        let known = BEGINNINGS.iter().find(|(start, _)| begins(start));
        known.map_or(Self::Other, |(_, meaning)| *meaning)
    }

    /// Returns true when servers close the connection after it.
    ///
    /// An unknown text may or may not; whoever goes on reading finds out.
    #[must_use]
    pub const fn closes(self) -> bool {
        match self {
            Self::UnknownOp
            | Self::LineTooLong
            | Self::PayloadTooLong
            | Self::Authorization
            | Self::AuthenticationTimeout
            | Self::UserExpired
            | Self::AccountExpired
            | Self::UserRevoked
            | Self::TooManyConnections
            | Self::TooManyAccountConnections
            | Self::Throttled
            | Self::InvalidProtocol
            | Self::NoRespondersWithoutHeaders
            | Self::Stale
            | Self::TlsRequired
            | Self::WrongPort => true,
            Self::AccountRegistration
            | Self::InvalidSubject
            | Self::InvalidPublishSubject
            | Self::TooManySubscriptions
            | Self::PublishViolation
            | Self::ReplyViolation
            | Self::SubscriptionViolation
            | Self::Other => false,
        }
    }

    /// Returns true when it is about credentials: the same ones fail again.
    #[must_use]
    pub const fn is_authentication(self) -> bool {
        matches!(
            self,
            Self::Authorization
                | Self::AuthenticationTimeout
                | Self::UserExpired
                | Self::AccountExpired
                | Self::UserRevoked
        )
    }
}

/// What a permissions violation says about itself.
///
/// ```
/// use natseq::wire::Violation;
///
/// let text = br#"Permissions Violation for Subscription to "a.>" using queue "q" (sid "7")"#;
/// let violation = Violation::parse(text).expect("it is one");
/// assert_eq!((&violation.subject[..], violation.sid.as_deref()), (&b"a.>"[..], Some(&b"7"[..])));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Violation {
    /// Which of the three violations it is.
    pub error: ServerError,
    /// The subject, or the reply subject of a [`ServerError::ReplyViolation`].
    pub subject: Vec<u8>,
    /// The queue group that was asked for.
    pub queue_group: Option<Vec<u8>>,
    /// The subscription that the server removed, when permissions changed under it.
    pub sid: Option<Vec<u8>>,
}

impl Violation {
    /// Reads the text of an -ERR, without its outer quotes; `None` when it is no violation or names
    /// no subject.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let error = ServerError::new(text);
        let (start, _) = BEGINNINGS.iter().find(|(_, known)| *known == error)?;
        let is_violation = matches!(
            error,
            ServerError::PublishViolation
                | ServerError::ReplyViolation
                | ServerError::SubscriptionViolation
        );
        let mut rest = text.get(start.len()..).filter(|_| is_violation)?;
        let subject = cut_quoted(&mut rest, b" to ").or_else(|| cut_quoted(&mut rest, b" "))?;
        let queue_group = cut_quoted(&mut rest, b" using queue ");
        Some(Self {
            error,
            subject,
            queue_group,
            sid: cut_quoted(&mut rest, b" (sid "),
        })
    }
}

/// Cuts `label` and the quoted text behind it off; leaves `rest` alone when it is not there.
fn cut_quoted(rest: &mut &[u8], label: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = rest.strip_prefix(label)?.strip_prefix(b"\"")?;
    let mut text = Vec::new();
    loop {
        let (byte, behind) = bytes.split_first()?;
        bytes = behind;
        match byte {
            b'"' => break,
            b'\\' => unescape(&mut bytes, &mut text)?,
            _ => text.push(*byte),
        }
    }
    *rest = bytes;
    Some(text)
}

/// Reads what follows a backslash in a string that Go has quoted.
fn unescape(bytes: &mut &[u8], text: &mut Vec<u8>) -> Option<()> {
    let (kind, behind) = bytes.split_first()?;
    *bytes = behind;
    let plain = match kind {
        b'a' => 7,
        b'b' => 8,
        b't' => b'\t',
        b'n' => b'\n',
        b'v' => 11,
        b'f' => 12,
        b'r' => b'\r',
        b'x' => return hexadecimal(bytes, 2).and_then(|code| push_byte(text, code)),
        b'u' => return hexadecimal(bytes, 4).and_then(|code| push_character(text, code)),
        b'U' => return hexadecimal(bytes, 8).and_then(|code| push_character(text, code)),
        other => *other,
    };
    text.push(plain);
    Some(())
}

fn hexadecimal(bytes: &mut &[u8], digits: usize) -> Option<u32> {
    let (code, behind) = bytes.split_at_checked(digits)?;
    *bytes = behind;
    let is_hexadecimal = code.iter().all(u8::is_ascii_hexdigit);
    let code = core::str::from_utf8(code).ok().filter(|_| is_hexadecimal)?;
    u32::from_str_radix(code, 16).ok()
}

fn push_byte(text: &mut Vec<u8>, code: u32) -> Option<()> {
    text.push(u8::try_from(code).ok()?);
    Some(())
}

fn push_character(text: &mut Vec<u8>, code: u32) -> Option<()> {
    let character = char::from_u32(code)?;
    text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_has_its_meaning_and_its_consequence() {
        let closing = [
            ("Unknown Protocol Operation", ServerError::UnknownOp),
            ("maximum control line exceeded", ServerError::LineTooLong),
            ("Maximum Payload Violation", ServerError::PayloadTooLong),
            ("Authorization Violation", ServerError::Authorization),
            ("Authentication Timeout", ServerError::AuthenticationTimeout),
            ("User Authentication Expired", ServerError::UserExpired),
            (
                "Account Authentication Expired",
                ServerError::AccountExpired,
            ),
            ("User Authentication Revoked", ServerError::UserRevoked),
            (
                "maximum connections exceeded",
                ServerError::TooManyConnections,
            ),
            (
                "maximum account active connections exceeded",
                ServerError::TooManyAccountConnections,
            ),
            ("invalid client protocol", ServerError::InvalidProtocol),
            (
                "no responders requires headers support",
                ServerError::NoRespondersWithoutHeaders,
            ),
            ("Stale Connection", ServerError::Stale),
            ("Secure Connection - TLS Required", ServerError::TlsRequired),
            (
                "Connection throttling is active. Please try again later.",
                ServerError::Throttled,
            ),
            ("attempted to connect to route port", ServerError::WrongPort),
            (
                "attempted to connect to leaf node port",
                ServerError::WrongPort,
            ),
        ];
        for (text, meaning) in closing {
            assert_eq!(ServerError::new(text.as_bytes()), meaning, "{text}");
            assert!(meaning.closes(), "{text}");
        }
        let staying = [
            (
                "Failed Account Registration",
                ServerError::AccountRegistration,
            ),
            ("Invalid Subject", ServerError::InvalidSubject),
            (
                "Invalid Publish Subject",
                ServerError::InvalidPublishSubject,
            ),
            (
                "maximum subscriptions exceeded",
                ServerError::TooManySubscriptions,
            ),
            (
                r#"Permissions Violation for Publish to "a""#,
                ServerError::PublishViolation,
            ),
            (
                r#"Permissions Violation for Publish with Reply of "a""#,
                ServerError::ReplyViolation,
            ),
            (
                r#"Permissions Violation for Subscription to "a""#,
                ServerError::SubscriptionViolation,
            ),
            ("", ServerError::Other),
            ("Something new", ServerError::Other),
        ];
        for (text, meaning) in staying {
            assert_eq!(ServerError::new(text.as_bytes()), meaning, "{text}");
            assert!(!meaning.closes() && !meaning.is_authentication(), "{text}");
        }
        let expired = ServerError::new(b"USER authentication EXPIRED since");
        assert!(expired.is_authentication(), "letters may be of either case");
        assert!(!ServerError::Stale.is_authentication());
    }

    fn violation(text: &str) -> Option<(ServerError, String, Option<String>, Option<String>)> {
        let text_of = |bytes: Vec<u8>| bytes.escape_ascii().to_string();
        let Violation {
            error,
            subject,
            queue_group,
            sid,
        } = Violation::parse(text.as_bytes())?;
        Some((
            error,
            text_of(subject),
            queue_group.map(text_of),
            sid.map(text_of),
        ))
    }

    #[test]
    fn a_violation_names_what_it_concerns() {
        let subscription = ServerError::SubscriptionViolation;
        let start = "Permissions Violation for";
        let some = |text: &str| Some(text.to_owned());
        let cases = [
            (
                "Publish to \"a.b\"",
                ServerError::PublishViolation,
                "a.b",
                None,
                None,
            ),
            (
                "Publish with Reply of \"r\"",
                ServerError::ReplyViolation,
                "r",
                None,
                None,
            ),
            ("Subscription to \"s\"", subscription, "s", None, None),
            (
                "Subscription to \"s\", too many tokens",
                subscription,
                "s",
                None,
                None,
            ),
            (
                "Subscription to \"s\" using queue \"q\"",
                subscription,
                "s",
                some("q"),
                None,
            ),
            (
                "Subscription to \"s\" (sid \"9\")",
                subscription,
                "s",
                None,
                some("9"),
            ),
            (
                "Subscription to \"s\" using queue \"q\" (sid \"9\")",
                subscription,
                "s",
                some("q"),
                some("9"),
            ),
        ];
        for (end, error, subject, group, sid) in cases {
            let text = format!("{start} {end}");
            assert_eq!(
                violation(&text),
                Some((error, subject.to_owned(), group, sid)),
                "{text}"
            );
        }
        for text in [
            "",
            "Stale Connection",
            "Permissions Violation for Publish",
            "x to \"a\"",
        ] {
            assert_eq!(violation(text), None, "{text}");
        }
    }

    #[test]
    fn a_subject_in_quotes_is_what_the_client_wrote() {
        let quoted =
            r#"permissions violation for Publish to "it's \"a\"\\\x00\x7f\u00a0\r\U0001f600\t""#;
        let subject = Violation::parse(quoted.as_bytes()).unwrap().subject;
        let written = "it's \"a\"\\\0\x7f\u{a0}\r\u{1f600}\t".as_bytes();
        assert_eq!(
            subject.escape_ascii().to_string(),
            written.escape_ascii().to_string()
        );
        for damaged in [
            "\"a",
            "a\"",
            "\"\\x0g\"",
            "\"\\x+f\"",
            "\"\\x0",
            "\"\\u12\"",
            "\"\\ud800\"",
            "\"\\",
        ] {
            let text = format!("Permissions Violation for Publish to {damaged}");
            assert_eq!(violation(&text), None, "{text}");
        }
    }

    #[test]
    fn every_escape_of_go_is_read() {
        let text = br#"Permissions Violation for Publish to "\a\b\t\n\v\f\r\\""#;
        let subject = Violation::parse(text).unwrap().subject;
        assert_eq!(subject, b"\x07\x08\t\n\x0b\x0c\r\\");
    }
}
