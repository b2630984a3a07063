//! Decisions at their limits, and what holds for any fleet.

use acuvim_model::MaintenanceWindow;
use proptest::prelude::*;

use super::*;
use crate::testing::{DEADLINE, any_member, at, member, members, rollout};

fn next(rollout: &RunningRollout, members: &[RolloutMember], second: i64) -> Next {
    judge(rollout, members, None, at(second)).next
}

fn limited(percent: f64, min: u32) -> RunningRollout {
    let mut running = rollout();
    (running.plan.max_failure_percent, running.plan.failure_min_count) = (percent, min);
    running
}

#[test]
fn as_many_failures_as_are_allowed_do_not_stop_it_and_one_more_does() {
    use UpdateState::{Confirmed, Failed, Installing, RolledBack, Silent};
    let running = limited(30.0, 10);
    let three =
        members(&[(1, Failed), (1, RolledBack), (1, Silent), (7, Confirmed), (5, Installing)]);
    assert_eq!(next(&running, &three, 200), Next::GoOn);
    let four = members(&[(4, Failed), (6, Confirmed), (5, Installing)]);
    assert!(matches!(next(&running, &four, 200), Next::Stop(_)));
    // Nine that ended are too few to judge by, unless nobody else is at work.
    let few = members(&[(9, Failed), (1, Installing)]);
    assert_eq!(next(&running, &few, 200), Next::GoOn);
    assert!(matches!(next(&running, &members(&[(9, Failed)]), 200), Next::Stop(_)));
    let none = limited(0.0, 1);
    assert!(matches!(next(&none, &members(&[(1, Failed), (99, Confirmed)]), 200), Next::Stop(_)));
    let all = limited(100.0, 1);
    assert_eq!(next(&all, &members(&[(9, Failed)]), 200), Next::Soak, "it was allowed to");
}

#[test]
fn more_forgiven_failures_than_there_are_count_as_none() {
    use UpdateState::{Confirmed, Failed};
    let running = RunningRollout { forgiven: 50, ..limited(0.0, 1) };
    assert_eq!(next(&running, &members(&[(2, Failed), (1, Confirmed)]), 200), Next::Soak);
}

/// Devices can be deleted while a rollout runs.
#[test]
fn a_rollout_without_devices_comes_to_its_end() {
    let mut running = rollout();
    let mut steps = Vec::new();
    for second in 0.. {
        let next = next(&running, &[], second * 60);
        match &next {
            Next::Soak => running.soak_since = Some(at(second * 60)),
            Next::NextStage => (running.stage, running.soak_since) = (running.stage + 1, None),
            _ => {}
        }
        steps.push(next);
        if steps.len() == 5 {
            break;
        }
    }
    assert_eq!(steps, [Next::Soak, Next::NextStage, Next::Soak, Next::NextStage, Next::Complete]);
}

#[test]
fn a_stage_soaks_for_its_own_time() {
    let through = members(&[(5, UpdateState::Confirmed)]);
    let mut running = rollout();
    running.plan.stages[0].soak_seconds = 30;
    running.plan.stages[1].soak_seconds = 0;
    running.soak_since = Some(at(1000));
    assert_eq!(next(&running, &through, 1029), Next::GoOn);
    assert_eq!(next(&running, &through, 1030), Next::NextStage);
    running.stage = 2;
    assert_eq!(next(&running, &through, 1000), Next::NextStage, "it has no soak");
}

/// A confirmed device can fail while its stage soaks, and others can be added to the stage.
#[test]
fn a_device_that_is_at_work_again_holds_the_stage_up_although_it_soaks() {
    use UpdateState::{Confirmed, Installing, Waiting};
    let running = RunningRollout { soak_since: Some(at(0)), ..rollout() };
    for state in [Waiting, Installing] {
        assert_eq!(next(&running, &members(&[(5, Confirmed), (1, state)]), 5000), Next::GoOn);
    }
    let other = RolloutMember { stage: 2, ..member(Waiting) };
    let later = [members(&[(5, Confirmed)]), vec![other]].concat();
    assert_eq!(next(&running, &later, 5000), Next::NextStage, "it is of the next stage");
}

#[test]
fn the_gate_is_asked_only_while_somebody_still_runs_the_old_version() {
    use UpdateState::{Confirmed, Offered, Waiting};
    let mut running = RunningRollout { soak_since: Some(at(0)), ..rollout() };
    running.plan.health_gate_sql = Some("SELECT true".into());
    for (state, want) in
        [(Waiting, Next::AskGate), (Offered, Next::AskGate), (Confirmed, Next::NextStage)]
    {
        let other = RolloutMember { stage: 2, ..member(state) };
        let fleet = [members(&[(5, Confirmed)]), vec![other]].concat();
        assert_eq!(next(&running, &fleet, 5000), want, "{state:?}");
    }
}

