use acuvim_control::AlertChange;
use acuvim_wire::vitals::Vitals;

use super::*;
use crate::partition::testing::sent;

const LIMITS: VitalLimits = VitalLimits {
    min_free_heap: 20_000,
    max_modbus_errors: 0.2,
    boots_per_hour: 5,
    min_sd_free_mb: 100,
    clock_ahead_for: 60 * SECOND,
};

fn report(devices: &mut Devices, device: &str, report: DeviceReport) -> BatchEvaluation {
    let mut found = BatchEvaluation::default();
    devices.reports(vec![(device.to_owned(), report)], &LIMITS, &mut found);
    found
}

fn heard(second: i64) -> DeviceReport {
    DeviceReport::Signal(Signal::Heard { at: second * SECOND })
}

fn beat(second: i64, boot: u64, uptime_ms: Option<u64>) -> DeviceReport {
    let (ts, vitals) = (second * SECOND, Vitals::default());
    DeviceReport::Vitals { ts, boot: Some(boot), uptime_ms, vitals }
}

/// The alerts by type, and whether each begins.
fn alerts(found: &BatchEvaluation) -> Vec<(String, bool)> {
    let alert = |change: &AlertChange| match change {
        AlertChange::Raise(alert) => (alert.alert_type.clone(), true),
        AlertChange::Clear { .. } => (String::new(), false),
        other => panic!("{other:?}"),
    };
    found.alerts.iter().map(alert).collect()
}

#[test]
fn that_a_device_is_heard_is_written_now_and_then() {
    let mut devices = Devices::default();
    let written = |devices: &mut Devices, second| report(devices, "d", heard(second)).devices.len();
    assert_eq!(written(&mut devices, 0), 1, "it is online now");
    assert_eq!((written(&mut devices, 10), written(&mut devices, 29)), (0, 0));
    assert_eq!(written(&mut devices, 30), 1);
    assert_eq!(written(&mut devices, 59), 0, "counted from the last time that it was written");
    // A change of status is written at once.
    let gone = DeviceReport::Signal(Signal::Offline { at: 31 * SECOND });
    assert_eq!(report(&mut devices, "d", gone).devices.len(), 1);
    let back = report(&mut devices, "d", heard(32));
    let steps: Vec<_> = back.devices.iter().flat_map(|d| &d.status).map(|s| s.to).collect();
    assert_eq!(steps, [DeviceStatus::Online]);
}

#[test]
fn a_heartbeat_is_always_written_with_presence_and_state() {
    let mut devices = Devices::default();
    let signal = |at: Micros| DeviceReport::Signal(Signal::Heartbeat { at, interval_s: Some(10) });
    for second in 0..3 {
        let found = report(&mut devices, "d", signal(second * SECOND));
        let [update] = found.devices.as_slice() else { panic!("{found:?}") };
        assert_eq!(update.presence, Some((None, Some(api_time(second * SECOND)))));
    }
    let found = report(&mut devices, "d", beat(5, 1, None));
    assert!(found.devices.first().is_some_and(|update| update.vitals.is_some()));
}

#[test]
fn a_boot_is_anchored_once_where_its_uptime_is_known() {
    let mut devices = Devices::default();
    let anchors =
        |devices: &mut Devices, report_: DeviceReport| report(devices, "d", report_).anchors;
    assert_eq!(anchors(&mut devices, beat(100, 7, None)), []);
    let anchor = ("d".to_owned(), 7, 80 * SECOND);
    assert_eq!(anchors(&mut devices, beat(110, 7, Some(30_000))), [anchor]);
    assert_eq!(anchors(&mut devices, beat(120, 7, Some(40_000))), []);
    let next = ("d".to_owned(), 8, 129 * SECOND);
    assert_eq!(anchors(&mut devices, beat(130, 8, Some(1000))), [next]);
    for hostile in [u64::MAX, u64::MAX / 1000] {
        assert_eq!(anchors(&mut devices, beat(140, 9, Some(hostile))), [], "{hostile}");
    }
}

#[test]
fn a_last_will_of_a_device_that_is_gone_is_no_takeover() {
    let taken = |connected: bool| {
        let mut devices = Devices::default();
        if connected {
            report(&mut devices, "d", DeviceReport::Signal(Signal::Online { at: 0 }));
        }
        let one = |second: i64| DeviceReport::TakenOver { at: second * SECOND };
        let found: Vec<_> =
            (0..20).flat_map(|n| alerts(&report(&mut devices, "d", one(n)))).collect();
        found
    };
    assert_eq!(taken(true), [("duplicate_id".to_owned(), true)]);
    assert_eq!(taken(false), []);
}

