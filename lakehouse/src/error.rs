//! Errors of the lakehouse, classified by what the caller can do about them.

use std::error::Error as StdError;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use deltalake::{DeltaTableError, kernel::transaction::TransactionError};
use parquet::errors::ParquetError;

/// What the caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The object store cannot be reached: retry later.
    Unavailable,
    /// Another process committed first, and nothing was committed here: look at the table again.
    Overtaken,
    /// The table has no such version, or its files were cleaned: ask for another one.
    NoVersion,
    /// The URL, the credentials or the files at the URL are wrong: somebody has to correct them.
    Setup,
    /// Rows do not match the schema, or a file is damaged: stop.
    Internal,
}

/// An error of the lakehouse.
///
/// The message contains the text of the cause. The cause is therefore not the `source()` of this error:
/// printing the chain would repeat it, and a store's answer can be a page of XML.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of a kind with a message for people.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), cause: None }
    }

    /// What the caller can do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The error of the store, the engine or the disk that led to this one, for matching on its type.
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }

    /// The same error with its cause, whose text the message already contains.
    pub(crate) fn caused_by(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The same error as one of another kind, where the caller knows more than its type says.
    pub(crate) fn of_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// The same error, its message preceded by the URL that it is about.
    pub(crate) fn at(mut self, url: &url::Url) -> Self {
        self.message = format!("{url} (lake.url): {}", self.message);
        self
    }

    fn wrapping(kind: ErrorKind, cause: impl StdError + Send + Sync + 'static) -> Self {
        Self::new(kind, format!("lake: {}", one_line(&cause))).caused_by(cause)
    }
}

/// An S3 store can answer with a page of XML; log lines and problem documents need one line.
fn one_line(error: &dyn StdError) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// An error followed by all errors that it wraps.
fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The object store's own error, however deep it is wrapped.
fn store_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a object_store::Error> {
    chain(error).find_map(|error| error.downcast_ref::<object_store::Error>())
}

/// Whether the store failed to answer. `NotFound` is an answer.
pub(crate) fn store_is_away(error: &DeltaTableError) -> bool {
    store_error(error).is_some_and(|e| !matches!(e, object_store::Error::NotFound { .. }))
}

/// Errors about credentials, names and features need a person; everything else may pass by itself.
const fn kind_of(error: &object_store::Error) -> ErrorKind {
    use object_store::Error as E;
    match error {
        E::PermissionDenied { .. }
        | E::Unauthenticated { .. }
        | E::NotImplemented { .. }
        | E::NotSupported { .. }
        | E::InvalidPath { .. }
        | E::UnknownConfigurationKey { .. } => ErrorKind::Setup,
        _ => ErrorKind::Unavailable,
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        Self::wrapping(kind_of(&error), error)
    }
}

impl From<DeltaTableError> for Error {
    fn from(error: DeltaTableError) -> Self {
        let kind = match &error {
            DeltaTableError::Arrow { .. }
            | DeltaTableError::SchemaMismatch { .. }
            | DeltaTableError::InvalidData { .. }
            | DeltaTableError::PartitionError { .. }
            | DeltaTableError::NoSchema => ErrorKind::Internal,
            DeltaTableError::Transaction {
                source: TransactionError::CommitConflict(_) | TransactionError::MaxCommitAttempts(_),
            } => ErrorKind::Overtaken,
            DeltaTableError::InvalidTableLocation(_) | DeltaTableError::NotATable(_) => {
                ErrorKind::Setup
            }
            // delta-rs wraps errors of the store in many of its own; retrying is safe in all cases.
            other => store_error(other).map_or(ErrorKind::Unavailable, kind_of),
        };
        Self::wrapping(kind, error)
    }
}

impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Self {
        Self::wrapping(ErrorKind::Internal, error)
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        // Memory or disk of other queries will be free again.
        let over_limit = matches!(error.find_root(), DataFusionError::ResourcesExhausted(_));
        let kind = match is_store_trouble(&error) || over_limit {
            true => ErrorKind::Unavailable,
            false => ErrorKind::Internal,
        };
        Self::wrapping(kind, error)
    }
}

