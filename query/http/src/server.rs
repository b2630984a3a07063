//! The HTTP servers: each serves a listener until it is cancelled.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::{HeaderName, HeaderValue, Method, header},
    middleware::{from_fn_with_state, map_request, map_response},
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
    address::TrustedProxies,
    listen::{self, ConnectionLimits, ConnectionSlots, HeaderNames},
    middleware::pass,
    modem_headers::few_headers,
    routes,
    state::Api,
    status::System,
};

/// The header of a request's id.
const REQUEST_ID: &str = "x-request-id";

/// How long a client may pause while it sends its body.
const BODY_TIME: Duration = Duration::from_secs(30);

/// Serves the API until `stop`; requests under way are finished first.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    api: Arc<Api>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let slots = Arc::clone(&api.middleware.slots);
    listen::serve(listener, api_router(&api), slots, HeaderNames::LowerCase, stop).await;
    Ok(())
}

/// The routes of the API with every layer.
pub(crate) fn api_router(api: &Api) -> Router {
    let middleware = api.middleware.clone();
    let routes = routes::router(api.state.clone(), api.firmware_slot);
    // CORS is outside: a preflight request has no token, and browsers hide a refusal without its headers.
    let cors = cors(&middleware.limits.cors_origins);
    layered(routes.layer(from_fn_with_state(middleware, pass)).layer(cors))
}

/// Serves checks and downloads of firmware to devices alone, over plain HTTP, until `stop`.
///
/// # Errors
/// When the listener fails.
pub async fn serve_devices(
    listener: TcpListener,
    api: Arc<Api>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let slots = Arc::clone(&api.middleware.slots);
    listen::serve(listener, device_router(&api), slots, HeaderNames::TitleCase, stop).await;
    Ok(())
}

/// The routes for devices with every layer.
pub(crate) fn device_router(api: &Api) -> Router {
    let routes = routes::device_router(api.state.clone());
    let routes = routes.layer(from_fn_with_state(api.middleware.clone(), pass));
    // Outermost: the layers below add headers that a modem has no room for.
    layered(routes).layer(map_response(few_headers))
}

/// Runs rollouts until `stop`: of all processes that do, one at a time.
pub async fn run_rollouts(api: Arc<Api>, stop: CancellationToken) {
    api.rollout_runner().run(stop).await;
}

/// Feeds live connections until `stop`, and then closes them.
pub async fn run_live(api: Arc<Api>, stop: CancellationToken) {
    acuvim_query_live::run(api.live(), stop).await;
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
    // Only load balancers, orchestrators and collectors of metrics connect here.
    let limits = ConnectionLimits { all: 64, of_one_address: 32, ..ConnectionLimits::default() };
    let slots = ConnectionSlots::new(limits, TrustedProxies::default());
    listen::serve(listener, router, slots, HeaderNames::LowerCase, stop).await;
    Ok(())
}

/// Lets web pages of these origins use the API.
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
            HeaderName::from_static(REQUEST_ID),
            // SignalR's clients send them.
            HeaderName::from_static("x-requested-with"),
            HeaderName::from_static("x-signalr-user-agent"),
        ])
        .allow_credentials(true)
        .max_age(Duration::from_secs(600))
}

/// The layers of every router: ids of requests, spans, fixed headers, and a time limit for bodies.
fn layered(routes: Router) -> Router {
    let request_id = HeaderName::from_static(REQUEST_ID);
    let fixed =
        |name, value| SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value));
    let trace = TraceLayer::new_for_http()
        .make_span_with(|request: &Request| {
            let id = request.headers().get(REQUEST_ID).and_then(|v| v.to_str().ok());
            tracing::info_span!(
                "request",
                method = %request.method(),
                path = request.uri().path(),
                id = id.unwrap_or_default(),
            )
        })
        // A failure is logged with its cause where it arises; once more as an error would only repeat it.
        .on_failure(DefaultOnFailure::new().level(tracing::Level::DEBUG));
    let layers = ServiceBuilder::new()
        .layer(SetRequestIdLayer::new(request_id.clone(), MakeRequestUuid))
        .layer(trace)
        .layer(PropagateRequestIdLayer::new(request_id))
        .layer(fixed(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(fixed(header::X_FRAME_OPTIONS, "DENY"))
        .layer(fixed(header::REFERRER_POLICY, "no-referrer"))
        // An answer is for one caller: a proxy must not keep it for another.
        .layer(fixed(header::CACHE_CONTROL, "no-store"))
        // Swagger's page has scripts and styles inline; the live page sets a stricter policy itself.
        .layer(fixed(
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; \
             script-src 'self' 'unsafe-inline'; frame-ancestors 'none'",
        ))
        .layer(RequestBodyTimeoutLayer::new(BODY_TIME));
    // Outermost, because the layer that sets an id keeps one that is there already.
    routes.layer(layers).layer(map_request(without_bad_id))
}

/// The longest id that a client may give its request: it goes into every log line and the audit.
const MAX_REQUEST_ID: usize = 128;

/// Removes a request's id that is too long or has characters that a log can't show. The request then gets an
/// id of ours.
async fn without_bad_id(mut request: Request) -> Request {
    let is_good = |id: &HeaderValue| {
        (1..=MAX_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    let headers = request.headers_mut();
    if !headers.get_all(REQUEST_ID).iter().all(is_good) {
        headers.remove(REQUEST_ID);
    }
    request
}

#[cfg(test)]
mod tests;
