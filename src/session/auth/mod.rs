//! Credentials for CONNECT. Never shown by `Debug`, and wiped when dropped.
//!
//! ```text
//!   URL ------------------+
//!   options: fixed -------+--> Credentials --(nonce of this INFO)--> CONNECT
//!   owner, asked each time+
//! ```

mod creds;
mod nkey;

use std::fmt;

use zeroize::Zeroize;

use crate::secret::{Secret, SecretBytes};
use crate::wire::encode;
use crate::wire::handshake::{Connect, ServerInfo};

use super::server_addr::UrlCredentials;

use creds::Creds;
pub use creds::{CREDS_BYTES_MAX, CredsError};
pub use nkey::{KeyKind, KeyPair, NKeyError};

/// How to identify ourselves to servers whose URL carries no credentials.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// Always in the same way; what is to be signed is signed anew each time.
    Fixed(Credentials),
    /// As the owner says when it is asked, at each attempt.
    Asked,
}

impl Auth {
    /// The credentials for a server: those in its URL go first. `None`: the owner is to be asked.
    pub(super) fn for_server(&self, in_url: Option<&UrlCredentials>) -> Option<Credentials> {
        match (in_url, self) {
            (Some(UrlCredentials::UserAndPassword(user, password)), _) => {
                Some(Credentials::user_and_password(user, password.clone()))
            }
            (Some(UrlCredentials::Token(token)), _) => Some(Credentials::token(token.clone())),
            (None, Self::None) => Some(Credentials::new()),
            (None, Self::Fixed(credentials)) => Some(credentials.clone()),
            (None, Self::Asked) => None,
        }
    }
}

/// What a client shows to one server at one attempt.
#[derive(Clone, Default)]
pub struct Credentials {
    user: Option<String>,
    password: Option<Secret>,
    token: Option<Secret>,
    public_key: Option<String>,
    jwt: Option<Secret>,
    proof: Proof,
}

/// How the nonce is signed.
#[derive(Clone, Default)]
enum Proof {
    #[default]
    None,
    Key(KeyPair),
    Signature([u8; nkey::SIGNATURE_BYTES]),
}

impl Proof {
    fn signature(bytes: &[u8]) -> Result<Self, CredentialsError> {
        let found = bytes.len();
        let signature = bytes.try_into();
        signature.map_or(
            Err(CredentialsError::SignatureLength { found }),
            |signature| Ok(Self::Signature(signature)),
        )
    }
}

impl Credentials {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// User name and password.
    #[must_use]
    pub fn user_and_password(user: &str, password: impl Into<Secret>) -> Self {
        Self {
            user: Some(user.to_owned()),
            password: Some(password.into()),
            ..Self::default()
        }
    }

    /// A token.
    #[must_use]
    pub fn token(token: impl Into<Secret>) -> Self {
        Self {
            token: Some(token.into()),
            ..Self::default()
        }
    }

    /// A user's key, by its seed.
    ///
    /// # Errors
    ///
    /// [`CredentialsError::Key`]
    pub fn nkey(seed: &str) -> Result<Self, CredentialsError> {
        let pair = KeyPair::from_seed(seed)?;
        Ok(Self {
            public_key: Some(pair.public_key()),
            ..Self::default().proven_by(pair)?
        })
    }

    /// A user's public key, and the server's nonce as its holder has signed it (Ed25519, 64 bytes).
    ///
    /// # Errors
    ///
    /// [`CredentialsError::Key`] or [`CredentialsError::SignatureLength`].
    pub fn nkey_signed(public_key: &str, signature: &[u8]) -> Result<Self, CredentialsError> {
        nkey::check_user(public_key)?;
        Ok(Self {
            public_key: Some(public_key.to_owned()),
            proof: Proof::signature(signature)?,
            ..Self::default()
        })
    }

    /// A user's JWT, and the seed of the key that it names.
    ///
    /// # Errors
    ///
    /// [`CredentialsError::JwtForm`] or [`CredentialsError::Key`].
    pub fn jwt(jwt: impl Into<Secret>, seed: &str) -> Result<Self, CredentialsError> {
        Self::bearer(jwt)?.proven_by(KeyPair::from_seed(seed)?)
    }

