//! Moves a session to another server before the old one ends.
//!
//! ```text
//!   old link   ...messages... PING . PONG ...messages... . . . . . . . . . . PING . PONG  hang
//!   new link                           SUBs PING . PONG . (messages are held) PING . PONG . then they are told
//!                                                    |<--- overlap --->|
//! ```
//!
//! The old server's first answer says that it knows all subscriptions. Were the new one to know them
//! before, what it holds from that time would be told late. An old server that does not answer is
//! waited for as long as the overlap lasts.
//!
//! While both links serve, the old one goes on telling messages and the new one holds its own, so
//! that the order of each publisher is kept. When the old server has said all, the held messages
//! follow, without those that the old link told already. Messages of queue groups go to one link
//! only, and are told as they come; one that another server of the cluster has sent on to the old
//! link's member while it left is not told by anybody, as whenever a member leaves its group.
//!
//! Two messages are taken for copies of one when subscription, subject, reply, headers and payload
//! are the same. Of messages that repeat each other to the byte, what the old link told in the first
//! half of the overlap and before is no reason to swallow what the new one got behind its second PONG:
//! such a message need not have a copy, since servers of the cluster may not yet have known the new
//! one. From then on both links get each message, and pairs are exact. If the old server ends before
//! all that, a repeated message may be lost, since otherwise copies would be told twice.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use crate::wire::{HeaderBlock, Message};

use super::server_addr::ServerAddr;

/// Messages of the old link that are remembered; of more, copies may be told twice.
const REMEMBERED_MAX: usize = 1 << 20;

/// Bytes of messages that the new link may hold; beyond it nothing is read from it for a while.
const HELD_BYTES_MAX: usize = 64 << 20;

/// PINGs of the old server that are answered: it has no reason to send many now.
const PONGS_MAX: u32 = 16;

/// How long after the deadline what had come is read; who looks at the clock later than that has
/// stood still.
const LAST_CALL_TIME: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Move {
    old_link: u64,
    from: ServerAddr,
    to: ServerAddr,
    stage: Stage,
    /// When the new server is to know the subscriptions, come what may; none once it was asked.
    asks_at: Option<Duration>,
    is_registered: bool,
    /// When the first half of the overlap is over, until it is.
    half_at: Option<Duration>,
    /// Whether the old server has confirmed what was published to it.
    is_confirmed: bool,
    /// Answers that the old server owes to PINGs out of the outbox.
    pings_owed: usize,
    pongs_sent: u32,
    deadline: Duration,
    /// Whether what had come before the deadline was left to be read.
    is_last_call: bool,
    in_doubt: u64,
    /// What the old link told since the first half of the overlap is over, and before.
    seen: HashMap<u128, u32>,
    seen_early: HashMap<u128, u32>,
    remembered: usize,
    held: Vec<Message>,
    /// How many of them came in the first half of the overlap: servers that get to know us may send
    /// a message twice.
    held_early: usize,
    /// How many came before the new server answered that nothing of the overlap is under way.
    held_in_overlap: Option<usize>,
    held_bytes: usize,
    /// The outbox's last PING that the new server answered while the old one had not said all.
    held_pong: Option<u64>,
    copies: u64,
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The new server, then its cluster, gets to know where we are. Without a moment: the new server
    /// has not yet answered the PING behind our subscriptions.
    Overlapping { until: Option<Duration> },
    /// The new server was asked, with this PING, for what is under way from it.
    Settling { ping: u64 },
    /// The old server was asked whether it has said all.
    Leaving,
    /// The old link is gone; until this PING of the new one is answered, and for as long as an overlap,
    /// copies may come: the new server may hear of a message later than the old one did.
    Echoing { ping: Option<u64>, until: Duration },
}

/// What makes a message a copy of what the old link told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Once for each time that it was told.
    ByCount,
    /// However often: a server that gets to know the subscriptions of a queue group beside plain ones
    /// may send a message twice.
    AtAll,
}

