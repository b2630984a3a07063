//! A stream with everything that it needs, in a folder; it can be cut off at any moment.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use acuvim_control::{AlertFilter, By, Control};
use acuvim_lakehouse::{Engine, EngineLimits, Lake, LakeOptions};
use acuvim_log::{EmbeddedLog, EmbeddedOptions, Entry, Log, LogTopic};
use acuvim_processor::{Duties, FlushPolicy, Parts, Processor, ProcessorOptions};
use acuvim_schemas::{
    Headers, Kind, Micros, Record,
    api::{Alert, RuleBody},
    device::partition_of,
    tables::Table,
};
use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::Int64Type,
};
use bytes::Bytes;
use tokio::runtime::Runtime;
use url::Url;

pub const PARTITIONS: u32 = 2;

/// Nothing waits so long when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

/// The guards against storing a row twice.
#[derive(Clone, Copy)]
pub struct Guards {
    /// Readings and heartbeats that are stored already are told by their time.
    pub dedup: bool,
    /// Records that the tables cover are skipped by their offset.
    pub skip_by_offset: bool,
}

/// The folder, and what runs in it.
pub struct Place {
    dir: tempfile::TempDir,
    pub options: ProcessorOptions,
    pub guards: Guards,
    running: Option<Running>,
}

struct Running {
    runtime: Runtime,
    log: Arc<EmbeddedLog>,
    lake: Arc<Lake>,
    control: Control,
    processor: Option<Processor>,
}

/// Quick in everything, so that a test meets each of it.
pub fn quick() -> ProcessorOptions {
    ProcessorOptions {
        flush: FlushPolicy { interval: Duration::from_millis(150), rows: 1000 },
        command_check: Duration::from_millis(100),
        health_check: Duration::from_millis(200),
        guard_interval: Duration::from_millis(200),
        repair_calm: Duration::from_millis(100),
        log_retention: Duration::from_secs(3650 * 86_400),
        ..ProcessorOptions::default()
    }
}

