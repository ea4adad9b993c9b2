//! Why TLS with a server did not come about.

use std::fmt;

/// Why TLS with a server did not come about. No credential was sent in clear.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsError {
    /// The server's certificate was signed by nobody whom we trust.
    UnknownIssuer,
    /// The server's certificate is for other names than this, by which we know the server.
    WrongName(String),
    /// The server's certificate is no longer valid.
    Expired,
    /// The server's certificate is not valid yet.
    NotYetValid,
    /// The server broke off, for instance because it does not accept our certificate; its alert.
    Refused(String),
    /// The connection ended during the handshake.
    Ended,
    /// What the server said is not TLS.
    NotTls,
    /// Our own certificates, keys or names cannot be used.
    Options(String),
    /// Anything else, in the words of the TLS library.
    Other(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownIssuer => {
                out.write_str("server's certificate is signed by no trusted authority")
            }
            Self::WrongName(name) => {
                write!(out, "server's certificate is not valid for `{name}`")
            }
            Self::Expired => out.write_str("server's certificate has expired"),
            Self::NotYetValid => out.write_str("server's certificate is not valid yet"),
            Self::Refused(alert) => write!(out, "server broke off TLS with the alert {alert}"),
            Self::Ended => out.write_str("connection ended during the TLS handshake"),
            Self::NotTls => out.write_str("server does not speak TLS here"),
            Self::Options(text) | Self::Other(text) => out.write_str(text),
        }
    }
}

impl std::error::Error for TlsError {}
