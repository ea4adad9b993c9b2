//! A table whose keys are never used twice, indexed without hashing.
//!
//! A key is the slot's index with the slot's generation above it, so that a late message for a
//! removed entry finds nothing.

/// Bits of a key that hold the index; the generation stands above them.
const INDEX_BITS: u32 = 32;

/// Generations of a slot: keys of 63 bits have the 19 digits that are read of a number.
const GENERATION_MAX: u32 = u32::MAX >> 1;

#[derive(Debug, Clone)]
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    first_key: u64,
    len: usize,
}

#[derive(Debug, Clone)]
struct Slot<T> {
    generation: u32,
    entry: Option<T>,
}

impl<T> Slots<T> {
    /// Makes an empty table; `first_key` is the key of the first entry (a sid starts at 1).
    pub(crate) const fn new(first_key: u64) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            first_key,
            len: 0,
        }
    }

    /// Adds an entry; `None` when 2^32 entries are alive.
    pub(crate) fn insert(&mut self, entry: T) -> Option<u64> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.slots.len()).ok()?;
                self.slots.push(Slot {
                    generation: 0,
                    entry: None,
                });
                index
            }
        };
        let slot = self.slots.get_mut(index as usize)?;
        slot.entry = Some(entry);
        self.len = self.len.saturating_add(1);
        let key = (u64::from(slot.generation) << INDEX_BITS) | u64::from(index);
        Some(key.wrapping_add(self.first_key))
    }

    pub(crate) fn get(&self, key: u64) -> Option<&T> {
        let (index, generation) = self.locate(key);
        let slot = self.slots.get(index)?;
        if slot.generation == generation {
            slot.entry.as_ref()
        } else {
            None
        }
    }

    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        let (index, generation) = self.locate(key);
        let slot = self.slots.get_mut(index)?;
        if slot.generation == generation {
            slot.entry.as_mut()
        } else {
            None
        }
    }

    pub(crate) fn remove(&mut self, key: u64) -> Option<T> {
        let (index, generation) = self.locate(key);
        let slot = self.slots.get_mut(index)?;
        if slot.generation != generation {
            return None;
        }
        let entry = slot.entry.take()?;
        self.len = self.len.saturating_sub(1);
        // A slot whose generations are used up is retired rather than reused.
        let next = slot.generation.saturating_add(1);
        if next <= GENERATION_MAX {
            slot.generation = next;
            self.free.push(u32::try_from(index).ok()?);
        }
        Some(entry)
    }

    /// The key of an entry that is wanted, looked for from the slot at `start` on and around.
    pub(crate) fn find_from(&self, start: usize, is_wanted: impl Fn(&T) -> bool) -> Option<u64> {
        let is_found = |slot: &Slot<T>| slot.entry.as_ref().is_some_and(&is_wanted);
        let (before, behind) = self
            .slots
            .split_at_checked(start)
            .unwrap_or((&[], &self.slots));
        let index = match behind.iter().position(is_found) {
            Some(index) => index.saturating_add(before.len()),
            None => before.iter().position(is_found)?,
        };
        let slot = self.slots.get(index)?;
        self.key(slot.generation, index)
    }

    /// The slot that a key stands for.
    pub(crate) const fn index(&self, key: u64) -> usize {
        self.locate(key).0
    }

    /// Entries that are alive.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut T)> {
        let first_key = self.first_key;
        let slots = self.slots.iter_mut().enumerate();
        slots.filter_map(move |(index, slot)| {
            let entry = slot.entry.as_mut()?;
            let key = (u64::from(slot.generation) << INDEX_BITS) | u64::try_from(index).ok()?;
            Some((key.wrapping_add(first_key), entry))
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let entry = slot.entry.as_ref()?;
            Some((self.key(slot.generation, index)?, entry))
        })
    }

    fn key(&self, generation: u32, index: usize) -> Option<u64> {
        let key = (u64::from(generation) << INDEX_BITS) | u64::try_from(index).ok()?;
        Some(key.wrapping_add(self.first_key))
    }

    pub(crate) fn keys(&self) -> Vec<u64> {
        self.iter().map(|(key, _)| key).collect()
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the key is cut into its two halves"
    )]
    const fn locate(&self, key: u64) -> (usize, u32) {
        let key = key.wrapping_sub(self.first_key);
        (key as u32 as usize, (key >> INDEX_BITS) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_used_twice() {
        let mut slots = Slots::new(1);
        let first = slots.insert('a').unwrap();
        assert_eq!(first, 1);
        assert_eq!(slots.remove(first), Some('a'));
        let second = slots.insert('b').unwrap();
        assert_ne!(first, second);
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.get(second), Some(&'b'));
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.keys(), vec![second]);
    }

    #[test]
    fn keys_are_short_enough_to_be_read_and_a_used_up_slot_is_left() {
        let mut slots = Slots::new(1);
        slots.insert('a').unwrap();
        slots.slots[0].generation = GENERATION_MAX;
        let last = slots.keys()[0];
        assert_eq!(last.to_string().len(), 19);
        assert_eq!(slots.remove(last), Some('a'));
        assert_eq!(slots.insert('b'), Some(2), "in another slot");
    }

    #[test]
    fn a_key_that_was_never_given_out_finds_nothing() {
        let mut slots = Slots::new(1);
        slots.insert('a').unwrap();
        for key in [0, 2, u64::MAX, 1 << INDEX_BITS] {
            assert_eq!(slots.get(key), None, "{key}");
            assert_eq!(slots.get_mut(key), None, "{key}");
        }
    }
}
