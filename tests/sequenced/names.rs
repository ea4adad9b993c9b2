//! Names of sources: held by one, taken over, given back, and kept in a file.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use natseq::client::{
    Client, DurableName, ErrorKind, SequencedPublisher, SequencedPublisherBuilder,
    SequencedSubscriber, connect,
};
use natseq::sequence::{Delivery, Event, Heartbeat, NUMBER_MAX, NamePolicy, Prior, SourceName};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{Folder, PATIENCE, RealServer, servers};

#[tokio::test]
async fn a_name_that_is_held_is_refused_to_whoever_does_not_take_it_over() {
    for binary in servers("a name refused") {
        let server = RealServer::start(&binary, "");
        let holder = builder(&client(&server).await);
        let holder = holder.claim(NamePolicy::Refuse).await.unwrap();
        let other = builder(&client(&server).await);
        let refused = other.clone().claim(NamePolicy::Refuse).await.unwrap_err();
        let epoch = holder.epoch();
        assert_eq!(refused.kind(), ErrorKind::NameInUse { epoch });
        assert_eq!(holder.publish("d.x", "1").await.unwrap(), 1);
        holder.close().await;
        // One that has ended still listens through its linger, and holds nothing.
        let next = other.claim(NamePolicy::Refuse).await.unwrap();
        assert!(next.epoch() > epoch, "{}", binary.version);
    }
}

#[tokio::test]
async fn whoever_takes_a_name_over_fences_the_other_and_receivers_follow() {
    for binary in servers("a takeover") {
        let server = RealServer::start(&binary, "");
        let listening = client(&server).await;
        let mut sub = listen(&listening).await;
        let mut first = builder(&client(&server).await)
            .claim(NamePolicy::Takeover)
            .await
            .unwrap();
        publish(&first, 1..=10).await;
        let second = builder(&client(&server).await)
            .claim(NamePolicy::Takeover)
            .await
            .unwrap();
        let by = second.epoch();
        assert_eq!(first.fenced_by(), Some(by), "{}", binary.version);
        let fenced = first.publish("d.x", "11").await.unwrap_err();
        assert_eq!(fenced.kind(), ErrorKind::Fenced { by });
        publish(&second, 1..=10).await;
        let (one, two) = (first.epoch(), by);
        first.reacquire(NamePolicy::Takeover).await.unwrap();
        assert_eq!(second.fenced_by(), Some(first.epoch()));
        publish(&first, 1..=10).await;
        let all = told(&mut sub, 30).await;
        let expected = [one, two, first.epoch()];
        let expected = expected
            .iter()
            .flat_map(|epoch| (1..=10).map(|seq| (*epoch, seq)));
        assert_eq!(all, expected.collect::<Vec<_>>(), "{}", binary.version);
    }
}

