//! Notifications: who is told what, kept with what waits to be sent, so that a message survives a
//! restart and is made once.

mod notices;
mod sending;

use acuvim_schemas::api::{CreatedNotification, Notification, NotificationBody};
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use uuid::Uuid;

pub use notices::{DevicePlace, Noted, NoticeChange, NoticeItem, NoticePlace};
pub use sending::DueNotice;

use crate::{By, Control, Error};

/// The lease of the one who notes and sends.
pub const NOTIFICATIONS_LEASE: &str = "notifications";

/// Notifications that there may be.
const MOST: i64 = 200;

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
        let body: NotificationBody = serde_json::from_value(row.body).map_err(|e| {
            Error::new(crate::ErrorKind::Internal, format!("a stored notification: {e}"))
        })?;
        Ok(Self { id: row.id, body, created_by: row.created_by, created_at: row.created_at })
    }
}

/// What became of a new notification.
#[derive(Debug, Clone, PartialEq)]
pub enum NotificationMade {
    /// It is there, with its secret.
    Done(Box<CreatedNotification>),
    /// Another has its name.
    Taken,
    /// There are as many as there may be.
    TooMany,
}

/// What the audit shows: where a webhook goes, without what in its URL may be a secret.
fn audited(body: &NotificationBody) -> Json {
    let host = |url: &String| {
        let end = url.match_indices('/').nth(2).map_or(url.len(), |(at, _)| at);
        url.get(..end).unwrap_or_default().to_owned()
    };
    json!(NotificationBody { url: body.url.as_ref().map(host), ..body.clone() })
}

impl Control {
    /// Makes a notification; a webhook's secret is its body's.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn create_notification(
        &self,
        body: &NotificationBody,
        by: &By,
    ) -> Result<NotificationMade, Error> {
        let mut tx = self.begin().await?;
        let there: Option<(i64,)> =
            tx.fetch_optional("SELECT COUNT(*) FROM notifications", vec![]).await?;
        if there.is_some_and(|(n,)| n >= MOST) {
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
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn notifications(&self) -> Result<Vec<Notification>, Error> {
        let rows: Vec<Row> = self
            .fetch_all(
                "SELECT id, body, created_by, created_at FROM notifications ORDER BY name",
                vec![],
            )
            .await?;
        rows.into_iter().map(Notification::try_from).collect()
    }

    /// One notification; none if there is none of that id.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn notification(&self, id: Uuid) -> Result<Option<Notification>, Error> {
        let row: Option<Row> = self
            .fetch_optional(
                "SELECT id, body, created_by, created_at FROM notifications WHERE id = $1",
                vec![id.into()],
            )
            .await?;
        row.map(Notification::try_from).transpose()
    }

    /// Ends a notification, with what waits for it; false if there is none of that id.
    ///
    /// # Errors
    /// When the database can't be asked.
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
