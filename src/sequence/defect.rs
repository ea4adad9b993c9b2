//! Mistakes to plant, so that the tests can show that they would notice them.
//!
//! Without the feature `defects` nothing can be planted, and nothing of this is in the code.

/// A mistake that could have been made.
#[cfg_attr(
    not(feature = "defects"),
    expect(unreachable_pub, reason = "only tests name it, with the feature")
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Defect {
    /// What may only be late is not waited for.
    NoGrace,
    /// A gap is given up after three requests in vain.
    AttemptLimit,
    /// A request that was lost is not repeated.
    NoRetry,
    /// A heartbeat names a number that is not written yet.
    HeartbeatBeforeData,
    /// A message that is refused takes a number.
    NumberForRefused,
    /// What is retained is said to be gone.
    RetainedIsGone,
    /// What a later run tells of the run before is not heard.
    NoPrior,
    /// A run is owed from 1 whoever listens since when.
    BaseOne,
    /// The beginning of a run that nobody heard of is not owed.
    NoProof,
    /// A later run's numbers are taken for the earlier one's.
    OneEpoch,
    /// A repair is delivered though its message was.
    DoubleRepair,
    /// A number that was won back stays missing.
    KeptGap,
    /// An outage counts as time in which nothing was won back.
    AgingOutage,
    /// A heartbeat's number is not compared with ours.
    DeafToTails,
    /// What was held is delivered before what is missing.
    EarlyRelease,
    /// The end is told before everything is decided.
    EarlyEnd,
    /// Gaps have no bound.
    NoGapBound,
    /// What waits for the order has no bound.
    NoHoldBound,
    /// What is retained has no bound.
    NoRetentionBound,
    /// A member of a queue group claims what others got.
    GroupClaims,
    /// A filtered subscription claims what it did not ask for.
    FilterClaims,
    /// A receiver that only detects asks.
    DetectorAsks,
    /// What a message names as the one before it on its subject is not heard.
    NoChain,
    /// What is won back by a chain is not followed further.
    ShortChain,
    /// A message names none before it on its subject.
    BrokenChain,
    /// An earlier run begins beside a later one.
    Reopened,
    /// Of two claims with one epoch neither gives way.
    TieBothWin,
    /// Who holds a name keeps it against every claim.
    NoFence,
    /// A requester gets as much as it wants.
    NoRequesterBudget,
    /// A source sends again as much as is wanted.
    NoSourceBudget,
    /// All sources together send again as much as they may each.
    NoClientBudget,
    /// An answer goes wherever a request says.
    AnyReply,
    /// "Slow down" is taken for "not retained".
    SlowDownIsGone,
    /// The source does not say what it no longer has.
    NoTrail,
    /// An archive is not asked.
    NoArchive,
    /// Messages are numbered in one order and written in another.
    #[cfg(feature = "defects")]
    OutsideTheLock,
}

#[cfg(feature = "defects")]
mod planted {
    use std::cell::Cell;

    use super::Defect;

    impl Defect {
        /// Every one.
        pub const ALL: &[Self] = &[
            Self::NoGrace,
            Self::AttemptLimit,
            Self::NoRetry,
            Self::HeartbeatBeforeData,
            Self::NumberForRefused,
            Self::RetainedIsGone,
            Self::NoPrior,
            Self::BaseOne,
            Self::NoProof,
            Self::OneEpoch,
            Self::DoubleRepair,
            Self::KeptGap,
            Self::AgingOutage,
            Self::DeafToTails,
            Self::EarlyRelease,
            Self::EarlyEnd,
            Self::NoGapBound,
            Self::NoHoldBound,
            Self::NoRetentionBound,
            Self::GroupClaims,
            Self::FilterClaims,
            Self::DetectorAsks,
            Self::NoChain,
            Self::ShortChain,
            Self::BrokenChain,
            Self::Reopened,
            Self::TieBothWin,
            Self::NoFence,
            Self::NoRequesterBudget,
            Self::NoSourceBudget,
            Self::NoClientBudget,
            Self::AnyReply,
            Self::SlowDownIsGone,
            Self::NoTrail,
            Self::NoArchive,
            Self::OutsideTheLock,
        ];

        /// Plants it in everything that this thread runs; `None` takes it out.
        pub fn plant(defect: Option<Self>) {
            PLANTED.set(defect);
        }

        /// Whether this thread runs with it.
        #[must_use]
        pub fn is_planted(self) -> bool {
            PLANTED.get() == Some(self)
        }
    }

    thread_local! {
        static PLANTED: Cell<Option<Defect>> = const { Cell::new(None) };
    }
}

#[cfg(not(feature = "defects"))]
impl Defect {
    #[inline]
    pub(super) const fn is_planted(self) -> bool {
        false
    }
}
