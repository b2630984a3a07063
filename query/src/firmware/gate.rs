//! The health gate: a SELECT over the lake and the rollout's devices, asked once a stage has soaked.

use std::sync::Arc;

use acuvim_firmware_registry::GateAnswer;
use acuvim_schemas::{api::UpdateState, tables::timestamp};
use arrow::{
    array::{BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use chrono::{DateTime, Utc};
use datafusion::{catalog::TableProvider, datasource::MemTable, prelude::SessionContext};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    App,
    problem::ApiError,
    sql::{check_query, control_tables, frame_of, from_engine, on_threads, value_rows},
};

/// The table of a gate.
const TABLE: &str = "rollout_devices";

/// A device of a rollout, for the table.
type Member = (String, UpdateState, DateTime<Utc>);

/// Checks that a gate can be asked.
pub(crate) async fn check_gate(app: &Arc<App>, sql: &str) -> Result<(), ApiError> {
    let fault = |error: ApiError| match error.problem.status {
        400 => ApiError::field("rollout.health_gate_sql", error.problem.detail),
        _ => error,
    };
    check_query(sql, &app.parts.sql.gate).map_err(|e| fault(e.into()))?;
    let tables = tables(app, sql, &[]).await?;
    let (text, limits) = (sql.to_owned(), app.parts.sql.gate);
    let planned = on_threads(app, move |context| async move {
        register(&context, tables)?;
        frame_of(&context, &text, &limits).await.map(|_| ())
    });
    planned.await.map(|_| ()).map_err(fault)
}

/// Asks a rollout's gate.
pub(super) async fn ask(app: &Arc<App>, rollout: Uuid, sql: &str) -> GateAnswer {
    match row(app, rollout, sql).await {
        Ok((true, row)) => GateAnswer::Healthy(row),
        Ok((false, row)) => GateAnswer::Unhealthy(row),
        // Behind a start the tail is still being read.
        Err(error) if error.problem.status == 503 => GateAnswer::Away,
        Err(error) => GateAnswer::Failed(error.problem.detail),
    }
}

async fn row(app: &Arc<App>, rollout: Uuid, sql: &str) -> Result<(bool, Value), ApiError> {
    let members = app.control().rollout_states(rollout).await?;
    let tables = tables(app, sql, &members).await?;
    // One that an earlier version let in is checked as well.
    let (text, limits) = (sql.to_owned(), app.parts.sql.gate);
    let (_, _, (names, batches)) = on_threads(app, move |context| async move {
        register(&context, tables)?;
        let rows = frame_of(&context, &text, &limits).await?.limit(0, Some(1))?;
        let names: Vec<String> = rows.schema().fields().iter().map(|f| f.name().clone()).collect();
        Ok((names, rows.collect().await?))
    })
    .await?;
    let row = value_rows(&batches).into_iter().next().unwrap_or_default();
    let healthy = matches!(row.first(), Some(Value::Bool(true)));
    let shown: Map<String, Value> = names.into_iter().zip(row).collect();
    Ok((healthy, Value::Object(shown)))
}

/// The tables beside the lake's that a gate may read.
async fn tables(
    app: &App,
    sql: &str,
    members: &[Member],
) -> Result<Vec<(&'static str, Arc<dyn TableProvider>)>, ApiError> {
    let rows = rows(members).map_err(|e| ApiError::internal(&e))?;
    let own = MemTable::try_new(schema(), vec![vec![rows]]).map_err(|e| from_engine(&e))?;
    let mut tables = control_tables(app, None, |name| name != TABLE && sql.contains(name)).await?;
    tables.push((TABLE, Arc::new(own)));
    Ok(tables)
}

fn register(
    context: &SessionContext,
    tables: Vec<(&'static str, Arc<dyn TableProvider>)>,
) -> datafusion::error::Result<()> {
    for (name, table) in tables {
        context.register_table(name, table)?;
    }
    Ok(())
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("device_id", DataType::Utf8, false),
        Field::new("state", DataType::Utf8, false),
        Field::new("updated", DataType::Boolean, false),
        Field::new("since", timestamp(), false),
    ]))
}

/// A device counts as updated once it has the image: also the one that fell silent over it.
fn rows(members: &[Member]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let touched = |state: UpdateState| {
        state.is_failure() || matches!(state, UpdateState::Installing | UpdateState::Confirmed)
    };
    let since = members.iter().map(|(_, _, since)| since.timestamp_micros());
    RecordBatch::try_new(
        schema(),
        vec![
            Arc::new(StringArray::from_iter_values(members.iter().map(|(id, ..)| id))),
            Arc::new(StringArray::from_iter_values(members.iter().map(|(_, s, _)| s.as_str()))),
            Arc::new(members.iter().map(|(_, s, _)| Some(touched(*s))).collect::<BooleanArray>()),
            Arc::new(TimestampMicrosecondArray::from_iter_values(since).with_timezone("UTC")),
        ],
    )
}
