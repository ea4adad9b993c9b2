//! What `natseq sub --json` prints: one object for each event, and the accounting at the end.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;

use serde::Serialize;

use crate::sequence::{BareStatistics, Cause, LineStatistics, LossReason};

use super::text::grouped;

/// One line of output.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum Record<'a> {
    Message(MessageRecord<'a>),
    Gap {
        source: &'a str,
        epoch: u64,
        from: u64,
        to: u64,
        cause: &'static str,
    },
    Withdrawn {
        source: &'a str,
        epoch: u64,
        from: u64,
        to: u64,
    },
    Coverage {
        source: &'a str,
        epoch: u64,
        coverage: &'static str,
    },
    Lost {
        source: &'a str,
        epoch: u64,
        from: u64,
        to: u64,
        reason: &'static str,
        cause: &'static str,
    },
    Epoch {
        source: &'a str,
        epoch: u64,
        previous: Option<u64>,
        tail_known: bool,
    },
    Degraded {
        lacking: &'static str,
        reason: &'a str,
    },
    Silent {
        source: &'a str,
        epoch: u64,
    },
    Ended {
        source: &'a str,
        epoch: u64,
        last: u64,
    },
    Conflict {
        source: &'a str,
        epoch: u64,
        count: u64,
    },
    Evicted {
        source: &'a str,
        epoch: u64,
    },
    /// Numbers between the highest so far and the next message's.
    Missing {
        subject: Cow<'a, str>,
        from: u64,
        to: u64,
    },
    /// The next message's number is not higher than that of one before.
    Behind {
        subject: Cow<'a, str>,
        highest: u64,
    },
    Summary(Summary),
}

/// A message. Without a stamp it has neither source nor number.
#[derive(Debug, Serialize)]
pub(super) struct MessageRecord<'a> {
    pub(super) subject: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seq: Option<u64>,
    pub(super) repaired: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reply: Option<Cow<'a, str>>,
    /// The payload when it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) payload: Option<&'a str>,
    /// The payload when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) payload_hex: Option<String>,
}

/// The accounting.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    /// Messages printed, numbered or not.
    pub(super) messages: u64,
    /// Numbers delivered.
    pub(super) delivered: u64,
    /// Of these, by repair.
    pub(super) repaired: u64,
    pub(super) duplicates: u64,
    pub(super) lost: u64,
    /// Numbers missing or held back when the program ended.
    pub(super) undecided: u64,
    /// Messages without a stamp.
    pub(super) unsequenced: u64,
    pub(super) bad_stamps: u64,
    /// Heartbeats on the subject of another scope, which were not believed.
    pub(super) misplaced_heartbeats: u64,
    /// Messages dropped here because this program was too slow.
    pub(super) dropped: u64,
    pub(super) sources: Vec<SourceSummary>,
    /// Lines of bare numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) lines: Vec<LineSummary>,
    /// Whether people are told of each source, too.
    #[serde(skip)]
    pub(super) is_told_by_source: bool,
}

/// One run of one source.
#[derive(Debug, Serialize)]
pub(super) struct SourceSummary {
    source: String,
    epoch: u64,
    /// The first number owed.
    first: u64,
    /// The highest number known to have been sent.
    last: u64,
    delivered: u64,
    repaired: u64,
    duplicates: u64,
    lost: u64,
    undecided: u64,
    /// Numbers of which nothing proves that they were meant for us.
    unverifiable: u64,
    /// All numbers owed: those delivered, lost, undecided and unverifiable.
    expected: u64,
    /// How often numbers were found missing.
    gaps: u64,
    /// Requests for them.
    requests: u64,
    /// Messages that came by themselves behind their successors.
    late: u64,
    /// Lost numbers by the reason for which they were given up.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    lost_for: BTreeMap<&'static str, u64>,
    /// Lost numbers by what made them go missing.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    lost_by: BTreeMap<&'static str, u64>,
    /// Milliseconds until half of the repairs had come, and until 99 % had.
    #[serde(skip_serializing_if = "Option::is_none")]
    repair_p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repair_p99_ms: Option<f64>,
    coverage: &'static str,
    ended: bool,
}

