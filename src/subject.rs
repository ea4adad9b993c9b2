//! Subjects, subscription filters and queue groups: names that are valid once they exist.
//!
//! A [`Subject`] is a literal, to publish to; a [`Filter`] may hold wildcards, to subscribe to.
//! Subjects that arrive are plain bytes, because a server passes on any byte but blank, tab and
//! line feed.

use core::fmt;
use std::sync::Arc;

/// A literal subject: dot-separated tokens, none empty, none a lone `*` or `>`.
///
/// Cloning costs one reference count. Control characters and white space are refused: a server
/// would cut the line there.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(Arc<str>);

impl Subject {
    /// Takes `text` if it is a literal subject.
    ///
    /// # Errors
    ///
    /// [`SubjectError`] names what was found.
    pub fn new(text: &str) -> Result<Self, SubjectError> {
        SubjectRef::new(text).map(|literal| literal.to_owned())
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A borrowed literal subject; see [`Subject`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectRef<'a>(&'a str);

impl<'a> SubjectRef<'a> {
    /// Takes `text` if it is a literal subject.
    ///
    /// # Errors
    ///
    /// [`SubjectError`] names what was found.
    #[inline]
    pub fn new(text: &'a str) -> Result<Self, SubjectError> {
        check_tokens(text, Wildcards::Refused).map(|()| Self(text))
    }

    /// Takes the bytes of an arrived reply subject if they are a literal subject.
    ///
    /// # Errors
    ///
    /// [`SubjectError`] names what was found.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, SubjectError> {
        Self::new(core::str::from_utf8(bytes).map_err(|_| SubjectError::NotUtf8)?)
    }

    /// Takes `text`, which is a literal subject and literal tokens behind it.
    pub(crate) const fn trusted(text: &'a str) -> Self {
        Self(text)
    }

    /// Returns the text.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Copies the text into a [`Subject`] of its own.
    #[must_use]
    pub fn to_owned(self) -> Subject {
        Subject(self.0.into())
    }
}

/// What can name a literal subject: text is checked on the way, a [`Subject`] is not checked again.
pub trait ToSubject {
    /// Returns the subject.
    ///
    /// # Errors
    ///
    /// [`SubjectError`] when the text is no literal subject.
    fn to_subject(&self) -> Result<SubjectRef<'_>, SubjectError>;
}

impl ToSubject for Subject {
    #[inline]
    fn to_subject(&self) -> Result<SubjectRef<'_>, SubjectError> {
        Ok(SubjectRef(&self.0))
    }
}

impl ToSubject for SubjectRef<'_> {
    #[inline]
    fn to_subject(&self) -> Result<SubjectRef<'_>, SubjectError> {
        Ok(*self)
    }
}

impl ToSubject for str {
    #[inline]
    fn to_subject(&self) -> Result<SubjectRef<'_>, SubjectError> {
        SubjectRef::new(self)
    }
}

impl ToSubject for String {
    #[inline]
    fn to_subject(&self) -> Result<SubjectRef<'_>, SubjectError> {
        SubjectRef::new(self)
    }
}

impl<T: ToSubject + ?Sized> ToSubject for &T {
    #[inline]
    fn to_subject(&self) -> Result<SubjectRef<'_>, SubjectError> {
        (**self).to_subject()
    }
}

/// A subscription's subject: `*` stands for one token, a last `>` for one or more.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Filter(Arc<str>);

impl Filter {
    /// Takes `text` if it is a subject, with or without wildcards.
    ///
    /// # Errors
    ///
    /// [`SubjectError`] names what was found.
    pub fn new(text: &str) -> Result<Self, SubjectError> {
        check_tokens(text, Wildcards::Allowed).map(|()| Self(text.into()))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns true when no token is a wildcard.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        !self.0.split('.').any(|token| token == "*" || token == ">")
    }

    /// Returns true when a message published to `subject` reaches a subscription to this filter.
    ///
    /// A subject with an empty token matches nothing, as on a server.
    #[must_use]
    pub fn matches(&self, subject: &[u8]) -> bool {
        pattern_matches(self.0.as_bytes(), subject)
    }

