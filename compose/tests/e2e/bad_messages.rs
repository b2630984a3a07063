//! Ten thousand bad messages of every kind among good ones.

use std::collections::BTreeMap;

use acuvim_wire::Reason;

use crate::harness::{Server, T0, reading, resident_mb};

/// Topic (`{}` stands for the device), payload, and the reason of its dead letter.
fn kinds() -> Vec<(&'static str, String, Reason)> {
    let telemetry = "acuvim/{}/telemetry";
    let long = |n: usize| "x".repeat(n);
    vec![
        (telemetry, String::new(), Reason::Empty),
        (telemetry, "\u{0}binary\u{1}".to_owned(), Reason::NotJson),
        (telemetry, "{\"ts\":1777593600".to_owned(), Reason::NotJson),
        (telemetry, "[1,2,3]".to_owned(), Reason::NotJson),
        (telemetry, format!("{{\"a\":{}", "[".repeat(5000)), Reason::NotJson),
        (telemetry, "{\"f\":50}".to_owned(), Reason::NoTs),
        (telemetry, "{\"ts\":\"yesterday\"}".to_owned(), Reason::BadTs),
        (telemetry, "{\"ts\":{}}".to_owned(), Reason::WrongType),
        (telemetry, "{\"ts\":1777593600,\"v1\":\"230\"}".to_owned(), Reason::WrongType),
        (telemetry, "{\"ts\":4102444800,\"f\":50}".to_owned(), Reason::TsInFuture),
        (telemetry, "{\"ts\":1500000000,\"f\":50}".to_owned(), Reason::TsBefore2020),
        (telemetry, "{\"ts\":1580000000,\"f\":50}".to_owned(), Reason::Expired),
        (telemetry, "{\"boot\":3,\"uptime_ms\":9,\"f\":50}".to_owned(), Reason::ClockUnset),
        (telemetry, "{\"ts\":1777593600,\"device_id\":\"x\"}".to_owned(), Reason::IdMismatch),
        (
            telemetry,
            format!("{{\"ts\":1777593600,\"a\":{}{}}}", "[".repeat(40), "]".repeat(40)),
            Reason::TooDeep,
        ),
        (telemetry, vec!["{\"ts\":1}"; 501].join("\n"), Reason::TooManyItems),
        ("acuvim/{}/heartbeat", "{}".to_owned(), Reason::NoTs),
        ("acuvim/{}/heartbeat", "{\"ts\":{},\"boot\":3}".to_owned(), Reason::WrongType),
        ("acuvim/{}/status", "sideways".to_owned(), Reason::NotJson),
        ("acuvim/{}/alerts", "{\"ts\":1777593600}".to_owned(), Reason::WrongType),
        ("acuvim/{}/resp", "{\"status\":\"done\"}".to_owned(), Reason::WrongType),
        ("acuvim/not a device/telemetry", "{}".to_owned(), Reason::BadDeviceId),
        ("devices/register", "{\"imei\":\"1\"}".to_owned(), Reason::BadDeviceId),
        (telemetry, format!("{{\"ts\":1777593600,\"a\":\"{}\"}}", long(790_000)), Reason::TooLarge),
    ]
}

const DEVICES: usize = 10;
const BAD: usize = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn good_ones_are_stored_bad_ones_kept_with_a_reason_and_memory_stays_flat() {
    let dir = tempfile::tempdir().expect("dir");
    let server =
        Server::start(dir.path(), &["lake.flush_interval_ms=500", "telemetry.retention_days=2000"])
            .await;
    let small = kinds().len() - 1;
    let mut good = 0;
    let mut wanted: BTreeMap<&str, i64> = BTreeMap::new();
    let mut memory = Vec::new();
    let each = BAD / DEVICES;
    for part in 0..4 {
        let mut senders = Vec::new();
        for device in 0..DEVICES {
            let id = format!("d{device}");
            let connection = server.device(&id).await;
            let range = part * each / 4..(part + 1) * each / 4;
            for n in range.clone() {
                // Rarely the one of 790 KB, which would otherwise dominate the time.
                let (_, _, reason) = &kinds()[if n % 250 == 0 { small } else { n % small }];
                *wanted.entry(reason.as_str()).or_default() += 1;
                good += i64::from(n % 5 == 0);
            }
            senders.push(tokio::spawn(async move {
                let kinds = kinds();
                let mut waiting = Vec::new();
                for n in range {
                    let (topic, payload, _) = &kinds[if n % 250 == 0 { small } else { n % small }];
                    let topic = topic.replace("{}", &id);
                    waiting
                        .push(connection.send(&topic, payload.clone(), false).await.expect("send"));
                    if n % 5 == 0 {
                        let topic = format!("acuvim/{id}/telemetry");
                        let ts = T0 + i64::try_from(n).expect("small") * 1000;
                        waiting
                            .push(connection.send(&topic, reading(ts), false).await.expect("send"));
                    }
                    if waiting.len() >= 50 {
                        for ack in waiting.drain(..) {
                            ack.await.expect("acknowledged");
                        }
                    }
                }
                for ack in waiting {
                    ack.await.expect("acknowledged");
                }
            }));
        }
        for sender in senders {
            sender.await.expect("sender");
        }
        memory.push(resident_mb(server.pid()));
    }
    server.wait_for("SELECT count(*) FROM telemetry", good).await;
    server.wait_for("SELECT count(*) FROM dead_letters", i64::try_from(BAD).expect("small")).await;
    let rows =
        server.sql("SELECT reason, count(*) FROM dead_letters GROUP BY 1 ORDER BY 1").await.rows;
    let got: BTreeMap<&str, i64> = rows
        .iter()
        .map(|r| (r[0].as_str().expect("text"), r[1].as_i64().expect("a number")))
        .collect();
    assert_eq!(got, wanted);
    let cut = "SELECT count(*) FROM dead_letters WHERE payload_length > 65536 AND \
        length(encode(payload, 'hex')) = 131072 AND payload_sha256 IS NOT NULL";
    assert_eq!(server.number(cut).await, wanted["too_large"], "cut, with length and hash");
    println!("resident memory after each quarter, MB: {memory:?}");
    assert!(memory[3] < memory[0] + 150, "memory grew: {memory:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_raises_alerts_without_end_is_told_of_once_and_takes_no_room() {
    let dir = tempfile::tempdir().expect("dir");
    let set = ["lake.flush_interval_ms=300", "mqtt.device_alerts_per_day=3"];
    let mut server = Server::start(dir.path(), &set).await;
    server.expect("a device sends more than it may in a day");
    let device = server.device("mad").await;
    for n in 0..20 {
        let alert = format!("{{\"ts\":{},\"type\":\"kind_{n}\"}}", 1_777_593_600 + n);
        device.publish("acuvim/mad/alerts", alert, false).await.expect("ack");
    }
    device.publish("acuvim/mad/telemetry", reading(T0), false).await.expect("ack");
    server.wait_for("SELECT count(*) FROM telemetry", 1).await;
    let letters =
        "SELECT count(*) FROM dead_letters WHERE device_id = 'mad' AND reason = 'daily_limit'";
    server.wait_for(letters, 1).await;
    server.wait_for("SELECT count(*) FROM alerts WHERE device_id = 'mad'", 3).await;
    server.stop().await;
}
