//! Servers that want to see a certificate of the client's.

use std::sync::Arc;

use natseq::client::rustls::crypto::ring;
use natseq::client::rustls::pki_types::CertificateDer;
use natseq::client::rustls::pki_types::pem::PemObject;
use natseq::client::rustls::version::{TLS12, TLS13};
use natseq::client::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use natseq::client::{ErrorKind, TlsOptions};
use natseq::session::{LinkError, TlsError};

use crate::rig::{exchange, nothing_in_clear, quick, recording, refused, trusting, url};
use crate::support::certificates::Authority;
use crate::support::{Folder, RealServer, ServerBinary, servers};

#[tokio::test]
async fn a_client_certificate_is_shown_to_a_server_that_asks() {
    let authority = Authority::new();
    let me = authority.issue(&["me.example.org"]);
    let stranger = Authority::named("another").issue(&["me.example.org"]);
    for binary in servers("mutual TLS") {
        let folder = Folder::new();
        let (certificate, key) = me.write(&folder.path, "me");
        let server = asking(&binary, &folder, &authority, false);
        let proxy = recording(server.address());
        let url = url("tls", "localhost", proxy.address());
        for tls in [
            trusting(&authority).client_certificate(&me.certificate, &me.key),
            trusting(&authority).client_certificate_files(&certificate, &key),
        ] {
            let client = quick().tls(tls).connect(&url).await.unwrap();
            exchange(&client).await;
            client.close().await;
        }
        // Under TLS 1.3 the refusal comes behind the handshake, in whatever form the system lets it.
        for tls in [
            trusting(&authority),
            trusting(&authority).client_certificate(&stranger.certificate, &stranger.key),
        ] {
            let error = quick().tls(tls).connect(&url).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Connect, "{}", server.version());
        }
        // Under TLS 1.2 it is part of it.
        let options = quick().tls(TlsOptions::new().config(own_config(&authority, &TLS12)));
        let reason = refused(&options, &url).await;
        assert!(
            matches!(&reason, LinkError::Tls(TlsError::Refused(_))),
            "{}: {reason:?}",
            server.version()
        );
        nothing_in_clear(&proxy);
    }
}

/// The server speaks first under TLS alone: whom it refuses hears nothing of it.
#[tokio::test]
async fn with_handshake_first_a_client_without_its_certificate_is_refused_as_well() {
    let authority = Authority::new();
    let me = authority.issue(&["me.example.org"]);
    for binary in servers("mutual TLS first") {
        // The option is known since 2.10.4.
        if binary.version.starts_with("2.9.") {
            continue;
        }
        let folder = Folder::new();
        let server = asking(&binary, &folder, &authority, true);
        let proxy = recording(server.address());
        let url = url("tls", "localhost", proxy.address());
        let first = trusting(&authority).handshake_first(true);
        let shown = first.clone().client_certificate(&me.certificate, &me.key);
        let client = quick().tls(shown).connect(&url).await.unwrap();
        exchange(&client).await;
        client.close().await;
        // Under TLS 1.3 the refusal comes behind the handshake, in whatever form the system lets it.
        let reason = refused(&quick().tls(first), &url).await;
        assert!(
            matches!(
                &reason,
                LinkError::Tls(TlsError::Refused(_)) | LinkError::Closed | LinkError::Io { .. }
            ),
            "{}: {reason:?}",
            server.version()
        );
        // Under TLS 1.2 it is part of it.
        let tls = TlsOptions::new().config(own_config(&authority, &TLS12));
        let reason = refused(&quick().tls(tls.handshake_first(true)), &url).await;
        assert!(
            matches!(&reason, LinkError::Tls(TlsError::Refused(_))),
            "{}: {reason:?}",
            server.version()
        );
        nothing_in_clear(&proxy);
    }
}

/// A server that checks who its clients are, whoever they say to be.
fn asking(
    binary: &ServerBinary,
    folder: &Folder,
    authority: &Authority,
    is_first: bool,
) -> RealServer {
    let (certificate, key) = authority
        .issue(&["localhost"])
        .write(&folder.path, "server");
    let clients = folder.path.join("clients.pem");
    std::fs::write(&clients, &authority.pem).unwrap();
    let first = if is_first {
        ", handshake_first: true"
    } else {
        ""
    };
    let config = format!(
        "tls {{ cert_file: {certificate:?}, key_file: {key:?}, ca_file: {clients:?}, verify: true{first} }}"
    );
    RealServer::start(binary, &config)
}

/// A configuration of the caller's own, for one version.
pub(crate) fn own_config(
    authority: &Authority,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[tokio::test]
async fn a_configuration_of_the_callers_is_used_with_each_version_of_tls() {
    let authority = Authority::new();
    let identity = authority.issue(&["localhost"]);
    for binary in servers("own TLS configuration") {
        let folder = Folder::new();
        let (certificate, key) = identity.write(&folder.path, "server");
        let config = format!("tls {{ cert_file: {certificate:?}, key_file: {key:?} }}");
        let server = RealServer::start(&binary, &config);
        let proxy = recording(server.address());
        let url = url("tls", "localhost", proxy.address());
        for version in [&TLS12, &TLS13] {
            let tls = TlsOptions::new().config(own_config(&authority, version));
            let client = quick().tls(tls).connect(&url).await.unwrap();
            exchange(&client).await;
            client.close().await;
        }
        let tls = TlsOptions::new().config(own_config(&Authority::named("another"), &TLS13));
        let reason = refused(&quick().tls(tls), &url).await;
        assert_eq!(reason, LinkError::Tls(TlsError::UnknownIssuer));
        nothing_in_clear(&proxy);
    }
}
