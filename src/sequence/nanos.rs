//! Times in half the space, for tables of many sources.

use core::fmt;
use core::num::NonZeroU64;
use core::time::Duration;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A duration in whole nanoseconds up to 584 years, in eight bytes even when it is optional.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Nanos(NonZeroU64);

impl Nanos {
    pub(super) const ZERO: Self = Self(NonZeroU64::MIN);

    #[inline]
    pub(super) const fn new(time: Duration) -> Self {
        let seconds = time.as_secs().saturating_mul(NANOS_PER_SECOND);
        // Widens.
        let nanos = seconds.saturating_add(time.subsec_nanos() as u64);
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }

    /// The nanoseconds since an earlier time.
    #[inline]
    pub(super) const fn since(self, earlier: Self) -> u64 {
        self.0.get().saturating_sub(earlier.0.get())
    }

    /// That many nanoseconds later.
    #[inline]
    pub(super) const fn plus(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    #[inline]
    pub(super) const fn get(self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(1))
    }
}

impl fmt::Debug for Nanos {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.get(), out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_kept_exactly() {
        for nanos in [0, 1, 999_999_999, 1_000_000_000, u64::MAX - 1] {
            let time = Duration::from_nanos(nanos);
            assert_eq!(Nanos::new(time).get(), time);
            assert_eq!(Nanos::new(time).since(Nanos::ZERO), nanos);
            assert_eq!(Nanos::ZERO.plus(nanos).get(), time);
        }
        assert_eq!(
            Nanos::new(Duration::MAX).get(),
            Duration::from_nanos(u64::MAX - 1)
        );
        assert_eq!(size_of::<Option<Nanos>>(), 8);
    }
}
