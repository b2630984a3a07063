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
    /// What keeps rows from being stored twice.
    pub guards: WriteGuards,
    /// How far a reading may lie ahead of its arrival and still count as its device's latest: beyond
    /// that the device's clock is wrong.
    pub max_ahead: Micros,
}

/// What keeps rows from being stored twice. All of it is on in every build but those of tests, which can
/// switch one part off (feature `test-switches`) to show that rows are then stored twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteGuards {
    skip_by_offset: bool,
    fence: bool,
}

impl Default for WriteGuards {
    fn default() -> Self {
        Self { skip_by_offset: true, fence: true }
    }
}

impl WriteGuards {
    /// Whether records that a table's offsets cover are skipped.
    pub(crate) const fn skip_by_offset(self) -> bool {
        self.skip_by_offset
    }

    /// Whether a commit is refused when another writer has moved the partition.
    pub(crate) const fn fence(self) -> bool {
        self.fence
    }

    /// Reads and writes records that a table's offsets cover already.
    #[cfg(feature = "test-switches")]
    #[must_use]
    pub const fn without_offsets(self) -> Self {
        Self { skip_by_offset: false, ..self }
    }

    /// Commits also when another writer has moved the partition.
    #[cfg(feature = "test-switches")]
    #[must_use]
    pub const fn without_fence(self) -> Self {
        Self { fence: false, ..self }
    }
}
