use acuvim_model::{
    Alert, AlertOrigin, GroupBody, RuleBody, Scope,
    event::{AlertStep, Event, Mark, Marks, alert_id},
};
use acuvim_wire::{
    Identity,
    payload::{DeviceAlert, Severity},
};
use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::pair::{AlertSignal, pair};
use crate::{
    AlertChange, AlertFilter, Changes, Control, NewAlert, Reminders, SystemCondition,
    testing::{add_devices, apply, at, audited, by, events, fresh, runtime, scope_of},
};

fn mark(second: i64) -> Mark {
    let ts = at(second).timestamp_micros();
    Mark { ts, at: Identity { epoch: 0, partition: 0, offset: second, item: 0 } }
}

fn marks(second: i64) -> Marks {
    Marks { started: mark(second), raised: mark(second), ended: None, flapping: false }
}

/// An alert of a device, about nothing in particular.
fn new(device: &str, second: i64) -> NewAlert {
    let id = alert_id(device, "t", second);
    NewAlert { marks: Some(marks(second)), ..NewAlert::of_health(id, device, "t", at(second)) }
}

async fn change(control: &Control, alerts: Vec<AlertChange>, second: i64) {
    apply(control, Changes { alerts, now: at(second), ..Changes::default() }).await;
}

async fn raise(control: &Control, alert: &NewAlert) -> Alert {
    change(control, vec![AlertChange::Raise(Box::new(alert.clone()))], 1000).await;
    get(control, alert.id).await
}

async fn get(control: &Control, id: Uuid) -> Alert {
    control.alert(id, None).await.expect("ask").expect("there").0
}

async fn steps(control: &Control) -> Vec<AlertStep> {
    let step = |event| match event {
        Event::Alert(event) => Some(event.step),
        _ => None,
    };
    events(control).await.into_iter().filter_map(step).collect()
}

fn clear(id: Uuid, second: i64) -> AlertChange {
    AlertChange::Clear { id, at: at(second), marks: None }
}

fn amend(id: Uuid, began: i64, ended: Option<i64>) -> AlertChange {
    let (created_at, resolved_at) = (at(began), ended.map(at));
    let marks = marks(began);
    AlertChange::Amend { id, created_at, raised_at: created_at, resolved_at, marks }
}

fn all() -> AlertFilter {
    AlertFilter { withdrawn: true, limit: 1000, ..AlertFilter::default() }
}

#[tokio::test]
async fn each_step_of_an_alert_is_one_event_however_often_it_is_applied() {
    let (_dir, control) = fresh().await;
    let alert = new("d", 10);
    for _ in 0..2 {
        raise(&control, &alert).await;
        change(&control, vec![clear(alert.id, 20)], 1000).await;
    }
    let none = clear(Uuid::now_v7(), 20);
    change(&control, vec![none, AlertChange::Withdraw { id: Uuid::now_v7() }], 1000).await;
    for _ in 0..2 {
        change(&control, vec![AlertChange::Withdraw { id: alert.id }], 1000).await;
    }
    let wanted = [AlertStep::Raised, AlertStep::Cleared, AlertStep::Withdrawn];
    assert_eq!(steps(&control).await, wanted);
    let now = get(&control, alert.id).await;
    assert_eq!((now.withdrawn, now.resolved_at), (true, Some(at(20))), "with the end it had");
    let over = NewAlert { resolved_at: Some(at(40)), ..new("d", 30) };
    raise(&control, &over).await;
    assert_eq!(steps(&control).await, [AlertStep::Raised, AlertStep::Cleared], "both at once");
}

