//! The embedded broker: its faults, its farewell, and the whole client over a bad link.
#![cfg(all(feature = "broker", feature = "client"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use natseq::broker::{Broker, BrokerOptions, Credentials, Direction, FaultPlan, FaultRule};
use natseq::client::{Client, ConnectOptions, ErrorKind, Event, Publication};
use natseq::sequence::{Carrier, Delivery, Event as SequenceEvent};
use natseq::subject::Filter;
use natseq::wire::{Headers, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Everything here takes less, also on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

async fn broker(change: impl FnOnce(&mut BrokerOptions)) -> (Broker, String) {
    let mut options = BrokerOptions::default();
    change(&mut options);
    let broker = Broker::listen("127.0.0.1:0", options).await.unwrap();
    let address = broker.local_addr().unwrap().to_string();
    (broker, address)
}

fn rule(direction: Direction, change: impl FnOnce(&mut FaultRule)) -> FaultPlan {
    let mut rule = FaultRule::new(Filter::new("d.>").unwrap(), direction);
    change(&mut rule);
    FaultPlan::one(rule)
}

async fn connect(address: &str) -> Client {
    ConnectOptions::new().connect(address).await.unwrap()
}

#[tokio::test]
async fn messages_and_requests_pass_when_nothing_goes_wrong() {
    let (_broker, address) = broker(|_| {}).await;
    let client = connect(&address).await;
    let mut subscription = client.subscribe("d.*").unwrap();
    client.publish("d.x", "hello").await.unwrap();
    let message = timeout(PATIENCE, subscription.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (message.subject(), message.payload()),
        (&b"d.x"[..], &b"hello"[..])
    );
    let nobody = client.request("nobody", "").await.unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::NoResponders);
    assert!(client.server_info().connect_info, "the second INFO arrived");
}

#[tokio::test]
async fn everything_written_byte_by_byte_is_understood() {
    let (_broker, address) = broker(|options| options.faults.is_split = true).await;
    let client = connect(&address).await;
    let mut subscription = client.subscribe("d.*").unwrap();
    for number in 0..20 {
        client.publish("d.x", number.to_string()).await.unwrap();
    }
    for number in 0..20 {
        let message = timeout(PATIENCE, subscription.next())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(message.payload(), number.to_string().as_bytes());
    }
}

