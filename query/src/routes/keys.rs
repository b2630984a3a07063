//! API keys.

use std::sync::Arc;

use acuvim_schemas::{
    api::{CreatedKey, Key, NewKey, Page, Role},
    problem::{Code, Problem},
};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use chrono::Utc;
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::{next_cursor, page_limit};
use crate::{
    App,
    auth::Caller,
    checks,
    problem::{ApiError, Body, Params},
};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    /// Items of a page, 1 to 1000; 50 unless given.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<Uuid>,
}

/// The API keys, without their secrets.
#[utoipa::path(get, path = "/api/keys", tag = "keys", params(ListParams),
    responses((status = 200, body = Page<Key>), (status = 403, body = Problem)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<Key>>, ApiError> {
    caller.require_all(Role::Admin)?;
    let limit = page_limit(params.limit)?;
    let (items, total) = app.control().keys(params.cursor, limit).await?;
    let next_cursor = next_cursor(&items, limit, |key| key.id.to_string());
    Ok(Json(Page { items, total, next_cursor }))
}

/// Make an API key. Its secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/api/keys", tag = "keys", request_body = NewKey,
    responses((status = 201, body = CreatedKey), (status = 400, body = Problem),
        (status = 403, body = Problem)))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(new): Body<NewKey>,
) -> Result<(StatusCode, Json<CreatedKey>), ApiError> {
    caller.require_all(Role::Admin)?;
    if new.name.trim().is_empty() || new.name.chars().count() > 100 {
        return Err(ApiError::field("name", "1 to 100 characters"));
    }
    checks::scope(new.scope.as_ref())?;
    if new.expires_at.is_some_and(|end| end <= Utc::now()) {
        return Err(ApiError::field("expires_at", "lies in the past"));
    }
    let key = app.control().create_key(&new, &caller.by()).await?;
    Ok((StatusCode::CREATED, Json(key)))
}

/// End an API key at once.
#[utoipa::path(delete, path = "/api/keys/{id}", tag = "keys",
    params(("id" = Uuid, Path, description = "The key's id")),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.require_all(Role::Admin)?;
    let deleted = match id.parse() {
        Ok(id) => app.control().delete_key(id, &caller.by()).await?,
        Err(_) => false,
    };
    if deleted {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::new(Code::NotFound, "there is no such key"))
    }
}
