//! Notifications as people configure them.

use acuvim_model::{CreatedNotification, Notification, NotificationBody};
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::{audit::By, db::Control, error::Error};

/// The lease of the process that makes and sends messages.
pub const NOTIFICATIONS_LEASE: &str = "notifications";

/// Every event is compared with every notification, so their number is limited.
const MAX_NOTIFICATIONS: i64 = 200;

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    body: Json,
    created_by: String,
    created_at: DateTime<Utc>,
}

impl TryFrom<Row> for Notification {
    type Error = Error;
    fn try_from(row: Row) -> Result<Self, Error> {
        let body: NotificationBody = serde_json::from_value(row.body)
            .map_err(|e| Error::stored("a stored notification", e))?;
        Ok(Self { id: row.id, body, created_by: row.created_by, created_at: row.created_at })
    }
}

/// The outcome of creating a notification.
#[derive(Debug, Clone, PartialEq)]
pub enum NotificationMade {
    /// Created; with its secret.
    Done(Box<CreatedNotification>),
    /// The name is taken.
    Taken,
    /// There are too many notifications.
    TooMany,
}

/// The body as the audit log has it: of a webhook only the scheme and the host, because the rest of its
/// URL may be a secret.
fn audited(body: &NotificationBody) -> Json {
    let host = |url: &String| {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        format!("{scheme}://{host}")
    };
    json!(NotificationBody { url: body.url.as_ref().map(host), ..body.clone() })
}

impl Control {
    /// Creates a notification.
    pub async fn create_notification(
        &self,
        body: &NotificationBody,
        by: &By,
    ) -> Result<NotificationMade, Error> {
        let mut tx = self.begin().await?;
        if tx.count("SELECT COUNT(*) FROM notifications", vec![]).await? >= MAX_NOTIFICATIONS {
            return Ok(NotificationMade::TooMany);
        }
        let (id, secret) = (Uuid::now_v7(), body.secret.clone());
        let made = tx
            .execute(
                "INSERT INTO notifications (id, name, body, secret, created_by, created_at)
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name) DO NOTHING",
                vec![
                    id.into(),
                    body.name.as_str().into(),
                    json!(body).into(),
                    secret.clone().into(),
                    by.name.as_str().into(),
                    by.at.into(),
                ],
            )
            .await?;
        if made == 0 {
            return Ok(NotificationMade::Taken);
        }
        tx.audit(by, "notification.create", &id.to_string(), audited(body)).await?;
        tx.commit().await?;
        let body = NotificationBody { secret: None, ..body.clone() };
        let (created_by, created_at) = (by.name.clone(), by.at);
        let notification = Notification { id, body, created_by, created_at };
        Ok(NotificationMade::Done(Box::new(CreatedNotification { notification, secret })))
    }

    /// All notifications, by name.
    pub async fn notifications(&self) -> Result<Vec<Notification>, Error> {
        let rows: Vec<Row> = self
            .fetch_all(
                "SELECT id, body, created_by, created_at FROM notifications ORDER BY name",
                vec![],
            )
            .await?;
        rows.into_iter().map(Notification::try_from).collect()
    }

    /// The notification with an id.
    pub async fn notification(&self, id: Uuid) -> Result<Option<Notification>, Error> {
        let row: Option<Row> = self
            .fetch_optional(
                "SELECT id, body, created_by, created_at FROM notifications WHERE id = $1",
                vec![id.into()],
            )
            .await?;
        row.map(Notification::try_from).transpose()
    }

    /// Deletes a notification with its messages. False if there is no such notification.
    pub async fn delete_notification(&self, id: Uuid, by: &By) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let there = tx.execute("DELETE FROM notifications WHERE id = $1", vec![id.into()]).await?;
        if there == 0 {
            return Ok(false);
        }
        tx.execute("DELETE FROM notices WHERE notification_id = $1", vec![id.into()]).await?;
        tx.execute("DELETE FROM notice_episodes WHERE notification_id = $1", vec![id.into()])
            .await?;
        tx.audit(by, "notification.delete", &id.to_string(), json!({})).await?;
        tx.commit().await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audit_log_has_the_host_of_a_webhook_and_nothing_secret() {
        for (url, host) in [
            ("https://hooks.example.com/T1/secret", "https://hooks.example.com"),
            ("https://hooks.example.com?key=secret", "https://hooks.example.com"),
            ("https://hooks.example.com:8443#secret", "https://hooks.example.com:8443"),
            ("https://ann:secret@hooks.example.com/x", "https://hooks.example.com"),
            ("https://secret@a@hooks.example.com", "https://hooks.example.com"),
            ("http://[2001:db8::1]:80/secret", "http://[2001:db8::1]:80"),
            ("hooks.example.com/secret", "://hooks.example.com"),
        ] {
            let body: NotificationBody = serde_json::from_value(json!({
                "name": "ops", "kind": "webhook", "url": url, "secret": "secret",
            }))
            .expect("a body");
            assert_eq!(audited(&body)["url"], host, "{url}");
            assert!(!audited(&body).to_string().contains("secret\""), "{url}");
        }
    }
}
