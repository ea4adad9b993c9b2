//! `natseq archive`: repairs from a stream what sources no longer have.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use clap::Args;

use crate::jetstream::{Archive, ArchiveOptions};

use super::connection::ConnectionArgs;
use super::text::grouped;

/// Answer repair requests from a stream that captured the messages
#[derive(Debug, Args)]
pub(super) struct ArchiveArgs {
    /// The stream; it must allow direct get
    stream: String,
    /// Spans of numbers in the index, the oldest are forgotten
    #[arg(long, value_name = "N", default_value_t = 1 << 20)]
    spans_max: usize,
}

/// Serves until it is asked to end.
pub(super) async fn run(
    args: ArchiveArgs,
    connection: &ConnectionArgs,
) -> Result<ExitCode, Box<dyn Error>> {
    let client = connection.connect().await?;
    let mut options = ArchiveOptions::new(&args.stream);
    options.spans_max = args.spans_max;
    let mut archive = Archive::start(&client, options).await?;
    client.flush().await?;
    writeln!(std::io::stderr(), "Archive of stream \"{}\"", args.stream)?;
    tokio::select! {
        () = archive.run() => {}
        result = super::interrupted() => result?,
    }
    let statistics = archive.statistics();
    client.close().await;
    let [indexed, requests, repairs] =
        [statistics.indexed, statistics.requests, statistics.repairs].map(grouped);
    writeln!(
        std::io::stderr(),
        "{indexed} messages indexed, {requests} requests, {repairs} repairs"
    )?;
    Ok(ExitCode::SUCCESS)
}
