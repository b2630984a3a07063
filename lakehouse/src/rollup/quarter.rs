//! Quarters of an hour, made of all readings that lie in them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use acuvim_schemas::{
    reading::READINGS,
    tables::Table,
    time::{HOUR, Micros},
};
use arrow::array::RecordBatch;
use futures::TryStreamExt as _;

use super::{
    LOOK_BACK, QUARTER,
    chunk::Chunk,
    columns::Rows,
    fold::{Bucket, COUNTERS, Carry, Correction, Counting},
    keys::{Keys, note, quarter_of, retain_made, spans},
    stored::{Nearest, Neighbours, Serials, reading_columns},
};
use crate::{Error, Lake, Snapshot};

/// Most buckets follow another this soon: further back is looked only for those that don't.
const NEAR: Micros = 2 * HOUR;

/// How often buckets before are added to what is made, at most.
const MOST_TURNS: usize = 3;

impl Lake {
    /// Makes buckets, and those behind them whose counters count on from them, which are added to the
    /// keys; none if there are no readings.
    pub(super) async fn make_quarters(
        &self,
        telemetry: &Arc<Snapshot>,
        keys: &mut Keys,
    ) -> Result<Option<RecordBatch>, Error> {
        let mut made = self.make_once(telemetry, keys).await?;
        for _ in 0..MOST_TURNS {
            if !add(keys, &made.lacks) {
                break;
            }
            made = self.make_once(telemetry, keys).await?;
        }
        let chunk = made.chunk;
        retain_made(keys, &chunk.places, &chunk.buckets);
        let there = || chunk.places.all.iter().zip(&chunk.buckets).filter(|(_, b)| b.samples > 0);
        let rows = Rows {
            table: Table::Rollup15m,
            keys: there().map(|(key, _)| key).collect(),
            buckets: there().map(|(_, bucket)| bucket).collect(),
            zones: None,
        };
        (!rows.keys.is_empty()).then(|| rows.batch()).transpose()
    }

    /// Makes buckets of what is known of those before them.
    async fn make_once(&self, telemetry: &Arc<Snapshot>, keys: &mut Keys) -> Result<Made, Error> {
        let names: Vec<Arc<str>> = keys.keys().cloned().collect();
        let devices: Vec<&str> = names.iter().map(|name| &**name).collect();
        let mut stored = self.around(keys, &devices).await?;
        self.behind(keys, &mut stored).await?;
        let first = first_of(keys);
        add_neighbours(keys, &stored);
        if let (Some(now), Some(first)) = (first_of(keys), first)
            && now < first
        {
            self.neighbours(&devices, &(now - NEAR..first), &mut stored).await?;
        }
        let mut chunk = Chunk::new(keys);
        let table = (Table::Telemetry, telemetry);
        let spans = spans(keys, QUARTER);
        let mut rows = self.read_spans(table, &devices, &spans, &reading_columns()).await?;
        while let Some(batch) = rows.try_next().await? {
            chunk.take(&batch)?;
        }
        self.before(keys, &chunk, &mut stored).await?;
        let serials = self.serials_of(keys, &stored).await?;
        let meters = self.engine().meters();
        let mut lacks = Keys::new();
        for device in &names {
            let serials = serials.get(device).map_or(&[][..], Vec::as_slice);
            let counting = Counting::new(meters.terms_of(device), serials);
            for ts in count(&mut chunk, device, stored.get(device), counting) {
                note(&mut lacks, device, quarter_of(ts));
            }
        }
        Ok(Made { chunk, lacks })
    }

