//! Records of the log into rows and changes. Pure: what it decides depends on the records alone.

mod clock;

use std::{collections::HashMap, sync::Arc};

use acuvim_control::Changes;
use acuvim_lakehouse::Rows;
use acuvim_log::Entry;
use acuvim_schemas::{
    DeadLetter, Kind, Micros, Position, Reason, Record, config,
    heartbeat::HeartbeatRows,
    ledger::{Counts, Ledger},
    payload::{self, Heartbeat, Payload},
    telemetry::{
        Aliases, DeadLetterRows, Decoder, Limits, MOST_UNKNOWN, RecordFacts, Source, Unknown,
    },
    time,
};
use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::{Int64Type, TimestampMicrosecondType},
    error::ArrowError,
};
use bytes::Bytes;

pub(crate) use clock::Clock;

use crate::notes::{Notes, Replayed, Said, names_device};

/// Which parts of a run of records are still owed: a sink that is ahead skips record by record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owed {
    /// The first offset whose rows the lake has not got.
    pub rows_from: i64,
    /// The first offset whose changes control has not got.
    pub changes_from: i64,
    /// The first offset that the ledger has not counted.
    pub ledger_from: i64,
}

/// What a run of records came to, before dedup.
#[derive(Debug)]
pub struct Decoded {
    /// Rows of the lake's tables, in log order.
    pub rows: Rows,
    /// What control is to note; without moves.
    pub changes: Changes,
    /// Readings without a key we know.
    pub no_known_readings: usize,
    /// The first of them that control has not got, with their keys.
    pub(crate) unknown: Vec<Unknown>,
    /// The devices whose readings have known keys, each with the time of its newest; none of them if
    /// too many have not.
    pub(crate) known: HashMap<Arc<str>, Micros>,
    /// What devices said of themselves, in order.
    pub(crate) said: Vec<(String, Said)>,
    /// Dead letters that were brought again.
    pub(crate) replayed: Vec<Replayed>,
    /// The messages that rows of readings come from, in log order.
    pub(crate) messages: Vec<Message>,
    /// How far time has come.
    pub(crate) clock: Clock,
}

/// A message with readings, for those of them that turn out to be no rows.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// Its offset.
    pub offset: i64,
    /// The topic it came on.
    pub topic: Bytes,
    /// What it says.
    pub payload: Bytes,
}

/// Decodes the records of one partition.
#[derive(Debug)]
pub struct StreamDecoder {
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
    /// A decoder for a partition.
    #[must_use]
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

    /// How far time has come.
    pub(crate) const fn clock(&self) -> Clock {
        self.clock
    }

    /// Decodes entries in offset order. `is_due` tells the devices whose readings control has not
    /// been told of for a while.
    ///
    /// # Errors
    /// Only if columns and schemas have come apart.
    pub fn decode(
        &mut self,
        entries: Vec<(i64, Entry)>,
        owed: Owed,
        is_due: &dyn Fn(&str, Micros) -> bool,
    ) -> Result<Decoded, ArrowError> {
        let mut notes = Notes::new(self.limits);
        for (offset, entry) in entries {
            match Record::try_from(&entry) {
                Ok(record) => self.record(offset, &record, owed, is_due, &mut notes),
                Err(error) => {
                    let detail = Some(error.to_string());
                    let letter = DeadLetter::whole(Reason::BadRecord, detail, 0, entry.value);
                    let facts = self.facts(offset, "", Kind::Reject.as_str(), "", 0);
                    if offset >= owed.rows_from {
                        self.dead_letters.push(&facts, &letter);
                    }
                    let counts = Counts { received: 1, dead_letters: 1, ..Counts::default() };
                    self.count(&facts, owed, counts);
                }
            }
        }
        let telemetry = self.telemetry.finish()?;
        note_readings(&telemetry.rows, &self.limits, &mut notes);
        note_clocks(&from_offset(&telemetry.rows, owed.changes_from), &mut notes);
        let (unknown, known) = told_apart(&telemetry.rows, telemetry.unknown, owed.changes_from);
        let rows = Rows {
            telemetry: from_offset(&telemetry.rows, owed.rows_from),
            dead_letters: self.dead_letters.finish()?,
            heartbeats: self.heartbeats.finish()?,
            ledger: std::mem::take(&mut self.ledger),
        };
        Ok(Decoded {
            rows,
            changes: notes.take_changes(),
            no_known_readings: telemetry.no_known_readings,
            unknown,
            known,
            said: notes.said,
            replayed: notes.replayed,
            messages: std::mem::take(&mut self.messages),
            clock: self.clock,
        })
    }

