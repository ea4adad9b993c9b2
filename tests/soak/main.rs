//! The soaks: what takes too long for every run, each with the figures that it must reach.
//!
//! `tests/run --soak` runs them one after the other, optimised, each in a process of its own, and shows a table.
//! `tests/run --soak NAME` runs those whose name contains `NAME`.
#![cfg(all(feature = "client", target_os = "linux"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test may panic, and these measure and show a table"
)]

#[path = "../support/scenarios.rs"]
mod scenarios;
#[path = "../support/mod.rs"]
mod support;

mod amounts;
mod failover;
mod figures;
mod half_open;
mod leaks;
mod sequencing;
