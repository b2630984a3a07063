//! The outbox: what a change of state causes elsewhere, written with the change, numbered without
//! gaps and delivered in that order by the one who holds its lease.

use std::{sync::Arc, time::Duration};

use acuvim_schemas::{command::Command, event::Event};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{Control, Error, Lease, db::Tx};

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

/// What goes out.
#[derive(Debug, Clone, PartialEq)]
pub enum Outgoing {
    /// A command, to a device.
    Command(Command),
    /// Something that happened, to whoever listens and to the lake.
    Event {
        /// Its number.
        seq: i64,
        /// What.
        event: Event,
        /// The same as it is stored, which is what the log gets: to write it out again could fail.
        body: Bytes,
    },
}

impl Outgoing {
    /// Its number.
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

/// An event as it is stored. One that can't be read, as a newer version's, stays where it is until a
/// process can: passed over it would be gone.
fn read_event(seq: i64, body: &str) -> Result<Event, Error> {
    serde_json::from_str(body).map_err(|e| {
        let text = format!(
            "event {seq} of the outbox can't be read ({e}); run the version that wrote it, or a newer"
        );
        Error::new(crate::ErrorKind::Internal, text)
    })
}

/// The kind of rows that go to the lake too.
const EVENT: &str = "event";

impl Tx {
    /// Puts something that happened into the outbox.
    pub(crate) async fn emit(&mut self, event: &Event, now: DateTime<Utc>) -> Result<(), Error> {
        let body = serde_json::to_string(event)
            .map_err(|e| Error::new(crate::ErrorKind::Internal, format!("an event: {e}")))?;
        self.tells();
        self.execute(
            "INSERT INTO outbox (id, kind, device_id, request_id, body, expires_at, attempt)
             VALUES ($1, $2, $3, $4, $5, $6, 0)",
            vec![
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
    /// Sees what this process puts in.
    #[must_use]
    pub fn outbox_watch(&self) -> OutboxWatch {
        OutboxWatch(Arc::clone(&self.outbox))
    }

    /// Whether there is something in the outbox that the log may not have.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn outbox_has_rows(&self) -> Result<bool, Error> {
        let row: Option<(Uuid,)> = self
            .fetch_optional("SELECT id FROM outbox WHERE logged = $1 LIMIT 1", vec![false.into()])
            .await?;
        Ok(row.is_some())
    }

    /// Lets go of what the log has, up to and including a number (events wait for the lake), numbers
    /// what is new, and answers with what is to go to the log next, in order; none if the lease has
    /// a newer holder.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn next_of_outbox(
        &self,
        lease: Lease,
        holder: &str,
        delivered: Option<i64>,
        now: DateTime<Utc>,
    ) -> Result<Option<Vec<Outgoing>>, Error> {
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
            tx.execute(
                "DELETE FROM outbox WHERE seq <= $1 AND kind <> $2",
                vec![delivered.into(), EVENT.into()],
            )
            .await?;
            tx.execute(
                "UPDATE outbox SET logged = $1 WHERE seq <= $2 AND logged = $3",
                vec![true.into(), delivered.into(), false.into()],
            )
            .await?;
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
                "SELECT kind, device_id, request_id, body, expires_at, attempt, seq FROM outbox
                 WHERE seq IS NOT NULL AND logged = $1 ORDER BY seq LIMIT $2",
                vec![false.into(), PAGE.into()],
            )
            .await?;
        tx.commit().await?;
        rows.into_iter().map(Outgoing::try_from).collect::<Result<_, _>>().map(Some)
    }

    /// Events that the log has and the lake has not, in order, and their numbers.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn events_for_lake(&self, limit: i64) -> Result<Vec<(i64, Event)>, Error> {
        let rows: Vec<(String, i64)> = self
            .fetch_all(
                "SELECT body, seq FROM outbox WHERE logged = $1 ORDER BY seq LIMIT $2",
                vec![true.into(), limit.into()],
            )
            .await?;
        rows.into_iter().map(|(body, seq)| Ok((seq, read_event(seq, &body)?))).collect()
    }

    /// Lets go of events that the lake has, up to and including a number.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn drop_events(&self, seq: i64) -> Result<(), Error> {
        self.execute(
            "DELETE FROM outbox WHERE logged = $1 AND seq <= $2",
            vec![true.into(), seq.into()],
        )
        .await
        .map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(body: &str) -> Row {
        Row {
            kind: EVENT.to_owned(),
            device_id: "d1".to_owned(),
            request_id: Uuid::nil(),
            body: body.to_owned(),
            expires_at: DateTime::UNIX_EPOCH,
            attempt: 0,
            seq: 7,
        }
    }

    #[test]
    fn an_event_that_cant_be_read_is_an_error_and_not_nothing() {
        let error = Outgoing::try_from(row(r#"{"of_a_newer_version":1}"#)).expect_err("unknown");
        assert!(error.to_string().contains("event 7 of the outbox"), "{error}");
    }
}
