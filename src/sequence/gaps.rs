//! The missing numbers of one run: ascending, disjoint ranges, each with its times.
//!
//! New ones open at the end, so the first is the oldest.

use core::time::Duration;
use std::collections::BTreeMap;

use super::event::{Cause, LossReason};
use super::ranges::width;

/// Eight bytes while nothing is missing.
#[derive(Debug, Clone, Default)]
pub(super) struct Gaps(Option<Box<Missing>>);

#[derive(Debug, Clone, Default)]
struct Missing {
    by_start: BTreeMap<u64, Gap>,
    numbers: u64,
    /// Before this no gap is given up; `None` while none waits for late bytes.
    doomed_due: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Gap {
    pub(super) from: u64,
    pub(super) to: u64,
    /// When to ask.
    pub(super) due: Duration,
    pub(super) born: Duration,
    /// The source no longer has it; late bytes may still bring it until then.
    pub(super) gone_due: Option<Duration>,
    /// Its messages came, and there was no room to hold them: they are owed to us whatever the
    /// source's scope is.
    pub(super) is_local: bool,
    pub(super) cause: Cause,
    /// Why an archive is asked for it, not the source.
    pub(super) handed: Option<Handed>,
}

/// Why an archive is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Handed {
    /// What is told when the archive has none of it either.
    pub(super) reason: LossReason,
    /// Whether the source will not be asked again.
    pub(super) is_final: bool,
}

impl Gap {
    /// Whether only an archive can still have it.
    pub(super) fn is_final(&self) -> bool {
        self.handed.is_some_and(|handed| handed.is_final)
    }
}

impl Gaps {
    /// Adds a range that no gap holds yet.
    pub(super) fn open(&mut self, from: u64, to: u64, born: Duration, due: Duration, cause: Cause) {
        let missing = self.0.get_or_insert_default();
        missing.numbers = missing.numbers.saturating_add(width(from, to));
        if let Some(mut last) = missing.by_start.last_entry()
            && last.get().to.saturating_add(1) == from
            && last.get().due == due
            && last.get().cause == cause
            && !last.get().is_local
            && last.get().gone_due.is_none()
            && last.get().handed.is_none()
        {
            last.get_mut().to = to;
            return;
        }
        missing.by_start.insert(
            from,
            Gap {
                from,
                to,
                due,
                born,
                gone_due: None,
                is_local: false,
                cause,
                handed: None,
            },
        );
    }

    /// Adds a number whose message came and could not be held.
    ///
    /// A long stall behind a full hold is one gap, as young as its last number.
    pub(super) fn open_local(&mut self, seq: u64, now: Duration) {
        let missing = self.0.get_or_insert_default();
        missing.numbers = missing.numbers.saturating_add(1);
        if let Some((_, gap)) = missing.by_start.range_mut(..seq).next_back()
            && gap.is_local
            && gap.gone_due.is_none()
            && gap.handed.is_none()
            && gap.to.saturating_add(1) == seq
        {
            gap.to = seq;
            gap.born = now;
            return;
        }
        missing.by_start.insert(
            seq,
            Gap {
                from: seq,
                to: seq,
                due: now,
                born: now,
                gone_due: None,
                is_local: true,
                cause: Cause::DroppedHere,
                handed: None,
            },
        );
    }

    /// The message of a missing number came and could not be held: its time begins anew.
    pub(super) fn put_back(&mut self, seq: u64, now: Duration) {
        let gap = self.gap_of(seq).filter(|gap| gap.gone_due.is_none());
        let Some(gap) = gap.copied() else {
            return;
        };
        self.cut(gap.from, seq, seq);
        if gap.handed.is_none() {
            return self.open_local(seq, now);
        }
        let missing = self.0.get_or_insert_default();
        missing.numbers = missing.numbers.saturating_add(1);
        let one = Gap {
            from: seq,
            to: seq,
            born: now,
            is_local: true,
            ..gap
        };
        missing.by_start.insert(seq, one);
    }

    /// Takes `from` to `to` out of the gap that begins at `start`.
    pub(super) fn cut(&mut self, start: u64, from: u64, to: u64) {
        let Some(missing) = &mut self.0 else {
            return;
        };
        let Some(gap) = missing.by_start.remove(&start) else {
            return;
        };
        missing.numbers = missing.numbers.saturating_sub(width(from, to));
        if start < from {
            missing.by_start.insert(
                start,
                Gap {
                    to: from.saturating_sub(1),
                    ..gap
                },
            );
        }
        if to < gap.to {
            let rest = to.saturating_add(1);
            missing.by_start.insert(rest, Gap { from: rest, ..gap });
        }
        if missing.by_start.is_empty() {
            self.0 = None;
        }
    }

