use acuvim_model::{Notification, NotificationBody};
use chrono::DateTime;
use uuid::Uuid;

use super::*;

#[allow(clippy::needless_pass_by_value, reason = "it reads better at its calls")]
pub(in crate::jobs::notifications) fn notice(body: Json, items: usize, count: i64) -> DueNotice {
    let mut whole = json!({"name": "Night", "kind": "webhook", "url": "https://x.example"});
    for (key, value) in body.as_object().expect("an object") {
        whole[key] = value.clone();
    }
    let body: NotificationBody = serde_json::from_value(whole).expect("a body");
    let (id, created_at) = (Uuid::nil(), DateTime::UNIX_EPOCH);
    let alert = json!({
        "alert": {"message": "d1 is offline", "severity": "warning", "alert_type": "off/line",
            "created_at": "2026-05-01T00:00:00Z"}
    });
    DueNotice {
        id,
        kind: DeliveryKind::Raised,
        title: format!("{count} alerts: offline"),
        items: vec![alert; items],
        count,
        attempts: 1,
        created_at,
        notification: Notification { id, body, created_by: "a".into(), created_at },
        secret: Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into()),
    }
}

#[test]
fn a_mail_says_what_where_since_when_and_what_to_do() {
    let runbook = json!({"runbook_url": "https://wiki/{alert_type}"});
    let text = text_of(&notice(runbook, 40, 70));
    assert!(text.starts_with("70 alerts: offline\n\n- d1 is offline (warning, since 2026-05-01"));
    assert_eq!(text.matches("- d1").count(), LISTED);
    assert!(text.contains("and 40 more"));
    assert!(text.contains("What to do: https://wiki/off%2Fline\n"), "{text}");
}

#[test]
fn a_webhook_says_how_much_it_leaves_out() {
    let json = json_of(&notice(json!({}), 2, 3));
    assert_eq!((&json["count"], &json["truncated"]), (&json!(3), &json!(true)));
    assert_eq!(json["runbook_url"], Json::Null);
    assert_eq!(json_of(&notice(json!({}), 2, 2))["truncated"], json!(false));
}

#[test]
fn the_line_of_each_kind_says_what_happened() {
    let item = json!({
        "message": "Ann asked for this test",
        "alert": {"message": "d1: 256 V", "severity": "critical",
            "created_at": "2026-05-01T00:00:00Z", "resolved_at": "2026-05-01T00:10:00Z"},
        "rollout": {"state": "stopped", "progress": "3 of 9"},
    });
    for (kind, wanted) in [
        (DeliveryKind::Test, "Ann asked for this test"),
        (DeliveryKind::Rollout, "stopped 3 of 9"),
        (DeliveryKind::Recovered, "- d1: 256 V, until 2026-05-01T00:10:00Z"),
        (DeliveryKind::Raised, "- d1: 256 V (critical, since 2026-05-01T00:00:00Z)"),
        (DeliveryKind::Reminder, "- d1: 256 V (critical, since 2026-05-01T00:00:00Z)"),
    ] {
        assert_eq!(line(kind, &item), wanted);
        line(kind, &json!("of another version"));
    }
}

#[test]
fn a_mail_with_everything_in_it_does_not_say_that_there_is_more() {
    let text = text_of(&notice(json!({}), LISTED, 30));
    assert!(!text.contains("more") && text.matches("- d1").count() == LISTED, "{text}");
    let text = text_of(&notice(json!({}), LISTED, 31));
    assert!(text.contains("and 1 more\n"), "{text}");
    assert!(text.contains("Sent as the notification \"Night\", message 00000000"), "{text}");
}

#[test]
fn a_runbook_needs_a_template_and_an_item() {
    assert_eq!(runbook(&notice(json!({}), 1, 1)), None);
    let template = json!({"runbook_url": "https://wiki/{alert_type}?t={alert_type}"});
    assert_eq!(runbook(&notice(template.clone(), 0, 1)), None);
    let link = runbook(&notice(template.clone(), 1, 1));
    assert_eq!(link.as_deref(), Some("https://wiki/off%2Fline?t=off%2Fline"));
    let mut rollout = notice(template, 1, 1);
    rollout.items = vec![json!({"rollout": {}})];
    assert_eq!(runbook(&rollout).as_deref(), Some("https://wiki/rollout?t=rollout"));
}
