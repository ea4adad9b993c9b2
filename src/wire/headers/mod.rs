//! Header blocks: read lazily where they lie, kept encoded where they are made.

mod read;
mod write;

pub use read::{HeaderBlock, HeaderError, HeaderIter};
pub use write::{HeaderFieldError, HeaderLines, Headers};

/// What every block begins with.
pub(super) const VERSION: &[u8] = b"NATS/1.0";

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_blank(*first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_blank(*last)
    {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::status::Status;

    fn block(raw: &[u8]) -> HeaderBlock<'_> {
        HeaderBlock::new(raw)
    }

    #[test]
    fn names_keep_their_case_and_order_and_values_lose_the_blanks_around() {
        let block = block(b"NATS/1.0\r\nA:  b \r\na:c\r\nA: d\r\nE:\r\n\r\n");
        assert_eq!(block.check(), Ok(()));
        assert_eq!(block.first("A"), Some(&b"b"[..]));
        assert_eq!(block.last("A"), Some(&b"d"[..]));
        assert_eq!(block.first("a"), Some(&b"c"[..]));
        assert_eq!(block.first("E"), Some(&b""[..]));
        assert_eq!(block.all("A").count(), 2);
        assert_eq!(block.iter().count(), 4);
    }

    #[test]
    fn a_status_is_three_digits_and_perhaps_words() {
        let status = |raw| block(raw).status();
        let words = Status {
            code: 404,
            description: b"No Messages",
        };
        assert_eq!(
            status(b"NATS/1.0   404   No Messages \r\n\r\n"),
            Ok(Some(words))
        );
        assert_eq!(
            status(b"NATS/1.0 503\r\n\r\n"),
            Ok(Some(Status {
                code: 503,
                description: b""
            }))
        );
        assert_eq!(status(b"NATS/1.0\r\n\r\n"), Ok(None));
        for bad in [
            &b"NATS/1.0 abc\r\n\r\n"[..],
            b"NATS/1.0 99999\r\n\r\n",
            b"NATS/1.0 1\r\n\r\n",
        ] {
            assert_eq!(
                status(bad),
                Err(HeaderError::Status),
                "{}",
                bad.escape_ascii()
            );
        }
        assert_eq!(status(b"NATS/2.0\r\n\r\n"), Err(HeaderError::Version));
        assert_eq!(status(b""), Err(HeaderError::Unterminated));
    }

    #[test]
    fn a_malformed_block_says_why_and_still_gives_what_came_before() {
        let cases: [(&[u8], HeaderError); 5] = [
            (b"NATS/1.0\r\nA: b\r\nfolded\r\n\r\n", HeaderError::NoColon),
            (b"NATS/1.0\r\nA: b\r\n: c\r\n\r\n", HeaderError::NoName),
            (b"NATS/1.0\r\nA: b\r\n", HeaderError::Unterminated),
            (b"NATS/1.0\r\nA: b\r\nC: d", HeaderError::Unterminated),
            (b"garbage\r\nA: b\r\n\r\n", HeaderError::Version),
        ];
        for (raw, error) in cases {
            assert_eq!(block(raw).check(), Err(error), "{}", raw.escape_ascii());
            assert_eq!(
                block(raw).first("A"),
                Some(&b"b"[..]),
                "{}",
                raw.escape_ascii()
            );
        }
    }

    #[test]
    fn a_set_is_empty_without_status_and_fields() {
        let mut fields = Headers::new();
        assert!(fields.is_empty() && !fields.has_status());
        fields.append("A", "b").unwrap();
        assert!(!fields.is_empty() && !fields.has_status());
        let status = Headers::with_status(100, "").unwrap();
        assert!(!status.is_empty() && status.has_status());
        assert_eq!(
            format!("{fields:?} {status:?}"),
            r"Headers(A: b\r\n) Headers( 100)"
        );
        assert_eq!(format!("{:?}", block(b"a\n")), r"HeaderBlock(a\n)");
    }

    #[test]
    fn an_error_says_what_is_wrong() {
        let cases = [
            (
                HeaderError::Version,
                "header block does not begin with `NATS/1.0`",
            ),
            (
                HeaderError::Status,
                "status is not three digits and a description",
            ),
            (HeaderError::NoColon, "header line has no colon"),
            (HeaderError::NoName, "header line has no name"),
            (
                HeaderError::Unterminated,
                "header block does not end with a blank line",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
        let found = b'\n';
        let cases = [
            (HeaderFieldError::EmptyName, "header name is empty"),
            (
                HeaderFieldError::Name { found },
                "header name holds byte 10, allowed are 33 to 126 without `:`",
            ),
            (
                HeaderFieldError::Value { found },
                "header value holds byte 10, allowed are all but CR, LF and NUL",
            ),
            (
                HeaderFieldError::Blank,
                "header value begins or ends with a blank",
            ),
            (
                HeaderFieldError::Code { found: 99 },
                "status code 99 is not within 100 to 999",
            ),
            (
                HeaderFieldError::Line,
                "header line is not `Name: value` and CR LF",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn no_line_end_can_be_smuggled_into_a_field() {
        let mut headers = Headers::new();
        for (name, value) in [
            ("A\r\n", "b"),
            ("A:", "b"),
            ("", "b"),
            ("A", "b\r\nC: d"),
            ("A", " b"),
            ("Ä", "b"),
        ] {
            assert!(headers.append(name, value).is_err(), "{name:?} {value:?}");
        }
        assert!(Headers::with_status(99, "").is_err());
        assert!(Headers::with_status(200, "a\r\nb").is_err());
        assert!(headers.is_empty());
    }

    #[test]
    fn what_was_appended_is_read_back() {
        let mut headers = Headers::with_status(204, "EOB").unwrap();
        headers.append("A", "b").unwrap();
        headers.append("A", [0xff]).unwrap();
        let raw = headers.to_block();
        let block = block(&raw);
        assert_eq!(
            block.status(),
            Ok(Some(Status {
                code: 204,
                description: b"EOB"
            }))
        );
        assert_eq!(block.all("A").collect::<Vec<_>>(), [&b"b"[..], &[0xff]]);
        assert_eq!(
            HeaderLines::new(headers.lines().as_bytes()),
            Ok(headers.lines())
        );
        for bad in [
            &b"A: b"[..],
            b"A: b\n",
            b"A:b\r\n",
            b"Ab\r\n",
            b"A: b\rc\r\n",
        ] {
            assert!(HeaderLines::new(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn fields_are_replaced_and_removed_by_their_exact_name() {
        let mut headers = Headers::new();
        for (name, value) in [
            ("A", "1"),
            ("Ab", "2"),
            ("A", "3"),
            ("a", ""),
            ("B", "A: x"),
        ] {
            headers.append(name, value).unwrap();
        }
        let values: Vec<_> = headers.all("A").collect();
        assert_eq!(values, [b"1", b"3"]);
        headers.set("A", "4").unwrap();
        assert!(headers.set("A", "5\r\n").is_err());
        assert_eq!(headers.remove("Ab"), 1);
        assert_eq!(headers.remove("A:"), 0);
        let fields: Vec<_> = headers.iter().collect();
        let expected: [(&str, &[u8]); 3] = [("a", b""), ("B", b"A: x"), ("A", b"4")];
        assert_eq!(fields, expected);
    }

    #[test]
    fn a_block_is_walked_like_any_collection() {
        let mut names = Vec::new();
        for field in block(b"NATS/1.0\r\nA: b\r\nC: d\r\n\r\n") {
            names.push(field.unwrap().0);
        }
        assert_eq!(names, [b"A", b"C"]);
    }
}
