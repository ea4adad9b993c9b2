//! Knows what was really sent and what really arrived, and holds what one receiver says against it.
//!
//! Every promise is named by its number, T1 and T2 are about time:
//!
//! ```text
//!   I1   each number owed has one outcome           Oracle::decide, check, check_end
//!   I2   no gap and no loss that was never sent     hear, expect_message
//!   I3   nothing is delivered twice                 decide, also beyond an eviction
//!   I4   the receiver's counts are what was told    check_accounts, check
//!   I5   what is kept or archived is not lost       check_reason, hear, World::speak
//!   I6   a lost tail is found in time               World::judge, beat
//!   I7   wire order is number order                 World::write_pending
//!   I8   a heartbeat follows its data               World::beat, speak
//!   I9   what is refused takes no number            SourceRun::stamp_in_vain
//!   I10  filters and groups make no false loss      hear, check_share, check_chains
//!   I11  tables are bounded                         check, check_gaps, check_reason
//!   I12  repairs stay within budgets and inboxes    Expenses, World::poll_reply, ask
//!   I13  one holder; a later run stays the later    World::settle_claims, step_back
//!   I14  order                                      hear
//!   I15  runs are not mixed                         hear, World::hand_over_message
//!   I16  the same seed, the same story              the_same_seed_tells_the_same_story
//! ```

mod books;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use natseq::sequence::{
    Carrier, Cause, Coverage, Delivery, Event, Heartbeat, LossReason, Prior, Start, Weight,
};
use natseq::subject::Filter;

use super::luck::Luck;
use super::peers::Truth;
use super::plan::{Bounds, Plan, ReceiverPlan, SourcePlan};

/// After so long a silence another run may take the place, at the earliest.
const SILENCE_MIN: Duration = Duration::from_secs(1);

/// What a message weighs.
pub(super) const TAG_BYTES: usize = 16;

/// More messages than a source sends while a receiver asks where it begins.
const HOLD_MUCH: usize = 1_000;

/// One run of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Run {
    pub(super) source: usize,
    pub(super) epoch: u64,
}

impl Run {
    pub(super) fn new(source: &str, epoch: u64) -> Self {
        let source = source.strip_prefix('s').unwrap().parse().unwrap();
        Self { source, epoch }
    }
}

/// A message that says what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) run: Run,
    pub(super) seq: u64,
    pub(super) subject: &'static str,
}

impl Tag {
    /// A message whose subject nobody looks at.
    pub(super) fn new(source: &str, epoch: u64, seq: u64) -> Self {
        Self {
            run: Run::new(source, epoch),
            seq,
            subject: "",
        }
    }
}

impl Weight for Tag {
    fn weight(&self) -> usize {
        TAG_BYTES
    }

    fn subject(&self) -> &[u8] {
        self.subject.as_bytes()
    }
}

/// What is true of a run now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fact {
    pub(super) began: Duration,
    pub(super) taken: u64,
    pub(super) trail: u64,
    pub(super) is_closed: bool,
    pub(super) is_crashed: bool,
}

/// What one receiver may know and what it was told.
#[derive(Debug)]
pub(super) struct Oracle {
    delivery: Delivery,
    start: Start,
    joined: Duration,
    /// What is asked is answered soon.
    loss: f64,
    filter: Filter,
    is_shared: bool,
    is_fifo: bool,
    /// Whether nothing arrives twice or out of order, so that even a forgotten run's numbers do not.
    is_exact: bool,
    /// Whether it waits long enough for what is late.
    is_patient: bool,
    is_lossless: bool,
    has_mailbox: bool,
    holds_much: bool,
    has_cuts: bool,
    /// Whether whoever asks has an answer soon.
    is_prompt: bool,
    /// Whether each message names the one before it on its subject, and they come in order.
    has_chains: bool,
    /// Whether somebody speaks in a source's name.
    is_lied_to: bool,
    bounds: Option<Bounds>,
    /// The scope of each name.
    scopes: BTreeMap<usize, Filter>,
    runs: BTreeMap<Run, Account>,
    /// What was delivered of runs that were forgotten since.
    graves: BTreeMap<Run, BTreeSet<u64>>,
    /// News of runs that should have ended: how often they came, and how often that was told.
    conflicts: BTreeMap<usize, (u64, u64)>,
    /// Runs that were not listened to: the lowest first number, the last number, when, and whether
    /// that was a message.
    refused: BTreeMap<Run, (u64, u64, Duration, bool)>,
    /// The message that came last, where its run had given way.
    refused_news: Option<(Run, u64)>,
    pub(super) luck: Luck,
    /// When numbers were first said to be missing.
    pub(super) first_gap: Option<Duration>,
    pub(super) gaps: u64,
}

