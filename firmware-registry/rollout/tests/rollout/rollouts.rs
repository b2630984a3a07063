//! Transitions and decisions case by case, and whole rollouts of random fleets.

use acuvim_model::{CommandStatus, MaintenanceWindow, RolloutPlan, RolloutStage, UpdateState};
use acuvim_rollout::{
    GateAnswer, Next, RolloutMember, RunningRollout, judge, observe, offers, stages_of,
};
use chrono::{DateTime, Utc};
use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_000_000 + second, 0).expect("a time")
}

fn rollout(plan: RolloutPlan) -> RunningRollout {
    RunningRollout {
        id: Uuid::nil(),
        version: "1.2.0".into(),
        stage: 1,
        soak_since: None,
        plan,
        deadline_at: at(7 * 86_400),
        created_by: "test".into(),
        forgiven: 0,
        updated_at: at(0),
    }
}

fn staged() -> RolloutPlan {
    let stage = |percent: f64| RolloutStage {
        percent: Some(percent),
        soak_seconds: 60,
        ..RolloutStage::default()
    };
    RolloutPlan { stages: vec![stage(10.0), stage(100.0)], ..RolloutPlan::default() }
}

fn member(state: UpdateState) -> RolloutMember {
    RolloutMember {
        device_id: "dev-1".into(),
        stage: 1,
        state,
        since: at(100),
        boot_before: Some(7),
        is_missed: false,
        fetched_some: false,
        fetched_all: false,
        is_refused: false,
        command: Some(CommandStatus::Sent),
        command_error: None,
        was_sent: true,
        is_online: true,
        beat_version: Some("1.1.0".into()),
        beat_at: Some(at(90)),
        boot: Some(7),
        beat_interval_s: None,
        from_version: Some("1.1.0".into()),
        is_looping: false,
        is_told_since: false,
        time_zone: None,
    }
}

fn seen(member: &RolloutMember, second: i64) -> Option<UpdateState> {
    observe(&rollout(staged()), member, at(0), at(second)).map(|next| next.state)
}

#[test]
fn a_device_is_confirmed_by_a_later_heartbeat_alone() {
    use UpdateState::{Confirmed, Downloading, Failed, Installing, RolledBack, Silent, Waiting};
    let offered = member(UpdateState::Offered);
    let command = |status| RolloutMember { command: Some(status), ..offered.clone() };
    assert_eq!(seen(&offered, 101), None);
    assert_eq!(seen(&command(CommandStatus::Pending), 101), None);
    assert_eq!(seen(&command(CommandStatus::Ack), 101), Some(Downloading));
    assert_eq!(seen(&command(CommandStatus::Success), 101), Some(Installing));
    assert_eq!(seen(&command(CommandStatus::Error), 101), Some(Failed));
    assert_eq!(seen(&command(CommandStatus::Timeout), 101), Some(Failed));
    let fetches = RolloutMember { fetched_some: true, ..offered.clone() };
    assert_eq!(seen(&fetches, 101), Some(Downloading));
    // It reports the new version without having fetched a byte.
    let liar = RolloutMember {
        beat_version: Some("1.2.0".into()),
        beat_at: Some(at(150)),
        ..offered.clone()
    };
    assert_eq!(seen(&liar, 160), None);

    let loading = RolloutMember { fetched_some: true, ..member(Downloading) };
    assert_eq!(seen(&loading, 101), None);
    let has_all = RolloutMember { fetched_all: true, ..loading.clone() };
    assert_eq!(seen(&has_all, 101), Some(Installing));
    let gave_up = RolloutMember { command: Some(CommandStatus::Timeout), ..loading };
    assert_eq!(seen(&gave_up, 101), Some(Failed));

    let installing = member(Installing);
    let beat = |version: &str, second: i64| RolloutMember {
        beat_version: Some(version.into()),
        beat_at: Some(at(second)),
        ..installing.clone()
    };
    assert_eq!(seen(&installing, 101), None, "the heartbeat is from before");
    assert_eq!(seen(&beat("1.2.0", 90), 120), None, "also one of the new version");
    assert_eq!(seen(&beat("1.2.0", 110), 120), Some(Confirmed));
    assert_eq!(seen(&beat("v1.2.0", 110), 120), Some(Confirmed));
    assert_eq!(seen(&beat("1.1.0", 110), 120), None, "it has not started anew yet");
    let back = RolloutMember { boot: Some(8), ..beat("1.1.0", 110) };
    assert_eq!(seen(&back, 120), Some(RolledBack));
    assert_eq!(seen(&installing, 1000), Some(Silent));
    assert_eq!(seen(&beat("1.1.0", 110), 1000), Some(Failed), "it never started into it");
    // It answers success, restarts, and reports no version.
    let nameless = RolloutMember { beat_version: None, boot: Some(8), ..beat("x", 110) };
    assert_eq!(seen(&nameless, 120), Some(RolledBack));

    // Not delivered: it gets the command again until the deadline, and the version has not failed.
    let away =
        RolloutMember { command: Some(CommandStatus::Timeout), was_sent: false, ..offered.clone() };
    assert_eq!(seen(&away, 101), Some(Waiting));
    assert_eq!(seen(&away, 7 * 86_400), Some(UpdateState::Cancelled));
    assert_eq!(seen(&member(Waiting), 7 * 86_400), Some(UpdateState::Cancelled));
    // A device that runs the version by now gets no command.
    let has_it = RolloutMember { beat_version: Some("1.2.0".into()), ..member(Waiting) };
    assert_eq!(seen(&has_it, 101), Some(UpdateState::Cancelled));
    for over in [Failed, RolledBack, Silent, UpdateState::Cancelled, Waiting] {
        assert_eq!(seen(&member(over), 10_000), None, "{over:?}");
    }
    // While messages were not read, it may have sent heartbeats.
    let late = |since| {
        let running = rollout(staged());
        observe(&running, &installing, at(since), at(1100)).map(|next| next.state)
    };
    assert_eq!((late(0), late(900)), (Some(Silent), None));
}

