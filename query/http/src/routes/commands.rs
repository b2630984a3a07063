//! Commands to devices, and their state.

use std::sync::Arc;

use acuvim_control::{CommandFilter, Control, Given, NewCommand};
use acuvim_model::{
    CommandAccepted, CommandInfo, CommandRequest, CommandStatus, Deliver, OtherAnswer, Page, Role,
    problem::{Code, Problem},
};
use acuvim_wire::{
    command::{CommandKind, check_params, firmware_source},
    config::Section,
};
use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::{
    devices::{find, no_device},
    list::{List, page, paged},
    resource::Resource,
};
use crate::{
    auth::Caller,
    commands::CommandRules,
    extract::{Body, Path},
    problem::ApiError,
};

/// The longest that a command may wait for its device: 30 days.
const LONGEST_WAIT_S: u32 = 30 * 86_400;

/// The longest that an answer is waited for.
const LONGEST_TIMEOUT_S: u32 = 86_400;

/// The most parameters of a command that this system does not know.
const RAW_KEYS: usize = 64;

const COMMAND: Resource = Resource("command");

/// Checks a request; answers with the command to give, whichever device it is for.
pub(super) fn checked(
    rules: &CommandRules,
    caller: &Caller,
    request: CommandRequest,
) -> Result<NewCommand, ApiError> {
    caller.require(Role::Operator)?;
    let kind = CommandKind::parse(&request.command);
    match kind {
        Some(kind) => {
            if kind.is_for_admins() {
                caller.require(Role::Admin)?;
            }
            check_params(kind, &request.params)
                .map_err(|(field, message)| ApiError::field(&field, message))?;
            if kind.is_only_now() && request.deliver == Deliver::WhenOnline {
                let message = format!("{kind} can only be given now: done late it would surprise");
                return Err(ApiError::field("deliver", message));
            }
        }
        // Firmware may know commands that this system does not.
        None => check_raw(caller, &request)?,
    }
    check_source(rules, &request)?;
    if request.deliver == Deliver::Now && request.expires_seconds.is_some() {
        return Err(ApiError::field("expires_seconds", "only with \"deliver\": \"when_online\""));
    }
    let seconds = |field: &str, given: Option<u32>, most: u32| match given {
        Some(n) if n == 0 || n > most => Err(ApiError::field(field, format!("1 to {most}"))),
        given => Ok(given.map(i64::from)),
    };
    let timeout = seconds("timeout_seconds", request.timeout_seconds, LONGEST_TIMEOUT_S)?;
    let expires = seconds("expires_seconds", request.expires_seconds, LONGEST_WAIT_S)?;
    if request.idempotency_key.as_ref().is_some_and(|k| k.is_empty() || k.chars().count() > 100) {
        return Err(ApiError::field("idempotency_key", "1 to 100 characters"));
    }
    let options = &rules.options;
    let section = match kind {
        Some(CommandKind::SetConfig) => {
            request.params.get("section").and_then(|s| s.as_str()).and_then(Section::parse)
        }
        _ => None,
    };
    Ok(NewCommand {
        device_id: String::new(),
        command: request.command,
        params: request.params,
        deliver: request.deliver,
        first_timeout_s: timeout.unwrap_or(i64::from(options.timeout_s)),
        ack_timeout_s: timeout.unwrap_or(i64::from(options.after_ack_s(kind))),
        expires_s: expires.unwrap_or(i64::from(LONGEST_WAIT_S)),
        idempotency_key: request.idempotency_key,
        topic_prefix: options.topic_prefix.clone(),
        section,
        desired: true,
        group_command: None,
    })
}

/// Where only signed firmware is taken, a command must not send a device elsewhere for it: nobody has checked
/// the image there. A rollout gives its devices the URL of an image that was checked.
fn check_source(rules: &CommandRules, request: &CommandRequest) -> Result<(), ApiError> {
    if !rules.only_signed_firmware {
        return Ok(());
    }
    match firmware_source(&request.command, &request.params) {
        Some(field) => {
            let message = "with firmware.require_signature firmware comes by a rollout alone \
                           (POST /api/firmware/deploy)";
            Err(ApiError::field(&field, message))
        }
        None => Ok(()),
    }
}

