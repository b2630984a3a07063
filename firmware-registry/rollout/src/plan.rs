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
    // The deadline runs from the start. A plan that soaks longer would give up devices that were never told.
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
        // A stage of one percent of ten devices would test nothing.
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
    use std::ops::RangeInclusive;

    use proptest::prelude::*;

    use super::*;

    fn refused(change: impl FnOnce(&mut RolloutPlan)) -> Option<String> {
        let mut plan = RolloutPlan::default();
        change(&mut plan);
        check_plan(&plan, 500).err().map(|error| error.field)
    }

    #[test]
    fn each_limit_takes_its_bounds_and_nothing_beyond() {
        for (percent, good) in
            [(0.0, true), (-0.1, false), (100.0, true), (100.1, false), (f64::INFINITY, false)]
        {
            let field = refused(|plan| plan.max_failure_percent = percent);
            assert_eq!(field.is_none(), good, "max_failure_percent {percent}");
        }
        let day = 86_400;
        let count = |set: fn(&mut RolloutPlan, u32), n: u32| refused(|plan| set(plan, n));
        type Limit = (&'static str, fn(&mut RolloutPlan, u32), RangeInclusive<u32>);
        let limits: [Limit; 4] = [
            ("failure_min_count", |plan, n| plan.failure_min_count = n, 1..=100_000),
            ("max_in_progress", |plan, n| plan.max_in_progress = n, 1..=100_000),
            ("silent_after_seconds", |plan, n| plan.silent_after_seconds = n, 1..=7 * day),
            ("deadline_seconds", |plan, n| plan.deadline_seconds = n, 60..=30 * day),
        ];
        for (name, set, bounds) in limits {
            let (lowest, highest) = (*bounds.start(), *bounds.end());
            for n in [lowest, highest] {
                assert_eq!(count(set, n), None, "{name} {n}");
            }
            for n in [lowest - 1, highest + 1, u32::MAX] {
                assert_eq!(count(set, n), Some(format!("rollout.{name}")), "{name} {n}");
            }
        }
    }

    #[test]
    fn a_gate_has_text_and_not_too_much_of_it() {
        let gate = |sql: String| refused(|plan| plan.health_gate_sql = Some(sql));
        assert_eq!(gate("x".repeat(10_000)), None);
        for bad in [String::new(), " \n\t".into(), "x".repeat(10_001)] {
            assert_eq!(gate(bad), Some("rollout.health_gate_sql".into()));
        }
    }

    #[test]
    fn stages_are_counted_and_soak_within_the_deadline() {
        let soaking = |seconds: u32| RolloutStage { soak_seconds: seconds, ..percent(100.0) };
        let of = |n: usize| refused(|plan| plan.stages = vec![percent(100.0); n]);
        assert_eq!((of(20), of(21)), (None, Some("rollout.stages".into())));
        let soak = |seconds: u32, deadline: u32| {
            refused(|plan| {
                plan.stages = vec![soaking(seconds)];
                plan.deadline_seconds = deadline;
            })
        };
        assert_eq!(soak(59, 60), None);
        assert_eq!(soak(60, 60), Some("rollout.deadline_seconds".into()));
        let most = 30 * 86_400;
        assert_eq!(soak(most + 1, most), Some("rollout.stages[0].soak_seconds".into()));
        // Each stage could soak that long alone; together they can't.
        let long = refused(|plan| plan.stages = vec![soaking(most); 20]);
        assert_eq!(long, Some("rollout.deadline_seconds".into()));
        let both = RolloutStage { count: Some(1), ..percent(100.0) };
        assert_eq!(refused(|plan| plan.stages = vec![both]), Some("rollout.stages[0]".into()));
        let same = [count(5), percent(1.0), percent(100.0)];
        assert_eq!(check_plan(&plan(&same), 500), Ok(()), "5 and 5 of 500: as many are allowed");
        assert!(check_plan(&plan(&same), 400).is_err(), "5 and 4");
    }

    fn stage() -> impl Strategy<Value = RolloutStage> {
        prop_oneof![(0.01..100.0).prop_map(percent), (1_u32..600).prop_map(count)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// Every device is in a stage of the plan, the first stage is tried on somebody, and no stage
        /// reaches fewer devices than it says.
        #[test]
        fn a_good_plan_reaches_every_device_in_order(
            stages in prop::collection::vec(stage(), 0..5), devices in 0_usize..500,
        ) {
            let mut stages = stages;
            stages.push(percent(100.0));
            let plan = plan(&stages);
            let of = stages_of(&plan, devices);
            prop_assert_eq!(of.len(), devices);
            prop_assume!(check_plan(&plan, devices).is_ok());
            prop_assert!(of.is_sorted(), "{of:?}");
            prop_assert!(of.iter().all(|stage| (1..=stages.len() as i64).contains(stage)));
            prop_assert!(devices == 0 || of[0] == 1);
            for (n, stage) in (1..).zip(&stages) {
                let reached = of.iter().filter(|of| **of <= n).count();
                let share = stage.percent.map_or(0.0, |percent| devices as f64 * percent / 100.0);
                prop_assert!(reached as f64 >= share.floor());
                let count = stage.count.map_or(0, |count| count as usize);
                prop_assert!(reached >= count.min(devices));
            }
        }
    }

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
