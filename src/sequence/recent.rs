//! A bounded map that forgets what was not used for long.
//!
//! ```text
//!   used --> young --(full)--> old --(young full again)--> forgotten
//! ```
//!
//! What is used moves to the young half. Nothing is scanned and no order is kept, so every step
//! costs one or two look-ups.

use std::collections::HashMap;

use super::fold::Fold;

type Half<V> = HashMap<Box<str>, V, Fold>;

#[derive(Debug, Clone)]
pub(super) struct Recent<V> {
    young: Half<V>,
    old: Half<V>,
    half_max: usize,
    has_forgotten: bool,
}

impl<V: Copy> Recent<V> {
    /// Makes a map that holds `entries_max` entries, and remembers at least the half of them that
    /// was used last. `seed` is for their places in memory.
    pub(super) fn new(entries_max: usize, seed: u64) -> Self {
        Self {
            young: Half::with_hasher(Fold::new(seed)),
            old: Half::with_hasher(Fold::new(seed)),
            half_max: (entries_max / 2).max(1),
            has_forgotten: false,
        }
    }

    /// Keeps the value and returns the one before it.
    #[inline]
    pub(super) fn replace(&mut self, key: &str, value: V) -> Option<V> {
        if let Some(kept) = self.young.get_mut(key) {
            return Some(core::mem::replace(kept, value));
        }
        self.rejuvenate(key, value)
    }

    pub(super) fn get(&self, key: &str) -> Option<V> {
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }

    /// Returns true when an entry was forgotten: what is not found may have been there.
    pub(super) const fn has_forgotten(&self) -> bool {
        self.has_forgotten
    }

    fn rejuvenate(&mut self, key: &str, value: V) -> Option<V> {
        let (key, before) = match self.old.remove_entry(key) {
            Some((key, before)) => (key, Some(before)),
            None => (key.into(), None),
        };
        if self.young.len() >= self.half_max {
            self.has_forgotten |= !self.old.is_empty();
            core::mem::swap(&mut self.old, &mut self.young);
            self.young.clear();
        }
        self.young.insert(key, value);
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_forgotten_within_the_bound() {
        let mut recent = Recent::new(4, 1);
        for key in ["a", "b", "c", "d"] {
            assert_eq!(recent.replace(key, 1), None);
        }
        assert!(!recent.has_forgotten());
        assert_eq!(recent.replace("a", 2), Some(1));
        for key in ["e", "f"] {
            recent.replace(key, 1);
        }
        assert!(recent.has_forgotten());
        assert_eq!((recent.get("b"), recent.get("c")), (None, None));
        assert_eq!((recent.get("a"), recent.get("f")), (Some(2), Some(1)));
        assert!(recent.young.len() + recent.old.len() <= 4);
    }
}
