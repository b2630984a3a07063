//! Decodes records of the log into rows of the lake and changes of control. Pure: the result
//! depends on the records alone.

mod clock;
mod rows;
mod updates;

use std::{collections::HashMap, sync::Arc};

use acuvim_control::Changes;
use acuvim_lakehouse::Rows;
use acuvim_log::Entry;
use acuvim_tables::{
    dead_letters::DeadLetterRows,
    heartbeat::HeartbeatRows,
    ledger::{Counts, Ledger},
    telemetry::{Decoder, Source, Unknown},
};
use acuvim_wire::{
    DeadLetter, Kind, Micros, Position, Reason, Record, config,
    payload::{self, Heartbeat, Payload},
    record::RecordFacts,
    telemetry::{Aliases, Limits},
    time,
};
use arrow::error::ArrowError;
use bytes::Bytes;

pub(crate) use clock::Clock;
pub(crate) use rows::arrivals;
use rows::{from_offset, note_clocks, note_readings, split_by_keys};
pub(crate) use updates::{DeviceReport, Replayed};
use updates::{DeviceUpdates, names_device};

/// The topic of readings that were imported over HTTP, which are no sign of the device's presence.
const IMPORT: &str = "import";

/// Where each sink goes on. A sink that is ahead of the offset that is read skips record by record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SinkOffsets {
    /// The first offset whose rows are not in the lake.
    pub rows_from: i64,
    /// The first offset whose changes are not in control.
    pub changes_from: i64,
    /// The first offset that the ledger has not counted.
    pub ledger_from: i64,
}

/// A decoded batch, before dedup.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// Rows of the lake's tables, in log order.
    pub rows: Rows,
    /// What control is to store, without the offset.
    pub changes: Changes,
    /// How many readings had no key that we know.
    pub no_known_readings: usize,
    /// The first of those readings that are beyond control's offset, with their keys.
    pub unknown: Vec<Unknown>,
    /// The devices whose readings have known keys, with the time of each one's newest. Empty if so
    /// many readings are unknown that `unknown` is cut off, since a device may then be in neither.
    pub known: HashMap<Arc<str>, Micros>,
    /// What devices report about themselves, in order.
    pub reports: Vec<(String, DeviceReport)>,
    /// Dead letters that were replayed.
    pub replayed: Vec<Replayed>,
    /// The messages that rows of readings come from, in log order.
    pub messages: Vec<Message>,
    /// The partition's time after the batch.
    pub clock: Clock,
}

/// A message with readings, kept for those of them that become dead letters in dedup.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub offset: i64,
    pub topic: Bytes,
    pub payload: Bytes,
}

/// Whether a message of a device at this time should be written to control.
pub(crate) type IsDue<'a> = &'a dyn Fn(&str, Micros) -> bool;

/// Decodes the records of one partition.
#[derive(Debug)]
pub(crate) struct StreamDecoder {
    partition: u32,
    epoch: i32,
    limits: Limits,
    telemetry: Decoder,
    dead_letters: DeadLetterRows,
    heartbeats: HeartbeatRows,
    ledger: Ledger,
    messages: Vec<Message>,
    clock: Clock,
}

impl StreamDecoder {
    pub fn new(partition: u32, epoch: i32, limits: Limits, aliases: Arc<Aliases>) -> Self {
        Self {
            partition,
            epoch,
            limits,
            telemetry: Decoder::new(limits, aliases),
            dead_letters: DeadLetterRows::default(),
            heartbeats: HeartbeatRows::default(),
            ledger: Ledger::default(),
            messages: Vec::new(),
            clock: Clock::default(),
        }
    }

    /// The partition's time so far.
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// Decodes entries in offset order. Fails only if columns and schemas don't fit together.
    pub fn decode(
        &mut self,
        entries: Vec<(i64, Entry)>,
        sinks: SinkOffsets,
        is_due: IsDue<'_>,
    ) -> Result<Decoded, ArrowError> {
        let mut updates = DeviceUpdates::new(self.limits);
        for (offset, entry) in entries {
            match Record::try_from(&entry) {
                Ok(record) => self.record(offset, &record, sinks, is_due, &mut updates),
                Err(error) => self.bad_record(offset, entry, &error.to_string(), sinks),
            }
        }
        let telemetry = self.telemetry.finish()?;
        note_readings(&telemetry.rows, &self.limits, &mut updates);
        note_clocks(&from_offset(&telemetry.rows, sinks.changes_from), &mut updates);
        let (unknown, known) =
            split_by_keys(&telemetry.rows, telemetry.unknown, sinks.changes_from);
        let rows = Rows {
            telemetry: from_offset(&telemetry.rows, sinks.rows_from),
            dead_letters: self.dead_letters.finish()?,
            heartbeats: self.heartbeats.finish()?,
            ledger: std::mem::take(&mut self.ledger),
        };
        Ok(Decoded {
            rows,
            changes: updates.take_changes(),
            no_known_readings: telemetry.no_known_readings,
            unknown,
            known,
            reports: updates.reports,
            replayed: updates.replayed,
            messages: std::mem::take(&mut self.messages),
            clock: self.clock,
        })
    }

