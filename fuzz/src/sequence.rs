//! A source and a receiver with a link between them that loses, doubles, delays and reorders.
//!
//! Input: a byte for options, a seed for the link, and then operations of one byte with one or two
//! more. In the end the link is perfect, and everything must be decided.

use std::collections::BTreeMap;
use std::time::Duration;

use natseq::jitter::Jitter;
use natseq::sequence::{
    Allowance, Delivery, Event, Heartbeat, LossReason, Outgoing, Prior, Receiver, ReceiverOptions,
    RepairEnd, Reply, ReplyBody, RequestKind, RetentionLimits, SendError, Sender, SenderOptions,
    SourceName, Stamp, Weight,
};
use natseq::subject::Filter;

use crate::input::Input;

const OPERATIONS_MAX: usize = 200;
const RUNS_MAX: usize = 4;
const STEPS_MAX: usize = 100_000;
/// A receiver that holds few messages asks for all that are missing again and again.
const MESSAGES_MAX: u64 = 100;
const BODY_BYTES_MAX: usize = 1 << 10;
const MILLI: Duration = Duration::from_millis(1);
/// The longest way of a packet, with order and without.
const WAY: Duration = Duration::from_millis(3);
const UNORDERED_WAY: Duration = Duration::from_millis(20);

/// Plays the operations, makes peace, and looks at the account.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.byte();
    let mut world = World::new(flags, u64::from(input.byte()));
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        world.play(&mut input);
        world.settle();
    }
    world.make_peace();
    world.judge();
}

/// A message that says what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tag {
    epoch: u64,
    seq: u64,
}

impl Weight for Tag {
    fn weight(&self) -> usize {
        16
    }
}

struct Run {
    sender: Sender,
    /// Stamped while there was no connection.
    pending: Vec<(Vec<u8>, Tag)>,
    written: u64,
    is_closed: bool,
    is_crashed: bool,
}

impl Run {
    fn is_gone(&self, now: Duration) -> bool {
        self.is_crashed || self.sender.is_finished(now)
    }
}

#[derive(Debug, Clone)]
enum Packet {
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Delivered,
    Lost,
}

/// What was told of one run.
#[derive(Debug, Default)]
struct Account {
    outcomes: BTreeMap<u64, Outcome>,
    last: u64,
}

struct World {
    now: Duration,
    jitter: Jitter,
    delivery: Delivery,
    is_fifo: bool,
    retained_max: usize,
    gaps_max: usize,
    sources_max: usize,
    loss: u8,
    runs: Vec<Run>,
    is_source_up: bool,
    receiver: Receiver<Tag>,
    is_receiver_up: bool,
    /// Ups and downs of both: what is on its way belongs to one connection.
    connections: (u64, u64),
    link: BTreeMap<(Duration, u64), ((u64, u64), Packet)>,
    packets: u64,
    last_arrival: [Duration; 2],
    accounts: BTreeMap<u64, Account>,
    unsequenced: u64,
}

impl World {
    fn new(flags: u8, seed: u64) -> Self {
        let delivery = match flags & 3 {
            0 => Delivery::Ordered,
            1 => Delivery::DetectOnly,
            _ => Delivery::Immediate,
        };
        let is_fifo = flags & 4 == 0;
        let is_small = flags & 8 != 0;
        let mut options = ReceiverOptions::new(Filter::new("d.>").unwrap());
        options.delivery = delivery;
        options.is_shared = flags & 32 != 0;
        if !is_fifo {
            options.grace = MILLI * 30;
            options.unsettled_grace = MILLI * 30;
        }
        if is_small {
            options.gaps_max = 3;
            options.hold_messages_max = 3;
            options.hold_bytes_max = 64;
            options.sources_max = 2;
        }
        let mut world = Self {
            now: Duration::from_secs(1),
            jitter: Jitter::new(seed),
            delivery,
            is_fifo,
            retained_max: if flags & 16 == 0 { 1 << 16 } else { 4 },
            gaps_max: options.gaps_max,
            sources_max: options.sources_max,
            loss: 10,
            runs: Vec::new(),
            is_source_up: true,
            receiver: Receiver::new(options, seed, Duration::from_secs(1)),
            is_receiver_up: true,
            connections: (0, 0),
            link: BTreeMap::new(),
            packets: 0,
            last_arrival: [Duration::ZERO; 2],
            accounts: BTreeMap::new(),
            unsequenced: 0,
        };
        world.begin_run();
        world
    }

