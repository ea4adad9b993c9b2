//! `natseq sub`: prints messages, and what is missing if asked for.

use std::error::Error;
use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::time::sleep;

use crate::client::{Client, SequencedSubscriber, Subscription};
use crate::sequence::{BareChecker, Carrier, Delivery, Start};
use crate::subject::{Filter, QueueGroup};
use crate::wire::Message;

use super::carrier::CarrierArg;
use super::connection::ConnectionArgs;
use super::printer::Printer;
use super::record::Summary;

/// How often is looked whether every source has ended.
const END_LOOK: Duration = Duration::from_millis(200);

/// Print messages; exit with 0 when nothing is missing
#[derive(Debug, Args)]
#[command(
    after_help = "Exit 1 when numbers were lost or are undecided at the end, or when messages \
                        were dropped because this program was too slow."
)]
pub(super) struct SubscribeArgs {
    /// What to: a subject, * stands for a token, a last > for the rest
    subject: String,
    /// End after so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Check numbers and ask for what is missing
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "immediate")]
    sequenced: Option<Mode>,
    /// Where the numbers stand
    #[arg(
        long,
        value_name = "WHERE",
        requires = "sequenced",
        default_value = "header"
    )]
    carrier: CarrierArg,
    /// From where on numbers are owed
    #[arg(
        long,
        value_name = "WHERE",
        requires = "sequenced",
        default_value = "live"
    )]
    start: StartArg,
    /// Ask an archive before anything is lost
    #[arg(long, requires = "sequenced")]
    archive: bool,
    /// End when every source that was heard has ended and nothing is undecided
    #[arg(long, requires = "sequenced")]
    until_eos: bool,
    /// Say at the end for each source what became of its numbers
    #[arg(long, requires = "sequenced")]
    stats: bool,
    /// Share the messages with the others of this group; no gaps are claimed then
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// Print one JSON object for each event, and a summary
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    /// As they arrive, repairs later
    Immediate,
    /// In the order of their numbers
    Ordered,
    /// As they arrive, without asking for what is missing
    Detect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StartArg {
    /// From what comes, and from 1 of a source that begins later
    Live,
    /// From the oldest that the source still retains
    Retained,
}

impl StartArg {
    const fn start(self) -> Start {
        match self {
            Self::Live => Start::Live,
            Self::Retained => Start::Retained,
        }
    }
}

