//! What a receiver was told, held against what was sent, and the two ends that most tests need.

use std::collections::BTreeMap;
use std::time::Duration;

use natseq::client::{
    Client, Event as ClientEvent, Events, Refusal, SequencedMessage, SequencedPublisher,
    SequencedPublisherBuilder, SequencedSubscriber,
};
use natseq::sequence::{
    Cause, Coverage, Event, Lacking, RetentionLimits, RetentionOverflow, SourceName,
};
use tokio::time::timeout;

use crate::support::PATIENCE;

/// How long a publisher that is not asked any more may stay.
pub(crate) const LINGER_MAX: Duration = Duration::from_secs(70);

/// The books on one receiver: no number of a source's run may get two outcomes.
#[derive(Default)]
pub(crate) struct Account {
    runs: BTreeMap<(String, u64), Run>,
    /// What the receiver has to do without.
    pub(crate) lacking: Vec<Lacking>,
    /// Missing numbers that our own mailbox had dropped.
    pub(crate) dropped_here: u64,
    /// Sources of which it knows no scope.
    pub(crate) unverified: usize,
}

#[derive(Default)]
struct Run {
    is_decided: Vec<bool>,
    tally: Tally,
}

/// Counts of one run, or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) delivered: u64,
    pub(crate) repaired: u64,
    pub(crate) lost: u64,
    pub(crate) gaps: u64,
    /// Messages delivered after one with a higher number.
    pub(crate) out_of_order: u64,
    /// The highest number delivered.
    pub(crate) highest: u64,
    /// The last number, where the source has told it.
    pub(crate) end: Option<u64>,
}

impl Account {
    /// Takes an event. Payloads must end with a blank and their number.
    pub(crate) fn take(&mut self, event: &Event<SequencedMessage>) {
        match event {
            Event::Message { message, origin } => {
                let (seq, payload) = (origin.seq, message.payload());
                let number = payload.rsplit(|byte| *byte == b' ').next().unwrap();
                assert_eq!(number, seq.to_string().as_bytes(), "{origin:?}");
                let run = self.run(&origin.source, origin.epoch);
                run.decide(seq);
                let tally = &mut run.tally;
                tally.delivered += 1;
                tally.repaired += u64::from(origin.is_repaired);
                tally.out_of_order += u64::from(seq < tally.highest);
                tally.highest = tally.highest.max(seq);
            }
            Event::Lost {
                source,
                epoch,
                from,
                to,
                ..
            } => {
                let run = self.run(source, *epoch);
                (*from..=*to).for_each(|seq| run.decide(seq));
                run.tally.lost += to - from + 1;
            }
            Event::Gap {
                source,
                epoch,
                from,
                to,
                cause,
            } => {
                let width = to - from + 1;
                self.run(source, *epoch).tally.gaps += width;
                if *cause == Cause::DroppedHere {
                    self.dropped_here += width;
                }
            }
            Event::SourceEnded {
                source,
                epoch,
                last_seq,
            } => self.run(source, *epoch).tally.end = Some(*last_seq),
            // On a busy machine a heartbeat may be late; nothing follows from that.
            Event::EpochStarted { .. } | Event::SourceSilent { .. } => {}
            Event::Degraded { lacking, .. } => self.lacking.push(*lacking),
            Event::CoverageChanged {
                coverage: Coverage::Unverified,
                ..
            } => self.unverified += 1,
            other => panic!("{other:?}"),
        }
    }

    /// The sum over all runs; `end` is that of the last.
    pub(crate) fn sum(&self) -> Tally {
        self.runs.values().fold(Tally::default(), |sum, run| Tally {
            delivered: sum.delivered + run.tally.delivered,
            repaired: sum.repaired + run.tally.repaired,
            lost: sum.lost + run.tally.lost,
            gaps: sum.gaps + run.tally.gaps,
            out_of_order: sum.out_of_order + run.tally.out_of_order,
            highest: sum.highest.max(run.tally.highest),
            end: run.tally.end,
        })
    }

    /// Numbers delivered or lost, of all runs.
    pub(crate) fn decided(&self) -> u64 {
        let sum = self.sum();
        sum.delivered + sum.lost
    }

    /// How many runs have ended.
    pub(crate) fn ended(&self) -> usize {
        let runs = self.runs.values();
        runs.filter(|run| run.tally.end.is_some()).count()
    }

    /// Fails unless every run's numbers from 1 to `last` have an outcome.
    pub(crate) fn assert_whole(&self, last: u64) {
        for (name, run) in &self.runs {
            let decided = run.is_decided.iter().filter(|is_decided| **is_decided);
            assert_eq!(decided.count() as u64, last, "{name:?}: {:?}", run.tally);
            assert_eq!(run.is_decided.len() as u64, last + 1, "{name:?}");
        }
    }

    fn run(&mut self, source: &SourceName, epoch: u64) -> &mut Run {
        self.runs.entry((source.to_string(), epoch)).or_default()
    }
}

impl Run {
    fn decide(&mut self, seq: u64) {
        let index = usize::try_from(seq).unwrap();
        if self.is_decided.len() <= index {
            self.is_decided.resize(index + 1, false);
        }
        assert!(!self.is_decided[index], "number {seq} has two outcomes");
        self.is_decided[index] = true;
    }
}

/// Takes events until `is_done`; fails when there is none for a long time.
pub(crate) async fn hear(
    sub: &mut SequencedSubscriber,
    account: &mut Account,
    is_done: impl Fn(&Account) -> bool,
) {
    while !is_done(account) {
        let Ok(event) = timeout(PATIENCE, sub.next()).await else {
            let lines: Vec<_> = sub.statistics().collect();
            panic!("nothing for {PATIENCE:?}: {:?}, {lines:?}", account.sum());
        };
        account.take(&event.unwrap());
    }
}

/// A source that retains 20,000 messages and 64 MiB, and rather waits than forgets.
pub(crate) fn source(client: &Client, scope: &str, name: &str) -> SequencedPublisherBuilder {
    client
        .sequenced_publisher(scope)
        .unwrap()
        .source(SourceName::new(name).unwrap())
        .retention(RetentionLimits {
            messages_max: 20_000,
            bytes_max: 64 << 20,
            ..RetentionLimits::default()
        })
        .overflow(RetentionOverflow::Refuse)
}

/// Publishes the numbers of `range` to `subject`.
pub(crate) async fn publish(
    publisher: &SequencedPublisher,
    subject: &str,
    range: std::ops::RangeInclusive<u64>,
) {
    for number in range {
        let seq = publisher.publish(subject, format!("body {number}")).await;
        assert_eq!(seq.unwrap(), number);
    }
}

/// What the server has refused until the client was closed: what `told` takes from a refusal, and
/// the text of any other error.
pub(crate) async fn refusals(events: &mut Events, told: impl Fn(Refusal) -> String) -> Vec<String> {
    let mut refused = Vec::new();
    while let Some(event) = timeout(PATIENCE, events.next()).await.unwrap() {
        match event {
            ClientEvent::PublishRefused(refusal) | ClientEvent::SubscriptionRefused(refusal) => {
                refused.push(told(refusal));
            }
            ClientEvent::ServerError { text } => refused.push(text),
            ClientEvent::Closed { .. } => break,
            _ => {}
        }
    }
    refused
}
