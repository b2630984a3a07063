//! The expected rollups, computed in the simplest way.

use std::collections::{BTreeMap, BTreeSet};

use acuvim_lakehouse::{Counter, MeterTerms, QUARTER, Track};
use acuvim_wire::time::{Micros, to_datetime};
use chrono::{Datelike as _, TimeZone as _};
use chrono_tz::Tz;

use super::story::{Reading, SerialReport};

/// A row of a rollup, with one measured value and one counter.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub device: String,
    pub start: Micros,
    pub samples: i32,
    pub last_ts: Micros,
    pub serial: Option<String>,
    /// Number of values, minimum, maximum.
    pub volts: (i32, Option<i64>, Option<i64>),
    pub avg: Option<f64>,
    /// Number of values, consumption, last value.
    pub energy: (i32, Option<i64>, Option<i64>),
    pub day: Option<i32>,
}

/// The consumption of a device's counter up to each of its readings, in hundredths, and its last value,
/// from one pass over all readings in order.
fn counted(
    theirs: &BTreeMap<Micros, &Reading>,
    changed: impl Fn(Micros, Micros) -> bool,
) -> BTreeMap<Micros, (i64, Option<i64>)> {
    let hundredths = |value: f64| (value * 100.0).round() as i64;
    let terms = MeterTerms::default();
    let mut all: BTreeMap<Micros, (i64, Option<i64>)> = BTreeMap::new();
    let (mut track, mut last, mut counted_at) = (Track::default(), None, None);
    for (ts, reading) in theirs {
        if last.is_some_and(|last| changed(last, *ts)) {
            track = Track::default();
            counted_at = None;
        }
        last = Some(*ts);
        let Some(now) = reading.energy else { continue };
        let now = acuvim_lakehouse::Reading { ts: *ts, value: now as f64 / 100.0 };
        let outcome = track.take(Counter::Total, &terms, now);
        if let (Some(back), Some(at)) = (outcome.taken_back, counted_at) {
            // The values since the suspect reading were wrong.
            for (_, (delta, stood)) in all.range_mut(at..=at) {
                *delta -= hundredths(back.counted);
                *stood = Some(hundredths(back.stood.value));
            }
            for (_, (_, stood)) in all.range_mut(at..) {
                *stood = Some(hundredths(back.stood.value));
            }
        }
        if outcome.believed {
            counted_at = Some(*ts);
        }
        let stood = track.believed().map(|at| hundredths(at.value));
        all.insert(*ts, (hundredths(outcome.counted), stood));
    }
    all
}

pub fn quarters(readings: &[Reading], reports: &[SerialReport]) -> Vec<Row> {
    let mut by_device: BTreeMap<&str, BTreeMap<Micros, &Reading>> = BTreeMap::new();
    for reading in readings {
        by_device.entry(reading.device).or_default().insert(reading.ts, reading);
    }
    let mut rows = Vec::new();
    for (device, theirs) in by_device {
        let starts: BTreeSet<Micros> =
            theirs.keys().map(|ts| ts - ts.rem_euclid(QUARTER)).collect();
        for start in starts {
            let inside: Vec<&Reading> =
                theirs.range(start..start + QUARTER).map(|(_, r)| *r).collect();
            rows.push(quarter(device, start, &inside, &theirs, reports));
        }
    }
    rows
}

