//! From a message to a durable record: the step that decides whether there is a PUBACK.

use std::{sync::Arc, time::Duration};

use acuvim_log::{Entry, ErrorKind, Log, LogTopic};
use acuvim_wire::{
    Kind, Reason, Record,
    device::partition_of,
    topic::{self, Uplink},
};
use tokio::{sync::watch, time::Instant};

use crate::{
    accept::{AcceptLimits, Acceptance, DropReason, Incoming, accept, device_of, reject},
    daily_limits::{Allowance, DailyLimits, DailyUse},
};

/// The pause between two tries to append: the first one, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The log has it, durably: acknowledge it.
    Stored,
    /// It is counted and gone for good: acknowledge it, so that it is not sent again.
    Dropped,
    /// The log can't take it now: don't acknowledge it, so that the device keeps it.
    Withheld,
}

/// Whether the log accepts appends, for `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntakeState {
    /// Appends succeed.
    Taking,
    /// Appends fail, first for this reason, and messages are not acknowledged meanwhile.
    Withholding(String),
}

/// Appends accepted messages to the log.
#[derive(Debug)]
pub struct Intake {
    log: Arc<dyn Log>,
    limits: AcceptLimits,
    daily: DailyUse,
    patience: Duration,
    state: watch::Sender<IntakeState>,
}

impl Intake {
    /// An intake into this log. A message that the log does not take within `patience` is withheld.
    #[must_use]
    pub fn new(
        log: Arc<dyn Log>,
        limits: AcceptLimits,
        daily: DailyLimits,
        patience: Duration,
    ) -> Self {
        let (daily, state) = (DailyUse::new(daily), watch::Sender::new(IntakeState::Taking));
        Self { log, limits, daily, patience, state }
    }

