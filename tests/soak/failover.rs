//! Servers that are killed, restarted and retired: how long until the next message.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use natseq::client::{ErrorKind, Event, Events, connect};
use natseq::jitter::Jitter;

use crate::figures::{Figures, millis, percentile, soak};
use crate::support::{RealServer, server};

const VERSION: &str = "2.15.1";
const SEED: u64 = 20_261_121;

/// How long two connections overlap by default.
const MOVE_OVERLAP: Duration = Duration::from_millis(250);

#[test]
#[ignore = "a soak"]
fn the_other_server_takes_over() {
    soak("failover::the_other_server_takes_over", 2, || async {
        let binary = server("failover", VERSION).unwrap();
        let mut servers = [
            RealServer::start(&binary, ""),
            RealServer::start(&binary, ""),
        ];
        let both = format!("{},{}", servers[0].url(), servers[1].url());
        let client = connect(&both).await.unwrap();
        let mut events = client.events();
        let mut sub = client.subscribe("f").unwrap();
        let mut times = Vec::new();
        for _ in 0..100 {
            client.flush().await.unwrap();
            // As after a time of quiet: the connection is a good one.
            tokio::time::sleep(Duration::from_millis(1_050)).await;
            let port = client.server_info().port;
            let at = servers
                .iter()
                .position(|server| i64::from(server.address().port()) == port)
                .unwrap();
            let begun = Instant::now();
            servers[at].kill();
            connected(&mut events).await;
            client.publish("f", "first").await.unwrap();
            sub.next().await.unwrap();
            times.push(begun.elapsed());
            servers[at].restart();
        }
        let mut figures = Figures::default();
        let what = "SIGKILL to the first message by the other server, 100 runs";
        figures.percentiles(what, &times, 5.0, 20.0);
        figures
    });
}

#[test]
#[ignore = "a soak"]
fn a_restarted_server_is_found() {
    soak("failover::a_restarted_server_is_found", 2, || async {
        let binary = server("restart", VERSION).unwrap();
        let mut server = RealServer::start(&binary, "");
        let client = connect(&server.url()).await.unwrap();
        let mut events = client.events();
        let mut sub = client.subscribe("r").unwrap();
        let mut jitter = Jitter::new(SEED);
        let mut times = Vec::new();
        let mut shares = Vec::new();
        for _ in 0..100 {
            client.flush().await.unwrap();
            tokio::time::sleep(Duration::from_millis(1_050)).await;
            let killed = Instant::now();
            server.kill();
            tokio::time::sleep(Duration::from_millis(jitter.below(1_500))).await;
            let opened = watched(&server);
            let restarting = thread::spawn(move || {
                server.restart();
                server
            });
            connected(&mut events).await;
            client.publish("r", "first").await.unwrap();
            sub.next().await.unwrap();
            let first = Instant::now();
            let opened = opened.join().unwrap();
            server = restarting.join().unwrap();
            let taken = first.saturating_duration_since(opened);
            let allowed = (opened.duration_since(killed) / 4).max(Duration::from_millis(10));
            times.push(taken);
            shares.push(taken.as_secs_f64() / allowed.as_secs_f64());
        }
        shares.sort_unstable_by(f64::total_cmp);
        let mut figures = Figures::default();
        let what = "open port to the first message, share of max(10 ms, outage / 4), p99";
        figures.at_most(what, shares[98], 1.0, "");
        Figures::shown(
            "open port to the first message, p50",
            millis(percentile(&times, 500)),
            "ms",
        );
        Figures::shown(
            "open port to the first message, p99",
            millis(percentile(&times, 990)),
            "ms",
        );
        figures
    });
}

/// When the port of `server` is open, seen from a thread of its own.
fn watched(server: &RealServer) -> thread::JoinHandle<Instant> {
    let address = server.address();
    thread::spawn(move || {
        loop {
            if TcpStream::connect(address).is_ok() {
                return Instant::now();
            }
            thread::sleep(Duration::from_micros(200));
        }
    })
}

#[test]
#[ignore = "a soak"]
fn a_lame_duck_is_left_in_time() {
    soak("failover::a_lame_duck_is_left_in_time", 2, || async {
        let binary = server("lame duck", VERSION).unwrap();
        let mut figures = Figures::default();
        let (mut lost, mut twice, mut sent) = (0, 0, 0_u64);
        let mut times = Vec::new();
        for _ in 0..50 {
            let one = lame_duck_run(&binary).await;
            lost += one.0;
            twice += one.1;
            sent += one.2;
            times.push(one.3);
        }
        figures.exactly("lost in 50 lame duck runs", lost, 0);
        figures.exactly("delivered twice in 50 lame duck runs", twice, 0);
        Figures::shown("messages in all", sent as f64, "");
        Figures::shown(
            "SIGUSR2 to the other server, p99",
            millis(percentile(&times, 990)),
            "ms",
        );
        figures
    });
}

