//! Gathers changes, and decides when they are written.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use acuvim_control::{Changes, ReadUntil, ReplayOutcome, Resend};
use acuvim_wire::{Identity, Micros, time};

use super::{
    batch::ControlBatch,
    task::{ControlTarget, Readiness, WriteTask},
};
use crate::partition::{
    evaluate::{BatchEvaluation, UnsavedStates},
    stop::StopReason,
};

/// How long changes gather that are not urgent, so that one transaction stores many.
const GATHER_TIME: Duration = Duration::from_millis(200);

/// How often the offset is written if nothing changes.
const OFFSET_INTERVAL: Duration = Duration::from_secs(5);

/// How often the time of a device's newest reading is written.
const READINGS_INTERVAL: Micros = 30 * time::SECOND;

/// The most changes that gather while control is away; with more, the stream waits for it.
const MAX_PENDING: usize = 20_000;

/// How long an urgent batch waits for a task that is busy, before more is read.
const BUSY_WAIT: Duration = Duration::from_millis(50);

/// How long [`ControlWriter::settle`] takes at most.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(500);

/// What a writer has to know of the settings.
pub(crate) struct WritePolicy {
    /// How many partitions there are.
    pub partitions: u32,
    /// How often commands are checked for timeouts.
    pub command_check: Duration,
    /// How configuration is sent again to devices that come back.
    pub resend: Resend,
}

/// Gathers the changes of a partition and hands them to a task that commits them.
pub(crate) struct ControlWriter {
    partition: u32,
    policy: WritePolicy,
    batch: ControlBatch,
    /// Control has, or was handed, the changes of all records before this offset; `None` if control
    /// had no offset at the start.
    watermark: Option<i64>,
    written_at: Instant,
    /// When the time of each device's newest reading was last written.
    readings_written: HashMap<String, Micros>,
    /// Up to which time everything was read that had arrived.
    read_until: Micros,
    commands_checked: Instant,
    /// `None` once it has ended.
    task: Option<WriteTask>,
}

impl ControlWriter {
    /// A writer that goes on at the offset that control has stored.
    pub fn start(target: ControlTarget, policy: WritePolicy, stored_next: Option<i64>) -> Self {
        Self {
            partition: target.partition,
            policy,
            batch: ControlBatch::default(),
            watermark: stored_next,
            written_at: Instant::now(),
            readings_written: HashMap::new(),
            read_until: 0,
            commands_checked: Instant::now(),
            task: Some(WriteTask::spawn(target, stored_next)),
        }
    }

    /// Adds what was decoded from a batch of records.
    pub fn add_decoded(&mut self, changes: Changes) {
        self.batch.add_decoded(changes);
    }

    /// Adds what evaluation found.
    pub fn add_evaluation(&mut self, evaluation: BatchEvaluation) {
        self.batch.add_evaluation(evaluation);
    }

    /// Adds the outcomes of replays.
    pub fn add_replays(&mut self, outcomes: Vec<(Identity, ReplayOutcome)>) {
        self.batch.add_replays(outcomes);
    }

    /// Whether the time of a device's newest reading should be written again; not at each reading.
    pub fn is_reading_due(&self, device: &str, at: Micros) -> bool {
        self.readings_written.get(device).is_none_or(|last| at - last >= READINGS_INTERVAL)
    }

    /// Everything was read that had arrived by this time. Commands that were due by then time out.
    pub fn has_read_until(&mut self, at: Micros) {
        self.read_until = self.read_until.max(at);
    }

    /// Whether commands have to be checked for timeouts.
    pub fn is_command_check_due(&self) -> bool {
        self.commands_checked.elapsed() >= self.policy.command_check
    }

    /// Whether something should be written now: urgent changes at once, others once they had time
    /// to gather, and the offset now and then.
    pub fn is_due(&self, states: &impl UnsavedStates) -> bool {
        let waited = self.written_at.elapsed();
        self.batch.is_urgent()
            || (self.has_changes(states) && waited >= GATHER_TIME)
            || waited >= OFFSET_INTERVAL
            || self.is_command_check_due()
    }

