//! The tables of a query that are not the lake's, and the list of all of them.

use std::sync::Arc;

use acuvim_control::{AlertFilter, DeviceFilter};
use acuvim_schemas::{
    api::{Alert, Device, Scope},
    problem::Code,
    reading::READINGS,
    tables::{Table, timestamp},
};
use arrow::{
    array::{
        ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
        TimestampMicrosecondArray,
    },
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use chrono::{DateTime, Utc};
use datafusion::{catalog::TableProvider, datasource::MemTable};
use serde::Serialize;
use utoipa::ToSchema;

use super::updates;
use crate::{App, problem::ApiError};

/// The tables of control.
const DEVICES: &str = "devices";
const ALERTS: &str = "alerts";
const REPLAYS: &str = "replays";

/// A table that a query can read.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TableInfo {
    name: String,
    description: String,
    columns: Vec<ColumnInfo>,
}

/// A column of a table.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ColumnInfo {
    name: String,
    /// The Arrow type.
    r#type: String,
    nullable: bool,
    /// The unit of a reading.
    unit: Option<String>,
    description: Option<String>,
}

/// Every table, with its columns.
pub(crate) fn tables() -> Vec<TableInfo> {
    let lake =
        Table::ALL.into_iter().map(|table| (table.name(), table.description(), table.schema()));
    let devices = (DEVICES, "Every device that has been heard of", schema());
    let alerts =
        (ALERTS, "Every alert as it is now, those that only record included", alert_schema());
    let replays =
        (REPLAYS, "Dead letters that were brought again, and what became of them", replay_schema());
    lake.chain([devices, alerts, replays])
        .chain(updates::described())
        .map(|(name, description, schema)| TableInfo {
            name: name.to_owned(),
            description: description.to_owned(),
            columns: schema.fields().iter().map(|f| column(f)).collect(),
        })
        .collect()
}

/// The tables of control that are asked for, with what a scope sees of them.
pub(crate) async fn control_tables(
    app: &App,
    scope: Option<&Scope>,
    asks: impl Fn(&str) -> bool,
) -> Result<Vec<(&'static str, Arc<dyn TableProvider>)>, ApiError> {
    let mut found = Vec::new();
    if asks(DEVICES) {
        found.push((DEVICES, devices(app, scope).await?));
    }
    if asks(ALERTS) {
        found.push((ALERTS, alerts(app, scope).await?));
    }
    if asks(REPLAYS) {
        found.push((REPLAYS, replays(app, scope).await?));
    }
    if asks(updates::FIRMWARE) {
        found.push((updates::FIRMWARE, updates::firmware(app).await?));
    }
    if asks(updates::ROLLOUTS) {
        found.push((updates::ROLLOUTS, updates::rollouts(app, scope).await?));
    }
    if asks(updates::ROLLOUT_DEVICES) {
        found.push((updates::ROLLOUT_DEVICES, updates::rollout_devices(app, scope).await?));
    }
    Ok(found)
}

fn column(field: &Field) -> ColumnInfo {
    let reading = READINGS.iter().find(|r| r.name == field.name());
    ColumnInfo {
        name: field.name().clone(),
        r#type: field.data_type().to_string(),
        nullable: field.is_nullable(),
        unit: reading.map(|r| r.unit.to_owned()),
        description: reading.map(|r| r.description.to_owned()),
    }
}

/// The devices as they are now.
async fn devices(app: &App, scope: Option<&Scope>) -> Result<Arc<dyn TableProvider>, ApiError> {
    let limit = app.parts.sql.max_control_rows;
    let filter = DeviceFilter { limit, ..DeviceFilter::default() };
    let (devices, total) = app.control().devices(&filter, scope).await?;
    if total > limit {
        let detail = format!("{total} devices are more than a query may read ({limit})");
        return Err(ApiError::new(Code::Refused, detail));
    }
    let rows = rows(&devices).map_err(|e| ApiError::internal(&e))?;
    let table = MemTable::try_new(schema(), vec![vec![rows]]);
    Ok(Arc::new(table.map_err(|e| ApiError::internal(&e))?))
}

