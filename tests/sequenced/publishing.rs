//! Many tasks publish through one source: what one connection sees is in order, and whole.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use natseq::client::{ErrorKind, Publication, connect};
use natseq::sequence::{Heartbeat, HeartbeatOptions, Stamp};
use natseq::wire::Message;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::account::source;
use crate::support::{PATIENCE, RealServer, servers};

/// A plain subscription to everything, in the order of the wire: numbers rise by one, and each heartbeat names the number that
/// stands before it. What is refused has no number, and each task is told the number that its message has.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_through_one_source_keep_wire_order_and_leave_no_hole() {
    for binary in servers("many tasks") {
        let what = binary.version;
        let server = RealServer::start(&binary, "max_payload: 200000");
        let watching = connect(&server.url()).await.unwrap();
        let builder = watching.subscription(">").messages_max(1 << 20);
        let mut wire = builder
            .bytes_max(1 << 30)
            .confirmed()
            .await
            .unwrap_or_else(|error| panic!("{error} on {what}"));
        let publishing = connect(&server.url()).await.unwrap();
        // Beats stand between the messages of those who rest for a moment.
        let rhythm = HeartbeatOptions {
            tail_detection: Some(Duration::from_millis(1)),
            ..HeartbeatOptions::default()
        };
        let builder = source(&publishing, "d.*", "one").heartbeat(rhythm);
        let publisher = Arc::new(builder.start().unwrap());
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let publisher = Arc::clone(&publisher);
            tasks.spawn(async move {
                let mut numbers = Vec::new();
                for count in 0..EACH {
                    // Some are copied, some shared, and some go to where nobody may publish.
                    // The large ones are shared, the others copied.
                    let filler = if count % 50 == 7 { 40_000 } else { 10 };
                    let payload = format!("{task} {count} {}", "x".repeat(filler));
                    let subject = format!("d.{}", task % 3);
                    let seq = match count % 3 {
                        0 => publisher.publish(&subject, payload).await,
                        1 => {
                            let publication = Publication::new(&subject, payload).unwrap();
                            publisher.send(publication).await
                        }
                        _ => match publisher.try_publish(&subject, payload.clone()) {
                            Err(error) if matches!(error.kind(), ErrorKind::OutboxFull { .. }) => {
                                publisher.publish(&subject, payload).await
                            }
                            done => done,
                        },
                    };
                    numbers.push((seq.unwrap(), task, count));
                    if count % 100 == 3 {
                        let large = "x".repeat(200_000);
                        publisher.publish(&subject, large).await.unwrap_err();
                        publisher.publish("elsewhere", "x").await.unwrap_err();
                    }
                    if count % 500 == 9 {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
                assert!(numbers.is_sorted(), "task {task} is told {numbers:?}");
                numbers
            });
        }
        let told = timeout(PATIENCE, tasks.join_all()).await.unwrap();
        let told: BTreeSet<(u64, u64, u64)> = told.into_iter().flatten().collect();
        let publisher = Arc::into_inner(publisher).unwrap();
        assert_eq!(publisher.lead(), TASKS * EACH, "{what}");
        let epoch = publisher.epoch();
        let closing = tokio::spawn(publisher.close());

        let (mut last, mut beats) = (0, 0);
        let mut on_wire = BTreeSet::new();
        loop {
            let message = timeout(PATIENCE, wire.next()).await.unwrap().unwrap();
            let text = message.headers().unwrap().first("Seq").unwrap();
            let stamp = Stamp::parse(text).unwrap();
            assert_eq!((stamp.source, stamp.epoch), ("one", epoch), "{what}");
            if message.subject().starts_with(b"_SEQ.HB.") {
                assert_eq!(stamp.seq, last, "heartbeat {beats} on {what}");
                beats += 1;
                let heartbeat = Heartbeat::parse(stamp.seq, message.payload()).unwrap();
                if heartbeat.kind.is_end() {
                    break;
                }
                continue;
            }
            last += 1;
            assert_eq!(stamp.seq, last, "{what}");
            on_wire.insert(number_of(&message, last));
        }
        assert_eq!(last, TASKS * EACH, "{what}");
        assert!(on_wire == told, "what tasks were told, on {what}");
        assert!(beats > 2, "{beats} heartbeats on {what}");
        closing.await.unwrap();
        publishing.close().await;
        watching.close().await;
    }
}

/// The number of a message, whose it is, and which of theirs.
fn number_of(message: &Message, seq: u64) -> (u64, u64, u64) {
    let text = std::str::from_utf8(message.payload()).unwrap();
    let mut words = text.split(' ').map(|word| word.parse().unwrap_or_default());
    (seq, words.next().unwrap(), words.next().unwrap())
}

const TASKS: u64 = 8;
const EACH: u64 = 2_500;
