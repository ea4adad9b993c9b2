//! The answers of an archive: as a source would have given them, within bounds.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::client::{Client, Clock, Error, Publication, random_seed};
use crate::sequence::{
    ArchiveIndex, Budget, Carrier, Ranges, RepairLimits, ReplyStatus, SEQ_GONE, SEQ_MORE,
    SEQ_RETRY, SEQ_SUBJECT, SEQ_TRAIL, STAMP_HEADER, SourceName, Stamp, Verdict, read_request,
    requester_of, wrap,
};
use crate::subject::Subject;
use crate::wire::{Headers, Message};

use super::archive::{ArchiveOptions, Refused};

/// Messages that are read from the stream at a time.
const READS_MAX: usize = 16;
/// The longest reply subject.
const REPLY_SUBJECT_BYTES_MAX: usize = 128;
/// Bytes of a control line, beside its subject, and of a header block around its lines.
const FRAME_BYTES: usize = 40;
/// Two numbers of 16 digits, a dash and a comma for each are within the 4,096 bytes that receivers read.
const GONE_RANGES_MAX: usize = 120;
/// The status of a direct get that finds nothing.
const NOT_FOUND: u16 = 404;
/// What a stream's leader says when there is no such message.
const NO_MESSAGE_FOUND: u64 = 10_037;
/// What a stream adds to a message that it gives out.
const ADDED: [&str; 6] = [
    "Nats-Stream",
    "Nats-Subject",
    "Nats-Sequence",
    "Nats-Time-Stamp",
    "Nats-Num-Pending",
    "Nats-Last-Sequence",
];

/// Reads requests and answers them.
#[derive(Debug)]
pub(super) struct Answers {
    client: Client,
    clock: Clock,
    stream: String,
    reply_prefixes: Vec<String>,
    limits: RepairLimits,
    budget: Budget,
}

/// A request.
#[derive(Debug)]
pub(super) struct Asked {
    to: Subject,
    source: SourceName,
    epoch: u64,
    ranges: Ranges,
}

/// What became of a request.
#[derive(Debug)]
pub(super) struct Answered {
    /// Messages sent.
    pub(super) repairs: u64,
    /// Whether something was left out because too much was sent lately.
    pub(super) is_delayed: bool,
    /// Whether the stream is what the index says.
    pub(super) is_right: bool,
}

impl Default for Answered {
    fn default() -> Self {
        Self {
            repairs: 0,
            is_delayed: false,
            is_right: true,
        }
    }
}

impl Answers {
    pub(super) fn new(client: &Client, options: &ArchiveOptions) -> Result<Self, Error> {
        Ok(Self {
            client: client.clone(),
            clock: Clock::new(),
            stream: options.stream.clone(),
            reply_prefixes: options.reply_prefixes.clone(),
            limits: options.repairs,
            budget: Budget::new(options.repairs, random_seed()?),
        })
    }

    /// Reads a request: where the answer goes, and what is asked of which run.
    pub(super) fn read(&self, request: &Message) -> Option<Asked> {
        let reply = std::str::from_utf8(request.reply()?).ok()?;
        let prefixes = &self.reply_prefixes;
        let is_allowed = reply.len() <= REPLY_SUBJECT_BYTES_MAX
            && prefixes
                .iter()
                .any(|prefix| reply.starts_with(prefix.as_str()));
        let to = Subject::new(reply).ok().filter(|_| is_allowed)?;
        let mut tokens = request.subject_str().ok()?.rsplit('.');
        let epoch = tokens.next()?.parse().ok()?;
        Some(Asked {
            to,
            source: SourceName::new(tokens.next()?).ok()?,
            epoch,
            ranges: read_request(request.payload())?,
        })
    }

