//! What a bucket says of its readings, and what counters have counted from one to the next. Pure.

use std::sync::Arc;

use acuvim_schemas::{
    reading::{READINGS, Reading},
    time::Micros,
};

use crate::{Counter, Doubt, MeterTerms, TakenBack, Told, Track};

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
    /// Where the counter stood at the end, and what was in doubt by then.
    pub stood: Option<crate::Reading>,
    pub seen: Micros,
    pub doubt: Option<Doubt>,
    /// Suspect readings that were found.
    pub suspects: i32,
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
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Carry {
    pub last_ts: Option<Micros>,
    pub serial: Option<Arc<str>>,
    /// Of counters that were not read in a bucket its end knows nothing.
    pub tracks: [Track; COUNTERS],
    /// Suspect readings that were found in the bucket.
    pub suspects: i32,
}

impl Carry {
    /// Goes on behind a bucket that stays as it is; answers for each counter whether it stands where it
    /// stood.
    pub fn pass(&mut self, bucket: &Self) -> [bool; COUNTERS] {
        let another = self.meter(bucket.serial.as_ref());
        let mut same = [!another; COUNTERS];
        let tracks = self.tracks.iter_mut().zip(&bucket.tracks).zip(&mut same);
        for ((track, now), same) in tracks.filter(|((_, now), _)| now.believed().is_some()) {
            *same = track.pass(now);
        }
        self.last_ts = bucket.last_ts.or(self.last_ts);
        same
    }

    /// True if it is another meter than before: its counters have nothing to do with those.
    fn meter(&mut self, serial: Option<&Arc<str>>) -> bool {
        let Some(serial) = serial else { return false };
        let another = self.serial.as_ref().is_some_and(|before| before != serial);
        if another {
            self.tracks = Default::default();
        }
        if self.serial.as_ref() != Some(serial) {
            self.serial = Some(Arc::clone(serial));
        }
        another
    }
}

/// What a later bucket takes back of what another has counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Correction {
    /// The place of that one.
    pub place: usize,
    /// The index of the reading.
    pub reading: usize,
    pub back: TakenBack,
}

/// Counts through a device's buckets, in the order of their times.
#[derive(Debug)]
pub(super) struct Counting<'a> {
    carry: Carry,
    /// In which bucket each counter was last counted; none if that is stored and stays.
    counted_in: [Option<usize>; COUNTERS],
    terms: MeterTerms,
    /// The meter's serials as heartbeats told them, by time.
    serials: &'a [(Micros, Arc<str>)],
    pub corrections: Vec<Correction>,
    /// Times of readings that may have been suspect: their buckets must be made anew to tell.
    pub lacks: Vec<Micros>,
    /// The beginnings of the buckets that have been passed.
    passed: Vec<Micros>,
}

impl<'a> Counting<'a> {
    pub fn new(terms: MeterTerms, serials: &'a [(Micros, Arc<str>)]) -> Self {
        let (carry, counted_in) = (Carry::default(), [None; COUNTERS]);
        let (corrections, lacks, passed) = (Vec::new(), Vec::new(), Vec::new());
        Self { carry, counted_in, terms, serials, corrections, lacks, passed }
    }

    /// Goes on behind a bucket that stays as it is.
    pub fn pass(&mut self, start: Micros, bucket: &Carry) {
        let same = self.carry.pass(bucket);
        for (place, same) in self.counted_in.iter_mut().zip(same) {
            *place = place.filter(|_| same);
        }
        self.passed.push(start);
    }

    /// Counts on through the readings of the bucket at a place.
    pub fn count(&mut self, place: usize, bucket: &mut Bucket, stands: &mut [Stand]) {
        stands.sort_unstable_by_key(|stand| stand.ts);
        let last = self.carry.last_ts;
        let behind = last.map_or(0, |last| self.serials.partition_point(|(ts, _)| *ts <= last));
        let (told, serials) = self.serials.split_at(behind);
        if self.carry.serial.is_none() {
            self.carry.serial = told.last().map(|(_, serial)| Arc::clone(serial));
        }
        let mut serials = serials.iter().peekable();
        for stand in stands.iter() {
            while let Some((_, serial)) = serials.next_if(|(ts, _)| *ts <= stand.ts) {
                if self.carry.meter(Some(serial)) {
                    bucket.cells.iter_mut().for_each(|cell| cell.stood = None);
                }
            }
            self.stand(place, bucket, stand);
        }
        (bucket.last_ts, bucket.serial) = (self.carry.last_ts, self.carry.serial.clone());
    }

    fn stand(&mut self, place: usize, bucket: &mut Bucket, stand: &Stand) {
        for (nth, (at, reading)) in counters().enumerate() {
            let now = stand.values.get(nth).copied().flatten();
            let (Some(now), Some(cell)) = (now, bucket.cells.get_mut(at)) else { continue };
            let (Some(track), Some(counted_in)) =
                (self.carry.tracks.get_mut(nth), self.counted_in.get_mut(nth))
            else {
                continue;
            };
            let counter = Counter::of(reading.name).unwrap_or(Counter::Total);
            let now = crate::Reading { ts: stand.ts, value: as_float(reading, now) };
            if track.lacks_before(counter, &self.terms, now) {
                self.lacks.extend(track.believed().map(|at| at.ts));
            }
            let told = track.take(counter, &self.terms, now);
            cell.count_on(reading, &told);
            if let Some(back) = told.taken_back {
                match *counted_in {
                    Some(other) if other != place => {
                        // What was passed since says of the counter what was not so.
                        self.lacks.append(&mut self.passed);
                        self.corrections.push(Correction { place: other, reading: at, back });
                    }
                    _ => cell.take_back(reading, &back),
                }
            }
            if told.believed {
                *counted_in = Some(place);
            }
            (cell.stood, cell.seen) = (track.believed(), track.seen());
            cell.doubt = track.doubt();
        }
        self.carry.last_ts = Some(stand.ts);
    }
}

