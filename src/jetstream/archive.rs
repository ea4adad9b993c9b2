//! Repairs from a stream what sources no longer have, or had when they died.
//!
//! ```text
//!   stream --- headers only ---> ArchiveIndex: which message carries which number
//!   requests on _SEQ.AR ---> look up ---> direct get ---> repairs, and an end
//! ```
//!
//! Answers what a source would have answered. It needs a stream that captured the scope and allows
//! direct get; nothing is stored here but the index.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Sleep, sleep};

use crate::client::{Client, Error, Subscription};
use crate::sequence::{ArchiveIndex, ControlSubjects, RepairLimits, STAMP_HEADER, Stamp};
use crate::wire::Message;

use super::ack_subject::AckSubject;
use super::archive_answers::{Answers, carried};
use super::consumer_line::{ConsumerLine, Finding};

/// The queue group of all archives: each request goes to one of them.
const GROUP: &str = "natseq-archive";
/// How often the stream's consumer says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Without a word from it for this long it is made anew.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// The pause after the stream could not be followed, or was not what the index says.
const PAUSE: Duration = Duration::from_secs(1);
/// The status of what is no message.
const CONTROL: u16 = 100;
/// How an archive works.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ArchiveOptions {
    /// The stream.
    pub stream: String,
    /// Spans in the index, 100 to 200 bytes each. Default 1,048,576. A stream of one source needs one
    /// for each gap; where sources alternate, each message may need one. The oldest are forgotten.
    pub spans_max: usize,
    /// Where requests come. Default: under `_SEQ`. Each request reaches one of the archives that serve
    /// one prefix: streams with other messages need another.
    pub subjects: ControlSubjects,
    /// What the reply subject of a request must begin with. Default `_INBOX.`: a request names where
    /// the archive publishes with its own permissions.
    pub reply_prefixes: Vec<String>,
    /// How much is sent. Default: [`RepairLimits::default`], with all sources together taken for one.
    pub repairs: RepairLimits,
}

impl ArchiveOptions {
    /// The defaults, for this stream.
    #[must_use]
    pub fn new(stream: &str) -> Self {
        Self {
            stream: stream.to_owned(),
            spans_max: 1 << 20,
            subjects: ControlSubjects::default(),
            reply_prefixes: vec!["_INBOX.".to_owned()],
            repairs: RepairLimits::default(),
        }
    }
}

/// Counts of an archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArchiveStatistics {
    /// Numbered messages found in the stream.
    pub indexed: u64,
    /// Requests answered.
    pub requests: u64,
    /// Requests that were malformed, or asked for answers to a place that is not allowed.
    pub refused_requests: u64,
    /// Requests that were answered in part or not at all, because too much was sent lately.
    pub delayed_requests: u64,
    /// Messages sent again.
    pub repairs: u64,
    /// How often the stream's consumer was made anew.
    pub restarts: u64,
}

/// Repairs from a stream that captured the messages of sources.
#[derive(Debug)]
pub struct Archive {
    client: Client,
    options: ArchiveOptions,
    index: ArchiveIndex,
    answers: Answers,
    requests: Subscription,
    deliveries: Subscription,
    line: ConsumerLine,
    /// When the stream was made, in the server's words.
    created: String,
    /// The last message of the stream that was seen.
    last: u64,
    /// Whether deliveries are missing: until the stream is followed anew nothing more of it is taken.
    is_lost: bool,
    /// Ends when the stream is to be followed anew.
    renewal: Pin<Box<Sleep>>,
    statistics: ArchiveStatistics,
}

impl Archive {
    /// Begins to read the stream and to take requests. Until the index has caught up, what it lacks is
    /// asked for again.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`] when there is no such stream, it does not allow direct get, or the server has no
    /// JetStream for us.
    pub async fn start(client: &Client, options: ArchiveOptions) -> Result<Self, ArchiveError> {
        let deliveries = client.subscribe(&client.new_inbox()?)?;
        let requests = options.subjects.archives().map_err(Error::from)?;
        let requests = client.queue_subscribe(requests.as_str(), GROUP)?;
        let mut archive = Self {
            client: client.clone(),
            index: ArchiveIndex::new(options.spans_max),
            answers: Answers::new(client, &options)?,
            options,
            requests,
            deliveries,
            line: ConsumerLine::new(),
            created: String::new(),
            last: 0,
            is_lost: true,
            renewal: Box::pin(sleep(SILENCE_MAX)),
            statistics: ArchiveStatistics::default(),
        };
        archive.follow().await?;
        Ok(archive)
    }

