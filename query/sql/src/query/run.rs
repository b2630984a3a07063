//! One query from its request to the first bytes of its answer.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use acuvim_lakehouse::{OfDevices, View, may_be_damage};
use acuvim_model::{Consistency, Scope, SqlFormat, SqlRequest, problem::Code};
use acuvim_tables::Table;
use arrow::datatypes::SchemaRef;
use chrono::Utc;
use datafusion::{
    catalog::TableProvider, error::DataFusionError, execution::memory_pool::MemoryConsumer,
    prelude::SessionContext, scalar::ScalarValue, sql::parser::Statement,
};
use futures::FutureExt as _;
use serde_json::Value;

use super::{
    answer::{AnswerFacts, Rows},
    collect::{Collected, collect},
    row_order::wants_order,
    statement::{parameter, start},
};
use crate::{
    answer::{Answer, AnswerBody},
    engine::{Lane, Sql, ViewState, from_engine},
    error::QueryError,
    gate, tables,
};

/// Runs a request's query, and begins to answer it.
///
/// # Errors
/// A bad query; or that the tail, the lake or control is away.
pub async fn run(
    sql: &Sql,
    request: SqlRequest,
    format: SqlFormat,
    scope: Option<Scope>,
) -> Result<(AnswerFacts, AnswerBody), QueryError> {
    let begun = Instant::now();
    let limits = sql.limits();
    if request.timeout_ms == Some(0) {
        return Err(QueryError::field(
            "timeout_ms",
            "a query needs at least 1 ms; leave it out for all that is allowed",
        ));
    }
    let allowed = u64::try_from(limits.timeout.as_millis()).unwrap_or(u64::MAX);
    let timeout = Duration::from_millis(request.timeout_ms.unwrap_or(allowed).min(allowed));
    let query = Query {
        from: source(sql, &request)?,
        text: request.query,
        params: request.params,
        format,
        scope,
        max_rows: request.max_rows.unwrap_or(limits.max_rows).min(limits.max_rows),
        begun,
    };
    // On threads of their own: planning can't be interrupted, but it need not be waited for.
    let answered = sql.answer(timeout, move |sql| answer(sql, query)).await?;
    metrics::histogram!("acuvim_sql_seconds").record(begun.elapsed());
    Ok(answered)
}

/// The source of a query's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Lake and tail.
    Hot,
    /// The lake as it is now.
    Lake,
    /// The lake as it was at a version of `telemetry`.
    Version(i64),
}

fn source(sql: &Sql, request: &SqlRequest) -> Result<Source, QueryError> {
    match (request.at_version, request.consistency) {
        (Some(_), Some(Consistency::Hot)) => {
            Err(QueryError::field("at_version", "a version has no tail: not with hot"))
        }
        (Some(version), _) => Ok(Source::Version(version)),
        (None, Some(Consistency::Lake)) => Ok(Source::Lake),
        (None, _) => match sql.tail_fault() {
            Some(reason) => Err(QueryError::new(
                Code::Unavailable,
                format!("{reason}; ask again, or with \"consistency\": \"lake\""),
            )),
            None => Ok(Source::Hot),
        },
    }
}

/// A request's query, before it is parsed and planned.
struct Query {
    text: String,
    params: Vec<Value>,
    format: SqlFormat,
    /// The devices that the caller sees; none: all.
    scope: Option<Scope>,
    from: Source,
    max_rows: usize,
    begun: Instant,
}

async fn answer(
    sql: Sql,
    query: Query,
) -> Result<Result<Answer<AnswerFacts>, DataFusionError>, QueryError> {
    let limits = sql.limits();
    // Before the permit: a text that is refused waits for nobody.
    let statement = *gate::check_with(&query.text, &query.params, &limits.gate)?;
    let params = query.params.iter().map(parameter).collect::<Result<Vec<_>, _>>()?;
    let permit = sql.permit(Lane::Queries).await?;
    let view = match query.from {
        Source::Version(version) => sql.lake().view_at(version).await?,
        Source::Lake => sql.lake().view(false)?,
        Source::Hot => sql.lake().view(true)?,
    };
    // Changes of meters cost a query of their own, which other queries need not wait for.
    if query.text.to_ascii_lowercase().contains("counter_delta") {
        sql.lake().refresh_meter_changes(Utc::now().timestamp_micros()).await;
    }
    let context = session(&sql, &view, &statement, query.scope.as_ref()).await?;
    let (schema, rows) = match execute(&sql, &context, statement, params, query.max_rows).await {
        Ok(done) => done,
        Err(error) if matches!(query.from, Source::Version(_)) && may_be_damage(&error) => {
            let text = "its files are not kept any more (lake.keep_files_hours)";
            return Err(QueryError::field("at_version", text));
        }
        Err(error) => return Ok(Err(of_query(error))),
    };
    // An error, since an answer that is cut below the rows that were asked for would look complete.
    if rows.too_many_cells {
        return Err(too_many_cells(limits.max_cells, schema.fields().len()));
    }
    let facts = AnswerFacts {
        row_count: rows.count,
        truncated: rows.truncated,
        view: ViewState::from(&view),
    };
    let Collected { batches, memory, .. } = rows;
    let rows = Rows { schema, batches, facts: facts.clone(), begun: query.begun };
    let pieces = rows.into_pieces(query.format).map_err(|e| QueryError::internal(&e))?;
    Ok(Ok(Answer { facts, pieces, permit, memory: Some(memory) }))
}

