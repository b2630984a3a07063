//! The event about the end of a command.

use acuvim_model::{
    CommandStatus,
    event::{CommandCompleted, Event},
};
use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::{db::Tx, error::Error};

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
    /// Emits that a command has ended. To be called in the transaction that ended it.
    pub(crate) async fn emit_command(&mut self, request_id: Uuid) -> Result<(), Error> {
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