#[tokio::test]
async fn the_end_that_a_person_set_survives_everything_that_readings_say_later() {
    let (_dir, control) = fresh().await;
    let alert = new("d", 10);
    raise(&control, &alert).await;
    control.resolve(alert.id, None, &by(50)).await.expect("ask").expect("there");
    let ended = async |case: &str| {
        let now = get(&control, alert.id).await;
        assert_eq!(now.resolved_at, Some(at(50)), "{case}");
        assert_eq!(now.resolved_by.as_deref(), Some("test"), "{case}");
        now
    };
    change(&control, vec![clear(alert.id, 60)], 1000).await;
    ended("cleared").await;
    change(&control, vec![amend(alert.id, 5, None)], 1000).await;
    ended("amended, and open").await;
    change(&control, vec![amend(alert.id, 5, Some(55))], 1000).await;
    assert_eq!(ended("amended, with an end").await.created_at, at(5), "its beginning moves");
    change(&control, vec![AlertChange::Withdraw { id: alert.id }], 1000).await;
    ended("withdrawn").await;
    let restored = raise(&control, &alert).await;
    ended("restored").await;
    assert!(!restored.withdrawn);
    assert_eq!(restored.resolution.as_deref(), Some("resolved"));
    change(&control, vec![amend(alert.id, 10, Some(90))], 1000).await;
    ended("amended after that").await;
    control.resolve(alert.id, None, &by(99)).await.expect("ask").expect("there");
    ended("resolved again").await;
}

#[tokio::test]
async fn an_alert_that_is_restored_is_open_again_until_its_condition_ends() {
    let (_dir, control) = fresh().await;
    let alert = new("d", 10);
    raise(&control, &alert).await;
    change(&control, vec![AlertChange::Withdraw { id: alert.id }], 1000).await;
    let again = raise(&control, &alert).await;
    assert_eq!((again.withdrawn, again.resolved_at, again.resolution), (false, None, None));
    change(&control, vec![clear(alert.id, 30)], 1000).await;
    assert_eq!(get(&control, alert.id).await.resolution.as_deref(), Some("cleared"));
}

#[tokio::test]
async fn an_acknowledgement_is_of_the_first_who_gave_it_and_audited_once() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    let alert = raise(&control, &new("d", 10)).await;
    let ask = async |note: Option<&str>, second| {
        control.acknowledge(alert.id, note, None, &by(second)).await.expect("ask").expect("there")
    };
    ask(Some("on it"), 20).await;
    let again = ask(Some("me too"), 30).await;
    assert_eq!(again.acknowledge_note.as_deref(), Some("on it"));
    assert_eq!(again.acknowledged_at, Some(at(20)));
    let outside = control.acknowledge(alert.id, None, Some(&scope_of(&["e"])), &by(1)).await;
    assert_eq!(outside.expect("ask"), None);
    let outside = control.resolve(alert.id, Some(&scope_of(&["e"])), &by(1)).await.expect("ask");
    assert_eq!(outside, None);
    assert_eq!(get(&control, alert.id).await.resolved_at, None);
    let audit = audited(&control).await;
    assert_eq!(audit.iter().filter(|e| e.action.starts_with("alert.")).count(), 1);
}

#[tokio::test]
async fn many_are_acknowledged_within_the_scope_and_counted_if_they_were_not_before() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["mine", "theirs"]).await;
    let mut ids = Vec::new();
    for (device, second) in [("mine", 1), ("mine", 2), ("theirs", 1000)] {
        ids.push(raise(&control, &new(device, second)).await.id);
    }
    ids.push(Uuid::now_v7());
    control.acknowledge(ids[0], None, None, &by(5)).await.expect("ask");
    let scope = scope_of(&["mine"]);
    let ask = async |ids: &[Uuid], filter: Option<&AlertFilter>, scope| {
        control.acknowledge_many(ids, filter, Some("n"), scope, &by(6)).await.expect("ask")
    };
    assert_eq!(ask(&ids, None, Some(&scope)).await, 1);
    assert!(!get(&control, ids[2]).await.acknowledged, "outside the scope");
    assert_eq!(ask(&ids, None, None).await, 1);
    assert_eq!(ask(&ids, None, None).await, 0);
    raise(&control, &new("mine", 3)).await;
    let over = raise(&control, &NewAlert { resolved_at: Some(at(5)), ..new("mine", 4) }).await;
    let open = AlertFilter::from(&acuvim_model::AcknowledgeFilter {
        device_id: Some("mine".into()),
        ..Default::default()
    });
    assert_eq!(ask(&[], Some(&open), Some(&scope)).await, 1, "open ones");
    assert!(!get(&control, over.id).await.acknowledged);
}

