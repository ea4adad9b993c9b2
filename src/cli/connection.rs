//! Servers and credentials, from the flags and the environment that NATS people know.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::client::{Client, ConnectOptions, TlsOptions};
use crate::session::ServerAddr;
use crate::subject::Subject;

use super::identity::IdentityArgs;

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
    #[command(flatten)]
    identity: IdentityArgs,
    /// Certificates of the authorities to trust beside the system's, PEM
    #[arg(long, global = true, value_name = "FILE", env = "NATS_CA")]
    tlsca: Option<PathBuf>,
    /// Our own certificate, PEM
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "NATS_CERT",
        requires = "tlskey"
    )]
    tlscert: Option<PathBuf>,
    /// The key of our own certificate, PEM
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "NATS_KEY",
        requires = "tlscert"
    )]
    tlskey: Option<PathBuf>,
    /// Begin with TLS, before the server says a word
    #[arg(long, global = true)]
    tlsfirst: bool,
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

    /// Connects. Credentials in a URL go first.
    pub(super) async fn connect(&self) -> Result<Client, Box<dyn Error>> {
        let prefix = Subject::new(&self.inbox_prefix)
            .map_err(|error| format!("--inbox-prefix `{}`: {error}", self.inbox_prefix))?;
        let options = ConnectOptions::new()
            .name(&self.connection_name)
            .connect_timeout(self.timeout)
            .request_timeout(self.timeout)
            .inbox_prefix(prefix);
        let options = match self.tls() {
            Some(tls) => options.tls(tls),
            None => options,
        };
        let options = self.identity.apply(options)?;
        Ok(options.connect(&self.server).await?)
    }

    /// What the flags say about TLS; whoever says something wants TLS.
    fn tls(&self) -> Option<TlsOptions> {
        if self.tlsca.is_none() && self.tlscert.is_none() && !self.tlsfirst {
            return None;
        }
        let mut tls = TlsOptions::new().handshake_first(self.tlsfirst);
        if let Some(path) = &self.tlsca {
            tls = tls.root_certificate_file(path);
        }
        if let (Some(certificates), Some(key)) = (&self.tlscert, &self.tlskey) {
            tls = tls.client_certificate_files(certificates, key);
        }
        Some(tls)
    }
}

/// Reads a duration such as `5s`, `250ms` or `1m30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| {
        format!("`{text}` is no time, allowed are numbers with units such as 5s, 250ms, 1m30s")
    })
}
