//! INFO as a type: what a server says about itself.

use memchr::memchr_iter;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::fields::{self, Kind};
use super::{HandshakeError, is_false, json_error, write};

/// An INFO longer than this is refused before its JSON is looked at. Clusters of a thousand
/// servers stay below it.
pub const INFO_BYTES_MAX: usize = 65_536;

/// An INFO with more values than this is refused before its JSON is looked at: two bytes of a value
/// take dozens once they are read. Clusters of a thousand servers list a few thousand.
pub const INFO_VALUES_MAX: usize = 8_192;

/// What a server says about itself. Fields that it left out have their default.
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
    /// Revision it was built from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub git_commit: String,
    /// Where it listens.
    pub host: String,
    /// Where it listens.
    pub port: i64,
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
    /// Its address, where it is not its `host`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ip: String,
    /// Name of the cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Whether the cluster's name was made up by its servers.
    #[serde(skip_serializing_if = "is_false")]
    pub cluster_dynamic: bool,
    /// JetStream domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Other servers of the cluster, `host:port`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connect_urls: Vec<String>,
    /// The same for WebSocket.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ws_connect_urls: Vec<String>,
    /// Public curve key of the server (2.10 and later).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub xkey: String,
    /// Compression between servers (2.10 and later).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub compression: String,
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
    /// Whether that account is the system's (2.12 and later).
    #[serde(skip_serializing_if = "is_false")]
    pub acc_is_sys: bool,
    /// JetStream API level (2.12 and later).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_lvl: Option<i64>,
    /// Fields that this crate does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl ServerInfo {
    /// Reads the JSON of an INFO.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`] for more than [`INFO_BYTES_MAX`] bytes or [`INFO_VALUES_MAX`] values, and
    /// for JSON that is malformed or has a known field of another type.
    pub fn parse(json: &[u8]) -> Result<Self, HandshakeError> {
        if json.len() > INFO_BYTES_MAX {
            return Err(HandshakeError::TooLong {
                found: json.len(),
                max: INFO_BYTES_MAX,
            });
        }
        let found = memchr_iter(b',', json).count().saturating_add(1);
        if found > INFO_VALUES_MAX {
            return Err(HandshakeError::TooManyValues {
                found,
                max: INFO_VALUES_MAX,
            });
        }
        let mut fields = Map::new();
        fields::read(json, KNOWN, &mut fields)?;
        Self::deserialize(Value::Object(fields)).map_err(json_error)
    }

    /// Bytes of headers and payload that the server takes; without a limit, all there are.
    pub(crate) fn body_bytes_max(&self) -> usize {
        let max = usize::try_from(self.max_payload).ok();
        max.filter(|max| *max > 0).unwrap_or(usize::MAX)
    }

    /// The JSON of an INFO.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        write(self)
    }
}

/// The fields that are known.
const KNOWN: &[(&str, Kind)] = &[
    ("server_id", Kind::Text),
    ("server_name", Kind::Text),
    ("version", Kind::Text),
    ("go", Kind::Text),
    ("git_commit", Kind::Text),
    ("host", Kind::Text),
    ("port", Kind::Integer),
    ("headers", Kind::Flag),
    ("max_payload", Kind::Integer),
    ("proto", Kind::Integer),
    ("client_id", Kind::Unsigned),
    ("client_ip", Kind::Text),
    ("auth_required", Kind::Flag),
    ("tls_required", Kind::Flag),
    ("tls_available", Kind::Flag),
    ("tls_verify", Kind::Flag),
    ("nonce", Kind::Text),
    ("ip", Kind::Text),
    ("cluster", Kind::Text),
    ("cluster_dynamic", Kind::Flag),
    ("domain", Kind::Text),
    ("connect_urls", Kind::Texts),
    ("ws_connect_urls", Kind::Texts),
    ("xkey", Kind::Text),
    ("compression", Kind::Text),
    ("jetstream", Kind::Flag),
    ("ldm", Kind::Flag),
    ("connect_info", Kind::Flag),
    ("remote_account", Kind::Text),
    ("acc_is_sys", Kind::Flag),
    ("api_lvl", Kind::Integer),
];

