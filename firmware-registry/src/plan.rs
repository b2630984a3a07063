//! The form of a rollout's plan, and which of its devices a stage has.

use acuvim_schemas::api::{RolloutPlan, RolloutStage};

use crate::window::Window;

/// The most stages of a plan.
const STAGES: usize = 20;
/// The longest soak and deadline: 30 days.
const LONGEST_S: u32 = 30 * 86_400;
/// The longest gate.
const GATE: usize = 10_000;

/// Checks a plan for so many devices.
///
/// # Errors
/// The field at fault, and what it may be.
pub fn check_plan(plan: &RolloutPlan, devices: usize) -> Result<(), (String, String)> {
    let fault = |field: String, text: &str| Err((format!("rollout.{field}"), text.to_owned()));
    if plan.stages.is_empty() || plan.stages.len() > STAGES {
        return fault("stages".into(), "1 to 20 of them");
    }
    let mut reached = 0;
    for (n, stage) in plan.stages.iter().enumerate() {
        let field = format!("stages[{n}]");
        let last = n + 1 == plan.stages.len();
        match (stage.percent, stage.count) {
            (Some(percent), None) if percent > 0.0 && percent <= 100.0 => {}
            (None, Some(count)) if count > 0 => {}
            _ => return fault(field, "one of percent (above 0, at most 100) and count (above 0)"),
        }
        if last && stage.percent != Some(100.0) {
            return fault(field, "the last stage reaches all devices: {\"percent\": 100}");
        }
        let reaches = reach(stage, devices);
        if reaches < reached {
            return fault(field, "a stage reaches as many devices as the one before, or more");
        }
        reached = reaches;
        if stage.soak_seconds > LONGEST_S {
            return fault(format!("{field}.soak_seconds"), "0 to 2592000 (30 days)");
        }
    }
    if !(0.0..=100.0).contains(&plan.max_failure_percent) {
        return fault("max_failure_percent".into(), "0 to 100");
    }
    if !(1..=100_000).contains(&plan.failure_min_count) {
        return fault("failure_min_count".into(), "1 to 100000");
    }
    if !(1..=100_000).contains(&plan.max_in_progress) {
        return fault("max_in_progress".into(), "1 to 100000");
    }
    if !(1..=7 * 86_400).contains(&plan.silent_after_seconds) {
        return fault("silent_after_seconds".into(), "1 to 604800 (7 days)");
    }
    if !(60..=LONGEST_S).contains(&plan.deadline_seconds) {
        return fault("deadline_seconds".into(), "60 to 2592000 (30 days)");
    }
    let soaks: u64 = plan.stages.iter().map(|stage| u64::from(stage.soak_seconds)).sum();
    if soaks >= u64::from(plan.deadline_seconds) {
        return fault("deadline_seconds".into(), "more than the stages soak together");
    }
    if plan.health_gate_sql.as_ref().is_some_and(|sql| sql.trim().is_empty() || sql.len() > GATE) {
        return fault("health_gate_sql".into(), "1 to 10000 characters");
    }
    if plan.window.as_ref().is_some_and(|window| Window::parse(window).is_none()) {
        return fault("window".into(), "from and to as HH:MM, and not the same");
    }
    Ok(())
}

/// How many of so many devices a stage reaches, those of the stages before it included.
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

/// The stage of each of so many devices, in their order, from 1.
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
            let fault = check_plan(&plan(&stages), 500).expect_err("refused");
            assert_eq!(fault.0, field);
        }
        let bad = RolloutPlan { max_failure_percent: f64::NAN, ..RolloutPlan::default() };
        assert!(check_plan(&bad, 5).is_err());
        let soak = RolloutStage { soak_seconds: 4 * 86_400, ..percent(50.0) };
        let long = plan(&[soak.clone(), RolloutStage { percent: Some(100.0), ..soak }]);
        let fault = check_plan(&long, 5).expect_err("they soak longer than it may last");
        assert_eq!(fault.0, "rollout.deadline_seconds");
    }
}
