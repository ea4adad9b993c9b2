//! Where an archive finds the messages of each run: which place of its store carries which number.
//!
//! ```text
//!   numbers    1  2  3     5  6  7        two spans: numbers and places that rise together
//!   places    40 41 42    90 91 92
//! ```
//!
//! Holds spans only, never a message. A store that holds one run alone needs one span for it all.

use std::collections::{BTreeMap, VecDeque};

use super::carrier::Carrier;
use super::ranges::Ranges;
use super::source::SourceName;
use super::stamp::Stamp;

/// Which place of a store carries which number of which run.
#[derive(Debug, Clone)]
pub struct ArchiveIndex {
    runs: BTreeMap<(SourceName, u64), Run>,
    /// Every span, the oldest first.
    age: VecDeque<(SourceName, u64, u64)>,
    spans_max: usize,
    /// Whether something was forgotten: what is not known then of a run may be that.
    has_forgotten: bool,
}

/// What is stored of one run.
#[derive(Debug, Clone, Default)]
struct Run {
    /// By first number.
    spans: BTreeMap<u64, Span>,
    highest: u64,
    /// What is not known up to here may have been forgotten.
    forgotten: u64,
    /// Where its messages carry their stamps.
    carrier: Carrier,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    last: u64,
    /// The place of the first number.
    place: u64,
}

/// What an archive has of the numbers that it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// Numbers with their places, ascending.
    pub found: Vec<(u64, u64)>,
    /// Numbers that were not stored although later ones were: they will not come any more. What the
    /// index may have forgotten is not among them.
    pub gone: Ranges,
    /// Whether there is more than was asked to be found.
    pub has_more: bool,
}

impl ArchiveIndex {
    /// Makes an index of at most `spans_max` spans (at least one); beyond that the oldest is forgotten.
    #[must_use]
    pub const fn new(spans_max: usize) -> Self {
        Self {
            runs: BTreeMap::new(),
            age: VecDeque::new(),
            spans_max,
            has_forgotten: false,
        }
    }

    /// Notes that `place` carries the message with this stamp, which `carrier` had. Places come in
    /// ascending order.
    ///
    /// A number that came before is left where it is. Returns false for a stamp that numbers nothing.
    pub fn insert(&mut self, stamp: &Stamp<'_>, carrier: Carrier, place: u64) -> bool {
        let Ok(source) = SourceName::new(stamp.source) else {
            return false;
        };
        let seq = stamp.seq;
        if seq == 0 {
            return false;
        }
        let forgotten = if self.has_forgotten {
            seq.saturating_sub(1)
        } else {
            0
        };
        let run = self
            .runs
            .entry((source.clone(), stamp.epoch))
            .or_insert_with(|| Run {
                forgotten,
                ..Run::default()
            });
        run.highest = run.highest.max(seq);
        run.carrier = carrier;
        if let Some((first, span)) = run.spans.range_mut(..=seq).next_back() {
            if seq <= span.last {
                return true;
            }
            let steps = seq.saturating_sub(*first);
            if span.last.saturating_add(1) == seq && span.place.saturating_add(steps) == place {
                span.last = seq;
                return true;
            }
        }
        run.spans.insert(seq, Span { last: seq, place });
        self.age.push_back((source, stamp.epoch, seq));
        while self.age.len() > self.spans_max.max(1) {
            self.forget_oldest();
        }
        true
    }

    /// Looks for numbers of a run, `most` of them at most.
    ///
    /// `None` for a run of which nothing is stored.
    #[must_use]
    pub fn find(
        &self,
        source: &SourceName,
        epoch: u64,
        asked: &Ranges,
        most: usize,
    ) -> Option<Stored> {
        let run = self.runs.get(&(source.clone(), epoch))?;
        let mut stored = Stored::default();
        let pass = |from: u64, to: u64, gone: &mut Ranges| {
            let from = from.max(run.forgotten.saturating_add(1));
            if from <= to {
                gone.push(from, to);
            }
        };
        for (from, to) in asked.iter() {
            let to = to.min(run.highest);
            let mut next = from;
            let before = run.spans.range(..=from).next_back();
            let within = run
                .spans
                .range(from.saturating_add(1)..=to.max(from.saturating_add(1)));
            for (first, span) in before.into_iter().chain(within) {
                let start = next.max(*first);
                let end = to.min(span.last);
                if start > end {
                    continue;
                }
                pass(next, start.saturating_sub(1), &mut stored.gone);
                for seq in start..=end {
                    if stored.found.len() >= most {
                        stored.has_more = true;
                        return Some(stored);
                    }
                    let steps = seq.saturating_sub(*first);
                    stored.found.push((seq, span.place.saturating_add(steps)));
                }
                next = end.saturating_add(1);
            }
            pass(next, to, &mut stored.gone);
        }
        Some(stored)
    }

    /// Where the messages of a run carry their stamps; the default when nothing is stored of it.
    #[must_use]
    pub fn carrier(&self, source: &SourceName, epoch: u64) -> Carrier {
        let run = self.runs.get(&(source.clone(), epoch));
        run.map_or_else(Carrier::default, |run| run.carrier)
    }

    /// The highest number stored of a run; `None` when nothing is.
    #[must_use]
    pub fn highest(&self, source: &SourceName, epoch: u64) -> Option<u64> {
        Some(self.runs.get(&(source.clone(), epoch))?.highest)
    }

