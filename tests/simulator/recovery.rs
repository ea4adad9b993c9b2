//! Long streams over a bad link: everything is won back, and no more is asked for than is needed.

use natseq::jitter::Jitter;
use natseq::sequence::Delivery;

use super::plan::{MILLI, Plan, SourcePlan, source};
use super::shrink;

/// Numbers in one stream.
const MESSAGES: u64 = 10_000;

/// A link that loses a fifth of everything, repairs included, doubles a twentieth, and lets a
/// tenth be overtaken.
pub(super) fn run(seed: u64) {
    let mut jitter = Jitter::new(seed ^ 0x1055);
    let mut plan = Plan::ordinary(&mut jitter);
    plan.sources = vec![SourcePlan {
        messages: MESSAGES,
        burst: 10,
        pause: MILLI,
        runs: 1,
        ..source(&mut jitter, 0)
    }];
    plan.receivers.truncate(1);
    plan.receivers[0].delivery =
        [Delivery::Immediate, Delivery::Ordered][usize::from(seed % 2 == 1)];
    plan.receivers[0].hold_messages_max = 8_192;
    (plan.link.loss, plan.link.duplication) = (0.2, 0.05);
    plan.link.stragglers = 0.1;
    // A straggler is no loss.
    plan.grace = MILLI * 10;
    let world = shrink::play(seed, plan);
    let (lines, gaps, ranges) = world.account(0);
    let line = &lines[0];
    let is_whole = line.delivered == line.highest + 1 - line.base;
    assert!(is_whole && line.highest == MESSAGES, "{line:?}");
    let is_fair = (gaps..=gaps * 2).contains(&ranges);
    assert!(
        is_fair,
        "{ranges} ranges were asked for, {gaps} gaps were found"
    );
    eprintln!(
        "seed {seed}: {gaps} gaps, {ranges} ranges asked for, {} repaired",
        line.repaired
    );
}
