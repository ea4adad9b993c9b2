//! Where a client's credentials come from, at each attempt to connect.
//!
//! ```text
//!   user, token, NKey, JWT, creds text ---> fixed: the session signs by itself
//!   signing function, creds file, callback ---> asked, in a task of their own, until the deadline
//! ```

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::io::{ErrorKind as IoErrorKind, Read};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::task::{JoinHandle, spawn, spawn_blocking};
use zeroize::Zeroizing;

use crate::session::{
    Auth, CREDS_BYTES_MAX, Credentials, CredentialsError, CredsError, Secret, ServerAddr,
};

use super::error::{Error, ErrorKind};
use super::options::ConnectOptions;

/// What a callback fails with; its text is told, so it is not to hold secrets.
type Refusal = Box<dyn StdError + Send + Sync>;

type Sign = dyn Fn(&[u8]) -> Result<Vec<u8>, Refusal> + Send + Sync;

type Ask = dyn Fn(ServerAddr, Option<String>) -> Asked + Send + Sync;

type Asked = Pin<Box<dyn Future<Output = Result<Credentials, Refusal>> + Send>>;

/// How to identify ourselves. Every way has one method, and a second way is refused by
/// [`ConnectOptions::connect`]; the same way again replaces what it said before.
///
/// Credentials in a server's URL go before all of these. What is to be signed is signed anew at
/// each attempt.
impl ConnectOptions {
    /// Identifies by user name and password, with servers whose URL carries no credentials.
    #[must_use]
    pub fn user_and_password(self, user: &str, password: &str) -> Self {
        let credentials = Credentials::user_and_password(user, password);
        self.identified_by("user_and_password", Source::Fixed(credentials))
    }

    /// Identifies by token, with servers whose URL carries no credentials.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.identified_by("token", Source::Fixed(Credentials::token(token)))
    }

    /// Identifies by a user's key. The seed is kept in memory and wiped with the client.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Credentials`] when `seed` is no seed of a user.
    pub fn nkey(self, seed: &str) -> Result<Self, Error> {
        let credentials = Credentials::nkey(seed)?;
        Ok(self.identified_by("nkey", Source::Fixed(credentials)))
    }

    /// Identifies by a user's key that stays elsewhere: `sign` returns the Ed25519 signature, 64 bytes,
    /// of what it is given. It runs in a thread where it may block.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Credentials`] when `public_key` is no public key of a user.
    pub fn nkey_with(
        self,
        public_key: &str,
        sign: impl Fn(&[u8]) -> Result<Vec<u8>, Refusal> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        Credentials::nkey_signed(public_key, &[0; 64])?;
        let source = Source::NKey {
            public_key: public_key.to_owned(),
            sign: Arc::new(sign),
        };
        Ok(self.identified_by("nkey_with", source))
    }

    /// Identifies by a user's JWT, whose key stays elsewhere: `sign` returns the Ed25519 signature, 64
    /// bytes, of what it is given. It runs in a thread where it may block.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Credentials`] when `jwt` is no JWT.
    pub fn jwt(
        self,
        jwt: impl Into<Secret>,
        sign: impl Fn(&[u8]) -> Result<Vec<u8>, Refusal> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let jwt = jwt.into();
        Credentials::bearer(jwt.clone())?;
        let sign = Arc::new(sign);
        Ok(self.identified_by("jwt", Source::Jwt { jwt, sign }))
    }

    /// Identifies by a user's JWT and the seed of its key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Credentials`] when `jwt` is no JWT or `seed` is no seed of a user.
    pub fn jwt_and_seed(self, jwt: impl Into<Secret>, seed: &str) -> Result<Self, Error> {
        let credentials = Credentials::jwt(jwt, seed)?;
        Ok(self.identified_by("jwt_and_seed", Source::Fixed(credentials)))
    }

    /// Identifies by the text of a `.creds` file: a user's JWT and the seed of its key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Credentials`] when it is none. The error does not repeat the text.
    pub fn credentials(self, text: &str) -> Result<Self, Error> {
        let credentials = Credentials::creds(text)?;
        Ok(self.identified_by("credentials", Source::Fixed(credentials)))
    }

    /// Identifies by a `.creds` file, which is read again at each attempt, so that a file that was
    /// renewed in the meantime counts. While it is not there, or broken, attempts fail; while it is
    /// out of date, servers refuse: see [`Self::retry_refused`].
    #[must_use]
    pub fn credentials_file(self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().to_owned();
        self.identified_by("credentials_file", Source::File(path))
    }

    /// Asks `callback` at each attempt, once INFO has come: with the server, and its nonce if it has
    /// sent one. It has the rest of the connect timeout, and is dropped when that is over.
    ///
    /// ```no_run
    /// # async fn fetch_token() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// use natseq::session::Credentials;
    ///
    /// let options = natseq::ConnectOptions::new().auth_callback(|_server, _nonce| async {
    ///     Ok(Credentials::token(fetch_token().await?))
    /// });
    /// ```
    #[must_use]
    pub fn auth_callback<F, C>(self, callback: C) -> Self
    where
        C: Fn(ServerAddr, Option<String>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Credentials, Refusal>> + Send + 'static,
    {
        let ask = move |server, nonce| -> Asked { Box::pin(callback(server, nonce)) };
        self.identified_by("auth_callback", Source::Callback(Arc::new(ask)))
    }

    /// Goes on dialing a server that has refused our credentials twice in a row in the same words, as
    /// it does after other failures. Default: false, the client ends.
    ///
    /// For credentials that are renewed behind time, or servers that learn of users late.
    #[must_use]
    pub const fn retry_refused(mut self, retries: bool) -> Self {
        self.retries_refused = retries;
        self
    }

    fn identified_by(mut self, name: &'static str, source: Source) -> Self {
        self.identity.add(name, source);
        self
    }
}

