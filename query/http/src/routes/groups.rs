//! Groups of devices, commands to them, and the fleet at a glance.

use std::sync::Arc;

use acuvim_control::{CommandFilter, Control, GroupGiven};
use acuvim_model::{
    AlertSummary, CommandInfo, CommandRequest, DashboardSummary, DeviceStatus, Group, GroupBody,
    GroupCommand, GroupCommandSummary, MembersChange, Page, Role,
    problem::{Code, Problem},
};
use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::IntoParams;
use uuid::Uuid;

use super::{
    commands::checked,
    list::{List, PagesByName, page, paged},
    resource::Resource,
};
use crate::{
    auth::Caller,
    checks,
    commands::CommandRules,
    extract::{Body, Path, editable, patched},
    problem::ApiError,
};

/// Devices that one request adds, and that it removes.
const MEMBERS: usize = 1000;

const GROUP: Resource = Resource("group");

pub(super) async fn find(control: &Control, caller: &Caller, id: &str) -> Result<Group, ApiError> {
    GROUP.found(control.group(GROUP.id(id)?, caller.scope()).await?)
}

/// The groups, by name.
#[utoipa::path(get, path = "/api/groups", tag = "groups", params(PagesByName),
    responses((status = 200, body = Page<Group>)))]
pub(super) async fn list(
    State(control): State<Control>,
    caller: Caller,
    List { params, limit }: List<PagesByName>,
) -> Result<Json<Page<Group>>, ApiError> {
    let (items, total) = control.groups(params.cursor.as_deref(), limit, caller.scope()).await?;
    Ok(page(items, total, limit, |group| group.name.clone()))
}

/// Make a group.
#[utoipa::path(post, path = "/api/groups", tag = "groups", request_body = GroupBody,
    responses((status = 201, body = Group), (status = 409, body = Problem)))]
pub(super) async fn create(
    State(control): State<Control>,
    caller: Caller,
    Body(body): Body<GroupBody>,
) -> Result<(StatusCode, Json<Group>), ApiError> {
    caller.require_all(Role::Operator)?;
    checks::group(&body)?;
    let id = control.create_group(&body, &caller.by()).await.map_err(|e| GROUP.taken(e))?;
    let group = GROUP.found(control.group(id, None).await?)?;
    Ok((StatusCode::CREATED, Json(group)))
}

/// One group. Its devices: `/api/devices?group_id=`.
#[utoipa::path(get, path = "/api/groups/{id}", tag = "groups",
    params(("id" = Uuid, Path, description = "The group's id")),
    responses((status = 200, body = Group), (status = 404, body = Problem)))]
