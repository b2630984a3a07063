//! Groups of devices, commands to them, and the fleet at a glance.

use std::sync::Arc;

use acuvim_control::{CommandFilter, ErrorKind, GroupGiven};
use acuvim_schemas::{
    api::{
        AlertSummary, CommandInfo, CommandRequest, DashboardSummary, DeviceStatus, Group,
        GroupBody, GroupCommand, GroupCommandSummary, MembersChange, Page, Role,
    },
    problem::{Code, Problem},
};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::IntoParams;
use uuid::Uuid;

use super::{commands::checked, next_cursor, page_limit};
use crate::{
    App,
    auth::Caller,
    checks,
    problem::{ApiError, Body, Params, editable, patched},
};

/// Devices that come and go in one request.
const MEMBERS: usize = 1000;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    /// Items of a page, 1 to 1000; 50 unless given.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

fn no_group() -> ApiError {
    ApiError::new(Code::NotFound, "there is no such group")
}

pub(super) async fn find(app: &App, caller: &Caller, id: &str) -> Result<Group, ApiError> {
    let id: Uuid = id.parse().map_err(|_| no_group())?;
    app.control().group(id, caller.scope()).await?.ok_or_else(no_group)
}

fn taken(error: acuvim_control::Error) -> ApiError {
    match error.kind() {
        ErrorKind::Conflict => ApiError::new(Code::Conflict, "there is a group of that name"),
        _ => error.into(),
    }
}

/// The groups, by name.
#[utoipa::path(get, path = "/api/groups", tag = "groups", params(ListParams),
    responses((status = 200, body = Page<Group>)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<Group>>, ApiError> {
    let limit = page_limit(params.limit)?;
    let (items, total) =
        app.control().groups(params.cursor.as_deref(), limit, caller.scope()).await?;
    let next_cursor = next_cursor(&items, limit, |group| group.name.clone());
    Ok(Json(Page { items, total, next_cursor }))
}

/// Make a group.
#[utoipa::path(post, path = "/api/groups", tag = "groups", request_body = GroupBody,
    responses((status = 201, body = Group), (status = 409, body = Problem)))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<GroupBody>,
) -> Result<(StatusCode, Json<Group>), ApiError> {
    caller.require_all(Role::Operator)?;
    checks::group(&body)?;
    let id = app.control().create_group(&body, &caller.by()).await.map_err(taken)?;
    let group = app.control().group(id, None).await?.ok_or_else(no_group)?;
    Ok((StatusCode::CREATED, Json(group)))
}

/// One group. Its devices: `/api/devices?group_id=`.
#[utoipa::path(get, path = "/api/groups/{id}", tag = "groups",
    params(("id" = Uuid, Path, description = "The group's id")),
    responses((status = 200, body = Group), (status = 404, body = Problem)))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Group>, ApiError> {
    find(&app, &caller, &id).await.map(Json)
}

/// Write a group anew: what is absent is emptied. Read-only fields are passed over.
#[utoipa::path(put, path = "/api/groups/{id}", tag = "groups", request_body = GroupBody,
    params(("id" = Uuid, Path, description = "The group's id")),
    responses((status = 200, body = Group), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub(super) async fn put(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<Map<String, Value>>,
) -> Result<Json<Group>, ApiError> {
    caller.require(Role::Operator)?;
    let group = find(&app, &caller, &id).await?;
    write(&app, &caller, &group, editable(body, &Group::READ_ONLY)?).await
}

/// Change some of a group: null empties a field.
#[utoipa::path(patch, path = "/api/groups/{id}", tag = "groups", request_body = GroupBody,
    params(("id" = Uuid, Path, description = "The group's id")),
    responses((status = 200, body = Group), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub(super) async fn patch(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<Map<String, Value>>,
) -> Result<Json<Group>, ApiError> {
    caller.require(Role::Operator)?;
    let group = find(&app, &caller, &id).await?;
    let body = patched(&group, body, &Group::READ_ONLY)?;
    write(&app, &caller, &group, body).await
}

async fn write(
    app: &App,
    caller: &Caller,
    group: &Group,
    body: GroupBody,
) -> Result<Json<Group>, ApiError> {
    checks::group(&body)?;
    match app.control().update_group(group.id, &body, &caller.by()).await.map_err(taken)? {
        true => app.control().group(group.id, caller.scope()).await?.map(Json).ok_or_else(no_group),
        false => Err(no_group()),
    }
}

/// Delete a group. Its devices stay.
#[utoipa::path(delete, path = "/api/groups/{id}", tag = "groups",
    params(("id" = Uuid, Path, description = "The group's id")),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.require_all(Role::Operator)?;
    let group = find(&app, &caller, &id).await?;
    match app.control().delete_group(group.id, &caller.by()).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(no_group()),
    }
}

/// Move devices into a group or out of it, all or none of them.
#[utoipa::path(post, path = "/api/groups/{id}/members", tag = "groups",
    request_body = MembersChange,
    params(("id" = Uuid, Path, description = "The group's id")),
    responses((status = 200, body = Group), (status = 404, body = Problem)))]