impl Default for ServerInfo {
    fn default() -> Self {
        Self {
            server_id: String::new(),
            server_name: String::new(),
            version: String::new(),
            go: String::new(),
            git_commit: String::new(),
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
            ip: String::new(),
            cluster: String::new(),
            cluster_dynamic: false,
            domain: String::new(),
            connect_urls: Vec::new(),
            ws_connect_urls: Vec::new(),
            xkey: String::new(),
            compression: String::new(),
            jetstream: false,
            ldm: false,
            connect_info: false,
            remote_account: String::new(),
            acc_is_sys: false,
            api_lvl: None,
            other: Map::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_info_with_unknown_and_missing_fields_is_read() {
        let info = ServerInfo::parse(br#"{"max_payload":-1,"new":[1],"headers":true}"#).unwrap();
        assert_eq!((info.max_payload, info.headers, info.port), (-1, true, 0));
        assert_eq!(info.other["new"], serde_json::json!([1]));
        assert_eq!(ServerInfo::parse(&info.to_json()), Ok(info));
    }

    #[test]
    fn a_real_info_leaves_nothing_unknown() {
        let json = br#"{"server_id":"NA","server_name":"n","version":"2.15.1","proto":1,
            "git_commit":"1","go":"go1.25","host":"0.0.0.0","port":4222,"headers":true,
            "max_payload":1048576,"jetstream":true,"client_id":5,"client_ip":"127.0.0.1",
            "xkey":"X","cluster":"c","cluster_dynamic":true,"domain":"d","ip":"10.0.0.1",
            "connect_urls":["a:1"],"ws_connect_urls":["a:2"],"nonce":"n","ldm":true,
            "auth_required":true,"tls_required":true,"tls_available":true,"tls_verify":true,
            "compression":"s2","connect_info":true,"remote_account":"$G","acc_is_sys":true,
            "api_lvl":5}"#;
        let info = ServerInfo::parse(json).unwrap();
        assert!(info.other.is_empty(), "{:?}", info.other);
        let again: Value = serde_json::from_slice(&info.to_json()).unwrap();
        assert_eq!(again, serde_json::from_slice::<Value>(json).unwrap());
    }

    #[test]
    fn null_says_nothing_and_the_last_of_several_counts() {
        let json = br#"{"server_id":null,"headers":null,"Port":1,"port":2,"api_lvl":null}"#;
        let info = ServerInfo::parse(json).unwrap();
        assert_eq!(
            (info.server_id.as_str(), info.headers, info.port),
            ("", false, 2)
        );
    }

    #[test]
    fn a_bad_info_says_why() {
        assert!(matches!(
            ServerInfo::parse(b"{"),
            Err(HandshakeError::Json(_))
        ));
        assert!(ServerInfo::parse(br#"{"port":"4222"}"#).is_err());
        let long = vec![b' '; INFO_BYTES_MAX + 1];
        assert!(matches!(
            ServerInfo::parse(&long),
            Err(HandshakeError::TooLong { .. })
        ));
        let many = |count: usize| format!(r#"{{"a":[0{}]}}"#, ",0".repeat(count - 1));
        assert!(ServerInfo::parse(many(INFO_VALUES_MAX).as_bytes()).is_ok());
        assert_eq!(
            ServerInfo::parse(many(INFO_VALUES_MAX + 1).as_bytes()),
            Err(HandshakeError::TooManyValues {
                found: 8_193,
                max: INFO_VALUES_MAX
            })
        );
        let deep = [vec![b'['; 30_000], vec![b']'; 30_000]].concat();
        let deep = [br#"{"a":"#.as_slice(), &deep, b"}"].concat();
        assert!(
            ServerInfo::parse(&deep).unwrap().other.is_empty(),
            "and no stack overflow"
        );
    }
}
