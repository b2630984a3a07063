//! The latest reading of every device, in memory: the row with the highest `ts`, whenever it came. What
//! is ahead of its arrival is of a clock that is wrong, and not the latest.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use acuvim_schemas::{device::partition_of, tables::Table, time::Micros};
use arrow::{
    array::{AsArray as _, RecordBatch, UInt32Array},
    compute::{interleave_record_batch, take_record_batch},
    datatypes::TimestampMicrosecondType,
};

use crate::{Error, writer::column};

/// Rows that are held beyond twice what there is before they are put together anew.
const SLACK: usize = 1024;

/// Pieces of a partition, at most: one of a single row takes as much memory as one of many.
const PIECES: usize = 256;

/// The latest rows, by partition.
#[derive(Debug)]
pub struct Latest {
    partitions: Vec<RwLock<Shard>>,
    max_ahead: Micros,
}

/// The devices of one partition. Rows that a later one has replaced stay in their pieces until these
/// are put together.
#[derive(Debug, Default)]
struct Shard {
    at: HashMap<Arc<str>, Place>,
    pieces: Vec<RecordBatch>,
    held: usize,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    ts: Micros,
    piece: usize,
    row: usize,
}

impl Latest {
    pub(crate) fn new(partitions: u32, max_ahead: Micros) -> Self {
        Self { partitions: (0..partitions).map(|_| RwLock::default()).collect(), max_ahead }
    }

    /// The time of a device's latest reading.
    #[must_use]
    pub fn ts(&self, device: &str) -> Option<Micros> {
        let shard = self.shard_of(device).and_then(|shard| self.partitions.get(shard))?;
        shard.read().unwrap_or_else(PoisonError::into_inner).at.get(device).map(|place| place.ts)
    }

    /// The latest rows of these devices, in their order, with the columns of `telemetry`; those that
    /// have none are left out.
    ///
    /// # Errors
    /// Only if rows and schemas have come apart.
    pub fn rows<'a>(
        &self,
        devices: impl IntoIterator<Item = &'a str>,
    ) -> Result<RecordBatch, Error> {
        let held: Vec<_> = self
            .partitions
            .iter()
            .map(|p| p.read().unwrap_or_else(PoisonError::into_inner))
            .collect();
        let mut first = Vec::with_capacity(held.len());
        let mut pieces: Vec<&RecordBatch> = Vec::new();
        for shard in &held {
            first.push(pieces.len());
            pieces.extend(&shard.pieces);
        }
        let place = |device: &str| {
            let shard = self.shard_of(device)?;
            let place = held.get(shard)?.at.get(device)?;
            Some((first.get(shard)? + place.piece, place.row))
        };
        let places: Vec<(usize, usize)> = devices.into_iter().filter_map(place).collect();
        if places.is_empty() {
            return Ok(RecordBatch::new_empty(Table::Telemetry.schema()));
        }
        Ok(interleave_record_batch(&pieces, &places)?)
    }

    /// Every device that has a latest row, in no order.
    #[must_use]
    pub fn devices(&self) -> Vec<Arc<str>> {
        let ids = |shard: &RwLock<Shard>| {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            shard.at.keys().cloned().collect::<Vec<_>>()
        };
        self.partitions.iter().flat_map(ids).collect()
    }

    /// Whether a device has a latest row.
    #[must_use]
    pub fn has(&self, device: &str) -> bool {
        let shard = self.shard_of(device).and_then(|shard| self.partitions.get(shard));
        shard.is_some_and(|shard| {
            shard.read().unwrap_or_else(PoisonError::into_inner).at.contains_key(device)
        })
    }

    /// Takes what is later than what is known, of rows that are stored or in the tail; answers with
    /// the devices that it changed.
    pub(crate) fn note(&self, rows: &RecordBatch) -> Result<Vec<Arc<str>>, Error> {
        let devices = column(rows, "device_id")?.as_string::<i32>();
        let times = column(rows, "ts")?.as_primitive::<TimestampMicrosecondType>().values();
        let received = column(rows, "received_at")?.as_primitive::<TimestampMicrosecondType>();
        let times = times.iter().zip(received.values());
        let mut newest: HashMap<&str, (Micros, usize)> = HashMap::new();
        for (row, (device, (ts, received))) in devices.iter().flatten().zip(times).enumerate() {
            if *ts > received.saturating_add(self.max_ahead) {
                continue;
            }
            let known = newest.entry(device).or_insert((*ts, row));
            if *ts > known.0 {
                *known = (*ts, row);
            }
        }
        let mut by_shard: HashMap<usize, Vec<(&str, Micros, usize)>> = HashMap::new();
        for (device, (ts, row)) in newest {
            if let Some(shard) = self.shard_of(device) {
                by_shard.entry(shard).or_default().push((device, ts, row));
            }
        }
        let mut changed = Vec::new();
        for (shard, found) in by_shard {
            if let Some(shard) = self.partitions.get(shard) {
                let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
                shard.take(rows, found, &mut changed)?;
            }
        }
        Ok(changed)
    }

    /// Lets go of a partition's devices.
    pub(crate) fn forget(&self, partition: u32) {
        if let Some(shard) = usize::try_from(partition).ok().and_then(|p| self.partitions.get(p)) {
            *shard.write().unwrap_or_else(PoisonError::into_inner) = Shard::default();
        }
    }

    fn shard_of(&self, device: &str) -> Option<usize> {
        let count = u32::try_from(self.partitions.len()).ok()?;
        usize::try_from(partition_of(device.as_bytes(), count)).ok()
    }
}

