//! Notifications and their messages: made once, grouped, and sent by one process.

use acuvim_control::{
    Control, Lease, NOTIFICATIONS_LEASE, NoticeChange, NoticeItem, NoticeOutcome, NoticePosition,
    NotificationMade,
};
use acuvim_model::{DeliveryKind, DeliveryState, Notification, NotificationBody};
use chrono::TimeDelta;
use serde_json::json;
use uuid::Uuid;

use crate::{at, by, on_both};

fn body(name: &str) -> NotificationBody {
    let body = json!({"name": name, "kind": "webhook", "url": "https://x", "secret": "whsec_x"});
    serde_json::from_value(body).expect("a body")
}

async fn make(control: &Control, name: &str) -> Notification {
    match control.create_notification(&body(name), &by(0)).await.expect("made") {
        NotificationMade::Done(made) => {
            assert_eq!(made.secret.as_deref(), Some("whsec_x"), "shown once");
            made.notification
        }
        other => panic!("{other:?}"),
    }
}

async fn lease(control: &Control, second: i64) -> Lease {
    let length = TimeDelta::seconds(60);
    let held = control.hold_lease(NOTIFICATIONS_LEASE, "t", at(second), length).await;
    held.expect("ask").expect("free")
}

fn item(to: &Notification, kind: DeliveryKind, alert: u128, key: &str) -> NoticeItem {
    NoticeItem {
        notification_id: to.id,
        kind,
        alert_id: Some(Uuid::from_u128(alert)),
        group_key: key.into(),
        title: format!("alert {alert}"),
        item: json!({ "alert": alert.to_string() }),
        wait: TimeDelta::seconds(10),
    }
}

