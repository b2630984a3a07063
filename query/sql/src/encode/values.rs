//! Columns as JSON values: times as RFC 3339 in UTC (without the `Z` if they have no zone), decimals as numbers,
//! bytes as base64.

use acuvim_wire::time::{Micros, to_local_text, to_rfc3339};
use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    datatypes::{
        ArrowPrimitiveType, DataType, Decimal128Type, Float32Type, Float64Type, Int8Type,
        Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
        TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type,
        UInt16Type, UInt32Type, UInt64Type,
    },
    util::display::{ArrayFormatter, FormatOptions},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

/// A column's values as JSON.
#[must_use]
pub fn values(column: &ArrayRef) -> Vec<Value> {
    macro_rules! numbers {
        ($t:ty) => {
            column.as_primitive::<$t>().iter().map(Value::from).collect()
        };
    }
    match column.data_type() {
        DataType::Null => vec![Value::Null; column.len()],
        DataType::Boolean => column.as_boolean().iter().map(Value::from).collect(),
        DataType::Int8 => numbers!(Int8Type),
        DataType::Int16 => numbers!(Int16Type),
        DataType::Int32 => numbers!(Int32Type),
        DataType::Int64 => numbers!(Int64Type),
        DataType::UInt8 => numbers!(UInt8Type),
        DataType::UInt16 => numbers!(UInt16Type),
        DataType::UInt32 => numbers!(UInt32Type),
        DataType::UInt64 => numbers!(UInt64Type),
        DataType::Float32 => numbers!(Float32Type),
        DataType::Float64 => numbers!(Float64Type),
        DataType::Utf8 => column.as_string::<i32>().iter().map(Value::from).collect(),
        DataType::Binary => {
            let bytes = column.as_binary::<i32>().iter();
            bytes.map(|b| b.map(|b| STANDARD.encode(b)).into()).collect()
        }
        DataType::Decimal128(_, scale) => {
            let scale = i32::from(*scale);
            let to_number = |v: i128| decimal(v, scale);
            column
                .as_primitive::<Decimal128Type>()
                .iter()
                .map(|v| v.map_or(Value::Null, to_number))
                .collect()
        }
        DataType::Timestamp(unit, zone) => {
            let text = if zone.is_some() { to_rfc3339 } else { to_local_text };
            micros(column, *unit).into_iter().map(|at| at.map(text).into()).collect()
        }
        _ => displayed(column),
    }
}

/// Times as microseconds; none for nulls, and for times that microseconds can't express.
#[must_use]
pub fn micros(column: &ArrayRef, unit: TimeUnit) -> Vec<Option<Micros>> {
    fn of<T: ArrowPrimitiveType<Native = i64>>(
        column: &ArrayRef,
        to_micros: impl Fn(i64) -> Option<Micros>,
    ) -> Vec<Option<Micros>> {
        column.as_primitive::<T>().iter().map(|at| at.and_then(&to_micros)).collect()
    }
    match unit {
        TimeUnit::Second => of::<TimestampSecondType>(column, |at| at.checked_mul(1_000_000)),
        TimeUnit::Millisecond => of::<TimestampMillisecondType>(column, |at| at.checked_mul(1000)),
        TimeUnit::Microsecond => of::<TimestampMicrosecondType>(column, Some),
        TimeUnit::Nanosecond => {
            of::<TimestampNanosecondType>(column, |at| Some(at.div_euclid(1000)))
        }
    }
}

/// The float nearest to a decimal, which JSON prints with the decimal's digits.
fn decimal(unscaled: i128, scale: i32) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "readings have at most 15 digits")]
    let value = unscaled as f64 / 10_f64.powi(scale);
    Value::from(value)
}

/// Dates, intervals, lists and all other types, as Arrow displays them.
fn displayed(column: &ArrayRef) -> Vec<Value> {
    let options = FormatOptions::default();
    let Ok(formatter) = ArrayFormatter::try_new(column, &options) else {
        return vec![Value::Null; column.len()];
    };
    (0..column.len())
        .map(|row| {
            if column.is_null(row) {
                Value::Null
            } else {
                Value::from(formatter.value(row).to_string())
            }
        })
        .collect()
}

/// Rows as their values.
#[must_use]
pub fn value_rows(batches: &[RecordBatch]) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for batch in batches {
        let mut columns: Vec<_> =
            batch.columns().iter().map(|column| values(column).into_iter()).collect();
        for _ in 0..batch.num_rows() {
            rows.push(columns.iter_mut().filter_map(Iterator::next).collect());
        }
    }
    rows
}

/// Rows as objects by column name, without nulls and without the column `date`, which repeats `ts`.
#[must_use]
pub fn row_objects(batch: &RecordBatch) -> Vec<Map<String, Value>> {
    let schema = batch.schema();
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let object = |row: Vec<Value>| {
        let cells = names.iter().zip(row).filter(|(name, v)| !v.is_null() && **name != "date");
        cells.map(|(name, value)| ((*name).to_owned(), value)).collect()
    };
    value_rows(std::slice::from_ref(batch)).into_iter().map(object).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        Date32Array, Decimal128Array, Float64Array, TimestampMicrosecondArray,
        TimestampNanosecondArray, TimestampSecondArray,
    };
    use serde_json::json;
    use std::sync::Arc;

    fn of(array: impl Array + 'static) -> Vec<Value> {
        values(&(Arc::new(array) as ArrayRef))
    }

    #[test]
    fn decimals_are_numbers_and_missing_ones_null() {
        let array =
            Decimal128Array::from(vec![Some(230_400), None, Some(-1), Some(99_999_999_900)]);
        let array = array.with_precision_and_scale(14, 4).expect("fits");
        let text = serde_json::to_string(&of(array)).expect("json");
        assert_eq!(text, "[23.04,null,-0.0001,9999999.99]");
    }

    #[test]
    fn times_dates_and_what_json_has_not() {
        let times =
            TimestampMicrosecondArray::from(vec![1_778_951_132_250_999]).with_timezone("UTC");
        assert_eq!(of(times), ["2026-05-16T17:05:32.250999Z"]);
        let seconds =
            || TimestampSecondArray::from(vec![Some(1_778_951_132), None, Some(i64::MAX)]);
        assert_eq!(
            of(seconds().with_timezone("Europe/Berlin")),
            [json!("2026-05-16T17:05:32.000Z"), Value::Null, Value::Null]
        );
        assert_eq!(of(seconds()), [json!("2026-05-16T17:05:32.000"), Value::Null, Value::Null]);
        let nanos = TimestampNanosecondArray::from(vec![-1]);
        assert_eq!(of(nanos), ["1969-12-31T23:59:59.999999"]);
        assert_eq!(of(Date32Array::from(vec![20_589])), ["2026-05-16"]);
        assert_eq!(of(Float64Array::from(vec![f64::NAN, 1.5])), [Value::Null, 1.5.into()]);
    }
}
