//! What sources do: they begin, send, beat, answer and end.

use std::time::Duration;

use natseq::sequence::{Allowance, ControlSubjects, Reply, ReplyBody};

use super::expenses::FLOODER;
use super::oracle::Tag;
use super::peers::{Body, read_reply, seq_of, value};
use super::plan::number;
use super::world::World;

/// How often something too large is published.
const REFUSED: f64 = 0.05;
/// Between the beginning of a source and its first message, unless it is in a hurry.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

impl World {
    pub(super) fn speak(&mut self, index: usize, run: usize) {
        let source = &self.sources[index];
        if !source.is_up || source.runs[run].is_gone(self.now) {
            return;
        }
        self.note_fenced(index, run);
        self.beat(index, run);
        while let Some(reply) = self.poll_reply(index, run) {
            if let ReplyBody::Notice(notice) = reply.body {
                self.answer_claimant(index, reply.to.as_str(), notice);
                continue;
            }
            if reply.to.as_str().starts_with(FLOODER) {
                continue;
            }
            let (receiver, body) = read_reply(reply, self.plan.carrier);
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
            let unlucky = self.sources[index].plan.unlucky;
            let is_unlucky =
                |tag: &Tag| unlucky.is_some_and(|(seq, until)| seq == tag.seq && self.now < until);
            if matches!(&body, Body::Repair { tag, .. } if is_unlucky(tag)) {
                continue;
            }
            self.post(index, receiver, body);
        }
        let sender = &self.sources[index].runs[run].sender;
        let kept = sender.lead() + 1 - sender.trail();
        let kept_max = self.plan.retained_max as u64;
        assert!(kept <= kept_max, "I11: {kept} are retained");
        let due = sender.poll_timeout();
        let is_later = sender.is_finished(self.now) || due.is_none_or(|due| due > self.now);
        assert!(
            is_later,
            "T1: at {:?} source {index} waits for {due:?}",
            self.now
        );
    }

    /// I12: nothing goes anywhere else than to an inbox, and no more than may.
    fn poll_reply(&mut self, index: usize, run: usize) -> Option<Reply> {
        let allowance = Allowance {
            due: self.client.due(),
            ..Allowance::default()
        };
        let sender = &mut self.sources[index].runs[run].sender;
        let reply = sender.poll_reply(self.now, allowance)?;
        self.client.spend(self.now, reply.bytes());
        let is_allowed = reply.to.as_str().starts_with("_INBOX.");
        assert!(is_allowed, "I12: an answer to {}", reply.to);
        if let Some(expenses) = &mut self.expenses {
            expenses.note(self.now, (index, run), &reply);
        }
        Some(reply)
    }

    fn beat(&mut self, index: usize, run: usize) {
        loop {
            let sender = &mut self.sources[index].runs[run].sender;
            if let Some(claim) = sender.poll_claim(self.now) {
                self.publish_notice(index, claim, false);
            }
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
            let subject = ControlSubjects::default().heartbeat(&heartbeat.scope);
            let subject = subject.unwrap();
            for receiver in 0..self.receivers.len() {
                let heartbeats = &self.receivers[receiver].heartbeats;
                if !heartbeats.matches(subject.as_str().as_bytes()) {
                    continue;
                }
                let (stamp, heartbeat) = (stamp.clone(), heartbeat.clone());
                self.post(index, receiver, Body::Beat { stamp, heartbeat });
            }
        }
    }

    /// A source sends, or ends a run and perhaps begins the next.
    pub(super) fn act(&mut self, index: usize) {
        let source = &mut self.sources[index];
        if source.is_done || self.now < source.acts_at {
            return;
        }
        if source.runs.is_empty() && source.plan.claims.is_some() {
            return self.claim(index);
        }
        if source.runs.is_empty() {
            source.acts_at = self.now + source.plan.rest.min(FIRST_PAUSE);
            return self.begin_run(index);
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
            let subjects = source.plan.subjects;
            // One subject asks for no dice.
            let subject = match subjects {
                [only] => only,
                _ => subjects[number(&mut self.jitter, subjects.len() as u64)],
            };
            of.stamp(source.plan.name, subject, self.plan.carrier, self.now);
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

    pub(super) fn begin_run(&mut self, index: usize) {
        let seed = self.jitter.next_u64();
        self.sources[index].begin_run(&self.plan, seed, self.now);
    }

    pub(super) fn write_pending(&mut self, index: usize, run: usize) {
        let mut pending = std::mem::take(&mut self.sources[index].runs[run].pending);
        #[cfg(feature = "defects")]
        if natseq::sequence::Defect::OutsideTheLock.is_planted() {
            pending.reverse();
        }
        for (stamp, tag) in pending.drain(..) {
            let of = &mut self.sources[index].runs[run];
            let next = of.on_wire + 1;
            assert_eq!(seq_of(&stamp), next, "I7: wire order is number order");
            of.on_wire = next;
            self.store(index, run, &stamp, tag);
            let is_tail = self.plan.tail.is_some_and(|tail| next >= tail.from);
            if is_tail || self.sources[index].plan.lost.contains(&next) {
                continue;
            }
            for receiver in self.readers(tag) {
                let stamp = stamp.clone();
                self.post(index, receiver, Body::Data { stamp, tag });
            }
        }
    }

    /// Who gets a message: all that want its subject, but one only of those that share.
    fn readers(&mut self, tag: Tag) -> Vec<usize> {
        let subject = tag.subject.as_bytes();
        let all = self.receivers.iter().enumerate();
        let wanting = all.filter(|(_, to)| to.filter.matches(subject));
        let (sharing, others): (Vec<_>, Vec<_>) = wanting.partition(|(_, to)| to.plan.is_shared);
        let here = sharing
            .iter()
            .filter(|(_, to)| to.is_up && self.now >= to.plan.joins_at);
        let here: Vec<usize> = here.map(|(index, _)| *index).collect();
        let mut readers: Vec<usize> = others.into_iter().map(|(index, _)| index).collect();
        if !here.is_empty() {
            readers.push(here[number(&mut self.jitter, here.len() as u64)]);
        }
        readers
    }
}
