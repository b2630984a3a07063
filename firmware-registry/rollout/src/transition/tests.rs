//! Transitions at their edges, and what holds for any device with any facts about it.

use proptest::prelude::*;

use super::*;
use crate::testing::{DEADLINE, any_member, at, member, rollout};

fn seen(member: &RolloutMember, second: i64) -> Option<(UpdateState, String)> {
    let next = observe(&rollout(), member, at(0), at(second))?;
    Some((next.state, next.detail.unwrap_or_default()))
}

fn state_seen(member: &RolloutMember, second: i64) -> Option<UpdateState> {
    seen(member, second).map(|(state, _)| state)
}

#[test]
fn a_heartbeat_of_the_same_moment_is_not_a_later_one() {
    let beat = |second| RolloutMember {
        beat_version: Some("1.2.0".into()),
        beat_at: Some(at(second)),
        ..member(UpdateState::Installing)
    };
    assert_eq!(state_seen(&beat(100), 101), None, "it may have been sent before");
    assert_eq!(state_seen(&beat(101), 101), Some(UpdateState::Confirmed));
}

#[test]
fn only_a_higher_boot_count_is_a_new_start() {
    let booted = |boot, before| RolloutMember {
        boot,
        boot_before: before,
        beat_at: Some(at(110)),
        ..member(UpdateState::Installing)
    };
    for (boot, before) in [(Some(7), Some(7)), (Some(6), Some(7)), (None, Some(7)), (Some(9), None)]
    {
        assert_eq!(state_seen(&booted(boot, before), 120), None, "{boot:?} after {before:?}");
    }
    let back = seen(&booted(Some(8), Some(7)), 120);
    let said = "it started anew and runs 1.1.0".to_owned();
    assert_eq!(back, Some((UpdateState::RolledBack, said)));
}

/// It is the newest one that counts: the device said so before the restart.
#[test]
fn a_restart_without_a_later_heartbeat_says_nothing_yet() {
    let quiet = RolloutMember { boot: Some(8), ..member(UpdateState::Installing) };
    assert_eq!(state_seen(&quiet, 120), None);
}

#[test]
fn a_device_is_silent_from_the_second_that_the_plan_says() {
    let quiet = member(UpdateState::Installing);
    assert_eq!(seen(&quiet, 100 + 899), None);
    let detail = "no heartbeat for 900 s after it had the image".to_owned();
    assert_eq!(seen(&quiet, 100 + 900), Some((UpdateState::Silent, detail)));
    // It counts from when messages were read again, not from when it had the image.
    let listening = |since| observe(&rollout(), &quiet, at(since), at(2000)).map(|next| next.state);
    assert_eq!((listening(1100), listening(1101)), (Some(UpdateState::Silent), None));
}

#[test]
fn a_device_that_says_why_is_quoted_and_its_words_are_cut() {
    let failed = |state, error: Option<&str>| {
        let failed = RolloutMember {
            command: Some(CommandStatus::Error),
            command_error: error.map(str::to_owned),
            ..member(state)
        };
        seen(&failed, 101).expect("it failed")
    };
    for state in [UpdateState::Offered, UpdateState::Downloading, UpdateState::Installing] {
        let (next, detail) = failed(state, Some("no space"));
        assert_eq!((next, detail.as_str()), (UpdateState::Failed, "it said: no space"));
        assert_eq!(failed(state, None).1, "it could not");
        let long = "ü".repeat(5000);
        assert_eq!(failed(state, Some(&long)).1, format!("it said: {}", "ü".repeat(200)));
    }
}

/// The heartbeat of the new version is stronger evidence than an error in the answer to the command.
#[test]
fn a_device_that_runs_the_version_is_confirmed_whatever_it_answered() {
    let runs = RolloutMember {
        command: Some(CommandStatus::Error),
        beat_version: Some("1.2.0".into()),
        beat_at: Some(at(110)),
        boot: Some(8),
        ..member(UpdateState::Installing)
    };
    assert_eq!(state_seen(&runs, 5000), Some(UpdateState::Confirmed));
}

#[test]
fn a_command_that_was_never_delivered_is_sent_again_until_the_deadline() {
    let away = RolloutMember {
        command: Some(CommandStatus::Timeout),
        was_sent: false,
        ..member(UpdateState::Offered)
    };
    assert_eq!(state_seen(&away, DEADLINE - 1), Some(UpdateState::Waiting));
    let (state, detail) = seen(&away, DEADLINE).expect("given up");
    assert_eq!(
        (state, detail.as_str()),
        (UpdateState::Cancelled, "it was not reached before the deadline")
    );
    let sent = RolloutMember { was_sent: true, ..away };
    assert_eq!(state_seen(&sent, DEADLINE - 1), Some(UpdateState::Failed), "it did not answer");
}

