//! Replacements for date functions of the engine that silently lose digits.
//!
//! `date_part` and EXTRACT of a duration drop its fraction above two seconds. `to_timestamp` of a float
//! truncates to nanoseconds, although floats are exact only to microseconds, and clamps what lies outside
//! its calendar.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, AsArray as _, Float64Array, Int32Array, Int64Array, TimestampNanosecondArray,
    },
    compute::{cast, kernels::cast_utils::IntervalUnit},
    datatypes::{
        DataType, FieldRef, Float64Type, Int64Type, IntervalMonthDayNanoType,
        IntervalUnit as ArrowInterval, TimeUnit,
    },
};
use datafusion::{
    common::{DFSchema, ScalarValue, config::ConfigOptions, exec_err, tree_node::Transformed},
    error::Result,
    logical_expr::{
        ColumnarValue, Expr, ExprSchemable as _, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
        ScalarUDFImpl, Signature, expr::ScalarFunction, expr_rewriter::FunctionRewrite,
    },
};

const SECOND: i128 = 1_000_000_000;
const MINUTE: i128 = 60 * SECOND;
const HOUR: i128 = 60 * MINUTE;
const DAY: i128 = 24 * HOUR;

/// The lengths by which PostgreSQL converts months and years to seconds.
const MONTH: i128 = 30 * DAY;
const YEAR: i128 = 365 * DAY + DAY / 4;

/// The range of a timestamp in nanoseconds, as microseconds, rounded down.
const MAX_MICROS: f64 = 9.2e15;

/// Replaces calls of the engine's functions.
#[derive(Debug)]
pub(super) struct ExactDates;

impl FunctionRewrite for ExactDates {
    fn name(&self) -> &'static str {
        "exact dates"
    }

    fn rewrite(
        &self,
        expr: Expr,
        schema: &DFSchema,
        _: &ConfigOptions,
    ) -> Result<Transformed<Expr>> {
        let Expr::ScalarFunction(call) = expr else { return Ok(Transformed::no(expr)) };
        let of = |n: usize| call.args.get(n).and_then(|arg| arg.get_type(schema).ok());
        let exact = match (call.func.name(), call.args.len()) {
            ("date_part", 2) if of(1).is_some_and(|of| is_length(&of)) => {
                ScalarUDF::new_from_impl(PartOfLength(Arc::clone(&call.func)))
            }
            ("to_timestamp", 1) if of(0).is_some_and(|of| of.is_floating()) => {
                ScalarUDF::new_from_impl(TimeOfFloat(Arc::clone(&call.func)))
            }
            _ => return Ok(Transformed::no(Expr::ScalarFunction(call))),
        };
        let call = ScalarFunction::new_udf(Arc::new(exact), call.args);
        Ok(Transformed::yes(Expr::ScalarFunction(call)))
    }
}

const fn is_length(of: &DataType) -> bool {
    matches!(of, DataType::Duration(_) | DataType::Interval(_))
}

/// `date_part` of an interval or of a difference of two times, with the types of the engine's function.
#[derive(Debug, PartialEq, Eq, Hash)]
struct PartOfLength(Arc<ScalarUDF>);

impl ScalarUDFImpl for PartOfLength {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, of: &[DataType]) -> Result<DataType> {
        self.0.return_type(of)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.0.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [ColumnarValue::Scalar(part), of] = args.args.as_slice() else {
            return exec_err!("date_part takes a constant and a duration");
        };
        let part = part.try_as_str().flatten().unwrap_or_default().trim_matches(['\'', '"']);
        let lengths = lengths(&array_of(of)?)?;
        let made: ArrayRef = match args.return_field.data_type() {
            DataType::Float64 => {
                let seconds = lengths.iter().map(|length| length.as_ref().map(Length::seconds));
                Arc::new(seconds.collect::<Float64Array>())
            }
            DataType::Int64 => Arc::new(parts::<i64>(&lengths, part)?.collect::<Int64Array>()),
            _ => Arc::new(parts::<i32>(&lengths, part)?.collect::<Int32Array>()),
        };
        as_given(of, made)
    }
}

