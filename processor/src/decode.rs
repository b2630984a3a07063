//! Records of the log into rows and changes. Pure: what it decides depends on the records alone.

use std::sync::Arc;

use acuvim_control::{Changes, Registered};
use acuvim_lakehouse::Rows;
use acuvim_log::Entry;
use acuvim_schemas::{
    DeadLetter, Kind, Micros, Position, Reason, Record,
    payload::{self, Payload},
    telemetry::{Aliases, DeadLetterRows, Decoder, Limits, RecordFacts, Source},
    time,
};
use arrow::error::ArrowError;
use chrono::{DateTime, Utc};

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
}

/// Decodes the records of one partition.
#[derive(Debug)]
pub struct StreamDecoder {
    partition: u32,
    epoch: i32,
    telemetry: Decoder,
    dead_letters: DeadLetterRows,
}

impl StreamDecoder {
    /// A decoder for a partition.
    #[must_use]
    pub fn new(partition: u32, epoch: i32, limits: Limits, aliases: Arc<Aliases>) -> Self {
        let telemetry = Decoder::new(limits, aliases);
        Self { partition, epoch, telemetry, dead_letters: DeadLetterRows::default() }
    }

    /// Decodes entries in offset order. `is_known` tells the devices that control has already.
    ///
    /// # Errors
    /// Only if columns and schemas have come apart.
    pub fn decode(
        &mut self,
        entries: Vec<(i64, Entry)>,
        owed: Owed,
        is_known: &dyn Fn(&str) -> bool,
    ) -> Result<Decoded, ArrowError> {
        let mut changes = Changes::default();
        for (offset, entry) in entries {
            match Record::try_from(&entry) {
                Ok(record) => self.record(offset, &record, owed, is_known, &mut changes),
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
        Ok(Decoded {
            rows: Rows { telemetry: telemetry.rows, dead_letters },
            changes,
            no_known_readings: telemetry.no_known_readings,
        })
    }

    fn record(
        &mut self,
        offset: i64,
        record: &Record,
        owed: Owed,
        is_known: &dyn Fn(&str) -> bool,
        changes: &mut Changes,
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
            Kind::Sent => None,
            other => match payload::parse(other, device_id, &record.value) {
                Ok(payload) => Some(payload),
                Err((reason, detail)) => {
                    if offset >= owed.rows_from {
                        let letter = DeadLetter::whole(reason, detail, 0, record.value.clone());
                        self.dead_letters.push(&facts, &letter);
                    }
                    None
                }
            },
        };
        if offset >= owed.changes_from {
            note(device_id, kind, at, payload, is_known, changes);
        }
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

/// What control notes of a record: that the device is there, and what it says of itself.
fn note(
    device_id: &str,
    kind: Kind,
    at: Micros,
    payload: Option<Payload>,
    is_known: &dyn Fn(&str) -> bool,
    changes: &mut Changes,
) {
    let at: DateTime<Utc> = time::to_datetime(at).unwrap_or_default();
    if let Some(Payload::Registration(registration)) = payload {
        changes.registered.push(Registered { registration, at });
    } else if !device_id.is_empty()
        && kind != Kind::Reject
        && !is_known(device_id)
        && !changes.seen.iter().any(|(seen, _)| seen == device_id)
    {
        changes.seen.push((device_id.to_owned(), at));
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
    use acuvim_schemas::{Headers, record::Reject};
    use arrow::array::AsArray;
    use bytes::Bytes;

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
        decoder.decode(entries, owed, &|device| device == "known").expect("schema")
    }

    fn stream() -> Vec<Entry> {
        vec![
            entry(Kind::Telemetry, "known", r#"{"ts":1778951132,"f":50}"#),
            entry(Kind::Telemetry, "new", "broken"),
            entry(Kind::Heartbeat, "new", r#"{"ts":1778951132}"#),
            entry(Kind::Register, "reg", r#"{"device_id":"reg","imei":"1"}"#),
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

    #[test]
    fn a_new_device_is_noted_once_and_a_registration_as_it_is() {
        let changes = decode(stream(), Owed { rows_from: 0, changes_from: 0 }).changes;
        let seen: Vec<_> = changes.seen.iter().map(|(d, _)| d.as_str()).collect();
        assert_eq!(seen, ["new", "reg"]);
        assert_eq!(changes.registered.len(), 1);
    }

    #[test]
    fn the_sink_that_is_ahead_skips_record_by_record() {
        let decoded = decode(stream(), Owed { rows_from: 5, changes_from: 3 });
        assert_eq!(decoded.rows.telemetry.num_rows(), 0);
        assert_eq!(decoded.rows.dead_letters.num_rows(), 3);
        let seen: Vec<_> = decoded.changes.seen.iter().map(|(d, _)| d.as_str()).collect();
        assert_eq!(seen, ["reg", "new"]);
        let nothing = decode(stream(), Owed { rows_from: 99, changes_from: 99 });
        assert_eq!(nothing.rows.dead_letters.num_rows(), 0);
        assert_eq!(nothing.changes, Changes::default());
    }
}
