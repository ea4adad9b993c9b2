//! Drives real senders and receivers over bad links in virtual time, and checks the layer's promises.
//!
//! Every run is decided by its seed. One that breaks a promise is made as small as it can be, and
//! printed as a script with its seed. Replay it with
//! `NATSEQ_SIM_SEED=<seed> cargo test --test simulator <test>`; `NATSEQ_SIM_SEEDS=<count>` runs
//! more.
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

mod archive;
#[cfg(feature = "defects")]
mod defects;
mod expenses;
mod groups;
mod hostile;
mod link;
mod luck;
mod mailbox;
mod names;
mod oracle;
mod peers;
mod plan;
mod recovery;
mod sending;
mod shrink;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use groups::Group;
use natseq::sequence::Delivery;
use plan::Plan;
use world::World;

/// Seeds for each test unless the environment says otherwise.
const SEEDS: u64 = 100;
/// The same for runs that are told twice.
const STORY_SEEDS: u64 = 3;
/// The same for streams of ten thousand messages.
const RECOVERY_SEEDS: u64 = 4;
/// A run by hand says how far it is so often.
const SHOWN: u64 = 10_000_000;

#[test]
fn everything_is_won_back_over_links_that_lose_and_double() {
    for_each_seed("links_that_lose_and_double", Group::Fifo);
}

#[test]
fn everything_is_won_back_over_links_that_reorder() {
    for_each_seed("links_that_reorder", Group::Unordered);
}

#[test]
fn everything_is_won_back_over_links_that_break() {
    for_each_seed("links_that_break", Group::Cuts);
}

#[test]
fn what_is_no_longer_retained_is_reported_lost_once() {
    for_each_seed("no_longer_retained", Group::SmallRetention);
}

/// I15: the new run's numbers are no copies of the old one's.
#[test]
fn a_source_that_ends_and_begins_anew_loses_nothing() {
    for_each_seed("begins_anew_loses_nothing", Group::Restarts);
}

/// I15 again; what the crashed run still had is lost, and told.
#[test]
fn a_source_that_crashes_begins_anew() {
    for_each_seed("crashes", Group::Crashes);
}

#[test]
fn late_joiners_owe_themselves_nothing_from_before() {
    for_each_seed("late_joiners", Group::LateJoiners);
}

#[test]
fn a_receiver_that_only_detects_reports_every_loss() {
    for_each_seed("only_detects", Group::DetectOnly);
}

#[test]
fn every_number_is_accounted_for_when_everything_goes_wrong_at_once() {
    for_each_seed("everything_goes_wrong", Group::Anything);
}

/// I6: the tail is lost, and sometimes the first heartbeats too.
#[test]
fn a_lost_tail_is_suspected_with_the_first_heartbeat() {
    for_each_seed("lost_tail", Group::Tail);
}

/// I1 and I5 for ten thousand messages at 20 % loss; a gap is asked for once or twice.
#[test]
fn long_streams_over_bad_links_lose_nothing() {
    run_some_seeds("long_streams", RECOVERY_SEEDS, recovery::run);
}

/// The first message, the last or all are lost; a source closes in the moment in which it sends.
#[test]
fn streams_of_a_few_messages_lose_nothing_at_their_edges() {
    for_each_seed("at_their_edges", Group::Edges);
}

/// I10: what a receiver does not ask for is no loss.
#[test]
fn filters_never_make_a_false_loss() {
    for_each_seed("filters", Group::Filters);
}

/// I10: what another member gets is no loss.
#[test]
fn queue_groups_never_make_a_false_loss() {
    for_each_seed("queue_groups", Group::QueueGroups);
}

/// I12: what is sent again, to one and to all.
#[test]
fn repairs_stay_within_their_budgets_whoever_asks() {
    for_each_seed("within_their_budgets", Group::Budgets);
}

/// I5: what we dropped ourselves comes again when there is room.
#[test]
fn a_full_mailbox_loses_nothing_in_the_end() {
    for_each_seed("full_mailbox", Group::Overflow);
}

/// I5: what an archive has stored is not lost when the source forgets it or is gone.
#[test]
fn what_an_archive_has_is_won_back() {
    for_each_seed("what_an_archive_has", Group::Archive);
}

/// I13: of those that hear each other one holds the name, and what the other sent is not lost.
#[test]
fn a_claimed_name_has_one_holder() {
    for_each_seed("one_holder", Group::Claims);
}

/// A stamp in the subject or in the payload is as good as one in a header.
#[test]
fn every_carrier_keeps_the_promises() {
    for_each_seed("every_carrier", Group::Carriers);
}

/// I11: what a full table gives up is told, and nothing is delivered twice for it.
#[test]
fn small_tables_give_up_and_say_so() {
    for_each_seed("small_tables", Group::SmallTables);
}

