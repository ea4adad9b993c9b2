//! Decides when to ping and when to give up on a silent server.
//!
//! PINGs go out while messages flow, too: their answers say which publications have arrived. Holds
//! two instants. Never writes: it only says what is due.

use std::time::Duration;

/// When to ping, and when to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepaliveOptions {
    /// How often a PING goes out. Default 9 s: with one PING that may stay unanswered, a half-open
    /// connection is given up after 18 s, so within 20 s also on a busy machine.
    pub ping_interval: Duration,
    /// PINGs that may be unanswered at once. After one interval more than this without a byte from
    /// the server the connection is given up. Default 1.
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
}

/// What [`Keepalive::handle_timeout`] asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Ping,
    GiveUp,
}

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
        }
    }

    /// Any bytes from the server are a sign of life.
    pub(crate) const fn handle_bytes(&mut self, now: Duration) {
        self.heard_at = now;
    }

    pub(crate) fn handle_timeout(&mut self, now: Duration) -> Due {
        if now >= self.gives_up_at() {
            return Due::GiveUp;
        }
        if now >= self.pings_at() {
            self.pinged_at = now;
            return Due::Ping;
        }
        Due::Nothing
    }

    /// When to call [`Keepalive::handle_timeout`].
    pub(crate) fn timeout(&self) -> Duration {
        self.pings_at().min(self.gives_up_at())
    }

    /// PINGs that may be unanswered at once.
    pub(crate) fn pings_out_max(&self) -> usize {
        usize::try_from(self.options.pings_out_max).unwrap_or(usize::MAX)
    }

    fn pings_at(&self) -> Duration {
        self.pinged_at.saturating_add(self.options.ping_interval)
    }

    fn gives_up_at(&self) -> Duration {
        let intervals = self.options.pings_out_max.saturating_add(1);
        let silence = self.options.ping_interval.saturating_mul(intervals);
        self.heard_at.saturating_add(silence)
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
}
