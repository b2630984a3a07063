use acuvim_model::{DeviceEdit, GroupBody, MembersChange, Role};
use serde_json::json;

use super::*;
use crate::testing::{add_devices, at, audited, by, fresh, ping, scope_of};

#[tokio::test]
async fn secrets_are_masked_at_every_depth() {
    let (_dir, control) = fresh().await;
    let detail =
        json!({"values": [{"password": "hunter22", "ssid": "plant"}], "PassWord": "hunter22"});
    control.note(&by(1), "export", "telemetry", detail).await.expect("note");
    let entries = audited(&control).await;
    let text = serde_json::to_string(&entries).expect("JSON");
    assert!(!text.contains("hunter22"), "{text}");
    assert_eq!(entries[0].detail["values"][0]["ssid"], "plant");
}

#[tokio::test]
async fn what_is_refused_or_changes_nothing_is_not_in_the_audit() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["mine", "theirs"]).await;
    let before = audited(&control).await;
    let (id, scope) = (Uuid::now_v7(), scope_of(&["mine"]));
    let body = GroupBody { name: "g".into(), ..GroupBody::default() };
    let members = MembersChange { add: vec!["mine".into(), "theirs".into()], remove: vec![] };
    let rule =
        serde_json::from_value(json!({"name": "r", "alert_type": "t", "when": "voltage_l1_v > 1"}));
    let now = by(1);
    assert!(!control.update_group(id, &body, &now).await.expect("ask"));
    assert!(!control.delete_group(id, &now).await.expect("ask"));
    let stranger = control.change_members(id, &members, Some(&scope), &now).await;
    assert!(stranger.is_err() || stranger.is_ok_and(|id| id.is_some()));
    assert!(!control.update_rule(id, &rule.expect("a rule"), &now).await.expect("ask"));
    assert!(!control.delete_rule(id, &now).await.expect("ask"));
    assert!(!control.delete_key(id, &now).await.expect("ask"));
    assert!(!control.end_silence(id, &now).await.expect("ask"));
    assert!(!control.delete_notification(id, &now).await.expect("ask"));
    assert!(!control.delete_device("theirs", Some(&scope), &now).await.expect("ask"));
    assert!(!control.revoke_device_secret("none", &now).await.expect("ask"));
    let edit = DeviceEdit::default();
    control.edit_device("theirs", &edit, Some(&scope), &now).await.expect("ask");
    control.replace_device("theirs", "new", Some(&scope), &now).await.expect("ask");
    control.give_command(&ping("theirs"), Some(&scope), &now).await.expect("ask");
    assert_eq!(control.acknowledge(id, None, None, &now).await.expect("ask"), None);
    assert_eq!(control.resolve(id, None, &now).await.expect("ask"), None);
    assert_eq!(audited(&control).await, before);
}

#[tokio::test]
async fn an_entry_says_who_did_it_from_where_and_in_which_request() {
    let (_dir, control) = fresh().await;
    let who = By {
        id: Some(Uuid::from_u128(7)),
        name: "ann".into(),
        address: Some("2001:db8::1".into()),
        request: Some("req-1".into()),
        at: at(5),
    };
    control.note(&who, "export", "telemetry", json!({"rows": 3})).await.expect("note");
    let entry = audited(&control).await.remove(0);
    assert_eq!((entry.actor_id, entry.actor.as_str()), (Some(Uuid::from_u128(7)), "ann"));
    assert_eq!(entry.address.as_deref(), Some("2001:db8::1"));
    assert_eq!((entry.request.as_deref(), entry.at), (Some("req-1"), at(5)));
    assert_eq!((entry.action.as_str(), entry.object.as_str()), ("export", "telemetry"));
    assert_eq!(By::system(at(0)).name, "system");
}

#[tokio::test]
async fn pages_hold_each_entry_once_and_count_all_matches() {
    let (_dir, control) = fresh().await;
    for n in 0..7 {
        let action = if n % 2 == 0 { "even" } else { "odd" };
        control.note(&by(n), action, &format!("o{n}"), json!({})).await.expect("note");
    }
    let mut filter =
        AuditFilter { action: Some("even".into()), limit: 2, ..AuditFilter::default() };
    let mut seen = Vec::new();
    loop {
        let (page, total) = control.audit(&filter).await.expect("audit");
        assert_eq!(total, 4, "on every page");
        let Some(last) = page.last() else { break };
        filter.before = Some(last.id);
        seen.extend(page.into_iter().map(|entry| entry.object));
    }
    assert_eq!(seen, ["o6", "o4", "o2", "o0"]);
}

#[tokio::test]
async fn filters_narrow_each_other_and_take_texts_as_they_are() {
    let (_dir, control) = fresh().await;
    for n in 0..4 {
        control.note(&by(n), "a", "o", json!({})).await.expect("note");
    }
    control.create_user("u", "h", Role::Viewer, None, &by(9)).await.expect("user");
    let total = async |filter: AuditFilter| {
        let filter = AuditFilter { limit: 9, ..filter };
        control.audit(&filter).await.expect("audit").1
    };
    let of = |actor: &str| AuditFilter { actor: Some(actor.into()), ..AuditFilter::default() };
    assert_eq!(total(of("test")).await, 5);
    let both = AuditFilter { from: Some(at(1)), to: Some(at(3)), ..of("test") };
    assert_eq!(total(both.clone()).await, 2, "from this time on, and before that time");
    assert_eq!(total(AuditFilter { object: Some("p".into()), ..both }).await, 0);
    for text in ["%", "te%", "test' OR '1'='1", ""] {
        assert_eq!(total(of(text)).await, 0, "{text}");
    }
}
