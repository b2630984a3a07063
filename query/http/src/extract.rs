//! Extractors whose refusals are problems, and resources that are written back.

use acuvim_model::problem::Code;
use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Request, rejection::JsonRejection},
    http::{HeaderMap, header, request::Parts},
};
use futures::StreamExt as _;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::problem::ApiError;

/// A JSON body of bounded size. One that can't be taken is a 400, 413 or 415 that says what is wrong.
pub(crate) struct Body<T>(pub T);

/// The largest body that is read, in bytes.
const MAX_BODY: usize = 1 << 20;

/// Bytes of a larger body that are read and thrown away before it is refused: a client that is still
/// writing when the connection is closed never sees the answer.
const MAX_DISCARDED: usize = 16 << 20;

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let json = media_type(request.headers()).as_deref() == Some("application/json");
        // Read before the refusal: see `MAX_DISCARDED`.
        let body = read(request.into_body(), MAX_BODY).await?;
        if !json {
            let detail = "send the body as Content-Type: application/json";
            // A form or plain text needs no preflight request, so a web page of another origin could send one.
            return Err(ApiError::new(Code::UnsupportedMediaType, detail));
        }
        match Json::<T>::from_bytes(&body) {
            Ok(Json(value)) => Ok(Self(value)),
            Err(JsonRejection::JsonDataError(e)) => Err(from_serde(&e.body_text())),
            Err(rejection) => Err(ApiError::new(Code::BadRequest, rejection.body_text())),
        }
    }
}

/// The media type of a body in lower case, without parameters such as a charset.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<String> {
    let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(content_type.split(';').next()?.trim().to_ascii_lowercase())
}

/// A body's bytes, up to a size.
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

/// The variable parts of a path. Those that can't be read, such as bytes that are no UTF-8, are a 400 of the
/// same form as every other problem.
pub(crate) struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) => {
                let detail = format!("the path: {}", rejection.body_text());
                Err(ApiError::new(Code::BadRequest, detail))
            }
        }
    }
}

/// A resource as a caller sends it back after reading it: read-only fields are ignored, the others are
/// checked.
pub(crate) fn editable<T: DeserializeOwned>(
    mut resource: Map<String, Value>,
    read_only: &[&str],
) -> Result<T, ApiError> {
    resource.retain(|field, _| !read_only.contains(&field.as_str()));
    serde_path_to_error::deserialize(Value::Object(resource)).map_err(|error| {
        let (path, message) = (error.path().to_string(), error.inner().to_string());
        match path.as_str() {
            "." | "?" => from_serde(&message),
            path => ApiError::field(path, message),
        }
    })
}

/// A resource with a merge patch (RFC 7396) applied: a null empties a field, an object is merged into the
/// one that is there.
pub(crate) fn patched<T: DeserializeOwned>(
    resource: &impl serde::Serialize,
    patch: Map<String, Value>,
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

fn merge(into: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (field, value) in patch {
        match (into.get_mut(&field), value) {
            (_, Value::Null) => {
                into.remove(&field);
            }
            (Some(Value::Object(held)), Value::Object(patch)) => merge(held, patch),
            // A null within an object that is new empties what is not there.
            (_, Value::Object(patch)) => {
                let mut new = Map::new();
                merge(&mut new, patch);
                into.insert(field, Value::Object(new));
            }
            (_, value) => {
                into.insert(field, value);
            }
        }
    }
}

/// A problem with the field that a message of serde names, by its path or first in backquotes.
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

#[cfg(test)]
mod tests;