fn quarter(
    device: &str,
    start: Micros,
    inside: &[&Reading],
    theirs: &BTreeMap<Micros, &Reading>,
    reports: &[SerialReport],
) -> Row {
    let volts: Vec<i64> = inside.iter().filter_map(|r| r.volts).collect();
    let last_ts = inside.iter().map(|r| r.ts).max().expect("a reading");
    let changed = |from: Micros, to: Micros| {
        // The serial numbers that were known at one reading and at the next.
        let at = |ts: Micros| {
            let known = reports.iter().filter(|(d, at, _)| *d == device && *at <= ts);
            known.max_by_key(|(_, at, _)| *at).map(|(_, _, serial)| *serial)
        };
        let mut between: Vec<&SerialReport> =
            reports.iter().filter(|(d, at, _)| *d == device && *at > from && *at <= to).collect();
        between.sort_by_key(|(_, at, _)| *at);
        let known = at(from).into_iter().chain(between.into_iter().map(|(.., serial)| *serial));
        let known: BTreeSet<&str> = known.collect();
        known.len() > 1
    };
    let counted = counted(theirs, changed);
    let here = || counted.range(start..start + QUARTER);
    let deltas: Vec<i64> = here().map(|(_, (delta, _))| *delta).collect();
    let delta = (!deltas.is_empty()).then(|| deltas.iter().sum());
    let last = here().next_back().and_then(|(ts, (_, stood))| Some((*ts, (*stood)?)));
    let serial = reports.iter().filter(|(d, at, _)| *d == device && *at <= last_ts);
    let count = |n: usize| i32::try_from(n).expect("small");
    let avg = || volts.iter().sum::<i64>() as f64 / volts.len() as f64 / 100.0;
    Row {
        device: device.to_owned(),
        start,
        samples: count(inside.len()),
        last_ts,
        serial: serial.max_by_key(|(_, at, _)| *at).map(|(.., serial)| (*serial).to_owned()),
        volts: (count(volts.len()), volts.iter().min().copied(), volts.iter().max().copied()),
        avg: (!volts.is_empty()).then(avg),
        energy: (
            count(inside.iter().filter(|r| r.energy.is_some()).count()),
            delta,
            last.filter(|(ts, _)| !changed(*ts, last_ts)).map(|(_, value)| value),
        ),
        day: None,
    }
}

pub fn days(quarters: &[Row], zone: impl Fn(&str) -> Tz) -> Vec<Row> {
    let mut days: BTreeMap<(String, Micros), Vec<&Row>> = BTreeMap::new();
    for row in quarters {
        let zone = zone(&row.device);
        let local = to_datetime(row.start).expect("a time").with_timezone(&zone);
        let midnight = zone
            .with_ymd_and_hms(local.year(), local.month(), local.day(), 0, 0, 0)
            .earliest()
            .expect("midnight");
        days.entry((row.device.clone(), midnight.timestamp_micros())).or_default().push(row);
    }
    let day = |((device, start), rows): ((String, Micros), Vec<&Row>)| {
        let zone = zone(&device);
        let local = to_datetime(start).expect("a time").with_timezone(&zone).date_naive();
        let counted = rows.iter().map(|r| r.volts.0).sum::<i32>();
        let sum: f64 = rows.iter().filter_map(|r| Some(r.avg? * f64::from(r.volts.0))).sum();
        let end = rows.last().expect("a quarter");
        let deltas: Vec<i64> = rows.iter().filter_map(|r| r.energy.1).collect();
        // The last value, unless the meter was replaced after it.
        let mut last = None;
        let mut serial: Option<&String> = None;
        for row in &rows {
            if serial.is_some() && row.serial.is_some() && serial != row.serial.as_ref() {
                last = None;
            }
            serial = row.serial.as_ref().or(serial);
            last = row.energy.2.or(last);
        }
        Row {
            start,
            samples: rows.iter().map(|r| r.samples).sum(),
            last_ts: end.last_ts,
            serial: serial.cloned(),
            volts: (
                counted,
                rows.iter().filter_map(|r| r.volts.1).min(),
                rows.iter().filter_map(|r| r.volts.2).max(),
            ),
            avg: (counted > 0).then(|| sum / f64::from(counted)),
            energy: (
                rows.iter().map(|r| r.energy.0).sum(),
                (!deltas.is_empty()).then(|| deltas.iter().sum()),
                last,
            ),
            day: Some(local.num_days_from_ce() - 719_163),
            device,
        }
    };
    days.into_iter().map(day).collect()
}
