//! Names that are claimed: what sources say to each other about them.

use std::collections::BTreeMap;
use std::time::Duration;

use natseq::sequence::{Claim, ClaimOutcome, NameNotice, NoticeKind, Prior};

use super::peers::Source;
use super::plan::MILLI;
use super::world::World;

/// The longest that a notice is on its way.
const NOTICE_TIME_MAX: Duration = Duration::from_millis(3);
/// Two that hold a name and hear each other know after this time which of them does not.
const DECISION_TIME: Duration = Duration::from_millis(20);
/// Between holding a name and the first message under it.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// Where answers to who claims go.
pub(super) const CLAIMANT: &str = "_INBOX.claimant.";

/// A source that claims its name.
#[derive(Debug)]
pub(super) struct Claiming {
    claim: Claim,
    nonce: u64,
    /// Before it says that the name is its own, it hears what others say.
    is_listening: bool,
}

/// What a claim has won.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) epoch: u64,
    pub(super) prior: Option<Prior>,
    pub(super) nonce: u64,
}

/// What is on its way between sources: nothing of it is lost while both are connected.
#[derive(Debug, Default)]
pub(super) struct Notices {
    waiting: BTreeMap<(Duration, u64), Said>,
    count: u64,
    /// When the last one from one to another comes.
    last: BTreeMap<(usize, usize), Duration>,
}

#[derive(Debug)]
struct Said {
    from: usize,
    to: usize,
    connections: (u64, u64),
    /// `None`: nobody hears the name's subject.
    notice: Option<NameNotice>,
    wants_answer: bool,
}

impl Notices {
    pub(super) fn next(&self) -> Option<Duration> {
        self.waiting.keys().next().map(|(at, _)| *at)
    }
}

impl Source {
    /// When its claim waits for something.
    pub(super) fn claim_due(&self) -> Option<Duration> {
        let claiming = self.claim.as_ref().filter(|_| self.is_up)?;
        claiming.claim.poll_timeout()
    }

    fn hears_its_name(&self, now: Duration) -> bool {
        let is_listening = self.claim.as_ref().is_some_and(|of| of.is_listening);
        let has_run = self.runs.last().is_some_and(|run| !run.is_gone(now));
        self.is_up && (is_listening || self.held.is_some() && has_run)
    }

    /// Since when it holds its name, connected to all others.
    fn holds_since(&self) -> Option<Duration> {
        let run = self
            .runs
            .last()
            .filter(|_| self.is_up && self.held.is_some())?;
        let is_live = !run.sender.is_closed() && !run.is_crashed;
        is_live.then(|| run.began.max(self.up_since))
    }
}

impl World {
    /// A source wants its name.
    pub(super) fn claim(&mut self, index: usize) {
        let nonce = self.jitter.next_u64();
        let source = &mut self.sources[index];
        let Some(policy) = source.plan.claims else {
            return;
        };
        source.acts_at = Duration::MAX;
        source.claim = Some(Claiming {
            claim: Claim::new(policy, source.plan.epoch, nonce, self.now),
            nonce,
            is_listening: false,
        });
    }

    /// Claims say what they have to say, and end.
    pub(super) fn settle_claims(&mut self) {
        for index in 0..self.sources.len() {
            self.settle_claim(index);
        }
        let holders = self.sources.iter().enumerate();
        let holders = holders.filter(|(_, source)| {
            let since = source.holds_since();
            since.is_some_and(|since| self.now > since + DECISION_TIME)
        });
        let mut by_name = BTreeMap::new();
        for (index, source) in holders {
            let other = by_name.insert(source.plan.name, index);
            assert!(other.is_none(), "I13: {other:?} and {index} hold one name");
        }
    }

