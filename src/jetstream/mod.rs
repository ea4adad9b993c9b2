//! JetStream deliveries: what their reply subjects say, and whether any is missing; and an archive for
//! sequenced messages.
//!
//! ```text
//!   Message --> AckSubject --> ConsumerLine --> Finding
//! ```
//!
//! [`AckSubject`] reads a delivery's numbers, [`ConsumerLine`] holds them against the ones before.
//! Neither asks a server anything. [`Archive`] repairs from a stream what sources no longer have.

mod ack_subject;
mod archive;
mod archive_answers;
mod consumer_line;

pub use ack_subject::{AckSubject, AckSubjectError};
pub use archive::{Archive, ArchiveError, ArchiveOptions, ArchiveStatistics};
pub use consumer_line::{ConsumerLine, Finding};
