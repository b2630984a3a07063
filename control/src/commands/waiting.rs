//! Commands that wait for their device: sent once a message of the device arrives.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::release::release;
use crate::{db::Tx, device_updates::DeviceUpdate, error::Error, statement::Statement};

/// Commands in one result. What is left over is sent at the next message of its device.
const PAGE: i64 = 500;

/// Devices in one statement, far below the 32,766 parameters that SQLite allows.
pub(super) const CHUNK: usize = 500;

/// How long a command that found no subscriber waits until it is sent again. A device that reconnected
/// gets it at once.
const RETRY_AFTER: TimeDelta = TimeDelta::seconds(30);

/// Sends the commands that wait for devices with live messages. Returns whether there were any.
pub(crate) async fn release_waiting(
    tx: &mut Tx,
    heard: &[&DeviceUpdate],
    at: DateTime<Utc>,
) -> Result<bool, Error> {
    let mut any = false;
    for updates in heard.chunks(CHUNK) {
        let mut find = Statement::new(
            "SELECT c.request_id, c.device_id, c.nobody_at FROM commands c
             JOIN devices d ON d.device_id = c.device_id WHERE c.waiting",
        );
        find.push("AND d.enabled = ? AND c.device_id IN", [true.into()]);
        find.push_list(updates.iter().map(|update| (&update.device_id).into()));
        find.push("AND c.status = 'pending' AND c.expires_at > ?", [at.into()]);
        find.push("ORDER BY c.request_id LIMIT ?", [PAGE.into()]);
        let found: Vec<(Uuid, String, Option<DateTime<Utc>>)> = tx.select(find).await?;
        for (request_id, device_id, nobody_at) in found {
            let back = updates.iter().any(|update| update.back && update.device_id == device_id);
            if back || nobody_at.is_none_or(|tried| at - tried >= RETRY_AFTER) {
                release(tx, request_id, at).await?;
                any = true;
            }
        }
    }
    Ok(any)
}
