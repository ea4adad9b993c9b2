//! Byte streams to a server: TCP, and TLS on it.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::session::{LinkError, ServerAddr};

/// A connected byte stream in both directions.
pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

pub(super) type BoxedTransport = Box<dyn Transport>;

/// Opens a TCP connection; every address of the host is tried in turn.
pub(super) async fn dial(server: &ServerAddr) -> Result<BoxedTransport, LinkError> {
    let stream = TcpStream::connect((server.host(), server.port())).await?;
    // The outbox gathers what belongs together; the kernel should not wait for more.
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

/// Begins TLS; the certificate must be valid for the host in the server's URL.
#[cfg(feature = "tls")]
pub(super) async fn start_tls(
    stream: BoxedTransport,
    server: &ServerAddr,
) -> Result<BoxedTransport, LinkError> {
    use std::sync::Arc;

    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::ServerName;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    fn failed(error: impl std::fmt::Display) -> LinkError {
        LinkError::Io {
            kind: std::io::ErrorKind::InvalidData,
            text: error.to_string(),
        }
    }

    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(server.host().to_owned()).map_err(failed)?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    Ok(Box::new(stream))
}

/// Without the feature the session never asks for TLS.
#[cfg(not(feature = "tls"))]
pub(super) async fn start_tls(
    _stream: BoxedTransport,
    _server: &ServerAddr,
) -> Result<BoxedTransport, LinkError> {
    Err(LinkError::TlsNotBuilt)
}
