//! Servers that begin wrong, say broken INFO, or say it at any time.

use std::error::Error;
use std::time::Duration;

use natseq::client::{ConnectOptions, ErrorKind, Event, Publication};
use natseq::session::LinkError;
use natseq::wire::{FrameError, Headers};

use crate::Rig;
use crate::script::{INFO, Server};

/// The limit of a client on a server's line.
const LINE_BYTES_MAX: usize = 65_536;

#[tokio::test]
async fn what_is_not_info_is_no_greeting_and_delivers_nothing() {
    let mut rig = Rig::new().await;
    let early: &[&[u8]] = &[
        b"PING\r\n",
        b"PONG\r\n",
        b"+OK\r\n",
        b"MSG a 1 5\r\nearly\r\n",
        b"HMSG a 1 12 12\r\nNATS/1.0\r\n\r\n\r\n",
    ];
    for greeting in early {
        let greeting = [greeting, INFO, b"PONG\r\n"].concat();
        assert_eq!(rig.refuses(&greeting).await, LinkError::InfoMissing);
    }
    let nonsense: &[&[u8]] = &[
        b"\r\n",
        b"\n",
        b"\0",
        b" INFO {}\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"\x15\x03\x01\x00\x02\x02",
        b"CONNECT {}\r\n",
        b"PUB a 1\r\n",
        b"INF {}\r\n",
        b"\xff",
        b"{}\r\n",
    ];
    for greeting in nonsense {
        assert_eq!(
            rig.refuses(greeting).await,
            LinkError::Frame(FrameError::UnknownOp)
        );
    }
    let refusals: &[(&[u8], &str)] = &[
        (
            b"-ERR 'maximum connections exceeded'\r\n",
            "maximum connections exceeded",
        ),
        (b"-ERR\r\n", ""),
        (b"-ERR anything\n", "anything"),
    ];
    for (greeting, text) in refusals {
        let reason = rig.refuses(greeting).await;
        assert_eq!(reason, LinkError::Server((*text).to_owned()));
    }
}

/// Objects that no INFO holds.
fn broken_jsons() -> Vec<Vec<u8>> {
    let texts: &[&[u8]] = &[
        b"{",
        b"}",
        b"{]",
        b"[]",
        b"5",
        b"\"x\"",
        b"{}{}",
        b"{} x",
        b"{\"port\":}",
        b"{\"port\"}",
        b"{,}",
        b"{\"a\":1,}",
        b"{'a':1}",
        b"{a:1}",
        b"{\"server_id\":\"\0\"}",
        b"{\"server_id\":\"",
        b"{\"server_id\":\"\\",
        b"{\"server_id\":5}",
        b"{\"headers\":\"true\"}",
        b"{\"headers\":1}",
        b"{\"max_payload\":\"1\"}",
        b"{\"max_payload\":1.5}",
        b"{\"max_payload\":1e400}",
        b"{\"connect_urls\":\"a\"}",
        b"{\"connect_urls\":[1]}",
        b"{\"connect_urls\":{}}",
        b"\xef\xbb\xbf{}",
        b"{\"a\":nan}",
        b"{\"a\":01}",
        b"{\"a\":\"\x01\"}",
        b"X {}",
    ];
    let mut jsons: Vec<_> = texts.iter().map(|text| text.to_vec()).collect();
    // Deeper than any reader needs; none of them may recurse so far.
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let levels = 60_000 / (open.len() + close.len());
        let value = [open.repeat(levels), "1".to_owned(), close.repeat(levels)].concat();
        jsons.push(format!("{{\"connect_urls\":{value}}}").into_bytes());
        jsons.push(open.repeat(60_000 / open.len()).into_bytes());
    }
    jsons
}

#[tokio::test]
async fn a_broken_info_fails_the_dial_and_a_later_one_changes_nothing() {
    let mut rig = Rig::new().await;
    for json in broken_jsons() {
        let line = [b"INFO ", json.as_slice(), b" \r\n"].concat();
        let reason = rig.refuses(&line).await;
        assert!(matches!(reason, LinkError::InfoMalformed(_)), "{reason:?}");
        rig.survives(&line).await;
        assert_eq!(rig.client.server_info().server_id, "S");
    }
}

