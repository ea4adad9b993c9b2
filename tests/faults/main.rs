//! What goes wrong between a client and its server, each fault by its name, and what the client makes of it.
//!
//! Servers are real; between them and the client stands the [chaos proxy](support::proxy).
#![doc = include_str!("README.md")]
#![cfg(feature = "client")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic"
)]

#[path = "../support/scenarios.rs"]
mod scenarios;
#[path = "../support/mod.rs"]
mod support;

mod catalogue;
mod connection;
mod handshake;
mod many;
mod outage;
mod processes;
mod returning;
mod rig;
mod slow;
