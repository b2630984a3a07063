use acuvim_model::{DeliveryKind, DeliveryState, Notification, NotificationBody};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;

use super::{NOTIFICATIONS_LEASE, NoticeChange, NoticeItem, NoticeOutcome, NoticePosition};
use crate::{
    Control, Lease, NotificationMade,
    testing::{add_devices, at, at_micros, audited, by, fresh, long_lease},
};

fn body(name: &str) -> NotificationBody {
    let fields = json!({
        "name": name, "kind": "webhook", "url": "https://hooks.example/T1/x", "secret": "whsec_x"
    });
    serde_json::from_value(fields).expect("a body")
}

async fn create(control: &Control, name: &str) -> Notification {
    match control.create_notification(&body(name), &by(0)).await.expect("create") {
        NotificationMade::Done(made) => made.notification,
        other => panic!("{other:?}"),
    }
}

async fn hold(control: &Control) -> Lease {
    long_lease(control, NOTIFICATIONS_LEASE, "test").await
}

fn item(to: Uuid, kind: DeliveryKind, alert: Option<u128>, key: &str) -> NoticeItem {
    NoticeItem {
        notification_id: to,
        kind,
        alert_id: alert.map(Uuid::from_u128),
        group_key: key.into(),
        title: format!("alert {}", alert.unwrap_or_default()),
        item: json!({ "alert": alert.map(|alert| alert.to_string()) }),
        wait: TimeDelta::seconds(10),
    }
}

fn position(next: i64) -> NoticePosition {
    NoticePosition { partition: 2, next, seq: next * 10 }
}

/// Stores items as the events at one offset.
async fn note(control: &Control, from: i64, items: Vec<NoticeItem>, second: i64) -> NoticeOutcome {
    let change = NoticeChange { items, from: position(from), to: position(from + 1) };
    let lease = hold(control).await;
    control.note_notices(0, lease, &change, at(second)).await.expect("note")
}

async fn due(control: &Control, now: DateTime<Utc>) -> Vec<Uuid> {
    let due = control.due_notices(now, 9).await.expect("due");
    due.into_iter().map(|(id, _)| id).collect()
}

async fn count(control: &Control, to: Uuid) -> i64 {
    control.deliveries(to, None, 1).await.expect("list").1
}

#[tokio::test]
async fn a_message_names_a_hundred_items_and_counts_all() {
    let (_dir, control) = fresh().await;
    let to = create(&control, "n").await.id;
    let items = |range: std::ops::Range<u128>| {
        range.map(|n| item(to, DeliveryKind::Raised, Some(n), "offline")).collect()
    };
    assert_eq!(note(&control, 0, items(0..99), 0).await, NoticeOutcome::Done);
    assert_eq!(note(&control, 1, items(99..150), 1).await, NoticeOutcome::Done);
    let id = due(&control, at(10)).await[0];
    let lease = hold(&control).await;
    let claimed = control.claim_notice(id, lease, at(10), at(20)).await.expect("claim");
    let claimed = claimed.expect("due");
    assert_eq!((claimed.items.len(), claimed.count), (100, 150));
    assert_eq!(claimed.title, "150 alerts: offline");
    assert_eq!(claimed.items[99]["alert"], "99", "the first ones");
}

#[tokio::test]
async fn a_message_waits_from_its_first_item_on() {
    let (_dir, control) = fresh().await;
    let to = create(&control, "n").await.id;
    for (n, second) in [(0, 0), (1, 9)] {
        let items = vec![item(to, DeliveryKind::Raised, Some(n), "offline")];
        note(&control, i64::try_from(n).expect("small"), items, second).await;
    }
    assert!(due(&control, at_micros(9_999_999)).await.is_empty());
    assert_eq!(due(&control, at(10)).await.len(), 1, "later items don't put it off");
}

