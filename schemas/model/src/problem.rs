//! Error answers: one table of codes, HTTP statuses and titles.

use serde::{Deserialize, Serialize};

/// The stable code of an error answer. Each stands for something that the caller can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// Correct the request: a parameter or the body is wrong.
    BadRequest,
    /// Correct the query: it can't be parsed or planned, or is not allowed.
    BadQuery,
    /// Log in, or send a valid token or key.
    Unauthorized,
    /// Ask somebody with a higher role.
    Forbidden,
    /// It does not exist, or not in the caller's scope.
    NotFound,
    /// Use a method that the route has.
    MethodNotAllowed,
    /// It conflicts with the current state.
    Conflict,
    /// Send a smaller body or fewer items.
    TooLarge,
    /// Send another content type.
    UnsupportedMediaType,
    /// Request bytes within the file.
    RangeNotSatisfiable,
    /// The request is valid, but a rule forbids it.
    Refused,
    /// The device can't receive a packet of that size.
    CommandTooLarge,
    /// Wait as long as Retry-After says.
    TooManyRequests,
    /// A bug or an outage on our side, logged with the id of the request.
    Internal,
    /// A stored file is damaged: the answer names it. Other files can be read.
    Damaged,
    /// A component is unavailable or catching up: try again as Retry-After says.
    Unavailable,
    /// The query needs more memory than allowed.
    OutOfMemory,
    /// It took longer than allowed.
    DeadlineExceeded,
}

impl Code {
    /// Every code.
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

    /// Code, HTTP status and title: the only place that maps errors to HTTP.
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// A stable name of the kind of problem, as a URN.
    #[cfg_attr(feature = "openapi", schema(example = "urn:acuvim:problem:bad_query"))]
    pub r#type: String,
    /// The kind of problem in words, the same for each code.
    pub title: String,
    /// The HTTP status of the answer.
    pub status: u16,
    /// What is wrong this time, and what to do about it.
    pub detail: String,
    /// The code for programs, the end of `type`. It never changes.
    pub code: String,
    /// The fields that are wrong; absent if the problem is not about fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// A field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FieldError {
    /// The name or path of the field, such as `params.ssid`.
    pub field: String,
    /// What is wrong with it, or what it may be.
    pub message: String,
}

impl Problem {
    /// A problem with this code and detail.
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

    /// A `bad_request` about one field.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        let (field, message) = (field.into(), message.into());
        let mut problem = Self::new(Code::BadRequest, format!("{field}: {message}"));
        problem.errors.push(FieldError { field, message });
        problem
    }
}

#[cfg(test)]
mod tests;
