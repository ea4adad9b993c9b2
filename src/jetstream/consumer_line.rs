//! Holds the numbers of one consumer's deliveries against each other.
//!
//! A consumer counts its deliveries: each one, repeated ones included, has the next number. A hole
//! in that count is a delivery that did not reach us; a hole in the stream's numbers is nothing,
//! because filters and deletions make them.

use super::ack_subject::AckSubject;

/// What one consumer's deliveries have said so far. Only for a consumer that delivers to us alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ConsumerLine {
    last: Option<Last>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Last {
    consumer_seq: u64,
    stream_seq: u64,
}

/// What a delivery or a heartbeat shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Finding {
    /// Nothing is missing before it.
    InOrder,
    /// Deliveries did not reach us. Their messages lie in the stream between the two numbers.
    Missing {
        /// How many deliveries.
        deliveries: u64,
        /// The stream's number of the last message that we had; 0 when we had none.
        after_stream_seq: u64,
        /// The stream's number of the message that shows it; `None` on a heartbeat.
        before_stream_seq: Option<u64>,
    },
    /// The number came before: the same delivery arrived twice.
    Repeated,
    /// The consumer counts from 1 again: it was reset or made anew.
    ConsumerRestarted,
    /// The consumer goes on and the stream's numbers went back on a first delivery: the stream was
    /// made anew.
    StreamRestarted,
}

impl ConsumerLine {
    /// Makes a line that has seen nothing; the first delivery is taken as it comes.
    #[must_use]
    pub const fn new() -> Self {
        Self { last: None }
    }

    /// Takes a delivery.
    pub fn handle_delivery(&mut self, ack: &AckSubject<'_>) -> Finding {
        let now = Last {
            consumer_seq: ack.consumer_seq,
            stream_seq: ack.stream_seq,
        };
        let Some(last) = self.last else {
            self.last = Some(now);
            return Finding::InOrder;
        };
        if now.consumer_seq == last.consumer_seq && now.stream_seq == last.stream_seq {
            return Finding::Repeated;
        }
        if now.consumer_seq <= last.consumer_seq {
            if now.consumer_seq > 1 && now.stream_seq < last.stream_seq {
                return Finding::Repeated;
            }
            self.last = Some(now);
            return Finding::ConsumerRestarted;
        }
        let deliveries = now
            .consumer_seq
            .saturating_sub(last.consumer_seq)
            .saturating_sub(1);
        if ack.delivered <= 1 && now.stream_seq < last.stream_seq {
            self.last = Some(now);
            return Finding::StreamRestarted;
        }
        self.last = Some(Last {
            consumer_seq: now.consumer_seq,
            stream_seq: now.stream_seq.max(last.stream_seq),
        });
        if deliveries == 0 {
            return Finding::InOrder;
        }
        Finding::Missing {
            deliveries,
            after_stream_seq: last.stream_seq,
            before_stream_seq: Some(now.stream_seq),
        }
    }

    /// Takes an idle heartbeat's `Nats-Last-Consumer`: the last delivery that was sent.
    ///
    /// Reports the same deliveries again until they are accounted for by a later delivery.
    #[must_use]
    pub fn handle_heartbeat(&self, last_consumer_seq: u64) -> Finding {
        let (seen, after_stream_seq) = self
            .last
            .map_or((0, 0), |last| (last.consumer_seq, last.stream_seq));
        if last_consumer_seq < seen {
            return Finding::ConsumerRestarted;
        }
        match last_consumer_seq.saturating_sub(seen) {
            0 => Finding::InOrder,
            deliveries => Finding::Missing {
                deliveries,
                after_stream_seq,
                before_stream_seq: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(delivered: u64, stream_seq: u64, consumer_seq: u64) -> String {
        format!("$JS.ACK.S.C.{delivered}.{stream_seq}.{consumer_seq}.1.0")
    }

    fn findings(deliveries: &[(u64, u64, u64)]) -> (ConsumerLine, Vec<Finding>) {
        let mut line = ConsumerLine::new();
        let findings = deliveries
            .iter()
            .map(|(delivered, stream_seq, consumer_seq)| {
                let reply = delivery(*delivered, *stream_seq, *consumer_seq);
                line.handle_delivery(&AckSubject::parse(reply.as_bytes()).unwrap())
            });
        let findings = findings.collect();
        (line, findings)
    }

    #[test]
    fn holes_in_the_stream_are_nothing_and_holes_in_the_consumer_are_missing_deliveries() {
        let (line, findings) = findings(&[(1, 10, 1), (1, 20, 2), (1, 30, 5)]);
        let missing = Finding::Missing {
            deliveries: 2,
            after_stream_seq: 20,
            before_stream_seq: Some(30),
        };
        assert_eq!(findings, [Finding::InOrder, Finding::InOrder, missing]);
        assert_eq!(line.handle_heartbeat(5), Finding::InOrder);
        let tail = Finding::Missing {
            deliveries: 1,
            after_stream_seq: 30,
            before_stream_seq: None,
        };
        assert_eq!(line.handle_heartbeat(6), tail);
    }

    #[test]
    fn a_redelivery_is_in_order() {
        let (_, findings) = findings(&[(1, 10, 1), (1, 11, 2), (2, 10, 3), (1, 12, 4)]);
        assert!(
            findings.iter().all(|finding| *finding == Finding::InOrder),
            "{findings:?}"
        );
    }

    #[test]
    fn restarts_are_told_apart() {
        let (line, seen) = findings(&[(1, 10, 7), (1, 10, 1)]);
        assert_eq!(seen[1], Finding::ConsumerRestarted);
        assert_eq!(line.handle_heartbeat(0), Finding::ConsumerRestarted);
        let (_, seen) = findings(&[(1, 10, 7), (1, 1, 8)]);
        assert_eq!(seen[1], Finding::StreamRestarted);
        let (_, seen) = findings(&[(1, 10, 7), (1, 10, 7)]);
        assert_eq!(seen[1], Finding::Repeated);
    }

    #[test]
    fn a_heartbeat_before_any_delivery_shows_a_lost_beginning() {
        let missing = Finding::Missing {
            deliveries: 3,
            after_stream_seq: 0,
            before_stream_seq: None,
        };
        assert_eq!(ConsumerLine::new().handle_heartbeat(3), missing);
    }
}
