//! `natseq pub`: publishes messages, numbered if asked for.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::client::{Client, ClosedSource, Publication, SequencedPublisher};
use crate::sequence::{RetentionLimits, RetentionOverflow, SourceName};
use crate::subject::Subject;
use crate::wire::Headers;

use super::carrier::CarrierArg;
use super::connection::{ConnectionArgs, duration};
use super::text::grouped;

/// What is retained for repairs: the whole run, up to 64 MiB. Beyond that publishing waits until
/// the oldest message is twice as old as receivers wait for a number.
const RETENTION: RetentionLimits = RetentionLimits {
    messages_max: 1 << 22,
    bytes_max: 64 << 20,
    age_max: Duration::from_secs(10),
};

/// Publish a message, many, or the lines of standard input
#[derive(Debug, Args)]
pub(super) struct PublishArgs {
    /// Where to
    subject: String,
    /// The message, {{Count}} stands for its number from 1; left out: lines of standard input
    body: Option<String>,
    /// How many messages
    #[arg(long, value_name = "N", requires = "body", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Number the messages, retain them, and serve repairs
    #[arg(long)]
    sequenced: bool,
    /// Where the numbers stand; receivers must know
    #[arg(
        long,
        value_name = "WHERE",
        requires = "sequenced",
        default_value = "header"
    )]
    carrier: CarrierArg,
    /// Name of the source [default: ten random characters]
    #[arg(long, value_name = "NAME", requires = "sequenced")]
    source: Option<String>,
    /// Subject or pattern that all messages of the source lie in [default: SUBJECT]
    #[arg(long, value_name = "PATTERN", requires = "sequenced")]
    scope: Option<String>,
    /// Subject for answers
    #[arg(long, value_name = "SUBJECT")]
    reply: Option<String>,
    /// A header; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME:VALUE")]
    headers: Vec<String>,
    /// Pause between messages, such as 10ms
    #[arg(long, value_name = "TIME", value_parser = duration)]
    sleep: Option<Duration>,
    /// Say nothing
    #[arg(short, long)]
    quiet: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// The result.
#[derive(Debug, Default, Serialize)]
struct Summary {
    published: u64,
    bytes: u64,
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repairs: Option<u64>,
}

/// Publishes; success means that the server has read everything.
pub(super) async fn run(
    args: PublishArgs,
    connection: &ConnectionArgs,
) -> Result<ExitCode, Box<dyn Error>> {
    let name = |error, what: &str, text: &str| format!("{what} `{text}`: {error}");
    let subject =
        Subject::new(&args.subject).map_err(|error| name(error, "subject", &args.subject))?;
    let reply = match &args.reply {
        Some(text) => Some(Subject::new(text).map_err(|error| name(error, "--reply", text))?),
        None => None,
    };
    let headers = read_headers(&args.headers)?;
    let source = match &args.source {
        Some(text) => {
            Some(SourceName::new(text).map_err(|error| format!("--source `{text}`: {error}"))?)
        }
        None => None,
    };
    let client = connection.connect().await?;
    let way = if let Some(carrier) = args.carrier.with_source().filter(|_| args.sequenced) {
        let scope = args.scope.as_deref().unwrap_or(&args.subject);
        let builder = client
            .sequenced_publisher(scope)
            .map_err(|error| format!("--scope `{scope}`: {error}"))?;
        let builder = builder
            .carrier(carrier)
            .retention(RETENTION)
            .overflow(RetentionOverflow::Refuse);
        Way::Sequenced(match source {
            Some(source) => builder.source(source).start()?,
            None => builder.start()?,
        })
    } else if args.sequenced {
        if source.is_some() || args.scope.is_some() {
            return Err("--carrier bare has neither --source nor --scope".into());
        }
        Way::Bare
    } else {
        Way::Plain
    };
    let mut job = Job {
        client,
        way,
        subject,
        reply,
        headers,
        sleep: args.sleep,
        published: 0,
        bytes: 0,
    };
    match &args.body {
        Some(body) => {
            for _ in 0..args.count.unwrap_or(1) {
                let number = job.published.saturating_add(1).to_string();
                job.send(body.replace("{{Count}}", &number).into_bytes())
                    .await?;
            }
        }
        None => {
            let mut lines = BufReader::new(tokio::io::stdin()).split(b'\n');
            while let Some(line) = lines.next_segment().await? {
                job.send(line).await?;
            }
        }
    }
    let summary = job.finish().await?;
    print(&args, &summary)?;
    Ok(ExitCode::SUCCESS)
}

