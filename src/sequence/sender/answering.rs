//! How a source answers requests: with a heartbeat, with repairs, or with why not.

use core::time::Duration;

use crate::decimal;
use crate::sequence::budget::Verdict;
use crate::sequence::chunk::Retained;
use crate::sequence::claim::{NameNotice, NoticeKind, Reaction};
use crate::sequence::defect::Defect;
use crate::sequence::heartbeat::{Heartbeat, HeartbeatKind};
use crate::sequence::ranges::{REQUEST_RANGES_MAX, Ranges};
use crate::sequence::repair::{REPLY_TO, SEQ_GONE, SEQ_MORE, SEQ_RETRY, SEQ_SUBJECT, SEQ_TRAIL};
use crate::subject::Subject;

use super::Sender;

/// Requests that may wait; further ones are told to come back.
const REQUESTS_MAX: usize = 256;
/// Those of one requester.
const REQUESTS_OF_ONE_MAX: usize = 4;
/// The longest repair request.
const REQUEST_BYTES_MAX: usize = 1_024;
/// The longest reply subject.
const REPLY_SUBJECT_BYTES_MAX: usize = 128;
/// Ranges that one reply calls gone: their text is at most 3,400 bytes.
const GONE_RANGES_MAX: usize = 100;
/// A number that was sent to a receiver is not sent to it again within this time.
const REPEAT_TIME: Duration = Duration::from_millis(10);
/// What a receiver is told to wait when too many others are before it.
const RETRY_TIME: Duration = Duration::from_millis(50);
/// The version line and the blank line around headers.
const FRAMING_BYTES: usize = 12;
/// About what a heartbeat's or a notice's body measures, the scope not counted.
const BODY_BYTES: usize = 128;

/// What the connection allows a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "callers set both")]
pub struct Allowance {
    /// What the server takes in one message, headers included.
    pub body_bytes_max: usize,
    /// From when on the client may send repairs at all.
    pub due: Duration,
}

impl Default for Allowance {
    /// Everything, at once.
    fn default() -> Self {
        Self {
            body_bytes_max: usize::MAX,
            due: Duration::ZERO,
        }
    }
}

/// A message to publish in answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reply {
    /// Where to.
    pub to: Subject,
    /// How the reply ends; `None` for a repaired message and for a heartbeat that was asked for.
    pub status: Option<ReplyStatus>,
    /// Encoded header lines, the stamp first.
    pub lines: Vec<u8>,
    /// What to send.
    pub body: ReplyBody,
}

/// The payload of a [`Reply`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplyBody {
    /// These bytes, perhaps none.
    Payload(Vec<u8>),
    /// The body of this heartbeat.
    Heartbeat(Heartbeat),
    /// The body of this notice; there are no lines.
    Notice(NameNotice),
}

impl Reply {
    /// About how many bytes it costs: subject, headers and payload.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let body = match &self.body {
            ReplyBody::Payload(payload) => payload.len(),
            ReplyBody::Heartbeat(heartbeat) => {
                BODY_BYTES.saturating_add(heartbeat.scope.as_str().len())
            }
            ReplyBody::Notice(_) => BODY_BYTES,
        };
        self.to
            .as_str()
            .len()
            .saturating_add(self.lines.len())
            .saturating_add(FRAMING_BYTES)
            .saturating_add(body)
    }
}

/// The status line that ends a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReplyStatus {
    /// `204 EOB`: everything that can be sent was sent.
    End,
    /// `404 Not Retained`: nothing of it is retained.
    NotRetained,
    /// `409 Wrong Epoch`: the name has a later run, and this is its heartbeat.
    WrongEpoch,
    /// `429 Slow Down`.
    SlowDown,
    /// `400 Bad Request`.
    BadRequest,
}

impl ReplyStatus {
    /// The status with these digits.
    pub(in crate::sequence) fn from_code(code: u16) -> Option<Self> {
        [
            Self::End,
            Self::NotRetained,
            Self::WrongEpoch,
            Self::SlowDown,
            Self::BadRequest,
        ]
        .into_iter()
        .find(|status| status.code() == code)
    }