/// How a client finds its credentials.
#[derive(Debug, Clone, Default)]
pub(super) struct Identity {
    name: &'static str,
    source: Source,
    conflict: Option<CredentialsError>,
}

#[derive(Clone, Default)]
enum Source {
    #[default]
    None,
    Fixed(Credentials),
    NKey {
        public_key: String,
        sign: Arc<Sign>,
    },
    Jwt {
        jwt: Secret,
        sign: Arc<Sign>,
    },
    File(PathBuf),
    Callback(Arc<Ask>),
}

/// Credentials on their way.
pub(super) type Asking =
    Pin<Box<dyn Future<Output = Result<Credentials, CredentialsError>> + Send>>;

impl Identity {
    fn add(&mut self, name: &'static str, source: Source) {
        if !matches!(self.source, Source::None) && self.name != name {
            self.conflict = Some(CredentialsError::Exclusive {
                first: self.name,
                second: name,
            });
        }
        self.name = name;
        self.source = source;
    }

    /// Refuses more than one way to identify.
    pub(super) fn check(&self) -> Result<(), CredentialsError> {
        self.conflict.clone().map_or(Ok(()), Err)
    }

    /// What the session knows of it.
    pub(super) fn auth(&self) -> Auth {
        match &self.source {
            Source::None => Auth::None,
            Source::Fixed(credentials) => Auth::Fixed(credentials.clone()),
            Source::NKey { .. } | Source::Jwt { .. } | Source::File(_) | Source::Callback(_) => {
                Auth::Asked
            }
        }
    }

    /// Finds the credentials for one attempt, when [`Identity::auth`] is [`Auth::Asked`].
    pub(super) fn ask(&self, server: ServerAddr, nonce: Option<String>) -> Asking {
        match self.source.clone() {
            Source::None => Box::pin(async { Ok(Credentials::new()) }),
            Source::Fixed(credentials) => Box::pin(async { Ok(credentials) }),
            Source::NKey { public_key, sign } => Box::pin(async move {
                // Whether a server without a nonce is acceptable is the session's to say.
                let signature = signed(sign, nonce).await?;
                Credentials::nkey_signed(&public_key, &signature)
            }),
            Source::Jwt { jwt, sign } => Box::pin(async move {
                let signature = signed(sign, nonce).await?;
                Credentials::jwt_signed(jwt, &signature)
            }),
            Source::File(path) => Box::pin(own(spawn_blocking(move || read(&path)))),
            Source::Callback(ask) => Box::pin(async move {
                // The call itself may panic, too.
                own(spawn(
                    async move { ask(server, nonce).await.map_err(refusal) },
                ))
                .await
            }),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => out.write_str("None"),
            Self::Fixed(credentials) => fmt::Debug::fmt(credentials, out),
            Self::NKey { .. } => out.write_str("NKey(..)"),
            Self::Jwt { .. } => out.write_str("Jwt(..)"),
            Self::File(path) => write!(out, "File({})", path.display()),
            Self::Callback(_) => out.write_str("Callback(..)"),
        }
    }
}

impl From<CredentialsError> for Error {
    fn from(error: CredentialsError) -> Self {
        Self::with_source(ErrorKind::Credentials, error)
    }
}

/// The signature of the nonce; of nothing when there is no nonce.
async fn signed(sign: Arc<Sign>, nonce: Option<String>) -> Result<Vec<u8>, CredentialsError> {
    let Some(nonce) = nonce else {
        return Ok(vec![0; 64]);
    };
    own(spawn_blocking(move || {
        sign(nonce.as_bytes()).map_err(refusal)
    }))
    .await
}

/// Reads a `.creds` file, at most as much as one may hold.
fn read(path: &Path) -> Result<Credentials, CredentialsError> {
    let failed = |kind: IoErrorKind| CredentialsError::File {
        path: path.display().to_string(),
        kind,
    };
    let file = std::fs::File::open(path).map_err(|error| failed(error.kind()))?;
    let bytes_max = CREDS_BYTES_MAX.saturating_add(1);
    // Of its full size from the start: a buffer that grows leaves its content behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(bytes_max.saturating_add(READ_SPARE)));
    file.take(bytes_max as u64)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(error.kind()))?;
    if bytes.len() > CREDS_BYTES_MAX {
        return Err(CredsError::TooLong { found: bytes.len() }.into());
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| failed(IoErrorKind::InvalidData))?;
    Credentials::creds(text)
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to `map_err`")]
fn refusal(error: Refusal) -> CredentialsError {
    CredentialsError::Owner(error.to_string().chars().take(TOLD_CHARS_MAX).collect())
}

/// Waits for a task and ends it when it is waited for no more; a panic there is an error here.
fn own<T>(
    task: JoinHandle<Result<T, CredentialsError>>,
) -> impl Future<Output = Result<T, CredentialsError>> {
    Own(task)
}

struct Own<T>(JoinHandle<Result<T, CredentialsError>>);

impl<T> Future for Own<T> {
    type Output = Result<T, CredentialsError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|result| {
            result.unwrap_or_else(|_| Err(CredentialsError::Owner("it panicked".to_owned())))
        })
    }
}

impl<T> Drop for Own<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Room that keeps a read of the full size from asking for more.
const READ_SPARE: usize = 64;

/// Characters of a callback's error that are told.
const TOLD_CHARS_MAX: usize = 512;
