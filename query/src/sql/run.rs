//! A query's run: admitted, planned and executed under limits, on one view of the lake.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use acuvim_lakehouse::{OfDevices, View, computing_error, is_store_trouble, may_be_damage};
use acuvim_schemas::{
    api::{Consistency, Scope, SqlColumn, SqlFormat, SqlRequest},
    problem::{Code, Problem},
    tables::Table,
};
use arrow::{array::RecordBatch, datatypes::SchemaRef};
use axum::body::Body;
use chrono::Utc;
use datafusion::{
    catalog::TableProvider,
    error::DataFusionError,
    execution::{context::SQLOptions, memory_pool::MemoryConsumer},
    physical_plan::{SendableRecordBatchStream, execute_stream},
    prelude::{DataFrame, SessionContext},
    scalar::ScalarValue,
    sql::parser::Statement,
};
use futures::FutureExt as _;
use serde_json::Value;

use super::{
    answer::{Found, as_answer, turn},
    collect::{Collected, collect},
    expanded, gate,
    order::wants_order,
    tables,
};
use crate::{App, GateLimits, problem::ApiError};

/// What one query may take.
#[derive(Debug, Clone)]
pub struct SqlLimits {
    /// How large its text may be.
    pub gate: GateLimits,
    /// How long it may take, and takes if it does not say.
    pub timeout: Duration,
    /// How many rows it may answer.
    pub max_rows: usize,
    /// How many cells, rows times columns, it may answer: what an answer costs to write.
    pub max_cells: usize,
    /// How many bytes of rows it may answer.
    pub max_bytes: usize,
    /// How many run at a time; more wait.
    pub concurrent: usize,
    /// How many exports run at a time; more are refused.
    pub exports: usize,
    /// How long the client of one may take nothing before another gets its place.
    pub export_stall: Duration,
    /// How many rows of control's tables a query may read.
    pub max_control_rows: i64,
    /// Threads that all queries share.
    pub threads: usize,
    /// Bytes of stack of each: a plan's depth, which the gate bounds, is walked by recursion.
    pub stack: usize,
}

impl Default for SqlLimits {
    fn default() -> Self {
        Self {
            gate: GateLimits::default(),
            timeout: Duration::from_secs(30),
            max_rows: 100_000,
            max_cells: 10_000_000,
            max_bytes: 64 << 20,
            concurrent: 4,
            exports: 4,
            export_stall: Duration::from_secs(60),
            max_control_rows: 200_000,
            threads: 2,
            stack: 16 << 20,
        }
    }
}

/// What an answer says beside its rows.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub row_count: usize,
    pub truncated: bool,
    pub lake_version: i64,
    pub watermark: Vec<i64>,
}

/// A query's answer.
#[derive(Debug)]
pub(super) struct Outcome {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
    pub facts: Facts,
    pub begun: Instant,
}

impl Outcome {
    pub fn columns(&self) -> Vec<SqlColumn> {
        let column = |f: &Arc<arrow::datatypes::Field>| SqlColumn {
            name: f.name().clone(),
            r#type: f.data_type().to_string(),
        };
        self.schema.fields().iter().map(column).collect()
    }
}

