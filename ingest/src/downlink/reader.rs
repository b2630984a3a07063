//! Reads the commands of one partition: each outbox number once, and none that has expired.

use std::{sync::Arc, time::Duration};

use acuvim_log::{ErrorKind, Log, LogTopic, ReadLimit};
use acuvim_wire::command::Command;
use tokio::sync::mpsc;

use super::{expiry::seconds_left, options::Downlink};
use crate::clock::now;

/// Small reads, because a crash loses the commands of one read.
const READ: ReadLimit = ReadLimit { records: 32, bytes: 1 << 20, wait: Duration::from_millis(500) };

/// How many entries before the cursor are searched for the highest outbox number at the start: more than the
/// outbox appends at once, and so could append again.
const LOOK_BACK: i64 = 1024;
const LOOK_BACK_READ: ReadLimit =
    ReadLimit { records: 512, bytes: 8 << 20, wait: Duration::from_millis(500) };

/// The pause after an error, and between two looks at the lease.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) struct Reader {
    log: Arc<dyn Log>,
    downlink: Downlink,
    cursor: String,
    partition: u32,
    to: mpsc::Sender<Command>,
    /// The highest outbox number so far.
    seen: i64,
}

impl Reader {
    pub fn new(downlink: &Downlink, partition: u32, to: mpsc::Sender<Command>) -> Self {
        let (log, cursor) = (Arc::clone(&downlink.log), downlink.cursor.clone());
        Self { log, downlink: downlink.clone(), cursor, partition, to, seen: 0 }
    }

    /// Reads until the receiver is closed. After an error it starts again at the cursor: commands that were
    /// read and not handed out yet are lost, and end as timeouts.
    pub async fn run(mut self) {
        while let Err(error) = self.follow().await {
            // The intake reports an outage of the log at a higher level.
            tracing::debug!(%error, "commands wait for the log");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn follow(&mut self) -> Result<(), acuvim_log::Error> {
        let mut at = None;
        loop {
            if !self.downlink.is_held() {
                // The process that holds the lease moves the cursor.
                at = None;
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            let next = match at {
                Some(next) => next,
                None => self.begin().await?,
            };
            let batch = match self.log.read(LogTopic::Commands, self.partition, next, READ).await {
                Err(error) if error.kind() == ErrorKind::OutOfRange => {
                    at = Some(self.skip(next).await?);
                    continue;
                }
                read => read?,
            };
            at = Some(batch.next);
            if batch.next == next {
                continue;
            }
            // Before the commands are handed out: at most once is promised, and a crash in between only
            // loses them.
            self.commit(batch.next).await?;
            for (_, entry) in &batch.entries {
                if let Some(command) = self.fresh(Command::try_from(entry))
                    && self.to.send(command).await.is_err()
                {
                    return Ok(());
                }
            }
        }
    }

    /// The first offset to read: the cursor, or the end of the partition if there is no cursor yet,
    /// because the commands so far were sent by others.
    async fn begin(&mut self) -> Result<i64, acuvim_log::Error> {
        let bounds = self.log.bounds(LogTopic::Commands, self.partition).await?;
        let cursor = self.log.cursor(&self.cursor, LogTopic::Commands, self.partition).await?;
        let Some(cursor) = cursor else {
            self.commit(bounds.end).await?;
            return Ok(bounds.end);
        };
        // A log that was replaced may end before the cursor, and retention may have passed it.
        let next = cursor.clamp(bounds.start, bounds.end);
        let mut at = (next - LOOK_BACK).max(bounds.start);
        while at < next {
            let batch =
                self.log.read(LogTopic::Commands, self.partition, at, LOOK_BACK_READ).await?;
            let before = batch.entries.iter().filter(|(offset, _)| *offset < next);
            let highest = before
                .filter_map(|(_, entry)| Command::try_from(entry).ok())
                .map(|command| command.outbox_seq)
                .max();
            self.seen = self.seen.max(highest.unwrap_or(0));
            if batch.next <= at {
                break;
            }
            at = batch.next;
        }
        Ok(next)
    }

    async fn skip(&self, next: i64) -> Result<i64, acuvim_log::Error> {
        let bounds = self.log.bounds(LogTopic::Commands, self.partition).await?;
        let to = next.clamp(bounds.start, bounds.end);
        let partition = self.partition;
        tracing::info!(
            partition,
            next,
            to,
            "the log has dropped commands that were not read; they end as timeouts"
        );
        self.commit(to).await?;
        Ok(to)
    }

    async fn commit(&self, next: i64) -> Result<(), acuvim_log::Error> {
        self.log.set_cursor(&self.cursor, LogTopic::Commands, self.partition, next).await
    }

    /// The command, if it is new and has not expired.
    fn fresh(&mut self, command: Result<Command, acuvim_log::BadEntry>) -> Option<Command> {
        let skipped = |reason: &'static str| {
            metrics::counter!("acuvim_commands_skipped_total", "reason" => reason).increment(1);
            None
        };
        let Ok(command) = command else { return skipped("bad_record") };
        if command.outbox_seq <= self.seen {
            return skipped("repeated");
        }
        // Also if it has expired: a repetition of it is no new command.
        self.seen = command.outbox_seq;
        match seconds_left(&command, now()) {
            Some(_) => Some(command),
            None => skipped("expired"),
        }
    }
}

#[cfg(test)]
mod tests;
