//! Who holds a name: asking, claiming, and giving way.
//!
//! ```text
//!   Asking --nobody answers--> Announcing ----------------> Held
//!      |                          ^   |
//!      +--an owner answers--------+   +--a higher claim--> Announcing, higher
//!         (Refuse: InUse)                                  (Refuse: InUse)
//! ```
//!
//! Nobody coordinates: of two claims the one with the higher epoch wins, and of equal epochs the
//! one with the higher nonce. A network that is parted can have a holder on either side; when it is
//! whole again, the first word between them decides.

use core::time::Duration;

use super::NUMBER_MAX;
use super::defect::Defect;
use super::heartbeat::Prior;

/// How long an owner may take to answer.
const ANSWER_TIME: Duration = Duration::from_millis(250);

/// A claimant goes beyond another's epoch by up to so much: two that go beyond the same one must not
/// meet at the next, for receivers take runs with one epoch for one.
const RAISE_MAX: u64 = 1 << 16;

/// How often a claimant raises its epoch before it gives up.
const RAISES_MAX: u32 = 8;

/// What happens when somebody holds the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum NamePolicy {
    /// The holder gives way: its messages are refused from then on, its repairs go on for the
    /// linger.
    #[default]
    Takeover,
    /// The claim fails.
    Refuse,
}

/// What a notice about a name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoticeKind {
    /// Who holds the name?
    Ask,
    /// I hold it from now on.
    Claim,
    /// I hold it: the answer to a question, and to a claim that is too low.
    Owner,
    /// I have given way: the answer to a claim.
    Fenced,
}

/// What is said about a name, on its subject or in answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a notice has no further parts")]
pub struct NameNotice {
    /// What it says.
    pub kind: NoticeKind,
    /// The run of whoever says it.
    pub epoch: u64,
    /// Random bits of that run: they decide between equal epochs, and tell a notice of one's own.
    pub nonce: u64,
    /// The last number of a run that has given way; otherwise 0.
    pub lead: u64,
}

impl NameNotice {
    const fn rank(&self) -> (u64, u64) {
        (self.epoch, self.nonce)
    }
}

/// How a claim ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClaimOutcome {
    /// The name is held.
    Held {
        /// The epoch to begin with.
        epoch: u64,
        /// The run that gave way, if one did.
        prior: Option<Prior>,
    },
    /// Another run holds it and does not give way.
    InUse {
        /// That run.
        epoch: u64,
    },
}

/// Claims a name.
///
/// Publish what [`Claim::poll_notice`] gives to the name's subject, with a reply subject of your
/// own, and hear that subject yourself before the first [`NoticeKind::Claim`] goes out: then of two
/// that claim at the same time at least one hears the other.
#[derive(Debug, Clone)]
pub struct Claim {
    policy: NamePolicy,
    epoch: u64,
    nonce: u64,
    phase: Phase,
    due: Duration,
    unsent: Option<NoticeKind>,
    /// The highest run that said it was the holder.
    owner: Option<u64>,
    prior: Option<Prior>,
    raises: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Asking,
    Announcing,
    Over(ClaimOutcome),
}

impl Claim {
    /// Begins to claim a name for a run with this epoch, or a higher one if need be.
    #[must_use]
    pub const fn new(policy: NamePolicy, epoch: u64, nonce: u64, now: Duration) -> Self {
        Self {
            policy,
            epoch,
            nonce,
            phase: Phase::Asking,
            due: now.saturating_add(ANSWER_TIME),
            unsent: Some(NoticeKind::Ask),
            owner: None,
            prior: None,
            raises: 0,
        }
    }

    /// The server says that nobody hears the name's subject.
    pub fn handle_no_responders(&mut self, now: Duration) {
        if self.phase == Phase::Asking {
            self.announce(now);
        }
    }

