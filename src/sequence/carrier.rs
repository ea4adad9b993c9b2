//! Where a message carries its stamp: in a header, or where headers do not come through.
//!
//! ```text
//!   Header    orders.eu                   Seq: a.7.42     body
//!   Token     orders.eu.a.7.42                            body
//!   Payload   orders.eu                                   SEQ1 a.7.42 CR LF body
//! ```
//!
//! Heartbeats, repairs and their ends go as a block of headers and a body. A source whose carrier
//! is not the header sends that block ahead of the body instead, in the payload, byte for byte as it
//! would stand in front of it: receivers read both.

use crate::subject::{Filter, SubjectError, SubjectRef};

use super::sender::ReplyStatus;
use super::source::NAME_BYTES_MAX;
use super::stamp::{STAMP_HEADER, Stamp};

/// Where the messages of a source carry their stamps. Both sides must agree on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Carrier {
    /// The first header, `Seq: source.epoch.seq`. Whoever does not know it is not disturbed.
    #[default]
    Header,
    /// The last three tokens of the subject, `orders.source.epoch.seq`, for servers and peers
    /// without headers. Every message has a subject of its own, which servers cannot cache, and
    /// no stamp names the number before it on the same subject.
    Token,
    /// The beginning of the payload, `SEQ1 source.epoch.seq` and a line end, for closed systems
    /// without headers: whoever does not know it takes it for a part of the message.
    Payload,
}

/// What [`Carrier::dress`] puts in the place of a part of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a message has these three parts")]
pub enum Dressed<'a> {
    /// Header lines ahead of its own.
    Lines(&'a [u8]),
    /// Its subject.
    Subject(SubjectRef<'a>),
    /// Its payload.
    Payload(&'a [u8]),
}

/// Where [`Carrier::dress`] writes what it puts on; kept from message to message.
#[derive(Debug, Clone, Default)]
pub struct Wardrobe {
    subject: String,
    payload: Vec<u8>,
}

/// A message as it was before it was dressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a message has no further parts")]
pub struct Carried<'a> {
    /// The stamp, perhaps malformed; `None` where none was found.
    pub stamp: Option<&'a [u8]>,
    /// The subject without the stamp.
    pub subject: &'a [u8],
    /// The payload without the stamp.
    pub payload: &'a [u8],
}

impl Carrier {
    /// Puts a stamp on a message; `line` is what [`Sender::stamp`](super::Sender::stamp) has
    /// appended, and `wardrobe` is filled with what has to be written anew.
    ///
    /// It cannot fail: the message has a number by now, and must go out with it.
    pub fn dress<'a>(
        self,
        line: &'a [u8],
        subject: SubjectRef<'_>,
        payload: &[u8],
        wardrobe: &'a mut Wardrobe,
    ) -> Dressed<'a> {
        match self {
            Self::Header => Dressed::Lines(line),
            Self::Token => {
                let text = &mut wardrobe.subject;
                text.clear();
                text.push_str(subject.as_str());
                // Readers count three tokens from the end.
                for token in stamp_of(line).split(|byte| *byte == b'.').take(3) {
                    text.push('.');
                    text.extend(token.iter().copied().map(char::from));
                }
                Dressed::Subject(SubjectRef::trusted(text))
            }
            Self::Payload => {
                let room = &mut wardrobe.payload;
                room.clear();
                for piece in [PAYLOAD_HEAD, stamp_of(line), b"\r\n", payload] {
                    room.extend_from_slice(piece);
                }
                Dressed::Payload(room)
            }
        }
    }

    /// Finds the stamp; `header` is the value of the message's first `Seq` header.
    ///
    /// A message that no source of this carrier can have sent is given back whole.
    #[inline]
    #[must_use]
    pub fn read<'a>(
        self,
        header: Option<&'a [u8]>,
        subject: &'a [u8],
        payload: &'a [u8],
    ) -> Carried<'a> {
        let whole = Carried {
            stamp: None,
            subject,
            payload,
        };
        match self {
            Self::Header => Carried {
                stamp: header,
                ..whole
            },
            Self::Token => read_tokens(subject).map_or(whole, |(subject, stamp)| Carried {
                stamp: Some(stamp),
                subject,
                payload,
            }),
            Self::Payload => read_head(payload).map_or(whole, |(stamp, payload)| Carried {
                stamp: Some(stamp),
                subject,
                payload,
            }),
        }
    }

    /// What a receiver of `filter` subscribes to.
    ///
    /// # Errors
    ///
    /// [`SubjectError`] never occurs for a valid filter.
    pub fn subscription(self, filter: &Filter) -> Result<Filter, SubjectError> {
        let text = filter.as_str();
        let takes_more = text == ">" || text.ends_with(".>");
        match self {
            Self::Token if !takes_more => Filter::new(&format!("{text}.*.*.*")),
            Self::Header | Self::Token | Self::Payload => Ok(filter.clone()),
        }
    }

    /// Whether heartbeats, repairs and their ends have headers of their own.
    #[must_use]
    pub const fn has_headers(self) -> bool {
        matches!(self, Self::Header)
    }

    /// Bytes that the stamp may add to the subject.
    #[must_use]
    pub const fn subject_bytes_max(self) -> usize {
        match self {
            Self::Token => STAMP_BYTES_MAX.saturating_add(1),
            Self::Header | Self::Payload => 0,
        }
    }
}

