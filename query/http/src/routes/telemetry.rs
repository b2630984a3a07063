//! Telemetry of one device: its history and its export.

use std::ops::Range;

use acuvim_model::{ExportFormat, History, HistoryColumn, problem::Problem};
use acuvim_query_sql::{
    Sql,
    export::{Export, ExportPart, export},
    history::{self, HistoryRequest, Order, RequestTexts, Site, fields, history, site_rows},
};
use acuvim_tables::Table;
use acuvim_wire::{
    Micros,
    reading::READINGS,
    time::{DAY, to_rfc3339},
};
use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use chrono::Utc;
use futures::TryStreamExt as _;
use http_body::Frame;
use http_body_util::StreamBody;
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;

use super::{answer::json_answer, devices::find as find_device, list::moment};
use crate::{
    auth::Caller,
    extract::{Params, Path},
    problem::ApiError,
};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryParams {
    /// From then on; a day before `to` unless given.
    from: Option<String>,
    /// Before then; now unless given.
    to: Option<String>,
    /// Readings, separated by commas; all unless given.
    fields: Option<String>,
    /// Buckets of this length: `10s`, `5m`, `1h`, `1d`, `1w`, `1mo`, `1y`; in a time zone
    /// such as divide half an hour, or whole hours. Without it: the readings as they are.
    interval: Option<String>,
    /// What each bucket says: `avg` (the default), `min`, `max`, `sum`, `count`, `first`, `last`,
    /// `delta`; several are separated by commas. `delta` is what a counter has counted, through
    /// roll-overs; a reset and another meter count nothing, and what is no counter has none.
    agg: Option<String>,
    /// What buckets without readings say: `none` (the default) leaves them out, `null`, `previous`,
    /// `linear`.
    fill: Option<String>,
    /// Whose calendar buckets follow, such as `Africa/Johannesburg`; UTC unless given.
    tz: Option<String>,
    /// `asc` (the default) or `desc`, by time.
    order: Option<String>,
    /// Rows of a page, 1 to 20,000; 1000 unless given.
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The range that is asked for; a day up to now unless it is given.
fn range(from: Option<&str>, to: Option<&str>) -> Result<Range<Micros>, ApiError> {
    let at = |field, text: Option<&str>| {
        text.map(|text| moment(field, text).map(|at| at.timestamp_micros())).transpose()
    };
    let to = at("to", to)?.unwrap_or_else(|| Utc::now().timestamp_micros());
    Ok(at("from", from)?.unwrap_or(to - DAY)..to)
}

/// A device's readings over time, or buckets of them. A logger that replaced another goes on with
/// that one's readings up to the moment of the replacement.
#[utoipa::path(get, path = "/api/devices/{device_id}/telemetry/history", tag = "telemetry",
    params(("device_id" = String, Path, description = "The device's id"), HistoryParams),
    responses((status = 200, body = History), (status = 404, body = Problem)))]
pub(super) async fn device_history(
    State(sql): State<Sql>,
    caller: Caller,
    Path(device_id): Path<String>,
    Params(params): Params<HistoryParams>,
) -> Result<Response, ApiError> {
    let device = find_device(sql.control(), &caller, &device_id).await?;
    let range = range(params.from.as_deref(), params.to.as_deref())?;
    let texts = RequestTexts {
        fields: params.fields.as_deref(),
        interval: params.interval.as_deref(),
        agg: params.agg.as_deref(),
        fill: params.fill.as_deref(),
        tz: params.tz.as_deref(),
        order: params.order.as_deref(),
        cursor: params.cursor.as_deref(),
        limit: params.limit,
    };
    let request = HistoryRequest::new(range.start, range.end, &texts)?;
    let column = |column: history::HistoryColumn| HistoryColumn {
        name: column.name,
        unit: column.unit.to_owned(),
    };
    let columns: Vec<HistoryColumn> = request.columns().into_iter().map(column).collect();
    let before = json!({
        "device_id": device_id,
        "interval": request.interval(),
        "tz": request.tz().name(),
        "columns": columns,
    });
    let site = Site::of(sql.control(), device).await?;
    Ok(json_answer(history(&sql, site, request, before).await?))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportParams {
    /// From then on; a day before `to` unless given.
    from: Option<String>,
    /// Before then; now unless given.
    to: Option<String>,
    /// Readings, separated by commas; all unless given.
    fields: Option<String>,
    /// `csv` (the default), `parquet`, `arrow` or `ndjson`.
    format: Option<ExportFormat>,
    /// Readings as the decimals that are stored, in place of floats.
    decimals: Option<bool>,
}

/// The columns beside the readings that an export has.
const BESIDE: [&str; 5] = ["received_at", "source", "connection", "seq", "boot"];

/// A device's readings as a file, however many: `ts`, `received_at`, `source`, `connection`, `seq`,
/// `boot` and the readings, by time. The trailers `X-Row-Count` and `X-Content-SHA256` come only
/// behind the last row; an export that fails midway is broken off.
#[utoipa::path(get, path = "/api/devices/{device_id}/telemetry/export", tag = "telemetry",
    params(("device_id" = String, Path, description = "The device's id"), ExportParams),
    responses((status = 200, description = "The file", body = String, content_type = "text/csv"),
        (status = 404, body = Problem)))]
