//! What became of what devices sent: replays of dead letters, completeness, a reading's place.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// `POST /api/dead-letters/replay`: which dead letters are replayed. At least one condition must be
/// given, and all must hold.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ReplayRequest {
    /// Only those of this device.
    pub device_id: Option<String>,
    /// Only those with this reason, such as `bad_ts`.
    pub reason: Option<String>,
    /// Only messages of this kind: `telemetry`, `heartbeat`, ...
    pub kind: Option<String>,
    /// Only those that were received at this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Only those that were received before this time.
    pub to: Option<DateTime<Utc>>,
    /// Only those with these identities, `epoch:partition:offset:item`.
    pub identities: Vec<String>,
    /// Whether nothing is replayed: the answer says how many match, and what would become of them.
    pub dry_run: bool,
    /// About how many are replayed at once: 1 to 10000; 1000 unless given.
    pub limit: Option<i64>,
    /// What is repaired in each of them first; try it with `dry_run` before.
    pub repair: Option<RepairRequest>,
}

/// What is repaired in dead letters before they are replayed. The stored dead letters stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RepairRequest {
    /// Whether every NUL byte is removed.
    pub strip_nuls: bool,
    /// The offset from UTC of times that have none: `+02:00`, `+0200` or `Z`.
    #[cfg_attr(feature = "openapi", schema(example = "+02:00"))]
    pub offset: Option<String>,
    /// Seconds that are added to every time: up to ten years, negative to go back.
    pub shift_seconds: f64,
}

/// A dead letter that a replay would not make usable.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReplayFault {
    /// The identity of the dead letter, `epoch:partition:offset:item`.
    pub identity: String,
    /// The reason for which it would be a dead letter again.
    pub reason: String,
    /// The field or the place of the fault, if there is one.
    pub detail: Option<String>,
}

/// What a replay did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReplayResponse {
    /// Dead letters that match, as far as they were looked at.
    pub matched: i64,
    /// Of them, those appended to the log again.
    pub replayed: i64,
    /// Of them, those that were replayed before: stored, on their way, or another dead letter now.
    pub skipped: i64,
    /// Of them, those that can't be: their payload was cut, or nobody knows whose it is.
    pub not_replayable: i64,
    /// Whether there may be more: ask again.
    pub more: bool,
    /// In a dry run: those that could be used as they would be brought. One may still be a duplicate.
    pub usable: i64,
    /// In a dry run: the first of those that could not.
    pub faults: Vec<ReplayFault>,
}

/// `GET /api/devices/{device_id}/completeness`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Completeness {
    /// The device id.
    pub device_id: String,
    /// The beginning of the time span, RFC 3339, by the time of the readings.
    pub from: String,
    /// The end of the time span, which is not part of it.
    pub to: String,
    /// Readings that are stored.
    pub stored: i64,
    /// Readings that the device's interval asks for; null if that is not known.
    pub expected: Option<i64>,
    /// Seconds between readings, as the device is configured.
    pub interval_s: Option<i64>,
    /// Readings that came more than once, by the time of their arrival.
    pub duplicates: i64,
    /// Messages that could not be used, by the time of their arrival.
    pub dead_letters: i64,
    /// Readings under whose time another was stored before that says something else, by the time of
    /// their arrival: dead letters `same_ts`.
    pub same_ts: i64,
    /// Messages that a replay brought again.
    pub replayed: i64,
    /// Readings that the device numbered and that never came.
    pub missing_seq: i64,
    /// By boot of the device, where it numbers its readings.
    pub boots: Vec<BootCompleteness>,
    /// The same by hour.
    pub hours: Vec<HourCompleteness>,
}

/// The numbered readings of one boot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BootCompleteness {
    /// The boot count; null for readings without one.
    pub boot: Option<i64>,
    /// The lowest `seq` in the time span.
    pub first_seq: i64,
    /// The highest `seq` in the time span.
    pub last_seq: i64,
    /// How many numbers between them no stored reading has.
    pub missing: i64,
}

/// The readings of one hour.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HourCompleteness {
    /// The beginning of the hour, RFC 3339.
    pub hour: String,
    /// Readings of that hour that are stored.
    pub stored: i64,
    /// Readings that the interval of the device asks for; null if it is not known.
    pub expected: Option<i64>,
}

/// `GET /api/devices/{device_id}/telemetry/trace`: where one reading is stored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Trace {
    /// The device id.
    pub device_id: String,
    /// When it was measured, RFC 3339.
    pub ts: String,
    /// When it was received, RFC 3339.
    pub received_at: String,
    /// How it came: `live`, `sd` or `import`.
    pub source: Option<String>,
    /// Its position in the log, `epoch:partition:offset:item`.
    pub identity: String,
    /// Whether it is committed to the lake; false while only the tail in memory has it.
    pub committed: bool,
    /// The Delta version of `telemetry` at which this was looked up.
    pub lake_version: i64,
}

#[cfg(test)]
mod tests;
