//! Buckets by device and beginning, and the portions in which they are made. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
    sync::Arc,
};

use acuvim_schemas::time::{Micros, day_of};

use super::{QUARTER, fold::Bucket};

/// Buckets: of each device their beginnings.
pub(super) type Keys = BTreeMap<Arc<str>, BTreeSet<Micros>>;

/// So many buckets are made at a time: their readings are in memory, in part.
const CHUNK: usize = 4000;

/// The quarter of an hour that a time lies in.
pub(super) const fn quarter_of(ts: Micros) -> Micros {
    ts - ts.rem_euclid(QUARTER)
}

/// Notes a bucket.
pub(super) fn note(keys: &mut Keys, device: &str, start: Micros) {
    match keys.get_mut(device) {
        Some(starts) => {
            starts.insert(start);
        }
        None => {
            keys.insert(device.into(), BTreeSet::from([start]));
        }
    }
}

/// Portions of one UTC day each, the oldest day first, so that what counters count on from is made
/// before it is needed, and so that no more is read than is wanted.
pub(super) fn chunks(keys: Keys) -> Vec<Keys> {
    let mut days: BTreeMap<i32, Keys> = BTreeMap::new();
    for (device, starts) in keys {
        for start in starts {
            let day = days.entry(day_of(start)).or_default();
            day.entry(Arc::clone(&device)).or_default().insert(start);
        }
    }
    let mut all = Vec::new();
    for day in days.into_values() {
        let (mut chunk, mut count) = (Keys::new(), 0);
        for (device, starts) in day {
            if count > 0 && count + starts.len() > CHUNK {
                all.push(std::mem::take(&mut chunk));
                count = 0;
            }
            count += starts.len();
            chunk.insert(device, starts);
        }
        all.push(chunk);
    }
    all
}

/// Takes out what has no readings.
pub(super) fn retain_made(keys: &mut Keys, places: &Places, buckets: &[Bucket]) {
    for ((device, start), bucket) in places.all.iter().zip(buckets) {
        if bucket.samples == 0
            && let Some(starts) = keys.get_mut(device)
        {
            starts.remove(start);
        }
    }
    keys.retain(|_, starts| !starts.is_empty());
}

/// The times that buckets of a length span: neighbours together, so that a few ranges say it.
pub(super) fn spans(keys: &Keys, length: Micros) -> Vec<Range<Micros>> {
    let starts: BTreeSet<Micros> = keys.values().flatten().copied().collect();
    let mut spans: Vec<Range<Micros>> = Vec::new();
    for start in starts {
        match spans.last_mut() {
            Some(span) if start <= span.end + 2 * QUARTER => span.end = start + length,
            _ => spans.push(start..start + length),
        }
    }
    spans
}

/// Buckets in the order of the tables, and where each is among them.
#[derive(Debug)]
pub(super) struct Places {
    pub all: Vec<(Arc<str>, Micros)>,
    devices: HashMap<Arc<str>, Range<usize>>,
}

impl Places {
    pub fn new(keys: &Keys) -> Self {
        let (mut all, mut devices) = (Vec::new(), HashMap::new());
        for (device, starts) in keys {
            let from = all.len();
            all.extend(starts.iter().map(|start| (Arc::clone(device), *start)));
            devices.insert(Arc::clone(device), from..all.len());
        }
        Self { all, devices }
    }

    /// Where a device's buckets are.
    pub fn of(&self, device: &str) -> Range<usize> {
        self.devices.get(device).cloned().unwrap_or(0..0)
    }

    /// Where among them the one is that begins at a time.
    pub fn find(&self, of: &Range<usize>, start: Micros) -> Option<usize> {
        let theirs = self.all.get(of.clone())?;
        theirs.binary_search_by_key(&start, |(_, start)| *start).ok().map(|at| of.start + at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use acuvim_schemas::time::DAY;

    fn keys(all: &[(&str, i64)]) -> Keys {
        let mut keys = Keys::new();
        all.iter().for_each(|(device, n)| note(&mut keys, device, n * QUARTER));
        keys
    }

    #[test]
    fn days_are_made_in_order_and_portions_have_an_end() {
        let all = keys(&[("a", 0), ("a", 96), ("b", 1), ("b", 97)]);
        assert_eq!(chunks(all), [keys(&[("a", 0), ("b", 1)]), keys(&[("a", 96), ("b", 97)])]);
        let many: Vec<String> = (0..100).map(|n| format!("{n:03}")).collect();
        let many: Vec<(&str, i64)> =
            many.iter().flat_map(|d| (0..96).map(move |n| (d.as_str(), n))).collect();
        let portions = chunks(keys(&many));
        assert!(portions.iter().all(|p| p.values().map(BTreeSet::len).sum::<usize>() <= CHUNK));
        assert_eq!(
            portions.iter().flat_map(|p| p.values()).map(BTreeSet::len).sum::<usize>(),
            9600
        );
    }

    #[test]
    fn spans_leave_out_what_nobody_asked_for() {
        let all = keys(&[("a", 0), ("b", 1), ("a", 3), ("a", 40)]);
        let wanted = [0..4 * QUARTER, 40 * QUARTER..41 * QUARTER];
        assert_eq!(spans(&all, QUARTER), wanted);
        assert_eq!(quarter_of(-1), -QUARTER);
        assert_eq!(quarter_of(DAY + 1), DAY);
    }

    #[test]
    fn places_are_those_of_the_tables_order() {
        let all = keys(&[("b", 1), ("a", 3), ("a", 0)]);
        let places = Places::new(&all);
        assert_eq!(places.all[1], ("a".into(), 3 * QUARTER));
        assert_eq!(places.find(&places.of("b"), QUARTER), Some(2));
        assert_eq!(places.find(&places.of("a"), QUARTER), None);
        assert_eq!(places.find(&places.of("c"), QUARTER), None);
    }
}
