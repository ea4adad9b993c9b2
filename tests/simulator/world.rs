//! Virtual time, sources, receivers, and the links between them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use natseq::jitter::Jitter;
use natseq::sequence::{
    Delivery, Heartbeat, Outgoing, Prior, Receiver, ReceiverOptions, RepairEnd, Reply, ReplyBody,
    RequestKind, RetentionLimits, Sender, SenderOptions, SourceName, Stamp,
};
use natseq::subject::Filter;

use super::oracle::{Oracle, Tag, Truth};

const SUBJECT: &str = "d.x";
const BODY_BYTES_MAX: usize = 1 << 20;
/// A world that has not come to rest by then never will.
const TIME_MAX: Duration = Duration::from_secs(300);
/// The longest that a packet is on its way.
const PATH_TIME_MAX: Duration = Duration::from_millis(3);
/// The same where packets overtake each other.
const UNORDERED_PATH_TIME_MAX: Duration = Duration::from_millis(20);

#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) sources: Vec<SourcePlan>,
    pub(super) receivers: Vec<ReceiverPlan>,
    pub(super) link: Link,
    pub(super) cuts: Vec<Cut>,
    pub(super) grace: Duration,
    pub(super) retained_max: usize,
    /// I5: nothing may be lost.
    pub(super) is_lossless: bool,
    /// A later run may be heard of before the earlier has arrived.
    pub(super) may_conflict: bool,
    /// I6: the first gap must be found in time.
    pub(super) is_tail_watched: bool,
}

#[derive(Debug, Clone)]
pub(super) struct SourcePlan {
    pub(super) messages: u64,
    pub(super) pause: Duration,
    pub(super) burst: u64,
    pub(super) restart: Restart,
}

/// What happens to a source when half of its messages are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restart {
    /// Nothing.
    No,
    /// It ends, and a new run names it as its prior.
    Clean,
    /// It is gone without a word, and a new run knows nothing of it.
    Crash,
}

#[derive(Debug, Clone)]
pub(super) struct ReceiverPlan {
    pub(super) delivery: Delivery,
    pub(super) joins_at: Duration,
}

#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) loss: f64,
    pub(super) duplication: f64,
    pub(super) is_fifo: bool,
    /// Data from this number on is lost, everything else arrives.
    pub(super) data_lost_from: Option<u64>,
}

