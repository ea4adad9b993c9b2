//! What a server says, as bytes: for embedded servers, proxies and tests.

use super::decimal_of;

/// A word of a server's control line: any bytes but blank, tab and line feed, and not empty.
///
/// Wider than a [`Subject`](crate::subject::Subject), because servers repeat what clients wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token<'a>(&'a [u8]);

impl<'a> Token<'a> {
    /// Takes the bytes; `None` when they are empty or hold a blank, a tab or a line feed.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let is_word = !bytes.is_empty()
            && !bytes
                .iter()
                .any(|byte| matches!(byte, b' ' | b'\t' | b'\n'));
        is_word.then_some(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// The first word of a server's control line: as a [`Token`], and it may begin with a line feed,
/// which does not end a line that has only begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FirstToken<'a>(&'a [u8]);

impl<'a> FirstToken<'a> {
    /// Takes the bytes; `None` when they are empty or hold a blank, a tab or a later line feed.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        let is_word = bytes.len() > rest.len() && rest.is_empty() || Token::new(rest).is_some();
        is_word.then_some(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// A message to deliver: MSG, or HMSG when it has a header block.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::exhaustive_structs, reason = "the protocol is complete")]
pub struct Deliver<'a> {
    /// What it was published to.
    pub subject: FirstToken<'a>,
    /// The subscription's name.
    pub sid: Token<'a>,
    /// Where an answer is expected.
    pub reply: Option<Token<'a>>,
    /// The header block, passed on unchecked.
    pub headers: Option<&'a [u8]>,
    /// The payload.
    pub payload: &'a [u8],
    /// The publisher's own digits for the header length and the total, which servers repeat. Digits
    /// that say something else than the lengths are not used.
    pub digits: Option<(Option<Token<'a>>, Token<'a>)>,
}

impl Deliver<'_> {
    /// Appends the frame.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.headers.is_some() {
            b"HMSG "
        } else {
            b"MSG "
        });
        out.extend_from_slice(self.subject.0);
        out.push(b' ');
        for word in [Some(self.sid), self.reply].into_iter().flatten() {
            out.extend_from_slice(word.0);
            out.push(b' ');
        }
        let headers = self.headers.unwrap_or_default();
        let (header_digits, total_digits) = self.digits.unzip();
        if self.headers.is_some() {
            write_size(out, headers.len(), header_digits.flatten());
            out.push(b' ');
        }
        let total = headers.len().saturating_add(self.payload.len());
        write_size(out, total, total_digits);
        for piece in [b"\r\n", headers, self.payload, b"\r\n"] {
            out.extend_from_slice(piece);
        }
    }
}

fn write_size(out: &mut Vec<u8>, size: usize, digits: Option<Token<'_>>) {
    // Readers take nine digits at most.
    let is_same = |digits: &Token<'_>| {
        digits.0.len() <= 9 && crate::decimal::read(digits.0) == u64::try_from(size).ok()
    };
    match digits.filter(is_same) {
        Some(digits) => out.extend_from_slice(digits.0),
        None => decimal_of(out, size),
    }
}

/// Appends an INFO, with the blank before its line end that every server writes.
#[cfg(feature = "json")]
pub fn info(out: &mut Vec<u8>, info: &crate::wire::handshake::ServerInfo) {
    out.extend_from_slice(b"INFO ");
    out.extend_from_slice(&info.to_json());
    out.extend_from_slice(b" \r\n");
}

/// Appends a +OK.
pub fn ok(out: &mut Vec<u8>) {
    out.extend_from_slice(b"+OK\r\n");
}

/// Appends an -ERR; line ends in `text` become blanks.
pub fn err(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(b"-ERR '");
    out.extend(text.iter().map(|byte| {
        if matches!(byte, b'\r' | b'\n') {
            b' '
        } else {
            *byte
        }
    }));
    out.extend_from_slice(b"'\r\n");
}

/// Appends `bytes` in double quotes, as servers quote subjects: escaped where they are not
/// printable text.
pub fn quote(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            quote_character(out, character);
        }
        for byte in chunk.invalid() {
            out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        }
    }
    out.push(b'"');
}

