use super::*;

fn changes(conditions: &[Condition]) -> Vec<(&'static str, bool)> {
    conditions.iter().map(|c| (c.anomaly.as_str(), c.begins)).collect()
}

#[test]
fn a_brownout_lasts_until_the_next_heartbeat() {
    let (mut state, limits) = (VitalState::default(), VitalLimits::default());
    let brownout = Vitals { reset_reason: Some("brownout".into()), ..Vitals::default() };
    // The first boot that is seen may have been long ago.
    assert_eq!(changes(&state.heartbeat(SECOND, Some(1), &brownout, &limits)), []);
    let begins = state.heartbeat(2 * SECOND, Some(2), &brownout, &limits);
    assert_eq!(changes(&begins), [("brownout", true)]);
    assert_eq!(changes(&state.heartbeat(2 * SECOND, Some(2), &brownout, &limits)), []);
    let ends = state.heartbeat(3 * SECOND, Some(2), &brownout, &limits);
    assert_eq!(changes(&ends), [("brownout", false)]);
    assert_eq!(ends.first().map(|c| c.since), Some(2 * SECOND));
}

#[test]
fn values_beyond_limits_open_and_close_anomalies() {
    let (mut state, limits) = (VitalState::default(), VitalLimits::default());
    let mut at = 0;
    let mut beat = |state: &mut VitalState, vitals: Vitals| {
        at += 60 * SECOND;
        changes(&state.heartbeat(at, Some(1), &vitals, &limits))
    };
    let low = Vitals { free_heap: Some(1000), ..Vitals::default() };
    assert_eq!(beat(&mut state, low), [("low_memory", true)]);
    assert_eq!(beat(&mut state, Vitals::default()), [], "a missing value does not close it");
    let fine = Vitals { free_heap: Some(90_000), ..Vitals::default() };
    assert_eq!(beat(&mut state, fine), [("low_memory", false)]);
    let modbus = |ok, errors| Vitals {
        modbus_ok: Some(ok),
        modbus_errors: Some(errors),
        ..Vitals::default()
    };
    assert_eq!(beat(&mut state, modbus(100, 3)), []);
    assert_eq!(beat(&mut state, modbus(105, 13)), [("modbus_errors", true)]);
    assert_eq!(beat(&mut state, modbus(155, 13)), [("modbus_errors", false)]);
    let gone = Vitals { sd_present: Some(false), ..Vitals::default() };
    assert_eq!(beat(&mut state, gone), [("sd_failure", true)]);
    let back = Vitals { sd_present: Some(true), sd_free_mb: Some(7000), ..Vitals::default() };
    assert_eq!(beat(&mut state, back), [("sd_failure", false)]);
}

#[test]
fn many_boots_are_a_crash_loop_and_the_state_survives_being_stored() {
    let (mut state, limits) = (VitalState::default(), VitalLimits::default());
    let mut found = Vec::new();
    for boot in 1..8_u64 {
        let at = i64::try_from(boot).unwrap_or(0) * 60 * SECOND;
        found.extend(state.heartbeat(at, Some(boot), &Vitals::default(), &limits));
        let stored = serde_json::to_string(&state).expect("json");
        state = serde_json::from_str(&stored).expect("json");
    }
    assert_eq!(changes(&found), [("crash_loop", true)]);
    let calm = state.heartbeat(3 * HOUR, Some(7), &Vitals::default(), &limits);
    assert_eq!(changes(&calm), [("crash_loop", false)]);
}

#[test]
fn a_clock_ahead_is_reported_at_once_and_an_anomaly_when_it_lasts() {
    let (mut state, limits) = (VitalState::default(), VitalLimits::default());
    let mut hear = |second: i64, by: Option<i64>| {
        let by = by.map(|by| by * SECOND);
        let news = state.clock(second * SECOND, by, &limits);
        let stored = serde_json::to_string(&state).expect("json");
        state = serde_json::from_str(&stored).expect("json");
        (news.changed, news.condition.map(|c| (c.begins, c.since / SECOND)))
    };
    assert_eq!(hear(0, None), (None, None));
    assert_eq!(hear(10, Some(120)), (Some(Some(120 * SECOND)), None));
    assert_eq!(hear(40, Some(121)), (None, None));
    assert_eq!(hear(70, Some(121)), (None, Some((true, 70))));
    assert_eq!(hear(80, Some(122)), (None, None));
    assert_eq!(hear(90, None), (Some(None), Some((false, 70))));
    // A single reading is reported, and is no anomaly.
    assert_eq!(hear(100, Some(72_000)).0, Some(Some(72_000 * SECOND)));
    assert_eq!(hear(110, None), (Some(None), None));
}