/// What becomes of a message.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is told now.
    Tell(Message),
    /// It waits, or is a copy of one that was told.
    Keep,
}

/// What an answer of the old server means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OldPong {
    /// One of the outbox's PINGs.
    OfOutbox,
    /// What was published to it has arrived.
    Confirms,
    /// It has said all.
    HasSaidAll,
    Nothing,
}

impl Move {
    /// Begins with both links up. `pings_owed`: PINGs that were written to the old link out of the
    /// outbox and are unanswered; one more follows them.
    pub(crate) fn new(
        old_link: u64,
        from: ServerAddr,
        to: ServerAddr,
        pings_owed: usize,
        asks_at: Duration,
        deadline: Duration,
        seed: u64,
    ) -> Self {
        Self {
            old_link,
            from,
            to,
            stage: Stage::Overlapping { until: None },
            asks_at: Some(asks_at),
            is_registered: false,
            half_at: None,
            is_confirmed: false,
            pings_owed,
            pongs_sent: 0,
            deadline,
            is_last_call: false,
            in_doubt: 0,
            seen: HashMap::new(),
            seen_early: HashMap::new(),
            remembered: 0,
            held: Vec::new(),
            held_early: 0,
            held_in_overlap: None,
            held_bytes: 0,
            held_pong: None,
            copies: 0,
            seed,
        }
    }

    /// Sorts a message of a subscription without a queue group.
    pub(crate) fn handle_message(&mut self, link: u64, message: Message) -> Verdict {
        if link == self.old_link {
            self.remember(&message);
            return Verdict::Tell(message);
        }
        if matches!(self.stage, Stage::Echoing { .. }) {
            return if self.is_copy(&message, Told::ByCount) {
                Verdict::Keep
            } else {
                Verdict::Tell(message)
            };
        }
        self.held_bytes = self.held_bytes.saturating_add(message.frame_len());
        self.held.push(message);
        Verdict::Keep
    }

    /// The new server answered the PING behind our subscriptions. Returns true the first time.
    ///
    /// However late that is, the overlap is whole, and the old server has `patience` after it.
    pub(crate) fn handle_registered(
        &mut self,
        now: Duration,
        overlap: Duration,
        patience: Duration,
    ) -> bool {
        if self.is_registered || self.asks_at.is_some() {
            return false;
        }
        self.is_registered = true;
        if let Stage::Overlapping { until } = &mut self.stage {
            let end = now.saturating_add(overlap);
            *until = Some(end);
            let half = overlap.checked_div(2).unwrap_or_default();
            self.half_at = Some(now.saturating_add(half));
            self.deadline = end.saturating_add(patience);
        }
        true
    }

    /// Returns true, once, when the new server is to be asked for the subscriptions: the old one
    /// knows them, is gone, or was waited for long enough.
    pub(crate) fn handle_asking(&mut self, now: Option<Duration>) -> bool {
        let is_due = |asks_at: Duration| now.is_none_or(|now| now >= asks_at);
        self.asks_at.take_if(|asks_at| is_due(*asks_at)).is_some()
    }

    /// The old server answered a PING.
    pub(crate) const fn handle_old_pong(&mut self) -> OldPong {
        if self.pings_owed > 0 {
            self.pings_owed = self.pings_owed.saturating_sub(1);
            return OldPong::OfOutbox;
        }
        if !self.is_confirmed {
            self.is_confirmed = true;
            return OldPong::Confirms;
        }
        match self.stage {
            Stage::Leaving => OldPong::HasSaidAll,
            Stage::Overlapping { .. } | Stage::Settling { .. } | Stage::Echoing { .. } => {
                OldPong::Nothing
            }
        }
    }

    /// Whether the old server's PING is to be answered.
    pub(crate) const fn handle_old_ping(&mut self) -> bool {
        self.pongs_sent = self.pongs_sent.saturating_add(1);
        self.pongs_sent <= PONGS_MAX
    }

