//! Subjects and filters: naive rules for validity, a naive recursive matcher, and subsets by witness.
//!
//! Input: a pattern, a line feed, a subject.

use natseq::subject::{Filter, QueueGroup, Subject, SubjectError, SubjectRef, ToSubject};

/// Reads both texts as everything that they can be, and matches one with the other.
pub fn run(data: &[u8]) {
    let end = data
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(data.len());
    let (one, rest) = data.split_at(end);
    let other = rest.get(1..).unwrap_or_default();
    for text in [one, other] {
        check_validity(text);
    }
    let filter = |bytes| {
        std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| Filter::new(text).ok())
    };
    let Some(pattern) = filter(one) else {
        return;
    };
    let expected = naive_matches(&tokens(one), &tokens(other));
    assert_eq!(pattern.matches(other), expected, "{}", data.escape_ascii());
    if let Some(wider) = filter(other) {
        check_subset(&pattern, &wider);
        check_subset(&wider, &pattern);
        assert!(pattern.is_subset_of(&pattern));
    }
}

fn tokens(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split(|byte| *byte == b'.').collect()
}

/// `*` is one token, `>` is one or more, everything else is itself; no token is empty.
fn naive_matches(pattern: &[&[u8]], subject: &[&[u8]]) -> bool {
    if subject.iter().any(|token| token.is_empty()) {
        return false;
    }
    match (pattern, subject) {
        ([], []) => true,
        ([b">"], [_, ..]) => true,
        ([b"*", pattern @ ..], [_, subject @ ..]) => naive_matches(pattern, subject),
        ([one, pattern @ ..], [other, subject @ ..]) => {
            one == other && naive_matches(pattern, subject)
        }
        _ => false,
    }
}

fn check_validity(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        assert_eq!(SubjectRef::from_bytes(bytes), Err(SubjectError::NotUtf8));
        return;
    };
    let is_clean = !text.is_empty() && !text.bytes().any(|byte| byte <= 32 || byte == 127);
    let parts: Vec<&str> = text.split('.').collect();
    let has_tokens = is_clean && !parts.contains(&"");
    let is_literal = has_tokens && !parts.contains(&"*") && !parts.contains(&">");
    let is_filter = has_tokens && !parts[..parts.len() - 1].contains(&">");

    let subject = Subject::new(text);
    assert_eq!(subject.is_ok(), is_literal, "{text:?} {subject:?}");
    assert_eq!(SubjectRef::from_bytes(bytes).is_ok(), is_literal);
    assert_eq!(text.to_subject().is_ok(), is_literal);
    let filter = Filter::new(text);
    assert_eq!(filter.is_ok(), is_filter, "{text:?} {filter:?}");
    assert_eq!(QueueGroup::new(text).is_ok(), is_clean, "{text:?}");

    if let Ok(filter) = &filter {
        assert_eq!(filter.as_str(), text);
        assert_eq!(filter.is_literal(), is_literal, "{text:?}");
    }
    if let Ok(subject) = subject {
        assert_eq!(subject.as_str(), text);
        let filter = Filter::from(subject);
        assert!(filter.matches(bytes), "{text:?} matches itself");
    }
    if let Err(error) = Subject::new(text) {
        check_place(text, error);
    }
    if let Err(error) = filter {
        check_place(text, error);
    }
}

/// An error that names a place is right about it.
fn check_place(text: &str, error: SubjectError) {
    let token_at = |at: usize| text[at..].split('.').next().unwrap();
    let is_start = |at: usize| at == 0 || text.as_bytes()[at - 1] == b'.';
    match error {
        SubjectError::Empty => assert!(text.is_empty()),
        SubjectError::Byte { byte, at } => assert_eq!(text.as_bytes()[at], byte),
        SubjectError::EmptyToken { at } => assert!(is_start(at) && token_at(at).is_empty()),
        SubjectError::Wildcard { at } => {
            assert!(
                is_start(at) && ["*", ">"].contains(&token_at(at)),
                "{text:?} {at}"
            );
        }
        SubjectError::FullWildcardInside { at } => {
            assert!(
                is_start(at) && text[at..].starts_with(">."),
                "{text:?} {at}"
            );
        }
        other => panic!("{text:?}: {other}"),
    }
}

/// A filter lies within another exactly if its own most general subjects match the other: each
/// wildcard replaced by a token that occurs nowhere, a last `>` by one such and by two.
fn check_subset(narrow: &Filter, wide: &Filter) {
    let fresh = "x".repeat(narrow.as_str().len().max(wide.as_str().len()) + 1);
    let witness = |tail: &str| -> String {
        let tokens = narrow.as_str().split('.').map(|token| match token {
            "*" => fresh.as_str(),
            ">" => tail,
            literal => literal,
        });
        tokens.collect::<Vec<_>>().join(".")
    };
    let one = witness(&fresh);
    let two = witness(&format!("{fresh}.{fresh}"));
    let expected = [one, two].iter().all(|subject| {
        assert!(narrow.matches(subject.as_bytes()), "{narrow} {subject}");
        naive_matches(
            &tokens(wide.as_str().as_bytes()),
            &tokens(subject.as_bytes()),
        )
    });
    assert_eq!(narrow.is_subset_of(wide), expected, "{narrow} in {wide}");
}
