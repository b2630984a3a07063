//! Alerts, rules, silences, and their events in the outbox.

use acuvim_control::{
    AlertChange, AlertFilter, Changes, Control, DeadLetterUpdates, DeviceUpdate, NewAlert,
    OUTBOX_LEASE, Outgoing, Reminders, RepairChange, ReplayOutcome, SystemCondition,
};
use acuvim_model::{
    AlertOrigin, DeviceScope, DeviceStatus, GroupBody, RuleBody, RuleMode, SilenceBody,
    event::{AlertStep, Event, Mark, Marks},
};
use acuvim_wire::{
    Identity, Micros,
    payload::{DeviceAlert, Severity},
};
use chrono::TimeDelta;
use serde_json::json;
use uuid::Uuid;

use crate::{at, by, on_both, status_step};

async fn apply(control: &Control, changes: Changes) {
    let changes = Changes { now: at(1000), ..changes };
    control.apply(0, &changes).await.expect("apply");
}

async fn change(control: &Control, alerts: Vec<AlertChange>) {
    apply(control, Changes { alerts, ..Changes::default() }).await;
}

fn rule(name: &str) -> RuleBody {
    serde_json::from_value(json!({"name": name, "alert_type": "t", "when": "voltage_l1_v > 1"}))
        .expect("a rule")
}

fn mark(second: i64) -> Mark {
    let ts = at(second).timestamp_micros();
    Mark { ts, at: Identity { epoch: 0, partition: 0, offset: second, item: 0 } }
}

fn new_alert(device: &str, rule: Option<Uuid>, second: i64) -> NewAlert {
    NewAlert {
        id: acuvim_model::event::alert_id(device, "t", second),
        device_id: Some(device.into()),
        alert_type: "t".into(),
        severity: Severity::Critical,
        message: "m".into(),
        value: Some(1.0),
        threshold: None,
        metadata: None,
        origin: AlertOrigin::Rule,
        rule: rule.map(|id| (id, 1)),
        marks: Some(Marks {
            started: mark(second),
            raised: mark(second),
            ended: None,
            flapping: false,
        }),
        subject: String::new(),
        shadow: false,
        backfilled: false,
        created_at: at(second),
        raised_at: at(second),
        resolved_at: None,
    }
}

/// The steps of alerts in the outbox, in order.
async fn steps(control: &Control) -> Vec<AlertStep> {
    let held = control.hold_lease(OUTBOX_LEASE, "t", at(0), TimeDelta::days(9)).await;
    let lease = held.expect("ask").expect("free");
    let next = control.next_of_outbox(lease, "t", None, at(1)).await.expect("ask").expect("ours");
    let last = next.last().map(Outgoing::seq);
    control.next_of_outbox(lease, "t", last, at(1)).await.expect("ask");
    let events = control.events_for_lake(1000).await.expect("ask");
    assert_eq!(events.len(), next.len(), "what the log has waits for the lake");
    if let Some(last) = last {
        control.drop_events(last).await.expect("drop");
    }
    let step = |one| match one {
        Outgoing::Event { event: Event::Alert(event), .. } => Some(event.step),
        _ => None,
    };
    next.into_iter().filter_map(step).collect()
}

async fn open(control: &Control) -> Vec<acuvim_model::Alert> {
    let filter = AlertFilter { resolved: Some(false), limit: 100, ..AlertFilter::default() };
    control.alerts(&filter, None).await.expect("list").0
}

