//! Which run of a source is the one to listen to.
//!
//! The run with the highest epoch is, once it has *proven* that it is the source: by an answer to
//! our own question, which only reaches who may listen where the source takes requests. Where
//! nothing is asked, both data and a heartbeat must have come. Until then the run before it goes on.
//!
//! A run with a lower epoch, of a source whose clock was set back, is listened to when those above it
//! are silent, or do not prove themselves.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::sequence::defect::Defect;
use crate::sequence::event::Event;
use crate::sequence::heartbeat::Prior;
use crate::sequence::line::Line;
use crate::sequence::options::{Delivery, Weight};
use crate::sequence::source::SourceName;
use crate::sequence::stamp::Parts;
use crate::sequence::table::LineId;

use super::Receiver;

/// Runs of one source that are remembered: so many restarts within the idle time are rare, and what
/// is done for a source may look at each of its runs.
const RUNS_OF_ONE_MAX: usize = 16;
/// Sources with contests that are remembered; the one touched least recently is forgotten.
const CONTESTS_MAX: usize = 1_024;
/// So long a source's conflicts are only counted after one was told.
const CONFLICT_INTERVAL: Duration = Duration::from_secs(1);
/// After this time without news a contest is forgotten.
const CONTEST_TIME: Duration = Duration::from_secs(60);

/// Who speaks in the name of a source beside the run that is listened to.
#[derive(Debug, Clone)]
struct Contest {
    /// The latest such run.
    epoch: u64,
    /// When it was first heard.
    since: Duration,
    /// The first number that it would owe us.
    first_owed: u64,
    touched: Duration,
    told: Option<Duration>,
    /// What was dropped and not told.
    untold: u64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Contests {
    by_source: BTreeMap<SourceName, Contest>,
    dropped: u64,
}

impl Contests {
    /// The contest of a source, begun if there is none with this run.
    fn note(&mut self, now: Duration, source: &SourceName, epoch: u64) -> &mut Contest {
        if self.by_source.len() >= CONTESTS_MAX && !self.by_source.contains_key(source) {
            let touched = self.by_source.iter();
            let oldest = touched.min_by_key(|(_, contest)| contest.touched);
            if let Some(oldest) = oldest.map(|(source, _)| source.clone()) {
                self.by_source.remove(&oldest);
            }
        }
        let contest = self.by_source.entry(source.clone());
        let contest = contest.or_insert_with(|| Contest {
            epoch,
            since: now,
            first_owed: u64::MAX,
            touched: now,
            told: None,
            untold: 0,
        });
        if contest.epoch != epoch {
            (contest.epoch, contest.since) = (epoch, now);
            contest.first_owed = u64::MAX;
        }
        contest.touched = now;
        contest
    }
}

impl Contest {
    /// How much was dropped, when that is to be told now.
    fn take_untold(&mut self, now: Duration) -> Option<u64> {
        let may_tell = |told: Duration| now >= told.saturating_add(CONFLICT_INTERVAL);
        if self.untold == 0 || !self.told.is_none_or(may_tell) {
            return None;
        }
        self.told = Some(now);
        Some(core::mem::take(&mut self.untold))
    }
}

impl<M: Weight> Receiver<M> {
    /// Messages and heartbeats that were dropped because a later run took the place of theirs.
    #[must_use]
    pub const fn conflicts(&self) -> u64 {
        self.contests.dropped
    }

    /// Finds or begins the line of a run; `None` when an earlier run comes back.
    #[inline]
    pub(super) fn line_of(
        &mut self,
        now: Duration,
        stamp: &Parts<'_>,
        first_owed: u64,
        is_news: bool,
        prior: Option<Prior>,
    ) -> Option<LineId> {
        let source = stamp.source();
        let Some(latest) = self.table.latest(&source) else {
            let is_all_owed = Defect::BaseOne.is_planted();
            let base = if is_all_owed { 1 } else { first_owed };
            return Some(self.begin(now, source, stamp.epoch, base, None, None));
        };
        let latest_epoch = self.table.get(latest)?.epoch();
        if latest_epoch == stamp.epoch {
            return Some(latest);
        }
        if Defect::OneEpoch.is_planted() {
            return Some(latest);
        }
        if stamp.epoch > latest_epoch {
            // Numbers of a later run are owed from its beginning, if it was not forgotten before.
            let is_new = self.table.get(latest)?.is_never_forgotten;
            let base = if is_new { 1 } else { first_owed };
            return Some(self.begin(now, source, stamp.epoch, base, Some(latest), prior));
        }
        if let Some(id) = self.table.run(latest, stamp.epoch) {
            return Some(id);
        }
        if Defect::Reopened.is_planted() {
            return Some(self.begin(now, source, stamp.epoch, 1, None, None));
        }
        if is_news {
            return self.contest(now, source, stamp.epoch, first_owed, latest);
        }
        None
    }

