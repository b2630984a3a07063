//! Importing readings: over HTTP in three formats, and by the command, interrupted and resumed.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::harness::{PASSWORD, PATIENCE, Server, binary, root};

async fn import(server: &Server, query: &str, content_type: &str, body: Vec<u8>) -> (u16, Value) {
    let answer = server
        .client
        .post(format!("{}/api/import{query}", server.http))
        .bearer_auth(server.token().await)
        .header("Content-Type", content_type)
        .body(body)
        .send()
        .await
        .expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("json"))
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_three_formats_are_stored_once_and_bad_ones_are_named() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &["lake.flush_interval_ms=200"]).await;
    let csv = "meter,at,data,voltage_l2_v\n\
        d1,2026-05-01 02:00:00,\"{\"\"v1\"\": 230.4}\",\n\
        d1,2026-05-01 02:00:10,\"{\"\"v1\"\": 230.5}\",231\n\
        ,2026-05-01 02:00:20,,\n\
        d1,yesterday,,\n\
        d1,2026-05-01 02:00:30,\"{\"\"v1\"\": 1e300}\",\n";
    let query = "?device_id=meter&ts=at&time_zone=Africa/Johannesburg";
    for round in 0..2 {
        let (status, done) = import(&server, query, "text/csv", csv.into()).await;
        assert_eq!(
            (status, &done["rows"], &done["refused"]),
            (200, &json!(5), &json!(2)),
            "{done}"
        );
        let (stored, duplicates) = if round == 0 { (3, 0) } else { (0, 3) };
        assert_eq!((&done["stored"], &done["duplicates"]), (&json!(stored), &json!(duplicates)));
        assert_eq!(done["refusals"][0], json!({"row": 3, "message": "no meter"}));
        assert_eq!(done["refusals"][1]["row"], 4);
        let duplicates = "SELECT coalesce(sum(duplicates), 0) FROM ledger WHERE device_id IS NULL";
        server.wait_for("SELECT count(*) FROM telemetry", 3).await;
        server.wait_for(duplicates, 3 * round).await;
    }
    let rows = server
        .sql("SELECT ts, voltage_l1_v, voltage_l2_v, source FROM telemetry ORDER BY ts")
        .await
        .rows;
    assert_eq!(
        json!(rows),
        json!([
            ["2026-05-01T00:00:00.000Z", 230.4, null, "import"],
            ["2026-05-01T00:00:10.000Z", 230.5, 231.0, "import"],
            ["2026-05-01T00:00:30.000Z", null, null, "import"],
        ])
    );
    let naive = "device_id,ts\nd1,2026-05-01 02:00:00\n";
    let (_, done) = import(&server, "", "text/csv", naive.into()).await;
    let message = done["refusals"][0]["message"].as_str().expect("text");
    assert!(message.contains("time_zone"), "{message}");

    let lines = "{\"device_id\":\"d2\",\"ts\":1777593600,\"f\":50.01}\n\nnonsense\n";
    let (status, done) = import(&server, "", "application/x-ndjson", lines.into()).await;
    assert_eq!((status, &done["rows"], &done["refused"]), (200, &json!(2), &json!(1)), "{done}");

    let path = dir.path().join("a.parquet");
    let program = "import sys, datetime as d, pyarrow as a, pyarrow.parquet as p\n\
        t = [d.datetime(2026, 5, 1, 0, 0, n, tzinfo=d.timezone.utc) for n in range(50)]\n\
        p.write_table(a.table({'device_id': ['d3'] * 50, 'ts': t, 'v1': [230.0 + n for n in range(50)]}), sys.argv[1])";
    let python = root().join("target/python/bin/python");
    let made = Command::new(python).args(["-c", program]).arg(&path).status().expect("python");
    assert!(made.success());
    let file = std::fs::read(&path).expect("file");
    let parquet = "application/vnd.apache.parquet";
    let (status, done) = import(&server, "", parquet, file.clone()).await;
    assert_eq!((status, &done["rows"], &done["refused"]), (200, &json!(50), &json!(0)), "{done}");
    server.wait_for("SELECT count(*) FROM telemetry", 54).await;
    let third = server.sql("SELECT max(voltage_l1_v) FROM telemetry WHERE device_id = 'd3'").await;
    assert_eq!(third.rows[0][0], 279.0);

    let (status, said) = import(&server, "", parquet, file[..file.len() / 2].to_vec()).await;
    assert_eq!(status, 400, "{said}");
    let (status, said) = import(&server, "", "text/csv", "a,b\n1,2\n".into()).await;
    assert_eq!(status, 400);
    assert!(said["detail"].as_str().expect("text").contains("no column device_id"), "{said}");
    assert_eq!(import(&server, "", "text/plain", Vec::new()).await.0, 415);
    // Imported readings are no sign that the device lives.
    server.wait_for("SELECT count(*) FROM devices WHERE status = 'online'", 0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_will_not_be_stored_are_refused_with_row_and_reason() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &[]).await;
    let csv = "device_id,ts,voltage_l1_v,current_l1_a\n\
        d1,2026-05-01T00:00:00Z,230.4,\n\
        d1,2026-05-01T00:00:00Z,230.4,\n\
        d1,2026-05-01T00:00:00Z,,3.5\n\
        d1,2018-05-01T00:00:00Z,230.4,\n\
        d1,2026-05-01T00:00:10Z,high,\n";
    let (status, done) = import(&server, "", "text/csv", csv.into()).await;
    assert_eq!(status, 200, "{done}");
    let counts = ["rows", "stored", "duplicates", "refused"].map(|name| done[name].clone());
    assert_eq!(counts, [json!(5), json!(1), json!(1), json!(3)], "{done}");
    let said: Vec<(u64, &str)> = done["refusals"]
        .as_array()
        .expect("refusals")
        .iter()
        .map(|r| (r["row"].as_u64().expect("a row"), r["message"].as_str().expect("text")))
        .collect();
    assert_eq!(said[0], (3, "same_ts: current_l1_a"));
    assert!(said[1].0 == 4 && said[1].1.starts_with("ts_before_2020"), "{said:?}");
    assert_eq!(said[2], (5, "wrong_type: voltage_l1_v"));
    // The command reports the same, and its exit status tells that rows were refused.
    std::fs::write(dir.path().join("initial-admin-password"), PASSWORD).expect("write");
    let file = dir.path().join("bad.csv");
    std::fs::write(&file, "device_id,ts,voltage_l1_v\nd2,2018-05-01T00:00:00Z,230\n")
        .expect("write");
    let mut command = Command::new(binary());
    command.arg("import").arg(&file).args(["--url", &server.http, "--data-dir"]).arg(dir.path());
    let done = command.output().expect("acuvim import");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("1 rows, 0 stored, 0 duplicates, 1 refused"), "{said}");
    assert!(said.contains("row 1: ts_before_2020"), "{said}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_goes_on_where_it_was_broken_off() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &[]).await;
    std::fs::write(dir.path().join("initial-admin-password"), PASSWORD).expect("write");
    let file = dir.path().join("history.csv");
    let mut text = String::from("device_id,ts,voltage_l1_v\n");
    for n in 0..45_000 {
        let ts = acuvim_wire::time::to_rfc3339((1_777_593_600 + n) * 1_000_000);
        text.push_str(&format!("d{},{ts},230.{}\n", n % 10, n % 10));
    }
    std::fs::write(&file, &text).expect("write");
    let command = || {
        let mut command = Command::new(binary());
        command.arg("import").arg(&file).args(["--url", &server.http, "--data-dir"]);
        command.arg(dir.path()).stderr(Stdio::piped());
        command
    };
    let mark = dir.path().join("history.csv.imported");
    let mut first = command().spawn().expect("acuvim import");
    let begun = Instant::now();
    while !mark.exists() {
        assert!(begun.elapsed() < PATIENCE, "it takes no part");
        std::thread::sleep(Duration::from_millis(2));
    }
    first.kill().expect("kill");
    first.wait().expect("wait");
    assert!(mark.exists(), "it was done before it could be killed");
    let second = command().output().expect("acuvim import");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(second.status.success() && said.contains("going on behind row"), "{said}");
    assert!(said.contains("45000 rows") && said.contains("0 refused"), "{said}");
    assert!(!mark.exists());
    server.wait_for("SELECT count(*) FROM telemetry", 45_000).await;
    let whole = "SELECT count(DISTINCT (device_id, ts)) FROM telemetry WHERE source = 'import'";
    assert_eq!(server.number(whole).await, 45_000);
    server.stop().await;
}