    /// An entry that is no record of ours: something else writes to the log's topic.
    fn bad_record(&mut self, offset: i64, entry: Entry, error: &str, sinks: SinkOffsets) {
        let detail = Some(error.to_owned());
        let letter = DeadLetter::whole(Reason::BadRecord, detail, 0, entry.value);
        // It has no time of its own. Those of the epoch would be past retention at once.
        let received_at = self.clock.last.unwrap_or(0);
        let facts = self.facts(offset, "", Kind::Reject.as_str(), "", received_at);
        if offset >= sinks.rows_from {
            self.dead_letters.push(&facts, &letter);
        }
        self.count(&facts, sinks, Counts { received: 1, dead_letters: 1, ..Counts::default() });
    }

    /// Counts a record in the ledger. Its readings and its heartbeat are counted after dedup, when
    /// it is known which of them are new.
    fn count(&mut self, facts: &RecordFacts<'_>, sinks: SinkOffsets, counts: Counts) {
        let offset = facts.position.offset;
        if offset < sinks.ledger_from {
            return;
        }
        let counts = Counts { records: 1, ..counts };
        self.ledger.count(None, facts.received_at, offset, &counts);
        if counts.dead_letters > 0 && !facts.device_id.is_empty() {
            let device = facts.device_id.into();
            let letters = counts.dead_letters;
            let counts = Counts { received: letters, dead_letters: letters, ..Counts::default() };
            self.ledger.count(Some(&device), facts.received_at, offset, &counts);
        }
    }

    fn record(
        &mut self,
        offset: i64,
        record: &Record,
        sinks: SinkOffsets,
        is_due: IsDue<'_>,
        updates: &mut DeviceUpdates,
    ) {
        let device_id = std::str::from_utf8(&record.key).unwrap_or_default();
        let topic = std::str::from_utf8(&record.headers.topic).unwrap_or_default();
        let kind = record.headers.kind;
        let facts = self.facts(offset, device_id, kind.as_str(), topic, record.headers.received_at);
        let replay = record.headers.replay_of;
        if replay.is_none() {
            self.clock.tick(facts.received_at);
        }
        let (payload, counts) = match kind {
            Kind::Telemetry => (None, self.readings(&facts, record, sinks, updates)),
            Kind::Reject => {
                if offset >= sinks.rows_from {
                    self.dead_letters.push(&facts, &rejected(record));
                }
                (None, Counts { received: 1, dead_letters: 1, ..Counts::default() })
            }
            Kind::Sent => {
                if offset >= sinks.changes_from {
                    updates.delivery(device_id, record);
                }
                (None, Counts { internal: 1, ..Counts::default() })
            }
            Kind::Pulse => (None, Counts { internal: 1, ..Counts::default() }),
            other => self.message(other, &facts, record, sinks, updates),
        };
        if let Some(letter) = replay.filter(|_| offset >= sinks.changes_from) {
            let decoded = counts.dead_letters == 0;
            let has_row = matches!(kind, Kind::Telemetry | Kind::Heartbeat);
            updates.replayed.push(Replayed { letter, offset, decoded, has_row });
        }
        let replayed = if replay.is_some() { counts.received } else { 0 };
        self.count(&facts, sinks, Counts { replayed, ..counts });
        if offset >= sinks.changes_from && !device_id.is_empty() {
            note_device(&facts, record, payload, is_due, updates);
        }
    }

    /// Decodes readings, and counts the dead letters among them. Readings that the lake has already
    /// are decoded too, as long as control has yet to learn something from them, but give no rows.
    fn readings(
        &mut self,
        facts: &RecordFacts<'_>,
        record: &Record,
        sinks: SinkOffsets,
        updates: &mut DeviceUpdates,
    ) -> Counts {
        let offset = facts.position.offset;
        if offset < sinks.rows_from.min(sinks.changes_from) {
            return Counts::default();
        }
        let (letters, mut dead_letters) = (&mut self.dead_letters, 0);
        let resolved_ts = record.headers.resolved_ts;
        let source = Source { facts: *facts, payload: &record.value, resolved_ts };
        if offset >= sinks.rows_from {
            let (topic, payload) = (record.headers.topic.clone(), record.value.clone());
            self.messages.push(Message { offset, topic, payload });
        }
        let received = self.telemetry.push(&source, &mut |letter| {
            dead_letters += 1;
            if offset >= sinks.changes_from {
                updates.dead_letter(facts.device_id, &letter, facts.received_at);
            }
            if offset >= sinks.rows_from {
                letters.push(facts, &letter);
            }
        });
        let received = i64::try_from(received).unwrap_or(i64::MAX);
        Counts { received, dead_letters, ..Counts::default() }
    }