#[test]
fn a_clock_that_is_ahead_is_an_event_and_later_an_alert() {
    let mut devices = Devices::default();
    let clock = |second: i64, ahead: Option<i64>| DeviceReport::Clock {
        at: second * SECOND,
        ahead: ahead.map(|by| by * SECOND),
    };
    assert!(report(&mut devices, "d", clock(0, None)).devices.is_empty(), "nothing changed");
    let found = report(&mut devices, "d", clock(10, Some(90)));
    let events: Vec<_> = found.devices.iter().flat_map(|d| &d.happened).collect();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].reason, &events[0].detail), ("ahead", &json!({"ahead_seconds": 90.0})));
    assert!(found.alerts.is_empty());
    let found = report(&mut devices, "d", clock(70, Some(91)));
    assert_eq!(alerts(&found), [("clock_ahead".to_owned(), true)]);
    assert!(found.devices.iter().all(|d| d.happened.is_empty()), "the event was written before");
    let found = report(&mut devices, "d", clock(80, None));
    let reasons: Vec<_> =
        found.devices.iter().flat_map(|d| &d.happened).map(|event| event.reason).collect();
    assert_eq!((reasons, alerts(&found).len()), (vec!["in_step"], 1));
}

#[test]
fn silence_changes_only_devices_that_are_known() {
    let mut devices = Devices::default();
    report(&mut devices, "d", DeviceReport::Signal(Signal::Heartbeat { at: 0, interval_s: None }));
    report(&mut devices, "later", heard(10_000));
    let mut found = BatchEvaluation::default();
    let listening = Listening { until: 10_000 * SECOND, since: 0 };
    devices.silence(listening, &HealthPolicy::default(), &mut found);
    let [update] = found.devices.as_slice() else { panic!("{found:?}") };
    let steps: Vec<_> = update.status.iter().map(|s| (s.to, s.at.timestamp())).collect();
    assert_eq!(steps, [(DeviceStatus::Degraded, 180), (DeviceStatus::Offline, 300)]);
    assert!(update.of_known, "a device that was deleted does not come back");
    assert_eq!(update.device_id, "d");
}

#[test]
fn what_control_has_stored_goes_on_where_it_was() {
    let presence = |id: &str, status: &str, vitals: &str| DevicePresence {
        device_id: id.to_owned(),
        status: status.to_owned(),
        connected: Some(true),
        heard_at: Some(api_time(100 * SECOND)),
        heartbeat_interval_s: Some(10),
        vitals: Some(vitals.to_owned()),
    };
    let low = r#"{"t":5,"b":1,"o":[["low_memory",5]]}"#;
    let stored = vec![
        presence("d", "online", low),
        presence("other", "online", ""),
        presence("odd", "sideways", "no json"),
    ];
    let mut devices = Devices::load(stored, |id| id != "other");
    assert_eq!(devices.len(), 2, "of this partition");
    let vitals = Vitals { free_heap: Some(90_000), ..Vitals::default() };
    let fine = DeviceReport::Vitals { ts: 200 * SECOND, boot: Some(1), uptime_ms: None, vitals };
    assert_eq!(alerts(&report(&mut devices, "d", fine)), [(String::new(), false)]);
    let mut found = BatchEvaluation::default();
    let listening = Listening { until: 1000 * SECOND, since: 0 };
    devices.silence(listening, &HealthPolicy::default(), &mut found);
    let changed: Vec<_> = found.devices.iter().map(|d| d.device_id.as_str()).collect();
    assert_eq!(changed, ["d"], "a status that is not known is offline");
}

#[test]
fn readings_without_a_known_key_are_an_alert_until_one_has_one() {
    let mut devices = Devices::default();
    report(&mut devices, "d", heard(0));
    let unknown = |second: i64| Unknown {
        row: 0,
        device_id: "d".to_owned(),
        ts: second * SECOND,
        keys: vec!["Vllavg".to_owned()],
    };
    let mut keys = |unknown: &[Unknown], known: &[(&str, i64)]| {
        let mut found = BatchEvaluation::default();
        let known = known.iter().map(|(id, second)| (Arc::from(*id), second * SECOND));
        devices.reading_keys(unknown, known.collect(), &mut found);
        (alerts(&found), found.devices.len())
    };
    assert_eq!(keys(&[], &[("d", 1), ("stranger", 1)]), (vec![], 0), "there was no alert");
    let begins = (vec![("no_known_readings".to_owned(), true)], 1);
    assert_eq!(keys(&[unknown(2), unknown(3)], &[]), begins);
    assert_eq!(keys(&[], &[("d", 4)]), (vec![(String::new(), false)], 1));
}

