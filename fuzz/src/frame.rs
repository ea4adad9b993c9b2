//! Any bytes, both directions: frames and errors do not depend on how the stream is cut.

use bytes::Bytes;
use natseq::jitter::Jitter;
use natseq::wire::Frame;

use crate::reading::{READERS, check_pieces, parser, read, read_whole};

/// Parses `data` at once, byte by byte, in random pieces and as bodies in pieces.
pub fn run(data: &[u8]) {
    for reader in READERS {
        let whole = read_whole(parser(reader), data);
        for (start, frame) in &whole.frames {
            check_views(frame, &data[*start..]);
        }
        let bytewise = read(parser(reader), data, |_| 1);
        assert_eq!(bytewise, whole, "byte by byte, {reader:?}");
        let patient = read(parser(reader), data, |wanted| wanted);
        assert_eq!(
            patient, whole,
            "as many bytes as were asked for, {reader:?}"
        );
        let mut jitter = Jitter::new(seed(data));
        let mut cut = move || usize::try_from(jitter.below(1 + data.len() as u64 / 2)).unwrap();
        let random = read(parser(reader), data, |_| cut());
        assert_eq!(random, whole, "in random pieces, {reader:?}");
        check_pieces(parser(reader), data, &whole, cut);
    }
}

/// Views are total: whatever the buffer, they neither panic nor leave it.
fn check_views(frame: &Frame, rest: &[u8]) {
    let bytes = &rest[..frame.len()];
    for len in [0, 1, frame.len() / 2, frame.len() - 1] {
        let _ = (
            frame.server_op(&bytes[..len]),
            frame.client_op(&bytes[..len]),
        );
        let _ = frame.sid_number(&bytes[..len]);
    }
    let body = frame.header_len() + frame.payload_len();
    let behind = if frame.len() > frame.line_len() {
        body + 2
    } else {
        body
    };
    assert_eq!(frame.line_len() + behind, frame.len(), "{frame:?}");
    assert_eq!(bytes[frame.line_len() - 1], b'\n', "{frame:?}");
    let message = frame.message(Bytes::copy_from_slice(bytes));
    assert_eq!(
        (message.frame_len(), message.body_len()),
        (frame.len(), body)
    );
    assert_eq!(message.detached(), message);
    let _ = (
        message.status(),
        message.subject_str(),
        format!("{message:?}"),
    );
    assert_eq!(message.payload_bytes(), message.payload());
}

/// A seed for cuts that belongs to the input.
fn seed(data: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    data.iter().fold(0xcbf2_9ce4_8422_2325, fold)
}
