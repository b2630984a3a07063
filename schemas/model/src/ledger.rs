//! What became of what devices sent: replays of dead letters, completeness, a reading's place.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// `POST /api/dead-letters/replay`: which ones. At least one condition must be given.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ReplayRequest {
    /// Of this device.
    pub device_id: Option<String>,
    /// With this reason.
    pub reason: Option<String>,
    /// Of this kind: telemetry, heartbeat, ...
    pub kind: Option<String>,
    /// Received from then on.
    pub from: Option<DateTime<Utc>>,
    /// Received before.
    pub to: Option<DateTime<Utc>>,
    /// Exactly these: `epoch:partition:offset:item`.
    pub identities: Vec<String>,
    /// Only say how many there are, and what would become of them.
    pub dry_run: bool,
    /// About so many at once: 1 to 10,000; 1000 unless given.
    pub limit: Option<i64>,
    /// What is mended of each before; ask with `dry_run` first what that makes of them.
    pub repair: Option<RepairRequest>,
}

/// What is mended of dead letters before they are brought again. Their own bytes stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RepairRequest {
    /// Take out every NUL.
    pub strip_nuls: bool,
    /// The offset from UTC of times that name none: `+02:00`, `+0200` or `Z`.
    #[cfg_attr(feature = "openapi", schema(example = "+02:00"))]
    pub offset: Option<String>,
    /// Seconds that are added to every time, up to ten years either way.
    pub shift_seconds: f64,
}

/// A dead letter that a replay would not make good.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReplayFault {
    /// Which.
    pub identity: String,
    /// Why it would be a dead letter again.
    pub reason: String,
    /// What of it.
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
    /// Whose.
    pub device_id: String,
    /// From when, by event time.
    pub from: String,
    /// Until when.
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
    /// By hour.
    pub hours: Vec<HourCompleteness>,
}

/// The numbered readings of one boot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BootCompleteness {
    /// The boot count; null if it did not say.
    pub boot: Option<i64>,
    /// The lowest number in the time asked for.
    pub first_seq: i64,
    /// The highest.
    pub last_seq: i64,
    /// Numbers between them that are not there.
    pub missing: i64,
}

/// One hour.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HourCompleteness {
    /// Its start.
    pub hour: String,
    /// Readings of that hour that are stored.
    pub stored: i64,
    /// Readings that it should have.
    pub expected: Option<i64>,
}

/// `GET /api/devices/{device_id}/telemetry/trace`: where one reading is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Trace {
    /// Whose.
    pub device_id: String,
    /// When it was measured.
    pub ts: String,
    /// When it was received.
    pub received_at: String,
    /// How it came.
    pub source: Option<String>,
    /// Its place in the log: `epoch:partition:offset:item`.
    pub identity: String,
    /// Whether the lake has it, or still the tail alone.
    pub committed: bool,
    /// The Delta version of `telemetry` at which this was looked up.
    pub lake_version: i64,
}