    fn has_changes(&self, states: &impl UnsavedStates) -> bool {
        !self.batch.is_empty() || states.has_unsaved_states()
    }

    /// Hands the changes of all records before `next` to the task. While the task is busy they go
    /// on gathering here; only too many of them hold the stream up.
    pub async fn write(
        &mut self,
        next: i64,
        states: &mut impl UnsavedStates,
    ) -> Result<(), StopReason> {
        // Records that are read again only for the lake must not set control back.
        let next = self.watermark.map_or(next, |watermark| next.max(watermark));
        let check_commands = self.is_command_check_due();
        let has_changes = self.has_changes(states) || check_commands;
        if !has_changes && self.watermark.is_some_and(|watermark| next <= watermark) {
            self.written_at = Instant::now();
            return Ok(());
        }
        match self.readiness().await {
            Readiness::Ready => {}
            // Not lost: the batch stays here, and `written_at` as well, so that it is due again at
            // once.
            Readiness::Busy => return Ok(()),
            Readiness::Ended => return self.task_ended().await,
        }
        // Noted when the batch is handed over: until then the readings of a device may still join
        // it.
        self.readings_written.extend(self.batch.devices_with_readings());
        let mut changes = self.batch.take();
        changes.judgements.extend(states.take_unsaved_states());
        changes.resend = self.policy.resend.clone();
        if check_commands {
            self.commands_checked = Instant::now();
            changes.read_until = time::to_datetime(self.read_until).map(|at| ReadUntil {
                at,
                partition: self.partition,
                partitions: self.policy.partitions,
            });
        }
        if let Some(task) = &mut self.task {
            task.send(next, changes);
        }
        self.watermark = Some(next);
        self.written_at = Instant::now();
        Ok(())
    }

    async fn readiness(&self) -> Readiness {
        let Some(task) = &self.task else { return Readiness::Ended };
        if self.batch.len() >= MAX_PENDING {
            return task.wait_ready().await;
        }
        match task.readiness() {
            // A task that is only busy is done in a moment; one whose control is away is not.
            Readiness::Busy if self.batch.is_urgent() => {
                let ready = tokio::time::timeout(BUSY_WAIT, task.wait_ready()).await;
                ready.unwrap_or(Readiness::Busy)
            }
            readiness => readiness,
        }
    }

    /// Has everything stored up to `next`; false if that takes too long.
    pub async fn settle(
        &mut self,
        next: i64,
        states: &mut impl UnsavedStates,
    ) -> Result<bool, StopReason> {
        let begun = Instant::now();
        loop {
            if self.has_unwritten(next, states) {
                self.write(next, states).await?;
            }
            let stored = self.task.as_ref().is_some_and(WriteTask::has_stored_all);
            if stored && !self.has_unwritten(next, states) {
                return Ok(true);
            }
            if begun.elapsed() > SETTLE_TIMEOUT {
                return Ok(false);
            }
            // A commit takes a few milliseconds.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Writes everything up to `next`, and waits until it is stored.
    pub async fn finish(
        &mut self,
        next: i64,
        states: &mut impl UnsavedStates,
    ) -> Result<(), StopReason> {
        while self.task.is_some() && self.has_unwritten(next, states) {
            self.write(next, states).await?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.task_ended().await
    }

    fn has_unwritten(&self, next: i64, states: &impl UnsavedStates) -> bool {
        self.has_changes(states) || self.watermark.is_none_or(|watermark| watermark < next)
    }

    /// Waits for the end of the task, which comes once nothing more is handed over.
    async fn task_ended(&mut self) -> Result<(), StopReason> {
        match self.task.take() {
            Some(task) => task.finish().await,
            None => Ok(()),
        }
    }
}
