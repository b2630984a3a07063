use acuvim_wire::Headers;
use bytes::Bytes;

use super::*;

#[test]
fn of_equal_clock_reports_the_first_and_the_last_are_kept() {
    let mut updates = DeviceUpdates::new(Limits::default());
    let second = |n: i64| n * time::SECOND;
    for (at, ahead) in [(0, 120), (30, 120), (60, 121), (70, 0), (80, 0), (90, 0)] {
        updates.clock("d", second(at + ahead), second(at));
    }
    let reports: Vec<(i64, bool)> = updates
        .reports
        .iter()
        .filter_map(|(_, report)| match report {
            DeviceReport::Clock { at, ahead } => Some((at / time::SECOND, ahead.is_some())),
            _ => None,
        })
        .collect();
    assert_eq!(reports, [(0, true), (60, true), (70, false), (90, false)]);
}

const ARRIVAL: Micros = 1_778_951_200_000_000;

fn record(kind: Kind, payload: &str) -> Record {
    Record {
        key: Bytes::from_static(b"d"),
        value: Bytes::copy_from_slice(payload.as_bytes()),
        headers: Headers {
            kind,
            topic: Bytes::from_static(b"acuvim/d"),
            received_at: ARRIVAL,
            retained: false,
            reject: None,
            replay_of: None,
            resolved_ts: None,
        },
    }
}

fn apply(updates: &mut DeviceUpdates, record: &Record) {
    let payload = payload::parse(record.headers.kind, "d", &record.value);
    updates.payload("d", record, payload.unwrap_or_else(|fault| panic!("{fault:?}")));
}

fn updated(records: &[Record]) -> DeviceUpdates {
    let mut updates = DeviceUpdates::new(Limits::default());
    records.iter().for_each(|record| apply(&mut updates, record));
    updates
}

