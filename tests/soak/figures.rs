//! Measures in a process of its own, shows what was found beside what is allowed, and fails where it is more.

use std::env;
use std::future::Future;
use std::process::Command;
use std::time::Duration;

/// Figures of one soak.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    missed: Vec<String>,
}

impl Figures {
    /// Shows a figure and notes when it exceeds what is allowed.
    pub(crate) fn at_most(&mut self, what: &str, found: f64, allowed: f64, unit: &str) {
        let is_missed = found > allowed;
        println!(
            "{ROW}{what:<66} {found:>12.2} {allowed:>12.2} {unit:<4}{}",
            if is_missed { " MISSED" } else { "" }
        );
        if is_missed {
            self.missed.push(what.to_owned());
        }
    }

    /// Shows a figure that must be exactly this.
    pub(crate) fn exactly(&mut self, what: &str, found: u64, expected: u64) {
        let is_missed = found != expected;
        println!(
            "{ROW}{what:<66} {found:>12} {expected:>12} ={}",
            if is_missed { "    MISSED" } else { "" }
        );
        if is_missed {
            self.missed.push(what.to_owned());
        }
    }

    /// Shows a figure that nothing is asked of.
    pub(crate) fn shown(what: &str, found: f64, unit: &str) {
        println!("{ROW}{what:<66} {found:>12.2} {:>12} {unit}", "");
    }

    /// Shows median and 99th percentile of times, and the largest.
    pub(crate) fn percentiles(&mut self, what: &str, times: &[Duration], p50: f64, p99: f64) {
        let at = |thousandths| millis(percentile(times, thousandths));
        self.at_most(&format!("{what}, p50"), at(500), p50, "ms");
        self.at_most(&format!("{what}, p99"), at(990), p99, "ms");
        Self::shown(&format!("{what}, largest"), at(1_000), "ms");
    }
}

/// The time that so many thousandths of them do not exceed.
pub(crate) fn percentile(times: &[Duration], thousandths: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    let index = (times.len() * thousandths).div_ceil(1_000).max(1) - 1;
    times[index]
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// Runs `soak` in a process of its own, on `threads` threads, and fails when a figure is missed.
///
/// `name` is the test's, with its module's.
pub(crate) fn soak<F: Future<Output = Figures>>(
    name: &str,
    threads: usize,
    soak: impl FnOnce() -> F,
) {
    if env::var_os(CHILD).is_some() {
        let mut builder = if threads == 1 {
            tokio::runtime::Builder::new_current_thread()
        } else {
            tokio::runtime::Builder::new_multi_thread()
        };
        let runtime = builder
            .worker_threads(threads)
            .enable_all()
            .build()
            .unwrap();
        let figures = runtime.block_on(soak());
        assert!(figures.missed.is_empty(), "missed: {:?}", figures.missed);
        return;
    }
    let output = Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", name])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("\n{name:<66} {:>12} {:>12}", "found", "allowed");
    for row in text.lines().filter_map(|line| line.split_once(ROW)) {
        println!("  {}", row.1);
    }
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Says that this process is the one that measures.
const CHILD: &str = "NATSEQ_SOAK_CHILD";

/// What a row of the table begins with.
const ROW: &str = "figure: ";
