//! Sequenced delivery over real servers that lose, stop, die and share: each number has one outcome.
#![cfg(feature = "client")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::wildcard_enum_match_arm,
    clippy::cast_precision_loss,
    reason = "test code: a surprise here fails the test"
)]

#[path = "../support/mod.rs"]
mod support;

mod account;
#[cfg(feature = "jetstream")]
mod archive;
#[cfg(all(feature = "jetstream", feature = "broker"))]
mod archive_doubts;
mod limits;
mod loss;
mod names;
mod outages;
mod permissions;
#[cfg(feature = "jetstream")]
mod permissions_of_names;
mod publishing;
mod second;
mod sharing;
mod slow;
mod starts;
