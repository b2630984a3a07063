//! Records in, one Arrow batch of readings and the dead letters out.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayBuilder as _, ArrayRef, Date32Builder, Decimal128Builder, Int32Builder, Int64Builder,
        RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
    },
    error::ArrowError,
};
use bytes::Bytes;

use super::{
    Aliases, Limits, RecordFacts,
    item::{self, Context, Row},
    split::{Items, split},
};
use crate::{
    dead_letter::{DeadLetter, Reason},
    reading::READINGS,
    tables::{Table, decimal},
    time::{Micros, day_of},
};

/// A telemetry record as the decoder needs it.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Who, when and where in the log.
    pub facts: RecordFacts<'a>,
    /// The payload as it came.
    pub payload: &'a Bytes,
    /// When its readings without a time were taken, where that became known since.
    pub resolved_ts: Option<Micros>,
}

/// What a run of records came to.
#[derive(Debug)]
pub struct Decoded {
    /// The good readings, in log order, in the schema of [`Table::Telemetry`].
    pub rows: RecordBatch,
    /// How many of them had no reading we know.
    pub no_known_readings: usize,
    /// The first of those, one of each device, at most [`MOST_UNKNOWN`].
    pub unknown: Vec<Unknown>,
}

/// How many readings without a known key are told of one by one.
pub const MOST_UNKNOWN: usize = 256;

/// A reading without a key we know: what its device should be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// Whose.
    pub device_id: String,
    /// When it was taken.
    pub ts: Micros,
    /// Its row among those of this run.
    pub row: usize,
    /// Up to five of its keys.
    pub keys: Vec<String>,
}

/// Columns of `telemetry` under construction.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    aliases: Arc<Aliases>,
    row: Row,
    columns: Columns,
    no_known_readings: usize,
    unknown: Vec<Unknown>,
}

#[derive(Debug)]
struct Columns {
    device_id: StringBuilder,
    ts: TimestampMicrosecondBuilder,
    received_at: TimestampMicrosecondBuilder,
    source: StringBuilder,
    connection: StringBuilder,
    seq: Int64Builder,
    boot: Int64Builder,
    readings: Vec<Decimal128Builder>,
    load_type: StringBuilder,
    extra: StringBuilder,
    epoch: Int32Builder,
    partition: Int32Builder,
    offset: Int64Builder,
    item: Int32Builder,
    date: Date32Builder,
}

impl Decoder {
    /// A decoder under these limits, with these foreign keys.
    #[must_use]
    pub fn new(limits: Limits, aliases: Arc<Aliases>) -> Self {
        let columns = Columns::new();
        Self {
            limits,
            aliases,
            row: Row::default(),
            columns,
            no_known_readings: 0,
            unknown: Vec::new(),
        }
    }

    /// Decodes one telemetry record: good items become rows, each bad one is given to `reject`.
    /// Answers with how many items it had; what can't be taken apart is one.
    pub fn push(&mut self, source: &Source<'_>, reject: &mut dyn FnMut(DeadLetter)) -> usize {
        let payload = source.payload;
        let Ok(text) = std::str::from_utf8(payload) else {
            reject(DeadLetter::whole(Reason::NotUtf8, None, 0, payload.clone()));
            return 1;
        };
        if text.trim().is_empty() {
            reject(DeadLetter::whole(Reason::Empty, None, 0, payload.clone()));
            return 1;
        }
        if let Some(items) = split(text) {
            return self.items(&items, source, reject);
        }
        // printf on a device writes a missing float as a bare nan, which JSON does not have.
        let mended = without_bare_nan(text);
        if let Some(items) = mended.as_deref().and_then(split) {
            return self.items(&items, source, reject);
        }
        reject(DeadLetter::whole(Reason::NotJson, None, 0, payload.clone()));
        1
    }

    /// The rows so far; starts again empty.
    ///
    /// # Errors
    /// Only if the columns and the schema of [`Table::Telemetry`] have come apart.
    pub fn finish(&mut self) -> Result<Decoded, ArrowError> {
        let rows = self.columns.finish()?;
        Ok(Decoded {
            rows,
            no_known_readings: std::mem::take(&mut self.no_known_readings),
            unknown: std::mem::take(&mut self.unknown),
        })
    }

    fn items(
        &mut self,
        items: &Items<'_>,
        source: &Source<'_>,
        reject: &mut dyn FnMut(DeadLetter),
    ) -> usize {
        let list = match items {
            Items::One(item) => std::slice::from_ref(item),
            Items::Batch(list) | Items::Lines(list) => list.as_slice(),
        };
        if list.len() > self.limits.max_items {
            let detail =
                Some(format!("{} readings, at most {}", list.len(), self.limits.max_items));
            let all = source.payload.clone();
            reject(DeadLetter::whole(Reason::TooManyItems, detail, 0, all));
            return 1;
        }
        for (index, item) in (0_i32..).zip(list) {
            if let Err((reason, detail)) = self.item(item, index, source) {
                let bytes = match items {
                    Items::One(_) => source.payload.clone(),
                    _ => Bytes::copy_from_slice(item.as_bytes()),
                };
                reject(DeadLetter::whole(reason, detail, index, bytes));
            }
        }
        list.len()
    }

