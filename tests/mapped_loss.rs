//! Sequenced delivery over real servers that lose messages on purpose: all arrive, none twice.
#![cfg(feature = "client")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "test code: a surprise here fails the test"
)]

mod support;

use std::time::Duration;

use natseq::client::connect;
use natseq::sequence::{Delivery, Event, RetentionLimits, RetentionOverflow, SourceName};
#[cfg(feature = "cli")]
use support::program::{Program, READY};
use support::{PATIENCE, RealServer, ServerBinary, servers};

#[tokio::test]
async fn everything_arrives_once_where_a_tenth_is_lost() {
    for binary in servers("a tenth lost") {
        deliver(&binary, 90, Delivery::Immediate).await;
    }
}

#[tokio::test]
async fn everything_arrives_once_where_half_is_lost() {
    for binary in servers("half lost") {
        deliver(&binary, 50, Delivery::Immediate).await;
    }
}

#[tokio::test]
async fn everything_arrives_in_order_where_half_is_lost() {
    for binary in servers("half lost, in order") {
        deliver(&binary, 50, Delivery::Ordered).await;
    }
}

#[tokio::test]
async fn a_receiver_that_only_detects_reports_each_loss_once() {
    for binary in servers("detect only") {
        let server = lossy(&binary, 90);
        let tally = run(&server, Delivery::DetectOnly).await;
        let share = tally.lost as f64 / MESSAGES as f64;
        assert!(
            (0.05..0.15).contains(&share),
            "{tally:?} on {}",
            server.version()
        );
        assert_eq!(tally.repaired, 0, "{}", server.version());
    }
}

/// The same through the two programs.
#[cfg(feature = "cli")]
#[test]
fn the_programs_deliver_everything_where_a_tenth_is_lost() {
    let Some(binary) = support::server("the two programs", "2.15.1") else {
        return;
    };
    let server = lossy(&binary, 90);
    let mut sub = natseq(&server);
    let sub = Program::start(
        sub.args(["sub", "d.x", "--sequenced", "--json", "--until-eos"]),
        None,
    );
    sub.wait_for_error(READY);
    let mut publish = natseq(&server);
    publish.args([
        "pub",
        "d.x",
        "body {{Count}}",
        "--sequenced",
        "--count",
        "20000",
    ]);
    Program::start(&mut publish, None).succeed();

    let lines = sub.succeed();
    let mut seen = std::collections::BTreeSet::new();
    let mut repaired = 0;
    for line in &lines {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_ne!(event["event"], "lost", "{line}");
        if event["event"] == "message" {
            let seq = event["seq"].as_u64().unwrap();
            assert!(seen.insert(seq), "twice: {line}");
            assert_eq!(event["payload"], format!("body {seq}"), "{line}");
            repaired += u64::from(event["repaired"].as_bool().unwrap());
        }
    }
    assert_eq!(seen.len(), 20_000);
    assert_eq!((seen.first(), seen.last()), (Some(&1), Some(&20_000)));
    let summary: serde_json::Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!(summary["event"], "summary", "{summary}");
    assert_eq!(summary["delivered"], 20_000, "{summary}");
    assert_eq!(summary["lost"], 0, "{summary}");
    assert_eq!(summary["repaired"], repaired, "{summary}");
    assert!((1_800..=2_200).contains(&repaired), "{summary}");
}

#[cfg(feature = "cli")]
fn natseq(server: &RealServer) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_natseq"));
    command.env("NATS_URL", server.url());
    command
}

/// What a receiver saw of one source.
#[derive(Debug, Default)]
struct Tally {
    delivered: u64,
    repaired: u64,
    lost: u64,
    is_in_order: bool,
}

