//! Byte streams to a server: TCP or what the caller brings, and TLS and WebSocket on it.
//!
//! ```text
//!   Dialer (TCP by default)  ->  [TLS, for wss or handshake first]  ->  [WebSocket]  ->  INFO  ->  [TLS]
//! ```
//!
//! Whatever the layers, the driver reads and writes one [`BoxedTransport`].

mod dialer;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod tls_options;
#[cfg(feature = "websocket")]
mod websocket;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::session::{LinkError, ServerAddr};

pub use dialer::{BoxFuture, BoxedTransport, Dialer, Resolver, Transport};
#[cfg(feature = "tls")]
pub use tls_options::TlsOptions;
#[cfg(feature = "websocket")]
pub(super) use websocket::AskedHeaders;

/// How connections are opened; one for all connections of a client.
#[derive(Clone, Default)]
pub(super) struct Connector {
    tcp: tcp::Tcp,
    dialer: Option<Arc<dyn Dialer>>,
    #[cfg(feature = "tls")]
    tls: tls::Tls,
    #[cfg(feature = "tls")]
    is_tls_first: bool,
    #[cfg(feature = "websocket")]
    pub(super) websocket: websocket::WebSocketOptions,
}

impl Connector {
    pub(super) fn set_dialer(&mut self, dialer: impl Dialer) {
        self.dialer = Some(Arc::new(dialer));
    }

    pub(super) fn set_resolver(&mut self, resolver: impl Resolver) {
        self.tcp.resolver = Some(Arc::new(resolver));
    }

    pub(super) const fn set_local_address(&mut self, address: IpAddr) {
        self.tcp.local_address = Some(address);
    }

    pub(super) const fn set_keeps_address_order(&mut self, keeps: bool) {
        self.tcp.keeps_order = keeps;
    }

    #[cfg(feature = "tls")]
    pub(super) fn set_tls(&mut self, options: TlsOptions) {
        self.is_tls_first = options.is_first;
        self.tls = tls::Tls::new(options);
    }

    /// Whether TLS begins before INFO.
    pub(super) const fn is_tls_first(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.is_tls_first;
        #[cfg(not(feature = "tls"))]
        return false;
    }

    #[cfg(feature = "websocket")]
    pub(super) const fn set_websocket_compression(&mut self, is_offered: bool) {
        self.websocket.is_compressed = is_offered;
    }

    /// Opens a connection to `server`, which the caller gives up after `time`.
    pub(super) async fn dial(
        &self,
        server: &ServerAddr,
        time: Duration,
    ) -> Result<BoxedTransport, LinkError> {
        if server.is_websocket() && !cfg!(feature = "websocket") {
            return Err(LinkError::WebSocketNotBuilt);
        }
        // Asked for before anything is opened that would wait for them.
        #[cfg(feature = "websocket")]
        let websocket = if server.is_websocket() {
            Some(self.websocket.of_attempt(server).await?)
        } else {
            None
        };
        let stream = match &self.dialer {
            Some(dialer) => dialer.dial(server).await?,
            None => self.tcp.dial(server, time).await?,
        };
        #[cfg(feature = "websocket")]
        if let Some(websocket) = websocket {
            let stream = if server.is_tls() {
                self.start_tls(stream, server).await?
            } else {
                stream
            };
            return websocket::open(stream, server, &websocket).await;
        }
        Ok(stream)
    }

    /// Begins TLS; the certificate must be valid for the server's name as the user knows it.
    #[cfg(feature = "tls")]
    pub(super) async fn start_tls(
        &self,
        stream: BoxedTransport,
        server: &ServerAddr,
    ) -> Result<BoxedTransport, LinkError> {
        self.tls.start(stream, server).await
    }

    /// Without the feature the session never asks for TLS.
    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_async, reason = "the same signature as with TLS")]
    pub(super) async fn start_tls(
        &self,
        _stream: BoxedTransport,
        _server: &ServerAddr,
    ) -> Result<BoxedTransport, LinkError> {
        Err(LinkError::TlsNotBuilt)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = out.debug_struct("Connector");
        shown.field("has_dialer", &self.dialer.is_some());
        shown.field("tcp", &self.tcp);
        #[cfg(feature = "tls")]
        shown.field("tls", &self.tls);
        #[cfg(feature = "websocket")]
        shown.field("websocket", &self.websocket);
        shown.finish()
    }
}

/// Gives `stream` to the first dial; there is none for a second.
pub(super) fn once(stream: impl Transport) -> impl Dialer {
    let stream = std::sync::Mutex::new(Some(Box::new(stream) as BoxedTransport));
    move |_server: ServerAddr| {
        let stream = stream
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        async move {
            stream.ok_or_else(|| {
                std::io::Error::new(
                    std::io::ErrorKind::NotConnected,
                    "the stream of this client has ended",
                )
            })
        }
    }
}
