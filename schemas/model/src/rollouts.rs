//! Rollouts of firmware: their plans, stages, devices and decisions.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::commands::Skipped;

/// A stage of a rollout, with a share or a number of the devices. Those of earlier stages are included.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RolloutStage {
    /// The share of the devices in percent: above 0, at most 100. The last stage has 100.
    pub percent: Option<f64>,
    /// In place of `percent`: the number of devices, at least 1.
    pub count: Option<u32>,
    /// Seconds that the stage is watched before the next one begins: 0 to 2592000 (30 days); 0 unless
    /// given.
    pub soak_seconds: u32,
}

/// The time of day at which devices may be told to update, in the time zone of the site. A window that
/// ends before it begins goes over midnight.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct MaintenanceWindow {
    /// The beginning, as `HH:MM`.
    #[cfg_attr(feature = "openapi", schema(example = "01:00"))]
    pub from: String,
    /// The end, as `HH:MM`.
    #[cfg_attr(feature = "openapi", schema(example = "05:00"))]
    pub to: String,
}

/// What a reason begins with where a health gate has failed; behind it comes the gate's own error.
pub const GATE_FAILED: &str = "the health gate could not be asked";

/// How a rollout proceeds.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RolloutPlan {
    /// The stages, 1 to 20; one with all devices unless given.
    pub stages: Vec<RolloutStage>,
    /// The rollout stops when a larger share of the finished devices has failed: 0 to 100; 5 unless
    /// given.
    pub max_failure_percent: f64,
    /// How many devices must have finished before the share of failures counts, unless the stage is over:
    /// 1 to 100000; 10 unless given.
    pub failure_min_count: u32,
    /// A SELECT that is asked when a stage has soaked: the rollout goes on if the first column of its
    /// first row is true. `rollout_devices` has device_id, state, updated and since.
    pub health_gate_sql: Option<String>,
    /// When devices may be told to update; at any time unless given.
    pub window: Option<MaintenanceWindow>,
    /// A device that has the image counts as failed after this many seconds without a heartbeat of the
    /// new version: 1 to 604800; 900 unless given.
    pub silent_after_seconds: u32,
    /// The most devices that download or install at a time: 1 to 100000; 200 unless given.
    pub max_in_progress: u32,
    /// Seconds after which devices that were not reached are given up: 60 to 2592000, and more than the
    /// stages soak together; 604800 (7 days) unless given.
    pub deadline_seconds: u32,
}

impl Default for RolloutPlan {
    fn default() -> Self {
        Self {
            stages: vec![RolloutStage { percent: Some(100.0), ..RolloutStage::default() }],
            max_failure_percent: 5.0,
            failure_min_count: 10,
            health_gate_sql: None,
            window: None,
            silent_after_seconds: 900,
            max_in_progress: 200,
            deadline_seconds: 7 * 86_400,
        }
    }
}

/// `POST /api/firmware/deploy`: a version, and exactly one of device_ids, group_id and tag.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct DeployRequest {
    /// The version of the release to install.
    pub version: String,
    /// The ids of the devices.
    pub device_ids: Option<Vec<String>>,
    /// The id of a group: all of its devices.
    pub group_id: Option<Uuid>,
    /// A tag: all devices that have it.
    pub tag: Option<String>,
    /// The plan; all devices at once unless given.
    pub rollout: Option<RolloutPlan>,
    /// Whether devices are included on which this version has failed repeatedly.
    pub force: bool,
}

/// `POST /api/groups/{id}/deploy`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct GroupDeployRequest {
    /// The version of the release to install.
    pub version: String,
    /// The plan; all devices at once unless given.
    pub rollout: Option<RolloutPlan>,
    /// Whether devices are included on which this version has failed repeatedly.
    pub force: bool,
}

/// A rollout that was started.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Deployed {
    /// The id of the rollout; its state is at `/api/firmware/rollouts/{rollout_id}`.
    pub rollout_id: Uuid,
    /// The number of devices that it is for.
    pub total: i64,
    /// The devices that were left out, with the reasons.
    pub skipped: Vec<Skipped>,
}

