//! Credentials from flags and from the environment that NATS people know.
//!
//! One flag, and the environment is not asked: whoever says who they are is not overruled by a
//! variable that was set for something else.

use std::error::Error;
use std::path::PathBuf;

use clap::Args;
use zeroize::Zeroizing;

use crate::client::ConnectOptions;
use crate::session::{CREDS_BYTES_MAX, Secret};

/// Who we are.
#[expect(clippy::doc_markdown, reason = "it is the program's help")]
#[derive(Args)]
pub(super) struct IdentityArgs {
    /// User name; without a password it is a token [env: NATS_USER]
    #[arg(long, global = true, value_name = "NAME")]
    user: Option<String>,
    /// Password [env: NATS_PASSWORD]
    #[arg(long, global = true)]
    password: Option<Secret>,
    /// Token [env: NATS_TOKEN]
    #[arg(long, global = true)]
    token: Option<Secret>,
    /// File with a user's JWT and seed, read again at each connect [env: NATS_CREDS]
    #[arg(long, global = true, value_name = "FILE")]
    creds: Option<PathBuf>,
    /// File with the seed of a user's key [env: NATS_NKEY]
    #[arg(long, global = true, value_name = "FILE")]
    nkey: Option<PathBuf>,
    /// A user's JWT, with --user-seed [env: NATS_JWT]
    #[arg(long, global = true, value_name = "JWT")]
    jwt: Option<Secret>,
    /// The seed of a user's key [env: NATS_SEED]
    #[arg(
        id = "user-seed",
        long = "user-seed",
        global = true,
        value_name = "SEED"
    )]
    seed: Option<Secret>,
}

/// One way to identify.
#[derive(Debug, PartialEq, Eq)]
enum Identity {
    None,
    UserAndPassword(String, Secret),
    Token(Secret),
    Creds(PathBuf),
    NKey(PathBuf),
    Seed(Secret),
    Jwt(Secret, Secret),
}

impl IdentityArgs {
    /// Adds the credentials to the options.
    pub(super) fn apply(&self, options: ConnectOptions) -> Result<ConnectOptions, Box<dyn Error>> {
        let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        Ok(match self.identity(variable)? {
            Identity::None => options,
            Identity::UserAndPassword(user, password) => {
                options.user_and_password(&user, password.expose())
            }
            Identity::Token(token) => options.token(token.expose()),
            Identity::Creds(path) => options.credentials_file(path),
            Identity::NKey(path) => options.nkey(&seed(&path)?)?,
            Identity::Seed(seed) => options.nkey(seed.expose())?,
            Identity::Jwt(jwt, seed) => options.jwt_and_seed(jwt, seed.expose())?,
        })
    }

