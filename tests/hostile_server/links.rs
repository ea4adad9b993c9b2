//! Links that end, stall or take over at awkward moments, over streams that hold a few bytes.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use natseq::client::{Client, ConnectOptions, ErrorKind, Event, Events};
use natseq::session::{LinkError, ServerAddr};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};
use tokio::time::timeout;

use crate::script::{INFO, PATIENCE};

/// A new server that reads slowly gets the table of subscriptions bit by bit, and the program goes on meanwhile.
#[test]
fn a_move_with_a_table_that_is_taken_slowly_goes_on() {
    // A thread of its own: a client that hangs does so without ever giving its thread back.
    let (over, is_over) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let (client, mut old, mut new) = with_two_servers().await;
            let subscriptions: Vec<_> = (0..100)
                .map(|number| client.subscribe(&format!("subject.{number}")).unwrap())
                .collect();
            for _ in &subscriptions {
                assert!(old.line().await.starts_with("SUB subject."));
            }
            begin_move(&mut old, &mut new, INFO).await;
            client.publish("up", "x").await.unwrap();
            old.say(b"PONG\r\n").await;
            for _ in &subscriptions {
                assert!(new.line().await.starts_with("SUB subject."));
            }
            assert_eq!(new.line().await, "PING\r\n");
            assert_eq!(new.line().await, "PUB up 1\r\n");
            over.send(()).unwrap();
        });
    });
    is_over.recv_timeout(PATIENCE).expect("the client goes on");
}

#[tokio::test]
async fn after_a_move_the_bounds_of_the_new_server_hold() {
    let info = b"INFO {\"server_id\":\"S\",\"headers\":false,\"max_payload\":10,\"proto\":1} \r\n";
    let (client, mut old, mut new) = with_two_servers().await;
    begin_move(&mut old, &mut new, info).await;
    old.say(b"PONG\r\n").await;
    assert_eq!(new.line().await, "PING\r\n");
    let error = client.publish("up", "eleven bytes").await.unwrap_err();
    let expected = ErrorKind::PayloadTooLarge { found: 12, max: 10 };
    assert_eq!(error.kind(), expected);
}

/// Writing fails at once when the other end has closed, but what it said before is still there to be read.
#[tokio::test]
async fn what_a_server_says_before_it_closes_is_heard_although_writing_fails() {
    let (client, mut peer) = connected(1 << 16, |options| options).await;
    let mut events = client.events();
    let mut sub = client.subscribe("a").unwrap();
    assert_eq!(peer.line().await, "SUB a 1\r\n");
    peer.say(b"MSG a 1 1\r\nx\r\n-ERR 'User Authentication Expired'\r\n")
        .await;
    drop(peer);
    client.try_publish("up", "y").unwrap();
    let message = timeout(PATIENCE, sub.next()).await.unwrap().unwrap();
    assert_eq!(message.payload(), b"x");
    let lost = until(&mut events, |event| {
        matches!(event, Event::Disconnected { .. })
    });
    let Event::Disconnected { reason, .. } = lost.await else {
        unreachable!("it was waited for");
    };
    let expected = LinkError::Server("User Authentication Expired".to_owned());
    assert_eq!(reason, expected);
}

