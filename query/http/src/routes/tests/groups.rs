//! Groups, their members, and commands to all of them.

use acuvim_model::Role;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::testing::Server;

async fn group(server: &Server, body: Value) -> String {
    let made = server.post(&server.operator, "/api/groups", body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn a_group_has_a_name_of_its_own_and_is_written_whole_or_in_part() {
    let server = Server::new().await;
    let id = group(&server, json!({"name": "North", "nominal_voltage_v": 230})).await;
    group(&server, json!({"name": "South"})).await;
    let path = format!("/api/groups/{id}");
    server.post(&server.operator, "/api/groups", json!({"name": "North"})).await.problem(409);
    server.patch(&server.operator, &path, json!({"name": "South"})).await.problem(409);
    let patched = server.patch(&server.operator, &path, json!({"description": "x"})).await.json();
    assert_eq!((&patched["name"], &patched["nominal_voltage_v"]), (&json!("North"), &json!(230.0)));
    let put =
        server.put(&server.operator, &path, json!({"name": "North 2", "devices": 7})).await.json();
    assert_eq!((&put["nominal_voltage_v"], &put["devices"]), (&Value::Null, &json!(0)));
    assert_eq!(
        server.patch(&server.operator, &path, json!({"devices": 7})).await.field(),
        "devices"
    );
    assert_eq!(server.patch(&server.operator, &path, json!({"name": null})).await.field(), "name");
    assert_eq!(
        server.post(&server.operator, "/api/groups", json!({"name": " x"})).await.field(),
        "name"
    );
    assert_eq!(server.delete(&server.operator, &path).await.status, 204);
    server.delete(&server.operator, &path).await.problem(404);
    server.get(&server.viewer, &path).await.problem(404);
}

#[tokio::test]
async fn members_come_and_go_all_or_none() {
    let server = Server::new().await;
    let id = group(&server, json!({"name": "North"})).await;
    server.device("d1").await;
    server.device("d2").await;
    let path = format!("/api/groups/{id}/members");
    let change = async |body: Value| server.post(&server.operator, &path, body).await;
    assert_eq!(change(json!({"add": ["d1", "d2"]})).await.json()["devices"], 2);
    let unknown = change(json!({"remove": ["d1"], "add": ["none"]})).await;
    assert!(unknown.problem(400).contains("none"));
    let group_path = format!("/api/groups/{id}");
    assert_eq!(server.get(&server.viewer, &group_path).await.json()["devices"], 2);
    assert_eq!(change(json!({"remove": ["d1"]})).await.json()["devices"], 1);
    let many: Vec<String> = (0..1001).map(|n| format!("d{n}")).collect();
    assert_eq!(change(json!({"add": many})).await.field(), "add");
    assert_eq!(change(json!({"remove": many})).await.field(), "remove");
}

#[tokio::test]
async fn a_caller_sees_its_groups_alone_and_adds_no_device_that_it_does_not_see() {
    let server = Server::new().await;
    let (ours, theirs) = (
        group(&server, json!({"name": "ours"})).await,
        group(&server, json!({"name": "theirs"})).await,
    );
    server.device("mine").await;
    server.device("other").await;
    let scope = json!({"device_ids": ["mine"], "group_ids": [ours]});
    let scoped = server.key(Role::Operator, serde_json::from_value(scope).ok()).await;
    let listed = server.get(&scoped, "/api/groups").await.json();
    assert_eq!((listed["total"].as_i64(), &listed["items"][0]["name"]), (Some(1), &json!("ours")));
    for (method, path, body) in [
        ("GET", "", None),
        ("PUT", "", Some(json!({"name": "x"}))),
        ("PATCH", "", Some(json!({}))),
        ("POST", "/members", Some(json!({"add": ["mine"]}))),
        ("POST", "/command", Some(json!({"command": "ping"}))),
        ("POST", "/deploy", Some(json!({"version": "1.2.0"}))),
    ] {
        server
            .ask(&scoped, method, &format!("/api/groups/{theirs}{path}"), body)
            .await
            .problem(404);
    }
    let path = format!("/api/groups/{ours}/members");
    server.post(&scoped, &path, json!({"add": ["other"]})).await.problem(400);
    assert_eq!(server.post(&scoped, &path, json!({"add": ["mine"]})).await.json()["devices"], 1);
}

#[tokio::test]
async fn a_command_to_a_group_is_given_to_each_device_and_followed() {
    let server = Server::new().await;
    let id = group(&server, json!({"name": "North"})).await;
    let path = format!("/api/groups/{id}/command");
    let ping = json!({"command": "ping"});
    server.post(&server.operator, &path, ping.clone()).await.problem(422);
    for device in ["d1", "d2"] {
        server.device(device).await;
    }
    let add = json!({"add": ["d1", "d2"]});
    server.post(&server.operator, &format!("/api/groups/{id}/members"), add).await.json();
    let given = server.post(&server.operator, &path, ping).await;
    assert_eq!(given.status, 202);
    let given = given.json();
    assert_eq!(given["total"], 2);
    let command = given["group_command"].as_str().expect("an id");
    let summary =
        server.get(&server.viewer, &format!("/api/groups/{id}/commands/{command}")).await.json();
    assert_eq!((&summary["command"], &summary["total"]), (&json!("ping"), &json!(2)));
    let devices = format!("/api/groups/{id}/commands/{command}/devices");
    assert_eq!(server.get(&server.viewer, &devices).await.json()["total"], 2);
    let success = format!("{devices}?status=success");
    assert_eq!(server.get(&server.viewer, &success).await.json()["total"], 0);
    let none = format!("/api/groups/{id}/commands/{}", Uuid::nil());
    server.get(&server.viewer, &none).await.problem(404);
    server.get(&server.viewer, &format!("/api/groups/{id}/commands/7")).await.problem(404);
}
