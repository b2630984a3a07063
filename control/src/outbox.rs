//! The outbox: commands and events that a transaction causes. They are written in the transaction, numbered
//! afterwards, and delivered in the order of their numbers by the process that holds the lease.

use std::{sync::Arc, time::Duration};

use acuvim_model::event::Event;
use acuvim_wire::command::Command;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    db::{Control, Tx},
    error::Error,
    leases::Lease,
};

/// The lease of the process that numbers and delivers.
pub const OUTBOX_LEASE: &str = "outbox";

/// Rows that are numbered and delivered at a time. Few enough that other writers don't wait for long.
const PAGE: i64 = 500;

/// Wakes when this process puts something into the outbox. Rows of other processes are found by polling.
#[derive(Debug, Clone)]
pub struct OutboxWatch(Arc<Notify>);

impl OutboxWatch {
    /// Waits until something is put in, or the time is over.
    pub async fn changed(&self, within: Duration) {
        let _ = tokio::time::timeout(within, self.0.notified()).await;
    }
}

/// A row of the outbox to be delivered.
#[derive(Debug, Clone, PartialEq)]
pub enum Outgoing {
    /// A command, for a device.
    Command(Command),
    /// An event, for live clients and the lake.
    Event {
        /// Its number in the outbox.
        seq: i64,
        /// The event as it was emitted.
        event: Event,
        /// The event as it is stored. The log gets these bytes, because serialising it again could fail.
        body: Bytes,
    },
}

impl Outgoing {
    /// Its number in the outbox.
    #[must_use]
    pub const fn seq(&self) -> i64 {
        match self {
            Self::Command(command) => command.outbox_seq,
            Self::Event { seq, .. } => *seq,
        }
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    kind: String,
    device_id: String,
    request_id: Uuid,
    body: String,
    expires_at: DateTime<Utc>,
    attempt: i64,
    seq: i64,
}

impl TryFrom<Row> for Outgoing {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        if row.kind == EVENT {
            let event = read_event(row.seq, &row.body)?;
            return Ok(Self::Event { seq: row.seq, event, body: Bytes::from(row.body) });
        }
        Ok(Self::Command(Command {
            request_id: row.request_id,
            device_id: row.device_id,
            payload: Bytes::from(row.body),
            expires_at: row.expires_at.timestamp_micros(),
            attempt: row.attempt,
            outbox_seq: row.seq,
        }))
    }
}

/// Reads a stored event. One that can't be read, because a newer version wrote it, is an error and stays
/// in the outbox: skipping it would lose it.
fn read_event(seq: i64, body: &str) -> Result<Event, Error> {
    serde_json::from_str(body).map_err(|e| {
        let text = format!(
            "event {seq} of the outbox can't be read; run the version that wrote it, or a newer one"
        );
        Error::stored(&text, e)
    })
}

/// The kind of rows with events. Rows with commands have the default of the column.
const EVENT: &str = "event";

/// The setting with the last number that was given.
const LAST_NUMBER: &str = "outbox.seq";

impl Tx {
    /// Puts an event into the outbox.
    pub(crate) async fn emit(&mut self, event: &Event, now: DateTime<Utc>) -> Result<(), Error> {
        let body = serde_json::to_string(event).map_err(|e| Error::stored("an event", e))?;
        self.mark_emits();
        self.execute(
            "INSERT INTO outbox (id, kind, device_id, request_id, body, expires_at, attempt)
             VALUES ($1, $2, $3, $4, $5, $6, 0)",
            vec![
                // Ids of one process grow, so rows of a transaction are numbered in the order in which
                // they were put in.
                Uuid::now_v7().into(),
                EVENT.into(),
                event.device_id().unwrap_or_default().into(),
                Uuid::nil().into(),
                body.into(),
                now.into(),
            ],
        )
        .await
        .map(|_| ())
    }
}

impl Control {
    /// Watches what this process puts in.
    #[must_use]
    pub fn outbox_watch(&self) -> OutboxWatch {
        OutboxWatch(Arc::clone(&self.outbox))
    }

