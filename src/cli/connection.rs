//! Servers and credentials, from the flags and the environment that NATS people know.

use std::error::Error;
use std::time::Duration;

use clap::Args;

use crate::client::{Client, ConnectOptions};
use crate::session::ServerAddr;
use crate::subject::Subject;

/// How to connect.
#[derive(Args)]
pub(super) struct ConnectionArgs {
    /// Servers, comma-separated: nats://user:password@host:port, all but the host optional
    #[arg(
        short,
        long,
        global = true,
        value_name = "URLS",
        env = "NATS_URL",
        hide_env_values = true,
        default_value = "127.0.0.1:4222"
    )]
    server: String,
    /// User name; without --password it is a token
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "NATS_USER",
        hide_env_values = true
    )]
    user: Option<String>,
    /// Password
    #[arg(long, global = true, env = "NATS_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// Token
    #[arg(long, global = true, env = "NATS_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Bound on connecting and on requests, such as 5s or 250ms
    #[arg(long, global = true, value_name = "TIME", env = "NATS_TIMEOUT", default_value = "5s", value_parser = duration)]
    timeout: Duration,
    /// Name that the server's monitoring shows
    #[arg(long, global = true, value_name = "NAME", default_value = "natseq")]
    connection_name: String,
    /// What reply subjects begin with
    #[arg(long, global = true, value_name = "SUBJECT", default_value = "_INBOX")]
    inbox_prefix: String,
}

impl ConnectionArgs {
    /// The servers, without connecting.
    pub(super) fn servers(&self) -> Result<Vec<ServerAddr>, Box<dyn Error>> {
        Ok(ServerAddr::parse_list(&self.server)?)
    }

    /// Connects. Credentials in a URL go first, then the token, then user and password.
    pub(super) async fn connect(&self) -> Result<Client, Box<dyn Error>> {
        let prefix = Subject::new(&self.inbox_prefix)
            .map_err(|error| format!("--inbox-prefix `{}`: {error}", self.inbox_prefix))?;
        let options = ConnectOptions::new()
            .name(&self.connection_name)
            .connect_timeout(self.timeout)
            .request_timeout(self.timeout)
            .inbox_prefix(prefix);
        let options = match (&self.token, &self.user, &self.password) {
            (Some(token), _, _) => options.token(token),
            (None, Some(user), Some(password)) => options.user_and_password(user, password),
            (None, Some(token), None) => options.token(token),
            (None, None, Some(_)) => return Err("--password needs --user".into()),
            (None, None, None) => options,
        };
        Ok(options.connect(&self.server).await?)
    }
}

/// Reads a duration such as `5s`, `250ms` or `1m30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| {
        format!("`{text}` is no time, allowed are numbers with units such as 5s, 250ms, 1m30s")
    })
}
