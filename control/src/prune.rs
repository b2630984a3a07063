//! Deleting what has been over for long.

use chrono::{DateTime, Utc};

use crate::{db::Control, error::Error};

impl Control {
    /// Deletes records that ended before a time. Returns the number of deleted rows.
    pub async fn prune(&self, before: DateTime<Utc>) -> Result<u64, Error> {
        // Each statement is a transaction of its own: nothing depends on their being together, and other
        // writers wait less.
        let mut deleted = 0;
        for statement in [
            "DELETE FROM commands WHERE finished_at < $1",
            "DELETE FROM command_answers WHERE at < $1",
            "DELETE FROM audit WHERE at < $1",
            "DELETE FROM alerts WHERE resolved_at < $1",
            // The raise of an alert that is still open is kept: a clear without it would be the end of
            // nothing, and withdraw the alert.
            "DELETE FROM device_said WHERE at < $1 AND NOT EXISTS (SELECT 1 FROM alerts a
                 WHERE a.device_id = device_said.device_id
                     AND a.alert_type = device_said.alert_type AND a.resolved_at IS NULL)",
            "DELETE FROM silences WHERE until < $1",
            "DELETE FROM notices WHERE finished_at < $1",
            // Whoever was told that an alert began is told that it is over, however long it takes.
            "DELETE FROM notice_episodes WHERE created_at < $1 AND NOT EXISTS (SELECT 1 FROM alerts a
                 WHERE a.id = notice_episodes.alert_id AND a.resolved_at IS NULL)",
            "DELETE FROM replays WHERE at < $1",
            // An aborted rollout holds its version back from update checks for as long as the version can
            // be installed.
            "DELETE FROM rollouts WHERE updated_at < $1 AND (state = 'completed'
                 OR (state = 'aborted' AND version NOT IN (SELECT version FROM firmware)))",
        ] {
            deleted += self.execute(statement, vec![before.into()]).await?;
        }
        Ok(deleted)
    }
}

#[cfg(test)]
mod tests;
