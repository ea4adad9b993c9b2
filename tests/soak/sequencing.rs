//! Ten million numbered messages shared and filtered, what numbers cost, and how soon a loss is noticed and mended.
//!
//! `NATSEQ_SOAK_MESSAGES=100000` makes less of it: to see whether it runs.

use std::env;
use std::time::{Duration, Instant};

use natseq::client::{Client, Publication, SequencedSubscriber, connect};
use natseq::sequence::{Event, HeartbeatOptions, SourceName};
use natseq::subject::QueueGroup;
use natseq::wire::Headers;

use crate::figures::{Figures, millis, percentile, soak};
use crate::support::{PATIENCE, RealServer, server};

const VERSION: &str = "2.15.1";

/// Five subscribers in all: the whole, a tenth, and a group of three.
#[test]
#[ignore = "a soak"]
fn ten_million_messages_shared_and_filtered_show_no_loss() {
    soak(
        "sequencing::ten_million_messages_shared_and_filtered_show_no_loss",
        2,
        || async {
            let server = RealServer::start(&server("ten million", VERSION).unwrap(), "");
            let client = connect(&server.url()).await.unwrap();
            let messages = messages_of(MESSAGES);
            let whole = count(&client, "orders.>", None, messages);
            let tenth = count(&client, "orders.3.*", None, messages / 10);
            let group = [(); 3].map(|()| count(&client, "orders.>", Some("g"), u64::MAX));
            client.flush().await.unwrap();
            let begun = Instant::now();
            let publishing = connect(&server.url()).await.unwrap();
            let publisher = publishing.sequenced_publisher("orders.>").unwrap();
            let publisher = publisher.start().unwrap();
            let subjects: Vec<String> =
                (0..10).map(|number| format!("orders.{number}.x")).collect();
            for number in 0..messages {
                let subject = &subjects[(number % 10) as usize];
                let seq = publisher.publish(subject, "sixteen bytes ..").await;
                assert_eq!(seq.unwrap(), number + 1);
                // Nobody is to be too slow here: what is dropped is another soak.
                if number % 10_000 == 9_999 {
                    publishing.flush().await.unwrap();
                    client.flush().await.unwrap();
                }
            }
            publisher.close().await;
            let mut figures = Figures::default();
            let (whole, tenth) = (whole.await.unwrap(), tenth.await.unwrap());
            client.flush().await.unwrap();
            client.close().await;
            let mut shared = Seen::default();
            for member in group {
                shared.add(member.await.unwrap());
            }
            whole.show(&mut figures, "who gets all", messages, |_| true);
            let is_of_tenth = |seq| seq % 10 == 4;
            tenth.show(&mut figures, "who gets a tenth", messages, is_of_tenth);
            shared.show(&mut figures, "a group of three", messages, |_| true);
            Figures::shown("it took", millis(begun.elapsed()), "ms");
            figures
        },
    );
}

/// What a subscriber was told.
#[derive(Debug, Default)]
struct Seen {
    /// How often each number came, the first number first.
    times: Vec<u8>,
    messages: u64,
    gaps: u64,
    lost: u64,
    /// What its own mailbox had no room for.
    dropped: u64,
    /// Numbers that have no outcome by its own account.
    open: u64,
}

impl Seen {
    fn note(&mut self, seq: u64) {
        let index = usize::try_from(seq - 1).unwrap();
        if self.times.len() <= index {
            self.times.resize(index + 1, 0);
        }
        self.times[index] = self.times[index].saturating_add(1);
        self.messages += 1;
    }

    /// Takes what another of its group has seen.
    fn add(&mut self, other: Self) {
        if self.times.len() < other.times.len() {
            self.times.resize(other.times.len(), 0);
        }
        for (own, times) in self.times.iter_mut().zip(other.times) {
            *own = own.saturating_add(times);
        }
        self.messages += other.messages;
        self.gaps += other.gaps;
        self.lost += other.lost;
        self.dropped += other.dropped;
        self.open += other.open;
    }