impl Place {
    pub fn new(options: ProcessorOptions, rules: &[RuleBody]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let guards = Guards { dedup: true, skip_by_offset: true };
        let mut place = Self { dir, options, guards, running: None };
        let runtime = runtime();
        let path = place.path("control.db");
        runtime.block_on(async {
            let control = Control::open_sqlite(&path).await.expect("control");
            for rule in rules {
                let long_ago = chrono::DateTime::UNIX_EPOCH;
                control.create_rule(rule, &By::system(long_ago)).await.expect("a rule");
            }
            control.close().await;
        });
        place.start();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts it where it was left.
    pub fn start(&mut self) {
        let runtime = runtime();
        let (log, lake, control) = runtime.block_on(self.open());
        let parts = Parts {
            log: Arc::clone(&log) as _,
            lake: Arc::clone(&lake),
            control: control.clone(),
            epoch: 0,
        };
        let options = ProcessorOptions { dedup: self.guards.dedup, ..self.options.clone() };
        let processor = runtime.block_on(async {
            let claim = log.claim("t").await.expect("a claim");
            Processor::start(options, parts, Duties { claim: Some(claim), follow: true })
        });
        self.running = Some(Running { runtime, log, lake, control, processor: Some(processor) });
    }

    async fn open(&self) -> (Arc<EmbeddedLog>, Arc<Lake>, Control) {
        let options = EmbeddedOptions {
            partitions: PARTITIONS,
            min_free_bytes: 0,
            ..EmbeddedOptions::at(self.path("log"))
        };
        // Whoever was cut off may hold it for a moment longer.
        let begun = Instant::now();
        let log = loop {
            match EmbeddedLog::open(options.clone()).await {
                Ok(log) => break Arc::new(log),
                Err(error) if begun.elapsed() > PATIENCE => panic!("{error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let control = Control::open_sqlite(&self.path("control.db")).await.expect("control");
        let folder = self.path("lake");
        std::fs::create_dir_all(&folder).expect("a folder");
        let options = LakeOptions {
            url: Url::from_directory_path(&folder).expect("a URL"),
            partitions: PARTITIONS,
            epoch: 0,
            skip_by_offset: self.guards.skip_by_offset,
            fence: true,
            max_ahead: self.options.limits.max_ahead,
        };
        let engine = Engine::new(&EngineLimits::default()).expect("an engine");
        (log, Arc::new(Lake::open(options, engine).await.expect("a lake")), control)
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs")
    }

    /// Cuts it off, in the middle of whatever it does, and starts it again.
    pub fn crash(&mut self) {
        let running = self.running.take().expect("it runs");
        let Running { runtime, log, lake, control, processor } = running;
        // Its tasks end where they are: nothing is flushed, told or closed.
        runtime.shutdown_timeout(Duration::from_secs(10));
        drop((processor, lake, control));
        drop(log);
        self.start();
    }

    /// Ends it in order, and starts it again.
    pub fn restart(&mut self) {
        self.restart_within(Duration::from_secs(20));
    }

    /// The same, with so much time to end in.
    pub fn restart_within(&mut self, time: Duration) {
        let mut running = self.running.take().expect("it runs");
        if let Some(processor) = running.processor.take() {
            running.runtime.block_on(processor.stop(time));
        }
        let Running { runtime, log, lake, control, .. } = running;
        runtime.block_on(async move {
            control.close().await;
            drop(lake);
            if let Some(log) = Arc::into_inner(log) {
                log.close().await;
            }
        });
        drop(runtime);
        self.start();
    }

    /// Appends messages, each from a device at a moment.
    pub fn say(&self, messages: &[(Kind, &str, String, Micros)]) {
        let running = self.running();
        let entries = messages.iter().map(|(kind, device, payload, received_at)| {
            let record = Record {
                key: Bytes::copy_from_slice(device.as_bytes()),
                value: Bytes::from(payload.clone()),
                headers: Headers {
                    kind: *kind,
                    topic: Bytes::from(format!("acuvim/{device}/{kind}")),
                    received_at: *received_at,
                    retained: false,
                    reject: None,
                    replay_of: None,
                    resolved_ts: None,
                },
            };
            (partition_of(device.as_bytes(), PARTITIONS), Entry::from(record))
        });
        let entries = entries.collect();
        running.runtime.block_on(running.log.append(LogTopic::Uplink, entries)).expect("append");
    }

    /// Says in every partition that somebody listens.
    pub fn pulse(&self, at: Micros) {
        let running = self.running();
        let pulse = Record {
            key: Bytes::new(),
            value: Bytes::new(),
            headers: Headers {
                kind: Kind::Pulse,
                topic: Bytes::new(),
                received_at: at,
                retained: false,
                reject: None,
                replay_of: None,
                resolved_ts: None,
            },
        };
        let entries = (0..PARTITIONS).map(|p| (p, Entry::from(pulse.clone()))).collect();
        running.runtime.block_on(running.log.append(LogTopic::Uplink, entries)).expect("append");
    }

    /// Waits until something holds.
    pub fn until<T>(
        &self,
        what: &str,
        mut look: impl AsyncFnMut(&Control, &Lake) -> Option<T>,
    ) -> T {
        let running = self.running();
        running.runtime.block_on(async {
            let begun = Instant::now();
            loop {
                if let Some(found) = look(&running.control, &running.lake).await {
                    return found;
                }
                if let Some(processor) = &running.processor {
                    let fatal = processor.state().borrow().fatal.clone();
                    assert!(fatal.is_none(), "{fatal:?}");
                }
                assert!(begun.elapsed() < PATIENCE, "never: {what}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    }

    /// Waits until everything that was said is in the tables and in control, and repaired.
    pub fn settle(&self) {
        let log = Arc::clone(&self.running().log);
        self.until("all is stored and repaired", async |control, lake| {
            for partition in 0..PARTITIONS {
                let end = log.bounds(LogTopic::Uplink, partition).await.expect("bounds").end;
                let told = control.offset(0, partition).await.expect("ask").unwrap_or(0);
                let stored = lake.next_offset(partition);
                // A few records without rows wait for more.
                let read = lake.tail().next_offsets()[partition as usize].unwrap_or(0);
                if told < end || stored.max(read) < end {
                    return None;
                }
            }
            control.repairs().await.expect("ask").is_empty().then_some(())
        });
    }

    /// Waits until so many records of all partitions are covered by the table of readings.
    pub fn until_flushed(&self, records: i64) {
        self.until("all is in the tables", async |_, lake| {
            let snapshot = lake.snapshot(Table::Telemetry).expect("a table");
            (snapshot.covered().values().sum::<i64>() >= records).then_some(())
        });
    }

    /// Alerts, withdrawn ones left out, by their beginning.
    pub fn alerts(&self) -> Vec<Alert> {
        let running = self.running();
        let filter = AlertFilter { limit: 100_000, ..AlertFilter::default() };
        let (mut alerts, _) =
            running.runtime.block_on(running.control.alerts(&filter, None)).expect("alerts");
        alerts.sort_by(|a, b| (&a.device_id, a.created_at).cmp(&(&b.device_id, b.created_at)));
        alerts
    }

    /// The rows of a statement over lake and tail.
    pub fn sql(&self, statement: &str) -> Vec<RecordBatch> {
        let running = self.running();
        let context = running.lake.engine().session();
        let view = running.lake.view(true).expect("a view");
        for table in Table::ALL {
            let provider = view.table(table).expect("a table");
            context.register_table(table.name(), provider).expect("register");
        }
        let rows = async { context.sql(statement).await?.collect().await };
        running.runtime.block_on(rows).expect("a query")
    }

    /// The one number of a statement.
    pub fn number(&self, statement: &str) -> i64 {
        let rows = self.sql(statement);
        rows[0].column(0).as_primitive::<Int64Type>().value(0)
    }

    pub fn folder(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.runtime.shutdown_timeout(Duration::from_secs(10));
        }
    }
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("a runtime")
}