/// Nobody has claimed the name: both go on, and a receiver follows the later run.
#[tokio::test]
async fn of_two_that_have_one_name_unclaimed_the_later_is_followed_and_the_other_told_of() {
    for binary in servers("one name twice") {
        for delivery in [Delivery::Immediate, Delivery::Ordered, Delivery::DetectOnly] {
            let what = format!("{delivery:?} on {}", binary.version);
            let server = RealServer::start(&binary, "");
            let listening = client(&server).await;
            let sub = listening.sequenced_subscriber("d.>").unwrap();
            let mut sub = sub.delivery(delivery).start().unwrap();
            listening.flush().await.unwrap();
            let first = builder(&client(&server).await).start().unwrap();
            publish(&first, 1..=100).await;
            let mut told = Told::default();
            told.hear(&mut sub, |told| told.delivered(first.epoch()) == 100)
                .await;
            let second = builder(&client(&server).await).start().unwrap();
            let epochs = (first.epoch(), second.epoch());
            assert!(epochs.0 < epochs.1, "{what}");
            publish(&second, 1..=100).await;
            told.hear(&mut sub, |told| told.delivered(epochs.1) == 100)
                .await;
            // Once the later one has proven to be the source the earlier is over.
            while !sub.statistics().next().unwrap().is_ended {
                told.hear_for(&mut sub, Duration::from_millis(10)).await;
            }
            publish(&first, 101..=200).await;
            publish(&second, 101..=200).await;
            told.hear(&mut sub, |told| told.delivered(epochs.1) == 200)
                .await;
            told.hear(&mut sub, |told| !told.conflicts.is_empty()).await;
            let conflicts = told.conflicts.iter();
            let of_first = conflicts.filter(|epoch| **epoch == epochs.0);
            assert_eq!(of_first.count(), told.conflicts.len(), "{told:?}, {what}");
            // Nothing is told twice, and nothing that the receiver was owed is missing.
            let once: BTreeSet<_> = told.numbers.iter().collect();
            assert_eq!(once.len(), told.numbers.len(), "{told:?}, {what}");
            assert_eq!(told.lost, [], "{told:?}, {what}");
            assert_eq!(told.delivered(epochs.0), 100, "{told:?}, {what}");
            let is_rising = |epoch: u64| {
                let numbers = told.numbers.iter().filter(move |(of, _)| *of == epoch);
                numbers.map(|(_, seq)| *seq).take(200).eq(1..=200)
            };
            assert!(is_rising(epochs.1), "{told:?}, {what}");
            drop((first, second));
        }
    }
}

/// What a receiver was told of two holders of a name.
#[derive(Debug, Default)]
struct Told {
    numbers: Vec<(u64, u64)>,
    conflicts: Vec<u64>,
    /// The run, and the first number.
    lost: Vec<(u64, u64)>,
}

impl Told {
    fn delivered(&self, epoch: u64) -> usize {
        self.numbers.iter().filter(|(of, _)| *of == epoch).count()
    }

    async fn hear(&mut self, sub: &mut SequencedSubscriber, is_done: impl Fn(&Self) -> bool) {
        while !is_done(self) {
            let is_told = self.hear_for(sub, PATIENCE).await;
            assert!(
                is_told,
                "{self:?} {:?}",
                sub.statistics().collect::<Vec<_>>()
            );
        }
    }

    /// Takes one event. Returns false when there was none.
    async fn hear_for(&mut self, sub: &mut SequencedSubscriber, time: Duration) -> bool {
        let Ok(event) = timeout(time, sub.next()).await else {
            return false;
        };
        match event.unwrap() {
            Event::Message { origin, .. } => self.numbers.push((origin.epoch, origin.seq)),
            Event::Conflict { epoch, .. } => self.conflicts.push(epoch),
            Event::Lost { epoch, from, .. } => self.lost.push((epoch, from)),
            _ => {}
        }
        true
    }
}

#[tokio::test]
async fn of_many_that_claim_at_once_one_is_left() {
    for binary in servers("many claims") {
        let server = RealServer::start(&binary, "");
        let mut claims = JoinSet::new();
        for _ in 0..6 {
            let builder = builder(&client(&server).await);
            claims.spawn(builder.claim(NamePolicy::Takeover));
        }
        let holders: Vec<SequencedPublisher> =
            claims.join_all().await.into_iter().flatten().collect();
        assert!(!holders.is_empty(), "{}", binary.version);
        let left = || holders.iter().filter(|holder| holder.fenced_by().is_none());
        let alone = async {
            while left().count() != 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, alone).await.unwrap();
        let epochs: Vec<_> = holders.iter().map(SequencedPublisher::epoch).collect();
        for holder in &holders {
            let is_left = holder.fenced_by().is_none();
            let is_sent = holder.publish("d.x", "1").await.is_ok();
            assert_eq!(is_sent, is_left, "{epochs:?} on {}", binary.version);
        }
    }
}