#[test]
fn a_suspect_counter_is_written_once_an_hour_and_three_of_them_are_an_alert() {
    let mut devices = Devices::default();
    let mut suspect = |minute: i64| {
        let ts = minute * 60 * SECOND;
        let reading = Reading { ts, value: 0.0 };
        let (device, counter): (Arc<str>, _) = ("d".into(), "energy_import_kwh");
        let one = SuspectReading { device, counter, reading, times: 2 };
        let mut found = BatchEvaluation::default();
        devices.suspect_counters(&[one], &HashMap::from([("d".into(), ts)]), &mut found);
        let events: usize = found.devices.iter().map(|d| d.happened.len()).sum();
        (events, alerts(&found).len())
    };
    assert_eq!(suspect(0), (1, 0));
    assert_eq!(suspect(1), (0, 0));
    assert_eq!(suspect(2), (1, 1), "with the alert, however lately the last one was written");
    assert_eq!(suspect(61), (0, 0));
    assert_eq!(suspect(62), (1, 0), "an hour after the one before");
}

#[test]
fn a_device_with_an_alert_is_well_again_a_day_after_its_last_suspect_reading() {
    let mut devices = Devices::default();
    let mut after = |second: i64, suspects: &[SuspectReading]| {
        let mut found = BatchEvaluation::default();
        let sent = HashMap::from([(Arc::from("d"), second * SECOND)]);
        devices.suspect_counters(suspects, &sent, &mut found);
        alerts(&found).len()
    };
    let suspect = |second: i64| SuspectReading {
        device: "d".into(),
        counter: "energy_import_kwh",
        reading: Reading { ts: second * SECOND, value: 0.0 },
        times: 1,
    };
    assert_eq!(after(3, &[suspect(1), suspect(2), suspect(3)]), 1);
    assert_eq!(after(86_402, &[]), 0);
    assert_eq!(after(86_403, &[]), 1, "it ends");
    assert_eq!(after(86_404, &[]), 0);
}

#[test]
fn only_readings_with_a_boot_or_a_number_are_numbered() {
    let readings = sent(&[
        ("a", 1_778_951_132 * SECOND, 1_778_951_140 * SECOND, r#""f":50"#),
        ("b", 1_778_951_133 * SECOND, 1_778_951_140 * SECOND, r#""f":50,"boot":3"#),
        ("c", 1_778_951_134 * SECOND, 1_778_951_140 * SECOND, r#""f":50,"seq":9"#),
    ]);
    let rows = readings.rows.telemetry;
    let numbered = |from: i64| -> Vec<_> {
        let all = NumberedReading::of(&rows, from).into_iter();
        all.map(|r| (r.device_id.to_owned(), r.boot, r.seq)).collect()
    };
    assert_eq!(numbered(0), [("b".into(), Some(3), None), ("c".into(), None, Some(9))]);
    assert_eq!(numbered(2).len(), 1, "from control's offset on");
    assert!(NumberedReading::of(&rows.project(&[0]).expect("one"), 0).is_empty());
}

#[test]
fn readings_of_a_device_that_was_never_heard_are_not_followed() {
    let mut devices = Devices::default();
    let mut found = BatchEvaluation::default();
    let reading =
        NumberedReading { device_id: "d", ts: 1, received_at: 2, boot: Some(1), seq: None };
    devices.numbered_readings(&[reading], &mut found);
    assert_eq!(devices.len(), 0, "it was imported or replayed");
}

#[test]
fn a_reading_ahead_of_its_arrival_does_not_hide_those_behind_it() {
    let mut devices = Devices::default();
    report(&mut devices, "d", heard(0));
    let mut found = BatchEvaluation::default();
    for n in 0..20 {
        let received_at = n * SECOND;
        let ts = if n == 0 { 1_000_000 * SECOND } else { received_at };
        let boot = Some(if n % 2 == 0 { 17 } else { 4 });
        let reading = NumberedReading { device_id: "d", ts, received_at, boot, seq: None };
        devices.numbered_readings(&[reading], &mut found);
    }
    assert_eq!(alerts(&found), [("duplicate_id".to_owned(), true)]);
}
