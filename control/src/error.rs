//! What can go wrong with control, told apart by what the caller may do.

use sqlx::postgres::PgDatabaseError;

/// What the caller may do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Try again later: the database is away or busy.
    Unavailable,
    /// Something of that name is already there.
    Conflict,
    /// Mend the request: an argument can't be.
    Invalid,
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
            sqlx::Error::Database(d) => match d.try_downcast_ref::<PgDatabaseError>() {
                Some(error) => postgres_kind(error.code()),
                None => sqlite_kind(d.code().and_then(|c| c.parse().ok())),
            },
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            // A connection that broke in the middle of a message.
            | sqlx::Error::Protocol(_) => ErrorKind::Unavailable,
            sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => ErrorKind::Setup,
            _ => ErrorKind::Internal,
        };
        if kind == ErrorKind::Invalid {
            tracing::info!(%error, "the database does not take a value");
            return Self::new(kind, "a value is out of range, or refers to what is gone");
        }
        Self::new(kind, format!("control database: {error}"))
    }
}

/// SQLite's codes are extended ones: the low byte is the kind. BUSY, LOCKED, IOERR, FULL and
/// CANTOPEN are passing trouble.
fn sqlite_kind(code: Option<i32>) -> ErrorKind {
    match code {
        Some(code) if [5, 6, 10, 13, 14].contains(&(code & 0xff)) => ErrorKind::Unavailable,
        // CONSTRAINT and TOOBIG.
        Some(code) if [18, 19].contains(&(code & 0xff)) => ErrorKind::Invalid,
        _ => ErrorKind::Internal,
    }
}

/// By the class of an SQLSTATE (PostgreSQL's appendix A): connections, rollbacks, resources,
/// operators and the system pass; credentials and database names are for a person.
fn postgres_kind(code: &str) -> ErrorKind {
    match code.get(..2) {
        Some("08" | "25" | "40" | "53" | "55" | "57" | "58") => ErrorKind::Unavailable,
        // A value that is out of range, too long, or refers to what is gone.
        Some("22" | "23" | "54") => ErrorKind::Invalid,
        Some("28" | "3D") => ErrorKind::Setup,
        // No right to make or read tables.
        Some("42") if code == "42501" => ErrorKind::Setup,
        _ => ErrorKind::Internal,
    }
}
