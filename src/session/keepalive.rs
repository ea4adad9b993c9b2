//! Decides when to ping and when to give up on a silent server.
//!
//! Holds two instants. Never writes: it only says what is due.

use std::time::Duration;

/// When to ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepaliveOptions {
    /// Silence after which a PING goes out; as long again without a byte and the connection is
    /// given up. Default 10 s: a half-open connection is noticed within 20 s.
    pub ping_interval: Duration,
}

impl Default for KeepaliveOptions {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(10),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Keepalive {
    interval: Duration,
    heard_at: Duration,
    pinged_at: Option<Duration>,
}

/// What [`Keepalive::handle_timeout`] asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Ping,
    GiveUp,
}

impl Keepalive {
    pub(crate) const fn new(options: KeepaliveOptions, now: Duration) -> Self {
        Self {
            interval: options.ping_interval,
            heard_at: now,
            pinged_at: None,
        }
    }

    /// Any bytes from the server are a sign of life.
    pub(crate) const fn handle_bytes(&mut self, now: Duration) {
        self.heard_at = now;
        self.pinged_at = None;
    }

    pub(crate) fn handle_timeout(&mut self, now: Duration) -> Due {
        if now < self.timeout() {
            return Due::Nothing;
        }
        if self.pinged_at.is_some() {
            return Due::GiveUp;
        }
        self.pinged_at = Some(now);
        Due::Ping
    }

    /// When to call [`Keepalive::handle_timeout`].
    pub(crate) fn timeout(&self) -> Duration {
        self.pinged_at
            .unwrap_or(self.heard_at)
            .saturating_add(self.interval)
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
        assert_eq!(keepalive.handle_timeout(SECOND * 2), Due::Nothing);
        assert!(keepalive.timeout() > SECOND * 2);
    }
}