    /// Nothing is read for now: neither server can answer before `deadline`.
    pub(crate) fn handle_standstill(&mut self, deadline: Duration) {
        self.deadline = self.deadline.max(deadline);
    }

    /// Returns true when no answer is waited for any more.
    ///
    /// A program that stood still when the deadline came has heard nothing: it waits for `patience`
    /// anew. In any case both links are read once more before one is given up.
    pub(crate) fn is_late(&mut self, now: Duration, patience: Duration) -> bool {
        let Some(late) = now.checked_sub(self.deadline) else {
            return false;
        };
        let stood_still = late > LAST_CALL_TIME;
        if self.is_last_call && !stood_still {
            return true;
        }
        self.is_last_call = !stood_still;
        let time = if stood_still {
            patience
        } else {
            LAST_CALL_TIME
        };
        self.deadline = now.saturating_add(time);
        false
    }

    /// Sends a PING to the new server with `ask_new` when the overlap is over. Returns true when the
    /// old server is to be asked whether it has said all.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Duration,
        ask_new: impl FnOnce() -> Option<u64>,
    ) -> bool {
        if let Some(half_at) = self.half_at.take_if(|half_at| now >= *half_at) {
            if let Stage::Overlapping { until: Some(until) } = &mut self.stage {
                // The second half is whole, however late we are.
                let half = until.saturating_sub(half_at);
                *until = (*until).max(now.saturating_add(half));
            }
            self.seen_early = std::mem::take(&mut self.seen);
            self.held_early = self.held.len();
        }
        if let Stage::Overlapping { until: Some(until) } = self.stage
            && now >= until
            && self.is_confirmed
            && let Some(ping) = ask_new()
        {
            self.stage = Stage::Settling { ping };
        }
        // Nothing is read from the new server then, and no answer either.
        let is_stuck = self.is_full() && matches!(self.stage, Stage::Settling { .. });
        if is_stuck {
            self.stage = Stage::Leaving;
        }
        is_stuck
    }

    /// The old link is gone. Returns what was held, without the copies.
    pub(crate) fn handle_old_gone(&mut self, ping: Option<u64>, until: Duration) -> Vec<Message> {
        self.stage = Stage::Echoing { ping, until };
        self.held_bytes = 0;
        let mut held = std::mem::take(&mut self.held);
        let mut rest = held.split_off(self.held_in_overlap.unwrap_or_default());
        let mut index = 0_usize;
        held.retain(|message| {
            index = index.saturating_add(1);
            let told = if index <= self.held_early {
                Told::AtAll
            } else {
                Told::ByCount
            };
            !self.is_copy(message, told)
        });
        if self.held_in_overlap.is_some() {
            // What has no copy by now came before the cluster knew where we are.
            self.seen_early = HashMap::new();
        }
        rest.retain(|message| !self.is_copy(message, Told::ByCount));
        held.append(&mut rest);
        held
    }

    /// The new server answered the outbox's PING with this number. Returns true, once, when the move
    /// is to be told.
    pub(crate) fn handle_pong(&mut self, number: u64) -> bool {
        let Stage::Echoing { ping, .. } = &mut self.stage else {
            return false;
        };
        ping.take_if(|ping| number >= *ping).is_some()
    }

    /// The new server answered the outbox's PING with this number: what came before the answer is
    /// held, or the old server is still to tell it. Returns true when the old server is to be asked
    /// whether it has said all.
    pub(crate) fn hold_pong(&mut self, number: u64) -> bool {
        self.held_pong = Some(number);
        let is_settled = matches!(self.stage, Stage::Settling { ping } if number >= ping);
        if is_settled {
            self.held_in_overlap = Some(self.held.len());
            self.stage = Stage::Leaving;
        }
        is_settled
    }

    /// Takes what [`Move::hold_pong`] got last.
    pub(crate) const fn take_pong(&mut self) -> Option<u64> {
        self.held_pong.take()
    }

    /// Whether the move was told.
    pub(crate) const fn is_told(&self) -> bool {
        matches!(self.stage, Stage::Echoing { ping: None, .. })
    }

    /// Returns true when no copy can come any more.
    pub(crate) fn is_over(&self, now: Duration) -> bool {
        matches!(self.stage, Stage::Echoing { ping: None, until } if now >= until)
    }

    /// Messages published to the old server that it did not confirm before it was gone.
    pub(crate) const fn note_in_doubt(&mut self, in_doubt: u64) {
        self.is_confirmed = true;
        self.in_doubt = in_doubt;
    }

    /// When to call [`Move::handle_timeout`]; the old link's end is not waited for after it.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        let due = match self.stage {
            Stage::Echoing { ping: None, until } => return Some(until),
            Stage::Echoing { ping: Some(_), .. } => return None,
            Stage::Settling { .. } if self.is_full() => Some(Duration::ZERO),
            Stage::Overlapping { until } if self.is_confirmed => until.or(self.asks_at),
            Stage::Overlapping { .. } | Stage::Settling { .. } | Stage::Leaving => self.asks_at,
        };
        let due = due.into_iter().chain(self.half_at);
        due.min()
            .map(|due| due.min(self.deadline))
            .or(Some(self.deadline))
    }

    /// The old link, while it serves.
    pub(crate) const fn old_link(&self) -> Option<u64> {
        match self.stage {
            Stage::Echoing { .. } => None,
            Stage::Overlapping { .. } | Stage::Settling { .. } | Stage::Leaving => {
                Some(self.old_link)
            }
        }
    }

    /// Whether the new server was asked for the subscriptions.
    pub(crate) const fn has_asked(&self) -> bool {
        self.asks_at.is_none()
    }

    pub(crate) const fn is_registered(&self) -> bool {
        self.is_registered
    }

    pub(crate) const fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.held_bytes >= HELD_BYTES_MAX
    }

    pub(crate) const fn pings_owed(&self) -> usize {
        self.pings_owed
    }

    pub(crate) const fn from(&self) -> &ServerAddr {
        &self.from
    }

    pub(crate) const fn to(&self) -> &ServerAddr {
        &self.to
    }

    pub(crate) const fn in_doubt(&self) -> u64 {
        self.in_doubt
    }

    /// Messages that came twice and were told once.
    pub(crate) const fn copies(&self) -> u64 {
        self.copies
    }

    fn remember(&mut self, message: &Message) {
        if self.remembered < REMEMBERED_MAX {
            self.remembered = self.remembered.saturating_add(1);
            let count = self.seen.entry(self.fingerprint(message)).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// Whether the old link has told it.
    fn is_copy(&mut self, message: &Message, told: Told) -> bool {
        let fingerprint = self.fingerprint(message);
        let is_meant = |count: &&mut u32| **count > 0 || told == Told::AtAll;
        let newest = self.seen.get_mut(&fingerprint).filter(is_meant);
        let early = self.seen_early.get_mut(&fingerprint).filter(is_meant);
        let Some(count) = newest.or(early) else {
            return false;
        };
        *count = count.saturating_sub(1);
        self.copies = self.copies.saturating_add(1);
        true
    }

    /// 128 bits over everything that the message says.
    fn fingerprint(&self, message: &Message) -> u128 {
        let half = |number: u8| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(self.seed);
            hasher.write_u8(number);
            for part in [
                message.sid(),
                message.subject(),
                message.reply().unwrap_or_default(),
                message.headers().map_or(&[][..], HeaderBlock::raw),
                message.payload(),
            ] {
                hasher.write_usize(part.len());
                hasher.write(part);
            }
            hasher.finish()
        };
        (u128::from(half(0)) << 64) | u128::from(half(1))
    }
}
