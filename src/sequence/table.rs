//! All lines of a receiver, found by number, and by name and epoch.
//!
//! ```text
//!   index      name -> place of its latest run       open hash table, eight bytes an entry
//!   blocks     place -> line, and the place of the run before it
//! ```
//!
//! Lines never move once they are in a block, and a table of many grows block by block.

use crate::jitter::Jitter;

use super::line::Line;
use super::nanos::Nanos;
use super::receiver::REQUEST_BITS;
use super::receiver::Weight;
use super::source::SourceName;

/// Names a line: its place in the lower half, and above it how often that place was given away.
pub(super) type LineId = u64;

/// Lines of a block.
const BLOCK_LEN: usize = 1_024;
/// No place.
const NOWHERE: u32 = u32::MAX;
/// Turns of a place; ids leave room for the numbers of requests.
const TURN_MAX: u32 = (1 << (u32::BITS - REQUEST_BITS)) - 1;

#[derive(Debug, Clone)]
pub(super) struct Table<M> {
    blocks: Vec<Vec<Place<M>>>,
    /// Places that were left.
    free: Vec<u32>,
    len: usize,
    index: Index,
}

#[derive(Debug, Clone)]
pub(super) struct Place<M> {
    line: Option<Line<M>>,
    /// Lines that stood here before.
    turn: u32,
    /// The run before this one.
    earlier: u32,
    /// When the line is to be looked at, as the timers know it.
    pub(super) due: Option<Nanos>,
}

impl<M: Weight> Table<M> {
    /// Makes an empty table; `seed` hides the order of the index from those who choose the names.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            blocks: Vec::new(),
            free: Vec::new(),
            len: 0,
            index: Index::new(seed),
        }
    }

    /// Adds a run; there must be none of this name and epoch.
    pub(super) fn insert(&mut self, line: Line<M>) -> LineId {
        let hash = self.index.hash(line.source());
        let (source, epoch) = (line.source().clone(), line.epoch());
        let place = self.take_place(line);
        self.len = self.len.saturating_add(1);
        let Some(latest) = self.find(hash, &source) else {
            self.index.insert(hash, place);
            return self.id(place);
        };
        // The latest run stands first.
        let (mut later, mut earlier) = (NOWHERE, latest);
        while let Some(run) = self.place(earlier)
            && run.line.as_ref().is_some_and(|line| line.epoch() > epoch)
        {
            (later, earlier) = (earlier, run.earlier);
        }
        if let Some(run) = self.place_mut(place) {
            run.earlier = earlier;
        }
        if let Some(run) = self.place_mut(later) {
            run.earlier = place;
        } else {
            self.index.replace(hash, latest, place);
        }
        self.id(place)
    }

    /// Takes a run out.
    pub(super) fn remove(&mut self, id: LineId) -> Option<(Line<M>, Option<Nanos>)> {
        let (place, _) = split(id);
        let source = self.get(id)?.source().clone();
        let hash = self.index.hash(&source);
        let latest = self.find(hash, &source)?;
        let left = self.place_mut(place)?;
        let line = left.line.take()?;
        let due = left.due.take();
        let earlier = core::mem::replace(&mut left.earlier, NOWHERE);
        left.turn = left.turn.wrapping_add(1) & TURN_MAX;
        if latest != place {
            let mut later = latest;
            while let Some(run) = self.place_mut(later) {
                if run.earlier == place {
                    run.earlier = earlier;
                    break;
                }
                later = run.earlier;
            }
        } else if earlier == NOWHERE {
            self.index.remove(hash, place);
        } else {
            self.index.replace(hash, place, earlier);
        }
        self.free.push(place);
        self.len = self.len.saturating_sub(1);
        Some((line, due))
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(super) fn get(&self, id: LineId) -> Option<&Line<M>> {
        let (place, turn) = split(id);
        let place = self.place(place).filter(|place| place.turn == turn)?;
        place.line.as_ref()
    }

    /// The line, and when the timers look at it.
    #[inline]
    pub(super) fn get_mut(&mut self, id: LineId) -> Option<(&mut Line<M>, &mut Option<Nanos>)> {
        let (place, turn) = split(id);
        let place = self.place_mut(place).filter(|place| place.turn == turn)?;
        Some((place.line.as_mut()?, &mut place.due))
    }

    /// The latest run of a source.
    #[inline]
    pub(super) fn latest(&self, source: &SourceName) -> Option<LineId> {
        let place = self.find(self.index.hash(source), source)?;
        Some(self.id(place))
    }

    /// The run of this epoch among `latest` and those before it.
    pub(super) fn run(&self, latest: LineId, epoch: u64) -> Option<LineId> {
        let is_it = |id: &LineId| self.get(*id).is_some_and(|line| line.epoch() == epoch);
        self.down_from(latest).find(is_it)
    }

    /// `id` and the runs before it.
    pub(super) fn down_from(&self, id: LineId) -> impl Iterator<Item = LineId> {
        core::iter::successors(Some(id), |id| {
            let earlier = self.place(split(*id).0)?.earlier;
            (earlier != NOWHERE).then(|| self.id(earlier))
        })
    }

    /// The lines at `count` places from `from` on.
    pub(super) fn within(&self, from: usize, count: usize) -> impl Iterator<Item = LineId> {
        let places = from..from.saturating_add(count).min(self.places());
        places.filter_map(|place| {
            let place = u32::try_from(place).ok()?;
            self.place(place)?.line.as_ref()?;
            Some(self.id(place))
        })
    }

    /// How many places there are, taken or left.
    pub(super) fn places(&self) -> usize {
        let full = self
            .blocks
            .len()
            .saturating_sub(1)
            .saturating_mul(BLOCK_LEN);
        full.saturating_add(self.blocks.last().map_or(0, Vec::len))
    }

    /// Every line, by place.
    pub(super) fn lines(&self) -> impl Iterator<Item = &Line<M>> {
        let places = self.blocks.iter().flatten();
        places.filter_map(|place| place.line.as_ref())
    }

    #[inline]
    fn find(&self, hash: u32, source: &SourceName) -> Option<u32> {
        self.index.candidates(hash).find(|place| {
            let line = self.place(*place).and_then(|place| place.line.as_ref());
            line.is_some_and(|line| line.source() == source)
        })
    }

    fn take_place(&mut self, line: Line<M>) -> u32 {
        if let Some(place) = self.free.pop()
            && let Some(left) = self.place_mut(place)
        {
            left.line = Some(line);
            return place;
        }
        let place = u32::try_from(self.places()).unwrap_or(NOWHERE);
        if self
            .blocks
            .last()
            .is_none_or(|block| block.len() >= BLOCK_LEN)
        {
            self.blocks.push(Vec::new());
        }
        if let Some(block) = self.blocks.last_mut() {
            block.push(Place {
                line: Some(line),
                turn: 0,
                earlier: NOWHERE,
                due: None,
            });
        }
        place
    }

    fn id(&self, place: u32) -> LineId {
        let turn = self.place(place).map_or(0, |place| place.turn);
        u64::from(turn) << 32 | u64::from(place)
    }

    #[inline]
    fn place(&self, place: u32) -> Option<&Place<M>> {
        let (block, at) = (place as usize / BLOCK_LEN, place as usize % BLOCK_LEN);
        self.blocks.get(block)?.get(at)
    }

    #[inline]
    fn place_mut(&mut self, place: u32) -> Option<&mut Place<M>> {
        let (block, at) = (place as usize / BLOCK_LEN, place as usize % BLOCK_LEN);
        self.blocks.get_mut(block)?.get_mut(at)
    }
}

