//! How to connect.

#[cfg(feature = "websocket")]
use std::error::Error as StdError;
#[cfg(feature = "websocket")]
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "websocket")]
use crate::session::Secret;
use crate::session::{
    Callback, KeepaliveOptions, OutboxLimits, RedialDelay, RedialOptions, SelectServer, ServerAddr,
    SessionOptions,
};
use crate::subject::Subject;
use crate::wire::handshake::ServerInfo;

use super::auth::Identity;
use super::error::Error;
use super::mailbox::MailboxLimits;
use super::requests::RequestOptions;
#[cfg(feature = "websocket")]
use super::transport::AskedHeaders;
#[cfg(feature = "tls")]
use super::transport::TlsOptions;
use super::transport::{Connector, Dialer, Resolver, Transport, once};
use super::{Client, driver};

/// How to connect; every option has a default that suits most programs.
///
/// ```no_run
/// # async fn example() -> Result<(), natseq::Error> {
/// let client = natseq::ConnectOptions::new()
///     .name("prices")
///     .user_and_password("me", "secret")
///     .connect("nats://one.example.org, nats://two.example.org")
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    pub(super) identity: Identity,
    pub(super) retries_refused: bool,
    pub(super) name: Option<String>,
    pub(super) echo: bool,
    pub(super) no_responders: bool,
    pub(super) is_tls_required: bool,
    pub(super) connect_timeout: Duration,
    pub(super) request_timeout: Duration,
    pub(super) retries_first_connect: bool,
    pub(super) inbox_prefix: Subject,
    pub(super) keepalive: KeepaliveOptions,
    pub(super) redial: RedialOptions,
    pub(super) outbox: OutboxLimits,
    pub(super) mailbox: MailboxLimits,
    pub(super) retained_bytes_max: usize,
    pub(super) line_bytes_max: usize,
    pub(super) connector: Connector,
    pub(super) drain_timeout: Duration,
    pub(super) fails_requests_at_disconnect: bool,
    pub(super) restores_refused: bool,
    pub(super) keeps_server_order: bool,
    pub(super) discovers_servers: bool,
    pub(super) select_server: Option<Callback<SelectServer>>,
    pub(super) redial_delay: Option<Callback<RedialDelay>>,
    pub(super) verbose: bool,
    pub(super) pedantic: bool,
    pub(super) move_overlap: Duration,
}

