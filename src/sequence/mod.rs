//! Numbers on messages: gaps, heartbeats and repair. No sockets, no clock, no randomness.
//!
//! ```text
//!   Sender   --- data, stamped `Seq: source.epoch.seq` ---> Receiver
//!            --- heartbeats: the last number sent --------> reveals a lost tail
//!            <-- repair requests: `1017-1019,1025` -------- asks by number
//!            --- repairs, and an end that says what is gone
//! ```
//!
//! A **source** is one numbered line of messages: a name, an epoch (one run of the sender), and
//! numbers from 1. [`Sender`] stamps, retains and repairs; [`Receiver`] gives every number that it
//! is owed exactly one outcome: delivered once, or reported lost once, with range and reason.
//!
//! Time is the duration since an origin of the caller's choice. The same inputs and the same seed
//! give the same outputs.

mod archive;
mod bare;
mod budget;
mod carrier;
mod chunk;
mod claim;
mod control;
mod coverage;
mod defect;
mod error;
mod event;
mod fold;
mod gaps;
mod heartbeat;
mod line;
mod nanos;
mod options;
mod ranges;
mod receiver;
mod recent;
mod repair;
mod retention;
mod rhythm;
mod sender;
mod short;
mod source;
mod stamp;
mod statistics;
#[cfg(test)]
mod story;
mod subjects;
mod table;

pub use archive::{ArchiveIndex, Stored};
pub use bare::{BareChecker, BareStatistics, BareVerdict};
pub use budget::{Bucket, Rate, RepairLimits};
#[cfg(feature = "jetstream")]
pub(crate) use budget::{Budget, Verdict};
pub use carrier::{Carried, Carrier, Dressed, Wardrobe, wrap, wrapped_len};
pub use claim::{Claim, ClaimOutcome, NameNotice, NamePolicy, NoticeKind};
pub use control::{ControlSubjects, DEFAULT_PREFIX, check_scope};
pub use coverage::Coverage;
#[cfg(feature = "defects")]
#[doc(hidden)]
pub use defect::Defect;
pub use error::SendError;
pub use event::{Cause, Event, Lacking, LossReason, Origin};
#[cfg(feature = "json")]
pub use heartbeat::HeartbeatError;
pub use heartbeat::{Heartbeat, HeartbeatKind, Prior};
pub use line::Start;
pub use options::{Delivery, ReceiverOptions, Weight};
pub use ranges::{RangeError, Ranges};
pub use receiver::{Receiver, Request, RequestKind};
pub use repair::{
    REPLY_TO, RepairEnd, RepairEndError, SEQ_GONE, SEQ_MORE, SEQ_RETRY, SEQ_SUBJECT, SEQ_TRAIL,
};
pub use retention::{RetentionLimits, RetentionOverflow};
pub use rhythm::HeartbeatOptions;
pub use sender::{
    Allowance, Outgoing, Reply, ReplyBody, ReplyStatus, Sender, SenderOptions, SenderStatistics,
};
#[cfg(feature = "jetstream")]
pub(crate) use sender::{read_request, requester_of};
pub use source::{SourceName, SourceNameError};
pub use stamp::{STAMP_HEADER, Stamp};
pub use statistics::LineStatistics;

/// The largest epoch and the largest number: exact in JSON and JavaScript.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;
