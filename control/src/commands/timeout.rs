//! Ending commands whose time is over.

use acuvim_model::Deliver;
use acuvim_wire::device::partition_of;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{db::Tx, error::Error};

/// Commands in one result.
const PAGE: i64 = 500;

/// Up to which time a partition has been read. An answer that was due by then and has not been read will
/// not come any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadUntil {
    /// The time up to which it has been read.
    pub at: DateTime<Utc>,
    /// The number of the partition.
    pub partition: u32,
    /// The number of partitions.
    pub partitions: u32,
}

impl ReadUntil {
    /// Whether a device is in the partition.
    fn covers(&self, device_id: &str) -> bool {
        partition_of(device_id.as_bytes(), self.partitions) == self.partition
    }
}

#[derive(sqlx::FromRow)]
struct DueCommand {
    request_id: Uuid,
    device_id: String,
    status: String,
    deliver: String,
    waiting: bool,
    deadline: DateTime<Utc>,
}

/// Ends the commands to devices of a partition that were due by the time up to which it has been read.
pub(crate) async fn expire(tx: &mut Tx, read: ReadUntil) -> Result<(), Error> {
    let mut after = (DateTime::UNIX_EPOCH, Uuid::nil());
    loop {
        let due: Vec<DueCommand> = tx
            .fetch_all(
                "SELECT request_id, device_id, status, deliver, waiting, deadline FROM commands
                 WHERE deadline <= $1 AND (deadline, request_id) > ($2, $3)
                     AND status IN ('pending', 'sent', 'ack')
                 ORDER BY deadline, request_id LIMIT $4",
                vec![read.at.into(), after.0.into(), after.1.into(), PAGE.into()],
            )
            .await?;
        let Some(last) = due.last() else { return Ok(()) };
        // Commands of other partitions stay due, so the next page must begin after this one.
        after = (last.deadline, last.request_id);
        for command in due.iter().filter(|command| read.covers(&command.device_id)) {
            end(tx, command).await?;
        }
    }
}

async fn end(tx: &mut Tx, due: &DueCommand) -> Result<(), Error> {
    let reason = match (due.status.as_str(), Deliver::parse(&due.deliver)) {
        ("pending", Some(Deliver::WhenOnline)) if due.waiting => {
            "the device did not come online in time"
        }
        ("pending", _) if due.waiting => "the device is not connected",
        ("pending", _) => "nobody took it for the device in time",
        ("sent", _) => "the device took it and did not answer in time",
        _ => "the device began and did not finish in time",
    };
    // It ended at its deadline, not when that was noticed: the result must not depend on how late the
    // log is read.
    // Only while it is open: a concurrent answer may have ended it.
    let ended = tx
        .execute(
            "UPDATE commands SET status = 'timeout', error = $1, finished_at = $2, deadline = NULL,
             waiting = $3, secret_params = NULL
         WHERE request_id = $4 AND status IN ('pending', 'sent', 'ack') AND deadline = $2",
            vec![reason.into(), due.deadline.into(), false.into(), due.request_id.into()],
        )
        .await?;
    if ended > 0 {
        tx.emit_command(due.request_id).await?;
    }
    // Once it has a number, the broker may have it; then its `expires_at` keeps the device from
    // running it late.
    tx.execute(
        "DELETE FROM outbox WHERE request_id = $1 AND seq IS NULL",
        vec![due.request_id.into()],
    )
    .await
    .map(|_| ())
}

#[cfg(test)]
mod tests;
