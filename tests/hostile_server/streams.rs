//! Streams that break off anywhere, drip, or are no NATS at all.

use natseq::client::Event;
use natseq::session::LinkError;
use natseq::wire::{FrameError, Limits};

use crate::Rig;
use crate::script::INFO;

/// What a server says in a connection: each frame, the payload that it delivers, and the text that it reports.
const TRANSCRIPT: &[(&[u8], Option<&str>, Option<&str>)] = &[
    (b"MSG a 1 5\r\nfirst\r\n", Some("first"), None),
    (b"PING\r\n", None, None),
    (
        b"HMSG a 1 r.1 18 24\r\nNATS/1.0\r\nA: b\r\n\r\nsecond\r\n",
        Some("second"),
        None,
    ),
    (b"+OK\r\n", None, None),
    (
        b"INFO {\"server_id\":\"S\",\"headers\":true,\"x\":[1,2]} \r\n",
        None,
        None,
    ),
    (b"-ERR 'Invalid Subject'\r\n", None, Some("Invalid Subject")),
    (b"MSG a 9 6\r\nnobody\r\n", None, None),
    (
        b"MSG a 1 \t r 13\r\nPING\r\nMSG a 1\r\n",
        Some("PING\r\nMSG a 1"),
        None,
    ),
    (b"PONG\r\n", None, None),
    (b"MSG a 1 0\r\n\r\n", Some(""), None),
];

/// Half a frame is forgotten, and the next connection begins fresh.
#[tokio::test]
async fn a_connection_may_end_at_every_byte_and_delivers_only_whole_messages() {
    let mut rig = Rig::new().await;
    let all: Vec<u8> = TRANSCRIPT
        .iter()
        .flat_map(|(frame, ..)| frame.to_vec())
        .collect();
    assert!(all.len() >= 200);
    for cut in 0..=all.len() {
        let context = format!("cut at {cut}");
        rig.peer.say(&all[..cut]).await;
        let _ = rig.hear_transcript(cut, &context).await;
        rig.closes(&LinkError::Closed, &context).await;
        rig.comes_back(&context).await;
    }
}

/// The same for the greeting: INFO, what the client says, PONG.
#[tokio::test]
async fn a_greeting_may_end_at_every_byte() {
    let mut rig = Rig::new().await;
    for cut in 0..INFO.len() + "PONG\r\n".len() {
        let context = format!("greeting cut at {cut}");
        rig.closes(&LinkError::Closed, &context).await;
        let mut peer = rig.server.accept().await;
        peer.say(&INFO[..cut.min(INFO.len())]).await;
        if let Some(cut) = cut.checked_sub(INFO.len()) {
            peer.hear_introduction().await;
            peer.say(&b"PONG\r\n"[..cut]).await;
        }
        peer.close().await;
        assert_eq!(
            rig.dial_failed(&context).await,
            LinkError::Closed,
            "{context}"
        );
        rig.comes_back(&context).await;
    }
}

#[tokio::test]
async fn bytes_that_come_one_at_a_time_mean_the_same() {
    let mut rig = Rig::new().await;
    rig.closes(&LinkError::Closed, "bytewise").await;
    rig.peer = rig.server.accept().await;
    rig.peer.say_bytewise(INFO).await;
    rig.peer.hear_introduction().await;
    rig.peer.say_bytewise(b"PONG\r\n").await;
    assert_eq!(rig.peer.hear_line().await, b"SUB a 1\r\n");
    assert_eq!(rig.peer.hear_line().await, b"PING\r\n");
    rig.peer.say_bytewise(b"PONG\r\n").await;
    assert!(matches!(
        rig.event("bytewise").await,
        Event::Connected { .. }
    ));
    let all: Vec<u8> = TRANSCRIPT
        .iter()
        .flat_map(|(frame, ..)| frame.to_vec())
        .collect();
    rig.peer.say_bytewise(&all).await;
    rig.hear_transcript(all.len(), "bytewise").await;
    assert_eq!(rig.works("bytewise").await, 1, "one PING was answered");
    rig.no_event("bytewise").await;
}

/// A server that reads one byte at a time hears the same.
#[tokio::test]
async fn bytes_that_are_read_one_at_a_time_are_all_there() {
    let mut rig = Rig::new().await;
    let large = vec![b'x'; 40_000];
    for number in 0..20 {
        rig.client.publish("up", number.to_string()).await.unwrap();
        rig.client.publish("up", large.clone()).await.unwrap();
    }
    let mut expected = Vec::new();
    for number in 0..20_usize {
        let number = number.to_string();
        expected.extend_from_slice(format!("PUB up {}\r\n{number}\r\n", number.len()).as_bytes());
        expected.extend_from_slice(b"PUB up 40000\r\n");
        expected.extend_from_slice(&large);
        expected.extend_from_slice(b"\r\n");
    }
    let heard = rig.peer.hear_bytewise(expected.len()).await;
    assert!(heard == expected, "{} bytes", heard.len());
    rig.works("after a slow reader").await;
}