#[tokio::test]
async fn the_same_seed_loses_the_same_messages() {
    let mut seen = Vec::new();
    for _ in 0..2 {
        let faults = rule(Direction::ToClient, |rule| rule.drop = 0.5);
        let (_broker, address) =
            broker(|options| (options.faults, options.seed) = (faults, 7)).await;
        let client = connect(&address).await;
        let mut subscription = client.subscribe(">").unwrap();
        for number in 0..100 {
            client.publish("d.x", number.to_string()).await.unwrap();
        }
        client.publish("end", "").await.unwrap();
        let mut payloads = Vec::new();
        loop {
            let message = timeout(PATIENCE, subscription.next())
                .await
                .unwrap()
                .unwrap();
            if message.subject() == b"end" {
                break;
            }
            payloads.push(message.payload().to_vec());
        }
        assert!(
            (20..80).contains(&payloads.len()),
            "{} of 100 at 0.5",
            payloads.len()
        );
        seen.push(payloads);
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn a_cut_connection_comes_back_with_its_subscriptions() {
    let faults = rule(Direction::ToClient, |rule| rule.cut = 0.2);
    let (broker, address) = broker(|options| options.faults = faults).await;
    let client = connect(&address).await;
    let mut events = client.events();
    let mut subscription = client.subscribe(">").unwrap();
    let publisher = connect(&address).await;
    let mut taken = 0;
    while broker.statistics().faults.cut == 0 || taken < 5 {
        publisher.publish("d.x", "").await.unwrap();
        if timeout(Duration::from_millis(100), subscription.next())
            .await
            .is_ok()
        {
            taken += 1;
        }
    }
    let disconnected = timeout(PATIENCE, events.next()).await.unwrap().unwrap();
    assert!(
        matches!(disconnected, Event::Disconnected { .. }),
        "{disconnected:?}"
    );
}

#[tokio::test]
async fn a_truncated_message_is_not_delivered_and_a_sequenced_one_is_won_back() {
    let faults = rule(Direction::ToClient, |rule| {
        (rule.truncate, rule.drop) = (0.02, 0.2)
    });
    let (broker, address) = broker(|options| (options.faults, options.seed) = (faults, 3)).await;
    let receiver = connect(&address).await;
    let builder = receiver.sequenced_subscriber("d.x").unwrap();
    let mut subscriber = builder.delivery(Delivery::Ordered).start().unwrap();
    receiver.flush().await.unwrap();
    let sender = connect(&address).await;
    let publisher = sender.sequenced_publisher("d.x").unwrap().start().unwrap();
    for number in 1..=500_u64 {
        publisher.publish("d.x", number.to_string()).await.unwrap();
    }
    let closing = tokio::spawn(publisher.close());
    let mut expected = 1;
    while !subscriber.has_ended() {
        let event = timeout(PATIENCE, subscriber.next())
            .await
            .expect("an event")
            .unwrap();
        match event {
            SequenceEvent::Message { message, .. } => {
                assert_eq!(message.payload(), expected.to_string().as_bytes());
                expected += 1;
            }
            SequenceEvent::Lost { .. } => panic!("{event:?}"),
            _ => {}
        }
    }
    assert_eq!(expected, 501);
    assert!(broker.statistics().faults.truncated > 0);
    let repairs = closing.await.unwrap().statistics.repairs;
    assert!(repairs >= broker.statistics().faults.dropped, "{repairs}");
}

#[tokio::test]
async fn whatever_carries_the_numbers_everything_comes_as_it_was_published() {
    for carrier in [Carrier::Header, Carrier::Token, Carrier::Payload] {
        for delivery in [Delivery::Immediate, Delivery::Ordered, Delivery::DetectOnly] {
            carry(carrier, delivery).await;
        }
    }
}

async fn carry(carrier: Carrier, delivery: Delivery) {
    const MESSAGES: u64 = 300;
    let faults = rule(Direction::ToClient, |rule| rule.drop = 0.2);
    let (broker, address) = broker(|options| (options.faults, options.seed) = (faults, 5)).await;
    let receiver = connect(&address).await;
    let builder = receiver.sequenced_subscriber("d.*").unwrap();
    let builder = builder.carrier(carrier).delivery(delivery);
    let mut subscriber = builder.start().unwrap();
    receiver.flush().await.unwrap();
    let sender = connect(&address).await;
    let builder = sender.sequenced_publisher("d.*").unwrap();
    let publisher = builder.carrier(carrier).start().unwrap();
    let mut headers = Headers::new();
    headers.append("Trace", "7").unwrap();
    for number in 1..=MESSAGES {
        let subject = format!("d.{}", number % 3);
        let publication = Publication::new(&subject, format!("SEQ1 {number}\r\n")).unwrap();
        let publication = publication.reply("answers").unwrap().headers(&headers);
        assert_eq!(publisher.send(publication).await.unwrap(), number);
    }
    let closing = tokio::spawn(publisher.close());
    let what = format!("{carrier:?} {delivery:?}");
    let mut outcomes = std::collections::BTreeMap::new();
    let mut lost = 0;
    while !subscriber.has_ended() {
        let event = timeout(PATIENCE, subscriber.next()).await;
        match event.expect("an event").unwrap() {
            SequenceEvent::Message { message, origin } => {
                let seq = origin.seq;
                *outcomes.entry(seq).or_insert(0) += 1;
                assert_eq!(message.subject(), format!("d.{}", seq % 3).as_bytes());
                assert_eq!(message.payload(), format!("SEQ1 {seq}\r\n").as_bytes());
                assert_eq!(message.payload_bytes(), message.payload(), "{what}");
                assert_eq!(message.reply(), Some(&b"answers"[..]), "{what} {origin:?}");
                let trace = message.headers().and_then(|block| block.first("Trace"));
                assert_eq!(trace, Some(&b"7"[..]), "{what} {origin:?}");
            }
            SequenceEvent::Lost { from, to, .. } => {
                (from..=to).for_each(|seq| *outcomes.entry(seq).or_insert(0) += 1);
                lost += to - from + 1;
            }
            SequenceEvent::Unsequenced { message } => panic!("{what}: {message:?}"),
            _ => {}
        }
    }
    assert!(
        outcomes.len() as u64 == MESSAGES && outcomes.values().all(|count| *count == 1),
        "{what}: {outcomes:?}"
    );
    let dropped = broker.statistics().faults.dropped;
    assert!(dropped > 30, "{what}: {dropped}");
    let expected = if delivery == Delivery::DetectOnly {
        dropped
    } else {
        0
    };
    assert_eq!(lost, expected, "{what}");
    assert_eq!(subscriber.bad_stamps(), 0, "{what}");
    drop(subscriber);
    receiver.close().await;
    closing.abort();
}

/// Neither its hello nor any other heartbeat comes, and what comes first is not its first message.
#[tokio::test]
async fn a_source_that_begins_behind_us_is_owed_from_its_first_number() {
    let mut faults = rule(Direction::ToClient, |rule| rule.drop = 0.9);
    let heartbeats = Filter::new("_SEQ.HB.>").unwrap();
    let mut silence = FaultRule::new(heartbeats, Direction::ToClient);
    silence.drop = 1.0;
    faults.rules.push(silence);
    let (_broker, address) = broker(|options| (options.faults, options.seed) = (faults, 4)).await;
    let receiver = connect(&address).await;
    let builder = receiver.sequenced_subscriber("d.x").unwrap();
    let mut subscriber = builder.start().unwrap();
    receiver.flush().await.unwrap();
    // Ages are told in milliseconds: one that begins within the same is not known to be younger.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let sender = connect(&address).await;
    let publisher = sender.sequenced_publisher("d.x").unwrap().start().unwrap();
    for number in 1..=100_u64 {
        publisher.publish("d.x", number.to_string()).await.unwrap();
    }
    let mut seqs = Vec::new();
    while seqs.last() != Some(&1) {
        let event = timeout(PATIENCE, subscriber.next()).await;
        if let SequenceEvent::Message { origin, .. } = event.expect("an event").unwrap() {
            seqs.push(origin.seq);
        }
    }
    assert!(seqs.len() > 1, "the first message was not lost");
}

/// What is asked for comes behind what waits already, however long the program takes for that.
#[tokio::test]
async fn a_slow_program_loses_nothing_that_waits_for_it() {
    let faults = rule(Direction::ToClient, |rule| rule.drop = 0.05);
    let (_broker, address) = broker(|options| (options.faults, options.seed) = (faults, 9)).await;
    let receiver = connect(&address).await;
    let builder = receiver.sequenced_subscriber("d.x").unwrap();
    let builder = builder.options(|options| options.gap_timeout = Duration::from_millis(200));
    let mut subscriber = builder.start().unwrap();
    receiver.flush().await.unwrap();
    let sender = connect(&address).await;
    let publisher = sender.sequenced_publisher("d.x").unwrap().start().unwrap();
    for number in 1..=4_000_u64 {
        publisher.publish("d.x", number.to_string()).await.unwrap();
    }
    let (mut delivered, mut repaired) = (0, 0);
    while delivered < 4_000 {
        let event = timeout(PATIENCE, subscriber.next()).await;
        match event.expect("an event").unwrap() {
            SequenceEvent::Message { origin, .. } => {
                delivered += 1;
                repaired += u64::from(origin.is_repaired);
                // A batch takes longer than a number may be missing.
                if origin.seq % 4 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            event @ SequenceEvent::Lost { .. } => panic!("{event:?}"),
            _ => {}
        }
    }
    assert!(repaired > 100, "{repaired}");
}

#[tokio::test]
async fn the_last_words_are_read_by_a_peer_that_still_writes() {
    let (_broker, address) = broker(|_| {}).await;
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(b"NONSENSE\r\n").await.unwrap();
    // Unread bytes on the other side would turn a plain close into a reset.
    let _ = stream.write_all(&[b'x'; 100_000]).await;
    let mut heard = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut heard))
        .await
        .unwrap()
        .unwrap();
    let heard = heard.escape_ascii().to_string();
    assert!(
        heard.ends_with(r"-ERR \'Unknown Protocol Operation\'\r\n"),
        "{heard}"
    );
}

#[tokio::test]
async fn a_peer_that_closes_at_once_ends_no_task_in_a_panic() {
    let (_broker, address) = broker(|options| options.linger = PATIENCE).await;
    let mut stream = raw(&address).await;
    stream.write_all(b"NONSENSE\r\n").await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    // A panic of the connection's task would run this hook.
    let panics = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&panics);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.to_string().contains("JoinHandle") {
            seen.fetch_add(1, Ordering::Relaxed);
        }
        before(info);
    }));
    drop(stream);
    // The listener's task is the last.
    let tasks = tokio::runtime::Handle::current().metrics();
    until(|| tasks.num_alive_tasks() == 1).await;
    assert_eq!(panics.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_like_any_other() {
    let (broker, address) = broker(|_| {}).await;
    let _deaf = deaf_subscriber(&address, &broker).await;
    broker.cut_all();
    until(|| broker.statistics().connections == 0).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped_at_the_deadline() {
    let deadline = Duration::from_millis(200);
    let (broker, address) = broker(|options| options.write_deadline = deadline).await;
    let _deaf = deaf_subscriber(&address, &broker).await;
    until(|| broker.statistics().connections == 0).await;
}

#[tokio::test]
async fn a_flood_of_pings_without_reading_is_bounded() {
    let (_broker, address) = broker(|options| options.pending_bytes_max = 1 << 16).await;
    let mut stream = raw(&address).await;
    let pings = b"PING\r\n".repeat(100_000);
    let flood = async { while stream.write_all(&pings).await.is_ok() {} };
    timeout(PATIENCE, flood).await.expect("dropped");
}

#[tokio::test]
async fn who_closes_its_half_still_hears_the_answer() {
    let (_broker, address) = broker(|_| {}).await;
    for _ in 0..50 {
        let mut stream = raw(&address).await;
        stream
            .write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n")
            .await
            .unwrap();
        stream.shutdown().await.unwrap();
        let mut heard = Vec::new();
        let end = timeout(PATIENCE, stream.read_to_end(&mut heard)).await;
        end.unwrap().unwrap();
        assert_eq!(heard.escape_ascii().to_string(), "PONG\\r\\n");
    }
}

#[tokio::test]
async fn nothing_is_taken_from_a_publisher_behind_a_cut() {
    let faults = rule(Direction::FromClient, |rule| rule.cut = 1.0);
    let (broker, address) = broker(|options| options.faults = faults).await;
    let mut stream = raw(&address).await;
    stream
        .write_all(b"PUB d.x 1\r\na\r\nPUB d.x 1\r\nb\r\n")
        .await
        .unwrap();
    until(|| broker.statistics().connections == 0).await;
    assert_eq!(broker.statistics().published, 1);
}

/// A connection that has read INFO.
async fn raw(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut greeting = Vec::new();
    while !greeting.ends_with(b"\r\n") {
        let count = timeout(PATIENCE, stream.read_buf(&mut greeting)).await;
        assert!(count.unwrap().unwrap() > 0, "no INFO");
    }
    stream
}

/// A subscriber that reads nothing, with more waiting for it than sockets hold.
async fn deaf_subscriber(address: &str, broker: &Broker) -> TcpStream {
    let mut deaf = raw(address).await;
    deaf.write_all(b"CONNECT {\"verbose\":false}\r\nSUB > 1\r\nPING\r\n")
        .await
        .unwrap();
    let mut pong = [0; 6];
    deaf.read_exact(&mut pong).await.unwrap();
    let mut publisher = raw(address).await;
    let mut message = b"PUB a 1000000\r\n".to_vec();
    message.resize(message.len() + 1_000_000, b'x');
    message.extend_from_slice(b"\r\n");
    for _ in 0..30 {
        publisher.write_all(&message).await.unwrap();
    }
    // On a busy machine it may be dropped before everything was queued for it.
    until(|| broker.statistics().delivered == 30 || broker.statistics().connections < 2).await;
    drop(publisher);
    deaf
}

async fn until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, waiting)
        .await
        .expect("it never came true");
}

