use acuvim_model::DeviceStatus;
use acuvim_wire::payload::Response;

use super::*;
use crate::{
    AlertFilter, StatusStep,
    testing::{
        add_devices, apply, at, beat, by, device_events, fresh, get_command, get_device, give,
        heard, ping, sent, update,
    },
};

fn moved(partition: u32, expected: Option<i64>, next: i64) -> OffsetMove {
    OffsetMove { partition, expected, next }
}

fn registering(device: &str, second: i64, fields: serde_json::Value) -> DeviceUpdate {
    let mut fields = fields;
    fields["device_id"] = json!(device);
    let registration: Registration = serde_json::from_value(fields).expect("a registration");
    DeviceUpdate { registrations: vec![registration], ..DeviceUpdate::new(device, at(second)) }
}

fn status(device: &str, second: i64, steps: &[(DeviceStatus, DeviceStatus)]) -> DeviceUpdate {
    let steps = steps.iter().map(|(from, to)| StatusStep {
        from: *from,
        to: *to,
        at: at(second),
        reason: "silent",
    });
    DeviceUpdate { status: steps.collect(), ..DeviceUpdate::new(device, at(second)) }
}

fn event(kind: DeviceEventKind) -> NewDeviceEvent {
    NewDeviceEvent { kind, reason: "ahead", at: at(1), detail: json!({"ahead_seconds": 7.5}) }
}

#[tokio::test]
async fn a_batch_of_an_overtaken_partition_changes_nothing_of_any_partition() {
    let (_dir, control) = fresh().await;
    let changes = |moves| Changes {
        moves,
        devices: vec![DeviceUpdate::new("d", at(0))],
        ..Changes::default()
    };
    let first = changes(vec![moved(0, None, 5), moved(1, None, 5)]);
    assert_eq!(control.apply(0, &first).await.expect("apply"), Applied::Done);
    assert!(control.delete_device("d", None, &by(1)).await.expect("delete"));
    for (moves, partition) in [
        (vec![moved(0, Some(5), 9), moved(1, Some(4), 9)], 1),
        (vec![moved(0, Some(5), 9), moved(1, None, 9)], 1),
        (vec![moved(0, Some(6), 9), moved(1, Some(5), 9)], 0),
        (vec![moved(2, Some(0), 9)], 2),
    ] {
        let applied = control.apply(0, &changes(moves)).await.expect("apply");
        assert_eq!(applied, Applied::Overtaken { partition });
    }
    assert_eq!(control.offset(0, 0).await.expect("ask"), Some(5), "the first move is undone too");
    assert_eq!(control.device("d", None).await.expect("ask"), None);
    assert_eq!(control.offset(0, 2).await.expect("ask"), None);
}

#[tokio::test]
async fn a_batch_that_fails_in_the_middle_can_be_stored_again() {
    let (_dir, control) = fresh().await;
    let devices = vec![DeviceUpdate::new("d", at(0))];
    let repairs = vec![RepairChange::Schedule("d".into(), 1)];
    let batch = Changes { moves: vec![moved(0, None, 5)], devices, repairs, ..Changes::default() };
    control.execute("ALTER TABLE repairs RENAME TO away", vec![]).await.expect("break");
    assert!(control.apply(0, &batch).await.is_err());
    assert_eq!(control.offset(0, 0).await.expect("ask"), None);
    assert_eq!(control.device("d", None).await.expect("ask"), None);
    control.execute("ALTER TABLE away RENAME TO repairs", vec![]).await.expect("mend");
    assert_eq!(control.apply(0, &batch).await.expect("apply"), Applied::Done);
    assert_eq!(control.apply(0, &batch).await.expect("again"), Applied::Overtaken { partition: 0 });
    assert_eq!(device_events(&control).await, ["registered heard"], "once");
}

#[tokio::test]
async fn a_device_becomes_known_once_by_whatever_it_sends_first() {
    let (_dir, control) = fresh().await;
    let measured = DeviceUpdate { telemetry: Some(at(1)), ..DeviceUpdate::new("m", at(1)) };
    for (first, line) in [
        (measured, "registered heard"),
        (beat("b", 1, json!({})), "registered heard"),
        (DeviceUpdate::new("a", at(1)), "registered heard"),
        (registering("r", 1, json!({})), "registered announced"),
    ] {
        update(&control, first.clone()).await;
        update(&control, first).await;
        assert_eq!(device_events(&control).await, [line]);
    }
    let registered = get_device(&control, "r").await.registered;
    assert!(registered && !get_device(&control, "b").await.registered);
    // Somebody created it before it was switched on.
    add_devices(&control, &["p"]).await;
    update(&control, registering("p", 2, json!({}))).await;
    update(&control, registering("p", 3, json!({}))).await;
    assert_eq!(device_events(&control).await, ["registered entered", "registered announced"]);
}

