//! Where queries run: on threads of their own, each under a permit and a deadline, over one view of the
//! lake.

mod damage;
mod export_slots;
mod fault;
mod threads;

use std::{sync::Arc, time::Duration};

use acuvim_control::Control;
use acuvim_lakehouse::{Engine, Lake, OfDevices, View};
use acuvim_model::problem::Code;
use acuvim_tables::Table;
use datafusion::{error::DataFusionError, prelude::SessionContext};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{error::QueryError, limits::SqlLimits};

use damage::KnownDamage;
pub use export_slots::{ClientGone, ExportSlot, ExportSlots};
pub use fault::from_engine;
pub use threads::WorkThreads;

/// Answers from memory that are written at a time: each may hold the rows of twenty thousand devices.
const FROM_MEMORY: usize = 4;

/// A function that returns why the tail can't be read now; none if it can.
#[derive(Clone)]
pub struct TailCheck(pub Arc<dyn Fn() -> Option<String> + Send + Sync>);

impl std::fmt::Debug for TailCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TailCheck")
    }
}

/// The parts of [`Sql`].
#[derive(Debug)]
pub struct SqlParts {
    /// Devices, alerts and rollouts, which queries read as tables.
    pub control: Control,
    /// Readings and everything else in the lake.
    pub lake: Arc<Lake>,
    /// DataFusion with our functions and memory pool.
    pub engine: Engine,
    /// Limits of queries.
    pub limits: SqlLimits,
    /// Whether the tail can be read.
    pub tail: TailCheck,
}

/// Runs queries. Clones share threads, permits and everything else.
#[derive(Debug, Clone)]
pub struct Sql(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: SqlParts,
    threads: WorkThreads,
    /// Queries that run at a time.
    queries: Arc<Semaphore>,
    /// Answers from memory that are written at a time; they don't wait for queries.
    from_memory: Arc<Semaphore>,
    exports: Arc<ExportSlots>,
    damage: KnownDamage,
}

/// The kind of permit that work waits for: work that only reads memory must not wait for long queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Reads files of the lake.
    Queries,
    /// Reads memory alone.
    Memory,
}

/// The state of the lake that an answer was computed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewState {
    /// The Delta version of `telemetry`.
    pub lake_version: i64,
    /// The next offset of the log, per partition.
    pub watermark: Vec<i64>,
}

impl From<&View> for ViewState {
    fn from(view: &View) -> Self {
        Self { lake_version: view.version, watermark: view.watermark.clone() }
    }
}

impl Sql {
    /// Starts the threads that queries run on.
    ///
    /// # Errors
    /// When they can't be started.
    pub fn new(parts: SqlParts) -> std::io::Result<Self> {
        let limits = &parts.limits;
        let threads = WorkThreads::for_queries(limits.threads, limits.stack)?;
        let queries = Arc::new(Semaphore::new(limits.concurrent));
        let exports = ExportSlots::new(limits.exports, limits.export_stall);
        let from_memory = Arc::new(Semaphore::new(FROM_MEMORY));
        let damage = KnownDamage::default();
        Ok(Self(Arc::new(Inner { parts, threads, queries, from_memory, exports, damage })))
    }

    /// The engine's error for its caller, with the damaged file's name if it has met one.
    pub async fn explain(&self, error: &DataFusionError) -> QueryError {
        self.0.damage.explain(self.lake(), error).await
    }

