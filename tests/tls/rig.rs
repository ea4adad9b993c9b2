//! A scripted server that speaks TLS or withholds it, a real one, and the bytes that passed in clear.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use natseq::client::rustls::crypto::ring;
use natseq::client::rustls::pki_types::pem::PemObject;
use natseq::client::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use natseq::client::rustls::version::{TLS12, TLS13};
use natseq::client::rustls::{ServerConfig, SupportedProtocolVersion};
use natseq::client::{Client, ConnectOptions, Event, Events, TlsOptions};
use natseq::session::{LinkError, RedialOptions};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::support::PATIENCE;
use crate::support::certificates::{Authority, Identity};
use crate::support::proxy::Proxy;

/// What no byte in clear may hold.
pub(crate) const USER: &str = "canary-user";
pub(crate) const PASSWORD: &str = "canary-password";

pub(crate) const INFO: &str = r#"INFO {"server_id":"S","version":"2.15.1","headers":true,"max_payload":1048576,"proto":1,"tls_required":true,"tls_available":true}"#;

/// Options that trust `authority` alone and redial soon.
pub(crate) fn trusting(authority: &Authority) -> TlsOptions {
    TlsOptions::new()
        .native_roots(false)
        .root_certificates(&authority.pem)
}

pub(crate) fn quick() -> ConnectOptions {
    let redial = RedialOptions {
        pause_min: Duration::from_millis(1),
        pause_max: Duration::from_millis(20),
        ..RedialOptions::default()
    };
    ConnectOptions::new().redial(redial)
}

/// The URL, with the secrets in it.
pub(crate) fn url(scheme: &str, host: &str, address: SocketAddr) -> String {
    format!("{scheme}://{USER}:{PASSWORD}@{host}:{}", address.port())
}

/// Connects and expects that it is refused; returns why.
pub(crate) async fn refused(options: &ConnectOptions, url: &str) -> LinkError {
    let connecting = timeout(PATIENCE, options.clone().connect(url));
    let error = connecting
        .await
        .unwrap()
        .expect_err("this server must be refused");
    let source = std::error::Error::source(&error).unwrap();
    source.downcast_ref::<LinkError>().unwrap().clone()
}

/// Fails when a secret, or CONNECT, passed in clear in any connection through `proxy`.
pub(crate) fn nothing_in_clear(proxy: &Proxy) {
    assert!(proxy.accepted() > 0, "nothing passed at all");
    for connection in 0..proxy.accepted() {
        let said = proxy.passed(connection).to_server;
        for word in [USER, PASSWORD, "CONNECT"] {
            let found = said
                .windows(word.len())
                .any(|bytes| bytes == word.as_bytes());
            assert!(!found, "connection {connection}: {}", said.escape_ascii());
        }
    }
}

/// A recording proxy in front of `server`.
pub(crate) fn recording(server: SocketAddr) -> Proxy {
    let proxy = Proxy::start(server, 1);
    proxy.record();
    proxy
}

pub(crate) async fn event(events: &mut Events) -> Event {
    timeout(PATIENCE, events.next()).await.unwrap().unwrap()
}

pub(crate) async fn connected(events: &mut Events) {
    while !matches!(event(events).await, Event::Connected { .. }) {}
}

pub(crate) async fn dial_failed(events: &mut Events) -> LinkError {
    loop {
        if let Event::DialFailed { reason, .. } = event(events).await {
            return reason;
        }
    }
}

/// Publishes and hears it.
pub(crate) async fn exchange(client: &Client) {
    let mut sub = client.subscribe("t").unwrap();
    client.publish("t", "hello").await.unwrap();
    let message = timeout(PATIENCE, sub.next()).await.unwrap().unwrap();
    assert_eq!(message.payload(), b"hello");
}

/// A listening socket whose connections follow the test's script.
pub(crate) struct Script {
    listener: TcpListener,
}

impl Script {
    pub(crate) async fn listen() -> Self {
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Takes the next connection and says `greeting` in clear.
    pub(crate) async fn greet(&self, greeting: &str) -> TcpStream {
        let accepting = timeout(PATIENCE, self.listener.accept());
        let (mut stream, _) = accepting.await.expect("the client dials").unwrap();
        stream.write_all(greeting.as_bytes()).await.unwrap();
        stream
    }

    /// Takes the next connection through INFO and TLS; `None` when the client breaks off.
    pub(crate) async fn upgrade(
        &self,
        info: &str,
        config: &Arc<ServerConfig>,
    ) -> Option<TlsStream<TcpStream>> {
        let stream = self.greet(&format!("{info}\r\n")).await;
        let accepting = TlsAcceptor::from(Arc::clone(config)).accept(stream);
        timeout(PATIENCE, accepting).await.unwrap().ok()
    }
}

/// Reads CONNECT and PING, answers, and returns the CONNECT.
pub(crate) async fn welcome(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
    let mut said = Vec::new();
    while !said.ends_with(b"PING\r\n") {
        let count = timeout(PATIENCE, stream.read_buf(&mut said)).await.unwrap();
        assert_ne!(count.unwrap(), 0, "{}", said.escape_ascii());
    }
    stream.write_all(b"PONG\r\n").await.unwrap();
    stream.flush().await.unwrap();
    String::from_utf8(said).unwrap()
}

/// Everything that the client says until it hangs up.
pub(crate) async fn hear_all(mut stream: TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    // A reset is an end too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut said))
        .await
        .unwrap();
    said
}

/// What a scripted server shows.
pub(crate) fn server_config(identity: &Identity) -> Arc<ServerConfig> {
    server_config_of(identity, &[&TLS13, &TLS12])
}

pub(crate) fn server_config_of(
    identity: &Identity,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Arc::new(config)
}
