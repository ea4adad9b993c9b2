//! Feeds a receiver what no honest source sends, in any order, and holds it to its account.

use std::collections::BTreeMap;
use std::time::Duration;

use natseq::jitter::Jitter;
use natseq::sequence::{
    Delivery, Event, Heartbeat, Prior, Receiver, ReceiverOptions, RepairEnd, Sender, SenderOptions,
    SourceName, Start,
};
use natseq::subject::Filter;

use super::oracle::{Oracle, Tag};

const STEPS: u32 = 400;
const MILLI: Duration = Duration::from_millis(1);
/// The largest number of a stamp.
const NUMBER_MAX: u64 = natseq::sequence::NUMBER_MAX;

/// Runs a few hundred random inputs, then waits until nothing is undecided.
pub(super) fn run(seed: u64, delivery: Delivery) {
    let mut jitter = Jitter::new(seed ^ 0xbad);
    let mut options = ReceiverOptions::new(Filter::new("d.*").unwrap());
    options.delivery = delivery;
    options.is_shared = jitter.hits(0.1);
    if jitter.hits(0.3) {
        options.start = Start::Retained;
    }
    options.sources_max = 4;
    options.gaps_max = 3;
    options.hold_messages_max = 3;
    options.hold_bytes_max = 64;
    let mut receiver = Receiver::new(options, seed, Duration::ZERO);
    if jitter.hits(0.5) {
        receiver.handle_subscribed(Duration::ZERO);
    }
    let mut account = Account {
        delivery,
        ..Account::default()
    };
    let mut now = Duration::ZERO;
    for _ in 0..STEPS {
        now += MILLI * u32::try_from(jitter.below(3) * jitter.below(200)).unwrap();
        act(&mut receiver, &mut jitter, now);
        rest(&mut receiver, &mut account, now);
    }
    receiver.handle_connected(now);
    for _ in 0..STEPS {
        now += MILLI * 100;
        rest(&mut receiver, &mut account, now);
    }
    assert!(receiver.is_settled(), "everything is decided in the end");
    assert!(receiver.statistics().count() <= 4, "the table is bounded");
}

/// One input.
fn act(receiver: &mut Receiver<Tag>, jitter: &mut Jitter, now: Duration) {
    let source = format!("s{}", jitter.below(3));
    let epoch = 1 + jitter.below(3);
    let seq = number(jitter);
    let stamp = format!("{source}.{epoch}.{seq}");
    let tag = Tag::new(&source, epoch, seq);
    let line = jitter.below(8) << 16 | jitter.below(3);
    match jitter.below(12) {
        0..5 => receiver.handle_message(now, Some(stamp.as_bytes()), tag),
        5 | 6 => {
            let heartbeat = heartbeat(jitter, seq);
            receiver.handle_heartbeat(now, stamp.as_bytes(), &heartbeat);
        }
        7 => {
            let heartbeat = heartbeat(jitter, seq);
            receiver.handle_heartbeat_answer(now, line, stamp.as_bytes(), &heartbeat);
        }
        8 => receiver.handle_repair(now, line, stamp.as_bytes(), tag),
        9 => {
            let (one, other) = (number(jitter).max(1), number(jitter).max(1));
            let gone = format!("{}-{}", one.min(other), one.max(other));
            let code = [204, 404, 429, 400][usize::try_from(jitter.below(4)).unwrap()];
            let lead = number(jitter);
            let end = RepairEnd::read(code, |name| match name {
                "Seq" => Some(format!("x.1.{lead}")),
                "Seq-Gone" => Some(gone.clone()),
                "Seq-More" => Some("1".to_owned()),
                _ => None,
            });
            let end = end.unwrap();
            receiver.handle_repair_end(now, line, &end);
        }
        10 => receiver.handle_no_responders(now, line),
        _ if jitter.hits(0.5) => receiver.handle_disconnected(now),
        _ => receiver.handle_connected(now),
    }
}

/// Lets time have its say and takes what the receiver says.
fn rest(receiver: &mut Receiver<Tag>, account: &mut Account, now: Duration) {
    receiver.handle_timeout(now);
    while let Some(event) = receiver.poll_event() {
        account.hear(event);
    }
    let mut requests = 0;
    while receiver.poll_request(now).is_some() {
        requests += 1;
        assert!(requests <= 8, "a source is asked once, and for its scope");
    }
    let due = receiver.poll_timeout();
    assert!(
        due.is_none_or(|due| due > now),
        "{due:?} is over at {now:?}"
    );
    Oracle::check_accounts(receiver);
}

/// Mostly small, sometimes as large as can be.
fn number(jitter: &mut Jitter) -> u64 {
    match jitter.below(20) {
        0 => NUMBER_MAX - jitter.below(2),
        1 => 1 << jitter.below(53),
        _ => jitter.below(30),
    }
}

fn heartbeat(jitter: &mut Jitter, lead: u64) -> Heartbeat {
    let name = SourceName::new("x").unwrap();
    let scope = ["d.x", "d.*", ">"][usize::from(jitter.hits(0.2)) * 2];
    let options = SenderOptions::new(name, 1, Filter::new(scope).unwrap());
    let mut sender = Sender::new(options, 1, Duration::ZERO);
    sender.handle_connected(Duration::ZERO);
    if jitter.hits(0.2) {
        sender.close(Duration::ZERO);
    }
    let mut heartbeat = sender.poll_heartbeat(Duration::ZERO).unwrap();
    heartbeat.lead = lead;
    heartbeat.trail = number(jitter);
    heartbeat.generation = jitter.below(3);
    heartbeat.next = MILLI * u32::try_from(jitter.below(2_000)).unwrap();
    heartbeat.prior = jitter.hits(0.2).then(|| Prior {
        epoch: 1 + jitter.below(3),
        lead: number(jitter),
    });
    heartbeat.age = jitter
        .hits(0.9)
        .then(|| MILLI * u32::try_from(jitter.below(2_000)).unwrap());
    heartbeat
}

/// Which numbers of each run have their outcome, as ranges.
#[derive(Debug, Default)]
struct Account {
    delivery: Delivery,
    decided: BTreeMap<(String, u64), BTreeMap<u64, u64>>,
    last: BTreeMap<(String, u64), u64>,
}

impl Account {
    fn hear(&mut self, event: Event<Tag>) {
        match event {
            Event::Message { message, origin } => {
                let run = (origin.source.to_string(), origin.epoch);
                assert_eq!(message, Tag::new(&run.0, run.1, origin.seq));
                let last = self.last.entry(run.clone()).or_default();
                let is_after = *last < origin.seq;
                assert!(is_after || self.delivery != Delivery::Ordered, "I14");
                *last = origin.seq;
                self.decide(run, origin.seq, origin.seq);
            }
            Event::Lost {
                source,
                epoch,
                from,
                to,
                ..
            } => self.decide((source.to_string(), epoch), from, to),
            // It begins anew when it is heard.
            Event::SourceEvicted { source, epoch } => {
                let run = (source.to_string(), epoch);
                self.decided.remove(&run);
                self.last.remove(&run);
            }
            _ => {}
        }
    }

    fn decide(&mut self, run: (String, u64), from: u64, to: u64) {
        assert!(from <= to);
        let decided = self.decided.entry(run).or_default();
        let before = decided.range(..=to).next_back();
        assert!(
            before.is_none_or(|(_, end)| *end < from),
            "I1 and I3: {from}-{to} after {before:?}"
        );
        decided.insert(from, to);
    }
}
