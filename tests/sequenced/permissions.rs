//! What a server's permissions keep apart: each user can do its own part, and nobody another's.

use natseq::client::{Client, Publication, connect};
use natseq::sequence::{Coverage, Delivery, Event as SequenceEvent, Lacking};
use natseq::subject::Subject;
use natseq::wire::Headers;
use tokio::time::timeout;

use crate::account::{Account, LINGER_MAX, hear, publish, refusals, source};
use crate::support::{PATIENCE, RealServer, servers};

/// Two senders with scopes of their own, and a receiver that only listens and asks.
const USERS: &str = r#"
authorization {
    users: [
        { user: "pricing", password: "p", permissions: {
            publish: ["orders.eu.>", "_SEQ.HB.orders.eu.>"]
            subscribe: ["_SEQ.RX.pricing-a.*"]
            allow_responses: { max: 10000, expires: "10s" }
        } }
        { user: "billing", password: "p", permissions: {
            publish: ["orders.us.>", "_SEQ.HB.orders.us.>"]
            subscribe: ["_SEQ.RX.billing-a.*"]
            allow_responses: { max: 10000, expires: "10s" }
        } }
        { user: "audit", password: "p", permissions: {
            publish: ["_SEQ.RX.>"]
            subscribe: ["orders.>", "_SEQ.HB.orders.>", "_INBOX.>"]
        } }
    ]
}
mappings = { "orders.eu.x": [ { destination: "orders.eu.x", weight: 80% } ] }
"#;

#[tokio::test]
async fn a_sender_and_a_receiver_need_no_more_than_their_own_permissions() {
    for binary in servers("permissions") {
        let server = RealServer::start(&binary, USERS);
        let audit = connect(&server.url_as("audit:p")).await.unwrap();
        let pricing = connect(&server.url_as("pricing:p")).await.unwrap();
        let mut events = [audit.events(), pricing.events()];
        let builder = audit.sequenced_subscriber("orders.>").unwrap();
        let mut sub = builder.delivery(Delivery::Ordered).start().unwrap();
        audit.flush().await.unwrap();
        let publisher = source(&pricing, "orders.eu.>", "pricing-a")
            .start()
            .unwrap();
        publish(&publisher, "orders.eu.x", 1..=10_000).await;
        let closing = tokio::spawn(publisher.close());
        let mut account = Account::default();
        hear(&mut sub, &mut account, |account| account.ended() == 1).await;
        account.assert_whole(10_000);
        let sum = account.sum();
        assert_eq!(sum.lost, 0, "{sum:?} on {}", binary.version);
        assert!(sum.repaired > 1_000, "{sum:?} on {}", binary.version);
        timeout(LINGER_MAX, closing).await.unwrap().unwrap();
        pricing.close().await;
        audit.close().await;
        for events in &mut events {
            let mut refused = refusals(events, |refusal| refusal.subject).await;
            // What the mapping drops is refused to a publisher with permissions, under no name.
            refused.retain(|subject| !subject.is_empty());
            assert_eq!(refused, [""; 0], "{}", binary.version);
        }
    }
}

/// What the server refuses to a receiver, what it is told, and what is left of the account.
struct Case {
    /// Taken out of the receiver's permissions.
    refused: &'static [&'static str],
    lacking: &'static [Lacking],
    coverage: Coverage,
    is_repaired: bool,
    is_lost: bool,
    is_ended: bool,
}

