//! Alert rules, and backtests of them.

use std::sync::Arc;

use acuvim_control::Control;
use acuvim_model::{
    Backtest, BacktestRequest, Page, Role, Rule, RuleBody,
    problem::{Code, Problem},
};
use acuvim_rules::{Compiled, Planner};
use axum::{Json, extract::State, http::StatusCode};
use chrono::TimeDelta;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    list::{NoParams, whole},
    resource::Resource,
    scope_view::ScopeView,
};
use crate::{
    auth::Caller,
    checks,
    clock::now,
    extract::{Body, Params, Path, editable, patched},
    jobs::backtest::{Backtests, NewBacktest, TooManyBacktests, WAITING},
    problem::ApiError,
};

/// The longest range of a backtest: a leap year.
const LONGEST_BACKTEST: TimeDelta = TimeDelta::days(366);

const RULE: Resource = Resource("rule");

async fn find(control: &Control, caller: &Caller, id: &str) -> Result<Rule, ApiError> {
    let mut rule = RULE.found(control.rule(RULE.id(id)?, caller.scope()).await?)?;
    match ScopeView::of(control, caller).await?.narrow(&mut rule.body.scope) {
        true => Ok(rule),
        false => Err(RULE.missing()),
    }
}

/// Checks a rule's form, and compiles its predicates.
fn compiled(planner: &Planner, body: &RuleBody) -> Result<Compiled, ApiError> {
    checks::rule(body)?;
    planner.compile(body).map_err(|fault| {
        let field = fault.field;
        let text = fault.to_string();
        let text = text.strip_prefix(field).unwrap_or(&text).trim_start_matches([':', ' ']);
        ApiError::field(field, text)
    })
}

/// The rules, by name.
#[utoipa::path(get, path = "/api/rules", tag = "rules",
    responses((status = 200, body = Page<Rule>)))]
pub(super) async fn list(
    State(control): State<Control>,
    caller: Caller,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Json<Page<Rule>>, ApiError> {
    let view = ScopeView::of(&control, &caller).await?;
    let mut items = control.rules(caller.scope()).await?;
    items.retain_mut(|rule| view.narrow(&mut rule.body.scope));
    Ok(whole(items))
}

/// Make a rule. One that can't run is a 400 with the place of the fault. It judges what is received
/// from then on.
#[utoipa::path(post, path = "/api/rules", tag = "rules", request_body = RuleBody,
    responses((status = 201, body = Rule), (status = 409, body = Problem)))]
pub(super) async fn create(
    State(control): State<Control>,
    State(planner): State<Arc<Planner>>,
    caller: Caller,
    Body(body): Body<RuleBody>,
) -> Result<(StatusCode, Json<Rule>), ApiError> {
    caller.require_all(Role::Operator)?;
    compiled(&planner, &body)?;
    let id = control.create_rule(&body, &caller.by()).await.map_err(|e| RULE.taken(e))?;
    let rule = RULE.found(control.rule(id, None).await?)?;
    Ok((StatusCode::CREATED, Json(rule)))
}

/// One rule.
#[utoipa::path(get, path = "/api/rules/{id}", tag = "rules",
    params(("id" = Uuid, Path, description = "The rule's id")),
    responses((status = 200, body = Rule), (status = 404, body = Problem)))]