    fn identity(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Identity, String> {
        let is_flag_given = self.user.is_some()
            || self.password.is_some()
            || self.token.is_some()
            || self.creds.is_some()
            || self.nkey.is_some()
            || self.jwt.is_some()
            || self.seed.is_some();
        if !is_flag_given {
            let environment = Self {
                user: variable("NATS_USER"),
                // Without a user it may be meant for another program.
                password: variable("NATS_USER")
                    .and_then(|_| variable("NATS_PASSWORD"))
                    .map(Secret::new),
                token: variable("NATS_TOKEN").map(Secret::new),
                creds: variable("NATS_CREDS").map(PathBuf::from),
                nkey: variable("NATS_NKEY").map(PathBuf::from),
                // Without a seed it proves nothing, and may be meant for another program.
                jwt: variable("NATS_SEED")
                    .and_then(|_| variable("NATS_JWT"))
                    .map(Secret::new),
                seed: variable("NATS_SEED").map(Secret::new),
            };
            return environment.chosen([
                "NATS_USER",
                "NATS_TOKEN",
                "NATS_CREDS",
                "NATS_NKEY",
                "NATS_SEED",
            ]);
        }
        let with_secrets = Self {
            user: self.user.clone(),
            // The flag says who, and the variable keeps the password off the command line.
            password: self.password.clone().or_else(|| {
                let is_user_given = self.user.is_some();
                let password = is_user_given.then(|| variable("NATS_PASSWORD")).flatten();
                password.map(Secret::new)
            }),
            token: self.token.clone(),
            creds: self.creds.clone(),
            nkey: self.nkey.clone(),
            jwt: self.jwt.clone(),
            // As with the password.
            seed: self.seed.clone().or_else(|| {
                let is_jwt_given = self.jwt.is_some();
                let seed = is_jwt_given.then(|| variable("NATS_SEED")).flatten();
                seed.map(Secret::new)
            }),
        };
        with_secrets.chosen(["--user", "--token", "--creds", "--nkey", "--user-seed"])
    }

    /// The one way that is given; `names` are for the user, token, creds, key and seed.
    fn chosen(self, names: [&str; 5]) -> Result<Identity, String> {
        let user = match (self.user, self.password) {
            (Some(user), Some(password)) => Some(Identity::UserAndPassword(user, password)),
            (Some(token), None) => Some(Identity::Token(token.into())),
            (None, Some(_)) => return Err("--password needs --user".to_owned()),
            (None, None) => None,
        };
        let seed = match (self.jwt, self.seed) {
            (Some(jwt), Some(seed)) => Some(Identity::Jwt(jwt, seed)),
            (None, Some(seed)) => Some(Identity::Seed(seed)),
            (Some(_), None) => return Err("--jwt needs --user-seed".to_owned()),
            (None, None) => None,
        };
        let ways = [
            user,
            self.token.map(Identity::Token),
            self.creds.map(Identity::Creds),
            self.nkey.map(Identity::NKey),
            seed,
        ];
        let mut given = ways
            .into_iter()
            .zip(names)
            .filter_map(|(way, name)| way.map(|way| (way, name)));
        match (given.next(), given.next()) {
            (None, _) => Ok(Identity::None),
            (Some((way, _)), None) => Ok(way),
            (Some((_, first)), Some((_, second))) => {
                Err(format!("{first} and {second} exclude each other"))
            }
        }
    }
}

/// The first line that begins as a user's seed does, bare or between marks.
fn seed(path: &PathBuf) -> Result<Zeroizing<String>, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("nkey file {}: {error}", path.display()))?;
    let text = Zeroizing::new(text);
    if text.len() > CREDS_BYTES_MAX {
        let len = text.len();
        return Err(format!(
            "nkey of {len} bytes exceeds {CREDS_BYTES_MAX} bytes"
        ));
    }
    let seed = text
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("SU"));
    let seed = seed.ok_or_else(|| format!("nkey file {} without a seed", path.display()))?;
    Ok(Zeroizing::new(seed.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> IdentityArgs {
        IdentityArgs {
            user: None,
            password: None,
            token: None,
            creds: None,
            nkey: None,
            jwt: None,
            seed: None,
        }
    }

    fn everything(name: &str) -> Option<String> {
        name.starts_with("NATS_")
            .then(|| "from the environment".to_owned())
    }

    #[test]
    fn a_flag_goes_before_every_variable() {
        let mut flags = nothing();
        flags.user = Some("u".into());
        let expected = Identity::UserAndPassword("u".into(), "from the environment".into());
        assert_eq!(flags.identity(everything), Ok(expected));
        flags.password = Some("p".into());
        let expected = Identity::UserAndPassword("u".into(), "p".into());
        assert_eq!(flags.identity(everything), Ok(expected));
        let mut flags = nothing();
        flags.creds = Some("c".into());
        assert_eq!(flags.identity(everything), Ok(Identity::Creds("c".into())));
    }

    #[test]
    fn a_user_without_a_password_is_a_token() {
        let mut flags = nothing();
        flags.user = Some("t".into());
        assert_eq!(flags.identity(|_| None), Ok(Identity::Token("t".into())));
        let only_user = |name: &str| (name == "NATS_USER").then(|| "t".to_owned());
        assert_eq!(
            nothing().identity(only_user),
            Ok(Identity::Token("t".into()))
        );
    }

    #[test]
    fn a_jwt_goes_with_a_seed_which_may_be_in_the_environment() {
        let mut flags = nothing();
        flags.jwt = Some("j".into());
        let expected = Identity::Jwt("j".into(), "from the environment".into());
        assert_eq!(flags.identity(everything), Ok(expected));
        let error = flags.identity(|_| None).unwrap_err();
        assert_eq!(error, "--jwt needs --user-seed");
        flags.seed = Some("s".into());
        let expected = Identity::Jwt("j".into(), "s".into());
        assert_eq!(flags.identity(everything), Ok(expected));
        flags.jwt = None;
        assert_eq!(flags.identity(everything), Ok(Identity::Seed("s".into())));
        let both = |name: &str| {
            ["NATS_JWT", "NATS_SEED"]
                .contains(&name)
                .then(|| name.into())
        };
        let expected = Identity::Jwt("NATS_JWT".into(), "NATS_SEED".into());
        assert_eq!(nothing().identity(both), Ok(expected));
        let only_jwt = |name: &str| (name == "NATS_JWT").then(|| name.into());
        assert_eq!(nothing().identity(only_jwt), Ok(Identity::None));
    }

    #[test]
    fn two_ways_to_identify_are_refused_by_their_names() {
        let mut flags = nothing();
        flags.token = Some("t".into());
        flags.nkey = Some("k".into());
        let error = flags.identity(everything).unwrap_err();
        assert_eq!(error, "--token and --nkey exclude each other");
        let error = nothing().identity(everything).unwrap_err();
        assert_eq!(error, "NATS_USER and NATS_TOKEN exclude each other");
        let mut flags = nothing();
        flags.password = Some("p".into());
        assert_eq!(
            flags.identity(|_| None).unwrap_err(),
            "--password needs --user"
        );
    }
}