    /// Sends what the stream has of it, and an end.
    pub(super) async fn answer(
        &mut self,
        index: &ArchiveIndex,
        asked: &Asked,
    ) -> Result<Answered, Error> {
        let Asked {
            source,
            epoch,
            ranges,
            ..
        } = asked;
        let mut answered = Answered::default();
        let carrier = index.carrier(source, *epoch);
        match self.ask_budget(asked) {
            Verdict::Granted => {}
            Verdict::Later(wait) => {
                answered.is_delayed = true;
                let mut end = end(ReplyStatus::SlowDown, asked, 0)?;
                end.append(SEQ_RETRY, millis_up(wait))?;
                let status = Some(ReplyStatus::SlowDown);
                self.send(asked, carrier, status, &end, &[]).await?;
                return Ok(answered);
            }
            Verdict::Overdrawn => {
                answered.is_delayed = true;
                return Ok(answered);
            }
        }
        let most = self.limits.request_messages_max;
        let Some(mut stored) = index.find(source, *epoch, ranges, most) else {
            // Not stored, or not read yet: it may be asked for again.
            let end = end(ReplyStatus::NotRetained, asked, 0)?;
            let status = Some(ReplyStatus::NotRetained);
            self.send(asked, carrier, status, &end, &[]).await?;
            return Ok(answered);
        };
        let mut gone: Vec<u64> = Vec::new();
        let mut sent_bytes = 0_usize;
        let mut retry = None;
        let mut found = stored.found.into_iter();
        'reads: loop {
            let some: Vec<_> = found.by_ref().take(READS_MAX).collect();
            if some.is_empty() {
                break;
            }
            for (seq, message) in self.get(some).await {
                let message = match message {
                    Read::Found(message) => message,
                    Read::Gone => {
                        gone.push(seq);
                        continue;
                    }
                    Read::Unknown => continue,
                };
                let Some((carrier, headers)) = repair(&message, asked, seq) else {
                    answered.is_right = false;
                    continue;
                };
                if sent_bytes >= self.limits.request_bytes_max {
                    stored.has_more = true;
                    break 'reads;
                }
                match self.ask_budget(asked) {
                    Verdict::Granted => {}
                    Verdict::Later(wait) => {
                        stored.has_more = true;
                        retry = Some(wait);
                        break 'reads;
                    }
                    Verdict::Overdrawn => {
                        answered.is_delayed = true;
                        return Ok(answered);
                    }
                }
                let payload = message.payload();
                let sent = self.send(asked, carrier, None, &headers, payload).await?;
                sent_bytes = sent_bytes.saturating_add(sent);
                answered.repairs = answered.repairs.saturating_add(1);
            }
        }
        let lowest = index.lowest(source, *epoch).unwrap_or(0);
        let highest = index.highest(source, *epoch).unwrap_or(0);
        let mut end = end(ReplyStatus::End, asked, highest)?;
        end.append(SEQ_TRAIL, lowest.to_string())?;
        let (gone, is_all) = together(&stored.gone, &gone);
        stored.has_more |= !is_all;
        if !gone.is_empty() {
            end.append(SEQ_GONE, gone.to_text())?;
        }
        if stored.has_more {
            end.append(SEQ_MORE, "1")?;
        }
        if let Some(wait) = retry {
            answered.is_delayed = true;
            end.append(SEQ_RETRY, millis_up(wait))?;
        }
        let status = Some(ReplyStatus::End);
        self.send(asked, carrier, status, &end, &[]).await?;
        Ok(answered)
    }

    fn ask_budget(&self, asked: &Asked) -> Verdict {
        let requester = requester_of(&self.reply_prefixes, asked.to.as_str());
        self.budget.ask(self.clock.now(), requester, Duration::ZERO)
    }

    /// Reads messages of the stream, in the order asked for.
    async fn get(&self, places: Vec<(u64, u64)>) -> Vec<(u64, Read)> {
        let mut reads = JoinSet::new();
        for (at, (seq, place)) in places.into_iter().enumerate() {
            let client = self.client.clone();
            let stream = self.stream.clone();
            reads.spawn(async move { (at, seq, Read::from(&client, &stream, place).await) });
        }
        let mut read = reads.join_all().await;
        read.sort_by_key(|(at, ..)| *at);
        read.into_iter()
            .map(|(_, seq, message)| (seq, message))
            .collect()
    }

    /// Sends a repair or an end; returns how many bytes that were. What a source of this carrier sends has
    /// no headers.
    async fn send(
        &mut self,
        asked: &Asked,
        carrier: Carrier,
        status: Option<ReplyStatus>,
        headers: &Headers,
        payload: &[u8],
    ) -> Result<usize, Error> {
        let lines = headers.lines().as_bytes();
        let bytes = [
            asked.to.as_str().len(),
            lines.len(),
            payload.len(),
            FRAME_BYTES,
        ];
        let bytes = bytes.into_iter().fold(0, usize::saturating_add);
        let requester = requester_of(&self.reply_prefixes, asked.to.as_str());
        self.budget.spend(self.clock.now(), requester, bytes);
        if !carrier.has_headers() {
            let wrapped = wrap(status, lines, payload);
            let publication = Publication::new(&asked.to, wrapped)?;
            self.client.send(publication).await?;
            return Ok(bytes);
        }
        let publication = Publication::new(&asked.to, payload)?.headers(headers);
        self.client.send(publication).await?;
        Ok(bytes)
    }
}

