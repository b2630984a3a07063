//! `counter_delta(value, ts)`: the consumption that counters show over the readings of a group, by the
//! same rules as in the rollups.
//!
//! [`super::devices`] adds the device as a third argument where it is known. Each device is counted
//! separately, and counting starts over where its meter was replaced.

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
    sync::Arc,
};

use acuvim_tables::timestamp;
use acuvim_wire::Micros;
use arrow::{
    array::{
        Array as _, ArrayRef, AsArray as _, Float64Array, ListArray, StringArray,
        TimestampMicrosecondArray,
    },
    buffer::OffsetBuffer,
    datatypes::{DataType, Field, FieldRef, Float64Type, TimestampMicrosecondType},
};
use datafusion::{
    common::{ScalarValue, exec_err, plan_err},
    error::Result,
    logical_expr::{
        Accumulator, AggregateUDFImpl, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
    },
};

use crate::{
    counter::{Counter, MeterTerms, Reading, Track},
    view::meters::KnownMeters,
};

pub(super) const NAME: &str = "counter_delta";

/// The fourth argument, for counters that count in both directions.
pub(super) const NET: &str = "net";

#[derive(Debug)]
pub(super) struct CounterDelta {
    signature: Signature,
    known: KnownMeters,
}

impl CounterDelta {
    pub fn new(known: KnownMeters) -> Self {
        Self { signature: Signature::user_defined(Volatility::Stable), known }
    }
}

/// A session has only one, so what it knows of meters need not be compared.
impl PartialEq for CounterDelta {
    fn eq(&self, other: &Self) -> bool {
        self.signature == other.signature
    }
}

impl Eq for CounterDelta {}

impl Hash for CounterDelta {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.signature.hash(state);
    }
}

impl AggregateUDFImpl for CounterDelta {
    fn name(&self) -> &'static str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [_, _] => Ok(vec![DataType::Float64, timestamp()]),
            [_, _, _] => Ok(vec![DataType::Float64, timestamp(), DataType::Utf8]),
            // As added by the analyzer rule.
            [_, _, _, _] => {
                Ok(vec![DataType::Float64, timestamp(), DataType::Utf8, DataType::Utf8])
            }
            _ => plan_err!("counter_delta takes a counter's value, its time, and its device's id"),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let kind = args.exprs.get(3).map(ToString::to_string).unwrap_or_default();
        let counter = if kind.contains(NET) { Counter::Net } else { Counter::Total };
        Ok(Box::new(Readings { known: self.known.clone(), counter, of: BTreeMap::new() }))
    }

    fn state_fields(&self, _: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let list = |name, of| Arc::new(Field::new(name, DataType::new_list(of, true), true));
        Ok(vec![
            list("values", DataType::Float64),
            list("times", timestamp()),
            list("devices", DataType::Utf8),
        ])
    }
}

/// The readings of a group by device, under an empty name where the device is unknown. All of them are
/// kept until the end: several threads read parts of a group, and these may interleave in time.
#[derive(Debug)]
struct Readings {
    known: KnownMeters,
    counter: Counter,
    of: BTreeMap<String, Vec<Reading>>,
}

impl Readings {
    fn take(&mut self, values: &ArrayRef, times: &ArrayRef, devices: Option<&ArrayRef>) {
        let values = values.as_primitive::<Float64Type>();
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let devices = devices.and_then(|devices| devices.as_string_opt::<i32>());
        // Rows of a device are mostly adjacent, so they are looked up once per run of rows.
        let mut theirs: Option<(&str, Vec<Reading>)> = None;
        for (row, (ts, value)) in times.iter().zip(values).enumerate() {
            let (Some(ts), Some(value)) = (ts, value) else { continue };
            let device = devices.filter(|d| d.is_valid(row)).map_or("", |d| d.value(row));
            match &mut theirs {
                Some((same, readings)) if *same == device => readings.push(Reading { ts, value }),
                _ => {
                    self.keep(theirs.take());
                    theirs = Some((device, vec![Reading { ts, value }]));
                }
            }
        }
        self.keep(theirs);
    }

    fn keep(&mut self, theirs: Option<(&str, Vec<Reading>)>) {
        let Some((device, readings)) = theirs else { return };
        match self.of.get_mut(device) {
            Some(known) => known.extend(readings),
            None => drop(self.of.insert(device.to_owned(), readings)),
        }
    }

    fn all(&self) -> impl Iterator<Item = (&str, &Reading)> {
        self.of.iter().flat_map(|(device, theirs)| theirs.iter().map(|r| (device.as_str(), r)))
    }
}

/// The consumption that a device's readings show. Counting starts over where its meter was replaced.
fn counted(
    counter: Counter,
    readings: &mut [Reading],
    terms: &MeterTerms,
    changes: &[Micros],
) -> f64 {
    readings.sort_by_key(|reading| reading.ts);
    let (mut track, mut counted, mut last) = (Track::default(), 0.0, None);
    for reading in readings.iter() {
        let behind = last.map_or(0, |last| changes.partition_point(|at| *at <= last));
        if last.is_some() && changes.get(behind).is_some_and(|at| *at <= reading.ts) {
            track = Track::default();
        }
        let told = track.take(counter, terms, *reading);
        counted += told.counted - told.taken_back.map_or(0.0, |back| back.counted);
        last = Some(reading.ts);
    }
    counted
}

impl Accumulator for Readings {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        match columns {
            [values, times] => self.take(values, times, None),
            [values, times, devices] | [values, times, devices, _] => {
                self.take(values, times, Some(devices));
            }
            _ => return exec_err!("counter_delta takes two to four columns"),
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.of.is_empty() {
            return Ok(ScalarValue::Float64(None));
        }
        let (meters, changes) = (self.known.meters(), self.known.changes());
        let mut sum = 0.0;
        for (device, readings) in &mut self.of {
            let changes = changes.get(device.as_str()).map_or(&[][..], Vec::as_slice);
            sum += counted(self.counter, readings, &meters.terms_of(device), changes);
        }
        // Removes the rounding noise of adding floats.
        Ok(ScalarValue::Float64(Some((sum * 1e6).round() / 1e6)))
    }

    fn size(&self) -> usize {
        let of = |(device, readings): (&String, &Vec<Reading>)| {
            // About 64 bytes for an entry of the map.
            device.capacity() + readings.capacity() * size_of::<Reading>() + 64
        };
        size_of_val(self) + self.of.iter().map(of).sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values: Float64Array = self.all().map(|(_, r)| Some(r.value)).collect();
        let times = TimestampMicrosecondArray::from_iter(self.all().map(|(_, r)| Some(r.ts)));
        let devices = StringArray::from_iter(self.all().map(|(device, _)| Some(device)));
        let times = times.with_timezone("UTC");
        Ok(vec![list(Arc::new(values))?, list(Arc::new(times))?, list(Arc::new(devices))?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [values, times, devices] = states else {
            return exec_err!("counter_delta has three states");
        };
        let lists = values.as_list::<i32>().iter().zip(times.as_list::<i32>().iter());
        for ((values, times), devices) in lists.zip(devices.as_list::<i32>().iter()) {
            if let (Some(values), Some(times)) = (values, times) {
                self.take(&values, &times, devices.as_ref());
            }
        }
        Ok(())
    }
}

fn list(values: ArrayRef) -> Result<ScalarValue> {
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths([values.len()]);
    Ok(ScalarValue::List(Arc::new(ListArray::try_new(field, offsets, values, None)?)))
}

#[cfg(test)]
mod tests;
