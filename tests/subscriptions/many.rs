//! A hundred thousand subscriptions on one connection, and by hand a million.

use std::time::{Duration, Instant};

use natseq::client::{Client, ConnectOptions, Subscription, connect};

use crate::support::{PATIENCE, VERSIONS, server};
use crate::{connected, disconnected, next, started, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_subscriptions_live_on_one_connection_and_come_back() {
    for mut server in started("many subscriptions", "") {
        let client = connect(&server.url()).await.unwrap();
        let mut events = client.events();
        let mut subs = subscribe_to_many(&client, 100_000);
        client.flush().await.unwrap();
        hear_some(&client, &mut subs).await;
        server.restart();
        disconnected(&mut events).await;
        connected(&mut events).await;
        client.flush().await.unwrap();
        hear_some(&client, &mut subs).await;
        assert_eq!(client.statistics().connects, 2, "{}", server.version());
        drop(subs);
        assert_eq!(client.statistics().subscriptions, 0, "{}", server.version());
        client.flush().await.unwrap();
        client.close().await;
    }
}

/// By hand: `cargo test --release --all-features --test subscriptions -- --ignored --nocapture million`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a server of 1 GB and a release build"]
async fn a_million_subscriptions_take_little_memory_and_time() {
    let binary = server("a million subscriptions", VERSIONS[3]).unwrap();
    let mut server = crate::support::RealServer::start(&binary, "");
    let options = ConnectOptions::new().request_timeout(PATIENCE);
    let client = options.connect(&server.url()).await.unwrap();
    let mut events = client.events();
    let before = resident_mb();
    let cpu_before = cpu_seconds();

    let begun = Instant::now();
    let mut subs = subscribe_to_many(&client, 1_000_000);
    let called = begun.elapsed();
    client.flush().await.unwrap();
    let subscribed = begun.elapsed();
    let cpu_subscribed = cpu_seconds() - cpu_before;
    let memory = resident_mb();
    hear_some(&client, &mut subs).await;

    server.kill();
    disconnected(&mut events).await;
    server.restart();
    let begun = Instant::now();
    let cpu_before = cpu_seconds();
    connected(&mut events).await;
    let back = begun.elapsed();
    client.flush().await.unwrap();
    let restored = begun.elapsed();
    let cpu_restored = cpu_seconds() - cpu_before;
    let memory_then = resident_mb();
    hear_some(&client, &mut subs).await;
    println!(
        "subscribed in {subscribed:?} (calls {called:?}, our processor time {cpu_subscribed:.2} s), \
         {memory} MB ({before} before)"
    );
    println!(
        "connected again after {back:?}, restored in {restored:?} (our processor time \
         {cpu_restored:.2} s), {memory_then} MB; {} connects",
        client.statistics().connects
    );
    assert!(
        memory <= 300 && memory_then <= 300,
        "{memory} {memory_then}"
    );
    assert!(subscribed <= Duration::from_secs(4), "{subscribed:?}");
    assert!(restored <= Duration::from_secs(3), "{restored:?}");
    client.close().await;
}

fn subscribe_to_many(client: &Client, count: usize) -> Vec<Subscription> {
    let subscribe = |number| client.subscribe(&format!("many.{number}")).unwrap();
    (0..count).map(subscribe).collect()
}

/// Hears one message on each of a hundred of them.
async fn hear_some(client: &Client, subs: &mut [Subscription]) {
    let step = subs.len() / 100;
    for index in (0..subs.len()).step_by(step) {
        let subject = format!("many.{index}");
        client
            .publish(subject.as_str(), subject.as_str())
            .await
            .unwrap();
        let heard = tokio::time::timeout(PATIENCE, next(&mut subs[index])).await;
        assert_eq!(text(&heard.unwrap()), subject);
    }
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let behind_name = stat.rsplit(')').next().unwrap();
    let ticks = behind_name.split_whitespace().skip(11).take(2);
    ticks
        .map(|ticks| ticks.parse::<f64>().unwrap())
        .sum::<f64>()
        / 100.0
}

fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1_024 / 1_000_000
}
