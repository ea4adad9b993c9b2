//! Keeps the receiver honest: counts the outcomes of every number, apart from its own counts.

use std::collections::BTreeMap;

use crate::sequence::{Delivery, LineStatistics, Origin, SourceName};

use super::sources::Run;

/// What one receiver was told about each number.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) delivery: Delivery,
    pub(super) lines: Vec<LineStatistics>,
    accounts: BTreeMap<(SourceName, u64), Account>,
}

#[derive(Debug, Default)]
struct Account {
    /// Outcomes of each number, from 1.
    outcomes: Vec<u8>,
    last: u64,
    is_out_of_order: bool,
}

impl Ledger {
    pub(super) const fn new(delivery: Delivery) -> Self {
        Self {
            delivery,
            lines: Vec::new(),
            accounts: BTreeMap::new(),
        }
    }

    pub(super) fn note_delivered(&mut self, origin: &Origin) {
        let account = self.account(&origin.source, origin.epoch);
        account.is_out_of_order |= origin.seq <= account.last;
        account.last = origin.seq;
        account.note(origin.seq);
    }

    pub(super) fn note_lost(&mut self, source: &SourceName, epoch: u64, from: u64, to: u64) {
        let account = self.account(source, epoch);
        for seq in from..=to {
            account.note(seq);
        }
    }

    /// Whether every number of the run had exactly one outcome, in order where order was promised.
    pub(super) fn is_balanced(&self, run: &Run) -> bool {
        let Some(account) = self.accounts.get(&(run.source.clone(), run.epoch)) else {
            return run.sent == 0;
        };
        let count = u64::try_from(account.outcomes.len()).unwrap_or(u64::MAX);
        let is_ordered = self.delivery != Delivery::Ordered || !account.is_out_of_order;
        count == run.sent && is_ordered && account.outcomes.iter().all(|outcomes| *outcomes == 1)
    }

    fn account(&mut self, source: &SourceName, epoch: u64) -> &mut Account {
        self.accounts.entry((source.clone(), epoch)).or_default()
    }
}

impl Account {
    fn note(&mut self, seq: u64) {
        let Some(index) = usize::try_from(seq).ok().and_then(|seq| seq.checked_sub(1)) else {
            return;
        };
        if self.outcomes.len() <= index {
            self.outcomes.resize(index.saturating_add(1), 0);
        }
        if let Some(outcomes) = self.outcomes.get_mut(index) {
            *outcomes = outcomes.saturating_add(1);
        }
    }
}