#[tokio::test]
async fn counts_are_of_what_is_open_and_pages_somebody() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d", "e"]).await;
    let critical = NewAlert { severity: Severity::Critical, ..new("d", 1) };
    raise(&control, &critical).await;
    let seen = raise(&control, &new("d", 2)).await;
    control.acknowledge(seen.id, None, None, &by(3)).await.expect("ask");
    raise(&control, &NewAlert { shadow: true, ..new("d", 3) }).await;
    let gone = raise(&control, &new("d", 4)).await;
    change(&control, vec![AlertChange::Withdraw { id: gone.id }], 1000).await;
    raise(&control, &NewAlert { resolved_at: Some(at(9)), ..new("d", 5) }).await;
    raise(&control, &new("e", 6)).await;
    let count = async |scope: Option<&Scope>| {
        let counts = control.alert_counts(scope).await.expect("count");
        (counts.open, counts.unacknowledged, counts.critical)
    };
    assert_eq!(count(None).await, (3, 2, 1));
    assert_eq!(count(Some(&scope_of(&["d"]))).await, (2, 1, 1));
    assert_eq!(count(Some(&scope_of(&[]))).await, (0, 0, 0));
}

#[test]
fn pages_of_alerts_hold_each_once_although_many_began_at_the_same_moment() {
    let runtime = runtime();
    let (_dir, control) = runtime.block_on(fresh());
    for n in 0..12 {
        let alert = NewAlert { id: Uuid::now_v7(), ..new("d", n / 5) };
        runtime.block_on(raise(&control, &alert));
    }
    for limit in 1..14 {
        let mut filter = AlertFilter { limit, ..AlertFilter::default() };
        let mut seen = Vec::new();
        loop {
            let (page, total) = runtime.block_on(control.alerts(&filter, None)).expect("list");
            assert_eq!(total, 12);
            let Some(last) = page.last() else { break };
            filter.after = Some((last.created_at, last.id));
            seen.extend(page.iter().map(|alert| (alert.created_at, alert.id)));
        }
        let mut sorted = seen.clone();
        sorted.sort_by(|a, b| b.cmp(a));
        sorted.dedup();
        assert_eq!((seen.len(), &seen), (12, &sorted), "{limit}");
    }
}

#[tokio::test]
async fn a_range_of_time_begins_with_its_first_moment_and_ends_before_its_last() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    for second in [10, 20, 30] {
        raise(&control, &new("d", second)).await;
    }
    let total = async |filter: AlertFilter| {
        let filter = AlertFilter { limit: 9, ..filter };
        control.alerts(&filter, None).await.expect("list").1
    };
    let range =
        |from, to| AlertFilter { from: Some(at(from)), to: Some(at(to)), ..AlertFilter::default() };
    assert_eq!(total(range(10, 30)).await, 2);
    assert_eq!(total(range(11, 31)).await, 2);
    assert_eq!(total(range(20, 20)).await, 0);
    for text in ["%", "t' OR ''='", "T"] {
        let none = AlertFilter { alert_type: Some(text.into()), ..AlertFilter::default() };
        assert_eq!(total(none).await, 0, "{text}");
    }
    let nul = AlertFilter { alert_type: Some("t\0".into()), ..AlertFilter::default() };
    assert_eq!(total(nul).await, 3, "NUL is nowhere in what is stored");
}

