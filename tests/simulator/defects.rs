//! Plants one mistake after the other, and looks for the run that notices it.

use natseq::sequence::Defect;

use super::groups::Group;
use super::plan::Plan;
use super::shrink;
use super::world::World;

/// Seeds after which a mistake counts as unnoticed.
const SEEDS_MAX: u64 = 60;

/// Prints a table: the mistake, the promise that it breaks, and where.
pub(super) fn run() {
    let mut unnoticed = Vec::new();
    eprintln!(
        "{:<20} {:<14} {:>4}  broken promise",
        "defect", "group", "seed"
    );
    for defect in Defect::ALL {
        Defect::plant(Some(*defect));
        let found = find();
        Defect::plant(None);
        match found {
            Some((group, seed, failure)) => {
                let (defect, group) = (format!("{defect:?}"), format!("{group:?}"));
                let failure = failure.replace("assertion `left == right` failed: ", "");
                let failure: String = failure.chars().take(60).collect();
                let failure = failure.replace('\n', " ");
                eprintln!("{defect:<20} {group:<14} {seed:>4}  {failure}");
            }
            None => unnoticed.push(defect),
        }
    }
    assert!(unnoticed.is_empty(), "nobody notices {unnoticed:?}");
}

fn find() -> Option<(Group, u64, String)> {
    for seed in 0..SEEDS_MAX {
        for group in Group::ALL {
            let mut world = World::new(seed, Plan::new(*group, seed), false);
            if let Err(failure) = shrink::attempt_quietly(&mut world) {
                return Some((*group, seed, failure));
            }
        }
    }
    None
}
