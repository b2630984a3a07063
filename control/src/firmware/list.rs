//! Reading rollouts back: one with its decisions, a page of them, a page of one's devices.

use acuvim_schemas::api::{
    Rollout, RolloutCounts, RolloutDecision, RolloutDevice, RolloutState, Scope, UpdateState,
};
use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::{Control, Error, ErrorKind, db::Tx, scope::within, text::Statement};

/// Decisions and left-out devices that are shown.
pub(super) const HISTORY: usize = 1000;

/// Which rollouts a list holds, newest first.
#[derive(Debug, Clone, Default)]
pub struct RolloutFilter {
    /// Only of this version.
    pub version: Option<String>,
    /// Only in this state.
    pub state: Option<RolloutState>,
    /// Only older than this one.
    pub before: Option<Uuid>,
    /// At most so many.
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
    fn shown(
        self,
        devices: RolloutCounts,
        decisions: Vec<RolloutDecision>,
    ) -> Result<Rollout, Error> {
        let plan = serde_json::from_value(self.plan)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("a stored plan: {e}")))?;
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

fn counted(rows: &[(String, i64)]) -> RolloutCounts {
    let mut counts = RolloutCounts::default();
    for (state, n) in rows {
        if let Some(state) = UpdateState::parse(state) {
            counts.add(state, *n);
        }
    }
    counts
}

/// How many devices of a rollout are in which state.
pub(super) async fn counts(tx: &mut Tx, id: Uuid) -> Result<RolloutCounts, Error> {
    let rows: Vec<(String, i64)> = tx
        .fetch_all(
            "SELECT state, COUNT(*) FROM rollout_devices WHERE rollout_id = $1 GROUP BY state",
            vec![id.into()],
        )
        .await?;
    Ok(counted(&rows))
}

/// Adds the condition that a rollout `r` has a device in a scope.
fn seen(statement: &mut Statement, scope: Option<&Scope>) {
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

/// A rollout as a scope may see it: its gate reads the data of all devices.
fn seen_by(scope: Option<&Scope>, rollout: Rollout) -> Rollout {
    match scope {
        Some(_) => rollout.without_gate(),
        None => rollout,
    }
}

impl Control {
    /// A page of rollouts, newest first, and how many match on all pages. The counts are of all their
    /// devices, also of those outside the scope.
    ///
    /// # Errors
    /// When the database can't be asked.
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
        seen(&mut all, scope);
        let mut count = Statement::new("SELECT COUNT(*)");
        count.append(&all);
        let (text, values) = count.into_parts();
        let total: Option<(i64,)> = self.fetch_optional(text, values).await?;
        let mut page = Statement::new("SELECT");
        page.push(COLUMNS, []);
        page.append(&all);
        if let Some(before) = filter.before {
            page.push("AND r.id < ?", [before.into()]);
        }
        page.push("ORDER BY r.id DESC LIMIT ?", [filter.limit.into()]);
        let (text, values) = page.into_parts();
        let rows: Vec<Row> = self.fetch_all(text, values).await?;
        let mut items = Vec::with_capacity(rows.len());
        for row in rows {
            let devices = self.rollout_counts(row.id).await?;
            items.push(seen_by(scope, row.shown(devices, Vec::new())?));
        }
        Ok((items, total.map_or(0, |t| t.0)))
    }

    async fn rollout_counts(&self, id: Uuid) -> Result<RolloutCounts, Error> {
        let rows: Vec<(String, i64)> = self
            .fetch_all(
                "SELECT state, COUNT(*) FROM rollout_devices WHERE rollout_id = $1 GROUP BY state",
                vec![id.into()],
            )
            .await?;
        Ok(counted(&rows))
    }

    /// One rollout with what was decided about it, if a device of it is in the scope. What its health
    /// gate has read is for callers without a scope.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn rollout(&self, id: Uuid, scope: Option<&Scope>) -> Result<Option<Rollout>, Error> {
        let mut one = Statement::new("SELECT");
        one.push(COLUMNS, []);
        one.push("FROM rollouts r WHERE r.id = ?", [id.into()]);
        seen(&mut one, scope);
        let (text, values) = one.into_parts();
        let row: Option<Row> = self.fetch_optional(text, values).await?;
        let Some(row) = row else { return Ok(None) };
        let decisions: Vec<(DateTime<Utc>, String, String, Json)> = self
            .fetch_all(
                "SELECT at, decision, reason, figures FROM rollout_decisions WHERE rollout_id = $1
                 ORDER BY id DESC LIMIT $2",
                vec![id.into(), (HISTORY as i64).into()],
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
        Ok(Some(seen_by(scope, row.shown(devices, decisions)?)))
    }

    /// A page of a rollout's devices in a scope, by their id, and how many match on all pages.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn rollout_devices(
        &self,
        id: Uuid,
        state: Option<UpdateState>,
        (behind, limit): (Option<&str>, i64),
        scope: Option<&Scope>,
    ) -> Result<(Vec<RolloutDevice>, i64), Error> {
        let mut all = Statement::new("FROM rollout_devices m");
        if scope.is_some() {
            all.push("JOIN devices d ON d.device_id = m.device_id", []);
        }
        all.push("WHERE m.rollout_id = ?", [id.into()]);
        if let Some(state) = state {
            all.push("AND m.state = ?", [state.as_str().into()]);
        }
        within(&mut all, scope);
        let mut count = Statement::new("SELECT COUNT(*)");
        count.append(&all);
        let (text, values) = count.into_parts();
        let total: Option<(i64,)> = self.fetch_optional(text, values).await?;
        let mut page = Statement::new(
            "SELECT m.device_id, m.stage, m.state, m.since, m.detail, m.from_version, m.request_id",
        );
        page.append(&all);
        if let Some(behind) = behind {
            page.push("AND m.device_id > ?", [behind.into()]);
        }
        page.push("ORDER BY m.device_id LIMIT ?", [limit.into()]);
        let (text, values) = page.into_parts();
        let rows: Vec<DeviceRow> = self.fetch_all(text, values).await?;
        let shown = |row: DeviceRow| RolloutDevice {
            device_id: row.device_id,
            stage: row.stage,
            state: UpdateState::parse(&row.state).unwrap_or(UpdateState::Failed),
            since: row.since,
            detail: row.detail,
            from_version: row.from_version,
            request_id: row.request_id,
        };
        Ok((rows.into_iter().map(shown).collect(), total.map_or(0, |t| t.0)))
    }

    /// Every device of a rollout, for a gate's table.
    ///
    /// # Errors
    /// When the database can't be asked.
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
