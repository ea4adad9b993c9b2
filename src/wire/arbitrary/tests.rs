//! Tests of the generators: what they call valid is, and what they call damaged is used.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use arbitrary::{Arbitrary, Unstructured};

use super::*;
use crate::wire::{ClientOp, FrameError, Limits, MsgView, Parser, ServerOp, Step};

/// The same bytes for the same seed.
fn entropy(seed: u64, len: u64) -> Vec<u8> {
    let bytes = (0..len.div_ceil(8)).map(|index| {
        let mut hasher = DefaultHasher::new();
        (seed, index).hash(&mut hasher);
        hasher.finish().to_le_bytes()
    });
    bytes.flatten().collect()
}

fn make<T: for<'a> Arbitrary<'a>>(seed: u64) -> T {
    T::arbitrary(&mut Unstructured::new(&entropy(seed, 1_024))).unwrap()
}

/// The frames of a stream, and the error that ends it.
fn read(mut parser: Parser, bytes: &[u8]) -> (Vec<&[u8]>, usize, Option<FrameError>) {
    let (mut frames, mut rest) = (Vec::new(), bytes);
    loop {
        match parser.next(rest) {
            Ok(Step::Frame(frame)) => {
                let (frame, behind) = rest.split_at(frame.len());
                frames.push(frame);
                rest = behind;
            }
            Ok(Step::More { .. }) => return (frames, rest.len(), None),
            Err(error) => return (frames, rest.len(), Some(error)),
        }
    }
}

#[test]
fn a_valid_operation_is_read_as_itself() {
    for seed in 0..5_000 {
        let operation: ClientOperation = make(seed);
        let bytes = operation.to_bytes();
        assert_eq!(bytes.len(), operation.as_op().encoded_len(), "seed {seed}");
        let mut parser = Parser::of_client(Limits::CLIENT_OPS);
        let Ok(Step::Frame(frame)) = parser.next(&bytes) else {
            panic!("seed {seed}: {}", bytes.escape_ascii())
        };
        assert_eq!(frame.len(), bytes.len(), "seed {seed}");
        let mut op = frame.client_op(&bytes);
        if let ClientOp::Pub(view) = &mut op {
            view.header_digits = &[];
            view.total_digits = &[];
        }
        assert_eq!(op, operation.as_op(), "seed {seed}");

        let operation: ServerOperation = make(seed);
        let bytes = operation.to_bytes();
        assert_eq!(bytes.len(), operation.as_op().encoded_len(), "seed {seed}");
        let mut parser = Parser::of_server(Limits::SERVER_OPS);
        let Ok(Step::Frame(frame)) = parser.next(&bytes) else {
            panic!("seed {seed}: {}", bytes.escape_ascii())
        };
        assert_eq!(frame.len(), bytes.len(), "seed {seed}");
        assert_eq!(frame.server_op(&bytes), operation.as_op(), "seed {seed}");
        if let ServerOp::Msg(MsgView {
            headers: Some(block),
            ..
        }) = operation.as_op()
        {
            assert_eq!(block.check(), Ok(()), "seed {seed}");
        }
    }
}

#[test]
fn a_valid_session_has_no_error() {
    for seed in 0..2_000 {
        let session: ClientSession = make(seed);
        let bytes = session.to_bytes();
        let (frames, left, error) = read(Parser::of_client(Limits::CLIENT_OPS), &bytes);
        assert_eq!(
            (frames.len(), left, error),
            (session.operations.len(), 0, None),
            "seed {seed}"
        );
        let session: ServerSession = make(seed);
        let bytes = session.to_bytes();
        let (frames, left, error) = read(Parser::of_server(Limits::SERVER_OPS), &bytes);
        assert_eq!(
            (frames.len(), left, error),
            (session.operations.len(), 0, None),
            "seed {seed}"
        );
    }
}

#[test]
fn every_mutation_is_used_and_the_damage_is_found() {
    let mut uses = BTreeMap::new();
    let mut errors = BTreeMap::new();
    for seed in 0..20_000 {
        let damaged: NearlyValid<ClientSession> = make(seed);
        let is_untouched = damaged.to_bytes() == damaged.session.to_bytes();
        assert!(is_untouched || !damaged.mutations.is_empty(), "seed {seed}");
        for mutation in &damaged.mutations {
            *uses.entry(mutation.name()).or_insert(0) += 1;
        }
        let (_, _, error) = read(Parser::of_client(Limits::CLIENT_OPS), &damaged.to_bytes());
        *errors
            .entry(error.map_or("none", FrameError::name))
            .or_insert(0) += 1;
    }
    assert_eq!(uses.len(), 21, "{uses:?}");
    assert!(uses.values().all(|count| *count > 100), "{uses:?}");
    assert_eq!(errors.len(), 8, "every error and none: {errors:?}");
}

#[test]
fn the_same_bytes_make_the_same_session_and_none_make_a_short_one() {
    let one: NearlyValid<ServerSession> = make(7);
    assert_eq!(one, make(7));
    assert_ne!(one.frames, make::<NearlyValid<ServerSession>>(8).frames);
    let nothing = ClientSession::arbitrary(&mut Unstructured::new(&[])).unwrap();
    assert!(nothing.operations.len() <= 2, "{nothing:?}");
}

#[test]
fn damage_may_be_damaged_again() {
    for seed in 0..20_000 {
        let entropy = entropy(seed, 256);
        let mut u = Unstructured::new(&entropy);
        let mut frame = entropy[..(seed % 40) as usize].to_vec();
        if seed % 3 > 0 {
            frame = make::<ClientOperation>(seed).to_bytes();
        }
        for _ in 0..4 {
            frame = Mutation::arbitrary(&mut u)
                .unwrap()
                .apply(&frame, &mut u)
                .unwrap();
        }
    }
}

#[test]
fn one_operation_is_a_session_of_one_frame() {
    let client: ClientOperation = make(1);
    assert_eq!(client.frames(), [client.to_bytes()]);
    let server: ServerOperation = make(1);
    assert_eq!(server.frames(), [server.to_bytes()]);
}
