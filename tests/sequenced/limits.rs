//! What a server would not take has no number: a number without its message would be a loss.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use natseq::client::{
    Client, ConnectOptions, ErrorKind, Event as ClientEvent, Publication, SequencedPublisher,
    connect,
};
use natseq::sequence::{Carrier, Delivery, Event, Rate, RepairLimits};
use tokio::time::{Instant, timeout};

use crate::account::source;
use crate::support::proxy::{Proxy, Way};
use crate::support::{PATIENCE, RealServer, server, servers};

/// Around both limits, byte by byte, each message is either refused here without a number or arrives with its own.
#[tokio::test]
async fn what_is_refused_has_no_number_however_the_numbers_travel() {
    for binary in servers("limits") {
        let server = RealServer::start(&binary, "max_payload: 8000");
        for carrier in [Carrier::Header, Carrier::Token, Carrier::Payload] {
            let what = format!("{carrier:?} on {}", binary.version);
            let receiving = connect(&server.url()).await.unwrap();
            let builder = receiving.sequenced_subscriber("d.>").unwrap();
            let builder = builder.carrier(carrier).delivery(Delivery::DetectOnly);
            let mut sub = builder.start().unwrap();
            receiving.flush().await.unwrap();
            let publishing = connect(&server.url()).await.unwrap();
            let builder = source(&publishing, "d.>", &"n".repeat(32)).carrier(carrier);
            let publisher = builder.start().unwrap();
            let mut taken = 0;
            for len in 7_600..=8_010 {
                let kind = publish(&publisher, "d.x", &"x".repeat(len), &mut taken).await;
                let is_known = matches!(kind, None | Some(ErrorKind::PayloadTooLarge { .. }));
                assert!(is_known, "{kind:?} of {len} bytes, {what}");
            }
            assert!((100..411).contains(&taken), "{taken} payloads, {what}");
            let payloads = taken;
            for len in 3_900..=4_110 {
                let subject = format!("d.{}", "x".repeat(len - 2));
                let kind = publish(&publisher, &subject, "x", &mut taken).await;
                let is_known = matches!(kind, None | Some(ErrorKind::LineTooLong { .. }));
                assert!(is_known, "{kind:?} of {len} bytes, {what}");
            }
            let subjects = taken - payloads;
            assert!((50..211).contains(&subjects), "{subjects} subjects, {what}");
            assert_eq!(publisher.lead(), taken, "{what}");
            let mut heard = 0;
            while heard < taken {
                match timeout(PATIENCE, sub.next()).await.unwrap().unwrap() {
                    Event::Message { origin, .. } => {
                        heard += 1;
                        assert_eq!(origin.seq, heard, "{what}");
                    }
                    Event::EpochStarted { .. } | Event::SourceSilent { .. } => {}
                    other => panic!("{other:?}, {what}"),
                }
            }
            assert_eq!(publishing.statistics().connects, 1, "{what}");
            drop(publisher);
            publishing.close().await;
            receiving.close().await;
        }
    }
}

/// A server that reads no more: answers fill half of what the client may have waiting, and a program can publish as much.
#[tokio::test]
async fn answers_leave_room_for_what_is_published() {
    for binary in servers("room beside answers") {
        let what = binary.version;
        let server = RealServer::start(&binary, "");
        let proxy = Proxy::start(server.address(), 1);
        let publishing = connect(&proxy.url()).await.unwrap();
        let publisher = flooded(&publishing, "one").await;
        let asking = connect(&server.url()).await.unwrap();
        proxy.stall(Way::ToServer);
        let (mut repairs, mut same) = (0, 0);
        while same < 20 {
            ask(&asking, &publisher, 4).await;
            tokio::time::sleep(Duration::from_millis(25)).await;
            let now = publisher.statistics().repairs;
            same = if now == repairs { same + 1 } else { 0 };
            repairs = now;
        }
        assert!(repairs > 0, "{what}");
        // Half of a mebibyte, and the client's own words beside.
        for count in 0..100 {
            let sent = publisher.try_publish("d.x", vec![0; 4_096]);
            assert!(sent.is_ok(), "{count}: {sent:?} beside {repairs}, {what}");
        }
        proxy.resume(Way::ToServer);
        asking.close().await;
        drop(publisher);
        publishing.close().await;
    }
}

