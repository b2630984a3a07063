//! Quarters of an hour, computed from all readings within them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use acuvim_tables::Table;
use acuvim_wire::{
    reading::READINGS,
    time::{DAY, HOUR, Micros},
};
use arrow::array::RecordBatch;
use futures::TryStreamExt as _;

use super::{
    bucket::{Bucket, COUNTERS},
    carries::StoredQuarters,
    counting::{Carry, Correction, Counting},
    followers::add_followers,
    keys::{BucketKeys, QUARTER, add_key, quarter_of, retain_filled, spans},
    portion::Portion,
    rows::BucketRows,
    sources::{Nearest, Selection, Serials, reading_columns},
    store::RollupStore,
};
use crate::{delta::Snapshot, error::Error};

/// Most quarters follow another within this time. Only for the others is more searched.
const NEAR: Micros = 2 * HOUR;

/// The range in which quarters are searched that counters continue from or to. Beyond it, only the
/// nearest quarter of the device is looked up.
const LOOK_BACK: Micros = 7 * DAY;

/// How often other quarters are added to those that are computed, at most. Later ones are added twice as many
/// each time, so this is enough for a counter that stays in doubt for a year.
const MAX_ROUNDS: usize = 16;

/// How many later quarters are added at least, if their counters continue from another state than they were
/// computed from.
const FEWEST_STALE: usize = 4;

/// Quarters that were computed, and earlier ones that must be computed with them.
struct Computed {
    portion: Portion,
    undecided: BucketKeys,
}

impl RollupStore {
    /// Computes quarters, and those after them whose counters continue from them, which are added to
    /// the keys. None if there are no readings.
    pub(super) async fn compute_quarters(
        &self,
        telemetry: &Arc<Snapshot>,
        keys: &mut BucketKeys,
    ) -> Result<Option<RecordBatch>, Error> {
        let mut computed = self.compute_once(telemetry, keys).await?;
        for _ in 0..MAX_ROUNDS {
            if !add_keys(keys, &computed.undecided) {
                break;
            }
            computed = self.compute_once(telemetry, keys).await?;
        }
        let Portion { index, buckets, .. } = computed.portion;
        retain_filled(keys, &index, &buckets);
        let filled = || index.all.iter().zip(&buckets).filter(|(_, b)| b.samples > 0);
        let rows = BucketRows {
            table: Table::Rollup15m,
            keys: filled().map(|(key, _)| key).collect(),
            buckets: filled().map(|(_, bucket)| bucket).collect(),
            zones: None,
        };
        rows.batch()
    }

    async fn compute_once(
        &self,
        telemetry: &Arc<Snapshot>,
        keys: &mut BucketKeys,
    ) -> Result<Computed, Error> {
        // Devices of the whole portion are read together. The loop below would otherwise be a query
        // per device.
        let names: Vec<Arc<str>> = keys.keys().cloned().collect();
        let devices: Vec<&str> = names.iter().map(|name| &**name).collect();
        let mut stored = self.stored_around(keys, &devices).await?;
        self.add_next_beyond(keys, &mut stored).await?;
        let first = first_of(keys);
        add_followers(keys, &stored);
        // If earlier quarters were added, what their counters continue from is not loaded yet.
        if let (Some(now), Some(first)) = (first_of(keys), first)
            && now < first
        {
            self.add_stored(&devices, &(now - NEAR..first), &mut stored).await?;
        }
        let mut portion = Portion::new(keys);
        let spans = spans(keys, QUARTER);
        let selection = Selection {
            table: Table::Telemetry,
            snapshot: telemetry,
            devices: &devices,
            spans: &spans,
        };
        let mut rows = self.select(&selection, &reading_columns()).await?;
        while let Some(batch) = rows.try_next().await? {
            portion.add(&batch)?;
        }
        self.add_last_before(keys, &portion, &mut stored).await?;
        let serials = self.serials_of(keys, &stored).await?;
        let meters = self.reader.engine.meters();
        let mut undecided = BucketKeys::new();
        for device in &names {
            let serials = serials.get(device).map_or(&[][..], Vec::as_slice);
            let counting = Counting::new(meters.terms_of(device), serials);
            for ts in count(&mut portion, device, stored.get(device), counting) {
                add_key(&mut undecided, device, quarter_of(ts));
            }
        }
        Ok(Computed { portion, undecided })
    }

