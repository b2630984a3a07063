//! Reading alerts: lists with filters, one alert, counts, and the episodes that a repair compares.

use acuvim_schemas::{
    api::{AcknowledgeFilter, Alert, Scope},
    event::Marks,
    payload::Severity,
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{AlertRow, COLUMNS};
use crate::{Control, Error, db::Tx, scope::within, text::Statement};

/// Which alerts a list holds. What is absent does not matter.
#[derive(Debug, Clone, Default)]
pub struct AlertFilter {
    /// Of this device.
    pub device_id: Option<String>,
    /// Of devices in this group now.
    pub group_id: Option<Uuid>,
    /// Of this severity.
    pub severity: Option<Severity>,
    /// Of this kind.
    pub alert_type: Option<String>,
    /// Of this incident.
    pub incident_id: Option<Uuid>,
    /// Of this rule.
    pub rule_id: Option<Uuid>,
    /// Acknowledged or not.
    pub acknowledged: Option<bool>,
    /// Ended or not.
    pub resolved: Option<bool>,
    /// Of rules that only record; those that alert unless given.
    pub shadow: bool,
    /// With those that late readings have shown never to have been.
    pub withdrawn: bool,
    /// Begun from then on.
    pub from: Option<DateTime<Utc>>,
    /// Begun before.
    pub to: Option<DateTime<Utc>>,
    /// Only from behind this: the beginning and the id of the last alert of the page before.
    pub after: Option<(DateTime<Utc>, Uuid)>,
    /// At most so many.
    pub limit: i64,
}

impl From<&AcknowledgeFilter> for AlertFilter {
    fn from(filter: &AcknowledgeFilter) -> Self {
        Self {
            device_id: filter.device_id.clone(),
            group_id: filter.group_id,
            severity: filter.severity,
            alert_type: filter.alert_type.clone(),
            incident_id: filter.incident_id,
            acknowledged: Some(false),
            resolved: Some(false),
            ..Self::default()
        }
    }
}

/// How many alerts are open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AlertCounts {
    /// Open.
    pub open: i64,
    /// Of them, seen by nobody.
    pub unacknowledged: i64,
    /// Of them, critical.
    pub critical: i64,
}

/// An episode of a rule as it is recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecordedEpisode {
    /// The alert's id.
    pub id: Uuid,
    /// The rule.
    pub rule_id: Uuid,
    /// Its version.
    pub rule_version: i64,
    /// The readings that it rests on.
    pub marks: Marks,
}

impl AlertFilter {
    /// `FROM alerts a ... WHERE ...`
    pub(super) fn conditions(&self, scope: Option<&Scope>) -> Statement {
        let mut all = Statement::new(
            "FROM alerts a LEFT JOIN devices d ON d.device_id = a.device_id WHERE 1 = 1",
        );
        within(&mut all, scope);
        let texts = [
            ("AND a.device_id = ?", self.device_id.as_deref()),
            ("AND a.alert_type = ?", self.alert_type.as_deref()),
            ("AND a.severity = ?", self.severity.map(Severity::as_str)),
        ];
        for (piece, value) in texts {
            if let Some(value) = value {
                all.push(piece, [value.replace('\0', "").into()]);
            }
        }
        let ids = [
            ("AND d.group_id = ?", self.group_id),
            ("AND a.incident_id = ?", self.incident_id),
            ("AND a.rule_id = ?", self.rule_id),
        ];
        for (piece, id) in ids {
            if let Some(id) = id {
                all.push(piece, [id.into()]);
            }
        }
        for (piece, at) in [("AND a.created_at >= ?", self.from), ("AND a.created_at < ?", self.to)]
        {
            if let Some(at) = at {
                all.push(piece, [at.into()]);
            }
        }
        if let Some(acknowledged) = self.acknowledged {
            all.push("AND a.acknowledged = ?", [acknowledged.into()]);
        }
        match self.resolved {
            Some(true) => all.push("AND a.resolved_at IS NOT NULL", []),
            Some(false) => all.push("AND a.resolved_at IS NULL", []),
            None => {}
        }
        all.push("AND a.shadow = ?", [self.shadow.into()]);
        if !self.withdrawn {
            all.push("AND a.withdrawn = ?", [false.into()]);
        }
        all
    }
}