pub(super) async fn get(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Rule>, ApiError> {
    find(&control, &caller, &id).await.map(Json)
}

/// Write a rule anew, as its next version. Its open alerts stay open under it; switched off, they
/// end.
#[utoipa::path(put, path = "/api/rules/{id}", tag = "rules", request_body = RuleBody,
    params(("id" = Uuid, Path, description = "The rule's id")),
    responses((status = 200, body = Rule), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub(super) async fn put(
    State(control): State<Control>,
    State(planner): State<Arc<Planner>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<Map<String, Value>>,
) -> Result<Json<Rule>, ApiError> {
    caller.require_all(Role::Operator)?;
    let rule = find(&control, &caller, &id).await?;
    let body = editable(body, &Rule::READ_ONLY)?;
    compiled(&planner, &body)?;
    write(&control, &caller, &rule, &body).await
}

/// Change some of a rule, as its next version.
#[utoipa::path(patch, path = "/api/rules/{id}", tag = "rules", request_body = RuleBody,
    params(("id" = Uuid, Path, description = "The rule's id")),
    responses((status = 200, body = Rule), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub(super) async fn patch(
    State(control): State<Control>,
    State(planner): State<Arc<Planner>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<Map<String, Value>>,
) -> Result<Json<Rule>, ApiError> {
    caller.require_all(Role::Operator)?;
    let rule = find(&control, &caller, &id).await?;
    let body = patched(&rule, body, &Rule::READ_ONLY)?;
    compiled(&planner, &body)?;
    write(&control, &caller, &rule, &body).await
}

async fn write(
    control: &Control,
    caller: &Caller,
    rule: &Rule,
    body: &RuleBody,
) -> Result<Json<Rule>, ApiError> {
    let updated = control.update_rule(rule.id, body, &caller.by()).await;
    match updated.map_err(|e| RULE.taken(e))? {
        true => RULE.found(control.rule(rule.id, None).await?).map(Json),
        false => Err(RULE.missing()),
    }
}

/// Delete a rule. Its open alerts end with that reason; all of them stay in the lists.
#[utoipa::path(delete, path = "/api/rules/{id}", tag = "rules",
    params(("id" = Uuid, Path, description = "The rule's id")),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn delete(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.require_all(Role::Operator)?;
    let rule = find(&control, &caller, &id).await?;
    RULE.deleted(control.delete_rule(rule.id, &caller.by()).await?)
}

/// Find out what a rule would have done: it runs over the stored readings, in the background.
/// Follow it at `/api/rules/backtest/{id}`.
#[utoipa::path(post, path = "/api/rules/backtest", tag = "rules", request_body = BacktestRequest,
    responses((status = 202, body = Backtest), (status = 404, body = Problem)))]
pub(super) async fn backtest(
    State(control): State<Control>,
    State(planner): State<Arc<Planner>>,
    State(backtests): State<Backtests>,
    caller: Caller,
    Body(request): Body<BacktestRequest>,
) -> Result<(StatusCode, Json<Backtest>), ApiError> {
    caller.require(Role::Operator)?;
    let stored = match request.rule_id {
        Some(id) => Some(find(&control, &caller, &id.to_string()).await?),
        None => None,
    };
    let body = request.rule.clone().or_else(|| stored.as_ref().map(|rule| rule.body.clone()));
    let body = body.ok_or_else(|| ApiError::field("rule", "give a rule or a rule_id"))?;
    let rule = compiled(&planner, &body)?;
    if request.to <= request.from || request.to - request.from > LONGEST_BACKTEST {
        return Err(ApiError::field("to", "later than from, by 366 days at most"));
    }
    let seen = match caller.scope() {
        Some(scope) => Some(control.scoped_device_ids(scope).await?.into_iter().collect()),
        None => None,
    };
    let new = NewBacktest {
        owner: caller.user.id,
        rule,
        stored: stored.map(|rule| rule.id),
        scope: request.scope.unwrap_or(body.scope),
        seen,
        from: request.from.timestamp_micros(),
        to: request.to.timestamp_micros(),
    };
    let started = backtests.start(new, now()).map_err(|TooManyBacktests| {
        let detail = format!("{WAITING} backtests are running or wait; cancel one, or wait");
        ApiError::new(Code::TooManyRequests, detail)
    })?;
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
    State(backtests): State<Backtests>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Backtest>, ApiError> {
    let id: Uuid = id.parse().map_err(|_| no_backtest())?;
    backtests.get(id, caller.user.id).map(Json).ok_or_else(no_backtest)
}

/// Cancel a backtest.
#[utoipa::path(delete, path = "/api/rules/backtest/{id}", tag = "rules",
    params(("id" = Uuid, Path, description = "The backtest's id")),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn backtest_cancel(
    State(backtests): State<Backtests>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.require(Role::Operator)?;
    let id: Uuid = id.parse().map_err(|_| no_backtest())?;
    match backtests.cancel(id, caller.user.id) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(no_backtest()),
    }
}