    /// The three digits.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::End => 204,
            Self::NotRetained => 404,
            Self::WrongEpoch => 409,
            Self::SlowDown => 429,
            Self::BadRequest => 400,
        }
    }

    /// The words.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::End => "EOB",
            Self::NotRetained => "Not Retained",
            Self::WrongEpoch => "Wrong Epoch",
            Self::SlowDown => "Slow Down",
            Self::BadRequest => "Bad Request",
        }
    }
}

/// A request that is being answered.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    to: Subject,
    ask: Ask,
}

#[derive(Debug, Clone)]
enum Ask {
    Heartbeat,
    WrongEpoch,
    SlowDown,
    BadRequest,
    Notice(NoticeKind),
    Messages(Progress),
}

/// How far the answer to a request has come.
#[derive(Debug, Clone, Default)]
struct Progress {
    ranges: Ranges,
    next: u64,
    gone: Ranges,
    sent: usize,
    sent_bytes: usize,
}

/// Numbers that were sent to a receiver a moment ago.
#[derive(Debug, Clone)]
pub(super) struct Repaired {
    at: Duration,
    requester: Box<str>,
    first: u64,
    last: u64,
}

/// The next message of an answer.
enum Found {
    Message {
        seq: u64,
        lines: Vec<u8>,
        payload: Vec<u8>,
    },
    /// The answer is long enough; there is more.
    Full,
    Nothing,
}

impl Sender {
    /// Takes a request that came to the source's repair subject.
    pub fn handle_request(&mut self, now: Duration, reply: Option<&[u8]>, request: &[u8]) {
        let Some(to) = reply.and_then(|reply| self.allowed(reply)) else {
            return self.refuse();
        };
        if let Some(closed) = &mut self.closed {
            let limit = closed.at.saturating_add(self.options.linger_max);
            closed.until = now
                .saturating_add(self.options.linger)
                .min(limit)
                .max(closed.until);
        }
        let prefixes = &self.options.reply_prefixes;
        let requester = requester_of(prefixes, to.as_str());
        let is_of_one =
            |pending: &&Pending| requester_of(prefixes, pending.to.as_str()) == requester;
        let of_one = self.requests.iter().filter(is_of_one);
        let is_crowded = of_one.count() >= REQUESTS_OF_ONE_MAX;
        let ask = if is_crowded || self.requests.len() >= REQUESTS_MAX {
            self.refuse();
            Ask::SlowDown
        } else if request == b"?" {
            let is_asked =
                |pending: &Pending| pending.to == to && matches!(pending.ask, Ask::Heartbeat);
            if self.requests.iter().any(is_asked) {
                return self.refuse();
            }
            Ask::Heartbeat
        } else if let Some(ranges) = read_request(request) {
            let ranges = self.without_repeats(now, &to, ranges);
            if ranges.is_empty() {
                return self.refuse();
            }
            Ask::Messages(Progress {
                ranges,
                ..Progress::default()
            })
        } else {
            self.refuse();
            Ask::BadRequest
        };
        self.queue(to, ask);
    }

    /// Takes a request that came to the repair subject of another run of the name.
    ///
    /// An earlier run is over, which is said; a later one answers for itself.
    pub fn handle_stray_request(&mut self, epoch: u64, reply: Option<&[u8]>) {
        if epoch >= self.options.epoch || self.closed.is_some() {
            return;
        }
        match reply.and_then(|reply| self.allowed(reply)) {
            Some(to) => self.queue(to, Ask::WrongEpoch),
            None => self.refuse(),
        }
    }

    /// Takes what another says about the source's name, on the name's subject.
    pub fn handle_notice(&mut self, now: Duration, reply: Option<&[u8]>, notice: &NameNotice) {
        let is_closed = self.closed.is_some();
        let Some(holder) = &self.holder else {
            return;
        };
        let answer = match holder.handle_notice(notice, is_closed) {
            Reaction::Nothing => return,
            Reaction::Answer(kind) => kind,
            Reaction::Insist => {
                self.holder_due = now;
                NoticeKind::Owner
            }
            Reaction::GiveWay { by } => {
                self.end(now, Some(by));
                NoticeKind::Fenced
            }
        };
        if let Some(to) = reply.and_then(|reply| self.allowed(reply)) {
            self.queue(to, Ask::Notice(answer));
        }
    }

