//! The routes, each with its OpenAPI description beside it.

mod alerts;
mod auth;
mod commands;
mod completeness;
mod config;
mod devices;
mod document;
mod firmware;
mod flattened;
mod groups;
mod import;
mod keys;
mod latest;
mod letters;
mod live;
mod notifications;
mod page;
mod rollouts;
mod rules;
mod shown;
mod silences;
mod sql;
mod stats;
mod system;
mod telemetry;
mod users;

use std::sync::Arc;

use acuvim_schemas::{problem::Code, time};
use axum::{Router, extract::DefaultBodyLimit};
use chrono::{DateTime, Datelike as _, Utc};
use utoipa::OpenApi as _;
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::SwaggerUi;

use crate::{App, System, problem::ApiError};

fn api() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(document::Document::openapi())
        .routes(routes!(auth::login))
        .routes(routes!(auth::refresh))
        .routes(routes!(auth::logout))
        .routes(routes!(auth::me))
        .routes(routes!(auth::password))
        .routes(routes!(auth::register))
        .routes(routes!(users::list))
        .routes(routes!(users::get, users::put, users::delete))
        .routes(routes!(users::audit))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::delete))
        .routes(routes!(devices::list, devices::create))
        .routes(routes!(devices::import))
        .routes(routes!(devices::get, devices::put, devices::patch, devices::delete))
        .routes(routes!(devices::status))
        .routes(routes!(devices::latest))
        .routes(routes!(latest::fleet))
        .routes(routes!(import::import))
        .routes(routes!(telemetry::device_history))
        .routes(routes!(telemetry::device_export))
        .routes(routes!(devices::replace))
        .routes(routes!(devices::make_credentials, devices::revoke_credentials))
        .routes(routes!(commands::give))
        .routes(routes!(commands::list))
        .routes(routes!(commands::answers))
        .routes(routes!(commands::get))
        .routes(routes!(config::get, config::set))
        .routes(routes!(config::history))
        .routes(routes!(config::wifi_scan))
        .routes(routes!(groups::list, groups::create))
        .routes(routes!(groups::get, groups::put, groups::patch, groups::delete))
        .routes(routes!(groups::members))
        .routes(routes!(groups::command))
        .routes(routes!(groups::summary))
        .routes(routes!(groups::summary_devices))
        .routes(routes!(groups::dashboard))
        .routes(routes!(stats::stats))
        .routes(routes!(alerts::list))
        .routes(routes!(alerts::acknowledge_many))
        .routes(routes!(alerts::get))
        .routes(routes!(alerts::acknowledge))
        .routes(routes!(alerts::resolve))
        .routes(routes!(alerts::evidence))
        .routes(routes!(alerts::of_device))
        .routes(routes!(rules::list, rules::create))
        .routes(routes!(rules::backtest))
        .routes(routes!(rules::backtest_get, rules::backtest_cancel))
        .routes(routes!(rules::get, rules::put, rules::patch, rules::delete))
        .routes(routes!(silences::list, silences::create))
        .routes(routes!(silences::delete))
        .routes(routes!(letters::replay))
        .routes(routes!(notifications::list, notifications::create))
        .routes(routes!(notifications::get, notifications::delete))
        .routes(routes!(notifications::test))
        .routes(routes!(notifications::deliveries))
        .routes(routes!(live::negotiate))
        .routes(routes!(live::hub, live::say))
        .routes(routes!(live::events))
        .routes(routes!(firmware::list, firmware::upload))
        .routes(routes!(firmware::check))
        .routes(routes!(firmware::download))
        .routes(routes!(rollouts::deploy))
        .routes(routes!(rollouts::deploy_group))
        .routes(routes!(rollouts::list))
        .routes(routes!(rollouts::get))
        .routes(routes!(rollouts::devices))
        .routes(routes!(rollouts::pause))
        .routes(routes!(rollouts::resume))
        .routes(routes!(rollouts::abort))
        .routes(routes!(rollouts::retry))
        .routes(routes!(firmware::get, firmware::put, firmware::delete))
        .routes(routes!(completeness::completeness))
        .routes(routes!(completeness::trace))
        .routes(routes!(sql::run))
        .routes(routes!(sql::tables))
        .routes(routes!(system::livez))
        .routes(routes!(system::readyz))
        .routes(routes!(system::metrics))
}

