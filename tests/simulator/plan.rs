//! What a seed decides: who sends, who listens, and how bad the link is.

use std::time::Duration;

use natseq::jitter::Jitter;
use natseq::sequence::{Carrier, Delivery, NamePolicy, Rate, RepairLimits, Start};

use super::link::LinkPlan;

pub(super) const MILLI: Duration = Duration::from_millis(1);
/// Retains everything that a source of the simulator ever sends.
const UNBOUNDED: usize = 1 << 20;
/// A source that closes is asked until everybody has everything.
const LONG_LINGER: Duration = Duration::from_secs(10);
/// Every source sends below it.
pub(super) const EVERYTHING: &str = "d.>";
/// Every subject that there is.
pub(super) const SUBJECTS: [&str; 3] = ["d.x", "d.y", "d.z"];

#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) sources: Vec<SourcePlan>,
    pub(super) receivers: Vec<ReceiverPlan>,
    pub(super) link: LinkPlan,
    pub(super) cuts: Vec<Cut>,
    pub(super) forgeries: Vec<Forgery>,
    pub(super) floods: Vec<Flood>,
    /// Where messages carry their stamps.
    pub(super) carrier: Carrier,
    /// I12: how much sources may send again; as much as by default where it is not said.
    pub(super) limits: Option<Limits>,
    pub(super) grace: Duration,
    pub(super) retained_max: usize,
    pub(super) linger: Duration,
    /// How much of everything an archive stores; receivers ask it then.
    pub(super) archived: Option<f64>,
    /// I5: everything is retained and nobody is away for long, so nothing may be lost.
    pub(super) is_lossless: bool,
    /// I6: these are lost on purpose, and the first gap must be found in time.
    pub(super) tail: Option<Tail>,
    /// I11: tables that are too small for what comes.
    pub(super) bounds: Option<Bounds>,
}

#[derive(Debug, Clone)]
pub(super) struct SourcePlan {
    /// Two sources may have one.
    pub(super) name: usize,
    pub(super) begins_at: Duration,
    /// That of its first run.
    pub(super) epoch: u64,
    /// Whether it claims its name, and what for when somebody holds it.
    pub(super) claims: Option<NamePolicy>,
    /// Whether it answers requests for earlier runs of its name.
    pub(super) answers_earlier: bool,
    /// Whether the clock steps back between runs, and with it the epoch.
    pub(super) steps_back: bool,
    pub(super) subjects: &'static [&'static str],
    pub(super) scope: &'static str,
    /// In each run.
    pub(super) messages: u64,
    pub(super) burst: u64,
    pub(super) pause: Duration,
    /// How much longer or shorter than `pause` a pause may be.
    pub(super) spread: f64,
    pub(super) runs: usize,
    /// Whether runs before the last end without a word.
    pub(super) crashes: bool,
    /// From the last message to the end of the run.
    pub(super) rest: Duration,
    /// Numbers whose data is lost on purpose.
    pub(super) lost: Vec<u64>,
    /// A number whose repairs are lost until then.
    pub(super) unlucky: Option<(u64, Duration)>,
}

#[derive(Debug, Clone)]
pub(super) struct ReceiverPlan {
    pub(super) delivery: Delivery,
    pub(super) start: Start,
    pub(super) joins_at: Duration,
    pub(super) filter: &'static str,
    /// Shares its messages with all others that do.
    pub(super) is_shared: bool,
    pub(super) hold_messages_max: usize,
    /// Where what comes waits for it; without one nothing waits.
    pub(super) mailbox: Option<Mailbox>,
}

/// A program that is busy with each batch of what it gets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mailbox {
    /// What comes beyond that is dropped.
    pub(super) messages_max: usize,
    pub(super) batch_messages: usize,
    pub(super) busy: Duration,
}

#[derive(Debug, Clone)]
pub(super) struct Cut {
    pub(super) at: Duration,
    pub(super) time: Duration,
    pub(super) victim: Victim,
}

/// Whose connection breaks; one that there is not never does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Victim {
    Source(usize),
    Receiver(usize),
}