async fn deliver(binary: &ServerBinary, percent_kept: u32, delivery: Delivery) {
    let server = lossy(binary, percent_kept);
    let tally = run(&server, delivery).await;
    assert_eq!(
        tally.delivered,
        MESSAGES,
        "{tally:?} on {}",
        server.version()
    );
    assert_eq!(tally.lost, 0, "{tally:?} on {}", server.version());
    assert_eq!(
        tally.is_in_order,
        delivery == Delivery::Ordered,
        "{tally:?} on {}",
        server.version()
    );
    // Far from the expected share, the server would not have lost what the test is about. What does
    // not fit into the bounded hold of an ordered receiver is asked for once more.
    let expected = MESSAGES * u64::from(100 - percent_kept) / 100;
    let most = if delivery == Delivery::Ordered {
        MESSAGES
    } else {
        expected * 11 / 10
    };
    assert!(
        (expected * 9 / 10..=most).contains(&tally.repaired),
        "{tally:?} on {}",
        server.version()
    );
}

fn lossy(binary: &ServerBinary, percent_kept: u32) -> RealServer {
    let config = format!(
        "mappings = {{ \"d.x\": [ {{ destination: \"d.x\", weight: {percent_kept}% }} ] }}"
    );
    RealServer::start(binary, &config)
}

/// Sends all messages over `server`, and checks that each number has one outcome and its own body.
async fn run(server: &RealServer, delivery: Delivery) -> Tally {
    let receiving = connect(&server.url()).await.unwrap();
    let mut sub = receiving
        .sequenced_subscriber("d.x")
        .unwrap()
        .delivery(delivery)
        .start()
        .unwrap();
    receiving.flush().await.unwrap();

    let url = server.url();
    let publishing = tokio::spawn(async move {
        let client = connect(&url).await.unwrap();
        let publisher = client
            .sequenced_publisher("d.x")
            .unwrap()
            .source(SourceName::new("test").unwrap())
            .retention(RetentionLimits {
                messages_max: 20_000,
                ..RetentionLimits::default()
            })
            .overflow(RetentionOverflow::Refuse)
            .start()
            .unwrap();
        for number in 1..=MESSAGES {
            let seq = publisher
                .publish("d.x", format!("body {number}"))
                .await
                .unwrap();
            assert_eq!(seq, number);
        }
        publisher.close().await;
        client.close().await;
    });

    let mut outcomes = vec![false; usize::try_from(MESSAGES).unwrap() + 1];
    let mut decide = |seq: u64| {
        let outcome = &mut outcomes[usize::try_from(seq).unwrap()];
        assert!(!*outcome, "number {seq} has two outcomes");
        *outcome = true;
    };
    let mut tally = Tally {
        is_in_order: true,
        ..Tally::default()
    };
    let mut last = 0;
    loop {
        let event = tokio::time::timeout(PATIENCE, sub.next())
            .await
            .unwrap_or_else(|_| panic!("nothing for {PATIENCE:?}: {:?}", state(&sub)))
            .unwrap();
        match event {
            Event::Message { message, origin } => {
                decide(origin.seq);
                assert_eq!(message.payload(), format!("body {}", origin.seq).as_bytes());
                assert_eq!(message.subject(), b"d.x");
                tally.delivered += 1;
                tally.repaired += u64::from(origin.is_repaired);
                tally.is_in_order &= origin.seq > last;
                last = origin.seq;
            }
            Event::Lost { from, to, .. } => {
                (from..=to).for_each(&mut decide);
                tally.lost += to - from + 1;
            }
            Event::SourceEnded { last_seq, .. } => {
                assert_eq!(last_seq, MESSAGES);
                break;
            }
            // On a busy machine a heartbeat may be late; nothing follows from that.
            Event::Gap { .. } | Event::EpochStarted { .. } | Event::SourceSilent { .. } => {}
            other @ (Event::Unsequenced { .. }
            | Event::Conflict { .. }
            | Event::SourceEvicted { .. }
            | _) => panic!("{other:?} on {}", server.version()),
        }
    }
    assert!(
        outcomes[1..].iter().all(|outcome| *outcome),
        "{tally:?}: {:?}",
        state(&sub)
    );
    tokio::time::timeout(LINGER_MAX, publishing)
        .await
        .unwrap()
        .unwrap();
    receiving.close().await;
    tally
}

fn state(sub: &natseq::client::SequencedSubscriber) -> Vec<natseq::sequence::LineStatistics> {
    sub.statistics().collect()
}

const MESSAGES: u64 = 20_000;
/// How long a publisher that is not asked any more may stay.
const LINGER_MAX: Duration = Duration::from_secs(70);
