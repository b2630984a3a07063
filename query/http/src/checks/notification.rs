//! Checks of notifications.

use acuvim_model::{NotificationBody, NotificationKind};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use url::Url;
use uuid::Uuid;

use super::{HostCheck, NAME, TAG, TAGS, device_scope, text};
use crate::problem::ApiError;

/// Mail addresses of one notification.
const ADDRESSES: usize = 20;

/// Bytes of the longest URL.
const URL: usize = 2000;

/// Bytes of a webhook's secret.
const SECRET: std::ops::RangeInclusive<usize> = 24..=64;

/// The longest time in which alerts are gathered into one message, in seconds.
const GROUP: u32 = 3600;

/// A notification. A webhook without a secret gets one.
pub(crate) fn notification(body: &mut NotificationBody, hosts: &HostCheck) -> Result<(), ApiError> {
    text("name", &body.name, 1, NAME)?;
    match body.kind {
        NotificationKind::Webhook => webhook(body, hosts)?,
        NotificationKind::Email => email(body)?,
    }
    if body.alert_types.len() > TAGS {
        return Err(ApiError::field("alert_types", format!("at most {TAGS}")));
    }
    body.alert_types.iter().try_for_each(|name| text("alert_types", name, 1, TAG))?;
    if let Some(runbook) = &body.runbook_url {
        let plain = runbook.replace("{alert_type}", "x");
        web_url("runbook_url", &plain)?;
    }
    if body.group_seconds > GROUP {
        return Err(ApiError::field("group_seconds", format!("0 to {GROUP}")));
    }
    device_scope(&body.scope)
}

fn webhook(body: &mut NotificationBody, hosts: &HostCheck) -> Result<(), ApiError> {
    if !body.to.is_empty() {
        return Err(ApiError::field("to", "only of a mail"));
    }
    let url = body.url.as_deref();
    let url = web_url("url", url.ok_or_else(|| ApiError::field("url", "where the webhook is"))?)?;
    if !url.username().is_empty() || url.password().is_some() {
        let text = "without a user and password: messages are signed with the secret";
        return Err(ApiError::field("url", text));
    }
    if let Some(reason) = url.host_str().and_then(|host| (hosts.0)(host)) {
        return Err(ApiError::field("url", reason));
    }
    let secret = body.secret.get_or_insert_with(|| {
        let random = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
        format!("whsec_{}", STANDARD.encode(random))
    });
    let key = secret.strip_prefix("whsec_").and_then(|encoded| STANDARD.decode(encoded).ok());
    match key {
        Some(key) if SECRET.contains(&key.len()) => Ok(()),
        _ => Err(ApiError::field("secret", "whsec_ and 24 to 64 bytes in base64; or leave it out")),
    }
}

fn email(body: &NotificationBody) -> Result<(), ApiError> {
    for (field, given) in [("url", body.url.is_some()), ("secret", body.secret.is_some())] {
        if given {
            return Err(ApiError::field(field, "only of a webhook"));
        }
    }
    let is_address = |to: &String| {
        let parts = to.split_once('@');
        let plain =
            to.len() <= 254 && to.chars().all(|c| c.is_ascii_graphic() && !"<>,;\"".contains(c));
        plain
            && parts.is_some_and(|(who, at)| !who.is_empty() && !at.is_empty() && !at.contains('@'))
    };
    if (1..=ADDRESSES).contains(&body.to.len()) && body.to.iter().all(is_address) {
        return Ok(());
    }
    Err(ApiError::field("to", format!("1 to {ADDRESSES} addresses, such as ops@example.org")))
}

fn web_url(field: &str, url: &str) -> Result<Url, ApiError> {
    let good = Url::parse(url).ok().filter(|parsed| {
        url.len() <= URL && ["http", "https"].contains(&parsed.scheme()) && parsed.has_host()
    });
    good.ok_or_else(|| ApiError::field(field, "a URL of http:// or https://"))
}

#[cfg(test)]
mod tests;
