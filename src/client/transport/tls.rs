//! Puts TLS on a stream. The configuration is made once and kept until a certificate file changes.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::spawn_blocking;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use crate::session::{LinkError, ServerAddr, TlsError};

use super::dialer::BoxedTransport;
use super::tls_options::{Identity, TlsOptions};

/// The options, and what was made of them.
#[derive(Clone)]
pub(super) struct Tls {
    options: Arc<TlsOptions>,
    cache: Arc<Mutex<Cache>>,
}

#[derive(Default)]
struct Cache {
    /// Reading them takes tens of milliseconds.
    native_roots: Option<Vec<CertificateDer<'static>>>,
    /// The files' contents, and the configuration made of them.
    config: Option<(Files, Arc<ClientConfig>)>,
}

/// The contents of the files that the options name.
#[derive(PartialEq, Eq)]
struct Files {
    roots: Vec<Vec<u8>>,
    identity: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
}

impl Tls {
    pub(super) fn new(options: TlsOptions) -> Self {
        Self {
            options: Arc::new(options),
            cache: Arc::default(),
        }
    }

    /// Makes the handshake on `stream`.
    pub(super) async fn start(
        &self,
        stream: BoxedTransport,
        server: &ServerAddr,
    ) -> Result<BoxedTransport, LinkError> {
        let name = self.options.server_name.as_deref();
        let name = name.unwrap_or_else(|| server.tls_name()).to_owned();
        let server_name = ServerName::try_from(name.clone()).map_err(|_| {
            TlsError::Options(format!("`{name}` is no name that a certificate can have"))
        })?;
        let config = self.config().await?;
        match TlsConnector::from(config)
            .connect(server_name, stream)
            .await
        {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(told(error, name)),
        }
    }

    async fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        if let Some(config) = &self.options.config {
            return Ok(Arc::clone(config));
        }
        if !self.options.has_files() {
            let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, config)) = &cache.config {
                return Ok(Arc::clone(config));
            }
        }
        let (options, cache) = (Arc::clone(&self.options), Arc::clone(&self.cache));
        let reading = spawn_blocking(move || {
            let files = Files::read(&options)?;
            let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache.config(&options, files)
        });
        reading
            .await
            .map_err(|error| TlsError::Other(error.to_string()))?
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self::new(TlsOptions::new())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.options, out)
    }
}

impl TlsOptions {
    const fn has_files(&self) -> bool {
        !self.root_files.is_empty() || matches!(self.identity, Identity::Files { .. })
    }
}

impl Cache {
    fn config(
        &mut self,
        options: &TlsOptions,
        files: Files,
    ) -> Result<Arc<ClientConfig>, TlsError> {
        match &self.config {
            Some((known, config)) if *known == files => return Ok(Arc::clone(config)),
            _ => {}
        }
        let config = Arc::new(self.build(options, &files)?);
        self.config = Some((files, Arc::clone(&config)));
        Ok(config)
    }

    fn build(&mut self, options: &TlsOptions, files: &Files) -> Result<ClientConfig, TlsError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_root_certificates(self.roots(options, files)?);
        let (certificates, key) = match (&options.identity, &files.identity) {
            (Identity::Pem { certificates, key }, _) => (&**certificates, &***key),
            (Identity::Files { .. }, Some((certificates, key))) => {
                (certificates.as_slice(), &**key)
            }
            (Identity::None | Identity::Files { .. }, _) => {
                return Ok(builder.with_no_client_auth());
            }
        };
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| TlsError::Options(format!("client key: {error}")))?;
        builder
            .with_client_auth_cert(certificates_in(certificates, "client certificate")?, key)
            .map_err(unusable)
    }

    fn roots(&mut self, options: &TlsOptions, files: &Files) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        if options.has_native_roots {
            let native = self
                .native_roots
                .get_or_insert_with(|| rustls_native_certs::load_native_certs().certs);
            // What the system trusts and rustls cannot read is no reason to trust nobody.
            roots.add_parsable_certificates(native.iter().cloned());
        }
        let given = options.roots.iter().map(|pem| &**pem);
        for pem in given.chain(files.roots.iter().map(Vec::as_slice)) {
            for certificate in certificates_in(pem, "root certificate")? {
                roots.add(certificate).map_err(unusable)?;
            }
        }
        if roots.is_empty() {
            let text = "no trusted root certificate was found on this system, and none was given";
            return Err(TlsError::Options(text.to_owned()));
        }
        Ok(roots)
    }
}

impl Files {
    fn read(options: &TlsOptions) -> Result<Self, TlsError> {
        let roots: Result<_, _> = options.root_files.iter().map(|path| read(path)).collect();
        let identity = match &options.identity {
            Identity::Files { certificates, key } => {
                Some((read(certificates)?, Zeroizing::new(read(key)?)))
            }
            Identity::None | Identity::Pem { .. } => None,
        };
        Ok(Self {
            roots: roots?,
            identity,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path)
        .map_err(|error| TlsError::Options(format!("file {}: {error}", path.display())))
}

fn certificates_in(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Options(format!("{what}: {error}")))?;
    if certificates.is_empty() {
        let text = format!("{what}: the text holds no PEM certificate");
        return Err(TlsError::Options(text));
    }
    Ok(certificates)
}

fn unusable(error: rustls::Error) -> TlsError {
    TlsError::Options(error.to_string())
}

/// Says why a handshake failed.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the TLS library's other errors are told in its own words"
)]
fn told(error: io::Error, name: String) -> LinkError {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    let Some(cause) = cause else {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return TlsError::Ended.into();
        }
        return error.into();
    };
    match cause {
        rustls::Error::InvalidCertificate(error) => match error {
            // The second is signed by another authority of the same name.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                TlsError::UnknownIssuer
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsError::WrongName(name)
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                TlsError::Expired
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                TlsError::NotYetValid
            }
            other => TlsError::Other(format!("server's certificate is not acceptable: {other}")),
        },
        rustls::Error::AlertReceived(alert) => TlsError::Refused(format!("{alert:?}")),
        rustls::Error::InvalidMessage(_) => TlsError::NotTls,
        other => TlsError::Other(other.to_string()),
    }
    .into()
}
