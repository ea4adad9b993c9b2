//! What a seed decides: who sends, who listens, and how bad the link is.

use std::time::Duration;

use natseq::jitter::Jitter;
use natseq::sequence::Delivery;

use super::link::LinkPlan;

const MILLI: Duration = Duration::from_millis(1);
/// Larger than the longest reorder delay.
const UNORDERED_GRACE: Duration = Duration::from_millis(30);
/// Retains everything that a source of the simulator ever sends.
const UNBOUNDED: usize = 1 << 20;
/// A source that closes is asked until everybody has everything.
const LONG_LINGER: Duration = Duration::from_secs(10);

/// What is bad in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Fifo,
    Unordered,
    Cuts,
    SmallRetention,
    Restarts,
    Crashes,
    LateJoiners,
    DetectOnly,
    Anything,
    Tail,
}

#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) sources: Vec<SourcePlan>,
    pub(super) receivers: Vec<ReceiverPlan>,
    pub(super) link: LinkPlan,
    pub(super) cuts: Vec<Cut>,
    pub(super) grace: Duration,
    pub(super) retained_max: usize,
    pub(super) linger: Duration,
    /// I5: everything is retained and nobody is away for long, so nothing may be lost.
    pub(super) is_lossless: bool,
    /// I6: these are lost on purpose, and the first gap must be found in time.
    pub(super) tail: Option<Tail>,
}

#[derive(Debug, Clone)]
pub(super) struct SourcePlan {
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
}

#[derive(Debug, Clone)]
pub(super) struct ReceiverPlan {
    pub(super) delivery: Delivery,
    pub(super) joins_at: Duration,
    pub(super) hold_messages_max: usize,
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

#[derive(Debug, Clone, Copy)]
pub(super) struct Tail {
    /// Data from this number on is lost.
    pub(super) from: u64,
    /// So many heartbeats after the last message are lost too.
    pub(super) beats: u32,
    /// From the last message to the first heartbeat, at most.
    pub(super) first: Duration,
}

impl Plan {
    pub(super) fn new(group: Group, seed: u64) -> Self {
        let mut jitter = Jitter::new(seed ^ ((group as u64 + 1) << 48));
        let mut plan = Self::ordinary(&mut jitter);
        match group {
            Group::Fifo => {}
            Group::Unordered => plan.reorder(),
            Group::Cuts => plan.cut(&mut jitter),
            Group::SmallRetention => plan.forget(&mut jitter),
            Group::Restarts => {
                plan.restart(2 + jitter.below(2), false);
                if jitter.hits(0.3) {
                    plan.cut(&mut jitter);
                }
            }
            Group::Crashes => plan.restart(2 + jitter.below(2), true),
            Group::LateJoiners => plan.join_late(&mut jitter),
            Group::DetectOnly => {
                for receiver in &mut plan.receivers {
                    receiver.delivery = Delivery::DetectOnly;
                }
            }
            Group::Anything => plan.mix(&mut jitter),
            Group::Tail => plan.watch_tail(&mut jitter),
        }
        plan
    }

    fn ordinary(jitter: &mut Jitter) -> Self {
        let loss = if jitter.hits(0.1) {
            0.0
        } else {
            jitter.unit() * 0.5
        };
        Self {
            sources: (0..=jitter.below(3)).map(|_| source(jitter)).collect(),
            receivers: (0..=jitter.below(3)).map(|_| receiver(jitter)).collect(),
            link: LinkPlan {
                loss,
                duplication: jitter.unit() * 0.2,
                is_fifo: true,
                blackouts: Vec::new(),
            },
            cuts: Vec::new(),
            grace: Duration::ZERO,
            retained_max: UNBOUNDED,
            linger: LONG_LINGER,
            is_lossless: true,
            tail: None,
        }
    }

    fn reorder(&mut self) {
        self.link.is_fifo = false;
        self.grace = UNORDERED_GRACE;
    }

