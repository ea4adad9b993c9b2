//! Reads the reply subject of a JetStream delivery.
//!
//! ```text
//!   $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<nanoseconds>.<pending>
//!   $JS.ACK.<domain>.<account>.<stream>.<consumer>. ... the same ... [.<more>]
//! ```

use core::fmt;
use core::str::Utf8Error;

/// The longest reply subject that is read; a server's control line is no longer by default.
const BYTES_MAX: usize = 4_096;

/// What a delivery says about itself. Publish the acknowledgement to the subject as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct AckSubject<'a> {
    /// JetStream domain; `None` in the short form, and when the server has none.
    pub domain: Option<&'a str>,
    /// Name of the stream.
    pub stream: &'a str,
    /// Name of the consumer.
    pub consumer: &'a str,
    /// How often this message was delivered, this time included.
    pub delivered: u64,
    /// The message's number in the stream.
    pub stream_seq: u64,
    /// The delivery's number for the consumer: one more with each delivery, repeated ones too.
    pub consumer_seq: u64,
    /// When the stream took the message: nanoseconds since 1970.
    pub unix_nanos: u64,
    /// Messages that the consumer had still to deliver.
    pub pending: u64,
}

impl<'a> AckSubject<'a> {
    /// Reads `reply`.
    ///
    /// # Errors
    ///
    /// [`AckSubjectError`] when it is not the reply subject of a delivery.
    pub fn parse(reply: &'a [u8]) -> Result<Self, AckSubjectError> {
        if reply.len() > BYTES_MAX {
            return Err(AckSubjectError::TooLong {
                found: reply.len(),
                max: BYTES_MAX,
            });
        }
        let text = core::str::from_utf8(reply).map_err(|_: Utf8Error| AckSubjectError::NotUtf8)?;
        let rest = text
            .strip_prefix("$JS.ACK.")
            .ok_or(AckSubjectError::Prefix)?;
        // The two tokens of the prefix count, as servers count them.
        let count = rest.split('.').count().saturating_add(2);
        let mut tokens = rest.split('.');
        let mut domain = None;
        match count {
            9 => {}
            11.. => {
                domain = tokens.next().filter(|token| *token != "_");
                let _account = tokens.next();
            }
            found => return Err(AckSubjectError::TokenCount { found }),
        }
        let mut name = || tokens.next().filter(|token| !token.is_empty());
        let (Some(stream), Some(consumer)) = (name(), name()) else {
            return Err(AckSubjectError::EmptyName);
        };
        let mut number = || -> Result<u64, AckSubjectError> {
            let digits = tokens.next().unwrap_or_default();
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number
                .then(|| digits.parse().ok())
                .flatten()
                .ok_or(AckSubjectError::Number)
        };
        Ok(Self {
            domain,
            stream,
            consumer,
            delivered: number()?,
            stream_seq: number()?,
            consumer_seq: number()?,
            unix_nanos: number()?,
            pending: number()?,
        })
    }
}

/// Why a subject is not the reply subject of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AckSubjectError {
    /// It is longer than any server sends.
    TooLong {
        /// Bytes.
        found: usize,
        /// The bound in bytes.
        max: usize,
    },
    /// It is not UTF-8.
    NotUtf8,
    /// It does not begin with `$JS.ACK.`.
    Prefix,
    /// It has neither 9 nor at least 11 tokens.
    TokenCount {
        /// Tokens.
        found: usize,
    },
    /// Stream or consumer has no name.
    EmptyName,
    /// A number is not decimal digits that fit 64 bits.
    Number,
}

impl fmt::Display for AckSubjectError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { found, max } => write!(out, "{found} bytes exceed {max} bytes"),
            Self::NotUtf8 => out.write_str("ack subject is not UTF-8"),
            Self::Prefix => out.write_str("ack subject does not begin with `$JS.ACK.`"),
            Self::TokenCount { found } => {
                write!(
                    out,
                    "ack subject has {found} tokens, allowed are 9 and 11 or more"
                )
            }
            Self::EmptyName => out.write_str("stream or consumer has no name"),
            Self::Number => out.write_str("number is not decimal digits within 64 bits"),
        }
    }
}

impl core::error::Error for AckSubjectError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let short = AckSubject::parse(b"$JS.ACK.S.C.1.2.3.4.5").unwrap();
        assert_eq!(
            (short.stream, short.consumer, short.domain),
            ("S", "C", None)
        );
        assert_eq!(
            (short.delivered, short.stream_seq, short.consumer_seq),
            (1, 2, 3)
        );
        assert_eq!((short.unix_nanos, short.pending), (4, 5));
        let captured = b"$JS.ACK._.szMpdrwD.S.C1.1.1.1.1795218298298678031.4";
        let long = AckSubject::parse(captured).unwrap();
        assert_eq!((long.stream, long.consumer, long.domain), ("S", "C1", None));
        assert_eq!(
            (long.unix_nanos, long.pending),
            (1_795_218_298_298_678_031, 4)
        );
        let more = AckSubject::parse(b"$JS.ACK.hub.h.S.C.1.2.3.4.5.future").unwrap();
        assert_eq!((more.domain, more.consumer_seq), (Some("hub"), 3));
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        let cases: [(&[u8], AckSubjectError); 7] = [
            (b"_INBOX.x", AckSubjectError::Prefix),
            (
                b"$JS.ACK.S.C.1.2.3.4",
                AckSubjectError::TokenCount { found: 8 },
            ),
            (
                b"$JS.ACK.S.C.1.2.3.4.5.6",
                AckSubjectError::TokenCount { found: 10 },
            ),
            (b"$JS.ACK..C.1.2.3.4.5", AckSubjectError::EmptyName),
            (b"$JS.ACK.S.C.1.+2.3.4.5", AckSubjectError::Number),
            (
                b"$JS.ACK.S.C.1.2.18446744073709551616.4.5",
                AckSubjectError::Number,
            ),
            (b"$JS.ACK.S.\xff.1.2.3.4.5", AckSubjectError::NotUtf8),
        ];
        for (subject, error) in cases {
            assert_eq!(
                AckSubject::parse(subject),
                Err(error),
                "{}",
                subject.escape_ascii()
            );
        }
    }
}
