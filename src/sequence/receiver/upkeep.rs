//! What is done from time to time: looking for silence, and forgetting what is idle or one too many.

use core::time::Duration;

use crate::sequence::event::Event;
use crate::sequence::line::Line;
use crate::sequence::nanos::Nanos;
use crate::sequence::options::Weight;
use crate::sequence::table::LineId;

use super::{QUESTION_SPACING, RECENT_TIME, Rank, Receiver, SCAN_INTERVAL};

/// How many sources are looked at once.
const SCAN_LINES: usize = 4_096;
/// When the table is full, one part in this many is lined up to be evicted.
const EVICTED_PART: usize = 16;
/// Without heartbeats a source has so much longer before it is called silent.
const DEAF_PATIENCE: Duration = Duration::from_secs(3);

impl<M: Weight> Receiver<M> {
    /// Looks at some of the lines for silence and idleness, so that all have their turn within
    /// the interval.
    pub(super) fn scan(&mut self, now: Duration) {
        self.tell_conflicts(now);
        let ids: Vec<LineId> = self.table.within(self.scan_from, SCAN_LINES).collect();
        for id in ids {
            let Some((line, _)) = self.table.get_mut(id) else {
                continue;
            };
            let patience = if self.is_deaf {
                DEAF_PATIENCE
            } else {
                Duration::ZERO
            };
            let is_silent_at = |due: Duration| now >= due.saturating_add(patience);
            if line.silent_due().is_some_and(is_silent_at) {
                line.is_silent = true;
                let (source, epoch) = (line.source().clone(), line.epoch());
                self.events.push_back(Event::SourceSilent { source, epoch });
                if self.options.asks_archives() {
                    self.with(now, id, |line, around| line.probe_archive(around));
                }
            }
            let Some((line, _)) = self.table.get_mut(id) else {
                continue;
            };
            let is_recent = now < line.heard().saturating_add(RECENT_TIME);
            if self.is_deaf && is_recent && self.options.may_ask() {
                self.question_deaf(now, id);
            }
            let Some((line, _)) = self.table.get_mut(id) else {
                continue;
            };
            let is_idle = now >= line.heard().saturating_add(self.options.idle_time);
            if is_idle
                && let Some((is_undecided, heard)) = self.rank(id)
                && !is_undecided
                && now >= heard.get().saturating_add(self.options.idle_time)
            {
                self.evict(now, id);
            }
        }
        let places = self.table.places();
        self.scan_from = self.scan_from.saturating_add(SCAN_LINES);
        if self.scan_from >= places {
            self.scan_from = 0;
        }
        let turns = u32::try_from(places.div_ceil(SCAN_LINES)).unwrap_or(u32::MAX);
        let pause = SCAN_INTERVAL.checked_div(turns).unwrap_or(SCAN_INTERVAL);
        self.next_scan = now.saturating_add(pause);
    }

    /// Asks for the heartbeat that does not come by itself.
    fn question_deaf(&mut self, now: Duration, id: LineId) {
        let due = self.next_question.max(now);
        let is_asked = self.with(now, id, |line, _| {
            let is_idle = line.question().is_none();
            if is_idle {
                line.question_sign(due);
            }
            is_idle && line.question().is_some()
        });
        if is_asked == Some(true) {
            self.next_question = due.saturating_add(QUESTION_SPACING);
        }
    }

    pub(super) fn evict_oldest(&mut self, now: Duration) {
        // Those heard since they were collected are passed over; then there are others.
        for _ in 0..2 {
            while let Some((rank, id)) = self.oldest.pop_front() {
                if self.rank(id) == Some(rank) {
                    return self.evict(now, id);
                }
            }
            self.collect_oldest();
        }
    }

    /// Finds the runs to evict next: a part of them all, so that it is seldom done.
    fn collect_oldest(&mut self) {
        let all = self.table.within(0, usize::MAX);
        let mut ranks: Vec<(Rank, LineId)> =
            all.filter_map(|id| Some((self.rank(id)?, id))).collect();
        let count = ranks.len().div_ceil(EVICTED_PART).min(ranks.len());
        if count < ranks.len() {
            ranks.select_nth_unstable(count);
            ranks.truncate(count);
        }
        ranks.sort_unstable();
        self.oldest = ranks.into();
    }

    /// The rank of a run and those before it, which go with it.
    fn rank(&self, id: LineId) -> Option<Rank> {
        let runs = self.table.down_from(id).filter_map(|id| self.table.get(id));
        let ranks = runs.map(|line| (!line.is_settled(), Nanos::new(line.heard())));
        ranks.reduce(|one, two| (one.0 || two.0, one.1.max(two.1)))
    }

    /// Forgets a run and those before it; what is undecided in them is reported lost first.
    ///
    /// Never a later one alone: what is left would take its messages for those of a new run.
    fn evict(&mut self, now: Duration, id: LineId) {
        let mut runs: Vec<LineId> = self.table.down_from(id).collect();
        runs.reverse();
        for id in runs {
            self.evict_run(now, id);
        }
        self.forgotten = Some(now);
        self.subscribed = self.subscribed.map(|at| at.max(now));
    }

    /// Forgets one run; others of its source may stay.
    pub(super) fn evict_run(&mut self, now: Duration, id: LineId) {
        self.with(now, id, Line::give_up);
        let Some((line, due)) = self.table.remove(id) else {
            return;
        };
        self.load = self.load.without(line.load());
        if let Some(due) = due {
            self.timers.remove(&(due, id));
        }
        if self.last == Some(id) {
            self.last = None;
        }
        let (source, epoch) = (line.source().clone(), line.epoch());
        self.events
            .push_back(Event::SourceEvicted { source, epoch });
    }
}
