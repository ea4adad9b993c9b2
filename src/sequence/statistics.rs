//! What a receiver counts.

use core::time::Duration;

use super::coverage::Coverage;
use super::event::{Cause, LossReason};
use super::source::SourceName;

/// Counts of one run of one source, as one receiver sees it.
///
/// `base` to `highest` are the numbers owed: each is delivered, lost, undecided or unverifiable, so
/// that [`LineStatistics::is_balanced`] at any time.
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
    /// Numbers that were delivered or lost, and that the source, asked, has not sent: somebody else
    /// did in its name ([`Event::Withdrawn`](super::Event::Withdrawn)). They are owed again.
    pub withdrawn: u64,
    /// Messages delivered.
    pub delivered: u64,
    /// Delivered messages that came as repairs.
    pub repaired: u64,
    /// Messages that came by themselves after their successors and were taken.
    pub late: u64,
    /// Messages dropped because their number was decided already.
    pub duplicates: u64,
    /// How often numbers were found missing: ranges, of one number or many.
    pub gaps: u64,
    /// Requests for numbers, to the source and to archives.
    pub requests: u64,
    /// Numbers reported lost.
    pub lost: u64,
    /// Numbers that are missing, or held back for the order.
    pub undecided: u64,
    /// Numbers that are missing where nothing proves that they were meant for the subscription.
    pub unverifiable: u64,
    /// Whether the source has said that it ended, or a later run took its place.
    pub is_ended: bool,
    /// When the first loss was reported, on the receiver's clock.
    pub first_loss: Option<Duration>,
    /// When the latest loss was reported, on the receiver's clock.
    pub last_loss: Option<Duration>,
    /// From finding a number missing to its repair: the median, too high by at most a quarter.
    pub repair_p50: Option<Duration>,
    /// The same, for all but one in a hundred.
    pub repair_p99: Option<Duration>,
    pub(super) lost_by_reason: [u64; LossReason::ALL.len()],
    pub(super) lost_by_cause: [u64; Cause::ALL.len()],
}

impl LineStatistics {
    /// How many numbers are owed, those that were withdrawn counted as often as they were.
    #[must_use]
    pub const fn expected(&self) -> u64 {
        let owed = self.highest.saturating_add(1).saturating_sub(self.base);
        owed.saturating_add(self.withdrawn)
    }

    /// Whether every number owed has exactly one place: expected = delivered + lost + undecided +
    /// unverifiable.
    #[must_use]
    pub const fn is_balanced(&self) -> bool {
        let decided = self.delivered.saturating_add(self.lost);
        let open = self.undecided.saturating_add(self.unverifiable);
        self.expected() == decided.saturating_add(open)
    }

    /// Numbers reported lost for this reason; over all reasons, they are `lost`.
    #[must_use]
    pub fn lost_for(&self, reason: LossReason) -> u64 {
        let at = LossReason::ALL.iter().position(|other| *other == reason);
        at.and_then(|at| self.lost_by_reason.get(at).copied())
            .unwrap_or_default()
    }

    /// Numbers reported lost that went missing by this cause; over all causes, they are `lost`.
    #[must_use]
    pub fn lost_by(&self, cause: Cause) -> u64 {
        let at = Cause::ALL.iter().position(|other| *other == cause);
        at.and_then(|at| self.lost_by_cause.get(at).copied())
            .unwrap_or_default()
    }
}

/// What most lines never have to count.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    pub(super) repaired: u64,
    pub(super) late: u64,
    pub(super) duplicates: u64,
    pub(super) gaps: u64,
    pub(super) requests: u64,
    pub(super) lost: u64,
    pub(super) unverifiable: u64,
    pub(super) withdrawn: u64,
    /// Since when heartbeats name a smaller number than the highest, and which that is.
    pub(super) denied: Option<(u64, Duration)>,
    /// An end that something came behind.
    pub(super) doubted_end: Option<u64>,
    pub(super) first_loss: Option<Duration>,
    pub(super) last_loss: Option<Duration>,
    pub(super) lost_by_reason: [u64; LossReason::ALL.len()],
    pub(super) lost_by_cause: [u64; Cause::ALL.len()],
    repair_times: Option<Box<Times>>,
}

impl Counts {
    pub(super) const fn count_duplicate(&mut self) {
        self.duplicates = self.duplicates.saturating_add(1);
    }

    pub(super) const fn count_late(&mut self) {
        self.late = self.late.saturating_add(1);
    }

    pub(super) const fn count_gap(&mut self) {
        self.gaps = self.gaps.saturating_add(1);
    }

