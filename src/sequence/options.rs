//! How a receiver behaves, and what it needs to know of messages.

use core::time::Duration;

use crate::subject::Filter;

use super::defect::Defect;
use super::line::Start;

/// How messages are delivered and what is done about gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Delivery {
    /// As they arrive; repairs come later than their successors.
    #[default]
    Immediate,
    /// In the order of their numbers, for each run of a source; what comes early is held. Of a
    /// source that the subscription sees only a part of: for each of its subjects.
    Ordered,
    /// As they arrive; nothing is asked for, what is missing is reported lost.
    DetectOnly,
}

/// How a receiver behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ReceiverOptions {
    /// What the subscription receives: a source whose scope lies within it owes us every number.
    pub filter: Filter,
    /// A scope that reaches the subscription whole although its filter does not show it: the
    /// subjects come by another name here, through an import or a mapping. Sources whose scope is
    /// not known are taken to have it, and those that announce a scope within it owe us every
    /// number too. Default none.
    pub assume_scope: Option<Filter>,
    /// How messages are delivered. Default [`Delivery::Immediate`].
    pub delivery: Delivery,
    /// From where on numbers are owed. Default [`Start::Live`].
    pub start: Start,
    /// Whether the subscription shares its messages with others (a queue group): no gaps are
    /// claimed then. Default false.
    pub is_shared: bool,
    /// How long a missing number may be late. Default 0: connections keep order.
    pub grace: Duration,
    /// The same after the path has changed. Default 25 ms.
    pub unsettled_grace: Duration,
    /// How long a number that the source no longer has may be late after the path has changed.
    /// Default 50 ms.
    pub settle_time: Duration,
    /// How long a change of the path matters. Default 2 s.
    pub path_change_time: Duration,
    /// Connected time without any number won back, after which a gap is lost. Default 5 s.
    pub gap_timeout: Duration,
    /// Whether an archive is asked for what a source no longer has, or when it is gone: at its own
    /// subjects, before anything is lost, for as long again as the gap timeout. Without an archive
    /// that serves the source each loss is told later: by half a second where nobody answers for
    /// one, by that time where one answers that has not stored the source. Default false.
    pub archive: bool,
    /// Time after which a source that is not heard is forgotten, unless it has gaps.
    /// Default 10 min.
    pub idle_time: Duration,
    /// Runs of sources in the table; the one heard least recently is evicted, and with it the
    /// earlier runs of its source. Of one source 16 at most: the earliest is evicted, but not the
    /// one that has answered, or that sent the most where none has. Default 65,536.
    pub sources_max: usize,
    /// Gaps of one run; the oldest is reported lost. Default 16,384.
    pub gaps_max: usize,
    /// Gaps of all runs; the oldest of the run that has one more is reported lost. Default 262,144.
    pub gaps_total_max: usize,
    /// Messages of one run held for the order; later ones are asked for again. Default 8,192, what
    /// a source retains by default.
    pub hold_messages_max: usize,
    /// Their bytes. Default 4 MiB.
    pub hold_bytes_max: usize,
    /// Bytes of the messages of all runs held for the order; later ones are asked for again.
    /// Default 64 MiB.
    pub hold_bytes_total_max: usize,
}

impl ReceiverOptions {
    /// The defaults.
    #[must_use]
    pub const fn new(filter: Filter) -> Self {
        Self {
            filter,
            assume_scope: None,
            delivery: Delivery::Immediate,
            start: Start::Live,
            is_shared: false,
            grace: Duration::ZERO,
            unsettled_grace: Duration::from_millis(25),
            settle_time: Duration::from_millis(50),
            path_change_time: Duration::from_secs(2),
            gap_timeout: Duration::from_secs(5),
            archive: false,
            idle_time: Duration::from_secs(600),
            sources_max: 65_536,
            gaps_max: 16_384,
            gaps_total_max: 262_144,
            hold_messages_max: 8_192,
            hold_bytes_max: 4 << 20,
            hold_bytes_total_max: 64 << 20,
        }
    }

    /// Whether anything is asked of anybody.
    pub(super) fn may_ask(&self) -> bool {
        self.delivery != Delivery::DetectOnly
    }

    /// Whether archives are asked.
    pub(super) fn asks_archives(&self) -> bool {
        let is_wanted = self.archive && self.may_ask();
        is_wanted && !Defect::NoArchive.is_planted()
    }

    /// Whether everything within `scope` comes to the subscription.
    pub(super) fn covers(&self, scope: &Filter) -> bool {
        let assumed = self.assume_scope.as_ref();
        scope.is_subset_of(&self.filter) || assumed.is_some_and(|wide| scope.is_subset_of(wide))
    }
}

/// What a receiver needs to know of a message that it carries.
pub trait Weight {
    /// Bytes that the message keeps in memory; they count towards
    /// [`ReceiverOptions::hold_bytes_max`].
    fn weight(&self) -> usize;

    /// What it was published to, also when it came as a repair. Where this is not told, less is
    /// proven of sources that the subscription sees only a part of.
    fn subject(&self) -> &[u8] {
        &[]
    }
}
