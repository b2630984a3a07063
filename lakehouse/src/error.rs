//! What can go wrong with the lake, told apart by what the caller may do.

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use deltalake::DeltaTableError;

/// What the caller may do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Try again later: the object store is away.
    Unavailable,
    /// Mend the settings: the URL, the credentials, or what lies at the URL.
    Setup,
    /// Stop: rows and schemas have come apart, or a file is damaged.
    Internal,
}

/// An error of the lake.
#[derive(Debug, thiserror::Error)]
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
}

impl From<DeltaTableError> for Error {
    fn from(error: DeltaTableError) -> Self {
        let kind = match &error {
            DeltaTableError::ObjectStore { .. } | DeltaTableError::Io { .. } => {
                ErrorKind::Unavailable
            }
            DeltaTableError::InvalidTableLocation(_) | DeltaTableError::NotATable(_) => {
                ErrorKind::Setup
            }
            _ => ErrorKind::Internal,
        };
        Self::new(kind, format!("lake: {error}"))
    }
}

impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Self {
        Self::new(ErrorKind::Internal, format!("lake: {error}"))
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        let kind = match error.find_root() {
            DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        };
        Self::new(kind, format!("lake: {error}"))
    }
}
