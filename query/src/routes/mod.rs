//! The routes, each with its OpenAPI description beside it.

mod auth;
mod devices;
mod keys;
mod sql;
mod system;

use std::sync::Arc;

use acuvim_schemas::problem::Code;
use axum::Router;
use utoipa::{
    Modify, OpenApi,
    openapi::security::{Http, HttpAuthScheme, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::SwaggerUi;

use crate::{App, System, problem::ApiError};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tau Acuvim",
        description = "The backend for fleets of ESP32 loggers on Acuvim II power meters.",
        license(name = "Apache-2.0")
    ),
    modifiers(&Security),
    security(("bearer" = [])),
)]
struct Document;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let mut bearer = Http::new(HttpAuthScheme::Bearer);
        bearer.description = Some("A token from /api/auth/login, or an API key".to_owned());
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

fn api() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(auth::login))
        .routes(routes!(auth::refresh))
        .routes(routes!(auth::logout))
        .routes(routes!(auth::me))
        .routes(routes!(auth::password))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::delete))
        .routes(routes!(devices::list))
        .routes(routes!(devices::get))
        .routes(routes!(devices::latest))
        .routes(routes!(devices::credentials))
        .routes(routes!(sql::run))
        .routes(routes!(sql::tables))
        .routes(routes!(system::livez))
        .routes(routes!(system::readyz))
        .routes(routes!(system::metrics))
}

/// The OpenAPI document that is served at `/api/openapi.json`.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    api().split_for_parts().1
}

pub(crate) fn router(app: Arc<App>) -> Router {
    let (routes, document) = api().split_for_parts();
    routes
        .with_state(app)
        .merge(SwaggerUi::new("/swagger").url("/api/openapi.json", document))
        .fallback(async || ApiError::new(Code::NotFound, "there is no such route; see /swagger"))
        .method_not_allowed_fallback(async || {
            ApiError::new(Code::MethodNotAllowed, "the route takes another method; see /swagger")
        })
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

/// The cursor behind a page that is full: the last item's key.
fn next_cursor<T>(items: &[T], limit: i64, key: impl Fn(&T) -> String) -> Option<String> {
    let full = i64::try_from(items.len()).is_ok_and(|n| n == limit);
    items.last().filter(|_| full).map(key)
}