    /// Returns true when every subject that this filter matches is matched by `wider` too.
    #[must_use]
    pub fn is_subset_of(&self, wider: &Self) -> bool {
        let mut tokens = self.0.split('.');
        for pattern in wider.0.split('.') {
            let Some(token) = tokens.next() else {
                return false;
            };
            match (pattern, token) {
                (">", _) => return true,
                (_, ">") => return false,
                ("*", _) => {}
                (literal, token) if literal == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }
}

impl From<Subject> for Filter {
    fn from(subject: Subject) -> Self {
        Self(subject.0)
    }
}

/// The name under which subscribers share messages, each message going to one of them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueGroup(Arc<str>);

impl QueueGroup {
    /// Takes `text` if it is not empty and holds neither white space nor control characters.
    ///
    /// # Errors
    ///
    /// [`SubjectError`] names what was found.
    pub fn new(text: &str) -> Result<Self, SubjectError> {
        if text.is_empty() {
            return Err(SubjectError::Empty);
        }
        check_bytes(text).map(|()| Self(text.into()))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether servers take `subject` to subscribe to: no empty token, and `>` at the end alone.
#[cfg(any(feature = "broker", feature = "cli"))]
pub(crate) fn is_pattern(subject: &[u8]) -> bool {
    let mut is_over = false;
    subject.split(|byte| *byte == b'.').all(|token| {
        let is_good = !token.is_empty() && !is_over;
        is_over = token == b">";
        is_good
    })
}

/// Whether pedantic servers take `subject` to publish to: no empty token and no wildcard.
#[cfg(feature = "broker")]
pub(crate) fn is_literal(subject: &[u8]) -> bool {
    let is_good = |token: &[u8]| !token.is_empty() && token != b"*" && token != b">";
    subject.split(|byte| *byte == b'.').all(is_good)
}

/// Matches as [`Filter::matches`] does; the pattern may be any bytes.
pub(crate) fn pattern_matches(pattern: &[u8], subject: &[u8]) -> bool {
    let mut tokens = subject.split(|byte| *byte == b'.');
    for pattern in pattern.split(|byte| *byte == b'.') {
        let Some(token) = tokens.next() else {
            return false;
        };
        if token.is_empty() {
            return false;
        }
        match pattern {
            b">" => return tokens.all(|token| !token.is_empty()),
            b"*" => {}
            literal if literal == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

/// Why a text is no subject, filter or queue group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubjectError {
    /// There is no text.
    Empty,
    /// Two dots follow each other, or one stands at an end.
    EmptyToken {
        /// Offset of the empty token in bytes.
        at: usize,
    },
    /// White space or a control character.
    Byte {
        /// The byte that was found.
        byte: u8,
        /// Its offset in bytes.
        at: usize,
    },
    /// A lone `*` or `>` where a literal subject is needed.
    Wildcard {
        /// Offset of the token in bytes.
        at: usize,
    },
    /// A `>` token that is not the last.
    FullWildcardInside {
        /// Offset of the token in bytes.
        at: usize,
    },
    /// The bytes are not UTF-8.
    NotUtf8,
}

impl fmt::Display for SubjectError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => out.write_str("empty text where a name is needed"),
            Self::EmptyToken { at } => write!(out, "empty token at byte {at}"),
            Self::Byte { byte, at } => {
                write!(
                    out,
                    "byte 0x{byte:02x} at {at}, white space and control bytes are not allowed"
                )
            }
            Self::Wildcard { at } => {
                write!(out, "wildcard at byte {at}, a literal subject is needed")
            }
            Self::FullWildcardInside { at } => {
                write!(out, "`>` at byte {at} is not the last token")
            }
            Self::NotUtf8 => out.write_str("subject is not UTF-8"),
        }
    }
}

impl core::error::Error for SubjectError {}

macro_rules! shown_as_text {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), out)
            }
        }
    )*};
}

shown_as_text!(Subject, SubjectRef<'_>, Filter, QueueGroup);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wildcards {
    Allowed,
    Refused,
}

#[inline]
fn check_tokens(text: &str, wildcards: Wildcards) -> Result<(), SubjectError> {
    if is_plain(text.as_bytes()) {
        return Ok(());
    }
    check_each_token(text, wildcards)
}