    /// Counts a record. What became of its readings and its heartbeat is counted once it is known
    /// what is new.
    fn count(&mut self, facts: &RecordFacts<'_>, owed: Owed, counts: Counts) {
        let offset = facts.position.offset;
        if offset < owed.ledger_from {
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
        owed: Owed,
        is_due: &dyn Fn(&str, Micros) -> bool,
        notes: &mut Notes,
    ) {
        let device_id = std::str::from_utf8(&record.key).unwrap_or_default();
        let topic = std::str::from_utf8(&record.headers.topic).unwrap_or_default();
        let kind = record.headers.kind;
        let at = record.headers.received_at;
        let facts = self.facts(offset, device_id, kind.as_str(), topic, at);
        let replay = record.headers.replay_of;
        if replay.is_none() {
            self.clock.tick(at);
        }
        let (payload, counts) = match kind {
            Kind::Telemetry => (None, self.readings(&facts, record, owed, notes)),
            Kind::Reject => {
                if offset >= owed.rows_from {
                    self.dead_letters.push(&facts, &rejected(record));
                }
                (None, Counts { received: 1, dead_letters: 1, ..Counts::default() })
            }
            Kind::Sent => {
                if offset >= owed.changes_from {
                    notes.delivery(device_id, record);
                }
                (None, Counts { internal: 1, ..Counts::default() })
            }
            Kind::Pulse => (None, Counts { internal: 1, ..Counts::default() }),
            other => self.message(other, &facts, record, owed, notes),
        };
        if let Some(letter) = replay.filter(|_| offset >= owed.changes_from) {
            let decoded = counts.dead_letters == 0;
            let has_row = matches!(kind, Kind::Telemetry | Kind::Heartbeat);
            notes.replayed.push(Replayed { letter, offset, decoded, has_row });
        }
        let replayed = if replay.is_some() { counts.received } else { 0 };
        self.count(&facts, owed, Counts { replayed, ..counts });
        if offset < owed.changes_from || device_id.is_empty() {
            return;
        }
        // Whoever speaks is there, whatever it says: but for what says itself whether it is, and what
        // others bring in for it.
        let spoke = !record.headers.retained && replay.is_none() && topic != IMPORT;
        let says = payload.is_some() && matches!(kind, Kind::Heartbeat | Kind::Register);
        if spoke && names_device(kind) && kind != Kind::Status && !says {
            notes.heard(device_id, at);
        }
        match payload {
            Some(payload) => {
                if is_due(device_id, at) {
                    notes.seen(device_id, at);
                }
                notes.payload(device_id, record, payload);
            }
            None if names_device(kind) && is_due(device_id, at) => notes.seen(device_id, at),
            None => {}
        }
    }

    /// Readings, of which only the dead letters are counted here. Those that the lake has already are
    /// decoded for what control has yet to learn of them, and are no rows any more.
    fn readings(
        &mut self,
        facts: &RecordFacts<'_>,
        record: &Record,
        owed: Owed,
        notes: &mut Notes,
    ) -> Counts {
        let offset = facts.position.offset;
        if offset < owed.rows_from.min(owed.changes_from) {
            return Counts::default();
        }
        let (letters, mut dead_letters) = (&mut self.dead_letters, 0);
        let resolved_ts = record.headers.resolved_ts;
        let source = Source { facts: *facts, payload: &record.value, resolved_ts };
        if offset >= owed.rows_from {
            let (topic, payload) = (record.headers.topic.clone(), record.value.clone());
            self.messages.push(Message { offset, topic, payload });
        }
        let received = self.telemetry.push(&source, &mut |letter| {
            dead_letters += 1;
            if offset >= owed.changes_from {
                notes.letter(facts.device_id, &letter, facts.received_at);
            }
            if offset >= owed.rows_from {
                letters.push(facts, &letter);
            }
        });
        let received = i64::try_from(received).unwrap_or(i64::MAX);
        Counts { received, dead_letters, ..Counts::default() }
    }

    /// Any other message of a device.
    fn message(
        &mut self,
        kind: Kind,
        facts: &RecordFacts<'_>,
        record: &Record,
        owed: Owed,
        notes: &mut Notes,
    ) -> (Option<Payload>, Counts) {
        let offset = facts.position.offset;
        let one = Counts { received: 1, ..Counts::default() };
        match self.parsed(kind, facts.device_id, record) {
            Ok(Payload::Heartbeat(heartbeat)) => {
                if offset >= owed.rows_from {
                    let ts = heartbeat.ts.map_or(facts.received_at, |ts| ts.0);
                    self.heartbeats.push(facts, ts, &heartbeat);
                }
                (Some(Payload::Heartbeat(heartbeat)), one)
            }
            Ok(payload) => (Some(payload), Counts { noted: 1, ..one }),
            Err((reason, detail)) => {
                let letter = DeadLetter::whole(reason, detail, 0, kept(kind, record));
                if offset >= owed.changes_from {
                    notes.letter(facts.device_id, &letter, facts.received_at);
                }
                if offset >= owed.rows_from {
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

/// A payload without a time, with the time that became known since.
fn with_ts(value: &[u8], ts: Micros) -> Option<Vec<u8>> {
    let mut payload = payload::fields(value).ok()?;
    payload.insert("ts".to_owned(), serde_json::json!(time::to_rfc3339(ts)));
    serde_json::to_vec(&payload).ok()
}

/// The rows from an offset on; rows are in offset order.
fn from_offset(rows: &RecordBatch, from: i64) -> RecordBatch {
    let offsets = rows.column_by_name("offset").map(|c| c.as_primitive::<Int64Type>().values());
    let first = offsets.map_or(0, |offsets| offsets.partition_point(|offset| *offset < from));
    rows.slice(first, rows.num_rows() - first)
}

/// Of the readings from an offset on: those without a known key, and the devices of the others.
fn told_apart(
    rows: &RecordBatch,
    unknown: Vec<Unknown>,
    from: i64,
) -> (Vec<Unknown>, HashMap<Arc<str>, Micros>) {
    let too_many = unknown.len() >= MOST_UNKNOWN;
    let theirs = from_offset(rows, from);
    let first = rows.num_rows() - theirs.num_rows();
    let unknown: Vec<Unknown> = unknown.into_iter().filter(|u| u.row >= first).collect();
    let mut known: HashMap<Arc<str>, Micros> = HashMap::new();
    let (Some(devices), Some(times), false) =
        (theirs.column_by_name("device_id"), theirs.column_by_name("ts"), too_many)
    else {
        return (unknown, known);
    };
    let times = times.as_primitive::<TimestampMicrosecondType>().values();
    for (device, ts) in devices.as_string::<i32>().iter().flatten().zip(times.iter().copied()) {
        match known.get_mut(device) {
            Some(newest) => *newest = ts.max(*newest),
            None => {
                known.insert(device.into(), ts);
            }
        }
    }
    unknown.iter().for_each(|reading| {
        known.remove(reading.device_id.as_str());
    });
    (unknown, known)
}

/// The newest reading of each device that is noted; none that is ahead of its arrival.
fn note_readings(rows: &RecordBatch, limits: &Limits, notes: &mut Notes) {
    for (device, ts, received) in arrivals(rows) {
        if !limits.is_ahead(ts, received) {
            notes.measured(device, ts);
        }
    }
}

/// What readings say of their devices' clocks. What comes late says nothing.
fn note_clocks(rows: &RecordBatch, notes: &mut Notes) {
    for (device, ts, received) in arrivals(rows) {
        if received - ts < LATE {
            notes.clock(device, ts, received);
        }
    }
}

/// The devices, times and times of arrival of readings.
pub(crate) fn arrivals(rows: &RecordBatch) -> impl Iterator<Item = (&str, Micros, Micros)> {
    let column = |name: &str| rows.column_by_name(name);
    let times = |name: &str| {
        let column = column(name).map(|c| c.as_primitive::<TimestampMicrosecondType>());
        column.map_or(&[][..], |c| c.values().as_ref())
    };
    let devices =
        column("device_id").into_iter().flat_map(|c| c.as_string::<i32>().iter().flatten());
    devices.zip(times("ts").iter().zip(times("received_at"))).map(|(d, (ts, at))| (d, *ts, *at))
}

/// A reading that is older than this when it comes tells nothing of its device's clock.
const LATE: Micros = 5 * 60 * time::SECOND;

/// The topic of what is brought in over HTTP.
const IMPORT: &str = "import";

/// What a dead letter keeps. An answer may hold what a device is configured with, which nobody but
/// the device is to read.
fn kept(kind: Kind, record: &Record) -> Bytes {
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
