//! Rollouts over a fleet of 500: one that stops in its first stage, one that completes through kills of
//! the server; and each way in which the update of a device can fail.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    HARDWARE, deploy,
    logger::{Habit, Logger, Pace},
    release,
};
use crate::{
    fleet::until,
    harness::{PATIENCE, Server},
};

const FLEET: usize = 500;

/// Addresses that stay the same over restarts, like those of a real server.
struct Addresses {
    http: SocketAddr,
    mqtt: SocketAddr,
}

impl Addresses {
    fn free() -> Self {
        let free = || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            listener.local_addr().expect("an address")
        };
        Self { http: free(), mqtt: free() }
    }

    async fn serve(&self, dir: &Path, more: &[&str]) -> Server {
        let (http, mqtt) =
            (format!("http.listen={}", self.http), format!("mqtt.listen={}", self.mqtt));
        let set = [
            http.as_str(),
            mqtt.as_str(),
            "firmware.rollout_interval_seconds=1",
            "commands.check_interval_seconds=1",
            "http.requests_per_address=0",
            "http.requests_per_user=0",
        ];
        Server::start(dir, &[&set[..], more].concat()).await
    }
}

/// Whether a rollout has reached the moment for a kill.
type Moment = Box<dyn Fn(&Value) -> bool>;