    /// A run below the latest is heard for the first time. It is begun when none above holds its
    /// place.
    fn contest(
        &mut self,
        now: Duration,
        source: SourceName,
        epoch: u64,
        first_owed: u64,
        latest: LineId,
    ) -> Option<LineId> {
        let contest = self.contests.note(now, &source, epoch);
        contest.first_owed = contest.first_owed.min(first_owed);
        let (since, base) = (contest.since, contest.first_owed);
        let above: Vec<LineId> = self.table.down_from(latest).collect();
        let is_above = |id: &LineId| self.table.get(*id).is_some_and(|line| line.epoch() > epoch);
        let above: Vec<LineId> = above.into_iter().filter(is_above).collect();
        if self.is_held(now, &above, since) {
            for id in above {
                self.with(now, id, |line, around| line.want_proof(around));
            }
            self.conflict(now, source, epoch);
            return None;
        }
        for id in above {
            self.with(now, id, |line, around| line.supersede(around, None));
        }
        Some(self.begin(now, source, epoch, base, Some(latest), None))
    }

    fn begin(
        &mut self,
        now: Duration,
        source: SourceName,
        epoch: u64,
        base: u64,
        previous: Option<LineId>,
        prior: Option<Prior>,
    ) -> LineId {
        self.bound_runs(now, &source);
        if self.table.len() >= self.options.sources_max {
            self.evict_oldest(now);
        }
        let previous = previous.and_then(|id| self.table.get(id));
        let is_told = |line: &Line<M>| {
            prior.is_some_and(|prior| prior.epoch == line.epoch() && line.may_end_at(prior.lead))
        };
        let is_tail_known = previous.is_some_and(|line| line.has_end() || is_told(line));
        let marks = previous.map_or(self.marks, |line| line.marks);
        let is_never_forgotten =
            previous.map_or_else(|| self.forgotten.is_none(), |line| line.is_never_forgotten);
        let has_forgotten_runs = previous.is_some_and(|line| line.has_forgotten_runs);
        let previous = previous.map(Line::epoch);
        let mut line = Line::new(source.clone(), epoch, base, now);
        (line.marks, line.is_never_forgotten) = (marks, is_never_forgotten);
        line.has_forgotten_runs = has_forgotten_runs;
        if self.options.is_shared {
            line.share();
        } else if self.options.assume_scope.is_some() {
            line.assume_covered();
        }
        if self.options.delivery == Delivery::DetectOnly && !Defect::DetectorAsks.is_planted() {
            line.detect_only();
        }
        self.load = self.load.with(line.load());
        let id = self.table.insert(line);
        self.events.push_back(Event::EpochStarted {
            source,
            epoch,
            previous,
            is_tail_known,
        });
        self.with(now, id, |line, around| {
            line.join(around);
            if previous.is_some() {
                line.want_proof(around);
            }
        });
        id
    }

    /// Makes room for one more run of a source: the earliest goes, but not the one that has proven
    /// to be the source, or has sent the most where none has: epochs that were made up end neither.
    fn bound_runs(&mut self, now: Duration, source: &SourceName) {
        let Some(latest) = self.table.latest(source) else {
            return;
        };
        let runs: Vec<LineId> = self.table.down_from(latest).collect();
        if runs.len() < RUNS_OF_ONE_MAX {
            return;
        }
        let weight = |line: &Line<M>| (line.is_proven() && !line.is_superseded(), line.delivered());
        let kept = runs
            .iter()
            .max_by_key(|id| self.table.get(**id).map(weight));
        if let Some(earliest) = runs.iter().rev().find(|id| Some(*id) != kept) {
            self.evict_run(now, *earliest);
            for id in runs {
                if let Some((line, _)) = self.table.get_mut(id) {
                    line.has_forgotten_runs = true;
                }
            }
        }
    }

    /// The source itself has answered.
    pub(super) fn prove(&mut self, now: Duration, id: LineId) {
        let is_new = self.with(now, id, |line, _| line.prove());
        if is_new == Some(true) {
            self.succeed(now, id, None);
        }
    }

