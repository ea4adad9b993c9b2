//! One receiver fed by hand, and what it tells in words.

#![expect(clippy::arithmetic_side_effects, reason = "test arithmetic")]

use core::time::Duration;

use crate::subject::Filter;

use super::event::{Event, Origin};
use super::heartbeat::{Heartbeat, HeartbeatKind, Prior};
use super::receiver::{Delivery, Receiver, ReceiverOptions, RequestKind, Weight};
use super::repair::RepairEnd;
use super::statistics::LineStatistics;

pub(super) const MILLI: Duration = Duration::from_millis(1);

/// The heartbeat of a source that has just begun, over its first connection.
pub(super) fn beat(lead: u64) -> Heartbeat {
    Heartbeat {
        kind: HeartbeatKind::Beat,
        scope: Filter::new("d.x").unwrap(),
        lead,
        trail: 1,
        next: MILLI * 40,
        generation: 1,
        prior: None,
        age: Some(MILLI),
    }
}

impl Weight for u64 {
    fn weight(&self) -> usize {
        8
    }
}

pub(super) struct Story {
    pub(super) receiver: Receiver<u64>,
    pub(super) now: Duration,
    /// The last request for messages.
    pub(super) asked: u64,
}

impl Story {
    pub(super) fn new(delivery: Delivery) -> Self {
        Self::with(delivery, |_| {})
    }

    pub(super) fn with(delivery: Delivery, change: impl FnOnce(&mut ReceiverOptions)) -> Self {
        let mut options = ReceiverOptions::new(Filter::new("d.>").unwrap());
        options.delivery = delivery;
        change(&mut options);
        Self {
            receiver: Receiver::new(options, 1, Duration::ZERO),
            now: MILLI,
            asked: 0,
        }
    }

    pub(super) fn data(&mut self, seqs: &[u64]) -> &mut Self {
        self.data_of(7, seqs)
    }

    pub(super) fn data_of(&mut self, epoch: u64, seqs: &[u64]) -> &mut Self {
        for seq in seqs {
            let stamp = format!("a.{epoch}.{seq}");
            self.receiver
                .handle_message(self.now, Some(stamp.as_bytes()), *seq);
        }
        self
    }

    /// A message that names the one before it on its subject.
    pub(super) fn chained(&mut self, seq: u64, prev: u64) -> &mut Self {
        let stamp = format!("a.7.{seq}.{prev}");
        self.receiver
            .handle_message(self.now, Some(stamp.as_bytes()), seq);
        self
    }

    /// The same as a repair.
    pub(super) fn repair_chained(&mut self, seq: u64, prev: u64) -> &mut Self {
        let stamp = format!("a.7.{seq}.{prev}");
        self.receiver
            .handle_repair(self.now, 0, stamp.as_bytes(), seq);
        self
    }

    pub(super) fn beat(&mut self, kind: HeartbeatKind, lead: u64) -> &mut Self {
        self.heartbeat(7, kind, lead, "d.x", None)
    }

    pub(super) fn heartbeat(
        &mut self,
        epoch: u64,
        kind: HeartbeatKind,
        lead: u64,
        scope: &str,
        prior: Option<Prior>,
    ) -> &mut Self {
        let scope = Filter::new(scope).unwrap();
        let heartbeat = Heartbeat {
            kind,
            scope,
            prior,
            ..beat(lead)
        };
        let stamp = format!("a.{epoch}.{lead}");
        self.receiver
            .handle_heartbeat(self.now, stamp.as_bytes(), &heartbeat);
        self
    }

    /// A heartbeat of a source that had begun `age` before it was said.
    pub(super) fn aged_beat(&mut self, lead: u64, age: Duration) -> &mut Self {
        let heartbeat = Heartbeat {
            age: Some(age),
            ..beat(lead)
        };
        let stamp = format!("a.7.{lead}");
        self.receiver
            .handle_heartbeat(self.now, stamp.as_bytes(), &heartbeat);
        self
    }

    /// The answer to the question `line`, from a source that began `age` ago.
    pub(super) fn answer(&mut self, line: u64, lead: u64, trail: u64, age: Duration) -> &mut Self {
        self.answer_of("a.7", line, lead, trail, age)
    }

    /// The same of another run.
    pub(super) fn answer_of(
        &mut self,
        run: &str,
        line: u64,
        lead: u64,
        trail: u64,
        age: Duration,
    ) -> &mut Self {
        let heartbeat = Heartbeat {
            trail,
            age: Some(age),
            ..beat(lead)
        };
        let stamp = format!("{run}.{lead}");
        self.receiver
            .handle_heartbeat_answer(self.now, line, stamp.as_bytes(), &heartbeat);
        self
    }

    /// The answer of a source that has ended.
    pub(super) fn end_of(&mut self, run: &str, line: u64, lead: u64) -> &mut Self {
        let heartbeat = Heartbeat {
            kind: HeartbeatKind::End,
            ..beat(lead)
        };
        let stamp = format!("{run}.{lead}");
        self.receiver
            .handle_heartbeat_answer(self.now, line, stamp.as_bytes(), &heartbeat);
        self
    }

    /// The source answers for a run that was asked to prove itself.
    pub(super) fn prove(&mut self, epoch: u64, prior: Option<Prior>) -> &mut Self {
        self.prove_in("d.x", epoch, prior)
    }