fn schema() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8, true);
    Arc::new(Schema::new(vec![
        Field::new("device_id", DataType::Utf8, false),
        text("name"),
        text("mac_address"),
        text("imei"),
        text("iccid"),
        text("hardware"),
        text("firmware_version"),
        text("meter_serial"),
        text("status"),
        Field::new("last_heartbeat", timestamp(), true),
        Field::new("last_telemetry", timestamp(), true),
        text("connection_type"),
        Field::new("signal_strength", DataType::Int64, true),
        text("group_id"),
        Field::new("nominal_voltage_v", DataType::Float64, true),
        Field::new("nominal_frequency_hz", DataType::Float64, true),
        Field::new("max_power_kw", DataType::Float64, true),
        Field::new("counter_end", DataType::Float64, true),
        text("time_zone"),
        text("replaces"),
        text("replaced_by"),
        Field::new("replaced_at", timestamp(), true),
        Field::new("registered", DataType::Boolean, false),
        Field::new("enabled", DataType::Boolean, false),
        Field::new("boot_count", DataType::Int64, true),
        Field::new("created_at", timestamp(), false),
        Field::new("updated_at", timestamp(), false),
    ]))
}

fn rows(devices: &[Device]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let text = |get: fn(&Device) -> Option<&str>| -> ArrayRef {
        Arc::new(devices.iter().map(get).collect::<StringArray>())
    };
    let flag = |get: fn(&Device) -> bool| -> ArrayRef {
        Arc::new(devices.iter().map(|d| Some(get(d))).collect::<BooleanArray>())
    };
    let time = |get: fn(&Device) -> DateTime<Utc>| -> ArrayRef {
        let times = devices.iter().map(|d| get(d).timestamp_micros());
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
    };
    let maybe = |get: fn(&Device) -> Option<DateTime<Utc>>| -> ArrayRef {
        let times = devices.iter().map(|d| get(d).map(|t| t.timestamp_micros()));
        Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
    };
    let real = |get: fn(&Device) -> Option<f64>| -> ArrayRef {
        Arc::new(devices.iter().map(get).collect::<Float64Array>())
    };
    let whole = |get: fn(&Device) -> Option<i64>| -> ArrayRef {
        Arc::new(devices.iter().map(get).collect::<Int64Array>())
    };
    let groups: StringArray = devices.iter().map(|d| d.group_id.map(|id| id.to_string())).collect();
    let columns = vec![
        text(|d| Some(&d.device_id)),
        text(|d| d.name.as_deref()),
        text(|d| d.mac_address.as_deref()),
        text(|d| d.imei.as_deref()),
        text(|d| d.iccid.as_deref()),
        text(|d| d.hardware.as_deref()),
        text(|d| d.firmware_version.as_deref()),
        text(|d| d.meter_serial.as_deref()),
        text(|d| Some(d.status.as_str())),
        maybe(|d| d.last_heartbeat),
        maybe(|d| d.last_telemetry),
        text(|d| d.connection_type.as_deref()),
        whole(|d| d.signal_strength),
        Arc::new(groups),
        real(|d| d.nominal_voltage_v),
        real(|d| d.nominal_frequency_hz),
        real(|d| d.max_power_kw),
        real(|d| d.counter_end),
        text(|d| d.time_zone.as_deref()),
        text(|d| d.replaces.as_deref()),
        text(|d| d.replaced_by.as_deref()),
        maybe(|d| d.replaced_at),
        flag(|d| d.registered),
        flag(|d| d.enabled),
        whole(|d| d.boot_count),
        time(|d| d.created_at),
        time(|d| d.updated_at),
    ];
    RecordBatch::try_new(schema(), columns)
}

