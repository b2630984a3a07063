//! The live page, which the binary contains: one document, one script, one style sheet, and no build step.

use axum::{
    Router,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
    routing::get,
};

/// Only our own scripts, styles and images, connections to us alone, and no frames.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// The page's files; browsers check for a newer version each time.
pub(super) fn router() -> Router {
    Router::new()
        .route("/", get(async || file("text/html", include_str!("../page/index.html"))))
        .route(
            "/page/page.js",
            get(async || file("text/javascript", include_str!("../page/page.js"))),
        )
        .route("/page/page.css", get(async || file("text/css", include_str!("../page/page.css"))))
}

fn file(media_type: &str, text: &'static str) -> Response {
    let mut response = text.into_response();
    let headers = response.headers_mut();
    if let Ok(media_type) = HeaderValue::from_str(&format!("{media_type}; charset=utf-8")) {
        headers.insert(header::CONTENT_TYPE, media_type);
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // The files have no version in their names, so browsers have to ask whether they have changed.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
