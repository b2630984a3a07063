//! From a message to a durable record: the step that decides whether there is a PUBACK.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use acuvim_log::{Entry, ErrorKind, Log, LogTopic};
use acuvim_schemas::{Micros, Reason, Record, device::partition_of};
use tokio::{sync::watch, time::Instant};

use crate::accept::{AcceptLimits, Incoming, Verdict, accept, named_by, reject};

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The log has it, durably: acknowledge.
    Stored,
    /// It is counted and gone for good: acknowledge, so that it is not sent again.
    Dropped,
    /// The log can't take it now: don't acknowledge, the device keeps it.
    Withheld,
}

/// Whether the log takes what it is given, for `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntakeState {
    /// It does.
    Taking,
    /// It does not, for this reason.
    Withholding(String),
}

/// Gives accepted messages to the log.
#[derive(Debug)]
pub struct Intake {
    log: Arc<dyn Log>,
    limits: AcceptLimits,
    patience: Duration,
    state: watch::Sender<IntakeState>,
}

impl Intake {
    /// An intake into this log. A message that the log does not take within `patience` is withheld.
    #[must_use]
    pub fn new(log: Arc<dyn Log>, limits: AcceptLimits, patience: Duration) -> Self {
        Self { log, limits, patience, state: watch::Sender::new(IntakeState::Taking) }
    }

    /// Whether the log takes what it is given.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<IntakeState> {
        self.state.subscribe()
    }

    /// What messages are judged by.
    #[must_use]
    pub const fn limits(&self) -> &AcceptLimits {
        &self.limits
    }

    /// Takes a message. Answers only when its fate is certain.
    pub async fn take(&self, message: Incoming<'_>) -> Taken {
        match accept(&self.limits, &message) {
            Verdict::Drop(reason) => {
                metrics::counter!("acuvim_ingest_dropped_total", "reason" => reason.as_str())
                    .increment(1);
                Taken::Dropped
            }
            Verdict::Append(record) => self.append(record, &message).await,
        }
    }

    async fn append(&self, record: Record, message: &Incoming<'_>) -> Taken {
        let kind = record.headers.kind.as_str();
        let deadline = Instant::now() + self.patience;
        let mut entry = self.place(record);
        let mut pause = Duration::from_millis(20);
        loop {
            let appended = self.log.append(LogTopic::Uplink, vec![entry.clone()]);
            let error = match tokio::time::timeout_at(deadline, appended).await {
                Ok(Ok(_)) => {
                    self.state.send_if_modified(recover);
                    metrics::counter!("acuvim_ingest_stored_total", "kind" => kind).increment(1);
                    return Taken::Stored;
                }
                Ok(Err(error)) if error.kind() == ErrorKind::Refused => {
                    let key = named_by(&self.limits.topic_prefix, message);
                    entry = self.place(reject(message, &key, Reason::RefusedByLog));
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the log does not answer".to_owned(),
            };
            self.withhold(error);
            if Instant::now() + pause > deadline {
                metrics::counter!("acuvim_ingest_withheld_total").increment(1);
                return Taken::Withheld;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    fn place(&self, record: Record) -> (u32, Entry) {
        (partition_of(&record.key, self.log.partitions()), Entry::from(record))
    }

    /// Says once that the log is in trouble, however many messages find out.
    fn withhold(&self, reason: String) {
        self.state.send_if_modified(|state| {
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

fn recover(state: &mut IntakeState) -> bool {
    let was = *state != IntakeState::Taking;
    if was {
        tracing::info!("the log takes messages again");
        metrics::gauge!("acuvim_ingest_withholding").set(0.0);
        *state = IntakeState::Taking;
    }
    was
}

/// The time of this moment, for `received_at`.
pub(crate) fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros::try_from(since.as_micros()).unwrap_or(Micros::MAX)
}
