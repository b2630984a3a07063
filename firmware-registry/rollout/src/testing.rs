//! A running rollout and its devices, as the tests of this crate need them.

use acuvim_model::{CommandStatus, RolloutPlan, RolloutStage, UpdateState};
use chrono::{DateTime, Utc};
use proptest::prelude::*;
use uuid::Uuid;

use crate::member::{RolloutMember, RunningRollout};

/// Seconds after the rollout began.
pub(crate) fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_000_000 + second, 0).expect("a time")
}

/// When the test rollout gives up devices that it has not reached.
pub(crate) const DEADLINE: i64 = 86_400;

/// A rollout of version 1.2.0 in its first stage of two.
pub(crate) fn rollout() -> RunningRollout {
    let stage = |percent| RolloutStage { percent: Some(percent), soak_seconds: 60, count: None };
    RunningRollout {
        id: Uuid::nil(),
        version: "1.2.0".into(),
        stage: 1,
        soak_since: None,
        plan: RolloutPlan { stages: vec![stage(10.0), stage(100.0)], ..RolloutPlan::default() },
        deadline_at: at(DEADLINE),
        created_by: "test".into(),
        forgiven: 0,
        updated_at: at(0),
    }
}

/// A device of stage 1 that is in a state since second 100, and ran 1.1.0 before.
pub(crate) fn member(state: UpdateState) -> RolloutMember {
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

pub(crate) fn members(states: &[(usize, UpdateState)]) -> Vec<RolloutMember> {
    let each = states.iter().flat_map(|(n, state)| std::iter::repeat_n(*state, *n));
    each.map(member).collect()
}

/// Any device in any state, with any facts about it, also such that contradict each other.
pub(crate) fn any_member() -> impl Strategy<Value = RolloutMember> {
    use CommandStatus::{Ack, Error, Pending, Sent, Success, Timeout};
    let command = prop::sample::select(vec![Pending, Sent, Ack, Success, Error, Timeout]);
    let version = || {
        prop::sample::select(vec!["1.2.0", "v1.2.0", "1.1.0", "1.3.0", "dev-build", ""])
            .prop_map(str::to_owned)
    };
    let zone = prop::sample::select(vec!["UTC", "Europe/Berlin", "Mars/Olympus"]);
    let progress = (
        prop::sample::select(UpdateState::ALL.to_vec()),
        1_i64..4,
        0_i64..5000,
        prop::option::of(command),
        prop::option::of("[a-z ü]{0,300}"),
    );
    let vitals = (
        prop::option::of(version()),
        prop::option::of(0_i64..6000),
        prop::option::of(0_i64..10),
        prop::option::of(0_i64..10),
        prop::option::of(1_i64..4000),
        prop::option::of(version()),
        prop::option::of(zone),
    );
    (progress, vitals, any::<[bool; 8]>()).prop_map(|(progress, vitals, flags)| {
        let (state, stage, since, command, command_error) = progress;
        let (beat_version, beat_at, boot, boot_before, beat_interval_s, from_version, zone) =
            vitals;
        let [
            is_missed,
            fetched_some,
            fetched_all,
            is_refused,
            was_sent,
            is_online,
            is_looping,
            is_told_since,
        ] = flags;
        RolloutMember {
            device_id: "dev-1".into(),
            stage,
            state,
            since: at(since),
            boot_before,
            is_missed,
            fetched_some,
            fetched_all,
            is_refused,
            command,
            command_error,
            was_sent,
            is_online,
            beat_version,
            beat_at: beat_at.map(at),
            boot,
            beat_interval_s,
            from_version,
            is_looping,
            is_told_since,
            time_zone: zone.map(str::to_owned),
        }
    })
}
