//! What a server says: parse, encode, parse is a fixpoint, and the parts are what they must be.

use bytes::Bytes;
use natseq::wire::encode::server::{Deliver, FirstToken, Token};
use natseq::wire::handshake::ServerInfo;
use natseq::wire::{Limits, MsgView, Parser, ServerError, ServerOp, Step};

use crate::naive;
use crate::reading::read_whole;

/// Parses the stream and writes every operation again.
pub fn run(data: &[u8]) {
    let whole = read_whole(Parser::of_server(Limits::SERVER_OPS), data);
    for (start, frame) in &whole.frames {
        let bytes = &data[*start..*start + frame.len()];
        let op = frame.server_op(bytes);
        check_parts(&op);
        let written = naive::server_op(&op);
        let shown = written.escape_ascii();
        let mut parser = Parser::of_server(Limits::SERVER_OPS);
        let Ok(Step::Frame(again)) = parser.next(&written) else {
            panic!("not read back: {shown}, from {}", bytes.escape_ascii());
        };
        assert_eq!(again.len(), written.len(), "{shown}");
        let back = again.server_op(&written);
        assert_eq!(back, op, "{shown}");
        assert_eq!(naive::server_op(&back), written, "{shown}");
        let mut out = Vec::new();
        let refusal = op.write(&mut out).err();
        let line = &written[..again.line_len() - 2];
        naive::check_writer(refusal, &out, op.encoded_len(), line, &written);
        if let ServerOp::Msg(view) = &op {
            check_encoder(view, &written);
            check_message(view, frame.message(Bytes::copy_from_slice(bytes)));
        }
    }
}

fn check_parts(op: &ServerOp<'_>) {
    match op {
        ServerOp::Info { json } => {
            assert!(!json.is_empty() && !json.contains(&b'\n'));
            if let Ok(info) = ServerInfo::parse(json) {
                assert_eq!(ServerInfo::parse(&info.to_json()), Ok(info));
            }
        }
        ServerOp::Err { text } => {
            assert!(!text.contains(&b'\n'));
            let _ = ServerError::new(text).closes();
        }
        ServerOp::Msg(view) => {
            assert!(naive::is_first_word(view.subject) && naive::is_word(view.sid));
            assert!(view.reply.is_none_or(naive::is_word));
        }
        ServerOp::Ping | ServerOp::Pong | ServerOp::Ok => {}
    }
}

/// The crate's writer for brokers writes the same.
fn check_encoder(view: &MsgView<'_>, expected: &[u8]) {
    let deliver = Deliver {
        subject: FirstToken::new(view.subject).expect("a first word"),
        sid: Token::new(view.sid).expect("a word"),
        reply: view.reply.map(|reply| Token::new(reply).expect("a word")),
        headers: view.headers.map(|headers| headers.raw()),
        payload: view.payload,
        digits: None,
    };
    let mut out = Vec::new();
    deliver.write(&mut out);
    assert_eq!(out, expected, "{}", out.escape_ascii());
}

/// The owned message has the same parts as the view.
fn check_message(view: &MsgView<'_>, message: natseq::wire::Message) {
    assert_eq!(message.subject(), view.subject);
    assert_eq!(message.sid(), view.sid);
    assert_eq!(message.reply(), view.reply);
    assert_eq!(message.headers(), view.headers);
    assert_eq!(message.payload(), view.payload);
    let number = std::str::from_utf8(view.sid).ok();
    let is_number = view.sid.len() <= 19 && view.sid.iter().all(u8::is_ascii_digit);
    let number = number
        .filter(|_| is_number)
        .map(|text| text.parse().unwrap());
    assert_eq!(message.sid_number(), number);
}