/// One part of each length.
fn parts<T: TryFrom<i128>>(
    lengths: &[Option<Length>],
    part: &str,
) -> Result<impl Iterator<Item = Option<T>>> {
    let mut parts = Vec::with_capacity(lengths.len());
    for length in lengths {
        let Some(length) = length else {
            parts.push(None);
            continue;
        };
        let Some(value) = part.parse::<IntervalUnit>().ok().and_then(|unit| length.part(unit))
        else {
            // An error instead of null, which would look like a missing reading.
            return exec_err!("date_part: a duration has no '{part}'");
        };
        match T::try_from(value) {
            Ok(value) => parts.push(Some(value)),
            Err(_) => return exec_err!("date_part: {value} is too large for '{part}'"),
        }
    }
    Ok(parts.into_iter())
}

/// A length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    /// A difference of two times. Each part counts the whole length in its unit.
    Between(i128),
    /// An INTERVAL, whose months, days and nanoseconds are counted separately.
    Interval { months: i128, days: i128, nanos: i128 },
}

impl Length {
    #[expect(clippy::cast_precision_loss, reason = "whole seconds and their fraction apart")]
    fn seconds(&self) -> f64 {
        let nanos = match *self {
            Self::Between(nanos) => nanos,
            Self::Interval { months, days, nanos } => {
                // As PostgreSQL does, so that dashboards made for it show the same numbers.
                months / 12 * YEAR + months % 12 * MONTH + days * DAY + nanos
            }
        };
        (nanos / SECOND) as f64 + (nanos % SECOND) as f64 / SECOND as f64
    }

    fn part(&self, unit: IntervalUnit) -> Option<i128> {
        match *self {
            Self::Between(nanos) => Some(nanos / size(unit)?),
            Self::Interval { months, days, nanos } => Some(match unit {
                IntervalUnit::Year => months / 12,
                IntervalUnit::Month => months % 12,
                IntervalUnit::Week => days / 7,
                IntervalUnit::Day => days,
                IntervalUnit::Hour => nanos / HOUR,
                IntervalUnit::Minute => nanos % HOUR / MINUTE,
                smaller => nanos % MINUTE / size(smaller)?,
            }),
        }
    }
}

/// The length of a unit in nanoseconds, unless it varies.
const fn size(unit: IntervalUnit) -> Option<i128> {
    match unit {
        IntervalUnit::Week => Some(7 * DAY),
        IntervalUnit::Day => Some(DAY),
        IntervalUnit::Hour => Some(HOUR),
        IntervalUnit::Minute => Some(MINUTE),
        IntervalUnit::Second => Some(SECOND),
        IntervalUnit::Millisecond => Some(1_000_000),
        IntervalUnit::Microsecond => Some(1000),
        IntervalUnit::Nanosecond => Some(1),
        _ => None,
    }
}

fn lengths(of: &ArrayRef) -> Result<Vec<Option<Length>>> {
    if let DataType::Duration(unit) = of.data_type() {
        let nanos = match unit {
            TimeUnit::Second => SECOND,
            TimeUnit::Millisecond => 1_000_000,
            TimeUnit::Microsecond => 1000,
            TimeUnit::Nanosecond => 1,
        };
        let counts = cast(of, &DataType::Int64)?;
        let counts = counts.as_primitive::<Int64Type>().iter();
        return Ok(counts.map(|n| n.map(|n| Length::Between(i128::from(n) * nanos))).collect());
    }
    let intervals = cast(of, &DataType::Interval(ArrowInterval::MonthDayNano))?;
    let length = |interval: arrow::datatypes::IntervalMonthDayNano| Length::Interval {
        months: interval.months.into(),
        days: interval.days.into(),
        nanos: interval.nanoseconds.into(),
    };
    let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>().iter();
    Ok(intervals.map(|interval| interval.map(length)).collect())
}