    /// Whether the log accepts appends.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<IntakeState> {
        self.state.subscribe()
    }

    /// The settings of the accept step.
    #[must_use]
    pub const fn limits(&self) -> &AcceptLimits {
        &self.limits
    }

    /// Takes one message, and returns only once its fate is certain.
    pub async fn take(&self, message: Incoming<'_>) -> Taken {
        match self.decide(&message) {
            Acceptance::Drop(reason) => {
                count_dropped(reason);
                Taken::Dropped
            }
            Acceptance::Append(record) => {
                let (device, kind) = (record.key.clone(), self.counted_kind(&message, &record));
                let taken = self.append(record, &message).await;
                // The device will send it again, and must not be charged twice.
                if taken == Taken::Withheld {
                    let device = String::from_utf8_lossy(&device);
                    self.daily.uncount(&device, kind, message.payload.len());
                }
                taken
            }
        }
    }

    /// Takes messages in their order, and returns only once the log has all that are not dropped, however
    /// long that takes. If the future is dropped before, any of them may be in the log.
    pub async fn take_all(&self, messages: &[Incoming<'_>]) {
        let mut records = Vec::with_capacity(messages.len());
        for message in messages {
            match self.decide(message) {
                Acceptance::Drop(reason) => count_dropped(reason),
                Acceptance::Append(record) => records.push((record, message)),
            }
        }
        let mut pause = FIRST_PAUSE;
        loop {
            let entries = records.iter().map(|(record, _)| self.routed(record.clone())).collect();
            let error = match self.log.append(LogTopic::Uplink, entries).await {
                Ok(_) => break,
                Err(error) => error,
            };
            if error.kind() == ErrorKind::Refused && self.reject_largest(&mut records) {
                continue;
            }
            self.withhold(error.to_string());
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.state.send_if_modified(recover);
        for (record, _) in &records {
            count_stored(record.headers.kind.as_str());
        }
    }

    /// The accept step, followed by the daily limits of the device.
    fn decide(&self, message: &Incoming<'_>) -> Acceptance {
        let acceptance = accept(&self.limits, message);
        let Acceptance::Append(record) = &acceptance else { return acceptance };
        let device = String::from_utf8_lossy(&record.key).into_owned();
        // Without a device nobody has a limit: these are rejects, and the rate of each client is limited.
        if device.is_empty() {
            return acceptance;
        }
        let (kind, bytes) = (record.headers.kind, message.payload.len());
        match self.daily.count(&device, kind, bytes, message.received_at) {
            Allowance::Within => acceptance,
            // Only the first one is kept as a dead letter: keeping them all would defeat the limit.
            Allowance::FirstOver(setting) => {
                tracing::warn!(device, setting, "a device sends more than it may in a day");
                Acceptance::Append(reject(message, &device, Reason::DailyLimit))
            }
            Allowance::Over => Acceptance::Drop(DropReason::DailyLimit),
        }
    }

    /// The kind that a message was counted as, also if it has become a reject since.
    fn counted_kind(&self, message: &Incoming<'_>, record: &Record) -> Kind {
        match topic::parse(&self.limits.topic_prefix, message.topic) {
            Uplink::Device { kind, .. } => kind.into(),
            _ => record.headers.kind,
        }
    }

    async fn append(&self, record: Record, message: &Incoming<'_>) -> Taken {
        let kind = record.headers.kind.as_str();
        let deadline = Instant::now() + self.patience;
        let mut is_reject = record.headers.reject.is_some();
        let mut entry = self.routed(record);
        let mut pause = FIRST_PAUSE;
        loop {
            let appended = self.log.append(LogTopic::Uplink, vec![entry.clone()]);
            let error = match tokio::time::timeout_at(deadline, appended).await {
                Ok(Ok(_)) => {
                    self.state.send_if_modified(recover);
                    count_stored(kind);
                    return Taken::Stored;
                }
                // A reject that is refused as well could only be replaced by the same one, again and again
                // without a pause: the log is treated as away.
                Ok(Err(error)) if error.kind() == ErrorKind::Refused && !is_reject => {
                    let device = device_of(&self.limits.topic_prefix, message);
                    entry = self.routed(reject(message, &device, Reason::RefusedByLog));
                    is_reject = true;
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the log does not answer".to_owned(),
            };
            self.withhold(error);
            // Not after the pause: the answer would come later than the device waits for it.
            if Instant::now() + pause > deadline {
                metrics::counter!("acuvim_ingest_withheld_total").increment(1);
                return Taken::Withheld;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The log refuses one record of a batch for good, without saying which. Replaces the largest one by a
    /// reject, which is small: after a few rounds the log takes the batch. False if only rejects are left:
    /// nothing here can help then, and the log is treated as away.
    fn reject_largest(&self, records: &mut [(Record, &Incoming<'_>)]) -> bool {
        let largest = records
            .iter_mut()
            .filter(|(record, _)| record.headers.reject.is_none())
            .max_by_key(|(record, _)| record.value.len());
        let Some((record, message)) = largest else { return false };
        let device = device_of(&self.limits.topic_prefix, message);
        *record = reject(message, &device, Reason::RefusedByLog);
        true
    }

    fn routed(&self, record: Record) -> (u32, Entry) {
        (partition_of(&record.key, self.log.partitions()), Entry::from(record))
    }

    /// Reports the outage of the log once, however many messages meet it.
    fn withhold(&self, reason: String) {
        self.state.send_if_modified(|state| {
            // Thousands of messages may meet the same outage.
            let first = *state == IntakeState::Taking;
            if first {
                tracing::warn!(%reason, "the log takes nothing; messages are not acknowledged");
                metrics::gauge!("acuvim_ingest_withholding").set(1.0);
                *state = IntakeState::Withholding(reason);
            }
            first
        });
    }
}

fn count_dropped(reason: DropReason) {
    metrics::counter!("acuvim_ingest_dropped_total", "reason" => reason.as_str()).increment(1);
}

fn count_stored(kind: &'static str) {
    metrics::counter!("acuvim_ingest_stored_total", "kind" => kind).increment(1);
}

fn recover(state: &mut IntakeState) -> bool {
    let was_withholding = *state != IntakeState::Taking;
    if was_withholding {
        tracing::info!("the log takes messages again");
        metrics::gauge!("acuvim_ingest_withholding").set(0.0);
        *state = IntakeState::Taking;
    }
    was_withholding
}

#[cfg(test)]
mod tests;
