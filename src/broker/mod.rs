//! An embedded NATS server for demonstrations, tests and fault injection.
//!
//! ```text
//!   socket --> Dialogue (one client's grammar and rights) --> Hub --> Routes (who subscribes)
//!                                                              |
//!   socket <-- Outbound (bounded, with faults) <---------------+
//! ```
//!
//! It answers as nats-server does for everything on the client protocol, as the version that
//! [`BrokerOptions::version`] names. It keeps nothing on
//! disk and knows no other servers: for those there is nats-server.

mod dialogue;
mod faults;
mod hub;
mod options;
mod outbound;
mod routes;
mod server;

pub use crate::secret::Secret;
pub use faults::{Direction, FaultPlan, FaultRule, FaultStatistics};
pub use options::{BrokerOptions, Credentials, ServerVersion, ServerVersionError};
pub use server::{Broker, BrokerStatistics};
