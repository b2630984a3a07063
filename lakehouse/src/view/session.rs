//! The query engine: DataFusion sessions that share one runtime with bounded memory and spill space.

use std::{path::PathBuf, sync::Arc};

use acuvim_wire::Micros;
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

use super::{
    functions,
    meters::{KnownMeters, Meters},
};

/// The resources that all queries together may use.
#[derive(Debug, Clone)]
pub struct EngineLimits {
    /// Memory for sorts, joins and aggregates, in bytes.
    pub memory: usize,
    /// Disk space for spilling, in bytes.
    pub spill: u64,
    /// The spill folder; the system's temporary folder if none.
    pub spill_path: Option<PathBuf>,
    /// The number of threads of one query.
    pub parallelism: usize,
}

impl Default for EngineLimits {
    fn default() -> Self {
        Self { memory: 256 << 20, spill: 4 << 30, spill_path: None, parallelism: 2 }
    }
}

/// Creates sessions that share a runtime. Clones share it too.
#[derive(Debug, Clone)]
pub struct Engine {
    runtime: Arc<RuntimeEnv>,
    parallelism: usize,
    known: KnownMeters,
}

impl Engine {
    /// A runtime with these limits. Queries can reach no object stores but the lake's.
    ///
    /// # Errors
    /// When the spill folder can't be used.
    pub fn new(limits: &EngineLimits) -> Result<Self> {
        // Fair shares: one large query spills, instead of leaving nothing to the others.
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

    /// The limits of the fleet's counters, as they are known now.
    #[must_use]
    pub fn meters(&self) -> Arc<Meters> {
        self.known.meters()
    }

    /// The same; none until they were loaded.
    #[must_use]
    pub fn known_terms(&self) -> Option<Arc<Meters>> {
        self.known.loaded()
    }

    /// Sets the limits of the fleet's counters, which queries and rollups use from now on.
    pub fn set_meters(&self, meters: Meters) {
        self.known.set_meters(meters);
    }

    /// The times at which a device's meter was replaced, in order, as far as they are known.
    #[must_use]
    pub fn meter_changes(&self, device_id: &str) -> Vec<Micros> {
        self.known.changes().get(device_id).cloned().unwrap_or_default()
    }

    /// A session for a caller who may see only these devices: its functions know no other meters.
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

    /// A session for merges. Batches are small, because a merge holds one of each file.
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
        // It reserves memory for all rows of a LIMIT in advance, outside the memory pool.
        options.optimizer.enable_topk_aggregation = false;
        // Under a LIMIT, DataFusion 55 ignores that the streams of a scan are sorted, and lets an idle
        // one read files of another. The rows are then unordered, and the LIMIT takes the wrong ones.
        options.execution.enable_file_stream_work_stealing = false;
        // Scans must produce the types of the tables' schemas, which code here downcasts to.
        options.execution.parquet.schema_force_view_types = false;
        options.sql_parser.map_string_types_to_utf8view = false;
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::clone(&self.runtime))
            .with_default_features()
            .build();
        let context = SessionContext::new_with_state(state);
        // Registering fails only for planners that the state does not accept.
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

/// The number of largest memory consumers that an out-of-memory error names.
const TOP_CONSUMERS: std::num::NonZeroUsize = std::num::NonZeroUsize::MIN;

/// Divides decimals as floats. Readings are decimals, and decimal division truncates digits.
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

/// An object-store registry without the local file system that DataFusion registers by default.
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

#[cfg(test)]
mod tests;
