//! TLS: what a client trusts, what it refuses, and that nothing secret is ever said in clear.
#![cfg(feature = "tls")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "test code: a surprise here fails the test"
)]

#[path = "../support/mod.rs"]
mod support;

mod battery;
mod mutual;
#[cfg(feature = "cli")]
mod program;
mod rig;
mod rotation;
mod versions;