#[tokio::test]
async fn a_connection_within_the_process_speaks_the_same() {
    let broker = Broker::in_process(BrokerOptions::default());
    let mut stream = broker.connect();
    stream
        .write_all(b"CONNECT {\"verbose\":false}\r\nSUB a 1\r\nPUB a 2\r\nhi\r\n")
        .await
        .unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(b"MSG a 1 2\r\nhi\r\n") {
        let count = timeout(PATIENCE, stream.read_buf(&mut heard))
            .await
            .unwrap()
            .unwrap();
        assert!(count > 0, "{}", heard.escape_ascii());
    }
}

#[tokio::test]
async fn a_stranger_is_refused_at_the_first_byte() {
    let (_broker, address) = broker(|options| {
        options.credentials = Some(Credentials::Token("t".into()));
    })
    .await;
    for said in ["P", "\r\n", "XYZ\r\n"] {
        let mut stream = raw(&address).await;
        stream.write_all(said.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        let end = timeout(PATIENCE, stream.read_to_end(&mut heard)).await;
        end.unwrap().unwrap();
        let refused = "-ERR 'Authorization Violation'\\r\\n";
        assert_eq!(
            heard.escape_ascii().to_string().replace("\\'", "'"),
            refused,
            "{said:?}"
        );
    }
}

#[tokio::test]
async fn credentials_are_checked_and_silence_is_not_waited_for() {
    let (_broker, address) = broker(|options| {
        options.credentials = Some(Credentials::Token("t".into()));
        options.auth_timeout = Duration::from_millis(500);
    })
    .await;
    assert!(
        ConnectOptions::new()
            .token("t")
            .connect(&address)
            .await
            .is_ok()
    );
    let refused = ConnectOptions::new()
        .token("x")
        .connect(&address)
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Connect);
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let mut heard = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut heard))
        .await
        .unwrap()
        .unwrap();
    assert!(
        heard.ends_with(b"-ERR 'Authentication Timeout'\r\n"),
        "{}",
        heard.escape_ascii()
    );
}

