//! What can go wrong with the log, classified by what the caller may do about it.

use crate::batch::Bounds;

/// What the caller may do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Try again later: the log is away, full or stopping.
    Unavailable,
    /// Give this entry up: the log will never take it.
    Refused,
    /// The offset is outside of what the log holds: records are lost, or the log was replaced.
    OutOfRange,
    /// Stop: what is stored can't be read.
    Corrupt,
    /// Correct the settings.
    Setup,
}

/// An error of the log.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl Error {
    /// An error of a kind, with the message for people.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What the caller may do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    pub(crate) fn too_large(size: usize, limit: usize) -> Self {
        let message = format!("an entry of {size} bytes is over the log's limit of {limit}");
        Self::new(ErrorKind::Refused, message)
    }

    pub(crate) fn out_of_range(topic: &str, partition: u32, bounds: Bounds, from: i64) -> Self {
        let Bounds { start, end } = bounds;
        let holds = format!("{topic} partition {partition} holds {start} to {end}");
        Self::new(ErrorKind::OutOfRange, format!("{holds}, asked for {from}"))
    }
}
