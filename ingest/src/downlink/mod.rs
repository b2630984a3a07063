//! Commands on their way down: read from the log, each at most once, and given to whoever publishes
//! them; what became of each goes back up as a record of kind `sent`.
//!
//! The cursor moves before anything is published. A command that is lost in between ends as a
//! timeout, and no device is ever told twice what it was to do once.

mod reader;
mod reports;

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use acuvim_log::Log;
use acuvim_schemas::{Micros, command::Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::intake::now;
pub(crate) use reports::{Reports, Told};

/// Commands that wait to be published: few, since a crash loses them.
const AHEAD: usize = 16;

/// What is needed to bring commands down.
#[derive(Debug, Clone)]
pub struct Downlink {
    /// Where commands come from, and where reports go.
    pub log: Arc<dyn Log>,
    /// The cursor's name: this ingest's own, or the client id's of a bridge.
    pub cursor: String,
    /// Whether nobody else could have the device: then a command that finds no listener was given
    /// to nobody, for certain.
    pub alone: bool,
    /// What the topics begin with.
    pub topic_prefix: String,
    /// Set where another process may take over: until when (in microseconds since 1970) commands are
    /// this one's to publish. Readings may come in twice, commands may not go out twice.
    pub held_until: Option<Arc<AtomicI64>>,
}

impl Downlink {
    /// Whether commands are this process's to publish at this moment.
    pub(crate) fn is_held(&self) -> bool {
        self.held_until.as_ref().is_none_or(|until| now() < until.load(Ordering::Relaxed))
    }

    /// Starts to read; commands that may still be sent come in the order of each device.
    pub(crate) fn start(&self, stop: &CancellationToken) -> mpsc::Receiver<Command> {
        let (sender, commands) = mpsc::channel(AHEAD);
        for partition in 0..self.log.partitions() {
            let reader = reader::Reader::new(self, partition, sender.clone());
            tokio::spawn(stop.clone().run_until_cancelled_owned(reader.run()));
        }
        commands
    }

    /// Starts to bring reports up.
    pub(crate) fn reports(&self) -> Reports {
        Reports::start(Arc::clone(&self.log), self.topic_prefix.clone())
    }
}

/// Whole seconds until a command may not be sent any more; none if that is over.
pub(crate) fn seconds_left(command: &Command, now: Micros) -> Option<u32> {
    let left = (command.expires_at - now).div_euclid(acuvim_schemas::time::SECOND);
    u32::try_from(left).ok().filter(|left| *left > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn an_expired_command_has_no_time_left() {
        let command = Command {
            request_id: uuid::Uuid::nil(),
            device_id: "d".into(),
            payload: Bytes::new(),
            expires_at: 10_500_000,
            attempt: 1,
            outbox_seq: 1,
        };
        assert_eq!(seconds_left(&command, 500_000), Some(10));
        assert_eq!(seconds_left(&command, 9_600_000), None, "less than one");
        assert_eq!(seconds_left(&command, 20_000_000), None);
    }
}
