//! natseq and a second implementation of its conventions, in Python without a library, repair each other's losses.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use natseq::client::{Publication, SequencedSubscriber, connect};
use natseq::sequence::{Delivery, NamePolicy, RetentionLimits, RetentionOverflow};
use serde_json::Value;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

use crate::account::{Account, hear, publish, source};
use crate::support::program::Program;
use crate::support::{PATIENCE, RealServer, ServerBinary, servers};

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

/// Nothing of the next run reaches it: it goes on in another scope.
#[tokio::test]
async fn a_second_implementation_sees_a_run_end_whose_name_was_taken() {
    for binary in servers("a second implementation of fences") {
        let server = lossy(&binary);
        let checker = python(&server, &["check", "d.*"]);
        checker.wait_for_output("ready");
        let client = connect(&server.url()).await.unwrap();
        let first = source(&client, "d.x", "ours");
        let first = first.claim(NamePolicy::Takeover).await.unwrap();
        publish(&first, "d.x", 1..=100).await;
        let second = source(&client, "e.x", "ours");
        let second = second.claim(NamePolicy::Takeover).await.unwrap();
        let told = spawn_blocking(move || checker.succeed()).await.unwrap();
        let outcomes = Outcomes::read(&told);
        assert_eq!((outcomes.delivered.len(), outcomes.lost), (100, 0));
        assert_eq!(first.fenced_by(), Some(second.epoch()));
        client.close().await;
    }
}

/// Half a MiB is sent to a requester at once, and a MiB in each second after that.
#[tokio::test]
async fn a_second_implementation_sends_no_more_than_its_budget() {
    for binary in servers("a second implementation of budgets") {
        let server = RealServer::start(&binary, "");
        let client = connect(&server.url()).await.unwrap();
        let mut beats = client.subscribe("_SEQ.HB.d.x").unwrap();
        client.flush().await.unwrap();
        let count = MESSAGES.to_string();
        let theirs = python(&server, &["publish", "d.x", &count, "theirs"]);
        let end = format!(".{count}");
        let run = loop {
            let beat = timeout(PATIENCE, beats.next()).await.unwrap().unwrap();
            let stamp = beat.headers().unwrap().first("Seq").unwrap().to_vec();
            let stamp = String::from_utf8(stamp).unwrap();
            if let Some(run) = stamp.strip_suffix(&end) {
                break run.to_owned();
            }
        };
        let inbox = client.new_inbox().unwrap();
        let mut answers = client.subscribe(&inbox).unwrap();
        let asked = format!("_SEQ.RX.{run}");
        let began = Instant::now();
        // 3 MB, and no request twice.
        let all = |less: u64| {
            (1..=MESSAGES)
                .step_by(256)
                .map(move |from| (from, from + 255 - less))
        };
        let requests = (0..3).flat_map(all);
        for (from, to) in requests.clone() {
            let ranges = format!("{from}-{to}");
            let request = Publication::new(&asked, ranges).unwrap();
            client.send(request.reply(&inbox).unwrap()).await.unwrap();
        }
        let (mut bytes, mut delayed) = (0_usize, 0);
        for _ in requests {
            loop {
                let answer = timeout(PATIENCE, answers.next()).await.unwrap().unwrap();
                let block = answer.headers().unwrap();
                let fields = block.iter().map(|field| field.unwrap());
                let lines = fields.map(|(name, value)| name.len() + value.len() + 4);
                bytes += lines.sum::<usize>() + answer.payload().len();
                delayed += u64::from(block.first("Seq-Retry").is_some());
                if answer.status().is_some() {
                    break;
                }
            }
        }
        let bytes_max = 600_000.0 + 1_100_000.0 * began.elapsed().as_secs_f64();
        assert!((bytes as f64) < bytes_max, "{bytes} on {}", binary.version);
        assert!(delayed > 0, "{bytes} on {}", binary.version);
        theirs.succeed();
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
