//! The NATS client protocol with sequence numbers.

pub mod jitter;
pub mod subject;
pub mod wire;
