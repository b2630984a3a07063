//! The HTTP server: takes its listener, and ends when told to.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower_http::{
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    set_header::SetResponseHeaderLayer,
    timeout::RequestBodyTimeoutLayer,
    trace::{DefaultOnFailure, TraceLayer},
};

use crate::{App, System, routes};

/// How long a client may take to send its body.
const BODY_TIME: Duration = Duration::from_secs(30);

/// Serves the API until `stop`; requests under way are finished first.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    app: Arc<App>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let router = layered(routes::router(app));
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// Serves `/livez`, `/readyz` and `/metrics` alone until `stop`.
///
/// # Errors
/// When the listener fails.
pub async fn serve_system(
    listener: TcpListener,
    system: System,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let router = layered(routes::system_router(system));
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn layered(routes: Router) -> Router {
    let request_id = HeaderName::from_static("x-request-id");
    let fixed =
        |name, value| SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value));
    let trace = TraceLayer::new_for_http()
        .make_span_with(|request: &axum::extract::Request| {
            let id = request.headers().get("x-request-id").and_then(|v| v.to_str().ok());
            tracing::info_span!(
                "request",
                method = %request.method(),
                path = request.uri().path(),
                id = id.unwrap_or_default(),
            )
        })
        .on_failure(DefaultOnFailure::new().level(tracing::Level::DEBUG));
    let layers = ServiceBuilder::new()
        .layer(SetRequestIdLayer::new(request_id.clone(), MakeRequestUuid))
        .layer(trace)
        .layer(PropagateRequestIdLayer::new(request_id))
        .layer(fixed(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(fixed(header::X_FRAME_OPTIONS, "DENY"))
        .layer(fixed(header::REFERRER_POLICY, "no-referrer"))
        .layer(fixed(header::CACHE_CONTROL, "no-store"))
        .layer(RequestBodyTimeoutLayer::new(BODY_TIME));
    routes.layer(layers)
}