/// What it has fetched counts more than what became of its command.
#[test]
fn a_device_that_fetches_has_taken_the_command_although_that_timed_out() {
    let fetching = RolloutMember {
        command: Some(CommandStatus::Timeout),
        fetched_some: true,
        ..member(UpdateState::Offered)
    };
    assert_eq!(state_seen(&fetching, 101), Some(UpdateState::Downloading));
    let all = RolloutMember { fetched_all: true, ..fetching };
    assert_eq!(state_seen(&all, 101), Some(UpdateState::Installing));
    let uncommanded = RolloutMember { command: None, ..member(UpdateState::Offered) };
    assert_eq!(state_seen(&uncommanded, 101), None);
}

fn may_follow(from: UpdateState, to: UpdateState) -> bool {
    use UpdateState::{
        Cancelled, Confirmed, Downloading, Failed, Installing, Offered, RolledBack, Silent, Waiting,
    };
    match from {
        Waiting => to == Cancelled,
        Offered => matches!(to, Waiting | Downloading | Installing | Failed | Cancelled),
        Downloading => matches!(to, Waiting | Installing | Failed | Cancelled),
        Installing => matches!(to, Confirmed | Failed | RolledBack | Silent),
        Confirmed => matches!(to, Failed | RolledBack | Silent),
        Failed | RolledBack | Silent | Cancelled => false,
    }
}

fn observed(
    member: &RolloutMember,
    stage: i64,
    listening: i64,
    now: i64,
) -> Option<RolloutTransition> {
    let running = RunningRollout { stage, ..rollout() };
    observe(&running, member, at(listening), at(now))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn only_known_ways_lead_from_state_to_state(
        member in any_member(), stage in 1_i64..4, listening in 0_i64..5000, now in 0_i64..100_000,
    ) {
        if let Some(next) = observed(&member, stage, listening, now) {
            prop_assert!(may_follow(member.state, next.state), "{:?} to {:?}", member.state, next.state);
        }
    }

    /// The operator of a failed update is told why, in a line that fits into a page.
    #[test]
    fn every_bad_end_has_a_short_reason(
        member in any_member(), stage in 1_i64..4, listening in 0_i64..5000, now in 0_i64..100_000,
    ) {
        let Some(next) = observed(&member, stage, listening, now) else { return Ok(()) };
        if next.state.is_failure() || next.state == UpdateState::Cancelled {
            let detail = next.detail.expect("a reason");
            prop_assert!((1..=220).contains(&detail.chars().count()), "{detail}");
        }
    }

    #[test]
    fn nothing_but_a_later_heartbeat_of_the_version_confirms(
        member in any_member(), stage in 1_i64..4, listening in 0_i64..5000, now in 0_i64..100_000,
    ) {
        let next = observed(&member, stage, listening, now).map(|next| next.state);
        let shown = member.beat_version.as_deref().map(|version| version.trim_start_matches('v'));
        let later = member.beat_at.is_some_and(|beat| beat > member.since);
        let is_confirmed = member.state == UpdateState::Installing && later && shown == Some("1.2.0");
        prop_assert_eq!(next == Some(UpdateState::Confirmed), is_confirmed);
    }

    /// A gap in what we have read must never look like the silence of a device.
    #[test]
    fn silence_needs_that_long_a_time_of_listening(
        member in any_member(), stage in 1_i64..4, listening in 0_i64..5000, now in 0_i64..100_000,
    ) {
        let next = observed(&member, stage, listening, now).map(|next| next.state);
        if next == Some(UpdateState::Silent) {
            prop_assert!(now - listening >= 900 && at(now) - member.since >= TimeDelta::seconds(900));
            let heard = member.beat_at.filter(|beat| *beat > member.since);
            prop_assert!(heard.is_none_or(|heard| at(now) - heard >= TimeDelta::seconds(900)));
        }
    }

    /// The runner observes again after each step. If the same facts led around in a circle, it would not end.
    #[test]
    fn the_same_facts_lead_to_an_end(
        member in any_member(), stage in 1_i64..4, listening in 0_i64..5000, now in 0_i64..100_000,
    ) {
        let mut member = member;
        let mut steps = 0;
        while let Some(next) = observed(&member, stage, listening, now) {
            (member.state, member.since) = (next.state, at(now));
            steps += 1;
            prop_assert!(steps < 6, "{member:?}");
        }
    }

    #[test]
    fn behind_the_deadline_nobody_waits(member in any_member(), late in 0_i64..100_000) {
        let next = observed(&member, 1, 0, DEADLINE + late).map(|next| next.state);
        prop_assert_ne!(next, Some(UpdateState::Waiting));
        if member.state == UpdateState::Waiting {
            prop_assert_eq!(next, Some(UpdateState::Cancelled));
        }
    }
}
