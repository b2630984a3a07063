//! The whole fleet's latest readings, from memory.

use acuvim_model::{LatestReading, Page, problem::Problem};
use acuvim_query_sql::{
    Sql,
    history::fields,
    readings::{LatestQuery, latest_of_fleet},
};
use acuvim_wire::reading::LOAD_TYPE;
use axum::{extract::State, response::Response};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::answer::json_answer;
use crate::{auth::Caller, extract::Params, problem::ApiError};

/// Devices of a page.
const DEFAULT_LIMIT: usize = 1000;
const MAX_LIMIT: usize = 20_000;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct LatestParams {
    /// Only of devices in this group.
    group_id: Option<Uuid>,
    /// Readings, separated by commas; all unless given.
    fields: Option<String>,
    /// Devices of a page, 1 to 20,000; 1000 unless given.
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The latest reading of every device, by device: the one with the highest `ts`, whenever it
/// arrived. Devices that have sent none are left out.
#[utoipa::path(get, path = "/api/telemetry/latest", tag = "telemetry", params(LatestParams),
    responses((status = 200, body = Page<LatestReading>), (status = 503, body = Problem)))]
pub(super) async fn fleet(
    State(sql): State<Sql>,
    caller: Caller,
    Params(params): Params<LatestParams>,
) -> Result<Response, ApiError> {
    let limit = match params.limit.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => limit,
        _ => return Err(ApiError::field("limit", format!("1 to {MAX_LIMIT}"))),
    };
    let names = fields(params.fields.as_deref())?.into_iter().map(|reading| reading.name);
    let load_type = params.fields.is_none().then_some(LOAD_TYPE);
    let names = names.chain(load_type).collect();
    sql.require_tail()?;
    let among = match (caller.scope(), params.group_id) {
        (None, None) => None,
        (scope, group) => Some(sql.control().device_ids_of(group, scope).await?),
    };
    let query = LatestQuery { among, names, cursor: params.cursor, limit };
    Ok(json_answer(latest_of_fleet(&sql, query).await?))
}