/// Prints until it is told to end; success means that nothing is missing.
pub(super) async fn run(
    args: SubscribeArgs,
    connection: &ConnectionArgs,
) -> Result<ExitCode, Box<dyn Error>> {
    Filter::new(&args.subject).map_err(|error| format!("subject `{}`: {error}", args.subject))?;
    let group = match &args.queue {
        Some(text) => {
            Some(QueueGroup::new(text).map_err(|error| format!("--queue `{text}`: {error}"))?)
        }
        None => None,
    };
    let is_bare = args.sequenced.is_some() && args.carrier == CarrierArg::Bare;
    if is_bare && (args.until_eos || args.archive || matches!(args.sequenced, Some(Mode::Ordered)))
    {
        return Err("--carrier bare has neither an order to restore nor an end, and nothing to ask an archive".into());
    }
    let asks = !is_bare && args.queue.is_none() && !matches!(args.sequenced, Some(Mode::Detect));
    if args.start == StartArg::Retained && !asks {
        return Err("--start retained asks sources for what they have, which --sequenced=detect, --queue and --carrier bare do not".into());
    }
    let client = connection.connect().await?;
    let mut printer = Printer {
        out: BufWriter::new(std::io::stdout()),
        is_json: args.json,
        messages: 0,
        messages_max: args.count.unwrap_or(u64::MAX),
    };
    let summary = match (args.sequenced, args.carrier.with_source()) {
        (Some(mode), Some(carrier)) => {
            sequenced(&args, mode, carrier, group, &client, &mut printer).await
        }
        (Some(_), None) => bare(&args, group, &client, &mut printer).await,
        (None, _) => plain(&args, group, &client, &mut printer).await,
    };
    client.close().await;
    let summary = match summary {
        // Nobody reads any more: there is nothing to say.
        Err(error) if is_broken_pipe(&*error) => return Ok(ExitCode::SUCCESS),
        summary => summary?,
    };
    // A numbered message that was dropped here is missing and counted so, or was won back.
    let is_counted = args.sequenced.is_some() && args.queue.is_none() && summary.unsequenced == 0;
    let is_whole = summary.is_whole() && (is_counted || summary.dropped == 0);
    printer.summary(summary)?;
    Ok(if is_whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn plain(
    args: &SubscribeArgs,
    group: Option<QueueGroup>,
    client: &Client,
    printer: &mut Printer,
) -> Result<Summary, Box<dyn Error>> {
    let dropped = each(args, group, client, printer, Printer::plain).await?;
    Ok(Summary {
        messages: printer.messages,
        unsequenced: printer.messages,
        dropped,
        ..Summary::default()
    })
}

/// Looks at nothing but the numbers at the end of subjects.
async fn bare(
    args: &SubscribeArgs,
    group: Option<QueueGroup>,
    client: &Client,
    printer: &mut Printer,
) -> Result<Summary, Box<dyn Error>> {
    let mut checker = BareChecker::new();
    let is_shared = group.is_some();
    let check = |printer: &mut Printer, message: &Message| {
        let verdict = checker.handle_subject(message.subject());
        if !is_shared {
            printer.verdict(message.subject(), verdict)?;
        }
        printer.plain(message)
    };
    let dropped = each(args, group, client, printer, check).await?;
    let mut summary = Summary {
        messages: printer.messages,
        unsequenced: checker.unnumbered().saturating_add(checker.unchecked()),
        dropped,
        ..Summary::default()
    };
    for line in checker.statistics().filter(|_| !is_shared) {
        summary.add_bare(line);
    }
    Ok(summary)
}

/// Gives every message of a plain subscription to `print`; returns how many were dropped.
async fn each(
    args: &SubscribeArgs,
    group: Option<QueueGroup>,
    client: &Client,
    printer: &mut Printer,
    mut print: impl FnMut(&mut Printer, &Message) -> std::io::Result<()>,
) -> Result<u64, Box<dyn Error>> {
    let mut subscription = match &group {
        Some(group) => client.queue_subscribe(&args.subject, group.as_str())?,
        None => client.subscribe(&args.subject)?,
    };
    tell_ready(client, &args.subject).await?;
    let interrupted = super::interrupted();
    tokio::pin!(interrupted);
    let mut batch = Vec::new();
    while !printer.is_done() {
        let left = usize::try_from(printer.left())
            .unwrap_or(usize::MAX)
            .min(1_024);
        tokio::select! {
            count = take(&mut subscription, &mut batch, left) => {
                if count == 0 {
                    if let Some(refusal) = subscription.refusal() {
                        return Err(refusal.into());
                    }
                    break;
                }
            }
            result = &mut interrupted => {
                result?;
                break;
            }
        }
        for message in batch.drain(..) {
            print(printer, &message)?;
        }
        printer.out.flush()?;
    }
    Ok(subscription.statistics().dropped)
}

async fn take(subscription: &mut Subscription, batch: &mut Vec<Message>, most: usize) -> usize {
    subscription.next_batch(batch, most).await
}

async fn sequenced(
    args: &SubscribeArgs,
    mode: Mode,
    carrier: Carrier,
    group: Option<QueueGroup>,
    client: &Client,
    printer: &mut Printer,
) -> Result<Summary, Box<dyn Error>> {
    let delivery = match mode {
        Mode::Immediate => Delivery::Immediate,
        Mode::Ordered => Delivery::Ordered,
        Mode::Detect => Delivery::DetectOnly,
    };
    let builder = client
        .sequenced_subscriber(&args.subject)?
        .carrier(carrier)
        .delivery(delivery)
        .archive(args.archive)
        .options(|options| options.start = args.start.start());
    let mut subscriber = match group {
        Some(group) => builder.queue_group(group).start()?,
        None => builder.start()?,
    };
    tell_ready(client, &args.subject).await?;
    let interrupted = super::interrupted();
    tokio::pin!(interrupted);
    while !(printer.is_done() || args.until_eos && subscriber.has_ended()) {
        let event = match subscriber.try_next() {
            Some(event) => Some(event),
            None => {
                // Whoever watches sees everything that there is.
                printer.out.flush()?;
                tokio::select! {
                    event = subscriber.next() => event,
                    // That the last source has ended may follow from an answer that is no event.
                    () = sleep(END_LOOK), if args.until_eos => continue,
                    result = &mut interrupted => {
                        result?;
                        break;
                    }
                }
            }
        };
        let Some(event) = event else {
            if let Some(refusal) = subscriber.refusal() {
                return Err(refusal.into());
            }
            break;
        };
        printer.event(&event)?;
    }
    let mut summary = summary_of(&subscriber, printer.messages);
    summary.is_told_by_source = args.stats;
    Ok(summary)
}

fn summary_of(subscriber: &SequencedSubscriber, messages: u64) -> Summary {
    let mut summary = Summary {
        messages,
        unsequenced: subscriber.unsequenced(),
        bad_stamps: subscriber.bad_stamps(),
        misplaced_heartbeats: subscriber.misplaced_heartbeats(),
        dropped: subscriber.mailbox().dropped,
        ..Summary::default()
    };
    for line in subscriber.statistics() {
        summary.add(&line);
    }
    summary
}

/// Says on standard error that the server has the subscription.
async fn tell_ready(client: &Client, subject: &str) -> Result<(), Box<dyn Error>> {
    client.flush().await?;
    writeln!(std::io::stderr(), "Subscribed to \"{subject}\"")?;
    Ok(())
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