/// Somebody sends a heartbeat or a message in the name of the first source.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forgery {
    pub(super) at: Duration,
    /// So many more numbers than were sent it names.
    pub(super) more: u64,
    pub(super) is_data: bool,
}

/// Somebody asks the first source for everything, again and again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flood {
    pub(super) at: Duration,
    pub(super) requests: u64,
    /// So often, a moment apart.
    pub(super) rounds: u32,
    pub(super) wants: Wish,
}

/// Where to who floods wants the answers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wish {
    /// All to one inbox.
    One,
    /// Each to another.
    Many,
    /// Where the source may publish, and should not.
    Elsewhere,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) repairs: RepairLimits,
    /// For all sources together.
    pub(super) client: Rate,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Tail {
    /// Data from this number on is lost.
    pub(super) from: u64,
    /// So many heartbeats after the last message are lost too.
    pub(super) beats: u32,
    /// From the last message to the first heartbeat, at most.
    pub(super) first: Duration,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) sources_max: usize,
    pub(super) gaps_max: usize,
    pub(super) hold_bytes_max: usize,
}

impl Plan {
    /// Some sources and receivers, and a link that keeps order, loses and doubles.
    pub(super) fn ordinary(jitter: &mut Jitter) -> Self {
        let loss = if jitter.hits(0.1) {
            0.0
        } else {
            jitter.unit() * 0.5
        };
        let sources = 0..=number(jitter, 3);
        Self {
            sources: sources.map(|name| source(jitter, name)).collect(),
            receivers: (0..=jitter.below(3)).map(|_| receiver(jitter)).collect(),
            link: LinkPlan {
                loss,
                duplication: jitter.unit() * 0.2,
                is_fifo: true,
                stragglers: 0.0,
                blackouts: Vec::new(),
                spared: Vec::new(),
            },
            cuts: Vec::new(),
            forgeries: Vec::new(),
            floods: Vec::new(),
            carrier: Carrier::Header,
            limits: None,
            archived: None,
            grace: Duration::ZERO,
            retained_max: UNBOUNDED,
            linger: LONG_LINGER,
            is_lossless: true,
            tail: None,
            bounds: None,
        }
    }
}

impl Plan {
    /// Whether nobody is ever without a connection.
    pub(super) fn is_connected(&self) -> bool {
        self.cuts.is_empty() && self.link.blackouts.is_empty()
    }
}

/// A source with a rhythm of its own.
pub(super) fn source(jitter: &mut Jitter, name: usize) -> SourcePlan {
    let (messages, burst, pause) = match jitter.below(3) {
        0 => (100, 20, millis(jitter, 10, 40)),
        1 => (100, 1, millis(jitter, 1, 8)),
        _ => (40, 1, millis(jitter, 20, 60)),
    };
    SourcePlan {
        name,
        begins_at: Duration::ZERO,
        epoch: 1_000,
        claims: None,
        answers_earlier: false,
        steps_back: false,
        subjects: &SUBJECTS[..1],
        scope: "d.x",
        messages,
        burst,
        pause,
        spread: 0.5,
        runs: if jitter.hits(0.3) { 2 } else { 1 },
        crashes: false,
        rest: millis(jitter, 0, 120),
        lost: Vec::new(),
        unlucky: None,
    }
}

/// A receiver of everything, with any kind of delivery.
pub(super) fn receiver(jitter: &mut Jitter) -> ReceiverPlan {
    let kinds = [Delivery::Immediate, Delivery::Ordered, Delivery::DetectOnly];
    ReceiverPlan {
        delivery: kinds[number(jitter, 3)],
        start: Start::Live,
        joins_at: Duration::ZERO,
        filter: EVERYTHING,
        is_shared: false,
        hold_messages_max: 2 + number(jitter, 40),
        mailbox: None,
    }
}

pub(super) fn number(jitter: &mut Jitter, bound: u64) -> usize {
    usize::try_from(jitter.below(bound)).unwrap()
}

pub(super) fn millis(jitter: &mut Jitter, from: u64, to: u64) -> Duration {
    Duration::from_millis(from + jitter.below(to - from))
}
