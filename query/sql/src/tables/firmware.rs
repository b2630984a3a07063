//! The tables `firmware`, `rollouts` and `rollout_devices`.

use std::sync::Arc;

use acuvim_control::{RolloutDeviceFilter, RolloutFilter};
use acuvim_model::{Rollout, Scope};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::TableProvider;

use super::columns::{
    check_total, count, flag, flags, key, numbers, table, text, texts, time, times,
};
use crate::{engine::Sql, error::QueryError};

/// Rollouts that a query sees, the newest ones.
const MOST_ROLLOUTS: i64 = 1000;

pub(super) fn firmware_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        key("version"),
        text("hardware"),
        text("chip"),
        text("checksum"),
        count("file_size"),
        flag("active"),
        flag("mandatory"),
        flag("signed"),
        text("created_by"),
        time("created_at"),
    ]))
}

pub(super) fn rollout_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        key("id"),
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

pub(super) fn device_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        key("rollout_id"),
        key("device_id"),
        count("stage"),
        text("state"),
        time("since"),
        text("detail"),
        text("from_version"),
    ]))
}

/// The releases of firmware.
pub(super) async fn firmware(sql: &Sql) -> Result<Arc<dyn TableProvider>, QueryError> {
    let all: Vec<_> =
        sql.control().firmware_list(false).await?.into_iter().map(|s| s.firmware).collect();
    let columns = vec![
        texts(&all, |f| Some(f.version.clone())),
        texts(&all, |f| f.hardware.clone()),
        texts(&all, |f| Some(f.image.chip.clone())),
        texts(&all, |f| Some(f.checksum.clone())),
        numbers(&all, |f| Some(f.file_size)),
        flags(&all, |f| f.active),
        flags(&all, |f| f.mandatory),
        flags(&all, |f| f.manifest.is_some()),
        texts(&all, |f| Some(f.created_by.clone())),
        times(&all, |f| Some(f.created_at)),
    ];
    table(&firmware_schema(), columns)
}

async fn newest(sql: &Sql, scope: Option<&Scope>) -> Result<Vec<Rollout>, QueryError> {
    let filter = RolloutFilter { limit: MOST_ROLLOUTS, ..RolloutFilter::default() };
    Ok(sql.control().rollouts(&filter, scope).await?.0)
}

pub(super) async fn rollouts(
    sql: &Sql,
    scope: Option<&Scope>,
) -> Result<Arc<dyn TableProvider>, QueryError> {
    let all = newest(sql, scope).await?;
    let columns = vec![
        texts(&all, |r| Some(r.id.to_string())),
        texts(&all, |r| Some(r.version.clone())),
        texts(&all, |r| Some(r.state.as_str().to_owned())),
        numbers(&all, |r| Some(r.stage)),
        texts(&all, |r| r.reason.clone()),
        numbers(&all, |r| Some(r.devices.total())),
        numbers(&all, |r| Some(r.devices.confirmed)),
        numbers(&all, |r| Some(r.devices.failed)),
        numbers(&all, |r| Some(r.devices.rolled_back)),
        numbers(&all, |r| Some(r.devices.silent)),
        numbers(&all, |r| Some(r.devices.offered + r.devices.downloading + r.devices.installing)),
        numbers(&all, |r| Some(r.devices.waiting)),
        texts(&all, |r| Some(r.created_by.clone())),
        times(&all, |r| Some(r.created_at)),
        times(&all, |r| Some(r.updated_at)),
    ];
    table(&rollout_schema(), columns)
}

/// The devices of rollouts.
pub(super) async fn rollout_devices(
    sql: &Sql,
    scope: Option<&Scope>,
) -> Result<Arc<dyn TableProvider>, QueryError> {
    let limit = sql.limits().max_control_rows;
    let mut all = Vec::new();
    for rollout in newest(sql, scope).await? {
        let page = RolloutDeviceFilter { limit, ..RolloutDeviceFilter::default() };
        let (devices, total) = sql.control().rollout_devices(rollout.id, &page, scope).await?;
        let before = i64::try_from(all.len()).unwrap_or(i64::MAX);
        check_total("rollout_devices", before.saturating_add(total), limit)?;
        all.extend(devices.into_iter().map(|device| (rollout.id, device)));
    }
    let columns = vec![
        texts(&all, |(id, _)| Some(id.to_string())),
        texts(&all, |(_, d)| Some(d.device_id.clone())),
        numbers(&all, |(_, d)| Some(d.stage)),
        texts(&all, |(_, d)| Some(d.state.as_str().to_owned())),
        times(&all, |(_, d)| Some(d.since)),
        texts(&all, |(_, d)| d.detail.clone()),
        texts(&all, |(_, d)| d.from_version.clone()),
    ];
    table(&device_schema(), columns)
}
