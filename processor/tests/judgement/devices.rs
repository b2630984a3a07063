//! Devices as they are: clocks that are ahead, slow loggers, two messages of one time, and devices that
//! never send a heartbeat.

use acuvim_schemas::{
    Kind, Micros,
    api::{AlertOrigin, DeviceStatus, RuleBody},
    time::{SECOND, to_rfc3339},
};

use crate::place::{Place, quick};

/// A while ago, so that nothing is ahead of this machine's clock.
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

/// Episodes of rules: beginning, raised and end, in seconds behind a moment.
fn episodes(place: &Place, begun: Micros) -> Vec<(i64, i64, Option<i64>)> {
    let seconds = |at: chrono::DateTime<chrono::Utc>| (at.timestamp_micros() - begun) / SECOND;
    let alerts = place.alerts().into_iter().filter(|a| a.origin == AlertOrigin::Rule);
    alerts
        .map(|a| (seconds(a.created_at), seconds(a.raised_at), a.resolved_at.map(seconds)))
        .collect()
}

#[test]
fn a_slow_logger_raises_rules_that_wait_also_across_a_restart_and_with_late_readings() {
    let rules = [high(60, None), high(60, Some(900))];
    let mut place = Place::new(quick(), &rules);
    let begun = begin();
    let say = |place: &Place, n: i64, high: bool, received: i64| {
        let ts = begun + n * 960 * SECOND;
        let value = if high { 260 } else { 230 };
        let at = begun + received * 960 * SECOND + SECOND;
        place.say(&[(Kind::Telemetry, "slow", volts(ts, value), at)]);
    };
    for n in 0..4 {
        say(&place, n, false, n);
    }
    say(&place, 4, true, 4);
    place.settle();
    place.crash();
    say(&place, 5, true, 5);
    place.settle();
    let wanted = (4 * 960, 5 * 960, None);
    assert_eq!(episodes(&place, begun), [wanted], "the rule with a gap of its own can't");
    for n in 6..9 {
        say(&place, n, false, n);
    }
    place.settle();
    let wanted = (4 * 960, 5 * 960, Some(6 * 960));
    assert_eq!(episodes(&place, begun), [wanted]);
    // A reading between the two, that came late, was not over the limit.
    let between = volts(begun + 4 * 960 * SECOND + 480 * SECOND, 230);
    place.say(&[(Kind::Telemetry, "slow", between, begun + 9 * 960 * SECOND)]);
    place.settle();
    place.until("it never held", async |control, _| {
        let filter = acuvim_control::AlertFilter { limit: 9, ..Default::default() };
        control.alerts(&filter, None).await.expect("ask").0.is_empty().then_some(())
    });
}

