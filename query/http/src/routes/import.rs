//! Imports of history.

use acuvim_control::Control;
use acuvim_model::{
    Imported, Role,
    problem::{Code, Problem},
};
use axum::{
    Json,
    extract::{Request, State},
};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    auth::Caller,
    checks::time_zone,
    extract::{Params, media_type},
    import::{Format, Imports, Shape},
    problem::ApiError,
};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportParams {
    /// The column of the device's id; `device_id` unless given.
    device_id: Option<String>,
    /// The column of the time; `ts` unless given.
    ts: Option<String>,
    /// The column that has readings as one JSON object; `data` unless given.
    data: Option<String>,
    /// Whose times they are that name no zone, such as `Africa/Johannesburg`; without it such rows
    /// are refused.
    time_zone: Option<String>,
}

/// Bring readings of another system in: CSV with a header line, JSON lines or Parquet, a row a
/// reading, with the columns `device_id`, `ts`, readings by their names, or all of them as one JSON
/// object in `data`. Answered once it is known what became of every row: it is stored, was there
/// before, or is refused with the reason for which it would be a dead letter. They are judged silently.
/// A request that breaks off can be sent again as it is.
#[utoipa::path(post, path = "/api/import", tag = "telemetry", params(ImportParams),
    request_body(content = String, content_type = "text/csv",
        example = "device_id,ts,voltage_l1_v\nACV-AABBCCDDEEFF,2025-05-01T00:00:00Z,230.4\n"),
    responses((status = 200, body = Imported), (status = 400, body = Problem),
        (status = 415, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn import(
    State(control): State<Control>,
    State(imports): State<Imports>,
    caller: Caller,
    Params(params): Params<ImportParams>,
    request: Request,
) -> Result<Json<Imported>, ApiError> {
    caller.require_all(Role::Admin)?;
    let format =
        media_type(request.headers()).as_deref().and_then(Format::of).ok_or_else(|| {
            let detail = "send text/csv, application/x-ndjson or application/vnd.apache.parquet";
            ApiError::new(Code::UnsupportedMediaType, detail)
        })?;
    let defaults = Shape::default();
    let shape = Shape {
        device_id: params.device_id.unwrap_or(defaults.device_id),
        ts: params.ts.unwrap_or(defaults.ts),
        data: params.data.unwrap_or(defaults.data),
        zone: params.time_zone.map(|name| time_zone("time_zone", &name)).transpose()?,
    };
    let done = imports.run(format, shape, request.into_body()).await?;
    let detail = serde_json::json!({
        "rows": done.rows, "stored": done.stored, "duplicates": done.duplicates,
        "refused": done.refused,
    });
    control.note(&caller.by(), "telemetry.import", "telemetry", detail).await?;
    Ok(Json(done))
}