    /// A run that has proven itself ends the earlier ones; `prior` names the last number of the one
    /// before, so that what we miss of that is countable.
    ///
    /// Only with a heartbeat or an answer: on a path that reorders, its data may have overtaken
    /// theirs.
    pub(super) fn succeed(&mut self, now: Duration, id: LineId, prior: Option<Prior>) {
        let earlier: Vec<LineId> = self.table.down_from(id).skip(1).collect();
        let Some((line, _)) = self.table.get_mut(id).filter(|_| !earlier.is_empty()) else {
            return;
        };
        let prior = prior.filter(|_| !Defect::NoPrior.is_planted());
        if let Some(prior) = prior {
            line.prior = Some(Box::new(prior));
        }
        if !line.is_proven() {
            return;
        }
        let prior = line.prior.take();
        for id in earlier {
            self.with(now, id, |line, around| {
                let prior = prior.as_ref().filter(|prior| prior.epoch == line.epoch());
                line.supersede(around, prior.map(|prior| prior.lead));
            });
        }
    }

    /// The latest run is heard of again, by heartbeat or answer, after it was silent and an earlier one took its place.
    pub(super) fn come_back(&mut self, now: Duration, id: LineId) {
        let line = self.table.get(id).filter(|line| line.is_superseded());
        let is_latest = line.is_some_and(|line| self.table.latest(line.source()) == Some(id));
        if is_latest {
            self.with(now, id, Line::come_back);
        }
    }

    /// A run that has given way goes on sending: it is followed again when those above it are silent.
    pub(super) fn follow_again(&mut self, now: Duration, id: LineId) {
        let line = self.table.get(id);
        let latest = line.and_then(|line| self.table.latest(line.source()));
        let runs = latest.into_iter().flat_map(|id| self.table.down_from(id));
        let above: Vec<LineId> = runs.take_while(|other| *other != id).collect();
        if above.is_empty() {
            return self.hear_again(now, id);
        }
        if self.is_held(now, &above, now) {
            return;
        }
        for id in above {
            self.with(now, id, |line, around| line.supersede(around, None));
        }
        self.with(now, id, Line::come_back);
        self.succeed(now, id, None);
    }

    /// The latest run sends again after it was silent and an earlier one took its place. Asked, it
    /// comes back with its answer; where nobody is asked or nobody answers, by what it sends, unless
    /// the one that took its place has answered.
    fn hear_again(&mut self, now: Duration, id: LineId) {
        if self.options.may_ask() {
            self.with(now, id, |line, _| line.want_sign(now));
            let gives_no_sign = |line: &Line<M>| line.gives_no_sign(now);
            let earlier: Vec<LineId> = self.table.down_from(id).skip(1).collect();
            let mut earlier = earlier.iter().filter_map(|id| self.table.get(*id));
            let has_answered = earlier.any(|line| line.is_proven() && line.holds(now, now, false));
            if has_answered || !self.table.get(id).is_some_and(gives_no_sign) {
                return;
            }
        }
        self.come_back(now, id);
        self.succeed(now, id, None);
    }

    /// Whether one of these runs holds the place of its source, which another wants since `since`.
    fn is_held(&mut self, now: Duration, runs: &[LineId], since: Duration) -> bool {
        let mut is_held = false;
        for id in runs {
            let Some(line) = self.table.get(*id) else {
                continue;
            };
            let is_asked = self.options.may_ask() && (self.is_deaf || line.is_part());
            is_held |= line.holds(now, since, is_asked);
            if is_asked && line.is_quiet(now, is_asked) && !line.is_superseded() {
                self.with(now, *id, |line, _| line.want_sign(now));
            }
        }
        is_held
    }

    /// Something new of a run that should have ended is dropped.
    pub(super) fn conflict(&mut self, now: Duration, source: SourceName, epoch: u64) {
        self.contests.dropped = self.contests.dropped.saturating_add(1);
        let contest = self.contests.note(now, &source, epoch);
        contest.untold = contest.untold.saturating_add(1);
        if let Some(count) = contest.take_untold(now) {
            self.events.push_back(Event::Conflict {
                source,
                epoch,
                count,
            });
        }
    }

    /// Tells what was only counted, and forgets what is over.
    pub(super) fn tell_conflicts(&mut self, now: Duration) {
        let events = &mut self.events;
        self.contests.by_source.retain(|source, contest| {
            if let Some(count) = contest.take_untold(now) {
                events.push_back(Event::Conflict {
                    source: source.clone(),
                    epoch: contest.epoch,
                    count,
                });
            }
            now < contest.touched.saturating_add(CONTEST_TIME)
        });
    }
}
