//! Servers, and those who stand between, that a client must refuse before it says who it is.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use natseq::client::{ConnectOptions, Event};
use natseq::session::{LinkError, TlsError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::rig::{
    INFO, PASSWORD, Script, USER, connected, dial_failed, event, exchange, hear_all,
    nothing_in_clear, quick, recording, refused, server_config, trusting, url, welcome,
};
use crate::support::certificates::{Authority, Identity};
use crate::support::proxy::{Cut, Way};
use crate::support::{Folder, RealServer, servers};

/// What a man in the middle makes of an INFO: the same, without the TLS.
fn stripped() -> String {
    INFO.replace("true,\"tls_available\":true", "false")
}

#[tokio::test]
async fn a_server_that_withholds_tls_hears_nothing_secret() {
    let authority = Authority::new();
    for (scheme, options) in [
        ("tls", quick()),
        ("nats", quick().require_tls(true)),
        ("nats", quick().tls(trusting(&authority))),
        (
            "nats",
            quick().require_tls(true).user_and_password(USER, PASSWORD),
        ),
    ] {
        let script = Script::listen().await;
        let url = url(scheme, "localhost", script.address());
        let hearing = async { hear_all(script.greet(&format!("{}\r\n", stripped())).await).await };
        let (reason, said) = tokio::join!(refused(&options, &url), hearing);
        assert_eq!(reason, LinkError::TlsNotOffered);
        assert_eq!(said, b"", "{}", said.escape_ascii());
    }
}

/// The policy is the client's: a server that another one announced is held to it as well.
#[tokio::test]
async fn an_announced_server_that_withholds_tls_hears_nothing_secret() {
    for scheme in ["tls", "nats"] {
        let authority = Authority::new();
        let config = server_config(&authority.issue(&["localhost"]));
        let (honest, stripping) = (Script::listen().await, Script::listen().await);
        let proxy = recording(stripping.address());
        let info = INFO.replace(
            "\"proto\":1",
            &format!("\"proto\":1,\"connect_urls\":[\"{}\"]", proxy.address()),
        );
        let options = quick().tls(trusting(&authority));
        let url = url(scheme, "localhost", honest.address());
        let serving = async {
            let mut stream = honest.upgrade(&info, &config).await.unwrap();
            let connect = welcome(&mut stream).await;
            assert!(connect.contains(PASSWORD), "{connect}");
            stream
        };
        let (client, stream) = tokio::join!(options.connect(&url), serving);
        let client = client.unwrap();
        let mut events = client.events();
        // The client goes to the announced server, which withholds TLS, and comes back.
        drop(stream);
        let hearing = async {
            let greeting = format!("{}\r\n", stripped());
            hear_all(stripping.greet(&greeting).await).await
        };
        let returning = async {
            // It may well have come back to the honest one in between.
            loop {
                if let Some(mut stream) = honest.upgrade(&info, &config).await {
                    welcome(&mut stream).await;
                }
            }
        };
        let refusing = async {
            tokio::select! {
                reason = async {
                    loop {
                        if let Event::DialFailed { server, reason } = event(&mut events).await
                            && server.port() == proxy.address().port()
                        {
                            return (server, reason);
                        }
                    }
                } => reason,
                () = returning => unreachable!("it never ends"),
            }
        };
        let ((server, reason), said) = tokio::join!(refusing, hearing);
        assert_eq!(reason, LinkError::TlsNotOffered);
        assert_eq!(server.tls_name(), "localhost");
        assert_eq!(said, b"", "{}", said.escape_ascii());
        nothing_in_clear(&proxy);
    }
}

#[tokio::test]
async fn bytes_between_info_and_tls_are_fatal() {
    let authority = Authority::new();
    let options = quick().tls(trusting(&authority));
    for behind in ["+OK\r\n", "INFO {\"tls_required\":false}\r\n", "\x16", " "] {
        let script = Script::listen().await;
        let url = url("tls", "localhost", script.address());
        let greeting = format!("{INFO}\r\n{behind}");
        let hearing = async { hear_all(script.greet(&greeting).await).await };
        let (reason, said) = tokio::join!(refused(&options, &url), hearing);
        assert!(matches!(reason, LinkError::InfoMalformed(_)), "{reason:?}");
        assert_eq!(said, b"", "{}", said.escape_ascii());
    }
}

/// INFO comes in clear, so whoever can change it can name a host for which he has a certificate.
#[tokio::test]
async fn the_host_in_info_is_not_believed() {
    let authority = Authority::new();
    let info = INFO.replace("\"proto\":1", "\"proto\":1,\"host\":\"evil.example.org\"");
    let evil = server_config(&authority.issue(&["evil.example.org"]));
    let script = Script::listen().await;
    let proxy = recording(script.address());
    let options = quick().tls(trusting(&authority));
    let url = url("tls", "localhost", proxy.address());
    let (reason, stream) = tokio::join!(refused(&options, &url), script.upgrade(&info, &evil));
    let expected = TlsError::WrongName("localhost".to_owned());
    assert_eq!(reason, LinkError::Tls(expected));
    assert!(stream.is_none());
    nothing_in_clear(&proxy);

    // The name in the URL counts, whatever INFO says.
    let honest = server_config(&authority.issue(&["localhost"]));
    let serving = async {
        let mut stream = script.upgrade(&info, &honest).await.unwrap();
        welcome(&mut stream).await;
        stream
    };
    let (client, _stream) = tokio::join!(options.connect(&url), serving);
    assert!(client.unwrap().is_connected());
    nothing_in_clear(&proxy);
}

/// Wrong host, unknown authority and expiry, with each of the real servers.
#[tokio::test]
async fn a_certificate_that_is_not_the_servers_is_refused_and_says_why() {
    let authority = Authority::new();
    let good = authority.issue(&["localhost"]);
    let wrong_name = TlsError::WrongName("localhost".to_owned());
    let cases: [(&str, Identity, TlsError); 4] = [
        (
            "host",
            authority.issue(&["elsewhere.example.org", "10.0.0.1"]),
            wrong_name,
        ),
        (
            "authority",
            Authority::named("another").issue(&["localhost"]),
            TlsError::UnknownIssuer,
        ),
        (
            "namesake",
            Authority::new().issue(&["localhost"]),
            TlsError::UnknownIssuer,
        ),
        (
            "expired",
            authority.issue_expired(&["localhost"]),
            TlsError::Expired,
        ),
    ];
    for binary in servers("TLS certificates") {
        let folder = Folder::new();
        let (certificate, key) = good.write(&folder.path, "server");
        let config = format!("tls {{ cert_file: {certificate:?}, key_file: {key:?} }}");
        let mut server = RealServer::start(&binary, &config);
        let proxy = recording(server.address());
        let options = quick().tls(trusting(&authority));
        let url = url("tls", "localhost", proxy.address());
        for (case, identity, expected) in &cases {
            identity.write(&folder.path, "server");
            server.restart();
            let reason = refused(&options, &url).await;
            let version = server.version();
            assert_eq!(reason, LinkError::Tls(expected.clone()), "{version} {case}");
        }
        nothing_in_clear(&proxy);
        // The same client, server and proxy with the right certificate.
        good.write(&folder.path, "server");
        server.restart();
        exchange(&options.connect(&url).await.unwrap()).await;
        nothing_in_clear(&proxy);
    }
}

#[tokio::test]
async fn an_end_within_the_handshake_is_told() {
    let authority = Authority::new();
    let config = server_config(&authority.issue(&["localhost"]));
    let options = quick().tls(trusting(&authority));
    // Right behind INFO, and within the server's answer.
    for behind in [0_u64, 1, 5, 100] {
        let script = Script::listen().await;
        let proxy = recording(script.address());
        let url = url("tls", "localhost", proxy.address());
        let bytes = (INFO.len() + 2) as u64 + behind;
        proxy.cut_next(Way::ToClient, bytes, Cut::Close);
        let (reason, _) = tokio::join!(refused(&options, &url), script.upgrade(INFO, &config));
        assert_eq!(reason, LinkError::Tls(TlsError::Ended), "{behind}");
        nothing_in_clear(&proxy);
    }
}

/// It took the connection and never answers the hello.
#[tokio::test]
async fn a_server_that_is_silent_within_the_handshake_is_given_up_in_time() {
    let authority = Authority::new();
    let time = Duration::from_millis(200);
    for is_first in [false, true] {
        let script = Script::listen().await;
        let proxy = recording(script.address());
        let url = url("tls", "localhost", proxy.address());
        let tls = trusting(&authority).handshake_first(is_first);
        let options = quick().tls(tls).connect_timeout(time);
        let info = format!("{INFO}\r\n");
        let greeting = if is_first { "" } else { &info };
        let begun = Instant::now();
        let hearing = async { hear_all(script.greet(greeting).await).await };
        let (reason, said) = tokio::join!(refused(&options, &url), hearing);
        assert_eq!(reason, LinkError::HandshakeTimeout, "{is_first}");
        assert!(begun.elapsed() >= time, "{:?}", begun.elapsed());
        assert_eq!(said.first(), Some(&22), "a hello: {}", said.escape_ascii());
        nothing_in_clear(&proxy);
    }
}

/// Whenever the server leaves, and however, it is told, and the next connection is made as this one was.
#[tokio::test]
async fn an_end_behind_the_handshake_is_told_and_the_next_connection_is_made() {
    let authority = Authority::new();
    let config = server_config(&authority.issue(&["localhost"]));
    for is_first in [false, true] {
        for end in [End::AtOnce, End::BehindConnect, End::Reset] {
            let script = Script::listen().await;
            let proxy = recording(script.address());
            let url = url("tls", "localhost", proxy.address());
            let tls = trusting(&authority).handshake_first(is_first);
            let options = quick().tls(tls).retry_first_connect(true);
            let take = async || {
                let info = format!("{INFO}\r\n");
                let greeting = if is_first { "" } else { &info };
                let stream = script.greet(greeting).await;
                let acceptor = TlsAcceptor::from(Arc::clone(&config));
                let mut stream = acceptor.accept(stream).await.unwrap();
                if is_first {
                    stream.write_all(info.as_bytes()).await.unwrap();
                    stream.flush().await.unwrap();
                }
                stream
            };
            let client = options.connect(&url).await.unwrap();
            let mut events = client.events();
            for _ in 0..2 {
                let ending = async {
                    match end {
                        End::AtOnce => drop(take().await),
                        End::BehindConnect => {
                            let mut stream = take().await;
                            while stream.read_u8().await.unwrap() != b'\n' {}
                            stream.shutdown().await.unwrap();
                        }
                        End::Reset => {
                            let mut stream = take().await;
                            while stream.read_u8().await.unwrap() != b'\n' {}
                            proxy.cut(Cut::Reset);
                        }
                    }
                };
                let (reason, ()) = tokio::join!(dial_failed(&mut events), ending);
                let is_told = match end {
                    End::AtOnce => is_io(&reason, ErrorKind::UnexpectedEof),
                    End::BehindConnect => reason == LinkError::Closed,
                    End::Reset => is_io(&reason, ErrorKind::ConnectionReset),
                };
                assert!(is_told, "{is_first} {end:?}: {reason:?}");
            }
            let serving = async {
                let mut stream = take().await;
                welcome(&mut stream).await;
                stream
            };
            let ((), _stream) = tokio::join!(connected(&mut events), serving);
            nothing_in_clear(&proxy);
        }
    }
}

fn is_io(reason: &LinkError, expected: ErrorKind) -> bool {
    matches!(reason, LinkError::Io { kind, .. } if *kind == expected)
}

/// When a server leaves.
#[derive(Debug, Clone, Copy)]
enum End {
    /// Without a word, the end of TLS included.
    AtOnce,
    /// When it has heard who we are, and in good order.
    BehindConnect,
    /// Then, with a reset.
    Reset,
}

#[tokio::test]
async fn a_server_that_promises_tls_and_speaks_plainly_is_refused() {
    let script = Script::listen().await;
    let authority = Authority::new();
    let proxy = recording(script.address());
    let url = url("tls", "localhost", proxy.address());
    let options = quick().tls(trusting(&authority));
    let speaking = async {
        let mut stream = script.greet(&format!("{INFO}\r\n")).await;
        // After the hello, so that it is no leftover of INFO.
        stream.read_u8().await.unwrap();
        stream.write_all(b"+OK\r\nPING\r\nPING\r\n").await.unwrap();
        hear_all(stream).await
    };
    let (reason, _) = tokio::join!(refused(&options, &url), speaking);
    assert_eq!(reason, LinkError::Tls(TlsError::NotTls));
    nothing_in_clear(&proxy);
}

#[tokio::test]
async fn certificates_for_addresses_and_other_names_are_accepted_as_asked() {
    let authority = Authority::new();
    for (names, host, server_name) in [
        (&["127.0.0.1"][..], "127.0.0.1", None),
        (&["nats.example.org"], "127.0.0.1", Some("nats.example.org")),
        (&["nats.example.org"], "localhost", Some("nats.example.org")),
        (&["::1"], "localhost", Some("::1")),
    ] {
        let config = server_config(&authority.issue(names));
        let script = Script::listen().await;
        let mut tls = trusting(&authority);
        if let Some(name) = server_name {
            tls = tls.server_name(name);
        }
        let url = url("tls", host, script.address());
        let options = quick().tls(tls);
        let serving = async {
            let mut stream = script.upgrade(INFO, &config).await.expect(host);
            welcome(&mut stream).await;
            stream
        };
        let (client, stream) = tokio::join!(options.connect(&url), serving);
        assert!(client.unwrap().is_connected());
        // Only a name is shown to the server before it shows its certificate.
        let shown = stream.get_ref().1.server_name().map(str::to_owned);
        let expected = server_name.filter(|name| *name != "::1");
        assert_eq!(
            shown.as_deref(),
            expected.or_else(|| (host == "localhost" && server_name.is_none()).then_some(host))
        );
    }
    let script = Script::listen().await;
    let options = quick().tls(trusting(&authority).server_name("no name"));
    let url = url("tls", "localhost", script.address());
    let hearing = async { hear_all(script.greet(&format!("{INFO}\r\n")).await).await };
    let (reason, said) = tokio::join!(refused(&options, &url), hearing);
    let expected = "`no name` is no name that a certificate can have".to_owned();
    assert_eq!(reason, LinkError::Tls(TlsError::Options(expected)));
    assert_eq!(said, b"");
}

#[tokio::test]
async fn a_lost_connection_is_replaced_by_one_that_is_checked_as_well() {
    let authority = Authority::new();
    let good = server_config(&authority.issue(&["localhost"]));
    let bad = server_config(&Authority::named("another").issue(&["localhost"]));
    let script = Script::listen().await;
    let proxy = recording(script.address());
    let options = quick().tls(trusting(&authority));
    let url = url("tls", "localhost", proxy.address());
    let serving = async {
        let mut stream = script.upgrade(INFO, &good).await.unwrap();
        welcome(&mut stream).await;
        stream
    };
    let (client, stream) = tokio::join!(options.connect(&url), serving);
    let client = client.unwrap();
    let mut events = client.events();
    drop(stream);
    let (reason, _) = tokio::join!(dial_failed(&mut events), script.upgrade(INFO, &bad));
    assert_eq!(reason, LinkError::Tls(TlsError::UnknownIssuer));
    let serving = async {
        let mut stream = script.upgrade(INFO, &good).await.unwrap();
        welcome(&mut stream).await;
        stream
    };
    let ((), _stream) = tokio::join!(connected(&mut events), serving);
    nothing_in_clear(&proxy);
}

#[tokio::test]
async fn options_that_cannot_be_used_fail_the_connect_and_say_why() {
    let authority = Authority::new();
    let folder = Folder::new();
    let missing = folder.path.join("missing.pem");
    let identity = authority.issue(&["me"]);
    let other = authority.issue(&["other"]);
    for (tls, expected) in [
        (
            trusting(&authority).root_certificate_file(&missing),
            "missing.pem: No such file",
        ),
        (
            trusting(&authority).root_certificates("no PEM"),
            "holds no PEM certificate",
        ),
        (
            trusting(&authority).client_certificate("", &identity.key),
            "client certificate",
        ),
        (
            trusting(&authority).client_certificate(&identity.certificate, "x"),
            "client key",
        ),
        (
            trusting(&authority).client_certificate(&identity.certificate, &other.key),
            "keys",
        ),
        (
            natseq::client::TlsOptions::new().native_roots(false),
            "no trusted root certificate",
        ),
    ] {
        let script = Script::listen().await;
        let shown = format!("{tls:?}");
        assert!(!shown.contains("PRIVATE KEY"), "{shown}");
        let options = ConnectOptions::new().tls(tls);
        let url = url("tls", "localhost", script.address());
        let hearing = async { hear_all(script.greet(&format!("{INFO}\r\n")).await).await };
        let (reason, said) = tokio::join!(refused(&options, &url), hearing);
        assert!(
            matches!(reason, LinkError::Tls(TlsError::Options(_))),
            "{reason:?}"
        );
        assert!(reason.to_string().contains(expected), "{reason}");
        assert_eq!(said, b"");
    }
}