impl fmt::Display for SourceSummary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            source,
            epoch,
            coverage,
            ..
        } = self;
        writeln!(out, "{source}, epoch {epoch}, {coverage}:")?;
        let [expected, delivered, lost] = [self.expected, self.delivered, self.lost].map(grouped);
        let [undecided, unverifiable] = [self.undecided, self.unverifiable].map(grouped);
        writeln!(
            out,
            "  {expected} expected = {delivered} delivered + {lost} lost + {undecided} undecided + \
             {unverifiable} unverifiable"
        )?;
        let [gaps, requests, repaired, late] =
            [self.gaps, self.requests, self.repaired, self.late].map(grouped);
        let duplicates = grouped(self.duplicates);
        write!(
            out,
            "  {gaps} gaps, {requests} requests, {repaired} repaired, {late} late, {duplicates} duplicates"
        )?;
        if let (Some(p50), Some(p99)) = (self.repair_p50_ms, self.repair_p99_ms) {
            write!(out, "; repairs took {p50:.1} ms, 99 % at most {p99:.1} ms")?;
        }
        for (what, numbers) in [("given up", &self.lost_for), ("missing", &self.lost_by)] {
            for (word, count) in numbers {
                let word = word.replace('_', " ");
                write!(out, "\n  {} {what}: {word}", grouped(*count))?;
            }
        }
        Ok(())
    }
}

/// Those that are not 0, by name.
fn named<T: Copy>(
    all: &[T],
    name: impl Fn(T) -> &'static str,
    count: impl Fn(T) -> u64,
) -> BTreeMap<&'static str, u64> {
    let counts = all.iter().map(|one| (name(*one), count(*one)));
    counts.filter(|(_, count)| *count > 0).collect()
}

/// One line of bare numbers.
#[derive(Debug, Serialize)]
pub(super) struct LineSummary {
    subject: String,
    first: u64,
    last: u64,
    received: u64,
    missing: u64,
    behind: u64,
}

impl Summary {
    pub(super) fn add(&mut self, line: &LineStatistics) {
        self.delivered = self.delivered.saturating_add(line.delivered);
        self.repaired = self.repaired.saturating_add(line.repaired);
        self.duplicates = self.duplicates.saturating_add(line.duplicates);
        self.lost = self.lost.saturating_add(line.lost);
        self.undecided = self.undecided.saturating_add(line.undecided);
        self.sources.push(SourceSummary {
            source: line.source.to_string(),
            epoch: line.epoch,
            first: line.base,
            last: line.highest,
            delivered: line.delivered,
            repaired: line.repaired,
            duplicates: line.duplicates,
            lost: line.lost,
            undecided: line.undecided,
            unverifiable: line.unverifiable,
            expected: line.expected(),
            gaps: line.gaps,
            requests: line.requests,
            late: line.late,
            lost_for: named(&LossReason::ALL, LossReason::as_str, |reason| {
                line.lost_for(reason)
            }),
            lost_by: named(&Cause::ALL, Cause::as_str, |cause| line.lost_by(cause)),
            repair_p50_ms: line.repair_p50.map(millis),
            repair_p99_ms: line.repair_p99.map(millis),
            coverage: line.coverage.as_str(),
            ended: line.is_ended,
        });
    }

    pub(super) fn add_bare(&mut self, line: &BareStatistics) {
        self.delivered = self.delivered.saturating_add(line.received);
        self.lost = self.lost.saturating_add(line.missing);
        self.lines.push(LineSummary {
            subject: shown(&line.subject).into_owned(),
            first: line.first,
            last: line.highest,
            received: line.received,
            missing: line.missing,
            behind: line.behind,
        });
    }

    /// Whether nothing is missing.
    pub(super) const fn is_whole(&self) -> bool {
        self.lost == 0 && self.undecided == 0
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Text as it is, other bytes escaped.
pub(super) fn shown(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.escape_ascii().to_string()),
    }
}

/// The payload as text, or in hexadecimal when it is none.
pub(super) fn payload(bytes: &[u8]) -> (Option<&str>, Option<String>) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return (Some(text), None);
    }
    let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    (None, Some(hex))
}
