//! Devices: made, changed, listed, replaced, imported and forgotten.

use acuvim_model::Role;
use axum::{body::Body, http::Request};
use serde_json::{Value, json};

use crate::testing::{Answer, Server};

#[tokio::test]
async fn a_device_is_made_once_and_its_secret_is_shown_once() {
    let server = Server::new().await;
    let body = json!({"device_id": "d1", "name": "Feeder 2", "tags": ["roof"]});
    let made = server.post(&server.admin, "/api/devices", body.clone()).await;
    assert_eq!(made.status, 201);
    let made = made.json();
    let secret = made["credentials"]["password"].as_str().expect("a secret");
    assert_eq!(made["credentials"]["username"], "d1");
    assert!(server.control.is_device_secret("d1", secret).await.expect("control answers"));
    server.post(&server.admin, "/api/devices", body).await.problem(409);
    for path in ["/api/devices/d1", "/api/devices", "/api/audit"] {
        assert!(!server.get(&server.admin, path).await.text().contains(secret), "{path}");
    }
    for (bad, field) in [
        (json!({"device_id": "a/b"}), "device_id"),
        (json!({"device_id": "d2", "nominal_voltage_v": 1}), "nominal_voltage_v"),
        (json!({"device_id": "d2", "group_id": uuid::Uuid::nil()}), "group_id"),
        (json!({"device_id": "d2", "colour": 1}), "colour"),
        (json!({}), "device_id"),
    ] {
        assert_eq!(server.post(&server.admin, "/api/devices", bad).await.field(), field);
    }
    assert_eq!(server.get(&server.admin, "/api/devices").await.json()["total"], 1);
}

#[tokio::test]
async fn a_put_empties_what_is_absent_and_a_patch_leaves_it() {
    let server = Server::new().await;
    server.device("d1").await;
    let path = "/api/devices/d1";
    let whole = json!({"name": "Feeder 2", "tags": ["roof"], "nominal_voltage_v": 230.0, "time_zone": "Africa/Johannesburg"});
    let device = server.put(&server.operator, path, whole).await.json();
    assert_eq!(
        (&device["name"], &device["nominal_voltage_v"]),
        (&json!("Feeder 2"), &json!(230.0))
    );
    let device = server.patch(&server.operator, path, json!({"name": null})).await.json();
    assert_eq!((&device["name"], &device["tags"]), (&Value::Null, &json!(["roof"])));
    let mut sent_back = device.clone();
    sent_back["name"] = json!("Feeder 3");
    sent_back.as_object_mut().expect("an object").remove("enabled");
    let device = server.put(&server.operator, path, sent_back).await.json();
    assert_eq!(device["nominal_voltage_v"], 230.0, "what was read may be sent back");
    let device = server.put(&server.operator, path, json!({})).await.json();
    assert_eq!((&device["name"], &device["tags"]), (&Value::Null, &json!([])));
    assert_eq!(device["enabled"], true, "a PUT without it does not disable a device");
    assert_eq!(
        server.patch(&server.operator, path, json!({"device_id": "d2"})).await.field(),
        "device_id"
    );
    assert_eq!(
        server.patch(&server.operator, path, json!({"time_zone": "Mars/Base"})).await.field(),
        "time_zone"
    );
    server.patch(&server.operator, "/api/devices/none", json!({})).await.problem(404);
}

#[tokio::test]
async fn a_caller_with_a_scope_moves_devices_only_between_groups_that_it_sees() {
    let server = Server::new().await;
    server.device("mine").await;
    let group = async |name: &str| {
        let made = server.post(&server.operator, "/api/groups", json!({"name": name})).await.json();
        made["id"].as_str().expect("an id").to_owned()
    };
    let (ours, theirs) = (group("ours").await, group("theirs").await);
    let scope = json!({"device_ids": ["mine"], "group_ids": [ours]});
    let scope = serde_json::from_value(scope).expect("a scope");
    let scoped = server.key(Role::Operator, Some(scope)).await;
    let into =
        async |id: &str| server.patch(&scoped, "/api/devices/mine", json!({"group_id": id})).await;
    assert_eq!(into(&theirs).await.field(), "group_id");
    assert_eq!(into(&ours).await.json()["group_id"], ours.as_str());
}

