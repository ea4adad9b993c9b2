//! Knows what was really sent, and holds what one receiver says against it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use natseq::sequence::{Delivery, Event, LineStatistics, Receiver, Weight};

/// A message that says what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag(pub(super) String);

impl Tag {
    pub(super) fn new(source: &str, epoch: u64, seq: u64) -> Self {
        Self(format!("{source}.{epoch}.{seq}"))
    }
}

impl Weight for Tag {
    fn weight(&self) -> usize {
        self.0.len()
    }
}

/// The last number of each run that was really sent, and when.
pub(super) type Truth = BTreeMap<(String, u64), (u64, Duration)>;

/// What one receiver was told.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// The outcome of each number.
    outcomes: BTreeMap<(String, u64), BTreeMap<u64, &'static str>>,
    last: BTreeMap<(String, u64), u64>,
    /// Runs that were said to have ended, with their last number.
    ended: BTreeMap<(String, u64), u64>,
    /// Runs that lost something.
    pub(super) lossy: BTreeSet<(String, u64)>,
    /// When numbers were first said to be missing.
    pub(super) first_gap: Option<Duration>,
    pub(super) has_conflict: bool,
    pub(super) story: Vec<String>,
}

impl Oracle {
    pub(super) fn hear(
        &mut self,
        now: Duration,
        event: Event<Tag>,
        delivery: Delivery,
        truth: &Truth,
    ) {
        self.story.push(format!("{now:?} {event:?}"));
        let lead = |source: &str, epoch| {
            truth
                .get(&(source.to_owned(), epoch))
                .map_or(0, |run| run.0)
        };
        match event {
            Event::Message { message, origin } => {
                let source = origin.source.to_string();
                let tag = Tag::new(&source, origin.epoch, origin.seq);
                assert_eq!(message, tag, "the message is the one that has the number");
                let run = (source, origin.epoch);
                self.decide(&run, origin.seq, "delivered");
                let last = self.last.entry(run).or_default();
                if delivery == Delivery::Ordered {
                    assert!(*last < origin.seq, "I14: {} after {last}", origin.seq);
                }
                *last = origin.seq;
            }
            Event::Gap {
                source,
                epoch,
                from,
                to,
            } => {
                assert!(
                    from <= to && to <= lead(source.as_str(), epoch),
                    "I2: gap {from}-{to}"
                );
                self.first_gap.get_or_insert(now);
            }
            Event::Lost {
                source,
                epoch,
                from,
                to,
                ..
            } => {
                assert!(
                    from <= to && to <= lead(source.as_str(), epoch),
                    "I2: lost {from}-{to}"
                );
                for seq in from..=to {
                    self.decide(&(source.to_string(), epoch), seq, "lost");
                }
                self.lossy.insert((source.to_string(), epoch));
            }
            Event::Conflict { .. } => self.has_conflict = true,
            Event::SourceEnded {
                source,
                epoch,
                last_seq,
            } => {
                let before = self.ended.insert((source.to_string(), epoch), last_seq);
                assert_eq!(before, None, "a run ends once");
            }
            Event::SourceEvicted { .. } => panic!("there is room for every source"),
            _ => {}
        }
    }

    /// I4, after every step.
    pub(super) fn check_accounts(receiver: &Receiver<Tag>) {
        for line in receiver.statistics() {
            let owed = line.highest + 1 - line.base;
            let decided = line.delivered + line.lost + line.unverifiable;
            assert_eq!(owed, decided + line.undecided, "I4: {line:?}");
        }
    }

    /// I1, I2 and I15, when everything is over.
    pub(super) fn check_end(&self, lines: &[LineStatistics], truth: &Truth) {
        for line in lines {
            let run = (line.source.to_string(), line.epoch);
            let outcomes = self.outcomes.get(&run);
            assert_eq!(line.undecided, 0, "I1: {line:?}");
            let (lead, _) = truth[&run];
            assert!(line.highest <= lead, "I2: {line:?}");
            if let Some(last) = self.ended.get(&run) {
                let found = (line.highest, *last);
                assert_eq!(found, (lead, lead), "I1: no tail is overlooked, {line:?}");
            }
            let is_later_run = lines
                .iter()
                .any(|other| other.source == line.source && other.epoch < line.epoch);
            if is_later_run {
                assert_eq!(line.base, 1, "I15: {line:?}");
            }
            if line.unverifiable > 0 {
                continue;
            }
            for seq in line.base..=line.highest {
                let outcome = outcomes.and_then(|outcomes| outcomes.get(&seq));
                assert!(
                    outcome.is_some(),
                    "I1: {seq} of {run:?} has no outcome, {line:?}"
                );
            }
        }
    }

    fn decide(&mut self, run: &(String, u64), seq: u64, outcome: &'static str) {
        let outcomes = self.outcomes.entry(run.clone()).or_default();
        if let Some(before) = outcomes.insert(seq, outcome) {
            panic!("I1 and I3: {seq} of {run:?} is {outcome} and was {before}");
        }
    }
}
