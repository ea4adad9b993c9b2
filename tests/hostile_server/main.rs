//! A server that lies, floods, breaks off and talks nonsense, and the client that outlives it.
//!
//! The server is a script on a loopback socket. Whatever it says, the client ends the connection with a typed reason and
//! has a working one again with the next dial, or goes on as if nothing had been said. [`Rig`] proves either.
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

mod floods;
mod greetings;
mod links;
mod messages;
mod refusals;
mod script;
mod sizes;
mod streams;

use script::Rig;
