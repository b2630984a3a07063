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
pub(super) mod tests;
