//! Groups of devices, and the fleet at a glance.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A group of devices. Its nominal values and time zone hold for those of its devices that have none of
/// their own.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Group {
    /// The id of the group.
    pub id: Uuid,
    /// The name, which no other group has.
    #[cfg_attr(feature = "openapi", schema(example = "Plant North"))]
    pub name: String,
    /// A description that a person has given it.
    pub description: Option<String>,
    /// The nominal voltage, line to neutral, in volts.
    pub nominal_voltage_v: Option<f64>,
    /// The nominal frequency in hertz.
    pub nominal_frequency_hz: Option<f64>,
    /// The most power that its meters can measure, in kW: counters that imply more are not believed.
    pub max_power_kw: Option<f64>,
    /// The value at which the energy counters start again from 0, in their unit; 100000000 if null.
    pub counter_end: Option<f64>,
    /// The IANA name of its time zone.
    pub time_zone: Option<String>,
    /// The number of devices in it.
    pub devices: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

impl Group {
    // `PUT` takes and ignores them, so that what was read can be sent back.
    /// The fields that nobody can set.
    pub const READ_ONLY: [&'static str; 4] = ["id", "devices", "created_at", "updated_at"];
}

/// `POST /api/groups` and `PUT /api/groups/{id}`
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GroupBody {
    /// The name, 1 to 100 characters, which no other group has.
    #[cfg_attr(feature = "openapi", schema(example = "Plant North"))]
    pub name: String,
    /// The description, up to 1000 characters.
    #[serde(default)]
    pub description: Option<String>,
    /// The nominal voltage, line to neutral: 10 to 1000000 V.
    #[serde(default)]
    pub nominal_voltage_v: Option<f64>,
    /// The nominal frequency: 40 to 70 Hz.
    #[serde(default)]
    pub nominal_frequency_hz: Option<f64>,
    /// The most power that its meters can measure: 0.001 to 1e9 kW. Counters that imply more are not
    /// believed.
    #[serde(default)]
    pub max_power_kw: Option<f64>,
    /// The value at which the energy counters start again from 0, in their unit: 1000 to 1e12; 100000000
    /// if null.
    #[serde(default)]
    pub counter_end: Option<f64>,
    /// The IANA name of its time zone.
    #[serde(default)]
    pub time_zone: Option<String>,
}

/// `POST /api/groups/{id}/members`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct MembersChange {
    /// The ids of up to 1000 devices that are moved into this group, from whichever group they are in.
    pub add: Vec<String>,
    /// The ids of up to 1000 devices that leave this group.
    pub remove: Vec<String>,
}

/// `GET /api/dashboard/summary`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DashboardSummary {
    /// The number of devices that the caller may see.
    pub total: i64,
    /// How many of them are online.
    pub online: i64,
    /// How many of them are late.
    pub degraded: i64,
    /// How many of them are offline.
    pub offline: i64,
    /// The alerts that the caller may see.
    pub alerts: AlertSummary,
}

/// The numbers of open alerts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AlertSummary {
    /// All open alerts.
    pub open: i64,
    /// How many of them nobody has acknowledged.
    pub unacknowledged: i64,
    /// How many of them are critical.
    pub critical: i64,
}

#[cfg(test)]
mod tests;
