//! The last number on each subject, for receivers that hear only some of a source's subjects.
//!
//! Such a receiver cannot tell a lost message from one that went to another subject, unless each
//! message names the one before it on its own subject.

use super::recent::Recent;

/// Subjects that are remembered.
const SUBJECTS_MAX: usize = 65_536;
/// The longest one.
const SUBJECT_BYTES_MAX: usize = 256;

#[derive(Debug, Clone)]
pub(super) struct Subjects {
    last: Recent<u64>,
}

impl Subjects {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            last: Recent::new(SUBJECTS_MAX, seed),
        }
    }

    /// Notes that `seq` goes to `subject`. Returns the number before it there, 0 for none; `None`
    /// when that may have been forgotten.
    #[inline]
    pub(super) fn note(&mut self, subject: &str, seq: u64) -> Option<u64> {
        if subject.len() > SUBJECT_BYTES_MAX {
            return None;
        }
        let before = self.last.replace(subject, seq);
        before.or_else(|| (!self.last.has_forgotten()).then_some(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subject_has_a_chain_of_its_own() {
        let mut subjects = Subjects::new(1);
        let sent = ["a", "b", "a", "a", "b"];
        let chains: Vec<_> = (1..)
            .zip(sent)
            .map(|(seq, subject)| subjects.note(subject, seq))
            .collect();
        assert_eq!(chains, [Some(0), Some(0), Some(1), Some(3), Some(2)]);
        assert_eq!(subjects.note(&"x".repeat(257), 6), None);
    }

    #[test]
    fn a_forgotten_subject_has_no_number_before_rather_than_a_wrong_one() {
        let mut subjects = Subjects::new(1);
        subjects.note("first", 1);
        for seq in 2..=65_536 {
            let before = subjects.note(&seq.to_string(), seq);
            assert_eq!(before, Some(0), "{seq}");
        }
        assert_eq!(subjects.note("65537", 65_537), None);
        assert_eq!(subjects.note("first", 65_538), None);
        assert_eq!(subjects.note("65537", 65_539), Some(65_537));
    }
}
