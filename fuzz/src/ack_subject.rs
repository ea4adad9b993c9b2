//! Reply subjects of stream deliveries: a naive reader agrees, and what was read writes back.

use natseq::jetstream::{AckSubject, AckSubjectError};

/// Reads `data` as a reply subject.
pub fn run(data: &[u8]) {
    let found = AckSubject::parse(data);
    let shown = data.escape_ascii();
    assert_eq!(found.is_ok(), naive(data).is_some(), "{shown}: {found:?}");
    let ack = match found {
        Ok(ack) => ack,
        Err(error) => return check_error(data, error),
    };
    let expected = naive(data).unwrap();
    let numbers = [
        ack.delivered,
        ack.stream_seq,
        ack.consumer_seq,
        ack.unix_nanos,
        ack.pending,
    ];
    let names = (ack.domain, ack.stream, ack.consumer);
    assert_eq!((names, numbers), expected, "{shown}");
    let written = match ack.domain {
        Some(domain) => format!("$JS.ACK.{domain}.account.{}.{}", ack.stream, ack.consumer),
        None => format!("$JS.ACK.{}.{}", ack.stream, ack.consumer),
    };
    let written = numbers
        .iter()
        .fold(written, |text, number| format!("{text}.{number}"));
    assert_eq!(AckSubject::parse(written.as_bytes()), Ok(ack), "{shown}");
}

type Parts<'a> = ((Option<&'a str>, &'a str, &'a str), [u64; 5]);

/// Nine tokens, or eleven and more with a domain and an account before the stream.
fn naive(data: &[u8]) -> Option<Parts<'_>> {
    let text = std::str::from_utf8(data)
        .ok()
        .filter(|text| text.len() <= 4_096)?;
    let tokens: Vec<&str> = text.split('.').collect();
    if tokens.len() < 9 || tokens.len() == 10 || tokens[..2] != ["$JS", "ACK"] {
        return None;
    }
    let (domain, rest) = if tokens.len() == 9 {
        (None, &tokens[2..])
    } else {
        (
            Some(tokens[2]).filter(|domain| *domain != "_"),
            &tokens[4..],
        )
    };
    if rest[0].is_empty() || rest[1].is_empty() {
        return None;
    }
    let mut numbers = [0; 5];
    for (number, digits) in numbers.iter_mut().zip(&rest[2..7]) {
        if digits.starts_with('+') {
            return None;
        }
        *number = digits.parse().ok()?;
    }
    Some(((domain, rest[0], rest[1]), numbers))
}

fn check_error(data: &[u8], error: AckSubjectError) {
    let tokens = data.split(|byte| *byte == b'.').count();
    match error {
        AckSubjectError::TooLong { found, max } => assert!(found == data.len() && found > max),
        AckSubjectError::NotUtf8 => assert!(std::str::from_utf8(data).is_err()),
        AckSubjectError::Prefix => assert!(!data.starts_with(b"$JS.ACK.")),
        AckSubjectError::TokenCount { found } => {
            assert!(
                found == tokens && (found < 9 || found == 10),
                "{found} of {tokens}"
            );
        }
        AckSubjectError::EmptyName | AckSubjectError::Number => {
            assert!(data.starts_with(b"$JS.ACK.") && tokens >= 9);
        }
        other => panic!("{other:?}"),
    }
}
