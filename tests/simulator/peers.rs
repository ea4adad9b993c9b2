//! Who is at the ends of the link, and what they send each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use natseq::sequence::{
    Carrier, ControlSubjects, Dressed, Heartbeat, Outgoing, Prior, Receiver, ReceiverOptions,
    RepairEnd, Reply, ReplyBody, ReplyStatus, RetentionLimits, STAMP_HEADER, SendError, Sender,
    SenderOptions, SourceName, Stamp, Wardrobe, wrap, wrapped_len,
};
use natseq::subject::{Filter, SubjectRef};
use natseq::wire::HeaderBlock;

use super::names::{Claiming, Held};
use super::oracle::{Fact, Oracle, Run, Tag};
use super::plan::{Plan, ReceiverPlan, SUBJECTS, SourcePlan};

const BODY_BYTES_MAX: usize = 1 << 10;

/// A source through all its runs; runs that have ended still serve repairs.
pub(super) struct Source {
    pub(super) plan: SourcePlan,
    pub(super) is_up: bool,
    /// Counts ups and downs: what is on its way belongs to one connection.
    pub(super) connection: u64,
    pub(super) runs: Vec<SourceRun>,
    /// When it sends, or ends a run.
    pub(super) acts_at: Duration,
    pub(super) is_done: bool,
    pub(super) last_sent: Duration,
    pub(super) up_since: Duration,
    /// While it claims its name.
    pub(super) claim: Option<Claiming>,
    pub(super) held: Option<Held>,
}

pub(super) struct SourceRun {
    pub(super) sender: Sender,
    /// What an archive has stored of it.
    pub(super) archived: BTreeSet<u64>,
    pub(super) began: Duration,
    /// The subject of each message.
    pub(super) subjects: Vec<&'static str>,
    /// Stamped while there was no connection.
    pub(super) pending: Vec<(Vec<u8>, Tag)>,
    pub(super) on_wire: u64,
    pub(super) is_closed: bool,
    /// Gone without a word.
    pub(super) is_crashed: bool,
    /// Heartbeats since the last message.
    pub(super) beats: u32,
}

pub(super) struct Subscriber {
    pub(super) plan: ReceiverPlan,
    pub(super) filter: Filter,
    /// Where it listens for heartbeats.
    pub(super) heartbeats: Filter,
    /// The runs that it has asked, by the number it gave them.
    pub(super) asked: BTreeMap<u64, Run>,
    pub(super) ranges_asked: u64,
    pub(super) receiver: Receiver<Tag>,
    pub(super) is_up: bool,
    pub(super) connection: u64,
    pub(super) oracle: Oracle,
    /// What waits for it while it is busy, and how many messages were dropped before each.
    pub(super) mailbox: VecDeque<(u64, Body)>,
    pub(super) busy_until: Duration,
    pub(super) is_busy: bool,
    /// What its mailbox had no room for since.
    pub(super) dropped: u64,
}

/// Something on its way between a source and a receiver.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    pub(super) source: usize,
    pub(super) receiver: usize,
    /// The connections of both that it was sent on.
    pub(super) connections: (u64, u64),
    pub(super) body: Body,
}

#[derive(Debug, Clone)]
pub(super) enum Body {
    Data {
        stamp: Vec<u8>,
        tag: Tag,
    },
    Beat {
        stamp: Vec<u8>,
        heartbeat: Heartbeat,
    },
    Request {
        epoch: u64,
        line: u64,
        payload: Vec<u8>,
        is_for_archive: bool,
    },
    Repair {
        line: u64,
        stamp: Vec<u8>,
        tag: Tag,
    },
    Answer {
        line: u64,
        stamp: Vec<u8>,
        heartbeat: Heartbeat,
    },
    End {
        line: u64,
        end: RepairEnd,
    },
    Over {
        line: u64,
        stamp: Vec<u8>,
        heartbeat: Heartbeat,
    },
    Nobody {
        line: u64,
    },
}