    /// The serial numbers that heartbeats report: since the quarter before, if that knows the meter, and
    /// otherwise from further back.
    async fn serials_of(
        &self,
        keys: &BucketKeys,
        stored: &StoredQuarters,
    ) -> Result<Serials, Error> {
        let (mut known, mut unknown) = (DevicesSince::default(), DevicesSince::default());
        for (device, starts) in keys {
            let Some(first) = starts.first().copied() else { continue };
            let before = stored.get(device).and_then(|theirs| theirs.range(..first).next_back());
            match before {
                Some((start, carry)) if carry.serial.is_some() => known.add(device, *start),
                _ => unknown.add(device, first - LOOK_BACK),
            }
        }
        let end = keys.values().filter_map(|starts| starts.last()).max().copied();
        let mut serials = Serials::new();
        for DevicesSince { devices, from } in [known, unknown] {
            let (Some(end), Some(from)) = (end, from) else { continue };
            serials.extend(self.serials(&devices, &(from..end + QUARTER)).await?);
        }
        Ok(serials)
    }

    /// The stored quarters around some: from [`NEAR`] before them to [`LOOK_BACK`] after.
    async fn stored_around(
        &self,
        keys: &BucketKeys,
        devices: &[&str],
    ) -> Result<StoredQuarters, Error> {
        let mut stored = StoredQuarters::new();
        if let Some(first) = first_of(keys) {
            let last = keys.values().flatten().max().copied().unwrap_or(first);
            self.add_stored(devices, &(first - NEAR..last + LOOK_BACK), &mut stored).await?;
        }
        Ok(stored)
    }

    /// Adds earlier quarters of devices whose counters continue from further back.
    async fn add_last_before(
        &self,
        keys: &BucketKeys,
        portion: &Portion,
        stored: &mut StoredQuarters,
    ) -> Result<(), Error> {
        let Some(first) = first_of(keys) else { return Ok(()) };
        let wants = |(device, starts): &(&Arc<str>, &BTreeSet<Micros>)| {
            let first = starts.first().copied().unwrap_or(Micros::MIN);
            let near = stored.get(*device).map(|theirs| theirs.range(..first));
            let mut known = [false; COUNTERS];
            for (_, carry) in near.into_iter().flatten() {
                let tracks = known.iter_mut().zip(&carry.tracks);
                tracks.for_each(|(known, t)| *known |= t.believed().is_some());
            }
            portion.reads_any(device, &known.map(|known| !known))
        };
        let far: Vec<&str> = keys.iter().filter(wants).map(|(device, _)| &**device).collect();
        if far.is_empty() {
            return Ok(());
        }
        self.add_stored(&far, &(first - LOOK_BACK..first - NEAR), stored).await?;
        // The consumption during a long absence of the logger counts too.
        let has_none = |device: &&str| {
            let first = keys.get(*device).and_then(|starts| starts.first());
            let before = |first: &Micros| {
                stored.get(*device).is_some_and(|theirs| theirs.range(..first).next().is_some())
            };
            !first.is_some_and(before)
        };
        let none: Vec<&str> = far.into_iter().filter(has_none).collect();
        self.add_nearest(&none, &(Micros::MIN..first - LOOK_BACK), Nearest::Last, stored).await
    }

