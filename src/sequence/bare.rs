//! Checks the plain form of numbering: `updates.1`, `updates.2`, and so on, from one sender.
//!
//! The last token of the subject is the number, and what stands before it names the line. Nothing
//! else is said: there is no source, no epoch and no heartbeat. So a lost end stays unseen until a
//! later number comes, nothing can be asked for again, and a number that is not higher than those
//! before may be late, repeated, from a second sender, or from a sender that has begun anew. It is
//! told as what it is, a step back.
//!
//! To publish it takes no more than a counter: `client.publish(format!("updates.{number}"), body)`,
//! and the next number once that has succeeded.

use std::collections::BTreeMap;

use super::stamp::number;

/// A number further back than this is taken for a new beginning, as number 1 is.
const LATE_MAX: u64 = 1_024;

/// Lines in the table unless told otherwise.
const LINES_MAX: usize = 65_536;

/// What a subject says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BareVerdict {
    /// The first number of its line, or the one after the highest.
    Next {
        /// The number.
        number: u64,
    },
    /// Numbers between the highest and this one have not come, and may still be late.
    Ahead {
        /// The number.
        number: u64,
        /// The first that is missing; the last is the one before `number`.
        missing_from: u64,
    },
    /// Not higher than what came before: late, repeated, or from a sender that has begun anew.
    /// Nothing proves which.
    Behind {
        /// The number.
        number: u64,
        /// The highest before it.
        highest: u64,
    },
    /// The last token is no number from 1, or it is the only one.
    Unnumbered,
    /// The table is full of other lines; this one is not checked.
    Unchecked,
}

/// Counts of one line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct BareStatistics {
    /// The subject without the number.
    pub subject: Box<[u8]>,
    /// The first number that was seen.
    pub first: u64,
    /// The highest since the last beginning.
    pub highest: u64,
    /// Messages.
    pub received: u64,
    /// Numbers that were jumped over. One that came late after all counts as `behind` too.
    pub missing: u64,
    /// Messages whose number was not higher than those before.
    pub behind: u64,
}

/// Checks the numbers of subjects such as `updates.17`, each line from one sender.
///
/// ```
/// use natseq::sequence::{BareChecker, BareVerdict};
///
/// let mut checker = BareChecker::new();
/// assert_eq!(checker.handle_subject(b"updates.1"), BareVerdict::Next { number: 1 });
/// let ahead = BareVerdict::Ahead { number: 4, missing_from: 2 };
/// assert_eq!(checker.handle_subject(b"updates.4"), ahead);
/// ```
#[derive(Debug, Clone)]
pub struct BareChecker {
    lines: BTreeMap<Box<[u8]>, BareStatistics>,
    lines_max: usize,
    unnumbered: u64,
    unchecked: u64,
}

impl BareChecker {
    /// Checks at most 65,536 lines.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            lines: BTreeMap::new(),
            lines_max: LINES_MAX,
            unnumbered: 0,
            unchecked: 0,
        }
    }

    /// Checks at most that many lines; the messages of further ones are [`BareVerdict::Unchecked`].
    #[must_use]
    pub const fn lines_max(mut self, lines: usize) -> Self {
        self.lines_max = lines;
        self
    }

    /// Takes the subject of the next message.
    pub fn handle_subject(&mut self, subject: &[u8]) -> BareVerdict {
        let Some((name, number)) = split(subject) else {
            self.unnumbered = self.unnumbered.saturating_add(1);
            return BareVerdict::Unnumbered;
        };
        if let Some(line) = self.lines.get_mut(name) {
            return line.judge(number);
        }
        if self.lines.len() >= self.lines_max {
            self.unchecked = self.unchecked.saturating_add(1);
            return BareVerdict::Unchecked;
        }
        let line = BareStatistics {
            subject: name.into(),
            first: number,
            highest: number,
            received: 1,
            missing: 0,
            behind: 0,
        };
        self.lines.insert(name.into(), line);
        BareVerdict::Next { number }
    }

    /// Counts of every line, in the order of their subjects.
    pub fn statistics(&self) -> impl Iterator<Item = &BareStatistics> {
        self.lines.values()
    }

    /// Messages whose subject has no number.
    #[must_use]
    pub const fn unnumbered(&self) -> u64 {
        self.unnumbered
    }

    /// Messages of lines that the table had no room for.
    #[must_use]
    pub const fn unchecked(&self) -> u64 {
        self.unchecked
    }
}