#[tokio::test]
async fn alerts_of_the_system_and_of_deleted_devices_are_in_no_scope() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    let alert = raise(&control, &new("d", 1)).await;
    let system = raise(&control, &NewAlert { device_id: None, ..new("", 2) }).await;
    let scope = scope_of(&["d", ""]);
    let seen = async |id| control.alert(id, Some(&scope)).await.expect("ask").is_some();
    assert!(seen(alert.id).await && !seen(system.id).await);
    control.delete_device("d", None, &by(5)).await.expect("delete");
    assert!(!seen(alert.id).await);
    assert_eq!(control.alerts(&all(), Some(&scope)).await.expect("list").1, 0);
    assert_eq!(control.alerts(&all(), None).await.expect("list").1, 2);
}

async fn group_of(control: &Control, devices: &[&str]) {
    let body = GroupBody { name: "g".into(), ..GroupBody::default() };
    let group = control.create_group(&body, &by(0)).await.expect("group");
    let add = devices.iter().map(|id| (*id).to_owned()).collect();
    let members = acuvim_model::MembersChange { add, remove: vec![] };
    control.change_members(group, &members, None, &by(0)).await.expect("members");
}

#[tokio::test]
async fn alerts_of_one_group_within_five_minutes_are_one_incident() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["a", "b", "lone", "other"]).await;
    group_of(&control, &["a", "b"]).await;
    let incident = async |alert: NewAlert| raise(&control, &alert).await.incident_id;
    let first = incident(new("a", 1000)).await;
    assert_eq!(incident(new("b", 1300)).await, first, "five minutes later");
    assert_eq!(incident(new("b", 700)).await, first, "five minutes earlier");
    let before = at(1300) + TimeDelta::microseconds(300_000_001);
    let late = NewAlert { created_at: before, ..new("a", 1601) };
    assert_ne!(incident(late).await, first);
    assert_ne!(incident(NewAlert { alert_type: "u".into(), ..new("a", 1001) }).await, first);
    assert_ne!(incident(NewAlert { shadow: true, ..new("b", 1001) }).await, first);
    assert_ne!(incident(new("lone", 1000)).await, first, "not in the group");
    // Devices without a group: an outage has one cause, readings do not.
    assert_eq!(incident(new("lone", 5000)).await, incident(new("other", 5001)).await);
    let rule = |device, second| NewAlert { origin: AlertOrigin::Rule, ..new(device, second) };
    assert_ne!(incident(rule("lone", 5002)).await, incident(rule("other", 5003)).await);
}

#[tokio::test]
async fn a_reminder_is_due_when_its_time_is_over_and_escalates_once() {
    let (_dir, control) = fresh().await;
    let reminders =
        Reminders { every: TimeDelta::minutes(10), escalate_after: TimeDelta::hours(1) };
    let remind = async |now: DateTime<Utc>| control.remind(&reminders, now).await.expect("ask");
    add_devices(&control, &["d"]).await;
    let alert = raise(&control, &new("d", 10)).await;
    events(&control).await;
    // The alert became known at 1000, long after it began.
    assert_eq!(remind(at(1600) - TimeDelta::microseconds(1)).await, 0);
    assert_eq!(remind(at(1600)).await, 1);
    assert_eq!(remind(at(2199)).await, 0, "from the last reminder on");
    assert_eq!(remind(at(2200)).await, 1);
    assert_eq!(remind(at(4600)).await, 1);
    assert_eq!(remind(at(5200)).await, 1);
    let wanted =
        [AlertStep::Reminded, AlertStep::Reminded, AlertStep::Escalated, AlertStep::Reminded];
    assert_eq!(steps(&control).await, wanted);
    let now = get(&control, alert.id).await;
    assert_eq!((now.reminded_at, now.escalated_at), (Some(at(5200)), Some(at(4600))));
    control.acknowledge(alert.id, None, None, &by(5300)).await.expect("ask");
    assert_eq!(remind(at(99_999)).await, 0);
}

