use std::sync::Arc;

use acuvim_model::{RuleBody, event::Mark};
use acuvim_rules::Planner;
use acuvim_wire::{Identity, Micros};
use uuid::Uuid;

use super::*;

fn mark(ts: Micros) -> Mark {
    Mark { ts, at: Identity { epoch: 0, partition: 0, offset: ts, item: 0 } }
}

fn rule(fields: &serde_json::Value) -> LiveRule {
    let mut whole = json!({"name": "High", "alert_type": "high", "when": "voltage_l1_v > 250"});
    for (key, value) in fields.as_object().expect("an object") {
        whole[key] = value.clone();
    }
    let body: RuleBody = serde_json::from_value(whole).expect("a rule");
    let compiled = Planner::new().expect("a planner").compile(&body).expect("a rule");
    let id = Uuid::from_u128(7);
    LiveRule { id, version: 3, since: 0, edited: None, body, compiled }
}

fn stepped(step: Step) -> Stepped {
    Stepped {
        device_id: Arc::from("d"),
        rule_id: Uuid::from_u128(7),
        rule_version: 3,
        step,
        value: Some(260.5),
        threshold: Some(250.0),
        message: "too high".to_owned(),
        backfilled: false,
    }
}

fn open(flapping: bool) -> Open {
    Open { id: Uuid::from_u128(9), started: mark(1_500), raised: mark(31_000_999), flapping }
}

fn raised(change: AlertChange) -> NewAlert {
    match change {
        AlertChange::Raise(alert) => *alert,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_alert_has_its_rule_its_readings_and_times_in_milliseconds() {
    let severe = rule(&json!({"severity": "critical"}));
    let alert = raised(rule_change(&stepped(Step::Raised(open(false))), &severe));
    assert_eq!((alert.device_id.as_deref(), alert.alert_type.as_str()), (Some("d"), "high"));
    assert_eq!((alert.severity, alert.origin), (Severity::Critical, AlertOrigin::Rule));
    assert_eq!(alert.rule, Some((Uuid::from_u128(7), 3)));
    let times = (alert.created_at.timestamp_micros(), alert.raised_at.timestamp_micros());
    assert_eq!(times, (1_000, 31_000_000));
    assert_eq!(alert.marks.map(|m| m.started.ts), Some(1_500), "the reading itself is exact");
    assert_eq!((alert.metadata, alert.resolved_at), (None, None));
    assert!(!alert.shadow);
}

#[test]
fn an_alert_that_flaps_says_by_which_limits() {
    let flaps = rule(&json!({"flap_count": 4, "flap_seconds": 90}));
    let alert = raised(rule_change(&stepped(Step::Raised(open(true))), &flaps));
    let wanted = json!({"flapping": {"count": 4, "seconds": 90}});
    assert_eq!(alert.metadata, Some(wanted));
    assert!(alert.marks.is_some_and(|marks| marks.flapping));
}

#[test]
fn a_rule_in_shadow_mode_only_records() {
    let shadow = rule(&json!({"mode": "shadow"}));
    assert!(raised(rule_change(&stepped(Step::Raised(open(false))), &shadow)).shadow);
}

#[test]
fn the_end_of_an_episode_is_when_its_condition_ended() {
    let (end, confirmed) = (mark(60_000_000), mark(90_000_000));
    let cleared = Step::Cleared { episode: open(true), end, confirmed };
    match rule_change(&stepped(cleared), &rule(&json!({}))) {
        AlertChange::Clear { id, at, marks: Some(marks) } => {
            assert_eq!((id, at.timestamp()), (Uuid::from_u128(9), 60));
            assert_eq!(marks.ended, Some((end, confirmed)));
            assert!(marks.flapping);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_anomaly_ends_under_the_id_under_which_it_began() {
    let condition = |begins: bool, ts: Micros| Condition {
        anomaly: Anomaly::LowMemory,
        ts,
        since: 5_000_000,
        begins,
        message: "5 bytes of memory are free".to_owned(),
        value: Some(5.0),
        threshold: Some(20_000.0),
    };
    let alert = raised(anomaly_change("d", &condition(true, 5_000_000)));
    assert_eq!(alert.message, "d: 5 bytes of memory are free");
    assert_eq!((alert.alert_type.as_str(), alert.severity), ("low_memory", Severity::Warning));
    match anomaly_change("d", &condition(false, 9_000_000)) {
        AlertChange::Clear { id, at, marks: None } => {
            assert_eq!((id, at.timestamp()), (alert.id, 9));
        }
        other => panic!("{other:?}"),
    }
    let other = raised(anomaly_change("e", &condition(true, 5_000_000)));
    assert_ne!(other.id, alert.id, "of another device");
}

#[test]
fn a_crash_loop_is_critical() {
    let condition = Condition {
        anomaly: Anomaly::CrashLoop,
        ts: 1,
        since: 1,
        begins: true,
        message: String::new(),
        value: None,
        threshold: None,
    };
    assert_eq!(raised(anomaly_change("d", &condition)).severity, Severity::Critical);
}
