//! Sections `commands`, `health_monitor` and `alerts`: how devices are commanded and watched.

use anyhow::ensure;
use serde::{Deserialize, Serialize};

use super::text::within;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commands {
    pub timeout_seconds: u32,
    pub ota_update_seconds: u32,
    pub sd_flush_seconds: u32,
    pub other_seconds: u32,
    pub check_interval_seconds: u64,
}

impl Commands {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        within("commands.timeout_seconds", self.timeout_seconds, 1, 3600)?;
        within("commands.ota_update_seconds", self.ota_update_seconds, 1, 86_400)?;
        within("commands.sd_flush_seconds", self.sd_flush_seconds, 1, 86_400)?;
        within("commands.other_seconds", self.other_seconds, 1, 86_400)?;
        within("commands.check_interval_seconds", self.check_interval_seconds, 1, 30)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthMonitor {
    pub check_interval_seconds: u64,
    pub degraded_threshold_multiplier: u32,
    pub offline_threshold_multiplier: u32,
    pub reconnect_grace_seconds: i64,
    pub min_free_heap: i64,
    pub max_modbus_error_share: f64,
    pub boots_per_hour: u32,
    pub min_sd_free_mb: i64,
    pub clock_ahead_seconds: i64,
}

impl HealthMonitor {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let (degraded, offline) =
            (self.degraded_threshold_multiplier, self.offline_threshold_multiplier);
        within("health_monitor.check_interval_seconds", self.check_interval_seconds, 1, 3600)?;
        within("health_monitor.degraded_threshold_multiplier", degraded, 1, 1000)?;
        within("health_monitor.offline_threshold_multiplier", offline, degraded, 1000)?;
        let grace = self.reconnect_grace_seconds;
        within("health_monitor.reconnect_grace_seconds", grace, 0, 86_400)?;
        within("health_monitor.min_free_heap", self.min_free_heap, 0, 1 << 30)?;
        within("health_monitor.boots_per_hour", self.boots_per_hour, 2, 32)?;
        within("health_monitor.min_sd_free_mb", self.min_sd_free_mb, 0, 1 << 30)?;
        within("health_monitor.clock_ahead_seconds", self.clock_ahead_seconds, 0, 86_400)?;
        ensure!(
            (0.0..=1.0).contains(&self.max_modbus_error_share),
            "health_monitor.max_modbus_error_share is `{}`: allowed are 0 to 1",
            self.max_modbus_error_share
        );
        Ok(())
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alerts {
    pub remind_after_minutes: i64,
    pub escalate_after_minutes: i64,
    pub check_interval_seconds: u64,
}

impl Alerts {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        within("alerts.remind_after_minutes", self.remind_after_minutes, 1, 100_000)?;
        within("alerts.escalate_after_minutes", self.escalate_after_minutes, 1, 100_000)?;
        within("alerts.check_interval_seconds", self.check_interval_seconds, 1, 40)
    }
}