#[test]
fn two_devices_with_one_id_are_one_anomaly_and_no_crash_loop() {
    let (mut state, limits) = (VitalState::default(), VitalLimits::default());
    let mut found = Vec::new();
    for n in 1..40_i64 {
        let boot = Some(if n % 2 == 0 { 4 } else { 17 });
        found.extend(state.beat_of(n * SECOND, boot, Some(1000)));
        found.extend(state.heartbeat(n * SECOND, boot, &Vitals::default(), &limits));
        let stored = serde_json::to_string(&state).expect("json");
        state = serde_json::from_str(&stored).expect("json");
    }
    let twins = |c: &&Condition| c.anomaly == Anomaly::DuplicateId;
    assert_eq!(found.iter().filter(twins).count(), 1);
    assert!(state.is_open(Anomaly::DuplicateId) && !state.is_open(Anomaly::CrashLoop));
    // Only one of them is left.
    let over = state.beat_of(2 * HOUR, Some(17), Some(7_200_000));
    assert_eq!(over.map(|c| (c.anomaly, c.begins)), Some((Anomaly::DuplicateId, false)));
}

#[test]
fn repeated_implausible_counters_are_an_anomaly_for_a_day() {
    let mut state = VitalState::default();
    let minute = |n: i64| n * 60 * SECOND;
    let mut suspect = |n: i64| {
        let found = state.suspect_counter(minute(n), "energy_import_kwh", 0.0);
        state = serde_json::from_str(&serde_json::to_string(&state).expect("json")).expect("json");
        found.map(|c| c.begins)
    };
    assert_eq!(
        [suspect(0), suspect(0), suspect(5), suspect(6), suspect(7)],
        [None, None, None, Some(true), None]
    );
    assert_eq!(state.counters_are_calm(minute(60)), None);
    let over = state.counters_are_calm(minute(7 + 24 * 60)).expect("a day later");
    assert!(!over.begins && over.anomaly == Anomaly::ImplausibleCounter);
    assert_eq!(state.suspect_counter(minute(2000), "energy_import_kwh", 0.0), None, "one more");
}

#[test]
fn readings_without_a_known_key_are_reported_with_their_keys() {
    let mut state = VitalState::default();
    let keys = vec!["Vllavg".to_owned()];
    let begins = state.readings_known(SECOND, Some(&keys)).expect("it begins");
    assert!(begins.message.contains("Vllavg"));
    assert_eq!(state.readings_known(2 * SECOND, Some(&keys)), None);
    assert_eq!(state.readings_known(3 * SECOND, None).map(|c| c.begins), Some(false));
}

/// One heartbeat of a boot, a minute after the one before.
fn beats(state: &mut VitalState, all: &[Vitals]) -> Vec<(&'static str, bool)> {
    let limits = VitalLimits::default();
    let mut found = Vec::new();
    for vitals in all {
        let at = state.ts.unwrap_or(0) + 60 * SECOND;
        found.extend(changes(&state.heartbeat(at, Some(1), vitals, &limits)));
    }
    found
}

#[test]
fn a_value_at_its_limit_is_normal() {
    let heap = |free: i64| Vitals { free_heap: Some(free), ..Vitals::default() };
    assert_eq!(beats(&mut VitalState::default(), &[heap(20_000)]), []);
    assert_eq!(beats(&mut VitalState::default(), &[heap(19_999)]), [("low_memory", true)]);
    let sd = |free: i64| Vitals { sd_free_mb: Some(free), ..Vitals::default() };
    assert_eq!(beats(&mut VitalState::default(), &[sd(100)]), []);
    assert_eq!(beats(&mut VitalState::default(), &[sd(99)]), [("sd_failure", true)]);
    let modbus = |ok, errors| Vitals {
        modbus_ok: Some(ok),
        modbus_errors: Some(errors),
        ..Vitals::default()
    };
    assert_eq!(beats(&mut VitalState::default(), &[modbus(80, 20)]), []);
    assert_eq!(beats(&mut VitalState::default(), &[modbus(79, 21)]), [("modbus_errors", true)]);
}