fn check_raw(caller: &Caller, request: &CommandRequest) -> Result<(), ApiError> {
    let name = &request.command;
    if !request.raw {
        let names = CommandKind::ALL.map(CommandKind::as_str).join(", ");
        let message =
            format!("`{name}` is none of {names}; an Admin can send it with \"raw\": true");
        return Err(ApiError::field("command", message));
    }
    caller.require(Role::Admin)?;
    let good = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(good) {
        return Err(ApiError::field("command", "1 to 64 characters of a-z 0-9 _ . -"));
    }
    if request.params.len() > RAW_KEYS {
        return Err(ApiError::field("params", format!("at most {RAW_KEYS} of them")));
    }
    Ok(())
}

/// What became of a command, as an answer.
pub(super) fn accepted(given: Given) -> Result<(StatusCode, Json<CommandAccepted>), ApiError> {
    match given {
        Given::Stored(accepted) | Given::Again(accepted, _) => {
            Ok((StatusCode::ACCEPTED, Json(accepted)))
        }
        Given::NotFound => Err(no_device()),
        Given::Disabled => Err(ApiError::new(Code::Refused, "the device is disabled")),
        Given::TooLarge { bytes, max } => Err(ApiError::new(
            Code::CommandTooLarge,
            format!(
                "its MQTT packet has {bytes} bytes, the device takes {max} (max_packet_bytes of its \
                 registration)"
            ),
        )),
    }
}

/// Give a device a command. It is stored before this answers; follow it at
/// `/api/commands/{request_id}`.
#[utoipa::path(post, path = "/api/devices/{device_id}/command", tag = "commands",
    request_body = CommandRequest,
    params(("device_id" = String, Path, description = "The device's id")),
    responses((status = 202, body = CommandAccepted), (status = 404, body = Problem),
        (status = 422, body = Problem)))]
pub(super) async fn give(
    State(control): State<Control>,
    State(rules): State<Arc<CommandRules>>,
    caller: Caller,
    Path(device_id): Path<String>,
    Body(request): Body<CommandRequest>,
) -> Result<(StatusCode, Json<CommandAccepted>), ApiError> {
    let new = NewCommand { device_id, ..checked(&rules, &caller, request)? };
    accepted(control.give_command(&new, caller.scope(), &caller.by()).await?)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    /// Items of a page, 1 to 1000; 50 unless given.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<Uuid>,
    /// Only of this status.
    status: Option<CommandStatus>,
}

paged!(ListParams);

/// A device's commands, newest first.
#[utoipa::path(get, path = "/api/devices/{device_id}/commands", tag = "commands",
    params(("device_id" = String, Path, description = "The device's id"), ListParams),
    responses((status = 200, body = Page<CommandInfo>), (status = 404, body = Problem)))]
pub(super) async fn list(
    State(control): State<Control>,
    caller: Caller,
    Path(device_id): Path<String>,
    List { params, limit }: List<ListParams>,
) -> Result<Json<Page<CommandInfo>>, ApiError> {
    find(&control, &caller, &device_id).await?;
    let filter = CommandFilter {
        device_id: Some(device_id),
        status: params.status,
        before: params.cursor,
        limit,
        group_command: None,
    };
    let (items, total) = control.commands(&filter, caller.scope()).await?;
    Ok(page(items, total, limit, |command| command.request_id.to_string()))
}

/// A command, how far it has come, and every answer to it.
#[utoipa::path(get, path = "/api/commands/{request_id}", tag = "commands",
    params(("request_id" = Uuid, Path, description = "The command's id")),
    responses((status = 200, body = CommandInfo), (status = 404, body = Problem)))]
pub(super) async fn get(
    State(control): State<Control>,
    caller: Caller,
    Path(request_id): Path<String>,
) -> Result<Json<CommandInfo>, ApiError> {
    let found = control.command(COMMAND.id(&request_id)?, caller.scope()).await?;
    COMMAND.found(found).map(Json)
}

/// The newest hundred answers of a device that changed nothing: late, repeated, to a command of
/// another device, or to none that there is.
#[utoipa::path(get, path = "/api/devices/{device_id}/commands/answers", tag = "commands",
    params(("device_id" = String, Path, description = "The device's id")),
    responses((status = 200, body = Vec<OtherAnswer>), (status = 404, body = Problem)))]
pub(super) async fn answers(
    State(control): State<Control>,
    caller: Caller,
    Path(device_id): Path<String>,
) -> Result<Json<Vec<OtherAnswer>>, ApiError> {
    find(&control, &caller, &device_id).await?;
    Ok(Json(control.other_answers(&device_id).await?))
}