/// The answer may come when the rollout has moved on, or has been stopped by failures in the meantime.
#[test]
fn an_answer_that_was_not_asked_for_changes_nothing() {
    use UpdateState::{Confirmed, Failed, Waiting};
    let mut running = RunningRollout { soak_since: Some(at(0)), ..limited(5.0, 1) };
    running.plan.health_gate_sql = Some("SELECT true".into());
    let other = RolloutMember { stage: 2, ..member(Waiting) };
    let failed = [members(&[(5, Confirmed), (5, Failed)]), vec![other.clone()]].concat();
    let healthy = GateAnswer::Healthy(json!({}));
    assert!(matches!(judge(&running, &failed, Some(&healthy), at(5000)).next, Next::Stop(_)));
    let soaking = [members(&[(5, Confirmed)]), vec![other]].concat();
    let bad = GateAnswer::Unhealthy(json!({}));
    assert_eq!(judge(&running, &soaking, Some(&bad), at(59)).next, Next::GoOn);
    let asked = judge(&running, &soaking, Some(&bad), at(60));
    assert_eq!(asked.next, Next::Stop("the health gate of stage 1 says no".into()));
    assert!(asked.figures["counted"]["devices"].is_object(), "{}", asked.figures);
}

#[test]
fn a_gate_that_fails_pauses_with_the_error_and_one_that_is_away_is_asked_again() {
    let mut running = RunningRollout { soak_since: Some(at(0)), ..rollout() };
    running.plan.health_gate_sql = Some("SELECT 1".into());
    let other = RolloutMember { stage: 2, ..member(UpdateState::Waiting) };
    let fleet = [members(&[(5, UpdateState::Confirmed)]), vec![other]].concat();
    let answered = |answer| judge(&running, &fleet, Some(&answer), at(5000)).next;
    let Next::Pause(reason) = answered(GateAnswer::Failed("no column x".into())) else { panic!() };
    assert!(reason.starts_with(GATE_FAILED) && reason.ends_with(": no column x"), "{reason}");
    assert_eq!(answered(GateAnswer::Away), Next::GoOn);
}

#[test]
fn the_deadline_stops_only_a_rollout_with_nobody_left_at_work() {
    use UpdateState::{Cancelled, Confirmed, Installing, Waiting};
    let missed = RolloutMember { is_missed: true, ..member(Cancelled) };
    let mut running = RunningRollout { stage: 3, ..rollout() };
    let with = |rest: &[(usize, UpdateState)]| [members(rest), vec![missed.clone()]].concat();
    assert!(matches!(next(&running, &with(&[(9, Confirmed)]), DEADLINE), Next::Stop(_)));
    assert_eq!(next(&running, &with(&[(9, Confirmed)]), DEADLINE - 1), Next::Complete);
    for busy in [Waiting, Installing] {
        assert_eq!(next(&running, &with(&[(9, Confirmed), (1, busy)]), DEADLINE), Next::GoOn);
    }
    running.deadline_at = at(0);
    let done = members(&[(9, Confirmed), (1, Cancelled)]);
    assert_eq!(next(&running, &done, DEADLINE), Next::Complete, "none was missed");
}