    /// The next message to publish in answer to a request or a notice.
    ///
    /// What it costs is spent from the source's own budgets; the client's is the caller's to keep.
    #[must_use]
    pub fn poll_reply(&mut self, now: Duration, allowance: Allowance) -> Option<Reply> {
        self.retention.expire(now);
        loop {
            let pending = self.requests.pop_front()?;
            let requester = requester_of(&self.options.reply_prefixes, pending.to.as_str());
            let wait = match self.budget.ask(now, requester, allowance.due) {
                Verdict::Granted => None,
                Verdict::Later(wait) => Some(wait),
                Verdict::Overdrawn => {
                    // To speak of it would be more of it.
                    self.refuse();
                    continue;
                }
            };
            let reply = self.answer(now, allowance, pending, wait);
            let requester = requester_of(&self.options.reply_prefixes, reply.to.as_str());
            self.budget.spend(now, requester, reply.bytes());
            return Some(reply);
        }
    }

    fn answer(
        &mut self,
        now: Duration,
        allowance: Allowance,
        mut pending: Pending,
        wait: Option<Duration>,
    ) -> Reply {
        let to = pending.to.clone();
        match &mut pending.ask {
            Ask::Notice(kind) => self.notice_reply(to, *kind),
            Ask::BadRequest => self.status_reply(to, ReplyStatus::BadRequest, None),
            Ask::SlowDown => self.status_reply(to, ReplyStatus::SlowDown, Some(RETRY_TIME)),
            Ask::Heartbeat | Ask::WrongEpoch if wait.is_some() => {
                self.refuse();
                self.status_reply(to, ReplyStatus::SlowDown, wait)
            }
            Ask::Heartbeat => self.heartbeat_reply(now, to, None),
            Ask::WrongEpoch => self.heartbeat_reply(now, to, Some(ReplyStatus::WrongEpoch)),
            Ask::Messages(progress) if wait.is_some() => {
                if progress.sent == 0 && progress.gone.is_empty() {
                    self.refuse();
                    return self.status_reply(to, ReplyStatus::SlowDown, wait);
                }
                self.end_of_reply(to, progress, true, wait)
            }
            Ask::Messages(progress) => match self.find(progress, allowance) {
                Found::Message {
                    seq,
                    lines,
                    payload,
                } => {
                    let reply = Reply {
                        to,
                        status: None,
                        lines,
                        body: ReplyBody::Payload(payload),
                    };
                    progress.next = seq.saturating_add(1);
                    progress.sent = progress.sent.saturating_add(1);
                    progress.sent_bytes = progress.sent_bytes.saturating_add(reply.bytes());
                    self.statistics.repairs = self.statistics.repairs.saturating_add(1);
                    self.note_repaired(now, &reply.to, seq);
                    self.requests.push_front(pending);
                    reply
                }
                Found::Full => self.end_of_reply(to, progress, true, None),
                Found::Nothing => self.end_of_reply(to, progress, false, None),
            },
        }
    }

    fn queue(&mut self, to: Subject, ask: Ask) {
        // The queue's bound holds for answers of one line too.
        if self.requests.len() < REQUESTS_MAX.saturating_mul(2) {
            self.requests.push_back(Pending { to, ask });
        }
    }

    /// Takes the reply subject if the source may publish there.
    fn allowed(&self, reply: &[u8]) -> Option<Subject> {
        let is_allowed = reply.len() <= REPLY_SUBJECT_BYTES_MAX
            && self
                .options
                .reply_prefixes
                .iter()
                .any(|prefix| reply.starts_with(prefix.as_bytes()));
        let is_allowed = is_allowed || Defect::AnyReply.is_planted();
        let text = core::str::from_utf8(reply).ok().filter(|_| is_allowed)?;
        Subject::new(text).ok()
    }