/// An end with this status, and the highest number that is stored.
fn end(status: ReplyStatus, asked: &Asked, highest: u64) -> Result<Headers, Error> {
    let mut end = Headers::with_status(status.code(), status.description())?;
    let (source, epoch) = (&asked.source, asked.epoch);
    end.append(STAMP_HEADER, format!("{source}.{epoch}.{highest}"))?;
    Ok(end)
}

/// Where a message of a stream carries its stamp, and the stamp.
pub(super) fn carried<'a>(
    header: Option<&'a [u8]>,
    subject: &'a [u8],
) -> (Carrier, Option<&'a [u8]>) {
    match header {
        Some(_) => (Carrier::Header, header),
        None => (
            Carrier::Token,
            Carrier::Token.read(None, subject, &[]).stamp,
        ),
    }
}

/// What became of reading one message.
enum Read {
    Found(Message),
    /// The stream does not have it any more, as its leader says.
    Gone,
    /// The stream did not answer, or not for all.
    Unknown,
}

impl Read {
    async fn from(client: &Client, stream: &str, place: u64) -> Self {
        let request = format!("{{\"seq\":{place}}}");
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        let Ok(message) = client.request(&subject, request.clone()).await else {
            return Self::Unknown;
        };
        match message.status() {
            None => return Self::Found(message),
            Some(status) if status.code == NOT_FOUND => {}
            Some(_) => return Self::Unknown,
        }
        // Any replica or mirror answers that, and one that lags has not got yet what the leader has.
        let subject = format!("$JS.API.STREAM.MSG.GET.{stream}");
        let Ok(answer) = client.request(&subject, request).await else {
            return Self::Unknown;
        };
        match serde_json::from_slice(answer.payload()) {
            Ok(Refused { error }) if error.err_code == NO_MESSAGE_FOUND => Self::Gone,
            _ => Self::Unknown,
        }
    }
}

/// The headers of a repair: the stamp, the subject, and the message's own. `None` when the stream gave
/// out another message than the one with this number.
fn repair(message: &Message, asked: &Asked, seq: u64) -> Option<(Carrier, Headers)> {
    let block = message.headers()?;
    let subject = block.last("Nats-Subject")?;
    let (carrier, text) = carried(block.first(STAMP_HEADER), subject);
    let text = text?;
    let stamp = Stamp::parse(text)?;
    let found = (stamp.source, stamp.epoch, stamp.seq);
    if found != (asked.source.as_str(), asked.epoch, seq) {
        return None;
    }
    let bare = match carrier {
        Carrier::Token => carrier.read(None, subject, &[]).subject,
        Carrier::Header | Carrier::Payload => subject,
    };
    let mut headers = Headers::new();
    headers.append(STAMP_HEADER, text).ok()?;
    headers.append(SEQ_SUBJECT, bare).ok()?;
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
    Some((carrier, headers))
}

/// Both as far as their text is read by receivers, and whether that is all.
fn together(ranges: &Ranges, numbers: &[u64]) -> (Ranges, bool) {
    let mut all: Vec<(u64, u64)> = ranges.iter().collect();
    all.extend(numbers.iter().map(|number| (*number, *number)));
    all.sort_unstable();
    let mut together = Ranges::new();
    for (from, to) in all {
        together.push(from, to);
        if together.len() > GONE_RANGES_MAX {
            return (together.without(from, to), false);
        }
    }
    (together, true)
}

/// Milliseconds in decimal, one begun counts.
fn millis_up(time: Duration) -> String {
    time.as_nanos().div_ceil(1_000_000).to_string()
}
