//! Silences: while one holds, its alerts are recorded but page nobody.

use acuvim_model::{Silence, SilenceBody};
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::{
    audit::By,
    db::{Control, Tx},
    error::Error,
};

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    scope: Json,
    alert_types: Json,
    until: DateTime<Utc>,
    reason: String,
    created_by: String,
    created_at: DateTime<Utc>,
}

/// The silences that can be read. One of a newer version is left out: an empty scope or list of types
/// means everything, so taking its default would silence every alert.
fn readable(rows: Vec<Row>) -> Vec<Silence> {
    let read = |row: Row| {
        let scope = serde_json::from_value(row.scope);
        let alert_types = serde_json::from_value(row.alert_types);
        let (scope, alert_types) = match (scope, alert_types) {
            (Ok(scope), Ok(alert_types)) => (scope, alert_types),
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%error, silence = %row.id, "a stored silence can't be read");
                return None;
            }
        };
        Some(Silence {
            id: row.id,
            scope,
            alert_types,
            until: row.until,
            reason: row.reason,
            created_by: row.created_by,
            created_at: row.created_at,
        })
    };
    rows.into_iter().filter_map(read).collect()
}

/// Silences that may hold at a time; as many as [`ACTIVE`] reads.
const MAX_SILENCES: usize = 1000;

const ACTIVE: &str = "SELECT id, scope, alert_types, until, reason, created_by, created_at
    FROM silences WHERE until > $1 ORDER BY created_at LIMIT 1000";

impl Tx {
    /// The silences that hold at a time.
    pub(crate) async fn silences_at(&mut self, at: DateTime<Utc>) -> Result<Vec<Silence>, Error> {
        let rows: Vec<Row> = self.fetch_all(ACTIVE, vec![at.into()]).await?;
        Ok(readable(rows))
    }
}

impl Control {
    /// The silences that hold at a time.
    pub async fn silences(&self, at: DateTime<Utc>) -> Result<Vec<Silence>, Error> {
        let rows: Vec<Row> = self.fetch_all(ACTIVE, vec![at.into()]).await?;
        Ok(readable(rows))
    }

    /// Creates a silence. `None` if too many hold already.
    pub async fn create_silence(
        &self,
        body: &SilenceBody,
        by: &By,
    ) -> Result<Option<Silence>, Error> {
        let silence = Silence {
            id: Uuid::now_v7(),
            scope: body.scope.clone(),
            alert_types: body.alert_types.clone(),
            until: body.until,
            reason: body.reason.clone(),
            created_by: by.name.clone(),
            created_at: by.at,
        };
        let mut tx = self.begin().await?;
        if tx.silences_at(by.at).await?.len() >= MAX_SILENCES {
            return Ok(None);
        }
        tx.execute(
            "INSERT INTO silences (id, scope, alert_types, until, reason, created_by, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            vec![
                silence.id.into(),
                json!(silence.scope).into(),
                json!(silence.alert_types).into(),
                silence.until.into(),
                silence.reason.as_str().into(),
                silence.created_by.as_str().into(),
                silence.created_at.into(),
            ],
        )
        .await?;
        tx.audit(by, "silence.create", &silence.id.to_string(), json!(body)).await?;
        tx.commit().await?;
        Ok(Some(silence))
    }

    /// Ends a silence. False if none of that id holds.
    pub async fn end_silence(&self, id: Uuid, by: &By) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let ended = tx
            .execute(
                "UPDATE silences SET until = $1 WHERE id = $2 AND until > $1",
                vec![by.at.into(), id.into()],
            )
            .await?;
        if ended == 0 {
            return Ok(false);
        }
        tx.audit(by, "silence.end", &id.to_string(), json!({})).await?;
        tx.commit().await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
