//! Items, gathered by device into records of the log. Pure.

use std::collections::HashMap;

use acuvim_log::Entry;
use acuvim_wire::{Headers, Kind, Micros, Record, device::partition_of};
use bytes::Bytes;

use super::row::Item;

/// Items and bytes of a full record; its last item may exceed the bytes.
// Well below the 500 items that the decoder takes, and the 4 MiB that an entry of the log may have.
const ITEMS: usize = 200;
const BYTES: usize = 128 << 10;

/// Rows that wait, over all devices.
const WAITING: usize = 20_000;

/// A record with the rows of the file that its items come from.
#[derive(Debug)]
pub(crate) struct FullRecord {
    /// The partition of its device.
    pub partition: u32,
    pub entry: Entry,
    /// The row of each item, counted from 1.
    pub rows: Vec<u64>,
}

/// Items of one device that wait.
#[derive(Debug, Default)]
struct Waiting {
    json: Vec<u8>,
    rows: Vec<u64>,
}

/// Items that wait for a full record, by device.
#[derive(Debug)]
pub(super) struct Batches {
    partitions: u32,
    waiting: HashMap<String, Waiting>,
    rows: usize,
}

impl Batches {
    pub fn new(partitions: u32) -> Self {
        Self { partitions, waiting: HashMap::new(), rows: 0 }
    }

    /// Adds the item of a row, and answers with the records that are full now.
    pub fn push(&mut self, item: Item, row: u64, now: Micros) -> Vec<FullRecord> {
        let Item { device_id, json } = item;
        let waiting = self.waiting.entry(device_id.clone()).or_default();
        let before: &[u8] = if waiting.rows.is_empty() { b"{\"batch\":[" } else { b"," };
        waiting.json.extend_from_slice(before);
        waiting.json.extend_from_slice(json.as_bytes());
        waiting.rows.push(row);
        self.rows += 1;
        if waiting.rows.len() >= ITEMS || waiting.json.len() >= BYTES {
            return self.take(&device_id, now).into_iter().collect();
        }
        if self.rows >= WAITING { self.finish(now) } else { Vec::new() }
    }

    /// Records of everything that waits.
    pub fn finish(&mut self, now: Micros) -> Vec<FullRecord> {
        let devices: Vec<String> = self.waiting.keys().cloned().collect();
        devices.iter().filter_map(|device| self.take(device, now)).collect()
    }

    fn take(&mut self, device_id: &str, now: Micros) -> Option<FullRecord> {
        let Waiting { json: mut value, rows } = self.waiting.remove(device_id)?;
        value.extend_from_slice(b"]}");
        self.rows = self.rows.saturating_sub(rows.len());
        let record = Record {
            key: Bytes::from(device_id.to_owned()),
            value: Bytes::from(value),
            headers: Headers {
                kind: Kind::Telemetry,
                topic: Bytes::from_static(b"import"),
                received_at: now,
                retained: false,
                reject: None,
                replay_of: None,
                resolved_ts: None,
            },
        };
        let partition = partition_of(device_id.as_bytes(), self.partitions);
        Some(FullRecord { partition, entry: Entry::from(record), rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_in_one_record_of_its_device_in_order() {
        let mut batches = Batches::new(4);
        let mut records = Vec::new();
        for n in 0..1001_u64 {
            let item = Item { device_id: format!("d{}", n % 3), json: n.to_string() };
            records.extend(batches.push(item, n, 5));
        }
        records.extend(batches.finish(5));
        assert!(batches.finish(5).is_empty());
        let mut seen: HashMap<String, Vec<i64>> = HashMap::new();
        for FullRecord { entry, rows, .. } in records {
            let record = Record::try_from(&entry).expect("a record");
            let device = String::from_utf8(record.key.to_vec()).expect("text");
            let payload: serde_json::Value = serde_json::from_slice(&record.value).expect("json");
            let items = payload["batch"].as_array().expect("items");
            assert!(items.len() <= ITEMS);
            let numbers = items.iter().filter_map(serde_json::Value::as_i64);
            assert!(numbers.clone().eq(rows.iter().map(|row| *row as i64)), "{rows:?}");
            seen.entry(device).or_default().extend(numbers);
        }
        for n in 0..3 {
            let want: Vec<i64> = (0..1001).filter(|i| i % 3 == n).collect();
            assert_eq!(seen[&format!("d{n}")], want);
        }
    }
}