/// `to_timestamp` of seconds as a float, rounded to microseconds: a float has no more digits than that.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TimeOfFloat(Arc<ScalarUDF>);

impl ScalarUDFImpl for TimeOfFloat {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, of: &[DataType]) -> Result<DataType> {
        self.0.return_type(of)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.0.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ([of], DataType::Timestamp(TimeUnit::Nanosecond, zone)) =
            (args.args.as_slice(), args.return_field.data_type())
        else {
            return exec_err!("to_timestamp of a float takes seconds");
        };
        let seconds = cast(&array_of(of)?, &DataType::Float64)?;
        let seconds = seconds.as_primitive::<Float64Type>().iter();
        let times = seconds.map(|seconds| seconds.map(nanos_of).transpose());
        let times = times.collect::<Result<TimestampNanosecondArray>>()?;
        as_given(of, Arc::new(times.with_timezone_opt(zone.clone())))
    }
}

fn nanos_of(seconds: f64) -> Result<i64> {
    let micros = (seconds * 1e6).round();
    // Also false for NaN.
    if micros.abs() < MAX_MICROS {
        #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
        let micros = micros as i64;
        return Ok(micros * 1000);
    }
    exec_err!("to_timestamp: {seconds} is not a time between the years 1678 and 2261")
}

/// A value as an array, with one row if it is a constant.
fn array_of(value: &ColumnarValue) -> Result<ArrayRef> {
    match value {
        ColumnarValue::Array(array) => Ok(Arc::clone(array)),
        ColumnarValue::Scalar(scalar) => scalar.to_array(),
    }
}

/// A result in the form of its argument: a constant for a constant.
fn as_given(value: &ColumnarValue, made: ArrayRef) -> Result<ColumnarValue> {
    match value {
        ColumnarValue::Array(_) => Ok(ColumnarValue::Array(made)),
        ColumnarValue::Scalar(_) => {
            Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(nanos: i128, unit: &str) -> Option<i128> {
        Length::Between(nanos).part(unit.parse().expect("a unit"))
    }

    #[test]
    fn a_length_has_all_its_digits() {
        let minutes = 90 * MINUTE + 2_500_000_001;
        assert_eq!(between(minutes, "hour"), Some(1));
        assert_eq!(between(minutes, "minutes"), Some(90));
        assert_eq!(between(minutes, "seconds"), Some(5402));
        assert_eq!(between(minutes, "ms"), Some(5_402_500));
        assert_eq!(between(minutes, "nanosecond"), Some(5_402_500_000_001));
        assert_eq!(between(minutes, "month"), None);
        assert!((Length::Between(-2_500_000_000).seconds() + 2.5).abs() < 1e-12);
        let interval = Length::Interval { months: 14, days: 9, nanos: minutes };
        let part = |unit: &str| interval.part(unit.parse().expect("a unit"));
        assert_eq!(["year", "month", "week", "day"].map(part), [1, 2, 1, 9].map(Some));
        assert_eq!(["hour", "minute", "second"].map(part), [1, 30, 2].map(Some));
        assert_eq!(["ms", "us"].map(part), [2500, 2_500_000].map(Some));
        assert_eq!(part("century"), None);
        let year = Length::Interval { months: 12, days: 0, nanos: SECOND / 2 };
        assert!((year.seconds() - 31_557_600.5).abs() < 1e-6);
    }

    #[test]
    fn a_float_is_the_time_that_it_says() {
        assert_eq!(nanos_of(1_778_951_132.250_999).ok(), Some(1_778_951_132_250_999_000));
        assert_eq!(nanos_of(-0.5).ok(), Some(-500_000_000));
        for beyond in [f64::NAN, f64::INFINITY, 1e300, -1e10] {
            assert!(nanos_of(beyond).is_err(), "{beyond}");
        }
    }
}
