//! How much repairs may send: in answer to a request, to a requester, from a source, in a client.
//!
//! A request of a hundred bytes can ask for hundreds of thousands, and names where they go. Every
//! bound here is therefore one of bytes on the wire, whoever asks.

use core::time::Duration;

use super::defect::Defect;
use super::recent::Recent;

/// Requesters that are told apart; who was not heard for that many others begins anew.
const REQUESTERS_MAX: usize = 1_024;

/// An overdraft of more than this is not even spoken about.
const OVERDRAFT_MAX: Duration = Duration::from_secs(1);

/// The shortest pause that a receiver is told to make: shorter ones would win a few messages each.
const RETRY_MIN: Duration = Duration::from_millis(50);

/// So many bytes in a second, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "two numbers say it all")]
pub struct Rate {
    /// Bytes in a second; 0 for none at all once the burst is spent.
    pub bytes_per_second: u64,
    /// Bytes at once, after a pause.
    pub burst_bytes: u64,
}

impl Rate {
    fn time(self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes)
            .saturating_mul(1_000_000_000)
            .checked_div(u128::from(self.bytes_per_second));
        match nanos.map(u64::try_from) {
            Some(Ok(nanos)) => Duration::from_nanos(nanos),
            // Never, as far as anybody waits.
            Some(Err(_)) | None if bytes > 0 => NEVER,
            Some(Err(_)) | None => Duration::ZERO,
        }
    }
}

/// Far beyond every wait, and far from the end of the range.
const NEVER: Duration = Duration::from_secs(1 << 40);

/// Bounds of what a source sends again.
///
/// In every stretch of time the bytes sent stay below the burst, the rate times the stretch and one
/// more second, and one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "callers set all four")]
pub struct RepairLimits {
    /// Messages in answer to one request. Default 256.
    pub request_messages_max: usize,
    /// Their bytes, headers included. Default 256 KiB.
    pub request_bytes_max: usize,
    /// What one requester gets: whoever shares a reply subject up to the token behind the allowed
    /// prefix. Default 1 MiB in a second, 512 KiB at once.
    pub requester: Rate,
    /// What all of them get from this source. Default 4 MiB in a second, 1 MiB at once.
    pub source: Rate,
}

impl Default for RepairLimits {
    fn default() -> Self {
        Self {
            request_messages_max: 256,
            request_bytes_max: 256 << 10,
            requester: Rate {
                bytes_per_second: 1 << 20,
                burst_bytes: 512 << 10,
            },
            source: Rate {
                bytes_per_second: 4 << 20,
                burst_bytes: 1 << 20,
            },
        }
    }
}

/// Lets bytes through at a [`Rate`]. A message may overdraw it; the next waits the longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bucket {
    rate: Rate,
    /// When the whole burst is there again.
    full_at: Duration,
}

impl Bucket {
    /// Makes a bucket with its whole burst.
    #[must_use]
    pub const fn new(rate: Rate) -> Self {
        Self {
            rate,
            full_at: Duration::ZERO,
        }
    }

    /// Takes the bytes out.
    pub fn spend(&mut self, now: Duration, bytes: usize) {
        let time = self.rate.time(bytes as u64);
        self.full_at = self.full_at.max(now).saturating_add(time);
    }

    /// From when on bytes may be spent; in the past while there are some.
    #[must_use]
    pub fn due(&self) -> Duration {
        self.full_at
            .saturating_sub(self.rate.time(self.rate.burst_bytes))
    }
}

/// What one source, or one archive, has spent, in all and for each requester.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    limits: RepairLimits,
    source: Bucket,
    requesters: Recent<Bucket>,
}

/// Whether an answer may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Granted,
    /// Not for so long.
    Later(Duration),
    /// So much was sent already that even this is not said.
    Overdrawn,
}

impl Budget {
    pub(crate) fn new(limits: RepairLimits, seed: u64) -> Self {
        Self {
            limits,
            source: Bucket::new(limits.source),
            requesters: Recent::new(REQUESTERS_MAX, seed),
        }
    }