/// The alerts as they are now.
async fn alerts(app: &App, scope: Option<&Scope>) -> Result<Arc<dyn TableProvider>, ApiError> {
    let limit = app.parts.sql.max_control_rows;
    let mut alerts = Vec::new();
    for shadow in [false, true] {
        let filter = AlertFilter { limit, shadow, withdrawn: true, ..AlertFilter::default() };
        let (found, total) = app.control().alerts(&filter, scope).await?;
        if total > limit {
            let detail = format!("{total} alerts are more than a query may read ({limit})");
            return Err(ApiError::new(Code::Refused, detail));
        }
        alerts.extend(found);
    }
    let rows = alert_rows(&alerts).map_err(|e| ApiError::internal(&e))?;
    let table = MemTable::try_new(alert_schema(), vec![vec![rows]]);
    Ok(Arc::new(table.map_err(|e| ApiError::internal(&e))?))
}

fn alert_schema() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8, true);
    let flag = |name| Field::new(name, DataType::Boolean, false);
    let time = |name| Field::new(name, timestamp(), true);
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
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

fn alert_rows(alerts: &[Alert]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let text = |get: &dyn Fn(&Alert) -> Option<String>| -> ArrayRef {
        Arc::new(alerts.iter().map(get).collect::<StringArray>())
    };
    let flag = |get: fn(&Alert) -> bool| -> ArrayRef {
        Arc::new(alerts.iter().map(|a| Some(get(a))).collect::<BooleanArray>())
    };
    let time = |get: fn(&Alert) -> Option<DateTime<Utc>>| -> ArrayRef {
        let times = alerts.iter().map(|a| get(a).map(|t| t.timestamp_micros()));
        Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
    };
    let real = |get: fn(&Alert) -> Option<f64>| -> ArrayRef {
        Arc::new(alerts.iter().map(get).collect::<Float64Array>())
    };
    let versions: Int64Array = alerts.iter().map(|a| a.rule_version).collect();
    let columns = vec![
        text(&|a| Some(a.id.to_string())),
        text(&|a| a.device_id.clone()),
        text(&|a| Some(a.alert_type.clone())),
        text(&|a| Some(a.severity.as_str().to_owned())),
        text(&|a| Some(a.message.clone())),
        real(|a| a.value),
        real(|a| a.threshold),
        text(&|a| Some(a.origin.as_str().to_owned())),
        text(&|a| a.rule_id.map(|id| id.to_string())),
        Arc::new(versions),
        text(&|a| a.incident_id.map(|id| id.to_string())),
        text(&|a| a.resolution.clone()),
        text(&|a| a.acknowledged_by.clone()),
        flag(|a| a.shadow),
        flag(|a| a.backfilled),
        flag(|a| a.silenced),
        flag(|a| a.withdrawn),
        flag(|a| a.acknowledged),
        time(|a| Some(a.created_at)),
        time(|a| Some(a.raised_at)),
        time(|a| a.resolved_at),
        time(|a| a.acknowledged_at),
    ];
    RecordBatch::try_new(alert_schema(), columns)
}

/// The replays of dead letters.
async fn replays(app: &App, scope: Option<&Scope>) -> Result<Arc<dyn TableProvider>, ApiError> {
    let limit = app.parts.sql.max_control_rows;
    let replays = app.control().replays(scope, limit).await?;
    let text = |get: fn(&acuvim_control::ReplayOf) -> String| -> ArrayRef {
        Arc::new(replays.iter().map(|r| Some(get(r))).collect::<StringArray>())
    };
    let times = replays.iter().map(|r| r.at.timestamp_micros());
    let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
    let columns = vec![
        text(|r| r.identity.clone()),
        text(|r| r.device_id.clone()),
        Arc::new(times),
        text(|r| r.replayed_by.clone()),
        text(|r| r.outcome.clone()),
    ];
    let rows = RecordBatch::try_new(replay_schema(), columns);
    let rows = rows.map_err(|e| ApiError::internal(&e))?;
    let table = MemTable::try_new(replay_schema(), vec![vec![rows]]);
    Ok(Arc::new(table.map_err(|e| ApiError::internal(&e))?))
}

fn replay_schema() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8, false);
    Arc::new(Schema::new(vec![
        text("identity"),
        text("device_id"),
        Field::new("at", timestamp(), false),
        text("replayed_by"),
        text("outcome"),
    ]))
}
