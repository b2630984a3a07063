//! The table `devices`.

use std::sync::Arc;

use acuvim_control::DeviceFilter;
use acuvim_model::Scope;
use acuvim_tables::timestamp;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;

use super::columns::{
    check_total, flag, flags, key, numbers, reals, table, text, texts, time, times,
};
use crate::{engine::Sql, error::QueryError};

pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        key("device_id"),
        text("name"),
        text("mac_address"),
        text("imei"),
        text("iccid"),
        text("hardware"),
        text("firmware_version"),
        text("meter_serial"),
        text("status"),
        time("last_heartbeat"),
        time("last_telemetry"),
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
        time("replaced_at"),
        flag("registered"),
        flag("enabled"),
        Field::new("boot_count", DataType::Int64, true),
        Field::new("created_at", timestamp(), false),
        Field::new("updated_at", timestamp(), false),
    ]))
}

/// The devices as they are now, as far as a scope sees them.
pub(super) async fn rows(
    sql: &Sql,
    scope: Option<&Scope>,
) -> Result<Arc<dyn TableProvider>, QueryError> {
    let limit = sql.limits().max_control_rows;
    let filter = DeviceFilter { limit, ..DeviceFilter::default() };
    let (devices, total) = sql.control().devices(&filter, scope).await?;
    check_total("devices", total, limit)?;
    let columns = vec![
        texts(&devices, |d| Some(d.device_id.as_str())),
        texts(&devices, |d| d.name.as_deref()),
        texts(&devices, |d| d.mac_address.as_deref()),
        texts(&devices, |d| d.imei.as_deref()),
        texts(&devices, |d| d.iccid.as_deref()),
        texts(&devices, |d| d.hardware.as_deref()),
        texts(&devices, |d| d.firmware_version.as_deref()),
        texts(&devices, |d| d.meter_serial.as_deref()),
        texts(&devices, |d| Some(d.status.as_str())),
        times(&devices, |d| d.last_heartbeat),
        times(&devices, |d| d.last_telemetry),
        texts(&devices, |d| d.connection_type.as_deref()),
        numbers(&devices, |d| d.signal_strength),
        texts(&devices, |d| d.group_id.map(|id| id.to_string())),
        reals(&devices, |d| d.nominal_voltage_v),
        reals(&devices, |d| d.nominal_frequency_hz),
        reals(&devices, |d| d.max_power_kw),
        reals(&devices, |d| d.counter_end),
        texts(&devices, |d| d.time_zone.as_deref()),
        texts(&devices, |d| d.replaces.as_deref()),
        texts(&devices, |d| d.replaced_by.as_deref()),
        times(&devices, |d| d.replaced_at),
        flags(&devices, |d| d.registered),
        flags(&devices, |d| d.enabled),
        numbers(&devices, |d| d.boot_count),
        times(&devices, |d| Some(d.created_at)),
        times(&devices, |d| Some(d.updated_at)),
    ];
    table(&schema(), columns)
}