pub(super) async fn device_export(
    State(sql): State<Sql>,
    caller: Caller,
    Path(device_id): Path<String>,
    Params(params): Params<ExportParams>,
) -> Result<Response, ApiError> {
    let device = find_device(sql.control(), &caller, &device_id).await?;
    let range = range(params.from.as_deref(), params.to.as_deref())?;
    if range.is_empty() {
        return Err(ApiError::field("to", "later than from"));
    }
    let fields = fields(params.fields.as_deref())?;
    // `load_type` is a text, which comes only with all of the readings.
    let all = fields.len() == READINGS.len();
    let names = BESIDE.into_iter().chain(fields.into_iter().map(|r| r.name));
    let names: Vec<&'static str> = names.chain(all.then_some("load_type")).collect();
    let format = params.format.unwrap_or_default();
    let site = Site::of(sql.control(), device).await?;
    let name = format!("{device_id}_{}", stamp(&range));
    let query = move |context| async move {
        site_rows(&context, Table::Telemetry, &site, range, &names, Order::Ascending).await
    };
    let export = export(&sql, format, params.decimals.unwrap_or(false), query).await?;
    Ok(file(export, format, &name))
}

/// A range of times as a part of a file's name.
fn stamp(range: &Range<Micros>) -> String {
    let of = |ts| to_rfc3339(ts).replace([':', '-'], "").replace(".000", "");
    format!("{}_{}", of(range.start), of(range.end))
}

/// The names of the trailers: how many rows there were, and the hash of all bytes, in hex.
pub(super) const TRAILERS: &str = "x-row-count, x-content-sha256";

/// A part of an export as a frame of a body.
fn frame(part: ExportPart) -> Frame<Bytes> {
    match part {
        ExportPart::Data(bytes) => Frame::data(bytes),
        ExportPart::Complete { rows, sha256 } => {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-row-count", rows.into());
            if let Ok(sha256) = HeaderValue::from_str(&sha256) {
                trailers.insert("x-content-sha256", sha256);
            }
            Frame::trailers(trailers)
        }
    }
}

fn file(export: Export, format: ExportFormat, name: &str) -> Response {
    let Export { parts, view } = export;
    let body = Body::new(StreamBody::new(parts.map_ok(frame)));
    // A quote or line end in the name would end the header's value.
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = name.chars().map(safe).collect();
    let watermark: Vec<String> = view.watermark.iter().map(i64::to_string).collect();
    let headers = [
        (header::CONTENT_TYPE, format.content_type().to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}.{}\"", format.extension()),
        ),
        (header::TRAILER, TRAILERS.to_owned()),
        (header::HeaderName::from_static("x-lake-version"), view.lake_version.to_string()),
        (header::HeaderName::from_static("x-watermark"), watermark.join(",")),
    ];
    (headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complete_export_ends_with_its_trailers() {
        let sha256 = "ab".repeat(32);
        let end = frame(ExportPart::Complete { rows: 7, sha256: sha256.clone() });
        let trailers = end.into_trailers().expect("trailers");
        let text = |name: &str| trailers[name].to_str().expect("text").to_owned();
        let names: Vec<&str> = TRAILERS.split(", ").collect();
        let texts: Vec<String> = names.iter().map(|name| text(name)).collect();
        assert_eq!(texts, ["7".to_owned(), sha256]);
        assert!(frame(ExportPart::Data("rows".into())).is_data());
    }

    #[test]
    fn a_range_in_a_file_name_has_no_odd_characters() {
        assert_eq!(stamp(&(0..90_000_000)), "19700101T000000Z_19700101T000130Z");
    }
}
