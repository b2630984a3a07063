//! Retention: closed segments past an age or beyond a size are dropped once every sink has read them.

use std::time::{SystemTime, UNIX_EPOCH};

use acuvim_wire::record::LogTopic;

use super::{options::Retention, partition::Closed, shared::Shared, store::disk};
use crate::error::Error;

pub(super) fn retain(shared: &Shared, now: SystemTime, keep: Retention) -> Result<u64, Error> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let oldest = now.saturating_sub(keep.max_age).as_micros();
    let mut freed = 0;
    for ((topic, number), partition) in &shared.partitions {
        let closed = partition.closed(&shared.meta)?;
        let Some(before) = expendable(&closed, oldest, keep.max_bytes) else { continue };
        let Some(cursor) = slowest_cursor(shared, *topic, *number)? else { continue };
        freed += partition.truncate_before(&shared.db, &shared.meta, before.min(cursor))?;
    }
    Ok(freed)
}

/// The offset behind the segments that are too old or too many; none if all may stay. Only a prefix goes,
/// because a partition without gaps can be read from its start to its end.
fn expendable(closed: &[Closed], oldest: u128, max_bytes: u64) -> Option<i64> {
    let mut bytes: u64 = closed.iter().map(|s| s.bytes).sum();
    let mut before = None;
    for segment in closed {
        // A segment without a time is one whose creation was not recorded; it counts as very old, because
        // the cursors protect it all the same.
        let old = u128::try_from(segment.at).unwrap_or(0) < oldest;
        if !old && bytes <= max_bytes {
            break;
        }
        bytes -= segment.bytes;
        before = Some(segment.end);
    }
    before
}

/// The lowest cursor of the topic's readers; none if a reader that must not miss records has no cursor yet.
/// Events have no such reader: live clients only want what is new.
fn slowest_cursor(shared: &Shared, topic: LogTopic, number: u32) -> Result<Option<i64>, Error> {
    let prefix = format!("cursor/{}/{number}/", topic.name());
    let (mut slowest, mut names) = (i64::MAX, Vec::new());
    for guard in shared.meta.prefix(prefix.as_bytes()) {
        let (key, value) = guard.into_inner().map_err(disk)?;
        if let Ok(offset) = value.as_ref().try_into().map(i64::from_be_bytes) {
            slowest = slowest.min(offset);
            names.push(key.get(prefix.len()..).unwrap_or_default().to_vec());
        }
    }
    let has_cursor = |sink: &&str| names.iter().any(|name| name == sink.as_bytes());
    let is_waiting = match topic {
        LogTopic::Uplink => !shared.options.sinks.iter().all(has_cursor),
        LogTopic::Commands => names.is_empty(),
        LogTopic::Events => false,
    };
    Ok((!is_waiting).then_some(slowest))
}

#[cfg(test)]
mod tests;