    /// What heartbeats said of the meters: since the bucket before, where that knows which it was.
    async fn serials_of(&self, keys: &Keys, stored: &Neighbours) -> Result<Serials, Error> {
        let (mut known, mut unknown) = ((Vec::new(), Micros::MAX), (Vec::new(), Micros::MAX));
        for (device, starts) in keys {
            let Some(first) = starts.first().copied() else { continue };
            let before = stored.get(device).and_then(|theirs| theirs.range(..first).next_back());
            match before {
                Some((start, carry)) if carry.serial.is_some() => {
                    known.0.push(&**device);
                    known.1 = known.1.min(*start);
                }
                _ => {
                    unknown.0.push(&**device);
                    unknown.1 = unknown.1.min(first - LOOK_BACK);
                }
            }
        }
        let end = keys.values().filter_map(|starts| starts.last()).max().copied();
        let mut serials = Serials::new();
        for (devices, from) in [known, unknown] {
            let Some(end) = end.filter(|_| !devices.is_empty()) else { continue };
            serials.extend(self.serials(&devices, &(from..end + QUARTER)).await?);
        }
        Ok(serials)
    }

    /// The buckets around some: all behind them, and a few before.
    async fn around(&self, keys: &Keys, devices: &[&str]) -> Result<Neighbours, Error> {
        let mut stored = Neighbours::new();
        if let Some(first) = first_of(keys) {
            let last = keys.values().flatten().max().copied().unwrap_or(first);
            self.neighbours(devices, &(first - NEAR..last + LOOK_BACK), &mut stored).await?;
        }
        Ok(stored)
    }

    /// Looks further back for those whose counters count on from further back.
    async fn before(
        &self,
        keys: &Keys,
        chunk: &Chunk,
        stored: &mut Neighbours,
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
            chunk.reads_any(device, &known.map(|known| !known))
        };
        let far: Vec<&str> = keys.iter().filter(wants).map(|(device, _)| &**device).collect();
        if far.is_empty() {
            return Ok(());
        }
        self.neighbours(&far, &(first - LOOK_BACK..first - NEAR), stored).await?;
        // What a meter has counted while its logger was away for long is counted too.
        let none = |device: &&str| {
            let first = keys.get(*device).and_then(|starts| starts.first());
            let before = |first: &Micros| {
                stored.get(*device).is_some_and(|theirs| theirs.range(..first).next().is_some())
            };
            !first.is_some_and(before)
        };
        let none: Vec<&str> = far.into_iter().filter(none).collect();
        self.nearest(&none, &(Micros::MIN..first - LOOK_BACK), Nearest::Last, stored).await
    }

    /// The same ahead, for readings that came late into a long outage.
    async fn behind(&self, keys: &Keys, stored: &mut Neighbours) -> Result<(), Error> {
        let Some(last) = keys.values().flatten().max().copied() else { return Ok(()) };
        let end = last + LOOK_BACK;
        let goes_on = |(device, starts): &(&Arc<str>, &BTreeSet<Micros>)| {
            let last = starts.last().copied().unwrap_or(Micros::MAX);
            let next = stored.get(*device).and_then(|theirs| theirs.range(last + 1..).next());
            next.is_none() && self.newest().get(device).is_some_and(|newest| newest >= end)
        };
        let far: Vec<&str> = keys.iter().filter(goes_on).map(|(device, _)| &**device).collect();
        self.nearest(&far, &(end..Micros::MAX), Nearest::First, stored).await
    }
}

/// Buckets that were made, and those before them that would have to be made with them.
struct Made {
    chunk: Chunk,
    lacks: Keys,
}

/// Adds buckets to others; false if all are there.
fn add(keys: &mut Keys, more: &Keys) -> bool {
    let mut new = false;
    for (device, starts) in more {
        let theirs = keys.entry(Arc::clone(device)).or_default();
        for start in starts {
            new |= theirs.insert(*start);
        }
    }
    new
}

fn first_of(keys: &Keys) -> Option<Micros> {
    keys.values().flatten().min().copied()
}

/// Adds the stored buckets that may count on from some: the next of each counter, and those behind
/// them, which may contradict what they end with. And the ones before those that found something suspect.
fn add_neighbours(keys: &mut Keys, stored: &Neighbours) {
    for (device, starts) in keys {
        let Some(stored) = stored.get(device) else { continue };
        for _ in 0..2 {
            let followers: BTreeSet<Micros> =
                starts.iter().flat_map(|start| followers(*start, stored)).collect();
            starts.extend(followers);
        }
        add_suspected(starts, stored);
    }
}

