//! One source: numbers, retains, beats and repairs.
//!
//! ```text
//!   Live --close, or a higher claim to the name--> Lingering --linger over--> Finished
//! ```
//!
//! The owner keeps three things together under one lock: [`Sender::stamp`], and writing the stamped
//! message; [`Sender::poll_heartbeat`], and writing the heartbeat. Then wire order is number order
//! and no heartbeat names a number that was not written before it.

mod answering;
mod stamp_line;

use core::time::Duration;
use std::collections::VecDeque;

use crate::jitter::Jitter;
use crate::subject::Filter;

use super::NUMBER_MAX;
use super::budget::{Budget, RepairLimits};
use super::claim::{Holder, NameNotice};
use super::defect::Defect;
use super::error::SendError;
use super::heartbeat::{Heartbeat, HeartbeatKind, Prior};
use super::nanos::Nanos;
use super::retention::{Retention, RetentionLimits, RetentionOverflow};
use super::rhythm::{HeartbeatOptions, Rhythm};
use super::short;
use super::source::SourceName;
use super::stamp::{STAMP_HEADER, Stamp};
use super::subjects::Subjects;

#[cfg(feature = "jetstream")]
pub(crate) use self::answering::read_request;
#[cfg(feature = "jetstream")]
pub(crate) use self::answering::requester_of;
pub use self::answering::{Allowance, Reply, ReplyBody, ReplyStatus};
use self::answering::{Pending, Repaired};
use self::stamp_line::StampLine;

/// What a stamp of the longest numbers adds behind its prefix, with the version and two line ends,
/// and what a repair adds, besides its subject and reply subject.
const OVERHEAD_BYTES: usize = 12 + 2 * 17 + 2 + 64;
/// How often a holder says that it holds its name: two that were parted hear each other again.
const CLAIM_INTERVAL: Duration = Duration::from_secs(30);
/// How often the end is announced at least; further announcements thin out through the linger.
const ENDS_MIN: u32 = 3;
/// Pauses between announcements double this often at most.
const ENDS_DOUBLINGS_MAX: u32 = 8;

/// How a source behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SenderOptions {
    /// Its name.
    pub source: SourceName,
    /// Its run: microseconds since 1970, larger than that of every earlier run of the name.
    pub epoch: u64,
    /// The subjects to which all its messages go; [`check_scope`](crate::sequence::check_scope) refuses
    /// what would be taken for another.
    pub scope: Filter,
    /// The run before, when that ended cleanly. Default none.
    pub prior: Option<Prior>,
    /// What is kept for repairs.
    pub retention: RetentionLimits,
    /// What happens when it is full. Default: the oldest are forgotten.
    pub overflow: RetentionOverflow,
    /// How much is sent again.
    pub repairs: RepairLimits,
    /// Whether each message names the one before it on its own subject, so that receivers of some
    /// subjects only can tell what they miss. Without effect when the scope is one subject.
    /// Default true.
    pub has_chains: bool,
    /// Random bits of the run that hold its name against others. Default none: the name is not
    /// defended.
    pub nonce: Option<u64>,
    /// When heartbeats are sent.
    pub heartbeat: HeartbeatOptions,
    /// How long repairs are served after the close, after each request and on each new connection.
    /// Default 2 s.
    pub linger: Duration,
    /// How long they are served after the close at most, and a connection to say so on is waited
    /// for. Default 60 s.
    pub linger_max: Duration,
    /// What the reply subject of a request must begin with. Default `_INBOX.`: a request names
    /// where the source publishes with its own permissions.
    pub reply_prefixes: Vec<String>,
}

impl SenderOptions {
    /// The defaults.
    #[must_use]
    pub fn new(source: SourceName, epoch: u64, scope: Filter) -> Self {
        Self {
            source,
            epoch,
            scope,
            prior: None,
            retention: RetentionLimits::default(),
            overflow: RetentionOverflow::default(),
            repairs: RepairLimits::default(),
            has_chains: true,
            nonce: None,
            heartbeat: HeartbeatOptions::default(),
            linger: Duration::from_secs(2),
            linger_max: Duration::from_secs(60),
            reply_prefixes: vec!["_INBOX.".to_owned()],
        }
    }
}

/// A message about to be stamped.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::exhaustive_structs, reason = "a message has no further parts")]
pub struct Outgoing<'a> {
    /// A literal subject.
    pub subject: &'a str,
    /// Where an answer is expected.
    pub reply: Option<&'a str>,
    /// The other headers, encoded: complete lines without version and blank line.
    pub headers: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
}

