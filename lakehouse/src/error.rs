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

/// What went wrong while a query's own expressions were computed: a division by zero, an overflow, a
/// text that is no number. A reader of files that computes a filter wraps it as an error of the file's,
/// but neither the file nor the store has anything to do with it.
#[must_use]
pub fn computing_error(error: &DataFusionError) -> Option<&ArrowError> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        let found = error.downcast_ref::<ArrowError>();
        if let Some(found) = found.filter(|found| is_of_computing(found)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// A bad argument is not among them: the reader of a damaged file says that too.
const fn is_of_computing(error: &ArrowError) -> bool {
    matches!(
        error,
        ArrowError::DivideByZero
            | ArrowError::ArithmeticOverflow(_)
            | ArrowError::CastError(_)
            | ArrowError::ParseError(_)
            | ArrowError::ComputeError(_)
    )
}

/// Whether an error comes from the object store or the disk, however deep it is wrapped. What comes
/// out of the reading of a file counts as that, unless a query's own expression has failed: on its way
/// the store's own error may have become text.
#[must_use]
pub fn is_store_trouble(error: &DataFusionError) -> bool {
    if computing_error(error).is_some() {
        return false;
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::errors::ParquetError;

    #[test]
    fn what_a_query_computes_is_no_trouble_of_the_store() {
        let computed = [
            ArrowError::DivideByZero,
            ArrowError::ArithmeticOverflow("1 + 1".to_owned()),
            ArrowError::CastError("'x' is no number".to_owned()),
            ArrowError::ComputeError("Error evaluating filter predicate".to_owned()),
        ];
        for error in computed {
            let text = error.to_string();
            // As a Parquet reader wraps it that computes a filter.
            let error = DataFusionError::from(ParquetError::from(error));
            assert_eq!(computing_error(&error).map(ToString::to_string), Some(text));
            assert!(!is_store_trouble(&error), "{error}");
            assert!(!crate::may_be_damage(&error), "{error}");
        }
    }

    #[test]
    fn what_a_file_or_the_store_fails_with_is() {
        let path = "a file".to_owned();
        let away = object_store::Error::NotFound { path, source: "it is gone".into() };
        let broken = ParquetError::General("a page's checksum is wrong".to_owned());
        for error in [broken, ParquetError::External(Box::new(away))] {
            let error = DataFusionError::from(error);
            assert!(is_store_trouble(&error) && crate::may_be_damage(&error), "{error}");
        }
        let disk = DataFusionError::from(std::io::Error::other("the disk is away"));
        assert!(is_store_trouble(&disk));
    }
}