#[tokio::test]
async fn items_of_another_kind_key_or_notification_are_another_message() {
    let (_dir, control) = fresh().await;
    let (one, two) = (create(&control, "one").await.id, create(&control, "two").await.id);
    use DeliveryKind::{Raised, Reminder};
    let items = vec![
        item(one, Raised, Some(1), "a"),
        item(one, Raised, Some(2), "b"),
        item(one, Reminder, Some(1), "a"),
        item(two, Raised, Some(1), "a"),
        item(Uuid::now_v7(), Raised, Some(1), "a"),
    ];
    note(&control, 0, items, 0).await;
    assert_eq!((count(&control, one).await, count(&control, two).await), (3, 1));
    let all = control.count("SELECT COUNT(*) FROM notices", vec![]).await.expect("count");
    assert_eq!(all, 4, "none for a notification that does not exist");
}

#[tokio::test]
async fn an_end_is_sent_once_to_those_who_were_sent_the_beginning() {
    let (_dir, control) = fresh().await;
    let (one, two) = (create(&control, "one").await.id, create(&control, "two").await.id);
    use DeliveryKind::{Raised, Recovered, Reminder};
    note(&control, 0, vec![item(one, Raised, Some(1), "a")], 0).await;
    let ends = |to| item(to, Recovered, Some(1), "a");
    note(&control, 1, vec![ends(one), ends(two), ends(one)], 1).await;
    assert_eq!((count(&control, one).await, count(&control, two).await), (2, 0));
    let lines = control.deliveries(one, None, 9).await.expect("list").0;
    assert_eq!(lines[0].count, 1, "not twice");
    // The same alert begins again, as one that flaps does.
    note(&control, 2, vec![item(one, Raised, Some(1), "b")], 2).await;
    assert_eq!(count(&control, one).await, 3);
    note(
        &control,
        3,
        vec![item(two, Reminder, Some(1), "a"), item(two, Reminder, Some(1), "a")],
        3,
    )
    .await;
    assert_eq!(count(&control, two).await, 1, "a reminder needs no beginning");
}

#[tokio::test]
async fn events_are_noted_once_and_in_order() {
    let (_dir, control) = fresh().await;
    let to = create(&control, "n").await.id;
    let items = || vec![item(to, DeliveryKind::Reminder, None, "a")];
    assert_eq!(note(&control, 5, items(), 0).await, NoticeOutcome::Done);
    for from in [5, 4, 7] {
        assert_eq!(note(&control, from, items(), 1).await, NoticeOutcome::Overtaken, "{from}");
    }
    assert_eq!(control.notice_positions(0).await.expect("ask"), [position(6)]);
    assert!(control.notice_positions(1).await.expect("ask").is_empty(), "another epoch");
    let lines = control.deliveries(to, None, 9).await.expect("list").0;
    assert_eq!((lines.len(), lines[0].count), (1, 1));
    control.begin_notices(0, position(99)).await.expect("begin");
    assert_eq!(control.notice_positions(0).await.expect("ask"), [position(6)], "it has begun");
}

#[tokio::test]
async fn a_claimed_message_is_due_again_if_its_process_ends() {
    let (_dir, control) = fresh().await;
    let to = create(&control, "n").await.id;
    let id = control.test_notice(to, "ann", at(0)).await.expect("test");
    let lease = hold(&control).await;
    let claim = async |second, again| {
        control.claim_notice(id, lease, at(second), at(again)).await.expect("claim")
    };
    assert_eq!(claim(0, 30).await.map(|notice| notice.attempts), Some(1));
    assert_eq!(claim(29, 60).await, None);
    assert_eq!(claim(30, 60).await.map(|notice| notice.attempts), Some(2));
    let finish = async |state, answer: &str, second| {
        control.finish_notice(id, state, answer, at(second)).await.expect("finish");
        control.delivery(id).await.expect("ask").expect("there")
    };
    let later = finish(DeliveryState::Waiting, "503", 100).await;
    assert_eq!((later.due_at, later.finished_at), (at(100), None));
    let given_up = finish(DeliveryState::Dead, &"x".repeat(900), 101).await;
    assert_eq!((given_up.state, given_up.finished_at), (DeliveryState::Dead, Some(at(101))));
    assert_eq!(given_up.answer.map(|answer| answer.len()), Some(500));
    assert_eq!(claim(200, 300).await, None, "it is over");
    let same = finish(DeliveryState::Delivered, "200", 300).await;
    assert_eq!(same.state, DeliveryState::Dead, "and stays what it was");
}