    /// The same with this scope.
    pub(super) fn prove_in(&mut self, scope: &str, epoch: u64, prior: Option<Prior>) -> &mut Self {
        let mut requests = core::iter::from_fn(|| self.receiver.poll_request(self.now));
        let asked = requests
            .find(|request| request.epoch == epoch && request.kind == RequestKind::Heartbeat);
        let mut lines = self.receiver.statistics();
        let lead = lines.find(|line| line.epoch == epoch).unwrap().highest;
        drop(lines);
        let heartbeat = Heartbeat {
            scope: Filter::new(scope).unwrap(),
            prior,
            ..beat(lead)
        };
        let line = asked.expect("it is asked").line;
        let stamp = format!("a.{epoch}.{lead}");
        self.receiver
            .handle_heartbeat_answer(self.now, line, stamp.as_bytes(), &heartbeat);
        self
    }

    /// A heartbeat over the source's second connection.
    pub(super) fn beat_again(&mut self, lead: u64) -> &mut Self {
        let heartbeat = Heartbeat {
            kind: HeartbeatKind::Hello,
            generation: 2,
            ..beat(lead)
        };
        let stamp = format!("a.7.{lead}");
        self.receiver
            .handle_heartbeat(self.now, stamp.as_bytes(), &heartbeat);
        self
    }

    pub(super) fn hello(&mut self) -> &mut Self {
        self.beat(HeartbeatKind::Hello, 0)
    }

    pub(super) fn repair(&mut self, line: u64, seqs: &[u64]) -> &mut Self {
        for seq in seqs {
            let stamp = format!("a.7.{seq}");
            self.receiver
                .handle_repair(self.now, line, stamp.as_bytes(), *seq);
        }
        self
    }

    pub(super) fn end(&mut self, line: u64, gone: &str) -> &mut Self {
        let line = if self.asked >> 16 == line {
            self.asked
        } else {
            line << 16
        };
        self.end_with(line, 204, &[("Seq-Gone", gone)])
    }

    /// The messages and the end that answer the last request for messages, which lacks `gone`.
    pub(super) fn answered(&mut self, seqs: &[u64], lead: u64, gone: &str) -> &mut Self {
        let lead = format!("a.7.{lead}");
        let headers = [("Seq", lead.as_str()), ("Seq-Gone", gone)];
        let asked = self.asked;
        self.repair(asked, seqs).end_with(asked, 204, &headers)
    }

    /// The number of the last request for messages.
    pub(super) const fn asked(&self) -> u64 {
        self.asked
    }

    /// A later run answers the last request for messages: that run is over.
    pub(super) fn wrong_epoch(&mut self, epoch: u64) -> &mut Self {
        let heartbeat = Heartbeat {
            kind: HeartbeatKind::Hello,
            ..beat(0)
        };
        let stamp = format!("a.{epoch}.0");
        let asked = self.asked;
        self.receiver
            .handle_wrong_epoch(self.now, asked, stamp.as_bytes(), &heartbeat);
        self
    }

    /// Nobody listens where the last request for messages went.
    pub(super) fn nobody(&mut self) -> &mut Self {
        self.receiver.handle_no_responders(self.now, self.asked);
        self
    }

    /// An end with these headers, but for those without a value.
    pub(super) fn end_with(&mut self, line: u64, code: u16, headers: &[(&str, &str)]) -> &mut Self {
        let header = |name: &str| {
            let found = headers.iter().find(|(other, _)| *other == name);
            found
                .map(|(_, value)| *value)
                .filter(|value| !value.is_empty())
        };
        let end = RepairEnd::read(code, header).unwrap();
        self.receiver.handle_repair_end(self.now, line, &end);
        self
    }

    pub(super) fn wait(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self.receiver.handle_timeout(self.now);
        self
    }

    /// The program was busy with something else for so long.
    pub(super) fn pause(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self.receiver.handle_pause(self.now, time);
        self
    }

    pub(super) fn request(&mut self) -> Option<String> {
        let request = self.receiver.poll_request(self.now)?;
        if matches!(request.kind, RequestKind::Messages(_)) {
            self.asked = request.line;
        }
        let text = String::from_utf8(request.kind.to_payload()).unwrap();
        Some(if request.is_for_archive {
            format!("archive {text}")
        } else {
            text
        })
    }

    /// Events as words: `1` delivered, `r2` repaired, `gap3-4`, `lost5-6:why`, others by name.
    pub(super) fn told(&mut self) -> String {
        let mut words = Vec::new();
        while let Some(event) = self.receiver.poll_event() {
            words.push(match event {
                Event::Message {
                    message,
                    origin:
                        Origin {
                            seq, is_repaired, ..
                        },
                } => {
                    assert_eq!(message, seq);
                    format!("{}{seq}", if is_repaired { "r" } else { "" })
                }
                Event::Unsequenced { .. } => "unsequenced".into(),
                Event::Gap { from, to, .. } => format!("gap{from}-{to}"),
                Event::Lost {
                    from, to, reason, ..
                } => format!("lost{from}-{to}:{}", reason.as_str()),
                Event::Withdrawn { from, to, .. } => format!("unsent{from}-{to}"),
                Event::EpochStarted {
                    epoch,
                    is_tail_known,
                    ..
                } => {
                    format!("epoch{epoch}{}", if is_tail_known { "+" } else { "" })
                }
                Event::CoverageChanged { coverage, .. } => coverage.as_str().into(),
                Event::Degraded { lacking, .. } => lacking.as_str().into(),
                Event::SourceSilent { .. } => "silent".into(),
                Event::SourceEnded { last_seq, .. } => format!("ended{last_seq}"),
                Event::Conflict { epoch, count, .. } => format!("conflict{epoch}x{count}"),
                Event::SourceEvicted { .. } => "evicted".into(),
            });
        }
        words.join(" ")
    }

    pub(super) fn line(&self) -> LineStatistics {
        self.receiver.statistics().next().unwrap()
    }
}