#[tokio::test]
async fn a_refused_publish_takes_no_number() {
    let limits = Limits::CLIENT_OPS.with_payload_bytes_max(1_000);
    let (_broker, address) = broker(|options| options.limits = limits).await;
    let client = connect(&address).await;
    let mut subscriber = client.sequenced_subscriber("d.>").unwrap().start().unwrap();
    let publisher = client.sequenced_publisher("d.>").unwrap().start().unwrap();
    assert_eq!(publisher.publish("d.x", "1").await.unwrap(), 1);
    let large = publisher.publish("d.x", vec![0; 950]).await.unwrap_err();
    assert!(
        matches!(large.kind(), ErrorKind::PayloadTooLarge { max: 1_000, .. }),
        "{large:?}"
    );
    let outside = publisher.publish("e.x", "x").await.unwrap_err();
    assert_eq!(outside.kind(), ErrorKind::Sequence);
    let malformed = publisher.publish("d. x", "x").await.unwrap_err();
    assert_eq!(malformed.kind(), ErrorKind::Subject);
    assert_eq!(publisher.publish("d.x", "2").await.unwrap(), 2);
    let mut seqs = Vec::new();
    while seqs.len() < 2 {
        match timeout(PATIENCE, subscriber.next()).await.unwrap().unwrap() {
            SequenceEvent::Message { origin, .. } => seqs.push(origin.seq),
            SequenceEvent::Gap { from, to, .. } => panic!("gap {from}-{to}"),
            _ => {}
        }
    }
    assert_eq!(seqs, [1, 2]);
}