/// The state of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// Devices are told, watched or waited for.
    Running,
    /// A person has paused it, or its health gate could not be evaluated.
    Paused,
    /// It has stopped because too many devices failed, or its health gate was false.
    Stopped,
    /// A person has ended it.
    Aborted,
    /// Every device has finished.
    Completed,
}

impl RolloutState {
    /// Every state.
    pub const ALL: [Self; 5] =
        [Self::Running, Self::Paused, Self::Stopped, Self::Aborted, Self::Completed];

    /// The name in tables and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Aborted => "aborted",
            Self::Completed => "completed",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether it is over.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Aborted | Self::Completed)
    }
}

/// The state of a device in a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum UpdateState {
    /// It has not been told yet.
    Waiting,
    /// The command is stored: it was sent, or will be when the device is online.
    Offered,
    /// It has acknowledged the command, or begun to fetch the image.
    Downloading,
    /// It has fetched the whole image.
    Installing,
    /// A later heartbeat has reported the new version.
    Confirmed,
    /// It reported an error, or did not answer.
    Failed,
    /// It has restarted and runs another version.
    RolledBack,
    /// It has the image, and was not heard again in time.
    Silent,
    /// The rollout ended before the device was told.
    Cancelled,
}

impl UpdateState {
    /// Every state.
    pub const ALL: [Self; 9] = [
        Self::Waiting,
        Self::Offered,
        Self::Downloading,
        Self::Installing,
        Self::Confirmed,
        Self::Failed,
        Self::RolledBack,
        Self::Silent,
        Self::Cancelled,
    ];

    /// The name in tables and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Offered => "offered",
            Self::Downloading => "downloading",
            Self::Installing => "installing",
            Self::Confirmed => "confirmed",
            Self::Failed => "failed",
            Self::RolledBack => "rolled_back",
            Self::Silent => "silent",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether it is at work.
    #[must_use]
    pub const fn is_under_way(self) -> bool {
        matches!(self, Self::Downloading | Self::Installing)
    }

    /// Whether it went wrong.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::RolledBack | Self::Silent)
    }

    /// Whether the rollout waits for it no longer. A confirmed device may still turn into a failure.
    #[must_use]
    pub const fn is_over(self) -> bool {
        // Confirmed is over although it may still fail: a rollout must not wait for what never ends.
        self.is_failure() || matches!(self, Self::Confirmed | Self::Cancelled)
    }
}

/// The number of devices in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutCounts {
    /// Devices that have not been told yet.
    pub waiting: i64,
    /// Devices that were told, or will be when they are online.
    pub offered: i64,
    /// Devices that fetch the image.
    pub downloading: i64,
    /// Devices that have the image and are expected to restart.
    pub installing: i64,
    /// Devices that run the new version.
    pub confirmed: i64,
    /// Devices that reported an error or did not answer.
    pub failed: i64,
    /// Devices that are back on another version.
    pub rolled_back: i64,
    /// Devices that were not heard again after they had the image.
    pub silent: i64,
    /// Devices that were not told because the rollout ended.
    pub cancelled: i64,
}

impl RolloutCounts {
    /// Counts one more.
    pub const fn add(&mut self, state: UpdateState, n: i64) {
        let place = match state {
            UpdateState::Waiting => &mut self.waiting,
            UpdateState::Offered => &mut self.offered,
            UpdateState::Downloading => &mut self.downloading,
            UpdateState::Installing => &mut self.installing,
            UpdateState::Confirmed => &mut self.confirmed,
            UpdateState::Failed => &mut self.failed,
            UpdateState::RolledBack => &mut self.rolled_back,
            UpdateState::Silent => &mut self.silent,
            UpdateState::Cancelled => &mut self.cancelled,
        };
        *place += n;
    }

    /// How many went wrong.
    #[must_use]
    pub const fn failures(&self) -> i64 {
        self.failed + self.rolled_back + self.silent
    }

    /// How many there are.
    #[must_use]
    pub const fn total(&self) -> i64 {
        self.waiting
            + self.offered
            + self.downloading
            + self.installing
            + self.confirmed
            + self.failures()
            + self.cancelled
    }