#[tokio::test]
async fn fields_that_are_missing_or_unknown_do_not_matter() {
    let mut rig = Rig::new().await;
    let infos: &[&[u8]] = &[
        b"INFO {}\r\n",
        b"INFO{}\r\n",
        b"info \t {} \t \r\n",
        b"INFO {\"new\":{\"a\":[1,null,\"x\"]}}\r\n",
        b"INFO {\"server_id\":\"\"} \n",
        b"INFO {\"server_id\":\"\\u0000\\r\\n\"}\r\n",
        b"INFO { \"max_payload\" : -1 }\r\n",
        b"INFO {\"\":0}\r\n",
        b"INFO null\r\n",
        b"INFO {\"server_id\":\"\xff\"}\r\n",
        b"INFO {\"server_id\":\"\\ud800\"}\r\n",
        b"INFO {\"max_payload\":null}\r\n",
        b"INFO {\"port\":-1}\r\n",
        b"INFO {\"a\":1e999,\"port\":1,\"port\":70000}\r\n",
    ];
    // What is not known is not looked into, however deep it is.
    let deep = [
        b"INFO {\"new\":".as_slice(),
        &[b'['; 30_000],
        &[b']'; 30_000],
        b"}\r\n",
    ]
    .concat();
    for info in infos.iter().copied().chain([deep.as_slice()]) {
        rig.accepts(info).await;
        rig.survives(info).await;
    }
}

