//! Sending messages: claimed, tried, tried again, delivered or given up.

use acuvim_model::{Delivery, DeliveryKind, DeliveryState, Notification};
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::targets::NOTIFICATIONS_LEASE;
use crate::{db::Control, error::Error, leases::Lease, statement::Statement};

/// A message to be sent now, with its notification.
#[derive(Debug, Clone, PartialEq)]
pub struct DueNotice {
    /// The id, which is the same at every attempt.
    pub id: Uuid,
    /// The kind of message.
    pub kind: DeliveryKind,
    /// The title of the message.
    pub title: String,
    /// Its items; of many, the first ones.
    pub items: Vec<Json>,
    /// The number of all items.
    pub count: i64,
    /// The number of attempts, including this one.
    pub attempts: i64,
    /// When the message was made.
    pub created_at: DateTime<Utc>,
    /// The notification that it is for.
    pub notification: Notification,
    /// The secret that signs it, for a webhook.
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

#[derive(sqlx::FromRow)]
struct ClaimedRow {
    notification_id: Uuid,
    kind: String,
    title: String,
    items: Json,
    item_count: i64,
    attempts: i64,
    created_at: DateTime<Utc>,
    secret: Option<String>,
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
    /// The due messages, at most one for each notification, each with the id of its notification.
    ///
    /// Messages with the same key are sent in order, so that the end of an alert does not overtake its
    /// beginning while that is being retried.
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

    /// Claims a due message for one more attempt. It is due again at `again`, in case this process ends
    /// before the outcome is stored. `None` if it is not due any more, or the lease is lost.
    pub async fn claim_notice(
        &self,
        id: Uuid,
        lease: Lease,
        now: DateTime<Utc>,
        again: DateTime<Utc>,
    ) -> Result<Option<DueNotice>, Error> {
        let mut tx = self.begin().await?;
        if !tx.holds(NOTIFICATIONS_LEASE, lease, now).await? {
            return Ok(None);
        }
        // Counted and committed before it is sent: a message that ends the process with it is not tried
        // for ever.
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
        let claimed: Option<ClaimedRow> = tx
            .fetch_optional(
                "SELECT m.notification_id, m.kind, m.title, m.items, m.item_count, m.attempts,
                     m.created_at, n.secret
                 FROM notices m LEFT JOIN notifications n ON n.id = m.notification_id
                 WHERE m.id = $1",
                vec![id.into()],
            )
            .await?;
        tx.commit().await?;
        let Some(row) = claimed else { return Ok(None) };
        let Some(notification) = self.notification(row.notification_id).await? else {
            return Ok(None);
        };
        Ok(Some(DueNotice {
            id,
            kind: DeliveryKind::parse(&row.kind).unwrap_or(DeliveryKind::Test),
            title: row.title,
            items: serde_json::from_value(row.items).unwrap_or_default(),
            count: row.item_count,
            attempts: row.attempts,
            created_at: row.created_at,
            notification,
            secret: row.secret,
        }))
    }

    /// Stores the outcome of an attempt: delivered, given up, or, with the state `waiting`, due again at `at`.
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

    /// Makes a test message, and returns its id.
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

    /// One message with its state.
    pub async fn delivery(&self, id: Uuid) -> Result<Option<Delivery>, Error> {
        let mut one = select();
        one.push("id = ?", [id.into()]);
        let row: Option<Row> = self.select_one(one).await?;
        Ok(row.map(Delivery::from))
    }

    /// A page of the messages of a notification, newest first, before `before`, and the number of all.
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
        let rows: Vec<Row> = self.select(page).await?;
        let sql = "SELECT COUNT(*) FROM notices WHERE notification_id = $1";
        let total = self.count(sql, vec![notification.into()]).await?;
        Ok((rows.into_iter().map(Delivery::from).collect(), total))
    }
}
