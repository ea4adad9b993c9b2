//! INFO and CONNECT as types: what server and client say about themselves.

use core::fmt;

use serde::{Deserialize, Serialize};

/// An INFO longer than this is refused before its JSON is looked at. Clusters of a thousand
/// servers stay below it.
pub const INFO_BYTES_MAX: usize = 65_536;

/// What a server says about itself. Fields that it left out have their default; unknown ones are
/// ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ServerInfo {
    /// Unique name of this run of the server.
    pub server_id: String,
    /// Configured name.
    pub server_name: String,
    /// Version, such as `2.12.8`.
    pub version: String,
    /// Version of Go it was built with.
    pub go: String,
    /// Where it listens.
    pub host: String,
    /// Where it listens.
    pub port: u16,
    /// Whether HMSG and HPUB are understood.
    pub headers: bool,
    /// The largest headers and payload together, in bytes. -1: no limit.
    pub max_payload: i64,
    /// 1 when it may send INFO at any time.
    pub proto: i64,
    /// Its number for this connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<u64>,
    /// Our address as it sees it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_ip: String,
    /// Whether credentials are needed.
    #[serde(skip_serializing_if = "is_false")]
    pub auth_required: bool,
    /// Whether TLS must begin now.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_required: bool,
    /// Whether TLS may begin now.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_available: bool,
    /// Whether a client certificate is needed.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_verify: bool,
    /// What to sign with a key.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nonce: String,
    /// Name of the cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// JetStream domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Other servers of the cluster, `host:port`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connect_urls: Vec<String>,
    /// Whether JetStream is enabled.
    #[serde(skip_serializing_if = "is_false")]
    pub jetstream: bool,
    /// Whether it is about to shut down (lame duck mode).
    #[serde(skip_serializing_if = "is_false")]
    pub ldm: bool,
    /// Whether this INFO is the one behind the first PONG (2.12 and later).
    #[serde(skip_serializing_if = "is_false")]
    pub connect_info: bool,
    /// The account that the connection belongs to (2.12 and later).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_account: String,
    /// JetStream API level (2.12 and later).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_lvl: Option<i64>,
}

impl ServerInfo {
    /// Reads the JSON of an INFO.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`] for more than [`INFO_BYTES_MAX`] bytes, and for JSON that is malformed
    /// or has a known field of another type.
    pub fn parse(json: &[u8]) -> Result<Self, HandshakeError> {
        if json.len() > INFO_BYTES_MAX {
            return Err(HandshakeError::TooLong {
                found: json.len(),
                max: INFO_BYTES_MAX,
            });
        }
        read(json)
    }

    /// The JSON of an INFO.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        write(self)
    }
}

impl Default for ServerInfo {
    fn default() -> Self {
        Self {
            server_id: String::new(),
            server_name: String::new(),
            version: String::new(),
            go: String::new(),
            host: String::new(),
            port: 0,
            headers: false,
            max_payload: 1 << 20,
            proto: 0,
            client_id: None,
            client_ip: String::new(),
            auth_required: false,
            tls_required: false,
            tls_available: false,
            tls_verify: false,
            nonce: String::new(),
            cluster: String::new(),
            domain: String::new(),
            connect_urls: Vec::new(),
            jetstream: false,
            ldm: false,
            connect_info: false,
            remote_account: String::new(),
            api_lvl: None,
        }
    }
}

/// What a client says about itself.
///
/// [`Connect::new`] is what a client should send; [`Connect::parse`] gives fields that are left out
/// the meaning they have for a server, which differs for `verbose`, `pedantic` and `echo`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Connect {
    /// Whether every operation is to be answered with +OK.
    pub verbose: bool,
    /// Whether publish subjects are to be checked.
    pub pedantic: bool,
    /// Whether TLS was asked for.
    pub tls_required: bool,
    /// User name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass: Option<String>,
    /// Token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_token: Option<String>,
    /// Name that monitoring shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Language of the client.
    pub lang: String,
    /// Version of the client.
    pub version: String,
    /// 1 when INFO may come at any time.
    pub protocol: i64,
    /// Whether the client's own messages come back to it.
    pub echo: bool,
    /// Whether HMSG is understood.
    pub headers: bool,
    /// Whether a request that nobody hears is to be answered with 503. Needs `headers`.
    pub no_responders: bool,
}

