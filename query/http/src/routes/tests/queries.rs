//! Readings and SQL: histories, exports, completeness, imports and replays.

use acuvim_log::{LogTopic, ReadLimit};
use acuvim_wire::{Kind, Record};
use axum::{
    body::Body,
    http::{Request, header},
};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::testing::{Answer, Server};

/// A time of so many seconds ago.
fn ago(seconds: i64) -> DateTime<Utc> {
    let now = Utc::now().timestamp() - seconds;
    DateTime::from_timestamp(now, 0).expect("a time")
}

fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A server with three readings of `d1`, ten seconds apart.
async fn with_readings() -> (Server, [DateTime<Utc>; 3]) {
    let server = Server::new().await;
    server.device("d1").await;
    let times = [120, 110, 100].map(ago);
    for (n, at) in times.into_iter().enumerate() {
        let reading = json!({"ts": text(at), "voltage_l1_v": 230 + n, "seq": n, "boot": 1});
        server.telemetry("d1", &reading.to_string());
    }
    (server, times)
}

#[tokio::test]
async fn one_select_is_run_and_everything_else_is_refused() {
    let (server, _) = with_readings().await;
    let run =
        async |query: &str| server.post(&server.viewer, "/api/sql", json!({"query": query})).await;
    let answer = run("SELECT device_id, count(*) AS n FROM telemetry GROUP BY 1").await.json();
    assert_eq!((&answer["rows"], &answer["row_count"]), (&json!([["d1", 3]]), &json!(1)));
    for query in [
        "",
        "SELEC 1",
        "DROP TABLE telemetry",
        "SELECT 1; SELECT 2",
        "INSERT INTO telemetry VALUES (1)",
        "SELECT * FROM '/etc/passwd'",
        "COPY telemetry TO 'x.csv'",
        "SET x = 1",
        "SELECT * FROM users",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "SELECT nothing FROM telemetry",
    ] {
        run(query).await.problem(400);
    }
    let params = json!({"query": "SELECT count(*) FROM telemetry WHERE device_id = $1", "params": ["' OR 1=1 --"]});
    assert_eq!(server.post(&server.viewer, "/api/sql", params).await.json()["rows"], json!([[0]]));
    let many = json!({"query": "SELECT 1", "colour": 1});
    assert_eq!(server.post(&server.viewer, "/api/sql", many).await.field(), "colour");
}

#[tokio::test]
async fn csv_is_asked_for_by_the_body_or_the_header_and_says_how_much_it_is() {
    let (server, _) = with_readings().await;
    let ask = async |accept: &str, body: Value| {
        let request = Request::builder()
            .method("POST")
            .uri("/api/sql")
            .header("x-api-key", &server.viewer)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, accept)
            .body(Body::from(body.to_string()))
            .expect("a request");
        server.send(request).await
    };
    let query = "SELECT device_id, 'a,\"b' AS odd FROM telemetry LIMIT 1";
    let answer = ask("text/csv", json!({"query": query})).await;
    assert_eq!(answer.header("content-type"), "text/csv; charset=utf-8");
    assert_eq!((answer.header("x-row-count"), answer.header("x-truncated")), ("1", "false"));
    assert_eq!(answer.text().lines().collect::<Vec<_>>(), ["device_id,odd", "d1,\"a,\"\"b\""]);
    let json = ask("text/csv", json!({"query": query, "format": "json"})).await;
    assert_eq!(json.header("content-type"), "application/json", "the body wins");
}

