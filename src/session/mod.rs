//! One client's conversation with NATS, across connections. Opens no socket and reads no clock.
//!
//! ```text
//!   pause -> dial -> handshake -> serving --- lost ---> pause -> ...
//!                                    |
//!                                    +--- lame duck ---> dial -> handshake -> both serve -> serving
//! ```
//!
//! Every dial begins a link with a number of its own, which actions and inputs carry.
//!
//! The owner carries out what [`Session::poll_action`] asks for and reports back with the
//! `handle_*` methods; [`Outbox`] holds what is to be written. Time is the duration since an
//! origin of the owner's choice.

mod action;
mod auth;
mod event;
mod frames;
mod handshake;
mod keepalive;
mod machine;
mod moving;
mod options;
mod outbox;
mod pool;
mod redial;
mod refusal;
mod server_addr;
mod sifting;
mod slots;
mod subscriptions;
mod tls_error;
mod write_batch;

pub use crate::secret::{Secret, SecretBytes};
pub use action::Action;
pub use auth::{
    Auth, CREDS_BYTES_MAX, Credentials, CredentialsError, CredsError, KeyKind, KeyPair, NKeyError,
};
pub use event::{DrainStage, Event, LinkError, Moved};
pub use keepalive::KeepaliveOptions;
pub use machine::{Heard, Session};
pub use options::{Callback, RedialDelay, SelectServer, SessionOptions};
pub use outbox::{Outbox, OutboxError, OutboxLimits, SHARED_PAYLOAD_BYTES_MIN};
pub use redial::RedialOptions;
pub(crate) use refusal::Refused;
pub use refusal::{Refusal, RefusalKind};
pub use server_addr::{DEFAULT_PORT, ServerAddr, ServerAddrError, UrlCredentials};
pub(crate) use slots::Slots;
pub use subscriptions::Route;
pub use tls_error::TlsError;
pub use write_batch::WriteBatch;
