//! What can go wrong with control, told apart by what the caller may do.

/// What the caller may do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Try again later: the database is away or busy.
    Unavailable,
    /// Something of that name is already there.
    Conflict,
    /// Mend the settings or the installation.
    Setup,
    /// Stop: a statement or a stored value is wrong.
    Internal,
}

/// An error of the control database.
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

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let kind = match &error {
            sqlx::Error::Database(d) if d.is_unique_violation() => ErrorKind::Conflict,
            // SQLite's codes are extended ones: the low byte is the kind. BUSY, LOCKED, IOERR, FULL
            // and CANTOPEN are passing trouble.
            sqlx::Error::Database(d) => match d.code().and_then(|c| c.parse::<i32>().ok()) {
                Some(code) if [5, 6, 10, 13, 14].contains(&(code & 0xff)) => ErrorKind::Unavailable,
                _ => ErrorKind::Internal,
            },
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        };
        Self::new(kind, format!("control database: {error}"))
    }
}
