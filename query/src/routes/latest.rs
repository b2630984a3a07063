//! The whole fleet's latest readings, from memory.

use std::sync::Arc;

use acuvim_lakehouse::Latest;
use acuvim_schemas::{
    api::{LatestReading, Page},
    problem::{Code, Problem},
    reading::LOAD_TYPE,
};
use arrow::array::RecordBatch;
use axum::{
    extract::State,
    http::header,
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::{
    App,
    auth::Caller,
    export::{Cells, object},
    history::fields,
    problem::{ApiError, Params},
    sql::{Found, as_answer, object_with, pieces_of, turn},
};

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
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(params): Params<LatestParams>,
) -> Result<Response, ApiError> {
    let limit = match params.limit.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => limit,
        _ => return Err(ApiError::field("limit", format!("1 to {MAX_LIMIT}"))),
    };
    let fields = fields(params.fields.as_deref())?;
    let names: Vec<&'static str> = match params.fields {
        Some(_) => fields.iter().map(|r| r.name).collect(),
        None => fields.iter().map(|r| r.name).chain([LOAD_TYPE]).collect(),
    };
    if let Some(reason) = app.status().not_hot {
        return Err(ApiError::new(Code::Unavailable, reason));
    }
    let among = match (caller.scope(), params.group_id) {
        (None, None) => None,
        (scope, group) => Some(app.control().device_ids_of(group, scope).await?),
    };
    let cursor = params.cursor;
    let timeout = app.parts.sql.timeout;
    let ((), body) = as_answer(&app, timeout, move |app| async move {
        let permit = turn(&app.from_memory).await?;
        let latest = app.lake().latest();
        let (ids, total, next) = page(latest, among, cursor.as_deref(), limit);
        let rows = latest.rows(ids.iter().map(AsRef::as_ref))?;
        let rest = json!({ "total": total, "next_cursor": next });
        let listed = pieces_of(vec![rows], move |rows, out| items(rows, &names, out));
        let pieces = object_with(&json!({}), "items", listed, move || rest);
        Ok(Ok(Found { facts: (), pieces, permit, memory: None }))
    })
    .await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// The devices of a page, how many there are on all pages, and the cursor of the next page.
fn page(
    latest: &Latest,
    among: Option<Vec<String>>,
    cursor: Option<&str>,
    limit: usize,
) -> (Vec<Arc<str>>, usize, Option<Arc<str>>) {
    let mut ids: Vec<Arc<str>> = match among {
        None => latest.devices(),
        Some(ids) => ids.into_iter().filter(|id| latest.has(id)).map(Arc::from).collect(),
    };
    ids.sort_unstable();
    let total = ids.len();
    if let Some(cursor) = cursor {
        ids.drain(..ids.partition_point(|id| id.as_ref() <= cursor));
    }
    let next = (ids.len() > limit).then(|| ids.get(limit - 1).cloned()).flatten();
    ids.truncate(limit);
    (ids, total, next)
}

/// The rows as [`LatestReading`]s, a comma between two.
fn items(rows: &RecordBatch, names: &[&str], out: &mut Vec<u8>) {
    const HEAD: [&str; 5] = ["device_id", "ts", "received_at", "source", "connection"];
    let key = |name: &&str| format!("\"{name}\":").into_bytes();
    let columns = |of: &[&'static str]| -> Vec<(Cells<'_>, Vec<u8>)> {
        let named = of.iter().filter_map(|name| Some((rows.column_by_name(name)?, key(name))));
        named.map(|(column, key)| (Cells::of(column, false), key)).collect()
    };
    let mut head = columns(&HEAD);
    let mut data: Vec<(Cells<'_>, Vec<u8>)> = names
        .iter()
        .filter_map(|name| Some((Cells::of(rows.column_by_name(name)?, false), key(name))))
        .collect();
    for row in 0..rows.num_rows() {
        out.extend_from_slice(if row > 0 { b",{" } else { b"{" });
        for (cells, key) in &mut head {
            if !cells.json(row, key, out) {
                out.extend_from_slice(key);
                out.extend_from_slice(b"null");
            }
            out.push(b',');
        }
        out.extend_from_slice(b"\"data\":");
        object(&mut data, row, out);
        out.push(b'}');
    }
}