#[tokio::test]
async fn what_is_derived_from_a_deleted_device_does_not_bring_it_back() {
    let (_dir, control) = fresh().await;
    let late = DeviceUpdate {
        vitals: Some("{}".into()),
        happened: vec![event(DeviceEventKind::Clock)],
        of_known: true,
        ..status("d", 1, &[(DeviceStatus::Online, DeviceStatus::Offline)])
    };
    update(&control, late).await;
    assert_eq!(control.device("d", None).await.expect("ask"), None);
    assert!(device_events(&control).await.is_empty(), "and nothing is said of it");
    assert_eq!(control.alert_counts(None).await.expect("count").open, 0);
}

#[tokio::test]
async fn an_event_is_emitted_although_nothing_else_changed() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    device_events(&control).await;
    let happened = vec![event(DeviceEventKind::Clock), event(DeviceEventKind::CounterSuspect)];
    update(&control, DeviceUpdate { happened, ..DeviceUpdate::new("d", at(1)) }).await;
    assert_eq!(device_events(&control).await, ["clock ahead", "counter_suspect ahead"]);
}

#[tokio::test]
async fn a_registration_overwrites_what_it_has_and_keeps_the_rest() {
    let (_dir, control) = fresh().await;
    let first = json!({
        "mac_address": "AA:BB", "imei": "1", "hardware": "v1", "capabilities": ["wifi"], "boot": 7,
        "max_packet_bytes": 512
    });
    update(&control, registering("d", 1, first)).await;
    update(&control, registering("d", 2, json!({"hardware": "v2", "boot": u64::MAX}))).await;
    let now = get_device(&control, "d").await;
    assert_eq!((now.mac_address.as_deref(), now.imei.as_deref()), (Some("AA:BB"), Some("1")));
    assert_eq!((now.hardware.as_deref(), now.max_packet_bytes), (Some("v2"), Some(512)));
    assert_eq!(now.boot_count, Some(7), "a count beyond what is stored changes nothing");
    update(&control, registering("d", 3, json!({"capabilities": []}))).await;
    assert!(get_device(&control, "d").await.capabilities.is_empty(), "none is not absent");
    let found = crate::DeviceFilter { q: Some("aa:bb".into()), limit: 9, ..Default::default() };
    assert_eq!(control.devices(&found, None).await.expect("list").1, 1, "it can be searched for");
}

#[tokio::test]
async fn a_heartbeat_counts_if_it_is_newer_by_the_clock_of_the_device() {
    let (_dir, control) = fresh().await;
    update(&control, beat("d", 10, json!({"firmware_version": "1.0", "boot": 1}))).await;
    for (second, version) in [(9, "0.9"), (10, "same time")] {
        update(&control, beat("d", second, json!({"firmware_version": version}))).await;
        let now = get_device(&control, "d").await;
        assert_eq!(now.firmware_version.as_deref(), Some("1.0"), "{second}");
        assert_eq!(now.last_heartbeat, Some(at(10)));
    }
    update(&control, beat("d", 11, json!({"uptime_ms": u64::MAX}))).await;
    let now = get_device(&control, "d").await;
    assert_eq!((now.firmware_version.as_deref(), now.boot_count), (Some("1.0"), Some(1)));
    assert_eq!((now.last_heartbeat, now.uptime_ms), (Some(at(11)), None));
    // Rollouts look at the newest heartbeat alone: one without a version is no proof of the last one.
    let version: Option<(Option<String>,)> =
        control.fetch_optional("SELECT beat_version FROM devices", vec![]).await.expect("read");
    assert_eq!(version, Some((None,)));
}

#[tokio::test]
async fn texts_of_a_heartbeat_are_cleaned_and_cut() {
    let (_dir, control) = fresh().await;
    let long = "ä".repeat(100);
    let fields = json!({"connection_type": "  wifi\u{0}\n", "ip_address": long});
    update(&control, beat("d", 1, fields)).await;
    let now = get_device(&control, "d").await;
    assert_eq!(now.connection_type.as_deref(), Some("wifi"));
    assert_eq!(now.ip_address.map(|ip| ip.chars().count()), Some(64));
    update(&control, beat("d", 2, json!({"connection_type": " ", "ip_address": 7}))).await;
    assert_eq!(get_device(&control, "d").await.connection_type.as_deref(), Some("wifi"));
}

#[tokio::test]
async fn a_late_reading_never_becomes_the_latest() {
    let (_dir, control) = fresh().await;
    for (second, latest) in [(50, 50), (10, 50), (50, 50), (51, 51)] {
        let telemetry = Some(at(second));
        update(&control, DeviceUpdate { telemetry, ..DeviceUpdate::new("d", at(60)) }).await;
        assert_eq!(get_device(&control, "d").await.last_telemetry, Some(at(latest)), "{second}");
    }
    assert_eq!(device_events(&control).await.len(), 1, "a late one does not make it known again");
}