    fn settle_claim(&mut self, index: usize) {
        let now = self.now;
        loop {
            let source = &mut self.sources[index];
            let Some(of) = source.claim.as_mut().filter(|_| source.is_up) else {
                return;
            };
            of.claim.handle_timeout(now);
            let Some(notice) = of.claim.poll_notice() else {
                break;
            };
            of.is_listening |= notice.kind == NoticeKind::Claim;
            self.publish_notice(index, notice, true);
        }
        let source = &mut self.sources[index];
        let Some(of) = &source.claim else { return };
        let nonce = of.nonce;
        match of.claim.outcome() {
            Some(ClaimOutcome::Held { epoch, prior }) => {
                source.held = Some(Held {
                    epoch,
                    prior,
                    nonce,
                });
                source.acts_at = now + FIRST_PAUSE;
                source.claim = None;
                self.begin_run(index);
                self.speak(index, 0);
            }
            Some(ClaimOutcome::InUse { .. }) => {
                source.claim = None;
                source.is_done = true;
                self.note(|| format!("source {index} does without its name"));
            }
            Some(_) | None => {}
        }
    }

    /// Says something where the name is talked about.
    pub(super) fn publish_notice(&mut self, from: usize, notice: NameNotice, wants_answer: bool) {
        self.note(|| format!("source {from} says {notice:?}"));
        let name = self.sources[from].plan.name;
        let others = self.sources.iter().enumerate().filter(|(index, other)| {
            *index != from && other.plan.name == name && other.hears_its_name(self.now)
        });
        let others: Vec<usize> = others.map(|(index, _)| index).collect();
        // It hears its own claims.
        if others.is_empty() && notice.kind == NoticeKind::Ask {
            self.say(from, from, None, false);
        }
        for to in others {
            self.say(from, to, Some(notice), wants_answer);
        }
    }

    /// Somebody answers who claims.
    pub(super) fn answer_claimant(&mut self, from: usize, to: &str, notice: NameNotice) {
        self.note(|| format!("source {from} answers {notice:?}"));
        let to = to.strip_prefix(CLAIMANT).unwrap().parse().unwrap();
        self.say(from, to, Some(notice), false);
    }

    fn say(&mut self, from: usize, to: usize, notice: Option<NameNotice>, wants_answer: bool) {
        let connection = |index: usize| self.sources[index].connection;
        let connections = (connection(from), connection(to));
        let time = NOTICE_TIME_MAX.mul_f64(self.jitter.unit()).max(MILLI / 10);
        let notices = &mut self.notices;
        let last = notices.last.entry((from, to)).or_default();
        *last = (*last).max(self.now + time);
        notices.count += 1;
        let said = Said {
            from,
            to,
            connections,
            notice,
            wants_answer,
        };
        notices.waiting.insert((*last, notices.count), said);
    }

    /// What was said is heard.
    pub(super) fn hear_notices(&mut self) {
        let now = self.now;
        while let Some(entry) = self.notices.waiting.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let said = entry.remove();
            let connection = |index: usize| self.sources[index].connection;
            if (connection(said.from), connection(said.to)) != said.connections {
                continue;
            }
            let to = &mut self.sources[said.to];
            let Some(notice) = said.notice else {
                if let Some(of) = &mut to.claim {
                    of.claim.handle_no_responders(now);
                }
                continue;
            };
            if let Some(of) = &mut to.claim {
                of.claim.handle_notice(now, &notice);
            } else if let Some(run) = to.runs.last_mut().filter(|run| !run.is_gone(now)) {
                let reply = format!("{CLAIMANT}{}", said.from);
                let reply = said.wants_answer.then_some(reply.as_bytes());
                run.sender.handle_notice(now, reply, &notice);
            }
        }
    }

    /// A run whose name was taken over ends, and its source with it.
    pub(super) fn note_fenced(&mut self, index: usize, run: usize) {
        let of = &mut self.sources[index].runs[run];
        if of.sender.fenced_by().is_some() && !of.is_closed {
            of.is_closed = true;
            self.sources[index].is_done = true;
        }
    }
}
