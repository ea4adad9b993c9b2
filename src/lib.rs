//! The NATS client protocol with sequence numbers.

#[cfg(feature = "broker")]
pub mod broker;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
mod decimal;
#[cfg(feature = "jetstream")]
pub mod jetstream;
pub mod jitter;
#[cfg(any(feature = "client", feature = "broker"))]
mod secret;
pub mod sequence;
#[cfg(feature = "client")]
pub mod session;
pub mod subject;
pub mod wire;

#[cfg(feature = "client")]
pub use client::{Client, ConnectOptions, Error, connect};

#[doc = include_str!("../protocol-notes.md")]
pub mod protocol_notes {}

#[cfg(feature = "client")]
#[doc = include_str!("sequencing.md")]
pub mod sequencing {}

#[cfg(feature = "tls")]
#[doc = include_str!("cookbook.md")]
pub mod cookbook {}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