/// Puts the headers of a heartbeat or an answer ahead of its body, for a source whose carrier has
/// none.
#[must_use]
pub fn wrap(status: Option<ReplyStatus>, lines: &[u8], body: &[u8]) -> Vec<u8> {
    let mut payload = VERSION.to_vec();
    if let Some(status) = status {
        payload
            .extend_from_slice(format!(" {} {}", status.code(), status.description()).as_bytes());
    }
    for piece in [&b"\r\n"[..], lines, b"\r\n", body] {
        payload.extend_from_slice(piece);
    }
    payload
}

/// Bytes of the header block that [`wrap`] has put ahead of the body; `None` without one.
#[must_use]
pub fn wrapped_len(payload: &[u8]) -> Option<usize> {
    let rest = payload.strip_prefix(VERSION)?;
    let is_status = matches!(rest.first(), Some(b' ' | b'\r'));
    let end = rest.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    is_status.then(|| VERSION.len().saturating_add(end).saturating_add(4))
}

/// What a stamped payload begins with.
const PAYLOAD_HEAD: &[u8] = b"SEQ1 ";

/// What a header block begins with.
const VERSION: &[u8] = b"NATS/1.0";

/// The longest stamp: a name, three numbers and three dots.
pub(super) const STAMP_BYTES_MAX: usize = NAME_BYTES_MAX + 3 * (1 + 16);

/// The stamp in the header line of a sender.
fn stamp_of(line: &[u8]) -> &[u8] {
    let value = line.strip_prefix(STAMP_HEADER.as_bytes());
    let value = value.and_then(|value| value.strip_prefix(b": "));
    let stamp = value.and_then(|value| value.strip_suffix(b"\r\n"));
    debug_assert!(stamp.is_some(), "{}", line.escape_ascii());
    stamp.unwrap_or_default()
}

/// The subject and the stamp behind it.
fn read_tokens(subject: &[u8]) -> Option<(&[u8], &[u8])> {
    let (dot, _) = subject
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, byte)| **byte == b'.')
        .nth(2)?;
    let (base, stamp) = subject.split_at_checked(dot)?;
    let stamp = stamp.strip_prefix(b".")?;
    // Without a beginning of its own it would be another's subject.
    let is_stamp = !base.is_empty() && Stamp::parse(stamp).is_some_and(|stamp| stamp.seq > 0);
    is_stamp.then_some((base, stamp))
}