/// Runs a request's query, and begins to answer.
pub(crate) async fn run(
    app: &Arc<App>,
    request: SqlRequest,
    format: SqlFormat,
    scope: Option<Scope>,
) -> Result<(Facts, Body), ApiError> {
    let begun = Instant::now();
    let limits = &app.parts.sql;
    if request.timeout_ms == Some(0) {
        return Err(ApiError::field(
            "timeout_ms",
            "a query needs at least 1 ms; leave it out for all that is allowed",
        ));
    }
    let allowed = u64::try_from(limits.timeout.as_millis()).unwrap_or(u64::MAX);
    let timeout = Duration::from_millis(request.timeout_ms.unwrap_or(allowed).min(allowed));
    let max_rows = request.max_rows.unwrap_or(limits.max_rows).min(limits.max_rows);
    if request.at_version.is_some() && request.consistency == Some(Consistency::Hot) {
        return Err(ApiError::field("at_version", "a version has no tail: not with hot"));
    }
    let hot = request.consistency != Some(Consistency::Lake) && request.at_version.is_none();
    if let Some(reason) = app.status().not_hot.filter(|_| hot) {
        return Err(ApiError::new(
            Code::Unavailable,
            format!("{reason}; ask again, or with \"consistency\": \"lake\""),
        ));
    }
    // On threads of its own: planning can't be interrupted, but it need not be waited for.
    let at_version = request.at_version;
    let (query, params) = (request.query, request.params);
    let asked = Asked { query, params, format, scope, hot, at_version, max_rows, begun };
    let answered = as_answer(app, timeout, move |app| answer(app, asked)).await?;
    metrics::histogram!("acuvim_sql_seconds").record(begun.elapsed());
    Ok(answered)
}

/// What is asked, and by whom.
struct Asked {
    query: String,
    params: Vec<Value>,
    format: SqlFormat,
    /// The devices that the caller sees; none: all.
    scope: Option<Scope>,
    hot: bool,
    /// The version of `telemetry`; none: the newest.
    at_version: Option<i64>,
    max_rows: usize,
    begun: Instant,
}

async fn answer(
    app: Arc<App>,
    asked: Asked,
) -> Result<Result<Found<Facts>, DataFusionError>, ApiError> {
    let limits = &app.parts.sql;
    let statement =
        *gate::check_with(&asked.query, &asked.params, &limits.gate).map_err(ApiError::from)?;
    let params = asked.params.iter().map(parameter).collect::<Result<Vec<_>, _>>()?;
    let permit = turn(&app.queries).await?;
    let view = match asked.at_version {
        Some(version) => app.lake().view_at(version).await?,
        None => app.lake().view(asked.hot)?,
    };
    if asked.query.to_ascii_lowercase().contains("counter_delta") {
        app.lake().learn_meter_changes(Utc::now().timestamp_micros()).await;
    }
    let devices = match &asked.scope {
        Some(scope) => Some(app.control().scoped_device_ids(scope).await?),
        None => None,
    };
    let engine = &app.parts.engine;
    let context = devices.as_ref().map_or_else(|| engine.session(), |d| engine.session_of(d));
    let seen = Seen { scope: asked.scope.as_ref(), devices };
    register(&app, &context, &view, &statement, seen).await?;
    let found = async {
        let stream = start(&context, statement, params).await?;
        let schema = stream.schema();
        let held = MemoryConsumer::new("answer").register(&context.runtime_env().memory_pool);
        let rows = collect(stream, asked.max_rows, limits, held).await?;
        Ok::<_, DataFusionError>((schema, rows))
    };
    // A function of the engine that panics for some value ends its query, and says so.
    let found = AssertUnwindSafe(found).catch_unwind().await;
    let (schema, rows) = match found.unwrap_or_else(|_| Err(panicked())) {
        Ok(found) => found,
        Err(error) if asked.at_version.is_some() && may_be_damage(&error) => {
            let text = "its files are not kept any more (lake.keep_files_hours)";
            return Err(ApiError::field("at_version", text));
        }
        Err(error) => return Ok(Err(of_query(error))),
    };
    if rows.too_many_cells {
        return Err(too_many_cells(limits.max_cells, schema.fields().len()));
    }
    let facts = Facts {
        row_count: rows.count,
        truncated: rows.truncated,
        lake_version: view.version,
        watermark: view.watermark,
    };
    let Collected { batches, held, .. } = rows;
    let outcome = Outcome { schema, batches, facts: facts.clone(), begun: asked.begun };
    let pieces = outcome.into_pieces(asked.format).map_err(|e| ApiError::internal(&e))?;
    Ok(Ok(Found { facts, pieces, permit, memory: Some(held) }))
}

