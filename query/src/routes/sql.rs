//! SQL over HTTP.

use std::sync::Arc;

use acuvim_schemas::{
    api::{SqlFormat, SqlRequest, SqlResponse},
    problem::Problem,
};
use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, header},
    response::{IntoResponse, Response},
};

use crate::{
    App,
    auth::Caller,
    problem::{self, ApiError},
    sql::{self, Facts, TableInfo},
};

/// Run one SELECT over the tables of `GET /api/sql/tables`.
#[utoipa::path(post, path = "/api/sql", tag = "sql", request_body = SqlRequest,
    responses(
        (status = 200, body = SqlResponse, description = "JSON, or text/csv if asked for"),
        (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 422, body = Problem), (status = 429, body = Problem),
        (status = 503, body = Problem), (status = 504, body = Problem)))]
pub(super) async fn run(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    problem::Body(request): problem::Body<SqlRequest>,
) -> Result<Response, ApiError> {
    let format = request.format.unwrap_or_else(|| accepted(&headers));
    let (facts, body) = sql::run(&app, request, format, caller.scope).await?;
    Ok(match format {
        SqlFormat::Json => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        SqlFormat::Csv => csv(&facts, body),
    })
}

/// The tables that a query can read, with their columns.
#[utoipa::path(get, path = "/api/sql/tables", tag = "sql",
    responses((status = 200, body = Vec<TableInfo>), (status = 401, body = Problem)))]
pub(super) async fn tables(_caller: Caller) -> Json<Vec<TableInfo>> {
    Json(sql::tables())
}

fn accepted(headers: &HeaderMap) -> SqlFormat {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if accept.contains("text/csv") { SqlFormat::Csv } else { SqlFormat::Json }
}

/// The same facts as in the JSON answer, in headers.
fn csv(facts: &Facts, body: Body) -> Response {
    let watermark: Vec<_> = facts.watermark.iter().map(i64::to_string).collect();
    let name = HeaderName::from_static;
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (name("x-lake-version"), facts.lake_version.to_string()),
        (name("x-watermark"), watermark.join(",")),
        (name("x-row-count"), facts.row_count.to_string()),
        (name("x-truncated"), facts.truncated.to_string()),
    ];
    (headers, body).into_response()
}
