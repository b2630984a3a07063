//! SQL over HTTP.

use acuvim_model::{SqlFormat, SqlRequest, SqlResponse, problem::Problem};
use acuvim_query_sql::{
    Sql,
    query::{self, AnswerFacts},
    tables::{self, TableInfo},
};
use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, header},
    response::{IntoResponse, Response},
};

use super::answer::{body, json_answer};
use crate::{auth::Caller, extract, problem::ApiError};

/// Run one SELECT over the tables of `GET /api/sql/tables`.
#[utoipa::path(post, path = "/api/sql", tag = "sql", request_body = SqlRequest,
    responses(
        (status = 200, body = SqlResponse, description = "JSON, or text/csv if asked for"),
        (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 422, body = Problem), (status = 429, body = Problem),
        (status = 503, body = Problem), (status = 504, body = Problem)))]
pub(super) async fn run(
    State(sql): State<Sql>,
    caller: Caller,
    headers: HeaderMap,
    extract::Body(request): extract::Body<SqlRequest>,
) -> Result<Response, ApiError> {
    let format = request.format.unwrap_or_else(|| accepted(&headers));
    let (facts, answer) = query::run(&sql, request, format, caller.scope).await?;
    Ok(match format {
        SqlFormat::Json => json_answer(answer),
        SqlFormat::Csv => csv(&facts, body(answer)),
    })
}

/// The tables that a query can read, with their columns.
#[utoipa::path(get, path = "/api/sql/tables", tag = "sql",
    responses((status = 200, body = Vec<TableInfo>), (status = 401, body = Problem)))]
pub(super) async fn tables(_caller: Caller) -> Json<Vec<TableInfo>> {
    Json(tables::tables())
}

fn accepted(headers: &HeaderMap) -> SqlFormat {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if accept.contains("text/csv") { SqlFormat::Csv } else { SqlFormat::Json }
}

/// A CSV answer, with what a JSON answer tells beside its rows in headers.
fn csv(facts: &AnswerFacts, body: Body) -> Response {
    let watermark: Vec<_> = facts.view.watermark.iter().map(i64::to_string).collect();
    let name = HeaderName::from_static;
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (name("x-lake-version"), facts.view.lake_version.to_string()),
        (name("x-watermark"), watermark.join(",")),
        (name("x-row-count"), facts.row_count.to_string()),
        (name("x-truncated"), facts.truncated.to_string()),
    ];
    (headers, body).into_response()
}
