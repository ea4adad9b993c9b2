//! The way between sources and receivers: it loses, doubles, delays, and may reorder.

use std::collections::BTreeMap;
use std::time::Duration;

use natseq::jitter::Jitter;

/// The longest that a packet is on its way where order is kept.
const PATH_TIME_MAX: Duration = Duration::from_millis(3);
/// The same where packets overtake each other.
const UNORDERED_PATH_TIME_MAX: Duration = Duration::from_millis(20);
/// How much later than the others a straggler comes.
const STRAGGLER_TIME: Duration = Duration::from_millis(5);

#[derive(Debug, Clone)]
pub(super) struct LinkPlan {
    pub(super) loss: f64,
    pub(super) duplication: f64,
    pub(super) is_fifo: bool,
    /// How many packets are overtaken by those behind them, on a path that keeps order otherwise.
    pub(super) stragglers: f64,
    /// Everything is lost from the first moment until before the second, and nobody is told.
    pub(super) blackouts: Vec<(Duration, Duration)>,
    /// Packets, by their number and in ascending order, that nothing bad happens to.
    pub(super) spared: Vec<u64>,
}

impl LinkPlan {
    pub(super) const fn path_time_max(&self) -> Duration {
        if self.is_fifo {
            PATH_TIME_MAX
        } else {
            UNORDERED_PATH_TIME_MAX
        }
    }
}

/// One direction between a source and a receiver: order is kept within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path {
    pub(super) source: usize,
    pub(super) receiver: usize,
    pub(super) is_request: bool,
}

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Arrives,
    ArrivesTwice,
    IsLost,
}

/// Packets on their way.
#[derive(Debug)]
pub(super) struct Link<P> {
    plan: LinkPlan,
    jitter: Jitter,
    packets: BTreeMap<(Duration, u64), P>,
    posted: u64,
    /// Those that were lost or doubled, by their number.
    harmed: Vec<u64>,
    count: u64,
    /// When the last packet of each path arrives.
    last: BTreeMap<Path, Duration>,
}

impl<P: Clone> Link<P> {
    pub(super) const fn new(plan: LinkPlan, seed: u64) -> Self {
        Self {
            plan,
            jitter: Jitter::new(seed),
            packets: BTreeMap::new(),
            posted: 0,
            harmed: Vec::new(),
            count: 0,
            last: BTreeMap::new(),
        }
    }

    /// Sends a packet; it arrives never, once or twice.
    pub(super) fn post(&mut self, now: Duration, path: Path, packet: &P) -> Fate {
        self.posted += 1;
        let fate = self.fate(now);
        let times = match fate {
            Fate::IsLost => 0,
            Fate::Arrives => 1,
            Fate::ArrivesTwice => 2,
        };
        for _ in 0..times {
            let time = 0.05 + 0.95 * self.jitter.unit();
            let mut arrival = now + self.plan.path_time_max().mul_f64(time);
            if self.plan.stragglers > 0.0 && self.jitter.hits(self.plan.stragglers) {
                arrival += STRAGGLER_TIME.mul_f64(self.jitter.unit());
            } else if self.plan.is_fifo {
                let last = self.last.entry(path).or_default();
                arrival = arrival.max(*last);
                *last = arrival;
            }
            self.count += 1;
            self.packets.insert((arrival, self.count), packet.clone());
        }
        fate
    }

    fn fate(&mut self, now: Duration) -> Fate {
        let mut blackouts = self.plan.blackouts.iter();
        let is_dark = blackouts.any(|(from, to)| (*from..*to).contains(&now));
        let fate = if self.jitter.hits(self.plan.loss) || is_dark {
            Fate::IsLost
        } else if self.jitter.hits(self.plan.duplication) {
            Fate::ArrivesTwice
        } else {
            return Fate::Arrives;
        };
        if self.plan.spared.binary_search(&self.posted).is_ok() {
            return Fate::Arrives;
        }
        self.harmed.push(self.posted);
        fate
    }

    /// The next packet that has arrived.
    pub(super) fn take(&mut self, now: Duration) -> Option<P> {
        let first = self.packets.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// When the next packet arrives.
    pub(super) fn next(&self) -> Option<Duration> {
        self.packets.keys().next().map(|(at, _)| *at)
    }

    /// Packets that were lost or doubled, by their number.
    pub(super) fn harmed(&self) -> &[u64] {
        &self.harmed
    }
}
