//! Reads the commands of one partition: each number once, and none that is over.

use std::{sync::Arc, time::Duration};

use acuvim_log::{ErrorKind, Log, LogTopic, ReadLimit};
use acuvim_schemas::command::Command;
use tokio::sync::mpsc;

use super::{Downlink, seconds_left};
use crate::intake::now;

/// What one read brings at most: what a crash in the wrong moment would lose.
const READ: ReadLimit = ReadLimit { records: 32, bytes: 1 << 20, wait: Duration::from_millis(500) };

/// How far back the highest number is looked for at the start: further than the outbox delivers in
/// one go, and so could deliver again.
const LOOK_BACK: i64 = 1024;
const LOOK: ReadLimit =
    ReadLimit { records: 512, bytes: 8 << 20, wait: Duration::from_millis(500) };

/// How long to wait before a log is asked again that is away.
const AWAY: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Reader {
    log: Arc<dyn Log>,
    downlink: Downlink,
    cursor: String,
    partition: u32,
    to: mpsc::Sender<Command>,
    /// The highest number of the outbox that was seen.
    seen: i64,
}

impl Reader {
    pub fn new(downlink: &Downlink, partition: u32, to: mpsc::Sender<Command>) -> Self {
        let (log, cursor) = (Arc::clone(&downlink.log), downlink.cursor.clone());
        Self { log, downlink: downlink.clone(), cursor, partition, to, seen: 0 }
    }

    /// Reads until nobody takes commands any more. After an error it begins anew at the cursor: what
    /// was behind it and not given out yet is lost, and ends as a timeout.
    pub async fn run(mut self) {
        while let Err(error) = self.follow().await {
            // Whoever stores readings says it loudly.
            tracing::debug!(%error, "commands wait for the log");
            tokio::time::sleep(AWAY).await;
        }
    }

    async fn follow(&mut self) -> Result<(), acuvim_log::Error> {
        let mut at = None;
        loop {
            if !self.downlink.is_held() {
                // Whoever holds it now moves the cursor on.
                at = None;
                tokio::time::sleep(AWAY).await;
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
            self.note(batch.next).await?;
            for (_, entry) in &batch.entries {
                if let Some(command) = self.fresh(Command::try_from(entry))
                    && self.to.send(command).await.is_err()
                {
                    return Ok(());
                }
            }
        }
    }

    /// Where to begin: at the cursor; without one, behind all that was meant for others.
    async fn begin(&mut self) -> Result<i64, acuvim_log::Error> {
        let bounds = self.log.bounds(LogTopic::Commands, self.partition).await?;
        let noted = self.log.cursor(&self.cursor, LogTopic::Commands, self.partition).await?;
        let Some(noted) = noted else {
            self.note(bounds.end).await?;
            return Ok(bounds.end);
        };
        let next = noted.clamp(bounds.start, bounds.end);
        let mut at = (next - LOOK_BACK).max(bounds.start);
        while at < next {
            let batch = self.log.read(LogTopic::Commands, self.partition, at, LOOK).await?;
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
        tracing::info!(partition, next, to, "the log has let go of commands; they are over");
        self.note(to).await?;
        Ok(to)
    }

    async fn note(&self, next: i64) -> Result<(), acuvim_log::Error> {
        self.log.set_cursor(&self.cursor, LogTopic::Commands, self.partition, next).await
    }

    /// A command that was not seen before and may still be sent.
    fn fresh(&mut self, command: Result<Command, acuvim_log::BadEntry>) -> Option<Command> {
        let skipped = |reason: &'static str| {
            metrics::counter!("acuvim_commands_skipped_total", "reason" => reason).increment(1);
            None
        };
        let Ok(command) = command else { return skipped("bad_record") };
        if command.outbox_seq <= self.seen {
            return skipped("repeated");
        }
        self.seen = command.outbox_seq;
        match seconds_left(&command, now()) {
            Some(_) => Some(command),
            None => skipped("expired"),
        }
    }
}
