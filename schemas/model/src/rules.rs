//! Rules, the devices that they are for, and their backtests.

use acuvim_wire::payload::Severity;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Whether a rule raises alerts that people are notified of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum RuleMode {
    /// It raises alerts, and people are notified.
    #[default]
    Live,
    /// It raises alerts that are recorded only, to try it.
    Shadow,
    /// It is not evaluated.
    Off,
}

/// The devices that a rule, a silence or a notification is for: those that any of the lists includes; all
/// if every list is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct DeviceScope {
    /// The ids of devices.
    pub device_ids: Vec<String>,
    /// The ids of groups: all of their devices.
    pub group_ids: Vec<Uuid>,
    /// Tags: all devices with at least one of them.
    pub tags: Vec<String>,
}

impl DeviceScope {
    /// Whether it names nothing, and so means all.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.device_ids.is_empty() && self.group_ids.is_empty() && self.tags.is_empty()
    }

    /// Whether a device is among them.
    #[must_use]
    pub fn has(&self, device_id: &str, group_id: Option<Uuid>, tags: &[String]) -> bool {
        self.is_all()
            || self.device_ids.iter().any(|id| id == device_id)
            || group_id.is_some_and(|group| self.group_ids.contains(&group))
            || self.tags.iter().any(|tag| tags.contains(tag))
    }
}

/// As many as nobody wants to be told of one by one.
const fn flap_count() -> u32 {
    5
}

/// Half an hour: long enough for readings that come every few minutes.
const fn flap_seconds() -> u32 {
    1800
}

/// A rule as a person writes it: `POST /api/rules`, `PUT /api/rules/{id}`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RuleBody {
    /// The name, 1 to 100 characters, which no other rule has.
    #[cfg_attr(feature = "openapi", schema(example = "Overvoltage"))]
    pub name: String,
    /// The kind of its alerts: 1 to 64 of a-z 0-9 _
    #[cfg_attr(feature = "openapi", schema(example = "overvoltage"))]
    pub alert_type: String,
    /// The severity of its alerts; `warning` unless given.
    #[serde(default)]
    pub severity: Severity,
    /// When it breaches: a SQL predicate over the columns of `telemetry`, with
    /// `nominal_voltage_v` and `nominal_frequency_hz` of the device or its group.
    #[cfg_attr(feature = "openapi", schema(example = "voltage_l1_v > 1.10 * nominal_voltage_v"))]
    pub when: String,
    /// When it is over; unless given, when `when` is false. Between the two it stays as it is.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(example = "voltage_l1_v < 1.08 * nominal_voltage_v"))]
    pub clear_when: Option<String>,
    /// Seconds that it must have breached before it is raised, up to 86,400.
    #[serde(default)]
    pub for_seconds: u32,
    /// Seconds that it must have been over before it is cleared, up to 86,400.
    #[serde(default)]
    pub clear_for_seconds: u32,
    /// Readings further apart than this say nothing of the time between them: what was held for begins
    /// anew. Up to 345,600; unless given, four of the device's own steps, and 900 at least.
    #[serde(default)]
    pub gap_seconds: Option<u32>,
    /// So many episodes of a device that begin within `flap_seconds` are flapping: the last of them
    /// stays open until it has been over for as long. 2 to 10, 5 unless given; 0: none are.
    #[serde(default = "flap_count")]
    pub flap_count: u32,
    /// See `flap_count`; 1 to 86,400, 1,800 unless given.
    #[serde(default = "flap_seconds")]
    pub flap_seconds: u32,
    /// The devices that it is evaluated for; all unless given.
    #[serde(default)]
    pub scope: DeviceScope,
    /// The alert's words, with `{device_id}`, `{value}`, `{threshold}`, `{rule}` and any column in
    /// braces.
    #[serde(default)]
    pub message: Option<String>,
    /// Whether it alerts, only records, or is off; `live` unless given.
    #[serde(default)]
    pub mode: RuleMode,
}

