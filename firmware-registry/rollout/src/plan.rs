//! Rollout plans: which ones are valid, and which stage each device belongs to.

use acuvim_model::{RolloutPlan, RolloutStage};

use crate::window::Window;

const MAX_STAGES: usize = 20;
/// The longest soak and the longest deadline: 30 days.
const MAX_SECONDS: u32 = 30 * 86_400;
const MAX_GATE_LENGTH: usize = 10_000;

/// Why a plan is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct PlanError {
    /// The field at fault, as the API names it: `rollout.stages[1]`.
    pub field: String,
    /// What the field may be.
    pub message: &'static str,
}

fn refuse<T>(field: &str, message: &'static str) -> Result<T, PlanError> {
    Err(PlanError { field: format!("rollout.{field}"), message })
}

/// Checks a plan for a number of devices.
///
/// # Errors
/// The first field at fault.
pub fn check_plan(plan: &RolloutPlan, devices: usize) -> Result<(), PlanError> {
    check_stages(&plan.stages, devices)?;
    check_limits(plan)?;
    let soaks: u64 = plan.stages.iter().map(|stage| u64::from(stage.soak_seconds)).sum();
    if soaks >= u64::from(plan.deadline_seconds) {
        return refuse("deadline_seconds", "more than the stages soak together");
    }
    let good_gate = |sql: &String| !sql.trim().is_empty() && sql.len() <= MAX_GATE_LENGTH;
    if !plan.health_gate_sql.as_ref().is_none_or(good_gate) {
        return refuse("health_gate_sql", "1 to 10000 characters");
    }
    if plan.window.as_ref().is_some_and(|window| Window::parse(window).is_none()) {
        return refuse("window", "from and to as HH:MM, and not the same");
    }
    Ok(())
}

fn check_stages(stages: &[RolloutStage], devices: usize) -> Result<(), PlanError> {
    if stages.is_empty() || stages.len() > MAX_STAGES {
        return refuse("stages", "1 to 20 of them");
    }
    let mut reached = 0;
    for (n, stage) in stages.iter().enumerate() {
        let field = format!("stages[{n}]");
        let last = n + 1 == stages.len();
        match (stage.percent, stage.count) {
            (Some(percent), None) if percent > 0.0 && percent <= 100.0 => {}
            (None, Some(count)) if count > 0 => {}
            _ => {
                return refuse(&field, "one of percent (above 0, at most 100) and count (above 0)");
            }
        }
        if last && stage.percent != Some(100.0) {
            return refuse(&field, "the last stage reaches all devices: {\"percent\": 100}");
        }
        let reaches = reach(stage, devices);
        if reaches < reached {
            return refuse(&field, "a stage reaches as many devices as the one before, or more");
        }
        reached = reaches;
        if stage.soak_seconds > MAX_SECONDS {
            return refuse(&format!("{field}.soak_seconds"), "0 to 2592000 (30 days)");
        }
    }
    Ok(())
}

fn check_limits(plan: &RolloutPlan) -> Result<(), PlanError> {
    // NaN is in no range, so it is refused too.
    if !(0.0..=100.0).contains(&plan.max_failure_percent) {
        return refuse("max_failure_percent", "0 to 100");
    }
    if !(1..=100_000).contains(&plan.failure_min_count) {
        return refuse("failure_min_count", "1 to 100000");
    }
    if !(1..=100_000).contains(&plan.max_in_progress) {
        return refuse("max_in_progress", "1 to 100000");
    }
    if !(1..=7 * 86_400).contains(&plan.silent_after_seconds) {
        return refuse("silent_after_seconds", "1 to 604800 (7 days)");
    }
    if !(60..=MAX_SECONDS).contains(&plan.deadline_seconds) {
        return refuse("deadline_seconds", "60 to 2592000 (30 days)");
    }
    Ok(())
}

/// The number of devices that a stage reaches, including those of earlier stages.
fn reach(stage: &RolloutStage, devices: usize) -> usize {
    let share = |percent: f64| {
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count of devices, which is small and not negative"
        )]
        let share = (devices as f64 * percent / 100.0).ceil() as usize;
        share.max(1)
    };
    let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    stage.percent.map_or_else(|| count(stage.count.unwrap_or(0)), share).min(devices)
}

/// The stage, from 1, of each of a number of devices, in their order.
#[must_use]
pub fn stages_of(plan: &RolloutPlan, devices: usize) -> Vec<i64> {
    let reaches: Vec<usize> = plan.stages.iter().map(|stage| reach(stage, devices)).collect();
    (0..devices)
        .map(|n| {
            let stage = reaches.iter().position(|reach| n < *reach).unwrap_or(reaches.len());
            i64::try_from(stage + 1).unwrap_or(i64::MAX)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percent(percent: f64) -> RolloutStage {
        RolloutStage { percent: Some(percent), ..RolloutStage::default() }
    }

    fn count(count: u32) -> RolloutStage {
        RolloutStage { count: Some(count), ..RolloutStage::default() }
    }

    fn plan(stages: &[RolloutStage]) -> RolloutPlan {
        RolloutPlan { stages: stages.to_vec(), ..RolloutPlan::default() }
    }

    #[test]
    fn stages_reach_further_and_the_last_reaches_all() {
        let good = plan(&[count(5), percent(10.0), percent(100.0)]);
        assert_eq!(check_plan(&good, 500), Ok(()));
        let stages = stages_of(&good, 500);
        let of = |stage: i64| stages.iter().filter(|s| **s == stage).count();
        assert_eq!((of(1), of(2), of(3)), (5, 45, 450));
        assert_eq!(stages_of(&plan(&[percent(1.0), percent(100.0)]), 3), [1, 2, 2], "at least one");
        assert_eq!(stages_of(&plan(&[count(50), percent(100.0)]), 3), [1, 1, 1]);
        for (stages, field) in [
            (vec![], "rollout.stages"),
            (vec![percent(0.0)], "rollout.stages[0]"),
            (vec![percent(101.0)], "rollout.stages[0]"),
            (vec![percent(f64::NAN)], "rollout.stages[0]"),
            (vec![RolloutStage::default()], "rollout.stages[0]"),
            (vec![percent(50.0)], "rollout.stages[0]"),
            (vec![percent(50.0), percent(10.0), percent(100.0)], "rollout.stages[1]"),
        ] {
            let error = check_plan(&plan(&stages), 500).expect_err("refused");
            assert_eq!(error.field, field);
        }
        let bad = RolloutPlan { max_failure_percent: f64::NAN, ..RolloutPlan::default() };
        assert!(check_plan(&bad, 5).is_err());
        let soak = RolloutStage { soak_seconds: 4 * 86_400, ..percent(50.0) };
        let long = plan(&[soak.clone(), RolloutStage { percent: Some(100.0), ..soak }]);
        let error = check_plan(&long, 5).expect_err("they soak longer than it may last");
        assert_eq!(error.field, "rollout.deadline_seconds");
    }
}
