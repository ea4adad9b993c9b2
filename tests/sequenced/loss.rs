//! Sequenced delivery over real servers that lose messages on purpose: all arrive, none twice.

use natseq::client::connect;
use natseq::sequence::{Carrier, Delivery};
use tokio::time::timeout;

use crate::account::{Account, LINGER_MAX, Tally, hear, publish, source};
#[cfg(feature = "cli")]
use crate::support::program::{Program, READY};
use crate::support::{RealServer, ServerBinary, servers};

#[tokio::test]
async fn everything_arrives_once_where_a_hundredth_is_lost() {
    for binary in servers("a hundredth lost") {
        deliver(&binary, 99, Delivery::Immediate).await;
    }
}

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

/// Of each stream nearly all is lost: the first message, the last, or the only one.
#[tokio::test]
async fn short_streams_arrive_whole_where_nearly_all_is_lost() {
    const LENGTHS: [u64; 5] = [1, 1, 2, 3, 10];
    for binary in servers("nearly all lost") {
        let server = lossy(&binary, 1);
        let receiving = connect(&server.url()).await.unwrap();
        let builder = receiving.sequenced_subscriber("d.x").unwrap();
        let mut sub = builder.start().unwrap();
        receiving.flush().await.unwrap();
        let mut streams = Vec::new();
        for (at, length) in LENGTHS.into_iter().cycle().take(50).enumerate() {
            let url = server.url();
            streams.push(tokio::spawn(async move {
                let client = connect(&url).await.unwrap();
                let publisher = source(&client, "d.x", &format!("s{at}")).start().unwrap();
                publish(&publisher, "d.x", 1..=length).await;
                // At once: nothing but the end tells of what was lost.
                publisher.close().await;
                client.close().await;
            }));
        }
        let mut account = Account::default();
        hear(&mut sub, &mut account, |account| account.ended() == 50).await;
        let tally = account.sum();
        let sent = LENGTHS.iter().sum::<u64>() * 10;
        assert_eq!((tally.delivered, tally.lost), (sent, 0), "{tally:?}");
        for stream in streams {
            timeout(LINGER_MAX, stream).await.unwrap().unwrap();
        }
        receiving.close().await;
    }
}

/// Neither side can send a header there: heartbeats, requests and repairs have theirs in payloads.
#[tokio::test]
async fn everything_arrives_over_servers_without_headers() {
    for binary in servers("no headers") {
        for (carrier, percent_kept) in [(Carrier::Token, 100), (Carrier::Payload, 80)] {
            let config = format!("no_header_support: true\n{}", mapping(percent_kept));
            let server = RealServer::start(&binary, &config);
            let tally = run(&server, Delivery::Ordered, carrier).await;
            let what = format!("{carrier:?} {tally:?} on {}", server.version());
            assert_eq!((tally.delivered, tally.lost), (MESSAGES, 0), "{what}");
            assert_eq!(tally.repaired > 0, percent_kept < 100, "{what}");
        }
    }
}

#[tokio::test]
async fn a_receiver_that_only_detects_reports_each_loss_once() {
    for binary in servers("detect only") {
        let server = lossy(&binary, 90);
        let tally = run(&server, Delivery::DetectOnly, Carrier::Header).await;
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
    let Some(binary) = crate::support::server("the two programs", "2.15.1") else {
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

async fn deliver(binary: &ServerBinary, percent_kept: u32, delivery: Delivery) {
    let server = lossy(binary, percent_kept);
    let tally = run(&server, delivery, Carrier::Header).await;
    assert_eq!(
        tally.delivered,
        MESSAGES,
        "{tally:?} on {}",
        server.version()
    );
    assert_eq!(tally.lost, 0, "{tally:?} on {}", server.version());
    assert_eq!(
        tally.out_of_order == 0,
        delivery == Delivery::Ordered,
        "{tally:?} on {}",
        server.version()
    );
    // Far from the expected share, the server would not have lost what the test is about. What does
    // not fit into the bounded hold of an ordered receiver is asked for once more.
    let expected = MESSAGES * u64::from(100 - percent_kept) / 100;
    // More than five standard deviations.
    let spread = expected / 10 + 60;
    let most = if delivery == Delivery::Ordered {
        MESSAGES
    } else {
        expected + spread
    };
    assert!(
        (expected - spread..=most).contains(&tally.repaired),
        "{tally:?} on {}",
        server.version()
    );
}

fn lossy(binary: &ServerBinary, percent_kept: u32) -> RealServer {
    RealServer::start(binary, &mapping(percent_kept))
}

fn mapping(percent_kept: u32) -> String {
    format!("mappings = {{ \"d.x\": [ {{ destination: \"d.x\", weight: {percent_kept}% }} ] }}")
}

/// Sends all messages over `server`, and checks that each number has one outcome and its own body.
async fn run(server: &RealServer, delivery: Delivery, carrier: Carrier) -> Tally {
    let receiving = connect(&server.url()).await.unwrap();
    let builder = receiving.sequenced_subscriber("d.x").unwrap();
    let builder = builder.carrier(carrier).delivery(delivery);
    let mut sub = builder.start().unwrap();
    receiving.flush().await.unwrap();

    let url = server.url();
    let publishing = tokio::spawn(async move {
        let client = connect(&url).await.unwrap();
        let builder = source(&client, "d.x", "test").carrier(carrier);
        let publisher = builder.start().unwrap();
        publish(&publisher, "d.x", 1..=MESSAGES).await;
        publisher.close().await;
        client.close().await;
    });
    let mut account = Account::default();
    hear(&mut sub, &mut account, |account| account.ended() == 1).await;
    account.assert_whole(MESSAGES);
    timeout(LINGER_MAX, publishing).await.unwrap().unwrap();
    receiving.close().await;
    account.sum()
}

const MESSAGES: u64 = 20_000;
