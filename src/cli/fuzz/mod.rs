//! `natseq fuzz`: generated conversations against a server, or a hostile server for clients.

mod case;
mod converse;
mod hostile;
mod minimise;
mod report;
mod server;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::connection::{ConnectionArgs, duration};

/// Fuzz a server, or with --listen the clients that connect
///
/// Sends generated sessions, valid and nearly valid, to the server of --server, and holds what it
/// answers against the embedded one. With --listen it is itself a server whose clients get
/// generated sessions. A finding is written as a file that --replay takes.
#[derive(Debug, Args)]
pub(super) struct FuzzArgs {
    /// Be a hostile server at this address; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Sessions until the end; with --listen, connections [default: 1000; with --listen no end]
    #[arg(long, value_name = "COUNT")]
    sessions: Option<u64>,
    /// Seed of the first session; each following one has the next
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print one JSON object for each finding (with --listen for each session), and a last one with
    /// the counts
    #[arg(long)]
    json: bool,
    /// How long an answer may take before the server counts as hanging
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    patience: Duration,
    /// Where the files of findings go
    #[arg(long, value_name = "FOLDER", default_value = "natseq-findings")]
    findings: PathBuf,
    /// Send what a finding's file holds instead of generated sessions
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Fuzz a server that is not on this machine; it may crash
    #[arg(long)]
    i_own_this_server: bool,
}

/// Runs until the sessions are over, or it is interrupted; fails when there was a finding.
pub(super) async fn run(
    args: FuzzArgs,
    connection: &ConnectionArgs,
) -> Result<ExitCode, Box<dyn Error>> {
    match &args.listen {
        Some(address) => hostile::run(&args, address).await,
        None => server::run(&args, connection.servers()?).await,
    }
}
