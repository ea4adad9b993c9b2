//! Every way to identify to a server, against every pinned version: it works, a wrong one is told as what it is, what runs
//! out is renewed, and no secret shows.
#![cfg(feature = "client")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic"
)]

#[path = "../support/mod.rs"]
mod support;

mod canaries;
mod issuer;
mod kinds;
mod memory;
mod pools;
mod refusals;
mod renewals;
mod rig;