    /// All cuts and blackouts together are shorter than the gap timeout.
    fn cut(&mut self, jitter: &mut Jitter) {
        for _ in 0..=jitter.below(4) {
            let index = number(jitter, 3);
            let victim = if jitter.hits(0.5) {
                Victim::Source(index)
            } else {
                Victim::Receiver(index)
            };
            let (at, time) = (millis(jitter, 0, 1_500), millis(jitter, 1, 900));
            self.cuts.push(Cut { at, time, victim });
        }
        if jitter.hits(0.5) {
            let (at, time) = (millis(jitter, 0, 1_500), millis(jitter, 1, 700));
            self.link.blackouts.push((at, at + time));
        }
        self.link.loss = self.link.loss.min(0.35);
    }

    fn forget(&mut self, jitter: &mut Jitter) {
        self.retained_max = 2 + number(jitter, 31);
        self.linger = millis(jitter, 100, 3_000);
        self.is_lossless = false;
    }

    fn join_late(&mut self, jitter: &mut Jitter) {
        for receiver in &mut self.receivers {
            receiver.joins_at = millis(jitter, 0, 800);
        }
    }

    fn restart(&mut self, runs: u64, crashes: bool) {
        for source in &mut self.sources {
            source.runs = usize::try_from(runs).unwrap();
            source.messages /= runs;
            source.crashes = crashes;
        }
    }

    fn mix(&mut self, jitter: &mut Jitter) {
        if jitter.hits(0.5) {
            self.reorder();
        }
        if jitter.hits(0.2) {
            self.grace = Duration::ZERO;
        }
        if jitter.hits(0.5) {
            self.forget(jitter);
        }
        if jitter.hits(0.5) {
            self.join_late(jitter);
        }
        for source in &mut self.sources {
            source.runs = 1 + number(jitter, 3);
            source.messages /= source.runs as u64;
            source.crashes = jitter.hits(0.5);
        }
        if jitter.hits(0.5) {
            self.cut(jitter);
        } else {
            self.link.loss = jitter.unit() * 0.6;
            self.is_lossless &= self.link.loss < 0.5;
        }
    }

    fn watch_tail(&mut self, jitter: &mut Jitter) {
        let pause = [MILLI, MILLI * 7, MILLI * 40, MILLI * 400][number(jitter, 4)];
        self.sources = vec![SourcePlan {
            messages: 40,
            burst: 1,
            pause,
            spread: 0.0,
            runs: 1,
            crashes: false,
            rest: Duration::from_secs(20),
        }];
        self.tail = Some(Tail {
            from: 2 + jitter.below(39),
            beats: u32::try_from(jitter.below(3)).unwrap(),
            first: (pause * 4).clamp(MILLI * 20, MILLI * 1_000),
        });
        self.link.loss = 0.0;
        if jitter.hits(0.3) {
            self.reorder();
        }
    }
}

fn source(jitter: &mut Jitter) -> SourcePlan {
    let (messages, burst, pause) = match jitter.below(3) {
        0 => (100, 20, millis(jitter, 10, 40)),
        1 => (100, 1, millis(jitter, 1, 8)),
        _ => (40, 1, millis(jitter, 20, 60)),
    };
    SourcePlan {
        messages,
        burst,
        pause,
        spread: 0.5,
        runs: if jitter.hits(0.3) { 2 } else { 1 },
        crashes: false,
        rest: millis(jitter, 0, 120),
    }
}

fn receiver(jitter: &mut Jitter) -> ReceiverPlan {
    let kinds = [Delivery::Immediate, Delivery::Ordered, Delivery::DetectOnly];
    ReceiverPlan {
        delivery: kinds[number(jitter, 3)],
        joins_at: Duration::ZERO,
        hold_messages_max: 2 + number(jitter, 40),
    }
}

fn number(jitter: &mut Jitter, bound: u64) -> usize {
    usize::try_from(jitter.below(bound)).unwrap()
}

fn millis(jitter: &mut Jitter, from: u64, to: u64) -> Duration {
    Duration::from_millis(from + jitter.below(to - from))
}
