use super::*;
use serde_json::{Value, json};

fn rollout() -> Value {
    json!({
        "id": "00000000-0000-0000-0000-000000000001", "version": "1.2.0", "state": "paused",
        "stage": 1, "soak_since": null, "progress": "1 waiting of 1 devices",
        "devices": RolloutCounts { waiting: 1, ..RolloutCounts::default() },
        "reason": format!("{GATE_FAILED}: column secret_device of d9"),
        "plan": RolloutPlan { health_gate_sql: Some("SELECT 'd9'".into()), ..RolloutPlan::default() },
        "created_by": "admin", "created_at": "2026-05-16T17:05:32Z",
        "deadline_at": "2026-05-23T17:05:32Z", "updated_at": "2026-05-16T17:05:32Z",
        "decisions": [
            { "at": "2026-05-16T17:05:32Z", "decision": "gate_error",
              "reason": format!("{GATE_FAILED}: row of d9"),
              "figures": { "gate": ["d9"], "counted": 1 } },
            { "at": "2026-05-16T17:05:31Z", "decision": "started", "reason": "admin began it",
              "figures": { "plan": { "health_gate_sql": "SELECT 'd9'", "stages": [] } } },
            { "at": "2026-05-16T17:05:30Z", "decision": "soaking", "reason": "r", "figures": 7 }
        ]
    })
}

/// The gate reads every device: a user with a scope must not learn of others from it.
#[test]
fn nothing_of_the_health_gate_is_left_for_a_user_with_a_scope() {
    let read: Rollout = serde_json::from_value(rollout()).expect("a rollout");
    let shown = serde_json::to_value(read.without_gate()).expect("JSON");
    assert!(!shown.to_string().contains("d9"), "{shown}");
    assert_eq!(shown["reason"], GATE_FAILED);
    let figures: Vec<&Value> =
        shown["decisions"].as_array().expect("a list").iter().map(|d| &d["figures"]).collect();
    assert_eq!(
        figures,
        [&json!({ "counted": 1 }), &json!({ "plan": { "stages": [] } }), &json!(7)]
    );
    assert_eq!(shown["decisions"][1]["reason"], "admin began it");
    // What is not the gate's stays.
    assert_eq!(shown["progress"], "1 waiting of 1 devices");
}

#[test]
fn other_reasons_are_shown_in_full() {
    let mut other = rollout();
    other["reason"] = json!("paused by admin: the health gate could not be asked");
    let read: Rollout = serde_json::from_value(other.clone()).expect("a rollout");
    assert_eq!(read.without_gate().reason.as_deref(), other["reason"].as_str());
    other["reason"] = Value::Null;
    let read: Rollout = serde_json::from_value(other).expect("a rollout");
    assert_eq!(read.without_gate().reason, None);
}

#[test]
fn decisions_are_in_no_list() {
    let read: Rollout = serde_json::from_value(rollout()).expect("a rollout");
    let listed = serde_json::to_value(Rollout { decisions: Vec::new(), ..read }).expect("JSON");
    assert_eq!(listed.get("decisions"), None);
    assert!(serde_json::from_value::<Rollout>(listed).expect("a rollout").decisions.is_empty());
}

#[test]
fn a_plan_has_the_defaults_of_the_documentation() {
    let plan: RolloutPlan = serde_json::from_value(json!({})).expect("a plan");
    assert_eq!(plan, RolloutPlan::default());
    let want = json!({
        "stages": [{ "percent": 100.0, "count": null, "soak_seconds": 0 }],
        "max_failure_percent": 5.0, "failure_min_count": 10, "health_gate_sql": null,
        "window": null, "silent_after_seconds": 900, "max_in_progress": 200,
        "deadline_seconds": 604_800
    });
    assert_eq!(serde_json::to_value(&plan).expect("JSON"), want);
}

