//! `counter_delta(value, ts)`: what a counter has counted over a group's readings, in the order of
//! their times, through roll-overs and resets.

use std::sync::Arc;

use acuvim_schemas::{tables::timestamp, time::Micros};
use arrow::{
    array::{
        Array as _, ArrayRef, AsArray as _, Float64Array, ListArray, TimestampMicrosecondArray,
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

use super::counter::increment;

/// See the module.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct CounterDelta(Signature);

impl CounterDelta {
    pub fn new() -> Self {
        Self(Signature::user_defined(Volatility::Immutable))
    }
}

impl AggregateUDFImpl for CounterDelta {
    fn name(&self) -> &'static str {
        "counter_delta"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [_, _] => Ok(vec![DataType::Float64, timestamp()]),
            _ => plan_err!("counter_delta takes a counter's value and its time"),
        }
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Readings::default()))
    }

    fn state_fields(&self, _: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let list = |name, of| Arc::new(Field::new(name, DataType::new_list(of, true), true));
        Ok(vec![list("values", DataType::Float64), list("times", timestamp())])
    }
}

/// A group's readings. All of them are kept, since the parts of a group that several threads have
/// may lie between each other.
#[derive(Debug, Default)]
struct Readings(Vec<(Micros, f64)>);

impl Readings {
    fn take(&mut self, values: &ArrayRef, times: &ArrayRef) {
        let values = values.as_primitive::<Float64Type>();
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let pairs = times.iter().zip(values).filter_map(|(ts, value)| Some((ts?, value?)));
        self.0.extend(pairs);
    }
}

impl Accumulator for Readings {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let [values, times] = columns else { return exec_err!("counter_delta takes two columns") };
        self.take(values, times);
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.0.is_empty() {
            return Ok(ScalarValue::Float64(None));
        }
        self.0.sort_by_key(|(ts, _)| *ts);
        let steps = self.0.iter().zip(self.0.iter().skip(1));
        let counted: f64 = steps.map(|(before, after)| increment(before.1, after.1)).sum();
        Ok(ScalarValue::Float64(Some(counted)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.0.capacity() * size_of::<(Micros, f64)>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values: Float64Array = self.0.iter().map(|(_, value)| *value).collect();
        let times = TimestampMicrosecondArray::from_iter_values(self.0.iter().map(|(ts, _)| *ts));
        Ok(vec![list(Arc::new(values))?, list(Arc::new(times.with_timezone("UTC")))?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [values, times] = states else { return exec_err!("counter_delta has two states") };
        let lists = values.as_list::<i32>().iter().zip(times.as_list::<i32>().iter());
        for (values, times) in lists.filter_map(|(values, times)| Some((values?, times?))) {
            self.take(&values, &times);
        }
        Ok(())
    }
}

fn list(values: ArrayRef) -> Result<ScalarValue> {
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths([values.len()]);
    Ok(ScalarValue::List(Arc::new(ListArray::try_new(field, offsets, values, None)?)))
}