#[tokio::test]
async fn a_history_has_its_beginning_and_not_its_end() {
    let (server, [first, second, third]) = with_readings().await;
    let rows = async |query: String| {
        let path = format!("/api/devices/d1/telemetry/history?{query}");
        let history = server.get(&server.viewer, &path).await.json();
        history["rows"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(rows(String::new()).await, 3, "the last day");
    assert_eq!(rows(format!("from={}&to={}", text(first), text(third))).await, 2);
    assert_eq!(
        rows(format!("from={}&to={}", text(second), text(third + TimeDelta::seconds(1)))).await,
        2
    );
    assert_eq!(rows(format!("from={}", third.timestamp())).await, 1, "Unix seconds");
    assert_eq!(rows("limit=2".to_owned()).await, 2);
    for (query, field) in [
        ("from=x", "from"),
        ("to=x", "to"),
        ("fields=colour", "fields"),
        ("interval=7x", "interval"),
        ("interval=1h&agg=median", "agg"),
        ("interval=1h&fill=magic", "fill"),
        ("tz=Mars/Base", "tz"),
        ("order=up", "order"),
        ("cursor=x", "cursor"),
    ] {
        let path = format!("/api/devices/d1/telemetry/history?{query}");
        let answer = server.get(&server.viewer, &path).await;
        assert_eq!(answer.field(), field, "{query}: {}", answer.text());
    }
}

#[tokio::test]
async fn an_export_is_a_file_whose_name_is_harmless() {
    let (server, _) = with_readings().await;
    let path = "/api/devices/d1/telemetry/export?fields=voltage_l1_v";
    let csv = server.get(&server.viewer, path).await;
    assert_eq!(csv.status, 200, "{}", csv.text());
    assert_eq!(csv.text().lines().count(), 4, "{}", csv.text());
    let name = csv.header("content-disposition");
    assert!(name.starts_with("attachment; filename=\"d1_") && name.ends_with(".csv\""), "{name}");
    assert_eq!(csv.header("trailer"), super::super::telemetry::TRAILERS);
    for (format, begin) in [("ndjson", &b"{"[..]), ("parquet", b"PAR1")] {
        let file = server.get(&server.viewer, &format!("{path}&format={format}")).await;
        assert!(file.body.starts_with(begin), "{format}");
        assert!(file.header("content-disposition").contains(format), "{format}");
    }
    assert_eq!(server.get(&server.viewer, &format!("{path}&format=xls")).await.field(), "format");
    let backwards = format!("{path}&from=2026-05-02T00:00:00Z&to=2026-05-01T00:00:00Z");
    assert_eq!(server.get(&server.viewer, &backwards).await.field(), "to");
}

#[tokio::test]
async fn the_fleets_latest_readings_are_walked_page_by_page() {
    let (server, [.., third]) = with_readings().await;
    server.device("d2").await;
    server.telemetry("d2", &json!({"ts": text(third), "voltage_l1_v": 110}).to_string());
    let path = "/api/telemetry/latest?fields=voltage_l1_v&limit=1";
    let first = server.get(&server.viewer, path).await.json();
    assert_eq!((&first["items"][0]["device_id"], &first["total"]), (&json!("d1"), &json!(2)));
    assert_eq!(first["items"][0]["data"]["voltage_l1_v"], 232.0);
    let cursor = first["next_cursor"].as_str().expect("a cursor");
    let second = server.get(&server.viewer, &format!("{path}&cursor={cursor}")).await.json();
    assert_eq!(second["items"][0]["device_id"], "d2");
    assert_eq!(
        server.get(&server.viewer, "/api/telemetry/latest?fields=colour").await.field(),
        "fields"
    );
    let nobody = format!("/api/telemetry/latest?group_id={}", uuid::Uuid::nil());
    assert_eq!(server.get(&server.viewer, &nobody).await.json()["items"], json!([]));
    server.status.lock().expect("a status").not_hot = Some("the tail is being read".to_owned());
    server.get(&server.viewer, path).await.problem(503);
}

#[tokio::test]
async fn completeness_counts_gaps_in_a_devices_own_numbers() {
    let (server, [first, _, third]) = with_readings().await;
    server.telemetry(
        "d1",
        &json!({"ts": text(third + TimeDelta::seconds(10)), "seq": 6, "boot": 1}).to_string(),
    );
    let path = "/api/devices/d1/completeness";
    let day = server.get(&server.viewer, path).await.json();
    assert_eq!((&day["stored"], &day["missing_seq"]), (&json!(4), &json!(3)), "3, 4 and 5");
    assert_eq!(day["expected"], Value::Null, "nobody knows its interval");
    let config = json!({"section": "telemetry", "values": {"interval_s": 10}});
    server.post(&server.operator, "/api/devices/d1/config", config).await;
    let from = text(first);
    let range = format!("{path}?from={from}&to={}", text(third));
    let day = server.get(&server.viewer, &range).await.json();
    assert_eq!(
        (&day["stored"], &day["expected"], &day["interval_s"]),
        (&json!(2), &json!(2), &json!(10))
    );
    let ahead = format!("{path}?from={from}&to={}", text(ago(0) + TimeDelta::hours(5)));
    let ahead = server.get(&server.viewer, &ahead).await.json();
    assert!(ahead["expected"].as_i64().is_some_and(|n| n < 20), "{}", ahead["expected"]);
    for (from, to) in [
        ("2026-05-02T00:00:00Z", "2026-05-01T00:00:00Z"),
        ("2026-05-01T00:00:00Z", "2026-05-01T00:00:00Z"),
        ("2026-05-01T00:00:00Z", "2026-06-01T00:00:01Z"),
    ] {
        let answer = server.get(&server.viewer, &format!("{path}?from={from}&to={to}")).await;
        assert_eq!(answer.field(), "from", "{from} to {to}");
    }
    let longest = format!("{path}?from=2026-05-01T00:00:00Z&to=2026-06-01T00:00:00Z");
    let hours = server.get(&server.viewer, &longest).await.json()["hours"].as_array().map(Vec::len);
    assert_eq!(hours, Some(31 * 24), "hours without a reading too");
}

#[tokio::test]
async fn a_reading_is_traced_by_its_time_to_the_millisecond() {
    let (server, [first, ..]) = with_readings().await;
    let trace = async |ts: &str| {
        server.get(&server.viewer, &format!("/api/devices/d1/telemetry/trace?ts={ts}")).await
    };
    let found = trace(&text(first)).await.json();
    assert_eq!((&found["identity"], &found["committed"]), (&json!("0:0:0:0"), &json!(false)));
    trace(&text(first + TimeDelta::seconds(1))).await.problem(404);
    assert_eq!(trace("x").await.field(), "ts");
    let missing = server.get(&server.viewer, "/api/devices/d1/telemetry/trace").await;
    assert_eq!(missing.field(), "ts");
    server.lake.flush(true).await.expect("flushed");
    assert_eq!(trace(&text(first)).await.json()["committed"], true);
}

/// Everything in the log.
async fn records(server: &Server) -> Vec<Record> {
    let limit = ReadLimit { records: 1000, bytes: 1 << 20, wait: std::time::Duration::ZERO };
    let batch = server.log.read(LogTopic::Uplink, 0, 0, limit).await.expect("the log answers");
    batch.entries.iter().map(|(_, entry)| Record::try_from(entry).expect("a record")).collect()
}

async fn replay(server: &Server, key: &str, body: Value) -> Answer {
    server.post(key, "/api/dead-letters/replay", body).await
}

#[tokio::test]
async fn a_dead_letter_is_brought_again_once_and_mended_if_that_is_asked() {
    let server = Server::new().await;
    let broken = json!({"ts": "2026-05-01T00:00:00", "voltage_l1_v": 230}).to_string();
    let offset = server.telemetry("d1", &broken);
    let of_it = json!({"identities": [format!("0:0:{offset}:0")]});
    let with = |change: Value| {
        let mut body = of_it.clone();
        for (name, value) in change.as_object().expect("an object") {
            body[name] = value.clone();
        }
        body
    };
    let dry = replay(&server, &server.operator, with(json!({"dry_run": true}))).await.json();
    assert_eq!((&dry["matched"], &dry["usable"]), (&json!(1), &json!(0)));
    assert_eq!(dry["faults"].as_array().map(Vec::len), Some(1), "{dry}");
    let repair = json!({"offset": "+02:00"});
    let dry = replay(&server, &server.operator, with(json!({"dry_run": true, "repair": repair})))
        .await
        .json();
    assert_eq!(dry["usable"], 1, "{dry}");
    assert!(records(&server).await.is_empty(), "a dry run appends nothing");
    let done = replay(&server, &server.operator, with(json!({"repair": repair}))).await.json();
    assert_eq!((&done["replayed"], &done["skipped"]), (&json!(1), &json!(0)));
    let again = replay(&server, &server.operator, with(json!({}))).await.json();
    assert_eq!((&again["replayed"], &again["skipped"]), (&json!(0), &json!(1)));
    let appended = records(&server).await;
    assert_eq!(appended.len(), 1);
    assert_eq!((appended[0].key.as_ref(), appended[0].headers.kind), (&b"d1"[..], Kind::Telemetry));
    let audit = server.get(&server.admin, "/api/audit?action=dead_letters.replay").await.json();
    assert_eq!(audit["total"], 2, "dry runs change nothing");
}

#[tokio::test]
async fn a_replay_takes_a_condition_that_can_be_met() {
    let server = Server::new().await;
    for (body, field) in [
        (json!({}), "reason"),
        (json!({"dry_run": true}), "reason"),
        (json!({"reason": "bored"}), "reason"),
        (json!({"kind": "colour"}), "kind"),
        (json!({"identities": ["1:2"]}), "identities"),
        (json!({"identities": vec!["0:0:0:0"; 1001]}), "limit"),
        (json!({"reason": "empty", "limit": 0}), "limit"),
        (json!({"reason": "empty", "limit": 10_001}), "limit"),
        (json!({"reason": "empty", "repair": {"offset": "noon"}}), "repair.offset"),
        (
            json!({"reason": "empty", "repair": {"shift_seconds": 316_224_001.0}}),
            "repair.shift_seconds",
        ),
        (
            json!({"reason": "empty", "repair": {"shift_seconds": -316_224_001.0}}),
            "repair.shift_seconds",
        ),
        (json!({"reason": "empty", "colour": 1}), "colour"),
    ] {
        assert_eq!(replay(&server, &server.operator, body.clone()).await.field(), field, "{body}");
    }
    let longest = json!({"reason": "empty", "repair": {"shift_seconds": 316_224_000.0}});
    assert_eq!(replay(&server, &server.operator, longest).await.json()["matched"], 0);
}

#[tokio::test]
async fn a_caller_replays_dead_letters_of_the_devices_that_it_sees() {
    let server = Server::new().await;
    server.device("mine").await;
    server.device("other").await;
    server.telemetry("mine", "?");
    server.telemetry("other", "?");
    let scoped = server.scoped(acuvim_model::Role::Operator, &["mine"]).await;
    let body = json!({"reason": "not_json", "dry_run": true});
    assert_eq!(replay(&server, &scoped, body.clone()).await.json()["matched"], 1);
    assert_eq!(replay(&server, &server.operator, body).await.json()["matched"], 2);
    let other = json!({"device_id": "other", "dry_run": true});
    assert_eq!(replay(&server, &scoped, other).await.json()["matched"], 0);
}

async fn import(server: &Server, query: &str, content_type: &str, file: &str) -> Answer {
    let request = Request::builder()
        .method("POST")
        .uri(format!("/api/import?{query}"))
        .header("x-api-key", &server.admin)
        .header(header::CONTENT_TYPE, content_type)
        .body(Body::from(file.to_owned()))
        .expect("a request");
    server.send(request).await
}

#[tokio::test]
async fn an_import_that_cant_be_read_appends_nothing() {
    let server = Server::new().await;
    let file = "device_id,ts,voltage_l1_v\n";
    import(&server, "", "application/json", file).await.problem(415);
    assert_eq!(import(&server, "time_zone=Mars/Base", "text/csv", file).await.field(), "time_zone");
    import(&server, "ts=at", "text/csv", file).await.problem(400);
    let none = import(&server, "", "Text/CSV; header=present", file).await.json();
    assert_eq!((&none["rows"], &none["stored"]), (&json!(0), &json!(0)));
    let bad = format!("{file}a b,2026-05-01T00:00:00Z,230\nd1,tomorrow,230\n");
    let refused = import(&server, "", "text/csv", &bad).await.json();
    assert_eq!((&refused["rows"], &refused["refused"]), (&json!(2), &json!(2)));
    assert_eq!(refused["refusals"][1]["row"], 2);
    assert!(records(&server).await.is_empty());
}

#[tokio::test]
async fn an_imports_rows_are_counted_once_the_stream_has_read_them() {
    let server = Server::new().await;
    let ts = text(ago(60));
    let file = format!("device_id,ts,voltage_l1_v\nd1,{ts},230\nd1,{ts},230\nd 1,{ts},230\n");
    let stream = async {
        // The stream: it reads the one record, and stores the first of its two equal readings.
        loop {
            if let [record] = records(&server).await.as_slice() {
                let payload: Value = serde_json::from_slice(&record.value).expect("JSON");
                assert_eq!(payload["batch"].as_array().map(Vec::len), Some(2));
                server.telemetry("d1", &payload["batch"][0].to_string());
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let (done, ()) = tokio::join!(import(&server, "", "text/csv", &file), stream);
    let done = done.json();
    assert_eq!((&done["rows"], &done["records"]), (&json!(3), &json!(1)));
    assert_eq!(
        (&done["stored"], &done["duplicates"], &done["refused"]),
        (&json!(1), &json!(1), &json!(1))
    );
    let audit = server.get(&server.admin, "/api/audit?action=telemetry.import").await.json();
    assert_eq!(audit["total"], 1);
}

#[tokio::test]
async fn the_statistics_of_a_fleet_without_readings_are_zero() {
    let server = Server::new().await;
    let stats = server.get(&server.viewer, "/api/dashboard/stats").await.json();
    assert_eq!((&stats["readings"], &stats["freshness"]["devices"]), (&json!(0), &json!(0)));
    assert_eq!(stats["power_by_hour"], json!([]));
    let (server, _) = with_readings().await;
    let stats = server.get(&server.viewer, "/api/dashboard/stats").await.json();
    assert_eq!(
        (&stats["freshness"]["devices"], &stats["freshness"]["last_15m"]),
        (&json!(1), &json!(1))
    );
}
