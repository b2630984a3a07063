use super::*;
use crate::testing::{add_devices, at, deliver, fresh, give, long_lease, ping};

fn row(body: &str) -> Row {
    Row {
        kind: EVENT.to_owned(),
        device_id: "d1".to_owned(),
        request_id: Uuid::nil(),
        body: body.to_owned(),
        expires_at: DateTime::UNIX_EPOCH,
        attempt: 0,
        seq: 7,
    }
}

#[test]
fn an_event_that_cant_be_read_is_an_error() {
    let error = Outgoing::try_from(row(r#"{"of_a_newer_version":1}"#)).expect_err("unknown");
    assert!(error.to_string().contains("event 7 of the outbox"), "{error}");
}

const FAR: i64 = 500;

async fn next(control: &Control, lease: Lease, done: Option<i64>, now: i64) -> Vec<Outgoing> {
    let next = control.next_of_outbox(lease, "test", done, at(now)).await.expect("ask");
    next.expect("the lease")
}

/// Emits an event about a device that names a number.
async fn emit(control: &Control, number: i64) {
    let mut tx = control.begin().await.expect("begin");
    let detail = serde_json::json!({ "number": number });
    tx.emit_update("d", format!("{number}"), detail, at(number)).await.expect("emit");
    tx.commit().await.expect("commit");
}

fn numbers(outgoing: &[Outgoing]) -> Vec<i64> {
    let number = |one: &Outgoing| match one {
        Outgoing::Event { event: Event::Device(event), .. } => {
            event.detail.as_ref().and_then(|detail| detail["number"].as_i64())
        }
        _ => None,
    };
    outgoing.iter().filter_map(number).collect()
}

fn seqs(outgoing: &[Outgoing]) -> Vec<i64> {
    outgoing.iter().map(Outgoing::seq).collect()
}

#[tokio::test]
async fn a_rolled_back_change_emits_nothing() {
    let (_dir, control) = fresh().await;
    let mut tx = control.begin().await.expect("begin");
    tx.emit_update("d", "r".into(), serde_json::json!({}), at(0)).await.expect("emit");
    assert!(tx.emits());
    drop(tx);
    assert!(!control.outbox_has_rows().await.expect("ask"));
}

#[tokio::test]
async fn numbers_grow_although_the_clock_goes_back() {
    let (_dir, control) = fresh().await;
    let lease = long_lease(&control, OUTBOX_LEASE, "test").await;
    let mut last = 0;
    for now in [FAR, 10, FAR, 0, FAR + 1] {
        for n in 0..3 {
            emit(&control, n).await;
        }
        let rows = next(&control, lease, Some(last), now).await;
        assert_eq!(rows.len(), 3);
        for seq in seqs(&rows) {
            assert!(seq > last, "{seq} after {last} at {now}");
            last = seq;
        }
    }
}

#[tokio::test]
async fn numbers_grow_although_the_database_is_an_older_copy() {
    let (_dir, control) = fresh().await;
    let lease = long_lease(&control, OUTBOX_LEASE, "test").await;
    emit(&control, 1).await;
    let before = seqs(&next(&control, lease, None, FAR).await);
    // The copy knows nothing of the last hour; the log has the events of it.
    control.execute("DELETE FROM outbox", vec![]).await.expect("restore");
    let name = format!("DELETE FROM settings WHERE name = '{LAST_NUMBER}'");
    control.execute(sqlx::AssertSqlSafe(name), vec![]).await.expect("restore");
    emit(&control, 2).await;
    let after = seqs(&next(&control, lease, None, FAR + 1).await);
    assert!(after[0] > before[0], "{after:?} {before:?}");
}

#[tokio::test]
async fn more_rows_than_a_page_are_delivered_in_their_order() {
    let (_dir, control) = fresh().await;
    let lease = long_lease(&control, OUTBOX_LEASE, "test").await;
    let total = PAGE + 3;
    let mut tx = control.begin().await.expect("begin");
    for n in 0..total {
        let detail = serde_json::json!({ "number": n });
        tx.emit_update("d", String::new(), detail, at(n)).await.expect("emit");
    }
    tx.commit().await.expect("commit");
    let first = next(&control, lease, None, 1).await;
    assert_eq!(numbers(&first), (0..PAGE).collect::<Vec<_>>());
    assert_eq!(next(&control, lease, None, 1).await, first, "not delivered: the same again");
    let rest = next(&control, lease, first.last().map(Outgoing::seq), 1).await;
    assert_eq!(numbers(&rest), (PAGE..total).collect::<Vec<_>>());
    assert!(seqs(&rest)[0] > seqs(&first)[first.len() - 1]);
    assert!(next(&control, lease, rest.last().map(Outgoing::seq), 1).await.is_empty());
    assert!(!control.outbox_has_rows().await.expect("ask"));
}

#[tokio::test]
async fn without_the_lease_nothing_is_numbered_or_removed() {
    let (_dir, control) = fresh().await;
    emit(&control, 1).await;
    let hold = async |who: &str, second| {
        let minute = chrono::TimeDelta::minutes(1);
        control.hold_lease(OUTBOX_LEASE, who, at(second), minute).await.expect("ask")
    };
    let lease = hold("test", 0).await.expect("free");
    let rows = next(&control, lease, None, 1).await;
    let done = rows.last().map(Outgoing::seq);
    let ask = async |lease, holder: &str, second| {
        control.next_of_outbox(lease, holder, done, at(second)).await.expect("ask")
    };
    assert_eq!(ask(lease, "another", 1).await, None, "it has the epoch of somebody else");
    assert_eq!(ask(lease, "test", 60).await, None, "expired");
    let newer = hold("test", 60).await.expect("free");
    assert_eq!(ask(lease, "test", 61).await, None, "before the pause");
    let again = control.next_of_outbox(newer, "test", None, at(61)).await.expect("ask");
    assert_eq!(again, Some(rows), "nothing was removed");
}

#[tokio::test]
async fn an_event_stays_until_the_lake_has_it_and_a_command_until_the_log_has_it() {
    let (_dir, control) = fresh().await;
    let lease = long_lease(&control, OUTBOX_LEASE, "test").await;
    add_devices(&control, &["d"]).await;
    give(&control, &ping("d"), 1).await;
    emit(&control, 5).await;
    let rows = next(&control, lease, None, 1).await;
    let kinds: Vec<bool> = rows.iter().map(|r| matches!(r, Outgoing::Command(_))).collect();
    assert_eq!(kinds, [false, true, false]);
    assert!(control.events_for_lake(9).await.expect("ask").is_empty(), "the log has none");
    control.drop_events(i64::MAX).await.expect("drop");
    assert_eq!(next(&control, lease, None, 1).await, rows, "what the log lacks is not dropped");
    next(&control, lease, Some(rows[1].seq()), 1).await;
    let logged = control.events_for_lake(9).await.expect("ask");
    assert_eq!(logged.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [rows[0].seq()]);
    assert!(control.outbox_has_rows().await.expect("ask"));
    next(&control, lease, Some(rows[2].seq()), 1).await;
    assert!(!control.outbox_has_rows().await.expect("ask"));
    assert_eq!(control.events_for_lake(1).await.expect("ask").len(), 1, "as many as asked for");
    control.drop_events(rows[0].seq()).await.expect("drop");
    let left = control.events_for_lake(9).await.expect("ask");
    assert_eq!(left.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [rows[2].seq()]);
    next(&control, lease, Some(rows[2].seq()), 1).await;
    assert_eq!(control.events_for_lake(9).await.expect("ask").len(), 1, "reported twice");
}

#[tokio::test]
async fn an_unreadable_event_stays_and_keeps_its_place() {
    let (_dir, control) = fresh().await;
    let lease = long_lease(&control, OUTBOX_LEASE, "test").await;
    emit(&control, 1).await;
    emit(&control, 2).await;
    let newer = "UPDATE outbox SET body = '{\"type\":\"newer\"}'
         WHERE id = (SELECT MIN(id) FROM outbox)";
    control.execute(newer, vec![]).await.expect("a newer version's event");
    for _ in 0..2 {
        let asked = control.next_of_outbox(lease, "test", None, at(1)).await;
        let error = asked.expect_err("unreadable");
        assert!(error.to_string().contains("run the version that wrote it"), "{error}");
    }
    let rows = control.count("SELECT COUNT(*) FROM outbox", vec![]).await.expect("count");
    assert_eq!(rows, 2);
}

#[tokio::test]
async fn an_event_goes_out_as_the_bytes_that_were_stored() {
    let (_dir, control) = fresh().await;
    let lease = long_lease(&control, OUTBOX_LEASE, "test").await;
    emit(&control, 1).await;
    let rows = next(&control, lease, None, 1).await;
    let Outgoing::Event { event, body, .. } = &rows[0] else { panic!("an event") };
    let stored: Option<(String,)> =
        control.fetch_optional("SELECT body FROM outbox", vec![]).await.expect("read");
    assert_eq!(stored.map(|(body,)| body.into_bytes()).as_deref(), Some(body.as_ref()));
    assert_eq!(serde_json::from_slice::<Event>(body).ok().as_ref(), Some(event));
}

#[tokio::test]
async fn a_command_goes_out_with_its_time_limit_and_attempt() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    let id = give(&control, &ping("d"), 10).await;
    let out = deliver(&control).await;
    let command = out.iter().find_map(|one| match one {
        Outgoing::Command(command) => Some(command),
        Outgoing::Event { .. } => None,
    });
    let command = command.expect("a command");
    assert_eq!((command.request_id, command.device_id.as_str(), command.attempt), (id, "d", 1));
    assert_eq!(command.expires_at, at(70).timestamp_micros());
}
