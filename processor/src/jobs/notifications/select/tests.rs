use acuvim_model::NotificationBody;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::*;

fn at() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_459_200, 0).expect("a time")
}

#[allow(clippy::needless_pass_by_value, reason = "it reads better at its calls")]
pub(in crate::jobs::notifications) fn event(step: &str, change: Json) -> Event {
    let mut alert = json!({
        "id": Uuid::nil(), "device_id": "d1", "alert_type": "overvoltage", "severity": "warning",
        "message": "d1: 256 V", "value": null, "threshold": null, "metadata": null,
        "origin": "rule", "rule_id": null, "rule_version": null, "shadow": false,
        "backfilled": false, "silenced": false, "withdrawn": false, "acknowledged": false,
        "acknowledged_by": null, "acknowledged_at": null, "acknowledge_note": null,
        "created_at": at(), "raised_at": at(), "resolved_at": null, "resolved_by": null,
        "resolution": null, "incident_id": null, "reminded_at": null, "escalated_at": null,
    });
    for (key, value) in change.as_object().expect("an object") {
        alert[key] = value.clone();
    }
    let event = json!({
        "type": "alert", "event_id": Uuid::nil(), "step": step, "ts": at(), "recorded_at": at(),
        "by": null, "note": null, "readings": [], "alert": alert,
    });
    serde_json::from_value(event).expect("an event")
}

#[allow(clippy::needless_pass_by_value, reason = "it reads better at its calls")]
fn told(event: &Event, body: Json) -> Vec<NoticeItem> {
    let mut whole = json!({"name": "n", "kind": "webhook", "url": "https://x"});
    for (key, value) in body.as_object().expect("an object") {
        whole[key] = value.clone();
    }
    let body: NotificationBody = serde_json::from_value(whole).expect("a body");
    let to = Notification { id: Uuid::max(), body, created_by: "a".into(), created_at: at() };
    let place = DeviceMembership { group_id: Some(Uuid::nil()), tags: vec!["roof".into()] };
    select(event, &[to], &place)
}

#[test]
fn an_alert_is_told_to_those_who_asked_for_its_kind_place_and_severity() {
    let raised = event("raised", json!({}));
    for (body, expected) in [
        (json!({}), true),
        (json!({"enabled": false}), false),
        (json!({"min_severity": "critical"}), false),
        (json!({"min_severity": "info"}), true),
        (json!({"topics": ["offline", "system", "rollouts"]}), false),
        (json!({"topics": ["alerts"]}), true),
        (json!({"alert_types": ["thd"]}), false),
        (json!({"alert_types": ["overvoltage"]}), true),
        (json!({"scope": {"device_ids": ["d2"]}}), false),
        (json!({"scope": {"device_ids": ["d1"]}}), true),
        (json!({"scope": {"group_ids": [Uuid::nil()]}}), true),
        (json!({"scope": {"tags": ["cellar"]}}), false),
        (json!({"scope": {"tags": ["roof"]}}), true),
    ] {
        assert_eq!(told(&raised, body.clone()).len(), usize::from(expected), "{body}");
    }
}

#[test]
fn nobody_is_paged_for_what_is_silenced_backfilled_or_only_recorded() {
    for quiet in ["silenced", "backfilled", "shadow"] {
        for step in ["raised", "reminded", "escalated"] {
            assert!(
                told(&event(step, json!({quiet: true})), json!({})).is_empty(),
                "{quiet} {step}"
            );
        }
    }
    for step in ["acknowledged", "amended"] {
        assert!(told(&event(step, json!({})), json!({})).is_empty(), "{step}");
    }
}

#[test]
fn the_end_and_reminders_are_told_as_asked_for() {
    let kind =
        |step: &str, body: Json| told(&event(step, json!({})), body).first().map(|item| item.kind);
    for step in ["cleared", "resolved", "withdrawn"] {
        assert_eq!(kind(step, json!({})), Some(DeliveryKind::Recovered));
        assert_eq!(kind(step, json!({"recoveries": false})), None);
    }
    assert_eq!(kind("reminded", json!({})), Some(DeliveryKind::Reminder));
    assert_eq!(kind("escalated", json!({"reminders": false})), None);
}

#[test]
fn the_system_and_offline_devices_are_topics_of_their_own() {
    let ledger = event(
        "raised",
        json!({"device_id": null, "origin": "system", "alert_type": "ledger_unbalanced"}),
    );
    assert_eq!(told(&ledger, json!({"topics": ["system"]})).len(), 1);
    assert!(told(&ledger, json!({"topics": ["alerts"]})).is_empty());
    assert!(told(&ledger, json!({"scope": {"tags": ["roof"]}})).is_empty(), "it is of no device");
    let offline = event("raised", json!({"origin": "health", "alert_type": "offline"}));
    assert_eq!(told(&offline, json!({"topics": ["offline"]})).len(), 1);
    let said = event("raised", json!({"origin": "device", "alert_type": "offline"}));
    assert_eq!(told(&said, json!({"topics": ["alerts"]})).len(), 1, "raised by the device itself");
}

#[test]
fn a_rollout_is_told_by_stage_and_by_how_it_halts() {
    let told_of = |state: &str, stage: i64, (decisions, resumed): (i64, i64)| {
        let reason = (state == "stopped").then_some("3 of 100 failed");
        let counts = serde_json::to_value(acuvim_model::RolloutCounts::default());
        let event = json!({
            "type": "rollout", "rollout_id": Uuid::nil(), "version": "2.0.0", "state": state,
            "stage": stage, "progress": "1 of 2", "devices": counts.expect("counts"),
            "reason": reason, "decisions": decisions, "resumed": resumed, "ts": at(),
        });
        let event: Event = serde_json::from_value(event).expect("an event");
        told(&event, json!({})).into_iter().next().expect("it is told")
    };
    let progress = |state: &str, stage: i64, decisions: i64| told_of(state, stage, (decisions, 0));
    let first = progress("running", 1, 1);
    assert_eq!(first.alert_id, progress("running", 1, 1).alert_id, "once");
    assert_ne!(first.alert_id, progress("running", 2, 2).alert_id);
    let stopped = progress("stopped", 1, 2);
    assert_eq!(stopped.alert_id, progress("stopped", 1, 2).alert_id, "once");
    assert_ne!(stopped.alert_id, progress("stopped", 1, 4).alert_id, "another stop");
    let resumed = told_of("running", 1, (3, 1));
    assert_ne!(resumed.alert_id, first.alert_id, "it goes on in the same stage");
    assert_eq!(resumed.alert_id, told_of("running", 1, (4, 1)).alert_id, "once");
    assert_ne!(resumed.alert_id, told_of("running", 1, (6, 2)).alert_id, "it goes on once more");
    assert!(resumed.title.contains("goes on in stage 1"), "{}", resumed.title);
    assert!(stopped.title.contains("stopped: 3 of 100 failed"), "{}", stopped.title);
}
