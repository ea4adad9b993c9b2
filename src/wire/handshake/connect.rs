//! CONNECT as a type: what a client says about itself.

use core::fmt;
use std::io;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::fields::{self, Kind};
use super::{HandshakeError, is_false, json_error, write, write_to};

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
    /// Public key of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nkey: Option<String>,
    /// Credentials that an operator has signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<String>,
    /// Signature of INFO's nonce, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sig: Option<String>,
    /// Account to belong to. Servers refuse a connection that names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Whether that account is to be made.
    #[serde(skip_serializing_if = "is_false")]
    pub new_account: bool,
    /// Signature of a trusted proxy (2.12 and later).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_sig: Option<String>,
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
    /// Fields that this crate does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
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

    /// Reads the JSON of a CONNECT as servers do: names in any case, the last of several counts,
    /// null says nothing, and bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Json`] when it is malformed or a known field has another type.
    pub fn parse(json: &[u8]) -> Result<Self, HandshakeError> {
        Self::default().updated(json)
    }

    /// Reads the JSON of a further CONNECT: what it leaves out stays as it is here.
    ///
    /// # Errors
    ///
    /// As [`Connect::parse`].
    pub fn updated(&self, json: &[u8]) -> Result<Self, HandshakeError> {
        let Value::Object(mut fields) = serde_json::to_value(self).map_err(json_error)? else {
            return Ok(Self::default());
        };
        fields::read(json, KNOWN, &mut fields)?;
        Self::deserialize(Value::Object(fields)).map_err(json_error)
    }

    /// The `-ERR` text with which every server answers before it closes the connection; `None` for
    /// a CONNECT that only credentials can decide.
    #[must_use]
    pub fn refusal(&self) -> Option<&'static str> {
        let names_account = self.account.as_ref().is_some_and(|name| !name.is_empty());
        let names_account = names_account || self.new_account;
        if !(0..=1).contains(&self.protocol) {
            Some(INVALID_PROTOCOL)
        } else if names_account {
            Some("Authorization Violation")
        } else if self.no_responders && !self.headers {
            Some("no responders requires headers support")
        } else {
            None
        }
    }

    /// The JSON of a CONNECT, on one line.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        write(self)
    }

    /// Bytes of [`Connect::to_json`].
    #[must_use]
    pub fn json_len(&self) -> usize {
        let mut count = Count(0);
        write_to(&mut count, self);
        count.0
    }

    /// Appends what [`Connect::to_json`] returns, without a copy elsewhere.
    pub fn append_json(&self, out: &mut Vec<u8>) {
        write_to(out, self);
    }
}

/// Counts what is written.
struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
            nkey: None,
            jwt: None,
            sig: None,
            account: None,
            new_account: false,
            proxy_sig: None,
            name: None,
            lang: String::new(),
            version: String::new(),
            protocol: 0,
            echo: true,
            headers: false,
            no_responders: false,
            other: Map::new(),
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

/// The answer to a `protocol` other than 0 and 1, which goes before credentials.
pub(crate) const INVALID_PROTOCOL: &str = "invalid client protocol";