    /// Serves until the client is closed. Cancel safe but for the request that is being answered: to read
    /// [`Archive::statistics`], cancel it and call it again.
    pub async fn run(&mut self) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                count = self.deliveries.next_batch(&mut batch, 1_024), if !self.is_lost => {
                    if count == 0 {
                        return;
                    }
                    self.renewal = Box::pin(sleep(SILENCE_MAX));
                    // What lies behind a hole comes again.
                    if !batch.drain(..).all(|message| self.take(&message)) {
                        self.renew_in(Duration::ZERO);
                    }
                }
                request = self.requests.next() => match request {
                    Some(request) => {
                        if !self.serve(&request).await {
                            self.forget();
                            self.renew_in(PAUSE);
                        }
                    }
                    None => return,
                },
                () = &mut self.renewal => {
                    self.is_lost = true;
                    if self.follow().await.is_err() {
                        self.renew_in(PAUSE);
                    }
                }
            }
        }
    }

    /// Counts so far.
    #[must_use]
    pub const fn statistics(&self) -> ArchiveStatistics {
        self.statistics
    }

    fn renew_in(&mut self, pause: Duration) {
        self.is_lost = true;
        self.renewal = Box::pin(sleep(pause));
    }

    /// Begins at the stream's first message again.
    fn forget(&mut self) {
        self.index.clear();
        self.last = 0;
    }

    /// Has the stream deliver what was not seen of it yet. Cancel safe: then it is done anew.
    async fn follow(&mut self) -> Result<(), ArchiveError> {
        let stream = self.options.stream.clone();
        let info: StreamInfo = self.ask(&format!("STREAM.INFO.{stream}"), b"").await?;
        if !info.config.allow_direct {
            return Err(ArchiveError::NoDirectGet);
        }
        if info.created != self.created || info.state.last_seq < self.last {
            // The stream was made anew: its places carry other messages.
            self.forget();
            self.created = info.created;
        }
        let inbox = self.client.new_inbox()?;
        let deliveries = self.client.subscribe(&inbox)?;
        let consumer = CreateConsumer {
            stream_name: &stream,
            config: ConsumerConfig {
                deliver_subject: &inbox,
                deliver_policy: "by_start_sequence",
                opt_start_seq: self.last.saturating_add(1),
                ack_policy: "none",
                replay_policy: "instant",
                headers_only: true,
                flow_control: true,
                idle_heartbeat: u64::try_from(HEARTBEAT.as_nanos()).unwrap_or(u64::MAX),
                mem_storage: true,
                num_replicas: 1,
            },
        };
        let request = serde_json::to_vec(&consumer).unwrap_or_default();
        let subject = format!("CONSUMER.CREATE.{stream}");
        let _: Created = self.ask(&subject, &request).await?;
        self.deliveries = deliveries;
        self.line = ConsumerLine::new();
        self.is_lost = false;
        self.renewal = Box::pin(sleep(SILENCE_MAX));
        self.statistics.restarts = self.statistics.restarts.saturating_add(1);
        Ok(())
    }

    async fn ask<T: for<'a> Deserialize<'a>>(
        &self,
        subject: &str,
        request: &[u8],
    ) -> Result<T, ArchiveError> {
        let subject = format!("$JS.API.{subject}");
        let answer = self.client.request(&subject, request).await?;
        let payload = answer.payload();
        if let Ok(Refused { error }) = serde_json::from_slice(payload) {
            return Err(ArchiveError::Refused {
                code: error.err_code,
                description: error.description,
            });
        }
        serde_json::from_slice(payload).map_err(|_| ArchiveError::Malformed)
    }

    /// Takes what the stream delivers. Returns false when something is missing before it.
    fn take(&mut self, message: &Message) -> bool {
        if message
            .status()
            .is_some_and(|status| status.code == CONTROL)
        {
            return self.take_control(message);
        }
        let Some(ack) = message
            .reply()
            .and_then(|reply| AckSubject::parse(reply).ok())
        else {
            return true;
        };
        // A line takes its first delivery as it comes, and the first may be missing, too.
        let before = ack.consumer_seq.saturating_sub(1);
        if !matches!(self.line.handle_heartbeat(before), Finding::InOrder)
            || !matches!(self.line.handle_delivery(&ack), Finding::InOrder)
        {
            return false;
        }
        self.last = ack.stream_seq;
        let header = message
            .headers()
            .and_then(|block| block.first(STAMP_HEADER));
        let (carrier, stamp) = carried(header, message.subject());
        if let Some(stamp) = stamp.and_then(Stamp::parse)
            && self.index.insert(&stamp, carrier, ack.stream_seq)
        {
            self.statistics.indexed = self.statistics.indexed.saturating_add(1);
        }
        true
    }

    /// Answers flow control, and holds an idle heartbeat against what has come.
    fn take_control(&self, message: &Message) -> bool {
        let block = message.headers();
        let header = |name| {
            let value = block.and_then(|block| block.first(name));
            value.and_then(|value| std::str::from_utf8(value).ok())
        };
        let reply = message
            .reply()
            .and_then(|reply| std::str::from_utf8(reply).ok());
        if let Some(to) = reply.or_else(|| header("Nats-Consumer-Stalled")) {
            // What does not go out is asked for again.
            let _ = self.client.try_publish(to, "");
        }
        let last = header("Nats-Last-Consumer").and_then(|number| number.parse().ok());
        last.is_none_or(|last| matches!(self.line.handle_heartbeat(last), Finding::InOrder))
    }

    /// Answers a request. Returns false when the stream is not what the index says.
    async fn serve(&mut self, request: &Message) -> bool {
        let Some(asked) = self.answers.read(request) else {
            self.statistics.refused_requests = self.statistics.refused_requests.saturating_add(1);
            return true;
        };
        self.statistics.requests = self.statistics.requests.saturating_add(1);
        // What cannot be sent now is asked for again.
        let answered = self.answers.answer(&self.index, &asked).await;
        let answered = answered.unwrap_or_default();
        self.statistics.repairs = self.statistics.repairs.saturating_add(answered.repairs);
        let delayed = u64::from(answered.is_delayed);
        self.statistics.delayed_requests = self.statistics.delayed_requests.saturating_add(delayed);
        answered.is_right
    }
}

