//! From a message to a durable record: the step that decides whether there is a PUBACK.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use acuvim_log::{Entry, ErrorKind, Log, LogTopic};
use acuvim_schemas::{
    Micros, Reason, Record,
    device::partition_of,
    topic::{self, Uplink},
};
use tokio::{sync::watch, time::Instant};

use crate::{
    accept::{AcceptLimits, DropReason, Incoming, Verdict, accept, named_by, reject},
    daily::{Daily, DailyLimits, Share},
};

/// How long to wait before the log is asked again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

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
    daily: Daily,
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
        let (daily, state) = (Daily::new(daily), watch::Sender::new(IntakeState::Taking));
        Self { log, limits, daily, patience, state }
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
        match self.judge(&message) {
            Verdict::Drop(reason) => {
                dropped(reason);
                Taken::Dropped
            }
            Verdict::Append(record) => {
                // What is refused is counted as what it was.
                let kind = match topic::parse(&self.limits.topic_prefix, message.topic) {
                    Uplink::Device { kind, .. } => kind.into(),
                    _ => record.headers.kind,
                };
                let key = record.key.clone();
                let taken = self.append(record, &message).await;
                if taken == Taken::Withheld {
                    let device = String::from_utf8_lossy(&key);
                    self.daily.give_back(&device, kind, message.payload.len());
                }
                taken
            }
        }
    }

    /// What becomes of a message, also by what its device has sent today already.
    fn judge(&self, message: &Incoming<'_>) -> Verdict {
        let verdict = accept(&self.limits, message);
        let Verdict::Append(record) = &verdict else { return verdict };
        let device = String::from_utf8_lossy(&record.key).into_owned();
        if device.is_empty() {
            return verdict;
        }
        let (kind, bytes) = (record.headers.kind, message.payload.len());
        match self.daily.take(&device, kind, bytes, message.received_at) {
            Share::Within => verdict,
            // One dead letter says so; the others would be as many as what they are to spare.
            Share::First(setting) => {
                tracing::warn!(device, setting, "a device sends more than it may in a day");
                Verdict::Append(reject(message, &device, Reason::DailyLimit))
            }
            Share::Beyond => Verdict::Drop(DropReason::DailyLimit),
        }
    }

    async fn append(&self, record: Record, message: &Incoming<'_>) -> Taken {
        let kind = record.headers.kind.as_str();
        let deadline = Instant::now() + self.patience;
        let mut entry = self.place(record);
        let mut pause = FIRST_PAUSE;
        loop {
            let appended = self.log.append(LogTopic::Uplink, vec![entry.clone()]);
            let error = match tokio::time::timeout_at(deadline, appended).await {
                Ok(Ok(_)) => {
                    self.state.send_if_modified(recover);
                    stored(kind);
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
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Takes messages in their order. Answers only when the log has all that it is to have, however
    /// long that takes; dropped before, any of them may be there.
    pub async fn take_all(&self, messages: &[Incoming<'_>]) {
        let mut records = Vec::with_capacity(messages.len());
        for message in messages {
            match self.judge(message) {
                Verdict::Drop(reason) => dropped(reason),
                Verdict::Append(record) => records.push((record, message)),
            }
        }
        let mut pause = FIRST_PAUSE;
        loop {
            let entries = records.iter().map(|(record, _)| self.place(record.clone())).collect();
            let error = match self.log.append(LogTopic::Uplink, entries).await {
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::Refused => {
                    self.reject_refused(&mut records).await;
                    continue;
                }
                Err(error) => error.to_string(),
            };
            self.withhold(error);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.state.send_if_modified(recover);
        for (record, _) in &records {
            stored(record.headers.kind.as_str());
        }
    }

    /// Of records among which the log refuses one for good: makes a reject of the largest that is
    /// none yet. Rejects are small: after a few rounds the log takes what is left.
    async fn reject_refused(&self, records: &mut [(Record, &Incoming<'_>)]) {
        let largest = records
            .iter_mut()
            .filter(|(record, _)| record.headers.reject.is_none())
            .max_by_key(|(record, _)| record.value.len());
        match largest {
            Some((record, message)) => {
                let key = named_by(&self.limits.topic_prefix, message);
                *record = reject(message, &key, Reason::RefusedByLog);
            }
            // Nothing of ours explains it: as good as a log that is away.
            None => tokio::time::sleep(LONGEST_PAUSE).await,
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

fn dropped(reason: DropReason) {
    metrics::counter!("acuvim_ingest_dropped_total", "reason" => reason.as_str()).increment(1);
}

fn stored(kind: &'static str) {
    metrics::counter!("acuvim_ingest_stored_total", "kind" => kind).increment(1);
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
