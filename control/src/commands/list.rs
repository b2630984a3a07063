//! Reading commands back: one with everything about it, or a page of a device's.

use acuvim_schemas::{
    api::{CommandInfo, Deliver, OtherAnswer, Scope},
    command::CommandStatus,
};
use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::{Control, Error, scope::within, text::Statement};

/// Which commands a list holds, newest first.
#[derive(Debug, Clone, Default)]
pub struct CommandFilter {
    /// Only of this device.
    pub device_id: Option<String>,
    /// Only of this group command.
    pub group_command: Option<Uuid>,
    /// Only of this status.
    pub status: Option<CommandStatus>,
    /// Only older than this one.
    pub before: Option<Uuid>,
    /// At most so many.
    pub limit: i64,
}

const COLUMNS: &str = "c.request_id, c.device_id, c.command, c.params, c.status, c.deliver,
    c.created_by, c.created_at, c.expires_at, c.sent_at, c.ack_at, c.finished_at, c.deadline,
    c.response, c.error, c.group_command";

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

/// Commands of devices in a scope. Those of a deleted device are seen without a scope alone.
fn seen(scope: Option<&Scope>) -> Statement {
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
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn command(
        &self,
        request_id: Uuid,
        scope: Option<&Scope>,
    ) -> Result<Option<CommandInfo>, Error> {
        let mut one = Statement::new("SELECT");
        one.push(COLUMNS, []);
        one.append(&seen(scope));
        one.push("AND c.request_id = ?", [request_id.into()]);
        let (text, values) = one.into_parts();
        let row: Option<Row> = self.fetch_optional(text, values).await?;
        let Some(row) = row else { return Ok(None) };
        let answers: Vec<(String, DateTime<Utc>, String, Json)> = self
            .fetch_all(
                "SELECT device_id, at, verdict, answer FROM command_answers WHERE request_id = $1
                 ORDER BY id LIMIT 100",
                vec![request_id.to_string().into()],
            )
            .await?;
        let other_answers = answers
            .into_iter()
            .map(|(device_id, at, verdict, answer)| OtherAnswer { device_id, at, verdict, answer })
            .collect();
        Ok(Some(CommandInfo { other_answers, ..row.into() }))
    }

    /// The newest answers of a device that changed nothing, whichever command they were to.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn other_answers(&self, device_id: &str) -> Result<Vec<OtherAnswer>, Error> {
        let answers: Vec<(String, DateTime<Utc>, String, Json)> = self
            .fetch_all(
                "SELECT device_id, at, verdict, answer FROM command_answers WHERE device_id = $1
                 ORDER BY id DESC LIMIT 100",
                vec![device_id.into()],
            )
            .await?;
        let other =
            |(device_id, at, verdict, answer)| OtherAnswer { device_id, at, verdict, answer };
        Ok(answers.into_iter().map(other).collect())
    }

    /// A page of commands, newest first, and how many match on all pages.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn commands(
        &self,
        filter: &CommandFilter,
        scope: Option<&Scope>,
    ) -> Result<(Vec<CommandInfo>, i64), Error> {
        let mut all = seen(scope);
        if let Some(device) = &filter.device_id {
            all.push("AND c.device_id = ?", [device.into()]);
        }
        if let Some(group) = filter.group_command {
            all.push("AND c.group_command = ?", [group.into()]);
        }
        if let Some(status) = filter.status {
            all.push("AND c.status = ?", [status.as_str().into()]);
        }
        let mut count = Statement::new("SELECT COUNT(*)");
        count.append(&all);
        let (text, values) = count.into_parts();
        let total: Option<(i64,)> = self.fetch_optional(text, values).await?;
        let mut page = Statement::new("SELECT");
        page.push(COLUMNS, []);
        page.append(&all);
        if let Some(before) = filter.before {
            page.push("AND c.request_id < ?", [before.into()]);
        }
        page.push("ORDER BY c.request_id DESC LIMIT ?", [filter.limit.into()]);
        let (text, values) = page.into_parts();
        let rows: Vec<Row> = self.fetch_all(text, values).await?;
        Ok((rows.into_iter().map(CommandInfo::from).collect(), total.map_or(0, |t| t.0)))
    }
}