#[tokio::test]
async fn offline_is_an_alert_until_the_device_is_back() {
    use DeviceStatus::{Degraded, Offline, Online};
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d", "e"]).await;
    update(&control, status("d", 10, &[(Online, Offline)])).await;
    update(&control, status("e", 10, &[(Online, Offline)])).await;
    let open = async || {
        let filter = AlertFilter { resolved: Some(false), limit: 9, ..AlertFilter::default() };
        let (alerts, _) = control.alerts(&filter, None).await.expect("list");
        alerts.into_iter().filter_map(|alert| alert.device_id).collect::<Vec<_>>()
    };
    assert_eq!(open().await.len(), 2);
    update(&control, status("d", 20, &[(Offline, Degraded)])).await;
    assert_eq!(open().await, ["e"], "of that device alone");
    update(&control, status("d", 30, &[(Degraded, Online)])).await;
    let now = get_device(&control, "d").await;
    assert_eq!((now.status, now.status_at), (Online, Some(at(30))));
    // Away and back within one batch: the alert has both ends, and the last status counts.
    update(&control, status("d", 40, &[(Online, Offline), (Offline, Online)])).await;
    assert_eq!(open().await, ["e"]);
    assert_eq!(get_device(&control, "d").await.status, Online);
    let filter = AlertFilter { device_id: Some("d".into()), limit: 9, ..AlertFilter::default() };
    let (all, total) = control.alerts(&filter, None).await.expect("list");
    assert_eq!((total, all[0].resolved_at), (2, Some(at(40))));
}

#[tokio::test]
async fn presence_without_a_change_of_status_is_stored_and_says_nothing() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    device_events(&control).await;
    let presence = |connected, heard| DeviceUpdate {
        presence: Some((connected, heard)),
        ..DeviceUpdate::new("d", at(5))
    };
    update(&control, presence(Some(true), Some(at(4)))).await;
    update(&control, presence(None, None)).await;
    let now = get_device(&control, "d").await;
    assert_eq!(
        (now.connected, now.heard_at),
        (Some(true), Some(at(4))),
        "unknown keeps what is known"
    );
    update(&control, presence(Some(false), None)).await;
    assert_eq!(get_device(&control, "d").await.connected, Some(false));
    assert!(device_events(&control).await.is_empty());
    let vitals = DeviceUpdate { vitals: Some("[1]".into()), ..DeviceUpdate::new("d", at(6)) };
    update(&control, vitals).await;
    assert_eq!(control.vitals("d").await.expect("ask").as_deref(), Some("[1]"));
    assert_eq!(control.vitals("none").await.expect("ask"), None);
    let all = control.presences().await.expect("ask");
    assert_eq!((all.len(), all[0].connected, all[0].heard_at), (1, Some(false), Some(at(4))));
}

#[tokio::test]
async fn an_answer_counts_although_its_deadline_is_read_in_the_same_batch() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    let (answered, silent) =
        (give(&control, &ping("d"), 0).await, give(&control, &ping("d"), 0).await);
    let response: Response =
        serde_json::from_value(json!({"request_id": answered, "status": "success"}))
            .expect("a response");
    let answers = vec![Answer { device_id: "d".into(), at: at(59), response }];
    let read_until = Some(ReadUntil { at: at(60), partition: 0, partitions: 1 });
    apply(&control, Changes { answers, read_until, ..Changes::default() }).await;
    let status = async |id| get_command(&control, id).await.status;
    assert_eq!(status(answered).await, acuvim_model::CommandStatus::Success);
    assert_eq!(status(silent).await, acuvim_model::CommandStatus::Timeout);
}

#[tokio::test]
async fn a_command_that_is_released_late_gets_its_full_time() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    let waits = crate::NewCommand { deliver: acuvim_model::Deliver::WhenOnline, ..ping("d") };
    let id = give(&control, &waits, 0).await;
    sent(&control).await;
    // The record is from second 100 and was read at second 1000, after an outage.
    let devices = vec![heard("d", 100, false)];
    apply(&control, Changes { devices, now: at(1000), ..Changes::default() }).await;
    let out = sent(&control).await;
    assert_eq!(out.len(), 1);
    assert_eq!(out[0]["expires_at"], at(1060).timestamp());
    assert_eq!(get_command(&control, id).await.deadline, Some(at(1060)));
}

#[tokio::test]
async fn fields_of_an_unexpected_type_are_reported_with_the_registration() {
    let (_dir, control) = fresh().await;
    let odd = json!({ payload::ODD: {"imei": 7} });
    update(&control, registering("d", 1, odd)).await;
    let lines = device_events(&control).await;
    assert_eq!(lines, ["registered announced", "odd_fields registration"]);
}

#[test]
fn a_batch_of_nothing_but_offsets_is_empty() {
    let moves = vec![moved(0, None, 1)];
    let empty = Changes { moves, ..Changes::default() };
    assert!(empty.is_empty());
    assert_eq!(empty.len(), 0);
    let replayed = vec![(
        acuvim_wire::Identity { epoch: 0, partition: 0, offset: 1, item: 0 },
        crate::ReplayOutcome::Stored,
    )];
    let updates = DeadLetterUpdates { replayed, ..DeadLetterUpdates::default() };
    assert!(!Changes { dead_letters: updates, ..Changes::default() }.is_empty());
    let judgements = vec![("d".to_owned(), None)];
    let quiet = Changes { judgements, ..Changes::default() };
    assert!(!quiet.is_empty() && quiet.len() == 1, "that all rules are quiet is news too");
}