/// The fields that servers know.
const KNOWN: &[(&str, Kind)] = &[
    ("verbose", Kind::Flag),
    ("pedantic", Kind::Flag),
    ("tls_required", Kind::Flag),
    ("user", Kind::Text),
    ("pass", Kind::Text),
    ("auth_token", Kind::Text),
    ("nkey", Kind::Text),
    ("jwt", Kind::Text),
    ("sig", Kind::Text),
    ("account", Kind::Text),
    ("new_account", Kind::Flag),
    ("proxy_sig", Kind::Text),
    ("name", Kind::Text),
    ("lang", Kind::Text),
    ("version", Kind::Text),
    ("protocol", Kind::Integer),
    ("echo", Kind::Flag),
    ("headers", Kind::Flag),
    ("no_responders", Kind::Flag),
    ("import", Kind::Object),
    ("export", Kind::Object),
    ("remote_account", Kind::Text),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields that leaf nodes send; clients may not know them, but servers check their types.
    const LEAF_ONLY: [&str; 3] = ["import", "export", "remote_account"];

    #[test]
    fn a_number_of_an_unknown_field_is_the_same_after_it_was_written() {
        let digits = "7".repeat(97) + "000";
        for text in [digits.as_str(), "7.5e-300", "1e23", "-0.1"] {
            let json = format!(r#"{{"new":{text}}}"#);
            let connect = Connect::parse(json.as_bytes()).unwrap();
            let again = Connect::parse(&connect.to_json()).unwrap();
            assert_eq!(again.other, connect.other, "{text}");
        }
    }

    #[test]
    fn what_a_connect_leaves_out_means_what_it_means_to_a_server() {
        let bare = Connect::parse(b"{}").unwrap();
        assert!(bare.verbose && bare.pedantic && bare.echo && !bare.headers);
        assert_eq!(Connect::parse(b"null"), Ok(bare));
        let sent = Connect::parse(&Connect::new().to_json()).unwrap();
        assert!(!sent.verbose && !sent.pedantic && sent.echo && sent.protocol == 1);
    }

    #[test]
    fn names_are_read_in_any_case_and_the_last_counts() {
        let json = br#"{"VERBOSE":true,"verbose":false,"Echo":false,"echo":null,"New":1}"#;
        let connect = Connect::parse(json).unwrap();
        assert!(!connect.verbose && !connect.echo);
        assert_eq!(connect.other["New"], 1);
        assert_eq!(Connect::parse(&connect.to_json()), Ok(connect));
        let name = Connect::parse(b"{\"name\":\"a\xff\"}").unwrap().name;
        assert_eq!(name.as_deref(), Some("a\u{fffd}"));
    }

    #[test]
    fn a_further_connect_changes_what_it_names() {
        let first = Connect::parse(br#"{"headers":true,"name":"a","echo":false}"#).unwrap();
        let second = first
            .updated(br#"{"no_responders":true,"name":"b"}"#)
            .unwrap();
        assert!(second.headers && second.no_responders && !second.echo);
        assert_eq!(second.name.as_deref(), Some("b"));
        assert!(first.updated(b"{").is_err());
    }

    #[test]
    fn every_field_is_kept() {
        let mut all = Map::new();
        for (name, kind) in KNOWN.iter().filter(|(name, _)| !LEAF_ONLY.contains(name)) {
            let value = match kind {
                Kind::Integer | Kind::Unsigned => Value::from(1),
                Kind::Flag => Value::from(true),
                Kind::Text | Kind::Texts | Kind::Object => Value::from("text"),
            };
            all.insert((*name).to_owned(), value);
        }
        let json = Value::Object(all).to_string();
        let connect = Connect::parse(json.as_bytes()).unwrap();
        assert!(connect.other.is_empty(), "{:?}", connect.other);
        let again: Value = serde_json::from_slice(&connect.to_json()).unwrap();
        assert_eq!(again.to_string(), json);
    }

    #[test]
    fn a_connect_that_servers_refuse_is_refused() {
        for json in [
            "",
            "{",
            "[]",
            "7",
            "{} x",
            r#"{"verbose":1}"#,
            r#"{"name":7}"#,
            r#"{"protocol":1.0}"#,
            r#"{"import":5}"#,
            r#"{"remote_account":5}"#,
            "{\"ver\u{17f}ion\":5}",
        ] {
            assert!(Connect::parse(json.as_bytes()).is_err(), "{json}");
        }
    }

    #[test]
    fn what_no_server_takes_is_told_beforehand() {
        let refusal = |json: &str| Connect::parse(json.as_bytes()).unwrap().refusal();
        assert_eq!(
            refusal(r#"{"headers":true,"no_responders":true,"account":""}"#),
            None
        );
        let headers = "no responders requires headers support";
        assert_eq!(refusal(r#"{"no_responders":true}"#), Some(headers));
        assert_eq!(refusal(r#"{"protocol":2}"#), Some(INVALID_PROTOCOL));
        assert_eq!(refusal(r#"{"protocol":-1}"#), Some(INVALID_PROTOCOL));
        let new_account = refusal(r#"{"new_account":true}"#);
        assert_eq!(new_account, Some("Authorization Violation"));
        let account = r#"{"account":"a","no_responders":true}"#;
        assert_eq!(refusal(account), Some("Authorization Violation"));
    }

    #[test]
    fn secrets_do_not_show() {
        let canary = || Some("canary".to_owned());
        let mut connect = Connect::new();
        connect.pass = canary();
        connect.auth_token = canary();
        connect.user = canary();
        connect.jwt = canary();
        connect.nkey = canary();
        connect.sig = canary();
        connect.proxy_sig = canary();
        connect.other.insert("secret".into(), "canary".into());
        assert!(!format!("{connect:?}").contains("canary"));
    }
}
