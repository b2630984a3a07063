//! A device's configuration: what it is to be, and what the device says it is.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// `GET /api/devices/{device_id}/config`. Secrets are masked.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceConfig {
    /// By section, what the device is to be.
    pub desired: BTreeMap<String, Value>,
    /// By section, what the device has confirmed.
    pub reported: BTreeMap<String, Value>,
    /// By section, the values that the device has yet to confirm.
    pub drift: BTreeMap<String, Vec<String>>,
    /// Counts the changes of what is desired.
    pub version: i64,
    /// The last change of either.
    pub updated_at: Option<DateTime<Utc>>,
    /// Where the changes are listed.
    pub history_url: String,
}

/// `POST /api/devices/{device_id}/config`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ConfigRequest {
    /// Which section.
    #[cfg_attr(feature = "openapi", schema(example = "telemetry"))]
    pub section: String,
    /// The values to change in it; the others stay.
    #[cfg_attr(feature = "openapi", schema(example = json!({"interval_s": 10})))]
    pub values: Map<String, Value>,
}

/// A change of what is desired.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConfigChange {
    /// The version it made.
    pub version: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// Who made it.
    pub by: String,
    /// Which section.
    pub section: String,
    /// The values that changed, secrets masked.
    pub values: Value,
    /// The command that carried it to the device.
    pub request_id: Option<Uuid>,
}

/// The networks that a device sees.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WifiScan {
    /// The command behind it.
    pub request_id: Uuid,
    /// What the device answered.
    pub data: Value,
}