    pub(super) fn lose(&mut self, now: Duration, numbers: u64, reason: LossReason, cause: Cause) {
        self.lost = self.lost.saturating_add(numbers);
        self.first_loss.get_or_insert(now);
        self.last_loss = Some(now);
        let reason = LossReason::ALL.iter().position(|other| *other == reason);
        if let Some(count) = reason.and_then(|at| self.lost_by_reason.get_mut(at)) {
            *count = count.saturating_add(numbers);
        }
        let cause = Cause::ALL.iter().position(|other| *other == cause);
        if let Some(count) = cause.and_then(|at| self.lost_by_cause.get_mut(at)) {
            *count = count.saturating_add(numbers);
        }
    }

    /// A number that was missing for `time` was repaired.
    pub(super) fn note_repair(&mut self, time: Duration) {
        self.repair_times.get_or_insert_default().note(time);
    }

    /// The time within which so many of a hundred repairs came.
    pub(super) fn repair_time(&self, percent: u64) -> Option<Duration> {
        self.repair_times.as_deref()?.within(percent)
    }
}

/// Each doubling of time in four parts, up to half a minute.
const TIME_STEPS: usize = 84;
/// The first steps are so long: two to this power microseconds.
const TIME_STEP_POWER: u32 = 4;
const TIME_STEP: Duration = Duration::from_micros(1 << TIME_STEP_POWER);

/// How often something took how long.
#[derive(Debug, Clone)]
struct Times([u32; TIME_STEPS]);

impl Default for Times {
    fn default() -> Self {
        Self([0; TIME_STEPS])
    }
}

impl Times {
    fn note(&mut self, time: Duration) {
        let at = Self::step(time).min(TIME_STEPS.saturating_sub(1));
        if let Some(count) = self.0.get_mut(at) {
            *count = count.saturating_add(1);
        }
    }

    /// A time that is not shorter than so many of a hundred.
    fn within(&self, percent: u64) -> Option<Duration> {
        let all: u64 = self.0.iter().map(|count| u64::from(*count)).sum();
        let needed = all.saturating_mul(percent).div_ceil(100).max(1);
        let mut seen = 0_u64;
        let at = self.0.iter().position(|count| {
            seen = seen.saturating_add(u64::from(*count));
            seen >= needed
        })?;
        Some(Self::end(at))
    }

    /// Whole steps below `time`: 0 to 3 by one, 4 to 7 by one, 8 to 15 by two, and so on.
    fn step(time: Duration) -> usize {
        let units = time.as_micros().unbounded_shr(TIME_STEP_POWER);
        let Some(power) = units.checked_ilog2().filter(|power| *power >= 2) else {
            return usize::try_from(units).unwrap_or_default();
        };
        let shift = power.saturating_sub(2);
        let quarter = usize::try_from(units.unbounded_shr(shift) & 3).unwrap_or_default();
        let power = usize::try_from(power).unwrap_or_default();
        power
            .saturating_sub(1)
            .saturating_mul(4)
            .saturating_add(quarter)
    }

    /// The end of a step.
    fn end(at: usize) -> Duration {
        let quarter = u32::try_from(at % 4).unwrap_or_default();
        let power = u32::try_from(at / 4).unwrap_or_default();
        let units = match power.checked_sub(1) {
            None => quarter.saturating_add(1),
            Some(shift) => quarter.saturating_add(5).unbounded_shl(shift),
        };
        TIME_STEP.saturating_mul(units)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_too_high_by_at_most_a_quarter() {
        for micros in [
            0, 1, 15, 16, 63, 64, 100, 168, 393, 1_000, 20_000, 5_000_000,
        ] {
            let mut times = Times::default();
            let time = Duration::from_micros(micros);
            times.note(time);
            let told = times.within(50).unwrap();
            assert!(told > time, "{told:?} for {time:?}");
            let most = (time + time / 4).max(time + TIME_STEP);
            assert!(told <= most, "{told:?} for {time:?}");
        }
        let mut times = Times::default();
        times.note(Duration::MAX);
        assert!(times.within(99).unwrap() > Duration::from_secs(20));
        assert_eq!(Times::default().within(50), None);
    }

    #[test]
    fn one_slow_repair_in_a_hundred_is_not_seen_and_two_are() {
        let mut times = Times::default();
        let (fast, slow) = (Duration::from_millis(1), Duration::from_secs(1));
        (0..99).for_each(|_| times.note(fast));
        times.note(slow);
        assert!(times.within(99).unwrap() < fast * 2);
        times.note(slow);
        assert!(times.within(99).unwrap() > slow);
        assert!(times.within(50).unwrap() < fast * 2);
    }
}
