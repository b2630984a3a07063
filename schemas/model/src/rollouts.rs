//! Rollouts of firmware: their plans, stages, devices and decisions.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::commands::Skipped;

/// A stage of a rollout: it reaches so many of the devices, those of earlier stages included.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RolloutStage {
    /// So many of a hundred; above 0, at most 100. The last stage has 100.
    pub percent: Option<f64>,
    /// Or so many.
    pub count: Option<u32>,
    /// Seconds that it is watched before the next begins.
    pub soak_seconds: u32,
}

/// When devices may be told to update: from one time of their day to another, in the site's time
/// zone. One that ends before it begins goes over midnight.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct MaintenanceWindow {
    /// `HH:MM`.
    #[cfg_attr(feature = "openapi", schema(example = "01:00"))]
    pub from: String,
    /// `HH:MM`.
    #[cfg_attr(feature = "openapi", schema(example = "05:00"))]
    pub to: String,
}

/// What a reason begins with where a health gate has failed; behind it comes the gate's own error.
pub const GATE_FAILED: &str = "the health gate could not be asked";

/// How a rollout goes.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RolloutPlan {
    /// Its stages; one of all devices unless given.
    pub stages: Vec<RolloutStage>,
    /// It stops when more of a hundred devices that ended have failed.
    pub max_failure_percent: f64,
    /// So many devices must have ended before that is judged, or the stage must be over.
    pub failure_min_count: u32,
    /// A SELECT that is asked when a stage has soaked: the rollout goes on if the first column of its
    /// first row is true. `rollout_devices` has device_id, state, updated and since.
    pub health_gate_sql: Option<String>,
    /// When devices may be told; at any time unless given.
    pub window: Option<MaintenanceWindow>,
    /// Seconds without a heartbeat of the new version, once a device has it, after which it counts as
    /// failed.
    pub silent_after_seconds: u32,
    /// Devices that download and install at a time.
    pub max_in_progress: u32,
    /// Seconds until devices that were not reached are given up.
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

/// `POST /api/firmware/deploy`: one of device_ids, group_id and tag.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct DeployRequest {
    /// What.
    pub version: String,
    /// To these.
    pub device_ids: Option<Vec<String>>,
    /// To all of this group.
    pub group_id: Option<Uuid>,
    /// To all with this tag.
    pub tag: Option<String>,
    /// How; to all at once unless given.
    pub rollout: Option<RolloutPlan>,
    /// Also to devices on which the version has failed again and again.
    pub force: bool,
}

/// `POST /api/groups/{id}/deploy`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct GroupDeployRequest {
    /// What.
    pub version: String,
    /// How; to all at once unless given.
    pub rollout: Option<RolloutPlan>,
    /// Also to devices on which the version has failed again and again.
    pub force: bool,
}

/// Answer to a deploy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Deployed {
    /// Follow it at `/api/firmware/rollouts/{rollout_id}`.
    pub rollout_id: Uuid,
    /// How many devices it is for.
    pub total: i64,
    /// Devices that were left out, and why.
    pub skipped: Vec<Skipped>,
}

/// How a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// It goes on.
    Running,
    /// A person, or a gate that could not be asked, holds it.
    Paused,
    /// Too much went wrong.
    Stopped,
    /// A person has ended it.
    Aborted,
    /// Every device has ended.
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

/// How far a device has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum UpdateState {
    /// It was not told yet.
    Waiting,
    /// It was told, or will be when it comes online.
    Offered,
    /// It has taken the command, or has begun to fetch the image.
    Downloading,
    /// It has the image.
    Installing,
    /// It said in a later heartbeat that it runs the new version.
    Confirmed,
    /// It could not, or would not.
    Failed,
    /// It started anew and runs another version.
    RolledBack,
    /// It has the image and was not heard of again.
    Silent,
    /// The rollout was over before it was told.
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
        self.is_failure() || matches!(self, Self::Confirmed | Self::Cancelled)
    }
}

/// How many devices are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutCounts {
    /// Not told yet.
    pub waiting: i64,
    /// Told.
    pub offered: i64,
    /// Fetching.
    pub downloading: i64,
    /// Installing.
    pub installing: i64,
    /// Running it.
    pub confirmed: i64,
    /// Failed.
    pub failed: i64,
    /// Back on the version before.
    pub rolled_back: i64,
    /// Not heard of again.
    pub silent: i64,
    /// Not told any more.
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
        format!("{} of {} devices", said.join(", "), self.total())
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
    if reason.starts_with(GATE_FAILED) {
        reason.truncate(GATE_FAILED.len());
    }
    reason
}

/// What was decided about a rollout, and on which figures.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutDecision {
    /// When.
    pub at: DateTime<Utc>,
    /// `started`, `soaking`, `gate_passed`, `gate_failed`, `gate_error`, `next_stage`, `stopped`,
    /// `paused`, `resumed`, `aborted`, `retried`, `completed`.
    pub decision: String,
    /// In words.
    pub reason: String,
    /// The figures.
    pub figures: serde_json::Value,
}

/// `GET /api/firmware/rollouts/{id}`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rollout {
    /// Its id.
    pub id: Uuid,
    /// What.
    pub version: String,
    /// How it is.
    pub state: RolloutState,
    /// Which stage it is in, from 1; one more than there are once all devices were told.
    pub stage: i64,
    /// Since when the stage is being watched; null while its devices are at work.
    pub soak_since: Option<DateTime<Utc>>,
    /// How far it has come, in a line.
    pub progress: String,
    /// How many devices are in which state.
    pub devices: RolloutCounts,
    /// Why it is as it is.
    pub reason: Option<String>,
    /// How it goes.
    pub plan: RolloutPlan,
    /// Who began it.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// When devices that were not reached are given up.
    pub deadline_at: DateTime<Utc>,
    /// When something last happened.
    pub updated_at: DateTime<Utc>,
    /// What was decided, newest first; of one rollout alone, not in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<RolloutDecision>,
}

/// A device of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutDevice {
    /// Which.
    pub device_id: String,
    /// The stage that it belongs to, from 1.
    pub stage: i64,
    /// How far it has come.
    pub state: UpdateState,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Why.
    pub detail: Option<String>,
    /// What it ran before.
    pub from_version: Option<String>,
    /// The command that it was told with.
    pub request_id: Option<Uuid>,
}