/// One run as the receiver should see it.
#[derive(Debug, Default)]
struct Account {
    /// Where the numbers owed begin: at the first contact, or where the receiver can prove that
    /// it was there before the source.
    base_max: u64,
    base_min: u64,
    /// The highest number that anything which arrived has named.
    known: u64,
    heard: Duration,
    next: Duration,
    is_superseded: bool,
    /// Whether the source has answered for it.
    is_proven: bool,
    prior: Option<Prior>,
    is_end_known: bool,
    /// Since this number the receiver knows that it sees a part.
    partial_since: Option<u64>,
    arrived: BTreeSet<u64>,
    suspected: BTreeSet<u64>,
    /// What somebody else sent in its name.
    forged: BTreeSet<u64>,
    /// What had been made up; repairs that were asked for before that are of no use.
    withdrawn: Vec<(u64, u64)>,
    outcomes: BTreeMap<u64, Outcome>,
    delivered: u64,
    repaired: u64,
    lost: u64,
    /// The last number that was delivered; of each subject, where a part is seen.
    last: BTreeMap<&'static str, u64>,
    is_started: bool,
    is_end_told: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Delivered,
    Lost(LossReason),
}

impl Oracle {
    pub(super) fn new(plan: &Plan, own: &ReceiverPlan) -> Self {
        let is_fifo = plan.link.is_fifo && plan.link.stragglers == 0.0;
        let scope = |source: &SourcePlan| (source.name, Filter::new(source.scope).unwrap());
        Self {
            delivery: own.delivery,
            start: own.start,
            joined: own.joins_at,
            loss: plan.link.loss,
            filter: Filter::new(own.filter).unwrap(),
            is_shared: own.is_shared,
            is_fifo,
            is_exact: is_fifo && plan.link.duplication == 0.0,
            is_patient: is_fifo || plan.grace > plan.link.path_time_max(),
            is_lossless: plan.is_lossless,
            has_mailbox: own.mailbox.is_some(),
            holds_much: own.hold_messages_max >= HOLD_MUCH,
            has_cuts: !plan.cuts.is_empty(),
            is_prompt: plan.is_connected()
                && own.mailbox.is_none()
                && plan.limits.is_none()
                && plan.archived.is_none(),
            has_chains: is_fifo && plan.carrier != Carrier::Token && !own.is_shared,
            is_lied_to: !plan.forgeries.is_empty(),
            bounds: plan.bounds,
            scopes: plan.sources.iter().map(scope).collect(),
            runs: BTreeMap::new(),
            graves: BTreeMap::new(),
            conflicts: BTreeMap::new(),
            refused: BTreeMap::new(),
            refused_news: None,
            luck: Luck::default(),
            first_gap: None,
            gaps: 0,
        }
    }

    /// Data or a repair is about to be handed over. Returns true when it must not pass for a copy.
    pub(super) fn expect_message(
        &mut self,
        now: Duration,
        tag: Tag,
        is_repair: bool,
        fact: Fact,
    ) -> bool {
        let Tag { run, seq, .. } = tag;
        if !is_repair && !self.meet(now, run, (seq, seq), true, fact) {
            return false;
        }
        if is_repair {
            self.prove(run);
        }
        let Some(account) = self.runs.get_mut(&run) else {
            return false;
        };
        account.heard = now;
        if account.is_superseded && seq > account.known {
            // An archive may have what nobody announced.
            self.conflicts.entry(run.source).or_default().0 += u64::from(!is_repair);
            self.refused_news = Some((run, seq)).filter(|_| !is_repair);
            return false;
        }
        account.known = account.known.max(seq);
        let is_first = account.arrived.insert(seq) && seq >= account.base_max;
        let outcome = account.outcomes.get(&seq);
        if is_first && !is_repair {
            // The next holder of a name says where the one before ended, and is on its own way.
            let is_told_truth = self.is_fifo && !self.is_lied_to && !account.is_superseded;
            let is_wrong = is_told_truth && account.suspected.contains(&seq);
            assert!(
                !is_wrong,
                "I2: {seq} of {run:?} is no gap, it was on its way"
            );
            // Who only detects has believed what was made up.
            let is_missed = outcome == Some(&Outcome::Lost(LossReason::Missing));
            let is_wrong = self.is_patient && is_missed && !self.is_lied_to;
            assert!(!is_wrong, "I1: {seq} of {run:?} is not lost, only late");
        }
        let mut withdrawn = account.withdrawn.iter();
        let is_late = is_repair && withdrawn.any(|(from, to)| (*from..=*to).contains(&seq));
        is_first && outcome.is_none() && !is_late && !account.forged.contains(&seq)
    }

