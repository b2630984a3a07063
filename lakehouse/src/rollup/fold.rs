//! What a bucket says of its readings, and what counters have counted from one to the next. Pure.

use std::sync::Arc;

use acuvim_schemas::{
    reading::{READINGS, Reading},
    time::Micros,
};

use crate::Counter;

/// How many readings are counters.
pub(super) const COUNTERS: usize = 9;

/// A value as the tables store it: a decimal without its point.
pub(super) type Scaled = i64;

/// What a bucket says of one reading.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Cell {
    pub count: i32,
    pub min: Option<Scaled>,
    pub max: Option<Scaled>,
    /// Of values as they are stored.
    pub sum: f64,
    pub delta: Option<Scaled>,
    pub last: Option<Scaled>,
}

impl Cell {
    /// Takes what the least may be.
    pub fn least(&mut self, value: Scaled) {
        self.min = Some(self.min.map_or(value, |min| min.min(value)));
    }

    /// Takes what the greatest may be.
    pub fn greatest(&mut self, value: Scaled) {
        self.max = Some(self.max.map_or(value, |max| max.max(value)));
    }
}

/// A bucket.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bucket {
    pub samples: i32,
    pub last_ts: Option<Micros>,
    pub serial: Option<Arc<str>>,
    /// One for each of [`READINGS`].
    pub cells: Vec<Cell>,
}

impl Default for Bucket {
    fn default() -> Self {
        let cells = vec![Cell::default(); READINGS.len()];
        Self { samples: 0, last_ts: None, serial: None, cells }
    }
}

/// The readings that are counters, in the order of [`READINGS`], with their places there.
pub(super) fn counters() -> impl Iterator<Item = (usize, &'static Reading)> {
    READINGS.iter().enumerate().filter(|(_, r)| r.is_counter())
}

/// Where the counters stood at a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stand {
    pub ts: Micros,
    pub values: [Option<Scaled>; COUNTERS],
}

/// What counters count on from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Carry {
    pub last_ts: Option<Micros>,
    pub serial: Option<Arc<str>>,
    pub values: [Option<Scaled>; COUNTERS],
}

impl Carry {
    /// Goes on behind a bucket that stays as it is.
    pub fn pass(&mut self, bucket: &Self) {
        self.meter(bucket.serial.as_ref());
        for (value, now) in self.values.iter_mut().zip(bucket.values) {
            *value = now.or(*value);
        }
        self.last_ts = bucket.last_ts.or(self.last_ts);
    }

    /// True if it is another meter than before: its counters have nothing to do with those.
    fn meter(&mut self, serial: Option<&Arc<str>>) -> bool {
        let Some(serial) = serial else { return false };
        let another = self.serial.as_ref().is_some_and(|before| before != serial);
        if another {
            self.values = Default::default();
        }
        if self.serial.as_ref() != Some(serial) {
            self.serial = Some(Arc::clone(serial));
        }
        another
    }

    /// Counts on through a bucket's readings; `serials` are the meter's as heartbeats told them, by
    /// time.
    pub fn count(
        &mut self,
        bucket: &mut Bucket,
        stands: &mut [Stand],
        serials: &[(Micros, Arc<str>)],
    ) {
        stands.sort_unstable_by_key(|stand| stand.ts);
        let behind = self.last_ts.map_or(0, |last| serials.partition_point(|(ts, _)| *ts <= last));
        let (told, serials) = serials.split_at(behind);
        if self.serial.is_none() {
            self.serial = told.last().map(|(_, serial)| Arc::clone(serial));
        }
        let mut serials = serials.iter().peekable();
        for stand in stands.iter() {
            while let Some((_, serial)) = serials.next_if(|(ts, _)| *ts <= stand.ts) {
                if self.meter(Some(serial)) {
                    bucket.cells.iter_mut().for_each(|cell| cell.last = None);
                }
            }
            self.stand(bucket, stand);
        }
        (bucket.last_ts, bucket.serial) = (self.last_ts, self.serial.clone());
    }

    fn stand(&mut self, bucket: &mut Bucket, stand: &Stand) {
        let values = stand.values.iter().zip(&mut self.values);
        for ((at, reading), (now, before)) in counters().zip(values) {
            let (Some(now), Some(cell)) = (*now, bucket.cells.get_mut(at)) else { continue };
            let counted = before.map_or(0, |before| increment(reading, before, now));
            cell.delta = Some(cell.delta.unwrap_or(0) + counted);
            cell.last = Some(now);
            *before = Some(now);
        }
        self.last_ts = Some(stand.ts);
    }
}

