//! The audit: who changed what, from where; written in the transaction of the change.

use acuvim_schemas::{api::AuditEntry, config::masked};
use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::{Control, Error, db::Tx, text::Statement};

/// Who makes a change, and when. Every change takes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// The user's or key's id; none for the system itself.
    pub id: Option<Uuid>,
    /// The user's or key's name.
    pub name: String,
    /// The address it came from.
    pub address: Option<String>,
    /// The id of the request.
    pub request: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
}

impl By {
    /// The system itself.
    #[must_use]
    pub fn system(at: DateTime<Utc>) -> Self {
        Self { id: None, name: "system".to_owned(), address: None, request: None, at }
    }
}

/// Which entries a list holds.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only of this actor.
    pub actor: Option<String>,
    /// Only of this action.
    pub action: Option<String>,
    /// Only about this.
    pub object: Option<String>,
    /// Only from then on.
    pub from: Option<DateTime<Utc>>,
    /// Only before.
    pub to: Option<DateTime<Utc>>,
    /// Only older than this entry.
    pub before: Option<Uuid>,
    /// At most so many.
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
    /// Notes a change in this transaction; secrets in the detail are masked.
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
                masked(detail).into(),
            ],
        )
        .await
        .map(|_| ())
    }
}

impl Control {
    /// Notes something that a person did and that changes nothing here.
    ///
    /// # Errors
    /// When the database can't be asked.
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

    /// A page of the audit, newest first, and how many entries match on all pages.
    ///
    /// # Errors
    /// When the database can't be asked.
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
        let mut count = Statement::new("SELECT COUNT(*)");
        count.append(&all);
        let (text, values) = count.into_parts();
        let total: Option<(i64,)> = self.fetch_optional(text, values).await?;
        let mut page = Statement::new(
            "SELECT id, at, actor_id, actor, address, request, action, object, detail",
        );
        page.append(&all);
        if let Some(before) = filter.before {
            page.push("AND id < ?", [before.into()]);
        }
        page.push("ORDER BY id DESC LIMIT ?", [filter.limit.into()]);
        let (text, values) = page.into_parts();
        let rows: Vec<Row> = self.fetch_all(text, values).await?;
        Ok((rows.into_iter().map(AuditEntry::from).collect(), total.map_or(0, |t| t.0)))
    }
}
