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
use super::shrink;

const STEPS: u32 = 400;
const MILLI: Duration = Duration::from_millis(1);
/// The largest number of a stamp.
const NUMBER_MAX: u64 = natseq::sequence::NUMBER_MAX;

/// One thing that arrives or happens, some time after the one before it.
#[derive(Debug, Clone)]
struct Step {
    after: Duration,
    input: Input,
}

#[derive(Debug, Clone)]
enum Input {
    Message {
        stamp: String,
        tag: Tag,
    },
    Beat {
        stamp: String,
        beat: Heartbeat,
    },
    Answer {
        line: u64,
        stamp: String,
        beat: Heartbeat,
    },
    WrongEpoch {
        line: u64,
        stamp: String,
        beat: Heartbeat,
    },
    Repair {
        line: u64,
        stamp: String,
        tag: Tag,
    },
    End {
        line: u64,
        end: RepairEnd,
    },
    Nobody {
        line: u64,
    },
    Pause(Duration),
    Dropped(u64),
    Room,
    Disconnected,
    Connected,
}

/// Runs a few hundred random inputs, then waits until nothing is undecided. What breaks a promise
/// is told as the shortest script that does.
pub(super) fn run(seed: u64, delivery: Delivery) {
    let mut jitter = Jitter::new(seed ^ 0xbad);
    let mut options = ReceiverOptions::new(Filter::new("d.*").unwrap());
    options.delivery = delivery;
    options.is_shared = jitter.hits(0.1);
    if jitter.hits(0.3) {
        options.start = Start::Retained;
    }
    options.archive = jitter.hits(0.3);
    options.sources_max = 4;
    options.gaps_max = 3;
    options.hold_messages_max = 3;
    options.hold_bytes_max = 64;
    let is_subscribed = jitter.hits(0.5);
    let steps: Vec<Step> = (0..STEPS).map(|_| step(&mut jitter)).collect();
    let play = |steps: &[Step]| play(seed, &options, is_subscribed, steps);
    shrink::script(&steps, play, |script| {
        eprintln!("the shortest script, subscribed: {is_subscribed}, {options:?}");
        for Step { after, input } in script {
            eprintln!("{after:?} later: {input:?}");
        }
    });
}

fn play(seed: u64, options: &ReceiverOptions, is_subscribed: bool, steps: &[Step]) {
    let mut receiver = Receiver::new(options.clone(), seed, Duration::ZERO);
    if is_subscribed {
        receiver.handle_subscribed(Duration::ZERO);
    }
    let mut account = Account {
        delivery: options.delivery,
        ..Account::default()
    };
    let mut now = Duration::ZERO;
    for step in steps {
        now += step.after;
        act(&mut receiver, &step.input, now);
        rest(&mut receiver, &mut account, now);
    }
    receiver.handle_room(now);
    receiver.handle_connected(now);
    for _ in 0..STEPS {
        now += MILLI * 100;
        rest(&mut receiver, &mut account, now);
    }
    assert!(receiver.is_settled(), "everything is decided in the end");
    assert!(receiver.statistics().count() <= 4, "the table is bounded");
}

fn step(jitter: &mut Jitter) -> Step {
    let after = MILLI * u32::try_from(jitter.below(3) * jitter.below(200)).unwrap();
    let source = format!("s{}", jitter.below(3));
    let epoch = 1 + jitter.below(3);
    let seq = number(jitter);
    let stamp = format!("{source}.{epoch}.{seq}");
    let tag = Tag::new(&source, epoch, seq);
    let of_archive = u64::from(jitter.hits(0.1)) << 15;
    let line = jitter.below(8) << 16 | of_archive | jitter.below(3);
    let input = match jitter.below(24) {
        0..10 => Input::Message { stamp, tag },
        10..14 => {
            let beat = heartbeat(jitter, seq);
            Input::Beat { stamp, beat }
        }
        14 | 15 => {
            let beat = heartbeat(jitter, seq);
            Input::Answer { line, stamp, beat }
        }
        16 => {
            let beat = heartbeat(jitter, seq);
            Input::WrongEpoch { line, stamp, beat }
        }
        17 | 18 => Input::Repair { line, stamp, tag },
        19 => {
            let (one, other) = (number(jitter).max(1), number(jitter).max(1));
            let gone = format!("{}-{}", one.min(other), one.max(other));
            let code = [204, 404, 409, 429, 400][usize::try_from(jitter.below(5)).unwrap()];
            let lead = number(jitter);
            let end = RepairEnd::read(code, |name| match name {
                "Seq" => Some(format!("x.1.{lead}")),
                "Seq-Gone" => Some(gone.clone()),
                "Seq-More" => Some("1".to_owned()),
                _ => None,
            });
            let end = end.unwrap();
            Input::End { line, end }
        }
        20 | 21 => Input::Nobody { line },
        22 => match jitter.below(3) {
            0 => Input::Pause(after),
            1 => Input::Dropped(1 + jitter.below(9)),
            _ => Input::Room,
        },
        _ if jitter.hits(0.5) => Input::Disconnected,
        _ => Input::Connected,
    };
    Step { after, input }
}

/// One input.
fn act(receiver: &mut Receiver<Tag>, input: &Input, now: Duration) {
    match input {
        Input::Message { stamp, tag } => {
            receiver.handle_message(now, Some(stamp.as_bytes()), *tag);
        }
        Input::Beat { stamp, beat } => receiver.handle_heartbeat(now, stamp.as_bytes(), beat),
        Input::Answer { line, stamp, beat } => {
            receiver.handle_heartbeat_answer(now, *line, stamp.as_bytes(), beat);
        }
        Input::WrongEpoch { line, stamp, beat } => {
            receiver.handle_wrong_epoch(now, *line, stamp.as_bytes(), beat);
        }
        Input::Repair { line, stamp, tag } => {
            receiver.handle_repair(now, *line, stamp.as_bytes(), *tag);
        }
        Input::End { line, end } => receiver.handle_repair_end(now, *line, end),
        Input::Nobody { line } => receiver.handle_no_responders(now, *line),
        Input::Pause(time) => receiver.handle_pause(now, *time),
        Input::Dropped(count) => receiver.handle_dropped(now, *count),
        Input::Room => receiver.handle_room(now),
        Input::Disconnected => receiver.handle_disconnected(now),
        Input::Connected => receiver.handle_connected(now),
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
            // They are owed again.
            Event::Withdrawn {
                source,
                epoch,
                from,
                to,
            } => self.take_back((source.to_string(), epoch), from, to),
            // It begins anew when it is heard.
            Event::SourceEvicted { source, epoch } => {
                let run = (source.to_string(), epoch);
                self.decided.remove(&run);
                self.last.remove(&run);
            }
            _ => {}
        }
    }

    fn take_back(&mut self, run: (String, u64), from: u64, to: u64) {
        assert!(from <= to);
        let decided = self.decided.entry(run.clone()).or_default();
        let within: Vec<_> = decided
            .range(..=to)
            .map(|(from, to)| (*from, *to))
            .collect();
        for (first, last) in within.into_iter().filter(|(_, last)| *last >= from) {
            decided.remove(&first);
            if first < from {
                decided.insert(first, from - 1);
            }
            if last > to {
                decided.insert(to + 1, last);
            }
        }
        // What is owed may begin lower now than what was taken back.
        let before = decided.range(..from).next_back();
        let before = before.map_or(0, |(_, last)| *last);
        self.last
            .entry(run)
            .and_modify(|last| *last = before.min(*last));
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
