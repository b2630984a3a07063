//! Firmware from the upload to the device, and who may have what.

use acuvim_firmware_registry::Sample;
use axum::{
    body::Body,
    http::{Request, header},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use crate::testing::{Answer, SECRET, Server, image};

const BOUNDARY: &str = "XXBOUNDARYXX";

async fn upload(server: &Server, parts: &[(&str, &[u8])]) -> Answer {
    let mut body = Vec::new();
    for (name, bytes) in parts {
        let head =
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend(format!("--{BOUNDARY}--\r\n").bytes());
    let request = Request::builder()
        .method("POST")
        .uri("/api/firmware")
        .header("x-api-key", &server.operator)
        .header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}"))
        .body(Body::from(body))
        .expect("a request");
    server.send(request).await
}

async fn released(server: &Server, version: &str) -> Value {
    let made = upload(server, &[("version", version.as_bytes()), ("file", &image(version))]).await;
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()
}

/// A GET with these headers.
fn get(path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).expect("a request")
}

fn basic(device_id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{device_id}:{secret}")))
}

/// What a device is offered that runs a version.
async fn check(server: &Server, device_id: &str, secret: &str, running: &str) -> Value {
    let path = format!("/api/firmware/check?current_version={running}");
    server.send(get(&path, &[("authorization", &basic(device_id, secret))])).await.json()
}

fn path_of(url: &Value) -> String {
    let url = url.as_str().expect("a URL");
    url.strip_prefix("http://acuvim.example").expect("our address").to_owned()
}

#[tokio::test]
async fn an_upload_again_is_the_same_release_and_other_bytes_are_a_conflict() {
    let server = Server::new().await;
    let made = released(&server, "1.2.0").await;
    assert_eq!((&made["active"], &made["warnings"]), (&json!(true), &json!([])));
    let (version, bytes) = (("version", &b"1.2.0"[..]), image("1.2.0"));
    let again = upload(&server, &[version, ("file", &bytes)]).await;
    assert_eq!((again.status, &again.json()["id"]), (200, &made["id"]));
    upload(&server, &[version, ("file", &image("1.2.1"))]).await.problem(409);
    upload(&server, &[version, ("file", bytes.as_slice()), ("hardware", &b"rev-c"[..])])
        .await
        .problem(409);
    let images = std::fs::read_dir(server.dir.path().join("firmware")).expect("a folder");
    assert_eq!(images.count(), 1, "what was refused is not kept");
}

#[tokio::test]
async fn an_upload_that_is_not_whole_stores_nothing() {
    let server = Server::new().await;
    let bytes = image("1.2.0");
    let file = ("file", bytes.as_slice());
    let version = ("version", &b"1.2.0"[..]);
    for (parts, field) in [
        (vec![version], "file"),
        (vec![file], "version"),
        (vec![file, ("version", &b"latest"[..])], "version"),
        (vec![file, ("version", &b"1.2"[..])], "version"),
        (vec![file, version, ("checksum", &b"00"[..])], "checksum"),
        (vec![file, version, ("signature", &b"none"[..])], "signature"),
        (vec![version, ("file", &bytes[..bytes.len() - 1])], "file"),
    ] {
        assert_eq!(upload(&server, &parts).await.field(), field);
    }
    server.post(&server.operator, "/api/firmware", json!({})).await.problem(415);
    assert_eq!(server.get(&server.viewer, "/api/firmware").await.json()["total"], 0);
    let images = std::fs::read_dir(server.dir.path().join("firmware")).expect("a folder");
    assert_eq!(images.count(), 0);
}

#[tokio::test]
async fn doubts_about_an_image_are_told_and_one_for_another_chip_is_refused() {
    let server = Server::with(|options| {
        options.firmware.chips = vec![("rev-s".to_owned(), acuvim_rollout::Chip::Esp32S3)];
    })
    .await;
    let bytes = image("9.9.9");
    let parts =
        [("version", &b"1.2.0"[..]), ("file", bytes.as_slice()), ("hardware", &b"rev-s"[..])];
    assert_eq!(upload(&server, &parts).await.field(), "hardware");
    let unknown =
        [("version", &b"1.2.0"[..]), ("file", bytes.as_slice()), ("hardware", &b"rev-x"[..])];
    let made = upload(&server, &unknown).await.json();
    let warnings = made["warnings"].to_string();
    for wanted in ["rev-x", "9.9.9"] {
        assert!(warnings.contains(wanted), "{warnings}");
    }
    let bare =
        Sample { hashed: false, version: None, ..Sample::application("1.3.0", 4096) }.bytes();
    let made = upload(&server, &[("version", &b"1.3.0"[..]), ("file", &bare)]).await.json();
    assert_eq!(made["warnings"].as_array().map(Vec::len), Some(2), "{made}");
}