    /// Whether the outbox has rows that the log may not have.
    pub async fn outbox_has_rows(&self) -> Result<bool, Error> {
        let row: Option<(Uuid,)> = self
            .fetch_optional("SELECT id FROM outbox WHERE logged = $1 LIMIT 1", vec![false.into()])
            .await?;
        Ok(row.is_some())
    }

    /// Removes the rows that the log has, up to and including the number `delivered`, numbers new rows, and
    /// returns the rows to deliver next, in order. `None` if the lease is lost.
    ///
    /// Delivered events stay until the lake has them too.
    pub async fn next_of_outbox(
        &self,
        lease: Lease,
        holder: &str,
        delivered: Option<i64>,
        now: DateTime<Utc>,
    ) -> Result<Option<Vec<Outgoing>>, Error> {
        let mut tx = self.begin().await?;
        // Locks the row of the lease, so that a process which takes it over waits until these numbers
        // are committed.
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
            remove_delivered(&mut tx, delivered).await?;
        }
        number_new(&mut tx, now).await?;
        let rows: Vec<Row> = tx
            .fetch_all(
                "SELECT kind, device_id, request_id, body, expires_at, attempt, seq FROM outbox
                 WHERE seq IS NOT NULL AND logged = $1 ORDER BY seq LIMIT $2",
                vec![false.into(), PAGE.into()],
            )
            .await?;
        tx.commit().await?;
        rows.into_iter().map(Outgoing::try_from).collect::<Result<_, _>>().map(Some)
    }

    /// Events that the log has and the lake has not, in order, each with its number.
    pub async fn events_for_lake(&self, limit: i64) -> Result<Vec<(i64, Event)>, Error> {
        let rows: Vec<(String, i64)> = self
            .fetch_all(
                "SELECT body, seq FROM outbox WHERE logged = $1 ORDER BY seq LIMIT $2",
                vec![true.into(), limit.into()],
            )
            .await?;
        rows.into_iter().map(|(body, seq)| Ok((seq, read_event(seq, &body)?))).collect()
    }

    /// Removes events that the lake has, up to and including a number.
    pub async fn drop_events(&self, seq: i64) -> Result<(), Error> {
        self.execute(
            "DELETE FROM outbox WHERE logged = $1 AND seq <= $2",
            vec![true.into(), seq.into()],
        )
        .await
        .map(|_| ())
    }
}

/// Removes rows that the log has. Events are only marked, because the lake needs them too.
async fn remove_delivered(tx: &mut Tx, delivered: i64) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM outbox WHERE seq <= $1 AND kind <> $2",
        vec![delivered.into(), EVENT.into()],
    )
    .await?;
    tx.execute(
        "UPDATE outbox SET logged = $1 WHERE seq <= $2 AND logged = $3",
        vec![true.into(), delivered.into(), false.into()],
    )
    .await
    .map(|_| ())
}

/// Numbers new rows. Done here rather than when they are written, because concurrent transactions commit
/// in another order than they write: a row that became visible after a higher number was delivered would
/// be skipped.
async fn number_new(tx: &mut Tx, now: DateTime<Utc>) -> Result<(), Error> {
    let new: Vec<(Uuid,)> = tx
        .fetch_all(
            "SELECT id FROM outbox WHERE seq IS NULL ORDER BY id LIMIT $1",
            vec![PAGE.into()],
        )
        .await?;
    if new.is_empty() {
        return Ok(());
    }
    let last = tx.setting(LAST_NUMBER).await?.and_then(|text| text.parse().ok()).unwrap_or(0);
    // At least the time, so that the numbers grow even after the database was restored from a backup.
    let mut seq: i64 = now.timestamp_micros().max(last);
    for (id,) in new {
        seq += 1;
        tx.execute("UPDATE outbox SET seq = $1 WHERE id = $2", vec![seq.into(), id.into()]).await?;
    }
    tx.set_setting(LAST_NUMBER, &seq.to_string()).await
}

#[cfg(test)]
mod tests;