/// A rule with its version.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rule {
    /// The id of the rule.
    pub id: Uuid,
    /// The number of the version: 1 for a new rule, one more after each change.
    pub version: i64,
    /// The rule as it was written.
    #[serde(flatten)]
    pub body: RuleBody,
    /// How many of its alerts are open.
    pub open_alerts: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When this version of it was made.
    pub updated_at: DateTime<Utc>,
}

impl Rule {
    // `PUT` takes and ignores them, so that what was read can be sent back.
    /// The fields that nobody can set.
    pub const READ_ONLY: [&'static str; 5] =
        ["id", "version", "open_alerts", "created_at", "updated_at"];
}

/// `POST /api/rules/backtest`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BacktestRequest {
    /// A rule to try; it need not be stored.
    #[serde(default)]
    pub rule: Option<RuleBody>,
    /// The id of a stored rule, to try it; with `rule` too, the result is compared with what it has
    /// recorded.
    #[serde(default)]
    pub rule_id: Option<Uuid>,
    /// The beginning of the time span.
    pub from: DateTime<Utc>,
    /// The end of the time span, at most 366 days later.
    pub to: DateTime<Utc>,
    /// The devices; those of the rule unless given.
    #[serde(default)]
    pub scope: Option<DeviceScope>,
}

/// The state of a backtest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum BacktestState {
    /// It runs, or waits for another to end.
    Running,
    /// It has a result.
    Done,
    /// It has failed, and `error` says why.
    Failed,
    /// It was cancelled before it was done.
    Cancelled,
}

/// A backtest.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Backtest {
    /// The id of the backtest.
    pub id: Uuid,
    /// Whether it runs, has a result, or ended without.
    pub state: BacktestState,
    /// The share that is done, from 0 to 1.
    pub progress: f64,
    /// Why it failed, in words; null unless it did.
    pub error: Option<String>,
    /// When it was started.
    pub created_at: DateTime<Utc>,
    /// What it found; null until it is done.
    pub result: Option<BacktestResult>,
}

/// What a backtest found.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BacktestResult {
    /// Readings that were evaluated.
    pub readings: i64,
    /// Devices with readings that the rule is for.
    pub devices: i64,
    /// Devices for which the rule could not run, because it needs a nominal value that they don't have.
    pub missing_settings: Vec<String>,
    /// Episodes over all devices.
    pub episodes: i64,
    /// Seconds in alarm within the time span, added up over all devices.
    pub seconds_in_alarm: f64,
    /// Episodes that began less than five minutes after the one before ended.
    pub flaps: i64,
    /// The devices with episodes, those with the longest time in alarm first.
    pub by_device: Vec<BacktestDevice>,
    /// The difference to what the stored rule has recorded; null without a stored rule.
    pub difference: Option<BacktestDifference>,
    /// The Delta version of `telemetry` that was read.
    pub lake_version: i64,
    /// How long it ran, in milliseconds.
    pub elapsed_ms: u64,
}

/// A backtest of one device.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BacktestDevice {
    /// The device id.
    pub device_id: String,
    /// The number of its episodes.
    pub episodes: i64,
    /// Seconds in alarm within the time span.
    pub seconds_in_alarm: f64,
    /// Episodes that began less than five minutes after the one before ended.
    pub flaps: i64,
    /// Its episodes in order of time; at most 10000 over all devices.
    pub list: Vec<BacktestEpisode>,
}

/// An episode that a backtest found.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BacktestEpisode {
    /// When its condition began.
    pub created_at: DateTime<Utc>,
    /// When it had held for long enough.
    pub raised_at: DateTime<Utc>,
    /// When it ended; null if it was open at the end.
    pub resolved_at: Option<DateTime<Utc>>,
}

/// What a backtest found beside what is recorded.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BacktestDifference {
    /// Episodes that both have.
    pub same: i64,
    /// Episodes that only the backtest has.
    pub only_backtest: i64,
    /// Episodes that only the stored rule has recorded.
    pub only_recorded: i64,
}

#[cfg(test)]
mod tests;