    fn item(&mut self, text: &str, index: i32, source: &Source<'_>) -> Result<(), item::Fault> {
        let facts = &source.facts;
        let cx = Context {
            resolved_ts: source.resolved_ts,
            device_id: facts.device_id,
            received_at: facts.received_at,
            limits: &self.limits,
            aliases: &self.aliases,
        };
        match item::decode(text, &cx, &mut self.row) {
            Err((Reason::NotJson, _)) => {
                let mended = without_bare_nan(text).ok_or((Reason::NotJson, None))?;
                item::decode(&mended, &cx, &mut self.row)?;
            }
            judged => judged?,
        }
        if self.row.known == 0 {
            self.note_unknown(facts.device_id);
        }
        self.columns.push(&mut self.row, index, facts);
        Ok(())
    }
}

impl Decoder {
    fn note_unknown(&mut self, device_id: &str) {
        self.no_known_readings += 1;
        let told = self.unknown.iter().any(|unknown| unknown.device_id == device_id);
        if !told && self.unknown.len() < MOST_UNKNOWN {
            self.unknown.push(Unknown {
                device_id: device_id.to_owned(),
                ts: self.row.ts,
                row: self.columns.rows(),
                keys: self.row.unknown_keys(),
            });
        }
    }
}

impl Columns {
    fn rows(&self) -> usize {
        self.offset.len()
    }

    fn new() -> Self {
        let readings = READINGS
            .iter()
            .map(|r| Decimal128Builder::new().with_data_type(decimal(r.precision, r.scale)))
            .collect();
        Self {
            device_id: StringBuilder::new(),
            ts: TimestampMicrosecondBuilder::new(),
            received_at: TimestampMicrosecondBuilder::new(),
            source: StringBuilder::new(),
            connection: StringBuilder::new(),
            seq: Int64Builder::new(),
            boot: Int64Builder::new(),
            readings,
            load_type: StringBuilder::new(),
            extra: StringBuilder::new(),
            epoch: Int32Builder::new(),
            partition: Int32Builder::new(),
            offset: Int64Builder::new(),
            item: Int32Builder::new(),
            date: Date32Builder::new(),
        }
    }

    fn push(&mut self, row: &mut Row, index: i32, facts: &RecordFacts<'_>) {
        self.device_id.append_value(facts.device_id);
        self.ts.append_value(row.ts);
        self.received_at.append_value(facts.received_at);
        self.source.append_value(row.source.unwrap_or("live"));
        self.connection.append_option(row.connection);
        self.seq.append_option(row.seq);
        self.boot.append_option(row.boot);
        for (column, value) in self.readings.iter_mut().zip(&row.readings) {
            column.append_option(*value);
        }
        self.load_type.append_option(row.load_type.as_deref());
        if row.extra.is_empty() {
            self.extra.append_null();
        } else {
            row.extra.push('}');
            self.extra.append_value(&row.extra);
        }
        self.epoch.append_value(facts.epoch);
        self.partition.append_value(i32::try_from(facts.position.partition).unwrap_or(i32::MAX));
        self.offset.append_value(facts.position.offset);
        self.item.append_value(index);
        self.date.append_value(day_of(row.ts));
    }

    fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.device_id.finish()),
            Arc::new(self.ts.finish().with_timezone("UTC")),
            Arc::new(self.received_at.finish().with_timezone("UTC")),
            Arc::new(self.source.finish()),
            Arc::new(self.connection.finish()),
            Arc::new(self.seq.finish()),
            Arc::new(self.boot.finish()),
        ];
        columns.extend(self.readings.iter_mut().map(|c| Arc::new(c.finish()) as ArrayRef));
        columns.push(Arc::new(self.load_type.finish()));
        columns.push(Arc::new(self.extra.finish()));
        columns.push(Arc::new(self.epoch.finish()));
        columns.push(Arc::new(self.partition.finish()));
        columns.push(Arc::new(self.offset.finish()));
        columns.push(Arc::new(self.item.finish()));
        columns.push(Arc::new(self.date.finish()));
        RecordBatch::try_new(Table::Telemetry.schema(), columns)
    }
}

/// The text with bare `nan`, `inf` and `infinity` values (any sign and case) written as null;
/// none if there are none outside of strings.
fn without_bare_nan(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut found) = (text, false);
    while let Some(at) = rest.find(|c: char| c == '"' || c.is_ascii_alphabetic()) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let length = if from.starts_with('"') { string_length(from)? } else { word_length(from) };
        let (word, after) = from.split_at(length);
        if ["nan", "inf", "infinity"].iter().any(|w| word.eq_ignore_ascii_case(w)) {
            out.truncate(out.trim_end_matches(['-', '+']).len());
            out.push_str("null");
            found = true;
        } else {
            out.push_str(word);
        }
        rest = after;
    }
    out.push_str(rest);
    found.then_some(out)
}

fn word_length(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len())
}

/// Length of the string at the start of the text, quotes included; none if it has no end.
fn string_length(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests;