    /// A user's JWT, and the server's nonce as the holder of its key has signed it (Ed25519, 64 bytes).
    ///
    /// # Errors
    ///
    /// [`CredentialsError::JwtForm`] or [`CredentialsError::SignatureLength`].
    pub fn jwt_signed(jwt: impl Into<Secret>, signature: &[u8]) -> Result<Self, CredentialsError> {
        Ok(Self {
            proof: Proof::signature(signature)?,
            ..Self::bearer(jwt)?
        })
    }

    /// A user's JWT that needs no signature, because its account says so (bearer token).
    ///
    /// # Errors
    ///
    /// [`CredentialsError::JwtForm`]
    pub fn bearer(jwt: impl Into<Secret>) -> Result<Self, CredentialsError> {
        let jwt = jwt.into();
        if !creds::is_jwt_form(jwt.expose()) {
            return Err(CredentialsError::JwtForm);
        }
        Ok(Self {
            jwt: Some(jwt),
            ..Self::default()
        })
    }

    /// JWT and seed out of the text of a `.creds` file.
    ///
    /// # Errors
    ///
    /// [`CredentialsError::Creds`]
    pub fn creds(text: &str) -> Result<Self, CredentialsError> {
        let Creds { jwt, key } = creds::parse(text)?;
        Ok(Self {
            jwt: Some(jwt),
            proof: Proof::Key(key),
            ..Self::default()
        })
    }

    /// These and those of `other`, which go first where both have the same kind: for servers whose
    /// authorization service looks at more than one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            user: other.user.or(self.user),
            password: other.password.or(self.password),
            token: other.token.or(self.token),
            public_key: other.public_key.or(self.public_key),
            jwt: other.jwt.or(self.jwt),
            proof: match other.proof {
                Proof::None => self.proof,
                Proof::Key(_) | Proof::Signature(_) => other.proof,
            },
        }
    }

    /// Puts the credentials into a CONNECT, in answer to the nonce of `info`.
    ///
    /// # Errors
    ///
    /// [`CredentialsError::NonceMissing`] for a key alone. A JWT goes without its signature then:
    /// only a server that does not look at JWTs sends no nonce.
    ///
    /// Source: [protocol-notes, "Nonce and signature"](crate::protocol_notes#nonce-and-signature).
    pub fn introduce(
        &self,
        connect: &mut Connect,
        info: &ServerInfo,
    ) -> Result<(), CredentialsError> {
        let nonce = Some(&info.nonce).filter(|nonce| !nonce.is_empty());
        if nonce.is_none() && self.public_key.is_some() {
            return Err(CredentialsError::NonceMissing);
        }
        let signature = match (&self.proof, nonce) {
            (Proof::Key(pair), Some(nonce)) => Some(pair.sign(nonce.as_bytes())),
            (Proof::Signature(signature), Some(_)) => Some(*signature),
            (Proof::None, _) | (Proof::Key(_) | Proof::Signature(_), None) => None,
        };
        let text = |secret: &Option<Secret>| secret.as_ref().map(|text| text.expose().to_owned());
        connect.user.clone_from(&self.user);
        connect.pass = text(&self.password);
        connect.auth_token = text(&self.token);
        connect.nkey.clone_from(&self.public_key);
        connect.jwt = text(&self.jwt);
        connect.sig = signature.as_ref().map(nkey::signature_text);
        Ok(())
    }

    fn proven_by(self, pair: KeyPair) -> Result<Self, CredentialsError> {
        if pair.kind() != KeyKind::User {
            return Err(NKeyError::Kind.into());
        }
        Ok(Self {
            proof: Proof::Key(pair),
            ..self
        })
    }
}

/// Says which kinds there are.
impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            (self.user.is_some(), "user"),
            (self.password.is_some(), "password"),
            (self.token.is_some(), "token"),
            (self.public_key.is_some(), "public_key"),
            (self.jwt.is_some(), "jwt"),
            (matches!(self.proof, Proof::Key(_)), "key"),
            (matches!(self.proof, Proof::Signature(_)), "signature"),
        ];
        let kinds = kinds.into_iter().filter(|(is_there, _)| *is_there);
        out.write_str("Credentials")?;
        out.debug_set()
            .entries(kinds.map(|(_, name)| Name(name)))
            .finish()
    }
}

