//! Liveness, readiness and metrics, without a login.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::status::{Component, System};

/// Whether it is ready, and what is not.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Readiness {
    ready: bool,
    /// Empty when ready.
    not_ready: Vec<Component>,
}

/// Whether the process is alive.
#[utoipa::path(get, path = "/livez", tag = "system", security(()),
    responses((status = 200, description = "It is", content_type = "text/plain", body = String)))]
pub(super) async fn livez() -> &'static str {
    "ok"
}

/// Whether everything works, and what does not.
#[utoipa::path(get, path = "/readyz", tag = "system", security(()),
    responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
pub(super) async fn readyz(State(system): State<System>) -> Response {
    let status = (system.status)();
    let mut not_ready = status.not_ready;
    if let Some(reason) = status.not_hot {
        not_ready.push(Component { component: "processor".to_owned(), reason });
    }
    if not_ready.is_empty() {
        return Json(Readiness { ready: true, not_ready }).into_response();
    }
    let retry = [(header::RETRY_AFTER, "2")];
    let body = Json(Readiness { ready: false, not_ready });
    (StatusCode::SERVICE_UNAVAILABLE, retry, body).into_response()
}

/// The metrics, in Prometheus' text form.
#[utoipa::path(get, path = "/metrics", tag = "system", security(()),
    responses((status = 200, content_type = "text/plain", body = String)))]
pub(super) async fn metrics(State(system): State<System>) -> Response {
    let text = (system.metrics)();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