impl fmt::Display for Body {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data { stamp, .. } => write!(out, "data {}", stamp.escape_ascii()),
            Self::Beat { stamp, heartbeat } => {
                write!(out, "heartbeat {}: {heartbeat:?}", stamp.escape_ascii())
            }
            Self::Request {
                epoch,
                line,
                payload,
                is_for_archive,
            } => {
                let text = payload.escape_ascii();
                let whom = if *is_for_archive {
                    "the archive of "
                } else {
                    ""
                };
                write!(out, "request {line} to {whom}{epoch}: {text}")
            }
            Self::Repair { line, stamp, .. } => {
                write!(out, "repair for {line}: {}", stamp.escape_ascii())
            }
            Self::Answer {
                line,
                stamp,
                heartbeat,
            } => {
                let stamp = stamp.escape_ascii();
                write!(out, "answer for {line}: {stamp}, {heartbeat:?}")
            }
            Self::End { line, end } => write!(out, "end for {line}: {end:?}"),
            Self::Over {
                line,
                stamp,
                heartbeat,
            } => {
                let stamp = stamp.escape_ascii();
                write!(out, "over, says {stamp} to {line}: {heartbeat:?}")
            }
            Self::Nobody { line } => write!(out, "nobody listens to {line}"),
        }
    }
}

impl Source {
    pub(super) fn new(plan: SourcePlan) -> Self {
        Self {
            is_up: true,
            connection: 0,
            runs: Vec::new(),
            acts_at: plan.begins_at,
            plan,
            is_done: false,
            last_sent: Duration::ZERO,
            up_since: Duration::ZERO,
            claim: None,
            held: None,
        }
    }

    pub(super) fn begin_run(&mut self, plan: &Plan, seed: u64, now: Duration) {
        let before = self.runs.last().filter(|run| !run.is_crashed);
        let name = SourceName::new(&format!("s{}", self.plan.name)).unwrap();
        let count = self.runs.len() as u64;
        let epoch = if self.plan.steps_back {
            self.plan.epoch - count
        } else {
            self.plan.epoch + count
        };
        let mut options = SenderOptions::new(name, epoch, Filter::new(self.plan.scope).unwrap());
        options.prior = before.map(|run| Prior {
            epoch: run.sender.epoch(),
            lead: run.sender.lead(),
        });
        if let Some(limits) = plan.limits {
            options.repairs = limits.repairs;
        }
        if let Some(held) = self.held {
            options.epoch = held.epoch;
            options.prior = held.prior;
            options.nonce = Some(held.nonce);
        }
        options.linger = plan.linger;
        options.linger_max = plan.linger * 10;
        options.retention = RetentionLimits {
            messages_max: plan.retained_max,
            age_max: Duration::from_secs(3_600),
            ..Default::default()
        };
        let mut sender = Sender::new(options, seed, now);
        if self.is_up {
            sender.handle_connected(now);
        }
        self.runs.push(SourceRun {
            sender,
            archived: BTreeSet::new(),
            began: now,
            subjects: Vec::new(),
            pending: Vec::new(),
            on_wire: 0,
            is_closed: false,
            is_crashed: false,
            beats: 0,
        });
    }
}

/// All sources, for whoever wants to know what is true.
#[derive(Clone, Copy)]
pub(super) struct Truth<'a>(pub(super) &'a [Source]);

impl Truth<'_> {
    /// Where a run is: which source, and which of its runs.
    pub(super) fn find(self, run: Run) -> Option<(usize, usize)> {
        let named = self.0.iter().enumerate();
        let mut named = named.filter(|(_, source)| source.plan.name == run.source);
        named.find_map(|(index, source)| {
            let mut runs = source.runs.iter();
            let found = runs.position(|of| of.sender.epoch() == run.epoch);
            Some((index, found?))
        })
    }

    pub(super) fn fact(self, run: Run) -> Fact {
        let run = self.run(run);
        Fact {
            began: run.began,
            taken: run.sender.lead(),
            trail: run.sender.trail(),
            is_closed: run.is_closed,
            is_crashed: run.is_crashed,
        }
    }

    pub(super) fn is_archived(self, run: Run, seq: u64) -> bool {
        self.run(run).archived.contains(&seq)
    }

    pub(super) fn subject(self, run: Run, seq: u64) -> &'static str {
        let index = usize::try_from(seq - 1).unwrap();
        self.run(run).subjects[index]
    }

    fn run(&self, run: Run) -> &SourceRun {
        let found = self.find(run);
        let (index, run) = found.unwrap_or_else(|| panic!("there is no {run:?}"));
        &self.0[index].runs[run]
    }
}

impl SourceRun {
    pub(super) fn is_gone(&self, now: Duration) -> bool {
        self.is_crashed || self.sender.is_finished(now)
    }