#[test]
fn a_card_that_is_missing_is_a_failure_however_much_was_free_on_it() {
    let gone = Vitals { sd_present: Some(false), sd_free_mb: Some(9999), ..Vitals::default() };
    let there = Vitals { sd_present: Some(true), ..Vitals::default() };
    let mut state = VitalState::default();
    let found = beats(&mut state, &[gone, Vitals::default(), there]);
    assert_eq!(found, [("sd_failure", true), ("sd_failure", false)]);
}

#[test]
fn modbus_counts_are_those_since_the_heartbeat_before() {
    let modbus = |ok, errors| Vitals {
        modbus_ok: Some(ok),
        modbus_errors: Some(errors),
        ..Vitals::default()
    };
    let mut state = VitalState::default();
    assert_eq!(beats(&mut state, &[modbus(1000, 0), modbus(1000, 0)]), [], "nothing was asked");
    // The counts fell without a new boot: nothing is known about the time between.
    assert_eq!(beats(&mut state, &[modbus(10, 90)]), []);
    assert_eq!(beats(&mut state, &[modbus(11, 91)]), [("modbus_errors", true)]);
    // A new boot counts from zero again.
    let limits = VitalLimits::default();
    let at = state.ts.expect("a heartbeat") + SECOND;
    let found = state.heartbeat(at, Some(2), &modbus(100, 1), &limits);
    assert_eq!(changes(&found), [("modbus_errors", false)]);
    let share = found.first().and_then(|c| c.value).expect("a share");
    assert!((share - 1.0 / 101.0).abs() < 1e-12, "{share}");
    let hostile = [modbus(i64::MIN, i64::MAX), modbus(i64::MAX, i64::MAX), modbus(-1, -1)];
    beats(&mut state, &hostile);
}

#[test]
fn a_crash_is_reported_by_its_cause_and_other_restarts_are_none() {
    let limits = VitalLimits::default();
    let restart = |cause: Option<&str>| {
        let mut state = VitalState::default();
        state.heartbeat(SECOND, Some(1), &Vitals::default(), &limits);
        let vitals = Vitals { reset_reason: cause.map(Into::into), ..Vitals::default() };
        changes(&state.heartbeat(2 * SECOND, Some(2), &vitals, &limits))
    };
    for cause in ["panic", "int_wdt", "task_wdt", "wdt"] {
        assert_eq!(restart(Some(cause)), [("crash", true)], "{cause}");
    }
    assert_eq!(restart(Some("brownout")), [("brownout", true)]);
    for cause in [Some("power_on"), Some("software"), Some("deep_sleep"), Some(""), None] {
        assert_eq!(restart(cause), [], "{cause:?}");
    }
}

#[test]
fn boots_without_a_heartbeat_count_by_the_boot_count() {
    let limits = VitalLimits::default();
    let jump = |boots: u64| {
        let mut state = VitalState::default();
        state.heartbeat(SECOND, Some(10), &Vitals::default(), &limits);
        changes(&state.heartbeat(2 * SECOND, Some(10 + boots), &Vitals::default(), &limits))
    };
    assert_eq!(jump(4), []);
    assert_eq!(jump(5), [("crash_loop", true)]);
    assert_eq!(jump(u64::MAX - 10), [("crash_loop", true)], "it is bounded");
}

#[test]
fn a_lost_boot_count_is_one_restart() {
    let limits = VitalLimits::default();
    let mut state = VitalState::default();
    state.heartbeat(SECOND, Some(900), &Vitals::default(), &limits);
    assert_eq!(changes(&state.heartbeat(2 * SECOND, Some(1), &Vitals::default(), &limits)), []);
    // A heartbeat without a boot count is no restart, and does not make the next one look like one.
    let brownout = Vitals { reset_reason: Some("brownout".into()), ..Vitals::default() };
    assert_eq!(changes(&state.heartbeat(3 * SECOND, None, &brownout, &limits)), []);
    assert_eq!(changes(&state.heartbeat(4 * SECOND, Some(1), &brownout, &limits)), []);
    assert_eq!(state.boot, Some(1));
}

#[test]
fn boots_leave_a_crash_loop_an_hour_later() {
    let limits = VitalLimits::default();
    let mut state = VitalState::default();
    for boot in 0..6_u64 {
        let at = i64::try_from(boot).expect("few") * SECOND;
        state.heartbeat(at, Some(boot), &Vitals::default(), &limits);
    }
    assert!(state.is_open(Anomaly::CrashLoop));
    let mut beat = |at: Micros| changes(&state.heartbeat(at, Some(5), &Vitals::default(), &limits));
    assert_eq!(beat(HOUR + SECOND - 1), []);
    assert_eq!(beat(HOUR + SECOND), [("crash_loop", false)], "the first of the five is over");
}

