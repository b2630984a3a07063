//! What records say of devices, told to control together with the offset.

use std::time::Instant;

use acuvim_control::{Applied, OffsetMove, ReadUntil};
use acuvim_log::LogTopic;
use acuvim_schemas::time;

use super::{AWAY, CONTROL_INTERVAL, CURSOR, Ended, NOTES_WAIT, Worker};
use crate::{Fatal, supervisor::Duty};

impl Worker {
    /// Whether control is to be told now: of answers and of devices that come back at once, of the
    /// rest once there is more of it.
    pub(super) fn has_to_tell(&self) -> bool {
        let pending = &self.pending;
        let urgent = !pending.answers.is_empty()
            || !pending.deliveries.is_empty()
            || pending.devices.iter().any(|note| note.back || !note.registrations.is_empty());
        let waited = self.told.elapsed();
        urgent
            || (!pending.is_empty() && waited >= NOTES_WAIT)
            || waited >= CONTROL_INTERVAL
            || (self.duty == Duty::Write && self.checked.elapsed() >= self.options.command_check)
    }

    /// What control missed of the log (a database that was replaced) is only what devices said of
    /// themselves.
    pub(super) async fn begin_at(&mut self, control_at: Option<i64>) -> Result<i64, Fatal> {
        let start = self.log_bounds().await?.start;
        let next = control_at.unwrap_or(0);
        if next < start {
            let partition = self.partition;
            tracing::warn!(partition, next, start, "control has missed records that are gone");
        }
        self.control_at = control_at;
        self.note_control(next.max(start)).await;
        Ok(self.rows_from().min(next.max(start)))
    }

    /// Tells the embedded log's retention; behind by a little, it keeps more than it must.
    pub(super) async fn note_control(&self, next: i64) {
        if self.options.shared {
            return;
        }
        let log = &self.parts.log;
        if let Err(error) = log.set_cursor(CURSOR, LogTopic::Uplink, self.partition, next).await {
            tracing::debug!(%error, "the log's cursor was not noted");
        }
    }

    /// Commits to control what it has yet to know, together with the offset.
    pub(super) async fn tell_control(&mut self, next: i64) -> Result<(), Ended> {
        let due = self.checked.elapsed() >= self.options.command_check;
        let news = !self.pending.is_empty() || due;
        if self.duty == Duty::Follow || (!news && self.control_at.is_some_and(|at| next <= at)) {
            self.told = Instant::now();
            return Ok(());
        }
        let (expected, mut failed) = (self.control_at, false);
        let mut changes = std::mem::take(&mut self.pending);
        changes.moves = vec![OffsetMove { partition: self.partition, expected, next }];
        changes.resend = self.options.resend.clone();
        if due {
            self.checked = Instant::now();
            changes.read_until = time::to_datetime(self.read_until).map(|at| ReadUntil {
                at,
                partition: self.partition,
                partitions: self.parts.log.partitions(),
            });
        }
        loop {
            match self.parts.control.apply(self.parts.epoch, &changes).await {
                Ok(Applied::Done) => break,
                Ok(Applied::Overtaken { partition }) => {
                    // A commit that failed before may have been made all the same.
                    let at = self.parts.control.offset(self.parts.epoch, partition).await;
                    if failed && at.is_ok_and(|at| at == Some(next)) {
                        break;
                    }
                    return Err(Ended::Overtaken);
                }
                Err(error) => {
                    failed = true;
                    self.control_away(&error).await?;
                }
            }
        }
        if self.told.elapsed() >= CONTROL_INTERVAL {
            self.note_control(next).await;
        }
        self.state.control(None);
        let told = changes.devices.into_iter().filter(|note| note.telemetry.is_some());
        self.told_of.extend(told.map(|note| (note.device_id, note.at.timestamp_micros())));
        self.control_at = Some(next);
        self.told = Instant::now();
        Ok(())
    }

    pub(super) async fn control_away(&self, error: &acuvim_control::Error) -> Result<(), Fatal> {
        if error.kind() == acuvim_control::ErrorKind::Internal {
            return Err(Fatal::Broken(error.to_string()));
        }
        self.state.control(Some(error.to_string()));
        tokio::time::sleep(AWAY).await;
        Ok(())
    }
}
