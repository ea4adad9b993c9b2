//! `natseq demo`: messages are lost on a bad link, and won back, before your eyes.
//!
//! ```text
//!   bursty ----\                              /--> Immediate
//!   slow -------+--> broker with bad links --+
//!   restarted -/                              \--> Ordered
//! ```

mod ledger;
mod report;
mod sources;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::broker::{Broker, BrokerOptions};
use crate::client::Client;
use crate::sequence::{Delivery, Event};

use ledger::Ledger;
use report::Report;
use sources::Audience;

use super::faults::{Chances, FaultArgs};

/// What the receivers subscribe to.
const FILTER: &str = "demo.>";

/// Runs of sources that every receiver is to hear: one of them restarts.
const RUNS: usize = 4;

/// What goes wrong unless the flags say otherwise: one message in twenty is lost.
const CHANCES: Chances = Chances {
    drop: 0.05,
    duplicate: 0.02,
    cut: 0.000_5,
};

/// Longer than any seed was seen to take, shorter than patience.
const TIME_MAX: Duration = Duration::from_secs(120);

/// Lose messages on a bad link and win them back; needs no server
#[derive(Debug, Args)]
#[command(
    after_help = "Unless told otherwise the link drops 0.05, doubles 0.02 and breaks behind \
                        0.0005 of what it delivers. Exit 0 only if every number was delivered once \
                        or reported lost once."
)]
pub(super) struct DemoArgs {
    /// Messages of each source
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(2..=1_000_000))]
    messages: u64,
    /// Seed of the link's faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    faults: FaultArgs,
}

/// Runs the demonstration; success means that every number was delivered once or reported lost once.
pub(super) async fn run(args: DemoArgs) -> Result<ExitCode, Box<dyn Error>> {
    let options = BrokerOptions {
        seed: args.seed,
        faults: args.faults.plan(&CHANCES)?,
        ..BrokerOptions::default()
    };
    let broker = Broker::listen("127.0.0.1:0", options).await?;
    let address = broker
        .local_addr()
        .map(|address| address.to_string())
        .unwrap_or_default();

    let bars = MultiProgress::new();
    let audience = Arc::new(Audience::new(2));
    let mut receivers = Vec::new();
    for (index, delivery) in [Delivery::Immediate, Delivery::Ordered]
        .into_iter()
        .enumerate()
    {
        let bar = bar(&bars, delivery, args.messages.saturating_mul(3));
        let client = connect(&address).await?;
        let audience = Arc::clone(&audience);
        receivers.push(tokio::spawn(receive(
            client, delivery, index, audience, bar,
        )));
    }
    audience.subscribed().await;
    let sent = sources::run(&address, args.messages, &audience);
    let sent = tokio::time::timeout(TIME_MAX, sent)
        .await
        .map_err(|_| "sources took too long")??;

    let mut report = Report::new(args.seed, sent);
    for receiver in receivers {
        let ledger = tokio::time::timeout(TIME_MAX, receiver).await;
        report.add(
            ledger
                .map_err(|_| "a receiver took too long")??
                .map_err(|error| error.to_string())?,
        );
    }
    report.link = broker.statistics().faults;
    bars.clear()?;
    let is_ok = if args.json {
        report.print_json()?
    } else {
        report.print_table()?
    };
    Ok(if is_ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn connect(address: &str) -> Result<Client, crate::client::Error> {
    crate::client::connect(address).await
}

/// Receives until every run has ended and every number is decided, or nothing more comes.
async fn receive(
    client: Client,
    delivery: Delivery,
    index: usize,
    audience: Arc<Audience>,
    bar: ProgressBar,
) -> Result<Ledger, crate::client::Error> {
    let mut subscriber = client
        .sequenced_subscriber(FILTER)?
        .delivery(delivery)
        .start()?;
    client.flush().await?;
    audience.note_subscribed();
    let mut ledger = Ledger::new(delivery);
    let has_ended = |subscriber: &crate::client::SequencedSubscriber| {
        subscriber.has_ended() && subscriber.statistics().count() == RUNS
    };
    while !has_ended(&subscriber) {
        let next = tokio::time::timeout(QUIET_TIME, subscriber.next()).await;
        let Ok(Some(event)) = next else {
            // The table shows what is missing.
            break;
        };
        match event {
            Event::Message { origin, .. } => {
                ledger.note_delivered(&origin);
                bar.inc(1);
            }
            Event::Lost {
                source,
                epoch,
                from,
                to,
                ..
            } => ledger.note_lost(&source, epoch, from, to),
            Event::EpochStarted { source, .. } => audience.note_heard(index, &source),
            Event::Unsequenced { .. }
            | Event::Gap { .. }
            | Event::Withdrawn { .. }
            | Event::CoverageChanged { .. }
            | Event::Degraded { .. }
            | Event::SourceSilent { .. }
            | Event::SourceEnded { .. }
            | Event::Conflict { .. }
            | Event::SourceEvicted { .. } => {}
        }
    }
    ledger.lines = subscriber.statistics().collect();
    bar.finish();
    client.close().await;
    Ok(ledger)
}

/// Sources linger for less: whoever hears nothing for so long will hear nothing more.
const QUIET_TIME: Duration = Duration::from_secs(20);

fn bar(bars: &MultiProgress, delivery: Delivery, messages: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>10} {bar:40} {pos}/{len} delivered");
    let bar = bars.add(ProgressBar::new(messages));
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_prefix(format!("{delivery:?}"));
    bar
}