#[test]
fn a_confirmed_device_is_watched_until_the_soak_of_its_stage_is_over() {
    use UpdateState::{Confirmed, Failed, RolledBack, Silent};
    let good = RolloutMember {
        beat_version: Some("1.2.0".into()),
        beat_at: Some(at(110)),
        boot: Some(8),
        ..member(Confirmed)
    };
    let beat = |version: &str| RolloutMember {
        beat_version: Some(version.into()),
        beat_at: Some(at(200)),
        ..good.clone()
    };
    assert_eq!(seen(&good, 300), None);
    assert_eq!(seen(&beat("v1.2.0"), 300), None);
    for other in ["1.1.0", "1.0.0", "dev-build"] {
        assert_eq!(seen(&beat(other), 300), Some(RolledBack), "{other}");
    }
    assert_eq!(seen(&beat("1.3.0"), 300), None, "it was updated by other means");
    let nameless = RolloutMember { beat_version: None, ..beat("x") };
    assert_eq!(seen(&nameless, 300), None, "it says nothing of its version");
    let elsewhere = RolloutMember { is_told_since: true, ..beat("1.1.0") };
    assert_eq!(seen(&elsewhere, 300), None, "another rollout has told it");
    let looping = RolloutMember { is_looping: true, ..good.clone() };
    assert_eq!(seen(&looping, 300), Some(Failed));
    assert_eq!((seen(&good, 1009), seen(&good, 1010)), (None, Some(Silent)));
    let slow = RolloutMember { beat_interval_s: Some(600), ..good.clone() };
    assert_eq!((seen(&slow, 3109), seen(&slow, 3110)), (None, Some(Silent)));
    // While messages were not read, it may have sent heartbeats.
    let running = rollout(staged());
    assert_eq!(observe(&running, &good, at(900), at(1500)), None);

    // After its stage only a fallback counts, until the rollout ends.
    let later = RunningRollout { stage: 2, ..rollout(staged()) };
    let then = |member: &RolloutMember| {
        observe(&later, member, at(0), at(9000)).map(|next| (next.state, next.detail))
    };
    assert_eq!(then(&good), None);
    assert_eq!(then(&looping), None);
    let detail = Some("it was confirmed, and then ran 1.1.0".to_owned());
    assert_eq!(then(&beat("1.1.0")), Some((RolledBack, detail)));
}

