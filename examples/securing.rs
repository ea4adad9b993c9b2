//! Securing connections: who we are, and with whom we speak.
//!
//! User and password, and token, are shown with embedded servers. What else there is needs a
//! nats-server that is configured for it: `NATS_URL` names it, and `NATS_NKEY` (a seed),
//! `NATS_CREDS` (a file) or `NATS_CA` (a file) say what to show.
//!
//! `cargo run --features broker,tls --example securing`
#![allow(
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    clippy::arithmetic_side_effects,
    reason = "an example says what it does, and is about one thing at a time"
)]

mod server;

use std::env;

use natseq::broker::{BrokerOptions, Credentials};
use natseq::client::{ErrorKind, TlsOptions};
use natseq::session::LinkError;
use natseq::{Client, ConnectOptions};

use server::{Embedded, Outcome};

#[tokio::main]
async fn main() -> Outcome {
    run().await?;
    let url = env::var("NATS_URL").unwrap_or_else(|_| "localhost".to_owned());
    match env::var("NATS_CA") {
        Ok(file) => tls(&url, &file).await?,
        Err(_) => println!("TLS: left out without NATS_CA"),
    }
    Ok(())
}

/// What needs no other server.
pub(crate) async fn run() -> Outcome {
    user_and_password().await?;
    token().await
}

/// User and password stand in the options, or in the URL, percent-encoded where need be.
async fn user_and_password() -> Outcome {
    let mut options = BrokerOptions::default();
    options.credentials = Some(Credentials::UserAndPassword(
        "fruit".to_owned(),
        "p@ss".into(),
    ));
    let server = Embedded::start(options).await?;
    let client = ConnectOptions::new()
        .user_and_password("fruit", "p@ss")
        .connect(&server.url())
        .await?;
    close(client).await?;

    let url = server.url().replace("nats://", "nats://fruit:p%40ss@");
    let client = natseq::connect(&url).await?;
    // The address does not show them.
    let shown = client.server().map(|server| server.to_string());
    assert_eq!(shown, Some(server.url()));
    close(client).await?;

    let wrong = ConnectOptions::new().user_and_password("fruit", "guess");
    let refused = wrong.connect(&server.url()).await.err().ok_or("let in")?;
    assert_eq!(refused.kind(), ErrorKind::Connect);
    let source = std::error::Error::source(&refused);
    let reason: &LinkError = source
        .and_then(|source| source.downcast_ref())
        .ok_or("no reason")?;
    println!("wrong password: {reason}");
    assert!(reason.is_auth());
    Ok(())
}

/// A token is a password without a user.
async fn token() -> Outcome {
    let mut options = BrokerOptions::default();
    options.credentials = Some(Credentials::Token("s3cret".into()));
    let server = Embedded::start(options).await?;
    let client = ConnectOptions::new()
        .token("s3cret")
        .connect(&server.url())
        .await?;
    close(client).await?;
    let url = server.url().replace("nats://", "nats://s3cret@");
    close(natseq::connect(&url).await?).await
}

/// With `tls` the connection is encrypted, or there is none: a server that does not offer TLS is
/// left before anything secret is said. Without it TLS is used where the server or the URL asks.
pub(crate) async fn tls(url: &str, authority_file: &str) -> Outcome {
    let tls = TlsOptions::new()
        // Nobody but this authority is trusted. By default the system's are.
        .native_roots(false)
        .root_certificate_file(authority_file);
    let client = ConnectOptions::new().tls(tls).connect(url).await?;
    println!("TLS: connected to {:?}", client.server());
    close(client).await
}

async fn close(client: Client) -> Outcome {
    client.flush().await?;
    client.close().await;
    Ok(())
}
