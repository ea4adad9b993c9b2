//! Makes a run that fails smaller as long as it fails in the same way, and tells it as a script.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::sync::Once;

use super::plan::{Plan, Victim};
use super::world::World;

/// Smaller runs that are tried.
const TRIES_MAX: u32 = 2_000;

/// Puts a hook before the one that tells panics.
static QUIETER: Once = Once::new();

thread_local! {
    /// Whether panics of this thread are not told.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

type Panic = Box<dyn Any + Send>;

/// Plays a plan; one that fails is told in its smallest form, and fails.
pub(super) fn play(seed: u64, plan: Plan) -> World {
    let mut world = World::new(seed, plan.clone(), false);
    let Err(panic) = attempt(&mut world) else {
        return world;
    };
    eprintln!("seed {seed} breaks a promise; looking for the smallest run that does so");
    // The failure was told by now; those of the smaller runs are not worth it.
    IS_QUIET.set(true);
    let plan = smallest(seed, plan, &word(&*panic));
    let mut world = World::new(seed, plan.clone(), true);
    let failure = attempt(&mut world).map_or_else(|panic| text(&*panic), |()| String::new());
    IS_QUIET.set(false);
    eprintln!("the smallest run that fails so:");
    for source in &plan.sources {
        eprintln!("{source:?}");
    }
    for receiver in &plan.receivers {
        eprintln!("{receiver:?}");
    }
    for line in world.story() {
        eprintln!("{line}");
    }
    eprintln!("{failure}");
    resume_unwind(panic)
}

/// Plays to the end, and tells nobody how it fails.
#[cfg(feature = "defects")]
pub(super) fn attempt_quietly(world: &mut World) -> Result<(), String> {
    IS_QUIET.set(true);
    let result = attempt(world);
    IS_QUIET.set(false);
    result.map_err(|panic| text(&*panic))
}

/// Plays to the end.
pub(super) fn attempt(world: &mut World) -> Result<(), Panic> {
    catching(|| world.run())
}

fn catching(run: impl FnOnce()) -> Result<(), Panic> {
    QUIETER.call_once(|| {
        let hook = take_hook();
        set_hook(Box::new(move |panic| {
            if !IS_QUIET.get() {
                hook(panic);
            }
        }));
    });
    catch_unwind(AssertUnwindSafe(run))
}

/// What a panic says.
pub(super) fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| Some((*panic.downcast_ref::<&str>()?).to_owned()));
    text.unwrap_or_default()
}

