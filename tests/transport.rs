//! How connections are opened: host names with good and bad addresses, the caller's own dialers and streams, and the
//! embedded broker within the process.
#![cfg(all(feature = "client", feature = "broker"))]
#![expect(
    clippy::unwrap_used,
    reason = "test code: a surprise here fails the test"
)]

use std::future::pending;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use natseq::broker::{Broker, BrokerOptions};
use natseq::client::{Client, ConnectOptions, ErrorKind, Event, Events, Subscription};
use natseq::session::{LinkError, RedialOptions, ServerAddr};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// Everything here takes less, also on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the default connect timeout leaves when one address got all of it.
const SOON: Duration = Duration::from_secs(4);

#[tokio::test]
async fn a_dialer_reaches_the_broker_within_the_process_again_and_again() {
    let broker = Arc::new(Broker::in_process(BrokerOptions::default()));
    let dials = Arc::new(AtomicUsize::new(0));
    let dialer = {
        let (broker, dials) = (Arc::clone(&broker), Arc::clone(&dials));
        move |server: ServerAddr| {
            assert_eq!(server.host(), "in-process");
            dials.fetch_add(1, Ordering::Relaxed);
            let stream = broker.connect();
            async { Ok(stream) }
        }
    };
    let options = ConnectOptions::new().dialer(dialer).redial(quick());
    let client = options.connect("nats://in-process").await.unwrap();
    let mut events = client.events();
    let mut sub = client.subscribe("a").unwrap();
    for round in 1..=5 {
        exchange(&client, &mut sub).await;
        assert_eq!(dials.load(Ordering::Relaxed), round);
        broker.cut_all();
        connected(&mut events).await;
    }
    exchange(&client, &mut sub).await;
    client.close().await;
}

#[tokio::test]
async fn a_stream_of_the_callers_is_used_once_and_ends_the_client() {
    let broker = Broker::in_process(BrokerOptions::default());
    let client = ConnectOptions::new()
        .connect_over(broker.connect(), "nats://in-process")
        .await
        .unwrap();
    let mut events = client.events();
    let mut sub = client.subscribe("a").unwrap();
    exchange(&client, &mut sub).await;
    broker.cut_all();
    loop {
        let event = event(&mut events).await;
        assert!(!matches!(event, Event::Connected { .. }), "{event:?}");
        if matches!(event, Event::Closed { .. }) {
            break;
        }
    }
    let error = client.publish("a", "x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(timeout(PATIENCE, sub.next()).await.unwrap().is_none());

    let (ours, theirs) = tokio::io::duplex(64);
    drop(theirs);
    let error = ConnectOptions::new()
        .connect_over(ours, "nats://in-process")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
}

#[tokio::test]
async fn what_was_published_before_the_last_handle_is_dropped_arrives() {
    let broker = Broker::in_process(BrokerOptions::default());
    let server = "nats://in-process";
    let receiver = ConnectOptions::new().connect_over(broker.connect(), server);
    let receiver = receiver.await.unwrap();
    let mut sub = receiver.subscribe_confirmed("a").await.unwrap();
    let client = ConnectOptions::new().connect_over(broker.connect(), server);
    let client = client.await.unwrap();
    for text in ["one", "two", "three"] {
        client.publish("a", text).await.unwrap();
    }
    drop(client);
    for text in ["one", "two", "three"] {
        let message = timeout(PATIENCE, sub.next()).await.unwrap().unwrap();
        assert_eq!(message.payload(), text.as_bytes());
    }
}

#[tokio::test]
async fn what_a_dialer_says_is_told() {
    let dialer =
        |_: ServerAddr| async { Err::<TcpStream, _>(io::Error::other("the proxy is asleep")) };
    let error = ConnectOptions::new().dialer(dialer).connect("h").await;
    assert_eq!(told(&error.unwrap_err()), "the proxy is asleep");
}

/// Every address of the host is dialed, and one that swallows what it gets has no more than its head start.
#[tokio::test]
async fn dead_addresses_in_front_do_not_use_up_the_connect_timeout() {
    let broker = listening().await;
    let (dead, _held) = swallowing(IpAddr::V4(Ipv4Addr::LOCALHOST)).await;
    let mut addresses = vec![dead];
    // A machine without IPv6 refuses at once, which is the other half of this test.
    let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let _held_v6 = match TcpListener::bind((v6, 0)).await {
        Ok(_) => {
            let (dead, held) = swallowing(v6).await;
            addresses.insert(0, dead);
            Some(held)
        }
        Err(_) => {
            addresses.insert(0, SocketAddr::new(v6, 9));
            None
        }
    };
    addresses.push(broker.local_addr().unwrap());
    let options = resolving(addresses).keep_address_order(true);
    let connecting = timeout(SOON, options.connect("nats://h"));
    let client = connecting
        .await
        .expect("the third address answers")
        .unwrap();
    client.flush().await.unwrap();
}

#[tokio::test]
async fn many_dead_addresses_share_the_connect_timeout() {
    let broker = listening().await;
    let (dead, _held) = swallowing(IpAddr::V4(Ipv4Addr::UNSPECIFIED)).await;
    let mut addresses: Vec<_> = (2..=60)
        .map(|last| SocketAddr::from(([127, 0, 0, last], dead.port())))
        .collect();
    addresses.push(broker.local_addr().unwrap());
    let options = resolving(addresses).keep_address_order(true);
    let client = options.connect("nats://h").await.unwrap();
    client.flush().await.unwrap();
}

#[tokio::test]
async fn a_resolver_that_never_answers_ends_with_the_connect_timeout() {
    let options = ConnectOptions::new()
        .connect_timeout(Duration::from_millis(50))
        .resolver(|_, _| pending());
    let connecting = timeout(PATIENCE, options.connect("nats://h"));
    let error = connecting.await.unwrap().unwrap_err();
    assert_eq!(told(&error), LinkError::HandshakeTimeout.to_string());
}

#[tokio::test]
async fn a_host_without_addresses_is_told() {
    let error = resolving(Vec::new()).connect("nats://h").await.unwrap_err();
    assert_eq!(told(&error), "h has no address");

    let failing = |_, _| async { Err(io::Error::other("no such zone")) };
    let error = ConnectOptions::new().resolver(failing).connect("h").await;
    assert_eq!(told(&error.unwrap_err()), "no such zone");
}

#[tokio::test]
async fn of_several_dead_addresses_each_is_told() {
    let mut addresses = Vec::new();
    for _ in 0..3 {
        // Nobody listens any more once the listener is dropped.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses.push(listener.local_addr().unwrap());
    }
    let error = resolving(addresses.clone()).connect("nats://h").await;
    let text = told(&error.unwrap_err());
    for address in addresses {
        assert!(text.contains(&address.to_string()), "{text}");
    }
    assert!(text.contains("refused"), "{text}");
}

#[tokio::test]
async fn clients_spread_over_the_addresses_of_a_host() {
    let brokers = [listening().await, listening().await];
    let addresses: Vec<_> = brokers
        .iter()
        .map(|broker| broker.local_addr().unwrap())
        .collect();
    let mut clients = Vec::new();
    for _ in 0..40 {
        let options = resolving(addresses.clone());
        clients.push(options.connect("nats://h").await.unwrap());
    }
    for broker in &brokers {
        // One in 2^39 runs all go the same way.
        assert!(broker.statistics().connections > 0);
    }
}

#[tokio::test]
async fn the_resolver_is_asked_for_names_alone_and_at_each_dial() {
    let broker = listening().await;
    let address = broker.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let resolver = {
        let asked = Arc::clone(&asked);
        move |host, port| {
            asked.lock().unwrap().push((host, port));
            async move { Ok(vec![address]) }
        }
    };
    let options = ConnectOptions::new().resolver(resolver).redial(quick());
    let by_address = options.clone().connect(&address.to_string()).await.unwrap();
    assert!(asked.lock().unwrap().is_empty());
    by_address.close().await;

    let client = options.connect("nats://name:77").await.unwrap();
    let mut events = client.events();
    broker.cut_all();
    connected(&mut events).await;
    let expected = vec![("name".to_owned(), 77); 2];
    assert_eq!(*asked.lock().unwrap(), expected);
}

#[tokio::test]
async fn connections_begin_at_the_local_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = listener.local_addr().unwrap().to_string();
    let local = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
    let connecting = ConnectOptions::new()
        .local_address(local)
        .connect_timeout(Duration::from_millis(100))
        .connect(&url);
    let (result, accepted) = tokio::join!(connecting, listener.accept());
    assert!(result.is_err(), "nobody said INFO");
    assert_eq!(accepted.unwrap().1.ip(), local);

    let error = ConnectOptions::new()
        .local_address(local)
        .connect("nats://[::1]:4222")
        .await
        .unwrap_err();
    assert_eq!(told(&error), "::1 has no address that 127.0.0.9 can reach");
}

