//! Advanced connect: a dialer of one's own, a stream of one's own, host names, waiting for a server.
//!
//! `cargo run --features broker --example dialing`
#![allow(
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    clippy::arithmetic_side_effects,
    reason = "an example says what it does, and is about one thing at a time"
)]

mod server;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use natseq::broker::{Broker, BrokerOptions};
use natseq::client::{BoxFuture, BoxedTransport, Dialer, Event};
use natseq::session::ServerAddr;
use natseq::{Client, ConnectOptions};
use tokio::net::TcpStream;
use tokio::time::timeout;

use server::{Embedded, Outcome, SOON, Server};

#[tokio::main]
async fn main() -> Outcome {
    let server = Server::find().await?;
    run(server.url()).await
}

/// Everything below, one after the other.
pub(crate) async fn run(url: &str) -> Outcome {
    own_dialer(url).await?;
    one_stream(url).await?;
    in_process().await?;
    own_resolver(url).await?;
    waiting_for_a_server().await?;
    giving_up_early().await
}

/// Opens TCP connections, and counts them. A real one would go through a proxy, or set options of
/// the socket.
#[derive(Default)]
struct Counting {
    dials: Arc<AtomicU32>,
}

impl Dialer for Counting {
    fn dial<'a>(&'a self, server: &'a ServerAddr) -> BoxFuture<'a, io::Result<BoxedTransport>> {
        self.dials.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let stream = TcpStream::connect((server.host(), server.port())).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as BoxedTransport)
        })
    }
}

/// The dialer opens the first connection and all later ones. TLS and WebSocket come on top as ever.
async fn own_dialer(url: &str) -> Outcome {
    let dialer = Counting::default();
    let dials = Arc::clone(&dialer.dials);
    let client = ConnectOptions::new().dialer(dialer).connect(url).await?;
    let mut events = client.events();
    client.reconnect();
    while !matches!(
        timeout(SOON, events.next()).await?.ok_or("ended")?,
        Event::Connected { .. }
    ) {}
    assert_eq!(dials.load(Ordering::Relaxed), 2);
    client.close().await;
    Ok(())
}

/// A stream that is open already carries one connection; the client ends with it.
async fn one_stream(url: &str) -> Outcome {
    let server: ServerAddr = url.parse()?;
    let stream = TcpStream::connect((server.host(), server.port())).await?;
    let client = ConnectOptions::new().connect_over(stream, url).await?;
    echo(&client).await?;
    client.close().await;
    Ok(())
}

/// A closure is a dialer, too: here to a server within the process, without a socket.
async fn in_process() -> Outcome {
    let broker = Arc::new(Broker::in_process(BrokerOptions::default()));
    let client = ConnectOptions::new()
        .dialer(move |_server| {
            let stream = broker.connect();
            async { Ok(stream) }
        })
        .connect("nats://in-process")
        .await?;
    echo(&client).await?;
    client.close().await;
    Ok(())
}

/// Host names need not be the operating system's.
async fn own_resolver(url: &str) -> Outcome {
    let server: ServerAddr = url.parse()?;
    let mut addresses = tokio::net::lookup_host((server.host(), server.port())).await?;
    let address: SocketAddr = addresses.next().ok_or("no address")?;
    let client = ConnectOptions::new()
        .resolver(move |host: String, port| async move {
            println!("resolver: {host}:{port} is {address}");
            Ok(vec![address])
        })
        .connect(&url.replace(server.host(), "orders.internal"))
        .await?;
    client.flush().await?;
    client.close().await;
    Ok(())
}

/// A program may start before its server: what it publishes and subscribes to waits.
async fn waiting_for_a_server() -> Outcome {
    let mut server = Embedded::start(BrokerOptions::default()).await?;
    server.stop();
    let client = ConnectOptions::new()
        .retry_first_connect(true)
        .connect(&server.url())
        .await?;
    assert!(!client.is_connected());
    let mut early = client.subscribe("example.early")?;
    client.publish("example.early", "first").await?;
    server.restart().await?;
    let message = timeout(SOON, early.next()).await?.ok_or("ended")?;
    assert_eq!(message.payload(), b"first");
    client.close().await;
    Ok(())
}

/// Connecting is a future like any other: dropped, it leaves nothing behind.
async fn giving_up_early() -> Outcome {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = silent.local_addr()?.to_string();
    let connecting = natseq::connect(&address);
    let given_up = timeout(Duration::from_millis(20), connecting).await;
    assert!(given_up.is_err());
    Ok(())
}

async fn echo(client: &Client) -> Outcome {
    let mut heard = client.subscribe("example.echo")?;
    client.publish("example.echo", "hello").await?;
    let message = timeout(SOON, heard.next()).await?.ok_or("ended")?;
    assert_eq!(message.payload(), b"hello");
    Ok(())
}
