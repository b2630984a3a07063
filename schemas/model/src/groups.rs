//! Groups of devices, and the fleet at a glance.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A group of devices. What it says of voltage, frequency and time zone holds for those of its
/// devices that do not say themselves.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Group {
    /// Its id.
    pub id: Uuid,
    /// Its name, which no other has.
    #[cfg_attr(feature = "openapi", schema(example = "Plant North"))]
    pub name: String,
    /// What a person says about it.
    pub description: Option<String>,
    /// Line to neutral, in volts.
    pub nominal_voltage_v: Option<f64>,
    /// In hertz.
    pub nominal_frequency_hz: Option<f64>,
    /// The most power that their meters can measure, in kW.
    pub max_power_kw: Option<f64>,
    /// Where their energy counters begin again at zero, in their unit.
    pub counter_end: Option<f64>,
    /// IANA name.
    pub time_zone: Option<String>,
    /// How many devices are in it.
    pub devices: i64,
    /// Since when there is this group.
    pub created_at: DateTime<Utc>,
    /// Its last change.
    pub updated_at: DateTime<Utc>,
}

impl Group {
    /// The fields that nobody can set.
    pub const READ_ONLY: [&'static str; 4] = ["id", "devices", "created_at", "updated_at"];
}

/// `POST /api/groups` and `PUT /api/groups/{id}`
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GroupBody {
    /// 1 to 100 characters.
    #[cfg_attr(feature = "openapi", schema(example = "Plant North"))]
    pub name: String,
    /// Up to 1000 characters.
    #[serde(default)]
    pub description: Option<String>,
    /// Line to neutral, in volts.
    #[serde(default)]
    pub nominal_voltage_v: Option<f64>,
    /// In hertz.
    #[serde(default)]
    pub nominal_frequency_hz: Option<f64>,
    /// The most power that their meters can measure, in kW, beyond which counters are not believed.
    #[serde(default)]
    pub max_power_kw: Option<f64>,
    /// Where their energy counters begin again at zero, in their unit; 100000000 if null.
    #[serde(default)]
    pub counter_end: Option<f64>,
    /// IANA name.
    #[serde(default)]
    pub time_zone: Option<String>,
}

/// `POST /api/groups/{id}/members`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct MembersChange {
    /// Devices that come in, from whichever group they are in: up to 1000.
    pub add: Vec<String>,
    /// Devices that leave: up to 1000.
    pub remove: Vec<String>,
}

/// `GET /api/dashboard/summary`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DashboardSummary {
    /// Devices that the caller sees.
    pub total: i64,
    /// Of them, online.
    pub online: i64,
    /// Of them, late.
    pub degraded: i64,
    /// Of them, offline.
    pub offline: i64,
    /// Alerts that the caller sees.
    pub alerts: AlertSummary,
}

/// Alerts at a glance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AlertSummary {
    /// Open.
    pub open: i64,
    /// Of them, seen by nobody.
    pub unacknowledged: i64,
    /// Of them, critical.
    pub critical: i64,
}
