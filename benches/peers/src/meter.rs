//! Reads the clocks and the memory of this process, and says what a run came to.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::spec::Spec;

/// Wall time and processor time since a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meter {
    begun: Instant,
    cpu: Duration,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self {
            begun: now(),
            cpu: process_cpu(),
        }
    }

    pub(crate) fn stop(self, messages: u64) -> Report {
        Report {
            messages,
            cpu: process_cpu().saturating_sub(self.cpu),
            wall: now().saturating_duration_since(self.begun),
            latencies: Vec::new(),
            bytes_each: None,
        }
    }
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) messages: u64,
    pub(crate) wall: Duration,
    /// User and system time of all threads.
    pub(crate) cpu: Duration,
    /// Of each request; empty where there is none.
    pub(crate) latencies: Vec<Duration>,
    /// Memory of one subscription or connection.
    pub(crate) bytes_each: Option<f64>,
}

impl Report {
    pub(crate) fn json(mut self, spec: &Spec) -> String {
        self.latencies.sort_unstable();
        let percentile = |share: f64| {
            let index = (self.latencies.len() as f64 * share) as usize;
            let latency = self.latencies.get(index).or_else(|| self.latencies.last());
            latency.map(Duration::as_nanos)
        };
        let text = json!({
            "client": spec.client,
            "messages": self.messages,
            "wall_ns": self.wall.as_nanos() as u64,
            "cpu_ns": self.cpu.as_nanos() as u64,
            "p50_ns": percentile(0.5).map(|nanos| nanos as u64),
            "p99_ns": percentile(0.99).map(|nanos| nanos as u64),
            "p999_ns": percentile(0.999).map(|nanos| nanos as u64),
            "bytes_each": self.bytes_each,
        });
        text.to_string()
    }
}

#[expect(clippy::disallowed_methods, reason = "a driver reads the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Bytes of this process that are in memory.
pub(crate) fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
    let kilobytes: f64 = kilobytes.expect("VmRSS").parse().expect("a number");
    kilobytes * 1_024.0
}