#[tokio::test]
async fn unknown_operations_end_the_connection_and_what_follows_is_not_read() {
    let mut rig = Rig::new().await;
    let reason = LinkError::Frame(FrameError::UnknownOp);
    let nonsense: &[&[u8]] = &[
        b"\r\n",
        b"\n",
        b" PING\r\n",
        b"\tPING\r\n",
        b"\0",
        b"\xff",
        b"PUB a 1\r\nx\r\n",
        b"SUB a 1\r\n",
        b"UNSUB 1\r\n",
        b"CONNECT {}\r\n",
        b"HPUB a 12 12\r\n",
        b"MSS",
        b"MS\r\n",
        b"MSGa 1 0\r\n\r\n",
        b"HMSG\r\n",
        b"MSG\r\n",
        b"PIN\r\n",
        b"PO G\r\n",
        b"+NO\r\n",
        b"-ERRx\r\n",
        b"-OK\r\n",
        b"A+ a 1\r\n",
        b"RMSG a 1 0\r\n",
        b"LMSG a 0\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"\x16\x03\x01\x02\x00",
        b"INF {}\r\n",
        b"\r",
    ];
    for bytes in nonsense {
        let bytes = [*bytes, b"MSG a 1 4\r\nevil\r\nPING\r\n"].concat();
        rig.breaks(&bytes, &reason).await;
    }
    for (bytes, error) in [
        ("MSG \r\n", FrameError::ArgumentCount),
        ("MSG a\r\n", FrameError::ArgumentCount),
        ("MSG a 1\r\n", FrameError::ArgumentCount),
        ("MSG a 1 r 2 3\r\n", FrameError::ArgumentCount),
        ("HMSG a 1 2\r\n", FrameError::ArgumentCount),
        ("HMSG a 1 r 2 3 4\r\n", FrameError::ArgumentCount),
        ("MSG a 1 r s\r\n", FrameError::BadSize),
        ("MSG\u{b}a 1 0\r\n", FrameError::UnknownOp),
    ] {
        rig.breaks(bytes.as_bytes(), &LinkError::Frame(error)).await;
    }
}

/// The line need not even end.
#[tokio::test]
async fn an_overlong_control_line_ends_the_connection_at_the_limit() {
    let mut rig = Rig::new().await;
    let max = Limits::SERVER_OPS.line_bytes_max;
    let reason = LinkError::Frame(FrameError::LineTooLong { max });
    for word in ["MSG ", "HMSG ", "INFO ", "-ERR ", "PING", "PONG", "+OK"] {
        let unfinished = format!("{word}{}", "x".repeat(max + 1));
        rig.breaks(unfinished.as_bytes(), &reason).await;
        rig.breaks(format!("{unfinished}\r\n").as_bytes(), &reason)
            .await;
        rig.breaks_off(format!("{word}{}", "x".repeat(max)).as_bytes())
            .await;
    }
    for word in ["MSG ", "INFO ", "-ERR "] {
        let blanks = format!("{word}{}", " ".repeat(max + 1));
        rig.breaks(blanks.as_bytes(), &reason).await;
    }
    // A message whose line is as long as it may be.
    let subject = "s".repeat(max - " 1 2".len());
    rig.peer
        .say(format!("MSG {subject} 1 2\r\nhi\r\n").as_bytes())
        .await;
    let message = rig.message("a long line").await;
    assert_eq!(
        (message.subject(), message.payload()),
        (subject.as_bytes(), &b"hi"[..])
    );
    rig.works("a long line").await;
    // Each line is counted for itself.
    let pings = format!("PING{}\r\n", "x".repeat(max)).repeat(3);
    assert_eq!(rig.survives(pings.as_bytes()).await, 3);
}

impl Rig {
    /// Everything that the first `len` bytes of the transcript deliver and report.
    async fn hear_transcript(&mut self, len: usize, context: &str) {
        let mut end = 0;
        for (frame, payload, error) in TRANSCRIPT {
            end += frame.len();
            if end > len {
                return;
            }
            if let Some(payload) = payload {
                let message = self.message(context).await;
                assert_eq!(message.payload(), payload.as_bytes(), "{context}");
            }
            if let Some(text) = error {
                let event = self.event(context).await;
                let Event::ServerError { text: found, .. } = event else {
                    panic!("{event:?}, {context}");
                };
                assert_eq!(found, *text, "{context}");
            }
        }
    }
}