impl Cell {
    fn count_on(&mut self, reading: &Reading, told: &Told) {
        self.delta = Some(self.delta.unwrap_or(0) + as_stored(reading, told.counted));
        self.suspects += i32::try_from(told.suspects).unwrap_or(i32::MAX);
    }

    /// Takes back what a suspect reading seemed to have counted.
    pub fn take_back(&mut self, reading: &Reading, back: &TakenBack) {
        self.delta = self.delta.map(|delta| delta - as_stored(reading, back.counted));
        if self.stood.is_some() {
            (self.stood, self.seen) = (Some(back.stood), back.stood.ts);
        }
    }

    /// Where the counter stood, as it is stored.
    pub fn last(&self, reading: &Reading) -> Option<Scaled> {
        self.stood.map(|at| as_stored(reading, at.value))
    }
}

/// A stored value in its unit.
#[expect(clippy::cast_precision_loss, reason = "readings have at most 14 digits")]
pub(super) fn as_float(reading: &Reading, value: Scaled) -> f64 {
    value as f64 / 10_f64.powi(i32::from(reading.scale))
}

#[expect(clippy::cast_possible_truncation, reason = "readings have at most 14 digits")]
fn as_stored(reading: &Reading, value: f64) -> Scaled {
    (value * 10_f64.powi(i32::from(reading.scale))).round() as Scaled
}

#[cfg(test)]
mod tests {
    use super::*;
    use acuvim_schemas::time::MINUTE;

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
        (bucket.cells[at].delta, bucket.cells[at].last(reading))
    }

    /// Minutes as times.
    fn minutes(values: &[(Micros, Option<Scaled>)]) -> Vec<Stand> {
        stands(&values.iter().map(|(at, value)| (at * MINUTE, *value)).collect::<Vec<_>>())
    }

    fn run(
        counting: &mut Counting<'_>,
        values: &[(Micros, Option<Scaled>)],
    ) -> (Option<Scaled>, Option<Scaled>) {
        let mut bucket = Bucket::default();
        counting.count(0, &mut bucket, &mut minutes(values));
        import(&bucket)
    }

    fn told(all: &[(Micros, &str)]) -> Vec<(Micros, Arc<str>)> {
        serials(&all.iter().map(|(at, serial)| (at * MINUTE, *serial)).collect::<Vec<_>>())
    }

    #[test]
    fn there_are_so_many_counters() {
        assert_eq!(counters().count(), COUNTERS);
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
        // Through the end of the counter's digits, and a reset, which counts nothing.
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
        assert_eq!(correction.place, 0);
        let (_, reading) = counters().next().expect("a counter");
        first.cells[correction.reading].take_back(reading, &correction.back);
        assert_eq!(import(first), (Some(10), Some(10_010)));
        assert_eq!(import(second), (Some(20), Some(10_030)));
        assert_eq!(second.cells[correction.reading].suspects, 1);
        // From what is stored of the first alone it can't be told.
        let mut stored = Counting::new(MeterTerms::default(), &[]);
        let mut end = Carry { last_ts: Some(14 * MINUTE), ..Carry::default() };
        end.tracks[IMPORT] =
            Track::behind(crate::Reading { ts: 14 * MINUTE, value: 150.0 }, 14 * MINUTE, None);
        stored.pass(0, &end);
        stored.count(1, &mut Bucket::default(), &mut minutes(&[(15, Some(10_020))]));
        assert_eq!(stored.lacks, [14 * MINUTE]);
    }

    #[test]
    fn another_meter_has_counters_of_its_own() {
        let serials = told(&[(5, "m1"), (15, "m1"), (35, "m2"), (55, "m3")]);
        let mut counting = Counting::new(MeterTerms::default(), &serials);
        run(&mut counting, &[(10, Some(10_000))]);
        // The same serial again changes nothing.
        assert_eq!(run(&mut counting, &[(20, Some(10_100))]).0, Some(100));
        let changed = run(&mut counting, &[(30, Some(10_200)), (40, Some(900_000))]);
        assert_eq!(changed, (Some(100), Some(900_000)));
        assert_eq!(counting.carry.serial.as_deref(), Some("m2"));
        // Known only when nothing more was read of the old one: it stands nowhere any more.
        assert_eq!(run(&mut counting, &[(50, Some(900_100)), (60, None)]), (Some(100), None));
        assert_eq!(run(&mut counting, &[(70, Some(5))]), (Some(0), Some(5)));
    }

    #[test]
    fn buckets_that_stay_are_passed() {
        let serials = told(&[(5, "m1")]);
        let mut counting = Counting::new(MeterTerms::default(), &serials);
        run(&mut counting, &[(10, Some(10_000))]);
        let mut later = Carry { last_ts: Some(20 * MINUTE), ..Carry::default() };
        counting.pass(15 * MINUTE, &later);
        let stood = |c: &Counting<'_>| c.carry.tracks[IMPORT].believed().map(|at| at.value);
        assert_eq!((counting.carry.last_ts, stood(&counting)), (Some(20 * MINUTE), Some(100.0)));
        later.serial = Some("m2".into());
        counting.pass(30 * MINUTE, &later);
        assert_eq!(stood(&counting), None);
    }
}
