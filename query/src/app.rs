//! What every handler is given.

use std::{path::PathBuf, sync::Arc};

use acuvim_control::Control;
use acuvim_lakehouse::{Engine, Lake};
use acuvim_log::Log;
use acuvim_rules::Planner;
use acuvim_schemas::{command::CommandKind, telemetry::Limits};
use axum::extract::FromRef;
use tokio::sync::Semaphore;

use crate::{
    FirmwareOptions, GuardLimits, Jwt, LiveLimits, SqlLimits,
    auth::Throttle,
    backtest::Backtests,
    export::ExportSlots,
    firmware::Passes,
    guard::Guard,
    live::{Hub, signalr::sse::Inboxes},
};

/// How the other stages are doing, as the composition root sees it at this moment.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// What is not ready, and why.
    pub not_ready: Vec<Component>,
    /// Why a hot query can't be answered; none if it can.
    pub not_hot: Option<String>,
}

/// A component that is not ready.
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
pub struct Component {
    /// Its name: log, lake, control, processor.
    pub component: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What those who run the system may ask of every process, whatever its roles.
#[derive(Clone)]
pub struct System {
    /// How the stages are doing.
    pub status: Arc<dyn Fn() -> Status + Send + Sync>,
    /// The metrics in Prometheus' text form.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

impl std::fmt::Debug for System {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("System").field("status", &(self.status)()).finish_non_exhaustive()
    }
}

impl FromRef<Arc<App>> for System {
    fn from_ref(app: &Arc<App>) -> Self {
        app.parts.system.clone()
    }
}

/// Says why webhooks may not reach a host, as far as its name shows that.
#[derive(Clone)]
pub struct HostCheck(pub Arc<HostRefusal>);

/// The function of a [`HostCheck`].
pub type HostRefusal = dyn Fn(&str) -> Option<String> + Send + Sync;

impl std::fmt::Debug for HostCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HostCheck")
    }
}

/// What the API is made of.
pub struct AppOptions {
    /// Users, keys, devices.
    pub control: Control,
    /// Readings and dead letters.
    pub lake: Arc<Lake>,
    /// Where dead letters are brought again.
    pub log: Arc<dyn Log>,
    /// Where queries run.
    pub engine: Engine,
    /// What telemetry is judged by.
    pub limits: Limits,
    /// Tokens.
    pub jwt: Jwt,
    /// The file with the first admin's password, if there is one.
    pub initial_password: PathBuf,
    /// What one query may take.
    pub sql: SqlLimits,
    /// How commands are given.
    pub commands: CommandOptions,
    /// What every request passes first.
    pub guard: GuardLimits,
    /// How firmware is taken and given.
    pub firmware: FirmwareOptions,
    /// How live clients are treated.
    pub live: LiveLimits,
    /// Which hosts webhooks may not reach.
    pub webhook_hosts: HostCheck,
    /// How the other stages are doing.
    pub system: System,
}

/// How commands are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOptions {
    /// What the topics begin with.
    pub topic_prefix: String,
    /// Seconds to the first answer.
    pub timeout_s: u32,
    /// Seconds from an `ack` to the last answer of an `ota_update`.
    pub ota_update_s: u32,
    /// Of an `sd_flush`.
    pub sd_flush_s: u32,
    /// Of every other command.
    pub other_s: u32,
}

impl CommandOptions {
    /// Seconds from an `ack` to the last answer.
    pub(crate) const fn after_ack_s(&self, kind: Option<CommandKind>) -> u32 {
        match kind {
            Some(CommandKind::OtaUpdate) => self.ota_update_s,
            Some(CommandKind::SdFlush) => self.sd_flush_s,
            _ => self.other_s,
        }
    }
}

impl Default for CommandOptions {
    fn default() -> Self {
        Self {
            topic_prefix: "acuvim".into(),
            timeout_s: 60,
            ota_update_s: 3600,
            sd_flush_s: 900,
            other_s: 120,
        }
    }
}

/// Password hashes at a time.
const HASHES: usize = 2;