    /// Takes a notice: an answer, or what another said on the name's subject.
    pub fn handle_notice(&mut self, now: Duration, notice: &NameNotice) {
        if notice.nonce == self.nonce || matches!(self.phase, Phase::Over(_)) {
            return;
        }
        match notice.kind {
            // Whoever asks hears the claim, too.
            NoticeKind::Ask => {}
            NoticeKind::Owner | NoticeKind::Claim => {
                let is_higher = notice.rank() > (self.epoch, self.nonce);
                if is_higher || self.phase == Phase::Asking {
                    self.give_way_or_raise(now, notice.epoch);
                } else {
                    self.unsent = Some(NoticeKind::Claim);
                }
            }
            NoticeKind::Fenced => {
                if self.phase == Phase::Announcing && notice.epoch >= self.epoch {
                    return;
                }
                let known = self.prior.map_or(0, |prior| prior.epoch);
                if notice.epoch > known {
                    let (epoch, lead) = (notice.epoch, notice.lead);
                    self.prior = Some(Prior { epoch, lead });
                }
                if self.phase == Phase::Asking {
                    // It has ended already, perhaps with a clock that was ahead. Another that lives
                    // may still answer.
                    self.go_beyond(notice.epoch);
                } else if self.owner.is_none_or(|owner| notice.epoch >= owner) {
                    self.due = now;
                    self.handle_timeout(now);
                }
            }
        }
    }

    /// A moment that [`Claim::poll_timeout`] named has come.
    pub fn handle_timeout(&mut self, now: Duration) {
        if now < self.due || self.unsent.is_some() {
            return;
        }
        match self.phase {
            Phase::Asking => self.announce(now),
            Phase::Announcing => {
                self.phase = Phase::Over(ClaimOutcome::Held {
                    epoch: self.epoch,
                    prior: self.prior,
                });
            }
            Phase::Over(_) => {}
        }
    }

    /// What to publish to the name's subject now.
    #[must_use]
    pub fn poll_notice(&mut self) -> Option<NameNotice> {
        let kind = self.unsent.take()?;
        Some(NameNotice {
            kind,
            epoch: self.epoch,
            nonce: self.nonce,
            lead: 0,
        })
    }

    /// When to call [`Claim::handle_timeout`]; `None` once the claim is over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        (!matches!(self.phase, Phase::Over(_))).then_some(self.due)
    }

    /// How the claim ended; `None` while it has not.
    #[must_use]
    pub const fn outcome(&self) -> Option<ClaimOutcome> {
        match self.phase {
            Phase::Over(outcome) => Some(outcome),
            Phase::Asking | Phase::Announcing => None,
        }
    }

    /// Nobody answered: the name is held as soon as that is said.
    fn announce(&mut self, now: Duration) {
        self.phase = Phase::Announcing;
        self.unsent = Some(NoticeKind::Claim);
        self.due = now;
    }

    /// Takes a higher epoch than another has.
    fn go_beyond(&mut self, other: u64) {
        if self.epoch <= other {
            let more = self.nonce.checked_rem(RAISE_MAX).unwrap_or_default();
            let epoch = other.saturating_add(1).saturating_add(more);
            self.epoch = epoch.min(NUMBER_MAX);
        }
    }

    fn give_way_or_raise(&mut self, now: Duration, owner: u64) {
        let is_over =
            self.policy == NamePolicy::Refuse || self.raises >= RAISES_MAX || owner >= NUMBER_MAX;
        if is_over {
            self.unsent = None;
            self.phase = Phase::Over(ClaimOutcome::InUse { epoch: owner });
            return;
        }
        self.raises = self.raises.saturating_add(1);
        self.owner = self.owner.max(Some(owner));
        self.go_beyond(owner);
        self.phase = Phase::Announcing;
        self.unsent = Some(NoticeKind::Claim);
        self.due = now.saturating_add(ANSWER_TIME);
    }
}

/// Holds a name against others that claim it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holder {
    epoch: u64,
    nonce: u64,
}

/// What a holder does about a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaction {
    Nothing,
    /// Answers with this.
    Answer(NoticeKind),
    /// Answers that it is the owner, and says so on the name's subject: the other may listen there
    /// alone by now.
    Insist,
    /// Gives way to that run, and says so.
    GiveWay {
        by: u64,
    },
}

impl Holder {
    pub(super) const fn new(epoch: u64, nonce: u64) -> Self {
        Self { epoch, nonce }
    }

