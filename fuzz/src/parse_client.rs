//! What a client says: parse, encode, parse is a fixpoint, and the parts are what they must be.

use natseq::subject::SubjectRef;
use natseq::wire::encode::Publish;
use natseq::wire::handshake::Connect;
use natseq::wire::{ClientOp, HeaderLines, Limits, Parser, PubView, Step};

use crate::naive;
use crate::reading::read_whole;

/// Parses the stream and writes every operation again.
pub fn run(data: &[u8]) {
    let whole = read_whole(Parser::of_client(Limits::CLIENT_OPS), data);
    for (start, frame) in &whole.frames {
        let bytes = &data[*start..*start + frame.len()];
        let op = frame.client_op(bytes);
        check_parts(&op);
        let written = naive::client_op(&op);
        let shown = written.escape_ascii();
        let mut parser = Parser::of_client(Limits::CLIENT_OPS);
        let Ok(Step::Frame(again)) = parser.next(&written) else {
            panic!("not read back: {shown}, from {}", bytes.escape_ascii());
        };
        assert_eq!(again.len(), written.len(), "{shown}");
        let back = again.client_op(&written);
        assert_eq!(plain(back), plain(op), "{shown}");
        assert_eq!(naive::client_op(&back), written, "{shown}");
        let mut out = Vec::new();
        let refusal = op.write(&mut out).err();
        let line = &written[..again.line_len() - 2];
        naive::check_writer(refusal, &out, op.encoded_len(), line, &written);
        if let ClientOp::Pub(view) = &op {
            check_encoder(view, &written);
        }
    }
}

/// The operation without the digits, which may have leading zeros.
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

fn check_parts(op: &ClientOp<'_>) {
    match op {
        ClientOp::Connect { json } => {
            assert!(naive::is_json(json));
            if let Ok(connect) = Connect::parse(json) {
                let again = Connect::parse(&connect.to_json());
                assert!(again.is_ok_and(|again| again == connect));
            }
        }
        ClientOp::Info { json } => assert!(naive::is_json(json)),
        ClientOp::Err { text } => assert!(text.is_empty() || naive::is_json(text)),
        ClientOp::Sub {
            subject,
            queue_group,
            sid,
        } => {
            let words = [Some(*subject), *queue_group, Some(*sid)];
            let mut words = words.into_iter().flatten();
            assert!(words.all(|word| naive::is_word(word) && !word.contains(&b'\r')));
        }
        ClientOp::Unsub { sid, max } => {
            let mut words = [Some(*sid), *max].into_iter().flatten();
            assert!(words.all(|word| naive::is_word(word) && !word.contains(&b'\r')));
        }
        ClientOp::Pub(view) => {
            assert!(naive::is_first_word(view.subject));
            assert!(view.reply.is_none_or(naive::is_word));
            let header = view.headers.map_or(0, |headers| headers.raw().len());
            assert_eq!(
                naive::size(view.total_digits),
                Some(header + view.payload.len())
            );
            if !view.header_digits.is_empty() {
                assert_eq!(naive::size(view.header_digits), Some(header));
            } else {
                assert_eq!(view.headers, None);
            }
        }
        ClientOp::Ping | ClientOp::Pong | ClientOp::Ok => {}
    }
}

/// The crate's writer, where its types can hold the message, writes what the naive one does.
fn check_encoder(view: &PubView<'_>, expected: &[u8]) {
    let Ok(subject) = SubjectRef::from_bytes(view.subject) else {
        return;
    };
    let mut publish = Publish::new(subject, view.payload);
    if let Some(reply) = view.reply {
        let Ok(reply) = SubjectRef::from_bytes(reply) else {
            return;
        };
        publish = publish.reply(reply);
    }
    if view.headers.is_none() && !view.header_digits.is_empty() {
        // The crate's writer for publishers has no empty block.
        return;
    }
    if let Some(headers) = view.headers {
        let lines = headers.raw().strip_prefix(b"NATS/1.0\r\n");
        let lines = lines.and_then(|lines| lines.strip_suffix(b"\r\n"));
        let Some(lines) = lines.and_then(|lines| HeaderLines::new(lines).ok()) else {
            return;
        };
        if lines.as_bytes().is_empty() {
            // The crate writes no empty block.
            return;
        }
        publish = publish.lines(lines);
    }
    let mut out = Vec::new();
    publish.write(&mut out);
    assert_eq!(out, expected, "{}", out.escape_ascii());
    assert_eq!(publish.encoded_len(), out.len(), "{}", out.escape_ascii());
}