    /// A message that somebody else sent in a source's name is about to be handed over: what has that
    /// number may be taken for a copy.
    pub(super) fn expect_forgery(&mut self, run: Run, seq: u64) {
        let account = self.account(run);
        account.known = account.known.max(seq);
        account.forged.insert(seq);
    }

    /// A heartbeat is about to be handed over.
    pub(super) fn expect_heartbeat(
        &mut self,
        now: Duration,
        run: Run,
        heartbeat: &Heartbeat,
        is_answer: bool,
        fact: Fact,
    ) {
        let is_end = heartbeat.kind.is_end();
        let numbers = (heartbeat.lead + 1, heartbeat.lead);
        if !is_answer && !self.meet(now, run, numbers, !is_end, fact) {
            return;
        }
        let of_it = |other: &&Run| other.source == run.source;
        let is_latest = self.runs.keys().filter(of_it).max() == Some(&run);
        let asks_nothing = self.delivery == Delivery::DetectOnly || self.is_shared;
        let Some(account) = self.runs.get_mut(&run) else {
            return;
        };
        (account.heard, account.next) = (now, heartbeat.next);
        account.is_superseded &= is_answer || is_end || !is_latest;
        if is_end || !account.is_superseded {
            account.known = account.known.max(heartbeat.lead);
        }
        account.is_end_known |= is_end;
        account.prior = heartbeat.prior.or(account.prior);
        if is_answer || account.is_proven || asks_nothing && account.delivered > 0 {
            self.prove(run);
        }
    }

    /// The source answers for a run: those before it are over.
    fn prove(&mut self, run: Run) {
        let Some(account) = self.runs.get_mut(&run) else {
            return;
        };
        account.is_proven = true;
        let prior = account.prior;
        for (other, account) in &mut self.runs {
            if other.source != run.source || other.epoch >= run.epoch {
                continue;
            }
            account.is_superseded = true;
            if let Some(prior) = prior.filter(|prior| prior.epoch == other.epoch) {
                account.known = account.known.max(prior.lead);
                account.is_end_known = true;
            }
        }
    }

    /// A run makes contact. Returns false when it is not to be heard, for a later one was.
    fn meet(
        &mut self,
        now: Duration,
        run: Run,
        (first, last): (u64, u64),
        is_news: bool,
        fact: Fact,
    ) -> bool {
        if self.runs.contains_key(&run) {
            return true;
        }
        let others = self.runs.keys().filter(|other| other.source == run.source);
        let base_max = match others.max() {
            Some(latest) if latest.epoch > run.epoch => {
                // Those above it may be silent: the receiver tells when it begins.
                if is_news {
                    self.conflicts.entry(run.source).or_default().0 += 1;
                    let before = self.refused.get(&run).map_or(first, |refused| refused.0);
                    let refused = (before.min(first), last, now, first == last);
                    self.refused.insert(run, refused);
                }
                return false;
            }
            Some(_) if self.graves.is_empty() => 1,
            // It may be known from before it was forgotten.
            Some(_) => {
                self.begin(run, first, fact);
                self.account(run).base_min = 1;
                return true;
            }
            None => first,
        };
        self.begin(run, base_max, fact);
        true
    }

    fn begin(&mut self, run: Run, base_max: u64, fact: Fact) {
        let was_forgotten = self.graves.contains_key(&run);
        let is_wanted = self.joined <= fact.began || self.start == Start::Retained;
        let was_there = is_wanted && !was_forgotten;
        let account = Account {
            base_max,
            base_min: if was_there { 1 } else { base_max },
            known: base_max - 1,
            ..Account::default()
        };
        self.runs.insert(run, account);
    }