    /// Every number up to `last` that `is_due` came once, and nothing was claimed that is not so.
    fn show(&self, figures: &mut Figures, who: &str, last: u64, is_due: impl Fn(u64) -> bool) {
        let due = (1..=last).filter(|seq| is_due(*seq)).count() as u64;
        let numbered = (1..).zip(&self.times);
        let once = numbered.filter(|(seq, times)| is_due(*seq) && **times == 1);
        figures.exactly(&format!("{who}: came once"), once.count() as u64, due);
        figures.exactly(&format!("{who}: came at all"), self.messages, due);
        figures.exactly(&format!("{who}: told to be lost"), self.lost, 0);
        figures.exactly(&format!("{who}: without outcome"), self.open, 0);
        let gaps = format!("{who}: missing for a while");
        match self.dropped {
            0 => figures.exactly(&gaps, self.gaps, 0),
            _ => Figures::shown(&gaps, self.gaps as f64, ""),
        }
    }
}

/// Counts what a subscriber gets until it has `enough`, or its client is closed.
fn count(
    client: &Client,
    filter: &str,
    group: Option<&str>,
    enough: u64,
) -> tokio::task::JoinHandle<Seen> {
    let builder = client.sequenced_subscriber(filter).unwrap();
    let builder = match group {
        Some(group) => builder.queue_group(QueueGroup::new(group).unwrap()),
        None => builder,
    };
    let mut sub = builder.start().unwrap();
    tokio::spawn(async move {
        let mut seen = Seen::default();
        while seen.messages < enough {
            match sub.next().await {
                Some(Event::Message { origin, .. }) => seen.note(origin.seq),
                Some(Event::Gap { .. }) => seen.gaps += 1,
                Some(Event::Lost { from, to, .. }) => seen.lost += to - from + 1,
                Some(_) => {}
                None => break,
            }
        }
        for line in sub.statistics() {
            assert!(line.is_balanced(), "{line:?}");
            seen.open += line.undecided;
        }
        seen.dropped = sub.mailbox().dropped;
        seen
    })
}

/// The same client, server, payload and bytes of header, with and without numbers, in turn.
#[test]
#[ignore = "a soak"]
fn numbers_cost_little_throughput() {
    soak("sequencing::numbers_cost_little_throughput", 2, || async {
        let server = RealServer::start(&server("throughput", VERSION).unwrap(), "");
        let (mut plain, mut numbered) = (Vec::new(), Vec::new());
        let burst = messages_of(BURST);
        for _ in 0..ROUNDS {
            plain.push(plain_round(&server, burst).await);
            numbered.push(numbered_round(&server, burst).await);
        }
        let (plain, numbered) = (percentile(&plain, 500), percentile(&numbered, 500));
        let per_second = |time: Duration| burst as f64 / time.as_secs_f64();
        Figures::shown("plain with a header of 48 bytes", per_second(plain), "/s");
        Figures::shown("numbered", per_second(numbered), "/s");
        let mut figures = Figures::default();
        let share = plain.as_secs_f64() / numbered.as_secs_f64();
        figures.at_most(
            "100 - numbered in % of plain",
            100.0 - share * 100.0,
            15.0,
            "%",
        );
        figures
    });
}

async fn plain_round(server: &RealServer, burst: u64) -> Duration {
    let [publishing, receiving] = [connect(&server.url()).await, connect(&server.url()).await];
    let (publishing, receiving) = (publishing.unwrap(), receiving.unwrap());
    let mut sub = receiving.subscribe("d.x").unwrap();
    receiving.flush().await.unwrap();
    let mut headers = Headers::new();
    headers
        .append("Abc", "0123456789.1763683200123456.423456")
        .unwrap();
    let begun = Instant::now();
    let publisher = tokio::spawn(async move {
        let payload = [b'x'; 128];
        for _ in 0..burst {
            let publication = Publication::new("d.x", &payload).unwrap();
            publishing
                .send(publication.headers(&headers))
                .await
                .unwrap();
        }
        publishing
    });
    let mut batch = Vec::new();
    let mut count = 0;
    while count < burst {
        count += sub.next_batch(&mut batch, 1_024).await as u64;
        batch.clear();
    }
    let took = begun.elapsed();
    publisher.await.unwrap().close().await;
    receiving.close().await;
    took
}

async fn numbered_round(server: &RealServer, burst: u64) -> Duration {
    let [publishing, receiving] = [connect(&server.url()).await, connect(&server.url()).await];
    let (publishing, receiving) = (publishing.unwrap(), receiving.unwrap());
    let mut sub = receiving
        .sequenced_subscriber("d.x")
        .unwrap()
        .start()
        .unwrap();
    receiving.flush().await.unwrap();
    let publisher = publishing.sequenced_publisher("d.x").unwrap();
    let publisher = publisher.linger(Duration::ZERO).start().unwrap();
    let begun = Instant::now();
    let publisher = tokio::spawn(async move {
        let payload = [b'x'; 128];
        for _ in 0..burst {
            publisher.publish("d.x", &payload).await.unwrap();
        }
        publisher
    });
    let mut count = 0;
    while count < burst {
        match sub.next().await.unwrap() {
            Event::Message { .. } => count += 1,
            Event::Lost { .. } => panic!("a loss"),
            _ => {}
        }
    }
    let took = begun.elapsed();
    drop(publisher.await.unwrap());
    publishing.close().await;
    receiving.close().await;
    took
}

