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

/// Keys of the payload that have a column; all others go into `extra`.
const COLUMNS: [&str; 10] = [
    "reset_reason",
    "free_heap",
    "min_free_heap",
    "connection_type",
    "signal_strength",
    "ip_address",
    "mqtt_reconnects",
    "wifi_reconnects",
    "device_id",
    "csq",
];

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
    /// Adds a row.
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

/// The fields without a column, as JSON.
fn rest(extra: &Map<String, Value>) -> Option<String> {
    let rest: Map<String, Value> = extra
        .iter()
        .filter(|(key, value)| {
            let nested = matches!(key.as_str(), "modbus" | "sd") && value.is_object();
            !COLUMNS.contains(&key.as_str()) && !nested
        })
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    (!rest.is_empty()).then(|| Value::Object(rest).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use acuvim_wire::Position;
    use arrow::array::{AsArray as _, Int64Array};

    #[test]
    fn every_column_gets_its_own_value() {
        let heartbeat: Heartbeat = serde_json::from_str(
            r#"{"ts":1778951132,"heartbeat_interval_s":60,"firmware_version":"1.2.0","hardware":"T",
                "uptime_ms":5,"boot":17,"meter_serial":"AH1","reset_reason":9,"free_heap":1,
                "min_free_heap":2,"connection_type":"wifi","signal_strength":-61,
                "ip_address":"10.0.0.1","modbus":{"ok":3,"errors":4},
                "sd":{"present":true,"free_mb":6,"pending":7},"mqtt_reconnects":8,
                "wifi_reconnects":9,"odd":[1]}"#,
        )
        .expect("a heartbeat");
        let facts = RecordFacts {
            device_id: "d",
            kind: "heartbeat",
            topic: "t",
            received_at: 1_778_951_133_000_000,
            epoch: 0,
            position: Position { partition: 1, offset: 2 },
        };
        let mut rows = HeartbeatRows::default();
        rows.push(&facts, 1_778_951_132_000_000, &heartbeat);
        let batch = rows.finish().expect("schema");
        let text = |name: &str| batch.column_by_name(name).map(|c| c.as_string::<i32>().value(0));
        let whole = |name: &str| {
            let column = batch.column_by_name(name).and_then(|c| c.as_any().downcast_ref());
            column.map(|c: &Int64Array| c.value(0))
        };
        assert_eq!(text("firmware_version"), Some("1.2.0"));
        assert_eq!(text("hardware"), Some("T"));
        assert_eq!(text("meter_serial"), Some("AH1"));
        assert_eq!(text("reset_reason"), Some("brownout"));
        assert_eq!(text("connection_type"), Some("wifi"));
        assert_eq!(text("ip_address"), Some("10.0.0.1"));
        assert_eq!(text("extra"), Some(r#"{"odd":[1]}"#));
        let wholes = [
            ("heartbeat_interval_s", 60),
            ("uptime_ms", 5),
            ("boot", 17),
            ("free_heap", 1),
            ("min_free_heap", 2),
            ("signal_strength", -61),
            ("modbus_ok", 3),
            ("modbus_errors", 4),
            ("sd_free_mb", 6),
            ("sd_pending", 7),
            ("mqtt_reconnects", 8),
            ("wifi_reconnects", 9),
        ];
        for (name, value) in wholes {
            assert_eq!(whole(name), Some(value), "{name}");
        }
    }
}