    /// I13: a run that has given way goes on only when those above it are silent.
    pub(super) fn follow_again(&mut self, now: Duration, highest: impl Fn(Run) -> u64) {
        let Some((run, seq)) = self.refused_news.take() else {
            return;
        };
        if highest(run) < seq {
            return;
        }
        // This was no conflict after all.
        self.conflicts.entry(run.source).or_default().0 -= 1;
        self.silence_above(now, run);
        let is_proven = self.account(run).is_proven;
        let account = self.account(run);
        (account.is_superseded, account.known) = (false, seq);
        account.arrived.insert(seq);
        if is_proven {
            self.prove(run);
        }
    }

    /// Those above a run that takes their place were silent for long enough.
    fn silence_above(&mut self, now: Duration, run: Run) {
        let above = |other: &Run| other.source == run.source && other.epoch > run.epoch;
        for (other, account) in &mut self.runs {
            if above(other) {
                let quiet = (account.next * 3).max(SILENCE_MIN);
                let is_quiet = now >= account.heard + quiet || !account.is_proven;
                let is_over = account.is_superseded || is_quiet;
                assert!(is_over, "I13: {run:?} begins, beside {other:?}");
                account.is_superseded = true;
            }
        }
    }

    /// I13: a run with a lower epoch begins only when those above it are silent.
    fn step_back(&mut self, now: Duration, run: Run, fact: Fact) {
        let Some((first, last, at, is_data)) = self.refused.remove(&run) else {
            return;
        };
        assert_eq!(at, now, "I13: {run:?} begins without a word");
        // This one was no conflict after all.
        self.conflicts.entry(run.source).or_default().0 -= 1;
        self.begin(run, first, fact);
        self.silence_above(now, run);
        let account = self.account(run);
        (account.known, account.heard) = (last.max(first - 1), now);
        if is_data {
            account.arrived.insert(last);
        }
    }