#[tokio::test]
async fn where_signatures_are_required_an_image_without_one_is_refused() {
    let server = Server::with(|options| options.firmware.require_signature = true).await;
    let refused = upload(&server, &[("version", &b"1.2.0"[..]), ("file", &image("1.2.0"))]).await;
    assert_eq!(refused.field(), "signature");
}

#[tokio::test]
async fn a_device_is_offered_the_newest_release_that_fits_it_and_fetches_it_with_its_own_url() {
    let server = Server::new().await;
    let secret = server.device("d1").await;
    let none = check(&server, "d1", &secret, "1.0.0").await;
    assert_eq!(none["update_available"], false);
    for version in ["1.2.0", "1.10.0", "1.9.0"] {
        released(&server, version).await;
    }
    let offer = check(&server, "d1", &secret, "1.2.0").await;
    assert_eq!((&offer["update_available"], &offer["version"]), (&json!(true), &json!("1.10.0")));
    let url = path_of(&offer["url"]);
    let image_of = server.send(get(&url, &[])).await;
    assert_eq!((image_of.status, image_of.body.as_ref()), (200, image("1.10.0").as_slice()));
    let part = server.send(get(&url, &[("range", "bytes=100-199")])).await;
    assert_eq!((part.status, part.body.as_ref()), (206, &image("1.10.0")[100..200]));
    assert_eq!(check(&server, "d1", &secret, "1.10.0").await["update_available"], false);
    assert_eq!(check(&server, "d1", &secret, "2.0.0").await["update_available"], false);
    let off = json!({"active": false});
    server.put(&server.operator, "/api/firmware/1.10.0", off).await.json();
    assert_eq!(check(&server, "d1", &secret, "1.2.0").await["version"], "1.9.0");
    server.send(get(&url, &[])).await.problem(403);
}

#[tokio::test]
async fn a_token_is_good_for_its_version_its_time_and_an_enabled_device() {
    let server = Server::new().await;
    server.device("d1").await;
    released(&server, "1.2.0").await;
    released(&server, "1.3.0").await;
    let key = acuvim_firmware_registry::TokenKey::of(SECRET);
    let token = |version: &str, seconds: i64| {
        key.make("d1", version, Utc::now() + TimeDelta::seconds(seconds)).expect("a token")
    };
    let fetch = async |version: &str, token: &str| {
        server.send(get(&format!("/api/firmware/download/{version}?t={token}"), &[])).await
    };
    assert_eq!(fetch("1.2.0", &token("1.2.0", 60)).await.status, 200);
    fetch("1.3.0", &token("1.2.0", 60)).await.problem(401);
    fetch("1.2.0", &token("1.2.0", -1)).await.problem(401);
    for junk in ["", "x", "d1.1.x"] {
        fetch("1.2.0", junk).await.problem(401);
    }
    server.patch(&server.admin, "/api/devices/d1", json!({"enabled": false})).await.json();
    fetch("1.3.0", &token("1.3.0", 60)).await.problem(401);
}

#[tokio::test]
async fn a_device_asks_for_itself_alone_and_a_person_for_devices_that_it_sees() {
    let server = Server::new().await;
    let secret = server.device("d1").await;
    server.device("d2").await;
    released(&server, "1.2.0").await;
    let own = basic("d1", &secret);
    let other =
        server.send(get("/api/firmware/check?device_id=d2", &[("authorization", &own)])).await;
    other.problem(403);
    for (id, secret) in
        [("d1", "wrong"), ("none", secret.as_str()), ("", ""), ("d2", secret.as_str())]
    {
        let header = basic(id, secret);
        server.send(get("/api/firmware/check", &[("authorization", &header)])).await.problem(401);
    }
    server.send(get("/api/firmware/check?device_id=d1", &[])).await.problem(401);
    let shown = server.get(&server.viewer, "/api/firmware/check?device_id=d1").await.json();
    assert!(!shown["url"].as_str().expect("a URL").contains("?t="), "a person logs in for it");
    server.get(&server.viewer, "/api/firmware/check?device_id=none").await.problem(404);
    let long = format!("/api/firmware/check?hardware={}", "x".repeat(101));
    assert_eq!(server.get(&server.viewer, &long).await.field(), "hardware");
}

