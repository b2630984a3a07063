//! Errors as `application/problem+json`, and extractors whose refusals are such.

use acuvim_schemas::problem::{Code, Problem};
use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Request, rejection::JsonRejection},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures::StreamExt as _;
use serde::de::DeserializeOwned;

/// An error answer. Whatever a handler fails with becomes one.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub problem: Problem,
    /// Seconds to wait, where that is known.
    pub retry_after: Option<u64>,
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self { problem, retry_after: None }
    }
}

impl ApiError {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Problem::new(code, detail).into()
    }

    pub(crate) fn field(field: &str, message: impl Into<String>) -> Self {
        Problem::field(field, message).into()
    }

    /// A fault of ours: the caller gets no detail, the log does.
    pub(crate) fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(Code::Internal, "the fault is logged with the request's id")
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
        match error.kind() {
            acuvim_control::ErrorKind::Unavailable => {
                tracing::info!(%error, "a request met a database that is away");
                Self::new(Code::Unavailable, "the control database is away; try again")
            }
            acuvim_control::ErrorKind::Conflict => Self::new(Code::Conflict, "it is already there"),
            acuvim_control::ErrorKind::Invalid => Self::new(Code::BadRequest, error.to_string()),
            acuvim_control::ErrorKind::Setup | acuvim_control::ErrorKind::Internal => {
                Self::internal(&error)
            }
        }
    }
}

impl From<acuvim_lakehouse::Error> for ApiError {
    fn from(error: acuvim_lakehouse::Error) -> Self {
        match error.kind() {
            acuvim_lakehouse::ErrorKind::Unavailable => {
                tracing::info!(%error, "a request met a lake that is away");
                Self::new(Code::Unavailable, "the lake is away; try again")
            }
            acuvim_lakehouse::ErrorKind::NoVersion => Self::field("at_version", error.to_string()),
            acuvim_lakehouse::ErrorKind::Setup | acuvim_lakehouse::ErrorKind::Internal => {
                Self::internal(&error)
            }
        }
    }
}

/// A JSON body of bounded size; what is wrong with it is a 400, 413 or 415 that says so.
pub(crate) struct Body<T>(pub T);

/// The largest body that is read, in bytes.
const MAX_BODY: usize = 1 << 20;

/// How much of a larger one is taken and thrown away before it is refused: a connection that is
/// closed while its client still writes shows the client no answer.
const MAX_DISCARDED: usize = 16 << 20;

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let json = content_type
            .and_then(|v| v.to_str().ok())
            .is_some_and(|v| v.trim_start().to_lowercase().starts_with("application/json"));
        let body = read(request.into_body(), MAX_BODY).await?;
        if !json {
            let detail = "send the body as Content-Type: application/json";
            return Err(ApiError::new(Code::UnsupportedMediaType, detail));
        }
        match Json::<T>::from_bytes(&body) {
            Ok(Json(value)) => Ok(Self(value)),
            Err(JsonRejection::JsonDataError(e)) => Err(from_serde(&e.body_text())),
            Err(rejection) => Err(ApiError::new(Code::BadRequest, rejection.body_text())),
        }
    }
}

/// A resource sent back as it was read: its read-only fields are passed over, the others are
/// checked.
pub(crate) fn editable<T: DeserializeOwned>(
    mut resource: serde_json::Map<String, serde_json::Value>,
    read_only: &[&str],
) -> Result<T, ApiError> {
    resource.retain(|field, _| !read_only.contains(&field.as_str()));
    serde_path_to_error::deserialize(serde_json::Value::Object(resource)).map_err(|error| {
        let (path, said) = (error.path().to_string(), error.inner().to_string());
        if path == "." || path == "?" { from_serde(&said) } else { ApiError::field(&path, said) }
    })
}

/// A resource with a merge patch (RFC 7396) applied: a null empties a field, an object is merged.
pub(crate) fn patched<T: DeserializeOwned>(
    resource: &impl serde::Serialize,
    patch: serde_json::Map<String, serde_json::Value>,
    read_only: &[&str],
) -> Result<T, ApiError> {
    if let Some(field) = patch.keys().find(|field| read_only.contains(&field.as_str())) {
        return Err(ApiError::field(field, "can't be changed"));
    }
    let now = serde_json::to_value(resource).map_err(|e| ApiError::internal(&e))?;
    let mut merged = now.as_object().cloned().unwrap_or_default();
    merge(&mut merged, patch);
    editable(merged, read_only)
}

fn merge(
    into: &mut serde_json::Map<String, serde_json::Value>,
    patch: serde_json::Map<String, serde_json::Value>,
) {
    use serde_json::Value;
    for (field, value) in patch {
        match (into.get_mut(&field), value) {
            (_, Value::Null) => {
                into.remove(&field);
            }
            (Some(Value::Object(held)), Value::Object(patch)) => merge(held, patch),
            (_, value) => {
                into.insert(field, value);
            }
        }
    }
}

/// A body as it is, up to a size.
pub(crate) async fn read(body: axum::body::Body, max: usize) -> Result<Vec<u8>, ApiError> {
    let mut chunks = body.into_data_stream();
    let (mut kept, mut length) = (Vec::new(), 0);
    while let Some(chunk) = chunks.next().await {
        let broken = |e| ApiError::new(Code::BadRequest, format!("the body broke off: {e}"));
        let chunk = chunk.map_err(broken)?;
        length += chunk.len();
        if length <= max {
            kept.extend_from_slice(&chunk);
        } else if length > MAX_DISCARDED {
            break;
        }
    }
    if length > max {
        let detail = format!("the body is over {} KiB", max >> 10);
        return Err(ApiError::new(Code::TooLarge, detail));
    }
    Ok(kept)
}

/// serde names the field in backquotes, first of all.
fn from_serde(text: &str) -> ApiError {
    let text = text.rsplit_once("target type: ").map_or(text, |(_, rest)| rest);
    let path = text.split_once(": ").map(|(path, _)| path);
    let named = text.split('`').nth(1);
    match (path.filter(|p| !p.contains(' ')), named) {
        (Some(field), _) => ApiError::field(field, text),
        (None, Some(field)) => ApiError::field(field, text),
        (None, None) => ApiError::new(Code::BadRequest, text),
    }
}

/// Query parameters; an unknown or unreadable one is a 400 that names it.
pub(crate) struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => {
                let text = rejection.body_text();
                let text = text.rsplit_once("query string: ").map_or(text.as_str(), |(_, t)| t);
                Err(from_serde(text))
            }
        }
    }
}
