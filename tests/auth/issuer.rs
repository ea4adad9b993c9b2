//! Makes operators, accounts and users as a deployment's own tool would: JWTs signed by keys of NATS.

use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use natseq::session::{KeyKind, KeyPair};
use serde_json::{Value, json};

/// An operator with one account.
pub(crate) struct Issuer {
    operator: KeyPair,
    account: KeyPair,
}

impl Issuer {
    pub(crate) fn new() -> Self {
        Self {
            operator: KeyPair::new(KeyKind::Operator, &[11; 32]),
            account: KeyPair::new(KeyKind::Account, &[12; 32]),
        }
    }

    /// The configuration of a server that trusts the operator.
    pub(crate) fn config(&self) -> String {
        let operator = json!({ "type": "operator", "version": 2 });
        let operator = signed(&self.operator, &self.operator, "operator", None, operator);
        let limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
            "wildcards": true, "conn": -1, "leaf": -1,
        });
        let account = json!({ "type": "account", "version": 2, "limits": limits });
        let account = signed(&self.operator, &self.account, "account", None, account);
        let public = self.account.public_key();
        format!(
            "operator: {operator}\nresolver: MEMORY\nresolver_preload: {{ {public}: {account} }}"
        )
    }

    /// A user's JWT, which ends after so many seconds from now on.
    pub(crate) fn user(&self, user: &KeyPair, seconds: Option<i64>) -> String {
        self.user_with(user, seconds, json!({}))
    }

    /// A user's JWT with more fields of its own.
    pub(crate) fn user_with(&self, user: &KeyPair, seconds: Option<i64>, more: Value) -> String {
        let mut claims = json!({
            "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {},
        });
        let more = more.as_object().unwrap().clone();
        claims.as_object_mut().unwrap().extend(more);
        signed(&self.account, user, "user", seconds, claims)
    }
}

/// The text of a `.creds` file.
pub(crate) fn creds(jwt: &str, user: &KeyPair) -> String {
    let seed = user.seed();
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        seed.expose()
    )
}

/// A user's key; the number makes it another one.
pub(crate) fn user_key(number: u8) -> KeyPair {
    KeyPair::new(KeyKind::User, &[number; 32])
}

fn signed(
    issuer: &KeyPair,
    subject: &KeyPair,
    name: &str,
    ends: Option<i64>,
    nats: Value,
) -> String {
    let now = seconds_now();
    let mut claims = json!({
        "jti": "TEST", "iat": now, "iss": issuer.public_key(), "name": name,
        "sub": subject.public_key(), "nats": nats,
    });
    if let Some(seconds) = ends {
        claims["exp"] = json!(now.saturating_add_signed(seconds));
    }
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let word = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let text = format!("{}.{}", word(&header), word(&claims));
    let signature = BASE64URL_NOPAD.encode(&issuer.sign(text.as_bytes()));
    format!("{text}.{signature}")
}

#[expect(
    clippy::disallowed_methods,
    reason = "servers compare with their clock"
)]
fn seconds_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}
