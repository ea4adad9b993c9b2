//! How a source answers requests: with a heartbeat, with repairs, or with why not.

use core::time::Duration;

use crate::decimal;
use crate::sequence::heartbeat::{Heartbeat, HeartbeatKind};
use crate::sequence::ranges::{REQUEST_RANGES_MAX, Ranges};
use crate::sequence::repair::{REPLY_TO, SEQ_GONE, SEQ_MORE, SEQ_RETRY, SEQ_SUBJECT, SEQ_TRAIL};
use crate::sequence::retention::Retained;
use crate::subject::Subject;

use super::Sender;

/// Messages in one reply; the receiver asks again for the rest.
pub(crate) const REPLY_MESSAGES_MAX: usize = 256;
/// Bytes in one reply, likewise.
pub(crate) const REPLY_BYTES_MAX: usize = 256 << 10;
/// Requests that may wait; further ones are told to come back.
const REQUESTS_MAX: usize = 256;
/// The longest repair request.
const REQUEST_BYTES_MAX: usize = 1_024;
/// The longest reply subject.
const REPLY_SUBJECT_BYTES_MAX: usize = 128;
/// The same request from the same receiver within this time is answered once.
const REPEAT_TIME: Duration = Duration::from_millis(10);
/// What a receiver that comes too often is told to wait.
const RETRY_MILLIS: u64 = 50;

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
}

/// The status line that ends a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReplyStatus {
    /// `204 EOB`: everything that can be sent was sent.
    End,
    /// `404 Not Retained`: nothing of it is retained.
    NotRetained,
    /// `429 Slow Down`.
    SlowDown,
    /// `400 Bad Request`.
    BadRequest,
}

impl ReplyStatus {
    /// The three digits.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::End => 204,
            Self::NotRetained => 404,
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
    Status(ReplyStatus),
    Messages {
        ranges: Ranges,
        next: u64,
        gone: Ranges,
        sent: usize,
        sent_bytes: usize,
    },
}

/// A request that was taken a moment ago.
#[derive(Debug, Clone)]
pub(super) struct Recent {
    at: Duration,
    requester: Vec<u8>,
    request: Vec<u8>,
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
        // What is too long is not remembered either.
        let is_short = request.len() <= REQUEST_BYTES_MAX;
        if is_short && self.is_repeated(now, &to, request) {
            return self.refuse();
        }
        let ask = if self.requests.len() >= REQUESTS_MAX {
            self.refuse();
            // The queue's bound holds for answers of one line too.
            if self.requests.len() >= REQUESTS_MAX.saturating_mul(2) {
                return;
            }
            Ask::Status(ReplyStatus::SlowDown)
        } else if request == b"?" {
            Ask::Heartbeat
        } else if let Some(ranges) = read_request(request) {
            Ask::Messages {
                ranges,
                next: 0,
                gone: Ranges::new(),
                sent: 0,
                sent_bytes: 0,
            }
        } else {
            self.refuse();
            Ask::Status(ReplyStatus::BadRequest)
        };
        self.requests.push_back(Pending { to, ask });
    }

    /// The next message to publish in answer to a request.
    #[must_use]
    pub fn poll_reply(&mut self, now: Duration) -> Option<Reply> {
        self.retention.expire(now);
        let mut pending = self.requests.pop_front()?;
        let to = pending.to.clone();
        match &mut pending.ask {
            Ask::Heartbeat => {
                self.count_request();
                let kind = match self.closed {
                    Some(_) => HeartbeatKind::End,
                    None => HeartbeatKind::Beat,
                };
                let next = self
                    .rhythm
                    .due()
                    .saturating_sub(now)
                    .max(self.rhythm.first());
                let heartbeat = self.heartbeat(now, kind, next);
                let lines = self.stamp_line(self.lead);
                Some(Reply {
                    to,
                    status: None,
                    lines,
                    body: ReplyBody::Heartbeat(heartbeat),
                })
            }
            Ask::Status(status) => {
                let mut lines = self.stamp_line(self.lead);
                if *status == ReplyStatus::SlowDown {
                    write_line(&mut lines, SEQ_RETRY, &text(RETRY_MILLIS));
                }
                let body = ReplyBody::Payload(Vec::new());
                Some(Reply {
                    to,
                    status: Some(*status),
                    lines,
                    body,
                })
            }
            Ask::Messages {
                ranges,
                next,
                gone,
                sent,
                sent_bytes,
            } => {
                let is_full = *sent >= REPLY_MESSAGES_MAX || *sent_bytes >= REPLY_BYTES_MAX;
                let found = self.find_retained(ranges, next, gone);
                match found {
                    Some((seq, message)) if !is_full => {
                        *next = seq.saturating_add(1);
                        *sent = sent.saturating_add(1);
                        *sent_bytes = sent_bytes.saturating_add(message.payload.len());
                        self.requests.push_front(pending);
                        Some(self.repair(to, seq, message))
                    }
                    left => {
                        self.count_request();
                        let is_empty = *sent == 0 && left.is_none();
                        let gone = core::mem::take(gone);
                        Some(self.end_of_reply(to, is_empty, &gone, left.is_some()))
                    }
                }
            }
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
        let text = core::str::from_utf8(reply).ok().filter(|_| is_allowed)?;
        Subject::new(text).ok()
    }

    fn is_repeated(&mut self, now: Duration, to: &Subject, request: &[u8]) -> bool {
        while let Some(oldest) = self.recent.front() {
            let is_old = now.saturating_sub(oldest.at) > REPEAT_TIME;
            if !is_old && self.recent.len() < REQUESTS_MAX {
                break;
            }
            self.recent.pop_front();
        }
        let requester = to.as_str().as_bytes();
        let is_repeated = self
            .recent
            .iter()
            .any(|recent| recent.requester == requester && recent.request == request);
        if !is_repeated {
            let (requester, request) = (requester.to_vec(), request.to_vec());
            self.recent.push_back(Recent {
                at: now,
                requester,
                request,
            });
        }
        is_repeated
    }

    /// Finds the next retained number of the ranges; notes what it passes as gone.
    fn find_retained(
        &self,
        ranges: &Ranges,
        next: &mut u64,
        gone: &mut Ranges,
    ) -> Option<(u64, Retained)> {
        let trail = self.trail();
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

    fn repair(&mut self, to: Subject, seq: u64, message: Retained) -> Reply {
        self.statistics.repairs = self.statistics.repairs.saturating_add(1);
        let mut lines = self.stamp_line(seq);
        write_line(&mut lines, SEQ_SUBJECT, &message.subject);
        if !message.reply.is_empty() {
            write_line(&mut lines, REPLY_TO, &message.reply);
        }
        lines.extend_from_slice(&message.headers);
        Reply {
            to,
            status: None,
            lines,
            body: ReplyBody::Payload(message.payload),
        }
    }

    fn end_of_reply(&self, to: Subject, is_empty: bool, gone: &Ranges, has_more: bool) -> Reply {
        let mut lines = self.stamp_line(self.lead);
        write_line(&mut lines, SEQ_TRAIL, &text(self.trail()));
        if !gone.is_empty() {
            write_line(&mut lines, SEQ_GONE, &gone.to_text());
        }
        if has_more {
            write_line(&mut lines, SEQ_MORE, b"1");
        }
        let is_nothing = is_empty && !gone.is_empty();
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
