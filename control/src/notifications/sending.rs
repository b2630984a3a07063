//! Messages as they are sent: claimed, tried, tried again, taken or given up.

use acuvim_schemas::api::{Delivery, DeliveryKind, DeliveryState, Notification};
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::{Control, Error, Lease, text::Statement};

/// A message whose time has come, with whom it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct DueNotice {
    /// Its id, the same at every attempt.
    pub id: Uuid,
    /// What it says.
    pub kind: DeliveryKind,
    /// Its first line.
    pub title: String,
    /// What it is about, as far as it is named.
    pub items: Vec<Json>,
    /// How much it is about.
    pub count: i64,
    /// How often it was tried, this attempt included.
    pub attempts: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Whom it is for.
    pub notification: Notification,
    /// What it is signed with.
    pub secret: Option<String>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    notification_id: Uuid,
    kind: String,
    title: String,
    item_count: i64,
    state: String,
    attempts: i64,
    due_at: DateTime<Utc>,
    created_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
    answer: Option<String>,
}

impl From<Row> for Delivery {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            notification_id: row.notification_id,
            kind: DeliveryKind::parse(&row.kind).unwrap_or(DeliveryKind::Test),
            title: row.title,
            count: row.item_count,
            state: DeliveryState::parse(&row.state).unwrap_or(DeliveryState::Dead),
            attempts: row.attempts,
            due_at: row.due_at,
            created_at: row.created_at,
            finished_at: row.finished_at,
            answer: row.answer,
        }
    }
}

/// The columns of a [`Row`].
fn select() -> Statement {
    Statement::new(
        "SELECT id, notification_id, kind, title, item_count, state, attempts, due_at, created_at,
             finished_at, answer FROM notices WHERE",
    )
}

impl Control {
    /// The ids of messages that are due, with their notifications: the one of each that has been due
    /// for longest. What is said of the same kind of alert goes in order: an end does not overtake
    /// the beginning that is tried again.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn due_notices(
        &self,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<(Uuid, Uuid)>, Error> {
        self.fetch_all(
            "SELECT id, notification_id FROM (
                 SELECT id, notification_id, due_at, ROW_NUMBER() OVER (
                     PARTITION BY notification_id ORDER BY due_at, id) AS turn
                 FROM notices AS this WHERE state = 'waiting' AND due_at <= $1
                 AND (kind = 'test' OR NOT EXISTS (
                     SELECT 1 FROM notices AS older
                     WHERE older.notification_id = this.notification_id
                         AND older.group_key = this.group_key AND older.state = 'waiting'
                         AND older.id < this.id))
             ) AS due WHERE turn = 1 ORDER BY due_at, id LIMIT $2",
            vec![now.into(), limit.into()],
        )
        .await
    }

    /// Marks a message as tried once more, and answers with it; it is due again at `again` unless
    /// something comes of it before. None if it is not due any more, or another process sends.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn claim_notice(
        &self,
        id: Uuid,
        lease: Lease,
        now: DateTime<Utc>,
        again: DateTime<Utc>,
    ) -> Result<Option<DueNotice>, Error> {
        let mut tx = self.begin().await?;
        if !tx.holds(super::NOTIFICATIONS_LEASE, lease, now).await? {
            return Ok(None);
        }
        let claimed = tx
            .execute(
                "UPDATE notices SET attempts = attempts + 1, due_at = $1
                 WHERE id = $2 AND state = 'waiting' AND due_at <= $3",
                vec![again.into(), id.into(), now.into()],
            )
            .await?;
        if claimed == 0 {
            return Ok(None);
        }
        type Found = (Uuid, String, String, Json, i64, i64, DateTime<Utc>);
        let found: Option<Found> = tx
            .fetch_optional(
                "SELECT notification_id, kind, title, items, item_count, attempts, created_at
                 FROM notices WHERE id = $1",
                vec![id.into()],
            )
            .await?;
        let secret: Option<(Option<String>,)> = match &found {
            Some((notification, ..)) => {
                tx.fetch_optional(
                    "SELECT secret FROM notifications WHERE id = $1",
                    vec![(*notification).into()],
                )
                .await?
            }
            None => None,
        };
        tx.commit().await?;
        let Some((notification, kind, title, items, count, attempts, created_at)) = found else {
            return Ok(None);
        };
        let Some(notification) = self.notification(notification).await? else { return Ok(None) };
        let items = serde_json::from_value(items).unwrap_or_default();
        let kind = DeliveryKind::parse(&kind).unwrap_or(DeliveryKind::Test);
        let secret = secret.and_then(|(secret,)| secret);
        Ok(Some(DueNotice {
            id,
            kind,
            title,
            items,
            count,
            attempts,
            created_at,
            notification,
            secret,
        }))
    }

    /// Notes what an attempt came to: taken, given up, or due again at a time.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn finish_notice(
        &self,
        id: Uuid,
        state: DeliveryState,
        answer: &str,
        at: DateTime<Utc>,
    ) -> Result<(), Error> {
        let answer: String = answer.chars().take(500).collect();
        let finished = (state != DeliveryState::Waiting).then_some(at);
        self.execute(
            "UPDATE notices SET state = $1, answer = $2, finished_at = $3,
                 due_at = CASE WHEN $1 = 'waiting' THEN $4 ELSE due_at END
             WHERE id = $5 AND state = 'waiting'",
            vec![state.as_str().into(), answer.into(), finished.into(), at.into(), id.into()],
        )
        .await
        .map(|_| ())
    }

    /// Makes a message that says only that it arrives; answers with its id.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn test_notice(&self, id: Uuid, by: &str, now: DateTime<Utc>) -> Result<Uuid, Error> {
        let notice = Uuid::now_v7();
        let item = json!([{"message": format!("{by} asked for this test")}]);
        self.execute(
            "INSERT INTO notices (id, notification_id, kind, group_key, title, items, item_count,
                 state, attempts, due_at, created_at)
             VALUES ($1, $2, 'test', '', 'A test of this notification', $3, 1, 'waiting', 0, $4, $4)",
            vec![notice.into(), id.into(), item.into(), now.into()],
        )
        .await?;
        Ok(notice)
    }

    /// One message and what became of it.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn delivery(&self, id: Uuid) -> Result<Option<Delivery>, Error> {
        let mut one = select();
        one.push("id = ?", [id.into()]);
        let (text, values) = one.into_parts();
        let row: Option<Row> = self.fetch_optional(text, values).await?;
        Ok(row.map(Delivery::from))
    }

    /// The messages of a notification, newest first, from before `before`.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn deliveries(
        &self,
        notification: Uuid,
        before: Option<Uuid>,
        limit: i64,
    ) -> Result<(Vec<Delivery>, i64), Error> {
        let mut page = select();
        page.push("notification_id = ?", [notification.into()]);
        if let Some(before) = before {
            page.push("AND id < ?", [before.into()]);
        }
        page.push("ORDER BY id DESC LIMIT ?", [limit.into()]);
        let (text, values) = page.into_parts();
        let rows: Vec<Row> = self.fetch_all(text, values).await?;
        let total: Option<(i64,)> = self
            .fetch_optional(
                "SELECT COUNT(*) FROM notices WHERE notification_id = $1",
                vec![notification.into()],
            )
            .await?;
        Ok((rows.into_iter().map(Delivery::from).collect(), total.map_or(0, |(n,)| n)))
    }
}
