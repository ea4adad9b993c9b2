//! Generated operations: written and read they are the same, and nothing is smuggled.
//!
//! Input: entropy for the crate's own generators; the first byte chooses whose operations.

use arbitrary::{Arbitrary, Unstructured};
use natseq::wire::arbitrary::{
    ClientOperation, ClientSession, Frames, NearlyValid, ServerOperation, ServerSession,
};
use natseq::wire::{ClientOp, HeaderBlock, Limits, Parser, PubView, Step};

use crate::naive;
use crate::reading::read_whole;

/// Room for everything that is generated.
const LIMITS: Limits = Limits::SERVER_OPS.with_line_bytes_max(1 << 20);

/// Generates a session of either side, valid or nearly so, and reads what it was written as.
pub fn run(data: &[u8]) {
    let (choice, entropy) = data.split_first().unwrap_or((&0, &[]));
    let mut entropy = Unstructured::new(entropy);
    // Used up entropy is no finding.
    let _ = match choice % 4 {
        0 => ClientSession::arbitrary(&mut entropy).map(|session| client(&session)),
        1 => ServerSession::arbitrary(&mut entropy).map(|session| server(&session)),
        2 => NearlyValid::<ClientSession>::arbitrary(&mut entropy).map(|damaged| {
            client(&damaged.session);
            read_whole(Parser::of_client(LIMITS), &damaged.to_bytes());
        }),
        _ => NearlyValid::<ServerSession>::arbitrary(&mut entropy).map(|damaged| {
            server(&damaged.session);
            read_whole(Parser::of_server(LIMITS), &damaged.to_bytes());
        }),
    };
}

fn client(session: &ClientSession) {
    for operation in &session.operations {
        let op = operation.as_op();
        let mut bytes = Vec::new();
        op.write(&mut bytes)
            .expect("a generated operation is valid");
        check_bytes(&bytes, &operation.to_bytes(), op.encoded_len());
        let Ok(Step::Frame(frame)) = Parser::of_client(LIMITS).next(&bytes) else {
            panic!("not one operation: {}", bytes.escape_ascii());
        };
        assert_eq!(frame.len(), bytes.len(), "{}", bytes.escape_ascii());
        assert_eq!(plain(frame.client_op(&bytes)), plain(op), "{operation:?}");
        assert_eq!(naive::client_op(&op), bytes, "{operation:?}");
        if let ClientOperation::Publish { parts, .. } = operation {
            check_headers(parts.headers.as_deref());
        }
    }
    let operations: Vec<_> = session
        .operations
        .iter()
        .map(ClientOperation::as_op)
        .collect();
    let bytes = session.to_bytes();
    let whole = read_whole(Parser::of_client(LIMITS), &bytes);
    let read = whole
        .frames
        .iter()
        .map(|(at, frame)| plain(frame.client_op(&bytes[*at..])));
    assert!(
        read.eq(operations.into_iter().map(plain)),
        "{}",
        bytes.escape_ascii()
    );
}

fn server(session: &ServerSession) {
    for operation in &session.operations {
        let op = operation.as_op();
        let mut bytes = Vec::new();
        op.write(&mut bytes)
            .expect("a generated operation is valid");
        check_bytes(&bytes, &operation.to_bytes(), op.encoded_len());
        let Ok(Step::Frame(frame)) = Parser::of_server(LIMITS).next(&bytes) else {
            panic!("not one operation: {}", bytes.escape_ascii());
        };
        assert_eq!(frame.len(), bytes.len(), "{}", bytes.escape_ascii());
        assert_eq!(frame.server_op(&bytes), op, "{operation:?}");
        assert_eq!(naive::server_op(&op), bytes, "{operation:?}");
        if let ServerOperation::Message { parts, .. } = operation {
            check_headers(parts.headers.as_deref());
        }
    }
    let operations: Vec<_> = session
        .operations
        .iter()
        .map(ServerOperation::as_op)
        .collect();
    let bytes = session.to_bytes();
    let whole = read_whole(Parser::of_server(LIMITS), &bytes);
    let read = whole
        .frames
        .iter()
        .map(|(at, frame)| frame.server_op(&bytes[*at..]));
    assert!(read.eq(operations), "{}", bytes.escape_ascii());
}

fn check_bytes(bytes: &[u8], again: &[u8], promised: usize) {
    assert_eq!(bytes, again, "{}", bytes.escape_ascii());
    assert_eq!(bytes.len(), promised, "{}", bytes.escape_ascii());
}

/// Generated blocks are well-formed.
fn check_headers(block: Option<&[u8]>) {
    if let Some(block) = block {
        assert_eq!(
            HeaderBlock::new(block).check(),
            Ok(()),
            "{}",
            block.escape_ascii()
        );
    }
}

/// The operation without the digits, which the writer chooses.
const fn plain(op: ClientOp<'_>) -> ClientOp<'_> {
    match op {
        ClientOp::Pub(view) => ClientOp::Pub(PubView {
            header_digits: b"",
            total_digits: b"",
            ..view
        }),
        other => other,
    }
}