/// Waits until this many devices are known with their hardware.
async fn known(server: &Server, devices: usize) {
    let query = format!("SELECT count(*) FROM devices WHERE hardware = '{HARDWARE}'");
    server.wait_for(&query, i64::try_from(devices).expect("few")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_500_devices_3_percent_brick_and_the_rollout_stops_in_its_first_stage() {
    let dir = tempfile::tempdir().expect("dir");
    let at = Addresses::free();
    let server = at.serve(dir.path(), &[]).await;
    let pace =
        Pace { step: Duration::from_millis(700), heartbeat: Duration::from_secs(4), range: 8192 };
    let mut fleet: Vec<Logger> = (0..FLEET)
        .map(|n| {
            let habit = if n % 33 == 7 { Habit::Bricks } else { Habit::Good };
            Logger::start(at.mqtt, &format!("ota-{n}"), habit, pace)
        })
        .collect();
    known(&server, FLEET).await;
    release(&server, "1.2.0", 20_000).await;
    let group: Vec<&str> = fleet.iter().map(|logger| logger.id.as_str()).collect();
    let plan = json!({
        "stages": [{"percent": 20, "soak_seconds": 2}, {"percent": 100}],
        "max_failure_percent": 1, "silent_after_seconds": 20,
    });
    let bad = json!({ "version": "1.2.0", "device_ids": group, "rollout": plan });
    let rollout = deploy(&server, &bad).await;
    let path = format!("/api/firmware/rollouts/{rollout}");
    let over = |rollout: &Value| {
        ["stopped", "completed"].contains(&rollout["state"].as_str().unwrap_or(""))
    };
    let stopped = until(&server, &path, over).await;
    let reason = stopped["reason"].as_str().expect("a reason");
    println!("{reason}; {}", stopped["progress"]);
    assert_eq!(
        (&stopped["state"], &stopped["stage"]),
        (&json!("stopped"), &json!(1)),
        "{stopped:#}"
    );
    assert!(reason.contains("fell silent") && reason.contains("allowed are 1 %"), "{reason}");
    let decision = &stopped["decisions"][0];
    assert_eq!((&decision["decision"], &decision["reason"]), (&json!("stopped"), &json!(reason)));
    assert!(decision["figures"]["failure_percent"].as_f64().expect("a figure") > 1.0);
    let told = fleet.iter().filter(|logger| !logger.told().is_empty()).count();
    assert!(told <= 100 && stopped["devices"]["waiting"] == 400, "{told} were told: {stopped:#}");
    // A device outside of the stage does not get it by a check either.
    let waiting: Value = server
        .get(&format!("{path}/devices?state=waiting&limit=1"))
        .await
        .json()
        .await
        .expect("JSON");
    let one = waiting["items"][0]["device_id"].as_str().expect("a device");
    let check = format!("/api/firmware/check?device_id={one}");
    let offered: Value = server.get(&check).await.json().await.expect("JSON");
    assert_eq!(offered["update_available"], false);

    assert_eq!(server.post(&format!("{path}/abort"), &json!({})).await.status(), 200);
    fleet.retain(|logger| logger.known.lock().expect("lock").boot == 3 || !is_brick(&logger.id));
    completes_through_kills(server, &at, dir.path(), &fleet).await;
}

/// With a good version a rollout completes, whatever moment the server is killed at.
async fn completes_through_kills(mut server: Server, at: &Addresses, dir: &Path, fleet: &[Logger]) {
    release(&server, "1.3.0", 20_000).await;
    let group: Vec<&str> = fleet.iter().map(|logger| logger.id.as_str()).collect();
    let plan = json!({
        "stages": [{"count": 40, "soak_seconds": 3}, {"percent": 100, "soak_seconds": 1}],
        "health_gate_sql": "SELECT count(*) > 0, count(*) AS updated FROM rollout_devices d \
            JOIN heartbeats h ON h.device_id = d.device_id WHERE d.updated",
        // Devices of later stages that fail every update are among them.
        "max_failure_percent": 10, "silent_after_seconds": 20,
    });
    let good = json!({ "version": "1.3.0", "device_ids": group, "rollout": plan });
    let rollout = deploy(&server, &good).await;
    let path = format!("/api/firmware/rollouts/{rollout}");
    let any = |state: &'static str| move |r: &Value| r["devices"][state].as_i64() > Some(0);
    let moments: [(&str, Moment); 6] = [
        ("waiting", Box::new(any("waiting"))),
        ("offered", Box::new(any("offered"))),
        ("downloading", Box::new(any("downloading"))),
        ("installing", Box::new(any("installing"))),
        ("soaking", Box::new(|r: &Value| !r["soak_since"].is_null())),
        ("the second stage", Box::new(|r: &Value| r["stage"] == 2)),
    ];
    for (name, moment) in moments {
        let seen = until(&server, &path, |r: &Value| moment(r) || r["state"] != "running").await;
        assert_eq!(seen["state"], "running", "{name}: {seen:#}");
        println!("killed while {name}: {}", seen["progress"]);
        server.kill();
        server = at.serve(dir, &[]).await;
    }
    let begun = Instant::now();
    let done = loop {
        let now: Value = server.get(&path).await.json().await.expect("JSON");
        if now["state"] != "running" {
            break now;
        }
        assert!(begun.elapsed() < 3 * PATIENCE, "{now:#}");
        crate::harness::pause(begun).await;
    };
    println!("{}: {}", done["state"], done["progress"]);
    assert_eq!(done["state"], "completed", "{done:#}");
    let bricks = fleet.iter().filter(|logger| is_brick(&logger.id)).count();
    assert_eq!(done["devices"]["confirmed"], fleet.len() - bricks, "{done:#}");
    assert_eq!(done["devices"]["silent"], bricks, "{done:#}");
    let made: Vec<&str> = done["decisions"]
        .as_array()
        .expect("decisions")
        .iter()
        .rev()
        .filter_map(|decision| decision["decision"].as_str())
        .collect();
    assert_eq!(
        made,
        ["started", "soaking", "next_stage", "soaking", "next_stage", "completed"],
        "each once, whatever was killed: {done:#}"
    );
    let gate = &done["decisions"].as_array().expect("decisions")[3]["figures"]["gate"];
    assert!(gate["updated"].as_i64() > Some(0), "{done:#}");
    // Each received the command once.
    for logger in fleet {
        let told = logger.told().iter().filter(|c| c["params"]["version"] == "1.3.0").count();
        assert_eq!(told, 1, "{}", logger.id);
    }
    server.stop().await;
}

fn is_brick(id: &str) -> bool {
    let n: usize = id.trim_start_matches("ota-").parse().expect("a number");
    n % 33 == 7
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_in_which_an_update_goes_wrong_is_told_from_the_others() {
    let dir = tempfile::tempdir().expect("dir");
    let at = Addresses::free();
    let server =
        at.serve(dir.path(), &["commands.timeout_seconds=5", "firmware.max_failures=1"]).await;
    let pace =
        Pace { step: Duration::from_millis(200), heartbeat: Duration::from_secs(1), range: 4096 };
    let habits = [
        ("good", Habit::Good, "confirmed"),
        ("breaks", Habit::Breaks, "confirmed"),
        ("fails", Habit::Fails, "failed"),
        ("bricks", Habit::Bricks, "silent"),
        ("rolls-back", Habit::RollsBack, "rolled_back"),
        ("lies", Habit::Lies, "failed"),
    ];
    let mut fleet: Vec<Logger> =
        habits.iter().map(|(id, habit, _)| Logger::start(at.mqtt, id, *habit, pace)).collect();
    // A device that can't take a packet of that size.
    let small = server.device("small").await;
    let register = json!({
        "device_id": "small", "hardware": HARDWARE, "firmware_version": "1.1.0", "max_packet_bytes": 256,
    });
    small.publish("devices/register", register.to_string(), false).await.expect("registered");
    known(&server, habits.len() + 1).await;
    release(&server, "1.2.0", 30_000).await;
    let all: Vec<&str> = habits.iter().map(|(id, ..)| *id).chain(["small"]).collect();
    let plan = json!({ "max_failure_percent": 100, "silent_after_seconds": 6 });
    let rollout =
        deploy(&server, &json!({ "version": "1.2.0", "device_ids": all, "rollout": plan })).await;
    // A device is in one rollout at a time.
    release(&server, "1.3.0", 30_000).await;
    let twice = server
        .post("/api/firmware/deploy", &json!({ "version": "1.3.0", "device_ids": ["bricks"] }))
        .await;
    assert_eq!(twice.status(), 422);
    assert!(twice.text().await.expect("text").contains("another rollout"));
    let path = format!("/api/firmware/rollouts/{rollout}");
    until(&server, &path, |r| r["state"] == "completed").await;
    let devices: Value = server.get(&format!("{path}/devices")).await.json().await.expect("JSON");
    let states: BTreeMap<&str, (&str, &str)> = devices["items"]
        .as_array()
        .expect("devices")
        .iter()
        .map(|d| {
            let text = |name: &str| d[name].as_str().unwrap_or_default();
            (text("device_id"), (text("state"), text("detail")))
        })
        .collect();
    for (id, _, state) in habits {
        assert_eq!(states[id].0, state, "{id}: {states:#?}");
    }
    assert_eq!(states["fails"].1, "it said: no room for the image");
    assert_eq!(states["rolls-back"].1, "it started anew and runs 1.1.0");
    assert_eq!(states["lies"].1, "it took the command and did not answer");
    assert!(states["bricks"].1.contains("no heartbeat"), "{states:#?}");
    assert_eq!(states["small"].0, "failed");
    assert!(states["small"].1.contains("the device takes 256"), "{states:#?}");

    // A version that has failed is not tried again, unless it is forced or the rollout is retried.
    let check = "/api/firmware/check?device_id=fails&current_version=1.1.0";
    let offered: Value = server.get(check).await.json().await.expect("JSON");
    assert_eq!(offered["version"], "1.3.0", "the other version has not failed on it");
    let again = json!({ "version": "1.2.0", "device_ids": ["fails"] });
    let answer = server.post("/api/firmware/deploy", &again).await;
    assert_eq!(answer.status(), 422);
    assert!(answer.text().await.expect("text").contains("failed on it 1 times"));
    // The device that failed now succeeds.
    fleet.retain(|logger| logger.id != "fails");
    let learnt = Logger::start(at.mqtt, "fails", Habit::Good, pace);
    until(&server, "/api/devices/fails", |d| d["firmware_version"] == "1.1.0").await;
    let retried: Value =
        server.post(&format!("{path}/retry"), &json!({})).await.json().await.expect("JSON");
    assert_eq!(retried["state"], "running", "{retried:#}");
    let confirmed = |r: &Value| r["devices"]["confirmed"] == 3;
    let after = until(&server, &path, confirmed).await;
    assert!(after["decisions"].to_string().contains("retried"), "{after:#}");
    drop(learnt);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_is_paused_tells_nobody_and_takes_back_what_was_not_told() {
    let dir = tempfile::tempdir().expect("dir");
    let at = Addresses::free();
    let server = at.serve(dir.path(), &[]).await;
    let pace =
        Pace { step: Duration::from_millis(100), heartbeat: Duration::from_secs(1), range: 8192 };
    // Known to the server, and offline.
    for id in ["away-1", "away-2"] {
        let logger = Logger::start(at.mqtt, id, Habit::Good, pace);
        until(&server, &format!("/api/devices/{id}"), |d| d["hardware"] == HARDWARE).await;
        drop(logger);
        until(&server, &format!("/api/devices/{id}"), |d| d["status"] == "offline").await;
    }
    release(&server, "1.2.0", 20_000).await;
    let body = json!({ "version": "1.2.0", "device_ids": ["away-1", "away-2"] });
    let path = format!("/api/firmware/rollouts/{}", deploy(&server, &body).await);
    let verb = async |verb: &str| {
        let answer = server.post(&format!("{path}/{verb}"), &json!({})).await;
        (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON"))
    };
    until(&server, &path, |r| r["devices"]["offered"] == 2).await;
    let (status, paused) = verb("pause").await;
    assert_eq!((status, &paused["state"]), (200, &json!("paused")), "{paused:#}");
    assert_eq!(verb("pause").await.0, 409);
    let first = Logger::start(at.mqtt, "away-1", Habit::Good, pace);
    until(&server, "/api/devices/away-1", |d| d["status"] == "online").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(first.told(), Vec::<Value>::new(), "it is held: {paused:#}");
    assert_eq!(verb("resume").await.0, 200);
    until(&server, &path, |r| r["devices"]["confirmed"] == 1).await;
    let (status, ended) = verb("abort").await;
    assert_eq!((status, &ended["state"]), (200, &json!("aborted")));
    assert_eq!(ended["devices"]["cancelled"], 1, "{ended:#}");
    assert_eq!(verb("resume").await.0, 409);
    let second = Logger::start(at.mqtt, "away-2", Habit::Good, pace);
    until(&server, "/api/devices/away-2", |d| d["status"] == "online").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(second.told(), Vec::<Value>::new(), "it was taken back");
    for (plan, field) in [
        (json!({ "stages": [] }), "rollout.stages"),
        (json!({ "stages": [{ "percent": 50 }] }), "rollout.stages[0]"),
        (json!({ "health_gate_sql": "DROP TABLE devices" }), "rollout.health_gate_sql"),
        (
            json!({ "health_gate_sql": "SELECT nonsense FROM rollout_devices" }),
            "rollout.health_gate_sql",
        ),
        (json!({ "window": { "from": "1", "to": "2" } }), "rollout.window"),
    ] {
        let body = json!({ "version": "1.2.0", "device_ids": ["away-2"], "rollout": plan });
        let answer = server.post("/api/firmware/deploy", &body).await;
        let problem: Value = answer.json().await.expect("JSON");
        assert_eq!(problem["errors"][0]["field"], field, "{problem:#}");
    }
    server.stop().await;
}