impl Outgoing<'_> {
    /// Bytes of all parts.
    pub(super) const fn len(&self) -> usize {
        let reply = match self.reply {
            Some(reply) => reply.len(),
            None => 0,
        };
        // Nobody has as many bytes in memory as `usize` counts.
        self.subject
            .len()
            .wrapping_add(reply)
            .wrapping_add(self.headers.len())
            .wrapping_add(self.payload.len())
    }
}

/// Counts of one source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct SenderStatistics {
    /// Numbers given.
    pub stamped: u64,
    /// Heartbeats of every kind.
    pub heartbeats: u64,
    /// Requests answered.
    pub requests: u64,
    /// Requests that were malformed, came too often, or asked for a reply to a place that is not
    /// allowed.
    pub refused_requests: u64,
    /// Messages sent again.
    pub repairs: u64,
}

/// One source: numbers, retains, beats and repairs.
#[derive(Debug, Clone)]
pub struct Sender {
    options: SenderOptions,
    stamp_line: StampLine,
    /// When the run began.
    born: Duration,
    lead: u64,
    generation: u64,
    is_connected: bool,
    owes_hello: bool,
    closed: Option<Closed>,
    rhythm: Rhythm,
    retention: Retention,
    /// The last number on each subject, when the scope has several.
    subjects: Option<Subjects>,
    holder: Option<Holder>,
    /// When to say again that the name is held.
    holder_due: Duration,
    budget: Budget,
    requests: VecDeque<Pending>,
    repaired: VecDeque<Repaired>,
    jitter: Jitter,
    statistics: SenderStatistics,
}

#[derive(Debug, Clone, Copy)]
struct Closed {
    /// The run that took the name over, if one did.
    by: Option<u64>,
    at: Duration,
    until: Duration,
    ends: u32,
    end_due: Duration,
}

impl Closed {
    const fn kind(&self) -> HeartbeatKind {
        match self.by {
            Some(by) => HeartbeatKind::Fenced { by },
            None => HeartbeatKind::End,
        }
    }
}

impl Sender {
    /// Makes a source that is not connected yet. `seed` is for the jitter of idle heartbeats, and hides
    /// the order of tables from those who choose subjects.
    #[must_use]
    pub fn new(options: SenderOptions, seed: u64, now: Duration) -> Self {
        let has_subjects = options.has_chains && !options.scope.is_literal();
        Self {
            stamp_line: StampLine::new(&options.source, options.epoch),
            born: now,
            lead: 0,
            generation: 0,
            is_connected: false,
            owes_hello: false,
            closed: None,
            rhythm: Rhythm::new(options.heartbeat, now),
            retention: Retention::new(options.retention, options.overflow),
            subjects: has_subjects.then(|| Subjects::new(seed)),
            holder: options.nonce.map(|nonce| Holder::new(options.epoch, nonce)),
            holder_due: now,
            budget: Budget::new(options.repairs, seed),
            requests: VecDeque::new(),
            repaired: VecDeque::new(),
            jitter: Jitter::new(seed),
            statistics: SenderStatistics::default(),
            options,
        }
    }

    /// Fails when [`Sender::stamp`] would. Changes nothing.
    ///
    /// `body_bytes_max` is what the server takes in one message, headers included.
    ///
    /// # Errors
    ///
    /// As [`Sender::stamp`].
    #[inline]
    pub fn check(
        &self,
        now: Duration,
        message: &Outgoing<'_>,
        body_bytes_max: usize,
    ) -> Result<(), SendError> {
        match self.closed {
            Some(Closed { by: Some(by), .. }) => return Err(SendError::Fenced { by }),
            Some(_) => return Err(SendError::Closed),
            None => {}
        }
        if self.lead >= NUMBER_MAX {
            return Err(SendError::NumbersUsedUp);
        }
        let (scope, subject) = (&self.options.scope, message.subject.as_bytes());
        if !short::is_same(scope.as_str().as_bytes(), subject) && !scope.matches(subject) {
            return Err(SendError::OutOfScope);
        }
        let message_bytes = message.len();
        let overhead = self.stamp_line.prefix_len().wrapping_add(OVERHEAD_BYTES);
        let found = message_bytes.saturating_add(overhead);
        if found > body_bytes_max {
            return Err(SendError::TooLarge {
                found,
                max: body_bytes_max,
            });
        }
        self.retention.check(now, message_bytes)
    }

