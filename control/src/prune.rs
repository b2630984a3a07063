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
            "DELETE FROM device_said WHERE at < $1",
            "DELETE FROM silences WHERE until < $1",
            "DELETE FROM notices WHERE finished_at < $1",
            "DELETE FROM notice_episodes WHERE created_at < $1",
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
