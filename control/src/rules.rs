//! Alert rules and their versions, and what rules need to know of devices.

use acuvim_schemas::{
    api::{Rule, RuleBody, RuleMode, Scope},
    event::AlertStep,
};
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::{By, Control, Error, ErrorKind, db::Tx, scope::within, text::Statement};

/// Rules that there may be.
const MOST: i64 = 1000;

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
        let body = serde_json::from_value(row.body)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("a stored rule: {e}")))?;
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

const SITES: &str = "SELECT d.device_id, d.group_id, d.tags,
        COALESCE(d.nominal_voltage_v, g.nominal_voltage_v) AS nominal_voltage_v,
        COALESCE(d.nominal_frequency_hz, g.nominal_frequency_hz) AS nominal_frequency_hz
    FROM devices d LEFT JOIN groups g ON g.id = d.group_id WHERE 1 = 1";

/// What rules need to know of a device beside its readings.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct DeviceSite {
    /// Which.
    pub device_id: String,
    /// Its group.
    pub group_id: Option<Uuid>,
    /// Its tags, as JSON.
    pub tags: Option<Json>,
    /// Its own or its group's.
    pub nominal_voltage_v: Option<f64>,
    /// Its own or its group's.
    pub nominal_frequency_hz: Option<f64>,
}

/// What is known of a device's meter, from it or its group.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct DeviceMeter {
    /// The device.
    pub device_id: String,
    /// Line to neutral, in volts.
    pub nominal_voltage_v: Option<f64>,
    /// The most power that it can measure, in kW.
    pub max_power_kw: Option<f64>,
    /// Where its energy counters begin again at zero.
    pub counter_end: Option<f64>,
}

impl Control {
    /// All rules, by name, with the open alerts of the devices in a scope.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn rules(&self, scope: Option<&Scope>) -> Result<Vec<Rule>, Error> {
        let mut all = columns(scope);
        all.push("ORDER BY r.name", []);
        let (text, values) = all.into_parts();
        self.fetch_all::<Row>(text, values).await?.into_iter().map(Rule::try_from).collect()
    }

    /// One rule.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn rule(&self, id: Uuid, scope: Option<&Scope>) -> Result<Option<Rule>, Error> {
        let mut one = columns(scope);
        one.push("AND r.id = ?", [id.into()]);
        let (text, values) = one.into_parts();
        self.fetch_optional::<Row>(text, values).await?.map(Rule::try_from).transpose()
    }

    /// Counts the changes of rules, groups and devices that judging depends on.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn judged_by(&self) -> Result<(i64, Option<DateTime<Utc>>), Error> {
        let revision: Option<(String,)> = self
            .fetch_optional("SELECT value FROM settings WHERE name = 'rules.revision'", vec![])
            .await?;
        let revision = revision.and_then(|(text,)| text.parse().ok()).unwrap_or(0);
        let changed: Option<(Option<DateTime<Utc>>,)> =
            self.fetch_optional("SELECT MAX(updated_at) FROM devices", vec![]).await?;
        Ok((revision, changed.and_then(|(at,)| at)))
    }

    /// What rules need to know of the devices in a scope.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn scoped_sites(&self, scope: &Scope) -> Result<Vec<DeviceSite>, Error> {
        let mut all = Statement::new(SITES);
        within(&mut all, Some(scope));
        let (text, values) = all.into_parts();
        self.fetch_all(text, values).await
    }

    /// What rules need to know of devices that changed from a time on; of all without one.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn device_sites(
        &self,
        since: Option<DateTime<Utc>>,
    ) -> Result<Vec<DeviceSite>, Error> {
        let mut all = Statement::new(SITES);
        match since {
            Some(since) => all.push("AND d.updated_at >= ?", [since.into()]),
            // The others are as a device that nobody has heard of.
            None => all.push(
                "AND (d.group_id IS NOT NULL OR d.tags IS NOT NULL
                     OR d.nominal_voltage_v IS NOT NULL OR d.nominal_frequency_hz IS NOT NULL)",
                [],
            ),
        }
        let (text, values) = all.into_parts();
        self.fetch_all(text, values).await
    }

    /// What is known of the meter of each device that anything is known of, from it or its group.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn device_meters(&self) -> Result<Vec<DeviceMeter>, Error> {
        let text = "SELECT d.device_id,
                 COALESCE(d.nominal_voltage_v, g.nominal_voltage_v) AS nominal_voltage_v,
                 COALESCE(d.max_power_kw, g.max_power_kw) AS max_power_kw,
                 COALESCE(d.counter_end, g.counter_end) AS counter_end
             FROM devices d LEFT JOIN groups g ON g.id = d.group_id
             WHERE COALESCE(d.nominal_voltage_v, g.nominal_voltage_v, d.max_power_kw,
                 g.max_power_kw, d.counter_end, g.counter_end) IS NOT NULL";
        self.fetch_all(text, Vec::new()).await
    }

    /// The time zone of each device that has one, its own or its group's.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn device_zones(&self) -> Result<Vec<(String, String)>, Error> {
        let text = "SELECT d.device_id, COALESCE(d.time_zone, g.time_zone) AS time_zone
             FROM devices d LEFT JOIN groups g ON g.id = d.group_id
             WHERE COALESCE(d.time_zone, g.time_zone) IS NOT NULL";
        self.fetch_all(text, Vec::new()).await
    }

    /// Stores the rules of the first start, once.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn load_rules(&self, rules: &[RuleBody], now: DateTime<Utc>) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let first = tx
            .execute(
                "INSERT INTO settings (name, value) VALUES ('rules.loaded', $1)
                 ON CONFLICT (name) DO NOTHING",
                vec![now.to_rfc3339().into()],
            )
            .await?;
        if first == 0 {
            return Ok(false);
        }
        for rule in rules {
            insert(&mut tx, rule, &By::system(now)).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Makes a rule.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when the name is taken; [`ErrorKind::Invalid`] when there are too
    /// many.
    pub async fn create_rule(&self, body: &RuleBody, by: &By) -> Result<Uuid, Error> {
        let mut tx = self.begin().await?;
        let count: Option<(i64,)> = tx.fetch_optional("SELECT COUNT(*) FROM rules", vec![]).await?;
        if count.is_some_and(|(n,)| n >= MOST) {
            return Err(Error::new(ErrorKind::Invalid, format!("there are {MOST} rules already")));
        }
        let id = insert(&mut tx, body, by).await?;
        tx.audit(by, "rule.create", &id.to_string(), json!(body)).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Writes a rule anew, as its next version. Its open episodes stay, unless it is switched off.
    /// False if there is none of that id.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when the name is taken.
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

    /// Deletes a rule and ends its episodes with that reason; its alerts stay. False if there is
    /// none of that id.
    ///
    /// # Errors
    /// When the database can't be asked.
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

/// Says that what judging depends on has changed.
pub(crate) async fn revise(tx: &mut Tx) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO settings (name, value) VALUES ('rules.revision', '1')
         ON CONFLICT (name) DO UPDATE
             SET value = CAST(CAST(settings.value AS BIGINT) + 1 AS TEXT)",
        vec![],
    )
    .await
    .map(|_| ())
}

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
        let step = AlertStep::Resolved;
        tx.tell_alert(id, step, by.at, by.at, Some(&by.name), Some(reason)).await?;
    }
    Ok(())
}
