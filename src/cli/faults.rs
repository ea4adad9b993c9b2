//! The faults of an embedded broker, as flags.

use std::time::Duration;

use clap::Args;

use crate::broker::{Direction, FaultPlan, FaultRule};
use crate::subject::{Filter, SubjectError};

/// Chances within 0 to 1, for each message that the broker delivers.
#[derive(Debug, Clone, Args)]
pub(super) struct FaultArgs {
    /// Chance that a message vanishes
    #[arg(long, value_name = "P", value_parser = chance)]
    pub drop: Option<f64>,
    /// Chance that a message comes twice
    #[arg(long, value_name = "P", value_parser = chance)]
    pub duplicate: Option<f64>,
    /// Chance that later messages overtake a message
    #[arg(long, value_name = "P", value_parser = chance)]
    pub reorder: Option<f64>,
    /// Chance that a message holds up everything behind it for 20 ms
    #[arg(long, value_name = "P", value_parser = chance)]
    pub delay: Option<f64>,
    /// Chance that the connection breaks in the middle of a message
    #[arg(long, value_name = "P", value_parser = chance)]
    pub truncate: Option<f64>,
    /// Chance that the connection breaks behind a message
    #[arg(long, value_name = "P", value_parser = chance)]
    pub cut: Option<f64>,
    /// Write every byte by itself
    #[arg(long)]
    pub split: bool,
}

impl FaultArgs {
    /// The plan that the flags describe; `defaults` stands for what was left out.
    pub(super) fn plan(&self, defaults: &Chances) -> Result<FaultPlan, SubjectError> {
        let mut rule = FaultRule::new(Filter::new(">")?, Direction::ToClient);
        rule.drop = self.drop.unwrap_or(defaults.drop);
        rule.duplicate = self.duplicate.unwrap_or(defaults.duplicate);
        rule.reorder = self.reorder.unwrap_or(0.0);
        rule.reorder_time = Duration::from_millis(5);
        rule.delay = self.delay.unwrap_or(0.0);
        rule.truncate = self.truncate.unwrap_or(0.0);
        rule.cut = self.cut.unwrap_or(defaults.cut);
        let mut plan = FaultPlan::one(rule);
        plan.is_split = self.split;
        Ok(plan)
    }
}

/// What goes wrong unless the flags say otherwise.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Chances {
    pub(super) drop: f64,
    pub(super) duplicate: f64,
    pub(super) cut: f64,
}

fn chance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(chance) if (0.0..=1.0).contains(&chance) => Ok(chance),
        Ok(_) | Err(_) => Err(format!(
            "`{text}` is not a chance, allowed are numbers from 0 to 1"
        )),
    }
}
