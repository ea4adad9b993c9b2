//! What can go wrong, one group of runs for each.

use std::time::Duration;

use natseq::jitter::Jitter;
use natseq::sequence::{Carrier, Delivery, NamePolicy, Rate, RepairLimits, Start};

use super::plan::{
    Bounds, Cut, Flood, Forgery, Limits, MILLI, Mailbox, Plan, SUBJECTS, SourcePlan, Tail, Victim,
    Wish, millis, number, receiver, source,
};

const SECOND: Duration = Duration::from_secs(1);
/// Larger than the longest reorder delay.
const UNORDERED_GRACE: Duration = Duration::from_millis(30);

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
    Edges,
    Filters,
    QueueGroups,
    SmallTables,
    Holders,
    LongOutages,
    HelloLost,
    Retained,
    Forgers,
    Budgets,
    Carriers,
    Overflow,
    Claims,
    ClockSteps,
    Evictions,
    Archive,
    Successors,
}

impl Group {
    pub(super) const ALL: &[Self] = &[
        Self::Fifo,
        Self::Unordered,
        Self::Cuts,
        Self::SmallRetention,
        Self::Restarts,
        Self::Crashes,
        Self::LateJoiners,
        Self::DetectOnly,
        Self::Anything,
        Self::Tail,
        Self::Edges,
        Self::Filters,
        Self::QueueGroups,
        Self::SmallTables,
        Self::Holders,
        Self::LongOutages,
        Self::HelloLost,
        Self::Retained,
        Self::Forgers,
        Self::Budgets,
        Self::Carriers,
        Self::Overflow,
        Self::Claims,
        Self::ClockSteps,
        Self::Evictions,
        Self::Archive,
        Self::Successors,
    ];
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
            Group::DetectOnly => plan.deliver_by(Delivery::DetectOnly),
            Group::Anything => plan.mix(&mut jitter),
            Group::Tail => plan.watch_tail(&mut jitter),
            Group::Edges => plan.go_to_edges(&mut jitter),
            Group::Filters => plan.filter(&mut jitter),
            Group::QueueGroups => plan.share(&mut jitter),
            Group::SmallTables => plan.narrow(&mut jitter),
            Group::Holders => plan.hold_twice(&mut jitter),
            Group::ClockSteps => plan.step_back(&mut jitter),
            Group::Evictions => plan.crowd(&mut jitter),
            Group::LongOutages => plan.be_away(&mut jitter),
            Group::HelloLost => plan.miss_hello(&mut jitter),
            Group::Retained => plan.look_back(&mut jitter),
            Group::Forgers => plan.forge(&mut jitter),
            Group::Budgets => plan.save(&mut jitter),
            Group::Carriers => plan.carry(&mut jitter),
            Group::Overflow => plan.be_busy(&mut jitter),
            Group::Claims => plan.claim(&mut jitter),
            Group::Archive => plan.archive(&mut jitter),
            Group::Successors => plan.succeed(&mut jitter),
        }
        plan
    }

    fn reorder(&mut self) {
        self.link.is_fifo = false;
        self.grace = UNORDERED_GRACE;
    }

    fn deliver_by(&mut self, delivery: Delivery) {
        for receiver in &mut self.receivers {
            receiver.delivery = delivery;
        }
    }

    /// Nobody only detects: what is lost on the way comes again.
    fn repair(&mut self) {
        for receiver in &mut self.receivers {
            if receiver.delivery == Delivery::DetectOnly {
                receiver.delivery = Delivery::Immediate;
            }
        }
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
        if jitter.hits(0.3) {
            // Long enough for whoever waits in vain.
            for source in &mut self.sources {
                source.rest = SECOND * 8;
            }
        }
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
            rest: SECOND * 20,
            ..source(jitter, 0)
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

    /// A few messages at once, the first or the last of them lost, or all; often the source closes
    /// in the same moment.
    fn go_to_edges(&mut self, jitter: &mut Jitter) {
        let messages = [1, 1, 2, 3, 10][number(jitter, 5)];
        let lost = match jitter.below(4) {
            0 => vec![1],
            1 => vec![messages],
            2 => (1..=messages).collect(),
            _ => Vec::new(),
        };
        self.sources = vec![SourcePlan {
            messages,
            burst: messages,
            runs: 1,
            rest: [Duration::ZERO, MILLI * 300][number(jitter, 2)],
            lost,
            ..source(jitter, 0)
        }];
        self.link.loss = 0.0;
    }

    /// Sources send to many subjects, of which receivers want a part.
    fn filter(&mut self, jitter: &mut Jitter) {
        for source in &mut self.sources {
            source.subjects = &SUBJECTS;
            source.scope = ["d.*", "d.>", ">"][number(jitter, 3)];
        }
        for receiver in &mut self.receivers {
            receiver.filter = ["d.x", "d.y", "*.x", "d.*", "d.>"][number(jitter, 5)];
            receiver.is_shared = jitter.hits(0.2);
        }
        if jitter.hits(0.5) {
            (self.link.loss, self.link.duplication) = (0.0, 0.0);
        }
    }

    /// Receivers share what comes, beside one that gets everything.
    fn share(&mut self, jitter: &mut Jitter) {
        let others = (0..2 + jitter.below(3)).map(|_| receiver(jitter));
        let others: Vec<_> = others.collect();
        self.receivers.truncate(1);
        for mut other in others {
            other.is_shared = true;
            self.receivers.push(other);
        }
        if jitter.hits(0.5) {
            self.restart(2, jitter.hits(0.5));
        }
        if jitter.hits(0.5) {
            (self.link.loss, self.link.duplication) = (0.0, 0.0);
        }
    }

    /// Tables have room for some gaps and some held messages.
    fn narrow(&mut self, jitter: &mut Jitter) {
        self.bounds = Some(Bounds {
            sources_max: 64,
            gaps_max: 1 + number(jitter, 6),
            hold_bytes_max: 16 * (1 + number(jitter, 5)),
        });
        for receiver in &mut self.receivers {
            receiver.hold_messages_max = 1 + number(jitter, 4);
        }
        self.is_lossless = false;
    }

    /// Everything that is said in a source's first moments is lost.
    fn miss_hello(&mut self, jitter: &mut Jitter) {
        if jitter.hits(0.5) {
            self.go_to_edges(jitter);
            self.sources[0].rest = MILLI * 300;
        }
        let begins_at = millis(jitter, 100, 2_500);
        for source in &mut self.sources {
            source.begins_at = begins_at;
        }
        for receiver in &mut self.receivers {
            // A full hold does not wait for where a source begins.
            receiver.hold_messages_max = 1_000;
        }
        let time = millis(jitter, 1, 400);
        self.link.blackouts = vec![(begins_at - MILLI, begins_at + time)];
        self.link.loss = [0.0, 0.1][number(jitter, 2)];
        if jitter.hits(0.3) {
            self.reorder();
        }
    }

    /// Receivers join late and want what is still retained.
    fn look_back(&mut self, jitter: &mut Jitter) {
        self.join_late(jitter);
        for receiver in &mut self.receivers {
            receiver.start = Start::Retained;
            receiver.hold_messages_max = 1_000;
        }
        self.link.loss = [0.0, 0.1][number(jitter, 2)];
        if jitter.hits(0.5) {
            self.forget(jitter);
        }
    }

    fn forge(&mut self, jitter: &mut Jitter) {
        self.restart(1, false);
        for _ in 0..=jitter.below(3) {
            let is_data = jitter.hits(0.5);
            let more = if jitter.hits(0.5) {
                1 + jitter.below(100)
            } else {
                // A message shows itself, so that a detector reports every number before it.
                1 << (8 + jitter.below(if is_data { 4 } else { 40 }))
            };
            let at = millis(jitter, 20, 1_500);
            self.forgeries.push(Forgery { at, more, is_data });
        }
        self.link.loss = self.link.loss.min(0.3);
    }

    /// Sources may send little again, and others want much of it.
    fn save(&mut self, jitter: &mut Jitter) {
        // Either bound may be the one that is met first.
        let of_client = [3, 12][number(jitter, 2)];
        let mut rate = |factor| Rate {
            bytes_per_second: (factor * (1 + jitter.below(4))) << 10,
            burst_bytes: (factor * (1 + jitter.below(4))) << 10,
        };
        let (requester, source, client) = (rate(1), rate(4), rate(of_client));
        self.limits = Some(Limits {
            repairs: RepairLimits {
                request_messages_max: 1 + number(jitter, 64),
                request_bytes_max: 256 << jitter.below(8),
                requester,
                source,
            },
            client,
        });
        for _ in 0..jitter.below(4) {
            self.floods.push(Flood {
                at: millis(jitter, 10, 2_000),
                requests: 1 + jitter.below(40),
                rounds: 1 + u32::try_from(jitter.below(20)).unwrap(),
                wants: [Wish::One, Wish::Many, Wish::Elsewhere][number(jitter, 3)],
            });
        }
        // So little may take longer than a gap stays open, and who floods takes from it.
        self.is_lossless = false;
        for receiver in &mut self.receivers {
            receiver.hold_messages_max = 1_000;
        }
    }

    /// Stamps stand elsewhere than in a header, over links that are bad in another way.
    fn carry(&mut self, jitter: &mut Jitter) {
        match jitter.below(4) {
            0 => self.reorder(),
            1 => self.cut(jitter),
            2 => self.forget(jitter),
            _ => self.filter(jitter),
        }
        self.carrier = [Carrier::Token, Carrier::Payload][number(jitter, 2)];
    }

    /// Two processes send under one name.
    fn hold_twice(&mut self, jitter: &mut Jitter) {
        self.sources = (0..2).map(|_| source(jitter, 0)).collect();
        for (source, epoch) in self.sources.iter_mut().zip([1_000, 2_000]) {
            source.epoch = epoch;
            source.begins_at = millis(jitter, 0, 600);
            source.messages = 60;
        }
        self.link.loss = self.link.loss.min(0.3);
    }

    /// Receivers are busy with what they get, and have little room for more.
    fn be_busy(&mut self, jitter: &mut Jitter) {
        for receiver in &mut self.receivers {
            receiver.mailbox = Some(Mailbox {
                messages_max: 2 + number(jitter, 30),
                batch_messages: 1 + number(jitter, 10),
                busy: millis(jitter, 1, 60),
            });
            receiver.hold_messages_max = 1_000;
        }
        self.link.loss = [0.0, 0.2][number(jitter, 2)];
        if jitter.hits(0.3) {
            self.cut(jitter);
        }
        // The slowest needs so long for everything.
        self.linger = SECOND * 60;
    }

    /// Sources forget early, or crash, and an archive has most of what they sent.
    fn archive(&mut self, jitter: &mut Jitter) {
        self.forget(jitter);
        if jitter.hits(0.5) {
            self.restart(2, true);
        }
        for receiver in &mut self.receivers {
            receiver.hold_messages_max = 1_000;
        }
        self.archived = Some([1.0, 0.9][number(jitter, 2)]);
        // An archive is asked a few times only: what is lost is lost before.
        self.link.loss = 0.0;
        for source in &mut self.sources {
            source.lost = (1..=source.messages)
                .filter(|_| jitter.hits(0.25))
                .collect();
        }
    }

    /// Two or three processes claim one name.
    fn claim(&mut self, jitter: &mut Jitter) {
        let count = 2 + jitter.below(2);
        self.sources = (0..count).map(|_| source(jitter, 0)).collect();
        let is_tie = jitter.hits(0.3);
        for (source, index) in self.sources.iter_mut().zip(0..) {
            let policies = [NamePolicy::Takeover, NamePolicy::Refuse];
            source.claims = Some(policies[number(jitter, 2)]);
            // No two are the same by chance: they are microseconds.
            let epoch = 3 * (2_000 * index + jitter.below(4_000)) + index;
            source.epoch = [1_000, epoch][usize::from(!is_tie)];
            source.begins_at = millis(jitter, 0, [600, 2][usize::from(is_tie)]);
            (source.runs, source.messages) = (1, 60);
        }
        if is_tie {
            // One number of two runs would be one message to receivers.
            self.receivers.clear();
        }
        if jitter.hits(0.5) {
            self.cut(jitter);
        }
        self.link.loss = self.link.loss.min(0.3);
    }

    /// Receivers are away for longer than a gap may stay open, in the middle of repairs. Some
    /// number is missing for long by then, while others are won back all the time.
    fn be_away(&mut self, jitter: &mut Jitter) {
        for source in &mut self.sources {
            let number = 1 + jitter.below(20);
            (source.messages, source.burst) = (100, 1);
            (source.runs, source.pause) = (1, MILLI * 100);
            (source.lost, source.unlucky) = (vec![number], Some((number, SECOND * 9)));
        }
        for index in 0..self.receivers.len() {
            let victim = Victim::Receiver(index);
            let (at, time) = (millis(jitter, 6_500, 9_000), millis(jitter, 3_000, 20_000));
            self.cuts.push(Cut { at, time, victim });
            self.receivers[index].hold_messages_max = 1_000;
        }
        self.repair();
        self.linger = SECOND * 60;
        // So often something is won back that nothing times out by chance.
        self.link.loss = self.link.loss.clamp(0.3, 0.35);
    }

    /// Each run answers for those before it, too: they are over, or linger.
    fn succeed(&mut self, jitter: &mut Jitter) {
        self.restart(2 + jitter.below(2), jitter.hits(0.5));
        for source in &mut self.sources {
            source.answers_earlier = true;
            source.rest = millis(jitter, 0, 4_000);
        }
        if jitter.hits(0.3) {
            self.cut(jitter);
        }
        self.link.loss = self.link.loss.min(0.3);
    }

    /// A source begins anew with an epoch that is smaller.
    fn step_back(&mut self, jitter: &mut Jitter) {
        self.restart(2, jitter.hits(0.7));
        for source in &mut self.sources {
            source.steps_back = true;
            source.rest = SECOND * 30;
        }
        self.link.loss = self.link.loss.min(0.35);
    }

    /// There is no room for every run of every source.
    fn crowd(&mut self, jitter: &mut Jitter) {
        while self.sources.len() < 3 {
            self.sources.push(source(jitter, self.sources.len()));
        }
        self.restart(2, jitter.hits(0.5));
        self.bounds = Some(Bounds {
            sources_max: 2 + number(jitter, 2),
            gaps_max: 1_000,
            hold_bytes_max: 1 << 20,
        });
        self.link.duplication = 0.0;
        self.is_lossless = false;
    }
}
