//! Virtual time, and everything that happens in it.

use std::collections::BTreeMap;
use std::time::Duration;

use natseq::jitter::Jitter;
use natseq::sequence::{Delivery, RequestKind};

use super::link::{Link, Path};
use super::oracle::{Run, Tag};
use super::peers::{Body, Packet, Source, Subscriber, read_reply, run_of, seq_of, value};
use super::plan::{Plan, Victim};

/// A world that has not come to rest by then never will.
const TIME_MAX: Duration = Duration::from_secs(300);
/// How often something too large is published.
const REFUSED: f64 = 0.05;

pub(super) struct World {
    plan: Plan,
    now: Duration,
    jitter: Jitter,
    link: Link<Packet>,
    sources: Vec<Source>,
    receivers: Vec<Subscriber>,
    /// What happens to connections, by time; true for up.
    changes: BTreeMap<(Duration, usize), (Victim, bool)>,
    /// What was said, when somebody wants to know.
    trace: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(seed: u64, plan: Plan, is_traced: bool) -> Self {
        let mut jitter = Jitter::new(seed);
        let sources = plan.sources.iter().cloned().enumerate();
        let sources = sources.map(|(index, own)| Source::new(index, own));
        let receivers = plan.receivers.iter();
        let receivers = receivers.map(|own| Subscriber::new(&plan, own, jitter.next_u64()));
        let (sources, receivers) = (sources.collect(), receivers.collect());
        let mut changes = BTreeMap::new();
        for (order, cut) in plan.cuts.iter().enumerate() {
            changes.insert((cut.at, order), (cut.victim, false));
            changes.insert((cut.at + cut.time, order), (cut.victim, true));
        }
        Self {
            now: Duration::ZERO,
            link: Link::new(plan.link.clone(), jitter.next_u64()),
            sources,
            receivers,
            changes,
            jitter,
            plan,
            trace: is_traced.then(Vec::new),
        }
    }