#[tokio::test]
async fn a_reset_begins_again_at_one_and_nothing_of_the_run_before_is_lost() {
    for binary in servers("a reset") {
        let config = r#"mappings = { "d.x": [ { destination: "d.x", weight: 70% } ] }"#;
        let server = RealServer::start(&binary, config);
        let listening = client(&server).await;
        let mut sub = listen(&listening).await;
        let mut publisher = builder(&client(&server).await).start().unwrap();
        let first = publisher.epoch();
        publish(&publisher, 1..=100).await;
        publisher.reset().unwrap();
        assert!(publisher.epoch() > first);
        publish(&publisher, 1..=100).await;
        let mut all = told(&mut sub, 200).await;
        all.sort_unstable();
        let epochs = [first, publisher.epoch()];
        let expected = epochs
            .iter()
            .flat_map(|epoch| (1..=100).map(|seq| (*epoch, seq)));
        assert_eq!(all, expected.collect::<Vec<_>>(), "{}", binary.version);
    }
}

#[tokio::test]
async fn a_request_for_an_earlier_run_is_answered_by_whoever_holds_the_name() {
    for binary in servers("an earlier run") {
        let server = RealServer::start(&binary, "");
        let holder = builder(&client(&server).await);
        let holder = holder.claim(NamePolicy::Takeover).await.unwrap();
        holder.publish("d.x", "1").await.unwrap();
        let asking = client(&server).await;
        let subject = format!("_SEQ.RX.{NAME}.{}", holder.epoch() - 1);
        let answer = asking.request(&subject, "1-9").await.unwrap();
        assert_eq!(answer.status().unwrap().code, 409, "{}", binary.version);
        let stamp = answer.headers().unwrap().first("Seq").unwrap();
        assert_eq!(stamp, format!("{NAME}.{}.1", holder.epoch()).as_bytes());
        assert_eq!(Heartbeat::parse(1, answer.payload()).unwrap().lead, 1);
    }
}

