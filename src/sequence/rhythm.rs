//! When a source is to be heard: soon after its last message, then ever less often.
//!
//! Silence is news only when it exceeds the source's own rhythm, so the first heartbeat comes four
//! usual pauses after a message, and every further one after twice the time.

use core::time::Duration;

use crate::jitter::Jitter;

use super::nanos::Nanos;

/// When heartbeats are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "callers set all four")]
pub struct HeartbeatOptions {
    /// The shortest time from a message to its first heartbeat. Default 20 ms.
    pub first_min: Duration,
    /// The longest. Default 1 s.
    pub first_max: Duration,
    /// The longest time between heartbeats. Default 5 s.
    pub interval_max: Duration,
    /// Fixes the time from a message to its first heartbeat. Default none: by the rhythm.
    pub tail_detection: Option<Duration>,
}

impl Default for HeartbeatOptions {
    fn default() -> Self {
        Self {
            first_min: Duration::from_millis(20),
            first_max: Duration::from_secs(1),
            interval_max: Duration::from_secs(5),
            tail_detection: None,
        }
    }
}

/// No first heartbeat takes longer, in nanoseconds: 73 years.
const FIRST_MAX: u64 = u64::MAX / 8;

/// All in nanoseconds: it is reckoned for every message.
#[derive(Debug, Clone)]
pub(super) struct Rhythm {
    first_min: u64,
    first_max: u64,
    interval_max: Duration,
    /// The usual pause between messages, averaged over about eight.
    usual_pause: u64,
    last_message: Option<Nanos>,
    interval: u64,
    due: Nanos,
}

impl Rhythm {
    pub(super) const fn new(options: HeartbeatOptions, now: Duration) -> Self {
        let (first_min, first_max) = match options.tail_detection {
            Some(fixed) => (fixed, fixed),
            None => (options.first_min, options.first_max),
        };
        let (first_min, first_max) = (nanos(first_min), nanos(first_max));
        Self {
            first_min,
            first_max: if first_max > FIRST_MAX {
                FIRST_MAX
            } else {
                first_max
            },
            interval_max: options.interval_max,
            usual_pause: 0,
            last_message: None,
            interval: first_min,
            due: Nanos::new(now),
        }
    }

    /// A message was sent.
    #[inline]
    pub(super) fn note_message(&mut self, now: Nanos) {
        if let Some(last) = self.last_message {
            let pause = now.since(last).min(self.first_max);
            // Neither of them exceeds an eighth of all.
            self.usual_pause = self.usual_pause.wrapping_mul(7).wrapping_add(pause) / 8;
        }
        self.last_message = Some(now);
        self.interval = self.first_nanos();
        self.due = now.plus(self.interval);
    }

    /// A heartbeat was sent; returns the promise for the next.
    pub(super) fn note_heartbeat(&mut self, now: Duration, jitter: &mut Jitter) -> Duration {
        let doubled = self.interval.saturating_mul(2).max(self.first_nanos());
        self.interval = if doubled < nanos(self.interval_max) {
            doubled
        } else {
            // Many idle sources must not beat in step.
            nanos(self.interval_max.mul_f64(0.9 + 0.2 * jitter.unit()))
        };
        self.due = Nanos::new(now).plus(self.interval);
        Duration::from_nanos(self.interval)
    }

    /// Brings the next heartbeat forward.
    pub(super) fn hurry(&mut self, now: Duration) {
        self.interval = self.first_nanos();
        self.due = self.due.min(Nanos::new(now));
    }

    #[inline]
    pub(super) const fn due(&self) -> Duration {
        self.due.get()
    }

    /// Time from a message to its first heartbeat.
    pub(super) fn first(&self) -> Duration {
        Duration::from_nanos(self.first_nanos())
    }

    #[inline]
    fn first_nanos(&self) -> u64 {
        let by_rhythm = self.usual_pause.wrapping_mul(4);
        by_rhythm.max(self.first_min).min(self.first_max)
    }
}

const fn nanos(time: Duration) -> u64 {
    Nanos::new(time).since(Nanos::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn heartbeats_follow_the_rhythm_then_thin_out_to_the_cap() {
        let mut rhythm = Rhythm::new(HeartbeatOptions::default(), Duration::ZERO);
        let mut jitter = Jitter::new(1);
        rhythm.note_message(Nanos::new(MILLI));
        assert_eq!(rhythm.due(), MILLI * 21, "a burst is checked after 20 ms");
        let mut now = rhythm.due();
        assert_eq!(rhythm.note_heartbeat(now, &mut jitter), MILLI * 40);
        for _ in 0..12 {
            now = rhythm.due();
            let _ = rhythm.note_heartbeat(now, &mut jitter);
        }
        let interval = rhythm.due() - now;
        assert!(
            (MILLI * 4_500..=MILLI * 5_500).contains(&interval),
            "{interval:?}"
        );
    }

    #[test]
    fn a_steady_source_adds_no_heartbeats() {
        let mut rhythm = Rhythm::new(HeartbeatOptions::default(), Duration::ZERO);
        for second in 0..40 {
            rhythm.note_message(Nanos::new(MILLI * 100 * second));
        }
        let pause = rhythm.due() - MILLI * 3_900;
        assert!(pause > MILLI * 300, "{pause:?}");
    }
}
