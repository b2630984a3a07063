//! What the unit tests of the log share.

use std::{path::Path, time::Duration};

use acuvim_wire::{entry::Entry, record::LogTopic};
use bytes::Bytes;

use crate::{
    batch::ReadLimit,
    embedded::{EmbeddedLog, EmbeddedOptions},
    log::Log as _,
};

pub(crate) const UPLINK: LogTopic = LogTopic::Uplink;

/// Everything that is there now.
pub(crate) const ALL: ReadLimit =
    ReadLimit { records: usize::MAX, bytes: usize::MAX, wait: Duration::ZERO };

pub(crate) fn entry(value: impl Into<Bytes>) -> Entry {
    Entry { key: Bytes::from_static(b"d"), value: value.into(), headers: Vec::new() }
}

/// One partition a topic, and a segment for every append.
pub(crate) fn options(path: &Path) -> EmbeddedOptions {
    EmbeddedOptions {
        partitions: 1,
        segment_bytes: 1,
        min_free_bytes: 0,
        ..EmbeddedOptions::at(path)
    }
}

pub(crate) async fn open(path: &Path) -> EmbeddedLog {
    EmbeddedLog::open(options(path)).await.expect("a log")
}

/// Appends values to partition 0 of the uplink, one by one; returns the last offset.
pub(crate) async fn append(log: &EmbeddedLog, values: std::ops::Range<u32>) -> i64 {
    let mut last = -1;
    for n in values {
        let at = log.append(UPLINK, vec![(0, entry(n.to_string()))]).await.expect("appended");
        last = at[0].offset;
    }
    last
}

/// The values of partition 0 of the uplink from an offset on.
pub(crate) async fn values(log: &EmbeddedLog, from: i64) -> Vec<String> {
    let batch = log.read(UPLINK, 0, from, ALL).await.expect("read");
    let text = |entry: Entry| String::from_utf8(entry.value.to_vec()).expect("text");
    batch.entries.into_iter().map(|(_, entry)| text(entry)).collect()
}
