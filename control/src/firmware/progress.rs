//! The progress of a rollout: counts of its devices, stored decisions, and the event about both.

use acuvim_model::{
    RolloutCounts, RolloutState, UpdateState,
    event::{Event, RolloutProgress},
};
use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::{db::Tx, error::Error};

/// The statement behind [`counts`], for callers without a transaction.
pub(super) const COUNTS: &str =
    "SELECT state, COUNT(*) FROM rollout_devices WHERE rollout_id = $1 GROUP BY state";

/// A decision about a rollout, with the figures that it was made on.
pub(super) struct Decision<'a> {
    pub name: &'a str,
    pub reason: &'a str,
    pub figures: Json,
}

#[derive(sqlx::FromRow)]
struct RolloutRow {
    version: String,
    state: String,
    stage: i64,
    reason: Option<String>,
}

pub(super) fn counted(rows: &[(String, i64)]) -> RolloutCounts {
    let mut counts = RolloutCounts::default();
    for (state, n) in rows {
        if let Some(state) = UpdateState::parse(state) {
            counts.add(state, *n);
        }
    }
    counts
}

/// The number of devices of a rollout in each state.
pub(super) async fn counts(tx: &mut Tx, id: Uuid) -> Result<RolloutCounts, Error> {
    let rows: Vec<(String, i64)> = tx.fetch_all(COUNTS, vec![id.into()]).await?;
    Ok(counted(&rows))
}

/// Stores a decision.
pub(super) async fn decide(
    tx: &mut Tx,
    rollout_id: Uuid,
    at: DateTime<Utc>,
    decision: Decision<'_>,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO rollout_decisions (id, rollout_id, at, decision, reason, figures)
         VALUES ($1, $2, $3, $4, $5, $6)",
        vec![
            Uuid::now_v7().into(),
            rollout_id.into(),
            at.into(),
            decision.name.into(),
            decision.reason.into(),
            decision.figures.into(),
        ],
    )
    .await
    .map(|_| ())
}

/// Emits the progress of a rollout.
pub(super) async fn emit_progress(tx: &mut Tx, id: Uuid, now: DateTime<Utc>) -> Result<(), Error> {
    let row: Option<RolloutRow> = tx
        .fetch_optional(
            "SELECT version, state, stage, reason FROM rollouts WHERE id = $1",
            vec![id.into()],
        )
        .await?;
    let Some(row) = row else { return Ok(()) };
    let decisions: Option<(i64, i64)> = tx
        .fetch_optional(
            "SELECT COUNT(*), CAST(COALESCE(SUM(CASE WHEN decision IN ('resumed', 'retried')
                 THEN 1 ELSE 0 END), 0) AS BIGINT) AS resumed
             FROM rollout_decisions WHERE rollout_id = $1",
            vec![id.into()],
        )
        .await?;
    let (decisions, resumed) = decisions.unwrap_or_default();
    let devices = counts(tx, id).await?;
    let event = RolloutProgress {
        rollout_id: id,
        version: row.version,
        state: RolloutState::parse(&row.state).unwrap_or(RolloutState::Stopped),
        stage: row.stage,
        progress: devices.line(),
        devices,
        reason: row.reason,
        decisions,
        resumed,
        ts: now,
    };
    tx.emit(&Event::Rollout(Box::new(event)), now).await
}
