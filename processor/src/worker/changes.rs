//! What records say of devices, told to control together with the offset.

use std::time::{Duration, Instant};

use acuvim_control::{DeviceNote, ReadUntil};
use acuvim_schemas::time;

use super::{
    AWAY, CONTROL_INTERVAL, Ended, NOTES_WAIT, Worker,
    teller::{Ready, Teller},
};
use crate::{Fatal, state::StateSender, supervisor::Duty};

/// Notes and answers that gather while control is away; with more, the stream waits for it.
const MOST_PENDING: usize = 20_000;

/// How long what is urgent waits for a teller that is busy, before more is read.
const MOMENT: Duration = Duration::from_millis(50);

impl Worker {
    /// Adds notes to those that are pending, one for each device: while control is away there are no
    /// more of them than devices.
    pub(super) fn gather(&mut self, notes: Vec<DeviceNote>) {
        let devices = &mut self.pending.devices;
        if devices.is_empty() {
            self.places.clear();
        }
        for note in notes {
            match self.places.get(&note.device_id).and_then(|place| devices.get_mut(*place)) {
                Some(before) => before.merge(note),
                None => {
                    self.places.insert(note.device_id.clone(), devices.len());
                    devices.push(note);
                }
            }
        }
    }

    /// Whether control is to be told now: of answers and of devices that come back at once, of the
    /// rest once there is more of it.
    pub(super) fn has_to_tell(&self) -> bool {
        let waited = self.told.elapsed();
        self.is_urgent()
            || (self.has_news() && waited >= NOTES_WAIT)
            || waited >= CONTROL_INTERVAL
            || (self.duty == Duty::Write && self.checked.elapsed() >= self.options.command_check)
    }

    /// Whether there is anything that control does not know.
    pub(super) fn has_news(&self) -> bool {
        !self.pending.is_empty() || self.court.as_ref().is_some_and(|c| !c.changed.is_empty())
    }

    fn is_urgent(&self) -> bool {
        let pending = &self.pending;
        !pending.answers.is_empty()
            || !pending.deliveries.is_empty()
            || !pending.alerts.is_empty()
            || !pending.said.is_empty()
            || pending
                .devices
                .iter()
                .any(|note| note.back || !note.registrations.is_empty() || !note.status.is_empty())
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
        self.changes_from = next;
        self.told_to = control_at;
        self.load_court(next.max(start)).await?;
        let teller = Teller::start(self, control_at);
        teller.note(next.max(start)).await;
        self.teller = Some(teller);
        Ok(self.rows_from().min(next.max(start)))
    }

    /// Hands what control has yet to know to the teller, together with the offset. While that one is
    /// busy more gathers here; only too much of it holds the stream up.
    pub(super) async fn tell_control(&mut self, next: i64) -> Result<(), Ended> {
        // What is read again for the lake alone does not take control back.
        let next = self.told_to.map_or(next, |to| next.max(to));
        let due = self.checked.elapsed() >= self.options.command_check;
        let news = self.has_news() || due;
        if self.duty == Duty::Follow || (!news && self.told_to.is_some_and(|to| next <= to)) {
            self.told = Instant::now();
            return Ok(());
        }
        let Some(teller) = &self.teller else { return Ok(()) };
        let size = self.pending.len();
        // A teller that is only busy is done in a moment; one whose control is away is not.
        let ready = teller.ready(size < MOST_PENDING);
        let ready = match (ready.await, self.is_urgent()) {
            (Ready::Busy, true) => {
                let soon = tokio::time::timeout(MOMENT, teller.ready(false)).await;
                soon.unwrap_or(Ready::Busy)
            }
            (ready, _) => ready,
        };
        match ready {
            Ready::Free => {}
            Ready::Busy => return Ok(()),
            Ready::Ended => return self.teller_ended().await,
        }
        let mut changes = std::mem::take(&mut self.pending);
        if let Some(court) = &mut self.court {
            for device in court.changed.drain() {
                let states = court.judge.states(&device);
                let states = (!states.is_empty()).then(|| serde_json::to_string(&states).ok());
                changes.judgements.push((device.to_string(), states.flatten()));
            }
        }
        changes.resend = self.options.resend.clone();
        if due {
            self.checked = Instant::now();
            changes.read_until = time::to_datetime(self.read_until).map(|at| ReadUntil {
                at,
                partition: self.partition,
                partitions: self.parts.log.partitions(),
            });
        }
        let told = changes.devices.iter().filter(|note| note.telemetry.is_some());
        let told = told.map(|note| (note.device_id.clone(), note.at.timestamp_micros()));
        self.told_of.extend(told);
        if let Some(teller) = &self.teller {
            teller.tell(next, changes);
        }
        self.told_to = Some(next);
        self.told = Instant::now();
        Ok(())
    }

    /// Waits until control has everything that it was told, and what is still pending.
    pub(super) async fn finish_telling(&mut self, next: i64) -> Result<(), Ended> {
        while self.teller.is_some() && (self.has_news() || self.told_to.is_none_or(|to| to < next))
        {
            self.tell_control(next).await?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.teller_ended().await
    }

    /// How the teller ended, which it does once nobody hands it anything any more.
    async fn teller_ended(&mut self) -> Result<(), Ended> {
        match self.teller.take() {
            Some(teller) => teller.end().await,
            None => Ok(()),
        }
    }

    pub(super) async fn control_away(&self, error: &acuvim_control::Error) -> Result<(), Fatal> {
        away(&self.state, error).await
    }
}

/// Waits a moment for a control that is away; one that can't be used ends the stream.
pub(super) async fn away(state: &StateSender, error: &acuvim_control::Error) -> Result<(), Fatal> {
    if error.kind() == acuvim_control::ErrorKind::Internal {
        return Err(Fatal::Broken(error.to_string()));
    }
    state.control(Some(error.to_string()));
    tokio::time::sleep(AWAY).await;
    Ok(())
}
