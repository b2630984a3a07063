//! The end of a command, told to whoever follows it.

use acuvim_schemas::{
    command::CommandStatus,
    event::{CommandCompleted, Event},
};
use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::{Error, db::Tx};

#[derive(sqlx::FromRow)]
struct Row {
    device_id: String,
    command: String,
    status: String,
    response: Option<Json>,
    error: Option<String>,
    finished_at: Option<DateTime<Utc>>,
}

impl Tx {
    /// Puts the end of a command into the outbox; for who has just ended it.
    pub(crate) async fn tell_command(&mut self, request_id: Uuid) -> Result<(), Error> {
        let row: Option<Row> = self
            .fetch_optional(
                "SELECT device_id, command, status, response, error, finished_at FROM commands
                 WHERE request_id = $1",
                vec![request_id.into()],
            )
            .await?;
        let Some(row) = row else { return Ok(()) };
        let (Some(status), Some(at)) = (CommandStatus::parse(&row.status), row.finished_at) else {
            return Ok(());
        };
        let event = CommandCompleted {
            device_id: row.device_id,
            request_id,
            command: row.command,
            status,
            response: row.response,
            error: row.error,
            finished_at: at,
        };
        self.emit(&Event::Command(Box::new(event)), at).await
    }
}
