//! Securing connections: who we are, and with whom we speak.
//!
//! User and password, token and callback are shown with embedded servers. The others need a
//! nats-server that is configured for them, at `NATS_URL`: set `NATS_SEED` to a seed, `NATS_CREDS`
//! to a file, or `NATS_CA` (and `NATS_CERT` and `NATS_KEY`) to files in PEM.
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

use natseq::broker::{self, BrokerOptions};
use natseq::client::{Credentials, ErrorKind, TlsOptions};
use natseq::session::LinkError;
use natseq::{Client, ConnectOptions};

use server::{Embedded, Outcome};

#[tokio::main]
async fn main() -> Outcome {
    run().await?;
    let url = env::var("NATS_URL").unwrap_or_else(|_| "localhost".to_owned());
    match env::var("NATS_SEED") {
        Ok(seed) => nkey(&url, &seed).await?,
        Err(_) => println!("NKey: left out without NATS_SEED"),
    }
    match env::var("NATS_CREDS") {
        Ok(file) => credentials_file(&url, &file).await?,
        Err(_) => println!("credentials file: left out without NATS_CREDS"),
    }
    match env::var("NATS_CA") {
        Ok(authority) => {
            tls(&url, &authority).await?;
            if let (Ok(certificate), Ok(key)) = (env::var("NATS_CERT"), env::var("NATS_KEY")) {
                mutual_tls(&url, &authority, &certificate, &key).await?;
            }
        }
        Err(_) => println!("TLS: left out without NATS_CA"),
    }
    Ok(())
}

/// What needs no other server.
pub(crate) async fn run() -> Outcome {
    user_and_password().await?;
    token().await?;
    asked_each_time().await
}

/// User and password stand in the options, or in the URL, percent-encoded where need be.
async fn user_and_password() -> Outcome {
    let mut options = BrokerOptions::default();
    options.credentials = Some(broker::Credentials::UserAndPassword(
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
    options.credentials = Some(broker::Credentials::Token("s3cret".into()));
    let server = Embedded::start(options).await?;
    let client = ConnectOptions::new()
        .token("s3cret")
        .connect(&server.url())
        .await?;
    close(client).await?;
    let url = server.url().replace("nats://", "nats://s3cret@");
    close(natseq::connect(&url).await?).await
}

/// What changes with time, or with the server, comes from a function that is asked at each attempt.
async fn asked_each_time() -> Outcome {
    let mut options = BrokerOptions::default();
    options.credentials = Some(broker::Credentials::Token("of today".into()));
    let server = Embedded::start(options).await?;
    let client = ConnectOptions::new()
        .auth_callback(|server, _nonce| async move {
            println!("callback: asked for {server}");
            Ok(Credentials::token("of today"))
        })
        .connect(&server.url())
        .await?;
    close(client).await
}

/// The seed never leaves the program: the server's nonce is signed with it, a fresh one each time.
/// Where the key is in a vault, `nkey_with` takes a function that signs.
pub(crate) async fn nkey(url: &str, seed: &str) -> Outcome {
    let client = ConnectOptions::new().nkey(seed)?.connect(url).await?;
    println!("NKey: connected to {:?}", client.server());
    close(client).await
}

/// A `.creds` file holds a user's JWT and its seed. It is read at each attempt, so that a renewed
/// file counts at once; `credentials` takes its text instead.
pub(crate) async fn credentials_file(url: &str, file: &str) -> Outcome {
    let options = ConnectOptions::new().credentials_file(file);
    let client = options.connect(url).await?;
    println!("credentials file: connected to {:?}", client.server());
    close(client).await
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

/// A server may ask who we are by certificate, too. It is read again at each attempt.
pub(crate) async fn mutual_tls(
    url: &str,
    authority_file: &str,
    certificate_file: &str,
    key_file: &str,
) -> Outcome {
    let tls = TlsOptions::new()
        .native_roots(false)
        .root_certificate_file(authority_file)
        .client_certificate_files(certificate_file, key_file);
    let client = ConnectOptions::new().tls(tls).connect(url).await?;
    println!("mutual TLS: connected to {:?}", client.server());
    close(client).await
}

async fn close(client: Client) -> Outcome {
    client.flush().await?;
    client.close().await;
    Ok(())
}