/// Executes a statement, and takes its rows up to the caps.
async fn execute(
    sql: &Sql,
    context: &SessionContext,
    statement: Statement,
    params: Vec<ScalarValue>,
    max_rows: usize,
) -> Result<(SchemaRef, Collected), DataFusionError> {
    let rows = async {
        let stream = start(context, statement, params).await?;
        let schema = stream.schema();
        let memory = MemoryConsumer::new("answer").register(&context.runtime_env().memory_pool);
        let rows = collect(stream, max_rows, sql.limits(), memory).await?;
        Ok::<_, DataFusionError>((schema, rows))
    };
    // A function of the engine that panics for some value fails its query, and no other.
    AssertUnwindSafe(rows).catch_unwind().await.unwrap_or_else(|_| Err(panicked()))
}

/// The error of a query that made the engine panic.
fn panicked() -> DataFusionError {
    tracing::error!("a query made the engine panic");
    let text =
        "the engine fails on this query: one of its functions meets a value that it can't take";
    DataFusionError::Execution(text.to_owned())
}

/// The engine calls some failures a bug of its own, among them values beyond a function's range. To the
/// caller each of them is a query that can't run.
fn of_query(error: DataFusionError) -> DataFusionError {
    let DataFusionError::Internal(text) = error.find_root() else { return error };
    tracing::error!(%error, "the engine calls a query's failure a bug of its own");
    let text = text.lines().next().unwrap_or_default();
    DataFusionError::Execution(format!("the engine fails on this query: {text}"))
}

fn too_many_cells(most: usize, columns: usize) -> QueryError {
    let rows = most / columns.max(1);
    QueryError::new(
        Code::Refused,
        format!(
            "the answer has more than {most} cells (sql.max_cells), which with {columns} columns is \
             {rows} rows: name fewer columns, or ask for fewer rows (LIMIT, max_rows)"
        ),
    )
}

/// A session with the tables that a statement names, as far as a scope sees their rows.
async fn session(
    sql: &Sql,
    view: &View,
    statement: &Statement,
    scope: Option<&Scope>,
) -> Result<SessionContext, QueryError> {
    let devices = match scope {
        Some(scope) => Some(sql.control().scoped_device_ids(scope).await?),
        None => None,
    };
    let engine = sql.engine();
    let context = devices.as_ref().map_or_else(|| engine.session(), |d| engine.session_of(d));
    let ordered = wants_order(statement);
    for table in Table::ALL {
        if let Some(provider) = view.table(table) {
            // The order of files costs a merge, which few queries need.
            let provider = if ordered { provider } else { Arc::new(provider.in_any_order()) };
            let provider: Arc<dyn TableProvider> = match &devices {
                Some(devices) => Arc::new(OfDevices::new(provider, devices)),
                None => provider,
            };
            context.register_table(table.name(), provider).map_err(|e| from_engine(&e))?;
        }
    }
    // Each table of control is read whole, so that only those are read that the text names.
    let named = context.state().resolve_table_references(statement).map_err(|e| from_engine(&e))?;
    let names = |name: &str| named.iter().any(|t| t.table().eq_ignore_ascii_case(name));
    if let Some(table) =
        Table::ALL.into_iter().find(|t| view.table(*t).is_none() && names(t.name()))
    {
        let text = format!("it names a version of telemetry: {} has none such", table.name());
        return Err(QueryError::field("at_version", text));
    }
    for (name, table) in tables::control_tables(sql, scope, names).await? {
        context.register_table(name, table).map_err(|e| from_engine(&e))?;
    }
    Ok(context)
}
