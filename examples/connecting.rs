//! Connecting: to which server, as whom, how long to try, and what can be asked of a connection.
//!
//! `cargo run --features broker --example connecting`
#![allow(
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    clippy::arithmetic_side_effects,
    reason = "an example says what it does, and is about one thing at a time"
)]

mod server;

use std::time::Duration;

use natseq::client::{Error, ErrorKind};
use natseq::session::ServerAddr;
use natseq::{Client, ConnectOptions};
use tokio::net::TcpListener;
use tokio::time::timeout;

use server::{Outcome, SOON, Server};

#[tokio::main]
async fn main() -> Outcome {
    let server = Server::find().await?;
    run(server.url()).await
}

/// Everything below, one after the other.
pub(crate) async fn run(url: &str) -> Outcome {
    default_server().await?;
    specific_server(url).await?;
    cluster(url).await?;
    connection_name(url).await?;
    connect_timeout().await?;
    ping_and_pong(url).await?;
    no_echo(url).await?;
    maximum_payload(url).await?;
    server_info(url).await?;
    pedantic_and_verbose(url).await
}

/// The default server is `nats://localhost:4222`: scheme and port may be left out.
async fn default_server() -> Outcome {
    let server: ServerAddr = "localhost".parse()?;
    assert_eq!(server.to_string(), "nats://localhost:4222");
    match natseq::connect("localhost").await {
        Ok(client) => client.close().await,
        // Nobody listens there on this machine.
        Err(error) => assert_eq!(error.kind(), ErrorKind::Connect),
    }
    Ok(())
}

/// A URL names a server; user and password, or a token, may stand in it.
async fn specific_server(url: &str) -> Outcome {
    let client = natseq::connect(url).await?;
    client.flush().await?;
    assert!(client.is_connected());
    client.close().await;
    Ok(())
}

/// Of a list, in one string with commas, the first server that accepts us is taken.
///
/// They are dialed in random order, so that many clients spread over them, unless we say
/// otherwise. Servers that a server names in its INFO join the list.
async fn cluster(url: &str) -> Outcome {
    let client = ConnectOptions::new()
        .keep_server_order(true)
        .ignore_discovered_servers(true)
        // Nobody listens at the first one.
        .connect(&format!("nats://127.0.0.1:1, {url}"))
        .await?;
    let server = client.server().ok_or("no connection")?;
    assert_eq!(server, url.parse::<ServerAddr>()?);
    assert_eq!(client.servers().len(), 2);
    client.close().await;
    Ok(())
}

/// The name shows in the server's monitoring, beside address and language.
async fn connection_name(url: &str) -> Outcome {
    let options = ConnectOptions::new().name("prices of fruit");
    let client = options.connect(url).await?;
    client.close().await;
    Ok(())
}

/// The timeout covers the whole greeting: a server that accepts and says nothing is given up, too.
async fn connect_timeout() -> Outcome {
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let error = ConnectOptions::new()
        .connect_timeout(Duration::from_millis(50))
        .connect(&silent.local_addr()?.to_string())
        .await
        .err()
        .ok_or("connected to a server that says nothing")?;
    assert_eq!(error.kind(), ErrorKind::Connect);
    println!("connect timeout: {}", why(&error));
    Ok(())
}

/// The client pings, and gives the connection up when no answer comes. The same exchange measures
/// a round trip.
async fn ping_and_pong(url: &str) -> Outcome {
    let client = ConnectOptions::new()
        // A silent server is given up after 20 s and two times 20 s more.
        .ping_interval(Duration::from_secs(20))
        .pings_out_max(2)
        .connect(url)
        .await?;
    let round_trip = client.round_trip().await?;
    println!("ping: {round_trip:?} there and back");
    client.close().await;
    Ok(())
}

/// Without echo our own subscriptions do not get what we publish ourselves.
async fn no_echo(url: &str) -> Outcome {
    let quiet = ConnectOptions::new().echo(false).connect(url).await?;
    let other = natseq::connect(url).await?;
    let mut heard = quiet.subscribe_confirmed("example.echo").await?;
    quiet.publish("example.echo", "mine").await?;
    quiet.flush().await?;
    other.publish("example.echo", "another's").await?;
    let first = timeout(SOON, heard.next()).await?.ok_or("ended")?;
    assert_eq!(first.payload(), b"another's");
    close([quiet, other]).await;
    Ok(())
}

/// What is larger than the server takes is refused here, before it would cost the connection.
async fn maximum_payload(url: &str) -> Outcome {
    let client = natseq::connect(url).await?;
    let max = usize::try_from(client.server_info().max_payload)?;
    let too_large = vec![0; max.saturating_add(1)];
    let refused = client.publish("example.large", too_large).await;
    let kind = refused.err().map(|error| error.kind());
    assert!(matches!(kind, Some(ErrorKind::PayloadTooLarge { .. })));
    assert!(client.is_connected());
    client.close().await;
    Ok(())
}

/// What the server says about itself.
async fn server_info(url: &str) -> Outcome {
    let client = natseq::connect(url).await?;
    let info = client.server_info();
    assert!(info.headers, "this server takes headers");
    println!(
        "server: {} {}, at most {} bytes in a message",
        info.server_name, info.version, info.max_payload
    );
    client.close().await;
    Ok(())
}

/// Pedantic asks the server to check subjects, verbose to confirm each operation. Both cost time
/// and change nothing for programs: subjects are checked before they are sent.
async fn pedantic_and_verbose(url: &str) -> Outcome {
    let client = ConnectOptions::new()
        .pedantic(true)
        .verbose(true)
        .connect(url)
        .await?;
    client.publish("example.checked", "x").await?;
    client.flush().await?;
    client.close().await;
    Ok(())
}

async fn close(clients: [Client; 2]) {
    for client in clients {
        client.close().await;
    }
}

/// An error says what happened, its source why.
fn why(error: &Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
