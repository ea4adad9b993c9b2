//! Drives real senders and receivers over bad links in virtual time, and checks the layer's promises.
//!
//! Every run is decided by its seed, which is printed when a promise is broken. Replay it with
//! `NATSEQ_SIM_SEED=<seed> cargo test --test simulator <test>`; `NATSEQ_SIM_SEEDS=<count>` runs more.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::print_stderr,
    reason = "a test may panic"
)]

mod hostile;
mod oracle;
mod world;

use std::time::Duration;

use natseq::jitter::Jitter;
use natseq::sequence::Delivery;
use world::{Cut, Link, Plan, ReceiverPlan, Restart, SourcePlan, Victim, World};

const MILLI: Duration = Duration::from_millis(1);

/// Seeds for each test unless the environment says otherwise.
const SEEDS: u64 = 60;

#[test]
fn everything_is_won_back_over_links_that_lose_and_double() {
    for_each_seed("everything_is_won_back", |seed| {
        let mut plan = plan(seed);
        plan.link.loss = Jitter::new(seed).unit() * 0.5;
        plan.is_lossless = true;
        plan
    });
}

#[test]
fn everything_is_won_back_over_links_that_reorder() {
    for_each_seed("links_that_reorder", |seed| {
        let mut plan = plan(seed);
        plan.link.is_fifo = false;
        plan.link.loss = Jitter::new(seed).unit() * 0.3;
        plan.grace = MILLI * 30;
        plan.is_lossless = true;
        plan
    });
}

#[test]
fn everything_is_won_back_over_links_that_break() {
    for_each_seed("links_that_break", |seed| {
        let mut plan = plan(seed);
        let mut jitter = Jitter::new(seed);
        plan.link.loss = jitter.unit() * 0.2;
        plan.cuts = cuts(&mut jitter);
        plan.is_lossless = true;
        plan
    });
}

#[test]
fn what_is_no_longer_retained_is_reported_lost_once() {
    for_each_seed("no_longer_retained", |seed| {
        let mut plan = plan(seed);
        plan.link.loss = 0.1 + Jitter::new(seed).unit() * 0.4;
        plan.retained_max = 4;
        plan
    });
}

#[test]
fn late_joiners_owe_themselves_nothing_from_before() {
    for_each_seed("late_joiners", |seed| {
        let mut plan = plan(seed);
        let mut jitter = Jitter::new(seed);
        plan.link.loss = jitter.unit() * 0.3;
        for receiver in &mut plan.receivers {
            receiver.joins_at = MILLI * u32::try_from(jitter.below(200)).unwrap();
        }
        plan
    });
}

/// I15: the new run's numbers are no copies of the old one's.
#[test]
fn a_source_that_crashes_begins_anew() {
    for_each_seed("crashes", |seed| {
        let mut plan = plan(seed);
        plan.link.loss = Jitter::new(seed).unit() * 0.4;
        for source in &mut plan.sources {
            source.restart = Restart::Crash;
        }
        plan.is_lossless = true;
        plan
    });
}

#[test]
fn every_number_is_accounted_for_when_everything_goes_wrong_at_once() {
    for_each_seed("everything_goes_wrong", |seed| {
        let mut plan = plan(seed);
        let mut jitter = Jitter::new(seed);
        plan.link.loss = jitter.unit() * 0.6;
        plan.link.is_fifo = jitter.hits(0.5);
        plan.retained_max = [2, 16, 1 << 20][usize::try_from(jitter.below(3)).unwrap()];
        plan.grace = [Duration::ZERO, MILLI * 30][usize::from(jitter.hits(0.5))];
        for source in &mut plan.sources {
            source.restart = [Restart::No, Restart::Clean, Restart::Crash]
                [usize::try_from(jitter.below(3)).unwrap()];
        }
        plan.receivers = [Delivery::Immediate, Delivery::Ordered, Delivery::DetectOnly]
            .map(|delivery| ReceiverPlan {
                delivery,
                joins_at: MILLI * u32::try_from(jitter.below(4) * jitter.below(50)).unwrap(),
            })
            .to_vec();
        plan.cuts = cuts(&mut jitter);
        plan.may_conflict = true;
        plan
    });
}

