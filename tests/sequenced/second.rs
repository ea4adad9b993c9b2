//! natseq and a second implementation of its conventions, in Python without a library, repair each other's losses.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use natseq::client::{SequencedSubscriber, connect};
use natseq::sequence::{Delivery, RetentionLimits, RetentionOverflow};
use serde_json::Value;

use crate::account::{Account, hear, publish, source};
use crate::support::program::Program;
use crate::support::{RealServer, ServerBinary, servers};

#[tokio::test]
async fn a_second_implementation_wins_back_what_we_publish() {
    for binary in servers("a second implementation checks") {
        let server = lossy(&binary);
        let checker = python(&server, &["check", "d.*"]);
        checker.wait_for_output("ready");
        let client = connect(&server.url()).await.unwrap();
        let publisher = source(&client, "d.x", "ours").start().unwrap();
        publish(&publisher, "d.x", 1..=MESSAGES).await;
        let closed = publisher.close().await;
        client.close().await;

        let outcomes = Outcomes::read(&checker.succeed());
        assert_eq!(outcomes.delivered.len() as u64, MESSAGES);
        assert_eq!(outcomes.lost, 0, "{:?}", outcomes.summary);
        let repaired = outcomes.repaired();
        assert!((MESSAGES / 10..MESSAGES * 3 / 10).contains(&repaired));
        assert!(closed.statistics.repairs >= repaired, "{closed:?}");
    }
}

/// What the source forgets before it is asked is named lost by both, each number once.
#[tokio::test]
async fn a_second_implementation_believes_us_what_is_gone() {
    for binary in servers("a second implementation loses") {
        let server = lossy(&binary);
        let checker = python(&server, &["check", "d.>"]);
        checker.wait_for_output("ready");
        let client = connect(&server.url()).await.unwrap();
        let builder = source(&client, "d.x", "ours").overflow(RetentionOverflow::Evict);
        let retention = RetentionLimits {
            messages_max: 3,
            ..RetentionLimits::default()
        };
        let publisher = builder.retention(retention).start().unwrap();
        publish(&publisher, "d.x", 1..=MESSAGES).await;
        publisher.close().await;
        client.close().await;

        let outcomes = Outcomes::read(&checker.succeed());
        let delivered = outcomes.delivered.len() as u64;
        assert_eq!(delivered + outcomes.lost, MESSAGES);
        assert!(outcomes.lost > 0, "{:?}", outcomes.summary);
    }
}

/// Who hears one subject of ten is told by each message which one came before it there.
#[tokio::test]
async fn a_second_implementation_wins_back_its_part_of_what_we_publish() {
    for binary in servers("a second implementation hears a part") {
        let server = lossy(&binary);
        // The last ones may be lost with nothing behind them that names them.
        let checker = python(&server, &["check", "d.3.*", "950"]);
        checker.wait_for_output("ready");
        let client = connect(&server.url()).await.unwrap();
        let publisher = source(&client, "d.*.x", "ours").start().unwrap();
        for number in 1..=MESSAGES {
            let subject = format!("d.{}.x", number % 10);
            let payload = format!("body {number}");
            publisher.publish(&subject, payload).await.unwrap();
        }
        publisher.close().await;
        client.close().await;
        let outcomes = Outcomes::read(&checker.succeed());
        assert_eq!(outcomes.lost, 0, "{:?}", outcomes.summary);
        assert!(outcomes.repaired() > 100, "{:?}", outcomes.summary);
        // A fifth was lost: without chains there were 800.
        assert_eq!(outcomes.delivered.len(), 950, "{:?}", outcomes.summary);
        assert!(outcomes.delivered.keys().all(|seq| seq % 10 == 3));
    }
}

#[tokio::test]
async fn we_win_back_what_a_second_implementation_publishes() {
    for binary in servers("a second implementation publishes") {
        for delivery in [Delivery::Immediate, Delivery::Ordered] {
            let server = lossy(&binary);
            let client = connect(&server.url()).await.unwrap();
            let builder = client.sequenced_subscriber("d.>").unwrap();
            let mut sub = builder.delivery(delivery).start().unwrap();
            client.flush().await.unwrap();
            let count = MESSAGES.to_string();
            let theirs = python(&server, &["publish", "d.x", &count, "theirs"]);
            let account = until_the_end(&mut sub).await;
            let tally = account.sum();
            assert_eq!((tally.delivered, tally.lost), (MESSAGES, 0), "{tally:?}");
            assert!(tally.repaired > MESSAGES / 10, "{tally:?}");
            let is_in_order = tally.out_of_order == 0;
            assert_eq!(is_in_order, delivery == Delivery::Ordered, "{tally:?}");
            theirs.succeed();
            client.close().await;
        }
    }
}