    /// Says whether `requester` may be answered; `client_due` is when the client may answer at all.
    pub(crate) fn ask(&self, now: Duration, requester: &str, client_due: Duration) -> Verdict {
        let due = self.due(requester, client_due);
        let wait = due.saturating_sub(now);
        if wait.is_zero() {
            Verdict::Granted
        } else if wait > OVERDRAFT_MAX {
            Verdict::Overdrawn
        } else {
            Verdict::Later(wait.max(RETRY_MIN))
        }
    }

    pub(crate) fn spend(&mut self, now: Duration, requester: &str, bytes: usize) {
        self.source.spend(now, bytes);
        let mut bucket = self.requester(requester);
        bucket.spend(now, bytes);
        self.requesters.replace(requester, bucket);
    }

    /// From when on `requester` may be answered.
    fn due(&self, requester: &str, client_due: Duration) -> Duration {
        let bounds = [
            (self.requester(requester).due(), Defect::NoRequesterBudget),
            (self.source.due(), Defect::NoSourceBudget),
            (client_due, Defect::NoClientBudget),
        ];
        let bounds = bounds.iter().filter(|(_, defect)| !defect.is_planted());
        let latest = bounds.map(|(due, _)| *due).max();
        latest.unwrap_or_default()
    }

    fn requester(&self, requester: &str) -> Bucket {
        let known = self.requesters.get(requester);
        known.unwrap_or_else(|| Bucket::new(self.limits.requester))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jitter::Jitter;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_then_its_rate() {
        let mut bucket = Bucket::new(Rate {
            bytes_per_second: 1_000,
            burst_bytes: 500,
        });
        let now = SECOND * 9;
        bucket.spend(now, 500);
        assert_eq!(bucket.due(), now);
        bucket.spend(now, 250);
        assert_eq!(bucket.due(), now + SECOND / 4);
        bucket.spend(now * 9, 100);
        assert!(bucket.due() < now * 9, "the burst came back");
    }

    #[test]
    fn a_rate_of_nothing_gives_the_burst_and_no_more() {
        let mut bucket = Bucket::new(Rate {
            bytes_per_second: 0,
            burst_bytes: 0,
        });
        assert_eq!(bucket.due(), Duration::ZERO);
        bucket.spend(SECOND, 1);
        assert!(bucket.due() > SECOND * 1_000_000);
    }

    #[test]
    fn whoever_asks_and_however_often_the_bytes_stay_within_the_limits() {
        let mut budget = Budget::new(RepairLimits::default(), 1);
        let mut jitter = Jitter::new(1);
        let (mut now, mut all, mut to_one) = (Duration::ZERO, 0_u64, 0_u64);
        while now < SECOND * 10 {
            now += Duration::from_micros(jitter.below(200));
            // One that always asks, and others that never ask twice under the same name.
            let requester = match jitter.below(2) {
                0 => "_INBOX.one".to_owned(),
                _ => format!("_INBOX.{}", jitter.next_u64()),
            };
            if budget.ask(now, &requester, Duration::ZERO) == Verdict::Granted {
                let bytes = jitter.below(2_000);
                budget.spend(now, &requester, usize::try_from(bytes).unwrap());
                all += bytes;
                to_one += if requester == "_INBOX.one" { bytes } else { 0 };
            }
        }
        let limits = RepairLimits::default();
        let most = |rate: Rate| rate.burst_bytes + rate.bytes_per_second * 10 + 2_000;
        assert!(to_one <= most(limits.requester), "{to_one}");
        assert!(all <= most(limits.source), "{all}");
        assert!(to_one > 9 << 20 && all > 39 << 20, "{to_one} {all}");
    }

    #[test]
    fn what_is_overdrawn_by_a_second_is_not_answered_at_all() {
        let mut budget = Budget::new(RepairLimits::default(), 1);
        budget.spend(SECOND, "a", 1 << 20);
        let half = Verdict::Later(SECOND / 2);
        assert_eq!(budget.ask(SECOND, "a", Duration::ZERO), half);
        assert_eq!(budget.ask(SECOND, "b", Duration::ZERO), Verdict::Granted);
        assert_eq!(budget.ask(SECOND, "b", SECOND * 3 / 2), half);
        budget.spend(SECOND, "a", 1 << 20);
        let verdict = budget.ask(SECOND, "a", Duration::ZERO);
        assert_eq!(verdict, Verdict::Overdrawn);
    }
}
