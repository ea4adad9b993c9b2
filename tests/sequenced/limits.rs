//! What a server would not take has no number: a number without its message would be a loss.

use natseq::client::{
    ConnectOptions, ErrorKind, Event as ClientEvent, SequencedPublisher, connect,
};
use natseq::sequence::{Carrier, Delivery, Event};
use tokio::time::timeout;

use crate::account::source;
use crate::support::{PATIENCE, RealServer, servers};

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
        drop(publisher);
        client.close().await;
    }
}