impl Control {
    /// A page of alerts, the newest first, and how many match on all pages.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn alerts(
        &self,
        filter: &AlertFilter,
        scope: Option<&Scope>,
    ) -> Result<(Vec<Alert>, i64), Error> {
        let conditions = filter.conditions(scope);
        let mut count = Statement::new("SELECT COUNT(*)");
        count.append(&conditions);
        let (text, values) = count.into_parts();
        let total: Option<(i64,)> = self.fetch_optional(text, values).await?;
        let mut page = Statement::new("SELECT");
        page.push(COLUMNS, []);
        page.append(&conditions);
        if let Some((created, id)) = filter.after {
            page.push("AND (a.created_at, a.id) < (?, ?)", [created.into(), id.into()]);
        }
        page.push("ORDER BY a.created_at DESC, a.id DESC LIMIT ?", [filter.limit.into()]);
        let (text, values) = page.into_parts();
        let rows: Vec<AlertRow> = self.fetch_all(text, values).await?;
        Ok((rows.into_iter().map(Alert::from).collect(), total.map_or(0, |t| t.0)))
    }

    /// One alert, if it is in the scope, with the readings that it rests on.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn alert(
        &self,
        id: Uuid,
        scope: Option<&Scope>,
    ) -> Result<Option<(Alert, Option<Marks>)>, Error> {
        let (text, values) = one(id, scope).into_parts();
        let row: Option<AlertRow> = self.fetch_optional(text, values).await?;
        Ok(row.map(|row| {
            let marks = row.marks();
            (Alert::from(row), marks)
        }))
    }

    /// How many alerts are open.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn alert_counts(&self, scope: Option<&Scope>) -> Result<AlertCounts, Error> {
        let filter = AlertFilter { resolved: Some(false), ..AlertFilter::default() };
        let mut count = Statement::new(
            "SELECT COUNT(*), COALESCE(SUM(CASE WHEN a.acknowledged THEN 0 ELSE 1 END), 0),
                 COALESCE(SUM(CASE WHEN a.severity = 'critical' THEN 1 ELSE 0 END), 0)",
        );
        count.append(&filter.conditions(scope));
        let (text, values) = count.into_parts();
        let counts: Option<(i64, i64, i64)> = self.fetch_optional(text, values).await?;
        let (open, unacknowledged, critical) = counts.unwrap_or_default();
        Ok(AlertCounts { open, unacknowledged, critical })
    }

    /// The episodes of rules on a device that were not over at a time, or began after it.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn episodes(
        &self,
        device_id: Option<&str>,
        rule_id: Option<Uuid>,
        from: DateTime<Utc>,
    ) -> Result<Vec<(String, RecordedEpisode)>, Error> {
        let mut find = Statement::new(
            "SELECT device_id, id, rule_id, rule_version, marks FROM alerts
             WHERE origin = 'rule'
                 AND COALESCE(resolution, '') NOT IN ('rule_off', 'rule_deleted') AND withdrawn =",
        );
        find.push("?", [false.into()]);
        if let Some(device_id) = device_id {
            find.push("AND device_id = ?", [device_id.into()]);
        }
        if let Some(rule_id) = rule_id {
            find.push("AND rule_id = ?", [rule_id.into()]);
        }
        // The end is confirmed a while after it; a day is the longest that a rule waits.
        let before = from - chrono::TimeDelta::days(2);
        // What a person ended goes on until its condition has: its marks say so.
        find.push(
            "AND (resolved_at IS NULL OR resolved_by IS NOT NULL OR resolved_at >= ?)",
            [before.into()],
        );
        find.push("ORDER BY created_at", []);
        let (text, values) = find.into_parts();
        let rows: Vec<(String, Uuid, Uuid, i64, Option<String>)> =
            self.fetch_all(text, values).await?;
        let read = |(device, id, rule_id, rule_version, marks): (_, _, _, _, Option<String>)| {
            let marks: Marks = serde_json::from_str(&marks?).ok()?;
            let over =
                marks.ended.is_some_and(|(_, confirmed)| confirmed.ts < from.timestamp_micros());
            (!over).then_some((device, RecordedEpisode { id, rule_id, rule_version, marks }))
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }
}

fn one(id: Uuid, scope: Option<&Scope>) -> Statement {
    let mut one = Statement::new("SELECT");
    one.push(COLUMNS, []);
    one.push("FROM alerts a LEFT JOIN devices d ON d.device_id = a.device_id", []);
    one.push("WHERE a.id = ?", [id.into()]);
    within(&mut one, scope);
    one
}

impl Tx {
    /// One alert, if it is in the scope.
    pub(super) async fn alert(
        &mut self,
        id: Uuid,
        scope: Option<&Scope>,
    ) -> Result<Option<Alert>, Error> {
        let (text, values) = one(id, scope).into_parts();
        Ok(self.fetch_optional::<AlertRow>(text, values).await?.map(Alert::from))
    }
}
