//! Says how long to wait before the next dial.
//!
//! Holds, per outage, since when it lasts and the dials that it has seen. Never dials.

use std::time::Duration;

use crate::jitter::Jitter;

use super::options::{Callback, RedialDelay};

/// Bounds of the pause between passes over the server list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedialOptions {
    /// The shortest pause before it is drawn: each is between half of what it would be and all of it,
    /// so the shortest of all is half of this. Default 10 ms.
    pub pause_min: Duration,
    /// The longest pause; at least half of it in a long outage. Default 4 s.
    pub pause_max: Duration,
    /// Dials in one outage, over all servers together, after which the session ends. `Some(0)`: a
    /// lost connection ends it. `None` (default): it never gives up. The first connect is not
    /// counted unless it is retried, nor is the first dial of a forced reconnect.
    pub attempts_max: Option<u64>,
}

impl Default for RedialOptions {
    fn default() -> Self {
        Self {
            pause_min: Duration::from_millis(10),
            pause_max: Duration::from_secs(4),
            attempts_max: None,
        }
    }
}

/// The share of the outage so far that a pause takes: a server that comes back is found within a
/// quarter of the time that it was away.
const PAUSE_SHARE: u32 = 4;

/// The shortest pause that the program can ask for: a server that refuses is not dialed in a circle.
const DELAY_MIN: Duration = Duration::from_millis(1);

/// A connection that has lasted so long was a good one.
pub(super) const SETTLED_TIME: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Redial {
    options: RedialOptions,
    delay: Option<Callback<RedialDelay>>,
    away_since: Duration,
    attempts: u64,
    /// The first ones, which use up no attempt: the dials of the first connect, and of a forced
    /// reconnect one.
    free_attempts: u64,
    connected_at: Duration,
    jitter: Jitter,
}

impl Redial {
    pub(crate) const fn new(
        options: RedialOptions,
        delay: Option<Callback<RedialDelay>>,
        seed: u64,
    ) -> Self {
        Self {
            options,
            delay,
            away_since: Duration::ZERO,
            attempts: 0,
            free_attempts: 0,
            connected_at: Duration::ZERO,
            jitter: Jitter::new(seed),
        }
    }

    /// An outage begins, or the first dial.
    pub(crate) const fn begin(&mut self, now: Duration) {
        self.away_since = now;
        self.attempts = 0;
        self.free_attempts = 0;
    }

    /// [`Redial::begin`] at the owner's wish: it is dialed once, however few attempts there are.
    pub(crate) const fn begin_forced(&mut self, now: Duration) {
        self.begin(now);
        self.free_attempts = 1;
    }

    /// A connection is lost; returns when to dial.
    ///
    /// At once, unless it was lost soon after its handshake: the outage before it goes on then, so
    /// that a server which accepts and drops is not dialed without a pause.
    pub(crate) fn resume(&mut self, now: Duration, servers: usize) -> Duration {
        if now.saturating_sub(self.connected_at) < SETTLED_TIME {
            return self.due_after_failure(now, servers);
        }
        self.begin(now);
        now
    }

    /// Counts a dial. Returns false when the outage has used up its attempts.
    pub(crate) fn note_dial(&mut self) -> bool {
        let attempts_max = self.options.attempts_max;
        let counted = self.attempts.saturating_sub(self.free_attempts);
        let is_free = self.attempts < self.free_attempts;
        let is_allowed = is_free || attempts_max.is_none_or(|max| counted < max);
        // The first connect goes beyond the bound, and its pass over the servers has to end.
        self.attempts = self.attempts.saturating_add(1);
        is_allowed
    }

    /// The dials so far belong to no outage that may end the session.
    pub(crate) const fn forgive(&mut self) {
        self.free_attempts = self.attempts;
    }

    /// A handshake is complete.
    pub(crate) const fn note_success(&mut self, now: Duration) {
        self.connected_at = now;
    }

    /// Returns true when each of so many servers was tried once in this outage.
    pub(crate) const fn is_first_pass_over(&self, servers: usize) -> bool {
        self.attempts >= servers as u64
    }