    fn play(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0..=3 => {
                for _ in 0..=input.byte() % 8 {
                    self.publish();
                }
            }
            4 => self.publish_in_vain(),
            5 | 6 => self.wait(MILLI * u32::from(input.byte())),
            7 => self.wait(MILLI * 50 * u32::from(input.byte())),
            8 | 9 => {
                let due = self.next_time();
                self.advance(due);
            }
            10 => self.turn_source(!self.is_source_up),
            11 => self.turn_receiver(!self.is_receiver_up),
            12 => self.loss = input.byte() % 101,
            13 => self.end_run(false),
            14 => self.end_run(true),
            _ => self.mislead(input.bytes(40)),
        }
    }

    // The source.

    fn begin_run(&mut self) {
        let before = self.runs.last().filter(|run| !run.is_crashed);
        let epoch = 1_000 + self.runs.len() as u64;
        let scope = Filter::new("d.x").unwrap();
        let mut options = SenderOptions::new(SourceName::new("s").unwrap(), epoch, scope);
        options.prior = before.map(|run| Prior {
            epoch: run.sender.epoch(),
            lead: run.sender.lead(),
        });
        options.retention = RetentionLimits {
            messages_max: self.retained_max,
            ..RetentionLimits::default()
        };
        let mut sender = Sender::new(options, self.jitter.next_u64(), self.now);
        if self.is_source_up {
            sender.handle_connected(self.now);
        }
        self.runs.push(Run {
            sender,
            pending: Vec::new(),
            written: 0,
            is_closed: false,
            is_crashed: false,
        });
    }

    fn end_run(&mut self, is_crash: bool) {
        if self.runs.len() == RUNS_MAX {
            return;
        }
        let run = self.runs.last_mut().unwrap();
        if is_crash {
            run.is_crashed = true;
            run.pending.clear();
        } else {
            run.is_closed = true;
            run.sender.close(self.now);
        }
        self.begin_run();
    }

    fn publish(&mut self) {
        let run = self.runs.last_mut().unwrap();
        let (epoch, seq) = (run.sender.epoch(), run.sender.lead() + 1);
        if seq > MESSAGES_MAX {
            return;
        }
        let payload = format!("{epoch}.{seq}");
        let mut line = Vec::new();
        let message = outgoing(payload.as_bytes());
        let stamped = run
            .sender
            .stamp(self.now, &message, BODY_BYTES_MAX, &mut line);
        if run.is_closed {
            assert_eq!(stamped, Err(SendError::Closed));
            return;
        }
        assert_eq!(stamped, Ok(seq), "numbers rise by one");
        run.pending.push((value(&line), Tag { epoch, seq }));
        let retained = run.sender.lead() + 1 - run.sender.trail();
        assert!(retained <= self.retained_max as u64, "{retained} retained");
        if self.is_source_up {
            self.write_pending(self.runs.len() - 1);
        }
    }

    fn publish_in_vain(&mut self) {
        let run = self.runs.last_mut().unwrap();
        let before = (run.sender.lead(), run.sender.trail());
        let mut line = Vec::new();
        let message = outgoing(&[b'x'; BODY_BYTES_MAX]);
        let refused = run
            .sender
            .stamp(self.now, &message, BODY_BYTES_MAX, &mut line);
        assert!(refused.is_err() && line.is_empty(), "{refused:?}");
        assert_eq!(
            before,
            (run.sender.lead(), run.sender.trail()),
            "no number was taken"
        );
    }

    fn write_pending(&mut self, index: usize) {
        for (stamp, tag) in std::mem::take(&mut self.runs[index].pending) {
            self.runs[index].written += 1;
            assert_eq!(
                self.runs[index].written, tag.seq,
                "wire order is number order"
            );
            self.post(Packet::Data { stamp, tag });
        }
    }

    fn turn_source(&mut self, is_up: bool) {
        if self.is_source_up == is_up {
            return;
        }
        self.is_source_up = is_up;
        self.connections.0 += 1;
        for index in 0..self.runs.len() {
            if is_up {
                self.write_pending(index);
            }
            if self.runs[index].is_gone(self.now) {
                continue;
            }
            if is_up {
                self.runs[index].sender.handle_connected(self.now);
            } else {
                self.runs[index].sender.handle_disconnected();
            }
        }
    }

    // The receiver.

    fn turn_receiver(&mut self, is_up: bool) {
        if self.is_receiver_up == is_up {
            return;
        }
        self.is_receiver_up = is_up;
        self.connections.1 += 1;
        if is_up {
            self.receiver.handle_connected(self.now);
        } else {
            self.receiver.handle_disconnected(self.now);
        }
    }

    /// Hands over what no source sends.
    fn mislead(&mut self, bytes: &[u8]) {
        if Stamp::parse(bytes).is_some() {
            return;
        }
        let bad_stamps = self.receiver.bad_stamps();
        let tag = Tag { epoch: 0, seq: 0 };
        self.unsequenced += 1;
        self.receiver.handle_message(self.now, Some(bytes), tag);
        self.receiver.handle_repair(self.now, u64::MAX, bytes, tag);
        self.receiver.handle_no_responders(self.now, u64::MAX);
        assert_eq!(self.receiver.bad_stamps(), bad_stamps + 2);
        if let Ok(heartbeat) = Heartbeat::parse(7, bytes) {
            assert_eq!(Heartbeat::parse(7, &heartbeat.to_json()), Ok(heartbeat));
        }
    }

    // The link.

    fn post(&mut self, packet: Packet) {
        if !self.is_receiver_up {
            return;
        }
        if self.jitter.below(100) < u64::from(self.loss) {
            return;
        }
        let copies = if self.loss > 0 && self.jitter.hits(0.1) {
            2
        } else {
            1
        };
        let way = if self.is_fifo { WAY } else { UNORDERED_WAY };
        for _ in 0..copies {
            let mut arrival = self.now + way.mul_f64(0.05 + 0.95 * self.jitter.unit());
            if self.is_fifo {
                let last =
                    &mut self.last_arrival[usize::from(matches!(packet, Packet::Request { .. }))];
                arrival = arrival.max(*last);
                *last = arrival;
            }
            self.packets += 1;
            let entry = (self.connections, packet.clone());
            self.link.insert((arrival, self.packets), entry);
        }
    }

    fn arrive(&mut self) {
        while let Some(first) = self
            .link
            .first_entry()
            .filter(|first| first.key().0 <= self.now)
        {
            let (connections, packet) = first.remove();
            let is_there = connections.1 == self.connections.1;
            let is_whole = connections == self.connections;
            let now = self.now;
            match packet {
                Packet::Request {
                    epoch,
                    line,
                    payload,
                } => self.take_request(epoch, line, &payload),
                Packet::Nobody { line } if is_there => {
                    self.receiver.handle_no_responders(now, line)
                }
                Packet::Data { stamp, tag } if is_whole => {
                    self.receiver.handle_message(now, Some(&stamp), tag);
                }
                Packet::Repair { line, stamp, tag } if is_whole => {
                    self.receiver.handle_repair(now, line, &stamp, tag);
                }
                Packet::Beat { stamp, heartbeat } if is_whole => {
                    self.receiver.handle_heartbeat(now, &stamp, &heartbeat);
                }
                Packet::Answer {
                    line,
                    stamp,
                    heartbeat,
                } if is_whole => {
                    self.receiver
                        .handle_heartbeat_answer(now, line, &stamp, &heartbeat);
                }
                Packet::End { line, end } if is_whole => {
                    self.receiver.handle_repair_end(now, line, &end);
                }
                _ => {}
            }
            self.drain();
        }
    }

    fn take_request(&mut self, epoch: u64, line: u64, payload: &[u8]) {
        let (now, is_up) = (self.now, self.is_source_up);
        let run = self.runs.iter_mut().find(|run| run.sender.epoch() == epoch);
        match run.filter(|run| is_up && !run.is_gone(now)) {
            Some(run) => {
                let reply = format!("_INBOX.{line}");
                run.sender
                    .handle_request(now, Some(reply.as_bytes()), payload);
            }
            None => self.post(Packet::Nobody { line }),
        }
    }

    // Time.

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..STEPS_MAX {
            let next = self.next_time();
            if next >= until {
                break;
            }
            self.advance(next);
        }
        self.advance(until);
    }

    fn next_time(&self) -> Duration {
        let runs = self.runs.iter().filter(|run| !run.is_gone(self.now));
        let senders = runs.filter_map(|run| run.sender.poll_timeout());
        let arrival = self.link.keys().next().map(|(at, _)| *at);
        let times = senders.chain(self.receiver.poll_timeout()).chain(arrival);
        let soon = self.now + Duration::from_micros(1);
        times.min().unwrap_or(self.now + MILLI * 10).max(soon)
    }

    fn advance(&mut self, to: Duration) {
        self.now = self.now.max(to);
        self.arrive();
        self.settle();
    }

    /// Lets both ends say what they have to say now.
    fn settle(&mut self) {
        self.receiver.handle_timeout(self.now);
        self.drain();
        for index in 0..self.runs.len() {
            if self.is_source_up && !self.runs[index].is_gone(self.now) {
                self.speak(index);
            }
        }
        let mut requests = 0;
        while let Some(request) = self.receiver.poll_request(self.now) {
            requests += 1;
            assert!(requests <= 2 * RUNS_MAX, "requests without end");
            let may_ask = self.is_receiver_up && self.delivery != Delivery::DetectOnly;
            assert!(may_ask, "{request:?}");
            if let RequestKind::Messages(ranges) = &request.kind {
                assert!(ranges.len() <= 64, "{} ranges", ranges.len());
            }
            let payload = request.kind.to_payload();
            assert!(payload.len() <= 1_024, "{} bytes asked", payload.len());
            self.post(Packet::Request {
                epoch: request.epoch,
                line: request.line,
                payload,
            });
        }
        self.drain();
        let due = self.receiver.poll_timeout();
        assert!(
            due.is_none_or(|due| due > self.now),
            "{due:?} at {:?}",
            self.now
        );
        assert!(
            self.receiver.statistics().count() <= self.sources_max,
            "the table is bounded"
        );
        for line in self.receiver.statistics() {
            assert!(line.is_balanced(), "{line:?}");
        }
    }

    fn speak(&mut self, index: usize) {
        let now = self.now;
        while let Some(heartbeat) = self.runs[index].sender.poll_heartbeat(now) {
            assert_eq!(
                heartbeat.lead, self.runs[index].written,
                "what is written is named"
            );
            let stamp = value(&self.runs[index].sender.stamp_line(heartbeat.lead));
            self.post(Packet::Beat { stamp, heartbeat });
        }
        while let Some(reply) = self.runs[index]
            .sender
            .poll_reply(now, Allowance::default())
        {
            let packet = read_reply(reply);
            if let Packet::End { end, .. } = &packet {
                let trail = self.runs[index].sender.trail();
                assert!(
                    end.gone.iter().all(|(_, to)| to < trail),
                    "{end:?}, trail {trail}"
                );
            }
            self.post(packet);
        }
        let sender = &self.runs[index].sender;
        let due = sender.poll_timeout();
        let is_later = sender.is_finished(now) || due.is_none_or(|due| due > now);
        assert!(is_later, "source: {due:?} at {now:?}");
    }

    // The account.

    fn drain(&mut self) {
        while let Some(event) = self.receiver.poll_event() {
            self.hear(event);
        }
    }

    fn hear(&mut self, event: Event<Tag>) {
        match event {
            Event::Message { message, origin } => {
                let (epoch, seq) = (origin.epoch, origin.seq);
                assert_eq!(
                    message,
                    Tag { epoch, seq },
                    "the message is the one with the number"
                );
                let is_ordered = self.delivery == Delivery::Ordered;
                self.decide(epoch, seq, Outcome::Delivered);
                let account = self.accounts.get_mut(&epoch).unwrap();
                assert!(
                    !is_ordered || account.last < seq,
                    "{seq} after {}",
                    account.last
                );
                account.last = seq;
            }
            Event::Lost {
                epoch,
                from,
                to,
                reason,
                ..
            } => {
                let run = self.run(epoch);
                let may_be = match reason {
                    LossReason::Missing => self.delivery == Delivery::DetectOnly,
                    LossReason::NotRetained => to < run.sender.trail(),
                    LossReason::Overflow => self.gaps_max < 100,
                    _ => true,
                };
                assert!(may_be, "{from}-{to} lost: {reason}");
                for seq in from..=to {
                    self.decide(epoch, seq, Outcome::Lost);
                }
            }
            Event::Gap {
                epoch, from, to, ..
            } => {
                let lead = self.run(epoch).sender.lead();
                assert!(from <= to && to <= lead, "gap {from}-{to} of {lead}");
                let account = self.accounts.entry(epoch).or_default();
                let decided = account.outcomes.range(from..=to).next();
                assert_eq!(decided, None, "gap {from}-{to}");
            }
            Event::SourceEnded {
                epoch, last_seq, ..
            } => {
                let run = self.run(epoch);
                assert!(
                    run.is_closed && run.sender.lead() == last_seq,
                    "{epoch} ends at {last_seq}"
                );
            }
            // It begins anew when it is heard.
            Event::SourceEvicted { epoch, .. } => drop(self.accounts.remove(&epoch)),
            Event::Unsequenced { message } => {
                assert_eq!(message, Tag { epoch: 0, seq: 0 });
                self.unsequenced -= 1;
            }
            Event::EpochStarted { epoch, .. } => {
                self.accounts.entry(epoch).or_default();
            }
            Event::SourceSilent { .. }
            | Event::Conflict { .. }
            | Event::CoverageChanged { .. }
            | Event::Withdrawn { .. } => {}
            other => panic!("unknown {other:?}"),
        }
    }

    fn run(&self, epoch: u64) -> &Run {
        let run = self.runs.iter().find(|run| run.sender.epoch() == epoch);
        run.expect("a run that there is")
    }

    fn decide(&mut self, epoch: u64, seq: u64, outcome: Outcome) {
        let lead = self.run(epoch).sender.lead();
        assert!((1..=lead).contains(&seq), "{seq} of {lead}");
        let account = self.accounts.entry(epoch).or_default();
        let before = account.outcomes.insert(seq, outcome);
        assert_eq!(before, None, "{seq} of {epoch} is {outcome:?}");
    }

    /// Everybody is up and nothing is lost any more.
    fn make_peace(&mut self) {
        self.loss = 0;
        self.turn_source(true);
        self.turn_receiver(true);
        let run = self.runs.last_mut().unwrap();
        run.is_closed = true;
        run.sender.close(self.now);
        self.settle();
        for _ in 0..STEPS_MAX {
            let is_over = self.link.is_empty()
                && self.receiver.is_settled()
                && self.runs.iter().all(|run| run.is_gone(self.now));
            if is_over {
                return;
            }
            self.advance(self.next_time());
        }
        let lines: Vec<_> = self.receiver.statistics().collect();
        panic!("no rest at {:?}: {lines:?}", self.now);
    }

    fn judge(&self) {
        assert_eq!(
            self.unsequenced, 0,
            "messages without a stamp are delivered"
        );
        let last = self.runs.last().unwrap();
        let is_last_heard = self
            .receiver
            .statistics()
            .any(|line| line.epoch == last.sender.epoch());
        assert!(is_last_heard, "the last run was not heard");
        for line in self.receiver.statistics() {
            let run = self.run(line.epoch);
            let account = &self.accounts[&line.epoch];
            assert_eq!(line.undecided, 0, "{line:?}");
            // What an earlier run sent last may never have been named to us.
            let is_last = line.epoch == last.sender.epoch();
            let (highest, lead) = (line.highest, run.sender.lead());
            assert!(
                highest <= lead && (!is_last || highest == lead),
                "{lead} sent, {line:?}"
            );
            let owed = account.outcomes.range(line.base..).count() as u64;
            let due = line.highest + 1 - line.base;
            assert_eq!(
                owed + line.unverifiable,
                due,
                "delivered and lost are all: {line:?}"
            );
            let lost = account
                .outcomes
                .values()
                .filter(|of| **of == Outcome::Lost)
                .count() as u64;
            assert_eq!(lost, line.lost, "{line:?}");
        }
    }
}