#[tokio::test]
async fn nobody_is_reminded_of_what_paged_nobody() {
    let (_dir, control) = fresh().await;
    let quiet = [
        NewAlert { severity: Severity::Info, ..new("a", 1) },
        NewAlert { shadow: true, ..new("b", 1) },
        NewAlert { backfilled: true, ..new("c", 1) },
        NewAlert { resolved_at: Some(at(2)), ..new("d", 1) },
    ];
    for (n, alert) in (0..).zip(quiet) {
        // Each is an incident of its own.
        let alert = NewAlert { created_at: at(n * 1000), alert_type: format!("t{n}"), ..alert };
        raise(&control, &alert).await;
    }
    let gone = raise(&control, &NewAlert { alert_type: "w".into(), ..new("e", 1) }).await;
    change(&control, vec![AlertChange::Withdraw { id: gone.id }], 1000).await;
    assert_eq!(control.remind(&Reminders::default(), at(999_999)).await.expect("ask"), 0);
}

fn rule(name: &str) -> RuleBody {
    serde_json::from_value(json!({"name": name, "alert_type": "t", "when": "voltage_l1_v > 1"}))
        .expect("a rule")
}

#[tokio::test]
async fn a_rule_that_is_off_or_gone_raises_nothing() {
    let (_dir, control) = fresh().await;
    let off = RuleBody { mode: acuvim_model::RuleMode::Off, ..rule("off") };
    let off = control.create_rule(&off, &by(0)).await.expect("create");
    for id in [off, Uuid::now_v7()] {
        let alert = NewAlert { rule: Some((id, 1)), origin: AlertOrigin::Rule, ..new("d", 1) };
        change(&control, vec![AlertChange::Raise(Box::new(alert))], 1000).await;
    }
    assert_eq!(control.alerts(&all(), None).await.expect("list").1, 0);
    assert!(steps(&control).await.is_empty());
}

#[tokio::test]
async fn the_episodes_of_a_rule_are_those_that_were_not_over() {
    let (_dir, control) = fresh().await;
    let (id, other) = (
        control.create_rule(&rule("r"), &by(0)).await.expect("create"),
        control.create_rule(&rule("s"), &by(0)).await.expect("create"),
    );
    let of_rule = |rule, device, second| NewAlert {
        rule: Some((rule, 3)),
        origin: AlertOrigin::Rule,
        ..new(device, second)
    };
    let over = Marks { ended: Some((mark(20), mark(30))), ..marks(10) };
    let ended = NewAlert { marks: Some(over), resolved_at: Some(at(20)), ..of_rule(id, "d", 10) };
    raise(&control, &ended).await;
    raise(&control, &of_rule(id, "d", 40)).await;
    raise(&control, &of_rule(other, "e", 50)).await;
    raise(&control, &new("d", 60)).await;
    let count = async |device: Option<&str>, rule, from| {
        control.episodes(device, rule, at(from)).await.expect("ask").len()
    };
    assert_eq!(count(None, None, 0).await, 3, "not the alert of no rule");
    assert_eq!(count(Some("d"), None, 30).await, 2, "its end was confirmed at 30");
    assert_eq!(count(Some("d"), None, 31).await, 1);
    assert_eq!(count(None, Some(other), 0).await, 1);
    control.resolve(alert_id("d", "t", 40), None, &by(70)).await.expect("ask");
    assert_eq!(count(Some("d"), None, 1_000_000).await, 1, "its condition goes on all the same");
    control.delete_rule(id, &by(80)).await.expect("delete");
    assert_eq!(count(Some("d"), None, 0).await, 2, "what had ended before stays");
}

