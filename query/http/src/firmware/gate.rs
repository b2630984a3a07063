//! A rollout's health gate: a SELECT over the lake and the rollout's devices, asked once a stage has soaked.

use std::{sync::Arc, time::Duration};

use acuvim_model::UpdateState;
use acuvim_query_sql::{
    QueryError, Sql, check_query,
    encode::value_rows,
    engine::from_engine,
    query::checked_frame,
    tables::{NamedTable, control_tables},
};
use acuvim_rollout::GateAnswer;
use acuvim_tables::timestamp;
use arrow::{
    array::{BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use chrono::{DateTime, Utc};
use datafusion::{datasource::MemTable, prelude::SessionContext};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{jobs::rollouts::HealthGate, problem::ApiError};

/// The table of the rollout's devices.
const TABLE: &str = "rollout_devices";

/// A device of the rollout.
#[derive(Debug)]
struct Member {
    device_id: String,
    state: UpdateState,
    since: DateTime<Utc>,
}

/// Checks that a gate's query passes and can be planned.
pub(super) async fn check_gate(sql: &Sql, query: &str) -> Result<(), ApiError> {
    let of_field = |error: QueryError| match error.problem.status {
        400 => ApiError::field("rollout.health_gate_sql", error.problem.detail),
        _ => error.into(),
    };
    let limits = sql.limits().gate;
    check_query(query, &limits).map_err(|problem| of_field(problem.into()))?;
    // The rollout does not exist yet: the query is planned over an empty table of its devices.
    let tables = tables(sql, query, &[]).await.map_err(ApiError::from)?;
    let text = query.to_owned();
    let planned = sql.run_over_view(move |context| async move {
        register(&context, tables)?;
        checked_frame(&context, &text, &limits).await.map(|_| ())
    });
    planned.await.map(|_| ()).map_err(of_field)
}

/// Gates that run on the threads for queries.
pub(crate) struct SqlGate(pub Sql);

impl HealthGate for SqlGate {
    async fn ask(&self, rollout: Uuid, query: &str) -> GateAnswer {
        match first_row(&self.0, rollout, query).await {
            Ok(FirstRow { is_true: true, shown }) => GateAnswer::Healthy(shown),
            Ok(FirstRow { is_true: false, shown }) => GateAnswer::Unhealthy(shown),
            // After a start the tail is still being read.
            Err(error) if error.problem.status == 503 => GateAnswer::Away,
            Err(error) => GateAnswer::Failed(error.problem.detail),
        }
    }

    fn timeout(&self) -> Duration {
        self.0.limits().timeout
    }

    fn is_up_to_date(&self) -> bool {
        self.0.tail_fault().is_none()
    }
}

/// The first row of a gate's answer.
struct FirstRow {
    /// Whether its first column is true.
    is_true: bool,
    /// All columns, for people.
    shown: Value,
}

async fn first_row(sql: &Sql, rollout: Uuid, query: &str) -> Result<FirstRow, QueryError> {
    let members = sql.control().rollout_states(rollout).await?;
    let member = |(device_id, state, since)| Member { device_id, state, since };
    let members: Vec<Member> = members.into_iter().map(member).collect();
    let tables = tables(sql, query, &members).await?;
    // Checked again: the gate's query may have been let in by an earlier version with other limits.
    let (text, limits) = (query.to_owned(), sql.limits().gate);
    let asked = sql.run_over_view(move |context| async move {
        register(&context, tables)?;
        let rows = checked_frame(&context, &text, &limits).await?.limit(0, Some(1))?;
        let names: Vec<String> = rows.schema().fields().iter().map(|f| f.name().clone()).collect();
        Ok((names, rows.collect().await?))
    });
    let (_, (names, batches)) = asked.await?;
    let row = value_rows(&batches).into_iter().next().unwrap_or_default();
    let is_true = matches!(row.first(), Some(Value::Bool(true)));
    let shown: Map<String, Value> = names.into_iter().zip(row).collect();
    Ok(FirstRow { is_true, shown: Value::Object(shown) })
}

/// The tables that a gate may read besides those of the lake.
async fn tables(sql: &Sql, query: &str, members: &[Member]) -> Result<Vec<NamedTable>, QueryError> {
    let rows = rows(members).map_err(|e| QueryError::internal(&e))?;
    let own = MemTable::try_new(schema(), vec![vec![rows]]).map_err(|e| from_engine(&e))?;
    let named = |name: &str| name != TABLE && query.contains(name);
    let mut tables = control_tables(sql, None, named).await?;
    tables.push((TABLE, Arc::new(own)));
    Ok(tables)
}

fn register(context: &SessionContext, tables: Vec<NamedTable>) -> datafusion::error::Result<()> {
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

/// A device counts as updated once it has the image, also if it fell silent after that.
fn rows(members: &[Member]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let is_updated = |state: UpdateState| {
        state.is_failure() || matches!(state, UpdateState::Installing | UpdateState::Confirmed)
    };
    let ids = members.iter().map(|member| member.device_id.as_str());
    let states = members.iter().map(|member| member.state.as_str());
    let updated = members.iter().map(|member| Some(is_updated(member.state)));
    let since = members.iter().map(|member| member.since.timestamp_micros());
    RecordBatch::try_new(
        schema(),
        vec![
            Arc::new(StringArray::from_iter_values(ids)),
            Arc::new(StringArray::from_iter_values(states)),
            Arc::new(updated.collect::<BooleanArray>()),
            Arc::new(TimestampMicrosecondArray::from_iter_values(since).with_timezone("UTC")),
        ],
    )
}