    /// An archive is asked for what is missing within `from` to `to`, as far as it is not asked for
    /// good already. What is handed on for good waits anew.
    pub(super) fn hand_on(&mut self, from: u64, to: u64, now: Duration, handed: Handed) {
        let parts = self.within(from, to);
        let Some(missing) = &mut self.0 else {
            return;
        };
        for (start, from, to) in parts {
            let by_start = &mut missing.by_start;
            let Some(gap) = by_start.remove(&start) else {
                continue;
            };
            let (from, to, handed) = if gap.is_final() {
                (gap.from, gap.to, gap.handed)
            } else {
                (from, to, Some(handed))
            };
            let is_new = handed != gap.handed;
            let is_anew = is_new && handed.is_some_and(|handed| handed.is_final);
            if gap.from < from {
                let to = from.saturating_sub(1);
                by_start.insert(gap.from, Gap { to, ..gap });
            }
            if to < gap.to {
                let from = to.saturating_add(1);
                by_start.insert(from, Gap { from, ..gap });
            }
            by_start.insert(
                from,
                Gap {
                    from,
                    to,
                    due: if is_new { now } else { gap.due },
                    born: if is_anew { now } else { gap.born },
                    gone_due: gap.gone_due.filter(|_| !is_new),
                    handed,
                    ..gap
                },
            );
        }
    }

    /// The source is asked again for what lies within `from` to `to`, where it was not given up.
    pub(super) fn take_back(&mut self, from: u64, to: u64) {
        let parts = self.within(from, to);
        let Some(missing) = &mut self.0 else {
            return;
        };
        for (start, ..) in parts {
            if let Some(gap) = missing.by_start.get_mut(&start) {
                gap.handed = gap.handed.filter(|handed| handed.is_final);
            }
        }
    }

    /// Forgets everything but what came here; returns how many numbers that were.
    pub(super) fn forget_unseen(&mut self) -> u64 {
        let Some(missing) = &mut self.0 else {
            return 0;
        };
        missing.by_start.retain(|_, gap| gap.is_local);
        let kept = missing.by_start.values();
        let kept = kept.fold(0_u64, |sum, gap| {
            sum.saturating_add(width(gap.from, gap.to))
        });
        let forgotten = missing.numbers.saturating_sub(kept);
        missing.numbers = kept;
        if missing.by_start.is_empty() {
            self.0 = None;
        }
        forgotten
    }

    /// The time without a connection, which ends now, does not count.
    pub(super) fn shift(&mut self, away: Duration, now: Duration) {
        let Some(missing) = &mut self.0 else {
            return;
        };
        for gap in missing.by_start.values_mut() {
            // Some open meanwhile, by bytes that came before.
            gap.born = gap.born.saturating_add(away).min(now);
            gap.due = gap.due.saturating_add(away).min(gap.due.max(now));
        }
    }

    /// Late bytes may still bring the gaps that lie within these numbers until `due`.
    pub(super) fn doom(&mut self, from: u64, to: u64, due: Duration) {
        let Some(missing) = &mut self.0 else {
            return;
        };
        for gap in missing
            .by_start
            .values_mut()
            .filter(|gap| gap.from >= from && gap.to <= to)
        {
            let due = *gap.gone_due.get_or_insert(due);
            let earliest = missing.doomed_due.get_or_insert(due);
            *earliest = due.min(*earliest);
        }
    }

    /// The doomed gaps whose time is over.
    pub(super) fn take_doomed(&mut self, now: Duration) -> Vec<(u64, u64)> {
        let Some(missing) = &mut self.0 else {
            return Vec::new();
        };
        if missing.doomed_due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        let dooms = missing.by_start.values().filter_map(|gap| gap.gone_due);
        missing.doomed_due = dooms.filter(|due| *due > now).min();
        let is_over = |gap: &&Gap| gap.gone_due.is_some_and(|due| due <= now);
        let over = missing.by_start.values().filter(is_over);
        over.map(|gap| (gap.from, gap.to)).collect()
    }

    /// When [`Gaps::take_doomed`] is to be called next.
    pub(super) fn doomed_due(&self) -> Option<Duration> {
        self.0.as_ref()?.doomed_due
    }

    /// The missing numbers within `from` to `to`, as where their gap begins and what of it.
    pub(super) fn within(&self, from: u64, to: u64) -> Vec<(u64, u64, u64)> {
        let first = self.holding(from).unwrap_or(from);
        let gaps = self.range(first, to.max(first));
        gaps.map(|gap| (gap.from, gap.from.max(from), gap.to.min(to)))
            .collect()
    }

    /// Where the gap that holds `seq` begins.
    pub(super) fn holding(&self, seq: u64) -> Option<u64> {
        self.gap_of(seq).map(|gap| gap.from)
    }

