//! What is read from a partition, and within which limits.

use std::time::Duration;

use acuvim_wire::entry::Entry;

/// What a partition holds: offsets from `start` up to but not including `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The oldest offset that can be read.
    pub start: i64,
    /// The offset that the next record gets.
    pub end: i64,
}

/// How much one read may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimit {
    /// The most records; one is returned even if this is 0.
    pub records: usize,
    /// Bytes of keys, headers and values. One record is returned even if it alone is larger: otherwise its
    /// reader would never get past it.
    pub bytes: usize,
    /// How long to wait for the first record when there is none yet.
    pub wait: Duration,
}

/// Records of one partition in offset order. The embedded log has no gaps; on Kafka compaction and
/// control records leave some.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Offset and entry.
    pub entries: Vec<(i64, Entry)>,
    /// Where the next read begins: after everything this read has passed, gaps included.
    pub next: i64,
}
