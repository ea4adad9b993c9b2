//! Certificates that change while the client runs.

use natseq::client::{Client, ConnectOptions};
use natseq::session::{LinkError, TlsError};

use crate::rig::{
    connected, dial_failed, exchange, nothing_in_clear, quick, recording, trusting, url,
};
use crate::support::certificates::Authority;
use crate::support::{Folder, RealServer, servers};

/// The server comes back with a certificate of a new authority; it is refused until the client's file of
/// trusted roots names that authority.
#[tokio::test]
async fn a_renewed_authority_is_trusted_once_its_file_says_so() {
    let (old, new) = (Authority::named("old"), Authority::named("new"));
    for binary in servers("TLS rotation") {
        let folder = Folder::new();
        let roots = folder.path.join("roots.pem");
        std::fs::write(&roots, &old.pem).unwrap();
        let (certificate, key) = old.issue(&["localhost"]).write(&folder.path, "server");
        let config = format!("tls {{ cert_file: {certificate:?}, key_file: {key:?} }}");
        let mut server = RealServer::start(&binary, &config);
        let proxy = recording(server.address());
        let tls = natseq::client::TlsOptions::new()
            .native_roots(false)
            .root_certificate_file(&roots);
        let client = connect(quick().tls(tls), &proxy).await;
        let mut events = client.events();

        // Of the same authority: nothing is to be told to the client.
        old.issue(&["localhost"]).write(&folder.path, "server");
        server.restart();
        connected(&mut events).await;
        exchange(&client).await;

        new.issue(&["localhost"]).write(&folder.path, "server");
        server.restart();
        loop {
            // Before that the port was closed.
            if dial_failed(&mut events).await == LinkError::Tls(TlsError::UnknownIssuer) {
                break;
            }
        }
        std::fs::write(&roots, &new.pem).unwrap();
        connected(&mut events).await;
        exchange(&client).await;
        nothing_in_clear(&proxy);
        client.close().await;
    }
}

/// The server takes clients of another authority from now on; ours is let in once its files hold a new
/// certificate.
#[tokio::test]
async fn a_renewed_client_certificate_is_shown_without_a_restart() {
    let authority = Authority::new();
    let (old, new) = (Authority::named("old"), Authority::named("new"));
    for binary in servers("TLS client rotation") {
        let folder = Folder::new();
        let (certificate, key) = authority
            .issue(&["localhost"])
            .write(&folder.path, "server");
        let clients = folder.path.join("clients.pem");
        std::fs::write(&clients, &old.pem).unwrap();
        let (mine, my_key) = old.issue(&["me.example.org"]).write(&folder.path, "me");
        let config = format!(
            "tls {{ cert_file: {certificate:?}, key_file: {key:?}, ca_file: {clients:?}, verify: true }}"
        );
        let mut server = RealServer::start(&binary, &config);
        let proxy = recording(server.address());
        let tls = trusting(&authority).client_certificate_files(&mine, &my_key);
        let client = connect(quick().tls(tls), &proxy).await;
        let mut events = client.events();

        std::fs::write(&clients, &new.pem).unwrap();
        server.restart();
        // It dials in vain for as long as it shows the old one.
        for _ in 0..3 {
            dial_failed(&mut events).await;
        }
        assert!(!client.is_connected());
        new.issue(&["me.example.org"]).write(&folder.path, "me");
        connected(&mut events).await;
        exchange(&client).await;
        nothing_in_clear(&proxy);
        client.close().await;
    }
}

async fn connect(options: ConnectOptions, proxy: &crate::support::proxy::Proxy) -> Client {
    let client = options
        .connect(&url("tls", "localhost", proxy.address()))
        .await
        .unwrap();
    exchange(&client).await;
    client
}
