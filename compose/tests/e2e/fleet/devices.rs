//! A device from its commissioning to its deletion, over real MQTT and HTTP.

use acuvim_simulator::mqtt::{ConnectOptions, Connection, Error};
use serde_json::{Value, json};

use super::answering::{Answering, until};
use crate::harness::{Server, T0, binary, connect, reading};

async fn json(answer: reqwest::Response) -> Value {
    answer.json().await.expect("JSON")
}

async fn send(server: &Server, method: reqwest::Method, path: &str, body: &Value) -> (u16, Value) {
    let token = server.token().await;
    let url = format!("{}{path}", server.http);
    let answer = server.client.request(method, url).bearer_auth(token).json(body).send().await;
    let answer = answer.expect("an answer");
    (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
}

fn login(server: &Server, credentials: &Value) -> ConnectOptions {
    let text = |name: &str| credentials[name].as_str().expect(name).to_owned();
    let login = Some((text("username"), text("password")));
    let id = text("username");
    let will =
        Some((format!("acuvim/{id}/status"), r#"{"status":"offline","reason":"lwt"}"#.into()));
    ConnectOptions { login, will, ..connect(server.mqtt, &id) }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_commissioning_to_its_end() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &[]).await;
    let (_, group) =
        send(&server, reqwest::Method::POST, "/api/groups", &json!({"name": "North"})).await;
    let new = json!({
        "device_id": "ACV-AABBCCDDEEFF", "name": "Feeder 2", "group_id": group["id"],
        "tags": ["roof"], "nominal_voltage_v": 230, "time_zone": "Africa/Johannesburg"
    });
    let (status, made) = send(&server, reqwest::Method::POST, "/api/devices", &new).await;
    assert_eq!((status, &made["device"]["status"]), (201, &json!("offline")));
    let (again, _) = send(&server, reqwest::Method::POST, "/api/devices", &new).await;
    assert_eq!(again, 409);
    let options = login(&server, &made["credentials"]);
    let device = Connection::open(&options).await.expect("its secret is good");
    registers(&server, &device).await;
    is_edited(&server).await;
    loses_access(&server, &device, &options).await;
    // Kept open: a broken connection would publish its will after the deletion.
    let _new = is_replaced(&server).await;
    is_deleted(&server).await;
    is_in_the_audit(&server).await;
    server.stop().await;
}

const PATH: &str = "/api/devices/ACV-AABBCCDDEEFF";

/// It registers, and what it sends of itself is stored. A field of the wrong type is ignored and reported.
async fn registers(server: &Server, device: &Connection) {
    let register = json!({
        "device_id": "ACV-AABBCCDDEEFF", "mac_address": "aa-bb-cc-dd-ee-ff",
        "imei": "351234567890123", "iccid": "8927000000000000000", "hardware": "TTGO T-Call v1.4",
        "firmware_version": "1.2.0", "capabilities": ["wifi", "gsm"], "boot": 17,
        "meter_serial": "AH1234567", "name": "its own idea"
    });
    device.publish("devices/register", register.to_string(), false).await.expect("ack");
    let now = until(server, PATH, |d| d["registered"] == true).await;
    assert_eq!((&now["name"], &now["tags"]), (&json!("Feeder 2"), &json!(["roof"])));
    assert_eq!(
        (&now["mac_address"], &now["status"]),
        (&json!("AA:BB:CC:DD:EE:FF"), &json!("online"))
    );
    let beat = json!({
        "ts": T0, "heartbeat_interval_s": 60, "firmware_version": "1.2.1", "uptime_ms": 1000,
        "boot": 18, "signal_strength": -61, "connection_type": "wifi", "ip_address": "10.0.0.9"
    });
    device
        .publish("acuvim/ACV-AABBCCDDEEFF/heartbeat", beat.to_string(), false)
        .await
        .expect("ack");
    device.publish("acuvim/ACV-AABBCCDDEEFF/telemetry", reading(T0), false).await.expect("ack");
    let now =
        until(server, PATH, |d| d["boot_count"] == 18 && d["last_telemetry"].is_string()).await;
    assert_eq!((&now["firmware_version"], &now["signal_strength"]), (&json!("1.2.1"), &json!(-61)));
    assert_eq!(now["last_heartbeat"], "2026-05-01T00:00:00Z");
    for bad in [json!({"mac_address": "no"}), json!({"imei": "12"}), json!({"iccid": "x"})] {
        let mut register = json!({"device_id": "ACV-AABBCCDDEEFF"});
        register.as_object_mut().expect("object").extend(bad.as_object().expect("object").clone());
        device.publish("devices/register", register.to_string(), false).await.expect("ack");
    }
    let told = "SELECT count(*) FROM device_events WHERE event = 'odd_fields'";
    server.wait_for(told, 3).await;
    server.wait_for("SELECT count(*) FROM dead_letters WHERE kind = 'register'", 0).await;
    let now = json(server.get(PATH).await).await;
    assert_eq!(
        (&now["mac_address"], &now["imei"], &now["iccid"]),
        (&json!("AA:BB:CC:DD:EE:FF"), &json!("351234567890123"), &json!("8927000000000000000"))
    );
}

/// A person edits it: what was read can be sent back, an unknown field is refused.
async fn is_edited(server: &Server) {
    let mut put = json(server.get(PATH).await).await;
    put["name"] = json!("Feeder 3");
    put["tags"] = Value::Null;
    let (status, now) = send(server, reqwest::Method::PUT, PATH, &put).await;
    assert_eq!((status, &now["name"], &now["tags"]), (200, &json!("Feeder 3"), &json!([])));
    let patch = json!({"description": "on the roof", "nominal_voltage_v": null});
    let (_, now) = send(server, reqwest::Method::PATCH, PATH, &patch).await;
    assert_eq!((&now["nominal_voltage_v"], &now["name"]), (&Value::Null, &json!("Feeder 3")));
    for (bad, field) in [
        (json!({"colour": "red"}), "colour"),
        (json!({"name": 5}), "name"),
        (json!({"time_zone": "Mars/Base"}), "time_zone"),
        (json!({"group_id": "018f0000-0000-7000-8000-000000000000"}), "group_id"),
        (json!({"device_id": "x"}), "device_id"),
    ] {
        let (status, problem) = send(server, reqwest::Method::PATCH, PATH, &bad).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (400, &json!(field)), "{problem}");
    }
}

/// A new secret ends the connection that used the old one; a disabled device can't connect.
async fn loses_access(server: &Server, device: &Connection, options: &ConnectOptions) {
    let (status, fresh) =
        send(server, reqwest::Method::POST, &format!("{PATH}/credentials"), &json!({})).await;
    assert_eq!(status, 201);
    until(server, PATH, |d| d["status"] == "offline").await;
    assert!(
        device.publish("acuvim/ACV-AABBCCDDEEFF/telemetry", reading(T0 + 1), false).await.is_err()
    );
    assert!(matches!(Connection::open(options).await, Err(Error::Refused(_))));
    let options = login(server, &fresh);
    let device = Connection::open(&options).await.expect("the new secret");
    let off = json!({"enabled": false});
    assert_eq!(send(server, reqwest::Method::PATCH, PATH, &off).await.0, 200);
    let begun = std::time::Instant::now();
    while device.publish("acuvim/ACV-AABBCCDDEEFF/status", "online", false).await.is_ok() {
        assert!(begun.elapsed() < crate::harness::PATIENCE, "a stolen device stays connected");
        crate::harness::pause(begun).await;
    }
    assert!(matches!(Connection::open(&options).await, Err(Error::Refused(_))));
}

/// A new logger takes over; the readings so far are those of the old one.
async fn is_replaced(server: &Server) -> Connection {
    let replace = json!({"new_device_id": "ACV-001122334455"});
    let (status, made) =
        send(server, reqwest::Method::POST, &format!("{PATH}/replace"), &replace).await;
    assert_eq!((status, &made["device"]["name"]), (200, &json!("Feeder 3")));
    let latest = json(server.get("/api/devices/ACV-001122334455/telemetry").await).await;
    assert_eq!(latest["device_id"], "ACV-AABBCCDDEEFF");
    let new = Connection::open(&login(server, &made["credentials"])).await.expect("its secret");
    new.publish("acuvim/ACV-001122334455/telemetry", reading(T0 + 5000), false).await.expect("ack");
    until(server, "/api/devices/ACV-001122334455/telemetry", |t| {
        t["device_id"] == "ACV-001122334455"
    })
    .await;
    let rows =
        server.sql("SELECT replaces FROM devices WHERE device_id = 'ACV-001122334455'").await;
    assert_eq!(rows.rows[0][0], "ACV-AABBCCDDEEFF");
    new
}

/// Its readings stay after its deletion; if it sends again, it is a new device.
async fn is_deleted(server: &Server) {
    let path = "/api/devices/ACV-001122334455";
    assert_eq!(send(server, reqwest::Method::DELETE, path, &json!({})).await.0, 204);
    assert_eq!(server.get(path).await.status(), 404);
    assert_eq!(send(server, reqwest::Method::DELETE, path, &json!({})).await.0, 404);
    assert_eq!(
        server.number("SELECT count(*) FROM telemetry WHERE device_id = 'ACV-001122334455'").await,
        1
    );
    let talk = server.device("talk").await;
    talk.publish("acuvim/ACV-001122334455/heartbeat", json!({"ts": T0}).to_string(), false)
        .await
        .expect("ack");
    let back = until(server, path, |_| true).await;
    assert_eq!((&back["name"], &back["registered"]), (&Value::Null, &json!(false)));
}

async fn is_in_the_audit(server: &Server) {
    let audit = json(server.get("/api/audit?limit=1000").await).await;
    let actions: Vec<&str> = audit["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter_map(|e| e["action"].as_str())
        .collect();
    for action in [
        "device.create",
        "device.update",
        "credentials.rotate",
        "device.replace",
        "device.delete",
        "group.create",
        "user.login",
    ] {
        assert!(actions.contains(&action), "{action}: {actions:?}");
    }
    assert!(
        audit["items"]
            .as_array()
            .expect("items")
            .iter()
            .all(|e| e["address"] == "127.0.0.1" || e["actor"] == "system")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_devices_are_commissioned_from_a_file() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &[]).await;
    let (_, group) =
        send(&server, reqwest::Method::POST, "/api/groups", &json!({"name": "site"})).await;
    let key = json!({"name": "commissioning", "role": "Admin"});
    let (_, key) = send(&server, reqwest::Method::POST, "/api/keys", &key).await;
    let group = group["id"].as_str().expect("id");
    let mut file = "device_id,name,group_id,nominal_voltage_v,time_zone,tags\n".to_owned();
    for n in 0..200 {
        file += &format!("ACV-{n:012X},Feeder {n},{group},230,Africa/Johannesburg,new;roof\n");
    }
    let path = dir.path().join("fleet.csv");
    std::fs::write(&path, &file).expect("write");
    let import = || {
        let mut command = std::process::Command::new(binary());
        command
            .args(["devices", "import", "--url", &server.http])
            .args(["--key", key["secret"].as_str().expect("secret")])
            .arg(&path);
        tokio::task::block_in_place(|| command.output()).expect("the binary")
    };
    let made = import();
    assert!(made.status.success(), "{made:?}");
    assert!(String::from_utf8_lossy(&made.stderr).contains("200 devices made, 0 not"), "{made:?}");
    let out = String::from_utf8(made.stdout).expect("text");
    let lines: Vec<Vec<&str>> = out.lines().map(|l| l.split(',').collect()).collect();
    assert_eq!((lines.len(), lines[0][0]), (201, "device_id"));
    let last = &lines[200];
    let credentials = json!({"username": last[1], "password": last[2]});
    Connection::open(&login(&server, &credentials)).await.expect("the secret is good");
    let again = import();
    assert!(
        String::from_utf8_lossy(&again.stderr).contains("0 devices made, 200 not"),
        "{again:?}"
    );
    let list =
        json(server.get(&format!("/api/devices?group_id={group}&tag=roof&limit=1000")).await).await;
    assert_eq!(list["total"], 200);
    assert_eq!(list["items"][7]["nominal_voltage_v"], 230.0);
    std::fs::write(&path, format!("{file}bad id,x,,,,\n")).expect("write");
    let bad = import();
    assert!(!bad.status.success());
    assert!(String::from_utf8_lossy(&bad.stderr).contains("line 202: device_id"), "{bad:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_list_is_found_filtered_and_paged() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &[]).await;
    let mut devices = Vec::new();
    for n in 0..5 {
        devices.push(Answering::good(&server, &format!("l{n}")).await);
    }
    until(&server, "/api/devices?status=online", |l| l["total"] == 5).await;
    let mut seen = Vec::new();
    let mut path = "/api/devices?sort=-last_heartbeat&limit=2&q=L".to_owned();
    loop {
        let page = json(server.get(&path).await).await;
        let items = page["items"].as_array().expect("items");
        seen.extend(items.iter().map(|d| d["device_id"].as_str().expect("id").to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/api/devices?sort=-last_heartbeat&limit=2&q=L&cursor={cursor}");
    }
    seen.sort();
    assert_eq!(seen, ["l0", "l1", "l2", "l3", "l4"]);
    for bad in ["sort=colour", "status=dead", "cursor=x", "group_id=x", "limit=1001", "colour=red"]
    {
        assert_eq!(server.get(&format!("/api/devices?{bad}")).await.status(), 400, "{bad}");
    }
    drop(devices);
    server.stop().await;
}
