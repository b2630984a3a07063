//! Reading rollouts: one with its decisions, a page of them, a page of the devices of one.

use acuvim_model::{
    Rollout, RolloutCounts, RolloutDecision, RolloutDevice, RolloutState, Scope, UpdateState,
};
use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use uuid::Uuid;

use super::progress::{COUNTS, counted};
use crate::{db::Control, error::Error, scope::within, statement::Statement};

/// Decisions that are shown of one rollout.
const MAX_DECISIONS: i64 = 1000;

/// Selects rollouts for a list, newest first.
#[derive(Debug, Clone, Default)]
pub struct RolloutFilter {
    /// Only of this version.
    pub version: Option<String>,
    /// Only in this state.
    pub state: Option<RolloutState>,
    /// Only older than this one.
    pub before: Option<Uuid>,
    /// At most this many.
    pub limit: i64,
}

/// Selects devices of a rollout for a list, by id.
#[derive(Debug, Clone, Copy, Default)]
pub struct RolloutDeviceFilter<'a> {
    /// Only in this state.
    pub state: Option<UpdateState>,
    /// Only after this id.
    pub after: Option<&'a str>,
    /// At most this many.
    pub limit: i64,
}

const COLUMNS: &str = "id, version, state, stage, soak_since, reason, plan, created_by, created_at,
    deadline_at, updated_at";

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    version: String,
    state: String,
    stage: i64,
    soak_since: Option<DateTime<Utc>>,
    reason: Option<String>,
    plan: Json,
    created_by: String,
    created_at: DateTime<Utc>,
    deadline_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl Row {
    fn into_rollout(
        self,
        devices: RolloutCounts,
        decisions: Vec<RolloutDecision>,
    ) -> Result<Rollout, Error> {
        let plan =
            serde_json::from_value(self.plan).map_err(|e| Error::stored("a stored plan", e))?;
        Ok(Rollout {
            id: self.id,
            version: self.version,
            state: RolloutState::parse(&self.state).unwrap_or(RolloutState::Stopped),
            stage: self.stage,
            soak_since: self.soak_since,
            progress: devices.line(),
            devices,
            reason: self.reason,
            plan,
            created_by: self.created_by,
            created_at: self.created_at,
            deadline_at: self.deadline_at,
            updated_at: self.updated_at,
            decisions,
        })
    }
}

#[derive(sqlx::FromRow)]
struct DeviceRow {
    device_id: String,
    stage: i64,
    state: String,
    since: DateTime<Utc>,
    detail: Option<String>,
    from_version: Option<String>,
    request_id: Option<Uuid>,
}

/// Adds the condition that a rollout `r` has a device in the scope.
fn has_device_in(statement: &mut Statement, scope: Option<&Scope>) {
    if scope.is_some() {
        statement.push(
            "AND EXISTS (SELECT 1 FROM rollout_devices m JOIN devices d ON d.device_id = m.device_id
                 WHERE m.rollout_id = r.id",
            [],
        );
        within(statement, scope);
        statement.push(")", []);
    }
}

/// Hides the health gate from callers with a scope, because it reads the data of all devices.
fn for_scope(scope: Option<&Scope>, rollout: Rollout) -> Rollout {
    match scope {
        Some(_) => rollout.without_gate(),
        None => rollout,
    }
}

impl Control {
    /// A page of rollouts, and the number of matches on all pages. Counts of devices include those
    /// outside the scope.
    pub async fn rollouts(
        &self,
        filter: &RolloutFilter,
        scope: Option<&Scope>,
    ) -> Result<(Vec<Rollout>, i64), Error> {
        let mut all = Statement::new("FROM rollouts r WHERE 1 = 1");
        if let Some(version) = &filter.version {
            all.push("AND r.version = ?", [version.into()]);
        }
        if let Some(state) = filter.state {
            all.push("AND r.state = ?", [state.as_str().into()]);
        }
        has_device_in(&mut all, scope);
        let total = self.count_rows(&all).await?;
        let mut page = Statement::select(COLUMNS);
        page.append(&all);
        if let Some(before) = filter.before {
            page.push("AND r.id < ?", [before.into()]);
        }
        page.push("ORDER BY r.id DESC LIMIT ?", [filter.limit.into()]);
        let rows: Vec<Row> = self.select(page).await?;
        let mut items = Vec::with_capacity(rows.len());
        for row in rows {
            let devices = self.rollout_counts(row.id).await?;
            items.push(for_scope(scope, row.into_rollout(devices, Vec::new())?));
        }
        Ok((items, total))
    }

