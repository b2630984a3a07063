//! Records and decoded rows for tests.

use std::sync::Arc;

use acuvim_log::Entry;
use acuvim_wire::{Headers, Kind, Micros, Record, telemetry::Limits, time};
use arrow::array::RecordBatch;
use bytes::Bytes;

use super::decode::{Decoded, SinkOffsets, StreamDecoder};

/// Sinks that have nothing yet.
pub(super) const NOTHING_STORED: SinkOffsets =
    SinkOffsets { rows_from: 0, changes_from: 0, ledger_from: 0 };

/// A message as ingest writes it to the log.
pub(super) fn message(kind: Kind, device: &str, payload: &str, received_at: Micros) -> Record {
    Record {
        key: Bytes::copy_from_slice(device.as_bytes()),
        value: Bytes::copy_from_slice(payload.as_bytes()),
        headers: Headers {
            kind,
            topic: Bytes::from(format!("acuvim/{device}/{kind}")),
            received_at,
            retained: false,
            reject: None,
            replay_of: None,
            resolved_ts: None,
        },
    }
}

/// Decodes records of partition 0, with offsets from 0.
pub(super) fn decode(records: Vec<Record>) -> Decoded {
    let mut decoder = StreamDecoder::new(0, 0, Limits::default(), Arc::default());
    let entries = (0..).zip(records.into_iter().map(Entry::from)).collect();
    decoder.decode(entries, NOTHING_STORED, &|_, _| true).expect("decoded")
}

/// A reading: the device, its time, when it arrived, and its fields as JSON.
pub(super) type Sent<'a> = (&'a str, Micros, Micros, &'a str);

/// One message for each reading.
pub(super) fn sent(readings: &[Sent<'_>]) -> Decoded {
    let record = |(device, ts, received_at, fields): &Sent<'_>| {
        let payload = format!(r#"{{"ts":"{}",{fields}}}"#, time::to_rfc3339(*ts));
        message(Kind::Telemetry, device, &payload, *received_at)
    };
    decode(readings.iter().map(record).collect())
}

/// The rows of `telemetry` of these readings.
pub(super) fn rows(readings: &[Sent<'_>]) -> RecordBatch {
    let rows = sent(readings).rows.telemetry;
    assert_eq!(rows.num_rows(), readings.len(), "all of them can be decoded");
    rows
}
