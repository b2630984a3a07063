//! How the stream is processed.

mod guards;
mod networks;
mod notify;
mod retention;

use std::{sync::Arc, time::Duration};

use acuvim_control::{Reminders, Resend, SystemCondition};
use acuvim_lakehouse::CompactionPolicy;
use acuvim_rules::{HealthPolicy, VitalLimits};
use acuvim_wire::telemetry::{Aliases, Limits};

pub use guards::StreamGuards;
pub(crate) use networks::refusal;
pub use networks::{AllowedNetworks, refused_address};
pub use notify::NotifyOptions;
pub use retention::Retention;

/// When the tail is flushed to the lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlushPolicy {
    /// The longest time between two flushes.
    pub interval: Duration,
    /// The number of rows that starts a flush before the interval is over.
    pub rows: usize,
}

impl Default for FlushPolicy {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), rows: 100_000 }
    }
}

/// How the stream is processed.
#[derive(Debug, Clone)]
pub struct ProcessorOptions {
    /// When the tail is flushed to the lake.
    pub flush: FlushPolicy,
    /// How many files are merged into one.
    pub compaction: CompactionPolicy,
    /// How often the tables are searched for files to merge.
    pub compaction_interval: Duration,
    /// How often the rollups are brought up to date.
    pub rollup_interval: Duration,
    /// How long files stay that no newer version of a table refers to. Must be longer than any
    /// query runs, because a query goes on reading the version that it began with.
    pub keep_files: Duration,
    /// How many days each table keeps.
    pub retention: Retention,
    /// How long after its start a process cleans up first. Shorter than the interval, so that a
    /// process that is restarted often cleans up at all.
    pub first_cleanup: Duration,
    /// How often rows past retention and unreferenced files are removed.
    pub cleanup_interval: Duration,
    /// Bytes the tail may hold before reading from the log stops.
    pub max_tail_bytes: usize,
    /// The limits of valid telemetry.
    pub limits: Limits,
    /// Keys of other firmware and the readings that they stand for.
    pub aliases: Arc<Aliases>,
    /// What keeps rows from being stored twice or lost.
    pub guards: StreamGuards,
    /// Whether several processes share the partitions of one log. If so, being overtaken by another
    /// process is expected; if not, it is a misconfiguration and stops the stream.
    pub shared: bool,
    /// How long control keeps commands that ended and the audit.
    pub keep_history: Duration,
    /// How often commands are checked for timeouts.
    pub command_check: Duration,
    /// How configuration is sent again to devices that come back.
    pub resend: Resend,
    /// After how much silence a device is degraded or offline.
    pub health: HealthPolicy,
    /// How often devices are checked for silence.
    pub health_check: Duration,
    /// The limits on values in heartbeats.
    pub vitals: VitalLimits,
    /// When people are reminded of an open alert.
    pub reminders: Reminders,
    /// How often the watchdog compares the ledger and checks the components.
    pub watchdog_interval: Duration,
    /// How long a device's late readings must have ceased before its alerts are repaired.
    pub repair_calm: Duration,
    /// How long the log keeps its records.
    pub log_retention: Duration,
    /// Faults that only the composition root can see, such as a disk that is nearly full.
    pub conditions: Conditions,
    /// How notifications are sent.
    pub notify: Arc<NotifyOptions>,
}

/// A function that answers with the system's faults, as others see them.
#[derive(Clone)]
pub struct Conditions(pub Arc<dyn Fn() -> Vec<SystemCondition> + Send + Sync>);

impl std::fmt::Debug for Conditions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Conditions")
    }
}

impl Default for ProcessorOptions {
    fn default() -> Self {
        Self {
            flush: FlushPolicy::default(),
            compaction: CompactionPolicy::default(),
            compaction_interval: Duration::from_secs(10),
            rollup_interval: Duration::from_secs(300),
            keep_files: Duration::from_secs(24 * 3600),
            retention: Retention::default(),
            first_cleanup: Duration::from_secs(600),
            cleanup_interval: Duration::from_secs(24 * 3600),
            max_tail_bytes: 512 << 20,
            limits: Limits::default(),
            aliases: Arc::default(),
            guards: StreamGuards::default(),
            shared: false,
            keep_history: Duration::from_secs(730 * 86_400),
            command_check: Duration::from_secs(5),
            resend: Resend::default(),
            health: HealthPolicy::default(),
            health_check: Duration::from_secs(30),
            vitals: VitalLimits::default(),
            reminders: Reminders::default(),
            watchdog_interval: Duration::from_secs(30),
            repair_calm: Duration::from_secs(3),
            log_retention: Duration::from_secs(7 * 86_400),
            conditions: Conditions(Arc::new(Vec::new)),
            notify: Arc::default(),
        }
    }
}
