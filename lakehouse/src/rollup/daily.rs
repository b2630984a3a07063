//! Days of the site's calendar, added up from quarters of an hour.

use acuvim_schemas::{
    reading::READINGS,
    rollup::{RollupColumn, Said, columns},
    tables::Table,
    time::{DAY, HOUR, Micros},
};
use arrow::{
    array::{Array as _, AsArray as _, Int32Array, RecordBatch},
    datatypes::{Decimal128Type, Float64Type, Int32Type},
};
use chrono_tz::Tz;
use futures::TryStreamExt as _;

use super::{
    Zones,
    chunk::scaled,
    columns::Rows,
    fold::{Bucket, Carry, counters},
    keys::{Keys, Places, note, retain_made, spans},
    stored::{carries, carry_columns},
};
use crate::{Buckets, Error, Interval, Lake, lake::device_times, writer::column};

/// The longest day that a calendar has, clocks set back.
const LONGEST: Micros = DAY + 3 * HOUR;

/// The days that quarters lie in.
pub(super) fn local_days(quarters: &Keys, zones: &Zones) -> Keys {
    let mut days = Keys::new();
    for (device, starts) in quarters {
        let Some(calendar) = calendar(zones.of(device)) else { continue };
        for day in starts.iter().filter_map(|start| calendar.start(*start)) {
            note(&mut days, device, day);
        }
    }
    days
}

fn calendar(zone: Tz) -> Option<Buckets> {
    Buckets::new(Interval::Days(1), zone)
}

impl Lake {
    /// Makes days; none if none of them has a quarter. Those that have none are taken out of the keys.
    pub(super) async fn make_days(
        &self,
        keys: &mut Keys,
        zones: &Zones,
    ) -> Result<Option<RecordBatch>, Error> {
        let table = Table::Rollup15m;
        let snapshot = self.snapshot(table)?;
        let mut days = Days::new(keys, zones);
        let devices: Vec<&str> = keys.keys().map(|name| &**name).collect();
        let (carry, spans) = (carry_columns(), spans(keys, LONGEST));
        let mut names: Vec<&str> = carry.iter().map(String::as_str).collect();
        names.push("samples");
        names.extend(columns().iter().filter(|c| c.said != Said::Last).map(|c| c.name.as_str()));
        let mut rows = self.read_spans((table, &snapshot), &devices, &spans, &names).await?;
        while let Some(batch) = rows.try_next().await? {
            days.take(&batch)?;
        }
        retain_made(keys, &days.places, &days.buckets);
        days.rows()
    }
}

/// Days that are being added up.
struct Days<'a> {
    places: Places,
    buckets: Vec<Bucket>,
    /// Of each day where counters stood at the ends of its quarters, in no order.
    stood: Vec<Vec<Carry>>,
    zones: &'a Zones,
}

impl<'a> Days<'a> {
    fn new(keys: &Keys, zones: &'a Zones) -> Self {
        let places = Places::new(keys);
        let count = places.all.len();
        let (buckets, stood) = (vec![Bucket::default(); count], vec![Vec::new(); count]);
        Self { places, buckets, stood, zones }
    }

    fn take(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        let places = self.places_of(rows)?;
        let samples = column(rows, "samples")?.as_primitive::<Int32Type>();
        for ((place, carry), samples) in places.iter().zip(carries(rows)?).zip(samples) {
            let Some(place) = *place else { continue };
            if let (Some(bucket), Some(stood)) =
                (self.buckets.get_mut(place), self.stood.get_mut(place))
            {
                bucket.samples += samples.unwrap_or(0);
                stood.push(carry);
            }
        }
        for of in columns().iter().filter(|c| c.said != Said::Last) {
            self.take_column(rows, of, &places)?;
        }
        Ok(())
    }

    /// The place of the day of each row.
    fn places_of(&self, rows: &RecordBatch) -> Result<Vec<Option<usize>>, Error> {
        let mut places = Vec::with_capacity(rows.num_rows());
        let (mut of, mut span, mut place) = ("", 0..0, None);
        for (device, ts) in device_times(std::slice::from_ref(rows))? {
            if device != of || !span.contains(&ts) {
                of = device;
                let day = calendar(self.zones.of(device));
                let day = day.and_then(|days| {
                    let start = days.start(ts)?;
                    Some(start..days.next(start)?)
                });
                span = day.unwrap_or(0..0);
                place = self.places.find(&self.places.of(device), span.start);
            }
            places.push(place.filter(|_| span.contains(&ts)));
        }
        Ok(places)
    }

    fn take_column(
        &mut self,
        rows: &RecordBatch,
        of: &RollupColumn,
        places: &[Option<usize>],
    ) -> Result<(), Error> {
        let values = column(rows, &of.name)?;
        let counts = counts_of(rows, of)?;
        for (row, place) in places.iter().enumerate().filter(|(row, _)| values.is_valid(*row)) {
            let bucket = place.and_then(|place| self.buckets.get_mut(place));
            let Some(cell) = bucket.and_then(|b| b.cells.get_mut(of.reading)) else { continue };
            let decimal = || scaled(values.as_primitive::<Decimal128Type>().value(row));
            match of.said {
                Said::Count => cell.count += counts.value(row),
                Said::Suspect => cell.suspects += values.as_primitive::<Int32Type>().value(row),
                Said::Min => cell.least(decimal()),
                Said::Max => cell.greatest(decimal()),
                Said::Avg => {
                    let avg = values.as_primitive::<Float64Type>().value(row);
                    cell.sum += avg * f64::from(counts.value(row)) * factor(of);
                }
                Said::Delta => cell.delta = Some(cell.delta.unwrap_or(0) + decimal()),
                Said::Last => {}
            }
        }
        Ok(())
    }

    fn rows(mut self) -> Result<Option<RecordBatch>, Error> {
        for (bucket, stood) in self.buckets.iter_mut().zip(&mut self.stood) {
            stood.sort_by_key(|carry| carry.last_ts);
            let mut end = Carry::default();
            for carry in stood.iter() {
                end.pass(carry);
            }
            for ((at, _), track) in counters().zip(&end.tracks) {
                if let Some(cell) = bucket.cells.get_mut(at) {
                    cell.stood = track.believed();
                }
            }
            (bucket.last_ts, bucket.serial) = (end.last_ts, end.serial);
        }
        let there = || self.places.all.iter().zip(&self.buckets).filter(|(_, b)| b.samples > 0);
        let rows = Rows {
            table: Table::RollupDaily,
            keys: there().map(|(key, _)| key).collect(),
            buckets: there().map(|(_, bucket)| bucket).collect(),
            zones: Some(there().map(|((device, _), _)| self.zones.of(device)).collect()),
        };
        (!rows.keys.is_empty()).then(|| rows.batch()).transpose()
    }
}

/// How many values the mean of a column is of.
fn counts_of<'a>(rows: &'a RecordBatch, of: &RollupColumn) -> Result<&'a Int32Array, Error> {
    let same = |c: &&RollupColumn| c.reading == of.reading && c.said == Said::Count;
    let name = columns().iter().find(same).map_or("", |c| c.name.as_str());
    Ok(column(rows, name)?.as_primitive::<Int32Type>())
}

fn factor(of: &RollupColumn) -> f64 {
    READINGS.get(of.reading).map_or(1.0, |r| 10_f64.powi(i32::from(r.scale)))
}