impl ConnectOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        let session = SessionOptions::new(Vec::new());
        Self {
            identity: Identity::default(),
            retries_refused: session.retries_refused,
            name: session.name,
            echo: session.echo,
            no_responders: session.no_responders,
            is_tls_required: session.is_tls_required,
            connect_timeout: session.connect_timeout,
            request_timeout: Duration::from_secs(10),
            retries_first_connect: session.retries_first_connect,
            inbox_prefix: default_inbox_prefix(),
            keepalive: session.keepalive,
            redial: session.redial,
            outbox: OutboxLimits::default(),
            mailbox: MailboxLimits::default(),
            retained_bytes_max: 64 << 20,
            line_bytes_max: crate::wire::Limits::CLIENT_OPS.line_bytes_max,
            connector: Connector::default(),
            drain_timeout: Duration::from_secs(30),
            fails_requests_at_disconnect: false,
            restores_refused: session.restores_refused,
            keeps_server_order: session.keeps_server_order,
            discovers_servers: session.discovers_servers,
            select_server: None,
            redial_delay: None,
            verbose: session.verbose,
            pedantic: session.pedantic,
            move_overlap: session.move_overlap,
        }
    }

    /// Connects to the first server of a comma-separated list that accepts us.
    ///
    /// Must be called inside a tokio runtime; a task of that runtime serves the connection.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ServerAddr`](super::ErrorKind::ServerAddr) for a malformed list,
    /// [`ErrorKind::Connect`](super::ErrorKind::Connect) when every server failed once; the source
    /// is the last one's failure.
    pub async fn connect(self, servers: &str) -> Result<Client, Error> {
        driver::connect(self, ServerAddr::parse_list(servers)?).await
    }

    /// Connects over a stream that is open already, and ends with it: there is no reconnect.
    ///
    /// `server` says what is at its other end: the scheme, credentials if any, and the host for
    /// which a certificate must be valid. Nothing is looked up or dialed.
    /// [`ConnectOptions::dialer`] can open a new stream at each reconnect.
    ///
    /// # Errors
    ///
    /// As [`ConnectOptions::connect`].
    pub async fn connect_over(
        mut self,
        stream: impl Transport,
        server: &str,
    ) -> Result<Client, Error> {
        let server = server.parse()?;
        self.connector.set_dialer(once(stream));
        self.retries_first_connect = false;
        self.redial.attempts_max = Some(0);
        driver::connect(self, vec![server]).await
    }

    /// The name that server monitoring shows. Default: none.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Whether our own messages come back to our own subscriptions. Default: true. Without, servers
    /// that cannot leave them out (`proto` 0 in their INFO) are left.
    #[must_use]
    pub const fn echo(mut self, echo: bool) -> Self {
        self.echo = echo;
        self
    }

    /// Whether a request to a subject that nobody subscribes to fails at once, because the server
    /// says so. Default: true. Without, such a request waits until its timeout: for responders that
    /// may subscribe meanwhile, or that hear only through a part of the system that does not tell.
    #[must_use]
    pub const fn no_responders(mut self, are_told: bool) -> Self {
        self.no_responders = are_told;
        self
    }

    /// Refuses servers that do not offer TLS. Default: TLS only where the URL or the server asks.
    #[must_use]
    pub const fn require_tls(mut self, is_required: bool) -> Self {
        self.is_tls_required = is_required;
        self
    }

    /// Whom to trust and how to show who we are, under TLS, which is then required as by
    /// [`ConnectOptions::require_tls`]. Default: the system's roots, and no certificate of our own.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, options: TlsOptions) -> Self {
        self.connector.set_tls(options);
        self.is_tls_required = true;
        self
    }

    /// Opens the connections with `dialer`, the first one and those after it. Default: TCP.
    #[must_use]
    pub fn dialer(mut self, dialer: impl Dialer) -> Self {
        self.connector.set_dialer(dialer);
        self
    }

    /// Looks host names up with `resolver`. Default: the operating system.
    #[must_use]
    pub fn resolver(mut self, resolver: impl Resolver) -> Self {
        self.connector.set_resolver(resolver);
        self
    }

    /// The address of ours from which TCP connections begin; only server addresses of the same
    /// family are dialed then. Default: as the operating system chooses.
    #[must_use]
    pub const fn local_address(mut self, address: IpAddr) -> Self {
        self.connector.set_local_address(address);
        self
    }

    /// Whether the addresses of a host are dialed in the resolver's order. Default: false, they
    /// are shuffled, so that many clients spread over all of them.
    #[must_use]
    pub const fn keep_address_order(mut self, keeps: bool) -> Self {
        self.connector.set_keeps_address_order(keeps);
        self
    }

    /// Adds a header to the request that opens a WebSocket (schemes ws and wss). Its value is wiped
    /// with the client.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Header`](super::ErrorKind::Header) for a name or value that cannot stand there,
    /// and for the headers that the opening of a WebSocket consists of.
    #[cfg(feature = "websocket")]
    pub fn websocket_header(mut self, name: &str, value: impl Into<Secret>) -> Result<Self, Error> {
        if self.connector.websocket.add_header(name, value.into()) {
            Ok(self)
        } else {
            Err(Error::new(super::ErrorKind::Header))
        }
    }

    /// Asks `callback` for headers at each attempt, such as a token that expires: they follow those of
    /// [`ConnectOptions::websocket_header`]. It has the connect timeout together with the dial, and is
    /// dropped when that is over. When it fails, or a header cannot stand there, the attempt has
    /// failed. Default: none.
    ///
    /// ```no_run
    /// # async fn fetch_token() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// let options = natseq::ConnectOptions::new().websocket_headers_with(|_server| async {
    ///     let value = format!("Bearer {}", fetch_token().await?);
    ///     Ok(vec![("Authorization".to_owned(), value.into())])
    /// });
    /// ```
    #[cfg(feature = "websocket")]
    #[must_use]
    pub fn websocket_headers_with<F, C>(mut self, callback: C) -> Self
    where
        C: Fn(ServerAddr) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Vec<(String, Secret)>, Box<dyn StdError + Send + Sync>>>
            + Send
            + 'static,
    {
        let ask = move |server| -> AskedHeaders { Box::pin(callback(server)) };
        self.connector.websocket.ask = Some(Arc::new(ask));
        self
    }

    /// Whether to offer compression to servers reached by ws and wss (permessage-deflate). Default: false.
    #[cfg(feature = "websocket")]
    #[must_use]
    pub const fn websocket_compression(mut self, is_offered: bool) -> Self {
        self.connector.set_websocket_compression(is_offered);
        self
    }

    /// Bound on dialing and handshake together. Default: 5 s.
    #[must_use]
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Bound on [`Client::request`] and [`Client::flush`]. Default: 10 s.
    #[must_use]
    pub const fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Goes on dialing when no server answers at first. Default: false, [`Self::connect`] fails.
    #[must_use]
    pub const fn retry_first_connect(mut self, retries: bool) -> Self {
        self.retries_first_connect = retries;
        self
    }

    /// What reply subjects begin with. Default: `_INBOX`.
    #[must_use]
    pub fn inbox_prefix(mut self, prefix: Subject) -> Self {
        self.inbox_prefix = prefix;
        self
    }

    /// How often the server is pinged. Default: 9 s, so that with one PING out a half-open
    /// connection is noticed within 20 s.
    #[must_use]
    pub const fn ping_interval(mut self, interval: Duration) -> Self {
        self.keepalive.ping_interval = interval;
        self
    }

    /// PINGs that may be unanswered at once; after one interval more without a byte from the server
    /// the connection is given up. Default: 1.
    #[must_use]
    pub const fn pings_out_max(mut self, pings: u32) -> Self {
        self.keepalive.pings_out_max = pings;
        self
    }

    /// When to dial again after a connection was lost. Default: [`RedialOptions::default`].
    #[must_use]
    pub const fn redial(mut self, options: RedialOptions) -> Self {
        self.redial = options;
        self
    }

    /// Says how long to wait before a dial, in place of the pauses of [`Self::redial`] from the second
    /// pass over the servers on. Its argument is the number of dials that the outage has seen; less
    /// than 1 ms is taken for 1 ms. Default: none.
    ///
    /// The function has to return at once, and a call of the client's own methods from within never
    /// returns.
    #[must_use]
    pub fn redial_delay(mut self, delay: impl Fn(u64) -> Duration + Send + Sync + 'static) -> Self {
        self.redial_delay = Some(Callback::new(Arc::new(delay)));
        self
    }

    /// Dials the servers in the order in which they were given. Default: false, shuffled once, so that
    /// many clients with one configuration spread over the servers.
    #[must_use]
    pub const fn keep_server_order(mut self, keeps: bool) -> Self {
        self.keeps_server_order = keeps;
        self
    }

    /// Leaves out servers that a server names. Default: false, they join the pool.
    #[must_use]
    pub const fn ignore_discovered_servers(mut self, ignores: bool) -> Self {
        self.discovers_servers = !ignores;
        self
    }

    /// Chooses the server to dial: gets the pool in its order and what the last server said about
    /// itself, and returns an index into the pool. `None`, or an index beyond it, means the first,
    /// which was left alone longest. Default: the first.
    ///
    /// To move away from a server that is about to stop, the list has the others only. The function
    /// has to return at once, and a call of the client's own methods from within never returns.
    #[must_use]
    pub fn select_server(
        mut self,
        select: impl Fn(&[ServerAddr], &ServerInfo) -> Option<usize> + Send + Sync + 'static,
    ) -> Self {
        self.select_server = Some(Callback::new(Arc::new(select)));
        self
    }

    /// How long two connections overlap when the client moves away from a server in lame duck mode.
    /// Default: 250 ms, time for the new server to tell its cluster what we subscribe to.
    #[must_use]
    pub const fn move_overlap(mut self, overlap: Duration) -> Self {
        self.move_overlap = overlap;
        self
    }

    /// Asks the server to confirm each operation with `+OK`, which is read and dropped. Default: false.
    #[must_use]
    pub const fn verbose(mut self, verbose: bool) -> Self {
        self.verbose = verbose;
        self
    }

    /// Asks the server to check the subjects that we publish to. Default: false: they are checked here.
    ///
    /// That cannot be turned off: a blank or a line end within a subject would begin another operation.
    /// A [`Subject`] was checked when it was made, and costs nothing however often it is published to.
    #[must_use]
    pub const fn pedantic(mut self, pedantic: bool) -> Self {
        self.pedantic = pedantic;
        self
    }

    /// How much may wait to be written. Default: [`OutboxLimits::default`].
    #[must_use]
    pub const fn outbox(mut self, limits: OutboxLimits) -> Self {
        self.outbox = limits;
        self
    }

    /// How much may wait for a subscriber. Default: [`MailboxLimits::default`].
    #[must_use]
    pub const fn mailbox(mut self, limits: MailboxLimits) -> Self {
        self.mailbox = limits;
        self
    }

    /// How many bytes the sequenced publishers of this client retain for repairs, all together.
    /// Default: 64 MiB.
    ///
    /// Beyond that each forgets what is more than an equal share, when it publishes. One that does not
    /// publish keeps what it has until that is too old, so that all together may have up to twice as
    /// much; one that [refuses](crate::sequence::RetentionOverflow::Refuse) keeps to its own limits
    /// alone, whatever the others have.
    #[must_use]
    pub const fn retained_bytes_max(mut self, bytes: usize) -> Self {
        self.retained_bytes_max = bytes;
        self
    }

    /// The longest control line that the servers read, CONNECT included, when it was configured there.
    /// Default: 4,096 bytes, as on servers.
    #[must_use]
    pub const fn line_bytes_max(mut self, bytes: usize) -> Self {
        self.line_bytes_max = bytes;
        self
    }

    /// Bound on [`Client::drain`]. Default: 30 s.
    #[must_use]
    pub const fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Whether requests fail when there is no connection or it is lost, instead of waiting for the
    /// next one until their timeout. Default: false, because a responder that got the request answers
    /// on the next connection as well.
    #[must_use]
    pub const fn fail_requests_at_disconnect(mut self, fails: bool) -> Self {
        self.fails_requests_at_disconnect = fails;
        self
    }

    /// Whether a subscription that the server refuses goes on and is asked for again on the next
    /// connection, where permissions may be others. Default: false, it has ended.
    #[must_use]
    pub const fn restore_refused(mut self, restores: bool) -> Self {
        self.restores_refused = restores;
        self
    }

    /// What a request without options of its own does.
    pub(super) const fn requests(&self) -> RequestOptions {
        RequestOptions {
            timeout: self.request_timeout,
            fails_at_disconnect: self.fails_requests_at_disconnect,
            has_own_inbox: false,
        }
    }

    pub(super) fn session(&self, servers: Vec<ServerAddr>) -> SessionOptions {
        SessionOptions {
            servers,
            auth: self.identity.auth(),
            retries_refused: self.retries_refused,
            name: self.name.clone(),
            echo: self.echo,
            no_responders: self.no_responders,
            line_bytes_max: self.line_bytes_max,
            is_tls_required: self.is_tls_required,
            is_tls_first: self.connector.is_tls_first(),
            connect_timeout: self.connect_timeout,
            retries_first_connect: self.retries_first_connect,
            keepalive: self.keepalive,
            redial: self.redial,
            keeps_server_order: self.keeps_server_order,
            discovers_servers: self.discovers_servers,
            select_server: self.select_server.clone(),
            verbose: self.verbose,
            pedantic: self.pedantic,
            redial_delay: self.redial_delay.clone(),
            move_overlap: self.move_overlap,
            restores_refused: self.restores_refused,
        }
    }
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(clippy::expect_used, reason = "the literal is a subject")]
fn default_inbox_prefix() -> Subject {
    Subject::new("_INBOX").expect("a literal subject")
}
