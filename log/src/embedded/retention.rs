//! What may be forgotten: closed segments past an age or beyond a size that every sink has got.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Shared, disk};
use crate::{Error, LogTopic};

/// How much of each partition is kept after every sink has got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Segments closed longer ago go.
    pub max_age: Duration,
    /// The oldest go while a partition's closed segments hold more bytes.
    pub max_bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { max_age: Duration::from_secs(7 * 86_400), max_bytes: 1 << 30 }
    }
}

pub(super) fn retain(shared: &Shared, now: SystemTime, keep: Retention) -> Result<u64, Error> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let oldest = now.saturating_sub(keep.max_age).as_micros();
    let mut freed = 0;
    for ((topic, number), partition) in &shared.partitions {
        let closed = partition.closed(&shared.meta)?;
        let mut bytes: u64 = closed.iter().map(|s| s.bytes).sum();
        let mut before = None;
        for segment in &closed {
            let old = u128::try_from(segment.at).unwrap_or(0) < oldest;
            if !old && bytes <= keep.max_bytes {
                break;
            }
            bytes -= segment.bytes;
            before = Some(segment.end);
        }
        let Some(before) = before else { continue };
        let Some(sinks) = slowest_sink(shared, *topic, *number)? else { continue };
        freed += partition.truncate_before(&shared.db, &shared.meta, before.min(sinks))?;
    }
    Ok(freed)
}

/// What every sink has got, as far as their cursors say; none if one that records of the topic are
/// owed to has no cursor yet. Events are owed to nobody.
fn slowest_sink(shared: &Shared, topic: LogTopic, number: u32) -> Result<Option<i64>, Error> {
    let prefix = format!("cursor/{}/{number}/", topic.name());
    let (mut slowest, mut names) = (i64::MAX, Vec::new());
    for guard in shared.meta.prefix(prefix.as_bytes()) {
        let (key, value) = guard.into_inner().map_err(disk)?;
        if let Ok(offset) = value.as_ref().try_into().map(i64::from_be_bytes) {
            slowest = slowest.min(offset);
            names.push(String::from_utf8_lossy(&key).rsplit('/').next().map(str::to_owned));
        }
    }
    let told = |sink: &&str| names.iter().flatten().any(|name| name == sink);
    let owed = match topic {
        LogTopic::Uplink => !shared.options.sinks.iter().all(told),
        LogTopic::Commands => names.is_empty(),
        LogTopic::Events => false,
    };
    Ok((!owed).then_some(slowest))
}
