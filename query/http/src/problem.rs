//! Errors as `application/problem+json`.

use acuvim_model::problem::{Code, Problem};
use acuvim_query_sql::QueryError;
use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

/// An error answer. Whatever a handler fails with becomes one.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub problem: Problem,
    /// Seconds after which the caller should try again, where that is known.
    pub retry_after: Option<u64>,
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self { problem, retry_after: None }
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        error.problem.into()
    }
}

impl ApiError {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Problem::new(code, detail).into()
    }

    pub(crate) fn field(field: &str, message: impl Into<String>) -> Self {
        Problem::field(field, message).into()
    }

    /// An internal fault: its text may name files and hosts, so it goes to the log and not to the caller.
    pub(crate) fn internal(error: &dyn std::fmt::Display) -> Self {
        QueryError::internal(error).into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&self.problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, self.retry_after.unwrap_or(2).into());
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

impl From<acuvim_control::Error> for ApiError {
    fn from(error: acuvim_control::Error) -> Self {
        QueryError::from(error).into()
    }
}

impl From<acuvim_lakehouse::Error> for ApiError {
    fn from(error: acuvim_lakehouse::Error) -> Self {
        QueryError::from(error).into()
    }
}

#[cfg(test)]
mod tests;
