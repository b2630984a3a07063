//! Stores of a stream in a folder, for tests of parts that need them all.

use std::sync::Arc;

use acuvim_control::{Control, SystemCondition};
use acuvim_lakehouse::{Engine, EngineLimits, Lake, LakeOptions, WriteGuards};
use acuvim_log::{EmbeddedLog, EmbeddedOptions, Entry, LogTopic, ReadLimit};
use acuvim_wire::{payload::Severity, telemetry::Limits};
use url::Url;

use crate::dependencies::Dependencies;

/// Stores of a stream with two partitions. They are removed with this value.
pub(crate) struct Stores {
    _dir: tempfile::TempDir,
    pub dependencies: Dependencies,
}

impl Stores {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name);
        let log = EmbeddedOptions {
            partitions: 2,
            min_free_bytes: 0,
            ..EmbeddedOptions::at(path("log"))
        };
        let log = EmbeddedLog::open(log).await.expect("a log");
        let control = Control::open_sqlite(&path("control.db")).await.expect("control");
        std::fs::create_dir_all(path("lake")).expect("a folder");
        let options = LakeOptions {
            url: Url::from_directory_path(path("lake")).expect("a URL"),
            partitions: 2,
            epoch: 0,
            guards: WriteGuards::default(),
            max_ahead: Limits::default().max_ahead,
        };
        let engine = Engine::new(&EngineLimits::default()).expect("an engine");
        let lake = Lake::open(options, engine).await.expect("a lake");
        let dependencies = Dependencies {
            log: Arc::new(log),
            lake: Arc::new(lake),
            control,
            epoch: 0,
            holder: "test".into(),
        };
        Self { _dir: dir, dependencies }
    }

    /// What a topic has, by the partitions one after the other.
    pub async fn entries(&self, topic: LogTopic) -> Vec<Entry> {
        let mut all = Vec::new();
        for partition in 0..self.dependencies.log.partitions() {
            let bounds = self.dependencies.log.bounds(topic, partition).await.expect("bounds");
            let (mut at, wait) = (bounds.start, std::time::Duration::ZERO);
            while at < bounds.end {
                let limit = ReadLimit { records: 1000, bytes: 1 << 20, wait };
                let read = self.dependencies.log.read(topic, partition, at, limit).await;
                let batch = read.expect("entries");
                at = batch.next;
                all.extend(batch.entries.into_iter().map(|(_, entry)| entry));
            }
        }
        all
    }

    /// Makes the open alerts of the system exactly these, which puts an event for each change into the outbox.
    pub async fn alert(&self, subjects: &[&str]) {
        let condition = |subject: &&str| SystemCondition {
            alert_type: "component_away",
            subject: (*subject).to_owned(),
            severity: Severity::Critical,
            message: format!("{subject} is away"),
            metadata: serde_json::json!({}),
        };
        let conditions: Vec<_> = subjects.iter().map(condition).collect();
        let now = crate::api_time::api_now();
        self.dependencies.control.system_alerts("test", &conditions, now).await.expect("stored");
    }
}
