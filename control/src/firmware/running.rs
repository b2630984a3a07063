//! Running rollouts and their devices, as the rollout logic takes them.

use acuvim_model::{CommandStatus, UpdateState};
use acuvim_rollout::{RolloutMember, RunningRollout, runs};
use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::{db::Control, error::Error};

/// The lease of the process that runs rollouts.
pub const ROLLOUTS_LEASE: &str = "rollouts";

#[derive(sqlx::FromRow)]
struct RolloutRow {
    id: Uuid,
    version: String,
    stage: i64,
    soak_since: Option<DateTime<Utc>>,
    plan: Json,
    deadline_at: DateTime<Utc>,
    created_by: String,
    forgiven: i64,
    updated_at: DateTime<Utc>,
}

#[derive(sqlx::FromRow)]
struct MemberRow {
    device_id: String,
    version: String,
    stage: i64,
    state: String,
    since: DateTime<Utc>,
    boot_before: Option<i64>,
    fetched_some: bool,
    fetched_all: bool,
    refused: bool,
    command: Option<String>,
    command_error: Option<String>,
    sent_at: Option<DateTime<Utc>>,
    status: Option<String>,
    beat_version: Option<String>,
    beat_at: Option<DateTime<Utc>>,
    boot: Option<i64>,
    beat_interval_s: Option<i64>,
    from_version: Option<String>,
    is_looping: bool,
    is_told_since: bool,
    time_zone: Option<String>,
}

impl From<MemberRow> for RolloutMember {
    fn from(row: MemberRow) -> Self {
        let is_missed = row.state == UpdateState::Cancelled.as_str()
            && !runs(row.beat_version.as_deref(), &row.version);
        Self {
            is_missed,
            device_id: row.device_id,
            stage: row.stage,
            state: UpdateState::parse(&row.state).unwrap_or(UpdateState::Failed),
            since: row.since,
            boot_before: row.boot_before,
            fetched_some: row.fetched_some,
            fetched_all: row.fetched_all,
            is_refused: row.refused,
            command: row.command.as_deref().and_then(CommandStatus::parse),
            command_error: row.command_error,
            was_sent: row.sent_at.is_some(),
            is_online: row.status.is_some_and(|status| status != "offline"),
            beat_version: row.beat_version,
            beat_at: row.beat_at,
            boot: row.boot,
            beat_interval_s: row.beat_interval_s,
            from_version: row.from_version,
            is_looping: row.is_looping,
            is_told_since: row.is_told_since,
            time_zone: row.time_zone,
        }
    }
}

impl Control {
    /// All running rollouts, oldest first.
    pub async fn running_rollouts(&self) -> Result<Vec<RunningRollout>, Error> {
        let rows: Vec<RolloutRow> = self
            .fetch_all(
                "SELECT id, version, stage, soak_since, plan, deadline_at, created_by, forgiven,
                     updated_at
                 FROM rollouts WHERE state = 'running' ORDER BY created_at, id",
                vec![],
            )
            .await?;
        let read = |row: RolloutRow| {
            let plan =
                serde_json::from_value(row.plan).map_err(|e| Error::stored("a stored plan", e))?;
            Ok(RunningRollout {
                id: row.id,
                version: row.version,
                stage: row.stage,
                soak_since: row.soak_since,
                plan,
                deadline_at: row.deadline_at,
                created_by: row.created_by,
                forgiven: row.forgiven,
                updated_at: row.updated_at,
            })
        };
        rows.into_iter().map(read).collect()
    }

    /// The devices of a rollout, in the order in which they are updated.
    pub async fn rollout_members(&self, id: Uuid) -> Result<Vec<RolloutMember>, Error> {
        let rows: Vec<MemberRow> = self
            .fetch_all(
                "SELECT r.device_id, r.version, r.stage, r.state, r.since, r.boot_before, r.fetched_some,
                     r.fetched_all, r.refused, c.status AS command, c.error AS command_error, c.sent_at,
                     d.status, d.beat_version, d.beat_at, d.boot_count AS boot,
                     d.heartbeat_interval_s AS beat_interval_s, r.from_version,
                     EXISTS (SELECT 1 FROM alerts a WHERE a.device_id = r.device_id
                         AND a.alert_type = 'crash_loop' AND a.origin = 'health'
                         AND a.resolved_at IS NULL
                         AND a.recorded_at > COALESCE(c.created_at, r.since)) AS is_looping,
                     EXISTS (SELECT 1 FROM rollout_devices o WHERE o.device_id = r.device_id
                         AND o.rollout_id <> r.rollout_id AND o.since > r.since
                         AND o.state <> 'waiting'
                         AND (o.state <> 'cancelled' OR o.request_id IS NOT NULL)) AS is_told_since,
                     COALESCE(d.time_zone, g.time_zone) AS time_zone
                 FROM rollout_devices r LEFT JOIN commands c ON c.request_id = r.request_id
                 LEFT JOIN devices d ON d.device_id = r.device_id
                 LEFT JOIN groups g ON g.id = d.group_id
                 WHERE r.rollout_id = $1 ORDER BY r.ordinal",
                vec![id.into()],
            )
            .await?;
        Ok(rows.into_iter().map(RolloutMember::from).collect())
    }
}
