//! Rollouts: started, followed, paused, resumed, aborted, and tried again.

use acuvim_control::{Control, RolloutChanged, RolloutDeviceFilter, RolloutFilter, RolloutVerb};
use acuvim_model::{
    DeployRequest, Deployed, GroupDeployRequest, Page, Role, Rollout, RolloutDevice, RolloutState,
    UpdateState,
    problem::{Code, Problem},
};
use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::{
    groups,
    list::{List, page, paged},
    resource::Resource,
};
use crate::{
    auth::Caller,
    extract::{Body, Path},
    firmware::Firmware,
    problem::ApiError,
};

/// Bring a release to devices, a group or all with a tag, in stages or at once. Devices that run it
/// already, are of another hardware or in another rollout are left out, and named. Follow it at
/// `/api/firmware/rollouts/{rollout_id}`.
#[utoipa::path(post, path = "/api/firmware/deploy", tag = "firmware", request_body = DeployRequest,
    responses((status = 202, body = Deployed), (status = 404, body = Problem),
        (status = 422, body = Problem)))]
pub(super) async fn deploy(
    State(firmware): State<Firmware>,
    caller: Caller,
    Body(request): Body<DeployRequest>,
) -> Result<(StatusCode, Json<Deployed>), ApiError> {
    let deployed = firmware.deploy(&caller, request).await?;
    Ok((StatusCode::ACCEPTED, Json(deployed)))
}

/// Bring a release to the devices of a group.
#[utoipa::path(post, path = "/api/groups/{id}/deploy", tag = "groups",
    request_body = GroupDeployRequest,
    params(("id" = Uuid, Path, description = "The group's id")),
    responses((status = 202, body = Deployed), (status = 404, body = Problem),
        (status = 422, body = Problem)))]
pub(super) async fn deploy_group(
    State(control): State<Control>,
    State(firmware): State<Firmware>,
    caller: Caller,
    Path(id): Path<String>,
    Body(request): Body<GroupDeployRequest>,
) -> Result<(StatusCode, Json<Deployed>), ApiError> {
    caller.require(Role::Operator)?;
    let group = groups::find(&control, &caller, &id).await?;
    let request = DeployRequest {
        version: request.version,
        group_id: Some(group.id),
        rollout: request.rollout,
        force: request.force,
        ..DeployRequest::default()
    };
    let deployed = firmware.deploy(&caller, request).await?;
    Ok((StatusCode::ACCEPTED, Json(deployed)))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    /// Items of a page, 1 to 1000; 50 unless given.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<Uuid>,
    /// Only of this version.
    version: Option<String>,
    /// Only in this state.
    state: Option<RolloutState>,
}

paged!(ListParams, DevicesParams);

/// The rollouts, newest first.
#[utoipa::path(get, path = "/api/firmware/rollouts", tag = "firmware", params(ListParams),
    responses((status = 200, body = Page<Rollout>)))]
pub(super) async fn list(
    State(control): State<Control>,
    caller: Caller,
    List { params, limit }: List<ListParams>,
) -> Result<Json<Page<Rollout>>, ApiError> {
    let (version, state, before) = (params.version, params.state, params.cursor);
    let filter = RolloutFilter { version, state, before, limit };
    let (items, total) = control.rollouts(&filter, caller.scope()).await?;
    Ok(page(items, total, limit, |rollout| rollout.id.to_string()))
}

const ROLLOUT: Resource = Resource("rollout");

async fn find(control: &Control, caller: &Caller, id: &str) -> Result<Rollout, ApiError> {
    ROLLOUT.found(control.rollout(ROLLOUT.id(id)?, caller.scope()).await?)
}

/// A rollout: how far it has come, and every decision with the figures that it was made on.
#[utoipa::path(get, path = "/api/firmware/rollouts/{id}", tag = "firmware",
    params(("id" = Uuid, Path, description = "The rollout's id")),
    responses((status = 200, body = Rollout), (status = 404, body = Problem)))]
pub(super) async fn get(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Rollout>, ApiError> {
    find(&control, &caller, &id).await.map(Json)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct DevicesParams {
    /// Items of a page, 1 to 1000; 50 unless given.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Only in this state.
    state: Option<UpdateState>,
}

/// The devices of a rollout, and how far each has come.
#[utoipa::path(get, path = "/api/firmware/rollouts/{id}/devices", tag = "firmware",
    params(("id" = Uuid, Path, description = "The rollout's id"), DevicesParams),
    responses((status = 200, body = Page<RolloutDevice>), (status = 404, body = Problem)))]
pub(super) async fn devices(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
    List { params, limit }: List<DevicesParams>,
) -> Result<Json<Page<RolloutDevice>>, ApiError> {
    let rollout = find(&control, &caller, &id).await?;
    let filter =
        RolloutDeviceFilter { state: params.state, after: params.cursor.as_deref(), limit };
    let (items, total) = control.rollout_devices(rollout.id, &filter, caller.scope()).await?;
    Ok(page(items, total, limit, |device| device.device_id.clone()))
}

async fn change(
    control: &Control,
    caller: &Caller,
    id: &str,
    verb: RolloutVerb,
) -> Result<Json<Rollout>, ApiError> {
    caller.require(Role::Operator)?;
    let rollout = find(control, caller, id).await?;
    // A caller who sees only some of its devices may stop it, and may not let it go on.
    if matches!(verb, RolloutVerb::Resume | RolloutVerb::Retry) {
        caller.require_all(Role::Operator)?;
    }
    match control.change_rollout(rollout.id, verb, &caller.by()).await? {
        RolloutChanged::Done => find(control, caller, id).await.map(Json),
        RolloutChanged::NotFound => Err(ROLLOUT.missing()),
        RolloutChanged::Refused(reason) => Err(ApiError::new(Code::Conflict, reason)),
    }
}

/// Hold a rollout: nobody is told any more, and who was told and is away is not told after all.
/// Devices that are fetching the image go on.
#[utoipa::path(post, path = "/api/firmware/rollouts/{id}/pause", tag = "firmware",
    params(("id" = Uuid, Path, description = "The rollout's id")),
    responses((status = 200, body = Rollout), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub(super) async fn pause(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Rollout>, ApiError> {
    change(&control, &caller, &id, RolloutVerb::Pause).await
}

/// Let a rollout go on that is paused, or that was stopped.
#[utoipa::path(post, path = "/api/firmware/rollouts/{id}/resume", tag = "firmware",
    params(("id" = Uuid, Path, description = "The rollout's id")),
    responses((status = 200, body = Rollout), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub(super) async fn resume(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Rollout>, ApiError> {
    change(&control, &caller, &id, RolloutVerb::Resume).await
}

/// End a rollout for good.
#[utoipa::path(post, path = "/api/firmware/rollouts/{id}/abort", tag = "firmware",
    params(("id" = Uuid, Path, description = "The rollout's id")),
    responses((status = 200, body = Rollout), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub(super) async fn abort(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Rollout>, ApiError> {
    change(&control, &caller, &id, RolloutVerb::Abort).await
}

/// Begin again with the devices that failed or were not reached, but for those in another rollout.
#[utoipa::path(post, path = "/api/firmware/rollouts/{id}/retry", tag = "firmware",
    params(("id" = Uuid, Path, description = "The rollout's id")),
    responses((status = 200, body = Rollout), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub(super) async fn retry(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Rollout>, ApiError> {
    change(&control, &caller, &id, RolloutVerb::Retry).await
}
