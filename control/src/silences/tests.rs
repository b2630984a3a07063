use acuvim_model::DeviceScope;
use chrono::TimeDelta;

use super::*;
use crate::{
    AlertChange, Changes, NewAlert,
    testing::{add_devices, apply, at, by, fresh},
};

fn silence(until: i64) -> SilenceBody {
    SilenceBody {
        scope: DeviceScope::default(),
        alert_types: Vec::new(),
        until: at(until),
        reason: "works".into(),
    }
}

async fn create(control: &Control, body: &SilenceBody, second: i64) -> Silence {
    control.create_silence(body, &by(second)).await.expect("create").expect("room")
}

/// Raises an alert at a moment, and returns whether it is silenced.
async fn is_silenced(control: &Control, device: &str, kind: &str, now: DateTime<Utc>) -> bool {
    let id = Uuid::now_v7();
    let alert = AlertChange::Raise(Box::new(NewAlert::of_health(id, device, kind, now)));
    apply(control, Changes { alerts: vec![alert], now, ..Changes::default() }).await;
    control.alert(id, None).await.expect("ask").expect("there").0.silenced
}

#[tokio::test]
async fn a_silence_holds_until_its_end_and_not_at_it() {
    let (_dir, control) = fresh().await;
    create(&control, &silence(100), 0).await;
    let last = at(100) - TimeDelta::microseconds(1);
    assert!(is_silenced(&control, "d", "offline", last).await);
    assert!(!is_silenced(&control, "d", "offline", at(100)).await);
    assert_eq!(control.silences(last).await.expect("list").len(), 1);
    assert!(control.silences(at(100)).await.expect("list").is_empty());
}

#[tokio::test]
async fn a_silence_is_about_its_types_devices_groups_and_tags() {
    let (_dir, control) = fresh().await;
    let body = acuvim_model::GroupBody { name: "g".into(), ..Default::default() };
    let group = control.create_group(&body, &by(0)).await.expect("group");
    add_devices(&control, &["named", "grouped", "tagged", "other"]).await;
    let members = acuvim_model::MembersChange { add: vec!["grouped".into()], remove: vec![] };
    control.change_members(group, &members, None, &by(0)).await.expect("members");
    let edit =
        acuvim_model::DeviceEdit { tags: Some(Some(vec!["roof".into()])), ..Default::default() };
    control.edit_device("tagged", &edit, None, &by(0)).await.expect("edit");
    let scope = DeviceScope {
        device_ids: vec!["named".into()],
        group_ids: vec![group],
        tags: vec!["roof".into()],
    };
    let types = vec!["offline".into()];
    create(&control, &SilenceBody { scope, alert_types: types, ..silence(100) }, 0).await;
    for (device, kind, wanted) in [
        ("named", "offline", true),
        ("grouped", "offline", true),
        ("tagged", "offline", true),
        ("other", "offline", false),
        ("named", "offlin", false),
        ("unknown", "offline", false),
    ] {
        let silenced = is_silenced(&control, device, kind, at(1)).await;
        assert_eq!(silenced, wanted, "{device} {kind}");
    }
}

#[tokio::test]
async fn a_silence_of_some_devices_is_not_about_the_system_itself() {
    let (_dir, control) = fresh().await;
    let raise = async |second| {
        let id = Uuid::now_v7();
        let alert = NewAlert {
            device_id: None,
            ..NewAlert::of_health(id, "", "component_away", at(second))
        };
        let alerts = vec![AlertChange::Raise(Box::new(alert))];
        apply(&control, Changes { alerts, now: at(second), ..Changes::default() }).await;
        control.alert(id, None).await.expect("ask").expect("there").0.silenced
    };
    let scope = DeviceScope { tags: vec!["roof".into()], ..DeviceScope::default() };
    create(&control, &SilenceBody { scope, ..silence(100) }, 0).await;
    assert!(!raise(1).await);
    create(&control, &silence(100), 0).await;
    assert!(raise(2).await, "one of everything is");
}

#[tokio::test]
async fn an_unreadable_silence_silences_nothing_rather_than_everything() {
    let (_dir, control) = fresh().await;
    let one = create(&control, &silence(100), 0).await;
    let other = create(&control, &silence(100), 1).await;
    for (sql, id) in [
        ("UPDATE silences SET scope = '{\"sites\":[\"a\"]}' WHERE id = $1", one.id),
        ("UPDATE silences SET alert_types = '\"offline\"' WHERE id = $1", other.id),
    ] {
        control.execute(sql, vec![id.into()]).await.expect("of a newer version");
    }
    assert!(!is_silenced(&control, "d", "offline", at(2)).await);
    assert!(control.silences(at(2)).await.expect("list").is_empty());
    let readable = create(&control, &silence(100), 3).await;
    assert!(is_silenced(&control, "d", "offline", at(4)).await, "the others hold");
    assert_eq!(control.silences(at(4)).await.expect("list"), [readable]);
}

#[tokio::test]
async fn only_so_many_silences_hold_at_a_time() {
    let (_dir, control) = fresh().await;
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 999)
         INSERT INTO silences (id, scope, alert_types, until, reason, created_by, created_at)
         SELECT randomblob(16), '{}', '[\"t\"]', $1, '', '', $2 FROM n";
    control.execute(fill, vec![at(100).into(), at(0).into()]).await.expect("fill");
    let last = create(&control, &silence(200), 1).await;
    assert_eq!(control.create_silence(&silence(200), &by(2)).await.expect("ask"), None);
    assert!(control.end_silence(last.id, &by(3)).await.expect("end"));
    create(&control, &silence(200), 4).await;
    assert_eq!(control.create_silence(&silence(200), &by(5)).await.expect("ask"), None);
    create(&control, &silence(200), 100).await;
}

#[tokio::test]
async fn an_ended_silence_ends_once_and_keeps_the_time_of_that() {
    let (_dir, control) = fresh().await;
    let one = create(&control, &silence(100), 0).await;
    assert!(!control.end_silence(Uuid::now_v7(), &by(1)).await.expect("ask"));
    assert!(!control.end_silence(one.id, &by(100)).await.expect("ask"), "it is over already");
    assert!(control.end_silence(one.id, &by(50)).await.expect("ask"));
    assert!(!control.end_silence(one.id, &by(60)).await.expect("ask"));
    assert_eq!(
        control.silences(at(49)).await.expect("list").first().map(|s| s.until),
        Some(at(50))
    );
}