#[tokio::test]
async fn a_condition_of_the_system_that_a_person_resolved_stays_quiet_for_an_hour() {
    let (_dir, control) = fresh().await;
    let wrong = |subject: &str| SystemCondition {
        alert_type: "component_away",
        subject: subject.into(),
        severity: Severity::Critical,
        message: subject.into(),
        metadata: json!({}),
    };
    let set = async |source: &str, subjects: &[&str], second| {
        let conditions: Vec<_> = subjects.iter().map(|subject| wrong(subject)).collect();
        control.system_alerts(source, &conditions, at(second)).await.expect("set");
    };
    let open = async || {
        let filter = AlertFilter { resolved: Some(false), limit: 9, ..AlertFilter::default() };
        control.alerts(&filter, None).await.expect("list").0
    };
    set("a", &["lake"], 0).await;
    set("a", &["lake"], 1).await;
    // A source whose name begins with that of another.
    set("ab", &["lake"], 1).await;
    set("ab", &[], 2).await;
    assert_eq!(open().await.len(), 1);
    control.resolve(open().await[0].id, None, &by(10)).await.expect("ask");
    set("a", &["lake"], 3609).await;
    assert!(open().await.is_empty());
    set("a", &["lake"], 3610).await;
    assert_eq!(open().await.len(), 1, "it is still wrong");
    for second in [0, 5000] {
        control.system_faults(&[wrong("torn")], at(second)).await.expect("fault");
    }
    set("a", &[], 6000).await;
    let left = open().await;
    assert_eq!((left.len(), left[0].message.as_str()), (1, "torn"), "a fault of the past stays");
    control.resolve(left[0].id, None, &by(7000)).await.expect("ask");
    control.system_faults(&[wrong("torn")], at(999_999)).await.expect("fault");
    assert!(open().await.is_empty(), "and is raised once for ever");
}

fn device_alert(second: i64, cleared: bool, phase: Option<&str>, extra: &Json) -> DeviceAlert {
    let mut fields = json!({
        "ts": at(second).to_rfc3339(),
        "type": "overvoltage",
        "state": if cleared { "cleared" } else { "raised" },
        "metadata": {"phase": phase},
    });
    if let (Some(fields), Some(extra)) = (fields.as_object_mut(), extra.as_object()) {
        fields.extend(extra.clone());
    }
    serde_json::from_value(fields).expect("an alert")
}

async fn said(control: &Control, device: &str, alert: DeviceAlert, second: i64) {
    let device_alerts = vec![(device.to_owned(), alert, at(second))];
    apply(control, Changes { device_alerts, now: at(second), ..Changes::default() }).await;
}

/// Whatever a device raises and clears, in whatever order it arrives and however often: its alerts are the
/// episodes of all of it.
#[test]
fn alerts_of_a_device_are_the_episodes_of_what_it_sent() {
    let runtime = runtime();
    let (_dir, control) = runtime.block_on(fresh());
    let signal = (0..12_i64, any::<bool>(), 0..3_usize);
    let signals = prop::collection::vec(signal, 1..9).prop_shuffle();
    let case = std::cell::Cell::new(0);
    let phases = [Some("l1"), Some("l2"), None];
    proptest!(ProptestConfig::with_cases(64), |(signals in signals, again in 0..9_usize)| {
        case.set(case.get() + 1);
        let device = format!("d{}", case.get());
        let repeated = signals.get(again).copied();
        for (second, cleared, phase) in signals.iter().copied().chain(repeated) {
            let alert = device_alert(second, cleared, phases[phase], &json!({}));
            runtime.block_on(said(&control, &device, alert, 100));
        }
        let mut wanted = Vec::new();
        for (n, phase) in phases.iter().enumerate() {
            // A clear without a phase ends the alerts of every phase.
            let of_phase: Vec<AlertSignal> = signals
                .iter()
                .filter(|(_, cleared, of)| *of == n || (*cleared && *of == 2))
                .map(|(second, cleared, _)| AlertSignal { ts: *second, cleared: *cleared })
                .collect();
            let phase = phase.unwrap_or_default();
            wanted.extend(pair(&of_phase).into_iter().map(|e| (phase, e.started, e.ended)));
        }
        wanted.sort_unstable();
        let filter = AlertFilter {
            device_id: Some(device),
            limit: 100,
            ..AlertFilter::default()
        };
        let (alerts, _) = runtime.block_on(control.alerts(&filter, None)).expect("list");
        let second = |time: DateTime<Utc>| (time - at(0)).num_seconds();
        let mut stored: Vec<(String, i64, Option<i64>)> = runtime
            .block_on(control.fetch_all(
                "SELECT subject, created_at, resolved_at FROM alerts
                 WHERE device_id = $1 AND withdrawn = $2",
                vec![filter.device_id.into(), false.into()],
            ))
            .expect("read")
            .into_iter()
            .map(|(subject, created, end): (String, DateTime<Utc>, Option<DateTime<Utc>>)| {
                (subject, second(created), end.map(second))
            })
            .collect();
        stored.sort();
        let stored: Vec<_> = stored.iter().map(|(s, began, end)| (s.as_str(), *began, *end)).collect();
        prop_assert_eq!(stored, wanted);
        for alert in alerts {
            prop_assert_eq!(alert.resolution.as_deref(), alert.resolved_at.map(|_| "cleared"));
        }
    });
}

