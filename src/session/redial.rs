//! Chooses the next server and how long to wait before dialing it.
//!
//! Holds the list of servers and, per outage, how long it has lasted. Never dials.

use std::time::Duration;

use crate::jitter::Jitter;

use super::server_addr::ServerAddr;

/// Bounds of the pause between passes over the server list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedialOptions {
    /// The shortest pause. Default 10 ms.
    pub pause_min: Duration,
    /// The longest pause. Default 4 s.
    pub pause_max: Duration,
    /// Dials in one outage after which the session ends; `None` (default): it never gives up.
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

/// A connection that has lasted so long was a good one.
pub(super) const SETTLED_TIME: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Redial {
    servers: Vec<Server>,
    next: usize,
    options: RedialOptions,
    away_since: Duration,
    attempts: u64,
    connected_at: Duration,
    jitter: Jitter,
}

#[derive(Debug)]
struct Server {
    addr: ServerAddr,
    auth_failures: u32,
}

/// Refusals of the same credentials by one server after which the session ends.
const AUTH_FAILURES_MAX: u32 = 2;

impl Redial {
    pub(crate) fn new(servers: Vec<ServerAddr>, options: RedialOptions, seed: u64) -> Self {
        let servers = servers
            .into_iter()
            .map(|addr| Server {
                addr,
                auth_failures: 0,
            })
            .collect();
        Self {
            servers,
            next: 0,
            options,
            away_since: Duration::ZERO,
            attempts: 0,
            connected_at: Duration::ZERO,
            jitter: Jitter::new(seed),
        }
    }

    /// An outage begins, or the first dial.
    pub(crate) const fn begin(&mut self, now: Duration) {
        self.away_since = now;
        self.attempts = 0;
    }

    /// A connection is lost; returns when to dial.
    ///
    /// At once, unless it was lost soon after its handshake: the outage before it goes on then, so
    /// that a server which accepts and drops is not dialed without a pause.
    pub(crate) fn resume(&mut self, now: Duration) -> Duration {
        if now.saturating_sub(self.connected_at) < SETTLED_TIME {
            return self.due_after_failure(now);
        }
        self.begin(now);
        now
    }

    /// The server to dial now; it goes to the end of the line.
    ///
    /// `None` when the outage has used up its attempts, or the list is empty.
    pub(crate) fn next_server(&mut self) -> Option<ServerAddr> {
        if self
            .options
            .attempts_max
            .is_some_and(|max| self.attempts >= max)
        {
            return None;
        }
        self.attempts = self.attempts.saturating_add(1);
        let addr = self.servers.get(self.next)?.addr.clone();
        self.next = self
            .next
            .saturating_add(1)
            .checked_rem(self.servers.len())
            .unwrap_or(0);
        Some(addr)
    }

    /// Returns true when every server was tried once in this outage.
    pub(crate) fn is_first_pass_over(&self) -> bool {
        self.attempts >= self.servers.len() as u64
    }

    /// When to dial after a failure at `now`: at once within a first pass over more than one
    /// server, else after a jittered pause that grows with the outage.
    ///
    /// Source: protocol-notes, "Reconnect".
    pub(crate) fn due_after_failure(&mut self, now: Duration) -> Duration {
        if !self.is_first_pass_over() {
            return now;
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

    /// `addr` refused our credentials. Returns true when it did so too often to go on.
    pub(crate) fn note_auth_failure(&mut self, addr: &ServerAddr) -> bool {
        let Some(server) = self.servers.iter_mut().find(|server| server.addr == *addr) else {
            return false;
        };
        server.auth_failures = server.auth_failures.saturating_add(1);
        server.auth_failures >= AUTH_FAILURES_MAX
    }

    /// `addr` accepted us.
    pub(crate) fn note_success(&mut self, addr: &ServerAddr, now: Duration) {
        self.connected_at = now;
        if let Some(server) = self.servers.iter_mut().find(|server| server.addr == *addr) {
            server.auth_failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redial(servers: &str) -> Redial {
        Redial::new(
            ServerAddr::parse_list(servers).unwrap(),
            RedialOptions::default(),
            1,
        )
    }

    #[test]
    fn the_first_pass_does_not_wait_and_visits_each_server_once() {
        let mut redial = redial("a,b");
        redial.begin(Duration::ZERO);
        assert_eq!(redial.next_server().unwrap().host(), "a");
        assert_eq!(redial.due_after_failure(Duration::ZERO), Duration::ZERO);
        assert_eq!(redial.next_server().unwrap().host(), "b");
        assert!(redial.is_first_pass_over());
        assert!(redial.due_after_failure(Duration::ZERO) >= Duration::from_millis(5));
        assert_eq!(redial.next_server().unwrap().host(), "a");
    }

    #[test]
    fn a_pause_is_at_most_a_quarter_of_the_outage_and_bounded() {
        let mut redial = redial("a");
        redial.begin(Duration::ZERO);
        redial.next_server();
        for away in [0, 40, 1_000, 10_000, 1_000_000] {
            let now = Duration::from_millis(away);
            let pause = redial.due_after_failure(now) - now;
            let most = (now / 4).clamp(Duration::from_millis(10), Duration::from_secs(4));
            assert!(
                pause <= most && pause >= most / 2,
                "{away} ms away, {pause:?} pause"
            );
        }
    }

    #[test]
    fn attempts_end_at_their_maximum_and_begin_anew_with_an_outage() {
        let options = RedialOptions {
            attempts_max: Some(2),
            ..RedialOptions::default()
        };
        let mut redial = Redial::new(ServerAddr::parse_list("a").unwrap(), options, 1);
        redial.begin(Duration::ZERO);
        assert!(redial.next_server().is_some() && redial.next_server().is_some());
        assert!(redial.next_server().is_none());
        redial.begin(Duration::ZERO);
        assert!(redial.next_server().is_some());
    }

    #[test]
    fn a_connection_lost_right_behind_its_handshake_does_not_end_the_outage() {
        let mut redial = redial("a");
        redial.begin(Duration::ZERO);
        let addr = redial.next_server().unwrap();
        let mut now = Duration::from_millis(1);
        for _ in 0..100 {
            redial.note_success(&addr, now);
            let due = redial.resume(now);
            assert!(due >= now + Duration::from_millis(5), "{now:?} {due:?}");
            now = due;
        }
        assert!(now > Duration::from_secs(60), "pauses grow, {now:?}");
        redial.note_success(&addr, now);
        now += SETTLED_TIME;
        assert_eq!(
            redial.resume(now),
            now,
            "a good one is dialed again at once"
        );
    }

    #[test]
    fn a_second_refusal_of_the_same_credentials_ends_the_session() {
        let mut redial = redial("a");
        let addr = redial.next_server().unwrap();
        assert!(!redial.note_auth_failure(&addr));
        redial.note_success(&addr, Duration::ZERO);
        assert!(!redial.note_auth_failure(&addr));
        assert!(redial.note_auth_failure(&addr));
    }
}