impl Default for BareChecker {
    fn default() -> Self {
        Self::new()
    }
}

impl BareStatistics {
    fn judge(&mut self, number: u64) -> BareVerdict {
        self.received = self.received.saturating_add(1);
        let highest = self.highest;
        if number <= highest {
            self.behind = self.behind.saturating_add(1);
            if number == 1 || highest.saturating_sub(number) > LATE_MAX {
                self.highest = number;
            }
            return BareVerdict::Behind { number, highest };
        }
        self.highest = number;
        let missing_from = highest.saturating_add(1);
        if missing_from == number {
            return BareVerdict::Next { number };
        }
        let missing = number.saturating_sub(missing_from);
        self.missing = self.missing.saturating_add(missing);
        BareVerdict::Ahead {
            number,
            missing_from,
        }
    }
}

/// The name of the line and the number.
fn split(subject: &[u8]) -> Option<(&[u8], u64)> {
    let dot = subject.iter().rposition(|byte| *byte == b'.')?;
    let (name, digits) = subject.split_at_checked(dot)?;
    let number = number(digits.strip_prefix(b".")?)?;
    (number > 0 && !name.is_empty()).then_some((name, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(subjects: &[&str]) -> Vec<BareVerdict> {
        let mut checker = BareChecker::new();
        let subjects = subjects.iter();
        subjects
            .map(|subject| checker.handle_subject(subject.as_bytes()))
            .collect()
    }

    #[test]
    fn missing_numbers_are_named_for_each_line() {
        let subjects = ["u.1", "u.2", "v.x.9", "u.5", "v.x.10", "u.6"];
        let expected = [
            BareVerdict::Next { number: 1 },
            BareVerdict::Next { number: 2 },
            BareVerdict::Next { number: 9 },
            BareVerdict::Ahead {
                number: 5,
                missing_from: 3,
            },
            BareVerdict::Next { number: 10 },
            BareVerdict::Next { number: 6 },
        ];
        assert_eq!(verdicts(&subjects), expected);
    }

    #[test]
    fn late_numbers_do_not_move_the_highest() {
        let subjects = ["u.1", "u.4", "u.2", "u.3", "u.5"];
        let expected = [
            BareVerdict::Next { number: 1 },
            BareVerdict::Ahead {
                number: 4,
                missing_from: 2,
            },
            BareVerdict::Behind {
                number: 2,
                highest: 4,
            },
            BareVerdict::Behind {
                number: 3,
                highest: 4,
            },
            BareVerdict::Next { number: 5 },
        ];
        assert_eq!(verdicts(&subjects), expected);
    }

    /// Whether it begins at 1 or that was lost, what follows is checked again.
    #[test]
    fn a_sender_that_begins_anew_is_checked_from_there() {
        let behind = |number, highest| BareVerdict::Behind { number, highest };
        let expected = [
            BareVerdict::Next { number: 9 },
            behind(1, 9),
            BareVerdict::Ahead {
                number: 3,
                missing_from: 2,
            },
        ];
        assert_eq!(verdicts(&["u.9", "u.1", "u.3"]), expected);
        let expected = [
            BareVerdict::Next { number: 5_000 },
            behind(2, 5_000),
            BareVerdict::Next { number: 3 },
        ];
        assert_eq!(verdicts(&["u.5000", "u.2", "u.3"]), expected);
    }

    #[test]
    fn other_subjects_are_unnumbered() {
        for subject in ["", "u", "7", ".7", "u.", "u.0", "u.01", "u.+1", "u.x"] {
            assert_eq!(verdicts(&[subject]), [BareVerdict::Unnumbered], "{subject}");
        }
    }

    #[test]
    fn what_the_table_has_no_room_for_is_counted() {
        let mut checker = BareChecker::new().lines_max(1);
        let next = |number| BareVerdict::Next { number };
        assert_eq!(checker.handle_subject(b"u.1"), next(1));
        assert_eq!(checker.handle_subject(b"v.1"), BareVerdict::Unchecked);
        assert_eq!(checker.handle_subject(b"u.2"), next(2));
        assert_eq!(checker.handle_subject(b"u.x"), BareVerdict::Unnumbered);
        assert_eq!((checker.unchecked(), checker.unnumbered()), (1, 1));
        let expected = BareStatistics {
            subject: (*b"u").into(),
            first: 1,
            highest: 2,
            received: 2,
            missing: 0,
            behind: 0,
        };
        assert_eq!(checker.statistics().collect::<Vec<_>>(), [&expected]);
    }
}
