//! JetStream deliveries: what their reply subjects say, and whether any is missing.
//!
//! ```text
//!   Message --> AckSubject --> ConsumerLine --> Finding
//! ```
//!
//! [`AckSubject`] reads a delivery's numbers, [`ConsumerLine`] holds them against the ones before.
//! Neither asks a server anything.

mod ack_subject;
mod consumer_line;

pub use ack_subject::{AckSubject, AckSubjectError};
pub use consumer_line::{ConsumerLine, Finding};