impl Shard {
    fn take(
        &mut self,
        rows: &RecordBatch,
        mut found: Vec<(&str, Micros, usize)>,
        changed: &mut Vec<Arc<str>>,
    ) -> Result<(), Error> {
        found.retain(|(device, ts, _)| self.at.get(*device).is_none_or(|known| *ts > known.ts));
        if found.is_empty() {
            return Ok(());
        }
        let wanted = found.iter().filter_map(|(.., row)| u32::try_from(*row).ok());
        let piece = take_record_batch(rows, &UInt32Array::from_iter_values(wanted))?;
        for (row, (device, ts, _)) in found.into_iter().enumerate() {
            let place = Place { ts, piece: self.pieces.len(), row };
            let id = match self.at.get_key_value(device) {
                Some((id, _)) => Arc::clone(id),
                None => device.into(),
            };
            self.at.insert(Arc::clone(&id), place);
            changed.push(id);
        }
        self.held += piece.num_rows();
        self.pieces.push(piece);
        if self.held > 2 * self.at.len() + SLACK || self.pieces.len() > PIECES {
            self.put_together()?;
        }
        Ok(())
    }

    fn put_together(&mut self) -> Result<(), Error> {
        let pieces: Vec<&RecordBatch> = self.pieces.iter().collect();
        let places: Vec<(usize, usize)> = self.at.values().map(|p| (p.piece, p.row)).collect();
        let whole = interleave_record_batch(&pieces, &places)?;
        for (row, place) in self.at.values_mut().enumerate() {
            (place.piece, place.row) = (0, row);
        }
        self.held = whole.num_rows();
        self.pieces = vec![whole];
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{StringArray, TimestampMicrosecondArray, new_null_array};

    fn batch(rows: &[(&str, Micros)]) -> RecordBatch {
        let rows: Vec<_> = rows.iter().map(|(device, ts)| (*device, *ts, *ts)).collect();
        arrived(&rows)
    }

    /// Readings with the times of their arrival.
    fn arrived(rows: &[(&str, Micros, Micros)]) -> RecordBatch {
        let schema = Table::Telemetry.schema();
        let times = |get: fn(&(&str, Micros, Micros)) -> Micros| {
            let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(get));
            Arc::new(times.with_timezone("UTC")) as _
        };
        let columns = schema.fields().iter().map(|field| match field.name().as_str() {
            "device_id" => Arc::new(rows.iter().map(|r| Some(r.0)).collect::<StringArray>()) as _,
            "ts" => times(|row| row.1),
            "received_at" => times(|row| row.2),
            _ if field.is_nullable() => new_null_array(field.data_type(), rows.len()),
            _ => {
                let zeros = arrow::array::Int32Array::from(vec![0; rows.len()]);
                arrow::compute::cast(&zeros, field.data_type()).expect("a number")
            }
        });
        RecordBatch::try_new(schema.clone(), columns.collect()).expect("rows")
    }

    fn times(latest: &Latest, devices: &[&str]) -> Vec<Micros> {
        let rows = latest.rows(devices.iter().copied()).expect("rows");
        let times = rows.column_by_name("ts").expect("ts");
        times.as_primitive::<TimestampMicrosecondType>().values().to_vec()
    }

    #[test]
    fn what_is_ahead_of_its_arrival_is_not_the_latest() {
        let latest = Latest::new(4, 10);
        latest.note(&arrived(&[("a", 100, 100), ("a", 220, 101), ("b", 111, 101)])).expect("note");
        assert_eq!(times(&latest, &["a", "b"]), [100, 111], "ten are within what clocks differ by");
        assert_eq!((latest.ts("a"), latest.ts("none")), (Some(100), None));
        let changed = latest.note(&arrived(&[("a", 110, 110), ("c", 999, 1)])).expect("note");
        assert_eq!(changed, ["a".into()]);
        assert!(!latest.has("c"));
    }

    #[test]
    fn late_rows_change_nothing_and_the_highest_of_many_stays() {
        let latest = Latest::new(4, 0);
        latest.note(&batch(&[("a", 5), ("b", 1), ("a", 9), ("a", 7)])).expect("note");
        let changed = latest.note(&batch(&[("a", 8), ("b", 2)])).expect("note");
        assert_eq!(changed, ["b".into()]);
        assert_eq!(times(&latest, &["b", "a", "none"]), [2, 9]);
        for n in 0..10_000 {
            latest.note(&batch(&[("a", 100 + n), ("c", n)])).expect("note");
        }
        assert_eq!(times(&latest, &["a", "b", "c"]), [10_099, 2, 9_999]);
        let held: usize = latest.partitions.iter().map(|p| p.read().expect("lock").held).sum();
        assert!(held <= 4 * (SLACK + 8), "{held} rows for three devices");
    }
}
