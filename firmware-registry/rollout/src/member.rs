//! What the logic decides on: a running rollout, and what is known of each of its devices.

use acuvim_model::{CommandStatus, RolloutPlan, UpdateState};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use uuid::Uuid;

/// A rollout in the state `running`.
#[derive(Debug, Clone, PartialEq)]
pub struct RunningRollout {
    /// The id of the rollout.
    pub id: Uuid,
    /// The version that it installs.
    pub version: String,
    /// The current stage, from 1; one more than the plan has once all stages have begun.
    pub stage: i64,
    /// When the devices of the stage were done and its soak began.
    pub soak_since: Option<DateTime<Utc>>,
    /// The plan that it was started with.
    pub plan: RolloutPlan,
    /// After this, devices that were not reached are given up.
    pub deadline_at: DateTime<Utc>,
    /// The name of the user or key that started it.
    pub created_by: String,
    /// Failures that no longer count, because a person resumed the rollout knowing of them.
    pub forgiven: i64,
    /// Changes with every stored step. A step is stored only if this is still the value that the
    /// step was computed from (compare and set).
    pub updated_at: DateTime<Utc>,
}

/// A device of a rollout, and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutMember {
    /// The id of the device.
    pub device_id: String,
    /// The stage that it belongs to, from 1.
    pub stage: i64,
    /// How far its update has come.
    pub state: UpdateState,
    /// When it entered that state.
    pub since: DateTime<Utc>,
    /// Its boot count when it began to fetch the image or, until then, when it was sent the command.
    pub boot_before: Option<i64>,
    /// Whether it ended without having been reached.
    pub is_missed: bool,
    /// Whether it fetched part of the image.
    pub fetched_some: bool,
    /// Whether it fetched the image up to its last byte.
    pub fetched_all: bool,
    /// Whether the server refused it the image because the rollout was held, and has sent it nothing
    /// of the image since.
    pub is_refused: bool,
    /// The status of the update command, if one was sent.
    pub command: Option<CommandStatus>,
    /// The error that the device answered the command with.
    pub command_error: Option<String>,
    /// Whether the device received the command.
    pub was_sent: bool,
    /// Whether the device is online or degraded.
    pub is_online: bool,
    /// The firmware version in its newest heartbeat.
    pub beat_version: Option<String>,
    /// When its newest heartbeat arrived.
    pub beat_at: Option<DateTime<Utc>>,
    /// Its current boot count.
    pub boot: Option<i64>,
    /// Seconds between its heartbeats, if it reports that.
    pub beat_interval_s: Option<i64>,
    /// The version that it ran when the rollout began.
    pub from_version: Option<String>,
    /// Whether a crash-loop alert is open that was raised during this update.
    pub is_looping: bool,
    /// Whether another rollout has sent it a command since it entered its state.
    pub is_told_since: bool,
    /// The time zone of its site.
    pub time_zone: Option<String>,
}

impl RolloutMember {
    /// The time zone of its site, or UTC if none is known.
    #[must_use]
    pub fn zone(&self) -> Tz {
        self.time_zone.as_deref().and_then(|zone| zone.parse().ok()).unwrap_or(Tz::UTC)
    }
}
