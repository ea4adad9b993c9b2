//! Tells bad luck from a mistake: what is retained is given up where each of many attempts to get
//! it was lost on its way, and only there.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::oracle::Run;

/// How long receivers try: their default.
const GAP_TIMEOUT: Duration = Duration::from_secs(5);
/// Fewer requests within the gap timeout are too few to speak of luck.
const ATTEMPTS_MIN: usize = 8;

/// What one receiver asked for, and what came.
#[derive(Debug, Default)]
pub(super) struct Luck {
    /// When each number came last, on whatever way.
    arrivals: BTreeMap<(Run, u64), Duration>,
    /// The last requests to each run.
    requests: BTreeMap<Run, VecDeque<Duration>>,
}

impl Luck {
    pub(super) fn note_arrival(&mut self, now: Duration, run: Run, seq: u64) {
        self.arrivals.insert((run, seq), now);
    }

    pub(super) fn note_request(&mut self, now: Duration, run: Run) {
        let requests = self.requests.entry(run).or_default();
        requests.push_back(now);
        if requests.len() > ATTEMPTS_MIN {
            requests.pop_front();
        }
    }

    /// Whether all of these were asked for again and again, and none has come.
    pub(super) fn was_bad(&self, now: Duration, run: Run, seqs: RangeInclusive<u64>) -> bool {
        let since = now.saturating_sub(GAP_TIMEOUT);
        let requests = self.requests.get(&run);
        let has_tried = requests.is_some_and(|requests| {
            requests.len() == ATTEMPTS_MIN && requests.front().is_some_and(|first| *first >= since)
        });
        let has_come = |seq| {
            let arrival = self.arrivals.get(&(run, seq));
            arrival.is_some_and(|arrival| *arrival > since)
        };
        has_tried && !seqs.into_iter().any(has_come)
    }
}
