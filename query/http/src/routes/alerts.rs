//! Alerts: lists, acknowledging and resolving, and the readings behind them.

use acuvim_control::{AlertFilter, Control};
use acuvim_model::{
    AcknowledgeBody, AcknowledgeMany, Acknowledged, Alert, Evidence, Page, Role,
    problem::{Code, Problem},
};
use acuvim_query_sql::{
    Sql,
    readings::{StoredReadings, readings_between},
};
use acuvim_wire::{payload::Severity, time::to_rfc3339};
use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::{
    devices::find as find_device,
    list::{List, moment, page, paged, time_cursor, time_cursor_of},
    resource::Resource,
};
use crate::{
    auth::Caller,
    checks,
    extract::{Body, Path},
    problem::ApiError,
};

/// Alerts that one request acknowledges by their ids.
const IDS: usize = 1000;

/// Readings of one piece of evidence.
const READINGS: usize = 1000;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    /// Items of a page, 1 to 1000; 50 unless given.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Only of this device.
    device_id: Option<String>,
    /// Only of devices in this group.
    group_id: Option<Uuid>,
    /// Only of this severity.
    severity: Option<Severity>,
    /// Only of this kind: overvoltage, offline, ...
    r#type: Option<String>,
    /// Only of this incident.
    incident_id: Option<Uuid>,
    /// Only of this rule.
    rule_id: Option<Uuid>,
    /// Only those that somebody has seen, or only the others.
    acknowledged: Option<bool>,
    /// Only those that are over, or only the others.
    resolved: Option<bool>,
    /// Those of rules that only record, in place of those that alert.
    shadow: Option<bool>,
    /// Also those that late readings have shown never to have been.
    withdrawn: Option<bool>,
    /// Begun from then on.
    from: Option<String>,
    /// Begun before.
    to: Option<String>,
}

paged!(ListParams);

impl List<ListParams> {
    fn filter(self) -> Result<AlertFilter, ApiError> {
        let Self { params, limit } = self;
        let at =
            |field, text: &Option<String>| text.as_deref().map(|t| moment(field, t)).transpose();
        Ok(AlertFilter {
            from: at("from", &params.from)?,
            to: at("to", &params.to)?,
            after: params.cursor.as_deref().map(time_cursor).transpose()?,
            device_id: params.device_id,
            group_id: params.group_id,
            severity: params.severity,
            alert_type: params.r#type,
            incident_id: params.incident_id,
            rule_id: params.rule_id,
            acknowledged: params.acknowledged,
            resolved: params.resolved,
            shadow: params.shadow.unwrap_or(false),
            withdrawn: params.withdrawn.unwrap_or(false),
            limit,
        })
    }
}

const ALERT: Resource = Resource("alert");

/// The alerts, the newest first.
#[utoipa::path(get, path = "/api/alerts", tag = "alerts", params(ListParams),
    responses((status = 200, body = Page<Alert>)))]
pub(super) async fn list(
    State(control): State<Control>,
    caller: Caller,
    list: List<ListParams>,
) -> Result<Json<Page<Alert>>, ApiError> {
    alerts(&control, &caller, &list.filter()?).await
}

async fn alerts(
    control: &Control,
    caller: &Caller,
    filter: &AlertFilter,
) -> Result<Json<Page<Alert>>, ApiError> {
    let (items, total) = control.alerts(filter, caller.scope()).await?;
    Ok(page(items, total, filter.limit, |alert| time_cursor_of(alert.created_at, alert.id)))
}

/// The alerts of a device, the newest first.
#[utoipa::path(get, path = "/api/devices/{device_id}/alerts", tag = "alerts",
    params(("device_id" = String, Path, description = "The device's id"), ListParams),
    responses((status = 200, body = Page<Alert>), (status = 404, body = Problem)))]
pub(super) async fn of_device(
    State(control): State<Control>,
    caller: Caller,
    Path(device_id): Path<String>,
    list: List<ListParams>,
) -> Result<Json<Page<Alert>>, ApiError> {
    find_device(&control, &caller, &device_id).await?;
    if list.params.device_id.is_some() {
        return Err(ApiError::field("device_id", "the path names it"));
    }
    let filter = AlertFilter { device_id: Some(device_id), ..list.filter()? };
    alerts(&control, &caller, &filter).await
}

/// One alert.
#[utoipa::path(get, path = "/api/alerts/{id}", tag = "alerts",
    params(("id" = Uuid, Path, description = "The alert's id")),
    responses((status = 200, body = Alert), (status = 404, body = Problem)))]
