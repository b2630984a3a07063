//! A rollout that runs and its devices, with everything that its next step is judged by.

use acuvim_schemas::{
    api::{RolloutPlan, UpdateState},
    command::CommandStatus,
};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::{Control, Error, ErrorKind};

/// A rollout that runs.
#[derive(Debug, Clone, PartialEq)]
pub struct RunningRollout {
    /// Its id.
    pub id: Uuid,
    /// What.
    pub version: String,
    /// Which stage it is in, from 1.
    pub stage: i64,
    /// Since when the stage is being watched.
    pub soak_since: Option<DateTime<Utc>>,
    /// How it goes.
    pub plan: RolloutPlan,
    /// When devices that were not reached are given up.
    pub deadline_at: DateTime<Utc>,
    /// Who began it.
    pub created_by: String,
    /// Failures that a person has seen and let pass.
    pub forgiven: i64,
    /// When something last happened: a step is stored only if that is still so.
    pub updated_at: DateTime<Utc>,
}

/// A device of a rollout, and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutMember {
    /// Which.
    pub device_id: String,
    /// The stage that it belongs to, from 1.
    pub stage: i64,
    /// How far it has come.
    pub state: UpdateState,
    /// Since when.
    pub since: DateTime<Utc>,
    /// How often it had started when it began to fetch the image, or else when it was told.
    pub boot_before: Option<i64>,
    /// Whether it ended without having been reached.
    pub is_missed: bool,
    /// Whether it fetched some of the image.
    pub fetched_some: bool,
    /// Whether it fetched the image's end.
    pub fetched_all: bool,
    /// Whether it was refused the image because the rollout was held, and has got nothing of it since.
    pub is_refused: bool,
    /// How far the command has come that it was told with; none if it was not.
    pub command: Option<CommandStatus>,
    /// What it said went wrong.
    pub command_error: Option<String>,
    /// Whether the command was with it.
    pub was_sent: bool,
    /// Whether it is there, as far as is known.
    pub is_online: bool,
    /// Which version its newest heartbeat named, and when that came.
    pub beat_version: Option<String>,
    /// When it came.
    pub beat_at: Option<DateTime<Utc>>,
    /// How often it has started.
    pub boot: Option<i64>,
    /// How far apart its heartbeats are, in seconds, if it says so.
    pub beat_interval_s: Option<i64>,
    /// What it ran when the rollout began.
    pub from_version: Option<String>,
    /// Whether an alert about a loop of restarts began after it came into its state, and is open.
    pub is_looping: bool,
    /// Whether another rollout has told it something after it came into its state.
    pub is_told_since: bool,
    /// Its site's time zone.
    pub time_zone: Option<String>,
}

impl RolloutMember {
    /// Its site's time zone; UTC if none is known.
    #[must_use]
    pub fn zone(&self) -> Tz {
        self.time_zone.as_deref().and_then(|zone| zone.parse().ok()).unwrap_or(Tz::UTC)
    }
}

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
            && row.beat_version.as_deref() != Some(row.version.as_str());
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
    /// The rollouts that run, oldest first.
    ///
    /// # Errors
    /// When the database can't be asked.
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
            let plan = serde_json::from_value(row.plan)
                .map_err(|e| Error::new(ErrorKind::Internal, format!("a stored plan: {e}")))?;
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

    /// The devices of a rollout, in their order.
    ///
    /// # Errors
    /// When the database can't be asked.
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

    /// Notes that a device fetched some of a version's image, or its end; with the first of it, how often
    /// the device has started by then. Answers whether it is in a rollout of it.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn note_fetched(
        &self,
        device_id: &str,
        version: &str,
        all: bool,
    ) -> Result<bool, Error> {
        let noted = self
            .execute(
                "UPDATE rollout_devices SET fetched_some = $1, fetched_all = (fetched_all OR $2),
                     refused = $5,
                     boot_before = CASE WHEN fetched_some THEN boot_before ELSE
                         (SELECT d.boot_count FROM devices d
                          WHERE d.device_id = rollout_devices.device_id) END
                 WHERE device_id = $3 AND version = $4 AND active
                     AND state IN ('offered', 'downloading')",
                vec![true.into(), all.into(), device_id.into(), version.into(), false.into()],
            )
            .await?;
        Ok(noted > 0)
    }

    /// Notes that a device was refused the image because its rollout is held: what it answers then
    /// says nothing of the version.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn note_refused(&self, device_id: &str, version: &str) -> Result<(), Error> {
        self.execute(
            "UPDATE rollout_devices SET refused = $1
             WHERE device_id = $2 AND version = $3 AND active AND refused = $4
                 AND state IN ('offered', 'downloading')
                 AND rollout_id IN (SELECT r.id FROM rollouts r
                     WHERE r.state IN ('paused', 'stopped'))",
            vec![true.into(), device_id.into(), version.into(), false.into()],
        )
        .await
        .map(|_| ())
    }

    /// The version that a running rollout has told a device to take.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn told_version(&self, device_id: &str) -> Result<Option<String>, Error> {
        let found: Option<(String,)> = self
            .fetch_optional(
                "SELECT m.version FROM rollout_devices m JOIN rollouts r ON r.id = m.rollout_id
                 WHERE m.device_id = $1 AND m.active AND r.state = 'running'
                     AND m.state IN ('offered', 'downloading', 'installing')",
                vec![device_id.into()],
            )
            .await?;
        Ok(found.map(|(version,)| version))
    }

    /// Whether a rollout lets a device fetch a version: one that runs has told it to, or one that is
    /// held had and it has begun. Where a rollout was stopped, nobody goes on.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn may_fetch(&self, device_id: &str, version: &str) -> Result<bool, Error> {
        let found: Option<(String,)> = self
            .fetch_optional(
                "SELECT m.state FROM rollout_devices m JOIN rollouts r ON r.id = m.rollout_id
                 WHERE m.device_id = $1 AND m.version = $2
                     AND ((r.state = 'running'
                             AND m.state IN ('offered', 'downloading', 'installing'))
                         OR (r.state = 'paused' AND (m.state IN ('downloading', 'installing')
                             OR (m.state = 'offered' AND (m.fetched_some
                                 OR EXISTS (SELECT 1 FROM commands c
                                     WHERE c.request_id = m.request_id AND c.status = 'ack'))))))",
                vec![device_id.into(), version.into()],
            )
            .await?;
        Ok(found.is_some())
    }

    /// Versions of which a rollout is not over, or the newest was aborted: they are for the devices
    /// that a rollout has told.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn versions_held(&self) -> Result<Vec<String>, Error> {
        let rows: Vec<(String,)> = self
            .fetch_all(
                "SELECT DISTINCT r.version FROM rollouts r
                 WHERE r.state IN ('running', 'paused', 'stopped')
                     OR (r.state = 'aborted'
                         AND NOT EXISTS (SELECT 1 FROM rollouts n WHERE n.version = r.version
                             AND (n.created_at, n.id) > (r.created_at, r.id)))",
                vec![],
            )
            .await?;
        Ok(rows.into_iter().map(|(version,)| version).collect())
    }

    /// How often a version has failed on a device, over all rollouts.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn update_failures(&self, device_id: &str, version: &str) -> Result<i64, Error> {
        let row: Option<(i64,)> = self
            .fetch_optional(
                "SELECT CAST(COALESCE(SUM(failures), 0) AS BIGINT) FROM rollout_devices
                 WHERE device_id = $1 AND version = $2",
                vec![device_id.into(), version.into()],
            )
            .await?;
        Ok(row.map_or(0, |(n,)| n))
    }
}
