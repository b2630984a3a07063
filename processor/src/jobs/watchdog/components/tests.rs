use super::*;

/// Moves the beginning of every outage back.
fn pass(outages: &mut Outages, time: Duration) {
    for since in outages.since.values_mut() {
        *since = since.checked_sub(time).expect("this machine runs for longer");
    }
}

#[test]
fn an_outage_is_an_alert_after_a_minute() {
    let (state, mut outages) = (StateSender::new([]), Outages::default());
    assert!(outages.lasting(&state).is_empty());
    state.log(Some("no route".into()));
    assert!(outages.lasting(&state).is_empty());
    pass(&mut outages, ALERT_AFTER);
    let found = outages.lasting(&state);
    let [condition] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((condition.alert_type, condition.subject.as_str()), ("component_away", "log"));
    assert_eq!(condition.severity, Severity::Critical);
    assert!(condition.message.ends_with("more than a minute: no route"), "{}", condition.message);
}

#[test]
fn a_component_that_was_back_is_away_anew() {
    let (state, mut outages) = (StateSender::new([]), Outages::default());
    state.log(Some("no route".into()));
    outages.lasting(&state);
    pass(&mut outages, ALERT_AFTER);
    state.log(None);
    assert!(outages.lasting(&state).is_empty());
    state.log(Some("no route".into()));
    assert!(outages.lasting(&state).is_empty(), "for a moment, so far");
}

#[test]
fn each_component_has_its_own_time() {
    let (state, mut outages) = (StateSender::new([]), Outages::default());
    state.log(Some("no route".into()));
    outages.lasting(&state);
    pass(&mut outages, ALERT_AFTER);
    state.lake(Some("no bucket".into()));
    let names: Vec<_> = outages.lasting(&state).into_iter().map(|c| c.subject).collect();
    assert_eq!(names, ["log"]);
}