    /// When to dial after a failure at `now`: at once within a first pass over more than one
    /// server, else after a jittered pause that grows with the outage.
    ///
    /// Source: protocol-notes, "Reconnect".
    pub(crate) fn due_after_failure(&mut self, now: Duration, servers: usize) -> Duration {
        if !self.is_first_pass_over(servers) {
            return now;
        }
        if let Some(delay) = &self.delay {
            return now.saturating_add((delay.function())(self.attempts).max(DELAY_MIN));
        }
        let away = now.saturating_sub(self.away_since);
        let full = away.checked_div(PAUSE_SHARE).unwrap_or_default().clamp(
            self.options.pause_min,
            self.options.pause_max.max(self.options.pause_min),
        );
        // Between half and the whole, so that many clients of one server do not return at once.
        let half = full.checked_div(2).unwrap_or_default();
        let spread = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        now.saturating_add(half)
            .saturating_add(Duration::from_nanos(
                self.jitter.below(spread.saturating_add(1)),
            ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redial(options: RedialOptions) -> Redial {
        Redial::new(options, None, 1)
    }

    #[test]
    fn the_first_pass_does_not_wait() {
        let mut redial = redial(RedialOptions::default());
        redial.begin(Duration::ZERO);
        assert!(redial.note_dial());
        assert_eq!(redial.due_after_failure(Duration::ZERO, 2), Duration::ZERO);
        assert!(redial.note_dial());
        assert!(redial.is_first_pass_over(2));
        assert!(redial.due_after_failure(Duration::ZERO, 2) >= Duration::from_millis(5));
    }

    #[test]
    fn a_pause_is_at_most_a_quarter_of_the_outage_and_bounded() {
        let mut redial = redial(RedialOptions::default());
        redial.begin(Duration::ZERO);
        redial.note_dial();
        for away in [0, 40, 1_000, 10_000, 1_000_000] {
            let now = Duration::from_millis(away);
            let pause = redial.due_after_failure(now, 1) - now;
            let most = (now / 4).clamp(Duration::from_millis(10), Duration::from_secs(4));
            assert!(
                pause <= most && pause >= most / 2,
                "{away} ms away, {pause:?} pause"
            );
        }
    }

    #[test]
    fn the_program_may_say_how_long_to_wait_but_not_zero() {
        let delay = |attempts: u64| Duration::from_millis(attempts.saturating_sub(2) * 100);
        let delay = Callback::new(std::sync::Arc::new(delay) as std::sync::Arc<RedialDelay>);
        let mut redial = Redial::new(RedialOptions::default(), Some(delay), 1);
        redial.begin(Duration::ZERO);
        redial.note_dial();
        assert_eq!(redial.due_after_failure(Duration::ZERO, 1), DELAY_MIN);
        redial.note_dial();
        redial.note_dial();
        let due = redial.due_after_failure(Duration::ZERO, 1);
        assert_eq!(due, Duration::from_millis(100));
    }

    #[test]
    fn attempts_end_at_their_maximum_and_begin_anew_with_an_outage() {
        let mut redial = redial(RedialOptions {
            attempts_max: Some(2),
            ..RedialOptions::default()
        });
        redial.begin(Duration::ZERO);
        assert!(redial.note_dial() && redial.note_dial());
        assert!(!redial.note_dial());
        redial.begin(Duration::ZERO);
        assert!(redial.note_dial());
    }

    #[test]
    fn a_connection_lost_right_behind_its_handshake_does_not_end_the_outage() {
        let mut redial = redial(RedialOptions::default());
        redial.begin(Duration::ZERO);
        redial.note_dial();
        let mut now = Duration::from_millis(1);
        for _ in 0..100 {
            redial.note_success(now);
            let due = redial.resume(now, 1);
            assert!(due >= now + Duration::from_millis(5), "{now:?} {due:?}");
            now = due;
        }
        assert!(now > Duration::from_secs(60), "pauses grow, {now:?}");
        redial.note_success(now);
        now += SETTLED_TIME;
        assert_eq!(
            redial.resume(now, 1),
            now,
            "a good one is dialed again at once"
        );
    }
}