/// Two sources that may send as much as they like, and whoever asks again and again under new names.
#[tokio::test]
async fn all_sources_of_a_client_send_again_no_more_than_one_budget() {
    let Some(binary) = server("a client's budget", "2.15.1") else {
        return;
    };
    let server = RealServer::start(&binary, "");
    let publishing = connect(&server.url()).await.unwrap();
    let publishers = [
        flooded(&publishing, "one").await,
        flooded(&publishing, "two").await,
    ];
    let asking = connect(&server.url()).await.unwrap();
    let watching = connect(&server.url()).await.unwrap();
    let answers = watching.subscription("_INBOX.>").messages_max(1);
    let answers = answers.confirmed().await.unwrap();
    let before = watching.statistics().received_bytes;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        for publisher in &publishers {
            ask(&asking, publisher, 4).await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let sent = watching.statistics().received_bytes - before;
    let seconds = began.elapsed().as_secs() + 2;
    let most = (4 << 20) + (16 << 20) * seconds;
    assert!(
        sent <= most,
        "{sent} bytes in {seconds} s, {most} are allowed"
    );
    assert!(sent > 4 << 20, "{sent} bytes are no flood");
    drop((publishers, answers));
    for client in [asking, watching, publishing] {
        client.close().await;
    }
}

/// A source with sixteen mebibytes to send again, and no bounds of its own.
async fn flooded(client: &Client, name: &str) -> SequencedPublisher {
    let all = Rate {
        bytes_per_second: 1 << 40,
        burst_bytes: 1 << 40,
    };
    let limits = RepairLimits {
        request_messages_max: 256,
        request_bytes_max: 1 << 20,
        requester: all,
        source: all,
    };
    let publisher = source(client, "d.x", name).repairs(limits).start().unwrap();
    for _ in 0..4_096 {
        publisher.publish("d.x", vec![0; 4_096]).await.unwrap();
    }
    client.flush().await.unwrap();
    publisher
}

/// Asks a source for a mebibyte as often, each time under another name.
async fn ask(client: &Client, publisher: &SequencedPublisher, times: u64) {
    static NAMES: AtomicU64 = AtomicU64::new(0);
    let subject = format!("_SEQ.RX.{}.{}", publisher.source(), publisher.epoch());
    for _ in 0..times {
        let name = NAMES.fetch_add(1, Ordering::Relaxed);
        let from = name * 256 % 4_096 + 1;
        let request = format!("{from}-{}", from + 255);
        let publication = Publication::new(&subject, request).unwrap();
        let reply = format!("_INBOX.flood{name}.0");
        client
            .send(publication.reply(&reply).unwrap())
            .await
            .unwrap();
    }
    client.flush().await.unwrap();
}

/// Returns why it was refused.
async fn publish(
    publisher: &SequencedPublisher,
    subject: &str,
    payload: &str,
    taken: &mut u64,
) -> Option<ErrorKind> {
    match publisher.publish(subject, payload.to_owned()).await {
        Ok(seq) => {
            *taken += 1;
            assert_eq!(seq, *taken);
            None
        }
        Err(error) => Some(error.kind()),
    }
}

/// The next server knows no headers: there the numbers cannot stand, and a server that is sent some closes the connection.
#[tokio::test]
async fn a_server_that_would_strip_the_numbers_is_sent_none() {
    for binary in servers("no headers") {
        let first = RealServer::start(&binary, "");
        let second = RealServer::start(&binary, "no_header_support: true");
        let options = ConnectOptions::new().keep_server_order(true);
        let urls = format!("{},{}", first.url(), second.url());
        let client = options.connect(&urls).await.unwrap();
        let mut events = client.events();
        let publisher = source(&client, "d.x", "n").start().unwrap();
        assert_eq!(publisher.publish("d.x", "x").await.unwrap(), 1);
        client.flush().await.unwrap();
        drop(first);
        while !matches!(
            timeout(PATIENCE, events.next()).await.unwrap().unwrap(),
            ClientEvent::Connected { .. }
        ) {}
        let refused = publisher.publish("d.x", "x").await.unwrap_err();
        let what = format!("{refused:?} on {}", binary.version);
        assert_eq!(refused.kind(), ErrorKind::HeadersUnsupported, "{what}");
        assert_eq!(publisher.lead(), 1, "{what}");
        client.flush().await.unwrap();
        assert_eq!(client.statistics().connects, 2, "{what}");
        let mut closing = tokio::spawn(publisher.close());
        let waited = timeout(Duration::from_millis(300), &mut closing).await;
        assert!(waited.is_err(), "it waits for another server, {what}");
        client.close().await;
        let closed = timeout(PATIENCE, closing).await.unwrap().unwrap();
        assert!(!closed.is_announced, "its end was not said, {what}");
    }
}