#[cfg(not(feature = "websocket"))]
#[tokio::test]
async fn a_build_without_websocket_says_so() {
    let error = ConnectOptions::new().connect("ws://h").await.unwrap_err();
    assert!(told(&error).contains("`websocket` feature"), "{error:?}");
}

async fn listening() -> Broker {
    Broker::listen("127.0.0.1:0", BrokerOptions::default())
        .await
        .unwrap()
}

/// An address where connections are neither accepted nor refused: its line of waiting ones is full. It is so for as
/// long as what comes with it is kept.
async fn swallowing(ip: IpAddr) -> (SocketAddr, (TcpListener, Vec<TcpStream>)) {
    let socket = match ip {
        IpAddr::V4(_) => TcpSocket::new_v4(),
        IpAddr::V6(_) => TcpSocket::new_v6(),
    }
    .unwrap();
    socket.bind(SocketAddr::new(ip, 0)).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let reached = if ip.is_unspecified() {
        SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))
    } else {
        address
    };
    let mut waiting = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(300), TcpStream::connect(reached)).await {
        waiting.push(stream.unwrap());
    }
    (address, (listener, waiting))
}

fn resolving(addresses: Vec<SocketAddr>) -> ConnectOptions {
    ConnectOptions::new().resolver(move |_, _| {
        let addresses = addresses.clone();
        async move { Ok(addresses) }
    })
}

fn quick() -> RedialOptions {
    RedialOptions {
        pause_min: Duration::from_millis(1),
        pause_max: Duration::from_millis(20),
        ..RedialOptions::default()
    }
}

async fn exchange(client: &Client, sub: &mut Subscription) {
    client.publish("a", "hello").await.unwrap();
    let message = timeout(PATIENCE, sub.next()).await.unwrap().unwrap();
    assert_eq!(message.payload(), b"hello");
}

async fn event(events: &mut Events) -> Event {
    timeout(PATIENCE, events.next()).await.unwrap().unwrap()
}

async fn connected(events: &mut Events) {
    while !matches!(event(events).await, Event::Connected { .. }) {}
}

fn told(error: &natseq::Error) -> String {
    std::error::Error::source(error).unwrap().to_string()
}