#[test]
fn pilots_that_fall_back_in_the_soak_stop_the_rollout() {
    use UpdateState::{Confirmed, Waiting};
    let mut running = rollout(staged());
    running.soak_since = Some(at(200));
    let waiting = RolloutMember { stage: 2, ..member(Waiting) };
    let mut pilots = [fleet(&[(2, Confirmed)]), vec![waiting]].concat();
    for pilot in pilots.iter_mut().take(2) {
        (pilot.beat_version, pilot.beat_at) = (Some("1.2.0".into()), Some(at(150)));
        assert_eq!(observe(&running, pilot, at(0), at(220)), None);
    }
    assert_eq!(next(&running, &pilots, 220), Next::GoOn);
    for pilot in pilots.iter_mut().take(2) {
        (pilot.beat_version, pilot.beat_at) = (Some("1.1.0".into()), Some(at(230)));
        let next = observe(&running, pilot, at(0), at(240)).expect("it fell back");
        pilot.state = next.state;
    }
    let Next::Stop(reason) = next(&running, &pilots, 240) else { panic!("both fell back") };
    assert!(reason.contains("2 of the 2 devices") && reason.contains("2 rolled back"), "{reason}");
}

#[test]
fn a_device_that_was_refused_while_the_rollout_was_held_is_told_again() {
    use UpdateState::{Cancelled, Downloading, Failed, Waiting};
    for state in [UpdateState::Offered, Downloading] {
        for command in [CommandStatus::Error, CommandStatus::Timeout] {
            let answered = RolloutMember { command: Some(command), ..member(state) };
            assert_eq!(seen(&answered, 101), Some(Failed), "{state:?} {command:?}");
            let refused = RolloutMember { is_refused: true, ..answered };
            assert_eq!(seen(&refused, 101), Some(Waiting), "{state:?} {command:?}");
            assert_eq!(seen(&refused, 7 * 86_400), Some(Cancelled), "it is too late");
        }
    }
    // Before its answer it may still fetch the image by itself, once the rollout goes on.
    let refused = RolloutMember { is_refused: true, ..member(UpdateState::Offered) };
    assert_eq!(seen(&refused, 101), None);
}

/// Devices in these states, all in stage 1.
fn fleet(states: &[(usize, UpdateState)]) -> Vec<RolloutMember> {
    let each = states.iter().flat_map(|(n, state)| std::iter::repeat_n(*state, *n));
    each.map(member).collect()
}

fn next(rollout: &RunningRollout, members: &[RolloutMember], second: i64) -> Next {
    judge(rollout, members, None, at(second)).next
}

#[test]
fn a_rollout_stops_before_it_hurts_and_says_why() {
    use UpdateState::{Confirmed, Installing, Silent};
    let running = rollout(staged());
    let few = fleet(&[(2, Silent), (3, Confirmed), (45, Installing)]);
    assert_eq!(next(&running, &few, 200), Next::GoOn, "five that ended are too few to judge by");
    let enough = fleet(&[(1, Silent), (9, Confirmed), (40, Installing)]);
    let Next::Stop(reason) = next(&running, &enough, 200) else { panic!("10 % are over 5 %") };
    assert_eq!(
        reason,
        "1 of the 10 devices that ended in stage 1 failed (10.0 %, allowed are 5 %): 0 failed, \
         0 rolled back, 1 fell silent"
    );
    let small = fleet(&[(1, Silent), (2, Confirmed)]);
    assert!(
        matches!(next(&running, &small, 200), Next::Stop(_)),
        "the stage is over: it is judged"
    );
    let good = fleet(&[(1, Silent), (49, Confirmed)]);
    assert_eq!(next(&running, &good, 200), Next::Soak, "2 % are allowed");
    // Four fell silent and one is away: decided now, not when that one comes back.
    let away = RolloutMember { is_online: false, ..member(UpdateState::Offered) };
    let bad = [fleet(&[(4, Silent)]), vec![away.clone()]].concat();
    assert!(matches!(next(&running, &bad, 200), Next::Stop(_)));
    assert_eq!(next(&running, &[away], 200), Next::GoOn, "nobody has ended");
    // Forgiven failures no longer count, but later ones do.
    let forgiven = RunningRollout { forgiven: 1, ..rollout(staged()) };
    assert_eq!(next(&forgiven, &small, 200), Next::Soak);
    let more = fleet(&[(2, Silent), (2, Confirmed)]);
    assert!(matches!(next(&forgiven, &more, 200), Next::Stop(_)));
    // A rollout with devices that were never reached does not complete.
    let missed = RolloutMember { is_missed: true, ..member(UpdateState::Cancelled) };
    let mut late = rollout(staged());
    late.stage = 3;
    let rest = [fleet(&[(9, Confirmed)]), vec![missed]].concat();
    let Next::Stop(reason) = next(&late, &rest, 7 * 86_400) else { panic!("not reached") };
    assert_eq!(reason, "the deadline is over, and 1 devices were not reached");
    let strict = rollout(RolloutPlan { max_failure_percent: 0.0, ..staged() });
    assert!(matches!(next(&strict, &good, 200), Next::Stop(_)));
}

