//! Times contenders in interleaved rounds and compares them inside each round.
//!
//! The machine drifts, so only ratios within a round mean something: every contender runs once per
//! round, in rotating order, and the table shows medians over the rounds.
//!
//! `cargo test --bench wire -- --test` runs everything once and small: it tells whether the bench still
//! works, and its figures mean nothing.

#![allow(dead_code, reason = "each bench uses its part")]

use std::time::{Duration, Instant};

/// Rounds per comparison; `NATSEQ_BENCH_ROUNDS` replaces it.
const ROUNDS: usize = 15;

/// How much less there is to do in a test.
const TEST_DIVISOR: u64 = 100;

/// One way of doing the work: a name, and a function that does it and says how many operations
/// it did and how long they took.
pub(crate) struct Contender<'a> {
    pub(crate) name: &'a str,
    pub(crate) run: Box<dyn FnMut() -> (u64, Duration) + 'a>,
}

impl<'a> Contender<'a> {
    /// Measures wall time around `work`, which returns its number of operations.
    pub(crate) fn timed(name: &'a str, mut work: impl FnMut() -> u64 + 'a) -> Self {
        let run = move || {
            let begun = now();
            let operations = work();
            (operations, now().saturating_duration_since(begun))
        };
        Self {
            name,
            run: Box::new(run),
        }
    }

    /// Takes the time that `work` itself measured.
    pub(crate) fn measured(name: &'a str, work: impl FnMut() -> (u64, Duration) + 'a) -> Self {
        Self {
            name,
            run: Box::new(work),
        }
    }
}

/// Runs all contenders and prints nanoseconds per operation and the ratio to the first.
pub(crate) fn compare(title: &str, mut contenders: Vec<Contender<'_>>) {
    let rounds = std::env::var("NATSEQ_BENCH_ROUNDS").ok();
    let rounds = rounds.and_then(|text| text.parse().ok());
    let rounds = rounds.unwrap_or_else(|| if is_test() { 1 } else { ROUNDS });
    let count = contenders.len();
    let mut nanos = vec![Vec::new(); count];
    let mut ratios = vec![Vec::new(); count];
    // The first round warms up.
    for round in 0..=rounds {
        let mut seen = vec![0.0; count];
        for turn in 0..count {
            let index = (round + turn) % count;
            let (operations, time) = (contenders[index].run)();
            seen[index] = time.as_nanos() as f64 / operations.max(1) as f64;
        }
        if round == 0 {
            continue;
        }
        for index in 0..count {
            nanos[index].push(seen[index]);
            ratios[index].push(seen[index] / seen[0]);
        }
    }
    println!("{title}");
    for (index, contender) in contenders.iter().enumerate() {
        let (nanos, ratio) = (median(&mut nanos[index]), median(&mut ratios[index]));
        println!("  {:<28} {nanos:>10.1} ns  {ratio:>6.2}x", contender.name);
    }
}

/// As much work as is measured, or little of it in a test.
pub(crate) fn scaled(amount: u64) -> u64 {
    if is_test() {
        amount / TEST_DIVISOR
    } else {
        amount
    }
}

fn is_test() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

/// The wall time of `work`.
pub(crate) fn time(work: impl FnOnce()) -> Duration {
    let begun = now();
    work();
    now().saturating_duration_since(begun)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn now() -> Instant {
    Instant::now()
}

/// Time that the calling thread has spent on a processor, where the system tells it.
pub(crate) fn thread_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}