/// Every second message is lost by the server, and none follows: only a heartbeat can tell.
#[test]
#[ignore = "a soak"]
fn a_lost_tail_is_noticed_by_the_first_heartbeat_and_mended_in_a_round_trip() {
    soak(
        "sequencing::a_lost_tail_is_noticed_by_the_first_heartbeat_and_mended_in_a_round_trip",
        2,
        || async {
            let config = "mappings = { \"d.x\": [ { destination: \"d.x\", weight: 50% } ] }";
            let server = RealServer::start(&server("a lost tail", VERSION).unwrap(), config);
            let receiving = connect(&server.url()).await.unwrap();
            let mut sub = receiving
                .sequenced_subscriber("d.x")
                .unwrap()
                .start()
                .unwrap();
            receiving.flush().await.unwrap();
            let publishing = connect(&server.url()).await.unwrap();
            let round_trips = round_trips(&receiving, &publishing).await;
            let heartbeat = HeartbeatOptions {
                tail_detection: Some(FIRST),
                ..HeartbeatOptions::default()
            };
            let publisher = publishing.sequenced_publisher("d.x").unwrap();
            let publisher = publisher.source(SourceName::new("tail").unwrap());
            let publisher = publisher.heartbeat(heartbeat).start().unwrap();
            let (mut noticed, mut mended) = (Vec::new(), Vec::new());
            let samples = usize::try_from(messages_of(SAMPLES as u64)).unwrap();
            while noticed.len() < samples {
                let begun = Instant::now();
                publisher.publish("d.x", "tail").await.unwrap();
                let mut gap = None;
                loop {
                    match next(&mut sub).await {
                        Event::Gap { .. } => gap = Some(Instant::now()),
                        Event::Message { .. } => break,
                        Event::Lost { .. } => panic!("a loss"),
                        _ => {}
                    }
                }
                if let Some(gap) = gap {
                    noticed.push(gap - begun);
                    mended.push(gap.elapsed());
                }
            }
            let mut figures = Figures::default();
            let round_trip = millis(percentile(&round_trips, 990));
            Figures::shown("round trip to the source, p99", round_trip, "ms");
            let allowed = millis(FIRST) + round_trip + 2.0;
            figures.percentiles("a lost tail is noticed after", &noticed, allowed, allowed);
            let allowed = round_trip + 0.3;
            figures.percentiles("and mended after", &mended, allowed, allowed);
            publisher.close().await;
            publishing.close().await;
            receiving.close().await;
            figures
        },
    );
}

async fn round_trips(from: &Client, to: &Client) -> Vec<Duration> {
    let mut echo = to.subscribe("echo").unwrap();
    to.flush().await.unwrap();
    let answering = to.clone();
    let echoing = tokio::spawn(async move {
        while let Some(message) = echo.next().await {
            let reply = message
                .reply()
                .and_then(|reply| std::str::from_utf8(reply).ok());
            answering.publish(reply.unwrap(), "").await.unwrap();
        }
    });
    let mut times = Vec::new();
    for _ in 0..SAMPLES {
        let begun = Instant::now();
        from.request("echo", "").await.unwrap();
        times.push(begun.elapsed());
    }
    echoing.abort();
    times
}

/// So many, or fewer where that is asked for.
fn messages_of(most: u64) -> u64 {
    let asked = env::var("NATSEQ_SOAK_MESSAGES").ok();
    asked.map_or(most, |count| most.min(count.parse().unwrap()))
}

async fn next(sub: &mut SequencedSubscriber) -> Event<natseq::client::SequencedMessage> {
    let event = tokio::time::timeout(PATIENCE, sub.next()).await;
    event.unwrap().unwrap()
}

const MESSAGES: u64 = 10_000_000;
const BURST: u64 = 500_000;
const ROUNDS: usize = 5;
const SAMPLES: usize = 1_000;
/// The first heartbeat after a message.
const FIRST: Duration = Duration::from_millis(20);