/// I13: the later run wins, and the earlier stays out.
#[test]
fn two_holders_of_a_name_are_never_mixed() {
    for_each_seed("two_holders", Group::Holders);
}

/// I13: a source whose clock was set back is heard again.
#[test]
fn a_clock_that_steps_back_silences_no_source() {
    for_each_seed("steps_back", Group::ClockSteps);
}

/// I3: what is forgotten is not asked for again.
#[test]
fn a_run_that_was_evicted_is_not_delivered_twice() {
    for_each_seed("evicted", Group::Evictions);
}

/// I5: time without a connection does not count.
#[test]
fn a_long_outage_in_the_middle_of_repairs_loses_nothing() {
    for_each_seed("long_outage", Group::LongOutages);
}

/// I1: who was there before the source is owed its first message, whatever is heard of it first.
#[test]
fn a_lost_hello_hides_no_message() {
    for_each_seed("lost_hello", Group::HelloLost);
}

/// I1: who wants what is retained is owed all of it.
#[test]
fn late_joiners_get_what_is_retained_if_they_want() {
    for_each_seed("get_what_is_retained", Group::Retained);
}

/// The figure of a run by hand:
/// `NATSEQ_SIM_MESSAGES=100000000 cargo test --release --test simulator -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes; counts as far as NATSEQ_SIM_MESSAGES says"]
fn a_great_many_messages_are_all_accounted_for() {
    let due = number_of("NATSEQ_SIM_MESSAGES").unwrap_or(1_000_000);
    let (seeds, messages) = (AtomicU64::new(0), AtomicU64::new(0));
    let play = || {
        while messages.load(Ordering::Relaxed) < due {
            let seed = seeds.fetch_add(1, Ordering::Relaxed);
            let guard = Replay {
                seed,
                test: "(its group is in the script)",
            };
            for group in Group::ALL {
                let world = shrink::play(seed, Plan::new(*group, seed));
                let before = messages.fetch_add(world.owed(), Ordering::Relaxed);
                let after = before + world.owed();
                if before / SHOWN != after / SHOWN {
                    eprintln!("{after} messages so far, seed {seed}");
                }
            }
            drop(guard);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(play);
        }
    });
    let runs = seeds.into_inner() * Group::ALL.len() as u64;
    eprintln!(
        "{} messages in {runs} runs, no promise broken",
        messages.into_inner()
    );
}

/// Every mistake that can be planted breaks a promise that is looked at. Prints which.
#[cfg(feature = "defects")]
#[test]
fn every_planted_defect_is_caught() {
    defects::run();
}

/// I5: a run that lingers is asked on, and one that is over is given up.
#[test]
fn a_later_run_answers_for_the_earlier_ones() {
    let refusals = AtomicU64::new(0);
    run_each_seed("answers_for_the_earlier", |seed| {
        let world = shrink::play(seed, Plan::new(Group::Successors, seed));
        refusals.fetch_add(world.refusals(), Ordering::Relaxed);
    });
    let is_one = number_of("NATSEQ_SIM_SEED").is_some();
    assert!(is_one || refusals.into_inner() > 0, "nobody is told so");
}

/// I1 and I2: what only a forger says or sends is never lost, but to whoever cannot ask, and hides
/// nothing of the source.
#[test]
fn what_is_forged_makes_no_false_loss_and_hides_nothing() {
    for_each_seed("what_is_forged", Group::Forgers);
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
    run_some_seeds("the_same_seed", STORY_SEEDS, |seed| {
        let mut lines = 0;
        for group in Group::ALL {
            let story = || {
                let mut world = World::new(seed, Plan::new(*group, seed), true);
                let end = shrink::attempt(&mut world).map_err(|panic| shrink::text(&*panic));
                assert_eq!(end, Ok(()), "{group:?}");
                world.story().to_vec()
            };
            let one = story();
            // Where everybody joins when all is over nothing is said.
            lines += one.len();
            assert!(one == story(), "I16: {group:?}");
        }
        assert!(lines > 0);
    });
}

fn for_each_seed(test: &str, group: Group) {
    run_each_seed(test, |seed| {
        shrink::play(seed, Plan::new(group, seed));
    });
}

fn run_each_seed(test: &str, run: impl Fn(u64)) {
    run_some_seeds(test, SEEDS, run);
}

fn run_some_seeds(test: &str, count: u64, run: impl Fn(u64)) {
    let one = number_of("NATSEQ_SIM_SEED");
    let seeds = match one {
        Some(seed) => seed..seed + 1,
        None => 0..number_of("NATSEQ_SIM_SEEDS").unwrap_or(count),
    };
    for seed in seeds {
        let guard = Replay { seed, test };
        run(seed);
        drop(guard);
    }
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
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
