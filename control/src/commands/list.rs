//! Reading commands: one with all answers to it, or a page of them.

use acuvim_model::{CommandInfo, CommandStatus, Deliver, OtherAnswer, Scope};
use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::{db::Control, error::Error, scope::within, statement::Statement};

/// Selects commands for a list, newest first.
#[derive(Debug, Clone, Default)]
pub struct CommandFilter {
    /// Only of this device.
    pub device_id: Option<String>,
    /// Only of this group command.
    pub group_command: Option<Uuid>,
    /// Only with this status.
    pub status: Option<CommandStatus>,
    /// Only older than this one.
    pub before: Option<Uuid>,
    /// At most this many.
    pub limit: i64,
}

const COLUMNS: &str = "c.request_id, c.device_id, c.command, c.params, c.status, c.deliver,
    c.created_by, c.created_at, c.expires_at, c.sent_at, c.ack_at, c.finished_at, c.deadline,
    c.response, c.error, c.group_command";

#[derive(sqlx::FromRow)]
struct AnswerRow {
    device_id: String,
    at: DateTime<Utc>,
    verdict: String,
    answer: Json,
}

impl From<AnswerRow> for OtherAnswer {
    fn from(row: AnswerRow) -> Self {
        Self { device_id: row.device_id, at: row.at, verdict: row.verdict, answer: row.answer }
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    request_id: Uuid,
    device_id: String,
    command: String,
    params: Json,
    status: String,
    deliver: String,
    created_by: String,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    sent_at: Option<DateTime<Utc>>,
    ack_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    deadline: Option<DateTime<Utc>>,
    response: Option<Json>,
    error: Option<String>,
    group_command: Option<Uuid>,
}

impl From<Row> for CommandInfo {
    fn from(row: Row) -> Self {
        Self {
            request_id: row.request_id,
            device_id: row.device_id,
            command: row.command,
            params: row.params,
            status: CommandStatus::parse(&row.status).unwrap_or(CommandStatus::Timeout),
            deliver: Deliver::parse(&row.deliver).unwrap_or_default(),
            created_by: row.created_by,
            created_at: row.created_at,
            expires_at: row.expires_at,
            sent_at: row.sent_at,
            ack_at: row.ack_at,
            finished_at: row.finished_at,
            deadline: row.deadline,
            response: row.response,
            error: row.error,
            group_command: row.group_command,
            other_answers: Vec::new(),
        }
    }
}

/// Commands of devices in a scope. Only callers without a scope see those of deleted devices.
fn of_scope(scope: Option<&Scope>) -> Statement {
    let mut all = Statement::new("FROM commands c WHERE 1 = 1");
    if scope.is_some() {
        all.push("AND c.device_id IN (SELECT d.device_id FROM devices d WHERE 1 = 1", []);
        within(&mut all, scope);
        all.push(")", []);
    }
    all
}

impl Control {
    /// One command with all answers to it, if its device is in the scope.
    pub async fn command(
        &self,
        request_id: Uuid,
        scope: Option<&Scope>,
    ) -> Result<Option<CommandInfo>, Error> {
        let mut one = Statement::select(COLUMNS);
        one.append(&of_scope(scope));
        one.push("AND c.request_id = ?", [request_id.into()]);
        let row: Option<Row> = self.select_one(one).await?;
        let Some(row) = row else { return Ok(None) };
        let answers: Vec<AnswerRow> = self
            .fetch_all(
                "SELECT device_id, at, verdict, answer FROM command_answers WHERE request_id = $1
                 ORDER BY id LIMIT 100",
                vec![request_id.to_string().into()],
            )
            .await?;
        let other_answers = answers.into_iter().map(OtherAnswer::from).collect();
        Ok(Some(CommandInfo { other_answers, ..row.into() }))
    }

    /// The newest answers of a device without effect, to whichever command.
    pub async fn other_answers(&self, device_id: &str) -> Result<Vec<OtherAnswer>, Error> {
        let answers: Vec<AnswerRow> = self
            .fetch_all(
                "SELECT device_id, at, verdict, answer FROM command_answers WHERE device_id = $1
                 ORDER BY id DESC LIMIT 100",
                vec![device_id.into()],
            )
            .await?;
        Ok(answers.into_iter().map(OtherAnswer::from).collect())
    }

    /// A page of commands, and the number of matches on all pages.
    pub async fn commands(
        &self,
        filter: &CommandFilter,
        scope: Option<&Scope>,
    ) -> Result<(Vec<CommandInfo>, i64), Error> {
        let mut all = of_scope(scope);
        if let Some(device) = &filter.device_id {
            all.push("AND c.device_id = ?", [device.into()]);
        }
        if let Some(group) = filter.group_command {
            all.push("AND c.group_command = ?", [group.into()]);
        }
        if let Some(status) = filter.status {
            all.push("AND c.status = ?", [status.as_str().into()]);
        }
        let total = self.count_rows(&all).await?;
        let mut page = Statement::select(COLUMNS);
        page.append(&all);
        if let Some(before) = filter.before {
            page.push("AND c.request_id < ?", [before.into()]);
        }
        page.push("ORDER BY c.request_id DESC LIMIT ?", [filter.limit.into()]);
        let rows: Vec<Row> = self.select(page).await?;
        Ok((rows.into_iter().map(CommandInfo::from).collect(), total))
    }
}
