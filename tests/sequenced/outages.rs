//! Servers that are killed, stand still, or are cut off from each other: no number is lost.

use std::time::Duration;

use natseq::client::{Client, ConnectOptions, Event, Publication, connect};
use natseq::sequence::{Delivery, Event as SequenceEvent};
use natseq::wire::Headers;
use tokio::time::timeout;

use crate::account::{Account, LINGER_MAX, hear, publish, source};
use crate::support::proxy::{Cut, Proxy};
use crate::support::{PATIENCE, RealServer, ServerBinary, free_port, servers};

#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_costs_no_number() {
    for binary in servers("killed") {
        outage(&binary, "KILL").await;
    }
}

/// Its sockets stay open and say nothing: both clients give it up, and find it again when it goes on.
#[tokio::test]
async fn a_server_that_stands_still_for_a_while_costs_no_number() {
    for binary in servers("stopped") {
        outage(&binary, "STOP").await;
    }
}

/// Routes break, the clients' connections do not: nobody notices until heartbeats come again.
#[tokio::test]
async fn a_node_that_is_cut_off_from_the_others_costs_no_number() {
    for binary in servers("cut off") {
        let (nodes, routes) = cluster(&binary, 3);
        let receiving = connect(&nodes[1].url()).await.unwrap();
        let mut sub = receiving
            .sequenced_subscriber("d.x")
            .unwrap()
            .start()
            .unwrap();
        let publishing = connect(&nodes[0].url()).await.unwrap();
        await_interest(&publishing, &receiving).await;
        let publisher = source(&publishing, "d.x", "test").start().unwrap();
        let mut account = Account::default();
        publish(&publisher, "d.x", 1..=1_000).await;
        hear(&mut sub, &mut account, |account| account.decided() == 1_000).await;

        for route in &routes {
            route.refuse(true);
            route.cut(Cut::Reset);
        }
        await_silence(&publishing, &receiving).await;
        publish(&publisher, "d.x", 1_001..=2_000).await;
        publishing.flush().await.unwrap();
        for route in &routes {
            route.refuse(false);
        }
        publish(&publisher, "d.x", 2_001..=3_000).await;
        let closing = tokio::spawn(publisher.close());
        hear(&mut sub, &mut account, |account| account.ended() == 1).await;
        account.assert_whole(3_000);
        let sum = account.sum();
        assert_eq!(sum.lost, 0, "{sum:?} on {}", binary.version);
        assert!(sum.repaired >= 1_000, "{sum:?} on {}", binary.version);
        timeout(LINGER_MAX, closing).await.unwrap().unwrap();
        assert_eq!(receiving.statistics().connects, 1);
        receiving.close().await;
        publishing.close().await;
    }
}

/// Two lingers long: nobody hears of it, and it says so and repairs once it is back.
#[tokio::test]
async fn a_source_that_is_closed_in_an_outage_says_its_end_after_it() {
    for binary in servers("closed in an outage") {
        let server = RealServer::start(&binary, LOSSY);
        let receiving = connect(&server.url()).await.unwrap();
        let builder = receiving.sequenced_subscriber("d.x").unwrap();
        let mut sub = builder.start().unwrap();
        receiving.flush().await.unwrap();
        let proxy = Proxy::start(server.address(), 1);
        let publishing = connect(&proxy.url()).await.unwrap();
        let mut events = publishing.events();
        let linger = Duration::from_secs(1);
        let builder = source(&publishing, "d.x", "test").linger(linger);
        let publisher = builder.start().unwrap();
        publish(&publisher, "d.x", 1..=100).await;
        let mut account = Account::default();
        hear(&mut sub, &mut account, |account| account.decided() > 50).await;
        proxy.refuse(true);
        proxy.cut(Cut::Reset);
        let is_gone = |event: &Event| matches!(event, Event::Disconnected { .. });
        while !is_gone(&timeout(PATIENCE, events.next()).await.unwrap().unwrap()) {}
        // These wait for the next connection, as the end does.
        publish(&publisher, "d.x", 101..=200).await;
        let closing = tokio::spawn(publisher.close());
        tokio::time::sleep(linger * 2).await;
        assert!(!closing.is_finished(), "{}", binary.version);
        proxy.refuse(false);
        hear(&mut sub, &mut account, |account| account.ended() == 1).await;
        account.assert_whole(200);
        assert_eq!(account.sum().lost, 0, "{}", binary.version);
        let closed = timeout(LINGER_MAX, closing).await.unwrap().unwrap();
        assert!(closed.is_announced, "{}", binary.version);

        // Nobody waits for a client that is closed as well.
        let publisher = source(&publishing, "d.x", "other").start().unwrap();
        proxy.refuse(true);
        proxy.cut(Cut::Reset);
        while !is_gone(&timeout(PATIENCE, events.next()).await.unwrap().unwrap()) {}
        let closing = tokio::spawn(publisher.close());
        publishing.close().await;
        let closed = timeout(Duration::from_secs(30), closing).await.unwrap();
        assert!(!closed.unwrap().is_announced, "{}", binary.version);
        receiving.close().await;
    }
}

