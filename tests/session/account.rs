//! What the owner did and was told, and whether the two agree.
//!
//! Of each published message it knows where it went; of each subscription, what came.

use std::collections::{BTreeMap, BTreeSet};

use natseq::session::{Event, Outbox, Route, Session};
use natseq::wire::Message;

/// A subscription, as its owner knows it.
#[derive(Debug)]
pub(crate) struct Mine {
    pub(crate) filter: String,
    pub(crate) group: Option<String>,
    pub(crate) delivered: u64,
    pub(crate) max: Option<u64>,
    pub(crate) is_draining: bool,
    /// It was drained before a flush that is answered: nothing more comes.
    is_drained: bool,
    /// The last message of each publisher, and the epoch in which it came.
    last: BTreeMap<u64, (u64, u64)>,
    seen: BTreeSet<(u64, u64)>,
}

impl Mine {
    /// What a server has to know of its maximum.
    pub(crate) fn told_left(&self) -> Option<u64> {
        let max = self.max.filter(|max| *max < TOLD_MAX)?;
        Some(max - self.delivered)
    }
}

/// Servers read longer maximums as "now": the client keeps them to itself.
const TOLD_MAX: u64 = 1_000_000_000;

/// What became of a published message.
#[derive(Debug, Clone, Copy, Default)]
struct Fate {
    link: Option<u64>,
    has_arrived: bool,
    is_in_doubt: bool,
}

/// What was published to one link.
#[derive(Debug, Default)]
struct Written {
    numbers: Vec<u64>,
    /// How many of them its server has confirmed.
    confirmed: u64,
    is_accounted: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) subs: BTreeMap<u64, Mine>,
    /// Draining subscriptions, and the last link that may ask for each.
    drained: BTreeMap<u64, u64>,
    fates: Vec<Fate>,
    taken: u64,
    written: BTreeMap<u64, Written>,
    /// What was published before each link began to serve.
    entered_published: Vec<u64>,
    /// Links in the order in which they began to serve.
    pub(crate) entered: Vec<u64>,
    /// What was published before each flush, and what was draining.
    pub(crate) flushes: BTreeMap<u64, (u64, Vec<u64>)>,
    answered: u64,
    /// Between two epochs messages may be missing.
    pub(crate) epoch: u64,
    pub(crate) in_doubt: u64,
    pub(crate) moves: u64,
    pub(crate) copies: u64,
    pub(crate) told: u64,
    pub(crate) connects: u64,
    pub(crate) closed: Option<String>,
}

impl Account {
    pub(crate) fn published(&self) -> u64 {
        self.fates.len() as u64
    }

    pub(crate) fn note_published(&mut self) {
        self.fates.push(Fate::default());
    }

    pub(crate) fn note_subscribed(&mut self, sid: u64, filter: &str, group: Option<&str>) {
        let mine = Mine {
            filter: filter.into(),
            group: group.map(Into::into),
            delivered: 0,
            max: None,
            is_draining: false,
            is_drained: false,
            last: BTreeMap::new(),
            seen: BTreeSet::new(),
        };
        let before = self.subs.insert(sid, mine);
        assert!(before.is_none(), "sid {sid} is used twice");
    }

    /// The outbox's PING with this number was queued.
    pub(crate) fn note_flush(&mut self, ping: u64) {
        let draining = self.subs.iter().filter(|(_, mine)| mine.is_draining);
        let draining = draining.map(|(sid, _)| *sid).collect();
        self.flushes.insert(ping, (self.published(), draining));
    }

    pub(crate) fn note_draining(&mut self, sid: u64) {
        let last = self.entered.last().copied();
        if let Some(mine) = self.subs.get_mut(&sid)
            && !mine.is_draining
        {
            mine.is_draining = true;
            self.drained.insert(sid, last.unwrap_or_default());
        }
    }

    /// A server was asked for these.
    pub(crate) fn note_asked(&self, link: u64, subs: &[u64]) {
        for sid in subs {
            let until = self.drained.get(sid);
            assert!(
                until.is_none_or(|until| link <= *until),
                "draining subscription {sid} was restored on link {link}"
            );
        }
    }

    /// Messages were taken for this link.
    pub(crate) fn note_taken(&mut self, link: u64, count: u64) {
        let written = self.written.entry(link).or_default();
        for _ in 0..count {
            self.taken += 1;
            written.numbers.push(self.taken);
            fate(&mut self.fates, self.taken).link = Some(link);
        }
    }

    /// A server has read this message.
    pub(crate) fn note_arrived(&mut self, link: u64, number: u64, is_open: impl Fn(u64) -> bool) {
        let before = usize::try_from(number).expect("few") - 1;
        for (index, fate) in self.fates[..before].iter().enumerate() {
            let is_gone = fate.link.is_some_and(|of| of != link && !is_open(of));
            assert!(
                fate.has_arrived || fate.is_in_doubt || is_gone,
                "message {number} overtakes {}",
                index + 1
            );
        }
        let fate = fate(&mut self.fates, number);
        assert!(!fate.has_arrived, "message {number} arrives twice");
        assert_eq!(fate.link, Some(link), "message {number}");
        fate.has_arrived = true;
    }

    /// The client has read a PONG behind so many messages.
    pub(crate) fn note_confirmed(&mut self, link: u64, count: u64) {
        self.written.entry(link).or_default().confirmed = count;
    }

    pub(crate) fn note_entered(&mut self, link: u64, generation: u64) {
        self.entered.push(link);
        self.entered_published.push(self.published());
        assert_eq!(self.entered.len() as u64, generation);
    }