const fn outgoing(payload: &[u8]) -> Outgoing<'_> {
    Outgoing {
        subject: "d.x",
        reply: None,
        headers: b"H: v\r\n",
        payload,
    }
}

/// The value of a stamp's header line.
fn value(line: &[u8]) -> Vec<u8> {
    let value = line
        .strip_prefix(b"Seq: ")
        .and_then(|line| line.strip_suffix(b"\r\n"));
    value.expect("a stamp's line").to_vec()
}

/// Reads a reply as a client would.
fn read_reply(reply: Reply) -> Packet {
    let line = reply.to.as_str().strip_prefix("_INBOX.").unwrap();
    let line = line.parse().unwrap();
    let lines = String::from_utf8(reply.lines).unwrap();
    let header = |name: &str| {
        let mut values = lines
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        values.next().map(|value| value.as_bytes().to_vec())
    };
    let stamp = header("Seq").expect("every reply has a stamp");
    match (reply.status, reply.body) {
        (Some(status), _) => {
            let end = RepairEnd::read(status.code(), header);
            Packet::End {
                line,
                end: end.expect("an end that is well-formed"),
            }
        }
        (None, ReplyBody::Heartbeat(heartbeat)) => Packet::Answer {
            line,
            stamp,
            heartbeat,
        },
        (None, ReplyBody::Notice(notice)) => panic!("nobody holds a name: {notice:?}"),
        (None, ReplyBody::Payload(payload)) => {
            assert_eq!(header("Seq-Subject").as_deref(), Some(&b"d.x"[..]));
            assert_eq!(header("H").as_deref(), Some(&b"v"[..]));
            let text = String::from_utf8(payload).unwrap();
            let (epoch, seq) = text.split_once('.').unwrap();
            let tag = Tag {
                epoch: epoch.parse().unwrap(),
                seq: seq.parse().unwrap(),
            };
            Packet::Repair { line, stamp, tag }
        }
        (None, body) => panic!("{body:?}"),
    }
}
