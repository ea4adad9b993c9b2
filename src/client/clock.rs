//! The one place that reads clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Measures time since it was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the monotonic clock"
    )]
    pub(crate) fn new() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// Time since the origin; never goes back.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the monotonic clock"
    )]
    pub(crate) fn now(&self) -> Duration {
        Instant::now().saturating_duration_since(self.origin)
    }

    /// The moment that lies `at` after the origin, for tokio's timers.
    pub(crate) fn instant(&self, at: Duration) -> tokio::time::Instant {
        // A moment beyond the clock's range is as good as never.
        const NEVER: Duration = Duration::from_secs(86_400 * 365);
        tokio::time::Instant::from_std(
            self.origin
                .checked_add(at)
                .or_else(|| self.origin.checked_add(NEVER))
                .unwrap_or(self.origin),
        )
    }
}

/// Microseconds since 1970, for epochs.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the calendar clock"
)]
pub(crate) fn unix_micros() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
