//! Devices in the field: clocks that are ahead, slow loggers, two messages with one time, and
//! devices that never send a heartbeat.

use acuvim_model::{AlertOrigin, DeviceStatus, RuleBody};
use acuvim_processor::{ProcessorOptions, StreamGuards};
use acuvim_wire::{
    Kind, Micros,
    time::{SECOND, to_rfc3339},
};

use crate::fixture::{TestStream, quick};

/// Twenty hours ago, so that no message is ahead of this machine's clock.
fn begin() -> Micros {
    (chrono::Utc::now().timestamp() - 20 * 3600) * SECOND
}

fn high(hold: u32, gap: Option<u32>) -> RuleBody {
    serde_json::from_value(serde_json::json!({
        "name": format!("high {hold} {gap:?}"), "alert_type": "high", "when": "voltage_l1_v > 250",
        "for_seconds": hold, "clear_for_seconds": hold, "gap_seconds": gap,
    }))
    .expect("a rule")
}

fn volts(ts: Micros, volts: u32) -> String {
    format!(r#"{{"ts":"{}","v1":{volts}}}"#, to_rfc3339(ts))
}

/// Episodes of rules: when they began, were raised and ended, in seconds after a time.
fn episodes(stream: &TestStream, begun: Micros) -> Vec<(i64, i64, Option<i64>)> {
    let seconds = |at: chrono::DateTime<chrono::Utc>| (at.timestamp_micros() - begun) / SECOND;
    let alerts = stream.alerts().into_iter().filter(|a| a.origin == AlertOrigin::Rule);
    alerts
        .map(|a| (seconds(a.created_at), seconds(a.raised_at), a.resolved_at.map(seconds)))
        .collect()
}

#[test]
fn a_slow_logger_raises_rules_that_wait_also_across_a_restart_and_with_late_readings() {
    let rules = [high(60, None), high(60, Some(900))];
    let mut stream = TestStream::new(quick(), &rules);
    let begun = begin();
    let send = |stream: &TestStream, n: i64, high: bool, received: i64| {
        let ts = begun + n * 960 * SECOND;
        let value = if high { 260 } else { 230 };
        let at = begun + received * 960 * SECOND + SECOND;
        stream.append(&[(Kind::Telemetry, "slow", volts(ts, value), at)]);
    };
    for n in 0..4 {
        send(&stream, n, false, n);
    }
    send(&stream, 4, true, 4);
    stream.settle();
    stream.crash();
    send(&stream, 5, true, 5);
    stream.settle();
    let wanted = (4 * 960, 5 * 960, None);
    assert_eq!(episodes(&stream, begun), [wanted], "the rule with a gap of its own can't");
    for n in 6..9 {
        send(&stream, n, false, n);
    }
    stream.settle();
    let wanted = (4 * 960, 5 * 960, Some(6 * 960));
    assert_eq!(episodes(&stream, begun), [wanted]);
    // A late reading between the two was not over the limit.
    let between = volts(begun + 4 * 960 * SECOND + 480 * SECOND, 230);
    stream.append(&[(Kind::Telemetry, "slow", between, begun + 9 * 960 * SECOND)]);
    stream.settle();
    stream.wait_for("it never held", async |control, _| {
        let filter = acuvim_control::AlertFilter { limit: 9, ..Default::default() };
        control.alerts(&filter, None).await.expect("ask").0.is_empty().then_some(())
    });
}

#[test]
fn a_clock_that_is_ahead_mutes_nothing_and_is_reported() {
    let stream = TestStream::new(quick(), &[high(0, None)]);
    let begun = begin();
    let at = |second: i64| begun + second * SECOND;
    stream.append(&[
        (Kind::Telemetry, "d", volts(at(0), 260), at(0)),
        // Two minutes and twenty hours ahead, once each.
        (Kind::Telemetry, "d", volts(at(130), 230), at(10)),
        (Kind::Telemetry, "d", volts(at(72_020), 230), at(20)),
        (Kind::Telemetry, "d", volts(at(30), 261), at(30)),
    ]);
    stream.settle();
    assert_eq!(episodes(&stream, begun), [(0, 0, None)], "the breach lasts");
    stream.wait_for("the latest is of now", async |control, lake| {
        let device = control.device("d", None).await.expect("ask")?;
        let told = device.last_telemetry.is_some_and(|t| t.timestamp_micros() <= at(30));
        (told && lake.latest().ts("d") == Some(at(30))).then_some(())
    });
    stream.append(&[(Kind::Telemetry, "d", volts(at(40), 230), at(40))]);
    stream.settle();
    assert_eq!(episodes(&stream, begun), [(0, 0, Some(40))]);
    assert_eq!(stream.scalar("SELECT count(*) FROM telemetry"), 5, "all of it is stored");
    // A late reading leads to a repair, which finds the same.
    stream.append(&[(Kind::Telemetry, "d", volts(at(5), 262), at(50))]);
    stream.settle();
    assert_eq!(episodes(&stream, begun), [(0, 0, Some(40))]);
    // A clock that stays ahead raises an alert after a while.
    for second in [60, 90, 130] {
        stream.append(&[(Kind::Telemetry, "d", volts(at(second + 120), 230), at(second))]);
    }
    let alert = stream.wait_for("the alert", async |control, _| {
        let filter = acuvim_control::AlertFilter {
            alert_type: Some("clock_ahead".into()),
            limit: 9,
            ..Default::default()
        };
        control.alerts(&filter, None).await.expect("ask").0.into_iter().next()
    });
    assert!(alert.message.contains("ahead by 120 s"), "{}", alert.message);
    stream.wait_for("the events", async |control, _| {
        control.events_for_lake(9).await.expect("ask").is_empty().then_some(())
    });
    // Ahead, in step, and ahead again.
    stream.wait_scalar("SELECT count(*) FROM device_events WHERE event = 'clock'", 3);
    // The latest reading is the same after a start.
    let mut stream = stream;
    stream.restart();
    stream.wait_for("the latest is still of now", async |_, lake| {
        (lake.latest().ts("d") == Some(at(40))).then_some(())
    });
}

#[test]
fn a_second_message_with_a_stored_time_is_a_repetition_or_a_dead_letter() {
    // The rows of the last message are lost, which is a fault that the check of the ledger has to
    // find.
    let options = ProcessorOptions { guards: StreamGuards::default().losing(7), ..quick() };
    let mut stream = TestStream::new(options, &[]);
    let begun = begin();
    let at = |second: i64| begun + second * SECOND;
    let half = |second: i64, rest: &str| {
        (Kind::Telemetry, "d", format!(r#"{{"ts":"{}",{rest}}}"#, to_rfc3339(at(second))), at(100))
    };
    // The second half of a reading, right behind the first.
    stream.append(&[
        half(0, r#""f":50"#),
        half(0, r#""v1":230"#),
        half(0, r#""f":50.0,"source":"sd""#),
    ]);
    stream.append(&[half(10, r#""f":50"#)]);
    stream.settle();
    stream.wait_flushed(4);
    stream.crash();
    // Late ones, when the first half is in the lake; and one with the time of the latest.
    stream.append(&[half(0, r#""v2":231"#), half(0, r#""f":50"#), half(10, r#""f":51"#)]);
    stream.settle();
    let count = |what: &str| stream.scalar(&format!("SELECT count(*) FROM {what}"));
    assert_eq!(count("telemetry"), 2);
    for (detail, n) in [("voltage_l1_v", 1), ("voltage_l2_v", 1), ("frequency_hz", 1)] {
        let letters = format!("dead_letters WHERE reason = 'same_ts' AND detail = '{detail}'");
        assert_eq!(count(&letters), n, "{detail}");
    }
    stream.wait_for("the ledger is flushed", async |_, lake| {
        (0..crate::fixture::PARTITIONS).all(|p| lake.tail().rows(p) == 0).then_some(())
    });
    let sum = |column: &str, of: &str| {
        stream
            .scalar(&format!("SELECT coalesce(sum({column}), 0) FROM ledger WHERE device_id {of}"))
    };
    for of in ["IS NULL", "= 'd'"] {
        assert_eq!((sum("same_ts", of), sum("duplicates", of)), (3, 2), "{of}");
    }
    let of = "IS NULL";
    assert_eq!(sum("received", of), sum("stored", of) + sum("duplicates", of) + sum("same_ts", of));
    // The ledger is compared in order: once it shows the loss, everything before it has been
    // compared. A message whose rows are not lost follows, so that offsets move; not in the same
    // batch, whose rows are lost together.
    stream.append(&[half(20, r#""f":50"#)]);
    stream.settle();
    stream.append(&[half(30, r#""f":50"#)]);
    let fault = stream.wait_for("the loss is found", async |control, _| {
        let filter = acuvim_control::AlertFilter {
            alert_type: Some("ledger_unbalanced".into()),
            limit: 9,
            ..Default::default()
        };
        control.alerts(&filter, None).await.expect("ask").0.into_iter().next()
    });
    let metadata = fault.metadata.expect("offsets");
    assert_eq!(metadata["missing_offsets"], serde_json::json!([[7, 7]]), "{metadata}");
    let system = stream.alerts().into_iter().filter(|a| a.origin == AlertOrigin::System);
    assert_eq!(system.count(), 1, "{:?}", stream.alerts());
}

#[test]
fn a_device_without_heartbeats_is_online_by_its_readings_also_after_a_stale_will() {
    let stream = TestStream::new(quick(), &[]);
    let begun = begin();
    let at = |second: i64| begun + second * SECOND;
    stream.append(&[(Kind::Telemetry, "d", volts(at(0), 230), at(0))]);
    let status = |wanted: DeviceStatus| {
        stream.wait_for(wanted.as_str(), async |control, _| {
            let device = control.device("d", None).await.expect("ask");
            device.filter(|device| device.status == wanted)
        })
    };
    let device = status(DeviceStatus::Online);
    assert_eq!(device.heard_at.map(|t| t.timestamp_micros()), Some(at(0)));
    let will = r#"{"status":"offline","reason":"lwt"}"#.to_owned();
    stream.append(&[(Kind::Status, "d", will, at(20))]);
    status(DeviceStatus::Offline);
    stream.append(&[(Kind::Telemetry, "d", volts(at(30), 230), at(30))]);
    let device = status(DeviceStatus::Online);
    assert_eq!(device.connected, Some(true));
}
