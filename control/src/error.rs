//! Errors of the control database, by what the caller may do about them.

use std::error::Error as StdError;

use sqlx::postgres::PgDatabaseError;

/// What the caller may do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Try again later: the database can't be reached, or is busy.
    Unavailable,
    /// Choose another name: this one is taken.
    Conflict,
    /// Correct the request.
    Invalid,
    /// Correct the settings or the installation.
    Setup,
    /// Report a bug: a statement or a stored value is wrong.
    Internal,
}

/// An error of the control database.
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

    /// A value that can't be read from JSON, or written as JSON. `what` names it, such as "a stored plan".
    pub(crate) fn stored(what: &str, cause: serde_json::Error) -> Self {
        Self::caused(ErrorKind::Internal, what, cause)
    }

    /// What the caller may do.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let kind = kind_of(&error);
        if kind == ErrorKind::Invalid {
            // The database's own text names tables and constraints, which means nothing to a client.
            tracing::info!(%error, "the database refuses a value");
            let message = "a value is out of range, or refers to what is gone".to_owned();
            return Self { kind, message, source: Some(error.into()) };
        }
        Self::caused(kind, "control database", error)
    }
}

fn kind_of(error: &sqlx::Error) -> ErrorKind {
    match error {
        sqlx::Error::Database(d) if d.is_unique_violation() => ErrorKind::Conflict,
        sqlx::Error::Database(d) => match d.try_downcast_ref::<PgDatabaseError>() {
            Some(error) => postgres_kind(error.code()),
            None => sqlite_kind(d.code().and_then(|c| c.parse().ok())),
        },
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        // What sqlx reports when a connection breaks in the middle of a message.
        | sqlx::Error::Protocol(_) => ErrorKind::Unavailable,
        sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => ErrorKind::Setup,
        _ => ErrorKind::Internal,
    }
}

/// The kind of an SQLite result code. Extended codes have the primary code in their low byte.
fn sqlite_kind(code: Option<i32>) -> ErrorKind {
    match code {
        // BUSY, LOCKED, IOERR, FULL and CANTOPEN may be gone at the next attempt.
        Some(code) if [5, 6, 10, 13, 14].contains(&(code & 0xff)) => ErrorKind::Unavailable,
        // TOOBIG and CONSTRAINT.
        Some(code) if [18, 19].contains(&(code & 0xff)) => ErrorKind::Invalid,
        _ => ErrorKind::Internal,
    }
}

/// The kind of an SQLSTATE, by its class (PostgreSQL's appendix A).
fn postgres_kind(code: &str) -> ErrorKind {
    match code.get(..2) {
        // Connections, rollbacks, resources, operator intervention, system errors.
        Some("08" | "25" | "40" | "53" | "55" | "57" | "58") => ErrorKind::Unavailable,
        // Data exceptions, integrity violations, program limits.
        Some("22" | "23" | "54") => ErrorKind::Invalid,
        // Credentials, database names.
        Some("28" | "3D") => ErrorKind::Setup,
        // Insufficient privilege, such as a login that may not create tables.
        Some("42") if code == "42501" => ErrorKind::Setup,
        _ => ErrorKind::Internal,
    }
}

#[cfg(test)]
mod tests;