const LOSSY: &str = r#"mappings = { "d.x": [ { destination: "d.x", weight: 80% } ] }"#;

/// What came is not kept back for what did not: nobody will send that any more.
#[tokio::test]
async fn a_client_that_closes_tells_what_is_missing_and_hands_over_what_was_held() {
    for binary in servers("closed with a gap") {
        for drains in [false, true] {
            let what = format!("drains: {drains}, on {}", binary.version);
            let server = RealServer::start(&binary, "");
            let client = connect(&server.url()).await.unwrap();
            let builder = client.sequenced_subscriber("d.x").unwrap();
            let mut sub = builder.delivery(Delivery::Ordered).start().unwrap();
            // It says where it is and never answers.
            let hello = r#"{"v":1,"k":"hello","scope":"d.x","trail":1,"next":60000,"cg":1}"#;
            let mute = [("_SEQ.HB.d.x", 0, hello)];
            let data = [1, 3, 4].map(|seq| ("d.x", seq, "body"));
            for (subject, seq, payload) in mute.into_iter().chain(data) {
                let mut headers = Headers::new();
                headers.append("Seq", format!("mute.7.{seq}")).unwrap();
                let publication = Publication::new(subject, payload)
                    .unwrap()
                    .headers(&headers);
                client.send(publication).await.unwrap();
            }
            let mut told = Vec::new();
            while let Some(event) = timeout(PATIENCE, sub.next()).await.unwrap() {
                match event {
                    SequenceEvent::Message { origin, .. } => told.push(origin.seq.to_string()),
                    SequenceEvent::Lost {
                        from, to, reason, ..
                    } => told.push(format!("{from}-{to} {}", reason.as_str())),
                    SequenceEvent::Gap { .. } => {
                        // The others are behind it, in the mailbox or held.
                        let closing = client.clone();
                        tokio::spawn(async move {
                            closing.flush().await.unwrap();
                            if drains {
                                closing.drain().await.unwrap();
                            } else {
                                closing.close().await;
                            }
                        });
                    }
                    SequenceEvent::EpochStarted { .. } => {}
                    other => panic!("{other:?}, {what}"),
                }
            }
            assert_eq!(told, ["1", "2-2 closed", "3", "4"], "{what}");
            assert!(sub.is_settled(), "{what}");
            assert!(sub.next().await.is_none(), "{what}");
        }
    }
}