#[tokio::test]
async fn the_list_is_sorted_filtered_and_walked_in_every_order() {
    let server = Server::new().await;
    for (id, name) in [("d1", "Zebra"), ("d2", "Ape"), ("d3", "ape 2")] {
        server.device(id).await;
        server
            .patch(
                &server.operator,
                &format!("/api/devices/{id}"),
                json!({"name": name, "tags": [id]}),
            )
            .await
            .json();
    }
    let ids = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().expect("items").iter();
        items.map(|device| device["device_id"].as_str().expect("an id").to_owned()).collect()
    };
    for sort in [
        "device_id",
        "-device_id",
        "name",
        "-name",
        "status",
        "firmware_version",
        "created_at",
        "-created_at",
        "last_heartbeat",
        "-last_telemetry",
    ] {
        let whole = server.get(&server.viewer, &format!("/api/devices?sort={sort}")).await.json();
        let (mut walked, mut path) = (Vec::new(), format!("/api/devices?limit=1&sort={sort}"));
        for _ in 0..5 {
            let page = server.get(&server.viewer, &path).await.json();
            assert_eq!(page["total"], 3, "{path}");
            walked.extend(ids(&page));
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            path = format!("/api/devices?limit=1&sort={sort}&cursor={cursor}");
        }
        assert_eq!(walked, ids(&whole), "{sort}");
        assert_eq!(walked.len(), 3, "{sort}");
    }
    for (query, want) in [
        ("q=APE", vec!["d2", "d3"]),
        ("q=%25", vec![]),
        ("tag=d3", vec!["d3"]),
        ("status=offline&q=zeb", vec!["d1"]),
        ("status=online", vec![]),
        ("firmware_version=1.0.0", vec![]),
    ] {
        let page = server.get(&server.viewer, &format!("/api/devices?{query}")).await.json();
        assert_eq!(ids(&page), want, "{query}");
    }
    for (query, field) in [
        ("sort=colour", "sort"),
        ("sort=--name", "sort"),
        ("status=away", "status"),
        ("cursor=x", "cursor"),
        ("group_id=x", "group_id"),
    ] {
        assert_eq!(
            server.get(&server.viewer, &format!("/api/devices?{query}")).await.field(),
            field,
            "{query}"
        );
    }
    let first = server.get(&server.viewer, "/api/devices?limit=1&sort=name").await.json();
    let cursor = first["next_cursor"].as_str().expect("a cursor");
    let other = format!("/api/devices?limit=1&sort=created_at&cursor={cursor}");
    server.get(&server.viewer, &other).await.problem(400);
}

#[tokio::test]
async fn a_secret_is_made_anew_and_taken_away() {
    let server = Server::new().await;
    let first = server.device("d1").await;
    let path = "/api/devices/d1/credentials";
    let made = server.ask(&server.admin, "POST", path, None).await;
    assert_eq!(made.status, 201);
    let second = made.json()["password"].as_str().expect("a secret").to_owned();
    let is_secret = async |secret: &str| {
        server.control.is_device_secret("d1", secret).await.expect("control answers")
    };
    assert!(!is_secret(&first).await && is_secret(&second).await);
    assert_eq!(server.delete(&server.admin, path).await.status, 204);
    assert!(!is_secret(&second).await);
    let none = server.delete(&server.admin, path).await.problem(404);
    assert!(none.contains("no secret"), "{none}");
    let bad = server.ask(&server.admin, "POST", "/api/devices/a%20b/credentials", None).await;
    assert_eq!(bad.field(), "device_id");
}

#[tokio::test]
async fn a_new_logger_takes_the_place_of_an_old_one() {
    let server = Server::new().await;
    let secret = server.device("old").await;
    server.patch(&server.operator, "/api/devices/old", json!({"name": "Feeder 2"})).await.json();
    let replace = async |new: &str| {
        server.post(&server.admin, "/api/devices/old/replace", json!({"new_device_id": new})).await
    };
    assert_eq!(replace("a b").await.field(), "new_device_id");
    let made = replace("new").await.json();
    assert_eq!(
        (&made["device"]["name"], &made["device"]["replaces"]),
        (&json!("Feeder 2"), &json!("old"))
    );
    assert!(!server.control.is_device_secret("old", &secret).await.expect("control answers"));
    replace("newer").await.problem(409);
}

