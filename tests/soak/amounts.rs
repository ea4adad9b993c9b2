//! Five million messages for a subscriber that sleeps, and a million subscriptions.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Instant;

use natseq::client::{Event, connect};

use crate::figures::{Figures, millis, percentile, soak};
use crate::scenarios::Held;
use crate::support::{RealServer, server};

const VERSION: &str = "2.15.1";

#[test]
#[ignore = "a soak"]
fn a_sleeping_subscriber_knows_what_it_missed() {
    soak(
        "amounts::a_sleeping_subscriber_knows_what_it_missed",
        2,
        || async {
            let server = RealServer::start(&server("sleeping", VERSION).unwrap(), "");
            let client = connect(&server.url()).await.unwrap();
            let publisher = connect(&server.url()).await.unwrap();
            let mut sleeping = client.subscribe("flood").unwrap();
            let mut awake = client.subscribe("other").unwrap();
            client.flush().await.unwrap();
            let idle = round_trips(&client, &mut awake, 1_000).await;
            let before = Held::now().rss_kib;
            let begun = Instant::now();
            let publishing = tokio::spawn(async move {
                for _ in 0..MESSAGES {
                    publisher
                        .publish("flood", "sixteen bytes ..")
                        .await
                        .unwrap();
                }
                publisher.flush().await.unwrap();
                publisher
            });
            let mut busy = Vec::new();
            while !publishing.is_finished() {
                busy.extend(round_trips(&client, &mut awake, 100).await);
            }
            publishing.await.unwrap();
            let taken = begun.elapsed();
            // Behind this PONG nothing of the flood is under way any more.
            client.flush().await.unwrap();
            let statistics = sleeping.statistics();
            let mut figures = Figures::default();
            let both = statistics.accepted + statistics.dropped;
            figures.exactly("delivered and dropped of 5,000,000", both, MESSAGES);
            let mut delivered = 0;
            while sleeping.statistics().waiting > 0 {
                sleeping.next().await.unwrap();
                delivered += 1;
            }
            figures.exactly(
                "delivered, taken one by one",
                delivered,
                statistics.accepted,
            );
            Figures::shown("delivered", statistics.accepted as f64, "");
            let rise = Held::now().rss_kib - before;
            Figures::shown("rise of the resident set", rise as f64 / 1_024.0, "MiB");
            Figures::shown("the flood took", millis(taken), "ms");
            let p99 = |times: &[_]| millis(percentile(times, 990));
            Figures::shown(
                "another subscription's round trip, idle, p99",
                p99(&idle),
                "ms",
            );
            Figures::shown(
                "another subscription's round trip, meanwhile, p99",
                p99(&busy),
                "ms",
            );
            figures
        },
    );
}

const MESSAGES: u64 = 5_000_000;

async fn round_trips(
    client: &natseq::Client,
    subscription: &mut natseq::client::Subscription,
    count: usize,
) -> Vec<std::time::Duration> {
    let mut times = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        client.publish("other", "").await.unwrap();
        subscription.next().await.unwrap();
        times.push(begun.elapsed());
    }
    times
}

#[test]
#[ignore = "a soak"]
fn a_million_subscriptions_are_made_and_restored() {
    soak(
        "amounts::a_million_subscriptions_are_made_and_restored",
        2,
        || async {
            let mut server = RealServer::start(&server("a million", VERSION).unwrap(), "");
            let bare = bare_socket();
            Figures::shown("the same lines by a bare socket", bare, "ms");
            // Where the server alone takes longer, nearly all of the time is to be its own.
            let (subscribing, restoring) = (4_000_f64.max(bare * 1.3), 3_000_f64.max(bare * 1.3));
            let client = natseq::ConnectOptions::new()
                .request_timeout(std::time::Duration::from_secs(60))
                .connect(&server.url())
                .await
                .unwrap();
            let mut events = client.events();
            let (begun, used) = (Instant::now(), processor_time());
            let mut subscriptions = Vec::with_capacity(COUNT);
            for number in 0..COUNT {
                subscriptions.push(client.subscribe(&format!("sub.{number}")).unwrap());
                if number % 1_000 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            client.flush().await.unwrap();
            let subscribed = begun.elapsed();
            let mut figures = Figures::default();
            let held = Held::now().rss_kib as f64 / 1_024.0;
            figures.at_most(
                "resident set with 1,000,000 subscriptions",
                held,
                300.0,
                "MiB",
            );
            figures.at_most(
                "to subscribe, server included",
                millis(subscribed),
                subscribing,
                "ms",
            );
            Figures::shown("of it our processor time", processor_time() - used, "ms");

            // A fresh server: one that is taking down as many at the same time measures itself.
            server.kill();
            while !matches!(events.next().await.unwrap(), Event::Disconnected { .. }) {}
            let (begun, used) = (Instant::now(), processor_time());
            server.restart();
            while !matches!(events.next().await.unwrap(), Event::Connected { .. }) {}
            client.flush().await.unwrap();
            figures.at_most(
                "to restore, start of the server included",
                millis(begun.elapsed()),
                restoring,
                "ms",
            );
            Figures::shown("of it our processor time", processor_time() - used, "ms");
            let held = Held::now().rss_kib as f64 / 1_024.0;
            Figures::shown("resident set behind it", held, "MiB");
            for number in [0, 1, COUNT / 2, COUNT - 1] {
                client
                    .publish(format!("sub.{number}").as_str(), "there")
                    .await
                    .unwrap();
                subscriptions[number].next().await.unwrap();
            }
            assert_eq!(client.statistics().connects, 2, "the server dropped us");
            figures
        },
    );
}

/// User and system time of this process, in milliseconds.
fn processor_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let behind_name = stat.rsplit(')').next().unwrap();
    // In hundredths of a second.
    let ticks = behind_name.split_whitespace().skip(11).take(2);
    ticks
        .map(|ticks| ticks.parse::<f64>().unwrap() * 10.0)
        .sum()
}

/// How long a server takes to read them all, and to answer a PING behind them, in milliseconds.
fn bare_socket() -> f64 {
    let server = RealServer::start(&server("a million", VERSION).unwrap(), "");
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let mut lines = b"CONNECT {\"verbose\":false}\r\n".to_vec();
    for number in 0..COUNT {
        write!(lines, "SUB sub.{number} {number}\r\n").unwrap();
    }
    lines.extend_from_slice(b"PING\r\n");
    let begun = Instant::now();
    stream.write_all(&lines).unwrap();
    let mut answers = BufReader::new(stream).lines();
    while answers.next().unwrap().unwrap() != "PONG" {}
    millis(begun.elapsed())
}

const COUNT: usize = 1_000_000;