    /// Adds the next quarter of devices whose counters continue further ahead: late readings can fall
    /// into a long absence.
    async fn add_next_beyond(
        &self,
        keys: &BucketKeys,
        stored: &mut StoredQuarters,
    ) -> Result<(), Error> {
        let Some(last) = keys.values().flatten().max().copied() else { return Ok(()) };
        let end = last + LOOK_BACK;
        let continues = |(device, starts): &(&Arc<str>, &BTreeSet<Micros>)| {
            let last = starts.last().copied().unwrap_or(Micros::MAX);
            let next = stored.get(*device).and_then(|theirs| theirs.range(last + 1..).next());
            next.is_none() && self.newest.get(device).is_some_and(|newest| newest >= end)
        };
        let far: Vec<&str> = keys.iter().filter(continues).map(|(device, _)| &**device).collect();
        self.add_nearest(&far, &(end..Micros::MAX), Nearest::First, stored).await
    }
}

/// Devices that are read together, from the earliest of their times.
#[derive(Default)]
struct DevicesSince<'a> {
    devices: Vec<&'a str>,
    from: Option<Micros>,
}

impl<'a> DevicesSince<'a> {
    fn add(&mut self, device: &'a str, from: Micros) {
        self.devices.push(device);
        self.from = Some(self.from.map_or(from, |earlier| earlier.min(from)));
    }
}

/// Adds keys to others. Returns false if all of them were there.
fn add_keys(keys: &mut BucketKeys, more: &BucketKeys) -> bool {
    let mut new = false;
    for (device, starts) in more {
        let theirs = keys.entry(Arc::clone(device)).or_default();
        for start in starts {
            new |= theirs.insert(*start);
        }
    }
    new
}

fn first_of(keys: &BucketKeys) -> Option<Micros> {
    keys.values().flatten().min().copied()
}

/// Counts through a device's quarters and the stored ones between them. Returns the times of readings
/// whose quarters must be recomputed too.
fn count(
    portion: &mut Portion,
    device: &Arc<str>,
    stored: Option<&BTreeMap<Micros, Carry>>,
    mut counting: Counting<'_>,
) -> Vec<Micros> {
    let mut rest = stored.into_iter().flatten().peekable();
    for at in portion.index.of(device) {
        let (Some((_, start)), Some(bucket), Some(readings)) =
            (portion.index.all.get(at), portion.buckets.get_mut(at), portion.counters.get_mut(at))
        else {
            continue;
        };
        while let Some((at, before)) = rest.next_if(|(at, _)| *at < start) {
            counting.pass(*at, before);
        }
        // The stored version of this quarter is replaced, unless retention has dropped its readings.
        let same = rest.next_if(|(at, _)| *at == start);
        if bucket.samples == 0 {
            same.into_iter().for_each(|(at, carry)| counting.pass(*at, carry));
            continue;
        }
        counting.count(at, bucket, readings);
        same.into_iter().for_each(|(_, carry)| counting.replace(carry));
    }
    for (at, later) in rest {
        counting.pass(*at, later);
    }
    let computed = portion.index.of(device);
    let more = computed.len().max(FEWEST_STALE);
    let stale = counting.stale.map(|from| starts_from(from, stored).take(more));
    for correction in counting.corrections {
        let buckets = portion.buckets.get_mut(correction.bucket..computed.end);
        correct(buckets.unwrap_or_default(), &correction);
    }
    counting.undecided.extend(stale.into_iter().flatten());
    counting.undecided
}

/// The beginnings of stored quarters from one on.
fn starts_from(
    from: Micros,
    stored: Option<&BTreeMap<Micros, Carry>>,
) -> impl Iterator<Item = Micros> + '_ {
    stored.into_iter().flat_map(move |all| all.range(from..)).map(|(start, _)| *start)
}

/// Takes back the consumption up to a suspect reading: in its quarter, and in those after it that end
/// with the same reading.
fn correct(buckets: &mut [Bucket], correction: &Correction) {
    let Some(reading) = READINGS.get(correction.reading) else { return };
    let mut suspect = None;
    for cell in buckets.iter_mut().filter_map(|b| b.cells.get_mut(correction.reading)) {
        match suspect {
            None => {
                suspect = Some(cell.last);
                cell.take_back(reading, &correction.back);
            }
            Some(last) if last.is_some() && cell.last == last => {
                let back = correction.back.stood;
                (cell.last, cell.seen) = (Some(back), back.ts);
            }
            Some(_) => {}
        }
    }
}
