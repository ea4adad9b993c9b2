//! Connections that stay open and carry nothing: how soon that is noticed, and what is known of what was published.

use std::time::{Duration, Instant};

use natseq::client::{ConnectOptions, Event};
use natseq::session::LinkError;

use crate::figures::{Figures, millis, percentile, soak};
use crate::scenarios::half_open_kills;
use crate::support::proxy::{Cut, Proxy};
use crate::support::{RealServer, server};

const VERSION: &str = "2.15.1";
const SEED: u64 = 20_261_121;

#[test]
#[ignore = "a soak"]
fn a_half_open_connection_is_noticed() {
    soak(
        "half_open::a_half_open_connection_is_noticed",
        2,
        || async {
            let mut figures = Figures::default();
            let interval = Duration::from_millis(100);
            let mut times = Vec::new();
            for _ in 0..100 {
                let options = ConnectOptions::new().ping_interval(interval);
                times.extend(noticed(options, 1).await);
            }
            let largest = millis(percentile(&times, 1_000));
            figures.at_most(
                "noticed with an interval of 100 ms, largest of 100",
                largest,
                250.0,
                "ms",
            );
            let times = noticed(ConnectOptions::new(), 50).await;
            let largest = millis(percentile(&times, 1_000));
            figures.at_most("noticed by default, largest of 50", largest, 20_000.0, "ms");
            figures
        },
    );
}

#[test]
#[ignore = "a soak"]
fn every_message_is_accounted_for() {
    soak("half_open::every_message_is_accounted_for", 2, || async {
        let server = RealServer::start(&server("half-open kills", VERSION).unwrap(), "");
        let interval = Duration::from_millis(50);
        let accounts = half_open_kills(&server, 1_000, interval, SEED).await;
        let mut figures = Figures::default();
        figures.exactly(
            "lost and not reported in 1,000 half-open kills",
            accounts.unreported,
            0,
        );
        figures.exactly("arrived twice", accounts.twice, 0);
        for (what, count) in [
            ("published", accounts.published),
            ("of these confirmed by a flush", accounts.confirmed),
            ("of these in doubt", accounts.in_doubt),
            ("of these lost", accounts.lost),
        ] {
            Figures::shown(what, count as f64, "");
        }
        figures
    });
}

/// How long each of `count` connections takes to be given up after it fell silent.
async fn noticed(options: ConnectOptions, count: usize) -> Vec<Duration> {
    let server = RealServer::start(&server("half-open", VERSION).unwrap(), "");
    let proxy = Proxy::start(server.address(), SEED);
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(options.clone().connect(&proxy.url()).await.unwrap());
    }
    let begun = Instant::now();
    proxy.cut(Cut::Swallow);
    let waiting: Vec<_> = clients
        .iter()
        .map(|client| {
            let mut events = client.events();
            tokio::spawn(async move {
                loop {
                    if let Event::Disconnected { reason, .. } = events.next().await.unwrap() {
                        assert_eq!(reason, LinkError::Stale);
                        return begun.elapsed();
                    }
                }
            })
        })
        .collect();
    let mut times = Vec::new();
    for one in waiting {
        times.push(one.await.unwrap());
    }
    times
}
