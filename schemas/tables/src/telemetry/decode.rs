//! Decodes records into one Arrow batch of readings, and dead letters.

use std::sync::Arc;

use acuvim_wire::{
    DeadLetter, Micros, Reason,
    reading::READINGS,
    record::RecordFacts,
    telemetry::{Aliases, Items, Limits, split},
    text,
    time::day_of,
};
use arrow::{
    array::{
        ArrayBuilder as _, ArrayRef, Date32Builder, Decimal128Builder, Int32Builder, Int64Builder,
        RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
    },
    error::ArrowError,
};
use bytes::Bytes;

use super::item::{self, Context, ItemError, Row};
use crate::table::{Table, decimal};

/// A telemetry record, as the decoder needs it.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Device, time and position in the log.
    pub facts: RecordFacts<'a>,
    /// The payload as the device sent it.
    pub payload: &'a Bytes,
    /// The time of readings without one, if it has become known since.
    pub resolved_ts: Option<Micros>,
}

/// The result of decoding a series of records.
#[derive(Debug)]
pub struct Decoded {
    /// The good readings, in log order, in the schema of [`Table::Telemetry`].
    pub rows: RecordBatch,
    /// The number of rows without a known reading.
    pub no_known_readings: usize,
    /// The first of those for each device, at most [`MOST_UNKNOWN`].
    pub unknown: Vec<Unknown>,
}

/// The most devices for which readings without a known key are reported.
pub const MOST_UNKNOWN: usize = 256;

/// A reading without a known key: its firmware probably uses other names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// The device that sent it.
    pub device_id: String,
    /// Its time; that of its arrival if the clock of the device is ahead.
    pub ts: Micros,
    /// Its row in the batch.
    pub row: usize,
    /// Up to five of its keys.
    pub keys: Vec<String>,
}

/// Builds rows of `telemetry`.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    aliases: Arc<Aliases>,
    // Reused for every item, so that its buffers are allocated once.
    row: Row,
    columns: Columns,
    no_known_readings: usize,
    unknown: Vec<Unknown>,
}

/// Checks readings one by one, without storing them.
#[derive(Debug)]
pub struct Checker {
    limits: Limits,
    aliases: Arc<Aliases>,
    row: Row,
}

impl Checker {
    /// A checker with these limits and foreign keys.
    #[must_use]
    pub fn new(limits: Limits, aliases: Arc<Aliases>) -> Self {
        Self { limits, aliases, row: Row::default() }
    }

    /// Checks whether a reading, one JSON object, can be stored if it arrives now.
    ///
    /// # Errors
    /// Reason and detail of the dead letter that it would become.
    pub fn check(
        &mut self,
        reading: &str,
        device_id: &str,
        received_at: Micros,
    ) -> Result<(), item::Fault> {
        let (limits, aliases) = (&self.limits, &*self.aliases);
        let cx = Context { resolved_ts: None, device_id, received_at, limits, aliases };
        decode_item(reading, &cx, &mut self.row).map_err(|bad| match bad {
            ItemError::Fault(fault) => fault,
            ItemError::Syntax(at) => (Reason::NotJson, Some(text::place(reading.as_bytes(), at))),
        })
    }
}

