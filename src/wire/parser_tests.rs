//! Tests of the parser: what real servers accept, send and refuse, cut at every byte.

use super::*;
use crate::wire::{ClientOp, ServerOp};

/// Every frame as text, then the error if there is one.
fn read(mut parser: Parser, pieces: &[&[u8]]) -> Vec<String> {
    let mut seen = Vec::new();
    let mut buffer = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match parser.next(&buffer) {
                Ok(Step::Frame(frame)) => {
                    assert!(frame.len() <= buffer.len());
                    let text = match parser.speaker {
                        Speaker::Server => format!("{:?}", frame.server_op(&buffer)),
                        Speaker::Client => format!("{:?}", frame.client_op(&buffer)),
                    };
                    seen.push(format!("{} {text}", frame.len()));
                    buffer.drain(..frame.len());
                }
                Ok(Step::More { bytes }) => {
                    assert!(bytes >= 1);
                    break;
                }
                Err(error) => {
                    assert_eq!(parser.next(&buffer), Err(error), "an error is permanent");
                    seen.push(format!("{error:?}"));
                    return seen;
                }
            }
        }
    }
    seen
}

fn of_server() -> Parser {
    Parser::of_server(Limits::SERVER_OPS)
}

fn of_client() -> Parser {
    Parser::of_client(Limits::CLIENT_OPS.with_line_bytes_max(64))
}

fn first(parser: Parser, bytes: &[u8]) -> Result<Frame, FrameError> {
    let mut parser = parser;
    match parser.next(bytes) {
        Ok(Step::Frame(frame)) => Ok(frame),
        Ok(Step::More { .. }) => panic!("incomplete: {}", bytes.escape_ascii()),
        Err(error) => Err(error),
    }
}

const SERVER_STREAMS: &[&[u8]] = &[
    b"INFO {\"a\":1} \r\nMSG foo 1 2\r\nhi\r\nPING\r\n+OK\r\n-ERR 'no'\r\nPONG\r\n",
    b"HMSG foo 9 r 12 14\r\nNATS/1.0\r\n\r\nhi\r\nMSG _INBOX.x.2 1  2\r\nhi\r\n",
    b"msg\tfoo \t 1 2 \nhi\r\npInG junk\n-ERR\r\n-err  text \r\n",
    b"MSG foo 1 5\r\nab\r\nc\r\nHMSG f 1 3 5\r\nhello\r\n",
    b"MSG \nfoo 1 2\r\nhi\r\nHMSG \nfoo 1 0 2\nhi\r\n-ERR\nINFO\n",
    b"MSG foo 1 2\r\nhiX\r\n",
    b"MSG foo 1 2\r\nhi\rX\n",
    b"PING\r\n\r\nPING\r\n",
    b"SUB foo 1\r\n",
    b"MSG foo 1 -2\r\nhi\r\n",
    b"HMSG foo 1 3 2\r\nhi\r\n",
    b"MSGX foo 1 2\r\nhi\r\n",
    b"HMSGX foo 1 0 2\r\nhi\r\n",
];

const CLIENT_STREAMS: &[&[u8]] = &[
    b"CONNECT{\"verbose\":false}\r\nSuB foo 1\r\nPuB foo 2\r\nhi\r\nPiNg\r\n",
    b"SUB \t foo \t q 1  \r\nPUB\t\tfoo\t 2 \r\nhi\r\nUNSUB 1 5\r\nUNSUB 1\r\n",
    b"HPUB foo 0022 00027\r\nNATS/1.0\r\nA: bbbbbbb\r\nhello\r\n",
    b"PINGgarbage 1 2\r\nPONG\r\n+OK whatever\r\nINFO {}\r\n-ERR x\r\n",
    b"PUB a 0\r\n\r\nPUB fo\ro 2\r\nhi\r\n",
    b"PUB \nfoo 2\r\nhi\r\nSUB\t\n\ta 1\nCONNECT\n{}\r\nUNSUB \r\n",
    b" PING\r\n",
    b"HMSG a 1 1 1\r\n",
    b"PUB\r\n",
    b"PUB a b c 1\r\nx\r\n",
    b"PUB aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 1\r\nx\r\n",
    b"PUB a 9999999\r\n",
    b"PUB a 1234567890\r\n",
    b"SUB a\rb\r 1\r\n",
];

