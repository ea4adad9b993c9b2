//! The rules of the protocol, one test each, typed into real servers and into the embedded broker.
//!
//! Each has a heading in `protocol-notes.md`. What a server of one version does otherwise is said
//! where it is asked.
#![cfg(feature = "broker")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic"
)]

mod client_ops;
mod conversation;
mod limits;
mod reading;
mod server_ops;
mod streams;
#[path = "../support/mod.rs"]
mod support;