/// The OpenAPI document that is served at `/api/openapi.json`.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    described(api().split_for_parts().1)
}

fn described(mut document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    document::add_errors(&mut document);
    flattened::write_out(&mut document);
    document
}

/// What of a form is taken beside its image, thrown away for the most part: whoever sends too much is
/// to see the answer.
const BESIDE_IMAGE: u64 = 16 << 20;

pub(crate) fn router(app: Arc<App>) -> Router {
    let (routes, document) = api().split_for_parts();
    let form = app.parts.firmware.slot + BESIDE_IMAGE;
    routes
        .with_state(app)
        .layer(DefaultBodyLimit::max(usize::try_from(form).unwrap_or(usize::MAX)))
        .merge(page::router())
        .merge(SwaggerUi::new("/swagger").url("/api/openapi.json", described(document)))
        .fallback(async || ApiError::new(Code::NotFound, "there is no such route; see /swagger"))
        .method_not_allowed_fallback(async || {
            ApiError::new(Code::MethodNotAllowed, "the route takes another method; see /swagger")
        })
}

/// What devices reach over plain HTTP, where that is switched on.
pub(crate) fn device_router(app: Arc<App>) -> Router {
    use axum::routing::get;
    Router::new()
        .route("/api/firmware/check", get(firmware::plain_check))
        .route("/api/firmware/download/{version}", get(firmware::plain_download))
        .with_state(app)
        .fallback(async || ApiError::new(Code::NotFound, "devices find firmware here alone"))
}

/// What a process answers that serves no API: one of other roles, or one that is still starting.
pub(crate) fn system_router(system: System) -> Router {
    let (routes, _) = OpenApiRouter::new()
        .routes(routes!(system::livez))
        .routes(routes!(system::readyz))
        .routes(routes!(system::metrics))
        .split_for_parts();
    routes.with_state(system).fallback(async || {
        ApiError::new(Code::Unavailable, "this process does not serve the API now; see /readyz")
    })
}

/// Of a route that takes none: an unknown one is a 400 all the same.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NoParams {}

/// How many items a page has, unless the caller says.
const DEFAULT_LIMIT: i64 = 50;

/// At most so many.
const MAX_LIMIT: i64 = 1000;

fn page_limit(asked: Option<i64>) -> Result<i64, ApiError> {
    match asked.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        _ => Err(ApiError::field("limit", format!("1 to {MAX_LIMIT}"))),
    }
}

/// A time of a query: RFC 3339 with a zone, or Unix seconds or milliseconds. A `+` that arrived as
/// a space is understood.
fn moment(field: &str, text: &str) -> Result<DateTime<Utc>, ApiError> {
    let parsed = match text.parse::<f64>() {
        Ok(number) => time::from_unix_number(number),
        Err(_) => time::parse_rfc3339(&text.replace(' ', "+")),
    };
    parsed
        .and_then(time::to_datetime)
        .filter(|at| (1970..=9999).contains(&at.year()))
        .ok_or_else(|| ApiError::field(field, "a time with its zone, such as 2026-05-01T00:00:00Z"))
}

/// The cursor behind a page that is full: the last item's key.
fn next_cursor<T>(items: &[T], limit: i64, key: impl Fn(&T) -> String) -> Option<String> {
    let full = i64::try_from(items.len()).is_ok_and(|n| n == limit);
    items.last().filter(|_| full).map(key)
}

/// A cursor of a time and an id, as `time_cursor_of` wrote it.
fn time_cursor(cursor: &str) -> Result<(DateTime<Utc>, uuid::Uuid), ApiError> {
    let parse = || {
        let (at, id) = cursor.split_once('_')?;
        let at = time::to_datetime(at.parse().ok()?)?;
        (1970..=9999).contains(&at.year()).then_some((at, id.parse().ok()?))
    };
    parse().ok_or_else(|| ApiError::field("cursor", "not a next_cursor of this list"))
}

fn time_cursor_of(at: DateTime<Utc>, id: uuid::Uuid) -> String {
    format!("{}_{id}", at.timestamp_micros())
}
