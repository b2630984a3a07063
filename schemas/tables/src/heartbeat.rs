//! Rows of `heartbeats`, in which nested values of the payload are columns.

use std::sync::Arc;

use acuvim_wire::{
    Micros,
    payload::{Heartbeat, whole},
    record::RecordFacts,
    text::plain,
    time::day_of,
    vitals::Vitals,
};
use arrow::{
    array::{
        ArrayRef, BooleanBuilder, Date32Builder, Int32Builder, Int64Builder, RecordBatch,
        StringBuilder, TimestampMicrosecondBuilder,
    },
    error::ArrowError,
};
use serde_json::{Map, Value};

use crate::table::Table;

/// The columns of whole numbers that are keys of the payload.
const WHOLES: [&str; 6] =
    ["free_heap", "min_free_heap", "signal_strength", "csq", "mqtt_reconnects", "wifi_reconnects"];

/// Builds rows of `heartbeats`.
#[derive(Debug, Default)]
pub struct HeartbeatRows {
    texts: [StringBuilder; 8],
    times: [TimestampMicrosecondBuilder; 2],
    wholes: [Int64Builder; 12],
    sd_present: BooleanBuilder,
    epoch: Int32Builder,
    partition: Int32Builder,
    offset: Int64Builder,
    item: Int32Builder,
    date: Date32Builder,
}

impl HeartbeatRows {
    /// Adds the row of a heartbeat. `ts` is the time that counts for it.
    pub fn push(&mut self, record: &RecordFacts<'_>, ts: Micros, heartbeat: &Heartbeat) {
        let vitals = Vitals::of(heartbeat);
        let extra = &heartbeat.extra;
        let text = |key: &str| {
            let text = extra.get(key).and_then(Value::as_str).and_then(plain);
            text.map(str::to_owned)
        };
        let whole = |key: &str| extra.get(key).and_then(whole);
        let unsigned = |n: Option<u64>| n.and_then(|n| i64::try_from(n).ok());
        let texts = [
            Some(record.device_id.to_owned()),
            heartbeat.firmware_version.clone(),
            heartbeat.hardware.clone(),
            heartbeat.meter_serial.clone(),
            vitals.reset_reason,
            text("connection_type"),
            text("ip_address"),
            rest(extra),
        ];
        for (column, value) in self.texts.iter_mut().zip(texts) {
            column.append_option(value);
        }
        for (column, value) in self.times.iter_mut().zip([ts, record.received_at]) {
            column.append_value(value);
        }
        let wholes = [
            heartbeat.heartbeat_interval_s.map(i64::from),
            unsigned(heartbeat.uptime_ms),
            unsigned(heartbeat.boot),
            vitals.free_heap,
            vitals.min_free_heap,
            heartbeat.signal_dbm(),
            vitals.modbus_ok,
            vitals.modbus_errors,
            vitals.sd_free_mb,
            vitals.sd_pending,
            whole("mqtt_reconnects"),
            whole("wifi_reconnects"),
        ];
        for (column, value) in self.wholes.iter_mut().zip(wholes) {
            column.append_option(value);
        }
        self.sd_present.append_option(vitals.sd_present);
        self.epoch.append_value(record.epoch);
        self.partition.append_value(i32::try_from(record.position.partition).unwrap_or(i32::MAX));
        self.offset.append_value(record.position.offset);
        // A heartbeat is always a message of its own.
        self.item.append_value(0);
        self.date.append_value(day_of(ts));
    }

    /// Returns the rows and starts again without any.
    ///
    /// # Errors
    /// Only if the columns do not match the schema of [`Table::Heartbeats`], which is a bug.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let mut texts = self.texts.iter_mut().map(|c| Arc::new(c.finish()) as ArrayRef);
        let mut times =
            self.times.iter_mut().map(|c| Arc::new(c.finish().with_timezone("UTC")) as ArrayRef);
        let mut wholes = self.wholes.iter_mut().map(|c| Arc::new(c.finish()) as ArrayRef);
        let sd_present: ArrayRef = Arc::new(self.sd_present.finish());
        // A letter for each column, in the order of the schema: t is a text, m a time, w a whole number,
        // b a boolean.
        let mut columns = Vec::new();
        for kind in "tmmwttwwttwwtwtwwbwwwwt".chars() {
            let column = match kind {
                't' => texts.next(),
                'm' => times.next(),
                'w' => wholes.next(),
                _ => Some(Arc::clone(&sd_present)),
            };
            columns.extend(column);
        }
        columns.push(Arc::new(self.epoch.finish()));
        columns.push(Arc::new(self.partition.finish()));
        columns.push(Arc::new(self.offset.finish()));
        columns.push(Arc::new(self.item.finish()));
        columns.push(Arc::new(self.date.finish()));
        RecordBatch::try_new(Table::Heartbeats.schema(), columns)
    }
}

/// The fields that no column shows, as JSON: those without a column, and those that their column can't hold.
fn rest(extra: &Map<String, Value>) -> Option<String> {
    let rest: Map<String, Value> = extra
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), not_shown(key, value)?)))
        .collect();
    (!rest.is_empty()).then(|| Value::Object(rest).to_string())
}

/// What the columns don't show of a field; none if they show all of it.
fn not_shown(key: &str, value: &Value) -> Option<Value> {
    if let ("modbus" | "sd", Value::Object(fields)) = (key, value) {
        let is_shown = |name: &str, value: &Value| match (key, name) {
            ("modbus", "ok" | "errors") | ("sd", "free_mb" | "pending") => {
                value.is_null() || whole(value).is_some()
            }
            ("sd", "present") => value.is_null() || value.is_boolean(),
            _ => false,
        };
        let others = fields.iter().filter(|(name, value)| !is_shown(name, value));
        let others: Map<String, Value> =
            others.map(|(name, value)| (name.clone(), value.clone())).collect();
        return (!others.is_empty()).then_some(Value::Object(others));
    }
    let is_shown = match key {
        // The topic has it, and a payload with another one is a dead letter.
        "device_id" => true,
        "reset_reason" => value.is_string() || whole(value).is_some(),
        "connection_type" | "ip_address" => value.is_string(),
        key if WHOLES.contains(&key) => whole(value).is_some(),
        _ => return Some(value.clone()),
    };
    (!is_shown && !value.is_null()).then(|| value.clone())
}

#[cfg(test)]
mod tests;
