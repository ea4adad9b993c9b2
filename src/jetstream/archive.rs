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
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::{Client, Error, Publication, Subscription};
use crate::sequence::{
    ArchiveIndex, ControlSubjects, Ranges, RepairLimits, SEQ_GONE, SEQ_MORE, SEQ_SUBJECT,
    SEQ_TRAIL, STAMP_HEADER, SourceName, Stamp, read_request,
};
use crate::subject::Subject;
use crate::wire::{Headers, Message};

use super::ack_subject::AckSubject;
use super::consumer_line::{ConsumerLine, Finding};

/// The queue group of all archives: each request goes to one of them.
const GROUP: &str = "natseq-archive";
/// Messages that are read from the stream at a time.
const READS_MAX: usize = 16;
/// How often the stream's consumer says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Without a word from it for this long it is made anew.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// The pause after the stream could not be followed.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest reply subject.
const REPLY_SUBJECT_BYTES_MAX: usize = 128;
/// The status of what is no message.
const CONTROL: u16 = 100;
/// What a stream adds to a message that it gives out.
const ADDED: [&str; 6] = [
    "Nats-Stream",
    "Nats-Subject",
    "Nats-Sequence",
    "Nats-Time-Stamp",
    "Nats-Num-Pending",
    "Nats-Last-Sequence",
];

/// How an archive works.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ArchiveOptions {
    /// The stream.
    pub stream: String,
    /// Spans in the index, 100 to 200 bytes each. Default 1,048,576. A stream of one source needs one
    /// for each gap; where sources alternate, each message may need one. The oldest are forgotten.
    pub spans_max: usize,
    /// Where requests come. Default: under `_SEQ`.
    pub subjects: ControlSubjects,
    /// What the reply subject of a request must begin with. Default `_INBOX.`: a request names where
    /// the archive publishes with its own permissions.
    pub reply_prefixes: Vec<String>,
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
    requests: Subscription,
    deliveries: Subscription,
    line: ConsumerLine,
    /// The last message of the stream that was seen.
    last: u64,
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
            options,
            requests,
            deliveries,
            line: ConsumerLine::new(),
            last: 0,
            statistics: ArchiveStatistics::default(),
        };
        archive.follow().await?;
        Ok(archive)
    }

    /// Serves until the client is closed. Cancel safe but for the request that is being answered.
    pub async fn run(&mut self) {
        let mut batch = Vec::new();
        let mut silence = Box::pin(sleep(SILENCE_MAX));
        loop {
            let is_lost = tokio::select! {
                count = self.deliveries.next_batch(&mut batch, 1_024) => {
                    if count == 0 {
                        return;
                    }
                    silence = Box::pin(sleep(SILENCE_MAX));
                    batch.drain(..).fold(false, |is_lost, message| is_lost | !self.take(&message))
                }
                request = self.requests.next() => match request {
                    Some(request) => !self.serve(&request).await,
                    None => return,
                },
                () = &mut silence => true,
            };
            if is_lost {
                let pause = match self.follow().await {
                    Ok(()) => SILENCE_MAX,
                    Err(_) => PAUSE,
                };
                silence = Box::pin(sleep(pause));
            }
        }
    }

    /// Counts so far.
    #[must_use]
    pub const fn statistics(&self) -> ArchiveStatistics {
        self.statistics
    }

    /// Has the stream deliver what was not seen of it yet.
    async fn follow(&mut self) -> Result<(), ArchiveError> {
        let stream = self.options.stream.clone();
        let info: StreamInfo = self.ask(&format!("STREAM.INFO.{stream}"), b"").await?;
        if !info.config.allow_direct {
            return Err(ArchiveError::NoDirectGet);
        }
        if info.state.last_seq < self.last {
            // The stream was made anew: a consumer that waits for what it has lost would wait for ever.
            self.index.clear();
            self.last = 0;
        }
        let inbox = self.client.new_inbox()?;
        self.deliveries = self.client.subscribe(&inbox)?;
        self.line = ConsumerLine::new();
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
        if !matches!(self.line.handle_delivery(&ack), Finding::InOrder) {
            return false;
        }
        self.last = ack.stream_seq;
        let stamp = message
            .headers()
            .and_then(|block| block.first(STAMP_HEADER));
        if let Some(stamp) = stamp.and_then(Stamp::parse)
            && self.index.insert(&stamp, ack.stream_seq)
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
        let asked = self.read(request);
        let Some((to, source, epoch, ranges)) = asked else {
            self.statistics.refused_requests = self.statistics.refused_requests.saturating_add(1);
            return true;
        };
        self.statistics.requests = self.statistics.requests.saturating_add(1);
        // What cannot be sent now is asked for again.
        self.answer(&to, &source, epoch, &ranges)
            .await
            .unwrap_or(true)
    }

    /// Reads a request: where the answer goes, and what is asked of which run.
    fn read(&self, request: &Message) -> Option<(Subject, SourceName, u64, Ranges)> {
        let reply = std::str::from_utf8(request.reply()?).ok()?;
        let prefixes = &self.options.reply_prefixes;
        let is_allowed = reply.len() <= REPLY_SUBJECT_BYTES_MAX
            && prefixes
                .iter()
                .any(|prefix| reply.starts_with(prefix.as_str()));
        let to = Subject::new(reply).ok().filter(|_| is_allowed)?;
        let mut tokens = request.subject_str().ok()?.rsplit('.');
        let epoch = tokens.next()?.parse().ok()?;
        let source = SourceName::new(tokens.next()?).ok()?;
        Some((to, source, epoch, read_request(request.payload())?))
    }

    async fn answer(
        &mut self,
        to: &Subject,
        source: &SourceName,
        epoch: u64,
        ranges: &Ranges,
    ) -> Result<bool, Error> {
        let limits = RepairLimits::default();
        let most = limits.request_messages_max;
        let Some(mut stored) = self.index.find(source, epoch, ranges, most) else {
            // Not stored, or not read yet: it may be asked for again.
            let mut end = Headers::with_status(404, "Not Stored")?;
            end.append(STAMP_HEADER, format!("{source}.{epoch}.0"))?;
            return self.publish(to, &end, &[]).await.map(|()| true);
        };
        let mut gone: Vec<u64> = Vec::new();
        let mut sent_bytes = 0_usize;
        let mut is_right = true;
        let mut found = stored.found.into_iter();
        loop {
            let some: Vec<_> = found.by_ref().take(READS_MAX).collect();
            if some.is_empty() {
                break;
            }
            if sent_bytes >= limits.request_bytes_max {
                stored.has_more = true;
                break;
            }
            for (seq, message) in self.get(some).await {
                match message {
                    Read::Found(message) => {
                        let Some(headers) = repair(&message, source, epoch, seq) else {
                            is_right = false;
                            continue;
                        };
                        sent_bytes = sent_bytes.saturating_add(message.payload().len());
                        self.publish(to, &headers, message.payload()).await?;
                        self.statistics.repairs = self.statistics.repairs.saturating_add(1);
                    }
                    Read::Gone => gone.push(seq),
                    Read::Unknown => {}
                }
            }
        }
        let lowest = self.index.lowest(source, epoch).unwrap_or(0);
        let highest = self.index.highest(source, epoch).unwrap_or(0);
        let mut end = Headers::with_status(204, "EOB")?;
        end.append(STAMP_HEADER, format!("{source}.{epoch}.{highest}"))?;
        end.append(SEQ_TRAIL, lowest.to_string())?;
        let gone = together(&stored.gone, &gone);
        if !gone.is_empty() {
            end.append(SEQ_GONE, gone.to_text())?;
        }
        if stored.has_more {
            end.append(SEQ_MORE, "1")?;
        }
        self.publish(to, &end, &[]).await?;
        Ok(is_right)
    }

    /// Reads messages of the stream, in the order asked for.
    async fn get(&self, places: Vec<(u64, u64)>) -> Vec<(u64, Read)> {
        let mut reads = JoinSet::new();
        for (at, (seq, place)) in places.into_iter().enumerate() {
            let client = self.client.clone();
            let subject = format!("$JS.API.DIRECT.GET.{}", self.options.stream);
            reads.spawn(async move {
                let request = format!("{{\"seq\":{place}}}");
                let answer = client.request(&subject, request).await;
                (at, seq, Read::of(answer))
            });
        }
        let mut read = reads.join_all().await;
        read.sort_by_key(|(at, ..)| *at);
        read.into_iter()
            .map(|(_, seq, message)| (seq, message))
            .collect()
    }

    async fn publish(&self, to: &Subject, headers: &Headers, payload: &[u8]) -> Result<(), Error> {
        let publication = Publication::new(to, payload)?.headers(headers);
        self.client.send(publication).await
    }
}