    /// In words, for a person.
    #[must_use]
    pub fn line(&self) -> String {
        let parts = [
            (self.confirmed, "confirmed"),
            (self.downloading, "downloading"),
            (self.installing, "installing"),
            (self.offered, "offered"),
            (self.waiting, "waiting"),
            (self.failed, "failed"),
            (self.rolled_back, "rolled back"),
            (self.silent, "silent"),
            (self.cancelled, "cancelled"),
        ];
        let said: Vec<String> =
            parts.iter().filter(|(n, _)| *n > 0).map(|(n, name)| format!("{n} {name}")).collect();
        match said.is_empty() {
            true => "no devices".to_owned(),
            false => format!("{} of {} devices", said.join(", "), self.total()),
        }
    }
}

impl Rollout {
    /// Takes out what its health gate has read: it reads all devices' data, also for those who see some
    /// devices alone. Its text goes too, since it may name devices.
    #[must_use]
    pub fn without_gate(mut self) -> Self {
        self.plan.health_gate_sql = None;
        self.reason = self.reason.map(without_gate_error);
        for decision in &mut self.decisions {
            decision.reason = without_gate_error(std::mem::take(&mut decision.reason));
            if let Some(figures) = decision.figures.as_object_mut() {
                // The row that the gate read, and below it the query itself, which is part of the plan.
                figures.remove("gate");
                if let Some(serde_json::Value::Object(plan)) = figures.get_mut("plan") {
                    plan.remove("health_gate_sql");
                }
            }
        }
        self
    }
}

/// An error may quote the row that it is about.
fn without_gate_error(mut reason: String) -> String {
    // The words before it are ours; what follows comes from the query and may quote any device.
    if reason.starts_with(GATE_FAILED) {
        reason.truncate(GATE_FAILED.len());
    }
    reason
}

/// A decision about a rollout, with the figures that it is based on.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutDecision {
    /// When it was made.
    pub at: DateTime<Utc>,
    /// The decision: `started`, `soaking`, `gate_passed`, `gate_failed`, `gate_error`, `next_stage`,
    /// `stopped`, `paused`, `resumed`, `aborted`, `retried` or `completed`.
    pub decision: String,
    /// Why it was made, in words.
    pub reason: String,
    /// The figures behind it; their names depend on the decision.
    pub figures: serde_json::Value,
}

/// `GET /api/firmware/rollouts/{id}`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rollout {
    /// The id of the rollout.
    pub id: Uuid,
    /// The firmware version that is installed.
    pub version: String,
    /// Whether it is running, paused, stopped or over.
    pub state: RolloutState,
    /// The stage that it is in, from 1; one more than there are when all devices have been told.
    pub stage: i64,
    /// Since when the stage is watched; null while devices of it are not finished.
    pub soak_since: Option<DateTime<Utc>>,
    /// The progress in one line, such as `3 confirmed, 1 failed of 4 devices`.
    pub progress: String,
    /// The number of devices in each state.
    pub devices: RolloutCounts,
    /// Why it is in this state, in words.
    pub reason: Option<String>,
    /// The plan that it follows.
    pub plan: RolloutPlan,
    /// The name of the user who started it.
    pub created_by: String,
    /// When it was started.
    pub created_at: DateTime<Utc>,
    /// When devices that were not reached are given up.
    pub deadline_at: DateTime<Utc>,
    /// When its state or a device of it last changed.
    pub updated_at: DateTime<Utc>,
    /// The decisions so far, newest first; only in the answer about one rollout, not in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<RolloutDecision>,
}

/// A device of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutDevice {
    /// The device id.
    pub device_id: String,
    /// The stage that it belongs to, from 1.
    pub stage: i64,
    /// The state of the device in the rollout.
    pub state: UpdateState,
    /// Since when it is in this state.
    pub since: DateTime<Utc>,
    /// Why it is in this state, in words.
    pub detail: Option<String>,
    /// The version that it ran before.
    pub from_version: Option<String>,
    /// The command that told it to update; null before.
    pub request_id: Option<Uuid>,
}

#[cfg(test)]
mod tests;
