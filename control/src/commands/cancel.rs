//! Ending commands before their device answers.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{audit::By, db::Tx, error::Error};

impl Tx {
    /// Ends all open commands to a device, even those that may have reached it.
    pub(crate) async fn end_commands(
        &mut self,
        device_id: &str,
        reason: &str,
        at: DateTime<Utc>,
    ) -> Result<(), Error> {
        let open: Vec<(Uuid,)> = self
            .fetch_all(
                "SELECT request_id FROM commands
                 WHERE device_id = $1 AND status IN ('pending', 'sent', 'ack')",
                vec![device_id.into()],
            )
            .await?;
        // Only its commands: events about the device must still reach the lake.
        self.execute(
            "DELETE FROM outbox WHERE device_id = $1 AND kind <> 'event'",
            vec![device_id.into()],
        )
        .await?;
        for (request_id,) in open {
            let ended = self
                .execute(
                    "UPDATE commands SET status = 'error', error = $1, finished_at = $2,
                         deadline = NULL, waiting = $3, secret_params = NULL
                     WHERE request_id = $4 AND status IN ('pending', 'sent', 'ack')",
                    vec![reason.into(), at.into(), false.into(), request_id.into()],
                )
                .await?;
            if ended > 0 {
                self.emit_command(request_id).await?;
            }
        }
        Ok(())
    }

    /// Ends a command that can't have reached its device. False if it may have: once its row in the
    /// outbox has a number, the broker may have it.
    pub(crate) async fn take_back_command(
        &mut self,
        request_id: Uuid,
        by: &By,
    ) -> Result<bool, Error> {
        // A row without a number was delivered to nobody.
        let unsent = self
            .execute(
                "DELETE FROM outbox WHERE request_id = $1 AND seq IS NULL",
                vec![request_id.into()],
            )
            .await?;
        let ended = self
            .execute(
                "UPDATE commands SET status = 'error', error = $1, finished_at = $2,
                     deadline = NULL, waiting = $3, secret_params = NULL
                 WHERE request_id = $4 AND status = 'pending' AND (waiting = $5 OR $6)",
                vec![
                    "it was taken back: the rollout does not go on".into(),
                    by.at.into(),
                    false.into(),
                    request_id.into(),
                    true.into(),
                    (unsent > 0).into(),
                ],
            )
            .await?;
        if ended > 0 {
            self.emit_command(request_id).await?;
        }
        Ok(ended > 0)
    }
}
