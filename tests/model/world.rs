//! A source with its runs, a receiver, and the bag of packets between them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use natseq::sequence::{
    Allowance, Delivery, Event, Heartbeat, LineStatistics, Outgoing, Prior, Receiver,
    ReceiverOptions, RepairEnd, ReplyBody, RequestKind, RetentionLimits, Sender, SenderOptions,
    SourceName, Weight,
};
use natseq::subject::Filter;

use super::name::relative;
use super::{Action, Small};

const MILLI: Duration = Duration::from_millis(1);
/// What a source keeps: less than it sends.
pub(super) const RETAINED_MAX: usize = 2;
/// Packets on their way; the oldest is lost for another.
const PACKETS_MAX: usize = 3;
/// A number that is missing is lost after this time.
const GAP_TIMEOUT: Duration = Duration::from_millis(100);
/// The steps of a peaceful end.
const STEPS_MAX: u32 = 10_000;

/// A message: its run and its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Tag {
    epoch: u64,
    seq: u64,
}

impl Weight for Tag {
    fn weight(&self) -> usize {
        1
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packet {
    Data(Tag),
    Beat {
        epoch: u64,
        heartbeat: Heartbeat,
    },
    Request {
        epoch: u64,
        line: u64,
        text: Vec<u8>,
    },
    Repair {
        line: u64,
        tag: Tag,
    },
    Answer {
        line: u64,
        epoch: u64,
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

/// What is true of a run, and what was told of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Account {
    taken: u64,
    handed_over: BTreeSet<u64>,
    pub(super) delivered: BTreeSet<u64>,
    pub(super) lost: BTreeSet<u64>,
    /// Whether a heartbeat and an answer of the run have come.
    is_heard: bool,
    has_answered: bool,
    /// A later run was confirmed when no higher number than this had come.
    fence: Option<u64>,
    /// The highest number that a heartbeat of it has named.
    named: u64,
}

#[derive(Debug, Clone)]
pub(super) struct World {
    now: Duration,
    pub(super) runs: Vec<Run>,
    receiver: Receiver<Tag>,
    pub(super) packets: Vec<Packet>,
    pub(super) accounts: BTreeMap<u64, Account>,
    pub(super) published: u64,
    pub(super) ticks: u32,
    pub(super) copies: u32,
    delivery: Delivery,
    /// The promise that was broken.
    pub(super) wrong: Option<String>,
    /// What makes this state another than others.
    name: String,
}

#[derive(Debug, Clone)]
pub(super) struct Run {
    sender: Sender,
    is_crashed: bool,
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.name.hash(hasher);
    }
}

impl World {
    pub(super) fn new(small: &Small) -> Self {
        let mut options = ReceiverOptions::new(Filter::new("d").unwrap());
        options.delivery = small.delivery;
        options.gap_timeout = GAP_TIMEOUT;
        options.hold_messages_max = 2;
        let mut receiver = Receiver::new(options, 1, Duration::ZERO);
        receiver.handle_subscribed(Duration::ZERO);
        let mut world = Self {
            now: MILLI * 100,
            runs: Vec::new(),
            receiver,
            packets: Vec::new(),
            accounts: BTreeMap::new(),
            published: 0,
            ticks: 0,
            copies: 0,
            delivery: small.delivery,
            wrong: None,
            name: String::new(),
        };
        world.begin(None);
        world.settle();
        world.name();
        world
    }

    fn begin(&mut self, prior: Option<Prior>) {
        let epoch = 1 + self.runs.len() as u64;
        let name = SourceName::new("s").unwrap();
        let mut options = SenderOptions::new(name, epoch, Filter::new("d").unwrap());
        options.prior = prior;
        options.retention = RetentionLimits {
            messages_max: RETAINED_MAX,
            ..RetentionLimits::default()
        };
        let mut sender = Sender::new(options, 1, self.now);
        sender.handle_connected(self.now);
        self.accounts.insert(epoch, Account::default());
        self.runs.push(Run {
            sender,
            is_crashed: false,
        });
    }

    pub(super) fn act(&mut self, action: &Action) {
        match action {
            Action::Publish => self.publish(),
            Action::Close => {
                let now = self.now;
                let sender = &mut self.runs.last_mut().unwrap().sender;
                sender.close(now);
                let (epoch, lead) = (sender.epoch(), sender.lead());
                self.begin(Some(Prior { epoch, lead }));
            }
            Action::Crash => {
                self.runs.last_mut().unwrap().is_crashed = true;
                self.begin(None);
            }
            Action::Tick => {
                self.ticks += 1;
                self.pass_time();
            }
            Action::Deliver(index) => {
                let packet = self.packets.remove(*index);
                self.deliver(packet);
            }
            Action::Double(index) => {
                self.copies += 1;
                let packet = self.packets[*index].clone();
                self.deliver(packet);
            }
            Action::Lose(index) => {
                self.packets.remove(*index);
            }
        }
    }

    fn publish(&mut self) {
        let sender = &mut self.runs.last_mut().unwrap().sender;
        let (epoch, seq) = (sender.epoch(), sender.lead() + 1);
        let payload = seq.to_string();
        let message = Outgoing {
            subject: "d",
            reply: None,
            headers: b"",
            payload: payload.as_bytes(),
        };
        let stamped = sender.stamp(self.now, &message, 1_024, &mut Vec::new());
        assert_eq!(stamped, Ok(seq));
        self.published += 1;
        self.accounts.get_mut(&epoch).unwrap().taken = seq;
        self.packets.push(Packet::Data(Tag { epoch, seq }));
    }

    /// Up to the next moment that somebody waits for.
    fn pass_time(&mut self) {
        let running = self.runs.iter().filter(|run| !run.is_over(self.now));
        let senders = running.filter_map(|run| run.sender.poll_timeout());
        let due = senders.chain(self.receiver.poll_timeout()).min();
        self.now = due.map_or(self.now, |due| due.max(self.now + Duration::from_nanos(1)));
        self.receiver.handle_timeout(self.now);
    }

    fn deliver(&mut self, packet: Packet) {
        let now = self.now;
        match packet {
            Packet::Data(tag) => self.hand_over(tag, None),
            Packet::Repair { line, tag } => self.hand_over(tag, Some(line)),
            Packet::Beat { epoch, heartbeat } => {
                let stamp = format!("s.{epoch}.{}", heartbeat.lead);
                self.receiver
                    .handle_heartbeat(now, stamp.as_bytes(), &heartbeat);
                let account = self.accounts.get_mut(&epoch).unwrap();
                account.is_heard = true;
                account.named = account.named.max(heartbeat.lead);
                self.fence(epoch, heartbeat.prior);
            }
            Packet::Answer {
                line,
                epoch,
                heartbeat,
            } => {
                let stamp = format!("s.{epoch}.{}", heartbeat.lead);
                let stamp = stamp.as_bytes();
                self.receiver
                    .handle_heartbeat_answer(now, line, stamp, &heartbeat);
                let account = self.accounts.get_mut(&epoch).unwrap();
                account.has_answered = true;
                account.named = account.named.max(heartbeat.lead);
                self.fence(epoch, heartbeat.prior);
            }
            Packet::End { line, end } => self.receiver.handle_repair_end(now, line, &end),
            Packet::Nobody { line } => self.receiver.handle_no_responders(now, line),
            Packet::Request { epoch, line, text } => {
                let run = self.runs.iter_mut().find(|run| run.sender.epoch() == epoch);
                match run.filter(|run| !run.is_over(now)) {
                    Some(run) => {
                        let reply = format!("_INBOX.{line}");
                        let reply = Some(reply.as_bytes());
                        run.sender.handle_request(now, reply, &text);
                    }
                    None => self.packets.push(Packet::Nobody { line }),
                }
            }
        }
    }

    /// I13: once a later run was heard and has answered, no new number of an earlier one is taken.
    fn fence(&mut self, epoch: u64, prior: Option<Prior>) {
        let account = &self.accounts[&epoch];
        if !(account.is_heard && account.has_answered) {
            return;
        }
        for (earlier, account) in self.accounts.range_mut(..epoch) {
            let prior = prior.filter(|prior| prior.epoch == *earlier);
            let known = account.handed_over.last().copied().unwrap_or_default();
            let known = prior.map_or(known, |prior| prior.lead.max(known));
            account.fence.get_or_insert(known);
        }
    }

    fn hand_over(&mut self, tag: Tag, line: Option<u64>) {
        let Tag { epoch, seq } = tag;
        let stamp = format!("s.{epoch}.{seq}");
        let stamp = stamp.as_bytes();
        let copies = self.copies_counted(epoch);
        match line {
            Some(line) => self.receiver.handle_repair(self.now, line, stamp, tag),
            None => self.receiver.handle_message(self.now, Some(stamp), tag),
        }
        let has_more = self.copies_counted(epoch) > copies;
        let base = self.line(epoch).map_or(u64::MAX, |line| line.base);
        let account = self.accounts.get_mut(&epoch).unwrap();
        let is_first = account.handed_over.insert(seq);
        let is_decided = account.delivered.contains(&seq) || account.lost.contains(&seq);
        if is_first && has_more && !is_decided && seq >= base {
            self.wrong = Some(format!("I15: {tag:?} is no copy"));
        }
    }

    /// Takes what everybody has to say.
    pub(super) fn settle(&mut self) {
        let now = self.now;
        while let Some(event) = self.receiver.poll_event() {
            if let Err(wrong) = self.hear(event) {
                self.wrong.get_or_insert(wrong);
            }
        }
        while let Some(request) = self.receiver.poll_request(now) {
            self.packets.push(Packet::Request {
                epoch: request.epoch,
                line: request.line,
                text: request.kind.to_payload(),
            });
            if request.kind == RequestKind::Heartbeat && self.delivery == Delivery::DetectOnly {
                self.wrong = Some("a receiver that only detects asks".to_owned());
            }
        }
        for run in self.runs.iter_mut().filter(|run| !run.is_over(now)) {
            run.speak(now, &mut self.packets);
        }
        while self.packets.len() > PACKETS_MAX {
            self.packets.remove(0);
        }
        for line in self.receiver.statistics() {
            let owed = line.highest + 1 - line.base;
            let decided = line.delivered + line.lost + line.unverifiable;
            if owed != decided + line.undecided {
                self.wrong = Some(format!("I4: {line:?}"));
            }
        }
    }

    fn hear(&mut self, event: Event<Tag>) -> Result<(), String> {
        match event {
            Event::Message { message, origin } => {
                let is_ordered = self.delivery == Delivery::Ordered;
                let account = self.accounts.get_mut(&message.epoch).unwrap();
                if (origin.epoch, origin.seq) != (message.epoch, message.seq) {
                    return Err(format!("I1: {message:?} is told as {origin:?}"));
                }
                let before = account.delivered.last().copied();
                if is_ordered && before >= Some(message.seq) {
                    return Err(format!("I14: {message:?} after {before:?}"));
                }
                let is_new = |fence: u64| message.seq > fence.max(account.named);
                if account.fence.is_some_and(is_new) {
                    return Err(format!("I13: {message:?} behind the fence"));
                }
                let is_new = account.delivered.insert(message.seq);
                if !is_new || account.lost.contains(&message.seq) {
                    return Err(format!("I1 and I3: {message:?} was decided"));
                }
            }
            Event::Gap { epoch, to, .. } if to > self.accounts[&epoch].taken => {
                return Err(format!("I2: a gap up to {to} of {epoch}"));
            }
            Event::Lost {
                epoch, from, to, ..
            } => {
                let account = self.accounts.get_mut(&epoch).unwrap();
                if to > account.taken {
                    return Err(format!("I2: {to} of {epoch} is lost, and was never sent"));
                }
                for seq in from..=to {
                    let is_new = account.lost.insert(seq);
                    if !is_new || account.delivered.contains(&seq) {
                        return Err(format!("I1: {seq} of {epoch} was decided"));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// From here on nothing is lost: everything is decided in the end.
    pub(super) fn ends_well(mut self) -> bool {
        for _ in 0..STEPS_MAX {
            if self.wrong.is_some() {
                return false;
            }
            if self.packets.is_empty() {
                let is_settled = self.receiver.is_settled();
                if is_settled {
                    return true;
                }
                self.pass_time();
            } else {
                let packet = self.packets.remove(0);
                self.deliver(packet);
            }
            self.settle();
        }
        false
    }

    fn line(&self, epoch: u64) -> Option<LineStatistics> {
        self.receiver.statistics().find(|line| line.epoch == epoch)
    }

    fn copies_counted(&self, epoch: u64) -> u64 {
        self.line(epoch).map_or(0, |line| line.duplicates)
    }

    /// Names the state: what both machines hold, with times counted from now.
    pub(super) fn name(&mut self) {
        let machines = format!("{:?}{:?}", self.runs, self.receiver);
        let mut packets: Vec<String> = self.packets.iter().map(|of| format!("{of:?}")).collect();
        packets.sort();
        let rest = (&self.accounts, self.published, self.ticks, self.copies);
        self.name = relative(&machines, self.now);
        self.name
            .push_str(&format!("{packets:?}{rest:?}{:?}", self.wrong));
    }
}

impl Run {
    fn is_over(&self, now: Duration) -> bool {
        self.is_crashed || self.sender.is_finished(now)
    }

    fn speak(&mut self, now: Duration, packets: &mut Vec<Packet>) {
        let epoch = self.sender.epoch();
        while let Some(heartbeat) = self.sender.poll_heartbeat(now) {
            packets.push(Packet::Beat { epoch, heartbeat });
        }
        while let Some(reply) = self.sender.poll_reply(now, Allowance::default()) {
            let line = reply.to.as_str().strip_prefix("_INBOX.").unwrap();
            let line = line.parse().unwrap();
            let lines = String::from_utf8(reply.lines).unwrap();
            let header = |name: &str| {
                let mut lines = lines.lines().filter_map(|line| line.strip_prefix(name));
                lines.find_map(|value| value.strip_prefix(": "))
            };
            packets.push(match (reply.status, reply.body) {
                (Some(status), _) => {
                    let end = RepairEnd::read(status.code(), header).unwrap();
                    Packet::End { line, end }
                }
                (None, ReplyBody::Heartbeat(heartbeat)) => Packet::Answer {
                    line,
                    epoch,
                    heartbeat,
                },
                (None, ReplyBody::Payload(payload)) => {
                    let seq = String::from_utf8(payload).unwrap().parse().unwrap();
                    let tag = Tag { epoch, seq };
                    Packet::Repair { line, tag }
                }
                (None, body) => panic!("{body:?}"),
            });
        }
    }
}
