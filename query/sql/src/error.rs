//! Why a query has no answer, as a problem that its caller can act on.

use acuvim_model::problem::{Code, Problem};

/// A failed query: the problem to show, with what the caller can do about it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{}", problem.detail)]
pub struct QueryError {
    /// The problem that the caller is shown.
    pub problem: Problem,
}

impl From<Problem> for QueryError {
    fn from(problem: Problem) -> Self {
        Self { problem }
    }
}

impl QueryError {
    /// A problem of this kind.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Problem::new(code, detail).into()
    }

    /// A field of the request that can't be taken as it is.
    pub fn field(field: &str, message: impl Into<String>) -> Self {
        Problem::field(field, message).into()
    }

    /// An internal fault: its text may name files and hosts, so it goes to the log and not to the caller.
    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(Code::Internal, "the fault is logged with the request's id")
    }
}

impl From<acuvim_control::Error> for QueryError {
    fn from(error: acuvim_control::Error) -> Self {
        use acuvim_control::ErrorKind;
        match error.kind() {
            ErrorKind::Unavailable => {
                tracing::info!(%error, "a request could not reach the control database");
                Self::new(Code::Unavailable, "the control database is away; try again")
            }
            ErrorKind::Conflict => Self::new(Code::Conflict, "it is already there"),
            ErrorKind::Invalid => Self::new(Code::BadRequest, error.to_string()),
            ErrorKind::Setup | ErrorKind::Internal => Self::internal(&error),
        }
    }
}

impl From<acuvim_lakehouse::Error> for QueryError {
    fn from(error: acuvim_lakehouse::Error) -> Self {
        use acuvim_lakehouse::ErrorKind;
        match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Overtaken => {
                tracing::info!(%error, "a request could not reach the lake");
                Self::new(Code::Unavailable, "the lake is away; try again")
            }
            ErrorKind::NoVersion => Self::field("at_version", error.to_string()),
            ErrorKind::Setup | ErrorKind::Internal => Self::internal(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_control_or_lake_is_told_as_what_the_caller_can_do() {
        use acuvim_control::ErrorKind as Control;
        use acuvim_lakehouse::ErrorKind as Lake;
        let control = |kind| QueryError::from(acuvim_control::Error::new(kind, "at db:5432"));
        let lake = |kind| QueryError::from(acuvim_lakehouse::Error::new(kind, "s3://bucket/x"));
        for (error, status) in [
            (control(Control::Unavailable), 503),
            (control(Control::Conflict), 409),
            (control(Control::Invalid), 400),
            (control(Control::Setup), 500),
            (control(Control::Internal), 500),
            (lake(Lake::Unavailable), 503),
            (lake(Lake::NoVersion), 400),
            (lake(Lake::Setup), 500),
            (lake(Lake::Internal), 500),
        ] {
            assert_eq!(error.problem.status, status, "{error}");
            // Where something is stored concerns the operator, not the caller.
            let shown = error.to_string();
            assert!(status == 400 || !shown.contains("5432") && !shown.contains("s3:"), "{shown}");
        }
        let version = lake(Lake::NoVersion).problem;
        assert_eq!(version.errors[0].field, "at_version");
    }
}
