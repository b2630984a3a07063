//! The stream over time: devices that fall silent, batches that are lost, readings without a clock.

use acuvim_control::AlertFilter;
use acuvim_model::{AlertOrigin, DeviceStatus};
use acuvim_wire::{
    Kind, Micros,
    time::{SECOND, to_rfc3339},
};
use arrow::array::{Array as _, AsArray as _};

use crate::fixture::{TestStream, quick, same_partition};

/// An hour ago, so that no message is ahead of this machine's clock.
fn begin() -> Micros {
    (chrono::Utc::now().timestamp() - 3600) * SECOND
}

fn heartbeat(ts: Micros, interval: i64) -> String {
    format!(r#"{{"ts":"{}","heartbeat_interval_s":{interval},"boot":1}}"#, to_rfc3339(ts))
}

/// The changes of a device's status in the lake, in order: the new status, and how many seconds
/// after the beginning.
fn events(stream: &TestStream, device: &str, begun: Micros) -> Vec<(String, i64)> {
    let rows = stream.sql(&format!(
        "SELECT status, (CAST(ts AS BIGINT) - {begun}) / 1000000 AS second FROM device_events
         WHERE device_id = '{device}' AND event = 'status' ORDER BY ts"
    ));
    let mut events = Vec::new();
    for batch in &rows {
        let to = batch.column(0).as_string::<i32>();
        let second = batch.column(1).as_primitive::<arrow::datatypes::Int64Type>();
        for row in 0..to.len() {
            events.push((to.value(row).to_owned(), second.value(row)));
        }
    }
    events
}

#[test]
fn a_device_that_stops_is_degraded_then_offline_and_back_with_its_next_heartbeat() {
    let stream = TestStream::new(quick(), &[]);
    let begun = begin();
    let at = |second: i64| begun + second * SECOND;
    stream.pulse(at(0));
    // The silence of a partition's devices is evaluated together. This one's becomes a status two
    // seconds earlier each time: once that shows, the other device was looked at too.
    let marker = same_partition("stops");
    let marker = marker.as_str();
    for second in [0, 10, 18] {
        stream.append(&[(Kind::Heartbeat, marker, heartbeat(at(second), 10), at(second))]);
    }
    for second in [0, 10, 20] {
        stream.append(&[(Kind::Heartbeat, "stops", heartbeat(at(second), 10), at(second))]);
        stream.append(&[(Kind::Heartbeat, "slow", heartbeat(at(second), 600), at(second))]);
    }
    // The pulse of ingest is what moves time on.
    for second in [30, 40, 51] {
        stream.pulse(at(second));
    }
    let status = |device: &str, wanted: DeviceStatus| {
        stream.wait_for(wanted.as_str(), async |control, _| {
            let device = control.device(device, None).await.expect("ask");
            device.filter(|device| device.status == wanted)
        })
    };
    let status_now = |device: &str| {
        let device = stream.wait_for("the device", async |control, _| {
            control.device(device, None).await.expect("ask")
        });
        device.status
    };
    // Due at 20 + 3 x 10 s, and two seconds are left for records on their way to the log.
    status(marker, DeviceStatus::Degraded);
    assert_eq!(status_now("stops"), DeviceStatus::Online);
    stream.pulse(at(53));
    status("stops", DeviceStatus::Degraded);
    stream.pulse(at(60));
    stream.pulse(at(71));
    status(marker, DeviceStatus::Offline);
    assert_eq!(status_now("stops"), DeviceStatus::Degraded);
    stream.pulse(at(73));
    let device = status("stops", DeviceStatus::Offline);
    assert_eq!(device.status_at.map(|t| t.timestamp_micros() / SECOND), Some(at(70) / SECOND));
    stream.append(&[(Kind::Heartbeat, "stops", heartbeat(at(90), 10), at(90))]);
    status("stops", DeviceStatus::Online);
    let wanted = [("online", 0), ("degraded", 50), ("offline", 70), ("online", 90)];
    let wanted = wanted.map(|(status, second)| (status.to_owned(), second));
    stream.wait_for("every change is in the lake, once", async |control, _| {
        control.events_for_lake(9).await.expect("ask").is_empty().then_some(())
    });
    let count = "SELECT count(*) FROM device_events WHERE device_id = 'stops' AND event = 'status'";
    stream.wait_scalar(count, 4);
    assert_eq!(events(&stream, "stops", begun), wanted);
    assert_eq!(events(&stream, "slow", begun).len(), 1, "its own interval is not over");
    let mut alerts = stream.alerts();
    alerts.retain(|alert| alert.device_id.as_deref() != Some(marker));
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!((alerts[0].alert_type.as_str(), alerts[0].origin), ("offline", AlertOrigin::Health));
    assert!(alerts[0].resolved_at.is_some());
}

#[test]
fn a_server_that_was_down_marks_nobody_offline() {
    let mut stream = TestStream::new(quick(), &[]);
    let begun = begin();
    let at = |second: i64| begun + second * SECOND;
    for second in [0, 10] {
        stream.append(&[(Kind::Heartbeat, "d", heartbeat(at(second), 10), at(second))]);
    }
    stream.settle();
    stream.crash();
    // Twenty minutes later ingest is back, and only one device is heard, for a moment. Its own
    // silence is due at 1295 s: once it is degraded, the silence of the other one was evaluated
    // too.
    let marker = same_partition("d");
    let marker = marker.as_str();
    for second in [1200, 1210, 1240] {
        stream.pulse(at(second));
    }
    stream.append(&[(Kind::Heartbeat, marker, heartbeat(at(1265), 10), at(1265))]);
    for second in [1270, 1300] {
        stream.pulse(at(second));
    }
    stream.wait_for("the marker is degraded", async |control, _| {
        let device = control.device(marker, None).await.expect("ask")?;
        (device.status == DeviceStatus::Degraded).then_some(())
    });
    stream.append(&[(Kind::Heartbeat, "d", heartbeat(at(1310), 10), at(1310))]);
    stream.settle();
    stream.wait_for("it is heard", async |control, _| {
        let device = control.device("d", None).await.expect("ask").expect("there");
        (device.heard_at.map(|t| t.timestamp_micros()) == Some(at(1310) / 1000 * 1000))
            .then_some(())
    });
    assert!(stream.alerts().is_empty());
    stream.wait_for("events are in the lake", async |control, _| {
        control.events_for_lake(9).await.expect("ask").is_empty().then_some(())
    });
    stream.wait_for("and there", async |_, lake| {
        let snapshot = lake.snapshot(acuvim_tables::Table::DeviceEvents);
        (snapshot.expect("a table").file_count() > 0).then_some(())
    });
    let changes = "SELECT count(*) FROM device_events WHERE device_id = 'd' AND event = 'status'";
    assert_eq!(stream.scalar(changes), 1, "online, once");
}

#[test]
fn the_ledger_finds_a_batch_that_was_lost_and_names_its_offsets() {
    let options = acuvim_processor::ProcessorOptions {
        guards: acuvim_processor::StreamGuards::default().losing(6),
        ..quick()
    };
    let stream = TestStream::new(options, &[]);
    let begun = begin();
    let reading = |n: i64| {
        let ts = begun + n * SECOND;
        (Kind::Telemetry, "a", format!(r#"{{"ts":"{}","f":50}}"#, to_rfc3339(ts)), ts)
    };
    let first: Vec<_> = (0..4).map(reading).collect();
    stream.append(&first);
    stream.settle();
    // A batch of its own, offsets 4 to 8, with a duplicate among them.
    let mut lost: Vec<_> = (4..8).map(reading).collect();
    lost.push(reading(0));
    stream.append(&lost);
    stream.settle();
    stream.append(&(8..12).map(reading).collect::<Vec<_>>());
    stream.settle();
    let alert = stream.wait_for("the alert", async |control, _| {
        let filter = AlertFilter {
            alert_type: Some("ledger_unbalanced".into()),
            limit: 9,
            ..AlertFilter::default()
        };
        control.alerts(&filter, None).await.expect("ask").0.into_iter().next()
    });
    assert_eq!(alert.origin, AlertOrigin::System);
    let metadata = alert.metadata.expect("offsets");
    assert_eq!(metadata["missing_offsets"], serde_json::json!([[4, 7]]), "{metadata}");
    assert!(alert.message.contains("in no table: 4 to 7"), "{}", alert.message);
}

#[test]
fn readings_without_a_clock_are_stored_once_their_boot_has_one() {
    let stream = TestStream::new(quick(), &[]);
    let begun = begin();
    let at = |second: i64| begun + second * SECOND;
    let clockless = |uptime: i64| format!(r#"{{"boot":7,"uptime_ms":{},"f":50}}"#, uptime * 1000);
    stream.append(&[
        (Kind::Telemetry, "gsm", clockless(5), at(5)),
        (Kind::Telemetry, "gsm", clockless(15), at(15)),
        (Kind::Telemetry, "gsm", r#"{"boot":6,"uptime_ms":5,"f":50}"#.into(), at(16)),
    ]);
    stream.settle();
    assert_eq!(stream.scalar("SELECT count(*) FROM telemetry"), 0);
    let anchor = format!(r#"{{"ts":"{}","boot":7,"uptime_ms":20000}}"#, to_rfc3339(at(20)));
    stream.append(&[(Kind::Heartbeat, "gsm", anchor, at(20))]);
    stream.wait_scalar("SELECT count(*) FROM telemetry", 2);
    let times = format!(
        "SELECT count(*) FROM telemetry WHERE ts IN (to_timestamp_micros({}), \
         to_timestamp_micros({}))",
        at(5),
        at(15)
    );
    assert_eq!(stream.scalar(&times), 2, "begun plus uptime");
    stream.settle();
    assert_eq!(stream.scalar("SELECT count(*) FROM telemetry"), 2, "once");
    // A reading that arrives later gets its time too. When it has, the boot was looked at again.
    stream.append(&[(Kind::Telemetry, "gsm", clockless(25), at(2000))]);
    stream.wait_scalar("SELECT count(*) FROM telemetry", 3);
    assert_eq!(stream.scalar("SELECT count(*) FROM telemetry"), 3, "each once");
    let late = format!("SELECT count(*) FROM telemetry WHERE ts = to_timestamp_micros({})", at(25));
    assert_eq!(stream.scalar(&late), 1, "begun plus uptime, whenever it arrives");
}

#[test]
fn a_stop_takes_no_longer_than_what_there_is_to_do() {
    let mut stream = TestStream::new(quick(), &[]);
    stream.pulse(begin());
    stream.settle();
    // A task that does not end at the stop signal would be waited for for minutes.
    let begun = std::time::Instant::now();
    stream.restart_within(std::time::Duration::from_secs(400));
    assert!(begun.elapsed() < std::time::Duration::from_secs(50), "{:?}", begun.elapsed());
}
