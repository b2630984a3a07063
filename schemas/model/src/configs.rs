//! A device's configuration: what it is to be, and what the device says it is.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// `GET /api/devices/{device_id}/config`: the desired and the reported configuration. Secrets are masked.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceConfig {
    /// The desired values by section.
    pub desired: BTreeMap<String, Value>,
    /// The values by section that the device has confirmed.
    pub reported: BTreeMap<String, Value>,
    /// The names of the values by section that are desired and not confirmed; empty if the device has
    /// them all.
    pub drift: BTreeMap<String, Vec<String>>,
    /// The number of changes of the desired configuration so far.
    pub version: i64,
    /// When the desired or the reported configuration last changed; null if there is neither.
    pub updated_at: Option<DateTime<Utc>>,
    /// The path that lists the changes.
    pub history_url: String,
}

/// `POST /api/devices/{device_id}/config`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ConfigRequest {
    /// The section of the configuration, such as `telemetry`.
    #[cfg_attr(feature = "openapi", schema(example = "telemetry"))]
    pub section: String,
    /// The values to change in it; the others stay.
    #[cfg_attr(feature = "openapi", schema(example = json!({"interval_s": 10})))]
    pub values: Map<String, Value>,
}

/// A change of the desired configuration.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConfigChange {
    /// The version of the configuration that the change made.
    pub version: i64,
    /// When it was made.
    pub at: DateTime<Utc>,
    /// The name of the user or key that made it.
    pub by: String,
    /// The section that was changed.
    pub section: String,
    /// The values that changed, secrets masked.
    pub values: Value,
    /// The command that brought the change to the device; null if none was sent.
    pub request_id: Option<Uuid>,
}

/// The Wi-Fi networks that a device has found.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WifiScan {
    /// The id of the command `wifi_scan` that found them.
    pub request_id: Uuid,
    /// The answer of the device, as it sent it.
    pub data: Value,
}
