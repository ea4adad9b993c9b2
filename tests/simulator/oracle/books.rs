//! The receiver's own counts, held against what it has told, at every step and in the end.

use std::time::Duration;

use natseq::sequence::{Cause, Delivery, LineStatistics, LossReason, Receiver, Start};

use super::{Account, Fact, Oracle, Outcome, Run, Tag, Truth};

/// A source that begins so long after a receiver has subscribed can prove it when it is asked.
const PROOF_TIME: Duration = Duration::from_millis(60);
/// The same for a receiver that does not ask.
const UNASKED_PROOF_TIME: Duration = Duration::from_millis(1_100);

impl Oracle {
    /// I4, by the receiver's own counts.
    pub(crate) fn check_accounts(receiver: &Receiver<Tag>) {
        for line in receiver.statistics() {
            assert!(line.is_balanced(), "I4: {line:?}");
            let lost: u64 = LossReason::ALL.map(|why| line.lost_for(why)).iter().sum();
            let caused: u64 = Cause::ALL.map(|cause| line.lost_by(cause)).iter().sum();
            assert_eq!((lost, caused), (line.lost, line.lost), "I4: {line:?}");
            let is_dated = line.first_loss.is_some() && line.first_loss <= line.last_loss;
            assert_eq!(is_dated, line.lost > 0, "I4: {line:?}");
            let is_timed = line.repair_p50.is_some() && line.repair_p50 <= line.repair_p99;
            assert!(is_timed || line.repaired == 0, "I4: {line:?}");
        }
    }

    /// Something was handled and every event was taken.
    pub(crate) fn check(&self, receiver: &Receiver<Tag>) {
        Self::check_accounts(receiver);
        let mut count = 0;
        for line in receiver.statistics() {
            let run = Run::new(line.source.as_str(), line.epoch);
            count += 1;
            let account = self.runs.get(&run);
            let account = account.unwrap_or_else(|| panic!("I2: {run:?} was never heard"));
            let told = (account.delivered, account.repaired, account.lost);
            let counted = (line.delivered, line.repaired, line.lost);
            assert_eq!(counted, told, "I4: what was told of {line:?}");
            assert!(account.is_started, "I15: {run:?} was not announced");
            if !self.is_owed_all(run) || self.is_lied_to {
                continue;
            }
            let bases = account.base_min..=account.base_max;
            assert!(
                bases.contains(&line.base),
                "I1: {line:?} begins at {bases:?}"
            );
            assert_eq!(line.highest, account.known, "I1: what {line:?} is owed");
            let may_end = account.is_end_known && line.undecided == 0;
            assert!(may_end || !account.is_end_told, "I1: the end of {line:?}");
            let has_claims = line.unverifiable == 0 && self.delivery != Delivery::Ordered;
            if self.bounds.is_some() && has_claims {
                self.check_gaps(&line, account);
            }
        }
        assert_eq!(count, self.runs.len(), "I1: every run that was heard");
        let sources_max = self.bounds.map_or(usize::MAX, |bounds| bounds.sources_max);
        assert!(count <= sources_max, "I11: {count} runs");
    }

    /// I11: ranges of undecided numbers are gaps.
    fn check_gaps(&self, line: &LineStatistics, account: &Account) {
        let is_open = |seq: &u64| !account.outcomes.contains_key(seq);
        let is_start = |seq: &u64| is_open(seq) && (*seq == line.base || !is_open(&(seq - 1)));
        let gaps = (line.base..=line.highest).filter(is_start).count();
        let bound = self.bounds.map_or(usize::MAX, |bounds| bounds.gaps_max);
        assert!(gaps <= bound, "I11: {gaps} gaps, {line:?}");
    }

    /// Everything is over.
    pub(crate) fn check_end(&self, lines: &[LineStatistics], truth: Truth<'_>) {
        for line in lines {
            let run = Run::new(line.source.as_str(), line.epoch);
            let fact = truth.fact(run);
            assert_eq!(line.undecided, 0, "I1: {line:?}");
            let account = &self.runs[&run];
            if !self.is_owed_all(run) {
                self.check_share(run, account);
                self.check_chains(run, account, truth);
                continue;
            }
            let open = (line.base..=line.highest).filter(|seq| !account.outcomes.contains_key(seq));
            assert_eq!(
                open.count() as u64,
                line.unverifiable,
                "I1: no outcome, {line:?}"
            );
            let may_lose =
                self.delivery == Delivery::DetectOnly || fact.is_crashed || self.is_lied_to;
            let has_claims = line.unverifiable == 0 || may_lose || !self.is_lossless;
            assert!(has_claims, "I5: given up without a claim, {line:?}");
            let is_told_truth = self.delivery == Delivery::DetectOnly || !account.is_end_told;
            assert!(
                is_told_truth || line.highest == fact.taken,
                "I1: {} were sent, {line:?}",
                fact.taken
            );
            let is_end_due = account.is_end_known == account.is_end_told;
            assert!(is_end_due, "I1: the end of {line:?}");
            let is_whole =
                line.base == 1 || account.base_min > 1 || !self.is_owed_first(fact, account);
            assert!(is_whole, "I1: it is owed from 1 on, {line:?}");
        }
        for (source, (came, told)) in &self.conflicts {
            assert!(
                *came == 0 || *told > 0,
                "I15: a conflict of {source} is not told"
            );
        }
    }

    /// Whether a run that makes contact late is owed from its beginning, and the source has told.
    fn is_owed_first(&self, fact: Fact, account: &Account) -> bool {
        let is_told = match self.delivery {
            Delivery::Immediate => self.loss <= 0.1,
            // The next run may tell the end of this one before it is heard itself.
            Delivery::DetectOnly => self.loss == 0.0 && !account.is_superseded,
            // Order waits only for a few questions, and while there is room.
            _ => self.loss == 0.0 && self.holds_much && !self.has_cuts,
        };
        let proof = match self.delivery {
            Delivery::DetectOnly => UNASKED_PROOF_TIME,
            _ => PROOF_TIME,
        };
        let is_retained = fact.trail == 1 && self.delivery != Delivery::DetectOnly;
        let is_wanted = match self.start {
            Start::Retained => is_retained,
            _ => fact.began >= self.joined + proof,
        };
        // Whoever forgot something cannot know that it was not this.
        is_told && is_wanted && !fact.is_crashed && self.graves.is_empty()
    }

    /// I1, where nobody knows what else is owed: what arrives is delivered.
    fn check_share(&self, run: Run, account: &Account) {
        for seq in account.arrived.iter().filter(|_| self.is_fifo) {
            let outcome = account.outcomes.get(seq);
            let is_delivered = outcome == Some(&Outcome::Delivered);
            assert!(
                is_delivered,
                "I10: {seq} of {run:?} arrived, and is {outcome:?}"
            );
        }
    }

    /// I10, where a part is seen: what a message names as the one before it on its subject has an
    /// outcome.
    fn check_chains(&self, run: Run, account: &Account, truth: Truth<'_>) {
        let Some(since) = account.partial_since.filter(|_| self.has_chains) else {
            return;
        };
        let delivered = account.outcomes.iter();
        let delivered = delivered.filter(|(_, outcome)| **outcome == Outcome::Delivered);
        for (seq, _) in delivered {
            let subject = truth.subject(run, *seq);
            let mut before = (since + 1..*seq).rev();
            let before = before.find(|before| truth.subject(run, *before) == subject);
            let is_told = before.is_none_or(|before| account.outcomes.contains_key(&before));
            assert!(
                is_told,
                "I10: {before:?} of {run:?} is missing before {seq}"
            );
        }
    }
}
