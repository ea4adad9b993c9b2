//! What proves that a message is missing of a source that we see only a part of: each message names
//! the one before it on its own subject.

use std::collections::BTreeMap;

/// Subjects of one run whose last number is remembered.
const SUBJECTS_MAX: usize = 4_096;
/// The longest of them.
const SUBJECT_BYTES_MAX: usize = 256;

#[derive(Debug, Clone)]
pub(super) struct Chains {
    /// The last number on each subject.
    tails: BTreeMap<Box<[u8]>, u64>,
    /// The same by number.
    subjects: BTreeMap<u64, Box<[u8]>>,
    /// For numbers that are missing: where what we have of their subject ends.
    floors: BTreeMap<u64, u64>,
    /// What is known of subjects that are not remembered: numbers up to this one prove nothing.
    horizon: u64,
}

impl Chains {
    /// Nothing is known of the numbers up to `horizon`.
    pub(super) const fn new(horizon: u64) -> Self {
        Self {
            tails: BTreeMap::new(),
            subjects: BTreeMap::new(),
            floors: BTreeMap::new(),
            horizon,
        }
    }

    /// Takes a message that was not missing. Returns the number before it on its subject, when that
    /// is. One that came after its successors, or is from before our time, tells nothing. Of the
    /// subjects `subjects_max` are remembered at most.
    pub(super) fn note(
        &mut self,
        subjects_max: usize,
        subject: &[u8],
        seq: u64,
        prev: Option<u64>,
    ) -> Option<u64> {
        let before = self.tails.get(subject).copied();
        if seq <= before.unwrap_or(self.horizon) {
            return None;
        }
        let is_first = prev.is_none() && self.tails.is_empty();
        if is_first || subject.len() > SUBJECT_BYTES_MAX {
            self.horizon = self.horizon.max(seq);
            return None;
        }
        if let Some(before) = before {
            self.subjects.remove(&before);
        }
        self.tails.insert(subject.into(), seq);
        self.subjects.insert(seq, subject.into());
        while self.tails.len() > subjects_max.min(SUBJECTS_MAX)
            && let Some((oldest, subject)) = self.subjects.pop_first()
        {
            self.tails.remove(&subject);
            self.horizon = self.horizon.max(oldest);
        }
        self.find(prev, before.unwrap_or(self.horizon))
    }

    /// Takes a message that was missing. Returns the number before it, when that is missing too.
    pub(super) fn follow(&mut self, seq: u64, prev: Option<u64>) -> Option<u64> {
        let floor = self.floors.remove(&seq)?;
        self.find(prev, floor)
    }

    /// Forgets numbers that are decided.
    pub(super) fn retain(&mut self, is_missing: impl Fn(u64) -> bool) {
        self.floors.retain(|seq, _| is_missing(*seq));
    }

    /// How many subjects are remembered.
    pub(super) fn subjects(&self) -> usize {
        self.tails.len()
    }

    /// How many numbers wait to be followed.
    pub(super) fn len(&self) -> usize {
        self.floors.len()
    }

    fn find(&mut self, prev: Option<u64>, floor: u64) -> Option<u64> {
        let missing = prev.filter(|prev| *prev > floor)?;
        self.floors.insert(missing, floor);
        Some(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_came_behind_the_last_of_its_subject_is_missing() {
        let mut chains = Chains::new(10);
        assert_eq!(
            chains.note(usize::MAX, b"a", 11, Some(9)),
            None,
            "before our time"
        );
        assert_eq!(
            chains.note(usize::MAX, b"b", 12, Some(0)),
            None,
            "its first"
        );
        assert_eq!(chains.note(usize::MAX, b"a", 13, Some(11)), None);
        assert_eq!(chains.note(usize::MAX, b"b", 20, Some(18)), Some(18));
        assert_eq!(chains.note(usize::MAX, b"a", 21, Some(14)), Some(14));
        assert_eq!(chains.follow(18, Some(16)), Some(16), "backwards");
        assert_eq!(chains.follow(16, Some(12)), None, "until what we have");
        assert_eq!(chains.follow(14, Some(13)), None);
        assert_eq!(chains.len(), 0);
    }

    #[test]
    fn a_source_without_chains_costs_no_memory() {
        let mut chains = Chains::new(0);
        for seq in 1..1_000 {
            assert_eq!(chains.note(usize::MAX, b"a", seq, None), None);
        }
        assert!(chains.tails.is_empty());
        assert_eq!(chains.note(usize::MAX, b"a", 1_000, Some(999)), None);
        assert_eq!(
            chains.note(usize::MAX, b"b", 1_003, Some(1_001)),
            Some(1_001)
        );
    }

    #[test]
    fn a_forgotten_subject_proves_nothing_wrong() {
        let mut chains = Chains::new(0);
        let subjects = u64::try_from(SUBJECTS_MAX).unwrap() + 1;
        for seq in 1..=subjects {
            assert_eq!(
                chains.note(usize::MAX, &seq.to_le_bytes(), seq, Some(0)),
                None
            );
        }
        let next = subjects + 1;
        assert_eq!(
            chains.note(usize::MAX, &1_u64.to_le_bytes(), next, Some(1)),
            None
        );
        assert_eq!(chains.tails.len(), chains.subjects.len());
        assert_eq!(chains.tails.len(), SUBJECTS_MAX);
    }

    #[test]
    fn no_more_subjects_are_remembered_than_may_be() {
        let mut chains = Chains::new(0);
        assert_eq!(chains.note(2, b"a", 1, Some(0)), None);
        assert_eq!(chains.note(2, b"b", 2, Some(0)), None);
        assert_eq!(chains.note(2, b"c", 3, Some(0)), None);
        assert_eq!(chains.subjects(), 2);
        assert_eq!(chains.note(2, b"a", 5, Some(1)), None, "it was forgotten");
        assert_eq!(chains.note(0, b"c", 7, Some(6)), Some(6), "it was not");
        assert_eq!(chains.subjects(), 0, "others have all");
        assert_eq!(chains.note(0, b"c", 9, Some(8)), None);
    }
}