    pub(super) fn handle_notice(&self, notice: &NameNotice, is_closed: bool) -> Reaction {
        if notice.nonce == self.nonce {
            return Reaction::Nothing;
        }
        match notice.kind {
            NoticeKind::Ask | NoticeKind::Claim if is_closed => {
                Reaction::Answer(NoticeKind::Fenced)
            }
            NoticeKind::Ask => Reaction::Answer(NoticeKind::Owner),
            NoticeKind::Claim if self.is_below(notice) => Reaction::GiveWay { by: notice.epoch },
            NoticeKind::Claim => Reaction::Insist,
            NoticeKind::Owner | NoticeKind::Fenced => Reaction::Nothing,
        }
    }

    fn is_below(&self, notice: &NameNotice) -> bool {
        let is_tie = notice.epoch == self.epoch;
        let is_wrong = Defect::NoFence.is_planted() || is_tie && Defect::TieBothWin.is_planted();
        notice.rank() > (self.epoch, self.nonce) && !is_wrong
    }

    pub(super) const fn claim(&self) -> NameNotice {
        NameNotice {
            kind: NoticeKind::Claim,
            epoch: self.epoch,
            nonce: self.nonce,
            lead: 0,
        }
    }
}

#[cfg(feature = "json")]
mod json {
    //! The JSON form: `{"v":1,"k":"claim","epoch":7,"nonce":"00000000000000ff"}`.

    use serde::{Deserialize, Serialize};

    use super::{NUMBER_MAX, NameNotice, NoticeKind};

    /// A longer body is refused before it is looked at.
    const BODY_BYTES_MAX: usize = 1_024;

    /// The version of the body that is written and read.
    const VERSION: u64 = 1;

    #[derive(Serialize, Deserialize)]
    struct Body {
        v: u64,
        k: Kind,
        epoch: u64,
        nonce: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lead: Option<u64>,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Ask,
        Claim,
        Owner,
        Fenced,
    }

    impl NameNotice {
        /// Reads a body; `None` for anything that no source sends. Unknown fields are ignored.
        #[must_use]
        pub fn parse(body: &[u8]) -> Option<Self> {
            if body.len() > BODY_BYTES_MAX {
                return None;
            }
            let body: Body = serde_json::from_slice(body).ok()?;
            let lead = body.lead.unwrap_or_default();
            let is_known = body.v == VERSION && (1..=NUMBER_MAX).contains(&body.epoch);
            let is_nonce = body.nonce.len() == 16;
            if !is_known || !is_nonce || lead > NUMBER_MAX {
                return None;
            }
            Some(Self {
                kind: match body.k {
                    Kind::Ask => NoticeKind::Ask,
                    Kind::Claim => NoticeKind::Claim,
                    Kind::Owner => NoticeKind::Owner,
                    Kind::Fenced => NoticeKind::Fenced,
                },
                epoch: body.epoch,
                nonce: u64::from_str_radix(&body.nonce, 16).ok()?,
                lead,
            })
        }

