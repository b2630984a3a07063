//! Helpers around fjall, the key-value store that the embedded log is built on.

use fjall::{Keyspace, KeyspaceCreateOptions};

use crate::error::Error;

/// Small memtables, because every open segment has one.
pub(super) fn keyspace() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(8 << 20)
}

/// Reads an offset or a time that is stored under a key.
pub(super) fn number(meta: &Keyspace, key: &str) -> Result<Option<i64>, Error> {
    let value = meta.get(key.as_bytes()).map_err(disk)?;
    Ok(value.and_then(|v| v.as_ref().try_into().ok()).map(i64::from_be_bytes))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn disk(error: fjall::Error) -> Error {
    Error::unavailable(format!("the embedded log's disk: {error}"))
}