#[tokio::test]
async fn a_name_in_a_file_goes_on_although_the_clock_was_set_back() {
    for binary in servers("a durable name") {
        let server = RealServer::start(&binary, "");
        let folder = Folder::new();
        let path = folder.path.join("name.json");
        // Ten years ahead, and killed in the middle.
        let ahead = 2_100_000_000_000_000_u64;
        let killed = format!(r#"{{"name":"{NAME}","epoch":{ahead},"last":0,"clean":false}}"#);
        fs::write(&path, killed).unwrap();
        let open = || DurableName::open(&path, SourceName::new(NAME).unwrap()).unwrap();
        let client = client(&server).await;
        let start = || client.sequenced_publisher("d.>").unwrap().durable(open());

        let mut first = start().start().unwrap();
        assert_eq!((first.epoch(), open().prior()), (ahead + 1, None));
        publish(&first, 1..=3).await;
        first.reset().unwrap();
        publish(&first, 1..=2).await;
        first.close().await;
        let epoch = ahead + 2;
        assert_eq!(open().prior(), Some(Prior { epoch, lead: 2 }));

        let listening = connect(&server.url()).await.unwrap();
        let mut sub = listen(&listening).await;
        let last = start().claim(NamePolicy::Refuse).await.unwrap();
        assert!(last.epoch() > epoch, "{}", binary.version);
        publish(&last, 1..=1).await;
        assert_eq!(told(&mut sub, 1).await, [(last.epoch(), 1)]);
    }
}

/// Its end is noted when another takes the name; what follows when it takes it back is noted as well.
#[tokio::test]
async fn a_name_in_a_file_goes_on_after_another_had_it() {
    for binary in servers("a durable name taken back") {
        let server = RealServer::start(&binary, "");
        let folder = Folder::new();
        let path = folder.path.join("name.json");
        let open = || DurableName::open(&path, SourceName::new(NAME).unwrap()).unwrap();
        let (client, elsewhere) = (client(&server).await, client(&server).await);
        let first = builder(&client).durable(open());
        let mut first = first.claim(NamePolicy::Takeover).await.unwrap();
        publish(&first, 1..=3).await;
        let epoch = first.epoch();
        let second = builder(&elsewhere)
            .claim(NamePolicy::Takeover)
            .await
            .unwrap();
        let noted = async {
            while open().prior() != Some(Prior { epoch, lead: 3 }) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, noted).await.unwrap();
        assert_eq!(
            first.fenced_by(),
            Some(second.epoch()),
            "{}",
            binary.version
        );
        first.reacquire(NamePolicy::Takeover).await.unwrap();
        publish(&first, 1..=2).await;
        let epoch = first.epoch();
        first.close().await;
        let ended = Prior { epoch, lead: 2 };
        assert_eq!(open().prior(), Some(ended), "{}", binary.version);
    }
}

/// There is an end to epochs, in a file as in a claim that was made up.
#[tokio::test]
async fn a_name_that_has_had_the_highest_epoch_has_no_next_run() {
    for binary in servers("the highest epoch") {
        let what = binary.version;
        let server = RealServer::start(&binary, "");
        let folder = Folder::new();
        let path = folder.path.join("name.json");
        let client = client(&server).await;
        let start = |epoch: u64| {
            let text = format!(r#"{{"name":"{NAME}","epoch":{epoch},"last":0,"clean":false}}"#);
            fs::write(&path, text).unwrap();
            let name = SourceName::new(NAME).unwrap();
            let durable = DurableName::open(&path, name).unwrap();
            client.sequenced_publisher("d.>").unwrap().durable(durable)
        };
        let refused = start(NUMBER_MAX).start().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Sequence, "{refused}, {what}");
        let refused = start(NUMBER_MAX).claim(NamePolicy::Takeover).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Sequence, "{what}");

        let listening = connect(&server.url()).await.unwrap();
        let mut sub = listen(&listening).await;
        let mut last = start(NUMBER_MAX - 1).start().unwrap();
        publish(&last, 1..=1).await;
        let refused = last.reset().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Sequence, "{refused}, {what}");
        publish(&last, 2..=3).await;
        let expected = [1, 2, 3].map(|seq| (NUMBER_MAX, seq));
        assert_eq!(told(&mut sub, 3).await, expected, "{what}");
        last.close().await;

        let other = SourceName::new("other").unwrap();
        let builder = client.sequenced_publisher("d.>").unwrap().source(other);
        let mut holder = builder.claim(NamePolicy::Refuse).await.unwrap();
        let claim =
            format!(r#"{{"v":1,"k":"claim","epoch":{NUMBER_MAX},"nonce":"ffffffffffffffff"}}"#);
        listening.publish("_SEQ.NM.other", claim).await.unwrap();
        let fenced = async {
            while holder.fenced_by().is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, fenced).await.unwrap();
        let refused = holder.reset().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Sequence, "{refused}, {what}");
    }
}

const NAME: &str = "pricing-a";

async fn client(server: &RealServer) -> Client {
    connect(&server.url()).await.unwrap()
}

fn builder(client: &Client) -> SequencedPublisherBuilder {
    let builder = client.sequenced_publisher("d.>").unwrap();
    builder.source(SourceName::new(NAME).unwrap())
}

async fn listen(client: &Client) -> SequencedSubscriber {
    let sub = client.sequenced_subscriber("d.>").unwrap().start().unwrap();
    client.flush().await.unwrap();
    sub
}

async fn publish(publisher: &SequencedPublisher, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let seq = publisher.publish("d.x", number.to_string()).await.unwrap();
        assert_eq!(seq, number);
    }
}

/// Epoch and number of so many messages, none of which is lost.
async fn told(sub: &mut SequencedSubscriber, messages: usize) -> Vec<(u64, u64)> {
    let mut told = Vec::new();
    while told.len() < messages {
        match timeout(PATIENCE, sub.next()).await.unwrap().unwrap() {
            Event::Message { origin, .. } => told.push((origin.epoch, origin.seq)),
            Event::Lost { .. } | Event::Conflict { .. } | Event::Unsequenced { .. } => {
                panic!("after {told:?}")
            }
            _ => {}
        }
    }
    told
}
