//! The buckets of a rollup by device and beginning, and the portions in which they are computed. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
    sync::Arc,
};

use acuvim_wire::time::{HOUR, Micros, day_of};

use super::bucket::Bucket;

/// A quarter hour. The days of all time zones consist of whole quarters.
pub const QUARTER: Micros = HOUR / 4;

/// The beginnings of buckets, by device.
pub(super) type BucketKeys = BTreeMap<Arc<str>, BTreeSet<Micros>>;

/// The number of buckets that are computed at a time. All their counter values are in memory meanwhile.
const PORTION: usize = 4000;

/// The beginning of the quarter hour of a time.
pub(super) const fn quarter_of(ts: Micros) -> Micros {
    ts - ts.rem_euclid(QUARTER)
}

pub(super) fn add_key(keys: &mut BucketKeys, device: &str, start: Micros) {
    match keys.get_mut(device) {
        Some(starts) => {
            starts.insert(start);
        }
        None => {
            keys.insert(device.into(), BTreeSet::from([start]));
        }
    }
}

/// Divides buckets into portions within one UTC day each, so that each reads only files of its day. The
/// oldest day comes first, because counters of a day continue from those of the day before.
pub(super) fn portions(keys: BucketKeys) -> Vec<BucketKeys> {
    let mut days: BTreeMap<i32, BucketKeys> = BTreeMap::new();
    for (device, starts) in keys {
        for start in starts {
            let day = days.entry(day_of(start)).or_default();
            day.entry(Arc::clone(&device)).or_default().insert(start);
        }
    }
    let mut all = Vec::new();
    for day in days.into_values() {
        let (mut portion, mut count) = (BucketKeys::new(), 0);
        for (device, starts) in day {
            // A device is not divided: its counters continue from quarter to quarter. A day has 96
            // of them, so one device never exceeds a portion.
            if count > 0 && count + starts.len() > PORTION {
                all.push(std::mem::take(&mut portion));
                count = 0;
            }
            count += starts.len();
            portion.insert(device, starts);
        }
        all.push(portion);
    }
    all
}

/// Removes the keys of buckets without readings.
pub(super) fn retain_filled(keys: &mut BucketKeys, index: &BucketIndex, buckets: &[Bucket]) {
    for ((device, start), bucket) in index.all.iter().zip(buckets) {
        if bucket.samples == 0
            && let Some(starts) = keys.get_mut(device)
        {
            starts.remove(start);
        }
    }
    keys.retain(|_, starts| !starts.is_empty());
}

/// The time ranges of buckets of a length. Close ones are merged, to keep the conditions of queries short.
pub(super) fn spans(keys: &BucketKeys, length: Micros) -> Vec<Range<Micros>> {
    let starts: BTreeSet<Micros> = keys.values().flatten().copied().collect();
    let mut spans: Vec<Range<Micros>> = Vec::new();
    for start in starts {
        match spans.last_mut() {
            // Reading half an hour too much costs less than another range in the condition.
            Some(span) if start <= span.end + 2 * QUARTER => span.end = start + length,
            _ => spans.push(start..start + length),
        }
    }
    spans
}

/// Buckets in the order of the tables, with a lookup by device and beginning.
#[derive(Debug)]
pub(super) struct BucketIndex {
    pub all: Vec<(Arc<str>, Micros)>,
    devices: HashMap<Arc<str>, Range<usize>>,
}

impl BucketIndex {
    pub fn new(keys: &BucketKeys) -> Self {
        let (mut all, mut devices) = (Vec::new(), HashMap::new());
        for (device, starts) in keys {
            let from = all.len();
            all.extend(starts.iter().map(|start| (Arc::clone(device), *start)));
            devices.insert(Arc::clone(device), from..all.len());
        }
        Self { all, devices }
    }

    /// The indexes of a device's buckets.
    pub fn of(&self, device: &str) -> Range<usize> {
        self.devices.get(device).cloned().unwrap_or(0..0)
    }

    /// The index of the bucket that begins at a time, among some buckets of a device.
    pub fn find(&self, of: &Range<usize>, start: Micros) -> Option<usize> {
        let theirs = self.all.get(of.clone())?;
        theirs.binary_search_by_key(&start, |(_, start)| *start).ok().map(|at| of.start + at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use acuvim_wire::time::DAY;

    fn keys(all: &[(&str, i64)]) -> BucketKeys {
        let mut keys = BucketKeys::new();
        all.iter().for_each(|(device, n)| add_key(&mut keys, device, n * QUARTER));
        keys
    }

    #[test]
    fn portions_are_bounded_and_in_the_order_of_days() {
        let all = keys(&[("a", 0), ("a", 96), ("b", 1), ("b", 97)]);
        assert_eq!(portions(all), [keys(&[("a", 0), ("b", 1)]), keys(&[("a", 96), ("b", 97)])]);
        let many: Vec<String> = (0..100).map(|n| format!("{n:03}")).collect();
        let many: Vec<(&str, i64)> =
            many.iter().flat_map(|d| (0..96).map(move |n| (d.as_str(), n))).collect();
        let divided = portions(keys(&many));
        assert!(divided.iter().all(|p| p.values().map(BTreeSet::len).sum::<usize>() <= PORTION));
        assert_eq!(divided.iter().flat_map(|p| p.values()).map(BTreeSet::len).sum::<usize>(), 9600);
    }

    #[test]
    fn spans_leave_out_long_gaps() {
        let all = keys(&[("a", 0), ("b", 1), ("a", 3), ("a", 40)]);
        let wanted = [0..4 * QUARTER, 40 * QUARTER..41 * QUARTER];
        assert_eq!(spans(&all, QUARTER), wanted);
        assert_eq!(quarter_of(-1), -QUARTER);
        assert_eq!(quarter_of(DAY + 1), DAY);
    }

    #[test]
    fn buckets_are_found_in_the_order_of_the_table() {
        let all = keys(&[("b", 1), ("a", 3), ("a", 0)]);
        let index = BucketIndex::new(&all);
        assert_eq!(index.all[1], ("a".into(), 3 * QUARTER));
        assert_eq!(index.find(&index.of("b"), QUARTER), Some(2));
        assert_eq!(index.find(&index.of("a"), QUARTER), None);
        assert_eq!(index.find(&index.of("c"), QUARTER), None);
    }
}
