//! Alert rules, and what they would have done.

use std::sync::Arc;

use acuvim_control::ErrorKind;
use acuvim_schemas::{
    api::{Backtest, BacktestRequest, Page, Role, Rule, RuleBody},
    problem::{Code, Problem},
};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{NoParams, shown::Shown};
use crate::{
    App,
    auth::Caller,
    checks,
    problem::{ApiError, Body, Params, editable, patched},
};

fn no_rule() -> ApiError {
    ApiError::new(Code::NotFound, "there is no such rule")
}

async fn find(app: &App, caller: &Caller, id: &str) -> Result<Rule, ApiError> {
    let id: Uuid = id.parse().map_err(|_| no_rule())?;
    let mut rule = app.control().rule(id, caller.scope()).await?.ok_or_else(no_rule)?;
    match Shown::to(app, caller).await?.narrow(&mut rule.body.scope) {
        true => Ok(rule),
        false => Err(no_rule()),
    }
}

fn taken(error: acuvim_control::Error) -> ApiError {
    match error.kind() {
        ErrorKind::Conflict => ApiError::new(Code::Conflict, "there is a rule of that name"),
        _ => error.into(),
    }
}

/// The form of a rule, and whether its predicates can run.
fn checked(app: &App, body: &RuleBody) -> Result<(), ApiError> {
    checks::rule(body)?;
    app.planner.compile(body).map(|_| ()).map_err(|fault| {
        let field = fault.field;
        let said = fault.to_string();
        let said = said.strip_prefix(field).unwrap_or(&said).trim_start_matches([':', ' ']);
        ApiError::field(field, said)
    })
}

/// The rules, by name.
#[utoipa::path(get, path = "/api/rules", tag = "rules",
    responses((status = 200, body = Page<Rule>)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Json<Page<Rule>>, ApiError> {
    let shown = Shown::to(&app, &caller).await?;
    let mut items = app.control().rules(caller.scope()).await?;
    items.retain_mut(|rule| shown.narrow(&mut rule.body.scope));
    let total = i64::try_from(items.len()).unwrap_or(i64::MAX);
    Ok(Json(Page { items, total, next_cursor: None }))
}

/// Make a rule. One that can't run is a 400 with the place of the fault. It judges what is received
/// from then on.
#[utoipa::path(post, path = "/api/rules", tag = "rules", request_body = RuleBody,
    responses((status = 201, body = Rule), (status = 409, body = Problem)))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<RuleBody>,
) -> Result<(StatusCode, Json<Rule>), ApiError> {
    caller.require_all(Role::Operator)?;
    checked(&app, &body)?;
    let id = app.control().create_rule(&body, &caller.by()).await.map_err(taken)?;
    let rule = app.control().rule(id, None).await?.ok_or_else(no_rule)?;
    Ok((StatusCode::CREATED, Json(rule)))
}

/// One rule.
#[utoipa::path(get, path = "/api/rules/{id}", tag = "rules",
    params(("id" = Uuid, Path, description = "The rule's id")),
    responses((status = 200, body = Rule), (status = 404, body = Problem)))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Rule>, ApiError> {
    find(&app, &caller, &id).await.map(Json)
}

/// Write a rule anew, as its next version. Its open alerts stay open under it; switched off, they
/// end.
#[utoipa::path(put, path = "/api/rules/{id}", tag = "rules", request_body = RuleBody,
    params(("id" = Uuid, Path, description = "The rule's id")),
    responses((status = 200, body = Rule), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub(super) async fn put(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<Map<String, Value>>,
) -> Result<Json<Rule>, ApiError> {
    caller.require_all(Role::Operator)?;
    let rule = find(&app, &caller, &id).await?;
    write(&app, &caller, &rule, editable(body, &Rule::READ_ONLY)?).await
}

/// Change some of a rule, as its next version.
#[utoipa::path(patch, path = "/api/rules/{id}", tag = "rules", request_body = RuleBody,
    params(("id" = Uuid, Path, description = "The rule's id")),
    responses((status = 200, body = Rule), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub(super) async fn patch(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<Map<String, Value>>,
) -> Result<Json<Rule>, ApiError> {
    caller.require_all(Role::Operator)?;
    let rule = find(&app, &caller, &id).await?;
    let body = patched(&rule, body, &Rule::READ_ONLY)?;
    write(&app, &caller, &rule, body).await
}

async fn write(
    app: &App,
    caller: &Caller,
    rule: &Rule,
    body: RuleBody,
) -> Result<Json<Rule>, ApiError> {
    checked(app, &body)?;
    match app.control().update_rule(rule.id, &body, &caller.by()).await.map_err(taken)? {
        true => app.control().rule(rule.id, None).await?.map(Json).ok_or_else(no_rule),
        false => Err(no_rule()),
    }
}

/// Delete a rule. Its open alerts end with that reason; all of them stay in the lists.
#[utoipa::path(delete, path = "/api/rules/{id}", tag = "rules",
    params(("id" = Uuid, Path, description = "The rule's id")),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.require_all(Role::Operator)?;
    let rule = find(&app, &caller, &id).await?;
    match app.control().delete_rule(rule.id, &caller.by()).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(no_rule()),
    }
}

/// Find out what a rule would have done: it runs over the stored readings, in the background.
/// Follow it at `/api/rules/backtest/{id}`.
#[utoipa::path(post, path = "/api/rules/backtest", tag = "rules", request_body = BacktestRequest,
    responses((status = 202, body = Backtest), (status = 404, body = Problem)))]
pub(super) async fn backtest(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(request): Body<BacktestRequest>,
) -> Result<(StatusCode, Json<Backtest>), ApiError> {
    caller.require(Role::Operator)?;
    let stored = match request.rule_id {
        Some(id) => Some(find(&app, &caller, &id.to_string()).await?),
        None => None,
    };
    let body = request.rule.clone().or_else(|| stored.as_ref().map(|rule| rule.body.clone()));
    let body = body.ok_or_else(|| ApiError::field("rule", "give a rule or a rule_id"))?;
    checked(&app, &body)?;
    let days = (request.to - request.from).num_days();
    if request.to <= request.from || days > 366 {
        return Err(ApiError::field("to", "later than from, by 366 days at most"));
    }
    let started = crate::backtest::start(&app, &caller, &request, body, stored.as_ref()).await?;
    Ok((StatusCode::ACCEPTED, Json(started)))
}

fn no_backtest() -> ApiError {
    ApiError::new(Code::NotFound, "there is no such backtest: the last 32 are kept")
}

/// How far a backtest is, and what it found.
#[utoipa::path(get, path = "/api/rules/backtest/{id}", tag = "rules",
    params(("id" = Uuid, Path, description = "The backtest's id")),
    responses((status = 200, body = Backtest), (status = 404, body = Problem)))]
pub(super) async fn backtest_get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Backtest>, ApiError> {
    let id: Uuid = id.parse().map_err(|_| no_backtest())?;
    app.backtests.get(id, caller.user.id).map(Json).ok_or_else(no_backtest)
}

/// Cancel a backtest.
#[utoipa::path(delete, path = "/api/rules/backtest/{id}", tag = "rules",
    params(("id" = Uuid, Path, description = "The backtest's id")),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn backtest_cancel(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.require(Role::Operator)?;
    let id: Uuid = id.parse().map_err(|_| no_backtest())?;
    match app.backtests.cancel(id, caller.user.id) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(no_backtest()),
    }
}