/// Whether these are tokens of bytes that are allowed everywhere: so most subjects are.
#[inline]
fn is_plain(text: &[u8]) -> bool {
    let mut before = DOT;
    let mut found = 0;
    for byte in text {
        let class = CLASSES.get(usize::from(*byte)).copied().unwrap_or(OTHER);
        // A dot is something to look at only behind another.
        found |= class & (before | OTHER);
        before = class;
    }
    found == 0 && before != DOT
}

const DOT: u8 = 1;
const OTHER: u8 = 2;

/// What each byte is to [`is_plain`]: 0 where it may stand anywhere.
static CLASSES: [u8; 256] = classes();

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "evaluated by the compiler"
)]
const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < classes.len() {
        classes[byte] = match byte as u8 {
            b'.' => DOT,
            0..=b' ' | 0x7f | b'*' | b'>' => OTHER,
            _ => 0,
        };
        byte += 1;
    }
    classes
}

fn check_each_token(text: &str, wildcards: Wildcards) -> Result<(), SubjectError> {
    if text.is_empty() {
        return Err(SubjectError::Empty);
    }
    check_bytes(text)?;
    let mut at = 0_usize;
    let mut tokens = text.split('.').peekable();
    while let Some(token) = tokens.next() {
        match token {
            "" => return Err(SubjectError::EmptyToken { at }),
            "*" | ">" if wildcards == Wildcards::Refused => {
                return Err(SubjectError::Wildcard { at });
            }
            ">" if tokens.peek().is_some() => {
                return Err(SubjectError::FullWildcardInside { at });
            }
            _ => {}
        }
        at = at.saturating_add(token.len()).saturating_add(1);
    }
    Ok(())
}

fn check_bytes(text: &str) -> Result<(), SubjectError> {
    match text.bytes().position(|byte| byte <= b' ' || byte == 0x7f) {
        Some(at) => {
            let byte = text.as_bytes().get(at).copied().unwrap_or_default();
            Err(SubjectError::Byte { byte, at })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Filter {
        Filter::new(text).unwrap()
    }

    #[test]
    fn a_literal_subject_holds_no_wildcard_token() {
        assert_eq!(Subject::new("a.*"), Err(SubjectError::Wildcard { at: 2 }));
        assert_eq!(Subject::new(">"), Err(SubjectError::Wildcard { at: 0 }));
        assert!(
            Subject::new("fo*.b>r").is_ok(),
            "inside a longer token they are literals"
        );
    }

    #[test]
    fn empty_tokens_white_space_and_line_ends_are_refused() {
        assert_eq!(Subject::new(""), Err(SubjectError::Empty));
        for (text, at) in [(".a", 0), ("a.", 2), ("a..b", 2)] {
            assert_eq!(
                Filter::new(text),
                Err(SubjectError::EmptyToken { at }),
                "{text}"
            );
        }
        for byte in [b' ', b'\t', b'\r', b'\n', 0, 0x7f] {
            let text = format!("a{}b", char::from(byte));
            assert_eq!(Subject::new(&text), Err(SubjectError::Byte { byte, at: 1 }));
            assert_eq!(
                QueueGroup::new(&text),
                Err(SubjectError::Byte { byte, at: 1 })
            );
        }
    }

    #[test]
    fn a_full_wildcard_stands_only_at_the_end() {
        assert_eq!(
            Filter::new("a.>.b"),
            Err(SubjectError::FullWildcardInside { at: 2 })
        );
        assert!(Filter::new("a.>").is_ok());
    }

    #[test]
    fn wildcards_match_as_on_a_server() {
        for (pattern, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("*.b", "a.b", true),
            ("a.>", "a..b", false),
            ("*", "", false),
            ("fo*", "foo", false),
        ] {
            assert_eq!(
                filter(pattern).matches(subject.as_bytes()),
                expected,
                "{pattern} {subject}"
            );
        }
    }

    #[test]
    fn a_subset_matches_nothing_that_the_wider_filter_does_not() {
        for (narrow, wide, expected) in [
            ("a.b", "a.*", true),
            ("a.*", "a.b", false),
            ("a.*", "a.>", true),
            ("a.>", "a.*", false),
            ("a.>", "a.>", true),
            ("a", "a.>", false),
            ("*.*", ">", true),
            ("a.*.c", "a.*.*", true),
            ("a.>", "*.>", true),
        ] {
            assert_eq!(
                filter(narrow).is_subset_of(&filter(wide)),
                expected,
                "{narrow} {wide}"
            );
        }
    }
}
