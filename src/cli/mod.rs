//! The `natseq` program.

mod demo;
mod faults;
mod serve;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// NATS with sequence numbers: publish, subscribe, and see what got lost
#[derive(Debug, Parser)]
#[command(name = "natseq", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Serve(serve::ServeArgs),
}

/// Runs the program with the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Two workers: the demonstration's clients and its broker are both busy.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let result = runtime.map_err(Box::from).and_then(|runtime| {
        runtime.block_on(async {
            match arguments.command {
                Command::Demo(args) => demo::run(args).await,
                Command::Serve(args) => serve::run(args).await,
            }
        })
    });
    result.unwrap_or_else(|error: Box<dyn Error>| {
        use std::io::Write;
        // Without a standard error there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "natseq: {error}");
        ExitCode::FAILURE
    })
}

/// Waits until the process is asked to end.
async fn interrupted() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
    }
}
