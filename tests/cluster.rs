//! A client of a cluster of real servers: what it learns, and what it keeps when nodes go.
#![cfg(feature = "client")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::wildcard_enum_match_arm,
    reason = "test code: a surprise here fails the test"
)]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use natseq::client::{
    Client, ConnectOptions, Event, Events, Moved, SequencedSubscriber, Subscription,
};
use natseq::sequence;
use support::cluster::Cluster;
use support::{PATIENCE, servers};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const NODES: usize = 3;

/// How long two connections overlap by default.
const MOVE_OVERLAP: Duration = Duration::from_millis(250);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_one_node_learns_of_all_and_may_decline() {
    for binary in servers("discovery") {
        let cluster = Cluster::start(&binary, NODES, "");
        let url = cluster.nodes[0].url();
        let client = ConnectOptions::new().connect(&url).await.unwrap();
        let known: BTreeSet<u16> = client.servers().iter().map(|one| one.port()).collect();
        let expected = cluster.nodes.iter().map(|node| node.address().port());
        assert_eq!(known, expected.collect(), "{}", binary.version);
        client.close().await;

        let declining = ConnectOptions::new().ignore_discovered_servers(true);
        let client = declining.connect(&url).await.unwrap();
        assert_eq!(client.servers().len(), 1, "{}", binary.version);
        client.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_goes_leaves_the_pool_and_one_that_comes_joins_it() {
    for binary in servers("pool") {
        let mut cluster = Cluster::start(&binary, NODES, "");
        let url = cluster.nodes[0].url();
        let client = ConnectOptions::new().connect(&url).await.unwrap();
        let mut events = client.events();
        cluster.nodes[1].kill();
        let gone = cluster.nodes[1].address().port();
        until(&client, |client| {
            !client.servers().iter().any(|one| one.port() == gone)
        })
        .await;
        cluster.nodes[1].restart();
        event(&mut events, |event| {
            let Event::ServersDiscovered { servers } = event else {
                return false;
            };
            servers.iter().any(|one| one.port() == gone)
        })
        .await;
        until(&client, |client| {
            client.servers().iter().any(|one| one.port() == gone)
        })
        .await;
        client.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_under_load_costs_no_sequenced_message() {
    for binary in servers("a node killed under load") {
        let mut cluster = Cluster::start(&binary, NODES, "");
        let publisher = node(&cluster, 0).await;
        let subscriber = node(&cluster, 1).await;
        let mut subscription = subscriber
            .sequenced_subscriber("load.>")
            .unwrap()
            .start()
            .unwrap();
        await_interest(&publisher, &subscriber).await;
        let source = publisher
            .sequenced_publisher("load.>")
            .unwrap()
            .start()
            .unwrap();
        let mut events = subscriber.events();
        let mut numbers = BTreeSet::new();
        for number in 0..2_000_u32 {
            source
                .publish("load.n", number.to_string().into_bytes())
                .await
                .unwrap();
            if number == 0 {
                // From here on every number is owed: one who hears of a source later is not owed what came before.
                numbers.insert(sequenced_number(&mut subscription).await);
            }
            if number == 1_000 {
                let port = subscriber.server().unwrap().port();
                let index = cluster.index_of(port);
                cluster.nodes[index].kill();
            }
        }
        event(&mut events, |event| {
            matches!(event, Event::Connected { generation: 2, .. })
        })
        .await;
        while numbers.len() < 2_000 {
            let number = sequenced_number(&mut subscription).await;
            assert!(numbers.insert(number), "{number} twice, {}", binary.version);
        }
        source.close().await;
        publisher.close().await;
        subscriber.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_begins_while_its_subscriber_is_between_two_nodes_is_owed_whole() {
    for binary in servers("a source that begins between two nodes") {
        let mut cluster = Cluster::start(&binary, NODES, "");
        let publisher = node(&cluster, 0).await;
        let subscriber = node(&cluster, 1).await;
        let mut subscription = subscriber
            .sequenced_subscriber("load.>")
            .unwrap()
            .start()
            .unwrap();
        await_interest(&publisher, &subscriber).await;
        let mut events = subscriber.events();
        let port = subscriber.server().unwrap().port();
        let index = cluster.index_of(port);
        cluster.nodes[index].kill();
        // Nobody hears its first words: its age alone tells that all of it is owed.
        let source = publisher
            .sequenced_publisher("load.>")
            .unwrap()
            .start()
            .unwrap();
        for number in 0..2_000_u32 {
            source
                .publish("load.n", number.to_string().into_bytes())
                .await
                .unwrap();
        }
        event(&mut events, |event| {
            matches!(event, Event::Connected { generation: 2, .. })
        })
        .await;
        let mut numbers = BTreeSet::new();
        while numbers.len() < 2_000 {
            let number = sequenced_number(&mut subscription).await;
            assert!(numbers.insert(number), "{number} twice, {}", binary.version);
        }
        source.close().await;
        publisher.close().await;
        subscriber.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lame_duck_is_left_and_a_plain_subscription_misses_nothing_and_hears_nothing_twice() {
    for binary in servers("lame duck") {
        let cluster = Cluster::start(&binary, NODES, "");
        let subscriber = node(&cluster, 0).await;
        let mut events = subscriber.events();
        let subscription = subscriber.subscribe("load.*").unwrap();
        let mut group = subscriber.queue_subscribe("load.*", "g").unwrap();
        subscriber.flush().await.unwrap();
        // Every publisher sits on another node, one of them on the lame duck.
        let load = Load::begin(&cluster, &subscriber, subscription).await;
        load.reach(500).await;
        cluster.nodes[0].signal("USR2");
        let moved = moved(&mut events).await;
        assert_eq!(moved.in_doubt, 0, "{}", binary.version);
        assert_ne!(moved.to, moved.from);
        load.reach(1_000).await;
        let counts = load.end().await;
        let published: u64 = counts.iter().sum();
        // The group goes on, and nothing comes twice; what another node has sent on to the member that leaves is lost
        // with it, as whenever a member leaves.
        let mut seen = BTreeSet::new();
        group.unsubscribe();
        while let Some(message) = group.next().await {
            let name = (message.subject().to_vec(), message.payload().to_vec());
            assert!(seen.insert(name), "{message:?} came twice");
        }
        let lost = published - seen.len() as u64;
        assert!(lost * 100 < published, "{lost} of {published} lost");
        subscriber.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_may_roll_and_every_message_comes_once() {
    for binary in servers("rolling") {
        let mut cluster = Cluster::start(&binary, NODES, "");
        let subscriber = node(&cluster, 0).await;
        let mut events = subscriber.events();
        let subscription = subscriber.subscribe("load.*").unwrap();
        subscriber.flush().await.unwrap();
        let load = Load::begin(&cluster, &subscriber, subscription).await;
        for round in 1..=NODES as u64 {
            load.reach(round * 300).await;
            let index = cluster.index_of(subscriber.server().unwrap().port());
            cluster.nodes[index].signal("USR2");
            moved(&mut events).await;
            // The publishers that were on it have moved as well.
            let leaving = cluster.nodes[index].address().port();
            load.await_nobody_at(leaving).await;
            cluster.nodes[index].restart();
            cluster.await_mesh();
        }
        load.end().await;
        subscriber.close().await;
    }
}

/// Publishers on every node, each counting up, and a subscriber that must hear each number once.
struct Load {
    publishers: Vec<(Client, JoinHandle<u64>)>,
    is_over: Arc<AtomicBool>,
    heard: Arc<Vec<AtomicU64>>,
    listener: JoinHandle<()>,
}

impl Load {
    /// Numbers may come late: a publisher whose own node is left moves, too, and its messages take
    /// another way from then on.
    async fn begin(cluster: &Cluster, subscriber: &Client, mut subscription: Subscription) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut publishers = Vec::new();
        for index in 0..cluster.nodes.len() {
            let client = node(cluster, index).await;
            await_interest(&client, subscriber).await;
            let (publisher, is_over) = (client.clone(), Arc::clone(&is_over));
            let task = tokio::spawn(async move {
                let subject = format!("load.{index}");
                let mut count = 0_u64;
                while !is_over.load(Ordering::Relaxed) {
                    let payload = count.to_string().into_bytes();
                    publisher.publish(&subject, payload).await.unwrap();
                    count += 1;
                    tokio::time::sleep(Duration::from_micros(500)).await;
                }
                publisher.flush().await.unwrap();
                count
            });
            publishers.push((client, task));
        }
        let heard: Arc<Vec<AtomicU64>> =
            Arc::new(publishers.iter().map(|_| AtomicU64::new(0)).collect());
        let counters = Arc::clone(&heard);
        let listener = tokio::spawn(async move {
            let mut missing: Vec<BTreeSet<u64>> = vec![BTreeSet::new(); counters.len()];
            let mut next = vec![0_u64; counters.len()];
            while let Some(message) = subscription.next().await {
                let subject = message.subject_str().unwrap();
                let index: usize = subject.strip_prefix("load.").unwrap().parse().unwrap();
                let number = String::from_utf8_lossy(message.payload());
                let number: u64 = number.parse().unwrap();
                if number < next[index] {
                    let was_missing = missing[index].remove(&number);
                    assert!(
                        was_missing,
                        "{number} of publisher {index} came twice, next {}, {:?}",
                        next[index], missing[index]
                    );
                } else {
                    missing[index].extend(next[index]..number);
                    next[index] = number + 1;
                }
                counters[index].fetch_add(1, Ordering::Relaxed);
            }
        });
        Self {
            publishers,
            is_over,
            heard,
            listener,
        }
    }

    /// Waits until that many messages of each publisher were heard.
    async fn reach(&self, count: u64) {
        let heard = Arc::clone(&self.heard);
        self.wait(|| heard.iter().all(|one| one.load(Ordering::Relaxed) >= count))
            .await;
    }

    async fn await_nobody_at(&self, port: u16) {
        let clients: Vec<Client> = self.publishers.iter().map(|(one, _)| one.clone()).collect();
        self.wait(|| {
            clients
                .iter()
                .all(|client| client.server().is_some_and(|server| server.port() != port))
        })
        .await;
    }

    /// Stops the publishers and waits until all was heard. Returns how much each has published.
    async fn end(mut self) -> Vec<u64> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut counts = Vec::new();
        for (client, task) in std::mem::take(&mut self.publishers) {
            counts.push(task.await.unwrap());
            client.close().await;
        }
        let heard = Arc::clone(&self.heard);
        let expected = counts.clone();
        self.wait(|| {
            heard
                .iter()
                .zip(&expected)
                .all(|(heard, count)| heard.load(Ordering::Relaxed) >= *count)
        })
        .await;
        // A copy may come for two overlaps yet.
        let late = timeout(MOVE_OVERLAP * 3, &mut self.listener).await;
        assert!(late.is_err(), "the listener has failed: {late:?}");
        self.listener.abort();
        counts
    }

    async fn wait(&self, condition: impl Fn() -> bool) {
        let waiting = async {
            while !condition() {
                assert!(!self.listener.is_finished(), "the listener has failed");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(PATIENCE, waiting).await.is_err() {
            panic!("heard {:?}", self.heard);
        }
    }
}

/// The next message's number; a loss fails the test.
async fn sequenced_number(subscription: &mut SequencedSubscriber) -> u32 {
    loop {
        let event = timeout(PATIENCE, subscription.next()).await;
        match event.unwrap().unwrap() {
            sequence::Event::Message { message, .. } => {
                return String::from_utf8_lossy(message.payload()).parse().unwrap();
            }
            lost @ sequence::Event::Lost { .. } => panic!("{lost:?}"),
            _ => {}
        }
    }
}

/// A client that begins on this node, and knows all.
async fn node(cluster: &Cluster, index: usize) -> Client {
    let url = cluster.nodes[index].url();
    let client = ConnectOptions::new().connect(&url).await.unwrap();
    client.set_servers(&cluster.urls()).unwrap();
    client
}

/// Waits until `publisher`'s node knows what `subscriber` has subscribed to.
async fn await_interest(publisher: &Client, subscriber: &Client) {
    let subject = subscriber.new_inbox().unwrap();
    let mut probe = subscriber.subscribe(&subject).unwrap();
    let mut probing = async || {
        loop {
            publisher.publish(&subject, "").await.unwrap();
            if timeout(Duration::from_millis(5), probe.next())
                .await
                .is_ok()
            {
                return;
            }
        }
    };
    timeout(PATIENCE, probing()).await.unwrap();
}

async fn moved(events: &mut Events) -> Moved {
    let is_meant = |event: &Event| matches!(event, Event::Moved(_) | Event::Disconnected { .. });
    match event(events, is_meant).await {
        Event::Moved(moved) => *moved,
        other => panic!("{other:?} before it had moved"),
    }
}

/// Waits for an event.
async fn event(events: &mut Events, is_meant: impl Fn(&Event) -> bool) -> Event {
    let mut passed = Vec::new();
    let waiting = async {
        loop {
            let event = events.next().await.unwrap();
            if is_meant(&event) {
                return event;
            }
            passed.push(event);
        }
    };
    match timeout(PATIENCE, waiting).await {
        Ok(event) => event,
        Err(_) => panic!("passed {passed:?}"),
    }
}

async fn until(client: &Client, condition: impl Fn(&Client) -> bool) {
    let waiting = async {
        while !condition(client) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap();
}