    /// The gap that holds `seq`.
    pub(super) fn gap_of(&self, seq: u64) -> Option<&Gap> {
        let gap = self.range(0, seq).next_back();
        gap.filter(|gap| gap.to >= seq)
    }

    /// Returns true when some number within `from` to `to` is missing.
    pub(super) fn touches(&self, from: u64, to: u64) -> bool {
        self.holding(from).is_some() || self.range(from, to).next().is_some()
    }

    /// Returns true when the source is to be asked for some number within `from` to `to`.
    pub(super) fn awaits_source(&self, from: u64, to: u64) -> bool {
        let first = self.holding(from).unwrap_or(from);
        self.range(first, to.max(first))
            .any(|gap| gap.handed.is_none())
    }

    /// How many numbers are missing directly up to `to`.
    pub(super) fn width_before(&self, to: u64) -> u64 {
        match self.iter().next_back() {
            Some(gap) if gap.to == to => width(gap.from, gap.to),
            _ => 0,
        }
    }

    /// The oldest gap.
    pub(super) fn first(&self) -> Option<&Gap> {
        self.iter().next()
    }

    /// Every gap in order.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Gap> {
        self.0.iter().flat_map(|missing| missing.by_start.values())
    }

    /// How many gaps there are.
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |missing| missing.by_start.len())
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How many numbers are missing.
    pub(super) fn numbers(&self) -> u64 {
        self.0.as_ref().map_or(0, |missing| missing.numbers)
    }

    /// The gaps that begin at `from` to `to`.
    fn range(&self, from: u64, to: u64) -> impl DoubleEndedIterator<Item = &Gap> {
        let gaps = self
            .0
            .iter()
            .map(move |missing| missing.by_start.range(from..=to));
        gaps.flatten().map(|(_, gap)| gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn ranges(gaps: &Gaps) -> Vec<(u64, u64)> {
        gaps.iter().map(|gap| (gap.from, gap.to)).collect()
    }

    #[test]
    fn cutting_splits_and_shrinks_and_keeps_count() {
        let mut gaps = Gaps::default();
        gaps.open(3, 9, MILLI, MILLI, Cause::Unknown);
        gaps.open(20, 20, MILLI, MILLI, Cause::Unknown);
        gaps.cut(3, 5, 6);
        assert_eq!(
            (ranges(&gaps), gaps.numbers()),
            (vec![(3, 4), (7, 9), (20, 20)], 6)
        );
        gaps.cut(20, 20, 20);
        gaps.cut(7, 7, 7);
        assert_eq!((ranges(&gaps), gaps.numbers()), (vec![(3, 4), (8, 9)], 4));
        assert_eq!((gaps.holding(4), gaps.holding(5)), (Some(3), None));
        assert!(gaps.touches(5, 8) && !gaps.touches(5, 7));
        assert_eq!(gaps.within(4, 100), [(3, 4, 4), (8, 8, 9)]);
        assert_eq!(
            (gaps.width_before(9), gaps.forget_unseen(), gaps.numbers()),
            (2, 4, 0)
        );
        gaps.open(3, 9, MILLI, MILLI, Cause::Unknown);
        gaps.put_back(5, MILLI);
        assert_eq!((gaps.forget_unseen(), ranges(&gaps)), (6, vec![(5, 5)]));
        assert_eq!(gaps.numbers(), 1, "what came stays");
    }

    #[test]
    fn neighbours_of_one_time_and_cause_are_one_gap() {
        let mut gaps = Gaps::default();
        gaps.open(1, 1, MILLI, MILLI, Cause::Unknown);
        gaps.open(2, 3, MILLI, MILLI, Cause::Unknown);
        gaps.open(4, 4, MILLI, MILLI * 2, Cause::Unknown);
        gaps.open(5, 5, MILLI, MILLI * 2, Cause::DroppedHere);
        assert_eq!(ranges(&gaps), [(1, 3), (4, 4), (5, 5)]);
    }

    #[test]
    fn a_doomed_gap_is_given_up_once_its_time_is_over() {
        let mut gaps = Gaps::default();
        gaps.open(1, 3, MILLI, MILLI, Cause::Unknown);
        gaps.doom(1, 2, MILLI * 5);
        assert_eq!(gaps.doomed_due(), None, "only whole gaps are doomed");
        gaps.doom(1, 9, MILLI * 5);
        assert_eq!(gaps.doomed_due(), Some(MILLI * 5));
        assert_eq!(gaps.take_doomed(MILLI * 4), []);
        assert_eq!(gaps.take_doomed(MILLI * 5), [(1, 3)]);
        assert_eq!(gaps.doomed_due(), None);
    }
}
