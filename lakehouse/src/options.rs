//! How a lake is opened.

use acuvim_wire::time::Micros;
use url::Url;

/// The location of a lake, and the log that it is written from.
#[derive(Debug, Clone)]
pub struct LakeOptions {
    /// The folder that contains the tables: `file://` or `s3://`.
    pub url: Url,
    /// The number of partitions of the log.
    pub partitions: u32,
    /// The epoch of the log. Offsets are only comparable within one epoch.
    pub epoch: i32,
    /// Whether to skip records that a table's offsets cover. Switched off only by tests, to show that
    /// rows are then stored twice.
    pub skip_by_offset: bool,
    /// Whether a commit is refused when another writer has moved the partition. Switched off only by
    /// tests, to show that rows are then stored twice.
    pub fence: bool,
    /// How far a reading may lie ahead of its arrival and still count as its device's latest: beyond
    /// that the device's clock is wrong.
    pub max_ahead: Micros,
}
