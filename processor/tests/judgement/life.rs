//! What the stream does over a while: devices that fall silent, batches that are lost, readings
//! without a clock.

use acuvim_control::AlertFilter;
use acuvim_schemas::{
    Kind, Micros,
    api::{AlertOrigin, DeviceStatus},
    time::{SECOND, to_rfc3339},
};
use arrow::array::{Array as _, AsArray as _};

use crate::place::{Place, quick};

/// A while ago, so that nothing is ahead of this machine's clock.
fn begin() -> Micros {
    (chrono::Utc::now().timestamp() - 3600) * SECOND
}

fn heartbeat(ts: Micros, interval: i64) -> String {
    format!(r#"{{"ts":"{}","heartbeat_interval_s":{interval},"boot":1}}"#, to_rfc3339(ts))
}

/// A device's changes of status in the lake, in order: to what, and how long after the beginning.
fn events(place: &Place, device: &str, begun: Micros) -> Vec<(String, i64)> {
    let rows = place.sql(&format!(
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
    let place = Place::new(quick(), &[]);
    let begun = begin();
    let at = |second: i64| begun + second * SECOND;
    place.pulse(at(0));
    for second in [0, 10, 20] {
        place.say(&[(Kind::Heartbeat, "stops", heartbeat(at(second), 10), at(second))]);
        place.say(&[(Kind::Heartbeat, "slow", heartbeat(at(second), 600), at(second))]);
    }
    // Up to 49 s it is late and no more; time passes by what ingest says.
    for second in [30, 40, 51] {
        place.pulse(at(second));
    }
    let status = |wanted: DeviceStatus| {
        place.until(wanted.as_str(), async |control, _| {
            let device = control.device("stops", None).await.expect("ask");
            device.filter(|device| device.status == wanted)
        })
    };
    // Due at 20 + 3 x 10 s, and two seconds are left for what is on its way.
    std::thread::sleep(std::time::Duration::from_millis(600));
    status(DeviceStatus::Online);
    place.pulse(at(53));
    status(DeviceStatus::Degraded);
    place.pulse(at(60));
    place.pulse(at(71));
    std::thread::sleep(std::time::Duration::from_millis(600));
    status(DeviceStatus::Degraded);
    place.pulse(at(73));
    let device = status(DeviceStatus::Offline);
    assert_eq!(device.status_at.map(|t| t.timestamp_micros() / SECOND), Some(at(70) / SECOND));
    place.say(&[(Kind::Heartbeat, "stops", heartbeat(at(90), 10), at(90))]);
    status(DeviceStatus::Online);
    let wanted = [("online", 0), ("degraded", 50), ("offline", 70), ("online", 90)];
    let wanted = wanted.map(|(status, second)| (status.to_owned(), second));
    place.until("every change is in the lake, once", async |control, _| {
        control.events_for_lake(9).await.expect("ask").is_empty().then_some(())
    });
    let found = loop {
        let found = events(&place, "stops", begun);
        if found.len() >= wanted.len() {
            break found;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    assert_eq!(found, wanted);
    assert_eq!(events(&place, "slow", begun).len(), 1, "by its own interval it is there");
    let alerts = place.alerts();
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!((alerts[0].alert_type.as_str(), alerts[0].origin), ("offline", AlertOrigin::Health));
    assert!(alerts[0].resolved_at.is_some());
}

#[test]
fn a_server_that_was_down_marks_nobody_offline() {
    let mut place = Place::new(quick(), &[]);
    let begun = begin();
    let at = |second: i64| begun + second * SECOND;
    for second in [0, 10] {
        place.say(&[(Kind::Heartbeat, "d", heartbeat(at(second), 10), at(second))]);
    }
    place.settle();
    place.crash();
    // Twenty minutes later ingest is back, and hears nobody yet.
    for second in [1200, 1210, 1240, 1270, 1300] {
        place.pulse(at(second));
    }
    place.settle();
    std::thread::sleep(std::time::Duration::from_millis(600));
    place.say(&[(Kind::Heartbeat, "d", heartbeat(at(1310), 10), at(1310))]);
    place.settle();
    place.until("it is heard", async |control, _| {
        let device = control.device("d", None).await.expect("ask").expect("there");
        (device.heard_at.map(|t| t.timestamp_micros()) == Some(at(1310) / 1000 * 1000))
            .then_some(())
    });
    assert!(place.alerts().is_empty());
    place.until("events are in the lake", async |control, _| {
        control.events_for_lake(9).await.expect("ask").is_empty().then_some(())
    });
    place.until("and there", async |_, lake| {
        let snapshot = lake.snapshot(acuvim_schemas::tables::Table::DeviceEvents);
        (snapshot.expect("a table").file_count() > 0).then_some(())
    });
    let changes = "SELECT count(*) FROM device_events WHERE event = 'status'";
    assert_eq!(place.number(changes), 1, "online, once");
}

#[test]
fn the_ledger_finds_a_batch_that_was_lost_and_names_its_offsets() {
    let options = acuvim_processor::ProcessorOptions { drop_offset: Some(6), ..quick() };
    let place = Place::new(options, &[]);
    let begun = begin();
    let reading = |n: i64| {
        let ts = begun + n * SECOND;
        (Kind::Telemetry, "a", format!(r#"{{"ts":"{}","f":50}}"#, to_rfc3339(ts)), ts)
    };
    let first: Vec<_> = (0..4).map(reading).collect();
    place.say(&first);
    place.settle();
    // A batch of its own, offsets 4 to 8, with a duplicate among them.
    let mut lost: Vec<_> = (4..8).map(reading).collect();
    lost.push(reading(0));
    place.say(&lost);
    place.settle();
    place.say(&(8..12).map(reading).collect::<Vec<_>>());
    place.settle();
    let alert = place.until("the alert", async |control, _| {
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
    let place = Place::new(quick(), &[]);
    let begun = begin();
    let at = |second: i64| begun + second * SECOND;
    let clockless = |uptime: i64| format!(r#"{{"boot":7,"uptime_ms":{},"f":50}}"#, uptime * 1000);
    place.say(&[
        (Kind::Telemetry, "gsm", clockless(5), at(5)),
        (Kind::Telemetry, "gsm", clockless(15), at(15)),
        (Kind::Telemetry, "gsm", r#"{"boot":6,"uptime_ms":5,"f":50}"#.into(), at(16)),
    ]);
    place.settle();
    assert_eq!(place.number("SELECT count(*) FROM telemetry"), 0);
    let anchor = format!(r#"{{"ts":"{}","boot":7,"uptime_ms":20000}}"#, to_rfc3339(at(20)));
    place.say(&[(Kind::Heartbeat, "gsm", anchor, at(20))]);
    let found = loop {
        let found = place.number("SELECT count(*) FROM telemetry");
        if found >= 2 {
            break found;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    assert_eq!(found, 2);
    let times = format!(
        "SELECT count(*) FROM telemetry WHERE ts IN (to_timestamp_micros({}), \
         to_timestamp_micros({}))",
        at(5),
        at(15)
    );
    assert_eq!(place.number(&times), 2, "begun plus uptime");
    place.settle();
    assert_eq!(place.number("SELECT count(*) FROM telemetry"), 2, "once");
    // One that comes later still gets its time by itself.
    place.say(&[(Kind::Telemetry, "gsm", clockless(25), at(2000))]);
    place.until("it is stored", async |_, lake| {
        (lake.newest().get("gsm") == Some(at(25) / 1000 * 1000)).then_some(())
    });
    assert!(place.folder().exists());
}

#[test]
fn a_stop_takes_no_longer_than_what_there_is_to_do() {
    let mut place = Place::new(quick(), &[]);
    place.pulse(begin());
    place.settle();
    // Whatever would wait for its time to be over waits for minutes.
    let begun = std::time::Instant::now();
    place.restart_within(std::time::Duration::from_secs(400));
    assert!(begun.elapsed() < std::time::Duration::from_secs(50), "{:?}", begun.elapsed());
}
