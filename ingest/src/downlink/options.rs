//! The settings of the downlink, and the lease under which it publishes.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use acuvim_log::Log;

use crate::clock::now;

/// What the downlink needs to know.
#[derive(Debug, Clone)]
pub struct Downlink {
    /// The log with the commands, which also takes the reports.
    pub log: Arc<dyn Log>,
    /// The name of the cursor: one for each ingest with a broker, or for each client id of a bridge.
    pub cursor: String,
    /// Whether no other ingest serves devices. Only then a command without a subscriber here has certainly
    /// reached nobody.
    pub alone: bool,
    /// The prefix of our topics.
    pub topic_prefix: String,
    /// Set where another process may take over: the end of the lease (microseconds since 1970) under which
    /// this process may publish commands. Two bridges may both bring in readings, which are deduplicated, but
    /// never both send commands.
    pub held_until: Option<Arc<AtomicI64>>,
}

impl Downlink {
    /// Whether this process may publish commands now.
    pub(crate) fn is_held(&self) -> bool {
        self.held_until.as_ref().is_none_or(|until| now() < until.load(Ordering::Relaxed))
    }
}
