//! Drives the session with conversations that are written down, and with a seeded model of servers.
//!
//! `transcripts/README.md` says how conversations are written. The simulator runs
//! `SEEDS` seeds from `FIRST_SEED` on; a failure prints its seed and what happened last. Many:
//! `SEEDS=100000 cargo test --release --test session -- --nocapture`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::cast_possible_truncation,
    clippy::string_slice,
    clippy::print_stderr,
    reason = "a test may panic"
)]

mod account;
mod cluster;
mod owner;
mod plan;
mod server;
mod transcript;
mod world;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use transcript::Cut;
use world::World;

/// Seeds unless the environment says otherwise.
const SEEDS: u64 = 100;

#[test]
fn a_session_goes_as_the_transcripts_say_however_bytes_are_cut() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/session/transcripts");
    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        count += 1;
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        for cut in [Cut::Lines, Cut::Bytes, Cut::Joined] {
            let run = catch_unwind(|| transcript::run(&text, cut));
            let found = run.unwrap_or_else(|_| Err("panic".into()));
            if let Err(error) = found {
                wrong.push(format!("{name}, {cut:?}: {error}"));
            }
        }
    }
    assert!(count >= 20, "{count} transcripts");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_transcript_that_says_something_else_is_found() {
    let start = "servers h\ndial 1 nats://h:4222\n";
    for (text, found) in [
        ("open 1", ""),
        (
            "dial 2 nats://h:4222",
            "line 3, `dial 2 nats://h:4222`: nothing",
        ),
        (
            "open 1\n1 S: PONG\nopen 1",
            "line 5, `open 1`: before it came `told",
        ),
        (
            "lose 1\ntold something*",
            "line 4, `told something*`: found `told failed",
        ),
    ] {
        let run = transcript::run(&format!("{start}{text}"), Cut::Lines);
        let error = run.err().unwrap_or_default();
        assert!(error.starts_with(found), "{text}: {error}");
    }
}

#[test]
fn whatever_happens_is_accounted_for() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = number("FIRST_SEED").unwrap_or(0);
    let count = number("SEEDS").unwrap_or(SEEDS);
    let mut sums = [0_u64; 6];
    for seed in first..first + count {
        let account = run(seed).account;
        let published = account.published();
        let of = [
            account.entered.len() as u64,
            account.moves,
            account.told,
            account.copies,
            published,
            account.in_doubt,
        ];
        for (sum, value) in sums.iter_mut().zip(of) {
            *sum += value;
        }
    }
    let [links, moves, told, copies, published, in_doubt] = sums;
    eprintln!(
        "{count} seeds: {links} connections, {moves} moves, {told} messages told, {copies} copies \
         not told, {published} published of which {in_doubt} in doubt"
    );
    assert!(count < 100 || moves > 0 && copies > 0 && in_doubt > 0);
}

#[test]
fn the_same_seed_runs_the_same_way() {
    for seed in 0..10 {
        assert_eq!(run(seed).hash(), run(seed).hash(), "seed {seed}");
    }
    assert_ne!(run(0).hash(), run(1).hash());
}

/// Runs a seed; when it fails, once more, to say what happened last.
fn run(seed: u64) -> World {
    let fails = |has_log: bool| {
        let mut world = World::new(seed, has_log);
        let run = catch_unwind(AssertUnwindSafe(|| world.run()));
        (world, run)
    };
    let (world, run) = fails(false);
    if run.is_ok() {
        return world;
    }
    let (world, run) = fails(true);
    eprintln!("{}FIRST_SEED={seed} SEEDS=1", world.last_steps());
    if let Err(panic) = run {
        resume_unwind(panic);
    }
    world
}