/// The promise that is broken: `I1`, or the first word of another message.
pub(super) fn word(panic: &(dyn Any + Send)) -> String {
    let text = text(panic);
    let is_part = |letter: char| letter.is_alphanumeric();
    text.split(|letter| !is_part(letter))
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Plays a script; of one that fails the shortest part that fails so is shown, and it fails.
pub(super) fn script<S: Clone>(steps: &[S], play: impl Fn(&[S]), show: impl FnOnce(&[S])) {
    let attempt = |steps: &[S]| catching(|| play(steps));
    let Err(panic) = attempt(steps) else { return };
    IS_QUIET.set(true);
    let word_due = word(&*panic);
    let fails = |steps: &[S]| attempt(steps).is_err_and(|panic| word(&*panic) == word_due);
    let mut left = steps.to_vec();
    let mut chunk = left.len().div_ceil(2);
    while chunk > 0 {
        let mut at = 0;
        while at < left.len() {
            let end = left.len().min(at + chunk);
            let shorter = [&left[..at], &left[end..]].concat();
            if fails(&shorter) {
                left = shorter;
            } else {
                at = end;
            }
        }
        chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
    }
    let failure = attempt(&left).map_or_else(|panic| text(&*panic), |()| String::new());
    IS_QUIET.set(false);
    show(&left);
    eprintln!("{failure}");
    resume_unwind(panic)
}

/// Leaves out whatever can be left out, until nothing can.
fn smallest(seed: u64, mut plan: Plan, word_due: &str) -> Plan {
    let mut tries = 0;
    let mut fails = |plan: &Plan| {
        tries += 1;
        let mut world = World::new(seed, plan.clone(), false);
        let fails = attempt(&mut world).is_err_and(|panic| word(&*panic) == word_due);
        (fails && tries < TRIES_MAX).then(|| world.link().harmed().to_vec())
    };
    while let Some(smaller) = smaller(&plan)
        .into_iter()
        .find(|plan| fails(plan).is_some())
    {
        plan = smaller;
    }
    // Whatever is lost or doubled without need is not.
    let Some(mut harmed) = fails(&plan) else {
        return plan;
    };
    let mut chunk = harmed.len().div_ceil(2);
    while chunk > 0 {
        let mut at = 0;
        while at < harmed.len() {
            let mut gentler = plan.clone();
            let end = harmed.len().min(at + chunk);
            gentler.link.spared.extend(&harmed[at..end]);
            gentler.link.spared.sort_unstable();
            match fails(&gentler) {
                Some(left) => (plan, harmed) = (gentler, left),
                None => at += chunk,
            }
        }
        chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
    }
    plan
}

/// Plans with one thing less.
fn smaller(plan: &Plan) -> Vec<Plan> {
    let mut plans = Vec::new();
    let mut offer = |change: &dyn Fn(&mut Plan)| {
        let mut plan = plan.clone();
        change(&mut plan);
        plans.push(plan);
    };
    for index in 0..plan.receivers.len() {
        if plan.receivers.len() > 1 {
            offer(&|plan| {
                plan.receivers.remove(index);
                forget_cuts(plan, |victim| match victim {
                    Victim::Receiver(number) => Some((number, index, Victim::Receiver)),
                    Victim::Source(_) => None,
                });
            });
        }
    }
    for index in 0..plan.sources.len() {
        if plan.sources.len() > 1 {
            offer(&|plan| {
                plan.sources.remove(index);
                forget_cuts(plan, |victim| match victim {
                    Victim::Source(number) => Some((number, index, Victim::Source)),
                    Victim::Receiver(_) => None,
                });
            });
        }
        let source = &plan.sources[index];
        if source.runs > 1 {
            offer(&|plan| plan.sources[index].runs -= 1);
        }
        if source.messages > 1 && source.unlucky.is_none() {
            offer(&|plan| plan.sources[index].messages /= 2);
            offer(&|plan| plan.sources[index].messages -= 1);
        }
        if source.spread > 0.0 {
            offer(&|plan| plan.sources[index].spread = 0.0);
        }
    }
    for index in 0..plan.cuts.len() {
        offer(&|plan| {
            plan.cuts.remove(index);
        });
    }
    for index in 0..plan.link.blackouts.len() {
        offer(&|plan| {
            plan.link.blackouts.remove(index);
        });
    }
    // What nobody wins back for long is given up where nothing else is lost.
    let is_unlucky = plan.sources.iter().any(|source| source.unlucky.is_some());
    if plan.link.loss > 0.0 && !is_unlucky {
        offer(&|plan| plan.link.loss = 0.0);
    }
    if plan.link.duplication > 0.0 {
        offer(&|plan| plan.link.duplication = 0.0);
    }
    if !plan.link.is_fifo {
        offer(&|plan| plan.link.is_fifo = true);
    }
    plans
}

/// Drops the cuts of somebody who is gone, and counts those behind anew.
fn forget_cuts(
    plan: &mut Plan,
    of_kind: impl Fn(Victim) -> Option<(usize, usize, fn(usize) -> Victim)>,
) {
    plan.cuts.retain_mut(|cut| {
        let Some((number, gone, make)) = of_kind(cut.victim) else {
            return true;
        };
        if number > gone {
            cut.victim = make(number - 1);
        }
        number != gone
    });
}