#[expect(clippy::cast_precision_loss, reason = "readings have at most 14 digits")]
#[expect(clippy::cast_possible_truncation, reason = "and so have their differences")]
fn increment(reading: &Reading, before: Scaled, now: Scaled) -> Scaled {
    let factor = 10_f64.powi(i32::from(reading.scale));
    let counter = Counter::of(reading.name).unwrap_or(Counter::Total);
    let counted = counter.increment(before as f64 / factor, now as f64 / factor);
    (counted * factor).round() as Scaled
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMPORT: usize = 0;

    fn stands(values: &[(Micros, Option<Scaled>)]) -> Vec<Stand> {
        let stand = |(ts, value): &(Micros, Option<Scaled>)| {
            let mut values = [None; COUNTERS];
            values[IMPORT] = *value;
            Stand { ts: *ts, values }
        };
        values.iter().map(stand).collect()
    }

    fn serials(all: &[(Micros, &str)]) -> Vec<(Micros, Arc<str>)> {
        all.iter().map(|(ts, serial)| (*ts, Arc::from(*serial))).collect()
    }

    fn import(bucket: &Bucket) -> (Option<Scaled>, Option<Scaled>) {
        let (at, reading) = counters().next().expect("a counter");
        assert_eq!(reading.name, "energy_import_kwh");
        (bucket.cells[at].delta, bucket.cells[at].last)
    }

    fn run(
        carry: &mut Carry,
        values: &[(Micros, Option<Scaled>)],
        meters: &[(Micros, &str)],
    ) -> (Option<Scaled>, Option<Scaled>) {
        let mut bucket = Bucket::default();
        carry.count(&mut bucket, &mut stands(values), &serials(meters));
        import(&bucket)
    }

    #[test]
    fn there_are_so_many_counters() {
        assert_eq!(counters().count(), COUNTERS);
    }

    #[test]
    fn what_is_counted_between_buckets_is_the_later_ones() {
        let mut carry = Carry::default();
        assert_eq!(
            run(&mut carry, &[(20, Some(150)), (10, Some(100))], &[]),
            (Some(50), Some(150))
        );
        assert_eq!(run(&mut carry, &[(30, None)], &[]), (None, None));
        assert_eq!(run(&mut carry, &[(40, Some(175))], &[]), (Some(25), Some(175)));
        // Through the end of the counter's digits, and a reset, which counts nothing.
        carry.values[IMPORT] = Some(9_999_999_990);
        assert_eq!(run(&mut carry, &[(50, Some(10))], &[]), (Some(20), Some(10)));
        assert_eq!(run(&mut carry, &[(60, Some(3))], &[]), (Some(0), Some(3)));
    }

    #[test]
    fn another_meter_has_counters_of_its_own() {
        let mut carry = Carry::default();
        run(&mut carry, &[(10, Some(100))], &[(5, "m1")]);
        // The same serial again, and one that was known by then, change nothing.
        assert_eq!(run(&mut carry, &[(20, Some(110))], &[(5, "m0"), (15, "m1")]).0, Some(10));
        let changed = run(&mut carry, &[(30, Some(120)), (40, Some(9000))], &[(35, "m2")]);
        assert_eq!(changed, (Some(10), Some(9000)));
        assert_eq!(carry.serial.as_deref(), Some("m2"));
        // Known only when nothing more was read of the old one: it stands nowhere any more.
        let mut bucket = Bucket::default();
        let mut two = stands(&[(50, Some(9001)), (60, None)]);
        carry.count(&mut bucket, &mut two, &serials(&[(55, "m3")]));
        assert_eq!(import(&bucket), (Some(1), None));
        assert_eq!(run(&mut carry, &[(70, Some(5))], &[]), (Some(0), Some(5)));
    }

    #[test]
    fn buckets_that_stay_are_passed() {
        let mut carry = Carry::default();
        run(&mut carry, &[(10, Some(100))], &[(5, "m1")]);
        let mut later = Carry { last_ts: Some(20), ..Carry::default() };
        carry.pass(&later);
        assert_eq!((carry.last_ts, carry.values[IMPORT]), (Some(20), Some(100)));
        later.serial = Some("m2".into());
        carry.pass(&later);
        assert_eq!(carry.values[IMPORT], None);
    }
}
