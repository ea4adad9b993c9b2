//! Decides when to ping and when to give up on a server that is silent, or that never answers.
//!
//! PINGs go out while messages flow, too: their answers say which publications have arrived. Holds
//! four instants. Never writes: it only says what is due.

use std::time::Duration;

/// When to ping, and when to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepaliveOptions {
    /// How often a PING goes out. Default 9 s: with one PING that may stay unanswered, a half-open
    /// connection is given up after 18 s, so within 20 s also on a busy machine.
    pub ping_interval: Duration,
    /// PINGs that may be unanswered at once. After one interval more than this without a byte from
    /// the server, and a PING among them, the connection is given up; after ten times as long when
    /// the server does say something, but answers no PING. Default 1.
    pub pings_out_max: u32,
}

impl Default for KeepaliveOptions {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(9),
            pings_out_max: 1,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Keepalive {
    options: KeepaliveOptions,
    heard_at: Duration,
    pinged_at: Duration,
    /// When a server that has said nothing since was asked first.
    asked_at: Option<Duration>,
    /// When a server that has answered no PING since was asked first.
    owes_since: Option<Duration>,
}

/// What [`Keepalive::handle_timeout`] asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Ping,
    GiveUp,
}

/// The share of an interval by which we may be late and still believe that nothing came: a program
/// that stood still longer has not listened either.
const LATE_SHARE: u32 = 4;

/// How many times as long a server that talks may owe an answer: it stands behind what the server
/// said before, and a slow network brings that late.
const TALKING_PATIENCE: u32 = 10;

/// The shortest interval: one of zero would ask to be woken at once, for ever.
const PING_INTERVAL_MIN: Duration = Duration::from_millis(1);

impl Keepalive {
    pub(crate) fn new(options: KeepaliveOptions, now: Duration) -> Self {
        Self {
            options: KeepaliveOptions {
                ping_interval: options.ping_interval.max(PING_INTERVAL_MIN),
                pings_out_max: options.pings_out_max.max(1),
            },
            heard_at: now,
            pinged_at: now,
            asked_at: None,
            owes_since: None,
        }
    }

    /// Any bytes from the server are a sign of life.
    pub(crate) const fn handle_bytes(&mut self, now: Duration) {
        self.heard_at = now;
        self.asked_at = None;
    }

    /// The server has answered a PING.
    pub(crate) const fn handle_pong(&mut self) {
        self.owes_since = None;
    }

    /// The server could not be heard until now, or could not be asked: that says nothing about it.
    pub(crate) const fn handle_standstill(&mut self, now: Duration) {
        self.handle_bytes(now);
        self.owes_since = None;
    }

    pub(crate) fn handle_timeout(&mut self, now: Duration) -> Due {
        let late = now.saturating_sub(self.timeout());
        if late.saturating_mul(LATE_SHARE) > self.options.ping_interval {
            self.handle_standstill(now);
        }
        if self.gives_up_at().is_some_and(|at| now >= at) {
            return Due::GiveUp;
        }
        if now >= self.pings_at() {
            self.pinged_at = now;
            self.asked_at.get_or_insert(now);
            self.owes_since.get_or_insert(now);
            return Due::Ping;
        }
        Due::Nothing
    }

    /// When to call [`Keepalive::handle_timeout`].
    pub(crate) fn timeout(&self) -> Duration {
        let pings_at = self.pings_at();
        self.gives_up_at().map_or(pings_at, |at| at.min(pings_at))
    }

    /// PINGs that may be unanswered at once.
    pub(crate) fn pings_out_max(&self) -> usize {
        usize::try_from(self.options.pings_out_max).unwrap_or(usize::MAX)
    }

    fn pings_at(&self) -> Duration {
        self.pinged_at.saturating_add(self.options.ping_interval)
    }

