//! The texts of a message: JSON for webhooks, plain text for mails. Pure.

use acuvim_control::DueNotice;
use acuvim_model::DeliveryKind;
use serde_json::{Value as Json, json};

/// The most items that a mail lists.
const LISTED: usize = 30;

/// The URL of the runbook for a message, if the notification has a template for it.
fn runbook(notice: &DueNotice) -> Option<String> {
    let template = notice.notification.body.runbook_url.as_ref()?;
    let first = notice.items.first()?;
    let kind = first.pointer("/alert/alert_type").and_then(Json::as_str).unwrap_or("rollout");
    let kind: String = url::form_urlencoded::byte_serialize(kind.as_bytes()).collect();
    Some(template.replace("{alert_type}", &kind))
}

/// The body of a webhook.
pub(super) fn json_of(notice: &DueNotice) -> Json {
    json!({
        "id": notice.id,
        "type": notice.kind.as_str(),
        "notification": notice.notification.body.name,
        "title": notice.title,
        "created_at": notice.created_at,
        "count": notice.count,
        "runbook_url": runbook(notice),
        "items": notice.items,
        "truncated": i64::try_from(notice.items.len()).unwrap_or(i64::MAX) < notice.count,
    })
}

/// The text of a mail.
pub(super) fn text_of(notice: &DueNotice) -> String {
    let mut text = format!("{}\n\n", notice.title);
    for item in notice.items.iter().take(LISTED) {
        text.push_str(&line(notice.kind, item));
        text.push('\n');
    }
    let listed = i64::try_from(notice.items.len().min(LISTED)).unwrap_or(0);
    if notice.count > listed {
        text.push_str(&format!("and {} more\n", notice.count - listed));
    }
    if let Some(runbook) = runbook(notice) {
        text.push_str(&format!("\nWhat to do: {runbook}\n"));
    }
    let name = &notice.notification.body.name;
    text.push_str(&format!("\nSent as the notification \"{name}\", message {}.\n", notice.id));
    text
}

fn line(kind: DeliveryKind, item: &Json) -> String {
    let text = |path: &str| item.pointer(path).and_then(Json::as_str).unwrap_or_default();
    match kind {
        DeliveryKind::Test => text("/message").to_owned(),
        DeliveryKind::Rollout => {
            format!("{} {}", text("/rollout/state"), text("/rollout/progress"))
        }
        DeliveryKind::Recovered => {
            format!("- {}, until {}", text("/alert/message"), text("/alert/resolved_at"))
        }
        DeliveryKind::Raised | DeliveryKind::Reminder => format!(
            "- {} ({}, since {})",
            text("/alert/message"),
            text("/alert/severity"),
            text("/alert/created_at")
        ),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use acuvim_model::{Notification, NotificationBody};
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;

    #[allow(clippy::needless_pass_by_value, reason = "it reads better at its calls")]
    pub(in crate::jobs::notifications) fn notice(
        body: Json,
        items: usize,
        count: i64,
    ) -> DueNotice {
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
        assert!(
            text.starts_with("70 alerts: offline\n\n- d1 is offline (warning, since 2026-05-01")
        );
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
}