/// Lost, delivered twice, sent, and how long until the client had moved.
async fn lame_duck_run(binary: &crate::support::ServerBinary) -> (u64, u64, u64, Duration) {
    let config = "lame_duck_grace_period: \"1s\"\nlame_duck_duration: \"30s\"";
    let pair = RealServer::pair(binary, config);
    let both = format!("{},{}", pair[0].url(), pair[1].url());
    let client = connect(&both).await.unwrap();
    let is_first = client.server_info().port == i64::from(pair[0].address().port());
    let (leaving, staying) = (&pair[usize::from(!is_first)], &pair[usize::from(is_first)]);
    let mut events = client.events();
    let mut sub = client.subscribe("l").unwrap();
    client.flush().await.unwrap();
    let publisher = connect(&staying.url()).await.unwrap();
    // The other server must know of the subscription; who has it does not answer.
    let brief = Duration::from_millis(50);
    while let Ok(Err(error)) = tokio::time::timeout(brief, publisher.request("l", "-")).await {
        assert_eq!(error.kind(), ErrorKind::NoResponders);
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let publishing = tokio::spawn({
        let is_over = Arc::clone(&is_over);
        async move {
            let mut count = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                for _ in 0..10 {
                    publisher.publish("l", count.to_string()).await.unwrap();
                    count += 1;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            publisher.publish("l", "end").await.unwrap();
            publisher.flush().await.unwrap();
            count
        }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let begun = Instant::now();
    leaving.signal("USR2");
    moved(&mut events).await;
    let taken = begun.elapsed();
    tokio::time::sleep(Duration::from_millis(50)).await;
    is_over.store(true, Ordering::Relaxed);
    let sent = publishing.await.unwrap();
    let mut seen = vec![0_u64; usize::try_from(sent).unwrap()];
    // Copies may come for two overlaps; then nothing is said any more.
    let quiet = MOVE_OVERLAP * 4;
    while let Ok(Some(message)) = tokio::time::timeout(quiet, sub.next()).await {
        match std::str::from_utf8(message.payload()).unwrap() {
            "end" | "-" => {}
            number => seen[number.parse::<usize>().unwrap()] += 1,
        }
    }
    let lost = seen.iter().filter(|count| **count == 0).count() as u64;
    let twice = seen.iter().filter(|count| **count > 1).count() as u64;
    client.close().await;
    (lost, twice, sent, taken)
}

/// Clients that lose their only server at once do not come back at once, all together.
#[test]
#[ignore = "a soak"]
fn a_thousand_clients_do_not_come_back_as_a_herd() {
    soak(
        "failover::a_thousand_clients_do_not_come_back_as_a_herd",
        2,
        || async {
            let binary = server("herd", VERSION).unwrap();
            let mut server = RealServer::start(&binary, "");
            let url = server.url();
            let mut clients = Vec::new();
            for _ in 0..1_000 {
                clients.push(connect(&url).await.unwrap());
            }
            tokio::time::sleep(Duration::from_millis(1_100)).await;
            let origin = Instant::now();
            let waiting: Vec<_> = clients
                .iter()
                .map(|client| {
                    let mut events = client.events();
                    tokio::spawn(async move {
                        connected(&mut events).await;
                        origin.elapsed()
                    })
                })
                .collect();
            server.kill();
            tokio::time::sleep(Duration::from_secs(4)).await;
            let server = tokio::task::spawn_blocking(move || {
                server.restart();
                server
            })
            .await
            .unwrap();
            let mut times = Vec::new();
            for one in waiting {
                times.push(one.await.unwrap());
            }
            times.sort_unstable();
            let window = Duration::from_millis(10);
            let most = times
                .iter()
                .enumerate()
                .map(|(at, time)| times.partition_point(|other| *other <= *time + window) - at)
                .max()
                .unwrap();
            let mut figures = Figures::default();
            figures.at_most("reconnects in any 10 ms of 1,000", most as f64, 100.0, "");
            let spread = *times.last().unwrap() - times[0];
            Figures::shown("from the first to the last", millis(spread), "ms");
            drop(server);
            figures
        },
    );
}

async fn moved(events: &mut Events) {
    loop {
        match events.next().await.unwrap() {
            Event::Moved(_) => return,
            event @ Event::Disconnected { .. } => panic!("{event:?} before it had moved"),
            _ => {}
        }
    }
}

async fn connected(events: &mut Events) {
    while !matches!(events.next().await.unwrap(), Event::Connected { .. }) {}
}
