//! How a session connects.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::wire::Limits;
use crate::wire::handshake::ServerInfo;

use super::auth::Auth;
use super::keepalive::KeepaliveOptions;
use super::redial::RedialOptions;
use super::server_addr::ServerAddr;

/// Chooses the server to dial: gets the pool in its order and what the last server said about
/// itself, and returns an index into the list. `None`, or an index beyond it, means the first. To move
/// away from a server that is about to stop, the list has the others only, without those that are
/// about to stop themselves if there is any else.
///
/// It runs in the midst of the client's work: it has to return at once, and a call of the client's
/// own methods from within never returns.
pub type SelectServer = dyn Fn(&[ServerAddr], &ServerInfo) -> Option<usize> + Send + Sync;

/// Says how long to wait before a dial, from the number of dials that this outage has seen.
///
/// It has to return at once, and a call of the client's own methods from within never returns.
pub type RedialDelay = dyn Fn(u64) -> Duration + Send + Sync;

/// A function of the program's, shared by clones.
pub struct Callback<F: ?Sized>(Arc<F>);

impl<F: ?Sized> Callback<F> {
    /// Wraps the function.
    #[must_use]
    pub const fn new(function: Arc<F>) -> Self {
        Self(function)
    }

    pub(crate) fn function(&self) -> &F {
        &self.0
    }
}

impl<F: ?Sized> Clone for Callback<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F: ?Sized> fmt::Debug for Callback<F> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Callback(..)")
    }
}

/// How a session connects.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// The servers to begin with.
    pub servers: Vec<ServerAddr>,
    /// Whether `servers` are dialed in this order. Default false: shuffled once, so that many
    /// clients with one configuration spread over the servers.
    pub keeps_server_order: bool,
    /// Whether servers that INFO names join the pool. Default true.
    pub discovers_servers: bool,
    /// Chooses among the pool. Default none: the one that was left alone longest.
    pub select_server: Option<Callback<SelectServer>>,
    /// Credentials for servers whose URL has none. Default none.
    pub auth: Auth,
    /// The name that server monitoring shows. Default none.
    pub name: Option<String>,
    /// Whether our own messages come back to our own subscriptions. Default true. Without, servers
    /// that cannot leave them out are left.
    pub echo: bool,
    /// Whether servers answer at once, with status 503, what nobody subscribes to. Default true.
    pub no_responders: bool,
    /// Whether the server answers each operation with `+OK`. Default false.
    pub verbose: bool,
    /// Whether the server checks subjects of published messages. Default false: we do.
    pub pedantic: bool,
    /// Whether a server that refuses our credentials twice in a row, in the same words, is dialed
    /// again like any other. Default false: it ends the session.
    pub retries_refused: bool,
    /// The longest control line that the servers read, CONNECT included. Default 4,096 bytes.
    pub line_bytes_max: usize,
    /// Whether to insist on TLS with every server. Default false: as the URL and INFO say.
    pub is_tls_required: bool,
    /// Whether TLS begins before the server says INFO, with every server and without falling back.
    /// Default false.
    pub is_tls_first: bool,
    /// Bound on dialing and handshake together. Default 5 s.
    pub connect_timeout: Duration,
    /// Whether the first connect goes on as a reconnect does when no server answers. Default false.
    pub retries_first_connect: bool,
    /// When to ping. Default as [`KeepaliveOptions`] says.
    pub keepalive: KeepaliveOptions,
    /// When to dial again. Default as [`RedialOptions`] says.
    pub redial: RedialOptions,
    /// Replaces the pauses of `redial` from the second pass over the servers on. Default none.
    pub redial_delay: Option<Callback<RedialDelay>>,
    /// Whether a subscription that the server has refused is asked for again on the next
    /// connection. Default false: it is gone.
    pub restores_refused: bool,
    /// How long two connections overlap when the session moves away from a server in lame duck
    /// mode. Default 250 ms: half of it is for the new server to tell its cluster what we subscribe
    /// to, half for messages on their way through the cluster. Where that takes longer, or the old
    /// server ends sooner, a message may be told twice, and of two that are the same to the byte one
    /// may be taken for a copy. Of a queue group's messages few may be lost, as whenever a member
    /// leaves its group.
    pub move_overlap: Duration,
}

impl SessionOptions {
    /// The defaults, for these servers.
    #[must_use]
    pub fn new(servers: Vec<ServerAddr>) -> Self {
        Self {
            servers,
            keeps_server_order: false,
            discovers_servers: true,
            select_server: None,
            auth: Auth::None,
            retries_refused: false,
            name: None,
            echo: true,
            no_responders: true,
            verbose: false,
            pedantic: false,
            line_bytes_max: Limits::CLIENT_OPS.line_bytes_max,
            is_tls_required: false,
            is_tls_first: false,
            connect_timeout: Duration::from_secs(5),
            retries_first_connect: false,
            keepalive: KeepaliveOptions::default(),
            redial: RedialOptions::default(),
            redial_delay: None,
            restores_refused: false,
            move_overlap: Duration::from_millis(250),
        }
    }
}