/// Without heartbeats the source is asked for its scope and its end; without answers losses are told; without both nothing is
/// known of what is owed, and so nothing is claimed.
#[tokio::test]
async fn a_receiver_goes_on_without_what_it_is_refused_and_says_so() {
    let cases = [
        Case {
            refused: &[HEARTBEATS],
            lacking: &[Lacking::Heartbeats],
            coverage: Coverage::Strict,
            is_repaired: true,
            is_lost: false,
            is_ended: true,
        },
        Case {
            refused: &[ANSWERS],
            lacking: &[Lacking::Answers],
            coverage: Coverage::Strict,
            is_repaired: false,
            is_lost: true,
            is_ended: true,
        },
        Case {
            refused: &[HEARTBEATS, ANSWERS],
            lacking: &[Lacking::Heartbeats, Lacking::Answers],
            coverage: Coverage::Unverified,
            is_repaired: false,
            is_lost: false,
            is_ended: false,
        },
    ];
    let requests = Case {
        refused: &[REQUESTS],
        lacking: &[Lacking::Requests],
        coverage: Coverage::Strict,
        is_repaired: false,
        is_lost: true,
        is_ended: true,
    };
    for binary in servers("refused control subjects") {
        for case in cases.iter().chain([&requests]) {
            let what = format!("{:?} on {}", case.refused, binary.version);
            let users = case
                .refused
                .iter()
                .fold(USERS.to_owned(), |users, refused| {
                    users.replace(refused, r#""nothing""#)
                });
            let server = RealServer::start(&binary, &users);
            let audit = connect(&server.url_as("audit:p")).await.unwrap();
            let pricing = connect(&server.url_as("pricing:p")).await.unwrap();
            let builder = audit.sequenced_subscriber("orders.>").unwrap();
            let short = std::time::Duration::from_millis(500);
            let builder = builder.options(|options| options.gap_timeout = short);
            let mut sub = builder.start().unwrap();
            audit.flush().await.unwrap();
            let publisher = source(&pricing, "orders.eu.>", "pricing-a");
            let publisher = publisher.start().unwrap();
            // The first and the last are not lost on the way: no hello and no end may be heard.
            publish(&publisher, "orders.eu.y", 1..=1).await;
            publish(&publisher, "orders.eu.x", 2..=2_000).await;
            publish(&publisher, "orders.eu.y", 2_001..=2_001).await;
            let mut account = Account::default();
            let is_claimed = case.coverage == Coverage::Strict;
            hear(&mut sub, &mut account, |account| match is_claimed {
                true => account.decided() == 2_001,
                false => account.unverified == 1 && account.sum().highest == 2_001,
            })
            .await;
            let sum = account.sum();
            account
                .lacking
                .sort_unstable_by_key(|lacking| lacking.as_str().len());
            account.lacking.reverse();
            assert_eq!(account.lacking, case.lacking, "{what}");
            assert_eq!(sum.repaired > 100, case.is_repaired, "{sum:?}, {what}");
            assert_eq!(sum.lost > 100, case.is_lost, "{sum:?}, {what}");
            assert_eq!(sum.lost > 0, case.is_lost, "{sum:?}, {what}");
            let lines: Vec<_> = sub.statistics().collect();
            assert_eq!(lines[0].coverage, case.coverage, "{what}");
            assert!(sub.refusal().is_none(), "{what}");
            if case.is_ended {
                let closing = tokio::spawn(publisher.close());
                hear(&mut sub, &mut account, |account| account.ended() == 1).await;
                timeout(LINGER_MAX, closing).await.unwrap().unwrap();
            } else {
                drop(publisher);
            }
            pricing.close().await;
            audit.close().await;
        }
    }
}

#[tokio::test]
async fn a_receiver_that_is_refused_the_messages_ends_and_says_why() {
    for binary in servers("refused messages") {
        let users = USERS.replace(MESSAGES, r#""nothing""#);
        let server = RealServer::start(&binary, &users);
        let audit = connect(&server.url_as("audit:p")).await.unwrap();
        let builder = audit.sequenced_subscriber("orders.>").unwrap();
        let mut sub = builder.start().unwrap();
        let next = timeout(PATIENCE, sub.next()).await.unwrap();
        assert!(next.is_none(), "{next:?} on {}", binary.version);
        let refusal = sub.refusal().unwrap();
        assert_eq!(refusal.subject, "orders.>", "{}", binary.version);
        // What it does not need any more it does not keep.
        assert_eq!(audit.statistics().subscriptions, 0, "{}", binary.version);
        audit.close().await;
    }
}

/// What is one too many is refused without a name: first the answers, then the heartbeats.
#[tokio::test]
async fn what_exceeds_the_subscriptions_of_a_connection_is_said_to_be_missing() {
    for binary in servers("too many subscriptions") {
        for (most, lacking) in [
            (2, &[Lacking::Answers][..]),
            (1, &[Lacking::Answers, Lacking::Heartbeats]),
        ] {
            let what = format!("{most} on {}", binary.version);
            let server = RealServer::start(&binary, &format!("max_subscriptions: {most}"));
            let client = connect(&server.url()).await.unwrap();
            let mut sub = client.sequenced_subscriber("d.x").unwrap().start().unwrap();
            client.flush().await.unwrap();
            client.publish("d.x", "x").await.unwrap();
            let mut told = Vec::new();
            loop {
                match timeout(PATIENCE, sub.next()).await.unwrap().unwrap() {
                    SequenceEvent::Degraded { lacking, reason } => {
                        assert!(reason.contains("maximum subscriptions"), "{reason}, {what}");
                        told.push(lacking);
                    }
                    SequenceEvent::Unsequenced { .. } => break,
                    other => panic!("{other:?}, {what}"),
                }
            }
            assert_eq!(told, lacking, "{what}");
            client.close().await;
        }
    }
}

const MESSAGES: &str = r#""orders.>", "_SEQ.HB.orders.>", "_INBOX.>""#;
const HEARTBEATS: &str = r#""_SEQ.HB.orders.>""#;
const REQUESTS: &str = r#""_SEQ.RX.>""#;
const ANSWERS: &str = r#""_INBOX.>""#;

/// Data, heartbeats, and the place where repairs are asked for: a neighbour gets at none of them.
#[tokio::test]
async fn a_neighbour_can_neither_speak_nor_listen_for_another_sender() {
    for binary in servers("a neighbour") {
        let server = RealServer::start(&binary, USERS);
        let audit = connect(&server.url_as("audit:p")).await.unwrap();
        let mut sub = audit
            .sequenced_subscriber("orders.>")
            .unwrap()
            .start()
            .unwrap();
        audit.flush().await.unwrap();
        let pricing = connect(&server.url_as("pricing:p")).await.unwrap();
        let publisher = source(&pricing, "orders.eu.>", "pricing-a")
            .start()
            .unwrap();
        let mut account = Account::default();
        publish(&publisher, "orders.eu.y", 1..=1).await;
        hear(&mut sub, &mut account, |account| account.decided() == 1).await;

        let billing = connect(&server.url_as("billing:p")).await.unwrap();
        let mut events = billing.events();
        let epoch = publisher.epoch();
        let repairs = format!("_SEQ.RX.pricing-a.{epoch}");
        let forged = [
            ("orders.eu.y", format!("pricing-a.{epoch}.2"), "body 2"),
            (
                "_SEQ.HB.orders.eu._gt",
                format!("pricing-a.{epoch}.900"),
                END,
            ),
            // A later run would silence the true one.
            (
                "_SEQ.HB.orders.eu._gt",
                format!("pricing-a.{}.0", epoch + 1),
                HELLO,
            ),
            (
                "_INBOX.somebody.1",
                format!("pricing-a.{epoch}.2"),
                "body 2",
            ),
            (&repairs, String::new(), "1-1"),
        ];
        for (subject, stamp, payload) in &forged {
            send(&billing, subject, stamp, payload).await;
        }
        let mut stolen = billing.subscribe(&repairs).unwrap();
        assert!(timeout(PATIENCE, stolen.next()).await.unwrap().is_none());
        assert!(stolen.refusal().is_some(), "{}", binary.version);
        // Where it may speak it speaks for another, in vain.
        let lies = [
            (format!("pricing-a.{epoch}.900"), BEAT),
            (format!("pricing-a.{epoch}.1"), END),
            (format!("pricing-a.{}.0", epoch + 1), HELLO),
        ];
        for (stamp, payload) in &lies {
            send(&billing, "_SEQ.HB.orders.us._gt", stamp, payload).await;
        }
        billing.flush().await.unwrap();
        billing.close().await;
        let refused = refusals(&mut events, |refusal| refusal.subject).await;
        let tried = forged.iter().map(|(subject, ..)| *subject);
        let tried: Vec<&str> = tried.chain([repairs.as_str()]).collect();
        assert_eq!(refused, tried, "{}", binary.version);

        // The receiver has not heard of any of it.
        publish(&publisher, "orders.eu.y", 2..=3).await;
        let closing = tokio::spawn(publisher.close());
        hear(&mut sub, &mut account, |account| account.ended() == 1).await;
        account.assert_whole(3);
        assert_eq!(account.sum().gaps, 0, "{}", binary.version);
        assert_eq!(sub.misplaced_heartbeats(), 3, "{}", binary.version);
        timeout(LINGER_MAX, closing).await.unwrap().unwrap();
        audit.close().await;
        pricing.close().await;
    }
}

async fn send(client: &Client, subject: &str, stamp: &str, payload: &str) {
    let mut headers = Headers::new();
    headers.append("Seq", stamp).unwrap();
    let subject = Subject::new(subject).unwrap();
    let publication = Publication::new(&subject, payload.to_owned()).unwrap();
    client.send(publication.headers(&headers)).await.unwrap();
}

const END: &str = r#"{"v":1,"k":"eos","scope":"orders.eu.>","trail":901,"next":1000,"cg":1}"#;
const BEAT: &str = r#"{"v":1,"k":"hb","scope":"orders.eu.>","trail":1,"next":1000,"cg":1}"#;
const HELLO: &str = r#"{"v":1,"k":"hello","scope":"orders.eu.>","trail":1,"next":1000,"cg":1}"#;
