//! The routes with everything around them, over temporary stores: what holds of every route by itself is read
//! from the OpenAPI document, so that a new route is tested before anybody thinks of it.

mod accounts;
mod alerts;
mod commands;
mod devices;
mod firmware;
mod groups;
mod live;
mod queries;
mod roles;

use serde_json::Value;
use uuid::Uuid;

use crate::testing::Server;

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// A route as the document has it.
struct Route {
    method: &'static str,
    path: String,
    operation: Value,
}

impl Route {
    /// The path with something in place of its variable parts.
    fn filled(&self) -> String {
        let nil = Uuid::nil().to_string();
        [
            ("{device_id}", "d1"),
            ("{version}", "1.2.0"),
            ("{id}", nil.as_str()),
            ("{request_id}", nil.as_str()),
        ]
        .into_iter()
        .chain([("{group_command}", nil.as_str())])
        .fold(self.path.clone(), |path, (name, value)| path.replace(name, value))
    }

    fn takes_no_login(&self) -> bool {
        !self.operation["security"].is_null()
    }

    fn query_params(&self) -> impl Iterator<Item = &str> {
        let params = self.operation["parameters"].as_array().into_iter().flatten();
        params.filter(|p| p["in"] == "query").filter_map(|p| p["name"].as_str())
    }
}

fn routes() -> Vec<Route> {
    let document = serde_json::to_value(super::openapi()).expect("JSON");
    let paths = document["paths"].as_object().expect("paths").clone();
    let all = paths.into_iter().flat_map(|(path, item)| {
        METHODS.into_iter().filter_map(move |method| {
            let operation = item.get(method)?.clone();
            Some(Route { method, path: path.clone(), operation })
        })
    });
    all.collect()
}

#[tokio::test]
async fn every_route_but_a_few_takes_a_login() {
    let server = Server::new().await;
    let mut open = Vec::new();
    for route in routes() {
        if route.takes_no_login() {
            open.push(format!("{} {}", route.method, route.path));
            continue;
        }
        for key in ["", "acv_0123456789", "a.b.c"] {
            let answer = server.ask(key, &route.method.to_uppercase(), &route.filled(), None).await;
            answer.problem(401);
            assert_eq!(
                answer.header("www-authenticate"),
                "Bearer",
                "{} {}",
                route.method,
                route.path
            );
        }
    }
    let expected = [
        "post /api/auth/login",
        "post /api/auth/logout",
        "post /api/auth/refresh",
        "get /livez",
        "get /metrics",
        "get /readyz",
    ];
    open.sort_unstable();
    let mut expected = expected.map(str::to_owned).to_vec();
    expected.sort_unstable();
    assert_eq!(open, expected);
}

#[tokio::test]
async fn an_unknown_parameter_is_a_400_on_every_route_that_has_some() {
    let server = Server::new().await;
    let mut tried = 0;
    for route in routes() {
        // Clients of SignalR add parameters of their own.
        if route.query_params().next().is_none() || route.path.starts_with("/hubs/") {
            continue;
        }
        let path = format!("{}?nonsense=1", route.filled());
        let answer = server.ask(&server.admin, &route.method.to_uppercase(), &path, None).await;
        assert_eq!(answer.field(), "nonsense", "{} {path}", route.method);
        tried += 1;
    }
    assert!(tried > 25, "{tried}");
}

#[tokio::test]
async fn a_page_has_at_least_one_item_and_a_bounded_number() {
    let server = Server::new().await;
    server.device("d1").await;
    let mut tried = 0;
    for route in routes() {
        if !route.query_params().any(|name| name == "limit") {
            continue;
        }
        for limit in ["0", "-1", "20001", "x", ""] {
            let path = format!("{}?limit={limit}", route.filled());
            let answer = server.get(&server.admin, &path).await;
            assert_eq!(answer.field(), "limit", "{path}: {}", answer.text());
        }
        tried += 1;
    }
    assert!(tried > 15, "{tried}");
}

#[tokio::test]
async fn a_cursor_that_nobody_gave_out_is_never_our_fault() {
    let server = Server::new().await;
    server.device("d1").await;
    for route in routes() {
        if !route.query_params().any(|name| name == "cursor") {
            continue;
        }
        for cursor in ["x", "%00", "-1", "1_2", "bnVsbA", "W10", "WzEsIngiXQ", "%F0%9F%92%A9"] {
            let path = format!("{}?cursor={cursor}", route.filled());
            let answer = server.get(&server.admin, &path).await;
            assert!([200, 400, 404].contains(&answer.status), "{path}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn everything_that_is_read_without_an_id_answers_over_empty_stores() {
    let server = Server::new().await;
    let mut read = 0;
    for route in routes() {
        let is_stream = route.path == "/api/events" || route.path.starts_with("/hubs/");
        if route.method != "get" || route.path.contains('{') || is_stream {
            continue;
        }
        let answer = server.get(&server.admin, &route.path).await;
        assert_eq!(answer.status, 200, "{}: {}", route.path, answer.text());
        read += 1;
    }
    assert!(read >= 18, "{read}");
}

#[tokio::test]
async fn a_path_with_a_text_that_is_no_id_is_a_404_or_a_400_and_a_problem() {
    let server = Server::new().await;
    for route in routes() {
        if !route.path.contains('{') {
            continue;
        }
        let mut path = route.path.clone();
        for name in ["{device_id}", "{version}", "{id}", "{request_id}", "{group_command}"] {
            path = path.replace(name, "%FF");
        }
        let answer = server.ask(&server.admin, &route.method.to_uppercase(), &path, None).await;
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
        assert!((400..500).contains(&answer.status), "{path}: {}", answer.text());
    }
    for path in [
        "/api/devices/a%20b",
        "/api/devices/%27%20OR%201=1",
        "/api/devices/..%2f..",
        "/api/alerts/7",
    ] {
        server.get(&server.admin, path).await.problem(404);
    }
}
