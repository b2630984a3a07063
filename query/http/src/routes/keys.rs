//! API keys.

use acuvim_control::Control;
use acuvim_model::{CreatedKey, Key, NewKey, Page, Role, problem::Problem};
use axum::{Json, extract::State, http::StatusCode};
use chrono::Utc;

use super::{
    list::{List, PagesById, page},
    resource::Resource,
};
use crate::{
    auth::Caller,
    checks,
    extract::{Body, Path},
    problem::ApiError,
};

const KEY: Resource = Resource("key");

/// The API keys, without their secrets.
#[utoipa::path(get, path = "/api/keys", tag = "keys", params(PagesById),
    responses((status = 200, body = Page<Key>), (status = 403, body = Problem)))]
pub(super) async fn list(
    State(control): State<Control>,
    caller: Caller,
    List { params, limit }: List<PagesById>,
) -> Result<Json<Page<Key>>, ApiError> {
    caller.require_all(Role::Admin)?;
    let (items, total) = control.keys(params.cursor, limit).await?;
    Ok(page(items, total, limit, |key| key.id.to_string()))
}

/// Make an API key. Its secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/api/keys", tag = "keys", request_body = NewKey,
    responses((status = 201, body = CreatedKey), (status = 400, body = Problem),
        (status = 403, body = Problem)))]
pub(super) async fn create(
    State(control): State<Control>,
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
    let key = control.create_key(&new, &caller.by()).await?;
    Ok((StatusCode::CREATED, Json(key)))
}

/// End an API key at once.
#[utoipa::path(delete, path = "/api/keys/{id}", tag = "keys",
    params(("id" = Uuid, Path, description = "The key's id")),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn delete(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.require_all(Role::Admin)?;
    KEY.deleted(control.delete_key(KEY.id(&id)?, &caller.by()).await?)
}
