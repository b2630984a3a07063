//! What can go wrong with images and their store, told apart by what the caller may do.

use crate::image::Fault;

/// What the caller may do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Try again later: the store is away.
    Unavailable,
    /// Mend what was given: the image, its signature, an argument.
    Invalid,
    /// Nothing of that name is stored.
    NotFound,
    /// What is stored is not what was stored: bring it anew.
    Damaged,
    /// Mend the settings.
    Setup,
    /// Stop: a fault of ours.
    Internal,
}

/// An error of the registry.
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

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::new(ErrorKind::Invalid, fault.to_string())
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
        Self::new(kind, format!("the firmware store: {error}"))
    }
}