/// The failure of an expression that the query itself contains: a division by zero, an overflow, a
/// text that is not a number.
///
/// The Parquet reader wraps errors of pushed-down filters as its own, although neither the file nor
/// the store is at fault.
#[must_use]
pub fn computing_error(error: &DataFusionError) -> Option<&ArrowError> {
    chain(error).filter_map(|e| e.downcast_ref::<ArrowError>()).find(|error| is_computing(error))
}

/// `InvalidArgumentError` is left out: the reader of a damaged file reports that too.
const fn is_computing(error: &ArrowError) -> bool {
    matches!(
        error,
        ArrowError::DivideByZero
            | ArrowError::ArithmeticOverflow(_)
            | ArrowError::CastError(_)
            | ArrowError::ParseError(_)
            | ArrowError::ComputeError(_)
    )
}

/// Whether an error comes from the object store or the disk, however deep it is wrapped.
///
/// An error of the Parquet reader counts as one, unless an expression of the query failed: on its way
/// up the store's error may have been turned into text.
#[must_use]
pub fn is_store_trouble(error: &DataFusionError) -> bool {
    if computing_error(error).is_some() {
        return false;
    }
    let of_store = chain(error).any(|e| e.is::<object_store::Error>() || e.is::<std::io::Error>());
    of_store
        || matches!(
            error.find_root(),
            DataFusionError::ObjectStore(_)
                | DataFusionError::IoError(_)
                | DataFusionError::ParquetError(_)
                | DataFusionError::External(_)
        )
}

/// Whether an error may come from a damaged or missing file, rather than from a store that is away.
#[must_use]
pub fn may_be_damage(error: &DataFusionError) -> bool {
    if computing_error(error).is_some() {
        return false;
    }
    if let Some(store) = store_error(error) {
        return matches!(store, object_store::Error::NotFound { .. });
    }
    match error.find_root() {
        DataFusionError::ParquetError(_) | DataFusionError::External(_) => true,
        DataFusionError::ArrowError(error, _) => is_of_parquet(error),
        _ => false,
    }
}

fn is_of_parquet(error: &ArrowError) -> bool {
    matches!(error, ArrowError::ParquetError(_)) || chain(error).any(|e| e.is::<ParquetError>())
}

#[cfg(test)]
mod tests {
    use super::*;

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
            // The Parquet reader wraps the error of a filter that it computes in this way.
            let error = DataFusionError::from(ParquetError::from(error));
            assert_eq!(computing_error(&error).map(ToString::to_string), Some(text));
            assert!(!is_store_trouble(&error), "{error}");
            assert!(!may_be_damage(&error), "{error}");
        }
    }

    #[test]
    fn what_a_file_or_the_store_fails_with_is() {
        let path = "a file".to_owned();
        let away = object_store::Error::NotFound { path, source: "it is gone".into() };
        let broken = ParquetError::General("a page's checksum is wrong".to_owned());
        for error in [broken, ParquetError::External(Box::new(away))] {
            let error = DataFusionError::from(error);
            assert!(is_store_trouble(&error) && may_be_damage(&error), "{error}");
        }
        let disk = DataFusionError::from(std::io::Error::other("the disk is away"));
        assert!(is_store_trouble(&disk));
        // Arrow keeps only the text of a Parquet error, but in a variant of its own.
        let arrow = ArrowError::from(ParquetError::General("a page is too short".to_owned()));
        assert!(may_be_damage(&DataFusionError::from(arrow)));
        let schema = ArrowError::SchemaError("two columns of one name, as in Parquet".to_owned());
        assert!(!may_be_damage(&DataFusionError::from(schema)), "the text alone says nothing");
    }

    #[test]
    fn the_cause_is_kept_with_its_type_and_its_text_is_one_line() {
        let answer = "<Error>\n  <Code>AccessDenied</Code>\n</Error>";
        let store =
            object_store::Error::Unauthenticated { path: "t".into(), source: answer.into() };
        let error = Error::from(store);
        assert_eq!(error.kind(), ErrorKind::Setup);
        assert!(!error.to_string().contains('\n'), "{error}");
        let cause = error.cause().and_then(|cause| cause.downcast_ref::<object_store::Error>());
        assert!(matches!(cause, Some(object_store::Error::Unauthenticated { .. })));
    }
}