/// Where the engine did not see a value coming that one of its functions can't take.
fn panicked() -> DataFusionError {
    tracing::error!("a query made the engine panic");
    let text =
        "the engine fails on this query: one of its functions meets a value that it can't take";
    DataFusionError::Execution(text.to_owned())
}

/// What the engine calls a bug of its own is, for whoever asks, a query that can't run: functions report
/// values beyond their range so.
fn of_query(error: DataFusionError) -> DataFusionError {
    let DataFusionError::Internal(text) = error.find_root() else { return error };
    tracing::error!(%error, "the engine calls a query's failure a bug of its own");
    let text = text.lines().next().unwrap_or_default();
    DataFusionError::Execution(format!("the engine fails on this query: {text}"))
}

fn too_many_cells(most: usize, columns: usize) -> ApiError {
    let rows = most / columns.max(1);
    ApiError::new(
        Code::Refused,
        format!(
            "the answer has more than {most} cells (sql.max_cells), which with {columns} columns is \
             {rows} rows: name fewer columns, or ask for fewer rows (LIMIT, max_rows)"
        ),
    )
}

/// What a caller sees: everything, or these devices.
struct Seen<'a> {
    scope: Option<&'a Scope>,
    devices: Option<Vec<String>>,
}

async fn register(
    app: &App,
    context: &SessionContext,
    view: &View,
    statement: &Statement,
    Seen { scope, devices }: Seen<'_>,
) -> Result<(), ApiError> {
    let ordered = wants_order(statement);
    for table in Table::ALL {
        if let Some(provider) = view.table(table) {
            let provider = if ordered { provider } else { Arc::new(provider.in_any_order()) };
            let provider: Arc<dyn TableProvider> = match &devices {
                Some(devices) => Arc::new(OfDevices::new(provider, devices)),
                None => provider,
            };
            context.register_table(table.name(), provider).map_err(|e| from_engine(&e))?;
        }
    }
    let state = context.state();
    let asked = state.resolve_table_references(statement).map_err(|e| from_engine(&e))?;
    let asks = |name: &str| asked.iter().any(|t| t.table().eq_ignore_ascii_case(name));
    if let Some(table) = Table::ALL.into_iter().find(|t| view.table(*t).is_none() && asks(t.name()))
    {
        let text = format!("it names a version of telemetry: {} has none such", table.name());
        return Err(ApiError::field("at_version", text));
    }
    for (name, table) in tables::control_tables(app, scope, asks).await? {
        context.register_table(name, table).map_err(|e| from_engine(&e))?;
    }
    Ok(())
}

/// A person's statement that is asked again and again, planned under the checks of any query.
pub(crate) async fn frame_of(
    context: &SessionContext,
    text: &str,
    limits: &GateLimits,
) -> Result<DataFrame, DataFusionError> {
    let refused = |problem: Problem| DataFusionError::Plan(problem.detail);
    let statement = *gate::check(text, limits).map_err(refused)?;
    let plan = context.state().statement_to_plan(statement).await?;
    expanded::check(&plan)?;
    Ok(DataFrame::new(context.state(), plan))
}

async fn start(
    context: &SessionContext,
    statement: Statement,
    params: Vec<ScalarValue>,
) -> Result<SendableRecordBatchStream, DataFusionError> {
    let state = context.state();
    let plan = state.statement_to_plan(statement).await?;
    // The gate has seen to it already; should it ever miss something, this does not.
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(&plan)?;
    expanded::check(&plan)?;
    let wanted = plan.get_parameter_names()?.len();
    if wanted != params.len() {
        let detail = format!("the query has {wanted} parameters, {} were given", params.len());
        return Err(DataFusionError::Plan(detail));
    }
    let plan = if params.is_empty() { plan } else { plan.with_param_values(params)? };
    let plan = state.create_physical_plan(&plan).await?;
    execute_stream(plan, context.task_ctx())
}

