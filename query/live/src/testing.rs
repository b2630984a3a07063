//! Live connections for tests, over a log, a lake and a control database in a folder of their own.

use std::{path::PathBuf, sync::Arc, time::Duration};

use acuvim_control::{By, Control, Created};
use acuvim_lakehouse::{Engine, EngineLimits, Lake, LakeOptions, WriteGuards};
use acuvim_log::{EmbeddedLog, EmbeddedOptions, Entry, Log as _, LogTopic};
use acuvim_model::{
    DeviceStatus, NewDevice, NewKey, Role, Scope,
    event::{DeviceEvent, Event},
};
use chrono::DateTime;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    event::RECORD_END,
    limits::LiveLimits,
    position::{PartitionPosition, StreamPosition},
    signalr::Session,
    state::{Live, LiveParts},
    subscriber::Subscriber,
    writer::{ConnectionWriter, Wire},
};

/// The most that a test waits for something that happens in another task.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that live connections use. The devices `a`, `b` and `c` exist.
pub(crate) struct Fixture {
    pub live: Live,
    pub control: Control,
    pub log: Arc<EmbeddedLog>,
    folder: PathBuf,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let limits = LiveLimits {
            // A client that never subscribes gets everything, and at once.
            grace: Duration::ZERO,
            default_interval: Duration::ZERO,
            // Tests check connections themselves.
            check_interval: Duration::from_secs(3600),
            ..LiveLimits::default()
        };
        Self::with(limits).await
    }

    pub(crate) async fn with(limits: LiveLimits) -> Self {
        let folder = std::env::temp_dir().join(format!("live-{}", Uuid::new_v4()));
        let lake = folder.join("lake");
        std::fs::create_dir_all(&lake).expect("a folder");
        let options = EmbeddedOptions {
            partitions: 2,
            min_free_bytes: 0,
            ..EmbeddedOptions::at(folder.join("log"))
        };
        let log = Arc::new(EmbeddedLog::open(options).await.expect("a log"));
        let control = Control::open_sqlite(&folder.join("control.db")).await.expect("control");
        let options = LakeOptions {
            url: format!("file://{}/", lake.display()).parse().expect("a URL"),
            partitions: 2,
            epoch: 0,
            guards: WriteGuards::default(),
            max_ahead: 0,
        };
        let engine = Engine::new(&EngineLimits::default()).expect("an engine");
        let lake = Arc::new(Lake::open(options, engine).await.expect("a lake"));
        let parts =
            LiveParts { control: control.clone(), lake, log: Arc::clone(&log) as _, limits };
        let fixture = Self { live: Live::new(parts), control, log, folder };
        for id in ["a", "b", "c"] {
            fixture.create_device(id).await;
        }
        fixture
    }

    pub(crate) async fn create_device(&self, id: &str) {
        let new: NewDevice = serde_json::from_value(json!({ "device_id": id })).expect("new");
        let created = self.control.create_device(&new, &by()).await.expect("control answers");
        assert!(matches!(created, Created::Done(_)), "{created:?}");
    }

    /// Lets the hub take connections, from the beginning of the log on.
    pub(crate) fn begin(&self) {
        self.live.hub().begin(position([0, 0]));
    }

    /// Somebody with a new key, which holds until it is deleted.
    pub(crate) async fn key(&self, scope: Option<Scope>) -> Subscriber {
        let new = NewKey { name: "k".to_owned(), role: Role::Viewer, scope, expires_at: None };
        let key = self.control.create_key(&new, &by()).await.expect("a key").key;
        Subscriber { id: key.id, scope: key.scope, login: None, expires_at: key.expires_at }
    }

    /// Stores events in a partition of the log.
    pub(crate) async fn store(&self, partition: u32, entries: Vec<Entry>) {
        let entries = entries.into_iter().map(|entry| (partition, entry)).collect();
        self.log.append(LogTopic::Events, entries).await.expect("stored");
    }

    pub(crate) async fn writer(&self, subscriber: Subscriber, wire: Wire) -> ConnectionWriter {
        ConnectionWriter::open(&self.live, subscriber, wire).await.expect("a connection")
    }

    /// A session of the hub whose handshake is done.
    pub(crate) async fn session(&self, subscriber: Subscriber) -> Session {
        let mut session = Session::new(self.writer(subscriber, Wire::Hub).await);
        let reply = session.take(b"{\"protocol\":\"json\",\"version\":1}\x1e").await;
        assert_eq!(records(&reply.expect("a reply")), [json!({})]);
        session
    }
}

/// The system, as the one who makes a change.
pub(crate) fn by() -> By {
    By::system(DateTime::UNIX_EPOCH)
}

/// Somebody with a key, who sees these devices; none: all.
pub(crate) fn somebody(devices: Option<&[&str]>) -> Subscriber {
    Subscriber { id: Uuid::new_v4(), scope: devices.map(scope), login: None, expires_at: None }
}

pub(crate) fn scope(ids: &[&str]) -> Scope {
    Scope { device_ids: ids.iter().map(|id| (*id).to_owned()).collect(), group_ids: vec![] }
}

/// The position before these offsets, of which no event has a number.
pub(crate) fn position(next: [i64; 2]) -> StreamPosition {
    let partitions = next.map(|next| PartitionPosition { next, seq: 0 });
    StreamPosition { epoch: 0, partitions: partitions.to_vec() }
}

/// A record that says that a device is online, for a reason by which the test knows it again.
pub(crate) fn online(device: &str, reason: &str, number: Option<i64>) -> Entry {
    let event = DeviceEvent {
        event_id: Uuid::nil(),
        device_id: device.to_owned(),
        event: "status".to_owned(),
        ts: DateTime::UNIX_EPOCH,
        recorded_at: DateTime::UNIX_EPOCH,
        status: Some(DeviceStatus::Online),
        previous: None,
        reason: Some(reason.to_owned()),
        detail: None,
    };
    entry(&Event::Device(Box::new(event)), number)
}

/// An event as the outbox delivers it, under a number if it has one.
pub(crate) fn entry(event: &Event, number: Option<i64>) -> Entry {
    let number = number.map(|number| ("outbox_seq".into(), number.to_string().into()));
    Entry {
        key: event.device_id().unwrap_or_default().to_owned().into(),
        value: serde_json::to_vec(event).expect("JSON").into(),
        headers: number.into_iter().collect(),
    }
}

/// The records of the hub's protocol in some bytes.
pub(crate) fn records(bytes: &[u8]) -> Vec<Value> {
    let records = bytes.split(|byte| *byte == RECORD_END).filter(|record| !record.is_empty());
    records.map(|record| serde_json::from_slice(record).expect("JSON")).collect()
}

/// The reasons of the status changes in some bytes, in order.
pub(crate) fn reasons(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let after = text.split("\"reason\":\"").skip(1);
    after.map(|rest| rest.split('"').next().unwrap_or_default().to_owned()).collect()
}

/// What comes next, or nothing if that takes longer than a moment.
pub(crate) async fn next_of(writer: &mut ConnectionWriter) -> Vec<u8> {
    tokio::time::timeout(PATIENCE, writer.next()).await.expect("something comes")
}

/// Whether nothing waits for a client now.
pub(crate) async fn is_idle(writer: &mut ConnectionWriter) -> bool {
    let mut next = std::pin::pin!(writer.next());
    futures::poll!(next.as_mut()).is_pending()
}