#[tokio::test]
async fn a_bare_device_id_is_enough_only_where_that_is_allowed_and_never_beside_a_wrong_login() {
    let server = Server::with(|options| options.firmware.allow_bare_device_id = true).await;
    server.device("d1").await;
    released(&server, "1.2.0").await;
    let path = "/api/firmware/check?device_id=d1&current_version=1.0.0";
    let offer = server.send(get(path, &[])).await.json();
    assert!(offer["url"].as_str().expect("a URL").contains("?t="));
    server.send(get(path, &[("x-api-key", "acv_wrong")])).await.problem(401);
    server.send(get(path, &[("authorization", "Bearer x")])).await.problem(401);
    server.send(get("/api/firmware/check?device_id=none", &[])).await.problem(401);
    server.patch(&server.admin, "/api/devices/d1", json!({"enabled": false})).await.json();
    server.send(get(path, &[])).await.problem(401);
}

#[tokio::test]
async fn over_plain_http_no_key_of_a_person_is_taken() {
    let server = Server::new().await;
    let secret = server.device("d1").await;
    released(&server, "1.2.0").await;
    let check = "/api/firmware/check?current_version=1.0.0";
    let device = server.send_device(get(check, &[("authorization", &basic("d1", &secret))])).await;
    let url = path_of(&device.json()["url"]);
    let fetched = server.send_device(get(&url, &[])).await;
    assert_eq!(fetched.status, 200);
    for name in ["content-security-policy", "x-request-id", "x-frame-options", "cache-control"] {
        assert_eq!(fetched.header(name), "", "{name} fills a modem's buffer");
    }
    let bearer = format!("Bearer {}", server.admin);
    for (name, value) in [("x-api-key", server.admin.as_str()), ("authorization", bearer.as_str())]
    {
        server.send_device(get(check, &[(name, value)])).await.problem(403);
    }
    let as_password = basic("d1", &server.admin);
    server.send_device(get(check, &[("authorization", &as_password)])).await.problem(403);
    server
        .send_device(get("/api/firmware/download/1.2.0", &[("x-api-key", &server.admin)]))
        .await
        .problem(401);
    for path in ["/api/devices", "/api/firmware", "/livez", "/"] {
        server.send_device(get(path, &[("x-api-key", &server.admin)])).await.problem(404);
    }
}

#[tokio::test]
async fn an_image_that_was_changed_in_the_store_is_not_served_and_an_alert_is_raised() {
    let server = Server::new().await;
    released(&server, "1.2.0").await;
    let path = "/api/firmware/download/1.2.0";
    assert_eq!(server.get(&server.viewer, path).await.status, 200);
    let folder = server.dir.path().join("firmware");
    let file =
        std::fs::read_dir(folder).expect("a folder").next().expect("a file").expect("a file");
    std::fs::write(file.path(), image("6.6.6")).expect("written");
    server.get(&server.viewer, path).await.problem(500);
    let alerts = server.get(&server.viewer, "/api/alerts?type=firmware_damaged").await.json();
    assert_eq!(alerts["total"], 1);
    std::fs::remove_file(file.path()).expect("removed");
    server.get(&server.viewer, path).await.problem(500);
}

#[tokio::test]
async fn a_release_is_listed_changed_and_deleted() {
    let server = Server::new().await;
    for version in ["1.2.0", "1.3.0", "1.4.0-rc.1+b7"] {
        released(&server, version).await;
    }
    let first = server.get(&server.viewer, "/api/firmware?limit=2").await.json();
    let cursor = first["next_cursor"].as_str().expect("a cursor");
    let rest =
        server.get(&server.viewer, &format!("/api/firmware?limit=2&cursor={cursor}")).await.json();
    assert_eq!((rest["items"].as_array().map(Vec::len), &rest["total"]), (Some(1), &json!(3)));
    assert_eq!(server.get(&server.viewer, "/api/firmware?cursor=9.9.9").await.field(), "cursor");
    let notes = json!({"release_notes": "better", "mandatory": true});
    let changed = server.put(&server.operator, "/api/firmware/1.2.0", notes).await.json();
    assert_eq!((&changed["mandatory"], &changed["active"]), (&json!(true), &json!(true)));
    let mut back = changed.clone();
    back["active"] = json!(false);
    assert_eq!(
        server.put(&server.operator, "/api/firmware/1.2.0", back).await.json()["active"],
        false
    );
    assert_eq!(server.get(&server.viewer, "/api/firmware?active=false").await.json()["total"], 1);
    assert_eq!(
        server.put(&server.operator, "/api/firmware/1.2.0", json!({"colour": 1})).await.field(),
        "colour"
    );
    let odd = server.get(&server.viewer, "/api/firmware/1.4.0-rc.1%2Bb7").await.json();
    assert_eq!(odd["version"], "1.4.0-rc.1+b7");
    assert_eq!(server.delete(&server.admin, "/api/firmware/1.2.0").await.status, 204);
    server.get(&server.viewer, "/api/firmware/1.2.0").await.problem(404);
    server.get(&server.viewer, "/api/firmware/download/1.2.0").await.problem(404);
    let images = std::fs::read_dir(server.dir.path().join("firmware")).expect("a folder");
    assert_eq!(images.count(), 2);
}

