//! Counts the consumption of a device through its buckets, from one to the next. Pure.

use std::sync::Arc;

use acuvim_wire::time::Micros;

use super::bucket::{Bucket, COUNTERS, Scaled, as_float, counters};
use crate::counter::{Counter, MeterTerms, Reading, TakenBack, Track};

/// The values of all counters at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CounterValues {
    pub ts: Micros,
    pub values: [Option<Scaled>; COUNTERS],
}

/// A meter's serial number, as a heartbeat reported it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SerialAt {
    pub ts: Micros,
    pub serial: Arc<str>,
}

/// The state of counters at the end of a bucket, from which the next one continues.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Carry {
    pub last_ts: Option<Micros>,
    pub serial: Option<Arc<str>>,
    /// Empty for counters that were not read in the bucket.
    pub tracks: [Track; COUNTERS],
    /// The number of suspect readings that were found in the bucket.
    pub suspects: i32,
}

impl Carry {
    /// Continues after a bucket that is not recomputed. Returns for each counter whether its believed
    /// reading stays the same.
    pub fn pass(&mut self, bucket: &Self) -> [bool; COUNTERS] {
        let replaced = self.set_meter(bucket.serial.as_ref());
        let mut same = [!replaced; COUNTERS];
        let tracks = self.tracks.iter_mut().zip(&bucket.tracks).zip(&mut same);
        for ((track, now), same) in tracks.filter(|((_, now), _)| now.believed().is_some()) {
            *same = track.pass(now);
        }
        self.last_ts = bucket.last_ts.or(self.last_ts);
        same
    }

    /// Sets the serial number of the meter. Returns true if it differs from the one before: counting
    /// then starts over.
    fn set_meter(&mut self, serial: Option<&Arc<str>>) -> bool {
        let Some(serial) = serial else { return false };
        let replaced = self.serial.as_ref().is_some_and(|before| before != serial);
        if replaced {
            self.tracks = Default::default();
        }
        if self.serial.as_ref() != Some(serial) {
            self.serial = Some(Arc::clone(serial));
        }
        replaced
    }
}

/// A consumption that a later bucket takes back from an earlier one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Correction {
    /// The index of the earlier bucket.
    pub bucket: usize,
    /// The index of the reading.
    pub reading: usize,
    pub back: TakenBack,
}

/// Counts through the buckets of a device, in the order of their times.
#[derive(Debug)]
pub(super) struct Counting<'a> {
    carry: Carry,
    /// The bucket in which each counter last counted; none if that bucket is not recomputed.
    counted_in: [Option<usize>; COUNTERS],
    terms: MeterTerms,
    /// The serial numbers of the device's meters, by time.
    serials: &'a [SerialAt],
    pub corrections: Vec<Correction>,
    /// Times of readings that may be suspect. To decide it, their buckets must be recomputed too.
    pub undecided: Vec<Micros>,
    /// The beginnings of the buckets that were passed over.
    passed: Vec<Micros>,
    /// The state that the stored buckets continue from.
    stored: Carry,
    /// The first bucket that was passed over although it was stored when its counters continued from another
    /// state than now.
    pub stale: Option<Micros>,
}

impl<'a> Counting<'a> {
    pub fn new(terms: MeterTerms, serials: &'a [SerialAt]) -> Self {
        Self {
            carry: Carry::default(),
            counted_in: [None; COUNTERS],
            terms,
            serials,
            corrections: Vec::new(),
            undecided: Vec::new(),
            passed: Vec::new(),
            stored: Carry::default(),
            stale: None,
        }
    }

    /// Continues after a bucket that is not recomputed.
    pub fn pass(&mut self, start: Micros, bucket: &Carry) {
        if self.stale.is_none() && self.continues_otherwise(bucket) {
            self.stale = Some(start);
        }
        self.replace(bucket);
        let same = self.carry.pass(bucket);
        for (counted_in, same) in self.counted_in.iter_mut().zip(same) {
            *counted_in = counted_in.filter(|_| same);
        }
        self.passed.push(start);
    }

    /// Notes what was stored of a bucket that has been recomputed: the buckets after it were computed from that.
    pub fn replace(&mut self, bucket: &Carry) {
        self.stored.pass(bucket);
    }

    /// Whether one of the counters of a stored bucket would now continue from another state.
    fn continues_otherwise(&self, bucket: &Carry) -> bool {
        let is_read = |at: usize| bucket.tracks.get(at).is_some_and(|t| t.believed().is_some());
        let tracks = self.carry.tracks.iter().zip(&self.stored.tracks).enumerate();
        tracks.into_iter().any(|(at, (now, stored))| is_read(at) && !now.continues_as(stored))
    }

