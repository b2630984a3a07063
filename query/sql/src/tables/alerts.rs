//! The table `alerts`.

use std::sync::Arc;

use acuvim_control::AlertFilter;
use acuvim_model::Scope;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;

use super::columns::{
    check_total, flag, flags, key, numbers, reals, table, text, texts, time, times,
};
use crate::{engine::Sql, error::QueryError};

pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        key("id"),
        text("device_id"),
        text("alert_type"),
        text("severity"),
        text("message"),
        Field::new("value", DataType::Float64, true),
        Field::new("threshold", DataType::Float64, true),
        text("origin"),
        text("rule_id"),
        Field::new("rule_version", DataType::Int64, true),
        text("incident_id"),
        text("resolution"),
        text("acknowledged_by"),
        flag("shadow"),
        flag("backfilled"),
        flag("silenced"),
        flag("withdrawn"),
        flag("acknowledged"),
        time("created_at"),
        time("raised_at"),
        time("resolved_at"),
        time("acknowledged_at"),
    ]))
}

/// The alerts as they are now, those of rules that only record included.
pub(super) async fn rows(
    sql: &Sql,
    scope: Option<&Scope>,
) -> Result<Arc<dyn TableProvider>, QueryError> {
    let limit = sql.limits().max_control_rows;
    let mut alerts = Vec::new();
    // A filter selects one of both, and the table has both.
    for shadow in [false, true] {
        let filter = AlertFilter { limit, shadow, withdrawn: true, ..AlertFilter::default() };
        let (found, total) = sql.control().alerts(&filter, scope).await?;
        check_total("alerts", total, limit)?;
        alerts.extend(found);
    }
    let columns = vec![
        texts(&alerts, |a| Some(a.id.to_string())),
        texts(&alerts, |a| a.device_id.clone()),
        texts(&alerts, |a| Some(a.alert_type.clone())),
        texts(&alerts, |a| Some(a.severity.as_str().to_owned())),
        texts(&alerts, |a| Some(a.message.clone())),
        reals(&alerts, |a| a.value),
        reals(&alerts, |a| a.threshold),
        texts(&alerts, |a| Some(a.origin.as_str().to_owned())),
        texts(&alerts, |a| a.rule_id.map(|id| id.to_string())),
        numbers(&alerts, |a| a.rule_version),
        texts(&alerts, |a| a.incident_id.map(|id| id.to_string())),
        texts(&alerts, |a| a.resolution.clone()),
        texts(&alerts, |a| a.acknowledged_by.clone()),
        flags(&alerts, |a| a.shadow),
        flags(&alerts, |a| a.backfilled),
        flags(&alerts, |a| a.silenced),
        flags(&alerts, |a| a.withdrawn),
        flags(&alerts, |a| a.acknowledged),
        times(&alerts, |a| Some(a.created_at)),
        times(&alerts, |a| Some(a.raised_at)),
        times(&alerts, |a| a.resolved_at),
        times(&alerts, |a| a.acknowledged_at),
    ];
    table(&schema(), columns)
}