fn change(from: i64, items: Vec<NoticeItem>) -> NoticeChange {
    let place = |next| NoticePosition { partition: 2, next, seq: next };
    NoticeChange { items, from: place(from), to: place(from + 1) }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_episode_is_sent_once_and_alerts_of_one_type_join_one_message() {
    on_both(async |control| {
        let (to, lease) = (make(&control, "n").await, lease(&control, 0).await);
        let note = async |from, items, second| {
            let change = change(from, items);
            control.note_notices(7, lease, &change, at(second)).await.expect("noted")
        };
        use DeliveryKind::{Raised, Recovered};
        let first = vec![item(&to, Raised, 1, "off"), item(&to, Raised, 2, "off")];
        assert_eq!(note(5, first, 1).await, NoticeOutcome::Done);
        let again = vec![item(&to, Raised, 1, "off"), item(&to, Raised, 3, "off")];
        assert_eq!(note(5, again.clone(), 2).await, NoticeOutcome::Overtaken, "these are noted");
        assert_eq!(note(6, again, 2).await, NoticeOutcome::Done);
        let other = vec![item(&to, Raised, 9, "thd"), item(&to, Recovered, 8, "off")];
        assert_eq!(note(7, other, 3).await, NoticeOutcome::Done);
        let places = control.notice_positions(7).await.expect("places");
        assert_eq!(places, [NoticePosition { partition: 2, next: 8, seq: 8 }]);
        let (all, total) = control.deliveries(to.id, None, 10).await.expect("deliveries");
        assert_eq!(total, 2, "what never began is not told to be over");
        assert_eq!((all[1].count, all[1].title.as_str()), (3, "3 alerts: off"), "1 was told");
        assert_eq!((all[0].count, all[0].title.as_str()), (1, "alert 9"));

        assert_eq!(control.due_notices(at(10), 9).await.expect("due"), [], "they gather");
        let due = control.due_notices(at(11), 9).await.expect("due");
        assert_eq!(due, [(all[1].id, to.id)]);
        let claimed = control.claim_notice(all[1].id, lease, at(11), at(31)).await.expect("claim");
        let claimed = claimed.expect("it is due");
        assert_eq!((claimed.items.len(), claimed.attempts), (3, 1));
        assert_eq!(claimed.secret.as_deref(), Some("whsec_x"));
        let twice = control.claim_notice(all[1].id, lease, at(11), at(31)).await.expect("claim");
        assert_eq!(twice, None, "it is being sent");
        // An item that arrives while the message is being sent begins another message.
        assert_eq!(note(8, vec![item(&to, Raised, 4, "off")], 12).await, NoticeOutcome::Done);
        assert_eq!(note(9, vec![item(&to, Recovered, 1, "off")], 13).await, NoticeOutcome::Done);
        assert_eq!(control.deliveries(to.id, None, 10).await.expect("all").1, 4);
        let finish = |state, answer: &'static str, second| {
            control.finish_notice(all[1].id, state, answer, at(second))
        };
        finish(DeliveryState::Waiting, "503", 40).await.expect("later");
        let waiting = control.delivery(all[1].id).await.expect("ask").expect("it");
        assert_eq!((waiting.state, waiting.due_at), (DeliveryState::Waiting, at(40)));
        finish(DeliveryState::Delivered, "200", 41).await.expect("taken");
        finish(DeliveryState::Dead, "late word", 42).await.expect("nothing");
        let done = control.delivery(all[1].id).await.expect("ask").expect("it");
        assert_eq!((done.state, done.answer.as_deref()), (DeliveryState::Delivered, Some("200")));
        assert_eq!(done.finished_at, Some(at(41)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_holder_of_the_lease_makes_and_sends_messages() {
    on_both(async |control| {
        let (to, old) = (make(&control, "n").await, lease(&control, 0).await);
        let test = control.test_notice(to.id, "admin", at(0)).await.expect("a test");
        let held = control.hold_lease(NOTIFICATIONS_LEASE, "u", at(61), TimeDelta::seconds(9));
        let new = held.await.expect("ask").expect("it has run out");
        let items = || vec![item(&to, DeliveryKind::Raised, 1, "off")];
        let late = control.note_notices(7, old, &change(0, items()), at(62)).await.expect("ask");
        assert_eq!(late, NoticeOutcome::Overtaken);
        assert_eq!(control.claim_notice(test, old, at(62), at(99)).await.expect("ask"), None);
        assert!(control.claim_notice(test, new, at(62), at(99)).await.expect("ask").is_some());
        let noted = control.note_notices(7, new, &change(0, items()), at(62)).await.expect("ask");
        assert_eq!(noted, NoticeOutcome::Done);
        assert_eq!(control.notifications().await.expect("list"), std::slice::from_ref(&to));
        assert_eq!(
            control.create_notification(&body("n"), &by(1)).await.expect("asked"),
            NotificationMade::Taken
        );
        assert!(control.delete_notification(to.id, &by(2)).await.expect("gone"));
        assert!(!control.delete_notification(to.id, &by(2)).await.expect("nothing"));
        assert_eq!(control.due_notices(at(9999), 9).await.expect("due"), []);
        assert_eq!(control.notification(to.id).await.expect("ask"), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_type_go_in_order_and_notifications_dont_wait_for_each_other() {
    on_both(async |control| {
        use DeliveryKind::{Raised, Recovered};
        let (slow, quick) = (make(&control, "slow").await, make(&control, "quick").await);
        let lease = lease(&control, 0).await;
        let begins = NoticePosition { partition: 2, next: 5, seq: 0 };
        control.begin_notices(7, begins).await.expect("noted");
        control.begin_notices(7, NoticePosition { next: 9, ..begins }).await.expect("noted");
        assert_eq!(
            control.notice_positions(7).await.expect("places"),
            [begins],
            "the first counts"
        );
        let note = async |from, items| {
            let change = change(from, items);
            let noted = control.note_notices(7, lease, &change, at(1)).await.expect("noted");
            assert_eq!(noted, NoticeOutcome::Done);
        };
        let due = async |second| {
            let due = control.due_notices(at(second), 9).await.expect("due");
            due.into_iter().map(|(id, of)| (id, of == slow.id)).collect::<Vec<_>>()
        };
        note(5, vec![item(&slow, Raised, 1, "off")]).await;
        let raised = due(11).await[0].0;
        control.claim_notice(raised, lease, at(11), at(31)).await.expect("claim").expect("due");
        let later = control.finish_notice(raised, DeliveryState::Waiting, "503", at(40));
        later.await.expect("finished");
        // More older messages wait for the unreachable target than one query returns.
        let many = (2..30).map(|n| item(&slow, Raised, n, &format!("kind {n}")));
        note(6, many.chain([item(&slow, Recovered, 1, "off")]).collect()).await;
        note(7, vec![item(&quick, Raised, 1, "off")]).await;
        let both = due(39).await;
        assert_eq!(both.iter().map(|(_, slow)| *slow).collect::<Vec<_>>(), [true, false]);
        let all = async || {
            let (all, _) = control.deliveries(slow.id, None, 100).await.expect("deliveries");
            all
        };
        for other in all().await.iter().filter(|d| d.title.starts_with("alert ") && d.id != raised)
        {
            if other.kind == Raised {
                let end = control.finish_notice(other.id, DeliveryState::Delivered, "200", at(39));
                end.await.expect("finished");
            }
        }
        assert!(due(39).await.iter().all(|(_, slow)| !slow), "the end waits for the beginning");
        assert!(due(41).await.contains(&(raised, true)));
        let end = control.finish_notice(raised, DeliveryState::Delivered, "200", at(41));
        end.await.expect("finished");
        let next = due(41).await.into_iter().find(|(_, slow)| *slow).expect("due").0;
        let recovered = control.delivery(next).await.expect("asked").expect("there");
        assert_eq!(recovered.kind, Recovered);

        assert!(control.delete_notification(slow.id, &by(2)).await.expect("ended"));
        note(8, vec![item(&slow, Raised, 50, "off")]).await;
        assert!(all().await.is_empty(), "of what was ended nothing is made");
    })
    .await;
}
