//! Alert rules and their versions.

use acuvim_model::{Rule, RuleBody, RuleMode, Scope, event::AlertStep};
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::{
    alerts::{AlertNote, emit_alert},
    audit::By,
    db::{Control, Tx},
    error::{Error, ErrorKind},
    scope::within,
    sites::revise,
    statement::Statement,
};

/// Every stream evaluates every rule, so their number is limited.
const MAX_RULES: i64 = 1000;

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    body: Json,
    version: i64,
    open_alerts: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<Row> for Rule {
    type Error = Error;
    fn try_from(row: Row) -> Result<Self, Error> {
        let body =
            serde_json::from_value(row.body).map_err(|e| Error::stored("a stored rule", e))?;
        Ok(Self {
            id: row.id,
            version: row.version,
            body,
            open_alerts: row.open_alerts,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

fn columns(scope: Option<&Scope>) -> Statement {
    let mut columns = Statement::new(
        "SELECT r.id, r.body, r.version, r.created_at, r.updated_at,
             (SELECT COUNT(*) FROM alerts a LEFT JOIN devices d ON d.device_id = a.device_id
              WHERE a.rule_id = r.id AND a.resolved_at IS NULL",
    );
    within(&mut columns, scope);
    columns.push(") AS open_alerts FROM rules r WHERE 1 = 1", []);
    columns
}

impl Control {
    /// All rules, by name. Counts of open alerts are of the devices in the scope.
    pub async fn rules(&self, scope: Option<&Scope>) -> Result<Vec<Rule>, Error> {
        let mut all = columns(scope);
        all.push("ORDER BY r.name", []);
        self.select::<Row>(all).await?.into_iter().map(Rule::try_from).collect()
    }

    /// The rule with an id.
    pub async fn rule(&self, id: Uuid, scope: Option<&Scope>) -> Result<Option<Rule>, Error> {
        let mut one = columns(scope);
        one.push("AND r.id = ?", [id.into()]);
        self.select_one::<Row>(one).await?.map(Rule::try_from).transpose()
    }

    /// Stores the default rules at the first start. False if that was done before.
    pub async fn load_rules(&self, rules: &[RuleBody], now: DateTime<Utc>) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        if !tx.claim_setting("rules.loaded", &now.to_rfc3339()).await? {
            return Ok(false);
        }
        for rule in rules {
            insert(&mut tx, rule, &By::system(now)).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Creates a rule.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if the name is taken; [`ErrorKind::Invalid`] if there are too many rules.
    pub async fn create_rule(&self, body: &RuleBody, by: &By) -> Result<Uuid, Error> {
        let mut tx = self.begin().await?;
        if tx.count("SELECT COUNT(*) FROM rules", vec![]).await? >= MAX_RULES {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("there are {MAX_RULES} rules already"),
            ));
        }
        let id = insert(&mut tx, body, by).await?;
        tx.audit(by, "rule.create", &id.to_string(), json!(body)).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Replaces a rule by its next version. Open episodes stay, unless it is switched off. False if there is
    /// no such rule.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if the name is taken.
    pub async fn update_rule(&self, id: Uuid, body: &RuleBody, by: &By) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let written = tx
            .execute(
                "UPDATE rules SET name = $1, body = $2, mode = $3, version = version + 1,
                     updated_at = $4 WHERE id = $5",
                vec![
                    body.name.as_str().into(),
                    json!(body).into(),
                    mode(body.mode).into(),
                    by.at.into(),
                    id.into(),
                ],
            )
            .await?;
        if written == 0 {
            return Ok(false);
        }
        note_version(&mut tx, id, body, by).await?;
        if body.mode == RuleMode::Off {
            end_episodes(&mut tx, id, "rule_off", by).await?;
        }
        tx.audit(by, "rule.update", &id.to_string(), json!(body)).await?;
        revise(&mut tx).await?;
        tx.commit().await?;
        self.outbox.notify_one();
        Ok(true)
    }

    /// Deletes a rule and ends its open episodes. Its alerts stay. False if there is no such rule.
    pub async fn delete_rule(&self, id: Uuid, by: &By) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        if tx.execute("DELETE FROM rules WHERE id = $1", vec![id.into()]).await? == 0 {
            return Ok(false);
        }
        end_episodes(&mut tx, id, "rule_deleted", by).await?;
        tx.audit(by, "rule.delete", &id.to_string(), json!({})).await?;
        revise(&mut tx).await?;
        tx.commit().await?;
        self.outbox.notify_one();
        Ok(true)
    }
}

const fn mode(mode: RuleMode) -> &'static str {
    match mode {
        RuleMode::Live => "live",
        RuleMode::Shadow => "shadow",
        RuleMode::Off => "off",
    }
}

async fn insert(tx: &mut Tx, body: &RuleBody, by: &By) -> Result<Uuid, Error> {
    let id = Uuid::now_v7();
    tx.execute(
        "INSERT INTO rules (id, name, body, mode, version, created_at, updated_at)
         VALUES ($1, $2, $3, $4, 1, $5, $5)",
        vec![
            id.into(),
            body.name.as_str().into(),
            json!(body).into(),
            mode(body.mode).into(),
            by.at.into(),
        ],
    )
    .await?;
    note_version(tx, id, body, by).await?;
    revise(tx).await?;
    Ok(id)
}

async fn note_version(tx: &mut Tx, id: Uuid, body: &RuleBody, by: &By) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO rule_versions (rule_id, version, body, at, changed_by)
         SELECT id, version, $1, $2, $3 FROM rules WHERE id = $4",
        vec![json!(body).into(), by.at.into(), by.name.as_str().into(), id.into()],
    )
    .await
    .map(|_| ())
}

/// Resolves all open alerts of a rule.
async fn end_episodes(tx: &mut Tx, rule: Uuid, reason: &str, by: &By) -> Result<(), Error> {
    let open: Vec<(Uuid,)> = tx
        .fetch_all(
            "SELECT id FROM alerts WHERE rule_id = $1 AND resolved_at IS NULL",
            vec![rule.into()],
        )
        .await?;
    for (id,) in open {
        tx.execute(
            "UPDATE alerts SET resolved_at = $1, resolved_by = $2, resolution = $3 WHERE id = $4",
            vec![by.at.into(), by.name.as_str().into(), reason.into(), id.into()],
        )
        .await?;
        let step = AlertNote::of_person(AlertStep::Resolved, by, Some(reason));
        emit_alert(tx, id, step).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
