//! When files are merged, and what came of it.

use std::time::Duration;

use crate::delta::writer::TARGET_BYTES;

/// When files are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionPolicy {
    /// The number of files of a day and a size class that are merged into one.
    pub fan_in: usize,
    /// The most files that one merge reads. All of them are open at once.
    pub max_files: usize,
    /// The desired size of files in bytes; at most 256 MiB.
    pub file_bytes: u64,
    /// How long after its last file a past day is put in order: merged into files whose device ranges do
    /// not overlap.
    pub settle: Duration,
}

impl Default for CompactionPolicy {
    fn default() -> Self {
        Self {
            fan_in: 8,
            max_files: 32,
            file_bytes: TARGET_BYTES,
            settle: Duration::from_secs(600),
        }
    }
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// The number of files that were merged.
    pub removed: usize,
    /// The number of files that replace them.
    pub added: usize,
}