fn parameter(value: &Value) -> Result<ScalarValue, ApiError> {
    match value {
        Value::Null => Ok(ScalarValue::Null),
        Value::Bool(yes) => Ok(ScalarValue::Boolean(Some(*yes))),
        Value::String(text) => Ok(ScalarValue::Utf8(Some(text.clone()))),
        Value::Number(n) => match n.as_i64() {
            Some(whole) => Ok(ScalarValue::Int64(Some(whole))),
            None => Ok(ScalarValue::Float64(n.as_f64())),
        },
        Value::Array(_) | Value::Object(_) => {
            Err(ApiError::field("params", "a parameter is a text, number, boolean or null"))
        }
    }
}

/// How long a damaged file is looked for, and how long the answer holds.
const LOOK: Duration = Duration::from_secs(10);
const HOLDS: Duration = Duration::from_secs(300);

/// What was found the last time, and when.
pub(crate) type Damage = tokio::sync::Mutex<Option<(Instant, Vec<String>)>>;

/// What the engine says, with the damaged file's name if it has met one.
pub(crate) async fn explain(app: &App, error: &DataFusionError) -> ApiError {
    if !may_be_damage(error) {
        return from_engine(error);
    }
    // One looks, for all who ask meanwhile.
    let mut known = app.damage.lock().await;
    if known.as_ref().is_none_or(|(at, _)| at.elapsed() >= HOLDS) {
        let Ok(files) = app.lake().damaged_files(LOOK).await else { return from_engine(error) };
        *known = Some((Instant::now(), files));
    }
    match known.as_ref() {
        Some((_, files)) if !files.is_empty() => {
            let files = files.join(", ");
            ApiError::new(Code::Damaged, format!("{files}: ask for other days or devices"))
        }
        _ => from_engine(error),
    }
}

/// What the engine says, as the caller can act on it.
pub(crate) fn from_engine(error: &DataFusionError) -> ApiError {
    let line = |text: String| {
        text.lines().next().unwrap_or_default().chars().take(500).collect::<String>()
    };
    // Wherever it was computed, also in a reader of files.
    if let Some(computed) = computing_error(error) {
        return ApiError::new(Code::BadQuery, line(computed.to_string()));
    }
    let too_much = || {
        ApiError::new(
            Code::OutOfMemory,
            "the query needs more memory or disk than it may take; narrow its time or its columns",
        )
    };
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => too_much(),
        // DataFusion reports a spill over its cap as one of several plain IO errors.
        root if root.to_string().contains("exceeded the allowable limit") => too_much(),
        _ if is_store_trouble(error) => {
            tracing::info!(%error, "a query met a lake that is away");
            ApiError::new(Code::Unavailable, "the lake is away; try again")
        }
        DataFusionError::SQL(..)
        | DataFusionError::Plan(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::NotImplemented(_)
        | DataFusionError::Diagnostic(..)
        | DataFusionError::Execution(_)
        | DataFusionError::ArrowError(..) => {
            ApiError::new(Code::BadQuery, line(error.find_root().to_string()))
        }
        _ => ApiError::internal(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::error::ArrowError;
    use parquet::errors::ParquetError;

    #[test]
    fn a_query_that_divides_by_zero_is_told_so_wherever_it_was_computed() {
        let in_a_reader = ParquetError::from(ArrowError::ComputeError("divided by zero".into()));
        for error in [
            DataFusionError::from(ArrowError::DivideByZero),
            DataFusionError::from(ArrowError::CastError("'x' is no number".to_owned())),
            DataFusionError::from(in_a_reader),
            DataFusionError::Execution("a bad argument".to_owned()),
        ] {
            assert_eq!(from_engine(&error).problem.status, 400, "{error}");
        }
        let broken = DataFusionError::from(ParquetError::General("a broken page".to_owned()));
        assert_eq!(from_engine(&broken).problem.status, 503);
    }
}
