//! Who is at the ends of the link, and what they send each other.

use std::time::Duration;

use natseq::sequence::{
    Heartbeat, Outgoing, Prior, Receiver, ReceiverOptions, RepairEnd, Reply, ReplyBody,
    RetentionLimits, SendError, Sender, SenderOptions, SourceName, Stamp,
};
use natseq::subject::Filter;

use super::oracle::{Fact, Oracle, Run, Tag};
use super::plan::{Plan, ReceiverPlan, SourcePlan};

const SUBJECT: &str = "d.x";
const BODY_BYTES_MAX: usize = 1 << 10;

/// A source through all its runs; runs that have ended still serve repairs.
pub(super) struct Source {
    pub(super) index: usize,
    pub(super) plan: SourcePlan,
    pub(super) is_up: bool,
    /// Counts ups and downs: what is on its way belongs to one connection.
    pub(super) connection: u64,
    pub(super) runs: Vec<SourceRun>,
    /// When it sends, or ends a run.
    pub(super) acts_at: Duration,
    pub(super) is_done: bool,
    pub(super) last_sent: Duration,
}

pub(super) struct SourceRun {
    pub(super) sender: Sender,
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
    pub(super) receiver: Receiver<Tag>,
    pub(super) is_up: bool,
    pub(super) connection: u64,
    pub(super) oracle: Oracle,
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
    Nobody {
        line: u64,
    },
}

impl Source {
    pub(super) const fn new(index: usize, plan: SourcePlan) -> Self {
        Self {
            index,
            plan,
            is_up: true,
            connection: 0,
            runs: Vec::new(),
            acts_at: Duration::from_millis(5),
            is_done: false,
            last_sent: Duration::ZERO,
        }
    }

    pub(super) fn begin_run(&mut self, plan: &Plan, seed: u64, now: Duration) {
        let before = self.runs.last().filter(|run| !run.is_crashed);
        let name = SourceName::new(&format!("s{}", self.index)).unwrap();
        let epoch = 1_000 + self.runs.len() as u64;
        let mut options = SenderOptions::new(name, epoch, Filter::new(SUBJECT).unwrap());
        options.prior = before.map(|run| Prior {
            epoch: run.sender.epoch(),
            lead: run.sender.lead(),
        });
        options.linger = plan.linger;
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
            pending: Vec::new(),
            on_wire: 0,
            is_closed: false,
            is_crashed: false,
            beats: 0,
        });
    }

    /// What is true of a run of this source.
    pub(super) fn fact(&self, epoch: u64) -> Fact {
        let mut runs = self.runs.iter();
        let run = runs.find(|run| run.sender.epoch() == epoch).unwrap();
        Fact {
            taken: run.sender.lead(),
            trail: run.sender.trail(),
            is_closed: run.is_closed,
            is_crashed: run.is_crashed,
        }
    }
}

impl SourceRun {
    pub(super) fn is_gone(&self, now: Duration) -> bool {
        self.is_crashed || self.sender.is_finished(now)
    }

    /// Stamps one message into the pending buffer.
    pub(super) fn stamp(&mut self, source: usize, now: Duration) {
        let (epoch, seq) = (self.sender.epoch(), self.sender.lead() + 1);
        let payload = format!("{source}.{epoch}.{seq}");
        let message = outgoing(payload.as_bytes());
        let mut line = Vec::new();
        let stamped = self.sender.stamp(now, &message, BODY_BYTES_MAX, &mut line);
        assert_eq!(stamped, Ok(seq), "I9: numbers rise by one");
        self.beats = 0;
        let run = Run { source, epoch };
        self.pending.push((value(&line), Tag { run, seq }));
    }

    /// Tries to send what is too large.
    pub(super) fn stamp_in_vain(&mut self, now: Duration) {
        let before = (self.sender.lead(), self.sender.trail());
        let message = outgoing(&[b'x'; BODY_BYTES_MAX]);
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
        let mut options = ReceiverOptions::new(Filter::new("d.>").unwrap());
        options.delivery = own.delivery;
        options.hold_messages_max = own.hold_messages_max;
        options.grace = plan.grace;
        options.unsettled_grace = plan.grace.max(options.unsettled_grace);
        Self {
            plan: own.clone(),
            receiver: Receiver::new(options, seed, Duration::ZERO),
            is_up: true,
            connection: 0,
            oracle: Oracle::new(plan, own),
        }
    }

    /// Messages of a run that were taken for copies, and numbers without a claim.
    pub(super) fn copies(&self, run: Run) -> (u64, u64) {
        let mut lines = self.receiver.statistics();
        let line = lines.find(|line| Run::new(line.source.as_str(), line.epoch) == run);
        line.map_or((0, 0), |line| (line.duplicates, line.unverifiable))
    }
}

const fn outgoing(payload: &[u8]) -> Outgoing<'_> {
    Outgoing {
        subject: SUBJECT,
        reply: None,
        headers: b"H: v\r\n",
        payload,
    }
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
pub(super) fn read_reply(reply: Reply) -> (usize, Body) {
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
        (Some(_), _) => {
            let gone = header("Seq-Gone");
            let (more, retry) = (header("Seq-More"), header("Seq-Retry"));
            let end = RepairEnd::parse(gone.as_deref(), more.as_deref(), retry.as_deref());
            let end = end.unwrap();
            Body::End { line, end }
        }
        (None, ReplyBody::Heartbeat(heartbeat)) => Body::Answer {
            line,
            stamp,
            heartbeat,
        },
        (None, ReplyBody::Payload(payload)) => {
            assert_eq!(header("Seq-Subject").as_deref(), Some(SUBJECT.as_bytes()));
            assert_eq!(header("H").as_deref(), Some(&b"v"[..]));
            let text = String::from_utf8(payload).unwrap();
            let mut parts = text.split('.');
            let mut next = || parts.next().unwrap().parse::<u64>().unwrap();
            let source = usize::try_from(next()).unwrap();
            let run = Run {
                source,
                epoch: next(),
            };
            let tag = Tag { run, seq: next() };
            Body::Repair { line, stamp, tag }
        }
        (None, body) => panic!("{body:?}"),
    };
    (receiver, body)
}