fn quote_character(out: &mut Vec<u8>, character: char) {
    let code = u32::from(character);
    // The standard library leaves printable characters as they are, marks only behind a letter.
    let behind_letter = String::from_iter(['a', character]);
    let is_printable = behind_letter.escape_debug().count() == 2 || character == '\'';
    let text = match character {
        '"' | '\\' => format!("\\{character}"),
        '\u{7}' => "\\a".to_owned(),
        '\u{8}' => "\\b".to_owned(),
        '\u{b}' => "\\v".to_owned(),
        '\u{c}' => "\\f".to_owned(),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        _ if is_printable => character.to_string(),
        _ if code < 0x80 => format!("\\x{code:02x}"),
        _ if code < 0x1_0000 => format!("\\u{code:04x}"),
        _ => format!("\\U{code:08x}"),
    };
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(digits: Option<(Option<&str>, &str)>) -> String {
        let token = |text: &'static str| Token::new(text.as_bytes()).unwrap();
        let deliver = Deliver {
            subject: FirstToken::new(b"a").unwrap(),
            sid: token("1"),
            reply: None,
            headers: Some(b"NATS/1.0\r\n\r\n"),
            payload: b"hi",
            digits: digits.map(|(header, total)| {
                let header = header.and_then(|digits| Token::new(digits.as_bytes()));
                (header, Token::new(total.as_bytes()).unwrap())
            }),
        };
        let mut out = Vec::new();
        deliver.write(&mut out);
        let line = out.split(|byte| *byte == b'\r').next().unwrap();
        String::from_utf8(line.to_vec()).unwrap()
    }

    #[test]
    fn a_publishers_digits_are_repeated_unless_they_lie() {
        assert_eq!(written(None), "HMSG a 1 12 14");
        assert_eq!(written(Some((Some("0012"), "014"))), "HMSG a 1 0012 014");
        assert_eq!(written(Some((None, "014"))), "HMSG a 1 12 014");
        assert_eq!(written(Some((Some("11"), "15"))), "HMSG a 1 12 14");
        assert_eq!(written(Some((Some("x"), "014"))), "HMSG a 1 12 014");
        assert_eq!(written(Some((None, "000000014"))), "HMSG a 1 12 000000014");
        assert_eq!(written(Some((None, "0000000014"))), "HMSG a 1 12 14");
    }

    #[test]
    fn a_word_is_any_bytes_but_separators() {
        for bad in ["", "a b", "a\tb", "a\nb"] {
            assert_eq!(Token::new(bad.as_bytes()), None, "{bad:?}");
        }
        let odd = b"a\r\xff\0";
        assert_eq!(Token::new(odd).map(Token::as_bytes), Some(&odd[..]));
        for bad in ["", "a b", "a\nb", "\n\nb", "\n b"] {
            assert_eq!(FirstToken::new(bad.as_bytes()), None, "{bad:?}");
        }
        for good in ["a", "\n", "\na"] {
            let token = FirstToken::new(good.as_bytes()).unwrap();
            assert_eq!(token.as_bytes(), good.as_bytes());
        }
    }

    #[test]
    fn a_refusal_stays_on_its_line() {
        let mut out = Vec::new();
        err(&mut out, b"a\r\nPING");
        assert_eq!(out, b"-ERR 'a  PING'\r\n");
    }

    #[test]
    fn what_is_no_printable_text_is_escaped() {
        let text = "\u{8}\u{c}\u{7f}\u{80}\u{a0}\u{e0001}\u{10000}\u{2028}e\u{301}\u{301}";
        let mut out = Vec::new();
        quote(&mut out, text.as_bytes());
        let quoted = "\"\\b\\f\\x7f\\u0080\\u00a0\\U000e0001\u{10000}\\u2028e\u{301}\u{301}\"";
        assert_eq!(String::from_utf8(out).unwrap(), quoted);
    }

    #[test]
    fn a_confirmation_is_one_word() {
        let mut out = Vec::new();
        ok(&mut out);
        assert_eq!(out, b"+OK\r\n");
    }

    #[test]
    fn what_is_quoted_is_unquoted_again() {
        let bytes = b"it's \"a\"\\\0\x07\x7f\xc3\xa9\xff\xc2\xa0\r\n\t\x0b\xf0\x9f\x98\x80";
        let mut text = b"Permissions Violation for Publish to ".to_vec();
        quote(&mut text, bytes);
        let quoted = r#""it's \"a\"\\\x00\a\x7f\xff\u00a0\r\n\t\v"#;
        let shown = String::from_utf8(text.clone()).unwrap();
        assert!(shown.replace('\u{e9}', "").contains(quoted), "{shown}");
        let violation = crate::wire::Violation::parse(&text).unwrap();
        assert_eq!(violation.subject, bytes);
    }
}
