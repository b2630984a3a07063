//! The audit log: who changed what, and from where. An entry is written in the transaction of its change.

use acuvim_model::AuditEntry;
use acuvim_wire::config::masked;
use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::{
    db::{Control, Tx},
    error::Error,
    statement::Statement,
};

/// Who makes a change, and when. Every change by a person or program takes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// The id of the user or key, or `None` for the system itself.
    pub id: Option<Uuid>,
    /// The name of the user or key.
    pub name: String,
    /// The address of the client.
    pub address: Option<String>,
    /// The id of the request.
    pub request: Option<String>,
    /// The time of the change.
    pub at: DateTime<Utc>,
}

impl By {
    /// The system itself.
    #[must_use]
    pub fn system(at: DateTime<Utc>) -> Self {
        Self { id: None, name: "system".to_owned(), address: None, request: None, at }
    }
}

/// Selects entries for a list, newest first.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only by this actor.
    pub actor: Option<String>,
    /// Only of this action.
    pub action: Option<String>,
    /// Only about this.
    pub object: Option<String>,
    /// Only at this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Only before this time.
    pub to: Option<DateTime<Utc>>,
    /// Only older than this entry.
    pub before: Option<Uuid>,
    /// At most this many.
    pub limit: i64,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    at: DateTime<Utc>,
    actor_id: Option<Uuid>,
    actor: String,
    address: Option<String>,
    request: Option<String>,
    action: String,
    object: String,
    detail: Json,
}

impl From<Row> for AuditEntry {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            at: row.at,
            actor_id: row.actor_id,
            actor: row.actor,
            address: row.address,
            request: row.request,
            action: row.action,
            object: row.object,
            detail: row.detail,
        }
    }
}

impl Tx {
    /// Adds an entry. Secrets in the detail are masked.
    pub(crate) async fn audit(
        &mut self,
        by: &By,
        action: &str,
        object: &str,
        detail: Json,
    ) -> Result<(), Error> {
        self.execute(
            "INSERT INTO audit (id, at, actor_id, actor, address, request, action, object, detail)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            vec![
                Uuid::now_v7().into(),
                by.at.into(),
                by.id.into(),
                by.name.as_str().into(),
                by.address.clone().into(),
                by.request.clone().into(),
                action.into(),
                object.into(),
                // Masked here rather than by the callers, so that none can forget it.
                masked(detail).into(),
            ],
        )
        .await
        .map(|_| ())
    }
}

impl Control {
    /// Adds an entry for something that changes nothing in control, such as an export.
    pub async fn note(
        &self,
        by: &By,
        action: &str,
        object: &str,
        detail: Json,
    ) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        tx.audit(by, action, object, detail).await?;
        tx.commit().await
    }

    /// A page of the audit log, and the number of matches on all pages.
    pub async fn audit(&self, filter: &AuditFilter) -> Result<(Vec<AuditEntry>, i64), Error> {
        let mut all = Statement::new("FROM audit WHERE 1 = 1");
        let texts = [
            ("AND actor = ?", &filter.actor),
            ("AND action = ?", &filter.action),
            ("AND object = ?", &filter.object),
        ];
        for (piece, value) in texts {
            if let Some(value) = value {
                all.push(piece, [value.into()]);
            }
        }
        for (piece, time) in [("AND at >= ?", filter.from), ("AND at < ?", filter.to)] {
            if let Some(time) = time {
                all.push(piece, [time.into()]);
            }
        }
        let total = self.count_rows(&all).await?;
        let mut page = Statement::new(
            "SELECT id, at, actor_id, actor, address, request, action, object, detail",
        );
        page.append(&all);
        if let Some(before) = filter.before {
            page.push("AND id < ?", [before.into()]);
        }
        page.push("ORDER BY id DESC LIMIT ?", [filter.limit.into()]);
        let rows: Vec<Row> = self.select(page).await?;
        Ok((rows.into_iter().map(AuditEntry::from).collect(), total))
    }
}

#[cfg(test)]
mod tests;
