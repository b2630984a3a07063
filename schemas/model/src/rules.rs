//! Rules, the devices that they are for, and their backtests.

use acuvim_wire::payload::Severity;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Whether a rule alerts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum RuleMode {
    /// It does.
    #[default]
    Live,
    /// It only records.
    Shadow,
    /// It is not evaluated.
    Off,
}

/// The devices that a rule or a silence is about: those that any of it names; all if it is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct DeviceScope {
    /// These.
    pub device_ids: Vec<String>,
    /// All of these groups.
    pub group_ids: Vec<Uuid>,
    /// All with one of these tags.
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
    /// 1 to 100 characters, which no other rule has.
    #[cfg_attr(feature = "openapi", schema(example = "Overvoltage"))]
    pub name: String,
    /// What its alerts are: 1 to 64 of a-z 0-9 _
    #[cfg_attr(feature = "openapi", schema(example = "overvoltage"))]
    pub alert_type: String,
    /// How bad they are; warning unless given.
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
    /// The devices that it is for; all unless given.
    #[serde(default)]
    pub scope: DeviceScope,
    /// The alert's words, with `{device_id}`, `{value}`, `{threshold}`, `{rule}` and any column in
    /// braces.
    #[serde(default)]
    pub message: Option<String>,
    /// Whether it alerts.
    #[serde(default)]
    pub mode: RuleMode,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rule {
    /// Its id.
    pub id: Uuid,
    /// Counts its changes, from 1.
    pub version: i64,
    /// What it says.
    #[serde(flatten)]
    pub body: RuleBody,
    /// Its alerts that are open.
    pub open_alerts: i64,
    /// Since when there is this rule.
    pub created_at: DateTime<Utc>,
    /// Since when it is as it is.
    pub updated_at: DateTime<Utc>,
}

impl Rule {
    /// The fields that nobody can set.
    pub const READ_ONLY: [&'static str; 5] =
        ["id", "version", "open_alerts", "created_at", "updated_at"];
}

/// `POST /api/rules/backtest`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BacktestRequest {
    /// A rule that need not be stored.
    #[serde(default)]
    pub rule: Option<RuleBody>,
    /// Or the id of one that is; with both, the difference to it is told.
    #[serde(default)]
    pub rule_id: Option<Uuid>,
    /// From when.
    pub from: DateTime<Utc>,
    /// Until when, at most 366 days later.
    pub to: DateTime<Utc>,
    /// Over which devices; the rule's own scope unless given.
    #[serde(default)]
    pub scope: Option<DeviceScope>,
}

/// How far a backtest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum BacktestState {
    /// It is under way, or waits for its turn.
    Running,
    /// It has a result.
    Done,
    /// It has none, and says why.
    Failed,
    /// It was cancelled.
    Cancelled,
}

/// A backtest.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Backtest {
    /// Its id.
    pub id: Uuid,
    /// How far it is.
    pub state: BacktestState,
    /// From 0 to 1.
    pub progress: f64,
    /// Why it failed.
    pub error: Option<String>,
    /// Since when it runs.
    pub created_at: DateTime<Utc>,
    /// What it found.
    pub result: Option<BacktestResult>,
}

/// What a backtest found.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BacktestResult {
    /// Readings that were judged.
    pub readings: i64,
    /// Devices among them that the rule is for.
    pub devices: i64,
    /// Devices that it needs a nominal value of, and has none.
    pub missing_settings: Vec<String>,
    /// Episodes over all devices.
    pub episodes: i64,
    /// Seconds in alarm over all devices, within the time asked for.
    pub seconds_in_alarm: f64,
    /// Episodes that began less than five minutes after the one before ended.
    pub flaps: i64,
    /// By device, those with episodes, the worst first.
    pub by_device: Vec<BacktestDevice>,
    /// Against what the stored rule has recorded.
    pub difference: Option<BacktestDifference>,
    /// The Delta version that was read.
    pub lake_version: i64,
    /// Milliseconds it took.
    pub elapsed_ms: u64,
}

/// A backtest of one device.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BacktestDevice {
    /// Which.
    pub device_id: String,
    /// How many episodes it has.
    pub episodes: i64,
    /// Seconds in alarm.
    pub seconds_in_alarm: f64,
    /// Episodes soon after another.
    pub flaps: i64,
    /// Them, up to 10,000 of all devices together.
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
