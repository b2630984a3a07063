//! What the tests of several modules use: an empty database, moments, and changes of the stream.

use acuvim_model::{AuditEntry, CommandInfo, Deliver, Device, NewDevice, Scope, event::Event};
use acuvim_wire::payload::Heartbeat;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value as Json, json};
use sqlx::sqlite::SqliteSynchronous;
use uuid::Uuid;

use crate::{
    AuditFilter, By, Changes, Control, Created, DeviceUpdate, Given, Lease, NewCommand,
    OUTBOX_LEASE, OffsetMove, Outgoing, stream::Applied,
};

/// A moment, in seconds after a fixed one.
pub(crate) fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_000_000 + second, 0).expect("a time")
}

/// A moment, in microseconds after a fixed one.
pub(crate) fn at_micros(micros: i64) -> DateTime<Utc> {
    at(0) + TimeDelta::microseconds(micros)
}

/// A person, at a moment.
pub(crate) fn by(second: i64) -> By {
    By { name: "test".into(), address: Some("192.0.2.7".into()), ..By::system(at(second)) }
}

/// An empty SQLite database. It is deleted together with the folder.
pub(crate) async fn fresh() -> (tempfile::TempDir, Control) {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("control.db");
    let control = Control::open_file(&path, SqliteSynchronous::Off).await.expect("open");
    (dir, control)
}

/// A runtime, for properties: their cases are closures without `async`.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// A scope of these devices.
pub(crate) fn scope_of(devices: &[&str]) -> Scope {
    Scope { device_ids: devices.iter().map(|id| (*id).to_owned()).collect(), group_ids: vec![] }
}

pub(crate) fn new_device(id: &str) -> NewDevice {
    NewDevice { device_id: id.into(), ..NewDevice::default() }
}

/// Creates devices, and returns the secret of the last one.
pub(crate) async fn add_devices(control: &Control, ids: &[&str]) -> String {
    let mut secret = String::new();
    for id in ids {
        match control.create_device(&new_device(id), &by(0)).await.expect("create") {
            Created::Done(made) => secret = made.credentials.password,
            other => panic!("{other:?}"),
        }
    }
    secret
}

/// The device with an id, whatever its scope.
pub(crate) async fn get_device(control: &Control, id: &str) -> Device {
    control.device(id, None).await.expect("ask").expect("there")
}

/// Stores changes at the next offset of partition 0.
pub(crate) async fn apply(control: &Control, changes: Changes) {
    let expected = control.offset(0, 0).await.expect("ask");
    let moves = vec![OffsetMove { partition: 0, expected, next: expected.unwrap_or(0) + 1 }];
    let changes = Changes { moves, ..changes };
    assert_eq!(control.apply(0, &changes).await.expect("apply"), Applied::Done);
}

/// Stores one update of a device.
pub(crate) async fn update(control: &Control, update: DeviceUpdate) {
    apply(control, Changes { devices: vec![update], ..Changes::default() }).await;
}

/// An update with a heartbeat that has these fields.
pub(crate) fn beat(device: &str, second: i64, fields: Json) -> DeviceUpdate {
    let heartbeat: Heartbeat = serde_json::from_value(fields).expect("a heartbeat");
    DeviceUpdate {
        heartbeat: Some((at(second), Box::new(heartbeat))),
        ..DeviceUpdate::new(device, at(second))
    }
}

/// An update that a live message of the device arrived; `back` if it reconnected.
pub(crate) fn heard(device: &str, second: i64, back: bool) -> DeviceUpdate {
    DeviceUpdate { heard: true, back, ..DeviceUpdate::new(device, at(second)) }
}

/// A command with the usual time limits, to be sent now.
pub(crate) fn command(device: &str, name: &str, params: Json) -> NewCommand {
    let Json::Object(params) = params else { panic!("an object") };
    NewCommand {
        device_id: device.into(),
        command: name.into(),
        params,
        deliver: Deliver::Now,
        first_timeout_s: 60,
        ack_timeout_s: 120,
        expires_s: 3600,
        idempotency_key: None,
        topic_prefix: "acuvim".into(),
        section: None,
        desired: true,
        group_command: None,
    }
}

pub(crate) fn ping(device: &str) -> NewCommand {
    command(device, "ping", json!({}))
}

/// Gives a command that is expected to be stored.
pub(crate) async fn give(control: &Control, new: &NewCommand, second: i64) -> Uuid {
    match control.give_command(new, None, &by(second)).await.expect("give") {
        Given::Stored(accepted) => accepted.request_id,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn get_command(control: &Control, id: Uuid) -> CommandInfo {
    control.command(id, None).await.expect("ask").expect("there")
}

/// A lease that outlasts the test.
pub(crate) async fn long_lease(control: &Control, name: &str, holder: &str) -> Lease {
    let held = control.hold_lease(name, holder, at(-1000), TimeDelta::days(900)).await;
    held.expect("ask").expect("free")
}

/// Delivers the whole outbox, and returns it in its order.
pub(crate) async fn deliver(control: &Control) -> Vec<Outgoing> {
    let lease = long_lease(control, OUTBOX_LEASE, "test").await;
    let (mut all, mut done) = (Vec::new(), None);
    loop {
        let next = control.next_of_outbox(lease, "test", done, at(0)).await.expect("ask");
        let next = next.expect("the lease");
        let Some(last) = next.last().map(Outgoing::seq) else { return all };
        done = Some(last);
        all.extend(next);
    }
}

/// Delivers the whole outbox, and returns the events in it.
pub(crate) async fn events(control: &Control) -> Vec<Event> {
    let event = |one| match one {
        Outgoing::Event { event, .. } => Some(event),
        Outgoing::Command(_) => None,
    };
    deliver(control).await.into_iter().filter_map(event).collect()
}

/// Delivers the whole outbox, and returns the payloads of the commands in it.
pub(crate) async fn sent(control: &Control) -> Vec<Json> {
    let payload = |one: Outgoing| match one {
        Outgoing::Command(command) => serde_json::from_slice(&command.payload).ok(),
        Outgoing::Event { .. } => None,
    };
    deliver(control).await.into_iter().filter_map(payload).collect()
}

/// The kinds and reasons of device events in the outbox, such as `registered heard`.
pub(crate) async fn device_events(control: &Control) -> Vec<String> {
    let line = |event| match event {
        Event::Device(event) => {
            Some(format!("{} {}", event.event, event.reason.unwrap_or_default()))
        }
        _ => None,
    };
    events(control).await.into_iter().filter_map(line).collect()
}

/// The newest entries of the audit log.
pub(crate) async fn audited(control: &Control) -> Vec<AuditEntry> {
    let filter = AuditFilter { limit: 1000, ..AuditFilter::default() };
    control.audit(&filter).await.expect("audit").0
}
