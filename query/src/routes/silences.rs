//! Silences: for a time, alerts are recorded and nobody is paged.

use std::sync::Arc;

use acuvim_schemas::{
    api::{Page, Role, Silence, SilenceBody},
    problem::{Code, Problem},
};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use uuid::Uuid;

use super::{NoParams, shown::Shown};
use crate::{
    App,
    auth::{Caller, now},
    checks,
    problem::{ApiError, Body, Params},
};

/// The silences that hold now.
#[utoipa::path(get, path = "/api/silences", tag = "alerts",
    responses((status = 200, body = Page<Silence>)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Json<Page<Silence>>, ApiError> {
    let shown = Shown::to(&app, &caller).await?;
    let mut items = app.control().silences(now()).await?;
    items.retain_mut(|silence| shown.narrow(&mut silence.scope));
    let total = i64::try_from(items.len()).unwrap_or(i64::MAX);
    Ok(Json(Page { items, total, next_cursor: None }))
}

/// Make a silence: alerts that begin while it holds page nobody, and nobody is reminded of them.
#[utoipa::path(post, path = "/api/silences", tag = "alerts", request_body = SilenceBody,
    responses((status = 201, body = Silence)))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<SilenceBody>,
) -> Result<(StatusCode, Json<Silence>), ApiError> {
    caller.require_all(Role::Operator)?;
    checks::silence(&body, now())?;
    let silence = app.control().create_silence(&body, &caller.by()).await?;
    let silence =
        silence.ok_or_else(|| ApiError::new(Code::Refused, "a thousand silences hold"))?;
    Ok((StatusCode::CREATED, Json(silence)))
}

/// End a silence.
#[utoipa::path(delete, path = "/api/silences/{id}", tag = "alerts",
    params(("id" = Uuid, Path, description = "The silence's id")),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.require_all(Role::Operator)?;
    let none = || ApiError::new(Code::NotFound, "there is no such silence, or it is over");
    let id: Uuid = id.parse().map_err(|_| none())?;
    match app.control().end_silence(id, &caller.by()).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(none()),
    }
}
