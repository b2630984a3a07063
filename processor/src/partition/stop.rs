//! Why the task of a partition ended.

use crate::fatal::Fatal;

/// Why the task of a partition ended.
pub(crate) enum StopReason {
    /// It was stopped or given up.
    Requested,
    /// Another process has moved the partition on in control, so what this one holds of it is
    /// stale.
    Overtaken,
    /// It can't go on, and neither can the stream.
    Fatal(Fatal),
}

impl From<Fatal> for StopReason {
    fn from(fatal: Fatal) -> Self {
        Self::Fatal(fatal)
    }
}
