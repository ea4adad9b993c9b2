//! Fails on purpose on one input: proves that the harness, the artifacts and the alarm work.
//!
//! The failure lies one letter behind another and then behind the parser, so that a fuzzer that is
//! guided by coverage finds it in a second, and one that is not hardly ever.

use natseq::wire::{Limits, Parser, Step};

/// The input on which the body panics.
pub const KNOWN_INPUT: &[u8] = b"PUB fire 0\r\n\r\n";

/// Panics when there is a fire in the mine.
///
/// # Panics
///
/// On [`KNOWN_INPUT`], and on little else.
pub fn run(data: &[u8]) {
    let expected = b"PUB fire";
    if data.len() < expected.len() {
        return;
    }
    // A loop, whose rounds a fuzzer counts: comparing at once would leave it without a clue.
    for (found, expected) in data.iter().zip(expected) {
        if std::hint::black_box(found) != expected {
            return;
        }
    }
    let step = Parser::of_client(Limits::CLIENT_OPS).next(data);
    let has_fainted = matches!(step, Ok(Step::Frame(_)));
    assert!(!has_fainted, "the canary has fainted, as it should");
}