async fn outage(binary: &ServerBinary, signal: &str) {
    for delivery in [Delivery::Immediate, Delivery::Ordered] {
        let mut server = RealServer::start(binary, "");
        let receiving = patient().connect(&server.url()).await.unwrap();
        let builder = receiving.sequenced_subscriber("d.x").unwrap();
        let mut sub = builder.delivery(delivery).start().unwrap();
        receiving.flush().await.unwrap();
        let publishing = patient().connect(&server.url()).await.unwrap();
        let publisher = source(&publishing, "d.x", "test").start().unwrap();
        let mut account = Account::default();
        publish(&publisher, "d.x", 1..=1).await;
        hear(&mut sub, &mut account, |account| account.decided() == 1).await;

        let mut events = [receiving.events(), publishing.events()];
        publish(&publisher, "d.x", 2..=2_000).await;
        if signal == "KILL" {
            server.kill();
        } else {
            server.signal(signal);
        }
        for events in &mut events {
            event(events, |event| matches!(event, Event::Disconnected { .. })).await;
        }
        // These wait for the next connection.
        publish(&publisher, "d.x", 2_001..=2_500).await;
        if signal == "KILL" {
            server.restart();
        } else {
            server.signal("CONT");
        }
        for events in &mut events {
            event(events, |event| matches!(event, Event::Connected { .. })).await;
        }
        publish(&publisher, "d.x", 2_501..=3_000).await;
        let closing = tokio::spawn(publisher.close());
        hear(&mut sub, &mut account, |account| account.ended() == 1).await;
        account.assert_whole(3_000);
        let sum = account.sum();
        assert_eq!(sum.lost, 0, "{sum:?} on {}", binary.version);
        assert!(
            delivery != Delivery::Ordered || sum.out_of_order == 0,
            "{sum:?}"
        );
        timeout(LINGER_MAX, closing).await.unwrap().unwrap();
        receiving.close().await;
        publishing.close().await;
    }
}

/// Gives up a silent server within a second.
fn patient() -> ConnectOptions {
    ConnectOptions::new()
        .ping_interval(Duration::from_millis(400))
        .pings_out_max(1)
        .redial_delay(|_| Duration::from_millis(20))
}

/// A full mesh whose nodes know of each other only what lies behind a proxy.
fn cluster(binary: &ServerBinary, size: usize) -> (Vec<RealServer>, Vec<Proxy>) {
    let ports: Vec<u16> = (0..size).map(|_| free_port()).collect();
    let proxies: Vec<Proxy> = ports
        .iter()
        .map(|port| Proxy::start(([127, 0, 0, 1], *port).into(), 1))
        .collect();
    let nodes: Vec<RealServer> = ports
        .iter()
        .zip(&proxies)
        .map(|(port, own)| {
            let others = proxies.iter().filter(|proxy| proxy.address() != own.address());
            let others: Vec<String> = others
                .map(|proxy| format!("\"nats-route://{}\"", proxy.address()))
                .collect();
            let (advertised, others) = (own.address(), others.join(", "));
            let config = format!(
                "cluster {{ name: \"c\", listen: \"127.0.0.1:{port}\", advertise: \"{advertised}\", routes: [{others}] }}"
            );
            RealServer::start(binary, &config)
        })
        .collect();
    (nodes, proxies)
}

/// Waits until what `from` publishes arrives at `to`.
async fn await_interest(from: &Client, to: &Client) {
    let subject = to.new_inbox().unwrap();
    let mut probe = to.subscribe(&subject).unwrap();
    let arriving = async {
        loop {
            from.publish(&subject, "").await.unwrap();
            let next = timeout(Duration::from_millis(20), probe.next()).await;
            if next.is_ok() {
                return;
            }
        }
    };
    timeout(PATIENCE, arriving).await.unwrap();
}

/// Waits until it does not arrive any more.
async fn await_silence(from: &Client, to: &Client) {
    let subject = to.new_inbox().unwrap();
    let mut probe = to.subscribe(&subject).unwrap();
    to.flush().await.unwrap();
    let silence = async {
        loop {
            from.publish(&subject, "").await.unwrap();
            let next = timeout(Duration::from_millis(200), probe.next()).await;
            if next.is_err() {
                return;
            }
        }
    };
    timeout(PATIENCE, silence).await.unwrap();
}

async fn event(events: &mut natseq::client::Events, is_meant: impl Fn(&Event) -> bool) {
    let waiting = async { while !is_meant(&events.next().await.unwrap()) {} };
    timeout(PATIENCE, waiting).await.unwrap();
}