#[tokio::test]
async fn a_test_does_not_wait_for_what_can_t_be_delivered() {
    let (_dir, control) = fresh().await;
    let (to, other) = (create(&control, "n").await.id, create(&control, "o").await.id);
    let old = control.test_notice(to, "ann", at(0)).await.expect("test");
    let new = control.test_notice(to, "ann", at(1)).await.expect("test");
    let theirs = control.test_notice(other, "ann", at(2)).await.expect("test");
    assert_eq!(due(&control, at(1)).await, [old]);
    assert_eq!(due(&control, at(2)).await, [old, theirs], "one for each notification");
    let lease = hold(&control).await;
    control.claim_notice(old, lease, at(2), at(100)).await.expect("claim");
    assert_eq!(due(&control, at(2)).await, [new, theirs]);
}

#[tokio::test]
async fn pages_of_deliveries_hold_each_once() {
    let (_dir, control) = fresh().await;
    let (to, other) = (create(&control, "n").await.id, create(&control, "o").await.id);
    let mut made = Vec::new();
    for n in 0..5 {
        made.push(control.test_notice(to, "ann", at(n)).await.expect("test"));
        control.test_notice(other, "ann", at(n)).await.expect("test");
    }
    made.reverse();
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let (page, total) = control.deliveries(to, before, 2).await.expect("list");
        assert_eq!(total, 5);
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        seen.extend(page.into_iter().map(|delivery| delivery.id));
    }
    assert_eq!(seen, made);
}

#[tokio::test]
async fn a_secret_is_shown_once_and_signs_messages() {
    let (_dir, control) = fresh().await;
    let made = control.create_notification(&body("n"), &by(0)).await.expect("create");
    let NotificationMade::Done(made) = made else { panic!("made") };
    assert_eq!(made.secret.as_deref(), Some("whsec_x"));
    let shown = (control.notifications().await.expect("list"), audited(&control).await);
    let text = serde_json::to_string(&shown).expect("JSON");
    assert!(!text.contains("whsec_x"), "{text}");
    let id = control.test_notice(made.notification.id, "ann", at(0)).await.expect("test");
    let lease = hold(&control).await;
    let claimed = control.claim_notice(id, lease, at(0), at(9)).await.expect("claim");
    assert_eq!(claimed.expect("due").secret.as_deref(), Some("whsec_x"));
}

#[tokio::test]
async fn only_so_many_notifications_are_kept_and_a_name_is_of_one() {
    let (_dir, control) = fresh().await;
    let first = create(&control, "n").await;
    let again = control.create_notification(&body("n"), &by(1)).await.expect("ask");
    assert_eq!(again, NotificationMade::Taken);
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 199)
         INSERT INTO notifications (id, name, body, created_by, created_at)
         SELECT randomblob(16), 'n' || i, '{}', '', $1 FROM n";
    control.execute(fill, vec![at(0).into()]).await.expect("fill");
    let more = control.create_notification(&body("more"), &by(2)).await.expect("ask");
    assert_eq!(more, NotificationMade::TooMany);
    assert!(control.delete_notification(first.id, &by(3)).await.expect("delete"));
    let more = control.create_notification(&body("more"), &by(4)).await.expect("ask");
    assert!(matches!(more, NotificationMade::Done(_)));
}

#[tokio::test]
async fn memberships_are_read_for_any_number_of_devices() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["a", "b"]).await;
    let edit =
        acuvim_model::DeviceEdit { tags: Some(Some(vec!["roof".into()])), ..Default::default() };
    control.edit_device("b", &edit, None, &by(1)).await.expect("edit");
    let mut asked: Vec<String> = (0..1100).map(|n| format!("unknown{n}")).collect();
    asked.extend(["a".to_owned(), "b".to_owned()]);
    let found = control.device_memberships(&asked).await.expect("ask");
    assert_eq!((found.len(), found["b"].tags.as_slice()), (2, &["roof".to_owned()][..]));
    assert!(control.device_memberships(&[]).await.expect("ask").is_empty());
}