impl Connect {
    /// What this crate sends unless told otherwise: quiet, echoing, with INFO at any time.
    #[must_use]
    pub fn new() -> Self {
        Self {
            verbose: false,
            pedantic: false,
            lang: "rust".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: 1,
            ..Self::default()
        }
    }

    /// Reads the JSON of a CONNECT.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Json`] when it is malformed or a known field has another type.
    pub fn parse(json: &[u8]) -> Result<Self, HandshakeError> {
        read(json)
    }

    /// The JSON of a CONNECT, on one line.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        write(self)
    }
}

/// What a server assumes of a client that says nothing.
impl Default for Connect {
    fn default() -> Self {
        Self {
            verbose: true,
            pedantic: true,
            tls_required: false,
            user: None,
            pass: None,
            auth_token: None,
            name: None,
            lang: String::new(),
            version: String::new(),
            protocol: 0,
            echo: true,
            headers: false,
            no_responders: false,
        }
    }
}

/// Credentials are left out.
impl fmt::Debug for Connect {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Connect")
            .field("verbose", &self.verbose)
            .field("pedantic", &self.pedantic)
            .field("name", &self.name)
            .field("lang", &self.lang)
            .field("version", &self.version)
            .field("protocol", &self.protocol)
            .field("echo", &self.echo)
            .field("headers", &self.headers)
            .field("no_responders", &self.no_responders)
            .finish_non_exhaustive()
    }
}

/// Why the JSON of INFO or CONNECT was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// It is longer than the bound.
    TooLong {
        /// Bytes.
        found: usize,
        /// The bound in bytes.
        max: usize,
    },
    /// It is malformed, in the JSON reader's words.
    Json(String),
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { found, max } => write!(out, "{found} bytes of JSON exceed {max} bytes"),
            Self::Json(text) => out.write_str(text),
        }
    }
}

impl core::error::Error for HandshakeError {}

fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, HandshakeError> {
    serde_json::from_slice(json).map_err(|error| HandshakeError::Json(error.to_string()))
}

#[expect(
    clippy::expect_used,
    reason = "a struct of strings and numbers always has a JSON form"
)]
fn write<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data")
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature is serde's"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_info_with_unknown_and_missing_fields_is_read() {
        let info = ServerInfo::parse(br#"{"max_payload":-1,"new":[1],"headers":true}"#).unwrap();
        assert_eq!((info.max_payload, info.headers, info.port), (-1, true, 0));
        assert_eq!(ServerInfo::parse(&info.to_json()), Ok(info));
    }

    #[test]
    fn a_bad_info_says_why() {
        assert!(matches!(
            ServerInfo::parse(b"{"),
            Err(HandshakeError::Json(_))
        ));
        assert!(ServerInfo::parse(br#"{"port":70000}"#).is_err());
        let long = vec![b' '; INFO_BYTES_MAX + 1];
        assert!(matches!(
            ServerInfo::parse(&long),
            Err(HandshakeError::TooLong { .. })
        ));
    }

    #[test]
    fn what_a_connect_leaves_out_means_what_it_means_to_a_server() {
        let bare = Connect::parse(b"{}").unwrap();
        assert!(bare.verbose && bare.pedantic && bare.echo && !bare.headers);
        let sent = Connect::parse(&Connect::new().to_json()).unwrap();
        assert!(!sent.verbose && !sent.pedantic && sent.echo && sent.protocol == 1);
    }

    #[test]
    fn secrets_do_not_show() {
        let mut connect = Connect::new();
        connect.pass = Some("canary".into());
        connect.auth_token = Some("canary".into());
        connect.user = Some("canary".into());
        assert!(!format!("{connect:?}").contains("canary"));
    }
}
