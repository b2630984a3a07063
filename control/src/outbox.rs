//! The outbox: what a change of state causes elsewhere, written with the change, numbered without
//! gaps and delivered in that order by the one who holds its lease.

use std::{sync::Arc, time::Duration};

use acuvim_schemas::command::Command;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{Control, Error, Lease};

/// The lease of the one who numbers and delivers.
pub const OUTBOX_LEASE: &str = "outbox";

/// Rows that are delivered in one go.
const PAGE: i64 = 500;

/// Sees when something was put into the outbox by this process; others' are found by looking.
#[derive(Debug, Clone)]
pub struct OutboxWatch(Arc<Notify>);

impl OutboxWatch {
    /// Waits until something was put in, or until the time is over.
    pub async fn changed(&self, within: Duration) {
        let _ = tokio::time::timeout(within, self.0.notified()).await;
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    device_id: String,
    request_id: Uuid,
    body: String,
    expires_at: DateTime<Utc>,
    attempt: i64,
    seq: i64,
}

impl From<Row> for Command {
    fn from(row: Row) -> Self {
        Self {
            request_id: row.request_id,
            device_id: row.device_id,
            payload: Bytes::from(row.body),
            expires_at: row.expires_at.timestamp_micros(),
            attempt: row.attempt,
            outbox_seq: row.seq,
        }
    }
}

impl Control {
    /// Sees what this process puts in.
    #[must_use]
    pub fn outbox_watch(&self) -> OutboxWatch {
        OutboxWatch(Arc::clone(&self.outbox))
    }

    /// Whether there is something in the outbox, delivered or not.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn outbox_has_rows(&self) -> Result<bool, Error> {
        let row: Option<(Uuid,)> =
            self.fetch_optional("SELECT id FROM outbox LIMIT 1", vec![]).await?;
        Ok(row.is_some())
    }

    /// Drops what was delivered, up to and including a number, numbers what is new, and answers
    /// with what is to be delivered next, in order; none if the lease has a newer holder.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn next_of_outbox(
        &self,
        lease: Lease,
        holder: &str,
        delivered: Option<i64>,
        now: DateTime<Utc>,
    ) -> Result<Option<Vec<Command>>, Error> {
        let mut tx = self.begin().await?;
        let ours = tx
            .execute(
                "UPDATE leases SET epoch = epoch
                 WHERE name = $1 AND holder = $2 AND epoch = $3 AND until > $4",
                vec![OUTBOX_LEASE.into(), holder.into(), lease.epoch.into(), now.into()],
            )
            .await?;
        if ours == 0 {
            return Ok(None);
        }
        if let Some(delivered) = delivered {
            tx.execute("DELETE FROM outbox WHERE seq <= $1", vec![delivered.into()]).await?;
        }
        let new: Vec<(Uuid,)> = tx
            .fetch_all(
                "SELECT id FROM outbox WHERE seq IS NULL ORDER BY id LIMIT $1",
                vec![PAGE.into()],
            )
            .await?;
        if !new.is_empty() {
            let last: Option<(String,)> = tx
                .fetch_optional("SELECT value FROM settings WHERE name = 'outbox.seq'", vec![])
                .await?;
            let last: i64 = last.and_then(|(text,)| text.parse().ok()).unwrap_or(0);
            // Also above the numbers of a database that was since set back.
            let mut seq = last.max(now.timestamp_micros());
            for (id,) in new {
                seq += 1;
                tx.execute("UPDATE outbox SET seq = $1 WHERE id = $2", vec![seq.into(), id.into()])
                    .await?;
            }
            tx.execute(
                "INSERT INTO settings (name, value) VALUES ('outbox.seq', $1)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                vec![seq.to_string().into()],
            )
            .await?;
        }
        let rows: Vec<Row> = tx
            .fetch_all(
                "SELECT device_id, request_id, body, expires_at, attempt, seq FROM outbox
                 WHERE seq IS NOT NULL ORDER BY seq LIMIT $1",
                vec![PAGE.into()],
            )
            .await?;
        tx.commit().await?;
        Ok(Some(rows.into_iter().map(Command::from).collect()))
    }
}
