//! What a receiver counts.

use super::coverage::Coverage;
use super::source::SourceName;

/// Counts of one run of one source, as one receiver sees it.
///
/// `base` to `highest` are the numbers owed: each is delivered, lost, undecided or unverifiable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct LineStatistics {
    /// The source.
    pub source: SourceName,
    /// Its run.
    pub epoch: u64,
    /// Which of its numbers are owed.
    pub coverage: Coverage,
    /// The first number owed.
    pub base: u64,
    /// The highest number known to have been sent; `base` - 1 when none is owed.
    pub highest: u64,
    /// Messages delivered.
    pub delivered: u64,
    /// Delivered messages that came as repairs.
    pub repaired: u64,
    /// Messages dropped because their number was decided already.
    pub duplicates: u64,
    /// Numbers reported lost.
    pub lost: u64,
    /// Numbers that are missing, or held back for the order.
    pub undecided: u64,
    /// Numbers that are missing where nothing proves that they were meant for the subscription.
    pub unverifiable: u64,
    /// Whether the source has said that it ended, or a later run took its place.
    pub is_ended: bool,
}

/// What most lines never have to count.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) repaired: u64,
    pub(super) duplicates: u64,
    pub(super) lost: u64,
    pub(super) unverifiable: u64,
}

impl Counts {
    pub(super) const fn count_duplicate(&mut self) {
        self.duplicates = self.duplicates.saturating_add(1);
    }
}
