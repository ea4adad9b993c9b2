//! `natseq serve`: the embedded broker by itself.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use clap::Args;

use crate::broker::{Broker, BrokerOptions, Credentials, Secret};

use super::faults::{Chances, FaultArgs};

/// Run an embedded NATS server: no persistence, no cluster, and faults on request
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4222")]
    listen: String,
    /// Seed of the faults
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Require this user name; needs --require-password
    #[arg(long, value_name = "NAME", requires = "require_password")]
    require_user: Option<String>,
    /// Require this password
    #[arg(long, value_name = "PASSWORD", requires = "require_user")]
    require_password: Option<Secret>,
    /// Require this token
    #[arg(long, value_name = "TOKEN", conflicts_with = "require_user")]
    require_token: Option<Secret>,
    #[command(flatten)]
    faults: FaultArgs,
}

/// Serves until it is interrupted.
pub(super) async fn run(args: ServeArgs) -> Result<ExitCode, Box<dyn Error>> {
    let credentials = match (args.require_user, args.require_password, args.require_token) {
        (Some(user), Some(password), _) => Some(Credentials::UserAndPassword(user, password)),
        (_, _, token) => token.map(Credentials::Token),
    };
    let options = BrokerOptions {
        seed: args.seed,
        faults: args.faults.plan(&Chances::default())?,
        credentials,
        ..BrokerOptions::default()
    };
    let broker = Broker::listen(&args.listen, options)
        .await
        .map_err(|error| format!("cannot listen at `{}`: {error}", args.listen))?;
    let address = broker
        .local_addr()
        .map(|address| address.to_string())
        .unwrap_or_default();
    let mut out = std::io::stdout();
    writeln!(out, "Listening on {address}")?;
    out.flush()?;
    super::interrupted().await?;
    Ok(ExitCode::SUCCESS)
}
