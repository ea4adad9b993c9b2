//! What a receiver tells its owner.

use core::fmt;

use super::coverage::Coverage;
use super::source::SourceName;

/// Where a message comes from and how it came.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Origin {
    /// The source.
    pub source: SourceName,
    /// Its run.
    pub epoch: u64,
    /// The message's number.
    pub seq: u64,
    /// Whether it came as a repair.
    pub is_repaired: bool,
    /// Numbers directly before it that were undecided when it was delivered.
    pub gap_before: u64,
}

/// Something that a receiver found out, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<M> {
    /// A message, delivered once.
    Message {
        /// The caller's message.
        message: M,
        /// Where it comes from.
        origin: Origin,
    },
    /// A message without a valid stamp.
    Unsequenced {
        /// The caller's message.
        message: M,
    },
    /// Numbers are missing; they are being asked for, or about to be reported lost.
    Gap {
        /// The source.
        source: SourceName,
        /// Its run.
        epoch: u64,
        /// The first missing number.
        from: u64,
        /// The last missing number.
        to: u64,
        /// What made them go missing.
        cause: Cause,
    },
    /// Numbers are lost for good. No number is reported twice, and none is delivered after.
    Lost {
        /// The source.
        source: SourceName,
        /// Its run.
        epoch: u64,
        /// The first lost number.
        from: u64,
        /// The last lost number.
        to: u64,
        /// Why they were given up.
        reason: LossReason,
        /// What made them go missing.
        cause: Cause,
    },
    /// Numbers that were said to be missing, or that even came, were not sent by the source: asked,
    /// it names a smaller one as its last. Whoever announced or sent them was somebody else. What
    /// was told of them holds no longer: they are the source's next, and each has an outcome then.
    Withdrawn {
        /// The source.
        source: SourceName,
        /// Its run.
        epoch: u64,
        /// The first number.
        from: u64,
        /// The last number.
        to: u64,
    },
    /// A source was heard for the first time, or began a new run.
    EpochStarted {
        /// The source.
        source: SourceName,
        /// Its run.
        epoch: u64,
        /// The run before it, when it was known.
        previous: Option<u64>,
        /// Whether the last number of the run before is known; false after a crash, when numbers
        /// that nobody saw may have been lost.
        is_tail_known: bool,
    },
    /// Not every number of the source is owed to the subscription, or every one is again. Told when
    /// it matters: nothing is told of a source that is covered from its first heartbeat on.
    CoverageChanged {
        /// The source.
        source: SourceName,
        /// Its run.
        epoch: u64,
        /// Which numbers are owed from now on.
        coverage: Coverage,
    },
    /// The server refused something that a subscription can do without: with less proof, or less won
    /// back. Told anew for each connection on which it is refused.
    Degraded {
        /// What is missing.
        lacking: Lacking,
        /// Why, in the server's words.
        reason: String,
    },
    /// The source broke its promise to be heard. Nothing is reported lost for that.
    SourceSilent {
        /// The source.
        source: SourceName,
        /// Its run.
        epoch: u64,
    },
    /// The source said that it has ended, and every number is decided.
    SourceEnded {
        /// The source.
        source: SourceName,
        /// Its run.
        epoch: u64,
        /// Its last number; 0 when it sent none.
        last_seq: u64,
    },
    /// Somebody else sends in the name of the source, with a lower epoch: what is new of that is
    /// dropped. Told at most once in a second for each source.
    Conflict {
        /// The source.
        source: SourceName,
        /// The run that should have ended, the latest if there are more.
        epoch: u64,
        /// Messages and heartbeats of the source that were dropped since this was last told.
        count: u64,
    },
    /// The table of sources is full; this one was forgotten and begins anew when it is heard.
    SourceEvicted {
        /// The source.
        source: SourceName,
        /// Its run.
        epoch: u64,
    },
}

/// What a receiver has to do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Lacking {
    /// Heartbeats: sources that were heard lately are asked for theirs, once in a second, where a
    /// thousand or fewer are heard. A source is noticed only with its first message then, and a
    /// lost end a second later.
    Heartbeats,
    /// Answers: nothing is asked for, and what is missing is reported lost after the gap timeout.
    Answers,
    /// Requests, to some source or archive at least: what is missing there is reported lost after
    /// the gap timeout, unless another of them has it.
    Requests,
}

impl Lacking {
    /// A word for machines: `heartbeats`, `answers`, `requests`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Heartbeats => "heartbeats",
            Self::Answers => "answers",
            Self::Requests => "requests",
        }
    }
}

/// What made numbers go missing, where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum Cause {
    /// Somewhere on the way.
    #[default]
    Unknown,
    /// They came and there was no room for them: see
    /// [`Receiver::handle_dropped`](super::Receiver::handle_dropped), or the hold of the order was
    /// full.
    DroppedHere,
    /// Our connection was gone between the number before them and what showed that they are
    /// missing.
    ConnectionWindow,
    /// The source said that it came back on another connection, and that it had sent them.
    SourceConnection,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 4] = [
        Self::Unknown,
        Self::DroppedHere,
        Self::ConnectionWindow,
        Self::SourceConnection,
    ];

    /// A word for machines: `unknown`, `dropped_here`, `connection_window`, `source_connection`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::DroppedHere => "dropped_here",
            Self::ConnectionWindow => "connection_window",
            Self::SourceConnection => "source_connection",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Unknown => "on the way",
            Self::DroppedHere => "dropped here, for want of room",
            Self::ConnectionWindow => "while the connection was away",
            Self::SourceConnection => "while the connection of the source was away",
        })
    }
}

/// Why numbers are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LossReason {
    /// They are missing, and the receiver only detects.
    Missing,
    /// The source says that it no longer has them.
    NotRetained,
    /// Nobody answers for the source any more.
    SourceGone,
    /// Nothing was won back within the gap timeout.
    Timeout,
    /// There were more gaps than the receiver may hold.
    Overflow,
    /// The receiver was ended before they were won back.
    Closed,
}

impl LossReason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::Missing,
        Self::NotRetained,
        Self::SourceGone,
        Self::Timeout,
        Self::Overflow,
        Self::Closed,
    ];

    /// A word for machines: `missing`, `not_retained`, `source_gone`, `timeout`, `overflow`,
    /// `closed`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::NotRetained => "not_retained",
            Self::SourceGone => "source_gone",
            Self::Timeout => "timeout",
            Self::Overflow => "overflow",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for LossReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Missing => "missing",
            Self::NotRetained => "no longer retained by the source",
            Self::SourceGone => "nobody answers for the source",
            Self::Timeout => "not won back in time",
            Self::Overflow => "more gaps than the receiver may hold",
            Self::Closed => "the receiver was ended before they were won back",
        })
    }
}
