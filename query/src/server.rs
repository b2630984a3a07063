//! The HTTP server: takes its listener, and ends when told to.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    http::{HeaderName, HeaderValue, Method, header},
    middleware::{from_fn_with_state, map_response},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower_http::{
    cors::{AllowOrigin, CorsLayer},
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    set_header::SetResponseHeaderLayer,
    timeout::RequestBodyTimeoutLayer,
    trace::{DefaultOnFailure, TraceLayer},
};

use crate::{
    App, ConnectionLimits, System, TrustedProxies, firmware, guard::pass, listen, live,
    modem::few_headers, routes,
};

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
    let guard = Arc::clone(&app.guard);
    let guarded = routes::router(app).layer(from_fn_with_state(Arc::clone(&guard), pass));
    let router = layered(guarded.layer(cors(&guard.limits.cors_origins)));
    let (places, names) = (Arc::clone(&guard.places), listen::HeaderNames::LowerCase);
    listen::serve(listener, router, places, names, stop).await;
    Ok(())
}

/// Serves checks and downloads of firmware to devices alone, over plain HTTP, until `stop`.
///
/// # Errors
/// When the listener fails.
pub async fn serve_devices(
    listener: TcpListener,
    app: Arc<App>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let guard = Arc::clone(&app.guard);
    let places = Arc::clone(&guard.places);
    let router = layered(routes::device_router(app).layer(from_fn_with_state(guard, pass)));
    let router = router.layer(map_response(few_headers));
    listen::serve(listener, router, places, listen::HeaderNames::TitleCase, stop).await;
    Ok(())
}

/// Runs rollouts until `stop`: of all processes that do, one at a time.
pub async fn run_rollouts(app: Arc<App>, stop: CancellationToken) {
    firmware::run_rollouts(app, stop).await;
}

/// Feeds live connections until `stop`, and then lets them go.
pub async fn run_live(app: Arc<App>, stop: CancellationToken) {
    live::run(app, stop).await;
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
    let places = listen::Places::new(ConnectionLimits::default(), TrustedProxies::default());
    listen::serve(listener, router, places, listen::HeaderNames::LowerCase, stop).await;
    Ok(())
}

/// Lets web pages of these origins in; of none, unless set.
fn cors(origins: &[String]) -> CorsLayer {
    let origins: Vec<HeaderValue> = origins.iter().filter_map(|o| o.parse().ok()).collect();
    if origins.is_empty() {
        return CorsLayer::new();
    }
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            HeaderName::from_static("x-api-key"),
            HeaderName::from_static("x-request-id"),
            // SignalR's clients send them.
            HeaderName::from_static("x-requested-with"),
            HeaderName::from_static("x-signalr-user-agent"),
        ])
        .allow_credentials(true)
        .max_age(Duration::from_secs(600))
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
        .layer(fixed(
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; \
             script-src 'self' 'unsafe-inline'; frame-ancestors 'none'",
        ))
        .layer(RequestBodyTimeoutLayer::new(BODY_TIME));
    routes.layer(layers)
}
