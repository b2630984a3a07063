use acuvim_model::{DeviceScope, SilenceBody};
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::{
    AlertChange, Changes, NewAlert,
    testing::{add_devices, apply, at, at_micros, by, fresh, give, ping},
};

async fn rows(control: &Control, table: &'static str) -> i64 {
    let sql = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
    control.count(sql, vec![]).await.expect("count")
}

#[tokio::test]
async fn what_ended_before_the_time_goes_and_what_ended_at_it_or_is_open_stays() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d", "e"]).await;
    give(&control, &ping("d"), 10).await;
    give(&control, &ping("e"), 10).await;
    for ended in [None, Some(at(20))] {
        let alert = NewAlert {
            resolved_at: ended,
            ..NewAlert::of_health(Uuid::now_v7(), "d", "t", at(10))
        };
        let alerts = vec![AlertChange::Raise(Box::new(alert))];
        apply(&control, Changes { alerts, now: at(10), ..Changes::default() }).await;
    }
    let body = SilenceBody {
        scope: DeviceScope::default(),
        alert_types: vec![],
        until: at(20),
        reason: String::new(),
    };
    control.create_silence(&body, &by(0)).await.expect("silence");
    let mut tx = control.begin().await.expect("begin");
    tx.end_commands("d", "over", at(20)).await.expect("end");
    tx.commit().await.expect("commit");
    let tables = async || {
        let mut counts = Vec::new();
        for table in ["commands", "alerts", "silences"] {
            counts.push(rows(&control, table).await);
        }
        counts
    };
    control.prune(at(20)).await.expect("prune");
    assert_eq!(tables().await, [2, 2, 1], "at its own time nothing has been over for long");
    let deleted = control.prune(at_micros(20_000_001)).await.expect("prune");
    assert_eq!(tables().await, [1, 1, 0]);
    assert!(deleted >= 3);
    assert_eq!(
        control.prune(at(999_999)).await.expect("prune"),
        0,
        "what is open is kept for ever"
    );
    assert_eq!(tables().await, [1, 1, 0]);
    assert_eq!(rows(&control, "devices").await, 2);
}

#[tokio::test]
async fn rollouts_go_when_they_are_over_unless_they_still_hold_a_version() {
    let (_dir, control) = fresh().await;
    let add = "INSERT INTO rollouts (id, version, state, stage, plan, created_by, created_at,
             deadline_at, forgiven, updated_at)
         VALUES ($1, $2, $3, 1, '{}', '', $4, $4, 0, $4)";
    let states = [
        ("running", "1"),
        ("paused", "1"),
        ("stopped", "1"),
        ("completed", "1"),
        ("aborted", "kept"),
        ("aborted", "deleted"),
    ];
    for (state, version) in states {
        let id = Uuid::now_v7();
        let values = vec![id.into(), version.into(), state.into(), at(10).into()];
        control.execute(add, values).await.expect("rollout");
        let device = "INSERT INTO rollout_devices (rollout_id, device_id, version, ordinal, stage,
                 state, since, fetched_some, fetched_all, failures, active)
             VALUES ($1, $2, $2, 0, 1, 'waiting', $3, FALSE, FALSE, 0, FALSE)";
        let values = vec![id.into(), version.into(), at(10).into()];
        control.execute(device, values).await.expect("device");
    }
    let firmware = "INSERT INTO firmware (id, version, filename, object, file_size, checksum,
             mandatory, active, image, warnings, created_by, created_at, updated_at)
         VALUES ($1, 'kept', '', '', 1, '', FALSE, TRUE, '{}', '[]', '', $2, $2)";
    control.execute(firmware, vec![Uuid::now_v7().into(), at(0).into()]).await.expect("firmware");
    assert_eq!(control.prune(at(10)).await.expect("prune"), 0);
    // An abort holds its version back from update checks as long as the version can be installed.
    assert_eq!(control.prune(at(11)).await.expect("prune"), 2);
    let left: Vec<(String,)> =
        control.fetch_all("SELECT state FROM rollouts ORDER BY state", vec![]).await.expect("read");
    let left: Vec<_> = left.iter().map(|(state,)| state.as_str()).collect();
    assert_eq!(left, ["aborted", "paused", "running", "stopped"]);
    assert_eq!(rows(&control, "rollout_devices").await, 4, "with their devices");
    assert_eq!(control.versions_held().await.expect("ask").len(), 2);
}

#[tokio::test]
async fn the_audit_and_messages_are_kept_for_the_same_time() {
    let (_dir, control) = fresh().await;
    control.note(&by(10), "a", "o", json!({})).await.expect("note");
    control.note(&by(30), "b", "o", json!({})).await.expect("note");
    let target = serde_json::from_value(json!({"name": "n", "kind": "email", "to": ["a@b.c"]}));
    let made = control.create_notification(&target.expect("a body"), &by(30)).await.expect("made");
    let crate::NotificationMade::Done(made) = made else { panic!("made") };
    let id = made.notification.id;
    let (sent, waiting) = (
        control.test_notice(id, "a", at(10)).await.expect("test"),
        control.test_notice(id, "a", at(10)).await.expect("test"),
    );
    let delivered = acuvim_model::DeliveryState::Delivered;
    control.finish_notice(sent, delivered, "200", at(10)).await.expect("finish");
    assert_eq!(control.prune(at(20)).await.expect("prune"), 2);
    assert_eq!(control.delivery(sent).await.expect("ask"), None);
    assert!(control.delivery(waiting).await.expect("ask").is_some(), "it may still be sent");
    assert_eq!(rows(&control, "audit").await, 2);
}

#[tokio::test]
async fn an_alert_that_is_open_for_longer_than_history_is_kept_still_ends_as_it_should() {
    let (_dir, control) = fresh().await;
    let says = async |state: &str, second: i64| {
        let fields = json!({"ts": at(second).to_rfc3339(), "type": "overvoltage", "state": state});
        let alert = serde_json::from_value(fields).expect("an alert");
        let device_alerts = vec![("d".to_owned(), alert, at(second))];
        let changes = Changes { device_alerts, now: at(second), ..Changes::default() };
        apply(&control, changes).await;
        let filter = crate::AlertFilter { limit: 9, ..Default::default() };
        control.alerts(&filter, None).await.expect("list").0
    };
    let alert = says("raised", 10).await.remove(0);
    let target = serde_json::from_value(json!({"name": "n", "kind": "email", "to": ["a@b.c"]}));
    let made = control.create_notification(&target.expect("a body"), &by(10)).await.expect("made");
    let crate::NotificationMade::Done(made) = made else { panic!("made") };
    let told = "INSERT INTO notice_episodes (notification_id, alert_id, created_at)
         VALUES ($1, $2, $3)";
    let values = |id: Uuid| vec![made.notification.id.into(), id.into(), at(10).into()];
    for id in [alert.id, Uuid::now_v7()] {
        control.execute(told, values(id)).await.expect("told");
    }
    control.prune(at(1000)).await.expect("prune");
    assert_eq!(rows(&control, "notice_episodes").await, 1, "the end will be told");
    let ended = says("cleared", 2000).await;
    assert_eq!(ended.len(), 1, "not withdrawn");
    assert_eq!((ended[0].id, ended[0].resolved_at), (alert.id, Some(at(2000))));
    control.prune(at(3000)).await.expect("prune");
    for table in ["alerts", "device_said", "notice_episodes"] {
        assert_eq!(rows(&control, table).await, 0, "{table}");
    }
}
