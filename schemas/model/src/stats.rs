//! What `GET /api/dashboard/stats` answers.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The fleet over a time, from the rollups: as fresh as they are.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DashboardStats {
    /// The beginning of the time span, at a full quarter of an hour.
    pub from: DateTime<Utc>,
    /// The end of the time span, which is not part of it.
    pub to: DateTime<Utc>,
    /// What was received in the time span; null for a user with a scope, because it is not counted by
    /// device.
    pub messages: Option<MessageStats>,
    /// Readings of the time span that are stored.
    pub readings: i64,
    /// Devices with readings in the time span.
    pub devices: i64,
    /// The energy that the counters counted, in kWh.
    pub energy: EnergyStats,
    /// The mean active power of each hour, in kW.
    pub power_by_hour: Vec<HourStats>,
    /// The ten devices that imported the most energy.
    pub top_devices: Vec<TopDevice>,
    /// How old the newest readings are.
    pub freshness: Freshness,
    /// The tables of the lake; null for a user with a scope.
    pub storage: Option<Vec<TableStats>>,
    /// Whether all rollups of the time span are built; false means that the figures are too low.
    pub complete: bool,
}

/// Messages, as the ledger counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MessageStats {
    /// Readings and other messages that were received.
    pub received: i64,
    /// Readings that were stored.
    pub stored: i64,
    /// Readings that were stored before.
    pub duplicates: i64,
    /// Readings and messages that could not be used.
    pub dead_letters: i64,
    /// Readings with the time of a stored one and other values, which are dead letters.
    pub same_ts: i64,
}

/// Energy, in kWh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnergyStats {
    /// Imported energy in kWh.
    pub import_kwh: f64,
    /// Exported energy in kWh.
    pub export_kwh: f64,
}

/// The power of one hour.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HourStats {
    /// The beginning of the hour.
    pub ts: DateTime<Utc>,
    /// The mean active power of each device, added up; kW.
    pub active_power_kw: f64,
    /// Devices with readings of it.
    pub devices: i64,
}

/// A device among those that imported most.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TopDevice {
    /// The device id.
    pub device_id: String,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// The energy that it imported in the time span, in kWh.
    pub energy_import_kwh: f64,
}

/// How old devices' newest readings are, now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Freshness {
    /// The time of the newest reading of any device; null if there is none.
    pub newest: Option<DateTime<Utc>>,
    /// Devices that have ever sent a reading.
    pub devices: i64,
    /// How many of them have a reading of the last 15 minutes.
    pub last_15m: i64,
    /// How many of them have a reading of the last hour.
    pub last_hour: i64,
    /// How many of them have a reading of the last 24 hours.
    pub last_day: i64,
}

/// A table of the lake.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TableStats {
    /// The name of the table.
    pub table: String,
    /// The number of its data files.
    pub files: i64,
    /// The number of rows in its data files.
    pub rows: i64,
    /// The size of its data files in bytes.
    pub bytes: i64,
    /// The first day with rows, as `YYYY-MM-DD`; null if the table is empty.
    pub oldest_day: Option<String>,
    /// The last day with rows, as `YYYY-MM-DD`; null if the table is empty.
    pub newest_day: Option<String>,
}
