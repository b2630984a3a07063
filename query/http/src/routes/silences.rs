//! Silences: for a time, alerts are recorded without paging anybody.

use acuvim_control::Control;
use acuvim_model::{
    Page, Role, Silence, SilenceBody,
    problem::{Code, Problem},
};
use axum::{Json, extract::State, http::StatusCode};

use super::{
    list::{NoParams, whole},
    resource::Resource,
    scope_view::ScopeView,
};
use crate::{
    auth::Caller,
    checks,
    clock::now,
    extract::{Body, Params, Path},
    problem::ApiError,
};

const SILENCE: Resource = Resource("silence, or it is over");

/// The silences that hold now.
#[utoipa::path(get, path = "/api/silences", tag = "alerts",
    responses((status = 200, body = Page<Silence>)))]
pub(super) async fn list(
    State(control): State<Control>,
    caller: Caller,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Json<Page<Silence>>, ApiError> {
    let view = ScopeView::of(&control, &caller).await?;
    let mut items = control.silences(now()).await?;
    items.retain_mut(|silence| view.narrow(&mut silence.scope));
    Ok(whole(items))
}

/// Make a silence: alerts that begin while it holds page nobody, and nobody is reminded of them.
#[utoipa::path(post, path = "/api/silences", tag = "alerts", request_body = SilenceBody,
    responses((status = 201, body = Silence)))]
pub(super) async fn create(
    State(control): State<Control>,
    caller: Caller,
    Body(body): Body<SilenceBody>,
) -> Result<(StatusCode, Json<Silence>), ApiError> {
    caller.require_all(Role::Operator)?;
    checks::silence(&body, now())?;
    let silence = control.create_silence(&body, &caller.by()).await?;
    let silence =
        silence.ok_or_else(|| ApiError::new(Code::Refused, "a thousand silences hold"))?;
    Ok((StatusCode::CREATED, Json(silence)))
}

/// End a silence.
#[utoipa::path(delete, path = "/api/silences/{id}", tag = "alerts",
    params(("id" = Uuid, Path, description = "The silence's id")),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn delete(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.require_all(Role::Operator)?;
    SILENCE.deleted(control.end_silence(SILENCE.id(&id)?, &caller.by()).await?)
}
