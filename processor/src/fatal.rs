//! Errors that stop the stream for good.

/// Why the stream stopped for good.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// Another process writes the same tables.
    #[error(
        "partition {0} is being written by another process: two processors share this lake or \
         control database, but not their log; stop one of them"
    )]
    Overtaken(u32),
    /// The log no longer has acknowledged records that no table has yet.
    #[error("the log has lost records that are in no table yet: {0}")]
    Lost(String),
    /// A component failed in a way that no retry can mend, such as stored data that can't be read.
    #[error(transparent)]
    Failed(Box<dyn std::error::Error + Send + Sync>),
    /// One of the stream's own assumptions does not hold.
    #[error("{0}")]
    Broken(String),
}

impl Fatal {
    /// An error that no retry can mend.
    pub(crate) fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Failed(error.into())
    }
}