#[test]
fn the_figures_are_those_that_were_decided_on() {
    use UpdateState::{Confirmed, Failed, Waiting};
    let running = RunningRollout { forgiven: 1, ..rollout() };
    let other = RolloutMember { stage: 2, ..member(Waiting) };
    let fleet = [members(&[(1, Failed), (3, Confirmed)]), vec![other]].concat();
    let figures = judge(&running, &fleet, None, at(200)).figures;
    assert_eq!(figures["stage"], 1);
    assert_eq!(
        (&figures["devices"]["waiting"], &figures["up_to_this_stage"]["waiting"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(figures["failure_percent"], 25.0);
    assert_eq!(
        (&figures["forgiven_failures"], &figures["max_failure_percent"]),
        (&json!(1), &json!(5.0))
    );
    let nobody = judge(&running, &[], None, at(200)).figures;
    assert_eq!(nobody["failure_percent"], 0.0, "and not NaN, which JSON does not have");
}

#[test]
fn devices_that_are_away_take_no_room_and_those_at_work_do() {
    use UpdateState::{Downloading, Installing, Offered, Waiting};
    let mut running = rollout();
    running.plan.max_in_progress = 4;
    let away = RolloutMember { is_online: false, ..member(Offered) };
    let room = |busy: Vec<RolloutMember>| {
        let fleet = [busy, members(&[(9, Waiting)])].concat();
        offers(&running, &fleet, at(200)).len()
    };
    assert_eq!(room(vec![]), 4);
    assert_eq!(room(vec![away; 50]), 4);
    assert_eq!(room(members(&[(1, Offered), (1, Downloading), (1, Installing)])), 1);
    assert_eq!(room(members(&[(9, Downloading)])), 0, "more than the plan allows are at work");
}

#[test]
fn a_window_is_that_of_each_site_and_utc_where_none_is_known() {
    let mut running = rollout();
    running.plan.window = Some(MaintenanceWindow { from: "22:00".into(), to: "02:00".into() });
    let zone = |zone: Option<&str>| RolloutMember {
        time_zone: zone.map(str::to_owned),
        ..member(UpdateState::Waiting)
    };
    let fleet = [zone(None), zone(Some("no/where")), zone(Some("Asia/Tokyo"))];
    let told = |time: &str| {
        let offered = offers(&running, &fleet, time.parse().expect("a time"));
        offered.iter().map(|member| member.time_zone.as_deref()).collect::<Vec<_>>()
    };
    assert_eq!(told("2026-11-19T23:00:00Z"), [None, Some("no/where")]);
    assert_eq!(told("2026-11-19T13:00:00Z"), [Some("Asia/Tokyo")]);
    assert!(told("2026-11-19T08:00:00Z").is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The database returns devices in any order.
    #[test]
    fn the_order_of_the_devices_decides_nothing(
        fleet in prop::collection::vec(any_member(), 0..12), stage in 1_i64..4,
        soaks in prop::option::of(0_i64..5000), now in 0_i64..100_000,
    ) {
        let running = RunningRollout { stage, soak_since: soaks.map(at), ..rollout() };
        let judged = judge(&running, &fleet, None, at(now));
        let mut other = fleet;
        other.reverse();
        let half = other.len() / 2;
        other.rotate_left(half);
        prop_assert_eq!(judge(&running, &other, None, at(now)), judged);
    }

    #[test]
    fn a_step_is_taken_only_where_it_is_due(
        fleet in prop::collection::vec(any_member(), 0..12), stage in 1_i64..4,
        soaks in prop::option::of(0_i64..5000), now in 0_i64..100_000,
    ) {
        let running = RunningRollout { stage, soak_since: soaks.map(at), ..rollout() };
        let open = |member: &RolloutMember| !member.state.is_over();
        let here = || fleet.iter().filter(|member| member.stage <= stage);
        match next(&running, &fleet, now) {
            Next::Complete => {
                prop_assert!(stage == 3 && !fleet.iter().any(open));
            }
            Next::NextStage | Next::AskGate => {
                prop_assert!(stage < 3 && soaks.is_some_and(|since| now - since >= 60));
                let at_work = |m: &RolloutMember| {
                    open(m) && (m.is_online || m.state != UpdateState::Offered)
                };
                prop_assert!(!here().any(at_work));
            }
            Next::Soak => prop_assert!(stage < 3 && soaks.is_none()),
            Next::Stop(reason) => {
                let failed = fleet.iter().any(|member| member.state.is_failure());
                prop_assert!(failed || fleet.iter().any(|member| member.is_missed), "{reason}");
            }
            Next::Pause(_) => prop_assert!(false, "no gate has answered"),
            Next::GoOn => {}
        }
    }

    /// Whatever is known of the devices, only those are told that wait and whose stage has begun.
    #[test]
    fn no_more_are_told_than_may_be_at_work(
        fleet in prop::collection::vec(any_member(), 0..30), stage in 1_i64..4, room in 1_u32..8,
    ) {
        let mut running = RunningRollout { stage, ..rollout() };
        running.plan.max_in_progress = room;
        let told = offers(&running, &fleet, at(0));
        prop_assert!(told.iter().all(|m| m.state == UpdateState::Waiting && m.stage <= stage));
        let busy = fleet.iter().filter(|m| m.state.is_under_way()).count();
        prop_assert!(told.len() <= (room as usize).saturating_sub(busy));
        let due = fleet.iter().filter(|m| m.state == UpdateState::Waiting && m.stage <= stage).count();
        let offered = |m: &RolloutMember| m.state == UpdateState::Offered && m.is_online;
        let busy = busy + fleet.iter().filter(|m| offered(m)).count();
        prop_assert_eq!(told.len(), due.min((room as usize).saturating_sub(busy)), "and no fewer");
    }
}