    /// Decodes any other message of a device.
    fn message(
        &mut self,
        kind: Kind,
        facts: &RecordFacts<'_>,
        record: &Record,
        sinks: SinkOffsets,
        updates: &mut DeviceUpdates,
    ) -> (Option<Payload>, Counts) {
        let offset = facts.position.offset;
        let one = Counts { received: 1, ..Counts::default() };
        match self.parsed(kind, facts.device_id, record) {
            Ok(Payload::Heartbeat(heartbeat)) => {
                if offset >= sinks.rows_from {
                    let ts = heartbeat.ts.map_or(facts.received_at, |ts| ts.0);
                    self.heartbeats.push(facts, ts, &heartbeat);
                }
                (Some(Payload::Heartbeat(heartbeat)), one)
            }
            Ok(payload) => (Some(payload), Counts { noted: 1, ..one }),
            Err((reason, detail)) => {
                let letter = DeadLetter::whole(reason, detail, 0, kept_payload(kind, record));
                if offset >= sinks.changes_from {
                    updates.dead_letter(facts.device_id, &letter, facts.received_at);
                }
                if offset >= sinks.rows_from {
                    self.dead_letters.push(facts, &letter);
                }
                (None, Counts { dead_letters: 1, ..one })
            }
        }
    }

    fn parsed(
        &self,
        kind: Kind,
        device_id: &str,
        record: &Record,
    ) -> Result<Payload, payload::Fault> {
        let resolved = record.headers.resolved_ts.filter(|_| kind == Kind::Heartbeat);
        let payload = match resolved.map(|ts| with_ts(&record.value, ts)) {
            Some(Some(value)) => payload::parse(kind, device_id, &value)?,
            _ => payload::parse(kind, device_id, &record.value)?,
        };
        if let Payload::Heartbeat(Heartbeat { ts: Some(ts), .. }) = &payload {
            payload::check_clock(ts.0, record.headers.received_at, self.limits.max_future)?;
        }
        Ok(payload)
    }

    fn facts<'a>(
        &self,
        offset: i64,
        device_id: &'a str,
        kind: &'a str,
        topic: &'a str,
        received_at: Micros,
    ) -> RecordFacts<'a> {
        let position = Position { partition: self.partition, offset };
        RecordFacts { device_id, kind, topic, received_at, epoch: self.epoch, position }
    }
}

/// Adds the time to a payload that was sent without one, after it has become known.
fn with_ts(value: &[u8], ts: Micros) -> Option<Vec<u8>> {
    let mut payload = payload::fields(value).ok()?;
    payload.insert("ts".to_owned(), serde_json::json!(time::to_rfc3339(ts)));
    serde_json::to_vec(&payload).ok()
}

/// Adds what a record shows about the presence of its device, and what its payload contains.
fn note_device(
    facts: &RecordFacts<'_>,
    record: &Record,
    payload: Option<Payload>,
    is_due: IsDue<'_>,
    updates: &mut DeviceUpdates,
) {
    let (device_id, at, kind) = (facts.device_id, facts.received_at, record.headers.kind);
    // Any message shows that its device is there. Not counted are a status, a heartbeat and a
    // registration, which are signals of their own, and what a broker retained or people brought
    // in.
    let sent_now =
        !record.headers.retained && record.headers.replay_of.is_none() && facts.topic != IMPORT;
    let is_signal = payload.is_some() && matches!(kind, Kind::Heartbeat | Kind::Register);
    if sent_now && names_device(kind) && kind != Kind::Status && !is_signal {
        updates.heard(device_id, at);
    }
    match payload {
        Some(payload) => {
            if is_due(device_id, at) {
                updates.seen(device_id, at);
            }
            updates.payload(device_id, record, payload);
        }
        None if names_device(kind) && is_due(device_id, at) => updates.seen(device_id, at),
        None => {}
    }
}

/// The payload that a dead letter keeps. Secrets in an answer are masked: it may contain the
/// device's configuration, with the passwords in it.
fn kept_payload(kind: Kind, record: &Record) -> Bytes {
    let answer = match kind {
        Kind::Resp => payload::fields(&record.value).ok().map(serde_json::Value::Object),
        _ => None,
    };
    let masked = answer.map(|answer| (config::masked(answer.clone()), answer));
    match masked {
        Some((masked, answer)) if masked != answer => Bytes::from(masked.to_string()),
        _ => record.value.clone(),
    }
}

/// The dead letter of a message that ingest rejected.
fn rejected(record: &Record) -> DeadLetter {
    let mut letter = DeadLetter::whole(Reason::BadRecord, None, 0, record.value.clone());
    if let Some(reject) = &record.headers.reject {
        letter.reason = reject.reason;
        letter.length = reject.length;
        letter.sha256 = Some(reject.sha256.clone());
    }
    letter
}

#[cfg(test)]
mod tests;
