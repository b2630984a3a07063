//! DataFusion sessions over the lake: one runtime, with its memory and spill bounded, for all.

use std::{path::PathBuf, sync::Arc};

use acuvim_schemas::Micros;
use datafusion::{
    arrow::datatypes::DataType,
    common::DFSchema,
    error::Result,
    execution::{
        SessionStateBuilder,
        disk_manager::DiskManagerBuilder,
        memory_pool::{FairSpillPool, TrackConsumersPool},
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
    logical_expr::{
        ExprSchemable as _, Operator, cast,
        planner::{ExprPlanner, PlannerResult, RawBinaryExpr},
    },
    prelude::{SessionConfig, SessionContext},
};
use stores::Stores;

use crate::{Meters, functions, meters::KnownMeters};

/// What all queries together may take.
#[derive(Debug, Clone)]
pub struct EngineLimits {
    /// Bytes of memory for sorts, joins and aggregates.
    pub memory: usize,
    /// Bytes of disk for what does not fit.
    pub spill: u64,
    /// Where it spills to; the system's temporary folder if none.
    pub spill_path: Option<PathBuf>,
    /// Threads of one query.
    pub parallelism: usize,
}

impl Default for EngineLimits {
    fn default() -> Self {
        Self { memory: 256 << 20, spill: 4 << 30, spill_path: None, parallelism: 2 }
    }
}

/// Makes sessions that share a runtime.
#[derive(Debug, Clone)]
pub struct Engine {
    runtime: Arc<RuntimeEnv>,
    parallelism: usize,
    known: KnownMeters,
}

impl Engine {
    /// A runtime under these limits. Its object stores are the lake's alone.
    ///
    /// # Errors
    /// When the spill folder can't be used.
    pub fn new(limits: &EngineLimits) -> Result<Self> {
        let pool = TrackConsumersPool::new(FairSpillPool::new(limits.memory), TOP_CONSUMERS);
        let disk = DiskManagerBuilder::default().with_max_temp_directory_size(limits.spill);
        let mut builder = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_disk_manager_builder(disk)
            .with_object_store_registry(Arc::new(Stores::default()));
        if let Some(path) = &limits.spill_path {
            builder = builder.with_temp_file_path(path);
        }
        let runtime = builder.build_arc()?;
        Ok(Self { runtime, parallelism: limits.parallelism, known: KnownMeters::default() })
    }

    /// What the fleet's counters can do, as it is known at present.
    #[must_use]
    pub fn meters(&self) -> Arc<Meters> {
        self.known.meters()
    }

    /// The same, once it has been learnt.
    #[must_use]
    pub fn known_terms(&self) -> Option<Arc<Meters>> {
        self.known.learnt()
    }

    /// Learns what the fleet's counters can do: whatever is counted from now on is counted by it.
    pub fn set_meters(&self, meters: Meters) {
        self.known.set_meters(meters);
    }

    /// When a device's meter was another, in order, as far as that was learnt.
    #[must_use]
    pub fn meter_changes(&self, device_id: &str) -> Vec<Micros> {
        self.known.changes().get(device_id).cloned().unwrap_or_default()
    }

    /// A session whose functions know nothing of the meters of others than these devices.
    #[must_use]
    pub fn session_of(&self, devices: &[String]) -> SessionContext {
        let known = Self { known: self.known.of(devices), ..self.clone() };
        known.session()
    }

    pub(crate) const fn known_meters(&self) -> &KnownMeters {
        &self.known
    }

    /// A session without tables.
    #[must_use]
    pub fn session(&self) -> SessionContext {
        self.session_with(self.parallelism, 8192)
    }

    /// A session for merges: narrow batches, since many files are open at once.
    pub(crate) fn merging(&self, batch_size: usize) -> SessionContext {
        self.session_with(1, batch_size)
    }

    fn session_with(&self, partitions: usize, batch_size: usize) -> SessionContext {
        let mut config = SessionConfig::new()
            .with_target_partitions(partitions)
            .with_batch_size(batch_size)
            .with_information_schema(false)
            .with_parquet_pruning(true);
        let options = config.options_mut();
        options.execution.time_zone = Some("UTC".to_owned());
        // It makes room for as many rows as a LIMIT says before it has any, outside the pool.
        options.optimizer.enable_topk_aggregation = false;
        // Under a limit DataFusion 55 forgets that a scan's streams are sorted, and lets one that is
        // done read on in another's files: rows in no order, of which a limit takes the wrong ones.
        options.execution.enable_file_stream_work_stealing = false;
        options.execution.parquet.schema_force_view_types = false;
        options.sql_parser.map_string_types_to_utf8view = false;
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::clone(&self.runtime))
            .with_default_features()
            .build();
        let context = SessionContext::new_with_state(state);
        // Registering fails only for a planner that the state refuses; ours it takes.
        let state = context.state_ref();
        let registered = datafusion::execution::FunctionRegistry::register_expr_planner(
            &mut *state.write(),
            Arc::new(FloatDivision),
        );
        debug_assert!(registered.is_ok());
        functions::register(&context, &self.known);
        context
    }
}

/// How many of the largest consumers an out-of-memory error names.
const TOP_CONSUMERS: std::num::NonZeroUsize = std::num::NonZeroUsize::MIN;

/// Readings are decimals, and a decimal division cuts digits off: a division of two of them is a
/// float division.
#[derive(Debug)]
struct FloatDivision;

impl ExprPlanner for FloatDivision {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let decimal =
            |t: DataType| matches!(t, DataType::Decimal128(..) | DataType::Decimal256(..));
        let is_division = expr.op == datafusion::sql::sqlparser::ast::BinaryOperator::Divide;
        let divides = is_division
            && (expr.left.get_type(schema).is_ok_and(decimal)
                || expr.right.get_type(schema).is_ok_and(decimal));
        if !divides {
            return Ok(PlannerResult::Original(expr));
        }
        let float = |e| cast(e, DataType::Float64);
        Ok(PlannerResult::Planned(datafusion::logical_expr::binary_expr(
            float(expr.left),
            Operator::Divide,
            float(expr.right),
        )))
    }
}

/// An object-store registry that holds what the lake registers, and no local files.
mod stores {
    use std::{
        collections::HashMap,
        sync::{Arc, PoisonError, RwLock},
    };

    use datafusion::{
        error::{DataFusionError, Result},
        execution::object_store::ObjectStoreRegistry,
    };
    use object_store::ObjectStore;
    use url::Url;

    #[derive(Debug, Default)]
    pub(super) struct Stores(RwLock<HashMap<String, Arc<dyn ObjectStore>>>);

    impl ObjectStoreRegistry for Stores {
        fn register_store(
            &self,
            url: &Url,
            store: Arc<dyn ObjectStore>,
        ) -> Option<Arc<dyn ObjectStore>> {
            self.0.write().unwrap_or_else(PoisonError::into_inner).insert(key(url), store)
        }

        fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
            let stores = self.0.read().unwrap_or_else(PoisonError::into_inner);
            stores.get(&key(url)).cloned().ok_or_else(|| {
                DataFusionError::Plan("only the lake's tables can be read".to_owned())
            })
        }
    }

    fn key(url: &Url) -> String {
        format!("{}://{}", url.scheme(), url.authority())
    }
}