#[test]
fn a_clock_that_is_ahead_mutes_nothing_and_is_told() {
    let place = Place::new(quick(), &[high(0, None)]);
    let begun = begin();
    let at = |second: i64| begun + second * SECOND;
    place.say(&[
        (Kind::Telemetry, "d", volts(at(0), 260), at(0)),
        // Two minutes and twenty hours ahead, once each.
        (Kind::Telemetry, "d", volts(at(130), 230), at(10)),
        (Kind::Telemetry, "d", volts(at(72_020), 230), at(20)),
        (Kind::Telemetry, "d", volts(at(30), 261), at(30)),
    ]);
    place.settle();
    assert_eq!(episodes(&place, begun), [(0, 0, None)], "the breach lasts");
    place.until("the latest is of now", async |control, lake| {
        let device = control.device("d", None).await.expect("ask")?;
        let told = device.last_telemetry.is_some_and(|t| t.timestamp_micros() <= at(30));
        (told && lake.latest().ts("d") == Some(at(30))).then_some(())
    });
    place.say(&[(Kind::Telemetry, "d", volts(at(40), 230), at(40))]);
    place.settle();
    assert_eq!(episodes(&place, begun), [(0, 0, Some(40))]);
    assert_eq!(place.number("SELECT count(*) FROM telemetry"), 5, "all of it is stored");
    // Late ones go back to before, and find the same.
    place.say(&[(Kind::Telemetry, "d", volts(at(5), 262), at(50))]);
    place.settle();
    assert_eq!(episodes(&place, begun), [(0, 0, Some(40))]);
    // One that stays ahead raises an alert, and not before a while.
    for second in [60, 90, 130] {
        place.say(&[(Kind::Telemetry, "d", volts(at(second + 120), 230), at(second))]);
    }
    let alert = place.until("the alert", async |control, _| {
        let filter = acuvim_control::AlertFilter {
            alert_type: Some("clock_ahead".into()),
            limit: 9,
            ..Default::default()
        };
        control.alerts(&filter, None).await.expect("ask").0.into_iter().next()
    });
    assert!(alert.message.contains("ahead by 120 s"), "{}", alert.message);
    place.until("the events", async |control, _| {
        control.events_for_lake(9).await.expect("ask").is_empty().then_some(())
    });
    let told = "SELECT count(*) FROM device_events WHERE event = 'clock'";
    place.until("and there", async |_, _| Some(()));
    let begun_waiting = std::time::Instant::now();
    while place.number(told) < 3 {
        assert!(
            begun_waiting.elapsed() < std::time::Duration::from_secs(30),
            "ahead, in step, ahead"
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    // What it learnt holds over a start.
    let mut place = place;
    place.restart();
    place.until("the latest is still of now", async |_, lake| {
        (lake.latest().ts("d") == Some(at(40))).then_some(())
    });
}

#[test]
fn two_messages_of_one_time_are_a_repetition_or_a_dead_letter_that_says_so() {
    let mut place = Place::new(quick(), &[]);
    let begun = begin();
    let at = |second: i64| begun + second * SECOND;
    let half = |second: i64, rest: &str| {
        (Kind::Telemetry, "d", format!(r#"{{"ts":"{}",{rest}}}"#, to_rfc3339(at(second))), at(100))
    };
    // The second half of a reading, right behind the first.
    place.say(&[
        half(0, r#""f":50"#),
        half(0, r#""v1":230"#),
        half(0, r#""f":50.0,"source":"sd""#),
    ]);
    place.say(&[half(10, r#""f":50"#)]);
    place.settle();
    place.until_flushed(4);
    place.crash();
    // Late, when the first half is in the lake; and of the latest.
    place.say(&[half(0, r#""v2":231"#), half(0, r#""f":50"#), half(10, r#""f":51"#)]);
    place.settle();
    let count = |what: &str| place.number(&format!("SELECT count(*) FROM {what}"));
    assert_eq!(count("telemetry"), 2);
    for (detail, n) in [("voltage_l1_v", 1), ("voltage_l2_v", 1), ("frequency_hz", 1)] {
        let letters = format!("dead_letters WHERE reason = 'same_ts' AND detail = '{detail}'");
        assert_eq!(count(&letters), n, "{detail}");
    }
    place.until("the ledger has it all", async |_, lake| {
        (0..crate::place::PARTITIONS).all(|p| lake.tail().rows(p) == 0).then_some(())
    });
    let sum = |column: &str, of: &str| {
        place.number(&format!("SELECT coalesce(sum({column}), 0) FROM ledger WHERE device_id {of}"))
    };
    for of in ["IS NULL", "= 'd'"] {
        assert_eq!((sum("same_ts", of), sum("duplicates", of)), (3, 2), "{of}");
    }
    let of = "IS NULL";
    assert_eq!(sum("received", of), sum("stored", of) + sum("duplicates", of) + sum("same_ts", of));
    // The watch looks every 200 ms.
    std::thread::sleep(std::time::Duration::from_millis(800));
    assert!(place.alerts().iter().all(|a| a.origin != AlertOrigin::System), "{:?}", place.alerts());
}

#[test]
fn a_device_that_never_sends_a_heartbeat_is_there_and_a_stale_will_is_not_the_last_word() {
    let place = Place::new(quick(), &[]);
    let begun = begin();
    let at = |second: i64| begun + second * SECOND;
    place.say(&[(Kind::Telemetry, "d", volts(at(0), 230), at(0))]);
    let status = |wanted: DeviceStatus| {
        place.until(wanted.as_str(), async |control, _| {
            let device = control.device("d", None).await.expect("ask");
            device.filter(|device| device.status == wanted)
        })
    };
    let device = status(DeviceStatus::Online);
    assert_eq!(device.heard_at.map(|t| t.timestamp_micros()), Some(at(0)));
    let will = r#"{"status":"offline","reason":"lwt"}"#.to_owned();
    place.say(&[(Kind::Status, "d", will, at(20))]);
    status(DeviceStatus::Offline);
    place.say(&[(Kind::Telemetry, "d", volts(at(30), 230), at(30))]);
    let device = status(DeviceStatus::Online);
    assert_eq!(device.connected, Some(true));
}