#[tokio::test]
async fn a_logger_that_replaced_another_answers_with_that_ones_last_reading_until_it_has_one() {
    let server = Server::new().await;
    server.device("old").await;
    server.get(&server.viewer, "/api/devices/old/telemetry").await.problem(404);
    let at = |seconds| (chrono::Utc::now() - chrono::TimeDelta::seconds(seconds)).to_rfc3339();
    server.telemetry("old", &json!({"ts": at(60), "voltage_l1_v": 230}).to_string());
    let body = json!({"new_device_id": "new"});
    server.post(&server.admin, "/api/devices/old/replace", body).await.json();
    let latest = server.get(&server.viewer, "/api/devices/new/telemetry").await.json();
    assert_eq!(latest["device_id"], "old");
    server.telemetry("new", &json!({"ts": at(0), "voltage_l1_v": 231}).to_string());
    let latest = server.get(&server.viewer, "/api/devices/new/telemetry").await.json();
    assert_eq!(latest["device_id"], "new");
    server.status.lock().expect("a status").not_hot = Some("the tail is being read".to_owned());
    let answer = server.get(&server.viewer, "/api/devices/new/telemetry").await;
    answer.problem(503);
    assert_eq!(answer.header("retry-after"), "2");
}

async fn import(server: &Server, content_type: &str, file: &str) -> Answer {
    let request = Request::builder()
        .method("POST")
        .uri("/api/devices/import")
        .header("x-api-key", &server.admin)
        .header("content-type", content_type)
        .body(Body::from(file.to_owned()))
        .expect("a request");
    server.send(request).await
}

#[tokio::test]
async fn a_file_of_devices_is_made_with_a_secret_for_each() {
    let server = Server::new().await;
    server.device("there").await;
    let file = "device_id,name,tags\nd1,\"Feeder, 2\",a; ;b;\nthere,,\n-1,,\n";
    let made = import(&server, "Text/CSV; charset=utf-8", file).await;
    assert_eq!(made.status, 200, "{}", made.text());
    assert_eq!(made.header("content-type"), "text/csv; charset=utf-8");
    let text = made.text();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines[0], ["device_id", "mqtt_username", "mqtt_password", "result"]);
    assert_eq!((lines[1][0], lines[1][3]), ("d1", "created"));
    assert!(server.control.is_device_secret("d1", lines[1][2]).await.expect("control answers"));
    assert_eq!(lines[2], ["there", "", "", "it is there already"]);
    assert_eq!(lines[3][3], "created");
    let device = server.get(&server.viewer, "/api/devices/d1").await.json();
    assert_eq!((&device["name"], &device["tags"]), (&json!("Feeder, 2"), &json!(["a", "b"])));
}

#[tokio::test]
async fn of_a_file_with_a_bad_line_no_device_is_made() {
    let server = Server::new().await;
    assert_eq!(import(&server, "text/csv", "device_id\nd1\nd 2\n").await.field(), "line 3");
    import(&server, "application/json", "device_id\nd1\n").await.problem(415);
    import(&server, "text/csvx", "device_id\nd1\n").await.problem(415);
    let rows: String = (0..2001).map(|n| format!("d{n}\n")).collect();
    let refused = import(&server, "text/csv", &format!("device_id\n{rows}")).await;
    assert_eq!(refused.field(), "line 2002");
    let long = format!("device_id\n{}", "x".repeat((4 << 20) + 1));
    import(&server, "text/csv", &long).await.problem(413);
    assert_eq!(server.get(&server.viewer, "/api/devices").await.json()["total"], 0);
}

#[tokio::test]
async fn a_device_that_is_forgotten_is_gone_with_its_secret() {
    let server = Server::new().await;
    let secret = server.device("d1").await;
    assert_eq!(server.delete(&server.admin, "/api/devices/d1").await.status, 204);
    server.get(&server.viewer, "/api/devices/d1").await.problem(404);
    server.delete(&server.admin, "/api/devices/d1").await.problem(404);
    assert!(!server.control.is_device_secret("d1", &secret).await.expect("control answers"));
}

#[tokio::test]
async fn a_status_names_the_settings_that_rules_lack() {
    let server = Server::new().await;
    server.device("d1").await;
    let rule = json!({"name": "r", "alert_type": "high", "when": "voltage_l1_v > nominal_voltage_v * 1.1"});
    server.post(&server.operator, "/api/rules", rule).await.json();
    let missing = async || {
        server.get(&server.viewer, "/api/devices/d1/status").await.json()["missing_settings"]
            .clone()
    };
    assert_eq!(missing().await, json!(["nominal_voltage_v"]));
    let group = json!({"name": "g", "nominal_voltage_v": 230});
    let group = server.post(&server.operator, "/api/groups", group).await.json();
    server
        .patch(&server.operator, "/api/devices/d1", json!({"group_id": group["id"]}))
        .await
        .json();
    assert_eq!(missing().await, json!([]), "its group has it");
}