/// Answers from memory at a time: each may hold the rows of twenty thousand devices.
const FROM_MEMORY: usize = 4;

/// Threads for one kind of work alone, queries or password hashes: what computes without a pause must
/// not hold up messages, the stream or other requests.
pub(crate) struct WorkThreads(Option<tokio::runtime::Runtime>);

impl WorkThreads {
    fn new(threads: usize, stack: usize) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("sql")
            .thread_stack_size(stack)
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    fn for_hashes() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(HASHES)
            .thread_name("hash")
            .build()?;
        Ok(Self(Some(runtime)))
    }

    pub(crate) fn handle(&self) -> tokio::runtime::Handle {
        self.0.as_ref().map_or_else(tokio::runtime::Handle::current, |r| r.handle().clone())
    }
}

impl Drop for WorkThreads {
    fn drop(&mut self) {
        // Does not wait: what still runs has nobody to answer.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The state behind every handler.
pub struct App {
    pub(crate) parts: AppOptions,
    pub(crate) threads: WorkThreads,
    /// Queries at a time.
    pub(crate) queries: Arc<Semaphore>,
    /// Answers from memory at a time: they don't wait for queries.
    pub(crate) from_memory: Arc<Semaphore>,
    /// Exports at a time: they last as long as their clients take.
    pub(crate) exports: Arc<ExportSlots>,
    /// Files that could not be read, as far as that is known.
    pub(crate) damage: crate::sql::Damage,
    /// Imports at a time.
    pub(crate) imports: Semaphore,
    /// Uploads of firmware at a time: each is in memory until it is stored.
    pub(crate) uploads: Semaphore,
    /// Devices' rights to firmware, as they were a moment ago.
    pub(crate) passes: Passes,
    /// Password hashes at a time: each takes 19 MiB.
    pub(crate) hashing: Arc<Semaphore>,
    /// As many threads for them: an allocator keeps for each thread what one hash has taken.
    pub(crate) hash_threads: WorkThreads,
    pub(crate) throttle: Throttle,
    pub(crate) guard: Arc<Guard>,
    /// Checks rules.
    pub(crate) planner: Planner,
    pub(crate) backtests: Backtests,
    /// Live connections.
    pub(crate) hub: Arc<Hub>,
    /// Those of them whose clients send requests of their own.
    pub(crate) inboxes: Inboxes,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("sql", &self.parts.sql).finish_non_exhaustive()
    }
}

impl App {
    /// The state for these parts.
    ///
    /// # Errors
    /// When the threads for queries can't be started.
    pub fn new(parts: AppOptions) -> std::io::Result<Arc<Self>> {
        let queries = Arc::new(Semaphore::new(parts.sql.concurrent));
        let exports = ExportSlots::new(parts.sql.exports, parts.sql.export_stall);
        let threads = WorkThreads::new(parts.sql.threads, parts.sql.stack)?;
        let guard = Guard::new(parts.guard.clone());
        let (hashing, throttle) = (Arc::new(Semaphore::new(HASHES)), Throttle::default());
        let hash_threads = WorkThreads::for_hashes()?;
        let planner = Planner::new().map_err(std::io::Error::other)?;
        let backtests = Backtests::default();
        let hub = Arc::new(Hub::new(parts.live.clone()));
        Ok(Arc::new(Self {
            parts,
            threads,
            queries,
            from_memory: Arc::new(Semaphore::new(FROM_MEMORY)),
            exports,
            damage: crate::sql::Damage::default(),
            imports: Semaphore::new(1),
            uploads: Semaphore::new(2),
            passes: Passes::default(),
            hashing,
            hash_threads,
            throttle,
            guard,
            planner,
            backtests,
            hub,
            inboxes: Inboxes::default(),
        }))
    }

    pub(crate) fn control(&self) -> &Control {
        &self.parts.control
    }

    pub(crate) fn lake(&self) -> &Lake {
        &self.parts.lake
    }

    pub(crate) fn status(&self) -> Status {
        (self.parts.system.status)()
    }
}
