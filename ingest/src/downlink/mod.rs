//! The downlink: commands are read from the log, each at most once, and handed to the broker or the bridge,
//! which publishes them. The result goes back to the log as a record of kind `sent`.
//!
//! The cursor is committed before a command is published. A crash in between loses the command, which then
//! ends as a timeout; the other order could make a device execute a command twice.

mod expiry;
mod options;
mod reader;
mod reports;

use std::sync::Arc;

use acuvim_wire::command::Command;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) use expiry::seconds_left;
pub use options::Downlink;
use reader::Reader;
pub(crate) use reports::{CommandRef, Reports};

/// Commands that wait to be published: few, because a crash loses them.
const AHEAD: usize = 16;

impl Downlink {
    /// Starts reading. Commands that have not expired arrive in the order of each device.
    pub(crate) fn start(&self, stop: &CancellationToken) -> mpsc::Receiver<Command> {
        let (sender, commands) = mpsc::channel(AHEAD);
        for partition in 0..self.log.partitions() {
            let reader = Reader::new(self, partition, sender.clone());
            tokio::spawn(stop.clone().run_until_cancelled_owned(reader.run()));
        }
        commands
    }

    /// Starts the task that appends reports.
    pub(crate) fn reports(&self) -> Reports {
        Reports::start(Arc::clone(&self.log), self.topic_prefix.clone())
    }
}
