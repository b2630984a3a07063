//! Sections `lake`, `telemetry` and `retention`: the tables, and how long they keep their rows.

use serde::{Deserialize, Serialize};

use super::text::within;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lake {
    pub url: Option<String>,
    pub flush_interval_ms: u64,
    pub flush_rows: usize,
    pub compaction_interval_ms: u64,
    pub rollup_interval_seconds: u64,
    pub compaction_fan_in: usize,
    pub file_mb: u64,
    pub settle_minutes: u64,
    pub keep_files_hours: u64,
    pub max_tail_mb: usize,
}

impl Lake {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        within("lake.flush_interval_ms", self.flush_interval_ms, 50, 3_600_000)?;
        within("lake.flush_rows", self.flush_rows, 1, 10_000_000)?;
        within("lake.compaction_interval_ms", self.compaction_interval_ms, 50, 3_600_000)?;
        within("lake.rollup_interval_seconds", self.rollup_interval_seconds, 1, 86_400)?;
        within("lake.compaction_fan_in", self.compaction_fan_in, 2, 100)?;
        within("lake.file_mb", self.file_mb, 8, 256)?;
        within("lake.settle_minutes", self.settle_minutes, 0, 24 * 60)?;
        within("lake.keep_files_hours", self.keep_files_hours, 2, 24 * 365)?;
        within("lake.max_tail_mb", self.max_tail_mb, 16, 1 << 20)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    pub retention_days: i64,
    pub first_cleanup_seconds: u64,
    pub cleanup_interval_hours: u64,
    pub max_future_hours: i64,
    pub max_ahead_seconds: i64,
}

impl Telemetry {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        within("telemetry.retention_days", self.retention_days, 1, 36_500)?;
        within("telemetry.first_cleanup_seconds", self.first_cleanup_seconds, 1, 86_400)?;
        within("telemetry.cleanup_interval_hours", self.cleanup_interval_hours, 1, 24 * 30)?;
        within("telemetry.max_future_hours", self.max_future_hours, 0, 24 * 30)?;
        within("telemetry.max_ahead_seconds", self.max_ahead_seconds, 0, 3600)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    pub heartbeats_days: i32,
    pub alert_events_days: i32,
    pub device_events_days: i32,
    pub dead_letters_days: i32,
    pub ledger_days: i32,
    pub rollup_15m_days: i32,
    pub rollup_daily_days: i32,
}

impl Retention {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        within("retention.heartbeats_days", self.heartbeats_days, 1, 36_500)?;
        within("retention.alert_events_days", self.alert_events_days, 1, 36_500)?;
        within("retention.device_events_days", self.device_events_days, 1, 36_500)?;
        within("retention.dead_letters_days", self.dead_letters_days, 1, 36_500)?;
        within("retention.ledger_days", self.ledger_days, 1, 36_500)?;
        within("retention.rollup_15m_days", self.rollup_15m_days, 1, 36_500)?;
        within("retention.rollup_daily_days", self.rollup_daily_days, 1, 36_500)
    }
}
