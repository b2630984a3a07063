//! Tells the embedded log what control has, so that its retention keeps the rest.

use std::sync::Arc;

use acuvim_log::{Log, LogTopic};

/// The log cursor of the offset up to which control has all changes.
const CONTROL_CURSOR: &str = "control";

/// Moves the cursor of one partition.
#[derive(Clone)]
pub(crate) struct ControlCursor {
    pub log: Arc<dyn Log>,
    pub partition: u32,
}

impl ControlCursor {
    /// Moves the cursor. An error needs no retry: a cursor that lags only makes the log keep more
    /// than it must.
    pub async fn move_to(&self, next: i64) {
        let (topic, partition) = (LogTopic::Uplink, self.partition);
        if let Err(error) = self.log.set_cursor(CONTROL_CURSOR, topic, partition, next).await {
            tracing::debug!(%error, "the log's cursor of control was not moved");
        }
    }
}