async fn deploy(server: &Server, key: &str, change: &Value) -> Answer {
    let mut body = json!({"version": "1.2.0", "device_ids": ["d1"]});
    for (name, value) in change.as_object().expect("an object") {
        body[name] = value.clone();
    }
    server.post(key, "/api/firmware/deploy", body).await
}

#[tokio::test]
async fn a_rollout_says_whom_it_is_for_and_is_checked_before_it_begins() {
    let server = Server::new().await;
    server.device("d1").await;
    released(&server, "1.2.0").await;
    for (change, field) in [
        (json!({"device_ids": null}), "device_ids"),
        (json!({"tag": "roof"}), "device_ids"),
        (json!({"device_ids": []}), "device_ids"),
        (json!({"device_ids": ["a b"]}), "device_ids"),
        (json!({"device_ids": vec!["d"; 10_001]}), "device_ids"),
        (json!({"device_ids": null, "tag": ""}), "tag"),
        (json!({"device_ids": null, "group_id": uuid::Uuid::nil()}), "group_id"),
        (json!({"rollout": {"stages": []}}), "stages"),
        (json!({"rollout": {"stages": [{"percent": 50}]}}), "stages[0]"),
        (
            json!({"rollout": {"health_gate_sql": "DELETE FROM telemetry"}}),
            "rollout.health_gate_sql",
        ),
        (
            json!({"rollout": {"health_gate_sql": "SELECT no_such_column FROM telemetry"}}),
            "rollout.health_gate_sql",
        ),
        (json!({"colour": 1}), "colour"),
    ] {
        let answer = deploy(&server, &server.operator, &change).await;
        assert!(answer.field().ends_with(field), "{change}: {}", answer.text());
    }
    deploy(&server, &server.operator, &json!({"version": "9.9.9"})).await.problem(404);
    let nobody = deploy(&server, &server.operator, &json!({"device_ids": ["none"]})).await;
    nobody.problem(422);
    assert_eq!(server.get(&server.viewer, "/api/firmware/rollouts").await.json()["total"], 0);
}

#[tokio::test]
async fn a_rollout_is_followed_held_and_ended() {
    let server = Server::new().await;
    server.device("d1").await;
    server.device("other").await;
    released(&server, "1.2.0").await;
    let gate = json!({"rollout": {"health_gate_sql": "SELECT count(*) > 0 FROM rollout_devices"}});
    let started = deploy(&server, &server.operator, &gate).await;
    assert_eq!(started.status, 202, "{}", started.text());
    let id = started.json()["rollout_id"].as_str().expect("an id").to_owned();
    let path = format!("/api/firmware/rollouts/{id}");
    let verb = async |key: &str, verb: &str| {
        server.ask(key, "POST", &format!("{path}/{verb}"), None).await
    };
    let devices = server.get(&server.viewer, &format!("{path}/devices?state=waiting")).await.json();
    assert_eq!(devices["total"], 1);
    verb(&server.operator, "resume").await.problem(409);
    assert_eq!(verb(&server.operator, "pause").await.json()["state"], "paused");
    server.delete(&server.admin, "/api/firmware/1.2.0").await.problem(409);
    let scoped = server.scoped(acuvim_model::Role::Operator, &["d1"]).await;
    verb(&scoped, "resume").await.problem(403);
    let shown = server.get(&scoped, &path).await;
    assert_eq!(shown.status, 200);
    assert!(!shown.text().contains("rollout_devices"), "its gate reads every device");
    let stranger = server.scoped(acuvim_model::Role::Operator, &["other"]).await;
    server.get(&stranger, &path).await.problem(404);
    verb(&stranger, "abort").await.problem(404);
    assert_eq!(server.get(&stranger, "/api/firmware/rollouts").await.json()["total"], 0);
    deploy(&server, &scoped, &gate).await.problem(403);
    assert_eq!(verb(&server.operator, "resume").await.json()["state"], "running");
    assert_eq!(verb(&scoped, "abort").await.json()["state"], "aborted");
    verb(&server.operator, "pause").await.problem(409);
    let forced = server.delete(&server.admin, "/api/firmware/1.2.0?force=true").await;
    assert_eq!(forced.status, 204, "{}", forced.text());
}
