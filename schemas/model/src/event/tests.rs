use super::*;
use serde_json::json;

fn alert(device_id: Option<&str>) -> Event {
    let event = json!({
        "type": "alert", "event_id": "00000000-0000-0000-0000-000000000001", "step": "raised",
        "ts": "2026-05-16T17:05:32Z", "recorded_at": "2026-05-16T17:05:33Z", "by": null,
        "note": null, "readings": ["0:1:2:3"],
        "alert": {
            "id": "00000000-0000-0000-0000-000000000002", "device_id": device_id,
            "alert_type": "overvoltage", "severity": "warning", "message": "m", "origin": "rule",
            "shadow": false, "backfilled": false, "silenced": false, "withdrawn": false,
            "acknowledged": false, "created_at": "2026-05-16T17:05:00Z",
            "raised_at": "2026-05-16T17:05:32Z"
        }
    });
    serde_json::from_value(event).expect("an event")
}

fn rollout() -> Event {
    let event = json!({
        "type": "rollout", "rollout_id": "00000000-0000-0000-0000-000000000003", "version": "1.2.0",
        "state": "running", "stage": 1, "progress": "p", "devices": {
            "waiting": 1, "offered": 0, "downloading": 0, "installing": 0, "confirmed": 0,
            "failed": 0, "rolled_back": 0, "silent": 0, "cancelled": 0
        },
        "reason": null, "ts": "2026-05-16T17:05:32Z"
    });
    serde_json::from_value(event).expect("an event of an earlier version")
}

fn device() -> Event {
    let event = json!({
        "type": "device", "event_id": "00000000-0000-0000-0000-000000000004", "device_id": "d2",
        "event": "status", "ts": "2026-05-16T17:05:32Z", "recorded_at": "2026-05-16T17:05:33Z",
        "status": "offline", "previous": null, "reason": null, "detail": null
    });
    serde_json::from_value(event).expect("an event")
}

fn command() -> Event {
    let event = json!({
        "type": "command", "device_id": "d3", "request_id": "00000000-0000-0000-0000-000000000005",
        "command": "ping", "status": "success", "response": null, "error": null,
        "finished_at": "2026-05-16T17:05:32Z"
    });
    serde_json::from_value(event).expect("an event")
}

/// Restarts and late readings evaluate the same episode again, and must find the alert they made before.
#[test]
fn the_id_of_an_alert_depends_on_its_content_alone() {
    let id = alert_id("d1", "rule", 5);
    assert_eq!(id, alert_id("d1", "rule", 5));
    assert_eq!((id.get_version_num(), id.get_variant()), (8, uuid::Variant::RFC4122));
    let others = [
        alert_id("d2", "rule", 5),
        alert_id("d1", "other", 5),
        alert_id("d1", "rule", 6),
        alert_id("d1", "rule", -5),
        // A name must not run into the next.
        alert_id("d1r", "ule", 5),
        alert_id("d", "1rule", 5),
        alert_id("", "d1rule", 5),
    ];
    assert!(others.iter().all(|other| *other != id));
}

/// Stored alerts have this id: another hash would raise each open one a second time after an upgrade.
#[test]
fn the_id_of_an_alert_never_changes() {
    assert_eq!(
        alert_id("d1", "overvoltage", 1_778_951_132_000_000).to_string(),
        "966270ac-51a6-8bca-9f3d-da0f85ca07aa"
    );
}

#[test]
fn an_event_goes_to_the_partition_of_its_device() {
    for (event, device_id, kind) in [
        (alert(Some("d1")), Some("d1"), "alert_events"),
        (alert(None), None, "alert_events"),
        (device(), Some("d2"), "device_events"),
        (command(), Some("d3"), "command_completed"),
        (rollout(), None, "rollout_progress"),
    ] {
        assert_eq!((event.device_id(), event.kind()), (device_id, kind));
        let body = Bytes::from(serde_json::to_vec(&event).expect("JSON"));
        let entry = event.to_entry(7, body.clone());
        assert_eq!(entry.key.as_ref(), device_id.unwrap_or_default().as_bytes());
        assert_eq!((&entry.value, entry.outbox_seq()), (&body, Some(7)));
        let named = entry.headers.iter().find(|(name, _)| name.as_ref() == b"type");
        assert_eq!(named.map(|(_, value)| value.as_ref()), Some(kind.as_bytes()));
        assert_eq!(Event::from_entry(&entry).expect("an event"), event);
    }
}

#[test]
fn a_body_that_is_no_event_is_an_error() {
    for body in [&b""[..], b"{}", b"[]", b"{\"type\":\"new\"}", b"{\"type\":\"device\"}", b"\xff"] {
        let entry = Entry { value: Bytes::copy_from_slice(body), ..Entry::default() };
        assert!(Event::from_entry(&entry).is_err(), "{}", body.escape_ascii());
    }
}

/// A newer version may add fields: a process of this one must still read the event.
#[test]
fn unknown_fields_of_an_event_are_skipped_and_new_ones_may_be_missing() {
    let mut json = serde_json::to_value(device()).expect("JSON");
    json["new"] = json!([1]);
    assert_eq!(serde_json::from_value::<Event>(json).expect("an event"), device());
    let Event::Rollout(progress) = rollout() else { panic!("a rollout") };
    assert_eq!((progress.decisions, progress.resumed), (0, 0));
}

fn mark(offset: i64) -> Mark {
    Mark { ts: offset, at: Identity { epoch: 0, partition: 1, offset, item: 0 } }
}

#[test]
fn the_readings_of_an_episode_are_named_once_and_in_order() {
    let offsets = |marks: Marks| marks.readings().iter().map(|id| id.offset).collect::<Vec<_>>();
    let open = Marks { started: mark(1), raised: mark(1), ended: None, flapping: false };
    assert_eq!(offsets(open), [1]);
    assert_eq!(offsets(Marks { raised: mark(2), ..open }), [1, 2]);
    let ended = Marks { raised: mark(2), ended: Some((mark(5), mark(7))), ..open };
    assert_eq!(offsets(ended), [1, 2, 5, 7]);
    assert_eq!(offsets(Marks { ended: Some((mark(5), mark(5))), ..open }), [1, 5]);
}

#[test]
fn marks_of_an_earlier_version_are_not_flapping() {
    let open = Marks { started: mark(1), raised: mark(2), ended: None, flapping: false };
    let json = serde_json::to_value(open).expect("JSON");
    assert_eq!(json.get("flapping"), None);
    assert_eq!(serde_json::from_value::<Marks>(json).expect("marks"), open);
    let flapping = Marks { flapping: true, ..open };
    let json = serde_json::to_value(flapping).expect("JSON");
    assert_eq!(serde_json::from_value::<Marks>(json).expect("marks"), flapping);
}

#[test]
fn the_steps_of_an_alert_have_the_names_of_the_table() {
    for step in [
        AlertStep::Raised,
        AlertStep::Cleared,
        AlertStep::Acknowledged,
        AlertStep::Resolved,
        AlertStep::Amended,
        AlertStep::Withdrawn,
        AlertStep::Reminded,
        AlertStep::Escalated,
    ] {
        assert_eq!(serde_json::to_value(step).expect("JSON"), step.as_str());
    }
}