#[tokio::test]
async fn we_believe_a_second_implementation_what_is_gone() {
    for binary in servers("a second implementation forgets") {
        let server = lossy(&binary);
        let client = connect(&server.url()).await.unwrap();
        let mut sub = client.sequenced_subscriber("d.x").unwrap().start().unwrap();
        client.flush().await.unwrap();
        let count = MESSAGES.to_string();
        let theirs = python(&server, &["publish", "d.x", &count, "theirs", "3"]);
        let account = until_the_end(&mut sub).await;
        let tally = account.sum();
        assert_eq!(tally.delivered + tally.lost, MESSAGES, "{tally:?}");
        assert!(tally.lost > 0, "{tally:?}");
        theirs.succeed();
        client.close().await;
    }
}

/// A run that began later takes the place of the one before it, at both ends.
#[tokio::test]
async fn a_later_run_of_the_same_name_is_owed_from_its_first_number() {
    for binary in servers("two runs") {
        let server = lossy(&binary);
        let client = connect(&server.url()).await.unwrap();
        let mut sub = client.sequenced_subscriber("d.x").unwrap().start().unwrap();
        client.flush().await.unwrap();
        let mut account = Account::default();
        for run in 1..=2 {
            let theirs = python(&server, &["publish", "d.x", "500", "theirs"]);
            hear(&mut sub, &mut account, |account| account.ended() == run).await;
            theirs.succeed();
        }
        account.assert_whole(500);
        assert_eq!(account.sum().lost, 0);
        client.close().await;
    }
}

async fn until_the_end(sub: &mut SequencedSubscriber) -> Account {
    let mut account = Account::default();
    hear(sub, &mut account, |account| account.ended() == 1).await;
    account.assert_whole(MESSAGES);
    account
}

/// What the second implementation tells of one source.
#[derive(Default)]
struct Outcomes {
    /// By number, whether it came by repair.
    delivered: BTreeMap<u64, bool>,
    lost: u64,
    summary: Value,
}

impl Outcomes {
    fn repaired(&self) -> u64 {
        let repaired = self.delivered.values().filter(|is_repaired| **is_repaired);
        repaired.count() as u64
    }

    fn read(lines: &[String]) -> Self {
        let mut outcomes = Self::default();
        for line in lines.iter().filter(|line| line.starts_with('{')) {
            let event: Value = serde_json::from_str(line).unwrap();
            match event["event"].as_str().unwrap() {
                "message" => {
                    let seq = event["seq"].as_u64().unwrap();
                    assert_eq!(event["payload"], format!("body {seq}"), "{line}");
                    let subject = event["subject"].as_str().unwrap();
                    assert!(["d.x", "d.3.x"].contains(&subject), "{line}");
                    let is_repaired = event["repaired"].as_bool().unwrap();
                    let before = outcomes.delivered.insert(seq, is_repaired);
                    assert_eq!(before, None, "twice: {line}");
                }
                "lost" => {
                    let seq = event["from"].as_u64().unwrap();
                    assert!(!outcomes.delivered.contains_key(&seq), "{line}");
                    assert_eq!(event["reason"], "not_retained", "{line}");
                    outcomes.lost += 1;
                }
                "summary" => outcomes.summary = event,
                "epoch" => {}
                _ => panic!("{line}"),
            }
        }
        let delivered = outcomes.delivered.len() as u64;
        assert_eq!(outcomes.summary["delivered"], delivered);
        assert_eq!(outcomes.summary["lost"], outcomes.lost);
        outcomes
    }
}

fn python(server: &RealServer, arguments: &[&str]) -> Program {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/seq.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(server.url()).args(arguments);
    Program::start(&mut command, None)
}

/// A server that loses a fifth of `d.x` and `d.3.x`.
fn lossy(binary: &ServerBinary) -> RealServer {
    let lossy = ["d.x", "d.3.x"]
        .map(|name| format!("\"{name}\": [ {{ destination: \"{name}\", weight: 80% }} ]"));
    let config = format!("mappings = {{ {} }}", lossy.join(", "));
    RealServer::start(binary, &config)
}

const MESSAGES: u64 = 10_000;