/// Adds the buckets before those that found something suspect, as far as these did too.
fn add_suspected(starts: &mut BTreeSet<Micros>, stored: &BTreeMap<Micros, Carry>) {
    let mut look: Vec<Micros> = starts.iter().copied().collect();
    while let Some(start) = look.pop() {
        if stored.get(&start).is_none_or(|bucket| bucket.suspects == 0) {
            continue;
        }
        let before = stored.range(..start).next_back().map(|(before, _)| *before);
        look.extend(before.filter(|before| starts.insert(*before)));
    }
}

/// The bucket that follows one, and those behind it until each counter that goes on has been read
/// again, or the meter is another.
fn followers(start: Micros, stored: &BTreeMap<Micros, Carry>) -> Vec<Micros> {
    let mut behind = stored.range(start + 1..).peekable();
    let Some(first) = behind.peek().map(|(start, _)| **start) else { return Vec::new() };
    let goes_on = |at: usize| {
        let stands = |carry: &Carry| stands(carry, at);
        stored.range(start + 1..).any(|(_, carry)| stands(carry))
    };
    let mut open: Vec<usize> = (0..COUNTERS).filter(|at| goes_on(*at)).collect();
    let mut followers = vec![first];
    let mut serial = None;
    for (start, carry) in behind {
        let another = serial.is_some_and(|serial| serial != &carry.serial);
        let before = open.len();
        let reads = open.iter().any(|at| stands(carry, *at));
        // What stands there in doubt says nothing yet.
        open.retain(|at| !another && (!stands(carry, *at) || doubts(carry, *at)));
        if (open.len() < before || reads) && *start != first {
            followers.push(*start);
        }
        if open.is_empty() {
            break;
        }
        serial = Some(&carry.serial);
    }
    followers
}

fn doubts(carry: &Carry, at: usize) -> bool {
    carry.tracks.get(at).is_some_and(|track| track.doubt().is_some())
}

fn stands(carry: &Carry, at: usize) -> bool {
    carry.tracks.get(at).is_some_and(|track| track.believed().is_some())
}

/// Counts through a device's buckets and those that stay between them; answers with the times of
/// readings whose buckets would have to be made anew too.
fn count(
    chunk: &mut Chunk,
    device: &Arc<str>,
    stored: Option<&BTreeMap<Micros, Carry>>,
    mut counting: Counting<'_>,
) -> Vec<Micros> {
    let mut stays = stored.into_iter().flatten().peekable();
    for place in chunk.places.of(device) {
        let (Some((_, start)), Some(bucket), Some(stands)) = (
            chunk.places.all.get(place),
            chunk.buckets.get_mut(place),
            chunk.stands.get_mut(place),
        ) else {
            continue;
        };
        while let Some((at, before)) = stays.next_if(|(at, _)| *at < start) {
            counting.pass(*at, before);
        }
        // What is stored of this one is what it takes the place of, unless its readings are gone by now.
        let stored = stays.next_if(|(at, _)| *at == start);
        if bucket.samples == 0 {
            stored.into_iter().for_each(|(at, carry)| counting.pass(*at, carry));
            continue;
        }
        counting.count(place, bucket, stands);
    }
    let end = chunk.places.of(device).end;
    for correction in counting.corrections {
        correct(chunk.buckets.get_mut(correction.place..end).unwrap_or_default(), &correction);
    }
    counting.lacks
}

/// Takes back what a suspect reading seemed to have counted, in its bucket, and in those behind it that the
/// counter stood there.
fn correct(buckets: &mut [Bucket], correction: &Correction) {
    let Some(reading) = READINGS.get(correction.reading) else { return };
    let mut suspect = None;
    for cell in buckets.iter_mut().filter_map(|b| b.cells.get_mut(correction.reading)) {
        match suspect {
            None => {
                suspect = Some(cell.stood);
                cell.take_back(reading, &correction.back);
            }
            Some(stood) if stood.is_some() && cell.stood == stood => {
                let back = correction.back.stood;
                (cell.stood, cell.seen) = (Some(back), back.ts);
            }
            Some(_) => {}
        }
    }
}