        /// The JSON body.
        #[must_use]
        pub fn to_json(&self) -> Vec<u8> {
            let body = Body {
                v: VERSION,
                k: match self.kind {
                    NoticeKind::Ask => Kind::Ask,
                    NoticeKind::Claim => Kind::Claim,
                    NoticeKind::Owner => Kind::Owner,
                    NoticeKind::Fenced => Kind::Fenced,
                },
                epoch: self.epoch,
                nonce: format!("{:016x}", self.nonce),
                lead: (self.kind == NoticeKind::Fenced).then_some(self.lead),
            };
            // Plain data always has a JSON form.
            serde_json::to_vec(&body).unwrap_or_default()
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_notice_is_read_back_and_anything_else_is_none() {
            for kind in [
                NoticeKind::Ask,
                NoticeKind::Claim,
                NoticeKind::Owner,
                NoticeKind::Fenced,
            ] {
                let lead = if kind == NoticeKind::Fenced { 9 } else { 0 };
                let notice = NameNotice {
                    kind,
                    epoch: 7,
                    nonce: 255,
                    lead,
                };
                assert_eq!(NameNotice::parse(&notice.to_json()), Some(notice));
            }
            let claim = br#"{"v":1,"k":"claim","epoch":7,"nonce":"00000000000000ff","x":[]}"#;
            assert!(NameNotice::parse(claim).is_some());
            let bad: [&[u8]; 5] = [
                b"?",
                br#"{"v":2,"k":"claim","epoch":7,"nonce":"00000000000000ff"}"#,
                br#"{"v":1,"k":"claim","epoch":0,"nonce":"00000000000000ff"}"#,
                br#"{"v":1,"k":"claim","epoch":9007199254740992,"nonce":"00000000000000ff"}"#,
                br#"{"v":1,"k":"claim","epoch":7,"nonce":"ff"}"#,
            ];
            for body in bad {
                assert_eq!(NameNotice::parse(body), None, "{}", body.escape_ascii());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn claim(policy: NamePolicy, epoch: u64) -> Claim {
        let mut claim = Claim::new(policy, epoch, epoch, Duration::ZERO);
        let ask = claim.poll_notice().unwrap();
        assert_eq!((ask.kind, ask.epoch), (NoticeKind::Ask, epoch));
        claim
    }

    fn held(epoch: u64, prior: Option<Prior>) -> Option<ClaimOutcome> {
        Some(ClaimOutcome::Held { epoch, prior })
    }

    fn says(holder: Holder, kind: NoticeKind) -> NameNotice {
        NameNotice {
            kind,
            ..holder.claim()
        }
    }

    /// Brings everything that the claim says to the holder, and its answers back.
    fn talk(claim: &mut Claim, holder: Holder, now: Duration) -> Option<u64> {
        let mut fenced_by = None;
        while let Some(notice) = claim.poll_notice() {
            match holder.handle_notice(&notice, fenced_by.is_some()) {
                Reaction::Nothing => {}
                Reaction::Answer(kind) => claim.handle_notice(now, &says(holder, kind)),
                Reaction::Insist => claim.handle_notice(now, &says(holder, NoticeKind::Owner)),
                Reaction::GiveWay { by } => {
                    fenced_by = Some(by);
                    let lead = 40;
                    let answer = says(holder, NoticeKind::Fenced);
                    claim.handle_notice(now, &NameNotice { lead, ..answer });
                }
            }
        }
        fenced_by
    }

    #[test]
    fn a_name_that_nobody_holds_is_held_once_that_is_said() {
        let mut told = claim(NamePolicy::Refuse, 5);
        told.handle_no_responders(MILLI);
        told.handle_timeout(MILLI);
        assert_eq!(told.outcome(), None, "the claim was not published yet");
        assert_eq!(told.poll_notice().unwrap().kind, NoticeKind::Claim);
        told.handle_timeout(MILLI);
        assert_eq!(told.outcome(), held(5, None));

        let mut silent = claim(NamePolicy::Refuse, 5);
        silent.handle_timeout(MILLI * 249);
        assert_eq!(silent.poll_notice(), None);
        silent.handle_timeout(silent.poll_timeout().unwrap());
        assert_eq!(silent.poll_notice().unwrap().kind, NoticeKind::Claim);
        silent.handle_timeout(MILLI * 250);
        assert_eq!(
            (silent.outcome(), silent.poll_timeout()),
            (held(5, None), None)
        );
    }

    #[test]
    fn a_holder_keeps_its_name_against_one_that_does_not_take_it_over() {
        let mut claim = Claim::new(NamePolicy::Refuse, 9, 9, Duration::ZERO);
        let holder = Holder::new(5, 5);
        assert_eq!(talk(&mut claim, holder, MILLI), None);
        assert_eq!(claim.outcome(), Some(ClaimOutcome::InUse { epoch: 5 }));
    }

    #[test]
    fn a_holder_gives_way_and_says_where_it_ended_even_when_its_clock_was_ahead() {
        for (epoch, expected) in [(9, 9), (3, 6 + 9)] {
            let mut claim = Claim::new(NamePolicy::Takeover, epoch, 9, Duration::ZERO);
            let holder = Holder::new(5, 5);
            let by = talk(&mut claim, holder, MILLI);
            assert_eq!(by, Some(expected));
            let prior = Prior { epoch: 5, lead: 40 };
            assert_eq!(claim.outcome(), held(expected, Some(prior)));
        }
    }

    #[test]
    fn an_owner_that_does_not_answer_the_claim_delays_it_by_the_answer_time() {
        let mut claim = claim(NamePolicy::Takeover, 9);
        claim.handle_notice(MILLI, &says(Holder::new(5, 5), NoticeKind::Owner));
        assert_eq!(claim.poll_notice().unwrap().kind, NoticeKind::Claim);
        claim.handle_timeout(MILLI * 250);
        assert_eq!(claim.outcome(), None);
        claim.handle_timeout(MILLI * 251);
        assert_eq!(claim.outcome(), held(9, None));
    }

    #[test]
    fn of_two_that_claim_at_the_same_time_one_is_left() {
        // Equal epochs, both told that nobody is there; the second hears only what is said after
        // it began to listen.
        for (first, second) in [(1, 2), (2, 1)] {
            let run = |nonce| {
                let mut claim = Claim::new(NamePolicy::Takeover, 7, nonce, Duration::ZERO);
                let _ = claim.poll_notice();
                claim.handle_no_responders(MILLI);
                let said = claim.poll_notice().unwrap();
                claim.handle_timeout(MILLI);
                assert_eq!(claim.outcome(), held(7, None));
                (Holder::new(7, nonce), said)
            };
            let (early, _) = run(first);
            let (late, said) = run(second);
            match early.handle_notice(&said, false) {
                Reaction::GiveWay { by } => assert!(by == 7 && second > first),
                Reaction::Insist => {
                    assert!(first > second);
                    let reaction = late.handle_notice(&early.claim(), false);
                    assert_eq!(reaction, Reaction::GiveWay { by: 7 });
                }
                reaction @ (Reaction::Nothing | Reaction::Answer(_)) => {
                    panic!("{first} about {second}: {reaction:?}")
                }
            }
        }
    }

    #[test]
    fn a_run_that_has_ended_says_where() {
        let mut claim = claim(NamePolicy::Refuse, 9);
        let lead = 40;
        let ended = says(Holder::new(20, 5), NoticeKind::Fenced);
        claim.handle_notice(MILLI, &NameNotice { lead, ..ended });
        assert_eq!(claim.poll_notice(), None, "another may live");
        claim.handle_timeout(MILLI * 250);
        assert_eq!(claim.poll_notice().unwrap().kind, NoticeKind::Claim);
        claim.handle_timeout(MILLI * 250);
        let prior = Prior { epoch: 20, lead };
        assert_eq!(claim.outcome(), held(21 + 9, Some(prior)));
    }

    #[test]
    fn a_claim_answers_a_lower_one_and_is_raised_by_a_higher_one_a_few_times() {
        let mut claim = claim(NamePolicy::Takeover, 7);
        claim.handle_no_responders(MILLI);
        let _ = claim.poll_notice();
        claim.handle_notice(MILLI, &says(Holder::new(6, 1), NoticeKind::Claim));
        assert_eq!(claim.poll_notice().unwrap().epoch, 7);
        for raise in 0..RAISES_MAX {
            let epoch = 100 * u64::from(1 + raise);
            claim.handle_notice(MILLI, &says(Holder::new(epoch, 1), NoticeKind::Owner));
            assert_eq!(claim.poll_notice().unwrap().epoch, epoch + 1 + 7);
        }
        claim.handle_notice(MILLI, &says(Holder::new(900, 1), NoticeKind::Owner));
        assert_eq!(claim.outcome(), Some(ClaimOutcome::InUse { epoch: 900 }));
    }

    #[test]
    fn a_holder_with_the_last_epoch_cannot_be_followed() {
        let mut claim = claim(NamePolicy::Takeover, 7);
        let last = says(Holder::new(NUMBER_MAX, 1), NoticeKind::Owner);
        claim.handle_notice(MILLI, &last);
        let outcome = ClaimOutcome::InUse { epoch: NUMBER_MAX };
        assert_eq!(claim.outcome(), Some(outcome));
    }
}