    /// Stamps one message into the pending buffer.
    pub(super) fn stamp(
        &mut self,
        name: usize,
        subject: &'static str,
        carrier: Carrier,
        now: Duration,
    ) {
        let (epoch, seq) = (self.sender.epoch(), self.sender.lead() + 1);
        let payload = format!("{name} {epoch} {seq} {subject}");
        let message = outgoing(subject, payload.as_bytes());
        let mut line = Vec::new();
        let stamped = self.sender.stamp(now, &message, BODY_BYTES_MAX, &mut line);
        assert_eq!(stamped, Ok(seq), "I9: numbers rise by one");
        if !self.sender.scope().is_literal() {
            let before = self.subjects.iter().rposition(|of| *of == subject);
            let before = before.map_or(0, |index| index as u64 + 1);
            let named = Stamp::parse(&value(&line)).unwrap().prev;
            assert_eq!(named, Some(before), "I10: {seq} names the one before it");
        }
        self.beats = 0;
        self.subjects.push(subject);
        let run = Run {
            source: name,
            epoch,
        };
        let stamp = carry(carrier, &line, subject, payload.as_bytes());
        self.pending.push((stamp, Tag { run, seq, subject }));
    }

    /// What the run would say of itself now; `None` once it is over.
    pub(super) fn heartbeat(&self, now: Duration) -> Option<Heartbeat> {
        let mut sender = self.sender.clone();
        sender.handle_connected(now);
        sender.poll_heartbeat(now)
    }

    /// Tries to send what is too large.
    pub(super) fn stamp_in_vain(&mut self, now: Duration) {
        let before = (self.sender.lead(), self.sender.trail());
        let message = outgoing("d.x", &[b'x'; BODY_BYTES_MAX]);
        let mut line = Vec::new();
        let refused = self.sender.stamp(now, &message, BODY_BYTES_MAX, &mut line);
        let is_refused = matches!(refused, Err(SendError::TooLarge { .. }));
        assert!(is_refused && line.is_empty(), "I9: {refused:?}");
        let after = (self.sender.lead(), self.sender.trail());
        assert_eq!(before, after, "I9: a refusal takes no number");
    }
}

impl Subscriber {
    pub(super) fn new(plan: &Plan, own: &ReceiverPlan, seed: u64) -> Self {
        let filter = Filter::new(own.filter).unwrap();
        let mut options = ReceiverOptions::new(filter.clone());
        options.delivery = own.delivery;
        options.is_shared = own.is_shared;
        options.start = own.start;
        options.archive = plan.archived.is_some();
        options.hold_messages_max = own.hold_messages_max;
        options.grace = plan.grace;
        options.unsettled_grace = plan.grace.max(options.unsettled_grace);
        if let Some(bounds) = plan.bounds {
            options.sources_max = bounds.sources_max;
            options.gaps_max = bounds.gaps_max;
            options.hold_bytes_max = bounds.hold_bytes_max;
        }
        let mut receiver = Receiver::new(options, seed, Duration::ZERO);
        receiver.handle_subscribed(own.joins_at);
        Self {
            plan: own.clone(),
            heartbeats: ControlSubjects::default().heartbeats(&filter).unwrap(),
            filter,
            asked: BTreeMap::new(),
            ranges_asked: 0,
            receiver,
            is_up: true,
            connection: 0,
            oracle: Oracle::new(plan, own),
            mailbox: VecDeque::new(),
            busy_until: Duration::ZERO,
            is_busy: false,
            dropped: 0,
        }
    }

    /// Messages of a run that were taken for copies, and numbers without a claim.
    pub(super) fn copies(&self, run: Run) -> (u64, u64) {
        let mut lines = self.receiver.statistics();
        let line = lines.find(|line| Run::new(line.source.as_str(), line.epoch) == run);
        line.map_or((0, 0), |line| (line.duplicates, line.unverifiable))
    }
}

const fn outgoing<'a>(subject: &'a str, payload: &'a [u8]) -> Outgoing<'a> {
    Outgoing {
        subject,
        reply: None,
        headers: b"H: v\r\n",
        payload,
    }
}

