//! Virtual time, and everything that happens in it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use natseq::jitter::Jitter;
use natseq::sequence::{Bucket, Delivery, Event, HeartbeatKind, LineStatistics, Rate, RequestKind};

use super::archive::Archive;
use super::expenses::Expenses;
use super::link::{Fate, Link, Path};
use super::names::Notices;
use super::oracle::{Run, TAG_BYTES, Tag};
use super::peers::{Body, Packet, Source, Subscriber, Truth, run_of};
use super::plan::{EVERYTHING, Flood, Forgery, Plan, Victim};

/// A world that has not come to rest by then never will.
const TIME_MAX: Duration = Duration::from_secs(300);

/// More than anybody sends again.
const CLIENT_RATE: Rate = Rate {
    bytes_per_second: 1 << 30,
    burst_bytes: 1 << 30,
};

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) now: Duration,
    pub(super) jitter: Jitter,
    link: Link<Packet>,
    pub(super) sources: Vec<Source>,
    pub(super) receivers: Vec<Subscriber>,
    /// What happens to connections, by time; true for up.
    changes: BTreeMap<(Duration, usize), (Victim, bool)>,
    forgeries: VecDeque<Forgery>,
    pub(super) floods: VecDeque<Flood>,
    /// What all sources together may send again.
    pub(super) client: Bucket,
    pub(super) expenses: Option<Expenses>,
    pub(super) notices: Notices,
    pub(super) archive: Archive,
    /// How often a run was told to be over.
    refusals: u64,
    /// What was said, when somebody wants to know.
    trace: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(seed: u64, plan: Plan, is_traced: bool) -> Self {
        let mut jitter = Jitter::new(seed);
        let sources = plan.sources.iter().cloned().map(Source::new);
        let receivers = plan.receivers.iter();
        let receivers = receivers.map(|own| Subscriber::new(&plan, own, jitter.next_u64()));
        let (sources, receivers) = (sources.collect(), receivers.collect());
        let mut changes = BTreeMap::new();
        for (order, cut) in plan.cuts.iter().enumerate() {
            changes.insert((cut.at, order), (cut.victim, false));
            changes.insert((cut.at + cut.time, order), (cut.victim, true));
        }
        let mut forgeries = plan.forgeries.clone();
        forgeries.sort_by_key(|forgery| forgery.at);
        let mut floods = plan.floods.clone();
        floods.sort_by_key(|flood| flood.at);
        let rate = plan.limits.map_or(CLIENT_RATE, |limits| limits.client);
        Self {
            forgeries: forgeries.into(),
            floods: floods.into(),
            client: Bucket::new(rate),
            expenses: plan.limits.map(Expenses::new),
            notices: Notices::default(),
            archive: Archive::new(),
            refusals: 0,
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

    /// Runs until everything is at rest.
    pub(super) fn run(&mut self) {
        loop {
            self.settle();
            if self.is_over() {
                break;
            }
            self.now = self.next_time();
            assert!(self.now < TIME_MAX, "T2: the world does not come to rest");
            self.change_connections();
            self.hear_notices();
            self.arrive();
            self.read_mailboxes();
            self.forge();
            self.flood();
            for index in 0..self.sources.len() {
                self.act(index);
            }
            for index in 0..self.receivers.len() {
                if self.is_busy(index) {
                    continue;
                }
                let receiver = &mut self.receivers[index].receiver;
                if receiver.poll_timeout().is_some_and(|due| due <= self.now) {
                    receiver.handle_timeout(self.now);
                    self.drain(index);
                }
            }
        }
        self.judge();
    }

    /// What was said, if that was asked for.
    pub(super) fn story(&self) -> &[String] {
        self.trace.as_deref().unwrap_or_default()
    }

    /// How often a run was told to be over.
    pub(super) const fn refusals(&self) -> u64 {
        self.refusals
    }

    /// Numbers that receivers were owed, and not what was only announced.
    pub(super) fn owed(&self) -> u64 {
        let lines = self
            .receivers
            .iter()
            .flat_map(|to| to.receiver.statistics());
        let owed = lines.map(|line| {
            let run = Run::new(line.source.as_str(), line.epoch);
            let last = line.highest.min(Truth(&self.sources).fact(run).taken);
            (last + 1).saturating_sub(line.base)
        });
        owed.sum()
    }

    /// What a receiver counts, the gaps that it found and the ranges that it asked for.
    pub(super) fn account(&self, index: usize) -> (Vec<LineStatistics>, u64, u64) {
        let to = &self.receivers[index];
        let lines = to.receiver.statistics().collect();
        (lines, to.oracle.gaps, to.ranges_asked)
    }

    pub(super) const fn link(&self) -> &Link<Packet> {
        &self.link
    }

    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
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
        self.settle_claims();
        for index in 0..self.receivers.len() {
            if self.is_busy(index) {
                continue;
            }
            self.ask(index);
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
    pub(super) fn drain(&mut self, index: usize) {
        let (now, truth) = (self.now, Truth(&self.sources));
        let to = &mut self.receivers[index];
        let mut released: BTreeMap<Run, usize> = BTreeMap::new();
        while let Some(event) = to.receiver.poll_event() {
            if let Some(trace) = &mut self.trace {
                trace.push(format!("{now:?} receiver {index}: {event:?}"));
            }
            if let Event::SourceEvicted { source, epoch } = &event {
                let run = Run::new(source.as_str(), *epoch);
                to.asked.retain(|_, asked| *asked != run);
            }
            if let Event::Message { message, .. } = &event {
                *released.entry(message.run).or_default() += 1;
            }
            to.oracle.hear(now, event, truth);
        }
        to.oracle.check(&to.receiver);
        // All but one of those that come at once were held.
        let bytes_max = self.plan.bounds.map_or(usize::MAX, |of| of.hold_bytes_max);
        let held_max = to.plan.hold_messages_max.min(bytes_max / TAG_BYTES);
        let most = released.values().max();
        assert!(
            most.is_none_or(|most| *most <= held_max + 1),
            "I11: {most:?} at once, {held_max} may be held"
        );
    }

    pub(super) fn ask(&mut self, index: usize) {
        while let Some(request) = self.receivers[index].receiver.poll_request(self.now) {
            let asker = &self.receivers[index];
            let may_ask = asker.plan.delivery != Delivery::DetectOnly && asker.is_up;
            assert!(may_ask, "receiver {index} may not ask");
            if let RequestKind::Messages(ranges) = &request.kind {
                assert!(ranges.len() <= 64, "I12: {} ranges", ranges.len());
                self.receivers[index].ranges_asked += ranges.len() as u64;
            }
            let run = Run::new(request.source.as_str(), request.epoch);
            if !request.is_for_archive {
                self.receivers[index]
                    .oracle
                    .luck
                    .note_request(self.now, run);
            }
            let line = request.line;
            self.receivers[index].asked.insert(line, run);
            let payload = request.kind.to_payload();
            assert!(payload.len() <= 1_024, "I12: {} bytes", payload.len());
            // Nobody listens for a run that never was.
            let holder = Truth(&self.sources).find(run);
            let holder = holder.map_or(run.source, |(holder, _)| holder);
            let epoch = run.epoch;
            let body = Body::Request {
                epoch,
                line,
                payload,
                is_for_archive: request.is_for_archive,
            };
            self.post(holder, index, body);
        }
    }

    /// Puts a packet on the link between a source and a receiver.
    pub(super) fn post(&mut self, source: usize, receiver: usize, body: Body) {
        let to = &self.receivers[receiver];
        if !to.is_up || self.now < to.plan.joins_at {
            return;
        }
        let connections = (self.sources[source].connection, to.connection);
        let text = self.trace.is_some().then(|| body.to_string());
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
        let fate = self.link.post(self.now, path, &packet);
        if let Some(text) = text {
            let fate = match fate {
                Fate::Arrives => "",
                Fate::ArrivesTwice => " (twice)",
                Fate::IsLost => " (lost)",
            };
            self.note(|| format!("source {source}, receiver {receiver}: {text}{fate}"));
        }
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
                    is_for_archive: true,
                } if is_lucky => {
                    let source = self.sources[packet.source].plan.name;
                    let run = Run { source, epoch };
                    self.ask_archive(packet.source, index, run, line, &payload);
                }
                Body::Request {
                    epoch,
                    line,
                    payload,
                    ..
                } if is_lucky => {
                    self.take_request(packet.source, index, epoch, line, &payload);
                }
                // The server says so, not the source.
                body @ Body::Nobody { .. } if is_there => self.put(index, body),
                body if is_whole => self.put(index, body),
                _ => {}
            }
        }
    }

    pub(super) fn hand_over(&mut self, index: usize, body: Body) {
        let now = self.now;
        let to = &mut self.receivers[index];
        match body {
            Body::Data { stamp, tag } => self.hand_over_message(index, None, &stamp, tag),
            Body::Repair { line, stamp, tag } => {
                self.hand_over_message(index, Some(line), &stamp, tag);
            }
            Body::Beat { stamp, heartbeat } => {
                let run = run_of(&stamp);
                let fact = Truth(&self.sources).fact(run);
                to.oracle
                    .expect_heartbeat(now, run, &heartbeat, false, fact);
                to.receiver.handle_heartbeat(now, &stamp, &heartbeat);
            }
            Body::Answer {
                line,
                stamp,
                heartbeat,
            } => {
                let run = run_of(&stamp);
                let fact = Truth(&self.sources).fact(run);
                if to.asked.contains_key(&line) {
                    to.oracle.expect_heartbeat(now, run, &heartbeat, true, fact);
                }
                to.receiver
                    .handle_heartbeat_answer(now, line, &stamp, &heartbeat);
            }
            Body::End { line, end } => {
                to.receiver.handle_repair_end(now, line, &end);
                self.learn_from_archive(index, line);
            }
            Body::Over {
                line,
                stamp,
                heartbeat,
            } => {
                let run = run_of(&stamp);
                let fact = Truth(&self.sources).fact(run);
                if to.asked.contains_key(&line) {
                    to.oracle
                        .expect_heartbeat(now, run, &heartbeat, false, fact);
                }
                to.receiver
                    .handle_wrong_epoch(now, line, &stamp, &heartbeat);
                self.refusals += 1;
            }
            Body::Nobody { line } => to.receiver.handle_no_responders(now, line),
            Body::Request { .. } => unreachable!("the source has it"),
        }
        let bad = self.receivers[index].receiver.bad_stamps();
        // Answers for a run that was forgotten meanwhile are of no use, and who only detects counts
        // what is too far ahead.
        let may_be_bad = self.plan.bounds.is_some() || !self.plan.forgeries.is_empty();
        let is_good = bad == 0 || may_be_bad;
        assert!(is_good, "every stamp is good");
        self.drain(index);
    }

    fn hand_over_message(&mut self, index: usize, line: Option<u64>, stamp: &[u8], tag: Tag) {
        let now = self.now;
        let to = &mut self.receivers[index];
        let fact = Truth(&self.sources).fact(tag.run);
        let is_useful = line.is_none_or(|line| to.asked.contains_key(&line));
        let is_new = is_useful && to.oracle.expect_message(now, tag, line.is_some(), fact);
        let (before, unclaimed) = to.copies(tag.run);
        match line {
            Some(line) => to.receiver.handle_repair(now, line, stamp, tag),
            None => to.receiver.handle_message(now, Some(stamp), tag),
        }
        let receiver = &to.receiver;
        let line_of = |run: Run| {
            let mut lines = receiver.statistics();
            lines.find(|line| Run::new(line.source.as_str(), line.epoch) == run)
        };
        let highest = |run: Run| line_of(run).map_or(0, |line| line.highest);
        to.oracle.follow_again(now, highest);
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
        let reply = format!("_INBOX.{index}.{line}");
        let reply = Some(reply.as_bytes());
        let mut is_heard = false;
        for run in of.runs.iter_mut().filter(|run| is_up && !run.is_gone(now)) {
            if run.sender.epoch() == epoch {
                run.sender.handle_request(now, reply, text);
                is_heard = true;
            } else if of.plan.answers_earlier {
                run.sender.handle_stray_request(epoch, reply);
                is_heard = true;
            }
        }
        if !is_heard {
            self.post(source, index, Body::Nobody { line });
        }
    }

    /// Somebody says something in the name of the first source, to all who have heard of it.
    fn forge(&mut self) {
        let is_due = |forgery: &Forgery, now| forgery.at <= now;
        while self
            .forgeries
            .front()
            .is_some_and(|forgery| is_due(forgery, self.now))
        {
            let Forgery { more, is_data, .. } = self.forgeries.pop_front().unwrap();
            let Some(of) = self.sources[0].runs.last() else {
                continue;
            };
            let (epoch, name) = (of.sender.epoch(), self.sources[0].plan.name);
            let run = Run {
                source: name,
                epoch,
            };
            let Some(mut heartbeat) = of.heartbeat(self.now) else {
                continue;
            };
            heartbeat.lead += more;
            heartbeat.kind = HeartbeatKind::Beat;
            let stamp = format!("s{name}.{epoch}.{}", heartbeat.lead);
            self.note(|| format!("forged {stamp}, data: {is_data}, {heartbeat:?}"));
            let (seq, subject) = (heartbeat.lead, self.sources[0].plan.subjects[0]);
            for index in 0..self.receivers.len() {
                let to = &mut self.receivers[index];
                if !to.is_up || !to.oracle.has_met(run) {
                    continue;
                }
                if is_data {
                    to.oracle.expect_forgery(run, seq);
                    let tag = Tag { run, seq, subject };
                    to.receiver
                        .handle_message(self.now, Some(stamp.as_bytes()), tag);
                } else {
                    to.receiver
                        .handle_heartbeat(self.now, stamp.as_bytes(), &heartbeat);
                }
                self.drain(index);
            }
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
        source.up_since = self.now;
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
        let receivers = receivers.filter_map(|to| match to.is_busy {
            true => Some(to.busy_until),
            false => to.receiver.poll_timeout(),
        });
        let claims = self.sources.iter().filter_map(Source::claim_due);
        let changes = self.changes.keys().next().map(|(at, _)| *at);
        let forgery = self.forgeries.front().map(|forgery| forgery.at);
        let flood = self.floods.front().map(|flood| flood.at);
        let times = [
            self.link.next(),
            changes,
            forgery,
            flood,
            self.notices.next(),
        ];
        let times = times.into_iter().flatten();
        let times = times.chain(acts).chain(senders).chain(receivers);
        let times = times.chain(claims);
        // Whatever is due already is due in the next microsecond.
        let soon = self.now + Duration::from_micros(1);
        times.min().unwrap_or(TIME_MAX).max(soon)
    }

    fn is_over(&self) -> bool {
        let are_gone = |source: &Source| source.runs.iter().all(|run| run.is_gone(self.now));
        let is_done = |source: &Source| source.is_done && are_gone(source);
        let is_settled = |to: &Subscriber| to.receiver.is_settled() && !to.is_busy;
        self.sources.iter().all(is_done)
            && self.receivers.iter().all(is_settled)
            && self.link.next().is_none()
            && self.changes.is_empty()
            && self.forgeries.is_empty()
            && self.floods.is_empty()
            && self.notices.next().is_none()
    }

    fn judge(&self) {
        for (index, to) in self.receivers.iter().enumerate() {
            let lines: Vec<_> = to.receiver.statistics().collect();
            to.oracle.check_end(&lines, Truth(&self.sources));
            let is_early = to.plan.joins_at < Duration::from_millis(100);
            let has_joined = is_early && !to.plan.is_shared && to.plan.filter == EVERYTHING;
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
