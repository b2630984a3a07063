//! Errors of images and their store, by what the caller may do about them.

use std::error::Error as StdError;

use crate::image::ImageError;

/// What the caller may do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Try again later: the store can't be reached.
    Unavailable,
    /// Correct the input: the image, its signature, an argument.
    Invalid,
    /// Nothing is stored under that name.
    NotFound,
    /// Upload it again: the stored object is no longer what was uploaded.
    Damaged,
    /// Correct the settings.
    Setup,
    /// Report a bug.
    Internal,
}

/// An error of the registry.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    #[source]
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error without a cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// An error with its cause. The message gets the cause's own text appended, because most logs
    /// show the message alone.
    pub fn caused(
        kind: ErrorKind,
        message: &str,
        cause: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        let cause = cause.into();
        Self { kind, message: format!("{message}: {cause}"), source: Some(cause) }
    }

    /// What the caller may do.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl From<ImageError> for Error {
    fn from(error: ImageError) -> Self {
        let message = error.to_string();
        Self { kind: ErrorKind::Invalid, message, source: Some(error.into()) }
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        let kind = match &error {
            object_store::Error::NotFound { .. } => ErrorKind::NotFound,
            object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. }
            | object_store::Error::UnknownConfigurationKey { .. } => ErrorKind::Setup,
            _ => ErrorKind::Unavailable,
        };
        Self::caused(kind, "the firmware store", error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever runs the server corrects settings; everything else is worth another try.
    #[test]
    fn an_error_of_the_store_says_what_to_do() {
        use object_store::Error as Store;
        let path = || "a.bin".to_owned();
        for (error, kind) in [
            (Store::NotFound { path: path(), source: "x".into() }, ErrorKind::NotFound),
            (Store::PermissionDenied { path: path(), source: "x".into() }, ErrorKind::Setup),
            (Store::Unauthenticated { path: path(), source: "x".into() }, ErrorKind::Setup),
            (Store::Generic { store: "S3", source: "x".into() }, ErrorKind::Unavailable),
            (Store::AlreadyExists { path: path(), source: "x".into() }, ErrorKind::Unavailable),
        ] {
            let shown = error.to_string();
            let ours = Error::from(error);
            assert_eq!(ours.kind(), kind, "{shown}");
            assert_eq!(ours.to_string(), format!("the firmware store: {shown}"));
        }
    }

    #[test]
    fn a_cause_is_kept_and_shown() {
        let missing = object_store::Error::NotFound { path: "a.bin".into(), source: "gone".into() };
        let error = Error::from(missing);
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().starts_with("the firmware store: "), "{error}");
        assert!(error.source().is_some_and(<dyn StdError>::is::<object_store::Error>));
        let error = Error::from(ImageError::Empty);
        assert!(error.source().is_some_and(<dyn StdError>::is::<ImageError>));
    }
}
