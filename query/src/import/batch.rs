//! Items gathered by device into records of the log. Pure.

use std::collections::HashMap;

use acuvim_log::Entry;
use acuvim_schemas::{Headers, Kind, Micros, Record, device::partition_of};
use bytes::Bytes;

use super::row::Item;

/// Items of one record, at most, and its bytes, or a little more.
const ITEMS: usize = 200;
const BYTES: usize = 128 << 10;

/// Rows that wait, over all devices.
const WAITING: usize = 20_000;

/// Items by device, until there are enough of them.
#[derive(Debug)]
pub(super) struct Batches {
    partitions: u32,
    waiting: HashMap<String, Vec<u8>>,
    counts: HashMap<String, usize>,
    rows: usize,
}

impl Batches {
    pub fn new(partitions: u32) -> Self {
        Self { partitions, waiting: HashMap::new(), counts: HashMap::new(), rows: 0 }
    }

    /// Takes an item; answers with the records that are full.
    pub fn push(&mut self, item: Item, now: Micros) -> Vec<(u32, Entry)> {
        let Item { device_id, json } = item;
        let waiting = self.waiting.entry(device_id.clone()).or_default();
        waiting.extend_from_slice(if waiting.is_empty() { b"{\"batch\":[" } else { b"," });
        waiting.extend_from_slice(json.as_bytes());
        let count = self.counts.entry(device_id.clone()).or_default();
        *count += 1;
        self.rows += 1;
        if *count >= ITEMS || waiting.len() >= BYTES {
            return self.take(&device_id, now).into_iter().collect();
        }
        if self.rows >= WAITING { self.finish(now) } else { Vec::new() }
    }

    /// Everything that waits.
    pub fn finish(&mut self, now: Micros) -> Vec<(u32, Entry)> {
        let devices: Vec<String> = self.waiting.keys().cloned().collect();
        devices.iter().filter_map(|device| self.take(device, now)).collect()
    }

    fn take(&mut self, device_id: &str, now: Micros) -> Option<(u32, Entry)> {
        let mut value = self.waiting.remove(device_id)?;
        value.extend_from_slice(b"]}");
        self.rows = self.rows.saturating_sub(self.counts.remove(device_id).unwrap_or(0));
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
        Some((partition, Entry::from(record)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_in_one_record_of_its_device_in_order() {
        let mut batches = Batches::new(4);
        let mut records = Vec::new();
        for n in 0..1001 {
            let item = Item { device_id: format!("d{}", n % 3), json: n.to_string() };
            records.extend(batches.push(item, 5));
        }
        records.extend(batches.finish(5));
        assert!(batches.finish(5).is_empty());
        let mut seen: HashMap<String, Vec<i64>> = HashMap::new();
        for (_, entry) in records {
            let record = Record::try_from(&entry).expect("a record");
            let device = String::from_utf8(record.key.to_vec()).expect("text");
            let payload: serde_json::Value = serde_json::from_slice(&record.value).expect("json");
            let items = payload["batch"].as_array().expect("items");
            assert!(items.len() <= ITEMS);
            let numbers = items.iter().filter_map(serde_json::Value::as_i64);
            seen.entry(device).or_default().extend(numbers);
        }
        for n in 0..3 {
            let want: Vec<i64> = (0..1001).filter(|i| i % 3 == n).collect();
            assert_eq!(seen[&format!("d{n}")], want);
        }
    }
}
