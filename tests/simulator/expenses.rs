//! How much answers cost: to one requester, from one source, and from one client.

use std::collections::BTreeMap;
use std::time::Duration;

use natseq::sequence::{Rate, Reply, ReplyBody};

use super::plan::{Flood, Limits, MILLI, Wish};
use super::world::World;

/// Where those who flood want their answers.
pub(super) const FLOODER: &str = "_INBOX.flood";
/// Who floods asks again after this time.
const ROUND_TIME: Duration = MILLI.saturating_mul(15);
/// What one message may cost beyond a bound.
const MESSAGE_BYTES_MAX: u64 = 2 << 10;

/// I12: what flows stays below the burst, the rate and one more second of it, and one message.
#[derive(Debug)]
pub(super) struct Expenses {
    limits: Limits,
    client: Flow,
    sources: BTreeMap<(usize, usize), Flow>,
    requesters: BTreeMap<(usize, usize, String), Flow>,
}

/// How many bytes flowed beyond the rate.
#[derive(Debug, Default)]
struct Flow {
    at: Duration,
    beyond: f64,
}

impl Expenses {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            client: Flow::default(),
            sources: BTreeMap::new(),
            requesters: BTreeMap::new(),
        }
    }

    /// A run of a source answers.
    pub(super) fn note(&mut self, now: Duration, (index, run): (usize, usize), reply: &Reply) {
        let to = reply.to.as_str();
        let body = match &reply.body {
            ReplyBody::Payload(payload) => payload.len(),
            // Its length is not known here.
            _ => 0,
        };
        let bytes = (to.len() + reply.lines.len() + body) as u64;
        let requester: Vec<&str> = to.split('.').take(2).collect();
        let requester = requester.join(".");
        let Limits { repairs, client } = self.limits;
        self.client.add(now, bytes, client, "the client");
        let source = self.sources.entry((index, run)).or_default();
        source.add(now, bytes, repairs.source, "the source");
        let one = self.requesters.entry((index, run, requester)).or_default();
        one.add(now, bytes, repairs.requester, to);
    }
}

impl Flow {
    fn add(&mut self, now: Duration, bytes: u64, rate: Rate, whose: &str) {
        let time = (now - self.at).as_secs_f64();
        let gone = rate.bytes_per_second as f64 * time;
        self.beyond = (self.beyond - gone).max(0.0) + bytes as f64;
        self.at = now;
        let bound = rate.burst_bytes + rate.bytes_per_second + MESSAGE_BYTES_MAX;
        let beyond = self.beyond;
        assert!(
            beyond <= bound as f64,
            "I12: {beyond} bytes of {whose}, {bound} are allowed"
        );
    }
}

impl World {
    /// Somebody asks the first source for more than it may send.
    pub(super) fn flood(&mut self) {
        while let Some(flood) = self.floods.front().copied() {
            if flood.at > self.now {
                return;
            }
            self.floods.pop_front();
            if flood.rounds > 1 {
                self.floods.push_front(Flood {
                    at: self.now + ROUND_TIME,
                    rounds: flood.rounds - 1,
                    ..flood
                });
            }
            self.note(|| format!("{flood:?}"));
            let source = &mut self.sources[0];
            let is_there = source.is_up && source.runs.last().is_some();
            let Some(run) = source.runs.last_mut().filter(|_| is_there) else {
                continue;
            };
            for number in 0..flood.requests {
                let reply = match flood.wants {
                    Wish::One => format!("{FLOODER}.{number}"),
                    Wish::Many => format!("{FLOODER}{number}.0"),
                    Wish::Elsewhere => format!("d.x{number}"),
                };
                let reply = Some(reply.as_bytes());
                run.sender.handle_request(self.now, reply, b"1-1000");
            }
        }
    }
}
