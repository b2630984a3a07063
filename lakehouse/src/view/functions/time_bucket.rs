//! `time_bucket(interval, ts[, tz])`: the beginning of the bucket of a time.

use std::sync::Arc;

use acuvim_tables::timestamp;
use acuvim_wire::time::Micros;
use arrow::{
    array::{AsArray as _, TimestampMicrosecondArray},
    datatypes::{DataType, TimestampMicrosecondType},
};
use datafusion::{
    common::{ScalarValue, exec_err, plan_datafusion_err, plan_err},
    error::Result,
    logical_expr::{
        ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
        sort_properties::{ExprProperties, SortProperties},
    },
};

use super::bucket::{Buckets, IRREGULAR, Interval};

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct TimeBucket(Signature);

impl TimeBucket {
    pub fn new() -> Self {
        Self(Signature::user_defined(Volatility::Immutable))
    }
}

impl ScalarUDFImpl for TimeBucket {
    fn name(&self) -> &'static str {
        "time_bucket"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(timestamp())
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let (Some(interval), 2..=3) = (given.first(), given.len()) else {
            return plan_err!("time_bucket takes an interval, a time and optionally a time zone");
        };
        let interval = match interval {
            DataType::Interval(_) => {
                DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano)
            }
            // Text that is no interval is refused when the constant is parsed, with a message that
            // names the units.
            _ => DataType::Utf8,
        };
        let mut wanted = vec![interval, timestamp()];
        wanted.extend(given.get(2).map(|_| DataType::Utf8));
        Ok(wanted)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [interval, times, rest @ ..] = args.args.as_slice() else {
            return exec_err!("time_bucket takes an interval and a time");
        };
        let buckets = Buckets::new(interval_of(interval)?, zone_of(rest.first())?);
        let buckets = buckets.ok_or_else(|| plan_datafusion_err!("{IRREGULAR}"))?;
        // A time outside the calendar has no bucket and becomes null: failing would end a query
        // over one bad row.
        let start = |ts| start_in(&buckets, &mut None, ts);
        match times {
            ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(ts, zone)) => {
                let start = ts.and_then(start);
                Ok(ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(start, zone.clone())))
            }
            ColumnarValue::Array(times) => {
                let times = times.as_primitive::<TimestampMicrosecondType>();
                let mut last = None;
                let starts: TimestampMicrosecondArray =
                    times.iter().map(|ts| start_in(&buckets, &mut last, ts?)).collect();
                debug_assert_eq!(starts.len(), times.len());
                Ok(ColumnarValue::Array(Arc::new(starts.with_timezone("UTC"))))
            }
            ColumnarValue::Scalar(_) => exec_err!("time_bucket takes a time"),
        }
    }

    /// Later times are in later buckets, so rows sorted by time are sorted by bucket too.
    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        Ok(inputs.get(1).map_or(SortProperties::Unordered, |time| time.sort_properties))
    }
}

/// The beginning of a time's bucket. `last` is the bucket of the previous time, which is tried first:
/// consecutive rows mostly share a bucket.
fn start_in(buckets: &Buckets, last: &mut Option<(Micros, Micros)>, ts: Micros) -> Option<Micros> {
    if let Some((start, end)) = *last
        && (start..end).contains(&ts)
    {
        return Some(start);
    }
    let start = buckets.start(ts)?;
    *last = buckets.next(start).map(|end| (start, end));
    Some(start)
}

fn interval_of(value: &ColumnarValue) -> Result<Interval> {
    let found = match value {
        ColumnarValue::Scalar(ScalarValue::Utf8(Some(text))) => Interval::parse(text),
        ColumnarValue::Scalar(ScalarValue::IntervalMonthDayNano(Some(of))) => {
            Interval::new(of.months, of.days, of.nanoseconds / 1000)
        }
        _ => return plan_err!("the interval of time_bucket must be a constant"),
    };
    found.map_or_else(
        || {
            plan_err!(
                "an interval is '10s', '15m', '1h', '1d', '1w', '1mo', '1y' or INTERVAL '1 day'"
            )
        },
        Ok,
    )
}

fn zone_of(value: Option<&ColumnarValue>) -> Result<chrono_tz::Tz> {
    match value {
        None => Ok(chrono_tz::Tz::UTC),
        Some(ColumnarValue::Scalar(ScalarValue::Utf8(Some(name)))) => match name.parse() {
            Ok(zone) => Ok(zone),
            Err(_) => {
                plan_err!("'{name}' is not a time zone; use a name such as Africa/Johannesburg")
            }
        },
        Some(_) => plan_err!("the time zone of time_bucket must be a constant"),
    }
}

#[cfg(test)]
mod tests;