/// A word that is shown without quotes.
struct Name(&'static str);

impl fmt::Debug for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0)
    }
}

/// CONNECT and the PING behind it, in one buffer of their exact length. Wipes `connect`.
///
/// # Errors
///
/// The bytes of the JSON, when they exceed `line_bytes_max`.
pub(super) fn greeting(mut connect: Connect, line_bytes_max: usize) -> Result<SecretBytes, usize> {
    let len = connect.json_len();
    let mut bytes = Vec::new();
    if len <= line_bytes_max {
        // A buffer that grows leaves its content behind.
        bytes.reserve_exact(len.saturating_add(FRAMING_BYTES));
        encode::connect(&mut bytes, &connect);
        encode::ping(&mut bytes);
    }
    for secret in [
        &mut connect.user,
        &mut connect.pass,
        &mut connect.auth_token,
        &mut connect.jwt,
        &mut connect.sig,
    ] {
        secret.zeroize();
    }
    if len > line_bytes_max {
        return Err(len);
    }
    Ok(bytes.into())
}

/// Why there are no credentials to show. None of these texts repeats a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The server's INFO has no nonce, so that a key cannot prove anything to it.
    NonceMissing,
    /// A text is no key.
    Key(NKeyError),
    /// A JWT is not three words of base64url with dots between them.
    JwtForm,
    /// A text is no `.creds` text.
    Creds(CredsError),
    /// Two ways to identify exclude each other.
    Exclusive {
        /// The one that was given first.
        first: &'static str,
        /// The other one.
        second: &'static str,
    },
    /// A signature is not 64 bytes long.
    SignatureLength {
        /// Its bytes.
        found: usize,
    },
    /// A `.creds` file could not be read.
    File {
        /// Where it was looked for.
        path: String,
        /// The operating system's classification.
        kind: std::io::ErrorKind,
    },
    /// The owner, who was asked, has none; in its words.
    Owner(String),
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NonceMissing => out.write_str("server sends no nonce for a key to sign"),
            Self::Key(error) => fmt::Display::fmt(error, out),
            Self::JwtForm => fmt::Display::fmt(&CredsError::JwtForm, out),
            Self::Creds(error) => fmt::Display::fmt(error, out),
            Self::Exclusive { first, second } => {
                write!(out, "{first} and {second} exclude each other")
            }
            Self::SignatureLength { found } => {
                write!(out, "signature of {found} bytes, allowed are 64")
            }
            Self::File { path, kind } => write!(out, "creds file {path}: {kind}"),
            Self::Owner(text) => write!(out, "no credentials: {text}"),
        }
    }
}

impl std::error::Error for CredentialsError {}

impl From<NKeyError> for CredentialsError {
    fn from(error: NKeyError) -> Self {
        Self::Key(error)
    }
}

impl From<CredsError> for CredentialsError {
    fn from(error: CredsError) -> Self {
        Self::Creds(error)
    }
}

