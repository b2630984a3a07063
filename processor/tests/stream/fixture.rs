//! A stream with all its stores in a folder, which can be cut off and restarted at any moment.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use acuvim_control::{AlertFilter, By, Control};
use acuvim_lakehouse::{Engine, EngineLimits, Lake, LakeOptions, WriteGuards};
use acuvim_log::{EmbeddedLog, EmbeddedOptions, Entry, Log, LogTopic};
use acuvim_model::{Alert, RuleBody};
use acuvim_processor::{Dependencies, Duties, FlushPolicy, Processor, ProcessorOptions};
use acuvim_tables::Table;
use acuvim_wire::{Headers, Kind, Micros, Record, device::partition_of};
use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::Int64Type,
};
use bytes::Bytes;
use tokio::runtime::Runtime;
use url::Url;

pub const PARTITIONS: u32 = 2;

/// The longest that a test waits for anything; far longer than it takes.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// The two mechanisms that keep a row from being stored twice.
#[derive(Clone, Copy)]
pub struct Guards {
    /// Readings and heartbeats that are stored already are recognised by device and time.
    pub dedup: bool,
    /// Records that the tables cover are skipped by offset.
    pub skip_by_offset: bool,
}

/// The folder, and the stream that runs in it.
pub struct TestStream {
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

/// Short intervals, so that a test sees the effect of each of them.
pub fn quick() -> ProcessorOptions {
    ProcessorOptions {
        flush: FlushPolicy { interval: Duration::from_millis(150), rows: 1000 },
        command_check: Duration::from_millis(100),
        health_check: Duration::from_millis(200),
        watchdog_interval: Duration::from_millis(200),
        repair_calm: Duration::from_millis(100),
        log_retention: Duration::from_secs(3650 * 86_400),
        ..ProcessorOptions::default()
    }
}

impl TestStream {
    pub fn new(options: ProcessorOptions, rules: &[RuleBody]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let guards = Guards { dedup: true, skip_by_offset: true };
        let mut stream = Self { dir, options, guards, running: None };
        let runtime = runtime();
        let path = stream.path("control.db");
        runtime.block_on(async {
            let control = Control::open_sqlite(&path).await.expect("control");
            for rule in rules {
                let long_ago = chrono::DateTime::UNIX_EPOCH;
                control.create_rule(rule, &By::system(long_ago)).await.expect("a rule");
            }
            control.close().await;
        });
        stream.start();
        stream
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the stream where it was left.
    pub fn start(&mut self) {
        let runtime = runtime();
        let (log, lake, control) = runtime.block_on(self.open());
        let dependencies = Dependencies {
            log: Arc::clone(&log) as _,
            lake: Arc::clone(&lake),
            control: control.clone(),
            epoch: 0,
            holder: "test".into(),
        };
        let mut options = self.options.clone();
        if !self.guards.dedup {
            options.guards = options.guards.without_dedup();
        }
        let processor = runtime.block_on(async {
            let claim = log.claim("t").await.expect("a claim");
            Processor::start(options, dependencies, Duties { claim: Some(claim), follow: true })
        });
        self.running = Some(Running { runtime, log, lake, control, processor: Some(processor) });
    }

    async fn open(&self) -> (Arc<EmbeddedLog>, Arc<Lake>, Control) {
        let options = EmbeddedOptions {
            partitions: PARTITIONS,
            min_free_bytes: 0,
            ..EmbeddedOptions::at(self.path("log"))
        };
        // A process that was cut off may hold the lock for a moment longer.
        let begun = Instant::now();
        let log = loop {
            match EmbeddedLog::open(options.clone()).await {
                Ok(log) => break Arc::new(log),
                Err(error) if begun.elapsed() > MAX_WAIT => panic!("{error}"),
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
            guards: match self.guards.skip_by_offset {
                true => WriteGuards::default(),
                false => WriteGuards::default().without_offsets(),
            },
            max_ahead: self.options.limits.max_ahead,
        };
        let engine = Engine::new(&EngineLimits::default()).expect("an engine");
        (log, Arc::new(Lake::open(options, engine).await.expect("a lake")), control)
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs")
    }

    /// Cuts the stream off in the middle of whatever it does, and starts it again.
    pub fn crash(&mut self) {
        let running = self.running.take().expect("it runs");
        let Running { runtime, log, lake, control, processor } = running;
        // Its tasks end where they are: nothing is flushed, written to control or closed.
        runtime.shutdown_timeout(Duration::from_secs(10));
        drop((processor, lake, control));
        drop(log);
        self.start();
    }

    /// Stops the stream in order, and starts it again.
    pub fn restart(&mut self) {
        self.restart_within(Duration::from_secs(20));
    }

    /// The same, with this much time to stop.
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

    /// Appends messages, each with its device and the time of its arrival.
    pub fn append(&self, messages: &[(Kind, &str, String, Micros)]) {
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

    /// Appends the pulse of ingest to every partition.
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

    /// Waits until `look` finds something, and returns that.
    pub fn wait_for<T>(
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
                assert!(begun.elapsed() < MAX_WAIT, "never happened: {what}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    }

    /// Waits until all messages are in tail or tables and in control, and no repair is due.
    pub fn settle(&self) {
        let log = Arc::clone(&self.running().log);
        self.wait_for("all messages are stored and repaired", async |control, lake| {
            for partition in 0..PARTITIONS {
                let end = log.bounds(LogTopic::Uplink, partition).await.expect("bounds").end;
                let told = control.offset(0, partition).await.expect("ask").unwrap_or(0);
                let stored = lake.next_offset(partition);
                // Records without rows are not flushed by themselves.
                let read = lake.tail().next_offsets()[partition as usize].unwrap_or(0);
                if told < end || stored.max(read) < end {
                    return None;
                }
            }
            control.repairs().await.expect("ask").is_empty().then_some(())
        });
    }

    /// Waits until `telemetry` covers this many records of all partitions.
    pub fn wait_flushed(&self, records: i64) {
        self.wait_for("the rows are in the tables", async |_, lake| {
            let snapshot = lake.snapshot(Table::Telemetry).expect("a table");
            (snapshot.covered().values().sum::<i64>() >= records).then_some(())
        });
    }

    /// All alerts that are not withdrawn, by device and beginning.
    pub fn alerts(&self) -> Vec<Alert> {
        let running = self.running();
        let filter = AlertFilter { limit: 100_000, ..AlertFilter::default() };
        let (mut alerts, _) =
            running.runtime.block_on(running.control.alerts(&filter, None)).expect("alerts");
        alerts.sort_by(|a, b| (&a.device_id, a.created_at).cmp(&(&b.device_id, b.created_at)));
        alerts
    }

    /// The rows of a query over lake and tail.
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

    /// Waits until a query over lake and tail gives a number of at least this.
    pub fn wait_scalar(&self, statement: &str, at_least: i64) {
        let begun = Instant::now();
        while self.scalar(statement) < at_least {
            assert!(begun.elapsed() < MAX_WAIT, "never {at_least}: {statement}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The number that a query gives.
    pub fn scalar(&self, statement: &str) -> i64 {
        let rows = self.sql(statement);
        rows[0].column(0).as_primitive::<Int64Type>().value(0)
    }
}

/// A device id whose messages are in the same partition as those of another device.
pub fn same_partition(device: &str) -> String {
    let partition = |id: &str| partition_of(id.as_bytes(), PARTITIONS);
    let mut names = (0..).map(|n| format!("marker{n}"));
    names.find(|name| partition(name) == partition(device)).expect("one of many")
}

impl Drop for TestStream {
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
