//! Every example does what it says: with embedded servers, and with real ones of every version.
#![cfg(all(feature = "broker", feature = "tls"))]
#![allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "an example is a program, and each has its own view of what they share"
)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may panic"
)]

#[path = "../examples/connecting.rs"]
mod connecting;
#[path = "../examples/dialing.rs"]
mod dialing;
#[path = "auth/issuer.rs"]
mod issuer;
#[path = "../examples/monitoring.rs"]
mod monitoring;
#[path = "../examples/receiving.rs"]
mod receiving;
#[path = "../examples/reconnecting.rs"]
mod reconnecting;
#[path = "../examples/securing.rs"]
mod securing;
#[path = "../examples/sending.rs"]
mod sending;
#[path = "../examples/sequencing.rs"]
mod sequencing;
mod support;

use natseq::broker::{Broker, BrokerOptions};
use natseq::session::{KeyKind, KeyPair};

use issuer::Issuer;
use support::certificates::Authority;
use support::{Folder, RealServer, servers};

#[tokio::test(flavor = "multi_thread")]
async fn every_example_is_right_with_an_embedded_server() {
    let broker = Broker::listen("127.0.0.1:0", BrokerOptions::default())
        .await
        .unwrap();
    with_server(&format!("nats://{}", broker.local_addr().unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_is_right_with_real_servers() {
    for binary in servers("examples") {
        let running = RealServer::start(&binary, "");
        with_server(&running.url()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_that_bring_their_servers_are_right() {
    reconnecting::run().await.unwrap();
    securing::run().await.unwrap();
    sequencing::what_is_lost_is_won_back().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_keys_and_credentials_files_are_right() {
    for binary in servers("the examples of keys") {
        let user = KeyPair::new(KeyKind::User, &[7; 32]);
        let config = format!(
            "authorization {{ users: [{{ nkey: {} }}] }}",
            user.public_key()
        );
        let running = RealServer::start(&binary, &config);
        securing::nkey(&running.url(), user.seed().expose())
            .await
            .unwrap();

        let issuer = Issuer::new();
        let folder = Folder::new();
        let file = folder.path.join("user.creds");
        std::fs::write(&file, issuer::creds(&issuer.user(&user, None), &user)).unwrap();
        let running = RealServer::start(&binary, &issuer.config());
        securing::credentials_file(&running.url(), file.to_str().unwrap())
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_tls_are_right() {
    for binary in servers("the examples of TLS") {
        let folder = Folder::new();
        let authority = Authority::new();
        let identity = authority.issue(&["127.0.0.1"]);
        let file = |name: &str, content: &str| {
            let path = folder.path.join(name);
            std::fs::write(&path, content).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let certificate = file("both.pem", &identity.certificate);
        let key = file("both.key", &identity.key);
        let trusted = file("authority.pem", &authority.pem);
        let tls = format!("cert_file: {certificate:?}, key_file: {key:?}");
        let running = RealServer::start(&binary, &format!("tls {{ {tls} }}"));
        securing::tls(&running.url(), &trusted).await.unwrap();
        let tls = format!("{tls}, ca_file: {trusted:?}, verify: true");
        let running = RealServer::start(&binary, &format!("tls {{ {tls} }}"));
        securing::mutual_tls(&running.url(), &trusted, &certificate, &key)
            .await
            .unwrap();
    }
}

/// Runs what works with any server.
async fn with_server(url: &str) {
    connecting::run(url).await.unwrap();
    receiving::run(url).await.unwrap();
    sending::run(url).await.unwrap();
    monitoring::run(url).await.unwrap();
    dialing::run(url).await.unwrap();
    sequencing::run(url).await.unwrap();
}
