//! Explores every order of events of a very small world: real senders and a real receiver, a few
//! messages, and a bag of packets of which each may come in any order, twice, or never.
//!
//! ```text
//!   publish | restart | time passes | a packet arrives | comes again | is lost      in any order
//! ```
//!
//! States are the same when both machines are, with times counted from now. The scatter of pauses
//! and counters that decide nothing are left out of that comparison.
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

mod name;
mod world;

use natseq::sequence::Delivery;
use stateright::{Checker, Model, Property};
use world::{RETAINED_MAX, World};

/// I1 to I4: more messages than are retained, of which some come twice.
#[test]
fn every_order_of_three_messages_keeps_the_promises() {
    explore(Small {
        messages: 3,
        copies: 1,
        ..SMALLEST
    });
}

/// The same while time passes: heartbeats come, and what was asked is asked again.
#[test]
fn every_order_with_time_between_keeps_the_promises() {
    explore(Small {
        messages: 2,
        ticks: 1,
        ..SMALLEST
    });
}

/// I13 and I15: a second run begins after an end or a crash.
#[test]
fn every_order_around_a_restart_keeps_the_promises() {
    explore(Small {
        messages: 2,
        restarts: 1,
        ..SMALLEST
    });
}

/// I14 as well.
#[test]
fn every_order_of_events_keeps_the_order() {
    explore(Small {
        delivery: Delivery::Ordered,
        messages: 3,
        ..SMALLEST
    });
}

/// By hand: `cargo test --release --test model -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn every_order_of_more_events_keeps_the_promises() {
    for delivery in [Delivery::Immediate, Delivery::Ordered] {
        let smallest = Small {
            delivery,
            ..SMALLEST
        };
        explore(Small {
            messages: 4,
            ticks: 1,
            ..smallest
        });
        explore(Small {
            messages: 2,
            restarts: 1,
            copies: 1,
            ..smallest
        });
        explore(Small {
            messages: 3,
            restarts: 1,
            ..smallest
        });
        explore(Small {
            messages: 3,
            ticks: 2,
            ..smallest
        });
    }
}

fn explore(small: Small) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checker = small.checker().threads(threads).spawn_bfs().join();
    let (all, unique) = (checker.state_count(), checker.unique_state_count());
    let depth = checker.max_depth();
    eprintln!("{small:?}: {all} states, {unique} of them different, {depth} deep");
    checker.assert_properties();
}

const SMALLEST: Small = Small {
    delivery: Delivery::Immediate,
    messages: 1,
    restarts: 0,
    ticks: 0,
    copies: 0,
};

/// How small the world is.
#[derive(Debug, Clone, Copy)]
struct Small {
    delivery: Delivery,
    /// In all runs together.
    messages: u64,
    restarts: u64,
    /// How often time passes up to the next moment that somebody waits for.
    ticks: u32,
    /// Packets that come twice.
    copies: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Action {
    Publish,
    Close,
    Crash,
    Tick,
    Deliver(usize),
    Double(usize),
    Lose(usize),
}

impl Model for Small {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.wrong.is_some() {
            return;
        }
        if world.published < self.messages {
            actions.push(Action::Publish);
        }
        if (world.runs.len() as u64) <= self.restarts {
            actions.extend([Action::Close, Action::Crash]);
        }
        if world.ticks < self.ticks {
            actions.push(Action::Tick);
        }
        for index in 0..world.packets.len() {
            actions.extend([Action::Deliver(index), Action::Lose(index)]);
            if world.copies < self.copies {
                actions.push(Action::Double(index));
            }
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut world = world.clone();
        world.act(&action);
        world.settle();
        world.name();
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("no promise is broken", |_, world: &World| {
                world.wrong.is_none()
            }),
            Property::always(
                "all is decided in the end",
                |small: &Self, world: &World| {
                    let mut actions = Vec::new();
                    small.actions(world, &mut actions);
                    !actions.is_empty() || world.wrong.is_some() || world.clone().ends_well()
                },
            ),
            Property::sometimes("all is delivered", |small: &Self, world: &World| {
                let accounts = world.accounts.values();
                let delivered = accounts.map(|account| account.delivered.len() as u64);
                delivered.sum::<u64>() == small.messages
            }),
        ];
        if self.messages > RETAINED_MAX as u64 {
            properties.push(Property::sometimes("some is lost", |_, world: &World| {
                world
                    .accounts
                    .values()
                    .any(|account| !account.lost.is_empty())
            }));
        }
        properties
    }
}
