//! `-ERR` of all kinds, and names that would put words into the client's mouth.

use natseq::client::{Client, ConnectOptions, ErrorKind, Event, Publication};
use natseq::session::LinkError;
use natseq::subject::Subject;
use natseq::wire::{Headers, ServerError};

use crate::Rig;
use crate::script::Server;

/// Each as it stands behind `-ERR `, and its text.
fn refusals() -> Vec<(Vec<u8>, String)> {
    let mut refusals: Vec<_> = [
        "Unknown Protocol Operation",
        "maximum control line exceeded",
        "Maximum Payload Violation",
        "Authorization Violation",
        "Authentication Timeout",
        "User Authentication Expired",
        "Account Authentication Expired",
        "User Authentication Revoked",
        "Failed Account Registration",
        "maximum connections exceeded",
        "maximum account active connections exceeded",
        "Connection throttling is active. Please try again later.",
        "invalid client protocol",
        "no responders requires headers support",
        "Stale Connection",
        "Secure Connection - TLS Required",
        "attempted to connect to route port",
        "Invalid Subject",
        "Invalid Publish Subject",
        "maximum subscriptions exceeded",
        "Permissions Violation for Publish to \"it's\"",
        "Permissions Violation for Subscription to \"x\" using queue \"q\"",
        "Something New",
        "",
    ]
    .map(|text| (format!("'{text}'").into_bytes(), text.to_owned()))
    .to_vec();
    let odd: &[(&[u8], &str)] = &[
        (b"", ""),
        (b"'", "'"),
        (b"''", ""),
        (b"'''", "'"),
        (b"'x", "'x"),
        (b"x'", "x'"),
        (b"x", "x"),
        (b"'\xff'", "\u{fffd}"),
        (b"'\0\x1b[2J'", "\0\u{1b}[2J"),
        (b"'a\rb'", "a\rb"),
        (b"  'x'  ", "x"),
        (b"'-ERR 'x''", "-ERR 'x'"),
    ];
    let long = "x".repeat(60_000);
    refusals.push((long.into_bytes(), "x".repeat(512)));
    refusals.extend(
        odd.iter()
            .map(|(raw, text)| (raw.to_vec(), (*text).to_owned())),
    );
    refusals
}

#[tokio::test]
async fn every_refusal_is_told_and_names_the_end_that_follows_it() {
    let mut rig = Rig::new().await;
    for (raw, text) in refusals() {
        let line = [b"-ERR ", raw.as_slice(), b"\r\n"].concat();
        let context = line.escape_ascii().to_string();
        rig.peer.say(&line).await;
        let event = rig.event(&context).await;
        let found = match event {
            Event::ServerError { text } => text,
            Event::PublishRefused(refusal) => refusal.text,
            other => panic!("{other:?}, {context}"),
        };
        assert_eq!(found, text, "{context}");
        // Whether a server closes is for the server to say: until then all goes on.
        rig.works(&context).await;
        let reason = if ServerError::new(text.as_bytes()).closes() {
            LinkError::Server(text)
        } else {
            LinkError::Closed
        };
        rig.closes(&reason, &context).await;
        rig.comes_back(&context).await;
    }
}

#[tokio::test]
async fn a_refusal_within_the_greeting_fails_the_dial_when_servers_close_after_it() {
    let mut rig = Rig::new().await;
    for (raw, text) in refusals() {
        let line = [b"-ERR ", raw.as_slice(), b"\r\n"].concat();
        let context = line.escape_ascii().to_string();
        rig.closes(&LinkError::Closed, &context).await;
        let mut peer = rig.server.accept().await;
        peer.say(crate::script::INFO).await;
        peer.hear_introduction().await;
        peer.say(&line).await;
        if ServerError::new(text.as_bytes()).closes() {
            let reason = rig.dial_failed(&context).await;
            assert_eq!(reason, LinkError::Server(text), "{context}");
            peer.hear_close().await;
        } else {
            let event = rig.event(&context).await;
            assert!(
                matches!(event, Event::ServerError { .. }),
                "{event:?}, {context}"
            );
            peer.close().await;
            assert_eq!(
                rig.dial_failed(&context).await,
                LinkError::Closed,
                "{context}"
            );
        }
        rig.comes_back(&context).await;
    }
}