/// What a dead letter of an item would keep, and where the item starts in it.
struct Kept<'a> {
    payload: &'a [u8],
    start: usize,
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
    /// A decoder with these limits and foreign keys.
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

    /// Decodes one telemetry record: good items become rows, bad ones are passed to `reject`. Returns
    /// the number of items; a payload that can't be split is one.
    pub fn push(&mut self, source: &Source<'_>, reject: &mut dyn FnMut(DeadLetter)) -> usize {
        let payload = source.payload;
        if text::trimmed(payload).is_empty() {
            reject(DeadLetter::whole(Reason::Empty, None, 0, payload.clone()));
            return 1;
        }
        match split(payload, self.limits.max_items) {
            Some(items) => self.items(&items, source, reject),
            None => {
                let (reason, at) = match std::str::from_utf8(payload) {
                    Ok(_) => (Reason::NotJson, lead(payload)),
                    Err(error) => (Reason::NotUtf8, error.valid_up_to()),
                };
                let detail = Some(text::place(payload, at));
                reject(DeadLetter::whole(reason, detail, 0, payload.clone()));
                1
            }
        }
    }

    /// Returns the rows so far and starts again without any.
    ///
    /// # Errors
    /// Only if the columns do not match the schema of [`Table::Telemetry`], which is a bug.
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
        let list = items.list();
        // Before any item is decoded: a message is taken or refused as a whole here.
        if list.len() > self.limits.max_items {
            let most = self.limits.max_items;
            let detail = Some(format!("{} readings or more, at most {most}", list.len()));
            let all = source.payload.clone();
            reject(DeadLetter::whole(Reason::TooManyItems, detail, 0, all));
            return 1;
        }
        for (index, item) in (0_i32..).zip(list) {
            let is_alone = matches!(items, Items::One(_));
            // The detail of a dead letter counts bytes in the payload that it keeps.
            let kept = match is_alone {
                true => Kept { payload: source.payload, start: lead(source.payload) },
                false => Kept { payload: item, start: 0 },
            };
            if let Err((reason, detail)) = self.item(item, index, source, &kept) {
                let bytes = match is_alone {
                    true => source.payload.clone(),
                    false => Bytes::copy_from_slice(item),
                };
                reject(DeadLetter::whole(reason, detail, index, bytes));
            }
        }
        list.len()
    }

    fn item(
        &mut self,
        item: &[u8],
        index: i32,
        source: &Source<'_>,
        kept: &Kept<'_>,
    ) -> Result<(), item::Fault> {
        let facts = &source.facts;
        let place = |at: usize| Some(text::place(kept.payload, kept.start + at));
        let text = std::str::from_utf8(item)
            .map_err(|error| (Reason::NotUtf8, place(error.valid_up_to())))?;
        let cx = Context {
            resolved_ts: source.resolved_ts,
            device_id: facts.device_id,
            received_at: facts.received_at,
            limits: &self.limits,
            aliases: &self.aliases,
        };
        decode_item(text, &cx, &mut self.row).map_err(|bad| match bad {
            ItemError::Fault(fault) => fault,
            ItemError::Syntax(at) => (Reason::NotJson, place(at)),
        })?;
        if self.row.known == 0 {
            self.report_unknown(facts);
        }
        self.columns.push(&mut self.row, index, facts);
        Ok(())
    }
}

impl Decoder {
    fn report_unknown(&mut self, facts: &RecordFacts<'_>) {
        self.no_known_readings += 1;
        // One report for each device: firmware with other names uses them in every reading.
        let reported = self.unknown.iter().any(|unknown| unknown.device_id == facts.device_id);
        if !reported && self.unknown.len() < MOST_UNKNOWN {
            let is_ahead = self.limits.is_ahead(self.row.ts, facts.received_at);
            self.unknown.push(Unknown {
                device_id: facts.device_id.to_owned(),
                // A wrong clock can't date the report, so the arrival does.
                ts: if is_ahead { facts.received_at } else { self.row.ts },
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
        // Never null, because queries filter by it.
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

/// Decodes an item. If it is not JSON, it is tried again with printf's words for numbers quoted.
fn decode_item(text: &str, cx: &Context<'_>, row: &mut Row) -> Result<(), ItemError> {
    match item::decode(text, cx, row) {
        Err(ItemError::Syntax(at)) => {
            let mended = text::mended(text).ok_or(ItemError::Syntax(at))?;
            item::decode(&mended.text, cx, row).map_err(|bad| match bad {
                ItemError::Syntax(at) => ItemError::Syntax(mended.origin(at)),
                other => other,
            })
        }
        other => other,
    }
}

/// The number of padding bytes before the payload.
fn lead(payload: &[u8]) -> usize {
    payload.len() - text::trimmed_start(payload).len()
}

#[cfg(test)]
mod tests;