#[tokio::test(flavor = "multi_thread")]
async fn an_episode_is_raised_once_and_keeps_acknowledgements() {
    on_both(async |control| {
        let rule = control.create_rule(&rule("r"), &by(0)).await.expect("rule");
        apply(
            &control,
            Changes { devices: vec![DeviceUpdate::new("d", at(0))], ..Changes::default() },
        )
        .await;
        let alert = new_alert("d", Some(rule), 10);
        let raise = || AlertChange::Raise(Box::new(alert.clone()));
        change(&control, vec![raise()]).await;
        change(&control, vec![raise(), raise()]).await;
        assert_eq!(steps(&control).await, [AlertStep::Raised], "again is nothing");
        let seen = control.acknowledge(alert.id, Some("on it"), None, &by(20)).await.expect("ask");
        let seen = seen.expect("there");
        assert_eq!(seen.acknowledged_by.as_deref(), Some("test"));
        control.acknowledge(alert.id, None, None, &by(21)).await.expect("ask");
        let counts = control.alert_counts(None).await.expect("ask");
        assert_eq!((counts.open, counts.unacknowledged, counts.critical), (1, 0, 1));
        control.resolve(alert.id, None, &by(30)).await.expect("ask").expect("there");
        let clear = AlertChange::Clear { id: alert.id, at: at(40), marks: None };
        change(&control, vec![clear]).await;
        let (now, marks) = control.alert(alert.id, None).await.expect("ask").expect("there");
        assert_eq!(now.resolution.as_deref(), Some("resolved"), "a person's end stays");
        assert_eq!(marks.map(|m| m.started), Some(mark(10)));
        let told = steps(&control).await;
        assert_eq!(told, [AlertStep::Acknowledged, AlertStep::Resolved]);
        assert!(control.alert(Uuid::nil(), None).await.expect("ask").is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_rule_raises_nothing_and_its_episodes_end() {
    on_both(async |control| {
        let id = control.create_rule(&rule("r"), &by(0)).await.expect("rule");
        assert!(control.create_rule(&rule("r"), &by(0)).await.is_err(), "a name is one rule's");
        change(&control, vec![AlertChange::Raise(Box::new(new_alert("d", Some(id), 1)))]).await;
        let before = control.judged_by().await.expect("ask");
        let changed = RuleBody { severity: Severity::Info, ..rule("r") };
        assert!(control.update_rule(id, &changed, &by(2)).await.expect("update"));
        assert_ne!(control.judged_by().await.expect("ask"), before);
        let stored = control.rule(id, None).await.expect("ask").expect("there");
        assert_eq!((stored.version, stored.open_alerts), (2, 1), "its episodes stay");
        let off = RuleBody { mode: RuleMode::Off, ..rule("r") };
        control.update_rule(id, &off, &by(3)).await.expect("update");
        assert!(open(&control).await.is_empty());
        control.update_rule(id, &rule("r"), &by(4)).await.expect("update");
        change(&control, vec![AlertChange::Raise(Box::new(new_alert("d", Some(id), 5)))]).await;
        assert!(control.delete_rule(id, &by(6)).await.expect("delete"));
        change(&control, vec![AlertChange::Raise(Box::new(new_alert("d", Some(id), 7)))]).await;
        let filter = AlertFilter { limit: 9, ..AlertFilter::default() };
        let (all, _) = control.alerts(&filter, None).await.expect("list");
        let ends: Vec<_> = all.iter().map(|a| a.resolution.as_deref().expect("over")).collect();
        assert_eq!(ends, ["rule_deleted", "rule_off"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn default_rules_are_loaded_once() {
    on_both(async |control| {
        assert!(control.load_rules(&[rule("a"), rule("b")], at(0)).await.expect("load"));
        let rules = control.rules(None).await.expect("ask");
        control.delete_rule(rules[0].id, &by(1)).await.expect("delete");
        assert!(!control.load_rules(&[rule("a")], at(2)).await.expect("load"));
        assert_eq!(control.rules(None).await.expect("ask").len(), 1, "a person's choice stays");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_a_group_is_one_incident_with_one_reminder() {
    on_both(async |control| {
        let body = GroupBody { name: "north".into(), ..GroupBody::default() };
        let group = control.create_group(&body, &by(0)).await.expect("group");
        let names = ["a", "b", "c"];
        let notes = names.map(|d| DeviceUpdate::new(d, at(0))).to_vec();
        apply(&control, Changes { devices: notes, ..Changes::default() }).await;
        let members = acuvim_model::MembersChange {
            add: names.map(str::to_owned).to_vec(),
            remove: Vec::new(),
        };
        control.change_members(group, &members, None, &by(1)).await.expect("members");
        let mut gone = Vec::new();
        for (n, device) in (0..).zip(names) {
            let mut note = DeviceUpdate::new(device, at(100 + n));
            note.status = vec![status_step(DeviceStatus::Offline, 100 + n)];
            gone.push(note);
        }
        apply(&control, Changes { devices: gone, ..Changes::default() }).await;
        let alerts = open(&control).await;
        let incidents: std::collections::HashSet<_> =
            alerts.iter().map(|a| a.incident_id).collect();
        assert_eq!((alerts.len(), incidents.len()), (3, 1));
        steps(&control).await;
        let reminders =
            Reminders { every: TimeDelta::minutes(10), escalate_after: TimeDelta::minutes(30) };
        assert_eq!(control.remind(&reminders, at(1300)).await.expect("ask"), 0, "too early");
        assert_eq!(control.remind(&reminders, at(1700)).await.expect("ask"), 1, "of one story");
        assert_eq!(control.remind(&reminders, at(1800)).await.expect("ask"), 0);
        assert_eq!(control.remind(&reminders, at(4000)).await.expect("ask"), 1);
        assert_eq!(steps(&control).await, [AlertStep::Reminded, AlertStep::Escalated]);
        let filter = AlertFilter { incident_id: alerts[0].incident_id, ..AlertFilter::default() };
        let seen = control.acknowledge_many(&[], Some(&filter), Some("power"), None, &by(1)).await;
        assert_eq!(seen.expect("ask"), 3);
        assert_eq!(control.remind(&reminders, at(9000)).await.expect("ask"), 0);
        let mut back = DeviceUpdate::new("a", at(300));
        back.status = vec![status_step(DeviceStatus::Online, 300)];
        apply(&control, Changes { devices: vec![back], ..Changes::default() }).await;
        assert_eq!(open(&control).await.len(), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_marks_alerts_that_begin_while_it_holds() {
    on_both(async |control| {
        let body = SilenceBody {
            scope: DeviceScope { device_ids: vec!["d".into()], ..DeviceScope::default() },
            alert_types: vec!["t".into()],
            until: at(5000),
            reason: "works".into(),
        };
        let silence = control.create_silence(&body, &by(0)).await.expect("ask").expect("room");
        let raise = |device, second| {
            AlertChange::Raise(Box::new(NewAlert { rule: None, ..new_alert(device, None, second) }))
        };
        change(&control, vec![raise("d", 1), raise("e", 1)]).await;
        assert_eq!(control.silences(at(1)).await.expect("ask").len(), 1);
        assert!(control.end_silence(silence.id, &by(2)).await.expect("ask"));
        assert!(!control.end_silence(silence.id, &by(3)).await.expect("ask"));
        change(&control, vec![raise("d", 2)]).await;
        let mut silenced: Vec<_> = open(&control)
            .await
            .into_iter()
            .map(|a| (a.device_id.expect("a device"), a.created_at, a.silenced))
            .collect();
        silenced.sort();
        let wanted = [("d", 1, true), ("d", 2, false), ("e", 1, false)];
        assert_eq!(silenced, wanted.map(|(d, s, silenced)| (d.to_owned(), at(s), silenced)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_system_alerts_equal_the_current_conditions() {
    on_both(async |control| {
        let wrong = |subject: &str| SystemCondition {
            alert_type: "component_away",
            subject: subject.into(),
            severity: Severity::Critical,
            message: subject.into(),
            metadata: json!({}),
        };
        control.system_alerts("a", &[wrong("lake"), wrong("log")], at(1)).await.expect("ask");
        control.system_alerts("a", &[wrong("lake")], at(2)).await.expect("ask");
        control.system_alerts("b", &[], at(3)).await.expect("ask");
        let messages: Vec<_> = open(&control).await.into_iter().map(|a| a.message).collect();
        assert_eq!(messages, ["lake"]);
        let told = steps(&control).await;
        assert_eq!(told, [AlertStep::Raised, AlertStep::Raised, AlertStep::Cleared]);
    })
    .await;
}

fn device_alert(ts: Micros, state: &str, phase: Option<&str>) -> DeviceAlert {
    serde_json::from_value(json!({
        "ts": ts, "type": "overvoltage", "state": state, "metadata": {"phase": phase}
    }))
    .expect("an alert")
}

/// The beginnings and ends of the alerts that a device raised itself, by time.
async fn episodes(control: &Control, device: &str) -> Vec<(String, i64, Option<i64>)> {
    let filter =
        AlertFilter { device_id: Some(device.into()), limit: 100, ..AlertFilter::default() };
    let (alerts, _) = control.alerts(&filter, None).await.expect("list");
    let second = |t: chrono::DateTime<chrono::Utc>| t.timestamp() - 1_795_000_000;
    let phase = |metadata: Option<serde_json::Value>| {
        let phase = metadata.and_then(|m| m["phase"].as_str().map(str::to_owned));
        phase.unwrap_or_default()
    };
    let mut episodes: Vec<_> = alerts
        .into_iter()
        .map(|a| (phase(a.metadata), second(a.created_at), a.resolved_at.map(second)))
        .collect();
    episodes.sort();
    episodes
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_of_a_device_pair_in_any_order_of_arrival() {
    on_both(async |control| {
        let story = [
            (10, "raised", Some("l1")),
            (12, "raised", Some("l1")),
            (20, "cleared", Some("l1")),
            (30, "raised", Some("l1")),
            (15, "raised", Some("l2")),
            (40, "cleared", None),
            (50, "raised", Some("l2")),
        ];
        let orders = [[0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0], [2, 5, 0, 6, 3, 1, 4]];
        for (n, order) in orders.into_iter().enumerate() {
            let device = format!("d{n}");
            for index in order {
                let (second, state, phase) = story[index];
                let alert = device_alert(1_795_000_000 + second, state, phase);
                for _ in 0..2 {
                    let device_alerts = vec![(device.clone(), alert.clone(), at(100))];
                    apply(&control, Changes { device_alerts, ..Changes::default() }).await;
                }
            }
            let wanted = [
                ("l1".to_owned(), 10, Some(20)),
                ("l1".to_owned(), 30, Some(40)),
                ("l2".to_owned(), 15, Some(40)),
                ("l2".to_owned(), 50, None),
            ];
            assert_eq!(episodes(&control, &device).await, wanted, "{order:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_readings_amend_withdraw_and_restore() {
    on_both(async |control| {
        let id = control.create_rule(&rule("r"), &by(0)).await.expect("rule");
        let alert = new_alert("d", Some(id), 10);
        change(&control, vec![AlertChange::Raise(Box::new(alert.clone()))]).await;
        let marks = Marks {
            started: mark(5),
            raised: mark(8),
            ended: Some((mark(20), mark(30))),
            flapping: false,
        };
        let amend = AlertChange::Amend {
            id: alert.id,
            created_at: at(5),
            raised_at: at(8),
            resolved_at: Some(at(20)),
            marks,
        };
        change(&control, vec![amend]).await;
        let found = control.episodes(Some("d"), None, at(29)).await.expect("ask");
        assert_eq!(found.first().map(|(_, e)| e.marks), Some(marks), "not over before it is sure");
        assert!(control.episodes(Some("d"), None, at(31)).await.expect("ask").is_empty());
        change(&control, vec![AlertChange::Withdraw { id: alert.id }]).await;
        let all = AlertFilter { limit: 9, ..AlertFilter::default() };
        assert_eq!(control.alerts(&all, None).await.expect("list").1, 0);
        let with = AlertFilter { withdrawn: true, ..all.clone() };
        assert_eq!(control.alerts(&with, None).await.expect("list").1, 1);
        change(&control, vec![AlertChange::Raise(Box::new(alert.clone()))]).await;
        assert_eq!(open(&control).await.len(), 1, "it was there after all");
        let told = steps(&control).await;
        let amended = AlertStep::Amended;
        assert_eq!(told, [AlertStep::Raised, amended, AlertStep::Withdrawn, amended]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn states_repairs_and_dead_letters_are_stored_with_the_offsets() {
    on_both(async |control| {
        let changes = Changes {
            judgements: vec![("d".into(), Some("[1]".into())), ("e".into(), Some("[2]".into()))],
            repairs: vec![
                RepairChange::Schedule("d".into(), 50),
                RepairChange::Schedule("d".into(), 70),
                RepairChange::Schedule("e".into(), 10),
                RepairChange::Done("e".into()),
            ],
            dead_letters: DeadLetterUpdates {
                anchors: vec![("d".into(), 3, 1000), ("d".into(), 3, 9999)],
                clockless: vec![("d".into(), 3, at(5)), ("d".into(), 4, at(5))],
                replayed: Vec::new(),
            },
            ..Changes::default()
        };
        apply(&control, changes).await;
        let gone = Changes { judgements: vec![("e".into(), None)], ..Changes::default() };
        apply(&control, gone).await;
        assert_eq!(control.judgements().await.expect("ask"), [("d".into(), "[1]".into())]);
        assert_eq!(control.repairs().await.expect("ask"), [("d".into(), 50)]);
        let boots = control.clockless(9).await.expect("ask");
        assert_eq!(boots.len(), 1, "only the boot whose beginning is known");
        assert_eq!((boots[0].boot, boots[0].started), (3, 1000), "the first value stays");
        let letter = Identity { epoch: 0, partition: 1, offset: 2, item: 3 };
        let letters = [(letter, "d".to_owned())];
        let claim = async |second| {
            control.claim_replays(&letters, "t", at(second)).await.expect("ask").len()
        };
        assert_eq!((claim(0).await, claim(1).await), (1, 0), "it is pending");
        assert_eq!(claim(700).await, 1, "the first replay counts as lost");
        let outcome = |outcome| Changes {
            dead_letters: DeadLetterUpdates {
                replayed: vec![(letter, outcome)],
                ..DeadLetterUpdates::default()
            },
            ..Changes::default()
        };
        apply(&control, outcome(ReplayOutcome::DeadLetter)).await;
        assert_eq!(claim(9000).await, 0, "it is another dead letter now");
        apply(&control, outcome(ReplayOutcome::Stored)).await;
        assert_eq!(claim(9000).await, 0);
        assert_eq!(control.replayed(&[letter]).await.expect("ask"), 1);
        control.settle_clockless(&boots[0]).await.expect("settle");
        assert!(control.clockless(9).await.expect("ask").is_empty());
    })
    .await;
}
