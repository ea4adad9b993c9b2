//! What an embedded server allows and announces.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::secret::Secret;
use crate::wire::Limits;

use super::faults::FaultPlan;

/// How a broker behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BrokerOptions {
    /// The name that INFO announces. Default `natseq`.
    pub server_name: String,
    /// What clients may send. Default [`Limits::CLIENT_OPS`].
    pub limits: Limits,
    /// Who may connect. Default: everybody.
    pub credentials: Option<Credentials>,
    /// How long a client may take for CONNECT when credentials are needed. Default 2 s.
    pub auth_timeout: Duration,
    /// Bytes that may wait for one client before its connection is dropped. Default 64 MiB.
    pub pending_bytes_max: usize,
    /// How long a client may take nothing of what waits for it before its connection is dropped.
    /// Default 10 s.
    pub write_deadline: Duration,
    /// How long a connection that is being closed is still read, so that the client sees the last
    /// words instead of a reset. Default 100 ms.
    pub linger: Duration,
    /// Whose answers it gives, where versions of nats-server differ. Default 2.15.1.
    pub version: ServerVersion,
    /// Whether a second INFO follows the first PONG, as since 2.12. Default true.
    pub sends_connect_info: bool,
    /// What goes wrong. Default: nothing.
    pub faults: FaultPlan,
    /// Seed of the faults and of the choice among queue group members. Default 0.
    pub seed: u64,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            server_name: "natseq".to_owned(),
            limits: Limits::CLIENT_OPS,
            credentials: None,
            auth_timeout: Duration::from_secs(2),
            pending_bytes_max: 64 << 20,
            write_deadline: Duration::from_secs(10),
            linger: Duration::from_millis(100),
            version: ServerVersion::default(),
            sends_connect_info: true,
            faults: FaultPlan::default(),
            seed: 0,
        }
    }
}

/// A version of nats-server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "versions have three numbers")]
pub struct ServerVersion(pub u16, pub u16, pub u16);

impl ServerVersion {
    /// What servers agree about among themselves is not open to clients.
    pub(super) fn is_2_11(self) -> bool {
        self >= Self(2, 11, 0)
    }

    /// 503 names the subject that nobody hears, and INFO follows the first PONG.
    pub(super) fn is_2_12(self) -> bool {
        self >= Self(2, 12, 0)
    }

    /// A second CONNECT ends the subscriptions.
    pub(super) fn forgets_on_connect(self) -> bool {
        self >= Self(2, 14, 0) || (Self(2, 12, 8)..Self(2, 13, 0)).contains(&self)
    }

    /// The older name of what gateways use is reserved as well.
    pub(super) fn is_2_15_1(self) -> bool {
        self >= Self(2, 15, 1)
    }
}

impl Default for ServerVersion {
    fn default() -> Self {
        Self(2, 15, 1)
    }
}

impl FromStr for ServerVersion {
    type Err = ServerVersionError;

    /// Reads `2.12.8`; what follows a `-` in it is left out.
    fn from_str(text: &str) -> Result<Self, ServerVersionError> {
        let numbers = text.split_once('-').map_or(text, |(numbers, _)| numbers);
        let mut numbers = numbers.split('.').map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten().ok_or(ServerVersionError);
        Ok(Self(next()?, next()?, next()?))
    }
}

/// A text is no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerVersionError;

impl fmt::Display for ServerVersionError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("version is not three numbers such as `2.12.8`")
    }
}

impl std::error::Error for ServerVersionError {}

/// What a client must present. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credentials {
    /// User name and password.
    UserAndPassword(String, Secret),
    /// Token.
    Token(Secret),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::UserAndPassword(..) => "UserAndPassword(..)",
            Self::Token(_) => "Token(..)",
        })
    }
}
