//! The tables of firmware and its rollouts.

use std::sync::Arc;

use acuvim_control::RolloutFilter;
use acuvim_schemas::{
    api::{Rollout, Scope},
    tables::timestamp,
};
use arrow::{
    array::{
        ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    },
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
};
use chrono::{DateTime, Utc};
use datafusion::{catalog::TableProvider, datasource::MemTable};

use crate::{App, problem::ApiError};

/// Their names.
pub(super) const FIRMWARE: &str = "firmware";
pub(super) const ROLLOUTS: &str = "rollouts";
pub(super) const ROLLOUT_DEVICES: &str = "rollout_devices";

/// The newest rollouts, so many, that a query sees.
const MOST_ROLLOUTS: i64 = 1000;

/// Name, description and columns of each.
pub(super) fn described() -> [(&'static str, &'static str, SchemaRef); 3] {
    [
        (FIRMWARE, "Every release of firmware", firmware_schema()),
        (ROLLOUTS, "The newest thousand rollouts, and how far each has come", rollout_schema()),
        (ROLLOUT_DEVICES, "The devices of rollouts, and how far each has come", device_schema()),
    ]
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

fn time(name: &str) -> Field {
    Field::new(name, timestamp(), true)
}

fn firmware_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("version", DataType::Utf8, false),
        text("hardware"),
        text("chip"),
        text("checksum"),
        Field::new("file_size", DataType::Int64, false),
        Field::new("active", DataType::Boolean, false),
        Field::new("mandatory", DataType::Boolean, false),
        Field::new("signed", DataType::Boolean, false),
        text("created_by"),
        time("created_at"),
    ]))
}

fn rollout_schema() -> SchemaRef {
    let count = |name| Field::new(name, DataType::Int64, false);
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
        text("version"),
        text("state"),
        count("stage"),
        text("reason"),
        count("devices"),
        count("confirmed"),
        count("failed"),
        count("rolled_back"),
        count("silent"),
        count("under_way"),
        count("waiting"),
        text("created_by"),
        time("created_at"),
        time("updated_at"),
    ]))
}

fn device_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("rollout_id", DataType::Utf8, false),
        Field::new("device_id", DataType::Utf8, false),
        Field::new("stage", DataType::Int64, false),
        text("state"),
        time("since"),
        text("detail"),
        text("from_version"),
    ]))
}

fn table(
    schema: SchemaRef,
    rows: Result<RecordBatch, ArrowError>,
) -> Result<Arc<dyn TableProvider>, ApiError> {
    let rows = rows.map_err(|e| ApiError::internal(&e))?;
    let table = MemTable::try_new(schema, vec![vec![rows]]).map_err(|e| ApiError::internal(&e))?;
    Ok(Arc::new(table))
}

fn texts<T>(items: &[T], get: impl Fn(&T) -> Option<String>) -> ArrayRef {
    Arc::new(items.iter().map(get).collect::<StringArray>())
}

fn times<T>(items: &[T], get: impl Fn(&T) -> DateTime<Utc>) -> ArrayRef {
    let micros = items.iter().map(|item| get(item).timestamp_micros());
    Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
}

fn numbers<T>(items: &[T], get: impl Fn(&T) -> i64) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(items.iter().map(get)))
}

fn flags<T>(items: &[T], get: impl Fn(&T) -> bool) -> ArrayRef {
    Arc::new(items.iter().map(|item| Some(get(item))).collect::<BooleanArray>())
}

/// The releases.
pub(super) async fn firmware(app: &App) -> Result<Arc<dyn TableProvider>, ApiError> {
    let all: Vec<_> =
        app.control().firmware_list(false).await?.into_iter().map(|s| s.firmware).collect();
    let columns = vec![
        texts(&all, |f| Some(f.version.clone())),
        texts(&all, |f| f.hardware.clone()),
        texts(&all, |f| Some(f.image.chip.clone())),
        texts(&all, |f| Some(f.checksum.clone())),
        numbers(&all, |f| f.file_size),
        flags(&all, |f| f.active),
        flags(&all, |f| f.mandatory),
        flags(&all, |f| f.manifest.is_some()),
        texts(&all, |f| Some(f.created_by.clone())),
        times(&all, |f| f.created_at),
    ];
    table(firmware_schema(), RecordBatch::try_new(firmware_schema(), columns))
}

async fn newest(app: &App, scope: Option<&Scope>) -> Result<Vec<Rollout>, ApiError> {
    let filter = RolloutFilter { limit: MOST_ROLLOUTS, ..RolloutFilter::default() };
    Ok(app.control().rollouts(&filter, scope).await?.0)
}

/// The rollouts.
pub(super) async fn rollouts(
    app: &App,
    scope: Option<&Scope>,
) -> Result<Arc<dyn TableProvider>, ApiError> {
    let all = newest(app, scope).await?;
    let columns = vec![
        texts(&all, |r| Some(r.id.to_string())),
        texts(&all, |r| Some(r.version.clone())),
        texts(&all, |r| Some(r.state.as_str().to_owned())),
        numbers(&all, |r| r.stage),
        texts(&all, |r| r.reason.clone()),
        numbers(&all, |r| r.devices.total()),
        numbers(&all, |r| r.devices.confirmed),
        numbers(&all, |r| r.devices.failed),
        numbers(&all, |r| r.devices.rolled_back),
        numbers(&all, |r| r.devices.silent),
        numbers(&all, |r| r.devices.offered + r.devices.downloading + r.devices.installing),
        numbers(&all, |r| r.devices.waiting),
        texts(&all, |r| Some(r.created_by.clone())),
        times(&all, |r| r.created_at),
        times(&all, |r| r.updated_at),
    ];
    table(rollout_schema(), RecordBatch::try_new(rollout_schema(), columns))
}

/// The devices of rollouts.
pub(super) async fn rollout_devices(
    app: &App,
    scope: Option<&Scope>,
) -> Result<Arc<dyn TableProvider>, ApiError> {
    let limit = app.parts.sql.max_control_rows;
    let mut all = Vec::new();
    for rollout in newest(app, scope).await? {
        let left = limit - i64::try_from(all.len()).unwrap_or(limit);
        if left < 1 {
            break;
        }
        let page = (None, left);
        let (devices, _) = app.control().rollout_devices(rollout.id, None, page, scope).await?;
        all.extend(devices.into_iter().map(|device| (rollout.id, device)));
    }
    let columns = vec![
        texts(&all, |(id, _)| Some(id.to_string())),
        texts(&all, |(_, d)| Some(d.device_id.clone())),
        numbers(&all, |(_, d)| d.stage),
        texts(&all, |(_, d)| Some(d.state.as_str().to_owned())),
        times(&all, |(_, d)| d.since),
        texts(&all, |(_, d)| d.detail.clone()),
        texts(&all, |(_, d)| d.from_version.clone()),
    ];
    table(device_schema(), RecordBatch::try_new(device_schema(), columns))
}