    /// Gives the message its number, retains it, and appends the stamp's header line to `line`.
    ///
    /// Write the message before anything else of this source is written.
    ///
    /// # Errors
    ///
    /// [`SendError`]; no number was taken then.
    #[inline]
    pub fn stamp(
        &mut self,
        now: Duration,
        message: &Outgoing<'_>,
        body_bytes_max: usize,
        line: &mut Vec<u8>,
    ) -> Result<u64, SendError> {
        if let Err(refusal) = self.check(now, message, body_bytes_max) {
            self.lead = self
                .lead
                .saturating_add(u64::from(Defect::NumberForRefused.is_planted()));
            return Err(refusal);
        }
        // It was below [`NUMBER_MAX`].
        let seq = self.lead.wrapping_add(1);
        let subjects = self.subjects.as_mut();
        let prev = subjects.and_then(|subjects| subjects.note(message.subject, seq));
        let prev = if Defect::BrokenChain.is_planted() {
            prev.map(|_| 0)
        } else {
            prev
        };
        let now = Nanos::new(now);
        self.retention.push(now, message, prev);
        self.lead = seq;
        self.rhythm.note_message(now);
        self.stamp_line.write_next(line, prev);
        Ok(seq)
    }

    /// Ends the source: no more messages, three or more announcements of the end, repairs for the
    /// linger.
    pub fn close(&mut self, now: Duration) {
        self.end(now, None);
    }

    /// What the next run of the name begins with, once this one is closed: it names this one as its
    /// prior.
    #[must_use]
    pub fn successor(&self, epoch: u64) -> SenderOptions {
        let mut options = self.options.clone();
        options.epoch = epoch;
        options.prior = Some(self.as_prior());
        options
    }

    fn end(&mut self, now: Duration, by: Option<u64>) {
        if self.closed.is_none() {
            let until = now.saturating_add(self.options.linger);
            self.owes_hello = false;
            self.closed = Some(Closed {
                by,
                at: now,
                until,
                ends: 0,
                end_due: now,
            });
        }
    }

    /// Forgets the oldest messages until so many bytes are free, unless none may be forgotten.
    pub fn forget(&mut self, bytes: usize) {
        self.retention.forget(bytes);
    }

    /// A connection is up and the source listens for requests on it.
    pub fn handle_connected(&mut self, now: Duration) {
        self.is_connected = true;
        self.generation = self.generation.saturating_add(1);
        // A source that has ended says so again, instead of hello.
        match &mut self.closed {
            Some(closed) => {
                closed.end_due = now;
                // Whoever hears of it now may ask now.
                let linger = now.saturating_add(self.options.linger);
                let limit = closed.at.saturating_add(self.options.linger_max);
                closed.until = linger.min(limit).max(closed.until);
            }
            None => self.owes_hello = true,
        }
        self.rhythm.hurry(now);
        // On another path there may be another holder.
        self.holder_due = now;
    }

    /// The connection is gone: what was being answered is forgotten, receivers ask again.
    pub fn handle_disconnected(&mut self) {
        self.is_connected = false;
        self.requests.clear();
        // The same request over the next connection is a new one: its answer went with this one.
        self.repaired.clear();
    }

    /// The next heartbeat to write, if one is due. Write it at once or not at all.
    #[must_use]
    pub fn poll_heartbeat(&mut self, now: Duration) -> Option<Heartbeat> {
        if !self.is_connected {
            return None;
        }
        let kind = if self.owes_hello {
            self.owes_hello = false;
            HeartbeatKind::Hello
        } else if let Some(closed) = &mut self.closed {
            let is_over = closed.ends >= ENDS_MIN && now >= closed.until;
            if is_over {
                // No announcement is due any more, so none may be waited for.
                closed.end_due = closed.end_due.max(closed.until);
                return None;
            }
            if now < closed.end_due {
                return None;
            }
            closed.ends = closed.ends.saturating_add(1);
            // After the second the pauses double: whoever misses three in a row hears a later one.
            let doublings = closed.ends.saturating_sub(2).min(ENDS_DOUBLINGS_MAX);
            let pause = self.rhythm.first().saturating_mul(1 << doublings);
            closed.end_due = now.saturating_add(pause);
            closed.kind()
        } else if now >= self.rhythm.due() {
            HeartbeatKind::Beat
        } else {
            return None;
        };
        self.statistics.heartbeats = self.statistics.heartbeats.saturating_add(1);
        let next = self.rhythm.note_heartbeat(now, &mut self.jitter);
        Some(self.heartbeat(now, kind, next))
    }