#[tokio::test]
async fn a_drain_tells_a_message_as_discarded_or_in_doubt_and_never_as_both() {
    let short = Duration::from_millis(50);
    let (client, _peer) = connected(64, |options| options.drain_timeout(short)).await;
    let mut events = client.events();
    // The stream takes a part of the first; the others wait.
    for _ in 0..3 {
        client.publish("up", vec![0; 1_000]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(client.drain().await.is_err());
    let (mut discarded, mut in_doubt, mut at_the_end) = (None, None, None);
    while let Some(event) = timeout(PATIENCE, events.next()).await.unwrap() {
        match event {
            Event::Drained {
                discarded_messages, ..
            } => discarded = Some(discarded_messages),
            Event::Disconnected { in_doubt: some, .. } => in_doubt = Some(some),
            Event::Closed {
                discarded_messages, ..
            } => {
                at_the_end = Some(discarded_messages);
                break;
            }
            _ => {}
        }
    }
    let found = (discarded, in_doubt, at_the_end);
    assert_eq!(found, (Some(0), Some(3), Some(0)));
}

#[tokio::test]
async fn what_no_connection_takes_is_told_at_the_end() {
    let (client, peer) = connected(1 << 16, |options| options).await;
    let mut events = client.events();
    drop(peer);
    until(&mut events, |event| {
        matches!(event, Event::Disconnected { .. })
    })
    .await;
    for _ in 0..5 {
        client.publish("up", "x").await.unwrap();
    }
    client.close().await;
    let end = until(&mut events, |event| matches!(event, Event::Closed { .. })).await;
    let expected = Event::Closed {
        reason: None,
        discarded_messages: 5,
    };
    assert_eq!(end, expected);
    let error = client.try_publish("up", "x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_cancelled_close_goes_on() {
    let (client, mut peer) = connected(1 << 16, |options| options).await;
    let mut events = client.events();
    let closing = timeout(Duration::from_millis(1), client.close());
    assert!(closing.await.is_err(), "the server has not answered");
    assert_eq!(peer.line().await, "PING\r\n");
    peer.say(b"PONG\r\n").await;
    until(&mut events, |event| matches!(event, Event::Closed { .. })).await;
}

#[tokio::test]
async fn flushes_share_a_ping_and_one_that_is_cancelled_disturbs_no_other() {
    let (client, mut peer) = connected(1 << 16, |options| options).await;
    let (one, two) = (client.flush(), client.flush());
    tokio::pin!(one, two);
    assert!(timeout(Duration::ZERO, &mut one).await.is_err());
    assert!(timeout(Duration::ZERO, client.flush()).await.is_err());
    assert!(timeout(Duration::ZERO, &mut two).await.is_err());
    let mut pings = Vec::new();
    peer.stream.read_buf(&mut pings).await.unwrap();
    for _ in 0..pings.len() / "PING\r\n".len() {
        peer.say(b"PONG\r\n").await;
    }
    timeout(PATIENCE, one).await.unwrap().unwrap();
    timeout(PATIENCE, two).await.unwrap().unwrap();
}

/// The server's end of a stream.
struct Peer {
    stream: BufReader<DuplexStream>,
}

impl Peer {
    fn new(stream: DuplexStream) -> Self {
        Self {
            stream: BufReader::new(stream),
        }
    }

    async fn say(&mut self, bytes: &[u8]) {
        let saying = timeout(PATIENCE, self.stream.write_all(bytes)).await;
        saying.expect("the client reads").unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        let reading = timeout(PATIENCE, self.stream.read_line(&mut line)).await;
        reading.expect("the client speaks").unwrap();
        line
    }

    /// Takes the client as an honest server does.
    async fn welcome(&mut self, info: &[u8]) {
        self.say(info).await;
        assert!(self.line().await.starts_with("CONNECT {"));
        assert_eq!(self.line().await, "PING\r\n");
        self.say(b"PONG\r\n").await;
    }
}

/// A client whose dials get these streams by the server's name, each once.
fn dialing(streams: Vec<(&'static str, DuplexStream)>) -> ConnectOptions {
    let streams: BTreeMap<_, _> = streams.into_iter().collect();
    let streams = Arc::new(Mutex::new(streams));
    ConnectOptions::new()
        .keep_server_order(true)
        // No PING of the client's own among what the script expects.
        .ping_interval(PATIENCE * 2)
        .dialer(move |server: ServerAddr| {
            let stream = streams.lock().unwrap().remove(server.host());
            async move { stream.ok_or_else(|| std::io::Error::other("there is no other")) }
        })
}

/// A client and its server, with so many bytes between them.
async fn connected(
    bytes_max: usize,
    with: impl Fn(ConnectOptions) -> ConnectOptions,
) -> (Client, Peer) {
    let (ours, theirs) = duplex(bytes_max);
    let mut peer = Peer::new(theirs);
    let options = with(dialing(vec![("one", ours)]));
    let (client, ()) = tokio::join!(options.connect("one"), peer.welcome(INFO));
    (client.unwrap(), peer)
}

/// A client, its server, and one to leave for.
async fn with_two_servers() -> (Client, Peer, Peer) {
    let (to_old, old) = duplex(1 << 16);
    let (to_new, new) = duplex(64);
    let mut old = Peer::new(old);
    let options = dialing(vec![("one", to_old), ("two", to_new)]).move_overlap(PATIENCE);
    let (client, ()) = tokio::join!(options.connect("one,two"), old.welcome(INFO));
    (client.unwrap(), old, Peer::new(new))
}

/// The old server is about to stop, and the new one takes the client; the old one is asked for the rest.
async fn begin_move(old: &mut Peer, new: &mut Peer, info_of_new: &[u8]) {
    old.say(b"INFO {\"server_id\":\"S\",\"headers\":true,\"max_payload\":1048576,\"proto\":1,\"ldm\":true} \r\n")
        .await;
    new.welcome(info_of_new).await;
    assert_eq!(old.line().await, "PING\r\n");
}

async fn until(events: &mut Events, is_it: impl Fn(&Event) -> bool) -> Event {
    loop {
        let event = timeout(PATIENCE, events.next()).await.unwrap().unwrap();
        if is_it(&event) {
            return event;
        }
    }
}
