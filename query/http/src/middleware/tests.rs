//! Limits that every request meets before its handler.

use std::time::Duration;

use axum::body::Body;

use super::*;
use crate::{address::TrustedProxies, testing::Server};

#[test]
fn only_downloads_with_a_token_are_not_counted() {
    let request =
        |uri: &str| Request::builder().uri(uri).body(axum::body::Body::empty()).expect("a request");
    assert!(is_download_by_token(&request("/api/firmware/download/1.2.0?t=x")));
    for counted in ["/api/firmware/download/1.2.0", "/api/firmware/check?t=x", "/api/devices"] {
        assert!(!is_download_by_token(&request(counted)), "{counted}");
    }
}

fn from(path: &str, headers: &[(&str, &str)]) -> axum::http::Request<Body> {
    let mut request = Request::builder().uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).expect("a request")
}

#[tokio::test]
async fn an_address_that_asks_too_often_is_told_to_wait_and_others_are_not() {
    let server = Server::with(|options| {
        options.http.per_address = 1;
        options.http.proxies = TrustedProxies::parse(&["192.0.2.7".to_owned()]).expect("a proxy");
    })
    .await;
    let ask = async |client: &str, path: &str| {
        server.send(from(path, &[("x-forwarded-for", client)])).await
    };
    let mut refused = None;
    for _ in 0..20 {
        let answer = ask("198.51.100.1", "/livez").await;
        if answer.status == 429 {
            refused = Some(answer);
        }
    }
    let refused = refused.expect("the burst is used up");
    refused.problem(429);
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(ask("198.51.100.2", "/livez").await.status, 200);
    let download = ask("198.51.100.1", "/api/firmware/download/1.2.0?t=x").await;
    download.problem(401);
}

#[tokio::test]
async fn a_key_that_asks_too_often_is_told_to_wait_wherever_it_asks_from() {
    let server = Server::with(|options| options.http.per_user = 1).await;
    let mut statuses = std::collections::BTreeMap::new();
    for _ in 0..20 {
        *statuses.entry(server.get(&server.viewer, "/api/auth/me").await.status).or_insert(0) += 1;
    }
    assert!(statuses[&200] >= 5 && statuses[&429] >= 5, "{statuses:?}");
    assert_eq!(server.get(&server.admin, "/api/auth/me").await.status, 200, "another key");
    assert_eq!(server.get("", "/livez").await.status, 200, "who has none is not counted");
}

#[tokio::test]
async fn a_compressed_body_is_not_taken() {
    let server = Server::new().await;
    for encoding in ["gzip", "br", "zstd", "gzip, identity"] {
        let headers = [("content-encoding", encoding), ("x-api-key", server.admin.as_str())];
        server.send(from("/api/sql", &headers)).await.problem(415);
    }
    let plain = server.send(from("/livez", &[("content-encoding", "identity")])).await;
    assert_eq!(plain.status, 200);
}

#[tokio::test]
async fn a_request_has_its_time_and_an_import_as_long_as_it_lasts() {
    let server = Server::with(|options| options.http.request_time = Duration::ZERO).await;
    let answer = server.get(&server.viewer, "/api/devices").await;
    assert!(answer.problem(504).contains("longer than 0 s"), "{}", answer.text());
    // Refused for its content type, and not for its time.
    server.post(&server.admin, "/api/import", serde_json::json!({})).await.problem(415);
}