#[test]
fn a_stage_soaks_is_asked_about_and_followed_by_the_next() {
    use UpdateState::{Confirmed, Offered, Waiting};
    let mut running = rollout(staged());
    let through = fleet(&[(10, Confirmed)]);
    assert_eq!(next(&running, &through, 200), Next::Soak);
    running.soak_since = Some(at(200));
    assert_eq!(next(&running, &through, 259), Next::GoOn);
    assert_eq!(next(&running, &through, 260), Next::NextStage);
    running.plan.health_gate_sql = Some("SELECT true".into());
    assert_eq!(next(&running, &through, 260), Next::NextStage, "nobody is left to compare with");
    let later = RolloutMember { stage: 2, ..member(Waiting) };
    let asked = [through.clone(), vec![later]].concat();
    assert_eq!(next(&running, &asked, 260), Next::AskGate);
    let answered = |answer: GateAnswer| judge(&running, &asked, Some(&answer), at(260));
    assert_eq!(answered(GateAnswer::Away).next, Next::GoOn, "it is asked again");
    let good = answered(GateAnswer::Healthy(json!({ "ok": true })));
    assert_eq!((good.next, &good.figures["gate"]["ok"]), (Next::NextStage, &json!(true)));
    assert!(matches!(answered(GateAnswer::Unhealthy(json!({}))).next, Next::Stop(_)));
    assert!(matches!(answered(GateAnswer::Failed("away".into())).next, Next::Pause(_)));

    // Devices that are away hold nothing up, once another has confirmed the version.
    let away = |n: usize| {
        let away = RolloutMember { is_online: false, ..member(Offered) };
        std::iter::repeat_n(away, n).collect::<Vec<_>>()
    };
    running.soak_since = None;
    assert_eq!(next(&running, &away(10), 200), Next::GoOn, "nobody has it yet");
    let some = [fleet(&[(1, Confirmed)]), away(9)].concat();
    assert_eq!(next(&running, &some, 200), Next::Soak);
    let there = [fleet(&[(1, Confirmed), (1, Offered)]), away(8)].concat();
    assert_eq!(next(&running, &there, 200), Next::GoOn, "one is there and has not ended");

    // All stages have begun: the rollout ends with its last device.
    running.stage = 3;
    assert_eq!(next(&running, &some, 200), Next::GoOn);
    assert_eq!(next(&running, &through, 200), Next::Complete);
    assert_eq!(next(&running, &fleet(&[(1, Confirmed), (1, Waiting)]), 200), Next::GoOn);
}

#[test]
fn as_many_are_told_as_may_be_at_work_in_their_window() {
    use UpdateState::{Downloading, Offered, Waiting};
    let mut running = rollout(RolloutPlan { max_in_progress: 5, ..staged() });
    let mut members = fleet(&[(10, Waiting), (2, Downloading), (1, Offered)]);
    assert_eq!(offers(&running, &members, at(0)).len(), 2);
    for one in &mut members {
        one.stage = 2;
    }
    assert_eq!(offers(&running, &members, at(0)).len(), 0, "their stage has not begun");
    running.stage = 2;
    let zone = |zone: &str| RolloutMember { time_zone: Some(zone.into()), ..member(Waiting) };
    let day: DateTime<Utc> = "2026-11-19T00:30:00Z".parse().expect("a time");
    let night = MaintenanceWindow { from: "01:00".into(), to: "05:00".into() };
    running.plan.window = Some(night);
    let mixed = [zone("UTC"), zone("Africa/Johannesburg"), zone("America/New_York")];
    let told = offers(&running, &mixed, day);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].time_zone.as_deref(), Some("Africa/Johannesburg"));
}

/// How a simulated device behaves.
#[derive(Debug, Clone, Copy)]
enum Habit {
    Good,
    Fails,
    Bricks,
    RollsBack,
    FallsBack,
    Away,
}