    /// Counts through the readings of a bucket, `at` being its index.
    pub fn count(&mut self, at: usize, bucket: &mut Bucket, readings: &mut [CounterValues]) {
        // Rows are read in the order of files, and late ones are in files of their own.
        readings.sort_unstable_by_key(|values| values.ts);
        let last = self.carry.last_ts;
        let behind = last.map_or(0, |last| self.serials.partition_point(|s| s.ts <= last));
        let (before, after) = self.serials.split_at(behind);
        if self.carry.serial.is_none() {
            self.carry.serial = before.last().map(|s| Arc::clone(&s.serial));
        }
        let mut serials = after.iter().peekable();
        for values in readings.iter() {
            while let Some(reported) = serials.next_if(|s| s.ts <= values.ts) {
                // Values of the old meter must not remain as the last ones of the bucket.
                if self.carry.set_meter(Some(&reported.serial)) {
                    bucket.cells.iter_mut().for_each(|cell| cell.last = None);
                }
            }
            self.take(at, bucket, values);
        }
        (bucket.last_ts, bucket.serial) = (self.carry.last_ts, self.carry.serial.clone());
    }

    fn take(&mut self, at: usize, bucket: &mut Bucket, values: &CounterValues) {
        for (nth, (index, column)) in counters().enumerate() {
            let value = values.values.get(nth).copied().flatten();
            let (Some(value), Some(cell)) = (value, bucket.cells.get_mut(index)) else { continue };
            let (Some(track), Some(counted_in)) =
                (self.carry.tracks.get_mut(nth), self.counted_in.get_mut(nth))
            else {
                continue;
            };
            let counter = Counter::of(column.name).unwrap_or(Counter::Total);
            let reading = Reading { ts: values.ts, value: as_float(column, value) };
            if track.lacks_before(counter, &self.terms, reading) {
                self.undecided.extend(track.believed().map(|believed| believed.ts));
            }
            let outcome = track.take(counter, &self.terms, reading);
            cell.add(column, &outcome);
            if let Some(back) = outcome.taken_back {
                match *counted_in {
                    Some(other) if other != at => {
                        // The buckets passed over since then store a state that was wrong.
                        self.undecided.append(&mut self.passed);
                        self.corrections.push(Correction { bucket: other, reading: index, back });
                    }
                    _ => cell.take_back(column, &back),
                }
            }
            if outcome.believed {
                *counted_in = Some(at);
            }
            (cell.last, cell.seen) = (track.believed(), track.seen());
            cell.doubt = track.doubt();
        }
        self.carry.last_ts = Some(values.ts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use acuvim_wire::time::MINUTE;

    const IMPORT: usize = 0;

    fn counter_values(values: &[(Micros, Option<Scaled>)]) -> Vec<CounterValues> {
        let of = |(ts, value): &(Micros, Option<Scaled>)| {
            let mut values = [None; COUNTERS];
            values[IMPORT] = *value;
            CounterValues { ts: *ts, values }
        };
        values.iter().map(of).collect()
    }

    fn serials(all: &[(Micros, &str)]) -> Vec<SerialAt> {
        all.iter()
            .map(|(at, serial)| SerialAt { ts: at * MINUTE, serial: (*serial).into() })
            .collect()
    }

    fn import(bucket: &Bucket) -> (Option<Scaled>, Option<Scaled>) {
        let (at, reading) = counters().next().expect("a counter");
        assert_eq!(reading.name, "energy_import_kwh");
        (bucket.cells[at].delta, bucket.cells[at].last_scaled(reading))
    }

    /// Readings at times in minutes.
    fn minutes(values: &[(Micros, Option<Scaled>)]) -> Vec<CounterValues> {
        counter_values(&values.iter().map(|(at, value)| (at * MINUTE, *value)).collect::<Vec<_>>())
    }

    fn run(
        counting: &mut Counting<'_>,
        values: &[(Micros, Option<Scaled>)],
    ) -> (Option<Scaled>, Option<Scaled>) {
        let mut bucket = Bucket::default();
        counting.count(0, &mut bucket, &mut minutes(values));
        import(&bucket)
    }

    #[test]
    fn what_is_counted_between_buckets_is_the_later_ones() {
        let mut counting = Counting::new(MeterTerms::default(), &[]);
        assert_eq!(
            run(&mut counting, &[(20, Some(1500)), (10, Some(1000))]),
            (Some(500), Some(1500))
        );
        assert_eq!(run(&mut counting, &[(30, None)]), (None, None));
        assert_eq!(run(&mut counting, &[(40, Some(1750))]), (Some(250), Some(1750)));
        // A roll-over counts on, a reset counts nothing.
        let mut counting = Counting::new(MeterTerms::default(), &[]);
        run(&mut counting, &[(45, Some(9_999_999_990))]);
        assert_eq!(run(&mut counting, &[(50, Some(100_000))]), (Some(100_010), Some(100_000)));
        assert_eq!(run(&mut counting, &[(55, Some(100_100))]), (Some(100), Some(100_100)));
        assert_eq!(run(&mut counting, &[(60, Some(3))]), (Some(0), Some(100_100)), "in doubt");
        assert_eq!(run(&mut counting, &[(70, Some(5))]), (Some(2), Some(5)), "confirmed");
    }

    #[test]
    fn a_jump_at_the_end_of_a_bucket_is_taken_back_there() {
        let mut counting = Counting::new(MeterTerms::default(), &[]);
        let mut buckets = [Bucket::default(), Bucket::default()];
        let [first, second] = &mut buckets;
        counting.count(
            0,
            first,
            &mut minutes(&[(1, Some(10_000)), (2, Some(10_010)), (14, Some(15_000))]),
        );
        assert_eq!(import(first), (Some(5000), Some(15_000)), "nothing contradicts it yet");
        counting.count(1, second, &mut minutes(&[(15, Some(10_020)), (16, Some(10_030))]));
        let [correction] = counting.corrections[..] else { panic!("{counting:?}") };
        assert_eq!(correction.bucket, 0);
        let (_, reading) = counters().next().expect("a counter");
        first.cells[correction.reading].take_back(reading, &correction.back);
        assert_eq!(import(first), (Some(10), Some(10_010)));
        assert_eq!(import(second), (Some(20), Some(10_030)));
        assert_eq!(second.cells[correction.reading].suspects, 1);
        // The stored state of the first bucket is not enough to decide it.
        let mut stored = Counting::new(MeterTerms::default(), &[]);
        let mut end = Carry { last_ts: Some(14 * MINUTE), ..Carry::default() };
        end.tracks[IMPORT] =
            Track::behind(Reading { ts: 14 * MINUTE, value: 150.0 }, 14 * MINUTE, None);
        stored.pass(0, &end);
        stored.count(1, &mut Bucket::default(), &mut minutes(&[(15, Some(10_020))]));
        assert_eq!(stored.undecided, [14 * MINUTE]);
    }

    #[test]
    fn another_meter_has_counters_of_its_own() {
        let serials = serials(&[(5, "m1"), (15, "m1"), (35, "m2"), (55, "m3")]);
        let mut counting = Counting::new(MeterTerms::default(), &serials);
        run(&mut counting, &[(10, Some(10_000))]);
        // The same serial again changes nothing.
        assert_eq!(run(&mut counting, &[(20, Some(10_100))]).0, Some(100));
        let changed = run(&mut counting, &[(30, Some(10_200)), (40, Some(900_000))]);
        assert_eq!(changed, (Some(100), Some(900_000)));
        assert_eq!(counting.carry.serial.as_deref(), Some("m2"));
        // The change is reported after the last reading of the old meter, whose state is dropped.
        assert_eq!(run(&mut counting, &[(50, Some(900_100)), (60, None)]), (Some(100), None));
        assert_eq!(run(&mut counting, &[(70, Some(5))]), (Some(0), Some(5)));
    }

    #[test]
    fn buckets_that_stay_are_passed() {
        let serials = serials(&[(5, "m1")]);
        let mut counting = Counting::new(MeterTerms::default(), &serials);
        run(&mut counting, &[(10, Some(10_000))]);
        let mut later = Carry { last_ts: Some(20 * MINUTE), ..Carry::default() };
        counting.pass(15 * MINUTE, &later);
        let value = |c: &Counting<'_>| c.carry.tracks[IMPORT].believed().map(|at| at.value);
        assert_eq!((counting.carry.last_ts, value(&counting)), (Some(20 * MINUTE), Some(100.0)));
        later.serial = Some("m2".into());
        counting.pass(30 * MINUTE, &later);
        assert_eq!(value(&counting), None);
    }
}
