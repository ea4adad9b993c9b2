//! What goes wrong on purpose, the same way for the same seed.

use std::time::Duration;

use crate::jitter::Jitter;
use crate::subject::Filter;

/// What goes wrong. The default is nothing.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct FaultPlan {
    /// For each message the first rule that fits is used.
    pub rules: Vec<FaultRule>,
    /// Whether everything is written byte by byte.
    pub is_split: bool,
}

impl FaultPlan {
    /// One rule.
    #[must_use]
    pub fn one(rule: FaultRule) -> Self {
        Self {
            rules: vec![rule],
            is_split: false,
        }
    }
}

/// Chances of faults for messages of some subjects in one direction; each is within 0 to 1.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FaultRule {
    /// Which messages.
    pub subjects: Filter,
    /// On which side of the broker.
    pub direction: Direction,
    /// Chance that the message vanishes.
    pub drop: f64,
    /// Chance that it comes twice.
    pub duplicate: f64,
    /// Chance that later messages overtake it. Only towards clients.
    pub reorder: f64,
    /// How long such a message is held back at most.
    pub reorder_time: Duration,
    /// Chance that it, and everything behind it, is held back. Only towards clients.
    pub delay: f64,
    /// For how long.
    pub delay_time: Duration,
    /// Chance that the connection ends in the middle of it. Only towards clients.
    pub truncate: f64,
    /// Chance that the connection ends behind it.
    pub cut: f64,
}

impl FaultRule {
    /// A rule without faults.
    #[must_use]
    pub const fn new(subjects: Filter, direction: Direction) -> Self {
        Self {
            subjects,
            direction,
            drop: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_time: Duration::from_millis(5),
            delay: 0.0,
            delay_time: Duration::from_millis(20),
            truncate: 0.0,
            cut: 0.0,
        }
    }
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Direction {
    /// From a client to the broker: a fault concerns all subscribers.
    FromClient,
    /// From the broker to a client: a fault concerns one subscriber.
    ToClient,
}

/// Counts of faults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultStatistics {
    /// Messages that vanished.
    pub dropped: u64,
    /// Messages that came twice.
    pub duplicated: u64,
    /// Messages that were overtaken.
    pub reordered: u64,
    /// Messages that held up everything behind them.
    pub delayed: u64,
    /// Connections that ended in the middle of a message.
    pub truncated: u64,
    /// Connections that ended behind a message.
    pub cut: u64,
}

/// What happens to one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Fate {
    pub(super) copies: u8,
    pub(super) reorder: Option<Duration>,
    pub(super) delay: Option<Duration>,
    pub(super) is_truncated: bool,
    pub(super) is_cut: bool,
}

/// Rolls the dice.
#[derive(Debug)]
pub(super) struct Faults {
    plan: FaultPlan,
    jitter: Jitter,
    statistics: FaultStatistics,
}

impl Faults {
    pub(super) const fn new(plan: FaultPlan, seed: u64) -> Self {
        Self {
            plan,
            jitter: Jitter::new(seed),
            statistics: FaultStatistics {
                dropped: 0,
                duplicated: 0,
                reordered: 0,
                delayed: 0,
                truncated: 0,
                cut: 0,
            },
        }
    }

    pub(super) const fn statistics(&self) -> FaultStatistics {
        self.statistics
    }

    pub(super) const fn is_split(&self) -> bool {
        self.plan.is_split
    }

    pub(super) fn fate(&mut self, subject: &[u8], direction: Direction) -> Fate {
        let whole = Fate {
            copies: 1,
            ..Fate::default()
        };
        let fits =
            |rule: &&FaultRule| rule.direction == direction && rule.subjects.matches(subject);
        let Some(rule) = self.plan.rules.iter().find(fits) else {
            return whole;
        };
        let mut happens = |chance: f64, count: &mut u64| {
            let is_hit = chance > 0.0 && self.jitter.hits(chance);
            *count = count.saturating_add(u64::from(is_hit));
            is_hit
        };
        let counts = &mut self.statistics;
        if happens(rule.drop, &mut counts.dropped) {
            let is_cut = happens(rule.cut, &mut counts.cut);
            return Fate {
                copies: 0,
                is_cut,
                ..Fate::default()
            };
        }
        let is_double = happens(rule.duplicate, &mut counts.duplicated);
        let is_reordered = happens(rule.reorder, &mut counts.reordered);
        let is_delayed = happens(rule.delay, &mut counts.delayed);
        let is_truncated = happens(rule.truncate, &mut counts.truncated);
        let is_cut = happens(rule.cut, &mut counts.cut);
        Fate {
            copies: if is_double { 2 } else { 1 },
            reorder: is_reordered.then(|| rule.reorder_time.mul_f64(self.jitter.unit())),
            delay: is_delayed.then_some(rule.delay_time),
            is_truncated,
            is_cut,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(seed: u64) -> Vec<Fate> {
        let mut rule = FaultRule::new(Filter::new("d.>").unwrap(), Direction::ToClient);
        (rule.drop, rule.duplicate, rule.reorder, rule.cut) = (0.3, 0.1, 0.1, 0.01);
        let mut faults = Faults::new(FaultPlan::one(rule), seed);
        (0..1_000)
            .map(|_| faults.fate(b"d.x", Direction::ToClient))
            .collect()
    }

    #[test]
    fn the_same_seed_brings_the_same_faults() {
        assert_eq!(fates(7), fates(7));
        assert_ne!(fates(7), fates(8));
        let dropped = fates(7).iter().filter(|fate| fate.copies == 0).count();
        assert!((250..350).contains(&dropped), "{dropped} of 1000 at 0.3");
    }

    #[test]
    fn other_subjects_and_directions_are_spared() {
        let mut rule = FaultRule::new(Filter::new("d.>").unwrap(), Direction::ToClient);
        rule.drop = 1.0;
        let mut faults = Faults::new(FaultPlan::one(rule), 1);
        assert_eq!(faults.fate(b"e.x", Direction::ToClient).copies, 1);
        assert_eq!(faults.fate(b"d.x", Direction::FromClient).copies, 1);
        assert_eq!(faults.fate(b"d.x", Direction::ToClient).copies, 0);
        assert_eq!(faults.statistics().dropped, 1);
    }
}