#[derive(Debug, Clone)]
pub(super) struct Cut {
    pub(super) at: Duration,
    pub(super) time: Duration,
    pub(super) victim: Victim,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Victim {
    Source(usize),
    Receiver(usize),
}

pub(super) struct World {
    plan: Plan,
    now: Duration,
    jitter: Jitter,
    packets: BTreeMap<(Duration, u64), Packet>,
    count: u64,
    sources: Vec<Source>,
    receivers: Vec<Subscriber>,
    /// What happens to connections, by time; true for up.
    changes: BTreeMap<(Duration, u64), (Victim, bool)>,
    truth: Truth,
    /// Runs that were asked for something after their linger.
    gone: BTreeSet<(String, u64)>,
    /// When the last packet of each path arrives.
    last_arrival: BTreeMap<(usize, usize, bool), Duration>,
}

/// A source through all its runs; runs that have ended still serve repairs.
struct Source {
    name: SourceName,
    plan: SourcePlan,
    is_up: bool,
    connection: u64,
    runs: Vec<Run>,
    sent: u64,
    next_send: Duration,
}

struct Run {
    sender: Sender,
    /// Stamped while there was no connection.
    pending: Vec<(Vec<u8>, Tag, u64)>,
    on_wire: u64,
    has_crashed: bool,
}

impl Run {
    fn is_over(&self, now: Duration) -> bool {
        self.has_crashed || self.sender.is_finished(now)
    }
}

struct Subscriber {
    plan: ReceiverPlan,
    receiver: Receiver<Tag>,
    is_up: bool,
    connection: u64,
    oracle: Oracle,
}

/// Something on its way between a source and a receiver.
struct Packet {
    source: usize,
    receiver: usize,
    /// Connections that it was sent on; it is lost with either.
    connections: (u64, u64),
    body: Body,
}

#[derive(Clone)]
enum Body {
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
    BeatAnswer {
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

impl World {
    pub(super) fn new(seed: u64, plan: Plan) -> Self {
        let mut jitter = Jitter::new(seed);
        let sources = plan
            .sources
            .iter()
            .enumerate()
            .map(|(index, source)| Source {
                name: SourceName::new(&format!("s{index}")).unwrap(),
                plan: source.clone(),
                is_up: true,
                connection: 0,
                runs: Vec::new(),
                sent: 0,
                next_send: Duration::from_millis(5),
            });
        let receivers = plan.receivers.iter().map(|receiver| {
            let mut options = ReceiverOptions::new(Filter::new("d.>").unwrap());
            options.delivery = receiver.delivery;
            options.hold_messages_max = 16;
            options.grace = plan.grace;
            options.unsettled_grace = plan.grace.max(options.unsettled_grace);
            Subscriber {
                plan: receiver.clone(),
                receiver: Receiver::new(options, jitter.next_u64(), Duration::ZERO),
                is_up: true,
                connection: 0,
                oracle: Oracle::default(),
            }
        });
        let (sources, receivers): (Vec<_>, Vec<_>) = (sources.collect(), receivers.collect());
        let mut changes = BTreeMap::new();
        for cut in &plan.cuts {
            let order = changes.len() as u64;
            changes.insert((cut.at, order), (cut.victim, false));
            changes.insert((cut.at + cut.time, order), (cut.victim, true));
        }
        Self {
            now: Duration::ZERO,
            packets: BTreeMap::new(),
            count: 0,
            sources,
            receivers,
            changes,
            truth: Truth::new(),
            gone: BTreeSet::new(),
            last_arrival: BTreeMap::new(),
            jitter,
            plan,
        }
    }

    /// Runs until everything is at rest; returns what every receiver was told.
    pub(super) fn run(mut self) -> Vec<String> {
        for index in 0..self.sources.len() {
            self.begin_run(index, None);
        }
        loop {
            self.settle();
            if self.is_over() {
                break;
            }
            self.now = self.next_time();
            assert!(self.now < TIME_MAX, "the world does not come to rest");
            self.change_connections();
            self.arrive();
            self.send();
            for index in 0..self.receivers.len() {
                self.receivers[index].receiver.handle_timeout(self.now);
            }
        }
        self.judge()
    }

    fn begin_run(&mut self, index: usize, prior: Option<Prior>) {
        let source = &mut self.sources[index];
        let epoch = 1_000 + source.runs.len() as u64;
        let scope = Filter::new(SUBJECT).unwrap();
        let mut options = SenderOptions::new(source.name.clone(), epoch, scope);
        options.prior = prior;
        options.retention = RetentionLimits {
            messages_max: self.plan.retained_max,
            ..Default::default()
        };
        let mut sender = Sender::new(options, self.jitter.next_u64(), self.now);
        if source.is_up {
            sender.handle_connected(self.now);
        }
        self.truth
            .insert((source.name.to_string(), epoch), (0, self.now));
        source.runs.push(Run {
            sender,
            pending: Vec::new(),
            on_wire: 0,
            has_crashed: false,
        });
    }

    /// Lets everybody say what they have to say now.
    fn settle(&mut self) {
        for index in 0..self.sources.len() {
            for run in 0..self.sources[index].runs.len() {
                self.speak(index, run);
            }
        }
        for index in 0..self.receivers.len() {
            let subscriber = &mut self.receivers[index];
            while let Some(event) = subscriber.receiver.poll_event() {
                subscriber
                    .oracle
                    .hear(self.now, event, subscriber.plan.delivery, &self.truth);
            }
            let has_conflict = subscriber.oracle.has_conflict;
            assert!(
                self.plan.may_conflict || !has_conflict,
                "every run ends before the next begins"
            );
            Oracle::check_accounts(&subscriber.receiver);
            while let Some(request) = self.receivers[index].receiver.poll_request(self.now) {
                let detects = self.receivers[index].plan.delivery == Delivery::DetectOnly;
                assert!(!detects, "a receiver that only detects does not ask");
                let source = self
                    .sources
                    .iter()
                    .position(|source| source.name == request.source);
                if let RequestKind::Messages(ranges) = &request.kind {
                    assert!(ranges.len() <= 64);
                }
                let body = Body::Request {
                    epoch: request.epoch,
                    line: request.line,
                    payload: request.kind.to_payload(),
                };
                self.post(source.unwrap(), index, true, body);
            }
            let due = self.receivers[index].receiver.poll_timeout();
            let is_later = due.is_none_or(|due| due > self.now);
            assert!(is_later, "at {:?} a timer is still due: {due:?}", self.now);
        }
    }

    fn speak(&mut self, index: usize, run: usize) {
        if !self.sources[index].is_up || self.sources[index].runs[run].has_crashed {
            return;
        }
        while let Some(heartbeat) = self.sources[index].runs[run]
            .sender
            .poll_heartbeat(self.now)
        {
            let of = &self.sources[index].runs[run];
            assert_eq!(
                heartbeat.lead, of.on_wire,
                "I8: the heartbeat names what was written"
            );
            let stamp = value(&of.sender.stamp_line(heartbeat.lead));
            for receiver in 0..self.receivers.len() {
                let (stamp, heartbeat) = (stamp.clone(), heartbeat.clone());
                self.post(index, receiver, false, Body::Beat { stamp, heartbeat });
            }
        }
        while let Some(reply) = self.sources[index].runs[run].sender.poll_reply(self.now) {
            let (receiver, body) = read_reply(reply);
            if let Body::End { end, .. } = &body {
                let trail = self.sources[index].runs[run].sender.trail();
                let mut gone = end.gone.iter();
                assert!(
                    gone.all(|(_, to)| to < trail),
                    "I5: what is retained is not gone: {end:?}, trail {trail}"
                );
            }
            self.post(index, receiver, false, body);
        }
    }

    fn send(&mut self) {
        for index in 0..self.sources.len() {
            let source = &self.sources[index];
            if source.sent >= source.plan.messages || self.now < source.next_send {
                continue;
            }
            for _ in 0..source.plan.burst.min(source.plan.messages - source.sent) {
                self.send_one(index);
            }
            let source = &mut self.sources[index];
            source.next_send = self.now + source.plan.pause;
            let is_half = source.sent == source.plan.messages / 2;
            let restart = Some(source.plan.restart).filter(|_| is_half);
            let run = source.runs.last_mut().unwrap();
            if source.sent >= source.plan.messages || restart == Some(Restart::Clean) {
                run.sender.close(self.now);
            }
            match restart {
                Some(Restart::Clean) => {
                    let prior = Prior {
                        epoch: run.sender.epoch(),
                        lead: run.sender.lead(),
                    };
                    self.begin_run(index, Some(prior));
                }
                Some(Restart::Crash) => {
                    run.has_crashed = true;
                    // What was on its way may or may not arrive.
                    source.connection += self.jitter.below(2);
                    self.begin_run(index, None);
                }
                Some(Restart::No) | None => {}
            }
        }
    }

    fn send_one(&mut self, index: usize) {
        let is_refused = self.jitter.hits(0.05);
        let source = &mut self.sources[index];
        let run = source.runs.last_mut().unwrap();
        let (epoch, lead) = (run.sender.epoch(), run.sender.lead());
        let tag = Tag::new(source.name.as_str(), epoch, lead + 1);
        let payload = tag.0.clone().into_bytes();
        let message = Outgoing {
            subject: SUBJECT,
            reply: None,
            headers: b"",
            payload: &payload,
        };
        if is_refused {
            let mut line = Vec::new();
            assert!(run.sender.stamp(self.now, &message, 10, &mut line).is_err());
            assert_eq!(
                (run.sender.lead(), line.len()),
                (lead, 0),
                "I9: a refusal takes no number"
            );
        }
        let mut line = Vec::new();
        let seq = run
            .sender
            .stamp(self.now, &message, BODY_BYTES_MAX, &mut line)
            .unwrap();
        assert_eq!(seq, lead + 1, "I9: numbers rise by one");
        source.sent += 1;
        self.truth
            .insert((source.name.to_string(), epoch), (seq, self.now));
        let run_index = source.runs.len() - 1;
        source.runs[run_index]
            .pending
            .push((value(&line), tag, seq));
        if source.is_up {
            self.write_pending(index, run_index);
        }
    }

    fn write_pending(&mut self, index: usize, run: usize) {
        for (stamp, tag, seq) in std::mem::take(&mut self.sources[index].runs[run].pending) {
            let of = &mut self.sources[index].runs[run];
            assert_eq!(seq, of.on_wire + 1, "I7: wire order is number order");
            of.on_wire = seq;
            if self
                .plan
                .link
                .data_lost_from
                .is_some_and(|from| seq >= from)
            {
                continue;
            }
            for receiver in 0..self.receivers.len() {
                let (stamp, tag) = (stamp.clone(), tag.clone());
                self.post(index, receiver, false, Body::Data { stamp, tag });
            }
        }
    }

    /// Puts a packet on the link between a source and a receiver.
    fn post(&mut self, source: usize, receiver: usize, is_request: bool, body: Body) {
        let is_listening =
            self.receivers[receiver].is_up && self.now >= self.receivers[receiver].plan.joins_at;
        if !is_listening || self.jitter.hits(self.plan.link.loss) {
            return;
        }
        let copies = if self.jitter.hits(self.plan.link.duplication) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let connections = (
                self.sources[source].connection,
                self.receivers[receiver].connection,
            );
            let longest = if self.plan.link.is_fifo {
                PATH_TIME_MAX
            } else {
                UNORDERED_PATH_TIME_MAX
            };
            let mut arrival = self.now + longest.mul_f64(0.05 + 0.95 * self.jitter.unit());
            if self.plan.link.is_fifo {
                let last = self
                    .last_arrival
                    .entry((source, receiver, is_request))
                    .or_default();
                arrival = arrival.max(*last);
                *last = arrival;
            }
            self.count += 1;
            let packet = Packet {
                source,
                receiver,
                connections,
                body: body.clone(),
            };
            self.packets.insert((arrival, self.count), packet);
        }
    }

    fn arrive(&mut self) {
        while let Some(entry) = self.packets.first_entry() {
            if entry.key().0 > self.now {
                return;
            }
            let packet = entry.remove();
            let Packet {
                source,
                receiver,
                connections,
                body,
            } = packet;
            let now = self.now;
            if let Body::Request {
                epoch,
                line,
                payload,
            } = body
            {
                self.take_request(source, receiver, epoch, line, &payload);
                continue;
            }
            let is_alive = connections
                == (
                    self.sources[source].connection,
                    self.receivers[receiver].connection,
                );
            if !is_alive {
                continue;
            }
            let to = &mut self.receivers[receiver].receiver;
            match body {
                Body::Data { stamp, tag } => to.handle_message(now, Some(&stamp), tag),
                Body::Beat { stamp, heartbeat } => to.handle_heartbeat(now, &stamp, &heartbeat),
                Body::Repair { line, stamp, tag } => to.handle_repair(now, line, &stamp, tag),
                Body::BeatAnswer {
                    line,
                    stamp,
                    heartbeat,
                } => {
                    to.handle_heartbeat_answer(now, line, &stamp, &heartbeat);
                }
                Body::End { line, end } => to.handle_repair_end(now, line, &end),
                Body::Nobody { line } => to.handle_no_responders(now, line),
                Body::Request { .. } => unreachable!("taken above"),
            }
        }
    }

    fn take_request(
        &mut self,
        source: usize,
        receiver: usize,
        epoch: u64,
        line: u64,
        payload: &[u8],
    ) {
        let now = self.now;
        let of = &mut self.sources[source];
        let is_up = of.is_up;
        let run = of.runs.iter_mut().find(|run| run.sender.epoch() == epoch);
        if run.as_ref().is_some_and(|run| run.is_over(now)) {
            self.gone.insert((of.name.to_string(), epoch));
        }
        match run.filter(|run| is_up && !run.is_over(now)) {
            Some(run) => {
                let reply = format!("_INBOX.{receiver}.{line}");
                run.sender
                    .handle_request(now, Some(reply.as_bytes()), payload);
            }
            None => self.post(source, receiver, false, Body::Nobody { line }),
        }
    }

    fn change_connections(&mut self) {
        while let Some(entry) = self.changes.first_entry() {
            if entry.key().0 > self.now {
                return;
            }
            match entry.remove() {
                (Victim::Source(index), is_up) => self.change_source(index, is_up),
                (Victim::Receiver(index), is_up) => {
                    let Some(subscriber) = self.receivers.get_mut(index) else {
                        continue;
                    };
                    if subscriber.is_up == is_up {
                        continue;
                    }
                    subscriber.is_up = is_up;
                    subscriber.connection += 1;
                    if is_up {
                        subscriber.receiver.handle_connected(self.now);
                    } else {
                        subscriber.receiver.handle_disconnected(self.now);
                    }
                }
            }
        }
    }

    fn change_source(&mut self, index: usize, is_up: bool) {
        let source = &mut self.sources[index];
        if source.is_up == is_up {
            return;
        }
        source.is_up = is_up;
        source.connection += 1;
        for run in 0..self.sources[index].runs.len() {
            if self.sources[index].runs[run].has_crashed {
                continue;
            }
            if is_up {
                self.write_pending(index, run);
                self.sources[index].runs[run]
                    .sender
                    .handle_connected(self.now);
            } else {
                self.sources[index].runs[run].sender.handle_disconnected();
            }
        }
    }

    fn next_time(&self) -> Duration {
        let packets = self.packets.keys().next().map(|(at, _)| *at);
        let changes = self.changes.keys().next().map(|(at, _)| *at);
        let sends = self
            .sources
            .iter()
            .filter(|source| source.sent < source.plan.messages);
        let sends = sends.map(|source| source.next_send);
        let runs = self.sources.iter().flat_map(|source| &source.runs);
        let senders = runs.filter(|run| !run.is_over(self.now));
        let senders = senders.filter_map(|run| run.sender.poll_timeout());
        let receivers = self
            .receivers
            .iter()
            .filter_map(|to| to.receiver.poll_timeout());
        let times = packets
            .into_iter()
            .chain(changes)
            .chain(sends)
            .chain(senders)
            .chain(receivers);
        // Whatever is due already is due in the next microsecond.
        times
            .min()
            .unwrap_or(TIME_MAX)
            .max(self.now + Duration::from_micros(1))
    }

    fn is_over(&self) -> bool {
        let has_sent = self.sources.iter().all(|source| {
            let are_over = source.runs.iter().all(|run| run.is_over(self.now));
            source.sent >= source.plan.messages && are_over
        });
        let is_settled = self.receivers.iter().all(|to| to.receiver.is_settled());
        has_sent && self.packets.is_empty() && self.changes.is_empty() && is_settled
    }

    fn judge(self) -> Vec<String> {
        for subscriber in &self.receivers {
            let lines: Vec<_> = subscriber.receiver.statistics().collect();
            subscriber.oracle.check_end(&lines, &self.truth);
            let has_joined = subscriber.plan.joins_at < Duration::from_millis(100);
            assert!(!has_joined || !lines.is_empty(), "somebody was heard");
            let detects = subscriber.plan.delivery == Delivery::DetectOnly;
            if self.plan.is_lossless && !detects {
                let lossy = subscriber.oracle.lossy.difference(&self.gone);
                let lossy: Vec<_> = lossy.collect();
                assert!(
                    lossy.is_empty(),
                    "I5: what is retained is not lost: {lossy:?}"
                );
            }
            if self.plan.is_tail_watched {
                let (_, sent) = self.truth[&("s0".to_owned(), 1_000)];
                // The end is announced at once; before it only the heartbeat can tell.
                let found = subscriber.oracle.first_gap.expect("I6: the tail is missed");
                let limit = sent + Duration::from_millis(20) + PATH_TIME_MAX;
                assert!(found <= limit, "I6: found {found:?}, limit {limit:?}");
            }
        }
        self.receivers
            .into_iter()
            .flat_map(|subscriber| subscriber.oracle.story)
            .collect()
    }
}

/// The value of a header line.
fn value(line: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(line).unwrap();
    text.strip_prefix("Seq: ")
        .unwrap()
        .trim_end()
        .as_bytes()
        .to_vec()
}

/// Reads a reply as a client would.
fn read_reply(reply: Reply) -> (usize, Body) {
    let mut place = reply.to.as_str().split('.').skip(1);
    let receiver = place.next().unwrap().parse().unwrap();
    let line = place.next().unwrap().parse().unwrap();
    let lines = String::from_utf8(reply.lines).unwrap();
    let header = |name: &str| {
        let found = lines
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        found.map(|value| value.as_bytes().to_vec())
    };
    let stamp = header("Seq").unwrap();
    assert!(Stamp::parse(&stamp).is_some());
    let body = match (reply.status, reply.body) {
        (Some(_), _) => {
            let gone = header("Seq-Gone");
            let (more, retry) = (header("Seq-More"), header("Seq-Retry"));
            let end = RepairEnd::parse(gone.as_deref(), more.as_deref(), retry.as_deref());
            Body::End {
                line,
                end: end.unwrap(),
            }
        }
        (None, ReplyBody::Heartbeat(heartbeat)) => Body::BeatAnswer {
            line,
            stamp,
            heartbeat,
        },
        (None, ReplyBody::Payload(payload)) => {
            assert_eq!(header("Seq-Subject").as_deref(), Some(SUBJECT.as_bytes()));
            Body::Repair {
                line,
                stamp,
                tag: Tag(String::from_utf8(payload).unwrap()),
            }
        }
        (None, body) => panic!("{body:?}"),
    };
    (receiver, body)
}
