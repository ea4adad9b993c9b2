//! What a caller may bring: streams, the ways to open them, and the look-up of host names.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::session::ServerAddr;

/// A connected byte stream in both directions; implemented for everything that is one.
///
/// Vectored writes are used when the stream says that it can.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Transport for T {}

/// A stream of whatever kind.
pub type BoxedTransport = Box<dyn Transport>;

/// A future of whatever kind, as traits return that are used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Opens the connections of a client: through a proxy, a Unix socket, or within the process.
///
/// It is asked for the first connection and at each reconnect, and gives plain streams: TLS and
/// WebSocket are put on them as the address and the options say. The future is dropped when the
/// connect timeout has passed.
///
/// Implemented for closures:
///
/// ```no_run
/// # #[cfg(unix)]
/// # async fn example() -> Result<(), natseq::Error> {
/// use tokio::net::UnixStream;
///
/// let client = natseq::ConnectOptions::new()
///     .dialer(|_server| UnixStream::connect("/run/nats.sock"))
///     .connect("nats://localhost")
///     .await?;
/// # Ok(())
/// # }
/// ```
///
/// The embedded broker, without a socket and with reconnects:
///
/// ```
/// # #[cfg(feature = "broker")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), natseq::Error> {
/// use std::sync::Arc;
/// use natseq::broker::{Broker, BrokerOptions};
///
/// let broker = Arc::new(Broker::in_process(BrokerOptions::default()));
/// let client = natseq::ConnectOptions::new()
///     .dialer(move |_server| {
///         let stream = broker.connect();
///         async { Ok(stream) }
///     })
///     .connect("nats://in-process")
///     .await?;
/// client.flush().await?;
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "broker"))]
/// # fn main() {}
/// ```
pub trait Dialer: Send + Sync + 'static {
    /// Opens a stream to `server`.
    fn dial<'a>(&'a self, server: &'a ServerAddr) -> BoxFuture<'a, io::Result<BoxedTransport>>;
}

impl<F, Fut, T> Dialer for F
where
    F: Fn(ServerAddr) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = io::Result<T>> + Send + 'static,
    T: Transport,
{
    fn dial<'a>(&'a self, server: &'a ServerAddr) -> BoxFuture<'a, io::Result<BoxedTransport>> {
        let dialing = self(server.clone());
        Box::pin(async move { Ok(Box::new(dialing.await?) as BoxedTransport) })
    }
}

/// Finds the addresses of a host, instead of the operating system.
///
/// It is asked at each dial; IP addresses are not asked for. Implemented for closures.
pub trait Resolver: Send + Sync + 'static {
    /// The addresses of `host`, each with `port`.
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
}

impl<F, Fut> Resolver for F
where
    F: Fn(String, u16) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
{
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let resolving = self(host.to_owned(), port);
        Box::pin(resolving)
    }
}
