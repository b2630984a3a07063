//! What can go wrong with the lake, told apart by what the caller may do.

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use deltalake::DeltaTableError;

/// What the caller may do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Try again later: the object store is away.
    Unavailable,
    /// Ask for another version: the table has none such, or not any more.
    NoVersion,
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

    /// The same, with the place that it is about.
    pub(crate) fn at(self, url: &url::Url) -> Self {
        Self { kind: self.kind, message: format!("{url} (lake.url): {}", self.message) }
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        Self::new(crate::store::kind(&error), format!("lake: {}", one_line(&error)))
    }
}

/// A store's answer may bring a page of XML.
fn one_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The store's own error, however deep it is wrapped.
fn store_error<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a object_store::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<object_store::Error>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Whether the store could not be asked; that it has no such file is an answer.
pub(crate) fn store_is_away(error: &DeltaTableError) -> bool {
    store_error(error).is_some_and(|e| !matches!(e, object_store::Error::NotFound { .. }))
}

impl From<DeltaTableError> for Error {
    fn from(error: DeltaTableError) -> Self {
        let kind = match &error {
            DeltaTableError::Arrow { .. }
            | DeltaTableError::SchemaMismatch { .. }
            | DeltaTableError::InvalidData { .. }
            | DeltaTableError::PartitionError { .. }
            | DeltaTableError::NoSchema => ErrorKind::Internal,
            DeltaTableError::InvalidTableLocation(_) | DeltaTableError::NotATable(_) => {
                ErrorKind::Setup
            }
            // A store's errors come wrapped in many others; trying again loses nothing.
            other => store_error(other).map_or(ErrorKind::Unavailable, crate::store::kind),
        };
        Self::new(kind, format!("lake: {}", one_line(&error)))
    }
}

impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Self {
        Self::new(ErrorKind::Internal, format!("lake: {error}"))
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        let kind = if is_store_trouble(&error) || is_over_limit(&error) {
            ErrorKind::Unavailable
        } else {
            ErrorKind::Internal
        };
        Self::new(kind, format!("lake: {}", one_line(&error)))
    }
}

/// Whether an error comes from the object store or the disk, however deep it is wrapped. What comes
/// out of the reading of a file counts as that: on its way the store's own error may have become
/// text.
#[must_use]
pub fn is_store_trouble(error: &DataFusionError) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if error.is::<object_store::Error>() || error.is::<std::io::Error>() {
            return true;
        }
        next = error.source();
    }
    matches!(
        error.find_root(),
        DataFusionError::ObjectStore(_)
            | DataFusionError::IoError(_)
            | DataFusionError::ParquetError(_)
            | DataFusionError::External(_)
    )
}

fn is_over_limit(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
}
