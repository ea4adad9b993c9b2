//! Filters and queue groups: who gets a part of a source is told of no loss.

use std::collections::{BTreeMap, BTreeSet};

use natseq::client::{Client, connect};
use natseq::sequence::Event;
use natseq::subject::{Filter, QueueGroup};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::account::{Account, LINGER_MAX, hear, publish, source};
use crate::support::{PATIENCE, RealServer, servers};

/// One source over ten subjects, heard whole, in parts, and shared by groups whose members have the same filter or not.
#[tokio::test]
async fn filters_and_queue_groups_are_told_of_no_loss() {
    for binary in servers("filters and groups") {
        let server = RealServer::start(&binary, "");
        let client = connect(&server.url()).await.unwrap();
        let (telling, mut told) = unbounded_channel();
        listen(&client, "all", "orders.>", None, &telling);
        listen(&client, "third", "orders.3.*", None, &telling);
        listen(&client, "fourth", "orders.4.x", None, &telling);
        for _ in 0..3 {
            listen(&client, "group", "orders.>", Some("g"), &telling);
            listen(
                &client,
                "part of a group",
                "orders.*.x",
                Some("h"),
                &telling,
            );
        }
        drop(telling);
        client.flush().await.unwrap();

        let publishing = connect(&server.url()).await.unwrap();
        let publisher = source(&publishing, "orders.>", "shop").start().unwrap();
        for number in 1..=MESSAGES {
            let subject = format!("orders.{}.x", number % 10);
            let seq = publisher
                .publish(&subject, number.to_string())
                .await
                .unwrap();
            assert_eq!(seq, number);
        }
        publisher.close().await;
        publishing.close().await;

        let expected: BTreeMap<&str, BTreeSet<u64>> = [
            ("all", (1..=MESSAGES).collect()),
            (
                "third",
                (1..=MESSAGES).filter(|seq| seq % 10 == 3).collect(),
            ),
            (
                "fourth",
                (1..=MESSAGES).filter(|seq| seq % 10 == 4).collect(),
            ),
            ("group", (1..=MESSAGES).collect()),
            ("part of a group", (1..=MESSAGES).collect()),
        ]
        .into();
        let outstanding = expected.values().map(BTreeSet::len).sum();
        let mut heard = BTreeMap::new();
        for _ in 0..outstanding {
            let next = timeout(PATIENCE, told.recv()).await;
            let (name, seq) = next.expect("all to be heard").unwrap();
            let seq = seq.unwrap();
            let is_new = heard.entry(name).or_insert_with(BTreeSet::new).insert(seq);
            assert!(is_new, "{name}: {seq} twice on {}", binary.version);
        }
        assert!(heard == expected, "{}", binary.version);
        client.close().await;
        let more = timeout(PATIENCE, told.recv()).await.unwrap();
        assert_eq!(more, None, "{}", binary.version);
    }
}

/// A mapping gives four messages in five another name; of the others only the numbers tell, and the repairs, which have the
/// first.
#[tokio::test]
async fn a_scope_that_comes_by_another_name_is_won_back_whole() {
    let mappings = r#"mappings = {
        "far.x": [ { destination: "near.x", weight: 80% } ]
        "_SEQ.HB.far.x": "_SEQ.HB.near.x"
    }"#;
    for binary in servers("another name") {
        let server = RealServer::start(&binary, mappings);
        let client = connect(&server.url()).await.unwrap();
        let far = Filter::new("far.x").unwrap();
        let builder = client.sequenced_subscriber("near.x").unwrap();
        let builder = builder.options(|options| options.assume_scope = Some(far));
        let mut sub = builder.start().unwrap();
        client.flush().await.unwrap();
        let publisher = source(&client, "far.x", "far").start().unwrap();
        publish(&publisher, "far.x", 1..=2_000).await;
        let closing = tokio::spawn(publisher.close());
        let mut account = Account::default();
        hear(&mut sub, &mut account, |account| account.ended() == 1).await;
        account.assert_whole(2_000);
        let sum = account.sum();
        assert_eq!(sum.lost, 0, "{sum:?} on {}", binary.version);
        assert!(sum.repaired > 100, "{sum:?} on {}", binary.version);
        assert_eq!(sub.misplaced_heartbeats(), 0, "{}", binary.version);
        timeout(LINGER_MAX, closing).await.unwrap().unwrap();
        client.close().await;
    }
}

/// Tells the numbers that a subscriber gets; it may be told nothing else of note.
fn listen(
    client: &Client,
    name: &'static str,
    filter: &str,
    group: Option<&str>,
    telling: &UnboundedSender<Told>,
) {
    let builder = client.sequenced_subscriber(filter).unwrap();
    let builder = match group {
        Some(group) => builder.queue_group(QueueGroup::new(group).unwrap()),
        None => builder,
    };
    let mut sub = builder.start().unwrap();
    let telling = telling.clone();
    tokio::spawn(async move {
        while let Some(event) = sub.next().await {
            match event {
                Event::Message { message, origin } => {
                    assert_eq!(message.payload(), origin.seq.to_string().as_bytes());
                    telling.send((name, Ok(origin.seq))).unwrap();
                }
                Event::Gap { .. } | Event::Lost { .. } | Event::Conflict { .. } => {
                    telling.send((name, Err(format!("{event:?}")))).unwrap();
                }
                _ => {}
            }
        }
    });
}

/// Who was told, and which number; or what else.
type Told = (&'static str, Result<u64, String>);

const MESSAGES: u64 = 20_000;
