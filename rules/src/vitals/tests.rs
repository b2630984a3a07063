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