#[test]
fn a_heartbeat_that_is_read_late_changes_nothing() {
    let limits = VitalLimits::default();
    let mut state = VitalState::default();
    state.heartbeat(10 * SECOND, Some(5), &Vitals::default(), &limits);
    let before = state.clone();
    let low = Vitals { free_heap: Some(1), ..Vitals::default() };
    for at in [9 * SECOND, 10 * SECOND] {
        assert_eq!(state.heartbeat(at, Some(1), &low, &limits), []);
        assert_eq!(state, before);
    }
}

#[test]
fn the_end_of_an_anomaly_names_its_beginning() {
    let limits = VitalLimits::default();
    let mut state = VitalState::default();
    let heap = |free: i64| Vitals { free_heap: Some(free), ..Vitals::default() };
    state.heartbeat(10 * SECOND, None, &heap(5), &limits);
    state.heartbeat(20 * SECOND, None, &heap(6), &limits);
    let ended = state.heartbeat(30 * SECOND, None, &heap(90_000), &limits);
    let times: Vec<_> = ended.iter().map(|c| (c.begins, c.since, c.ts)).collect();
    assert_eq!(times, [(false, 10 * SECOND, 30 * SECOND)]);
}

#[test]
fn a_clock_is_an_anomaly_after_exactly_a_minute() {
    let limits = VitalLimits::default();
    let mut state = VitalState::default();
    let by = Some(500 * SECOND);
    assert_eq!(state.clock(0, by, &limits).condition, None);
    assert_eq!(state.clock(60 * SECOND - 1, by, &limits).condition, None);
    let condition = state.clock(60 * SECOND, by, &limits).condition.expect("it lasts");
    assert_eq!((condition.begins, condition.value), (true, Some(500.0)));
    assert_eq!(state.clock_ahead(), by);
    state.clock(61 * SECOND, None, &limits);
    assert_eq!(state.clock_ahead(), None);
}

#[test]
fn suspect_counters_are_forgotten_a_day_later() {
    let mut state = VitalState::default();
    let suspect = |state: &mut VitalState, at: Micros| {
        state.suspect_counter(at, "energy_import_kwh", -1.0).map(|c| c.begins)
    };
    assert_eq!(suspect(&mut state, 0), None);
    assert_eq!(suspect(&mut state, SECOND), None);
    assert_eq!(suspect(&mut state, SUSPECT_FOR), None, "the first is a day old");
    assert_eq!(suspect(&mut state, SUSPECT_FOR + 1), Some(true));
    assert_eq!(state.counters_are_calm(2 * SUSPECT_FOR), None, "one is left");
    let over = state.counters_are_calm(2 * SUSPECT_FOR + 1).expect("none is left");
    assert_eq!((over.begins, over.since), (false, SUSPECT_FOR + 1));
}

#[test]
fn the_state_of_an_earlier_version_is_understood() {
    let state: VitalState = serde_json::from_str(r#"{"t":5,"b":2}"#).expect("a state");
    assert_eq!((state.ts, state.boot), (Some(5), Some(2)));
    assert_eq!(state.clock_ahead(), None);
    // A state as it is stored today: its names must not change.
    let mut full = VitalState::default();
    let limits = VitalLimits::default();
    let vitals = Vitals {
        free_heap: Some(5),
        modbus_ok: Some(1),
        modbus_errors: Some(0),
        ..Vitals::default()
    };
    full.heartbeat(7, Some(1), &vitals, &limits);
    full.clock(8, Some(90), &limits);
    full.suspect_counter(9, "energy_import_kwh", 0.0);
    let stored: serde_json::Value = serde_json::to_value(&full).expect("json");
    assert_eq!(stored["o"], serde_json::json!([["low_memory", 7]]));
    assert_eq!(
        (&stored["m"], &stored["k"]),
        (&serde_json::json!([1, 0]), &serde_json::json!([8, 90]))
    );
    assert_eq!(stored["u"], serde_json::json!([9]));
    assert_eq!(serde_json::from_value::<VitalState>(stored).ok(), Some(full));
}
