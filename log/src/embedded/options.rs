//! The settings of an embedded log.

use std::{path::PathBuf, time::Duration};

/// The settings of an embedded log.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// The folder that holds it.
    pub path: PathBuf,
    /// Partitions of every topic.
    pub partitions: u32,
    /// The largest entry it takes, in bytes.
    pub max_entry_bytes: usize,
    /// Bytes that may wait for the disk before appends wait too.
    pub max_pending_bytes: usize,
    /// A segment is closed once it holds this many bytes.
    pub segment_bytes: u64,
    /// Appends are refused while the disk has fewer bytes free: fjall stops working on a full disk until it
    /// is opened again.
    pub min_free_bytes: u64,
    /// Names of the cursors that must be past a record of the uplink before retention drops it.
    pub sinks: Vec<&'static str>,
}

impl EmbeddedOptions {
    /// The defaults, at this path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            partitions: 4,
            // Larger than the largest MQTT payload that ingest accepts, with room for its headers.
            max_entry_bytes: 4 << 20,
            max_pending_bytes: 64 << 20,
            // Retention frees whole segments, and each open one has a memtable: small enough for the first,
            // large enough to keep their number low.
            segment_bytes: 64 << 20,
            // Enough for the journal and the memtables that are flushed while no appends are taken.
            min_free_bytes: 256 << 20,
            sinks: vec!["lake", "control"],
        }
    }
}

/// How much of each partition is kept after every sink has read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Segments that were closed longer ago are dropped.
    pub max_age: Duration,
    /// The oldest segments are dropped while the closed ones of a partition hold more bytes.
    pub max_bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { max_age: Duration::from_secs(7 * 86_400), max_bytes: 1 << 30 }
    }
}