#[test]
fn a_misspelt_limit_is_refused_and_not_ignored() {
    for bad in [
        json!({ "max_failures": 5 }),
        json!({ "stages": [{ "percentage": 10 }] }),
        json!({ "stages": [{ "percent": "10" }] }),
        json!({ "stages": [{ "count": -1 }] }),
        json!({ "window": { "from": "01:00" } }),
        json!({ "window": { "from": "01:00", "to": "05:00", "zone": "UTC" } }),
        json!({ "max_in_progress": 1.5 }),
    ] {
        assert!(serde_json::from_value::<RolloutPlan>(bad.clone()).is_err(), "{bad}");
    }
    for bad in [json!({ "devices": ["d1"] }), json!({ "group": "g" }), json!({ "force": "yes" })] {
        assert!(serde_json::from_value::<DeployRequest>(bad.clone()).is_err(), "{bad}");
        assert!(serde_json::from_value::<GroupDeployRequest>(bad.clone()).is_err(), "{bad}");
    }
    // The group of the path is the only one.
    let other = json!({ "version": "1.2.0", "device_ids": ["d1"] });
    assert!(serde_json::from_value::<GroupDeployRequest>(other.clone()).is_err());
    assert!(serde_json::from_value::<DeployRequest>(other).is_ok());
}

#[test]
fn each_state_is_counted_in_its_own_place() {
    let mut counts = RolloutCounts::default();
    for (n, state) in (1..).zip(UpdateState::ALL) {
        counts.add(state, n);
    }
    let json = serde_json::to_value(counts).expect("JSON");
    for (n, state) in (1..).zip(UpdateState::ALL) {
        assert_eq!(json[state.as_str()], n, "{}", state.as_str());
    }
    assert_eq!(json.as_object().expect("an object").len(), UpdateState::ALL.len());
    assert_eq!((counts.total(), counts.failures()), (45, 6 + 7 + 8));
}

/// What counts as failed must be what stops a rollout, and what is over what ends it.
#[test]
fn failures_are_over_and_nothing_at_work_is() {
    for state in UpdateState::ALL {
        let mut counts = RolloutCounts::default();
        counts.add(state, 1);
        assert_eq!(counts.failures() == 1, state.is_failure(), "{}", state.as_str());
        assert!(!state.is_failure() || state.is_over());
        assert!(!(state.is_under_way() && state.is_over()));
    }
    let over = UpdateState::ALL.into_iter().filter(|s| s.is_over()).map(UpdateState::as_str);
    let want = ["confirmed", "failed", "rolled_back", "silent", "cancelled"];
    assert_eq!(over.collect::<Vec<_>>(), want);
    let at_work = UpdateState::ALL.into_iter().filter(|s| s.is_under_way());
    assert_eq!(at_work.map(UpdateState::as_str).collect::<Vec<_>>(), ["downloading", "installing"]);
    let ended = RolloutState::ALL.into_iter().filter(|s| s.is_over()).map(RolloutState::as_str);
    assert_eq!(ended.collect::<Vec<_>>(), ["aborted", "completed"]);
}

#[test]
fn the_line_of_a_rollout_names_what_there_is() {
    let line = |counts: RolloutCounts| counts.line();
    assert_eq!(line(RolloutCounts::default()), "no devices");
    assert_eq!(
        line(RolloutCounts { waiting: 2, ..RolloutCounts::default() }),
        "2 waiting of 2 devices"
    );
    let mixed = RolloutCounts {
        confirmed: 3,
        failed: 1,
        rolled_back: 1,
        cancelled: 1,
        ..RolloutCounts::default()
    };
    assert_eq!(line(mixed), "3 confirmed, 1 failed, 1 rolled back, 1 cancelled of 6 devices");
}

#[test]
fn states_come_back_by_name_as_in_json() {
    for state in UpdateState::ALL {
        assert_eq!(UpdateState::parse(state.as_str()), Some(state));
        assert_eq!(serde_json::to_value(state).expect("JSON"), state.as_str());
    }
    for state in RolloutState::ALL {
        assert_eq!(RolloutState::parse(state.as_str()), Some(state));
        assert_eq!(serde_json::to_value(state).expect("JSON"), state.as_str());
    }
    assert_eq!((UpdateState::parse("rolled back"), RolloutState::parse("Running")), (None, None));
}