#[test]
fn a_receiver_that_only_detects_reports_every_loss() {
    for_each_seed("only_detects", |seed| {
        let mut plan = plan(seed);
        plan.link.loss = Jitter::new(seed).unit() * 0.5;
        for receiver in &mut plan.receivers {
            receiver.delivery = Delivery::DetectOnly;
        }
        plan
    });
}

/// I6: the tail is lost, heartbeats get through.
#[test]
fn a_lost_tail_is_suspected_with_the_first_heartbeat() {
    for_each_seed("lost_tail", |seed| {
        let mut plan = plan(seed);
        plan.sources.truncate(1);
        plan.sources[0] = SourcePlan {
            messages: 50,
            pause: MILLI,
            burst: 1,
            restart: Restart::No,
        };
        plan.link = Link {
            loss: 0.0,
            duplication: 0.0,
            is_fifo: true,
            data_lost_from: Some(45),
        };
        plan.is_tail_watched = true;
        plan.is_lossless = true;
        plan
    });
}

/// Nothing that arrives breaks the account, the order or the clock.
#[test]
fn a_receiver_withstands_whatever_arrives() {
    run_each_seed("withstands_whatever", |seed| {
        for delivery in [Delivery::Immediate, Delivery::Ordered, Delivery::DetectOnly] {
            hostile::run(seed, delivery);
        }
    });
}

/// I16: the machines are pure.
#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in 0..10 {
        let mut plan = plan(seed);
        plan.link.loss = 0.3;
        let one = World::new(seed, plan.clone()).run();
        assert_eq!(one, World::new(seed, plan).run(), "seed {seed}");
        assert!(!one.is_empty());
    }
}

fn plan(seed: u64) -> Plan {
    let mut jitter = Jitter::new(seed ^ 0x5eed);
    Plan {
        sources: vec![
            SourcePlan {
                messages: 100,
                pause: MILLI * 25,
                burst: 20,
                restart: Restart::No,
            },
            SourcePlan {
                messages: 60,
                pause: MILLI * 7,
                burst: 1,
                restart: Restart::No,
            },
            SourcePlan {
                messages: 80,
                pause: MILLI * 2,
                burst: 1,
                restart: Restart::Clean,
            },
        ],
        receivers: [Delivery::Immediate, Delivery::Ordered]
            .map(|delivery| ReceiverPlan {
                delivery,
                joins_at: Duration::ZERO,
            })
            .to_vec(),
        link: Link {
            loss: 0.0,
            duplication: jitter.unit() * 0.2,
            is_fifo: true,
            data_lost_from: None,
        },
        cuts: Vec::new(),
        grace: Duration::ZERO,
        retained_max: 1 << 20,
        is_lossless: false,
        may_conflict: false,
        is_tail_watched: false,
    }
}

/// One to four connections that break for a while.
fn cuts(jitter: &mut Jitter) -> Vec<Cut> {
    let count = 1 + jitter.below(4);
    (0..count)
        .map(|_| {
            let at = MILLI * u32::try_from(jitter.below(400)).unwrap();
            let time = MILLI * u32::try_from(1 + jitter.below(900)).unwrap();
            let index = usize::try_from(jitter.below(3)).unwrap();
            let victim = if jitter.hits(0.5) {
                Victim::Source(index)
            } else {
                Victim::Receiver(index)
            };
            Cut { at, time, victim }
        })
        .collect()
}

fn for_each_seed(test: &str, plan: impl Fn(u64) -> Plan) {
    run_each_seed(test, |seed| {
        World::new(seed, plan(seed)).run();
    });
}

fn run_each_seed(test: &str, run: impl Fn(u64)) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seeds = match number("NATSEQ_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("NATSEQ_SIM_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let guard = Replay { seed, test };
        run(seed);
        drop(guard);
    }
}

/// Says how to replay a run that fails.
struct Replay<'a> {
    seed: u64,
    test: &'a str,
}

impl Drop for Replay<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { seed, test } = self;
            eprintln!("replay: NATSEQ_SIM_SEED={seed} cargo test --test simulator {test}");
        }
    }
}