/// No hot loop: what was refused twice will be refused again.
#[tokio::test]
async fn a_server_that_refuses_the_credentials_twice_ends_the_client() {
    let mut rig = Rig::new().await;
    rig.closes(&LinkError::Closed, "twice").await;
    let reason = LinkError::Server("Authorization Violation".to_owned());
    for _ in 0..2 {
        let mut peer = rig.server.accept().await;
        peer.say(crate::script::INFO).await;
        peer.hear_introduction().await;
        peer.say(b"-ERR 'Authorization Violation'\r\n").await;
        assert_eq!(rig.dial_failed("twice").await, reason);
        peer.hear_close().await;
    }
    let event = rig.event("twice").await;
    assert_eq!(
        event,
        Event::Closed {
            reason: Some(reason),
            discarded_messages: 0,
        }
    );
    let error = rig.client.publish("up", "late").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(rig.subscription.next().await.is_none());
}

/// What would end a line or add an argument.
const INJECTIONS: &[&str] = &[
    "a\r\nPUB x 1\r\ny",
    "a\nPING",
    "a\rb",
    "a\0",
    "a b",
    "a\tb",
    "\r\n",
    "\n",
    " ",
    "a ",
    "a\u{7f}",
    "a\u{b}",
    "",
];

/// Every name is checked where it comes in, and the server hears exactly what was meant.
#[tokio::test]
async fn no_line_end_passes_through_a_name() {
    let mut rig = Rig::new().await;
    for text in INJECTIONS {
        for error in [
            refused(&rig.client, text).await,
            Publication::new("up", "").unwrap().reply(*text).map(drop),
            rig.client.subscribe(text).map(drop),
            rig.client.queue_subscribe("q", text).map(drop),
            rig.client.queue_subscribe(text, "q").map(drop),
            rig.client.request(*text, "").await.map(drop),
        ] {
            assert_eq!(error.unwrap_err().kind(), ErrorKind::Subject, "{text:?}");
        }
        let mut headers = Headers::new();
        assert!(headers.append(text, "x").is_err(), "{text:?}");
        let is_value = text.is_empty()
            || *text == "a b"
            || *text == "a\tb"
            || text.contains(['\u{7f}', '\u{b}']);
        assert_eq!(headers.append("A", text).is_ok(), is_value, "{text:?}");
        assert!(
            Subject::new(text).is_err(),
            "an inbox prefix is a subject: {text:?}"
        );
        rig.works(text).await;
    }
}

async fn refused(client: &Client, subject: &str) -> Result<(), natseq::client::Error> {
    client.try_publish(subject, "")?;
    client.publish(subject, "").await
}

/// CONNECT is one line, whatever the names in it hold.
#[tokio::test]
async fn no_line_end_passes_through_connect() {
    for text in INJECTIONS {
        let server = Server::listen().await;
        let address = server.address();
        let options = ConnectOptions::new()
            .name(text)
            .user_and_password(text, text);
        let (client, line) = tokio::join!(options.connect(&address), async {
            let mut peer = server.accept().await;
            peer.say(crate::script::INFO).await;
            let line = peer.hear_line().await;
            assert_eq!(peer.hear_line().await, b"PING\r\n", "{text:?}");
            peer.say(b"PONG\r\n").await;
            (line, peer)
        });
        let _client = client.unwrap();
        let json = line.0.strip_prefix(b"CONNECT ").unwrap();
        let json: serde_json::Value = serde_json::from_slice(json).unwrap();
        for field in ["name", "user", "pass"] {
            assert_eq!(json[field].as_str(), Some(*text), "{text:?}");
        }
    }
}