    /// Leaves out what this receiver is being sent, or was sent a moment ago.
    fn without_repeats(&mut self, now: Duration, to: &Subject, mut ranges: Ranges) -> Ranges {
        while let Some(oldest) = self.repaired.front() {
            if now.saturating_sub(oldest.at) <= REPEAT_TIME {
                break;
            }
            self.repaired.pop_front();
        }
        let prefixes = &self.options.reply_prefixes;
        let requester = requester_of(prefixes, to.as_str());
        for sent in &self.repaired {
            if *sent.requester == *requester {
                ranges = ranges.without(sent.first, sent.last);
            }
        }
        for pending in &self.requests {
            let Ask::Messages(progress) = &pending.ask else {
                continue;
            };
            if requester_of(prefixes, pending.to.as_str()) != requester {
                continue;
            }
            for (from, to) in progress.ranges.iter() {
                ranges = ranges.without(from.max(progress.next), to);
            }
        }
        ranges
    }

    fn note_repaired(&mut self, now: Duration, to: &Subject, seq: u64) {
        let requester = requester_of(&self.options.reply_prefixes, to.as_str());
        if let Some(last) = self.repaired.back_mut()
            && *last.requester == *requester
            && last.last.saturating_add(1) == seq
        {
            (last.at, last.last) = (now, seq);
            return;
        }
        if self.repaired.len() >= REQUESTS_MAX {
            self.repaired.pop_front();
        }
        self.repaired.push_back(Repaired {
            at: now,
            requester: requester.into(),
            first: seq,
            last: seq,
        });
    }

    /// Finds the next message of an answer; notes what it passes as gone.
    fn find(&self, progress: &mut Progress, allowance: Allowance) -> Found {
        let limits = &self.options.repairs;
        loop {
            let is_full = progress.sent >= limits.request_messages_max.max(1)
                || progress.sent_bytes >= limits.request_bytes_max.max(1)
                || progress.gone.len() >= GONE_RANGES_MAX;
            let Some((seq, message)) = self.find_retained(progress) else {
                return Found::Nothing;
            };
            if is_full {
                return Found::Full;
            }
            let lines = self.repair_lines(seq, &message);
            let found = lines.len().saturating_add(message.payload.len());
            if found.saturating_add(FRAMING_BYTES) <= allowance.body_bytes_max {
                let payload = message.payload;
                return Found::Message {
                    seq,
                    lines,
                    payload,
                };
            }
            // This server takes less than the one that it was published to.
            progress.gone.push(seq, seq);
            progress.next = seq.saturating_add(1);
        }
    }

    /// Finds the next retained number of the ranges; notes what it passes as gone.
    fn find_retained(&self, progress: &mut Progress) -> Option<(u64, Retained)> {
        let is_less = u64::from(Defect::RetainedIsGone.is_planted());
        let trail = self.trail().saturating_add(is_less);
        let Progress {
            ranges, next, gone, ..
        } = progress;
        for (from, to) in ranges.iter() {
            let from = from.max(*next);
            let to = to.min(self.lead);
            if from > to {
                continue;
            }
            if from < trail {
                let gone_to = to.min(trail.saturating_sub(1));
                gone.push(from, gone_to);
                *next = gone_to.saturating_add(1);
            }
            let seq = from.max(trail);
            if seq <= to {
                return self.retention.get(seq).map(|message| (seq, message));
            }
        }
        None
    }

    fn repair_lines(&self, seq: u64, message: &Retained) -> Vec<u8> {
        let mut lines = Vec::new();
        self.stamp_line.write_as(&mut lines, seq, message.prev);
        write_line(&mut lines, SEQ_SUBJECT, &message.subject);
        if !message.reply.is_empty() {
            write_line(&mut lines, REPLY_TO, &message.reply);
        }
        lines.extend_from_slice(&message.headers);
        lines
    }

