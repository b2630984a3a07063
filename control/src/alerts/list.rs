//! Reading alerts: lists with filters, one alert, counts, and the episodes that repairs compare with.

use acuvim_model::{AcknowledgeFilter, Alert, Scope, event::Marks};
use acuvim_wire::payload::Severity;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::row::{AlertRow, COLUMNS};
use crate::{
    db::{Control, Tx},
    error::Error,
    scope::within,
    statement::Statement,
};

/// Selects alerts for a list.
#[derive(Debug, Clone, Default)]
pub struct AlertFilter {
    /// Only of this device.
    pub device_id: Option<String>,
    /// Only of devices that are in this group now.
    pub group_id: Option<Uuid>,
    /// Only with this severity.
    pub severity: Option<Severity>,
    /// Only of this type.
    pub alert_type: Option<String>,
    /// Only of this incident.
    pub incident_id: Option<Uuid>,
    /// Only of this rule.
    pub rule_id: Option<Uuid>,
    /// Only acknowledged or only unacknowledged ones.
    pub acknowledged: Option<bool>,
    /// Only ended or only open ones.
    pub resolved: Option<bool>,
    /// Those of rules in shadow mode, instead of the others.
    pub shadow: bool,
    /// Including those that were withdrawn.
    pub withdrawn: bool,
    /// Only those that began at this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Only those that began before this time.
    pub to: Option<DateTime<Utc>>,
    /// Only those after this cursor: the beginning and the id of the last alert on the page before.
    pub after: Option<(DateTime<Utc>, Uuid)>,
    /// At most this many.
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

/// Counts of open alerts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AlertCounts {
    /// All of them.
    pub open: i64,
    /// Those that nobody has acknowledged.
    pub unacknowledged: i64,
    /// Those that are critical.
    pub critical: i64,
}

/// A recorded episode of a rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecordedEpisode {
    /// The id of its alert.
    pub id: Uuid,
    /// The id of the rule.
    pub rule_id: Uuid,
    /// The version of the rule that found it.
    pub rule_version: i64,
    /// The readings that raised and cleared it.
    pub marks: Marks,
}

#[derive(sqlx::FromRow)]
struct EpisodeRow {
    device_id: String,
    id: Uuid,
    rule_id: Uuid,
    rule_version: i64,
    marks: Option<String>,
}

impl AlertFilter {
    /// The clauses `FROM` and `WHERE`.
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
    /// A page of alerts, newest first, and the number of matches on all pages.
    pub async fn alerts(
        &self,
        filter: &AlertFilter,
        scope: Option<&Scope>,
    ) -> Result<(Vec<Alert>, i64), Error> {
        let conditions = filter.conditions(scope);
        let total = self.count_rows(&conditions).await?;
        let mut page = Statement::select(COLUMNS);
        page.append(&conditions);
        if let Some((created, id)) = filter.after {
            page.push("AND (a.created_at, a.id) < (?, ?)", [created.into(), id.into()]);
        }
        page.push("ORDER BY a.created_at DESC, a.id DESC LIMIT ?", [filter.limit.into()]);
        let rows: Vec<AlertRow> = self.select(page).await?;
        Ok((rows.into_iter().map(Alert::from).collect(), total))
    }

    /// One alert, if it is in the scope, with the readings that raised and cleared it.
    pub async fn alert(
        &self,
        id: Uuid,
        scope: Option<&Scope>,
    ) -> Result<Option<(Alert, Option<Marks>)>, Error> {
        let row: Option<AlertRow> = self.select_one(one(id, scope)).await?;
        Ok(row.map(|row| {
            let marks = row.marks();
            (Alert::from(row), marks)
        }))
    }

    /// Counts of open alerts.
    pub async fn alert_counts(&self, scope: Option<&Scope>) -> Result<AlertCounts, Error> {
        let filter = AlertFilter { resolved: Some(false), ..AlertFilter::default() };
        let mut count = Statement::new(
            "SELECT COUNT(*), COALESCE(SUM(CASE WHEN a.acknowledged THEN 0 ELSE 1 END), 0),
                 COALESCE(SUM(CASE WHEN a.severity = 'critical' THEN 1 ELSE 0 END), 0)",
        );
        count.append(&filter.conditions(scope));
        let counts: Option<(i64, i64, i64)> = self.select_one(count).await?;
        let (open, unacknowledged, critical) = counts.unwrap_or_default();
        Ok(AlertCounts { open, unacknowledged, critical })
    }

    /// The episodes of rules that were not over at a time, or began later: of one device, of one rule, or
    /// of all.
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
        // The end of an episode is confirmed later than it happened, by as long as its rule waits: a day
        // at most.
        let before = from - chrono::TimeDelta::days(2);
        // An alert that a person resolved is still an episode until its condition ends, which its marks
        // tell.
        find.push(
            "AND (resolved_at IS NULL OR resolved_by IS NOT NULL OR resolved_at >= ?)",
            [before.into()],
        );
        find.push("ORDER BY created_at", []);
        let rows: Vec<EpisodeRow> = self.select(find).await?;
        let read = |row: EpisodeRow| {
            let EpisodeRow { device_id, id, rule_id, rule_version, marks } = row;
            let marks: Marks = serde_json::from_str(&marks?).ok()?;
            let over =
                marks.ended.is_some_and(|(_, confirmed)| confirmed.ts < from.timestamp_micros());
            (!over).then_some((device_id, RecordedEpisode { id, rule_id, rule_version, marks }))
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }
}

fn one(id: Uuid, scope: Option<&Scope>) -> Statement {
    let mut one = Statement::select(COLUMNS);
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
        Ok(self.select_one::<AlertRow>(one(id, scope)).await?.map(Alert::from))
    }
}