/// `CONNECT `, two line ends and `PING`.
const FRAMING_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "ro1hdMMENSSQ_A8";

    fn info() -> ServerInfo {
        ServerInfo::parse(format!(r#"{{"nonce":"{NONCE}"}}"#).as_bytes()).unwrap()
    }

    fn pair() -> KeyPair {
        KeyPair::new(KeyKind::User, &[9; 32])
    }

    fn shown(credentials: &Credentials, info: &ServerInfo) -> serde_json::Value {
        let mut connect = Connect::new();
        credentials.introduce(&mut connect, info).unwrap();
        serde_json::from_slice(&connect.to_json()).unwrap()
    }

    #[test]
    fn credentials_in_the_url_go_first_and_nothing_shows_them() {
        let auth = Auth::Fixed(Credentials::token("canary"));
        let in_url = UrlCredentials::UserAndPassword("canary".into(), "canary".into());
        for asked in [&auth, &Auth::Asked, &Auth::None] {
            let chosen = asked.for_server(Some(&in_url)).unwrap();
            let json = shown(&chosen, &info());
            assert_eq!(
                (&json["user"], &json["pass"]),
                (&"canary".into(), &"canary".into())
            );
            assert!(json["auth_token"].is_null());
            assert!(!format!("{asked:?} {chosen:?} {in_url:?}").contains("canary"));
        }
        let chosen = auth.for_server(Some(&UrlCredentials::Token("t".into())));
        assert_eq!(shown(&chosen.unwrap(), &info())["auth_token"], "t");
        let chosen = auth.for_server(None).unwrap();
        assert_eq!(shown(&chosen, &info())["auth_token"], "canary");
        assert!(Auth::Asked.for_server(None).is_none());
    }

    #[test]
    fn a_key_signs_the_nonce_of_this_server() {
        let seed = pair().seed();
        let json = shown(&Credentials::nkey(seed.expose()).unwrap(), &info());
        assert_eq!(json["nkey"], pair().public_key());
        let signature = pair().sign(NONCE.as_bytes());
        assert_eq!(json["sig"], nkey::signature_text(&signature));
        let public = pair().public_key();
        let signed = Credentials::nkey_signed(&public, &signature).unwrap();
        assert_eq!(shown(&signed, &info()), json);
        let short = Credentials::jwt_signed("a.b.c", &signature[1..]).unwrap_err();
        assert_eq!(short.to_string(), "signature of 63 bytes, allowed are 64");
        let jwt = Credentials::jwt("a.b.c", seed.expose()).unwrap();
        let json = shown(&jwt, &info());
        assert_eq!(json["jwt"], "a.b.c");
        assert_eq!(json["sig"], nkey::signature_text(&signature));
        assert!(json["nkey"].is_null());
    }

    #[test]
    fn a_key_alone_needs_a_nonce_and_a_jwt_does_not() {
        let seed = pair().seed();
        let none = ServerInfo::default();
        let mut connect = Connect::new();
        let key = Credentials::nkey(seed.expose()).unwrap();
        let error = key.introduce(&mut connect, &none).unwrap_err();
        assert_eq!(error, CredentialsError::NonceMissing);
        assert_eq!(connect, Connect::new());
        let jwt = Credentials::jwt("a.b.c", seed.expose()).unwrap();
        let json = shown(&jwt, &none);
        assert!(json["sig"].is_null() && json["jwt"] == "a.b.c");
    }

    #[test]
    fn keys_of_operators_and_accounts_do_not_identify_a_user() {
        for kind in [KeyKind::Operator, KeyKind::Account] {
            let pair = KeyPair::new(kind, &[1; 32]);
            let seed = pair.seed();
            let kind = CredentialsError::Key(NKeyError::Kind);
            assert_eq!(Credentials::nkey(seed.expose()).unwrap_err(), kind);
            assert_eq!(Credentials::jwt("a.b.c", seed.expose()).unwrap_err(), kind);
            let signed = Credentials::nkey_signed(&pair.public_key(), &[0; 64]);
            assert_eq!(signed.unwrap_err(), kind);
        }
        assert_eq!(
            Credentials::bearer("a.b").unwrap_err(),
            CredentialsError::JwtForm
        );
    }

    #[test]
    fn several_kinds_go_together_when_asked_for() {
        let both = Credentials::user_and_password("u", "p").and(Credentials::token("t"));
        let json = shown(&both, &info());
        assert_eq!(
            (&json["user"], &json["auth_token"]),
            (&"u".into(), &"t".into())
        );
        assert_eq!(format!("{both:?}"), "Credentials{user, password, token}");
    }

    #[test]
    fn a_greeting_is_built_in_place_and_bounded() {
        let mut connect = Connect::new();
        connect.pass = Some("p".repeat(1_000));
        let len = connect.to_json().len();
        let bytes = greeting(connect.clone(), len).unwrap();
        let bytes = bytes.expose();
        assert_eq!(bytes.len(), len + FRAMING_BYTES);
        assert!(bytes.ends_with(b"}\r\nPING\r\n"));
        assert_eq!(greeting(connect, len - 1).unwrap_err(), len);
    }
}