/// The stamp and the payload behind it. What begins like one and is none is malformed, and a part of
/// its payload.
fn read_head(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = payload.strip_prefix(PAYLOAD_HEAD)?;
    let line_max = rest.len().min(STAMP_BYTES_MAX.saturating_add(2));
    let end = rest
        .get(..line_max)?
        .windows(2)
        .position(|bytes| bytes == b"\r\n");
    let parts = end.and_then(|end| rest.split_at_checked(end));
    match parts {
        Some((stamp, behind)) if Stamp::parse(stamp).is_some() => {
            Some((stamp, behind.strip_prefix(b"\r\n")?))
        }
        Some(_) | None => Some((PAYLOAD_HEAD, payload)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] = b"Seq: a.7.42\r\n";
    const CARRIERS: [Carrier; 3] = [Carrier::Header, Carrier::Token, Carrier::Payload];

    #[test]
    fn what_was_dressed_is_read_back() {
        for carrier in CARRIERS {
            for (subject, payload) in [
                ("orders.eu", &b"body"[..]),
                ("a", b""),
                ("a.b.1.2", b"\r\n"),
            ] {
                let mut wardrobe = Wardrobe {
                    subject: "left over".into(),
                    payload: b"left over".to_vec(),
                };
                let bare = SubjectRef::new(subject).unwrap();
                let dressed = carrier.dress(LINE, bare, payload, &mut wardrobe);
                let (header, on_wire, sent) = match dressed {
                    Dressed::Lines(line) => {
                        assert_eq!(line, LINE);
                        (Some(&b"a.7.42"[..]), subject, payload)
                    }
                    Dressed::Subject(long) => (None, long.as_str(), payload),
                    Dressed::Payload(long) => (None, subject, long),
                };
                let carried = carrier.read(header, on_wire.as_bytes(), sent);
                let expected = Carried {
                    stamp: Some(b"a.7.42"),
                    subject: subject.as_bytes(),
                    payload,
                };
                assert_eq!(carried, expected, "{carrier:?}");
                let more = on_wire.len() - subject.len();
                assert!(more <= carrier.subject_bytes_max(), "{carrier:?}");
            }
        }
    }

    #[test]
    fn stamps_stand_where_the_carrier_says() {
        let mut room = Wardrobe::default();
        let bare = SubjectRef::new("orders.eu").unwrap();
        let subject = SubjectRef::new("orders.eu.a.7.42").unwrap();
        let chained = b"Seq: a.7.42.41\r\n";
        for line in [LINE, chained] {
            let dressed = Carrier::Token.dress(line, bare, b"x", &mut room);
            assert_eq!(dressed, Dressed::Subject(subject));
        }
        let dressed = Carrier::Payload.dress(LINE, bare, b"x", &mut room);
        assert_eq!(dressed, Dressed::Payload(b"SEQ1 a.7.42\r\nx"));
        let dressed = Carrier::Payload.dress(chained, bare, b"x", &mut room);
        assert_eq!(dressed, Dressed::Payload(b"SEQ1 a.7.42.41\r\nx"));
    }

    #[test]
    fn what_no_source_has_sent_is_left_whole() {
        let subjects: [&[u8]; 9] = [
            b"orders",
            b"orders.eu",
            b"a.7.42",
            b".a.7.42",
            b"orders.a.7.0",
            b"orders.a.0.1",
            b"orders.a.7.042",
            b"orders.a.b.42",
            b"orders.\xff.7.42",
        ];
        for subject in subjects {
            let carried = Carrier::Token.read(Some(b"a.7.42"), subject, b"x");
            let text = subject.escape_ascii();
            assert_eq!((carried.stamp, carried.subject), (None, subject), "{text}");
        }
        for payload in [&b""[..], b"SEQ1", b"SEQ2 a.7.42\r\nx", b"seq1 a.7.42\r\nx"] {
            let carried = Carrier::Payload.read(Some(b"a.7.42"), b"a", payload);
            let text = payload.escape_ascii();
            assert_eq!((carried.stamp, carried.payload), (None, payload), "{text}");
        }
    }

    /// It is counted, and what came is given to the user as it came.
    #[test]
    fn a_malformed_stamp_stays_in_its_payload() {
        let long = [b"SEQ1 ", &[b'a'; 200][..], b"\r\n"].concat();
        for payload in [
            &b"SEQ1 "[..],
            b"SEQ1 a.7.42",
            b"SEQ1 a.7.42\r",
            b"SEQ1 a.7.42\nx",
            b"SEQ1 a.7\r\nx",
            &long,
        ] {
            let carried = Carrier::Payload.read(None, b"a", payload);
            let text = payload.escape_ascii();
            assert_eq!(carried.payload, payload, "{text}");
            let stamp = carried.stamp.unwrap();
            assert_eq!(Stamp::parse(stamp), None, "{text}");
        }
    }

    #[test]
    fn the_longest_stamp_is_read_back() {
        let name = "n".repeat(NAME_BYTES_MAX);
        let stamp = format!("{name}.9007199254740991.9007199254740991.9007199254740990");
        assert_eq!(stamp.len(), STAMP_BYTES_MAX);
        let line = format!("Seq: {stamp}\r\n");
        let mut room = Wardrobe::default();
        let bare = SubjectRef::new("a").unwrap();
        let dressed = Carrier::Payload.dress(line.as_bytes(), bare, b"x", &mut room);
        let Dressed::Payload(payload) = dressed else {
            panic!("{dressed:?}");
        };
        let carried = Carrier::Payload.read(None, b"a", payload);
        assert_eq!(carried.stamp, Some(stamp.as_bytes()));
        assert_eq!(carried.payload, b"x");
    }

    #[test]
    fn a_receiver_hears_every_subject_with_a_stamp_behind_it() {
        let cases = [
            ("orders", "orders", true),
            ("orders.*", "orders.eu", true),
            ("orders.>", "orders.eu.1", true),
            (">", "a", true),
            ("orders", "orders.eu", false),
            ("orders.*", "orders", false),
        ];
        for (filter, subject, is_heard) in cases {
            let wide = Carrier::Token.subscription(&Filter::new(filter).unwrap());
            let stamped = format!("{subject}.a.7.42");
            let matches = wide.unwrap().matches(stamped.as_bytes());
            assert_eq!(matches, is_heard, "{filter} {subject}");
        }
        let filter = Filter::new("orders.*").unwrap();
        for carrier in [Carrier::Header, Carrier::Payload] {
            assert_eq!(carrier.subscription(&filter), Ok(filter.clone()));
        }
    }

    #[test]
    fn a_wrapped_answer_is_its_headers_and_its_body() {
        let payload = wrap(Some(ReplyStatus::End), LINE, b"");
        assert_eq!(payload, b"NATS/1.0 204 EOB\r\nSeq: a.7.42\r\n\r\n");
        assert_eq!(wrapped_len(&payload), Some(payload.len()));
        let payload = wrap(None, LINE, b"\r\n\r\nbody");
        assert_eq!(payload, b"NATS/1.0\r\nSeq: a.7.42\r\n\r\n\r\n\r\nbody");
        assert_eq!(wrapped_len(&payload), Some(25));
        for plain in [
            &b""[..],
            b"{}",
            b"NATS/1.0",
            b"NATS/1.0\r\nSeq: a.7.42\r\n",
            b"NATS/1.00\r\n\r\n",
        ] {
            assert_eq!(wrapped_len(plain), None, "{}", plain.escape_ascii());
        }
    }
}
