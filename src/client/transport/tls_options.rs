//! Whom to trust and how to show who we are, under TLS.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::rustls::ClientConfig;
use zeroize::Zeroizing;

/// Whom to trust and how to show who we are, under TLS; for
/// [`ConnectOptions::tls`](crate::client::ConnectOptions::tls).
///
/// Certificates and keys are PEM. Files are read again at each connect, so that a renewed
/// certificate is used without a restart; what is in them is checked then, and a file that cannot
/// be used makes that connect fail. `Debug` shows no key.
///
/// ```no_run
/// # async fn example() -> Result<(), natseq::Error> {
/// use natseq::client::TlsOptions;
///
/// let tls = TlsOptions::new()
///     .native_roots(false)
///     .root_certificate_file("/etc/nats/ca.pem")
///     .client_certificate_files("/etc/nats/me.pem", "/etc/nats/me.key");
/// let client = natseq::ConnectOptions::new()
///     .tls(tls)
///     .connect("tls://nats.example.org")
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TlsOptions {
    pub(super) has_native_roots: bool,
    pub(super) roots: Vec<Arc<[u8]>>,
    pub(super) root_files: Vec<PathBuf>,
    pub(super) identity: Identity,
    pub(super) config: Option<Arc<ClientConfig>>,
    pub(super) server_name: Option<String>,
    pub(super) is_first: bool,
}

/// Our own certificate and its key.
#[derive(Clone)]
pub(super) enum Identity {
    None,
    Pem {
        certificates: Arc<[u8]>,
        key: Arc<Zeroizing<Vec<u8>>>,
    },
    Files {
        certificates: PathBuf,
        key: PathBuf,
    },
}

impl TlsOptions {
    /// The defaults: the system's trusted roots, and no certificate of our own.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            has_native_roots: true,
            roots: Vec::new(),
            root_files: Vec::new(),
            identity: Identity::None,
            config: None,
            server_name: None,
            is_first: false,
        }
    }

    /// Whether to trust the roots of the operating system. Default: true.
    ///
    /// They are read once for each client; `SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured.
    #[must_use]
    pub const fn native_roots(mut self, are_trusted: bool) -> Self {
        self.has_native_roots = are_trusted;
        self
    }

    /// Trusts the authorities whose certificates are in `pem`, beside those given before.
    #[must_use]
    pub fn root_certificates(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.roots.push(pem.as_ref().into());
        self
    }

    /// Trusts the authorities whose certificates are in the file, beside those given before.
    #[must_use]
    pub fn root_certificate_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.root_files.push(path.into());
        self
    }

    /// Shows this certificate, with its chain, to servers that ask for one (mutual TLS).
    #[must_use]
    pub fn client_certificate(
        mut self,
        certificates_pem: impl AsRef<[u8]>,
        key_pem: impl AsRef<[u8]>,
    ) -> Self {
        self.identity = Identity::Pem {
            certificates: certificates_pem.as_ref().into(),
            key: Arc::new(Zeroizing::new(key_pem.as_ref().to_vec())),
        };
        self
    }

    /// [`TlsOptions::client_certificate`] out of files, which are read at each connect.
    #[must_use]
    pub fn client_certificate_files(
        mut self,
        certificates: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.identity = Identity::Files {
            certificates: certificates.into(),
            key: key.into(),
        };
        self
    }

    /// Uses this configuration as it is; the roots and the certificate given here are ignored.
    ///
    /// The types are those of [`rustls`](crate::client::rustls).
    #[must_use]
    pub fn config(mut self, config: Arc<ClientConfig>) -> Self {
        self.config = Some(config);
        self
    }

    /// The name for which every server's certificate must be valid. Default: the host in the URL,
    /// and for an announced bare IP address that of the server which announced it.
    #[must_use]
    pub fn server_name(mut self, name: &str) -> Self {
        self.server_name = Some(name.to_owned());
        self
    }

    /// Whether TLS begins before the server says a word, so that not even INFO is in clear. Default:
    /// false.
    ///
    /// It is for servers with `handshake_first` in their configuration, from version 2.10.4 on; with
    /// others no connection comes about, for there is no falling back. `wss` begins with TLS in any
    /// case.
    #[must_use]
    pub const fn handshake_first(mut self, is_first: bool) -> Self {
        self.is_first = is_first;
        self
    }
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("TlsOptions")
            .field("has_native_roots", &self.has_native_roots)
            .field("roots", &self.roots.len())
            .field("root_files", &self.root_files)
            .field("identity", &self.identity)
            .field("has_config", &self.config.is_some())
            .field("server_name", &self.server_name)
            .field("is_first", &self.is_first)
            .finish()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => out.write_str("None"),
            Self::Pem { .. } => out.write_str("Pem(..)"),
            Self::Files { certificates, key } => {
                write!(out, "Files({certificates:?}, {key:?})")
            }
        }
    }
}
