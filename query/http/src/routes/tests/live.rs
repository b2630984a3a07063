//! Ways into live events that are closed.

use axum::{body::Body, http::Request};
use serde_json::json;

use crate::testing::{Answer, Server};

async fn events(server: &Server, query: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().uri(format!("/api/events?{query}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    server.send(request.body(Body::empty()).expect("a request")).await
}

#[tokio::test]
async fn a_live_connection_takes_a_token_in_its_url_too() {
    let server = Server::new().await;
    events(&server, "", &[]).await.problem(401);
    events(&server, "access_token=acv_wrong", &[]).await.problem(401);
    // The log's events are not read in this test, which only who is known is told.
    let refused = events(&server, &format!("access_token={}", server.viewer), &[]).await;
    assert!(refused.problem(503).contains("events"), "{}", refused.text());
    let elsewhere = server.get("", &format!("/api/devices?access_token={}", server.viewer)).await;
    elsewhere.problem(401);
}

#[tokio::test]
async fn a_page_of_another_origin_is_refused_even_with_a_token() {
    let server = Server::with(|options| {
        options.live.origins = vec!["https://dash.example".to_owned()];
    })
    .await;
    let from = async |origin: &str| {
        let headers =
            [("origin", origin), ("host", "acuvim.example"), ("x-api-key", server.viewer.as_str())];
        events(&server, "", &headers).await
    };
    from("https://evil.example").await.problem(403);
    from("null").await.problem(403);
    from("https://acuvim.example").await.problem(503);
    from("https://dash.example").await.problem(503);
}

#[tokio::test]
async fn a_subscription_that_cant_be_read_is_a_400() {
    let server = Server::new().await;
    let key = [("x-api-key", server.viewer.as_str())];
    assert_eq!(events(&server, "group_id=7", &key).await.field(), "group_id");
    assert_eq!(events(&server, "max_rate=fast", &key).await.field(), "max_rate");
    assert_eq!(events(&server, "device=d1", &key).await.field(), "device");
}

#[tokio::test]
async fn a_hubs_client_negotiates_and_names_its_connection() {
    let server = Server::new().await;
    let negotiate = "/hubs/devices/negotiate?negotiateVersion=1";
    let one = server.post(&server.viewer, negotiate, json!({})).await.json();
    let other = server.post(&server.viewer, negotiate, json!({})).await.json();
    assert_ne!(one["connectionToken"], other["connectionToken"]);
    let neither = server.get(&server.viewer, "/hubs/devices").await.problem(400);
    assert!(neither.contains("text/event-stream"), "{neither}");
    let say = async |query: &str| {
        server.post(&server.viewer, &format!("/hubs/devices{query}"), json!({})).await
    };
    assert_eq!(say("").await.field(), "id");
    assert_eq!(say("?id=").await.field(), "id");
    assert_eq!(say(&format!("?id={}", "x".repeat(101))).await.field(), "id");
    say("?id=unknown").await.problem(404);
    let long = Request::builder()
        .method("POST")
        .uri("/hubs/devices?id=unknown")
        .header("x-api-key", &server.viewer)
        .body(Body::from(vec![b'x'; ((4 * 32) << 10) + 1]))
        .expect("a request");
    server.send(long).await.problem(413);
}
