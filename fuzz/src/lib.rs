//! The bodies of the fuzz targets: functions of bytes that panic when natseq is wrong.
//!
//! ```text
//!   fuzz_targets/<name>.rs  --(libFuzzer's bytes)-->  <name>::run  <--(corpus, mutations)--  tests/
//! ```
//!
//! Every body holds an oracle: a second, naive answer to the same question, or a property that
//! cannot be true by accident. The same bytes do the same, always.

pub mod ack_subject;
pub mod canary;
pub mod client_bytes;
mod conversation;
pub mod creds;
pub mod differential;
pub mod frame;
pub mod frame_split;
pub mod headers;
mod input;
mod naive;
pub mod parse_client;
pub mod parse_server;
mod reading;
pub mod roundtrip;
pub mod sequence;
pub mod server_addr;
pub mod session;
pub mod subject;

/// A fuzz target: the name of its shim and of its corpus, and its body.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// As in `fuzz_targets/<name>.rs` and `corpus/<name>/`.
    pub name: &'static str,
    /// Panics when something is wrong.
    pub body: fn(&[u8]),
}

/// Every target but the canary, whose body fails on purpose.
pub const TARGETS: &[Target] = &[
    target("ack_subject", ack_subject::run),
    target("client_bytes", client_bytes::run),
    target("creds", creds::run),
    target("differential", differential::run),
    target("frame", frame::run),
    target("frame_split", frame_split::run),
    target("headers", headers::run),
    target("parse_client", parse_client::run),
    target("parse_server", parse_server::run),
    target("roundtrip", roundtrip::run),
    target("sequence", sequence::run),
    target("server_addr", server_addr::run),
    target("session", session::run),
    target("subject", subject::run),
];

const fn target(name: &'static str, body: fn(&[u8])) -> Target {
    Target { name, body }
}