/// How messages are numbered.
enum Way {
    Plain,
    /// By their place in the run, at the end of the subject.
    Bare,
    Sequenced(SequencedPublisher),
}

/// Messages on their way.
struct Job {
    client: Client,
    way: Way,
    subject: Subject,
    reply: Option<Subject>,
    headers: Headers,
    sleep: Option<Duration>,
    published: u64,
    bytes: u64,
}

impl Job {
    async fn send(&mut self, body: Vec<u8>) -> Result<(), Box<dyn Error>> {
        let bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let numbered;
        let subject = if matches!(self.way, Way::Bare) {
            let number = self.published.saturating_add(1);
            numbered = Subject::new(&format!("{}.{number}", self.subject.as_str()))?;
            &numbered
        } else {
            &self.subject
        };
        let publication = Publication::new(subject, body)?.headers(&self.headers);
        let publication = match &self.reply {
            Some(reply) => publication.reply(reply)?,
            None => publication,
        };
        match &self.way {
            Way::Sequenced(publisher) => {
                publisher.send(publication).await?;
            }
            Way::Plain | Way::Bare => self.client.send(publication).await?,
        }
        self.published = self.published.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        if let Some(sleep) = self.sleep {
            tokio::time::sleep(sleep).await;
        }
        Ok(())
    }

    /// Waits until the server has everything and, for a source, until nobody asks any more.
    async fn finish(self) -> Result<Summary, Box<dyn Error>> {
        self.client.flush().await?;
        let last = matches!(self.way, Way::Bare).then_some(self.published);
        let closed = match self.way {
            Way::Sequenced(publisher) => Some(publisher.close().await),
            Way::Plain | Way::Bare => None,
        };
        self.client.close().await;
        let of = |get: fn(&ClosedSource) -> u64| closed.as_ref().map(get);
        Ok(Summary {
            published: self.published,
            bytes: self.bytes,
            subject: self.subject.as_str().to_owned(),
            source: closed.as_ref().map(|closed| closed.source.to_string()),
            epoch: of(|closed| closed.prior.epoch),
            last: of(|closed| closed.prior.lead).or(last),
            repairs: of(|closed| closed.statistics.repairs),
        })
    }
}

fn read_headers(texts: &[String]) -> Result<Headers, Box<dyn Error>> {
    let mut headers = Headers::new();
    for text in texts {
        let (name, value) = text
            .split_once(':')
            .ok_or_else(|| format!("header `{text}` has no colon, allowed is NAME:VALUE"))?;
        headers
            .append(name, value.trim())
            .map_err(|error| format!("header `{text}`: {error}"))?;
    }
    Ok(headers)
}

fn print(args: &PublishArgs, summary: &Summary) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, summary)?;
        return writeln!(out);
    }
    if args.quiet {
        return Ok(());
    }
    let Summary {
        published,
        bytes,
        subject,
        ..
    } = summary;
    let plural = if *published == 1 { "" } else { "s" };
    let (published, bytes) = (grouped(*published), grouped(*bytes));
    writeln!(
        out,
        "Published {published} message{plural}, {bytes} bytes, to \"{subject}\""
    )?;
    if let (Some(source), Some(epoch), Some(repairs)) =
        (&summary.source, summary.epoch, summary.repairs)
    {
        writeln!(
            out,
            "Source {source}, epoch {epoch}: repaired {} times",
            grouped(repairs)
        )?;
    }
    Ok(())
}