/// What became of reading one message.
enum Read {
    Found(Message),
    /// The stream does not have it any more.
    Gone,
    /// The stream did not answer.
    Unknown,
}

impl Read {
    fn of(answer: Result<Message, Error>) -> Self {
        match answer {
            Ok(message) => match message.status() {
                Some(status) if status.code == 404 => Self::Gone,
                Some(_) => Self::Unknown,
                None => Self::Found(message),
            },
            Err(_) => Self::Unknown,
        }
    }
}

/// The headers of a repair: the stamp, the subject, and the message's own. `None` when the stream gave
/// out another message than the one with this number.
fn repair(message: &Message, source: &SourceName, epoch: u64, seq: u64) -> Option<Headers> {
    let block = message.headers()?;
    let text = block.first(STAMP_HEADER)?;
    let stamp = Stamp::parse(text)?;
    let is_it = (stamp.source, stamp.epoch, stamp.seq) == (source.as_str(), epoch, seq);
    let subject = block.last("Nats-Subject").filter(|_| is_it)?;
    let mut headers = Headers::new();
    headers.append(STAMP_HEADER, text).ok()?;
    headers.append(SEQ_SUBJECT, subject).ok()?;
    let own = block.iter().map_while(Result::ok);
    for (name, value) in own {
        let Ok(name) = std::str::from_utf8(name) else {
            continue;
        };
        if name != STAMP_HEADER && !ADDED.contains(&name) {
            // What cannot be written was not written by a client of ours.
            let _ = headers.append(name, value);
        }
    }
    Some(headers)
}

/// Both, as far as their text is read by receivers; the rest is asked for again.
fn together(ranges: &Ranges, numbers: &[u64]) -> Ranges {
    let mut all: Vec<(u64, u64)> = ranges.iter().collect();
    all.extend(numbers.iter().map(|number| (*number, *number)));
    all.sort_unstable();
    let mut together = Ranges::new();
    for (from, to) in all.into_iter().take(GONE_RANGES_MAX) {
        together.push(from, to);
    }
    together
}

/// Two numbers of 16 digits, a dash and a comma for each are within the 4,096 bytes that receivers read.
const GONE_RANGES_MAX: usize = 120;

#[derive(Deserialize)]
struct StreamInfo {
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

#[derive(Deserialize)]
struct Refused {
    error: ApiError,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    err_code: u64,
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