    /// The receiver tells something.
    pub(super) fn hear(&mut self, now: Duration, event: Event<Tag>, truth: Truth<'_>) {
        match event {
            Event::Message { message, origin } => {
                let seq = origin.seq;
                let run = Run::new(origin.source.as_str(), origin.epoch);
                let is_same = (message.run, message.seq) == (run, seq);
                assert!(is_same, "I1: {message:?} is told as {seq} of {run:?}");
                let is_wanted = self.filter.matches(message.subject.as_bytes());
                assert!(is_wanted, "I10: {message:?} is not asked for");
                let is_ordered = self.delivery == Delivery::Ordered;
                let is_owed_all = self.is_owed_all(run);
                let account = self.decide(run, seq, Outcome::Delivered);
                account.delivered += 1;
                account.repaired += u64::from(origin.is_repaired);
                for before in seq - origin.gap_before..seq {
                    let outcome = account.outcomes.get(&before);
                    assert_eq!(outcome, None, "{before} of {run:?} is no gap before {seq}");
                }
                // Who sees a part learns late what is missing on another subject.
                let of = if is_owed_all { "" } else { message.subject };
                let last = account.last.insert(of, seq).unwrap_or_default();
                assert!(!is_ordered || last < seq, "I14: {seq} after {last}");
            }
            Event::Gap {
                source,
                epoch,
                from,
                to,
                cause,
            } => {
                self.check_cause(cause);
                let run = Run::new(source.as_str(), epoch);
                let lead = truth.fact(run).taken;
                assert!(
                    from <= to && (to <= lead || self.is_lied_to),
                    "I2: gap {from}-{to} after {lead}"
                );
                let account = self.account(run);
                for seq in from..=to {
                    let outcome = account.outcomes.get(&seq);
                    assert_eq!(outcome, None, "I2: {seq} of {run:?} is decided, no gap");
                    let is_new = account.suspected.insert(seq);
                    assert!(is_new, "I2: {seq} of {run:?} is a gap for the second time");
                }
                self.first_gap.get_or_insert(now);
                self.gaps += 1;
            }
            Event::Lost {
                source,
                epoch,
                from,
                to,
                reason,
                cause,
            } => {
                self.check_cause(cause);
                let run = Run::new(source.as_str(), epoch);
                let fact = truth.fact(run);
                let lead = fact.taken;
                // Who only detects cannot ask whether it is true.
                let is_fooled = self.is_lied_to && reason == LossReason::Missing;
                if is_fooled {
                    let account = self.account(run);
                    account.known = account.known.max(to);
                }
                assert!(
                    from <= to && (to <= lead || is_fooled),
                    "I2: lost {from}-{to} after {lead}"
                );
                let is_bad_luck =
                    reason == LossReason::Timeout && self.luck.was_bad(now, run, from..=to);
                self.check_reason(run, to, reason, is_bad_luck, fact);
                for seq in from..=to {
                    if seq > lead {
                        self.decide(run, seq, Outcome::Lost(reason)).lost += 1;
                        continue;
                    }
                    let subject = truth.subject(run, seq).as_bytes();
                    let is_mine = self.filter.matches(subject) && !self.is_shared;
                    assert!(is_mine, "I10: {seq} of {run:?} was never meant for it");
                    let may_ask = self.delivery != Delivery::DetectOnly;
                    let is_archived = may_ask && truth.is_archived(run, seq);
                    assert!(!is_archived, "I5: {seq} of {run:?} is archived, and lost");
                    self.decide(run, seq, Outcome::Lost(reason)).lost += 1;
                }
            }
            Event::EpochStarted {
                source,
                epoch,
                previous,
                ..
            } => {
                let run = Run::new(source.as_str(), epoch);
                self.step_back(now, run, truth.fact(run));
                let others = |other: &&Run| other.source == run.source && **other != run;
                let latest = self.runs.keys().filter(others).max();
                // A table that is too small forgets what was before.
                if self.bounds.is_none() {
                    assert_eq!(previous, latest.map(|run| run.epoch), "I15: before {run:?}");
                }
                let account = self.account(run);
                assert!(!account.is_started, "I15: {run:?} begins twice");
                account.is_started = true;
            }
            Event::SourceEnded {
                source,
                epoch,
                last_seq,
            } => {
                let run = Run::new(source.as_str(), epoch);
                let fact = truth.fact(run);
                let is_true = fact.is_closed && last_seq == fact.taken;
                assert!(is_true, "I1: {run:?} has not ended at {last_seq}: {fact:?}");
                let is_lied_to = self.is_lied_to;
                let account = self.account(run);
                let may_end = !account.is_end_told || is_lied_to;
                assert!(may_end, "I1: {run:?} ends twice");
                account.is_end_told = true;
            }
            Event::Withdrawn {
                source,
                epoch,
                from,
                to,
            } => {
                let run = Run::new(source.as_str(), epoch);
                assert!(self.is_lied_to, "I2: {from}-{to} of {run:?} was announced");
                let account = self.account(run);
                let within = account.outcomes.range(from..=to);
                let is_true = |(_, outcome): &(_, &Outcome)| **outcome == Outcome::Delivered;
                let mut undone = within.filter(is_true).map(|(seq, _)| seq);
                let undone = undone.find(|seq| !account.forged.contains(seq));
                assert_eq!(undone, None, "I1: {run:?} has sent what is taken back");
                account.outcomes.retain(|seq, _| !(from..=to).contains(seq));
                account.suspected.retain(|seq| !(from..=to).contains(seq));
                let before = account.outcomes.range(..from).next_back();
                let before = before.map_or(0, |(seq, _)| *seq);
                for last in account.last.values_mut() {
                    *last = before.min(*last);
                }
                account.withdrawn.push((from, to));
            }
            Event::Conflict {
                source,
                epoch,
                count,
            } => {
                let run = Run::new(source.as_str(), epoch);
                let (came, told) = self.conflicts.entry(run.source).or_default();
                *told += count;
                assert!(told <= came, "I15: no conflict with {run:?}");
            }
            Event::SourceSilent { source, epoch } => {
                let run = Run::new(source.as_str(), epoch);
                let account = self.account(run);
                let promise = account.heard + account.next * 2;
                // Whoever was lied to believes nothing until the source itself answers.
                assert!(
                    now >= promise || self.is_lied_to,
                    "{run:?} promised to be heard by {promise:?}"
                );
            }
            Event::Unsequenced { .. } => panic!("every message has a stamp"),
            Event::SourceEvicted { source, epoch } => {
                assert!(self.bounds.is_some(), "I11: there is room for every source");
                let run = Run::new(source.as_str(), epoch);
                let account = self.runs.remove(&run).unwrap();
                let is_delivered = |(_, outcome): &(_, _)| *outcome == Outcome::Delivered;
                let delivered = account.outcomes.into_iter().filter(is_delivered);
                let grave = self.graves.entry(run).or_default();
                grave.extend(delivered.map(|(seq, _)| seq));
            }
            Event::CoverageChanged {
                source,
                epoch,
                coverage,
            } => {
                let run = Run::new(source.as_str(), epoch);
                let account = self.account(run);
                account.partial_since =
                    Some(account.known).filter(|_| coverage == Coverage::Partial);
                let is_true = match coverage {
                    Coverage::Strict => self.is_owed_all(run),
                    Coverage::Partial => !self.is_owed_all(run),
                    _ => true,
                };
                assert!(is_true, "I10: {run:?} is not {coverage:?}");
            }
            event => panic!("unknown to the simulator: {event:?}"),
        }
    }

