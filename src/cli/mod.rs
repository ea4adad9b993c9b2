//! The `natseq` program.

mod archive;
mod carrier;
mod connection;
mod demo;
mod dump;
mod faults;
mod fuzz;
mod identity;
mod printer;
mod publish;
mod record;
mod serve;
mod subscribe;
mod text;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// NATS with sequence numbers: publish, subscribe, and see what got lost
#[derive(Parser)]
#[command(name = "natseq", version)]
struct Arguments {
    #[command(flatten)]
    connection: connection::ConnectionArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Serve(serve::ServeArgs),
    Pub(publish::PublishArgs),
    Sub(subscribe::SubscribeArgs),
    Archive(archive::ArchiveArgs),
    Dump(dump::DumpArgs),
    Fuzz(fuzz::FuzzArgs),
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
                Command::Pub(args) => publish::run(args, &arguments.connection).await,
                Command::Fuzz(args) => fuzz::run(args, &arguments.connection).await,
                Command::Archive(args) => archive::run(args, &arguments.connection).await,
                Command::Dump(args) => dump::run(&args),
                Command::Sub(args) => subscribe::run(args, &arguments.connection).await,
            }
        })
    });
    result.unwrap_or_else(|error: Box<dyn Error>| {
        use std::io::Write;
        let mut text = format!("natseq: {error}");
        let mut cause = error.source();
        while let Some(source) = cause {
            text.push_str(&format!(": {source}"));
            cause = source.source();
        }
        // Without a standard error there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "{text}");
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