    /// Runs until everything is at rest; returns what was said, if that was asked for.
    pub(super) fn run(mut self) -> Vec<String> {
        for index in 0..self.sources.len() {
            self.begin_run(index);
        }
        loop {
            self.settle();
            if self.is_over() {
                break;
            }
            self.now = self.next_time();
            assert!(self.now < TIME_MAX, "T2: the world does not come to rest");
            self.change_connections();
            self.arrive();
            for index in 0..self.sources.len() {
                self.act(index);
            }
            for index in 0..self.receivers.len() {
                self.receivers[index].receiver.handle_timeout(self.now);
                self.drain(index);
            }
        }
        self.judge();
        self.trace.take().unwrap_or_default()
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:?} {}", self.now, what()));
        }
    }

    /// Lets everybody say what they have to say now.
    fn settle(&mut self) {
        for index in 0..self.sources.len() {
            for run in 0..self.sources[index].runs.len() {
                self.speak(index, run);
            }
        }
        for index in 0..self.receivers.len() {
            self.ask(index);
            self.drain(index);
            let due = self.receivers[index].receiver.poll_timeout();
            let is_later = due.is_none_or(|due| due > self.now);
            assert!(
                is_later,
                "T1: at {:?} receiver {index} waits for {due:?}",
                self.now
            );
        }
    }

    /// Takes events, and holds the receiver to its account.
    fn drain(&mut self, index: usize) {
        let (now, sources) = (self.now, &self.sources);
        let to = &mut self.receivers[index];
        while let Some(event) = to.receiver.poll_event() {
            if let Some(trace) = &mut self.trace {
                trace.push(format!("{now:?} receiver {index}: {event:?}"));
            }
            let fact = |run: Run| sources[run.source].fact(run.epoch);
            to.oracle.hear(now, event, fact);
        }
        to.oracle.check(&to.receiver);
    }

    fn ask(&mut self, index: usize) {
        while let Some(request) = self.receivers[index].receiver.poll_request(self.now) {
            let asker = &self.receivers[index];
            let may_ask = asker.plan.delivery != Delivery::DetectOnly && asker.is_up;
            assert!(may_ask, "receiver {index} may not ask");
            if let RequestKind::Messages(ranges) = &request.kind {
                assert!(ranges.len() <= 64, "I12: {} ranges", ranges.len());
            }
            let run = Run::new(request.source.as_str(), request.epoch);
            let body = Body::Request {
                epoch: request.epoch,
                line: request.line,
                payload: request.kind.to_payload(),
            };
            self.post(run.source, index, body);
        }
    }

    fn speak(&mut self, index: usize, run: usize) {
        let source = &self.sources[index];
        if !source.is_up || source.runs[run].is_gone(self.now) {
            return;
        }
        self.beat(index, run);
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
            if let Body::Answer {
                stamp, heartbeat, ..
            } = &body
            {
                let written = self.sources[index].runs[run].on_wire;
                let named = (seq_of(stamp), heartbeat.lead);
                assert_eq!(named, (written, written), "I8: an answer names its data");
            }
            self.post(index, receiver, body);
        }
        let sender = &self.sources[index].runs[run].sender;
        let due = sender.poll_timeout();
        let is_later = sender.is_finished(self.now) || due.is_none_or(|due| due > self.now);
        assert!(
            is_later,
            "T1: at {:?} source {index} waits for {due:?}",
            self.now
        );
    }

    fn beat(&mut self, index: usize, run: usize) {
        loop {
            let of = &mut self.sources[index].runs[run];
            let Some(heartbeat) = of.sender.poll_heartbeat(self.now) else {
                return;
            };
            let (lead, written) = (heartbeat.lead, of.on_wire);
            assert!(
                lead <= written,
                "I8: {lead} is named and {written} is written"
            );
            assert_eq!(lead, written, "I6: a heartbeat names all that is written");
            of.beats += 1;
            let beats = of.beats;
            let stamp = value(&of.sender.stamp_line(lead));
            let tail = self.plan.tail;
            if tail.is_some_and(|tail| lead >= tail.from && beats <= tail.beats) {
                continue;
            }
            for receiver in 0..self.receivers.len() {
                let (stamp, heartbeat) = (stamp.clone(), heartbeat.clone());
                self.post(index, receiver, Body::Beat { stamp, heartbeat });
            }
        }
    }

    /// A source sends, or ends a run and perhaps begins the next.
    fn act(&mut self, index: usize) {
        let source = &mut self.sources[index];
        if source.is_done || self.now < source.acts_at {
            return;
        }
        let run = source.runs.len() - 1;
        let of = &mut source.runs[run];
        let left = source.plan.messages - of.sender.lead();
        if left == 0 {
            return self.end_run(index);
        }
        for _ in 0..source.plan.burst.min(left) {
            if self.jitter.hits(REFUSED) {
                of.stamp_in_vain(self.now);
            }
            of.stamp(index, self.now);
        }
        source.last_sent = self.now;
        let spread = source.plan.spread * (2.0 * self.jitter.unit() - 1.0);
        let pause = if of.sender.lead() < source.plan.messages {
            source.plan.pause.mul_f64(1.0 + spread)
        } else {
            source.plan.rest
        };
        source.acts_at = self.now + pause;
        if source.is_up {
            self.write_pending(index, run);
        }
    }

    fn end_run(&mut self, index: usize) {
        let source = &mut self.sources[index];
        source.is_done = source.runs.len() == source.plan.runs;
        source.acts_at = self.now + source.plan.pause;
        let is_done = source.is_done;
        let of = source.runs.last_mut().unwrap();
        if source.plan.crashes && !is_done {
            of.is_crashed = true;
            of.pending.clear();
            // What was on its way may or may not arrive.
            source.connection += self.jitter.below(2);
        } else {
            of.is_closed = true;
            of.sender.close(self.now);
        }
        if !is_done {
            self.begin_run(index);
        }
    }

    fn begin_run(&mut self, index: usize) {
        let seed = self.jitter.next_u64();
        self.sources[index].begin_run(&self.plan, seed, self.now);
    }

    fn write_pending(&mut self, index: usize, run: usize) {
        for (stamp, tag) in std::mem::take(&mut self.sources[index].runs[run].pending) {
            let of = &mut self.sources[index].runs[run];
            let next = of.on_wire + 1;
            assert_eq!(seq_of(&stamp), next, "I7: wire order is number order");
            of.on_wire = next;
            if self.plan.tail.is_some_and(|tail| next >= tail.from) {
                continue;
            }
            for receiver in 0..self.receivers.len() {
                let stamp = stamp.clone();
                self.post(index, receiver, Body::Data { stamp, tag });
            }
        }
    }

    /// Puts a packet on the link between a source and a receiver.
    fn post(&mut self, source: usize, receiver: usize, body: Body) {
        let to = &self.receivers[receiver];
        if !to.is_up || self.now < to.plan.joins_at {
            return;
        }
        let connections = (self.sources[source].connection, to.connection);
        self.note(|| format!("source {source}, receiver {receiver}: {body:?}"));
        let path = Path {
            source,
            receiver,
            is_request: matches!(body, Body::Request { .. }),
        };
        let packet = Packet {
            source,
            receiver,
            connections,
            body,
        };
        self.link.post(self.now, path, &packet);
    }

    fn arrive(&mut self) {
        while let Some(packet) = self.link.take(self.now) {
            let index = packet.receiver;
            let (sent_by, sent_to) = packet.connections;
            let is_there = sent_to == self.receivers[index].connection;
            let is_whole = is_there && sent_by == self.sources[packet.source].connection;
            // A request may have reached the server before its sender's connection broke.
            let is_lucky = is_there || self.jitter.hits(0.5);
            match packet.body {
                Body::Request {
                    epoch,
                    line,
                    payload,
                } if is_lucky => {
                    self.take_request(packet.source, index, epoch, line, &payload);
                }
                // The server says so, not the source.
                Body::Nobody { line } if is_there => {
                    let to = &mut self.receivers[index];
                    to.receiver.handle_no_responders(self.now, line);
                    self.drain(index);
                }
                body if is_whole => self.hand_over(index, body),
                _ => {}
            }
        }
    }

    fn hand_over(&mut self, index: usize, body: Body) {
        let now = self.now;
        let to = &mut self.receivers[index];
        match body {
            Body::Data { stamp, tag } => self.hand_over_message(index, None, &stamp, tag),
            Body::Repair { line, stamp, tag } => {
                self.hand_over_message(index, Some(line), &stamp, tag);
            }
            Body::Beat { stamp, heartbeat } => {
                to.oracle
                    .expect_heartbeat(run_of(&stamp), &heartbeat, false);
                to.receiver.handle_heartbeat(now, &stamp, &heartbeat);
            }
            Body::Answer {
                line,
                stamp,
                heartbeat,
            } => {
                to.oracle.expect_heartbeat(run_of(&stamp), &heartbeat, true);
                to.receiver
                    .handle_heartbeat_answer(now, line, &stamp, &heartbeat);
            }
            Body::End { line, end } => to.receiver.handle_repair_end(now, line, &end),
            Body::Nobody { .. } | Body::Request { .. } => unreachable!("the server has it"),
        }
        let bad = self.receivers[index].receiver.bad_stamps();
        assert_eq!(bad, 0, "every stamp is good");
        self.drain(index);
    }

    fn hand_over_message(&mut self, index: usize, line: Option<u64>, stamp: &[u8], tag: Tag) {
        let now = self.now;
        let to = &mut self.receivers[index];
        let is_new = to.oracle.expect_message(tag, line.is_some());
        let (before, unclaimed) = to.copies(tag.run);
        match line {
            Some(line) => to.receiver.handle_repair(now, line, stamp, tag),
            None => to.receiver.handle_message(now, Some(stamp), tag),
        }
        let is_copy = to.copies(tag.run).0 > before;
        assert!(
            !(is_new && is_copy && unclaimed == 0),
            "I15: {tag:?} is no copy"
        );
    }

    fn take_request(&mut self, source: usize, index: usize, epoch: u64, line: u64, text: &[u8]) {
        let now = self.now;
        let of = &mut self.sources[source];
        let is_up = of.is_up;
        let mut runs = of.runs.iter_mut();
        let run = runs.find(|run| run.sender.epoch() == epoch);
        match run.filter(|run| is_up && !run.is_gone(now)) {
            Some(run) => {
                let reply = format!("_INBOX.{index}.{line}");
                let reply = Some(reply.as_bytes());
                run.sender.handle_request(now, reply, text);
            }
            None => self.post(source, index, Body::Nobody { line }),
        }
    }

    fn change_connections(&mut self) {
        while let Some(entry) = self.changes.first_entry() {
            if entry.key().0 > self.now {
                return;
            }
            let (victim, is_up) = entry.remove();
            self.note(|| format!("{victim:?} is up: {is_up}"));
            match victim {
                Victim::Source(index) => self.change_source(index, is_up),
                Victim::Receiver(index) => self.change_receiver(index, is_up),
            }
        }
    }

    fn change_receiver(&mut self, index: usize, is_up: bool) {
        let subscriber = self.receivers.get_mut(index);
        let Some(subscriber) = subscriber.filter(|of| of.is_up != is_up) else {
            return;
        };
        subscriber.is_up = is_up;
        subscriber.connection += 1;
        if is_up {
            subscriber.receiver.handle_connected(self.now);
        } else {
            subscriber.receiver.handle_disconnected(self.now);
        }
    }

    fn change_source(&mut self, index: usize, is_up: bool) {
        let source = self.sources.get_mut(index);
        let Some(source) = source.filter(|of| of.is_up != is_up) else {
            return;
        };
        source.is_up = is_up;
        source.connection += 1;
        for run in 0..source.runs.len() {
            if self.sources[index].runs[run].is_gone(self.now) {
                continue;
            }
            if is_up {
                self.write_pending(index, run);
                let of = &mut self.sources[index].runs[run];
                of.sender.handle_connected(self.now);
            } else {
                self.sources[index].runs[run].sender.handle_disconnected();
            }
        }
    }

    fn next_time(&self) -> Duration {
        let acting = self.sources.iter().filter(|source| !source.is_done);
        let acts = acting.map(|source| source.acts_at);
        let runs = self.sources.iter().flat_map(|source| &source.runs);
        let runs = runs.filter(|run| !run.is_gone(self.now));
        let senders = runs.filter_map(|run| run.sender.poll_timeout());
        let receivers = self.receivers.iter();
        let receivers = receivers.filter_map(|to| to.receiver.poll_timeout());
        let changes = self.changes.keys().next().map(|(at, _)| *at);
        let times = [self.link.next(), changes].into_iter().flatten();
        let times = times.chain(acts).chain(senders).chain(receivers);
        // Whatever is due already is due in the next microsecond.
        let soon = self.now + Duration::from_micros(1);
        times.min().unwrap_or(TIME_MAX).max(soon)
    }

    fn is_over(&self) -> bool {
        let are_gone = |source: &Source| source.runs.iter().all(|run| run.is_gone(self.now));
        let is_done = |source: &Source| source.is_done && are_gone(source);
        let is_settled = |to: &Subscriber| to.receiver.is_settled();
        self.sources.iter().all(is_done)
            && self.receivers.iter().all(is_settled)
            && self.link.next().is_none()
            && self.changes.is_empty()
    }

    fn judge(&self) {
        for (index, to) in self.receivers.iter().enumerate() {
            let lines: Vec<_> = to.receiver.statistics().collect();
            let fact = |run: Run| self.sources[run.source].fact(run.epoch);
            to.oracle.check_end(&lines, fact);
            let has_joined = to.plan.joins_at < Duration::from_millis(100);
            assert!(!has_joined || !lines.is_empty(), "somebody was heard");
            let Some(tail) = self.plan.tail else { continue };
            // Heartbeats come one, three, seven first pauses after the last message.
            let pauses = (2_u32 << tail.beats) - 1;
            let way = self.plan.link.path_time_max() + self.plan.grace;
            let limit = self.sources[0].last_sent + tail.first * pauses + way;
            let found = to.oracle.first_gap;
            let is_found = found.is_some_and(|found| found <= limit);
            assert!(is_found, "I6: {index} found {found:?}, limit {limit:?}");
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(trace) = self.trace.take().filter(|_| std::thread::panicking()) {
            eprintln!("{:#?}\n{}", self.plan, trace.join("\n"));
        }
    }
}