    /// An archive has told how much a run has sent.
    pub(super) fn learn(&mut self, run: Run, highest: u64) {
        if let Some(account) = self.runs.get_mut(&run) {
            account.known = account.known.max(highest);
        }
    }

    /// Whether a run was heard of.
    pub(super) fn has_met(&self, run: Run) -> bool {
        self.runs.contains_key(&run)
    }

    /// Whether every number of a run is meant for the receiver.
    fn is_owed_all(&self, run: Run) -> bool {
        !self.is_shared && self.scopes[&run.source].is_subset_of(&self.filter)
    }

    /// A cause is named only where it can be one.
    fn check_cause(&self, cause: Cause) {
        let is_possible = match cause {
            Cause::DroppedHere => self.has_mailbox || self.delivery == Delivery::Ordered,
            Cause::ConnectionWindow => self.has_cuts,
            Cause::SourceConnection => self.has_cuts || self.is_lied_to,
            _ => true,
        };
        assert!(is_possible, "I1: {cause} made nothing go missing");
    }

    fn check_reason(&self, run: Run, to: u64, reason: LossReason, is_bad_luck: bool, fact: Fact) {
        let detects = self.delivery == Delivery::DetectOnly;
        let is_missing = reason == LossReason::Missing;
        assert!(
            is_missing == detects || reason == LossReason::Overflow,
            "I1: {reason} of {run:?}, by {:?}",
            self.delivery
        );
        let is_safe = self.is_lossless && !fact.is_crashed && !detects && !is_bad_luck;
        assert!(
            !is_safe,
            "I5: {to} of {run:?} is retained and lost ({reason})"
        );
        let is_gone = reason != LossReason::NotRetained || to < fact.trail;
        assert!(is_gone, "I5: {to} of {run:?} is retained, {fact:?}");
        let is_late = reason == LossReason::Timeout && to < fact.trail;
        let is_silent = fact.is_closed || fact.is_crashed || !self.is_prompt;
        assert!(
            !is_late || is_silent,
            "I1: {to} of {run:?} is not retained, and nobody said so"
        );
        let has_room = self.bounds.is_none();
        let is_full = reason == LossReason::Overflow;
        assert!(!is_full || !has_room, "I11: no table is full");
    }

    fn decide(&mut self, run: Run, seq: u64, outcome: Outcome) -> &mut Account {
        let is_back = self.is_exact && outcome == Outcome::Delivered;
        let grave = self.graves.get(&run).filter(|_| is_back);
        let is_twice = grave.is_some_and(|grave| grave.contains(&seq));
        assert!(!is_twice, "I3: {seq} of {run:?}, which was forgotten");
        let account = self.account(run);
        let owed = account.base_min..=account.known;
        assert!(
            owed.contains(&seq),
            "I1: {seq} of {run:?} is not owed, {owed:?}"
        );
        if let Some(before) = account.outcomes.insert(seq, outcome) {
            panic!("I1 and I3: {seq} of {run:?} is {outcome:?} and was {before:?}");
        }
        account
    }

    fn account(&mut self, run: Run) -> &mut Account {
        let account = self.runs.get_mut(&run);
        account.unwrap_or_else(|| panic!("I2: {run:?} was never heard"))
    }
}