#[tokio::test]
async fn a_device_alert_that_becomes_known_late_pages_nobody() {
    let (_dir, control) = fresh().await;
    for (device, known, backfilled) in [("a", 900, false), ("b", 901, true)] {
        let alert = device_alert(0, false, None, &json!({}));
        said(&control, device, alert, known).await;
        let filter = AlertFilter { device_id: Some(device.into()), ..all() };
        let (alerts, _) = control.alerts(&filter, None).await.expect("list");
        assert_eq!(alerts[0].backfilled, backfilled, "{known}");
    }
}

#[tokio::test]
async fn a_hostile_device_alert_is_cut_to_what_an_event_can_hold() {
    let (_dir, control) = fresh().await;
    let huge = "x".repeat(5000);
    let extra = json!({
        "type": "ä".repeat(100), "message": huge, "severity": "critical", "value": 1e300,
        "metadata": {"phase": "p".repeat(50), "blob": huge}
    });
    said(&control, "d", device_alert(0, false, None, &extra), 1).await;
    let (alerts, _) = control.alerts(&all(), None).await.expect("list");
    let alert = &alerts[0];
    assert_eq!(alert.alert_type.chars().count(), 64);
    assert_eq!((alert.message.len(), &alert.metadata), (500, &None));
    assert_eq!((alert.severity, alert.value), (Severity::Critical, Some(1e300)));
    assert!(serde_json::to_string(&events(&control).await).expect("JSON").len() < 5000);
    // A time that neither database can store becomes one that both can.
    for (device, ts) in [("far", i64::MAX), ("old", i64::MIN + 1)] {
        let mut alert = device_alert(0, false, None, &json!({}));
        alert.ts.0 = ts;
        said(&control, device, alert, 1).await;
        let filter = AlertFilter { device_id: Some(device.into()), ..all() };
        assert_eq!(control.alerts(&filter, None).await.expect("list").1, 1, "{ts}");
    }
}

#[tokio::test]
async fn an_acknowledged_device_alert_keeps_that_when_an_earlier_raise_arrives() {
    let (_dir, control) = fresh().await;
    said(&control, "d", device_alert(10, false, None, &json!({})), 20).await;
    let (alerts, _) = control.alerts(&all(), None).await.expect("list");
    control.acknowledge(alerts[0].id, None, None, &by(21)).await.expect("ask");
    said(&control, "d", device_alert(5, false, None, &json!({})), 30).await;
    let (now, total) = control.alerts(&all(), None).await.expect("list");
    assert_eq!((total, now[0].id, now[0].created_at), (1, alerts[0].id, at(5)));
    assert!(now[0].acknowledged);
    control.resolve(now[0].id, None, &by(40)).await.expect("ask");
    said(&control, "d", device_alert(50, true, None, &json!({})), 60).await;
    let ended = get(&control, alerts[0].id).await;
    assert_eq!((ended.resolved_at, ended.resolution.as_deref()), (Some(at(40)), Some("resolved")));
}