pub(super) async fn get(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Alert>, ApiError> {
    let found = control.alert(ALERT.id(&id)?, caller.scope()).await?;
    ALERT.found(found).map(|(alert, _)| Json(alert))
}

/// Say that you have seen an alert. Doing so again changes nothing.
#[utoipa::path(put, path = "/api/alerts/{id}/acknowledge", tag = "alerts",
    request_body = AcknowledgeBody,
    params(("id" = Uuid, Path, description = "The alert's id")),
    responses((status = 200, body = Alert), (status = 404, body = Problem)))]
pub(super) async fn acknowledge(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<AcknowledgeBody>,
) -> Result<Json<Alert>, ApiError> {
    caller.require(Role::Operator)?;
    checks::note(body.note.as_deref())?;
    let (scope, by) = (caller.scope(), caller.by());
    let note = body.note.as_deref();
    let alert = control.acknowledge(ALERT.id(&id)?, note, scope, &by).await?;
    ALERT.found(alert).map(Json)
}

/// Say that you have seen many alerts: up to 1000 by their ids, or all open ones that match, 10,000
/// at most.
#[utoipa::path(post, path = "/api/alerts/acknowledge", tag = "alerts",
    request_body = AcknowledgeMany, responses((status = 200, body = Acknowledged)))]
pub(super) async fn acknowledge_many(
    State(control): State<Control>,
    caller: Caller,
    Body(body): Body<AcknowledgeMany>,
) -> Result<Json<Acknowledged>, ApiError> {
    caller.require(Role::Operator)?;
    checks::note(body.note.as_deref())?;
    if body.ids.is_empty() == body.filter.is_none() {
        return Err(ApiError::field("ids", "give either ids or a filter"));
    }
    if body.ids.len() > IDS {
        return Err(ApiError::field("ids", format!("at most {IDS}")));
    }
    let filter = body.filter.as_ref().map(AlertFilter::from);
    let (scope, by, note) = (caller.scope(), caller.by(), body.note.as_deref());
    let acknowledged =
        control.acknowledge_many(&body.ids, filter.as_ref(), note, scope, &by).await?;
    Ok(Json(Acknowledged { acknowledged }))
}

/// End an alert. Its rule does not raise it again before its condition has been over.
#[utoipa::path(put, path = "/api/alerts/{id}/resolve", tag = "alerts",
    params(("id" = Uuid, Path, description = "The alert's id")),
    responses((status = 200, body = Alert), (status = 404, body = Problem)))]
pub(super) async fn resolve(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Alert>, ApiError> {
    caller.require(Role::Operator)?;
    let alert = control.resolve(ALERT.id(&id)?, caller.scope(), &caller.by()).await?;
    ALERT.found(alert).map(Json)
}

/// The readings behind an alert, by their time, from its beginning to its end: up to 1000.
#[utoipa::path(get, path = "/api/alerts/{id}/evidence", tag = "alerts",
    params(("id" = Uuid, Path, description = "The alert's id")),
    responses((status = 200, body = Evidence), (status = 404, body = Problem),
        (status = 422, body = Problem)))]
pub(super) async fn evidence(
    State(sql): State<Sql>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Evidence>, ApiError> {
    let found = sql.control().alert(ALERT.id(&id)?, caller.scope()).await?;
    let (alert, marks) = ALERT.found(found)?;
    let Some(device_id) = alert.device_id.clone() else {
        return Err(ApiError::new(Code::Refused, "an alert of the system rests on no readings"));
    };
    let begun = alert.created_at.timestamp_micros();
    let ended = alert.resolved_at.map(|at| at.timestamp_micros());
    let from = marks.map_or(begun, |marks| marks.started.ts);
    // An episode ends with the reading that confirmed its end, which may lie behind the end itself.
    let confirmed = marks.and_then(|marks| marks.ended).map(|(_, confirmed)| confirmed.ts);
    let to = confirmed.or(ended).or_else(|| sql.lake().latest().ts(&device_id));
    let to = to.unwrap_or(from).max(from);
    let found = readings_between(&sql, &device_id, from..=to, READINGS).await?;
    let StoredReadings { readings, truncated, view } = found;
    Ok(Json(Evidence {
        alert_id: alert.id,
        device_id,
        from: to_rfc3339(from),
        to: to_rfc3339(to),
        rule_version: alert.rule_version,
        lake_version: view.lake_version,
        watermark: view.watermark,
        readings,
        truncated,
    }))
}
