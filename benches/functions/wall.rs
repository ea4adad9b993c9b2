//! How long each function takes, in messages and bytes a second.
//!
//! `cargo bench --bench wall -- FILTER` measures those whose name contains FILTER; with `--test`
//! each runs once.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use natseq_functions::{FUNCTIONS, REPEATS};

/// The other bench, which must name every function.
const INSTRUCTIONS: &str = include_str!("instructions.rs");

fn functions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("functions");
    for (name, make) in FUNCTIONS {
        let is_counted = INSTRUCTIONS.contains(&format!("#[bench::{name}(\"{name}\")]"));
        assert!(is_counted, "instructions.rs does not count {name}");
        let mut function = make();
        function.prepare();
        group.throughput(Throughput::ElementsAndBytes {
            elements: REPEATS as u64,
            bytes: function.bytes() as u64,
        });
        group.bench_function(*name, |bencher| {
            bencher.iter_custom(|runs| {
                let mut spent = Duration::ZERO;
                for _ in 0..runs {
                    function.prepare();
                    let begun = now();
                    function.run();
                    spent += now().saturating_duration_since(begun);
                }
                spent
            });
        });
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn now() -> Instant {
    Instant::now()
}

criterion_group!(benches, functions);
criterion_main!(benches);
