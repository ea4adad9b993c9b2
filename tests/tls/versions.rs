//! Versions of TLS, and the order of INFO and the handshake.

use natseq::client::rustls::ProtocolVersion;
use natseq::client::rustls::version::{TLS12, TLS13};

use natseq::session::{LinkError, TlsError};
use tokio::io::AsyncWriteExt;

use crate::rig::{
    INFO, PASSWORD, Script, USER, connected, exchange, nothing_in_clear, quick, recording, refused,
    server_config, server_config_of, trusting, url, welcome,
};
use crate::support::certificates::Authority;
use crate::support::{Folder, RealServer, servers};

#[tokio::test]
async fn servers_that_speak_one_version_alone_are_understood() {
    let authority = Authority::new();
    let identity = authority.issue(&["localhost"]);
    for (version, expected) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let config = server_config_of(&identity, &[version]);
        let script = Script::listen().await;
        let proxy = recording(script.address());
        let options = quick().tls(trusting(&authority));
        let url = url("tls", "localhost", proxy.address());
        let serving = async {
            let mut stream = script.upgrade(INFO, &config).await.unwrap();
            welcome(&mut stream).await;
            stream
        };
        let (client, stream) = tokio::join!(options.connect(&url), serving);
        assert!(client.unwrap().is_connected());
        assert_eq!(stream.get_ref().1.protocol_version(), Some(expected));
        nothing_in_clear(&proxy);
    }
}

#[tokio::test]
async fn with_handshake_first_not_even_info_is_in_clear() {
    let authority = Authority::new();
    let identity = authority.issue(&["localhost"]);
    for binary in servers("handshake first") {
        let folder = Folder::new();
        let (certificate, key) = identity.write(&folder.path, "server");
        let files = format!("cert_file: {certificate:?}, key_file: {key:?}");
        let options = quick().tls(trusting(&authority).handshake_first(true));

        // A server that says INFO first is refused: there is no falling back.
        let plain = RealServer::start(&binary, &format!("tls {{ {files} }}"));
        let proxy = recording(plain.address());
        let reason = refused(&options, &url("nats", "localhost", proxy.address())).await;
        assert_eq!(
            reason,
            LinkError::Tls(TlsError::NotTls),
            "{}",
            plain.version()
        );
        nothing_in_clear(&proxy);

        // The option is known since 2.10.4.
        if plain.version().starts_with("2.9.") {
            continue;
        }
        let config = format!(
            "tls {{ {files}, handshake_first: true }}\nauthorization {{ user: {USER}, password: {PASSWORD} }}"
        );
        let mut server = RealServer::start(&binary, &config);
        let proxy = recording(server.address());
        let url = url("nats", "localhost", proxy.address());
        let client = options.connect(&url).await.unwrap();
        exchange(&client).await;
        let mut events = client.events();
        server.restart();
        connected(&mut events).await;
        exchange(&client).await;
        client.close().await;
        nothing_in_clear(&proxy);
        let clear = proxy.passed(0).to_client;
        assert!(!clear.windows(4).any(|bytes| bytes == b"INFO"));
    }
}

#[tokio::test]
async fn with_handshake_first_info_and_more_may_come_at_once_and_all_is_checked() {
    let authority = Authority::new();
    let config = server_config(&authority.issue(&["localhost"]));
    let script = Script::listen().await;
    let proxy = recording(script.address());
    let url = url("nats", "localhost", proxy.address());
    let options = quick().tls(trusting(&authority).handshake_first(true));
    // What a server says under TLS needs no upgrade, whether it names TLS or not.
    for info in [
        INFO.to_owned(),
        INFO.replace("true,\"tls_available\":true", "false"),
    ] {
        let serving = async {
            let stream = script.greet("").await;
            let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::clone(&config));
            let mut stream = acceptor.accept(stream).await.unwrap();
            let greeting = format!("{info}\r\n+OK\r\n");
            stream.write_all(greeting.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            let connect = welcome(&mut stream).await;
            assert!(connect.contains(PASSWORD), "{connect}");
            stream
        };
        let (client, _stream) = tokio::join!(options.clone().connect(&url), serving);
        assert!(client.unwrap().is_connected());
        nothing_in_clear(&proxy);
    }
    // Another certificate is refused as after INFO.
    let stranger = server_config(&Authority::named("another").issue(&["localhost"]));
    let serving = async {
        let stream = script.greet("").await;
        let acceptor = tokio_rustls::TlsAcceptor::from(stranger);
        assert!(acceptor.accept(stream).await.is_err());
    };
    let (reason, ()) = tokio::join!(refused(&options, &url), serving);
    assert_eq!(reason, LinkError::Tls(TlsError::UnknownIssuer));
    nothing_in_clear(&proxy);
}