    async fn rollout_counts(&self, id: Uuid) -> Result<RolloutCounts, Error> {
        let rows: Vec<(String, i64)> = self.fetch_all(COUNTS, vec![id.into()]).await?;
        Ok(counted(&rows))
    }

    /// One rollout with its newest decisions, if a device of it is in the scope. Only callers without a
    /// scope get what its health gate has read.
    pub async fn rollout(&self, id: Uuid, scope: Option<&Scope>) -> Result<Option<Rollout>, Error> {
        let mut one = Statement::select(COLUMNS);
        one.push("FROM rollouts r WHERE r.id = ?", [id.into()]);
        has_device_in(&mut one, scope);
        let row: Option<Row> = self.select_one(one).await?;
        let Some(row) = row else { return Ok(None) };
        let decisions: Vec<(DateTime<Utc>, String, String, Json)> = self
            .fetch_all(
                "SELECT at, decision, reason, figures FROM rollout_decisions WHERE rollout_id = $1
                 ORDER BY id DESC LIMIT $2",
                vec![id.into(), MAX_DECISIONS.into()],
            )
            .await?;
        let decisions = decisions
            .into_iter()
            .map(|(at, decision, reason, figures)| RolloutDecision {
                at,
                decision,
                reason,
                figures,
            })
            .collect();
        let devices = self.rollout_counts(id).await?;
        Ok(Some(for_scope(scope, row.into_rollout(devices, decisions)?)))
    }

    /// A page of the devices of a rollout that are in the scope, and the number of matches on all pages.
    pub async fn rollout_devices(
        &self,
        id: Uuid,
        filter: &RolloutDeviceFilter<'_>,
        scope: Option<&Scope>,
    ) -> Result<(Vec<RolloutDevice>, i64), Error> {
        let mut all = Statement::new("FROM rollout_devices m");
        if scope.is_some() {
            all.push("JOIN devices d ON d.device_id = m.device_id", []);
        }
        all.push("WHERE m.rollout_id = ?", [id.into()]);
        if let Some(state) = filter.state {
            all.push("AND m.state = ?", [state.as_str().into()]);
        }
        within(&mut all, scope);
        let total = self.count_rows(&all).await?;
        let mut page = Statement::new(
            "SELECT m.device_id, m.stage, m.state, m.since, m.detail, m.from_version, m.request_id",
        );
        page.append(&all);
        if let Some(after) = filter.after {
            page.push("AND m.device_id > ?", [after.into()]);
        }
        page.push("ORDER BY m.device_id LIMIT ?", [filter.limit.into()]);
        let rows: Vec<DeviceRow> = self.select(page).await?;
        let shown = |row: DeviceRow| RolloutDevice {
            device_id: row.device_id,
            stage: row.stage,
            state: UpdateState::parse(&row.state).unwrap_or(UpdateState::Failed),
            since: row.since,
            detail: row.detail,
            from_version: row.from_version,
            request_id: row.request_id,
        };
        Ok((rows.into_iter().map(shown).collect(), total))
    }

    /// All devices of a rollout with their states, for the table that its health gate queries.
    pub async fn rollout_states(
        &self,
        id: Uuid,
    ) -> Result<Vec<(String, UpdateState, DateTime<Utc>)>, Error> {
        let rows: Vec<(String, String, DateTime<Utc>)> = self
            .fetch_all(
                "SELECT device_id, state, since FROM rollout_devices WHERE rollout_id = $1
                 ORDER BY ordinal",
                vec![id.into()],
            )
            .await?;
        let known = |(device, state, since): (String, String, DateTime<Utc>)| {
            Some((device, UpdateState::parse(&state)?, since))
        };
        Ok(rows.into_iter().filter_map(known).collect())
    }
}
