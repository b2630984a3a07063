//! Telemetry over HTTP: history in pages and buckets, exports in every format, the latest readings of the
//! fleet, and queries of older versions.

use std::time::Duration;

use acuvim_simulator::mqtt::Connection;
use acuvim_wire::time::SECOND;
use serde_json::{Value, json};

use crate::harness::{Server, T0, root};

/// T0 is in milliseconds.
const START: i64 = T0 * 1000;

async fn publish(device: &Connection, id: &str, second: i64, volts: f64, kwh: f64) {
    let ts = acuvim_wire::time::to_rfc3339(START + second * SECOND);
    let reading = json!({"ts": ts, "data": {"v1": volts, "ei": kwh}}).to_string();
    device.publish(&format!("acuvim/{id}/telemetry"), reading, false).await.expect("ack");
}

async fn json(server: &Server, path: &str) -> Value {
    let answer = server.get(path).await;
    let status = answer.status();
    let body: Value = answer.json().await.expect("json");
    assert!(status.is_success(), "{path}: {status} {body}");
    body
}

/// Reads every row, page by page.
async fn pages(server: &Server, path: &str, limit: usize) -> Vec<Value> {
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = json(server, &format!("{path}&limit={limit}{cursor}")).await;
        let found = page["rows"].as_array().expect("rows");
        assert!(found.len() <= limit);
        rows.extend(found.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return rows,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_has_every_reading_in_pages_and_in_buckets() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &["lake.flush_interval_ms=400"]).await;
    let device = server.device("d1").await;
    // A reading every ten seconds, a gap of five minutes, and a counter that is reset.
    for n in (0..60).chain(90..120) {
        let kwh = if n < 100 { 1000.0 + n as f64 } else { n as f64 - 100.0 };
        publish(&device, "d1", n * 10, 230.0 + (n % 7) as f64, kwh).await;
        if n == 40 {
            let lake = json!({"query": "SELECT count(*) FROM telemetry", "consistency": "lake"});
            while server.ask(lake.clone()).await.rows[0][0].as_i64() == Some(0) {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    server.wait_for("SELECT count(*) FROM telemetry", 90).await;
    server.wait_for("SELECT count(*) FROM devices WHERE device_id = 'd1'", 1).await;
    let base =
        "/api/devices/d1/telemetry/history?from=2026-05-01T00:00:00Z&to=2026-05-01T01:00:00Z";

    let raw = format!("{base}&fields=voltage_l1_v,energy_import_kwh");
    let page = json(&server, &raw).await;
    assert_eq!(page["columns"][0], json!({"name": "ts", "unit": ""}));
    assert_eq!(page["columns"][2], json!({"name": "energy_import_kwh", "unit": "kWh"}));
    assert_eq!(page["columns"].as_array().map(Vec::len), page["rows"][0].as_array().map(Vec::len));
    assert_eq!(page["rows"][1], json!(["2026-05-01T00:00:10.000Z", 231.0, 1001.0]));
    assert_eq!(page["next_cursor"], Value::Null);
    let all = page["rows"].as_array().expect("rows").clone();
    assert_eq!(all.len(), 90);
    assert_eq!(pages(&server, &raw, 7).await, all);
    let mut backwards = pages(&server, &format!("{raw}&order=desc"), 11).await;
    backwards.reverse();
    assert_eq!(backwards, all);

    let buckets = format!(
        "{base}&fields=voltage_l1_v,energy_import_kwh&interval=5m&agg=avg,count,delta&fill=null"
    );
    let rows = json(&server, &buckets).await["rows"].clone();
    assert_eq!(rows.as_array().map(Vec::len), Some(12), "{rows}");
    assert_eq!(rows[0][2], 30);
    assert_eq!(rows[0][6], 29.0, "what was counted within the first bucket");
    assert_eq!(rows[1][6], 30.0, "and from the one before on");
    let nothing = json!(["2026-05-01T00:10:00.000Z", null, 0, null, null, 0, null]);
    assert_eq!(rows[2], nothing);
    // Ten steps of one, twenty during the gap, and a reset that counts nothing.
    assert_eq!(rows[3][6], 59.0, "{rows}");
    let every = rows.as_array().expect("rows").clone();
    for order in ["asc", "desc"] {
        let mut paged = pages(&server, &format!("{buckets}&order={order}"), 5).await;
        if order == "desc" {
            paged.reverse();
        }
        assert_eq!(paged, every, "{order}");
    }
    let previous = format!("{base}&fields=voltage_l1_v&interval=5m&agg=last&fill=previous");
    let filled = pages(&server, &previous, 2).await;
    assert_eq!(filled.len(), 12);
    assert_eq!(filled[2][1], filled[1][1]);
    let linear = format!("{base}&fields=energy_import_kwh&interval=5m&agg=first&fill=linear");
    for order in ["asc", "desc"] {
        let rows = pages(&server, &format!("{linear}&order={order}"), 1).await;
        let gap = rows.iter().find(|row| row[0] == "2026-05-01T00:10:00.000Z").expect("filled");
        assert_eq!(gap[1], 1060.0, "{order}: half way between 1030 and 1090");
    }
    let days = format!("{base}&fields=voltage_l1_v&interval=1d&agg=count&tz=Africa/Johannesburg");
    let day = json(&server, &days).await;
    assert_eq!(day["rows"][0], json!(["2026-04-30T22:00:00.000Z", 90]));
    assert_eq!(day["tz"], "Africa/Johannesburg");

    let refused = server.get(&format!("{base}&fields=voltage")).await;
    assert_eq!(refused.status(), 400);
    assert_eq!(server.get("/api/devices/none/telemetry/history").await.status(), 404);
    server.stop().await;
}

/// Answers are the same with and without rollups; the dashboard uses rollups only.
#[tokio::test(flavor = "multi_thread")]
async fn rollups_give_the_same_history_and_the_fleets_figures() {
    let dir = tempfile::tempdir().expect("dir");
    let flush = "lake.flush_interval_ms=300";
    let server = Server::start(dir.path(), &[flush, "lake.rollup_interval_seconds=86400"]).await;
    let device = server.device("d1").await;
    // A reading every two minutes for ten hours, with one missing.
    for n in (0..300).filter(|n| *n != 100) {
        publish(&device, "d1", n * 120, 220.0 + (n % 40) as f64, 1000.0 + n as f64).await;
    }
    server.wait_for("SELECT count(*) FROM telemetry", 299).await;
    server.wait_for("SELECT count(*) FROM devices WHERE device_id = 'd1'", 1).await;
    let hours = "/api/devices/d1/telemetry/history?from=2026-05-01T00:07:00Z&to=2026-05-01T09:50:00Z\
                 &fields=voltage_l1_v,energy_import_kwh&interval=1h&agg=count,delta";
    let volts = "/api/devices/d1/telemetry/history?from=2026-04-30T00:00:00Z&to=2026-05-02T00:00:00Z\
                 &fields=voltage_l1_v&interval=15m&agg=min,max,avg,count&tz=Asia/Kathmandu";
    let mut wanted = Vec::new();
    for question in [hours, volts] {
        wanted.push(pages(&server, question, 7).await);
    }
    drop(device);
    server.stop().await;

    let server = Server::start(dir.path(), &[flush, "lake.rollup_interval_seconds=1"]).await;
    let days = "SELECT count(*) FROM rollup_daily WHERE samples = 299 AND day = DATE '2026-05-01'";
    server.wait_for(days, 1).await;
    let stats = "/api/dashboard/stats?from=2026-05-01T00:00:00Z&to=2026-05-02T00:00:00Z";
    while json(&server, stats).await["complete"] != true {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for (question, wanted) in [hours, volts].into_iter().zip(&wanted) {
        for limit in [7, 1000] {
            assert_eq!(pages(&server, question, limit).await, *wanted, "{question}");
        }
    }
    let found = json(&server, stats).await;
    assert_eq!(found["readings"], 299);
    assert_eq!(found["energy"], json!({"import_kwh": 299.0, "export_kwh": 0.0}));
    let top = json!([{"device_id": "d1", "name": null, "energy_import_kwh": 299.0}]);
    assert_eq!(found["top_devices"], top);
    assert_eq!(found["freshness"]["devices"], 1);
    assert!(found["storage"].as_array().is_some_and(|tables| tables.len() == 8), "{found}");

    // A late reading is in the answer at once, and in the rollups soon.
    let device = server.device("d1").await;
    publish(&device, "d1", 100 * 120, 400.0, 1100.0).await;
    server.wait_for("SELECT count(*) FROM telemetry", 300).await;
    let hours = pages(&server, hours, 1000).await;
    assert_eq!(hours[3][1], 30, "{hours:?}");
    let volts = pages(&server, volts, 1000).await;
    assert!(volts.iter().any(|row| row[2] == 400.0), "{volts:?}");
    let late = "SELECT count(*) FROM rollup_daily WHERE samples = 300 AND voltage_l1_v_max = 400";
    server.wait_for(late, 1).await;
    assert_eq!(json(&server, stats).await["readings"], 300);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_are_whole_or_visibly_broken() {
    let dir = tempfile::tempdir().expect("dir");
    let mut server = Server::start(dir.path(), &["lake.flush_interval_ms=300"]).await;
    server.expect("a file of the lake is damaged");
    let device = server.device("d1").await;
    for n in 0..200 {
        publish(&device, "d1", n, 230.25, n as f64).await;
    }
    server.wait_for("SELECT count(*) FROM telemetry", 200).await;
    server.wait_for("SELECT count(*) FROM devices WHERE device_id = 'd1'", 1).await;
    let base = "/api/devices/d1/telemetry/export?from=2026-05-01T00:00:00Z&to=2026-05-02T00:00:00Z&fields=voltage_l1_v";
    let answer = server.get(base).await;
    let name = answer.headers()["content-disposition"].to_str().expect("text").to_owned();
    assert!(name.contains("d1_20260501T000000Z_20260502T000000Z.csv"), "{name}");
    let csv = answer.text().await.expect("csv");
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 201);
    assert_eq!(lines[0], "ts,received_at,source,connection,seq,boot,voltage_l1_v");
    assert!(lines[1].starts_with("2026-05-01T00:00:00.000Z,") && lines[1].ends_with(",230.25"));

    let trailers = trailers(&server, base).await;
    assert!(trailers.contains("x-row-count: 200"), "{trailers}");
    assert!(
        trailers.contains(&format!("x-content-sha256: {}", sha256(csv.as_bytes()))),
        "{trailers}"
    );

    let ndjson = server.get(&format!("{base}&format=ndjson")).await.text().await.expect("lines");
    let first: Value = serde_json::from_str(ndjson.lines().next().expect("a line")).expect("json");
    assert_eq!((ndjson.lines().count(), &first["voltage_l1_v"]), (200, &json!(230.25)));
    for (format, python) in [
        ("parquet", "import pyarrow.parquet as p; t = p.read_table(path)"),
        ("arrow", "import pyarrow as a; t = a.ipc.open_stream(path).read_all()"),
    ] {
        let answer = server.get(&format!("{base}&format={format}&decimals=true")).await;
        let path = dir.path().join(format);
        std::fs::write(&path, answer.bytes().await.expect("bytes")).expect("write");
        let program = format!(
            "import sys; path = sys.argv[1]; {python}; \
             print(t.num_rows, t.column('voltage_l1_v')[0].as_py())"
        );
        let output = std::process::Command::new(root().join("target/python/bin/python"))
            .args(["-c", &program])
            .arg(&path)
            .output()
            .expect("python");
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert_eq!(said, "200 230.25", "{}", String::from_utf8_lossy(&output.stderr));
    }

    // A file can't be read in the middle of the export: the answer must not look complete.
    let lake = json!({"query": "SELECT count(*) FROM telemetry", "consistency": "lake"});
    while server.ask(lake.clone()).await.rows[0][0] != 200 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for file in std::fs::read_dir(dir.path().join("lake/telemetry/date=2026-05-01")).expect("day") {
        let path = file.expect("file").path();
        let mut bytes = std::fs::read(&path).expect("read");
        let middle = bytes.len() / 3;
        bytes[4..middle].fill(0xFF);
        std::fs::write(&path, bytes).expect("write");
    }
    let answer = server.get(base).await;
    if answer.status().is_success() {
        answer.text().await.expect_err("broken off");
    } else {
        assert_eq!(answer.status(), 500, "{:?}", answer.text().await);
    }
    let sum = json!({"query": "SELECT sum(voltage_l1_v) FROM telemetry"});
    let answer = server.post("/api/sql", &sum).await;
    assert_eq!(answer.status(), 500);
    let problem: Value = answer.json().await.expect("json");
    assert_eq!(problem["code"], "damaged");
    let detail = problem["detail"].as_str().expect("text");
    assert!(detail.contains("telemetry/date=2026-05-01/part-"), "{detail}");
    server.kill();
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The end of the answer on the wire: what comes after the last chunk.
async fn trailers(server: &Server, path: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let host = server.http.trim_start_matches("http://");
    let mut socket = tokio::net::TcpStream::connect(host).await.expect("connect");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\nTE: trailers\r\n\
         Connection: close\r\n\r\n",
        server.token().await
    );
    socket.write_all(request.as_bytes()).await.expect("write");
    let mut all = Vec::new();
    socket.read_to_end(&mut all).await.expect("read");
    let text = String::from_utf8_lossy(&all).to_lowercase();
    text.rsplit_once("\r\n0\r\n").expect("a last chunk").1.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fleets_latest_is_right_for_late_readings_and_behind_a_restart() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &[]).await;
    for n in 0..70 {
        let id = format!("d{n:02}");
        let device = server.device(&id).await;
        publish(&device, &id, 100 + n % 3, 230.0 + n as f64, 1.0).await;
        publish(&device, &id, 50, 1.0, 1.0).await;
        device.close().await;
    }
    server.wait_for("SELECT count(*) FROM telemetry", 140).await;
    server.wait_for("SELECT count(*) FROM devices", 70).await;
    let check = async |server: &Server| {
        let page = json(server, "/api/telemetry/latest?fields=voltage_l1_v&limit=60").await;
        assert_eq!(
            (page["total"].as_i64(), page["items"].as_array().map(Vec::len)),
            (Some(70), Some(60))
        );
        let cursor = page["next_cursor"].as_str().expect("more").to_owned();
        let path = format!("/api/telemetry/latest?fields=voltage_l1_v&cursor={cursor}");
        let rest = json(server, &path).await;
        let items =
            [page["items"].as_array(), rest["items"].as_array()].map(|i| i.expect("items").clone());
        for (n, item) in items.concat().iter().enumerate() {
            assert_eq!(item["device_id"], format!("d{n:02}"));
            assert_eq!(item["data"], json!({"voltage_l1_v": 230.0 + n as f64}), "{item}");
            let one = json(server, &format!("/api/devices/d{n:02}/telemetry")).await;
            assert_eq!((&one["ts"], &one["source"]), (&item["ts"], &item["source"]));
        }
    };
    check(&server).await;
    server.stop().await;
    let server = Server::start(dir.path(), &[]).await;
    server.wait_for("SELECT count(*) FROM telemetry", 140).await;
    check(&server).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_can_be_asked_for_again() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &["lake.flush_interval_ms=100"]).await;
    let device = server.device("d1").await;
    let ask = |version: i64| json!({"query": "SELECT count(*) AS n, max(ts) FROM telemetry", "at_version": version});
    let mut answers = Vec::new();
    for n in 0..4 {
        publish(&device, "d1", n, 230.0, 1.0).await;
        let lake = json!({"query": "SELECT count(*) FROM telemetry", "consistency": "lake"});
        let version = loop {
            let answer = server.ask(lake.clone()).await;
            if answer.rows[0][0] == n + 1 {
                break answer.lake_version;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        answers.push((version, server.ask(ask(version)).await.rows));
    }
    for (version, rows) in &answers {
        let again = server.ask(ask(*version)).await;
        assert_eq!((&again.rows, again.lake_version), (rows, *version));
    }
    assert_eq!(answers[1].1[0][0], 2);
    let none = server.post("/api/sql", &ask(100_000)).await;
    assert_eq!(none.status(), 400);
    assert!(none.text().await.expect("text").contains("no version 100000"));
    let other = json!({"query": "SELECT count(*) FROM heartbeats", "at_version": 1});
    assert_eq!(server.post("/api/sql", &other).await.status(), 400);
    server.stop().await;
}