pub(super) async fn members(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(change): Body<MembersChange>,
) -> Result<Json<Group>, ApiError> {
    caller.require(Role::Operator)?;
    let group = find(&app, &caller, &id).await?;
    for (field, devices) in [("add", &change.add), ("remove", &change.remove)] {
        if devices.len() > MEMBERS {
            return Err(ApiError::field(field, format!("at most {MEMBERS}")));
        }
    }
    let (scope, by) = (caller.scope(), caller.by());
    match app.control().change_members(group.id, &change, scope, &by).await? {
        None => find(&app, &caller, &id).await.map(Json),
        Some(device) => Err(ApiError::field("device_id", format!("there is no device {device}"))),
    }
}

/// Give every device of a group the same command. Follow them at
/// `/api/groups/{id}/commands/{group_command}`. A group without devices is a 422.
#[utoipa::path(post, path = "/api/groups/{id}/command", tag = "groups",
    request_body = CommandRequest,
    params(("id" = Uuid, Path, description = "The group's id")),
    responses((status = 202, body = GroupCommand), (status = 404, body = Problem),
        (status = 422, body = Problem)))]
pub(super) async fn command(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(request): Body<CommandRequest>,
) -> Result<(StatusCode, Json<GroupCommand>), ApiError> {
    let new = checked(&app, &caller, request)?;
    let group = find(&app, &caller, &id).await?;
    let (scope, by) = (caller.scope(), caller.by());
    match app.control().give_group_command(group.id, &new, scope, &by).await? {
        GroupGiven::Stored(given) => Ok((StatusCode::ACCEPTED, Json(given))),
        GroupGiven::NotFound => Err(no_group()),
        GroupGiven::Empty => {
            Err(ApiError::new(Code::Refused, "the group has no devices: nothing was sent"))
        }
    }
}

fn no_command() -> ApiError {
    ApiError::new(Code::NotFound, "there is no such command to this group")
}

/// How far a command to a group has come, over all of its devices.
#[utoipa::path(get, path = "/api/groups/{id}/commands/{group_command}", tag = "groups",
    params(("id" = Uuid, Path, description = "The group's id"),
        ("group_command" = Uuid, Path, description = "The id that the command was given")),
    responses((status = 200, body = GroupCommandSummary), (status = 404, body = Problem)))]
pub(super) async fn summary(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, group_command)): Path<(String, String)>,
) -> Result<Json<GroupCommandSummary>, ApiError> {
    find(&app, &caller, &id).await?;
    let group_command: Uuid = group_command.parse().map_err(|_| no_command())?;
    let summary = app.control().group_command(group_command, caller.scope()).await?;
    summary.map(Json).ok_or_else(no_command)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct DevicesParams {
    /// Items of a page, 1 to 1000; 50 unless given.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<Uuid>,
    /// Only of this status.
    status: Option<acuvim_schemas::api::CommandStatus>,
}

/// The commands of a group command, one for each device.
#[utoipa::path(get, path = "/api/groups/{id}/commands/{group_command}/devices", tag = "groups",
    params(("id" = Uuid, Path, description = "The group's id"),
        ("group_command" = Uuid, Path, description = "The id that the command was given"),
        DevicesParams),
    responses((status = 200, body = Page<CommandInfo>), (status = 404, body = Problem)))]
pub(super) async fn summary_devices(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, group_command)): Path<(String, String)>,
    Params(params): Params<DevicesParams>,
) -> Result<Json<Page<CommandInfo>>, ApiError> {
    find(&app, &caller, &id).await?;
    let limit = page_limit(params.limit)?;
    let group_command: Uuid = group_command.parse().map_err(|_| no_command())?;
    let filter = CommandFilter {
        group_command: Some(group_command),
        status: params.status,
        before: params.cursor,
        limit,
        device_id: None,
    };
    let (items, total) = app.control().commands(&filter, caller.scope()).await?;
    let next_cursor = next_cursor(&items, limit, |command| command.request_id.to_string());
    Ok(Json(Page { items, total, next_cursor }))
}

/// How many devices there are, and how they are.
#[utoipa::path(get, path = "/api/dashboard/summary", tag = "dashboard",
    responses((status = 200, body = DashboardSummary)))]
pub(super) async fn dashboard(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<DashboardSummary>, ApiError> {
    let mut summary = DashboardSummary::default();
    for (status, n) in app.control().device_counts(caller.scope()).await? {
        summary.total += n;
        match status {
            DeviceStatus::Online => summary.online = n,
            DeviceStatus::Degraded => summary.degraded = n,
            DeviceStatus::Offline => summary.offline = n,
        }
    }
    let counts = app.control().alert_counts(caller.scope()).await?;
    summary.alerts = AlertSummary {
        open: counts.open,
        unacknowledged: counts.unacknowledged,
        critical: counts.critical,
    };
    Ok(Json(summary))
}