    /// The next claim to publish on the name's subject, if one is due: the name is still held.
    #[must_use]
    pub fn poll_claim(&mut self, now: Duration) -> Option<NameNotice> {
        if !self.is_connected || self.closed.is_some() || now < self.holder_due {
            return None;
        }
        let holder = self.holder.as_ref()?;
        self.holder_due = now.saturating_add(CLAIM_INTERVAL);
        Some(holder.claim())
    }

    /// When to look for a heartbeat, a claim or the end again.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        match self.closed {
            Some(closed) if closed.ends < ENDS_MIN && self.is_connected => Some(closed.end_due),
            // Answers that wait for room outlast the linger: whoever has room for them knows.
            Some(closed) if !self.requests.is_empty() => {
                (closed.end_due < closed.until).then_some(closed.end_due)
            }
            Some(closed) if self.is_connected => Some(closed.end_due.min(closed.until)),
            Some(closed) => Some(self.waits_until(closed)),
            None if !self.is_connected => None,
            None if self.holder.is_some() => Some(self.rhythm.due().min(self.holder_due)),
            None => Some(self.rhythm.due()),
        }
    }

    /// Returns true when the source was closed and its linger is over.
    #[must_use]
    pub fn is_finished(&self, now: Duration) -> bool {
        self.closed.is_some_and(|closed| {
            let has_announced = closed.ends >= ENDS_MIN || !self.is_connected;
            now >= self.waits_until(closed) && has_announced && self.requests.is_empty()
        })
    }

    /// Returns true once a heartbeat has said that the source has ended.
    #[must_use]
    pub fn has_announced_end(&self) -> bool {
        self.closed.is_some_and(|closed| closed.ends > 0)
    }

    /// How long a source that has ended waits for requests, and for a connection to say so on.
    fn waits_until(&self, closed: Closed) -> Duration {
        if self.is_connected || closed.ends >= ENDS_MIN {
            return closed.until;
        }
        let longest = closed.at.saturating_add(self.options.linger_max);
        closed.until.max(longest)
    }

    /// The source's name.
    #[must_use]
    pub const fn source(&self) -> &SourceName {
        &self.options.source
    }

    /// Its run.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.options.epoch
    }

    /// The subjects to which all its messages go.
    #[must_use]
    pub const fn scope(&self) -> &Filter {
        &self.options.scope
    }

    /// This run, as the next one names it.
    #[must_use]
    pub const fn as_prior(&self) -> Prior {
        Prior {
            epoch: self.options.epoch,
            lead: self.lead,
        }
    }

    /// Returns true when no number follows.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// The random bits that hold the name; `None` when it is not defended.
    #[must_use]
    pub const fn nonce(&self) -> Option<u64> {
        self.options.nonce
    }

    /// The run that took the name over, if one did.
    #[must_use]
    pub fn fenced_by(&self) -> Option<u64> {
        self.closed.and_then(|closed| closed.by)
    }

    /// The last number given; 0 for none.
    #[must_use]
    pub const fn lead(&self) -> u64 {
        self.lead
    }

    /// The oldest number that can be repaired; lead + 1 for none.
    #[must_use]
    pub const fn trail(&self) -> u64 {
        self.retention.trail()
    }

    /// Bytes of subjects, headers and payloads that are retained.
    #[must_use]
    pub fn retained_bytes(&self) -> usize {
        self.retention.bytes()
    }

    /// Counts so far.
    #[must_use]
    pub const fn statistics(&self) -> SenderStatistics {
        SenderStatistics {
            stamped: self.lead,
            ..self.statistics
        }
    }

    /// The header line that names `seq` as the last number of this run.
    #[must_use]
    pub fn stamp_line(&self, seq: u64) -> Vec<u8> {
        let mut line = Vec::new();
        self.stamp_line.write_as(&mut line, seq, None);
        line
    }

    fn heartbeat(&mut self, now: Duration, kind: HeartbeatKind, next: Duration) -> Heartbeat {
        self.retention.expire(now);
        Heartbeat {
            kind,
            scope: self.options.scope.clone(),
            lead: self
                .lead
                .saturating_add(u64::from(Defect::HeartbeatBeforeData.is_planted())),
            trail: self.trail(),
            next,
            generation: self.generation,
            prior: self.options.prior,
            age: Some(now.saturating_sub(self.born)),
        }
    }
}

#[cfg(test)]
mod tests;