    fn gives_up_at(&self) -> Option<Duration> {
        let intervals = self.options.pings_out_max.saturating_add(1);
        let patience = self.options.ping_interval.saturating_mul(intervals);
        let silent = self.asked_at.map(|asked_at| {
            let is_answerable = asked_at.saturating_add(self.options.ping_interval);
            self.heard_at.saturating_add(patience).max(is_answerable)
        });
        let mute = self
            .owes_since
            .map(|since| since.saturating_add(patience.saturating_mul(TALKING_PATIENCE)));
        silent.into_iter().chain(mute).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn keepalive() -> Keepalive {
        Keepalive::new(
            KeepaliveOptions {
                ping_interval: SECOND,
                pings_out_max: 1,
            },
            Duration::ZERO,
        )
    }

    #[test]
    fn a_silent_server_is_given_up_after_two_intervals() {
        let mut keepalive = keepalive();
        assert_eq!(keepalive.handle_timeout(SECOND / 2), Due::Nothing);
        assert_eq!(keepalive.handle_timeout(SECOND), Due::Ping);
        assert_eq!(keepalive.handle_timeout(SECOND * 3 / 2), Due::Nothing);
        assert_eq!(keepalive.handle_timeout(SECOND * 2), Due::GiveUp);
    }

    #[test]
    fn a_late_pong_does_not_close_the_connection() {
        let mut keepalive = keepalive();
        keepalive.handle_timeout(SECOND);
        keepalive.handle_bytes(SECOND * 2 - Duration::from_nanos(1));
        assert_eq!(keepalive.handle_timeout(SECOND * 2), Due::Ping);
        assert!(keepalive.timeout() > SECOND * 2);
    }

    #[test]
    fn more_pings_out_make_more_patience() {
        let options = KeepaliveOptions {
            ping_interval: SECOND,
            pings_out_max: 3,
        };
        let mut keepalive = Keepalive::new(options, Duration::ZERO);
        for second in 1..=3 {
            assert_eq!(keepalive.handle_timeout(SECOND * second), Due::Ping);
        }
        assert_eq!(keepalive.handle_timeout(SECOND * 4), Due::GiveUp);
    }

    #[test]
    fn a_program_that_stood_still_asks_before_it_gives_up() {
        let mut keepalive = keepalive();
        assert_eq!(keepalive.handle_timeout(SECOND * 9), Due::Ping);
        assert_eq!(keepalive.timeout(), SECOND * 10);
        assert_eq!(keepalive.handle_timeout(SECOND * 10), Due::Ping);
        assert_eq!(keepalive.handle_timeout(SECOND * 11), Due::GiveUp);
    }

    #[test]
    fn an_answer_that_nobody_was_there_to_read_is_waited_for() {
        let mut keepalive = keepalive();
        assert_eq!(keepalive.handle_timeout(SECOND), Due::Ping);
        // The PONG may have come in all that time.
        assert_eq!(keepalive.handle_timeout(SECOND * 5), Due::Ping);
        assert_eq!(keepalive.handle_timeout(SECOND * 6), Due::Ping);
        assert_eq!(keepalive.handle_timeout(SECOND * 7), Due::GiveUp);
    }

    #[test]
    fn a_server_that_talks_and_answers_no_ping_is_given_up_in_the_end() {
        let mut keepalive = keepalive();
        for second in 1..21 {
            keepalive.handle_bytes(SECOND * second);
            assert_eq!(keepalive.handle_timeout(SECOND * second), Due::Ping);
        }
        keepalive.handle_bytes(SECOND * 21);
        assert_eq!(keepalive.handle_timeout(SECOND * 21), Due::GiveUp);
    }

    #[test]
    fn one_answer_is_enough_for_a_server_that_talks() {
        let mut keepalive = keepalive();
        for second in 1..100 {
            keepalive.handle_bytes(SECOND * second);
            assert_eq!(keepalive.handle_timeout(SECOND * second), Due::Ping);
            if second % 15 == 0 {
                keepalive.handle_pong();
            }
        }
    }
}