fn habit() -> impl Strategy<Value = Habit> {
    prop_oneof![
        20 => Just(Habit::Good),
        1 => Just(Habit::Fails),
        1 => Just(Habit::Bricks),
        1 => Just(Habit::RollsBack),
        1 => Just(Habit::FallsBack),
        2 => Just(Habit::Away),
    ]
}

/// What becomes known of a device between two steps of the rollout, by its habit.
fn live(member: &mut RolloutMember, habit: Habit, now: DateTime<Utc>) {
    match (habit, member.state) {
        (Habit::Away, _) => member.is_online = false,
        (Habit::Fails, UpdateState::Offered) => member.command = Some(CommandStatus::Error),
        (_, UpdateState::Offered) => member.command = Some(CommandStatus::Ack),
        (_, UpdateState::Downloading) => member.fetched_all = true,
        (Habit::Good, UpdateState::Installing | UpdateState::Confirmed)
        | (Habit::FallsBack, UpdateState::Installing) => {
            member.beat_version = Some("1.2.0".into());
            member.beat_at = Some(now);
        }
        (Habit::FallsBack, UpdateState::Confirmed) => {
            member.beat_version = Some("1.1.0".into());
            member.beat_at = Some(now);
        }
        (Habit::RollsBack, UpdateState::Installing) => {
            member.boot = Some(8);
            member.beat_at = Some(now);
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a fleet does: no device is updated before its stage, every rollout ends, and no stage
    /// begins while more devices have failed than the plan allows.
    #[test]
    fn a_rollout_of_any_fleet_ends_and_holds_its_promises(
        habits in prop::collection::vec(habit(), 1..120),
        allowed in 0.0_f64..60.0,
        first in 1_u32..50,
    ) {
        let stages = vec![
            RolloutStage { count: Some(first.min(habits.len() as u32)), ..RolloutStage::default() },
            RolloutStage { percent: Some(100.0), ..RolloutStage::default() },
        ];
        let plan = RolloutPlan { stages, max_failure_percent: allowed, ..RolloutPlan::default() };
        let of = stages_of(&plan, habits.len());
        let mut running = rollout(plan);
        let mut members: Vec<RolloutMember> = of
            .iter()
            .map(|stage| RolloutMember {
                stage: *stage,
                command: None,
                was_sent: false,
                ..member(UpdateState::Waiting)
            })
            .collect();
        let mut ended = None;
        for round in 0..3000_i64 {
            let now = at(1000 + round * 300);
            for (member, habit) in members.iter_mut().zip(&habits) {
                live(member, *habit, now);
                let expired = now >= running.deadline_at && !member.state.is_over();
                if expired && matches!(habit, Habit::Away) {
                    member.command = Some(CommandStatus::Timeout);
                }
                if let Some(seen) = observe(&running, member, at(0), now) {
                    (member.state, member.since) = (seen.state, now);
                    member.is_missed = seen.state == UpdateState::Cancelled;
                }
            }
            for member in &members {
                let untold = [UpdateState::Waiting, UpdateState::Cancelled].contains(&member.state);
                prop_assert!(member.stage <= running.stage || untold);
            }
            match judge(&running, &members, None, now).next {
                Next::GoOn => {
                    let told: Vec<usize> = offers(&running, &members, now)
                        .into_iter()
                        .map(|told| members.iter().position(|m| std::ptr::eq(m, told)).unwrap())
                        .collect();
                    for n in told {
                        members[n].state = UpdateState::Offered;
                        members[n].since = now;
                        members[n].command = Some(CommandStatus::Pending);
                    }
                }
                Next::Soak => running.soak_since = Some(now),
                Next::NextStage => {
                    let count = |good: fn(UpdateState) -> bool| {
                        members.iter().filter(|m| good(m.state)).count() as f64
                    };
                    let failures = count(UpdateState::is_failure);
                    let over = failures + count(|state| state == UpdateState::Confirmed);
                    prop_assert!(over == 0.0 || 100.0 * failures / over <= allowed);
                    running.stage += 1;
                    running.soak_since = None;
                }
                end @ (Next::Stop(_) | Next::Complete) => {
                    ended = Some(end);
                    break;
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
        let bad = habits.iter().filter(|h| !matches!(h, Habit::Good)).count();
        match ended {
            Some(Next::Complete) => {}
            Some(Next::Stop(_)) => prop_assert!(bad > 0, "a good fleet is never stopped"),
            _ => prop_assert!(false, "it never ended"),
        }
    }
}