/// Puts the stamp where the carrier has it, and finds it there.
fn carry(carrier: Carrier, line: &[u8], subject: &str, payload: &[u8]) -> Vec<u8> {
    if carrier == Carrier::Header {
        return value(line);
    }
    let mut wardrobe = Wardrobe::default();
    let bare = SubjectRef::new(subject).unwrap();
    let dressed = carrier.dress(line, bare, payload, &mut wardrobe);
    let (on_wire, sent) = match dressed {
        Dressed::Lines(_) => panic!("{carrier:?} has no lines"),
        Dressed::Subject(subject) => (subject.as_str().as_bytes(), payload),
        Dressed::Payload(payload) => (subject.as_bytes(), payload),
    };
    let taken = carrier.subscription(&Filter::new(subject).unwrap());
    assert!(taken.unwrap().matches(on_wire), "{carrier:?} of {subject}");
    let read = carrier.read(None, on_wire, sent);
    assert_eq!((read.subject, read.payload), (subject.as_bytes(), payload));
    read.stamp.unwrap().to_vec()
}

/// A reply is read as well where it has no headers of its own.
fn check_wrapped(reply: &Reply) {
    let body = match &reply.body {
        ReplyBody::Payload(payload) => payload.as_slice(),
        _ => b"{}",
    };
    let wrapped = wrap(reply.status, &reply.lines, body);
    let (block, rest) = wrapped.split_at(wrapped_len(&wrapped).unwrap());
    let block = HeaderBlock::new(block);
    assert_eq!(rest, body);
    assert_eq!(
        block.first(STAMP_HEADER),
        Some(&*value_of_first(&reply.lines))
    );
    let status = block.status().unwrap().map(|status| status.code);
    assert_eq!(status, reply.status.map(|status| status.code()));
}

/// The value of the first header line, which is the stamp.
fn value_of_first(lines: &[u8]) -> Vec<u8> {
    value(lines.split_inclusive(|byte| *byte == b'\n').next().unwrap())
}

/// The value of a stamp's header line.
pub(super) fn value(line: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(line).unwrap();
    let value = text.strip_prefix("Seq: ").unwrap();
    value.strip_suffix("\r\n").unwrap().as_bytes().to_vec()
}

/// The number in a stamp's value.
pub(super) fn seq_of(stamp: &[u8]) -> u64 {
    Stamp::parse(stamp).unwrap().seq
}

/// The run in a stamp's value.
pub(super) fn run_of(stamp: &[u8]) -> Run {
    let stamp = Stamp::parse(stamp).unwrap();
    Run::new(stamp.source, stamp.epoch)
}

/// Reads a reply as a client would; returns to which receiver it goes.
pub(super) fn read_reply(reply: Reply, carrier: Carrier) -> (usize, Body) {
    if !carrier.has_headers() {
        check_wrapped(&reply);
    }
    let mut place = reply.to.as_str().split('.').skip(1);
    let receiver = place.next().unwrap().parse().unwrap();
    let line = place.next().unwrap().parse().unwrap();
    let lines = String::from_utf8(reply.lines).unwrap();
    let header = |name: &str| {
        let mut values = lines
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        values.next().map(|value| value.as_bytes().to_vec())
    };
    let stamp = header("Seq").unwrap();
    let body = match (reply.status, reply.body) {
        (Some(ReplyStatus::WrongEpoch), ReplyBody::Heartbeat(heartbeat)) => Body::Over {
            line,
            stamp,
            heartbeat,
        },
        (Some(status), _) => {
            let end = RepairEnd::read(status.code(), header).unwrap();
            Body::End { line, end }
        }
        (None, ReplyBody::Heartbeat(heartbeat)) => Body::Answer {
            line,
            stamp,
            heartbeat,
        },
        (None, ReplyBody::Payload(payload)) => {
            assert_eq!(header("H").as_deref(), Some(&b"v"[..]));
            let text = String::from_utf8(payload).unwrap();
            let mut parts = text.split(' ');
            let mut next = || parts.next().unwrap().parse::<u64>().unwrap();
            let source = usize::try_from(next()).unwrap();
            let run = Run {
                source,
                epoch: next(),
            };
            let seq = next();
            let subject = header("Seq-Subject").unwrap();
            let mut known = SUBJECTS.iter();
            let subject = known.find(|known| known.as_bytes() == subject).unwrap();
            assert_eq!(parts.next(), Some(*subject));
            let tag = Tag { run, seq, subject };
            Body::Repair { line, stamp, tag }
        }
        (None, body) => panic!("{body:?}"),
    };
    (receiver, body)
}
