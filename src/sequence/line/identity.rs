//! Whether a run is the one of its source that counts.

use core::time::Duration;

use crate::sequence::event::Cause;
use crate::sequence::nanos::Nanos;
use crate::sequence::receiver::{Delivery, Weight};

use super::{Arrived, Line, Surroundings};

/// Silence after which another run may take the place, in promises of the source.
const QUIET_PROMISES: u32 = 3;
/// Bounds of that silence; what is promised is only said.
const QUIET_TIME_MIN: Duration = Duration::from_secs(1);
const QUIET_TIME_MAX: Duration = Duration::from_secs(60);
/// What a source that was never heard to promise is taken to promise.
const PROMISE: Duration = Duration::from_secs(5);
/// How long a run may take to prove itself when another speaks in its name.
const PROOF_TIME: Duration = Duration::from_secs(1);

impl<M: Weight> Line<M> {
    /// A later run has begun; `lead` is this one's last number where that is known.
    pub(in crate::sequence) fn supersede(
        &mut self,
        around: &mut Surroundings<'_, M>,
        lead: Option<u64>,
    ) {
        let end = lead.filter(|lead| self.may_end_at(*lead));
        if let Some(lead) = end {
            // Who tells it may have another way to us, and the last numbers be on theirs.
            self.path_changed = Some(Nanos::new(around.now));
            self.advance(around, lead, Cause::Unknown);
            self.end = Some(lead);
        }
        if !self.is_superseded {
            self.is_superseded = true;
            self.probe_archive(around);
        }
        self.tell_end(around);
    }

    /// Whether this may be its last number.
    pub(in crate::sequence) const fn may_end_at(&self, lead: u64) -> bool {
        lead >= self.highest && !self.is_far(lead)
    }

    pub(in crate::sequence) const fn is_superseded(&self) -> bool {
        self.is_superseded
    }

    /// Whether this is news of a run that has given way, and whose last number nobody has told.
    pub(in crate::sequence) const fn refuses(&self, arrived: &Arrived) -> bool {
        let is_news = arrived.seq > self.highest && !arrived.is_repaired;
        self.is_superseded && self.end.is_none() && is_news
    }

    /// Something came after the end that was announced: one of the two is not by the source.
    #[inline]
    pub(super) fn go_on(&mut self) {
        if let Some(end) = self.end.take() {
            self.is_end_told = false;
            self.counts_mut().doubted_end = Some(end);
        }
    }

    /// The run is not over after all.
    pub(in crate::sequence) fn come_back(&mut self, around: &mut Surroundings<'_, M>) {
        self.is_superseded = false;
        self.want_proof(around);
    }

    pub(in crate::sequence) const fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// The source itself has answered. Returns true when it had not before.
    pub(in crate::sequence) fn prove(&mut self) -> bool {
        if core::mem::replace(&mut self.is_proven, true) {
            return false;
        }
        if core::mem::take(&mut self.wants_proof) && !self.is_joining() {
            self.forget_question(false);
        }
        true
    }

    /// Another run speaks in the name of the source: asks whether this one is the source.
    pub(in crate::sequence) fn want_proof(&mut self, around: &Surroundings<'_, M>) {
        if !self.is_proven && can_ask(around) {
            self.wants_proof = true;
            self.question_by(around.now);
        }
    }

    /// The source is to be heard of.
    pub(in crate::sequence) fn want_sign(&mut self, now: Duration) {
        self.question_by(now);
    }

    /// Whether it was asked for a heartbeat, and has not answered in time.
    pub(in crate::sequence) fn gives_no_sign(&self, now: Duration) -> bool {
        let asked = self.question().map(|question| question.since);
        asked.is_some_and(|since| now >= since.saturating_add(PROOF_TIME))
    }

    /// A heartbeat came, as an answer or by itself.
    pub(super) fn note_proof(&mut self, around: &Surroundings<'_, M>, is_answer: bool) {
        if is_answer || self.delivered > 0 && !can_ask(around) {
            self.prove();
        } else if self.wants_proof {
            self.want_proof(around);
        }
    }

    /// Whether a run with a lower epoch, first heard at `since`, must be silent. Where heartbeats may
    /// not be heard (`is_asked`) silence means nothing before a question has had no answer.
    pub(in crate::sequence) fn holds(
        &self,
        now: Duration,
        since: Duration,
        is_asked: bool,
    ) -> bool {
        let is_quiet = self.is_quiet(now, is_asked) && (!is_asked || self.gives_no_sign(now));
        let is_idle_claim = !self.is_proven && now >= since.saturating_add(PROOF_TIME);
        !self.is_superseded && !is_quiet && !is_idle_claim
    }

    /// Whether it has been silent for so long that another run may take the place.
    pub(in crate::sequence) fn is_quiet(&self, now: Duration, is_asked: bool) -> bool {
        let promise = self.next.map_or(PROMISE, |next| next.get());
        let promise = if is_asked { Duration::ZERO } else { promise };
        let quiet_time = promise.saturating_mul(QUIET_PROMISES);
        let quiet_time = quiet_time.clamp(QUIET_TIME_MIN, QUIET_TIME_MAX);
        now >= self.heard().saturating_add(quiet_time)
    }
}

/// Whether anything is asked of the source.
pub(super) const fn can_ask<M>(around: &Surroundings<'_, M>) -> bool {
    !matches!(around.options.delivery, Delivery::DetectOnly) && !around.options.is_shared
}