    /// The lowest number stored of a run; `None` when nothing is.
    #[must_use]
    pub fn lowest(&self, source: &SourceName, epoch: u64) -> Option<u64> {
        let run = self.runs.get(&(source.clone(), epoch))?;
        run.spans.keys().next().copied()
    }

    /// How many spans there are: what the index costs, 100 to 200 bytes each.
    #[must_use]
    pub fn spans(&self) -> usize {
        self.age.len()
    }

    /// Forgets everything: the store was made anew.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.age.clear();
        self.has_forgotten = false;
    }

    fn forget_oldest(&mut self) {
        let Some((source, epoch, first)) = self.age.pop_front() else {
            return;
        };
        self.has_forgotten = true;
        let name = (source, epoch);
        let Some(run) = self.runs.get_mut(&name) else {
            return;
        };
        if let Some(span) = run.spans.remove(&first) {
            run.forgotten = run.forgotten.max(span.last);
        }
        if run.spans.is_empty() {
            self.runs.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(spans_max: usize, stamps: &[(&str, u64, u64)]) -> ArchiveIndex {
        let mut index = ArchiveIndex::new(spans_max);
        for (source, seq, place) in stamps {
            let text = format!("{source}.7.{seq}");
            let stamp = Stamp::parse(text.as_bytes()).unwrap();
            assert!(index.insert(&stamp, Carrier::Token, *place));
        }
        index
    }

    fn find(index: &ArchiveIndex, source: &str, asked: &str, most: usize) -> Option<Stored> {
        let asked = Ranges::parse(asked.as_bytes()).unwrap();
        index.find(&SourceName::new(source).unwrap(), 7, &asked, most)
    }

    #[test]
    fn what_was_stored_is_found_and_what_was_passed_over_is_gone() {
        let stamps = [1, 2, 3, 6, 7].map(|seq| ("a", seq, seq + 40));
        let index = index(10, &stamps);
        assert_eq!(index.spans(), 2);
        let stored = find(&index, "a", "1,3-9", 100).unwrap();
        assert_eq!(stored.found, [(1, 41), (3, 43), (6, 46), (7, 47)]);
        // 8 and 9 may be on their way.
        assert_eq!(stored.gone.to_text(), b"4-5");
        assert!(!stored.has_more);
        assert_eq!(find(&index, "b", "1", 100), None);
        assert_eq!(find(&index, "a", "8-9", 100), Some(Stored::default()));
        assert_eq!(find(&index, "a", "4", 100).unwrap().gone.to_text(), b"4");
    }

    #[test]
    fn no_more_is_found_than_was_asked_for() {
        let stamps: Vec<_> = (1..=9).map(|seq| ("a", seq, seq)).collect();
        let stored = find(&index(10, &stamps), "a", "2-4,8", 3).unwrap();
        assert_eq!(stored.found, [(2, 2), (3, 3), (4, 4)]);
        assert!(stored.has_more);
        assert!(stored.gone.is_empty());
    }

    #[test]
    fn sources_that_share_a_store_keep_their_own_places() {
        let stamps: Vec<_> = (1..=6_u64)
            .map(|place| {
                (
                    if place % 2 == 0 { "a" } else { "b" },
                    place.div_ceil(2),
                    place,
                )
            })
            .collect();
        let index = index(10, &stamps);
        assert_eq!(find(&index, "a", "2", 9).unwrap().found, [(2, 4)]);
        assert_eq!(find(&index, "b", "2-3", 9).unwrap().found, [(2, 3), (3, 5)]);
    }

    #[test]
    fn the_oldest_is_forgotten_and_a_copy_changes_nothing() {
        let mut index = index(2, &[("a", 1, 1), ("b", 1, 2), ("a", 2, 3), ("a", 2, 4)]);
        assert_eq!(index.spans(), 2);
        assert_eq!(find(&index, "a", "1-2", 9).unwrap().found, [(2, 3)]);
        assert_eq!(index.lowest(&SourceName::new("a").unwrap(), 7), Some(2));
        assert_eq!(index.highest(&SourceName::new("a").unwrap(), 7), Some(2));
        let gone = |index: &_, source, asked| find(index, source, asked, 9).unwrap().gone.to_text();
        assert_eq!(gone(&index, "a", "1-2"), b"", "the store may have it");
        for (text, place) in [("a.7.5", 5), ("b.7.3", 6), ("b.7.5", 7)] {
            let stamp = Stamp::parse(text.as_bytes()).unwrap();
            assert!(index.insert(&stamp, Carrier::Token, place));
        }
        assert_eq!(gone(&index, "b", "1-5"), b"4", "1 was stored once");
        assert_eq!(index.lowest(&SourceName::new("b").unwrap(), 7), Some(3));
        let zero = Stamp::parse(b"a.7.0").unwrap();
        assert!(!index.insert(&zero, Carrier::Token, 9));
        let carrier = |name: &str| index.carrier(&SourceName::new(name).unwrap(), 7);
        assert_eq!(
            (carrier("b"), carrier("z")),
            (Carrier::Token, Carrier::Header)
        );
        index.clear();
        assert_eq!(find(&index, "a", "2", 9), None);
    }
}
