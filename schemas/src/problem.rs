//! What went wrong, as a caller can act on it: one table of codes, HTTP statuses and titles.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The stable code of an error answer; each says what the caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// Mend the request: an argument or the body is wrong.
    BadRequest,
    /// Mend the query: it does not parse, plan or may not run.
    BadQuery,
    /// Log in, or send a valid token or key.
    Unauthorized,
    /// Ask somebody with a higher role.
    Forbidden,
    /// There is no such thing, or not in the caller's scope.
    NotFound,
    /// The route takes another method.
    MethodNotAllowed,
    /// It clashes with what is there.
    Conflict,
    /// Send less.
    TooLarge,
    /// Send another content type.
    UnsupportedMediaType,
    /// Ask for bytes that there are.
    RangeNotSatisfiable,
    /// Understood and refused by a rule.
    Refused,
    /// The device can't take a packet of that size.
    CommandTooLarge,
    /// Slow down; Retry-After says how long.
    TooManyRequests,
    /// A fault of ours, logged with the request's id.
    Internal,
    /// A stored file is damaged: it is named; others can be read.
    Damaged,
    /// A component is away or catching up; Retry-After says when to come back.
    Unavailable,
    /// The query needs more memory than it may take.
    OutOfMemory,
    /// It took longer than allowed.
    DeadlineExceeded,
}

impl Code {
    /// Every code there is.
    pub const ALL: [Self; 18] = [
        Self::BadRequest,
        Self::BadQuery,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Conflict,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::RangeNotSatisfiable,
        Self::Refused,
        Self::CommandTooLarge,
        Self::TooManyRequests,
        Self::Internal,
        Self::Damaged,
        Self::Unavailable,
        Self::OutOfMemory,
        Self::DeadlineExceeded,
    ];

    /// Code, HTTP status and title: the one table that maps errors to HTTP.
    #[must_use]
    pub const fn row(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::BadRequest => ("bad_request", 400, "The request is not valid"),
            Self::BadQuery => ("bad_query", 400, "The query can't run"),
            Self::Unauthorized => ("unauthorized", 401, "Not logged in"),
            Self::Forbidden => ("forbidden", 403, "Not allowed for this role"),
            Self::NotFound => ("not_found", 404, "Not found"),
            Self::MethodNotAllowed => ("method_not_allowed", 405, "The route takes another method"),
            Self::Conflict => ("conflict", 409, "It clashes with what is there"),
            Self::TooLarge => ("too_large", 413, "The request is too large"),
            Self::UnsupportedMediaType => {
                ("unsupported_media_type", 415, "The content type is not taken here")
            }
            Self::RangeNotSatisfiable => ("range_not_satisfiable", 416, "There are no such bytes"),
            Self::Refused => ("refused", 422, "Refused"),
            Self::CommandTooLarge => {
                ("command_too_large", 422, "The command is too large for the device")
            }
            Self::TooManyRequests => ("too_many_requests", 429, "Too many requests"),
            Self::Internal => ("internal", 500, "Something failed on our side"),
            Self::Damaged => ("damaged", 500, "A stored file is damaged"),
            Self::Unavailable => ("unavailable", 503, "Not available right now"),
            Self::OutOfMemory => ("out_of_memory", 422, "The query needs too much memory"),
            Self::DeadlineExceeded => ("deadline_exceeded", 504, "It took too long"),
        }
    }
}

/// An error answer, `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A stable name of the kind of problem, as a URN.
    #[schema(example = "urn:acuvim:problem:bad_query")]
    pub r#type: String,
    /// The kind of problem in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong this time, and what to do about it.
    pub detail: String,
    /// The stable code.
    pub code: String,
    /// Which fields are wrong, where it is about fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// One field at fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Its name.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl Problem {
    /// A problem of this code with its detail.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let (name, status, title) = code.row();
        Self {
            r#type: format!("urn:acuvim:problem:{name}"),
            title: title.to_owned(),
            status,
            detail: detail.into(),
            code: name.to_owned(),
            errors: Vec::new(),
        }
    }

    /// A 400 that names one field.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        let (field, message) = (field.into(), message.into());
        let mut problem = Self::new(Code::BadRequest, format!("{field}: {message}"));
        problem.errors.push(FieldError { field, message });
        problem
    }
}
