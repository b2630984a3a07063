//! The table `replays`.

use std::sync::Arc;

use acuvim_model::Scope;
use acuvim_tables::timestamp;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;

use super::columns::{check_total, key, table, texts, times};
use crate::{engine::Sql, error::QueryError};

pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        key("identity"),
        key("device_id"),
        Field::new("at", timestamp(), false),
        key("replayed_by"),
        key("outcome"),
    ]))
}

/// The replays of dead letters.
pub(super) async fn rows(
    sql: &Sql,
    scope: Option<&Scope>,
) -> Result<Arc<dyn TableProvider>, QueryError> {
    let limit = sql.limits().max_control_rows;
    // One more than may be read shows that there are too many: a part of them would be a wrong answer.
    let replays = sql.control().replays(scope, limit.saturating_add(1)).await?;
    check_total("replays", i64::try_from(replays.len()).unwrap_or(i64::MAX), limit)?;
    let columns = vec![
        texts(&replays, |r| Some(r.identity.as_str())),
        texts(&replays, |r| Some(r.device_id.as_str())),
        times(&replays, |r| Some(r.at)),
        texts(&replays, |r| Some(r.replayed_by.as_str())),
        texts(&replays, |r| Some(r.outcome.as_str())),
    ];
    table(&schema(), columns)
}
