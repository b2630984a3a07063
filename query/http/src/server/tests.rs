//! What every answer has, whatever its route.

use super::*;
use crate::testing::{Answer, Server};

#[tokio::test]
async fn a_request_keeps_a_good_id_and_no_other() {
    let longest = "x".repeat(MAX_REQUEST_ID);
    let too_long = "x".repeat(MAX_REQUEST_ID + 1);
    for (ids, kept) in [
        (vec!["a-1"], true),
        (vec![longest.as_str()], true),
        (vec![too_long.as_str()], false),
        (vec![""], false),
        (vec!["a b"], false),
        (vec!["a\tb"], false),
        (vec!["a", "\u{e9}"], false),
    ] {
        let mut request = Request::new(axum::body::Body::empty());
        for id in &ids {
            let id = HeaderValue::from_bytes(id.as_bytes()).expect("a header");
            request.headers_mut().append(REQUEST_ID, id);
        }
        let request = without_bad_id(request).await;
        assert_eq!(request.headers().contains_key(REQUEST_ID), kept, "{ids:?}");
    }
}

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request {
    let mut request = axum::http::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(axum::body::Body::empty()).expect("a request")
}

async fn send(server: &Server, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    server.send(request(method, path, headers)).await
}

#[tokio::test]
async fn every_answer_has_an_id_and_tells_browsers_to_be_careful() {
    let server = Server::new().await;
    for path in ["/livez", "/api/devices", "/nowhere", "/", "/api/openapi.json"] {
        let answer = send(&server, "GET", path, &[("x-request-id", "mine-1")]).await;
        assert_eq!(answer.header("x-request-id"), "mine-1", "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        assert!(
            answer.header("content-security-policy").contains("frame-ancestors 'none'"),
            "{path}"
        );
        let expected = if path == "/" { "no-cache" } else { "no-store" };
        assert_eq!(answer.header("cache-control"), expected, "{path}");
    }
    let own = send(&server, "GET", "/livez", &[("x-request-id", "a b")]).await;
    assert_eq!(own.header("x-request-id").len(), 36, "{}", own.header("x-request-id"));
}

#[tokio::test]
async fn what_is_no_route_is_a_problem_too() {
    let server = Server::new().await;
    let none = send(&server, "GET", "/api/nowhere", &[]).await.problem(404);
    assert!(none.contains("/swagger"), "{none}");
    for (method, path) in
        [("POST", "/livez"), ("DELETE", "/api/devices"), ("PUT", "/api/auth/login")]
    {
        let other = send(&server, method, path, &[]).await;
        assert!(other.problem(405).contains("/swagger"), "{method} {path}");
    }
}

#[tokio::test]
async fn pages_of_origins_that_are_named_may_use_the_api_and_no_others() {
    let none = Server::new().await;
    let ours = ("origin", "https://dash.example");
    let method = ("access-control-request-method", "PATCH");
    let refused = send(&none, "OPTIONS", "/api/devices/d1", &[ours, method]).await;
    assert_eq!(refused.header("access-control-allow-origin"), "");
    let server = Server::with(|options| {
        options.http.cors_origins = vec!["https://dash.example".to_owned(), "\n".to_owned()];
    })
    .await;
    let preflight = send(&server, "OPTIONS", "/api/devices/d1", &[ours, method]).await;
    assert_eq!(preflight.status, 200, "a preflight has no token");
    assert_eq!(preflight.header("access-control-allow-origin"), "https://dash.example");
    assert!(preflight.header("access-control-allow-methods").contains("PATCH"));
    assert!(preflight.header("access-control-allow-headers").contains("x-api-key"));
    let evil =
        send(&server, "OPTIONS", "/api/devices/d1", &[("origin", "https://evil.example"), method])
            .await;
    assert_eq!(evil.header("access-control-allow-origin"), "");
    let refused = send(&server, "GET", "/api/devices", &[ours]).await;
    assert_eq!(
        (refused.status, refused.header("access-control-allow-origin")),
        (401, "https://dash.example")
    );
}

#[tokio::test]
async fn readiness_names_what_is_not_ready_and_says_when_to_ask_again() {
    let server = Server::new().await;
    assert_eq!(send(&server, "GET", "/readyz", &[]).await.json()["ready"], true);
    {
        let mut status = server.status.lock().expect("a status");
        status.not_hot = Some("partition 3 is being read".to_owned());
        let reason = "connection refused".to_owned();
        status.not_ready = vec![crate::Component { component: "log".to_owned(), reason }];
    }
    let waiting = send(&server, "GET", "/readyz", &[]).await;
    assert_eq!((waiting.status, waiting.header("retry-after")), (503, "2"));
    let shown: serde_json::Value = serde_json::from_slice(&waiting.body).expect("JSON");
    let components: Vec<_> = shown["not_ready"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|c| c["component"].clone())
        .collect();
    assert_eq!(components, ["log", "processor"]);
    assert_eq!(send(&server, "GET", "/livez", &[]).await.text(), "ok", "it is alive all the same");
    let metrics = send(&server, "GET", "/metrics", &[]).await;
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4");
}

#[tokio::test]
async fn a_process_without_the_api_says_so() {
    use tower::ServiceExt as _;
    let system =
        System { status: Arc::new(crate::Status::default), metrics: Arc::new(String::new) };
    let router = layered(routes::system_router(system));
    let ask = async |path: &str| {
        let answer = router.clone().oneshot(request("GET", path, &[])).await.expect("an answer");
        answer.status().as_u16()
    };
    assert_eq!((ask("/livez").await, ask("/readyz").await, ask("/metrics").await), (200, 200, 200));
    assert_eq!(ask("/api/devices").await, 503, "and not a 404, after which nobody asks again");
}

#[tokio::test]
async fn the_page_runs_no_script_but_its_own() {
    let server = Server::new().await;
    for (path, media_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/page/page.js", "text/javascript; charset=utf-8"),
        ("/page/page.css", "text/css; charset=utf-8"),
    ] {
        let file = send(&server, "GET", path, &[]).await;
        assert_eq!((file.status, file.header("content-type")), (200, media_type));
        let policy = file.header("content-security-policy");
        assert!(policy.contains("script-src 'self'") && !policy.contains("unsafe"), "{policy}");
    }
    let html = send(&server, "GET", "/", &[]).await.text();
    for inline in ["<style", " style=", " onclick=", "<script>"] {
        assert!(!html.contains(inline), "{inline} would be blocked");
    }
}