pub(super) async fn get(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Group>, ApiError> {
    find(&control, &caller, &id).await.map(Json)
}

/// Write a group anew: what is absent is emptied. Read-only fields are passed over.
#[utoipa::path(put, path = "/api/groups/{id}", tag = "groups", request_body = GroupBody,
    params(("id" = Uuid, Path, description = "The group's id")),
    responses((status = 200, body = Group), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub(super) async fn put(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<Map<String, Value>>,
) -> Result<Json<Group>, ApiError> {
    caller.require(Role::Operator)?;
    let group = find(&control, &caller, &id).await?;
    write(&control, &caller, &group, editable(body, &Group::READ_ONLY)?).await
}

/// Change some of a group: null empties a field.
#[utoipa::path(patch, path = "/api/groups/{id}", tag = "groups", request_body = GroupBody,
    params(("id" = Uuid, Path, description = "The group's id")),
    responses((status = 200, body = Group), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub(super) async fn patch(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<Map<String, Value>>,
) -> Result<Json<Group>, ApiError> {
    caller.require(Role::Operator)?;
    let group = find(&control, &caller, &id).await?;
    let body = patched(&group, body, &Group::READ_ONLY)?;
    write(&control, &caller, &group, body).await
}

async fn write(
    control: &Control,
    caller: &Caller,
    group: &Group,
    body: GroupBody,
) -> Result<Json<Group>, ApiError> {
    checks::group(&body)?;
    let updated = control.update_group(group.id, &body, &caller.by()).await;
    match updated.map_err(|e| GROUP.taken(e))? {
        true => GROUP.found(control.group(group.id, caller.scope()).await?).map(Json),
        false => Err(GROUP.missing()),
    }
}

/// Delete a group. Its devices stay.
#[utoipa::path(delete, path = "/api/groups/{id}", tag = "groups",
    params(("id" = Uuid, Path, description = "The group's id")),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn delete(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.require_all(Role::Operator)?;
    let group = find(&control, &caller, &id).await?;
    GROUP.deleted(control.delete_group(group.id, &caller.by()).await?)
}

/// Move devices into a group or out of it, all or none of them.
#[utoipa::path(post, path = "/api/groups/{id}/members", tag = "groups",
    request_body = MembersChange,
    params(("id" = Uuid, Path, description = "The group's id")),
    responses((status = 200, body = Group), (status = 404, body = Problem)))]
pub(super) async fn members(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
    Body(change): Body<MembersChange>,
) -> Result<Json<Group>, ApiError> {
    caller.require(Role::Operator)?;
    let group = find(&control, &caller, &id).await?;
    for (field, devices) in [("add", &change.add), ("remove", &change.remove)] {
        if devices.len() > MEMBERS {
            return Err(ApiError::field(field, format!("at most {MEMBERS}")));
        }
    }
    let (scope, by) = (caller.scope(), caller.by());
    match control.change_members(group.id, &change, scope, &by).await? {
        None => find(&control, &caller, &id).await.map(Json),
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
    State(control): State<Control>,
    State(rules): State<Arc<CommandRules>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(request): Body<CommandRequest>,
) -> Result<(StatusCode, Json<GroupCommand>), ApiError> {
    let new = checked(&rules, &caller, request)?;
    let group = find(&control, &caller, &id).await?;
    let (scope, by) = (caller.scope(), caller.by());
    match control.give_group_command(group.id, &new, scope, &by).await? {
        GroupGiven::Stored(given) => Ok((StatusCode::ACCEPTED, Json(given))),
        GroupGiven::NotFound => Err(GROUP.missing()),
        GroupGiven::Empty => {
            Err(ApiError::new(Code::Refused, "the group has no devices: nothing was sent"))
        }
    }
}

const GROUP_COMMAND: Resource = Resource("command to this group");

/// How far a command to a group has come, over all of its devices.
#[utoipa::path(get, path = "/api/groups/{id}/commands/{group_command}", tag = "groups",
    params(("id" = Uuid, Path, description = "The group's id"),
        ("group_command" = Uuid, Path, description = "The id that the command was given")),
    responses((status = 200, body = GroupCommandSummary), (status = 404, body = Problem)))]
pub(super) async fn summary(
    State(control): State<Control>,
    caller: Caller,
    Path((id, group_command)): Path<(String, String)>,
) -> Result<Json<GroupCommandSummary>, ApiError> {
    find(&control, &caller, &id).await?;
    let group_command = GROUP_COMMAND.id(&group_command)?;
    let summary = control.group_command(group_command, caller.scope()).await?;
    GROUP_COMMAND.found(summary).map(Json)
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
    status: Option<acuvim_model::CommandStatus>,
}

paged!(DevicesParams);

/// The commands of a group command, one for each device.
#[utoipa::path(get, path = "/api/groups/{id}/commands/{group_command}/devices", tag = "groups",
    params(("id" = Uuid, Path, description = "The group's id"),
        ("group_command" = Uuid, Path, description = "The id that the command was given"),
        DevicesParams),
    responses((status = 200, body = Page<CommandInfo>), (status = 404, body = Problem)))]
pub(super) async fn summary_devices(
    State(control): State<Control>,
    caller: Caller,
    Path((id, group_command)): Path<(String, String)>,
    List { params, limit }: List<DevicesParams>,
) -> Result<Json<Page<CommandInfo>>, ApiError> {
    find(&control, &caller, &id).await?;
    let filter = CommandFilter {
        group_command: Some(GROUP_COMMAND.id(&group_command)?),
        status: params.status,
        before: params.cursor,
        limit,
        device_id: None,
    };
    let (items, total) = control.commands(&filter, caller.scope()).await?;
    Ok(page(items, total, limit, |command| command.request_id.to_string()))
}

/// How many devices there are, and how they are.
#[utoipa::path(get, path = "/api/dashboard/summary", tag = "dashboard",
    responses((status = 200, body = DashboardSummary)))]
pub(super) async fn dashboard(
    State(control): State<Control>,
    caller: Caller,
) -> Result<Json<DashboardSummary>, ApiError> {
    // A status that no device has is in no row.
    let mut summary = DashboardSummary::default();
    for (status, n) in control.device_counts(caller.scope()).await? {
        summary.total += n;
        match status {
            DeviceStatus::Online => summary.online = n,
            DeviceStatus::Degraded => summary.degraded = n,
            DeviceStatus::Offline => summary.offline = n,
        }
    }
    let counts = control.alert_counts(caller.scope()).await?;
    summary.alerts = AlertSummary {
        open: counts.open,
        unacknowledged: counts.unacknowledged,
        critical: counts.critical,
    };
    Ok(Json(summary))
}