#[derive(Deserialize)]
struct StreamInfo {
    created: String,
    config: StreamConfig,
    state: StreamState,
}

#[derive(Deserialize)]
struct StreamConfig {
    #[serde(default)]
    allow_direct: bool,
}

#[derive(Deserialize)]
struct StreamState {
    last_seq: u64,
}

#[derive(Serialize)]
struct CreateConsumer<'a> {
    stream_name: &'a str,
    config: ConsumerConfig<'a>,
}

#[derive(Serialize)]
struct ConsumerConfig<'a> {
    deliver_subject: &'a str,
    deliver_policy: &'a str,
    opt_start_seq: u64,
    ack_policy: &'a str,
    replay_policy: &'a str,
    headers_only: bool,
    flow_control: bool,
    idle_heartbeat: u64,
    mem_storage: bool,
    num_replicas: u32,
}

#[derive(Deserialize)]
struct Created {}

/// What the server answers to what it does not do.
#[derive(Deserialize)]
pub(super) struct Refused {
    pub(super) error: ApiError,
}

#[derive(Deserialize)]
pub(super) struct ApiError {
    #[serde(default)]
    pub(super) err_code: u64,
    #[serde(default)]
    description: String,
}

/// Why a stream cannot be an archive.
#[derive(Debug)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The client failed; [`ErrorKind::NoResponders`](crate::client::ErrorKind::NoResponders) when the
    /// server has no JetStream for us.
    Client(Error),
    /// The server refused, with its own code and words.
    Refused {
        /// `err_code`.
        code: u64,
        /// Its words.
        description: String,
    },
    /// The stream does not allow direct get.
    NoDirectGet,
    /// The server's answer is not what it should be.
    Malformed,
}

impl From<Error> for ArchiveError {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(_) => out.write_str("the stream cannot be asked"),
            Self::Refused { code, description } => write!(out, "{description} ({code})"),
            Self::NoDirectGet => out.write_str("the stream does not allow direct get"),
            Self::Malformed => out.write_str("answer is not the JSON object it should be"),
        }
    }
}

impl std::error::Error for ArchiveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Client(error) => Some(error),
            Self::Refused { .. } | Self::NoDirectGet | Self::Malformed => None,
        }
    }
}