#[test]
fn a_last_will_that_comes_after_a_newer_connection_is_a_takeover() {
    let mut will = record(Kind::Status, r#"{"status":"offline","reason":"lwt"}"#);
    will.headers.retained = true;
    let taken = updated(std::slice::from_ref(&will));
    assert_eq!(taken.reports, [("d".to_owned(), DeviceReport::TakenOver { at: ARRIVAL })]);
    let mut plain = record(Kind::Status, r#"{"status":"offline","reason":"sleep"}"#);
    plain.headers.retained = true;
    assert!(updated(&[plain]).reports.is_empty(), "it left by itself");
    will.headers.replay_of = Some(Identity { epoch: 0, partition: 0, offset: 1, item: 0 });
    assert!(updated(&[will]).reports.is_empty(), "people brought it in");
}

#[test]
fn the_newest_heartbeat_by_the_devices_time_is_kept() {
    let beat =
        |ts: &str, boot: u64| record(Kind::Heartbeat, &format!(r#"{{"ts":"{ts}","boot":{boot}}}"#));
    let mut updates = updated(&[
        beat("2026-05-16T17:06:30Z", 1),
        beat("2026-05-16T17:06:20Z", 2),
        beat("2026-05-16T17:06:30Z", 3),
    ]);
    let vitals = updates.reports.iter().filter(|(_, r)| matches!(r, DeviceReport::Vitals { .. }));
    assert_eq!(vitals.count(), 3, "all of them are evaluated");
    let changes = updates.take_changes();
    let kept = changes.devices[0].heartbeat.as_ref().map(|(at, _)| at.to_rfc3339());
    assert_eq!(kept.as_deref(), Some("2026-05-16T17:06:30+00:00"));
    assert!(updates.take_changes().devices.is_empty(), "changes are taken once");
}

#[test]
fn a_replayed_heartbeat_is_no_sign_of_the_present() {
    let mut beat = record(Kind::Heartbeat, r#"{"ts":"2026-05-16T17:06:30Z","boot":1}"#);
    beat.headers.replay_of = Some(Identity { epoch: 0, partition: 0, offset: 1, item: 0 });
    let mut updates = updated(&[beat]);
    assert!(
        matches!(&updates.reports[..], [(_, DeviceReport::Vitals { .. })]),
        "no clock, no signal"
    );
    let changes = updates.take_changes();
    assert!(!changes.devices[0].heard && changes.devices[0].heartbeat.is_some());
}

#[test]
fn a_registration_that_a_broker_had_retained_does_not_bring_the_device_back() {
    let text = r#"{"device_id":"d","hardware":"board"}"#;
    let mut retained = record(Kind::Register, text);
    retained.headers.retained = true;
    let changes = updated(&[retained]).take_changes();
    let device = &changes.devices[0];
    assert_eq!((device.registrations.len(), device.heard, device.back), (1, false, false));
    let changes = updated(&[record(Kind::Register, text)]).take_changes();
    assert!(changes.devices[0].heard && changes.devices[0].back);
}

#[test]
fn a_reading_alone_makes_no_update_and_never_sets_the_newest_back() {
    let mut updates = DeviceUpdates::new(Limits::default());
    updates.measured("d", ARRIVAL);
    assert!(updates.take_changes().devices.is_empty());
    let mut updates = DeviceUpdates::new(Limits::default());
    updates.seen("d", ARRIVAL);
    updates.measured("d", ARRIVAL - 5);
    updates.measured("d", ARRIVAL - 10);
    let newest = updates.take_changes().devices[0].telemetry;
    assert_eq!(newest.map(|at| at.timestamp_micros()), Some(ARRIVAL - 5));
}

#[test]
fn a_boot_without_a_clock_is_remembered_once_with_its_newest_letter() {
    let letter = |reason: Reason, payload: &str| {
        DeadLetter::whole(reason, None, 0, Bytes::copy_from_slice(payload.as_bytes()))
    };
    let mut updates = DeviceUpdates::new(Limits::default());
    let unset = Reason::ClockUnset;
    updates.dead_letter("d", &letter(unset, r#"{"boot":7,"uptime_ms":5}"#), ARRIVAL);
    updates.dead_letter("d", &letter(unset, r#"{"boot":7,"uptime_ms":9}"#), ARRIVAL + 2000);
    updates.dead_letter("d", &letter(unset, r#"{"boot":8}"#), ARRIVAL);
    updates.dead_letter("e", &letter(unset, r#"{"boot":7}"#), ARRIVAL);
    updates.dead_letter("d", &letter(unset, r#"{"uptime_ms":5}"#), ARRIVAL);
    updates.dead_letter("d", &letter(unset, "broken"), ARRIVAL);
    updates.dead_letter("d", &letter(Reason::NotJson, r#"{"boot":9}"#), ARRIVAL);
    let clockless = updates.take_changes().dead_letters.clockless;
    let boots: Vec<_> = clockless
        .iter()
        .map(|(device, boot, at)| (device.as_str(), *boot, at.timestamp_micros() - ARRIVAL))
        .collect();
    assert_eq!(boots, [("d", 7, 2000), ("d", 8, 0), ("e", 7, 0)]);
}

#[test]
fn an_alert_of_a_device_whose_clock_is_ahead_happened_when_it_arrived() {
    let alert = |ts: &str| {
        let text =
            format!(r#"{{"ts":"{ts}","type":"door","severity":"warning","message":"open"}}"#);
        let changes = updated(&[record(Kind::Alerts, &text)]).take_changes();
        changes.device_alerts.first().map(|(_, alert, _)| alert.ts.0 - ARRIVAL)
    };
    assert_eq!(alert("2026-05-17T12:00:00Z"), Some(0));
    assert_eq!(alert("2026-05-16T17:06:30Z"), Some(-10 * time::SECOND));
}

#[test]
fn heard_is_kept_apart_where_something_else_comes_between() {
    let mut updates = DeviceUpdates::new(Limits::default());
    updates.heard("d", 1);
    updates.heard("e", 2);
    updates.heard("d", 3);
    assert_eq!(updates.reports.len(), 2, "one for each device");
    apply(&mut updates, &record(Kind::Status, r#"{"status":"offline"}"#));
    updates.heard("d", 4);
    let of_d: Vec<_> = updates.reports.iter().filter(|(id, _)| id == "d").map(|(_, r)| r).collect();
    let heard = |at| DeviceReport::Signal(Signal::Heard { at });
    let gone = DeviceReport::Signal(Signal::Offline { at: ARRIVAL });
    assert_eq!(of_d, [&heard(3), &gone, &heard(4)]);
}
