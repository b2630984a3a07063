//! The routes, each with its OpenAPI description beside it.

mod alerts;
mod answer;
mod auth;
mod commands;
mod completeness;
mod config;
mod dead_letters;
mod devices;
mod document;
mod firmware;
mod flattened;
mod groups;
mod import;
mod keys;
mod latest;
mod list;
mod live;
mod notifications;
mod page;
mod resource;
mod rollouts;
mod rules;
mod scope_view;
mod silences;
mod sql;
mod stats;
mod system;
mod telemetry;
mod users;

use acuvim_model::problem::Code;
use axum::{Router, extract::DefaultBodyLimit};
use utoipa::OpenApi as _;
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::SwaggerUi;

use crate::{problem::ApiError, state::ApiState, status::System};

type Routes = OpenApiRouter<ApiState>;

/// All routes. They are added in this order, which is that of the document.
fn api() -> Routes {
    let routes = OpenApiRouter::with_openapi(document::Document::openapi());
    let routes = with_accounts(routes);
    let routes = with_devices(routes);
    let routes = with_fleet(routes);
    let routes = with_alerts(routes);
    let routes = with_live_and_firmware(routes);
    with_queries(routes)
}

/// Logging in, users, keys and the audit.
fn with_accounts(routes: Routes) -> Routes {
    routes
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
}

/// Devices, their readings, commands and configuration; imports.
fn with_devices(routes: Routes) -> Routes {
    routes
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
}

/// Groups and the dashboard.
fn with_fleet(routes: Routes) -> Routes {
    routes
        .routes(routes!(groups::list, groups::create))
        .routes(routes!(groups::get, groups::put, groups::patch, groups::delete))
        .routes(routes!(groups::members))
        .routes(routes!(groups::command))
        .routes(routes!(groups::summary))
        .routes(routes!(groups::summary_devices))
        .routes(routes!(groups::dashboard))
        .routes(routes!(stats::stats))
}

/// Alerts, rules, silences, dead letters and notifications.
fn with_alerts(routes: Routes) -> Routes {
    routes
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
        .routes(routes!(dead_letters::replay))
        .routes(routes!(notifications::list, notifications::create))
        .routes(routes!(notifications::get, notifications::delete))
        .routes(routes!(notifications::test))
        .routes(routes!(notifications::deliveries))
}

/// Live events, firmware and rollouts.
fn with_live_and_firmware(routes: Routes) -> Routes {
    routes
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
}

/// Completeness, SQL and the state of the process.
fn with_queries(routes: Routes) -> Routes {
    routes
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
    document::name_operations(&mut document);
    document::add_errors(&mut document);
    flattened::write_out(&mut document);
    document
}

/// Bytes of a form beside its image. Most of them are thrown away: a client that sends too much gets an answer
/// and no broken connection.
const BESIDE_IMAGE: u64 = 16 << 20;

/// All routes of the API. `firmware_slot` is the size of the largest image in bytes.
pub(crate) fn router(state: ApiState, firmware_slot: u64) -> Router {
    let (routes, document) = api().split_for_parts();
    // For the form of an upload alone: every other body is read with a smaller limit of its own.
    let form = firmware_slot + BESIDE_IMAGE;
    routes
        .with_state(state)
        .layer(DefaultBodyLimit::max(usize::try_from(form).unwrap_or(usize::MAX)))
        .merge(page::router())
        .merge(SwaggerUi::new("/swagger").url("/api/openapi.json", described(document)))
        .fallback(async || ApiError::new(Code::NotFound, "there is no such route; see /swagger"))
        .method_not_allowed_fallback(async || {
            ApiError::new(Code::MethodNotAllowed, "the route takes another method; see /swagger")
        })
}

/// What devices reach over plain HTTP, where that is switched on.
pub(crate) fn device_router(state: ApiState) -> Router {
    use axum::routing::get;
    Router::new()
        .route("/api/firmware/check", get(firmware::plain_check))
        .route("/api/firmware/download/{version}", get(firmware::plain_download))
        .with_state(state)
        .fallback(async || ApiError::new(Code::NotFound, "devices find firmware here alone"))
}

/// The routes of a process that does not serve the API: one of other roles, or one that is still starting.
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

#[cfg(test)]
mod tests;