    fn end_of_reply(
        &mut self,
        to: Subject,
        progress: &Progress,
        has_more: bool,
        retry: Option<Duration>,
    ) -> Reply {
        self.count_request();
        let gone = &progress.gone;
        let mut lines = self.stamp_line(self.lead);
        write_line(&mut lines, SEQ_TRAIL, &text(self.trail()));
        let is_told = !Defect::NoTrail.is_planted();
        if is_told && !gone.is_empty() {
            write_line(&mut lines, SEQ_GONE, &gone.to_text());
        }
        if has_more {
            write_line(&mut lines, SEQ_MORE, b"1");
        }
        if let Some(retry) = retry {
            write_line(&mut lines, SEQ_RETRY, &text(millis_up(retry)));
        }
        let is_nothing = is_told && progress.sent == 0 && !has_more && !gone.is_empty();
        let status = if is_nothing {
            ReplyStatus::NotRetained
        } else {
            ReplyStatus::End
        };
        Reply {
            to,
            status: Some(status),
            lines,
            body: ReplyBody::Payload(Vec::new()),
        }
    }

    fn status_reply(&self, to: Subject, status: ReplyStatus, retry: Option<Duration>) -> Reply {
        let mut lines = self.stamp_line(self.lead);
        if let Some(retry) = retry {
            write_line(&mut lines, SEQ_RETRY, &text(millis_up(retry)));
        }
        Reply {
            to,
            status: Some(status),
            lines,
            body: ReplyBody::Payload(Vec::new()),
        }
    }

    fn heartbeat_reply(
        &mut self,
        now: Duration,
        to: Subject,
        status: Option<ReplyStatus>,
    ) -> Reply {
        self.count_request();
        let kind = match self.closed {
            Some(closed) => closed.kind(),
            None if status.is_some() => HeartbeatKind::Hello,
            None => HeartbeatKind::Beat,
        };
        let due = self.rhythm.due().saturating_sub(now);
        let next = due.max(self.rhythm.first());
        let heartbeat = self.heartbeat(now, kind, next);
        Reply {
            to,
            status,
            lines: self.stamp_line(self.lead),
            body: ReplyBody::Heartbeat(heartbeat),
        }
    }

    fn notice_reply(&self, to: Subject, kind: NoticeKind) -> Reply {
        let notice = NameNotice {
            kind,
            epoch: self.options.epoch,
            nonce: self.options.nonce.unwrap_or_default(),
            lead: if kind == NoticeKind::Fenced {
                self.lead
            } else {
                0
            },
        };
        Reply {
            to,
            status: None,
            lines: Vec::new(),
            body: ReplyBody::Notice(notice),
        }
    }

    const fn count_request(&mut self) {
        self.statistics.requests = self.statistics.requests.saturating_add(1);
    }

    const fn refuse(&mut self) {
        self.statistics.refused_requests = self.statistics.refused_requests.saturating_add(1);
    }
}

pub(crate) fn read_request(request: &[u8]) -> Option<Ranges> {
    if request.len() > REQUEST_BYTES_MAX {
        return None;
    }
    Ranges::parse(request)
        .ok()
        .filter(|ranges| ranges.len() <= REQUEST_RANGES_MAX)
}

/// Whoever shares a reply subject up to the token behind the allowed prefix is one requester.
pub(crate) fn requester_of<'a>(prefixes: &[String], to: &'a str) -> &'a str {
    let fitting = prefixes.iter().filter(|prefix| to.starts_with(*prefix));
    let prefix = fitting.map(String::len).max().unwrap_or_default();
    let token = to.get(prefix..).and_then(|rest| rest.find('.'));
    let end = token.map_or(to.len(), |len| prefix.saturating_add(len));
    to.get(..end).unwrap_or(to)
}

fn millis_up(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn text(number: u64) -> Vec<u8> {
    let mut text = Vec::new();
    decimal::write(&mut text, number);
    text
}

fn write_line(lines: &mut Vec<u8>, name: &str, value: &[u8]) {
    for piece in [name.as_bytes(), b": ", value, b"\r\n"] {
        lines.extend_from_slice(piece);
    }
}
