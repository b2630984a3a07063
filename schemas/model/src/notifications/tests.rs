use super::*;
use serde_json::{Value, json};

fn body(json: Value) -> Result<NotificationBody, serde_json::Error> {
    serde_json::from_value(json)
}

#[test]
fn a_notification_has_the_defaults_of_the_documentation() {
    let least = body(json!({ "name": "n", "kind": "email" })).expect("a notification");
    let want = json!({
        "name": "n", "kind": "email", "url": null, "to": [], "topics": [],
        "min_severity": "warning", "alert_types": [],
        "scope": { "device_ids": [], "group_ids": [], "tags": [] }, "recoveries": true,
        "reminders": true, "runbook_url": null, "group_seconds": 10, "enabled": true
    });
    assert_eq!(serde_json::to_value(&least).expect("JSON"), want);
}

#[test]
fn a_secret_comes_in_and_never_leaves_but_when_it_is_made() {
    let given = json!({ "name": "n", "kind": "webhook", "secret": "whsec_s3cret" });
    let body = body(given).expect("a notification");
    assert_eq!(body.secret.as_deref(), Some("whsec_s3cret"));
    let notification = Notification {
        id: Uuid::nil(),
        body,
        created_by: "admin".into(),
        created_at: DateTime::UNIX_EPOCH,
    };
    let shown = serde_json::to_string(&notification).expect("JSON");
    assert!(!shown.contains("secret") && !shown.contains("s3cret"), "{shown}");
    let created = CreatedNotification { notification, secret: Some("whsec_s3cret".into()) };
    let shown = serde_json::to_value(&created).expect("JSON");
    assert_eq!((&shown["secret"], &shown["name"]), (&json!("whsec_s3cret"), &json!("n")));
}

#[test]
fn no_topics_mean_every_topic() {
    let of = |topics: Value| {
        body(json!({ "name": "n", "kind": "email", "topics": topics })).expect("a notification")
    };
    let all = [
        NotificationTopic::Alerts,
        NotificationTopic::Offline,
        NotificationTopic::System,
        NotificationTopic::Rollouts,
    ];
    assert!(all.iter().all(|topic| of(json!([])).is_about(*topic)));
    let two = of(json!(["offline", "rollouts"]));
    assert_eq!(all.map(|topic| two.is_about(topic)), [false, true, false, true]);
}

#[test]
fn a_misspelt_or_missing_field_is_refused() {
    for bad in [
        json!({ "kind": "email" }),
        json!({ "name": "n" }),
        json!({ "name": "n", "kind": "sms" }),
        json!({ "name": "n", "kind": "email", "topics": ["alert"] }),
        json!({ "name": "n", "kind": "email", "recovery": false }),
        json!({ "name": "n", "kind": "email", "to": "a@b.example" }),
        json!({ "name": "n", "kind": "email", "group_seconds": -1 }),
        json!({ "name": "n", "kind": "email", "min_severity": "high" }),
    ] {
        assert!(body(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn names_in_tables_are_those_in_json() {
    for kind in [
        DeliveryKind::Raised,
        DeliveryKind::Recovered,
        DeliveryKind::Reminder,
        DeliveryKind::Rollout,
        DeliveryKind::Test,
    ] {
        assert_eq!(DeliveryKind::parse(kind.as_str()), Some(kind));
        assert_eq!(serde_json::to_value(kind).expect("JSON"), kind.as_str());
    }
    for state in [DeliveryState::Waiting, DeliveryState::Delivered, DeliveryState::Dead] {
        assert_eq!(DeliveryState::parse(state.as_str()), Some(state));
        assert_eq!(serde_json::to_value(state).expect("JSON"), state.as_str());
    }
    assert_eq!((DeliveryKind::parse("Test"), DeliveryState::parse("")), (None, None));
}