    /// The control database.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.0.parts.control
    }

    /// The lake, with its tail.
    #[must_use]
    pub fn lake(&self) -> &Lake {
        &self.0.parts.lake
    }

    /// DataFusion, with our functions and the memory pool that all queries share.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.0.parts.engine
    }

    /// Limits of queries.
    #[must_use]
    pub fn limits(&self) -> &SqlLimits {
        &self.0.parts.limits
    }

    /// The threads for queries.
    #[must_use]
    pub fn threads(&self) -> Handle {
        self.0.threads.handle()
    }

    pub(crate) fn exports(&self) -> &Arc<ExportSlots> {
        &self.0.exports
    }

    /// Why the tail can't be read now; none if it can.
    #[must_use]
    pub fn tail_fault(&self) -> Option<String> {
        (self.0.parts.tail.0)()
    }

    /// Fails if the tail can't be read now.
    ///
    /// # Errors
    /// A 503 with the reason.
    pub fn require_tail(&self) -> Result<(), QueryError> {
        match self.tail_fault() {
            Some(reason) => Err(QueryError::new(Code::Unavailable, reason)),
            None => Ok(()),
        }
    }

    /// Waits for a permit of a lane.
    ///
    /// # Errors
    /// When the server is stopping.
    pub async fn permit(&self, lane: Lane) -> Result<OwnedSemaphorePermit, QueryError> {
        let permits = match lane {
            Lane::Queries => &self.0.queries,
            Lane::Memory => &self.0.from_memory,
        };
        permit_of(permits).await
    }

    /// Runs work on the threads for queries. Dropping the future ends the work.
    pub(crate) async fn on_threads<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
    ) -> Result<T, QueryError> {
        // A client that is gone drops its request, and with it this handle: nothing computes for nobody.
        let task = AbortOnDropHandle::new(self.threads().spawn(work));
        task.await.map_err(|e| QueryError::internal(&e))?
    }

    /// Runs work that reads the lake: on the threads for queries, with a permit, and within their timeout.
    ///
    /// # Errors
    /// The error of the work, or that it took too long.
    pub async fn run<T, F>(
        &self,
        work: impl FnOnce(Self) -> F + Send + 'static,
    ) -> Result<T, QueryError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, QueryError>> + Send + 'static,
    {
        let (sql, timeout) = (self.clone(), self.limits().timeout);
        let work = self.on_threads(async move {
            // The wait for the permit counts: to the caller it is time that the answer takes.
            let _permit = sql.permit(Lane::Queries).await?;
            work(sql.clone()).await
        });
        tokio::time::timeout(timeout, work).await.map_err(|_| too_late("question", timeout))?
    }

    /// Runs work over a session with lake and tail, as [`Self::run`] does. An error that a damaged file
    /// may have caused is explained with that file's name.
    ///
    /// # Errors
    /// The error of the engine, or that it took too long.
    pub async fn run_over_view<T, F>(
        &self,
        work: impl FnOnce(SessionContext) -> F + Send + 'static,
    ) -> Result<(ViewState, T), QueryError>
    where
        T: Send + 'static,
        F: Future<Output = datafusion::error::Result<T>> + Send + 'static,
    {
        self.require_tail()?;
        let done = self.run(move |sql| async move {
            let view = sql.lake().view(true)?;
            let done = work(sql.session_over(&view)?).await;
            Ok(done.map(|value| (ViewState::from(&view), value)))
        });
        match done.await? {
            Ok(done) => Ok(done),
            // Without the permit: looking for a damaged file may take a while.
            Err(error) => Err(self.explain(&error).await),
        }
    }

    /// A session that knows the tables of a view.
    ///
    /// # Errors
    /// When the engine refuses a table.
    pub fn session_over(&self, view: &View) -> Result<SessionContext, QueryError> {
        let context = self.engine().session();
        for table in Table::ALL {
            if let Some(provider) = view.table(table) {
                context.register_table(table.name(), provider).map_err(|e| from_engine(&e))?;
            }
        }
        Ok(context)
    }
}

/// Waits for one of some permits.
pub(crate) async fn permit_of(of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, QueryError> {
    let stopping = |_| QueryError::new(Code::Unavailable, "the server is stopping");
    Arc::clone(of).acquire_owned().await.map_err(stopping)
}

/// The error of a query that takes too long.
pub(crate) fn too_late(what: &str, timeout: Duration) -> QueryError {
    let detail = format!("the {what} took longer than {} ms", timeout.as_millis());
    QueryError::new(Code::DeadlineExceeded, detail)
}

/// Registers a table's rows under another name; only those of some devices, if any are given.
///
/// # Errors
/// When the engine refuses it.
pub async fn alias_rows(
    context: &SessionContext,
    table: Table,
    alias: &str,
    devices: Option<&[String]>,
) -> datafusion::error::Result<()> {
    let mut rows = context.table_provider(table.name()).await?;
    if let Some(devices) = devices {
        rows = Arc::new(OfDevices::new(rows, devices));
    }
    context.register_table(alias, rows).map(|_| ())
}
