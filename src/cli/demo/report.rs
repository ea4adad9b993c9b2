//! The demonstration's result, for people and for machines.

use std::io::Write;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::broker::FaultStatistics;
use crate::sequence::{Delivery, LineStatistics};

use super::super::text::grouped;
use super::ledger::Ledger;
use super::sources::Run;

#[derive(Debug)]
pub(super) struct Report {
    seed: u64,
    sent: Vec<Run>,
    ledgers: Vec<Ledger>,
    pub(super) link: FaultStatistics,
}

/// The JSON object.
#[derive(Serialize)]
struct Output<'a> {
    ok: bool,
    seed: u64,
    sources: Vec<Row<'a>>,
    link: Link,
}

/// What one receiver knows of one run of one source.
#[derive(Serialize)]
struct Row<'a> {
    receiver: &'static str,
    source: &'a str,
    epoch: u64,
    sent: u64,
    delivered: u64,
    repaired: u64,
    duplicates: u64,
    lost: u64,
}

/// What the link did.
#[derive(Serialize)]
struct Link {
    dropped: u64,
    duplicated: u64,
    reordered: u64,
    delayed: u64,
    truncated: u64,
    cut: u64,
}

impl Report {
    pub(super) fn new(seed: u64, mut sent: Vec<Run>) -> Self {
        sent.sort();
        Self {
            seed,
            sent,
            ledgers: Vec::new(),
            link: FaultStatistics::default(),
        }
    }

    pub(super) fn add(&mut self, ledger: Ledger) {
        self.ledgers.push(ledger);
    }

    pub(super) fn print_json(&self) -> std::io::Result<bool> {
        let ok = self.is_ok();
        let link = Link {
            dropped: self.link.dropped,
            duplicated: self.link.duplicated,
            reordered: self.link.reordered,
            delayed: self.link.delayed,
            truncated: self.link.truncated,
            cut: self.link.cut,
        };
        let output = Output {
            ok,
            seed: self.seed,
            sources: self.rows(),
            link,
        };
        let mut out = std::io::stdout().lock();
        serde_json::to_writer(&mut out, &output)?;
        writeln!(out)?;
        Ok(ok)
    }

    pub(super) fn print_table(&self) -> std::io::Result<bool> {
        let ok = self.is_ok();
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header([
            "receiver",
            "source",
            "run",
            "sent",
            "delivered",
            "of these repaired",
            "duplicates dropped",
            "reported lost",
        ]);
        let mut run = 1_u64;
        let mut last = "";
        for row in self.rows() {
            run = if row.source == last {
                run.saturating_add(1)
            } else {
                1
            };
            last = row.source;
            let numbers = [
                run,
                row.sent,
                row.delivered,
                row.repaired,
                row.duplicates,
                row.lost,
            ];
            let cells = [row.receiver.to_owned(), row.source.to_owned()];
            table.add_row(cells.into_iter().chain(numbers.into_iter().map(grouped)));
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let FaultStatistics {
            dropped,
            duplicated,
            cut,
            ..
        } = self.link;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{table}")?;
        writeln!(
            out,
            "The link dropped {} deliveries, doubled {} and broke {} times (seed {}).",
            grouped(dropped),
            grouped(duplicated),
            grouped(cut),
            self.seed,
        )?;
        let verdict = if ok {
            "ok: every number was delivered once or reported lost once"
        } else {
            "FAILED: some number was neither delivered once nor reported lost once"
        };
        writeln!(out, "{verdict}")?;
        Ok(ok)
    }

    fn is_ok(&self) -> bool {
        self.ledgers.iter().all(|ledger| {
            self.sent.iter().all(|run| {
                let line = line_of(ledger, run);
                let is_counted = line.is_some_and(|line| {
                    line.delivered.saturating_add(line.lost) == run.sent && line.undecided == 0
                });
                is_counted && ledger.is_balanced(run)
            })
        })
    }

    fn rows(&self) -> Vec<Row<'_>> {
        let mut rows = Vec::new();
        for ledger in &self.ledgers {
            for run in &self.sent {
                let line = line_of(ledger, run);
                let count = |of: fn(&LineStatistics) -> u64| line.map_or(0, of);
                rows.push(Row {
                    receiver: name(ledger.delivery),
                    source: run.source.as_str(),
                    epoch: run.epoch,
                    sent: run.sent,
                    delivered: count(|line| line.delivered),
                    repaired: count(|line| line.repaired),
                    duplicates: count(|line| line.duplicates),
                    lost: count(|line| line.lost),
                });
            }
        }
        rows
    }
}

fn line_of<'a>(ledger: &'a Ledger, run: &Run) -> Option<&'a LineStatistics> {
    ledger
        .lines
        .iter()
        .find(|line| line.source == run.source && line.epoch == run.epoch)
}

const fn name(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::Immediate => "immediate",
        Delivery::Ordered => "ordered",
        Delivery::DetectOnly => "detect",
    }
}