    /// The outbox's PING with this number is answered.
    pub(crate) fn note_answered(&mut self, ping: u64) {
        assert!(ping > self.answered, "PING {ping} after {}", self.answered);
        self.answered = ping;
        let Some((published, drained)) = self.flushes.get(&ping) else {
            return;
        };
        for sid in drained {
            if let Some(mine) = self.subs.get_mut(sid) {
                mine.is_drained = true;
            }
        }
        for number in 1..=*published {
            let fate = fate(&mut self.fates, number);
            assert!(
                fate.has_arrived || fate.is_in_doubt,
                "flush {ping} is answered and message {number} has not arrived"
            );
        }
    }

    /// Takes what is unconfirmed on this link for in doubt.
    fn doubt(&mut self, link: u64) -> u64 {
        let written = self.written.entry(link).or_default();
        if std::mem::replace(&mut written.is_accounted, true) {
            return 0;
        }
        let confirmed = usize::try_from(written.confirmed).expect("few");
        let doubtful = &written.numbers[confirmed..];
        for number in doubtful {
            fate(&mut self.fates, *number).is_in_doubt = true;
        }
        doubtful.len() as u64
    }

    pub(crate) fn note_event(&mut self, event: &Event) {
        match event {
            Event::Connected { generation, .. } => {
                assert!(*generation <= self.entered.len() as u64);
                // Of a connection that was left before, what has not arrived is told with the move.
                let has_moved = *generation < self.entered.len() as u64;
                let index = usize::try_from(*generation).expect("few") - 1;
                let published = self.entered_published[index];
                for number in 1..=if has_moved { 0 } else { published } {
                    let fate = fate(&mut self.fates, number);
                    assert!(
                        fate.has_arrived || fate.is_in_doubt,
                        "connected is told and message {number} has not arrived"
                    );
                }
                self.connects += 1;
            }
            Event::Disconnected { in_doubt, .. } => {
                let links = self.entered.clone();
                let expected: u64 = links.iter().map(|link| self.doubt(*link)).sum();
                assert_eq!(*in_doubt, expected, "messages in doubt");
                self.in_doubt += in_doubt;
                self.epoch += 1;
            }
            Event::Moved(moved) => {
                let index = usize::try_from(moved.generation).expect("few");
                let old = self.entered[index - 2];
                let expected = self.doubt(old);
                assert_eq!(moved.in_doubt, expected, "messages in doubt at a move");
                self.in_doubt += expected;
                self.moves += 1;
                self.copies += moved.copies;
            }
            Event::Closed {
                reason,
                discarded_messages,
            } => {
                assert!(self.closed.is_none(), "closed twice");
                let discarded = self.published() - self.taken;
                assert_eq!(*discarded_messages, discarded, "messages discarded");
                let reason = reason.as_ref().map(ToString::to_string);
                self.closed = Some(reason.unwrap_or_default());
            }
            _ => {}
        }
    }

    /// A message was told. `is_strict`: none may be missing.
    pub(crate) fn note_message(&mut self, message: &Message, route: Route, is_strict: bool) {
        let sid = message.sid_number().expect("a number");
        let payload = String::from_utf8_lossy(message.payload());
        let (publisher, number) = payload.split_once('.').expect("publisher.number");
        let (publisher, number): (u64, u64) = (publisher.parse().unwrap(), number.parse().unwrap());
        let epoch = self.epoch;
        let Some(mine) = self.subs.get_mut(&sid) else {
            assert_eq!(route, Route::Nowhere, "sid {sid}");
            return;
        };
        assert!(
            !mine.is_drained,
            "sid {sid} is drained and told {payload} behind the answered flush"
        );
        self.told += 1;
        mine.delivered += 1;
        let has_ended = mine.max.is_some_and(|max| mine.delivered >= max);
        let Route::Mailbox { is_last, .. } = route else {
            panic!("{route:?} for sid {sid}, which is alive");
        };
        assert_eq!(is_last, has_ended, "sid {sid}: {mine:?}");
        let is_new = mine.seen.insert((publisher, number));
        assert!(is_new, "sid {sid} is told {payload} twice");
        let last = mine.last.insert(publisher, (number, epoch));
        // Members of a queue group get what falls to them. An old server that stands still while
        // the session moves cannot keep its order.
        if let Some((last, of)) = last
            && mine.group.is_none()
            && is_strict
            && of == epoch
        {
            assert!(number > last, "sid {sid} is told {payload} after {last}");
            assert!(
                number == last + 1 || mine.is_draining,
                "sid {sid} is told {payload} after {last}: some are missing"
            );
        }
        if has_ended {
            self.subs.remove(&sid);
        }
    }

    /// What must be true at any time.
    pub(crate) fn check(&mut self, session: &Session, outbox: &Outbox, frame_bytes_max: usize) {
        assert_eq!(outbox.published().0, self.published());
        assert_eq!(outbox.waiting_messages(), self.published() - self.taken);
        let waiting = outbox.waiting_bytes();
        assert!(waiting <= frame_bytes_max, "{waiting} bytes wait");
        assert_eq!(session.subscriptions_len(), self.subs.len());
        assert_eq!(session.generation(), self.entered.len() as u64);
        let answered = outbox.pings_answered();
        self.flushes.retain(|ping, _| *ping > answered);
    }

    /// What must be true when nothing is under way any more.
    pub(crate) fn check_end(&self) {
        for (index, fate) in self.fates.iter().enumerate() {
            assert!(
                fate.has_arrived || fate.is_in_doubt,
                "message {} is lost and nobody said so: {fate:?}",
                index + 1
            );
        }
    }
}

fn fate(fates: &mut [Fate], number: u64) -> &mut Fate {
    let index = usize::try_from(number).expect("few") - 1;
    fates.get_mut(index).expect("it was published")
}
