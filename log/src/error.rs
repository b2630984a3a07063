//! What can go wrong with the log, told apart by what the caller may do.

/// What the caller may do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Try again later: the log is away, full or stopping.
    Unavailable,
    /// Give this entry up: the log will never take it.
    Refused,
    /// The offset is outside of what the log holds: data is lost, or the log was replaced.
    OutOfRange,
    /// Stop: what is stored can't be read.
    Corrupt,
    /// Mend the settings.
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
    /// An error of a kind, in words.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What the caller may do.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }
}
