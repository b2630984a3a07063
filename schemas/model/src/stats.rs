//! What `GET /api/dashboard/stats` answers.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The fleet over a time, from the rollups: as fresh as they are.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DashboardStats {
    /// The beginning, at a quarter of an hour.
    pub from: DateTime<Utc>,
    /// The end, which is not part of it.
    pub to: DateTime<Utc>,
    /// What was received in that time; nothing for a user with a scope, since it is not counted by
    /// device.
    pub messages: Option<MessageStats>,
    /// Readings of that time.
    pub readings: i64,
    /// Devices that they are of.
    pub devices: i64,
    /// What counters counted, in kWh.
    pub energy: EnergyStats,
    /// Power by hour.
    pub power_by_hour: Vec<HourStats>,
    /// The ten devices that imported most.
    pub top_devices: Vec<TopDevice>,
    /// How old the newest readings are.
    pub freshness: Freshness,
    /// What the lake holds; nothing for a user with a scope.
    pub storage: Option<Vec<TableStats>>,
    /// False while rollups of what was there before are still being built: it is not all then.
    pub complete: bool,
}

/// Messages, as the ledger counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MessageStats {
    /// Readings that came.
    pub received: i64,
    /// Of them, stored.
    pub stored: i64,
    /// Of them, stored before.
    pub duplicates: i64,
    /// What could not be used.
    pub dead_letters: i64,
    /// Readings under whose time another was stored before that says something else.
    pub same_ts: i64,
}

/// Energy, in kWh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnergyStats {
    /// Imported.
    pub import_kwh: f64,
    /// Exported.
    pub export_kwh: f64,
}

/// An hour.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HourStats {
    /// Its beginning.
    pub ts: DateTime<Utc>,
    /// The mean active power of each device, added up; kW.
    pub active_power_kw: f64,
    /// Devices that said so.
    pub devices: i64,
}

/// A device among those that imported most.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TopDevice {
    /// Which.
    pub device_id: String,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// What it imported.
    pub energy_import_kwh: f64,
}

/// How old devices' newest readings are, now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Freshness {
    /// The newest reading's `ts`.
    pub newest: Option<DateTime<Utc>>,
    /// Devices that have ever sent a reading.
    pub devices: i64,
    /// Of them, with one of the last 15 minutes.
    pub last_15m: i64,
    /// With one of the last hour.
    pub last_hour: i64,
    /// With one of the last day.
    pub last_day: i64,
}

/// A table of the lake.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TableStats {
    /// Its name.
    pub table: String,
    /// Data files.
    pub files: i64,
    /// Their rows.
    pub rows: i64,
    /// Their bytes.
    pub bytes: i64,
    /// The first of its days.
    pub oldest_day: Option<String>,
    /// The last.
    pub newest_day: Option<String>,
}
