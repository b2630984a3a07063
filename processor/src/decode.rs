//! Records of the log into rows and changes. Pure: what it decides depends on the records alone.

use std::sync::Arc;

use acuvim_control::Changes;
use acuvim_lakehouse::Rows;
use acuvim_log::Entry;
use acuvim_schemas::{
    DeadLetter, Kind, Micros, Position, Reason, Record, config,
    payload::{self, Heartbeat, Payload},
    telemetry::{Aliases, DeadLetterRows, Decoder, Limits, RecordFacts, Source},
};
use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::TimestampMicrosecondType,
    error::ArrowError,
};

use bytes::Bytes;

use crate::notes::{Notes, names_device};

/// Which parts of a run of records are still owed: a sink that is ahead skips record by record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owed {
    /// The first offset whose rows the lake has not got.
    pub rows_from: i64,
    /// The first offset whose changes control has not got.
    pub changes_from: i64,
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
    /// When the last of them came.
    pub received_at: Micros,
}

/// Decodes the records of one partition.
#[derive(Debug)]
pub struct StreamDecoder {
    partition: u32,
    epoch: i32,
    max_future: Micros,
    telemetry: Decoder,
    dead_letters: DeadLetterRows,
}

impl StreamDecoder {
    /// A decoder for a partition.
    #[must_use]
    pub fn new(partition: u32, epoch: i32, limits: Limits, aliases: Arc<Aliases>) -> Self {
        let max_future = limits.max_future;
        let telemetry = Decoder::new(limits, aliases);
        Self { partition, epoch, max_future, telemetry, dead_letters: DeadLetterRows::default() }
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
        let (mut notes, mut received_at) = (Notes::default(), 0);
        for (offset, entry) in entries {
            match Record::try_from(&entry) {
                Ok(record) => {
                    received_at = record.headers.received_at;
                    self.record(offset, &record, owed, is_due, &mut notes);
                }
                Err(error) => {
                    let letter = DeadLetter::whole(
                        Reason::BadRecord,
                        Some(error.to_string()),
                        0,
                        entry.value,
                    );
                    let kind = Kind::Reject.as_str();
                    let facts = self.facts(offset, "", kind, "", 0);
                    if offset >= owed.rows_from {
                        self.dead_letters.push(&facts, &letter);
                    }
                }
            }
        }
        let telemetry = self.telemetry.finish()?;
        let dead_letters = self.dead_letters.finish()?;
        note_readings(&telemetry.rows, &mut notes);
        Ok(Decoded {
            rows: Rows { telemetry: telemetry.rows, dead_letters },
            changes: notes.finish(),
            no_known_readings: telemetry.no_known_readings,
            received_at,
        })
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
        let payload = match kind {
            Kind::Telemetry => {
                if offset >= owed.rows_from {
                    let letters = &mut self.dead_letters;
                    let source = Source { facts, payload: &record.value };
                    self.telemetry.push(&source, &mut |letter| letters.push(&facts, &letter));
                }
                None
            }
            Kind::Reject => {
                if offset >= owed.rows_from {
                    self.dead_letters.push(&facts, &rejected(record));
                }
                None
            }
            Kind::Sent => {
                if offset >= owed.changes_from {
                    notes.delivery(device_id, record);
                }
                None
            }
            other => match self.parsed(other, device_id, record) {
                Ok(payload) => Some(payload),
                Err((reason, detail)) => {
                    if offset >= owed.rows_from {
                        let letter = DeadLetter::whole(reason, detail, 0, kept(kind, record));
                        self.dead_letters.push(&facts, &letter);
                    }
                    None
                }
            },
        };
        if offset < owed.changes_from || device_id.is_empty() {
            return;
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

    fn parsed(
        &self,
        kind: Kind,
        device_id: &str,
        record: &Record,
    ) -> Result<Payload, payload::Fault> {
        let payload = payload::parse(kind, device_id, &record.value)?;
        if let Payload::Heartbeat(Heartbeat { ts: Some(ts), .. }) = &payload {
            payload::check_clock(ts.0, record.headers.received_at, self.max_future)?;
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

/// The newest reading of each device that is noted.
fn note_readings(rows: &RecordBatch, notes: &mut Notes) {
    let (Some(devices), Some(times)) =
        (rows.column_by_name("device_id"), rows.column_by_name("ts"))
    else {
        return;
    };
    let times = times.as_primitive::<TimestampMicrosecondType>().values();
    for (device, ts) in devices.as_string::<i32>().iter().flatten().zip(times.iter()) {
        notes.measured(device, *ts);
    }
}

/// What a dead letter keeps. An answer may hold what a device is configured with, which nobody but
/// the device is to read.
fn kept(kind: Kind, record: &Record) -> Bytes {
    let answer = match kind {
        Kind::Resp => serde_json::from_slice::<serde_json::Value>(&record.value).ok(),
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
mod tests {
    use super::*;
    use acuvim_schemas::{Headers, api::DeviceStatus, record::Reject};

    fn entry(kind: Kind, device: &str, payload: &str) -> Entry {
        let reject = (kind == Kind::Reject).then(|| Reject {
            reason: Reason::TooLarge,
            length: 900_000,
            sha256: "ab".into(),
        });
        Entry::from(Record {
            key: Bytes::copy_from_slice(device.as_bytes()),
            value: Bytes::copy_from_slice(payload.as_bytes()),
            headers: Headers {
                kind,
                topic: Bytes::from(format!("acuvim/{device}/{kind}")),
                received_at: 1_778_951_200_000_000,
                retained: false,
                reject,
            },
        })
    }

    fn decode(entries: Vec<Entry>, owed: Owed) -> Decoded {
        let mut decoder = StreamDecoder::new(0, 0, Limits::default(), Arc::default());
        let entries = (0..).zip(entries).collect();
        decoder.decode(entries, owed, &|device, _| device != "known").expect("schema")
    }

    fn stream() -> Vec<Entry> {
        vec![
            entry(Kind::Telemetry, "known", r#"{"ts":1778951132,"f":50}"#),
            entry(Kind::Telemetry, "new", "broken"),
            entry(Kind::Heartbeat, "new", r#"{"ts":1778951132}"#),
            entry(Kind::Register, "reg", r#"{"device_id":"reg","imei":"351234567890123"}"#),
            entry(Kind::Register, "reg", r#"{"device_id":"reg","imei":1}"#),
            entry(Kind::Status, "new", "sideways"),
            entry(Kind::Reject, "", "first bytes"),
            Entry { value: Bytes::from_static(b"stranger"), ..Entry::default() },
        ]
    }

    #[test]
    fn good_ones_become_rows_and_bad_ones_dead_letters_with_their_reason() {
        let decoded = decode(stream(), Owed { rows_from: 0, changes_from: 0 });
        assert_eq!(decoded.rows.telemetry.num_rows(), 1);
        let letters = &decoded.rows.dead_letters;
        let reasons = letters.column_by_name("reason").expect("reason").as_string::<i32>();
        let reasons: Vec<_> = reasons.iter().flatten().collect();
        assert_eq!(reasons, ["not_json", "wrong_type", "not_json", "too_large", "bad_record"]);
    }

    fn noted(changes: &Changes) -> Vec<&str> {
        changes.devices.iter().map(|note| note.device_id.as_str()).collect()
    }

    #[test]
    fn a_device_is_noted_once_with_all_that_it_says() {
        let changes = decode(stream(), Owed { rows_from: 0, changes_from: 0 }).changes;
        assert_eq!(noted(&changes), ["new", "reg"], "and not one that control was told of");
        let [new, reg] = changes.devices.as_slice() else { panic!("two") };
        assert!(new.heartbeat.is_some() && new.heard && !new.back);
        assert_eq!(new.status.map(|(status, _)| status), Some(DeviceStatus::Online));
        assert_eq!((reg.registrations.len(), reg.heard, reg.back), (1, true, true));
    }

    #[test]
    fn the_last_word_on_the_connection_counts_and_a_kept_one_does_not() {
        let status = |text: &str, retained| {
            let mut entry = entry(Kind::Status, "d", text);
            if retained {
                entry.headers.push((Bytes::from_static(b"retained"), Bytes::from_static(b"1")));
            }
            entry
        };
        let all = Owed { rows_from: 0, changes_from: 0 };
        let said = |entries| decode(entries, all).changes.devices.swap_remove(0);
        let note = said(vec![status("online", false), status("offline", false)]);
        assert_eq!(note.status.map(|(s, _)| s), Some(DeviceStatus::Offline));
        assert!(!note.heard && !note.back);
        let note = said(vec![status("online", true)]);
        assert_eq!((note.status, note.heard), (None, false));
    }

    #[test]
    fn answers_and_deliveries_keep_their_order() {
        let id = "018f0000-0000-7000-8000-000000000000";
        let answer = |status: &str| {
            let text = format!(r#"{{"request_id":"{id}","status":"{status}"}}"#);
            entry(Kind::Resp, "d", &text)
        };
        let sent = format!(r#"{{"request_id":"{id}","attempt":1,"outcome":"sent"}}"#);
        let entries = vec![
            answer("ack"),
            entry(Kind::Sent, "d", &sent),
            entry(Kind::Sent, "d", "of nobody"),
            answer("success"),
        ];
        let changes = decode(entries, Owed { rows_from: 0, changes_from: 0 }).changes;
        assert_eq!(changes.answers.len(), 2);
        assert_eq!(changes.deliveries.len(), 1);
        assert_eq!(noted(&changes), ["d"], "whoever speaks is there");
    }

    #[test]
    fn a_wrong_clock_and_long_texts_touch_no_device_row() {
        let long = format!(r#"{{"ts":1778951132,"firmware_version":"{}"}}"#, "x".repeat(65));
        let entries = vec![
            entry(Kind::Heartbeat, "d", r#"{"ts":-8e15}"#),
            entry(Kind::Heartbeat, "d", r#"{"ts":"2036-01-01T00:00:00Z"}"#),
            entry(Kind::Heartbeat, "d", &long),
        ];
        let decoded = decode(entries, Owed { rows_from: 0, changes_from: 0 });
        assert!(decoded.changes.devices.iter().all(|note| note.heartbeat.is_none()));
        let letters = &decoded.rows.dead_letters;
        let reasons = letters.column_by_name("reason").expect("reason").as_string::<i32>();
        let reasons: Vec<_> = reasons.iter().flatten().collect();
        assert_eq!(reasons, ["ts_before_2020", "ts_in_future", "wrong_type"]);
    }

    #[test]
    fn an_answer_that_can_not_be_used_shows_no_secret() {
        let answer =
            r#"{"request_id":"x","status":"done","data":{"wifi":{"password":"hunter22"}}}"#;
        let entries = vec![entry(Kind::Resp, "d", answer)];
        let letters = decode(entries, Owed { rows_from: 0, changes_from: 0 }).rows.dead_letters;
        let payload = letters.column_by_name("payload").expect("payload").as_binary::<i32>();
        let text = String::from_utf8(payload.value(0).to_vec()).expect("text");
        assert!(text.contains("********") && !text.contains("hunter22"), "{text}");
    }

    #[test]
    fn the_sink_that_is_ahead_skips_record_by_record() {
        let decoded = decode(stream(), Owed { rows_from: 5, changes_from: 3 });
        assert_eq!(decoded.rows.telemetry.num_rows(), 0);
        assert_eq!(decoded.rows.dead_letters.num_rows(), 3);
        assert_eq!(noted(&decoded.changes), ["reg", "new"]);
        let nothing = decode(stream(), Owed { rows_from: 99, changes_from: 99 });
        assert_eq!(nothing.rows.dead_letters.num_rows(), 0);
        assert_eq!(nothing.changes, Changes::default());
    }
}
