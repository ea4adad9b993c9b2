//! What `natseq fuzz` prints: findings, and the counts at the end.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

/// One line of `--json`.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum Record<'a> {
    Finding(Finding<'a>),
    Session(SessionRecord),
    Summary(Summary),
}

/// What became of a session.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome {
    Agreed,
    /// It differs for a reason that is known.
    Explained(&'static str),
    Differs,
    /// The server does not greet any more.
    Gone,
}

/// A server that answers otherwise than the embedded one, hangs, or is gone.
#[derive(Debug, Serialize)]
pub(super) struct Finding<'a> {
    /// `disagreement`, `hang` or `gone`.
    pub(super) kind: &'static str,
    pub(super) seed: u64,
    pub(super) mutations: &'a [String],
    /// What to send, minimised.
    pub(super) input: String,
    pub(super) expected: Verdict,
    pub(super) found: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<&'a Path>,
}

/// What a server answers, and how the session ends.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    pub(super) output: String,
    pub(super) end: &'static str,
}

/// How a client took a session of the hostile server.
#[derive(Debug, Serialize)]
pub(super) struct SessionRecord {
    pub(super) seed: u64,
    pub(super) mutations: Vec<String>,
    /// Bytes that were said to the client.
    pub(super) said: usize,
    /// Operations of the client.
    pub(super) heard: BTreeMap<&'static str, u64>,
    /// `answered`, `closed` or `silent`.
    pub(super) end: &'static str,
    /// Whether the client wrote something that no server takes.
    pub(super) violation: Option<&'static str>,
}

/// The end of a run.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    pub(super) seed: u64,
    pub(super) sessions: u64,
    pub(super) agreed: u64,
    /// Differences whose reason is known, by reason.
    pub(super) explained: BTreeMap<&'static str, u64>,
    pub(super) findings: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) server_version: String,
    /// How often each mutation was sent.
    pub(super) mutations: BTreeMap<String, u64>,
}

impl Summary {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// Counts a session and what was done to it.
    pub(super) fn count(&mut self, mutations: &[String]) {
        self.sessions = self.sessions.saturating_add(1);
        for mutation in mutations {
            let uses = self.mutations.entry(mutation.clone()).or_default();
            *uses = uses.saturating_add(1);
        }
    }

    pub(super) fn note(&mut self, outcome: &Outcome) {
        let count = match outcome {
            Outcome::Agreed => &mut self.agreed,
            Outcome::Explained(reason) => self.explained.entry(reason).or_default(),
            Outcome::Differs | Outcome::Gone => &mut self.findings,
        };
        *count = count.saturating_add(1);
    }
}

/// Prints the summary; a run without a finding has succeeded.
pub(super) fn finish(
    out: &mut impl Write,
    summary: Summary,
    is_json: bool,
) -> Result<ExitCode, Box<dyn Error>> {
    let is_clean = summary.findings == 0;
    print(out, &Record::Summary(summary), is_json)?;
    Ok(if is_clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints a record: as JSON, or for people.
pub(super) fn print(
    out: &mut impl Write,
    record: &Record<'_>,
    is_json: bool,
) -> std::io::Result<()> {
    if is_json {
        serde_json::to_writer(&mut *out, record)?;
        writeln!(out)?;
        return out.flush();
    }
    match record {
        Record::Finding(finding) => {
            writeln!(
                out,
                "{} at seed {} {:?}",
                finding.kind, finding.seed, finding.mutations
            )?;
            writeln!(out, "  input     {}", finding.input)?;
            writeln!(
                out,
                "  expected  {} ({})",
                finding.expected.output, finding.expected.end
            )?;
            writeln!(
                out,
                "  found     {} ({})",
                finding.found.output, finding.found.end
            )?;
            if let Some(file) = finding.file {
                writeln!(out, "  file      {}", file.display())?;
            }
        }
        Record::Session(session) => {
            let violation = session.violation.map(|name| format!(", violation {name}"));
            writeln!(
                out,
                "seed {} {:?}: {} bytes said, {:?} heard, {}{}",
                session.seed,
                session.mutations,
                session.said,
                session.heard,
                session.end,
                violation.unwrap_or_default()
            )?;
        }
        Record::Summary(summary) => {
            let version = if summary.server_version.is_empty() {
                String::new()
            } else {
                format!(" against version {}", summary.server_version)
            };
            writeln!(
                out,
                "{} sessions from seed {}{version}: {} agreed, {} findings",
                summary.sessions, summary.seed, summary.agreed, summary.findings
            )?;
            for (reason, count) in &summary.explained {
                writeln!(out, "  explained: {count} {reason}")?;
            }
        }
    }
    out.flush()
}
