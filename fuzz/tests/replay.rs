//! Runs every body over its corpus and over seeded mutations of it: what a fuzzer found stays found.
//!
//! `NATSEQ_FUZZ_MUTATIONS=<count>` runs more of them for each target.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use natseq::jitter::Jitter;
use natseq_fuzz::{TARGETS, Target, canary};

/// Mutations for each target unless the environment says otherwise.
const MUTATIONS: u64 = 3_000;
/// Longer inputs are cut.
const INPUT_BYTES_MAX: usize = 4_096;

/// Pieces of the protocol that mutations put in.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b"\0",
    b"\xff",
    b".",
    b"*",
    b">",
    b":",
    b"@",
    b"%41",
    b"[",
    b"]",
    b"PUB ",
    b"HPUB ",
    b"SUB ",
    b"UNSUB ",
    b"MSG ",
    b"HMSG ",
    b"INFO {}",
    b"CONNECT {}",
    b"PING\r\n",
    b"PONG\r\n",
    b"+OK\r\n",
    b"-ERR '",
    b"'",
    b"NATS/1.0",
    b" 503",
    b"0",
    b"9",
    b"000000001",
    b"999999999",
    b"4294967296",
    b"18446744073709551616",
    b"$JS.ACK.",
    b"nats://",
];

#[test]
fn every_body_accepts_its_corpus() {
    for target in TARGETS {
        for (name, data) in corpus(target.name) {
            run(target, &data, &format!("corpus/{}/{name}", target.name));
        }
    }
}

#[test]
fn every_body_accepts_mutations_of_its_corpus() {
    let count = std::env::var("NATSEQ_FUZZ_MUTATIONS").ok();
    let count = count
        .and_then(|text| text.parse().ok())
        .unwrap_or(MUTATIONS);
    for target in TARGETS {
        let seeds: Vec<Vec<u8>> = corpus(target.name)
            .into_iter()
            .map(|(_, data)| data)
            .collect();
        for seed in 0..count {
            let mut jitter = Jitter::new(seed);
            let data = mutated(&seeds, &mut jitter);
            run(
                target,
                &data,
                &format!("mutation {seed} of corpus/{}", target.name),
            );
        }
    }
}

#[test]
fn the_canary_fails_on_its_known_input_and_on_no_seed() {
    for (name, data) in corpus("canary") {
        assert!(
            catch_unwind(|| canary::run(&data)).is_ok(),
            "corpus/canary/{name}"
        );
    }
    let failure = catch_unwind(|| canary::run(canary::KNOWN_INPUT));
    assert!(failure.is_err(), "the alarm does not work");
}

#[test]
fn targets_shims_and_corpora_belong_together() {
    let mut names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.into()).collect();
    names.insert("canary".into());
    let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let shims: BTreeSet<String> = files(&root().join("fuzz_targets")).map(stem).collect();
    assert_eq!(shims, names, "fuzz_targets");
    let corpora: BTreeSet<String> = files(&root().join("corpus")).map(stem).collect();
    assert_eq!(corpora, names, "corpus");
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for name in &names {
        assert!(
            manifest.contains(&format!("name = \"{name}\"")),
            "{name} in Cargo.toml"
        );
        assert!(!corpus(name).is_empty(), "corpus/{name} is empty");
    }
}

fn run(target: &Target, data: &[u8], origin: &str) {
    let result = catch_unwind(AssertUnwindSafe(|| (target.body)(data)));
    assert!(result.is_ok(), "{origin}: {}", data.escape_ascii());
}

/// One seed with a few changes, or pieces of two seeds.
fn mutated(seeds: &[Vec<u8>], jitter: &mut Jitter) -> Vec<u8> {
    let mut data = seeds[below(jitter, seeds.len())].clone();
    for _ in 0..=jitter.below(4) {
        let at = below(jitter, data.len() + 1);
        let end = (at + below(jitter, 16)).min(data.len());
        match jitter.below(8) {
            0 => data.truncate(at),
            1 => drop(data.drain(at..end)),
            2 => data
                .splice(at..at, WORDS[below(jitter, WORDS.len())].iter().copied())
                .for_each(drop),
            3 => data
                .splice(at..end, WORDS[below(jitter, WORDS.len())].iter().copied())
                .for_each(drop),
            4 => {
                let other = &seeds[below(jitter, seeds.len())];
                let from = below(jitter, other.len() + 1);
                data.splice(at.., other[from..].iter().copied())
                    .for_each(drop);
            }
            5 => {
                let copy = data[at..end].to_vec();
                data.splice(at..at, copy).for_each(drop);
            }
            6 => data[at..end].iter_mut().for_each(|byte| *byte ^= 0x20),
            _ => data[at..end]
                .iter_mut()
                .for_each(|byte| *byte = jitter.below(256) as u8),
        }
    }
    data.truncate(INPUT_BYTES_MAX);
    data
}

fn below(jitter: &mut Jitter, bound: usize) -> usize {
    usize::try_from(jitter.below(bound as u64)).unwrap()
}

/// The seeds of a target by name, `regress-*` among them.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = files(&root().join("corpus").join(target))
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    found.sort();
    found
}

fn files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().path())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