#[test]
fn frames_do_not_depend_on_how_the_stream_is_cut() {
    let servers = SERVER_STREAMS.iter().map(|stream| (of_server(), *stream));
    let clients = CLIENT_STREAMS.iter().map(|stream| (of_client(), *stream));
    for (parser, stream) in servers.chain(clients) {
        let whole = read(parser.clone(), &[stream]);
        assert!(!whole.is_empty(), "{}", stream.escape_ascii());
        for one in 0..=stream.len() {
            for two in one..=stream.len() {
                let pieces = [&stream[..one], &stream[one..two], &stream[two..]];
                let cut = read(parser.clone(), &pieces);
                assert_eq!(
                    cut,
                    whole,
                    "{} cut at {one} and {two}",
                    stream.escape_ascii()
                );
            }
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(
            read(parser, &bytes),
            whole,
            "{} byte by byte",
            stream.escape_ascii()
        );
    }
}

#[test]
fn what_is_asked_for_is_never_more_than_is_missing() {
    let stream = b"HMSG foo 9 r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n";
    for len in 1..stream.len() {
        let mut parser = of_server();
        let Ok(Step::More { bytes }) = parser.next(&stream[..len]) else {
            panic!("at {len}")
        };
        assert!(
            (1..=stream.len() - len).contains(&bytes),
            "{bytes} at {len}"
        );
    }
}

#[test]
fn a_message_is_read_with_all_its_parts() {
    let bytes = b"HMSG foo.bar 9 reply 12 14\r\nNATS/1.0\r\n\r\nhi\r\n";
    let frame = first(of_server(), bytes).unwrap();
    let message = frame.message(bytes::Bytes::from_static(bytes));
    assert_eq!(message.subject(), b"foo.bar");
    assert_eq!(message.reply(), Some(&b"reply"[..]));
    assert_eq!(message.sid_number(), Some(9));
    assert_eq!(
        message.headers().map(crate::wire::HeaderBlock::check),
        Some(Ok(()))
    );
    assert_eq!(&message.payload_bytes()[..], b"hi");
    assert_eq!((message.body_len(), message.frame_len()), (14, bytes.len()));
    assert_eq!(message.detached(), message);
}

#[test]
fn a_header_size_of_zero_is_no_block() {
    let bytes = b"HMSG a 1 0 2\r\nhi\r\n";
    let frame = first(of_server(), bytes).unwrap();
    let ServerOp::Msg(message) = frame.server_op(bytes) else {
        panic!("not a message")
    };
    assert_eq!((message.headers, message.payload), (None, &b"hi"[..]));
    assert!(!frame.is_empty(), "a frame has at least its line end");
}

#[test]
fn an_empty_reply_slot_is_no_reply() {
    let bytes = b"MSG _INBOX.x.2 1  2\r\nhi\r\n";
    let ServerOp::Msg(message) = first(of_server(), bytes).unwrap().server_op(bytes) else {
        panic!("not a message")
    };
    assert_eq!((message.reply, message.payload), (None, &b"hi"[..]));
}

#[test]
fn a_malformed_header_block_costs_neither_message_nor_connection() {
    let bytes = b"HMSG foo 1 3 5\r\nhello\r\n";
    let ServerOp::Msg(message) = first(of_server(), bytes).unwrap().server_op(bytes) else {
        panic!("not a message")
    };
    let block = message.headers.unwrap();
    assert_eq!((block.raw(), message.payload), (&b"hel"[..], &b"lo"[..]));
    assert!(block.check().is_err());
}

#[test]
fn the_status_of_a_message_from_a_stream_is_not_believed() {
    let bytes = b"HMSG a 1 $JS.ACK.S.C.1.1.1.1.0 16 16\r\nNATS/1.0 503\r\n\r\n\r\n";
    let forged = first(of_server(), bytes)
        .unwrap()
        .message(bytes::Bytes::from_static(bytes));
    assert_eq!(forged.status(), None);
    let bytes = b"HMSG a 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n";
    let real = first(of_server(), bytes)
        .unwrap()
        .message(bytes::Bytes::from_static(bytes));
    assert_eq!(real.status().map(|status| status.code), Some(503));
}

#[test]
fn quotes_inside_a_refusal_stay() {
    let bytes = b"-ERR 'Permissions Violation for Publish to \"it's\"'\r\n";
    let op = first(of_server(), bytes).unwrap().server_op(bytes);
    assert_eq!(
        op,
        ServerOp::Err {
            text: b"Permissions Violation for Publish to \"it's\""
        }
    );
}

#[test]
fn refusals_name_what_a_server_would_answer() {
    let long = [b"SUB ".as_slice(), &[b'a'; 63], b" 1\r\n"].concat();
    let cases: [(&[u8], FrameError, bool); 16] = [
        (b" PING\r\n", FrameError::UnknownOp, true),
        (b"\r\n", FrameError::UnknownOp, true),
        (b"MSG a 1 1\r\n", FrameError::UnknownOp, true),
        (b"PUB\r\n", FrameError::UnknownOp, true),
        (b"-ERR\r\n", FrameError::UnknownOp, true),
        (b"PUB \r\n", FrameError::ArgumentCount, false),
        (b"PUB a\r\n", FrameError::ArgumentCount, false),
        (b"HPUB a 1\r\n", FrameError::ArgumentCount, false),
        (b"SUB a b c d\r\n", FrameError::ArgumentCount, false),
        (b"UNSUB 1 2 3\r\n", FrameError::ArgumentCount, false),
        (b"PUB a +2\r\nhi\r\n", FrameError::BadSize, false),
        (b"PUB a 0000000002\r\nhi\r\n", FrameError::BadSize, false),
        (
            b"HPUB a 3 2\r\nhi\r\n",
            FrameError::HeaderLargerThanTotal,
            false,
        ),
        (
            b"PUB a 1048577\r\n",
            FrameError::PayloadTooLong {
                found: 1_048_577,
                max: 1 << 20,
            },
            true,
        ),
        (b"PUB a 2\r\nhi\n", FrameError::PayloadTerminator, true),
        (&long, FrameError::LineTooLong { max: 64 }, true),
    ];
    for (bytes, error, is_answered) in cases {
        assert_eq!(
            first(of_client(), bytes),
            Err(error),
            "{}",
            bytes.escape_ascii()
        );
        assert_eq!(error.server_answer().is_some(), is_answered, "{error:?}");
    }
}

#[test]
fn the_line_limit_counts_arguments_alone() {
    let fits = [b"SUB  \t ".as_slice(), &[b'a'; 62], b" 1\r\n"].concat();
    assert!(first(of_client(), &fits).is_ok());
    let mut parser = of_client();
    let endless = [b"SUB ".as_slice(), &[b'a'; 65]].concat();
    assert_eq!(
        parser.next(&endless),
        Err(FrameError::LineTooLong { max: 64 })
    );
    let mut parser = of_client();
    let blanks = [b"SUB ".as_slice(), &[b' '; 65]].concat();
    assert_eq!(
        parser.next(&blanks),
        Err(FrameError::LineTooLong { max: 64 })
    );
}

#[test]
fn what_follows_a_servers_ping_is_held_within_the_line_limit() {
    let limits = Limits::SERVER_OPS.with_line_bytes_max(9_999);
    for word in ["PING", "PONG", "+OK"] {
        for (junk, expected) in [
            (9_999, Ok(Step::More { bytes: 1 })),
            (10_000, Err(FrameError::LineTooLong { max: 9_999 })),
        ] {
            let mut bytes = word.as_bytes().to_vec();
            bytes.resize(bytes.len() + junk, b'x');
            let mut parser = Parser::of_server(limits);
            assert_eq!(parser.next(&bytes), expected, "{word} and {junk} bytes");
        }
    }
}

#[test]
fn what_follows_a_ping_is_ignored_within_the_payload_limit() {
    let mut bytes = b"PING".to_vec();
    bytes.extend_from_slice(&[b'x'; 10_000]);
    bytes.extend_from_slice(b"\r\n");
    let frame = first(of_client(), &bytes).unwrap();
    assert_eq!(frame.client_op(&bytes), ClientOp::Ping);
    let mut parser = Parser::of_client(Limits::CLIENT_OPS.with_payload_bytes_max(9_999));
    assert_eq!(
        parser.next(&bytes),
        Err(FrameError::LineTooLong { max: 9_999 })
    );
}

#[test]
fn a_line_feed_in_front_of_the_arguments_belongs_to_them() {
    let bytes = b"PUB \nfoo 2\r\nhi\r\n";
    let frame = first(of_client(), bytes).unwrap();
    let ClientOp::Pub(message) = frame.client_op(bytes) else {
        panic!("not a message")
    };
    assert_eq!((message.subject, frame.len()), (&b"\nfoo"[..], bytes.len()));

    let bytes = b"MSG \nfoo 1 2\r\nhi\r\n";
    let frame = first(of_server(), bytes).unwrap();
    let ServerOp::Msg(message) = frame.server_op(bytes) else {
        panic!("not a message")
    };
    assert_eq!((message.subject, frame.len()), (&b"\nfoo"[..], bytes.len()));

    let bytes = b"SUB \nfoo 1\r\n";
    let frame = first(of_client(), bytes).unwrap();
    let foo = ClientOp::Sub {
        subject: b"foo",
        queue_group: None,
        sid: b"1",
    };
    assert_eq!(frame.client_op(bytes), foo);
    let half = of_client().next(b"PUB \n");
    assert_eq!(half, Ok(Step::More { bytes: 1 }));
}

#[test]
fn the_line_end_of_a_ping_is_not_counted() {
    let none = Limits::CLIENT_OPS.with_payload_bytes_max(0);
    for bytes in [b"PING\r\n".as_slice(), b"+OK\n", b"PONG\r\n"] {
        assert!(first(Parser::of_client(none), bytes).is_ok());
        assert!(first(Parser::of_server(none), bytes).is_ok());
    }
    let inner = b"PING\rx\n";
    let max = none.payload_bytes_max;
    assert_eq!(
        Parser::of_client(none).next(inner),
        Err(FrameError::LineTooLong { max })
    );
}

#[test]
fn a_sid_that_is_no_number_is_passed_on_as_bytes() {
    let bytes = b"MSG a abc-\xff! 0\r\n\r\n";
    let frame = first(of_server(), bytes).unwrap();
    assert_eq!(frame.sid_number(bytes), None);
    let ServerOp::Msg(message) = frame.server_op(bytes) else {
        panic!("not a message")
    };
    assert_eq!(message.sid, b"abc-\xff!");
}

#[test]
fn a_cr_inside_a_clients_line_costs_the_byte_before_lf() {
    let publish = |bytes: &[u8]| {
        let frame = first(of_client(), bytes).unwrap();
        let ClientOp::Pub(message) = frame.client_op(bytes) else {
            panic!("not a PUB")
        };
        (message.subject.to_vec(), message.payload.to_vec())
    };
    let whole = (b"fo\ro".to_vec(), b"h".to_vec());
    assert_eq!(publish(b"PUB fo\ro 11\nh\r\n"), whole);
    assert_eq!(publish(b"PUB fo\ro 1\r\nh\r\n"), whole);
    let leading = (b"\rfoo".to_vec(), b"hello world".to_vec());
    assert_eq!(publish(b"PUB \rfoo 11\nhello world\r\n"), leading);
    let bytes = b"MSG fo\ro 1 11\nhello world\r\n";
    let frame = first(of_server(), bytes).unwrap();
    assert_eq!(frame.payload_len(), 11, "a server's line loses nothing");
}

#[test]
fn a_handshake_without_an_argument_is_refused() {
    for bytes in [b"CONNECT\r\n".as_slice(), b"CONNECT \r\n", b"INFO \t\n\n"] {
        let refused = first(of_client(), bytes);
        assert_eq!(refused, Err(FrameError::ArgumentCount), "{bytes:?}");
    }
    assert!(first(of_server(), b"INFO\r\n").is_err());
    assert!(
        first(of_client(), b"CONNECT {\r\n").is_ok(),
        "JSON is the handshake's"
    );
}

#[test]
fn headers_without_leave_are_refused_at_their_line() {
    let bytes = b"HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n";
    let limits = Limits::CLIENT_OPS.with_headers(false);
    for len in [14, bytes.len()] {
        let mut parser = Parser::of_client(limits);
        assert_eq!(parser.next(&bytes[..len]), Err(FrameError::HeadersRefused));
    }
    assert_eq!(FrameError::HeadersRefused.server_answer(), None);
    assert!(first(Parser::of_client(limits), b"PUB a 0\r\n\r\n").is_ok());
}

#[test]
fn a_line_at_the_limit_may_come_byte_by_byte() {
    let limits = Limits::SERVER_OPS.with_line_bytes_max(64);
    let line = [b"MSG ".as_slice(), &[b'a'; 60], b" 1 0\r\n\r\n"].concat();
    let bytes: Vec<&[u8]> = line.chunks(1).collect();
    assert_eq!(read(Parser::of_server(limits), &bytes).len(), 1);
    let line = [b"SUB ".as_slice(), &[b'a'; 62], b" 1\r\n"].concat();
    let bytes: Vec<&[u8]> = line.chunks(1).collect();
    let read_back = read(of_client(), &bytes);
    assert!(read_back[0].contains("Sub"), "{read_back:?}");
    let longer = [b"SUB ".as_slice(), &[b'a'; 63], b" 1\r\n"].concat();
    let bytes: Vec<&[u8]> = longer.chunks(1).collect();
    assert_eq!(read(of_client(), &bytes), ["LineTooLong { max: 64 }"]);
    let blanks = [b"SUB".as_slice(), &[b' '; 64], b"a 1\r\n"].concat();
    assert!(
        first(of_client(), &blanks).is_ok(),
        "as many blanks as arguments"
    );
}

#[test]
fn a_name_goes_on_until_its_blank() {
    let bytes = b"-ERR\r\n";
    assert_eq!(first(of_server(), bytes).unwrap().kind(), OpKind::Err);
    for bytes in [
        b"-ERRx\r\n".as_slice(),
        b"HMSGX a 1 0 0\r\n\r\n",
        b"MSGX a 1 0\r\n\r\n",
    ] {
        assert_eq!(
            first(of_server(), bytes),
            Err(FrameError::UnknownOp),
            "{bytes:?}"
        );
    }
    // A byte where the blank must be is no blank, whatever follows it.
    assert!(first(of_server(), b"HMSGxa 1 0 0\r\n\r\n").is_err());
    assert!(first(of_client(), b"HPUBxa 0 0\r\n\r\n").is_err());
    for bytes in [b"HPUBX a 0 0\r\n\r\n".as_slice(), b"PUBX a 0\r\n\r\n"] {
        assert_eq!(
            first(of_client(), bytes),
            Err(FrameError::UnknownOp),
            "{bytes:?}"
        );
    }
}

#[test]
fn a_body_over_the_limit_is_refused_also_when_it_is_there() {
    let limits = Limits::CLIENT_OPS.with_payload_bytes_max(4);
    let mut parser = Parser::of_client(limits);
    assert!(first(parser.clone(), b"PUB a 4\r\nfour\r\n").is_ok());
    let (found, max) = (5, 4);
    let error = FrameError::PayloadTooLong { found, max };
    assert_eq!(first(parser.clone(), b"PUB a 5\r\nhello\r\n"), Err(error));
    parser.set_limits(limits.with_payload_bytes_max(5));
    assert_eq!(parser.limits().payload_bytes_max, 5);
    assert!(first(parser, b"PUB a 5\r\nhello\r\n").is_ok());
}

#[test]
fn a_message_says_its_subject_and_sid_and_shows_no_payload() {
    let bytes = b"MSG a.b x1 r 6\r\nsecret\r\n";
    let message = first(of_server(), bytes)
        .unwrap()
        .message(bytes::Bytes::from_static(bytes));
    assert_eq!(message.subject_str(), Ok("a.b"));
    assert_eq!((message.sid(), message.sid_number()), (&b"x1"[..], None));
    assert_eq!(
        format!("{message:?}"),
        "Message { subject: \"a.b\", reply: Some(\"r\"), header_len: 0, payload_len: 6 }"
    );
    let bytes = b"MSG \xff 1 0\r\n\r\n";
    let odd = first(of_server(), bytes)
        .unwrap()
        .message(bytes::Bytes::from_static(bytes));
    assert!(odd.subject_str().is_err());
}

#[test]
fn an_operation_has_its_name_and_the_other_sides_means_nothing() {
    let all = b"CONNECT {}\r\nPUB a 0\r\n\r\nHPUB a 0 0\r\n\r\nSUB a 1\r\nUNSUB 1\r\nPING\r\nPONG\r\n+OK\r\n\
        INFO {}\r\n-ERR x\r\n";
    let mut parser = of_client();
    let mut rest = all.as_slice();
    let mut names = Vec::new();
    while let Ok(Step::Frame(frame)) = parser.next(rest) {
        names.push(frame.kind().name());
        if matches!(
            frame.kind(),
            OpKind::Connect | OpKind::Pub | OpKind::Sub | OpKind::Unsub
        ) {
            assert_eq!(frame.server_op(rest), ServerOp::Ok);
        }
        rest = &rest[frame.len()..];
    }
    let expected = "CONNECT PUB HPUB SUB UNSUB PING PONG +OK INFO -ERR";
    assert_eq!(names.join(" "), expected);
    for (bytes, name) in [
        (b"MSG a 1 0\r\n\r\n".as_slice(), "MSG"),
        (b"HMSG a 1 0 0\r\n\r\n", "HMSG"),
    ] {
        let frame = first(of_server(), bytes).unwrap();
        assert_eq!(
            (frame.kind().name(), frame.client_op(bytes)),
            (name, ClientOp::Ok)
        );
    }
}