#[inline]
const fn split(id: LineId) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = id.to_le_bytes();
    (
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    )
}

/// Finds places by the hash of what stands there: linear probing, never more than three quarters
/// full.
#[derive(Debug, Clone)]
struct Index {
    entries: Vec<Entry>,
    len: usize,
    begin: u64,
    factor: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u32,
    place: u32,
}

const EMPTY: Entry = Entry {
    hash: 0,
    place: NOWHERE,
};

impl Index {
    fn new(seed: u64) -> Self {
        let mut keys = Jitter::new(seed);
        Self {
            entries: Vec::new(),
            len: 0,
            begin: keys.next_u64(),
            factor: keys.next_u64() | 1,
        }
    }

    #[inline]
    fn hash(&self, source: &SourceName) -> u32 {
        let mut hash = self.begin;
        for word in source.words() {
            hash = (hash ^ word).wrapping_mul(self.factor);
            hash ^= hash >> 32;
        }
        let [a, b, c, d, ..] = hash.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Where something with this hash may stand.
    #[inline]
    fn candidates(&self, hash: u32) -> impl Iterator<Item = u32> {
        let entries = self.slots(hash).map_while(|(_, entry)| entry);
        let same = entries.filter(move |entry| entry.hash == hash);
        same.map(|entry| entry.place)
    }

    /// The slots from the one where `hash` belongs on, up to the first empty one.
    #[inline]
    fn slots(&self, hash: u32) -> impl Iterator<Item = (usize, Option<Entry>)> {
        let mask = self.mask();
        let steps = 0..self.entries.len();
        steps.map(move |step| {
            let slot = (hash as usize).wrapping_add(step) & mask;
            let entry = self.entries.get(slot).copied();
            (slot, entry.filter(|entry| entry.place != NOWHERE))
        })
    }

    fn insert(&mut self, hash: u32, place: u32) {
        let needed = self.len.saturating_add(1).saturating_mul(4);
        if needed > self.entries.len().saturating_mul(3) {
            self.grow();
        }
        let empty = self.slots(hash).find(|(_, entry)| entry.is_none());
        if let Some(entry) = empty.and_then(|(slot, _)| self.entries.get_mut(slot)) {
            *entry = Entry { hash, place };
            self.len = self.len.saturating_add(1);
        }
    }

    fn replace(&mut self, hash: u32, from: u32, to: u32) {
        let slot = self.slot(hash, from);
        if let Some(entry) = slot.and_then(|slot| self.entries.get_mut(slot)) {
            entry.place = to;
        }
    }

    /// Closes the hole by moving up what belongs before it.
    fn remove(&mut self, hash: u32, place: u32) {
        let Some(mut hole) = self.slot(hash, place) else {
            return;
        };
        let mask = self.mask();
        let mut slot = hole;
        loop {
            slot = slot.wrapping_add(1) & mask;
            let entry = self.entries.get(slot).copied().unwrap_or(EMPTY);
            if entry.place == NOWHERE {
                break;
            }
            let from_home = slot.wrapping_sub(entry.hash as usize) & mask;
            if from_home >= slot.wrapping_sub(hole) & mask {
                self.set(hole, entry);
                hole = slot;
            }
        }
        self.set(hole, EMPTY);
        self.len = self.len.saturating_sub(1);
    }

    fn slot(&self, hash: u32, place: u32) -> Option<usize> {
        let mut taken = self.slots(hash).take_while(|(_, entry)| entry.is_some());
        let found = taken.find(|(_, entry)| entry.is_some_and(|entry| entry.place == place));
        found.map(|(slot, _)| slot)
    }

    fn set(&mut self, slot: usize, entry: Entry) {
        if let Some(to) = self.entries.get_mut(slot) {
            *to = entry;
        }
    }

    fn grow(&mut self) {
        let doubled = self.entries.len().saturating_mul(2).max(8);
        let entries = core::mem::replace(&mut self.entries, vec![EMPTY; doubled]);
        for Entry { hash, place } in entries {
            if place != NOWHERE {
                let empty = self.slots(hash).find(|(_, entry)| entry.is_none());
                if let Some((slot, _)) = empty {
                    self.set(slot, Entry { hash, place });
                }
            }
        }
    }

    /// The number of entries is a power of two.
    const fn mask(&self) -> usize {
        self.entries.len().wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::collections::BTreeMap;

    use super::*;

    fn line(source: &str, epoch: u64) -> Line<u64> {
        Line::new(SourceName::new(source).unwrap(), epoch, 1, Duration::ZERO)
    }

    #[test]
    fn ids_leave_room_for_the_numbers_of_requests_however_often_a_place_is_taken() {
        let mut table = Table::new(7);
        for epoch in 0..=2 * u64::from(TURN_MAX) {
            let id = table.insert(line("a", epoch));
            assert_eq!(id << REQUEST_BITS >> REQUEST_BITS, id);
            table.remove(id).unwrap();
        }
    }

    /// Against a plain map, with names that come and go.
    #[test]
    fn what_was_inserted_and_not_removed_is_found() {
        let mut jitter = Jitter::new(3);
        let mut table = Table::new(7);
        let mut model: BTreeMap<(String, u64), LineId> = BTreeMap::new();
        let mut given = std::collections::BTreeSet::new();
        for _ in 0..20_000 {
            let source = format!("s{}", jitter.below(600));
            let epoch = 1 + jitter.below(4);
            match model.remove(&(source.clone(), epoch)) {
                Some(id) => assert!(table.remove(id).is_some() && table.get(id).is_none()),
                None => {
                    let id = table.insert(line(&source, epoch));
                    assert!(given.insert(id), "{id} was given twice");
                    model.insert((source.clone(), epoch), id);
                }
            }
            let name = SourceName::new(&source).unwrap();
            let latest = table.latest(&name);
            let runs: Vec<LineId> = latest
                .into_iter()
                .flat_map(|id| table.down_from(id))
                .collect();
            let expected = model.range((source.clone(), 0)..=(source, u64::MAX)).rev();
            let expected: Vec<LineId> = expected.map(|(_, id)| *id).collect();
            assert_eq!(runs, expected);
            assert_eq!(table.len(), model.len());
        }
        assert_eq!(table.lines().count(), model.len());
        assert_eq!(table.within(0, table.places()).count(), model.len());
    }
}