#[tokio::test]
async fn numbers_in_info_are_taken_within_their_type_and_refused_outside() {
    let mut rig = Rig::new().await;
    let boundaries = [7, 8, 15, 16, 31, 32, 53, 63, 64].map(|power| 1_i128 << power);
    let numbers: Vec<i128> = boundaries
        .iter()
        .flat_map(|number| [number - 1, *number, number + 1])
        .flat_map(|number| [number, -number])
        .collect();
    for number in numbers {
        for (field, fits) in [
            ("port", i64::try_from(number).is_ok()),
            ("max_payload", i64::try_from(number).is_ok()),
            ("client_id", u64::try_from(number).is_ok()),
            ("proto", i64::try_from(number).is_ok()),
        ] {
            let line = format!("INFO {{\"{field}\":{number}}}\r\n");
            if fits {
                rig.accepts(line.as_bytes()).await;
            } else {
                let reason = rig.refuses(line.as_bytes()).await;
                assert!(matches!(reason, LinkError::InfoMalformed(_)), "{reason:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_info_is_read_up_to_the_line_limit() {
    let mut rig = Rig::new().await;
    let sized = |len: usize| {
        let filling = "x".repeat(len - "{\"cluster\":\"\"}".len());
        format!("INFO {{\"cluster\":\"{filling}\"}}\r\n").into_bytes()
    };
    rig.accepts(&sized(LINE_BYTES_MAX)).await;
    let too_long = LinkError::Frame(FrameError::LineTooLong {
        max: LINE_BYTES_MAX,
    });
    assert_eq!(rig.refuses(&sized(LINE_BYTES_MAX + 1)).await, too_long);
    rig.breaks(&sized(LINE_BYTES_MAX + 1), &too_long).await;
    // A hundred thousand levels need more than that.
    let deep = format!(
        "INFO {{\"a\":{}{}}}\r\n",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert_eq!(rig.refuses(deep.as_bytes()).await, too_long);
    rig.breaks(deep.as_bytes(), &too_long).await;
}

#[tokio::test]
async fn each_later_info_replaces_the_one_before() {
    let mut rig = Rig::new().await;
    rig.survives(b"INFO {\"server_id\":\"T\",\"max_payload\":20}\r\n")
        .await;
    assert_eq!(rig.client.server_info().server_id, "T");
    let error = rig.client.publish("up", vec![b'x'; 21]).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::PayloadTooLarge { found: 21, max: 20 }
    );
    let mut headers = Headers::new();
    headers.append("A", "b").unwrap();
    let publication = Publication::new("up", "").unwrap().headers(&headers);
    let error = rig.client.send(publication).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HeadersUnsupported);
    for limit in ["-1", "0", "-9223372036854775808", "9223372036854775807"] {
        rig.survives(format!("INFO {{\"max_payload\":{limit}}}\r\n").as_bytes())
            .await;
    }
    // Lame duck is told once, however often it is said.
    rig.peer.say(&b"INFO {\"ldm\":true}\r\n".repeat(3)).await;
    rig.works("lame duck").await;
    assert_eq!(rig.event("lame duck").await, Event::LameDuck);
    rig.no_event("lame duck").await;
}

#[tokio::test]
async fn infos_within_the_handshake_do_not_disturb_it() {
    let mut rig = Rig::new().await;
    let between: &[&[u8]] = &[
        b"INFO {}\r\n",
        b"INFO {\"server_id\":\"2\"}\r\nINFO {\r\n",
        b"+OK\r\n",
        b"MSG a 1 5\r\nearly\r\n",
        b"HMSG a 1 12 12\r\nNATS/1.0\r\n\r\n\r\n",
        b"MSG x 7 0\r\n\r\n",
    ];
    for bytes in between {
        rig.accepts(&[INFO, *bytes].concat()).await;
    }
}

/// Whatever stands in the list, it fails nothing, and only the server of the user's choice is dialed.
#[tokio::test]
async fn bad_connect_urls_neither_fail_the_connection_nor_lead_elsewhere() {
    let mut rig = Rig::with(ConnectOptions::new().ignore_discovered_servers(true)).await;
    let elsewhere = Server::listen().await;
    let urls = [
        String::new(),
        ":".to_owned(),
        "http://x".to_owned(),
        "a:99999".to_owned(),
        "[::1".to_owned(),
        "a b".to_owned(),
        "\\u0000".to_owned(),
        "tls://127.0.0.1:1".to_owned(),
        "user:secret@h".to_owned(),
        "x".repeat(10_000),
        elsewhere.address(),
    ];
    for url in &urls {
        rig.accepts(
            format!("INFO {{\"connect_urls\":[\"{url}\",\"127.0.0.1:1\"]}}\r\n").as_bytes(),
        )
        .await;
    }
    let all = urls.map(|url| format!("\"{url}\"")).join(",");
    rig.survives(format!("INFO {{\"connect_urls\":[{all}]}}\r\n").as_bytes())
        .await;
    rig.closes(&LinkError::Closed, "connect_urls").await;
    rig.comes_back("connect_urls").await;
}

#[tokio::test]
async fn a_server_that_never_finishes_its_greeting_is_given_up() {
    let timeout = Duration::from_secs(1);
    let mut rig = Rig::with(ConnectOptions::new().connect_timeout(timeout)).await;
    for greeting in [&b""[..], b"INFO {\"server_id\":", &[INFO, b"PON"].concat()] {
        assert_eq!(rig.refuses(greeting).await, LinkError::HandshakeTimeout);
    }
    // One byte after the other does not extend it.
    rig.closes(&LinkError::Closed, "trickle").await;
    let mut peer = rig.server.accept().await;
    peer.say(b"INFO").await;
    let trickle = async {
        loop {
            peer.say(b" ").await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let reason = tokio::select! {
        () = trickle => unreachable!(),
        reason = rig.dial_failed("trickle") => reason,
    };
    assert_eq!(reason, LinkError::HandshakeTimeout);
    rig.comes_back("trickle").await;
}

#[tokio::test]
async fn a_first_connect_fails_with_the_reason_as_its_source() {
    for (greeting, reason) in [
        (&b"HELLO\r\n"[..], LinkError::Frame(FrameError::UnknownOp)),
        (b"PING\r\n", LinkError::InfoMissing),
        (b"-ERR 'no'\r\n", LinkError::Server("no".to_owned())),
    ] {
        let server = Server::listen().await;
        let address = server.address();
        let (connected, ()) = tokio::join!(ConnectOptions::new().connect(&address), async {
            let mut peer = server.accept().await;
            peer.say(greeting).await;
            peer.hear_close().await;
        });
        let error = connected.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect);
        let source = error.source().unwrap().downcast_ref::<LinkError>();
        assert_eq!(source, Some(&reason));
    }
}

/// Whoever can put bytes between INFO and TLS could speak in the server's name; nothing is said to it in clear.
#[cfg(feature = "tls")]
#[tokio::test]
async fn bytes_left_before_tls_are_refused_and_no_credential_is_said() {
    let mut rig = Rig::with(ConnectOptions::new().user_and_password("u", "canary")).await;
    for left in [
        &b"P"[..],
        b"PING\r\n",
        b"+OK\r\n",
        b"MSG a 1 5\r\nearly\r\n",
        b"\0",
    ] {
        rig.closes(&LinkError::Closed, "before TLS").await;
        let mut peer = rig.server.accept().await;
        peer.say(&[b"INFO {\"tls_required\":true}\r\n", left].concat())
            .await;
        let reason = rig.dial_failed("before TLS").await;
        let expected = format!("{} bytes follow it before TLS", left.len());
        assert_eq!(reason, LinkError::InfoMalformed(expected));
        assert_eq!(peer.hear_rest().await, b"", "{}", left.escape_ascii());
        rig.comes_back("before TLS").await;
    }
}

/// A server that withholds TLS hears nothing at all.
#[tokio::test]
async fn a_server_without_tls_hears_nothing_where_tls_is_required() {
    for info in [
        INFO,
        b"INFO {\"tls_verify\":true}\r\n",
        b"INFO {\"tls_required\":false}\r\n",
    ] {
        let server = Server::listen().await;
        let address = server.address();
        let options = ConnectOptions::new()
            .user_and_password("u", "canary")
            .require_tls(true);
        let (connected, heard) = tokio::join!(options.connect(&address), async {
            let mut peer = server.accept().await;
            peer.say(&[info, b"PONG\r\n"].concat()).await;
            peer.hear_rest().await
        });
        let error = connected.unwrap_err();
        let source = error.source().unwrap().downcast_ref::<LinkError>();
        assert_eq!(source, Some(&LinkError::TlsNotOffered));
        assert_eq!(heard, b"");
    }
}
