//! Columns as text, fast: CSV cells and JSON values without a detour over values of their own.

use acuvim_wire::{Micros, time::DAY};
use arrow::{
    array::{
        Array, ArrayRef, AsArray as _, Decimal128Array, Float64Array, Int32Array, Int64Array,
        StringArray, TimestampMicrosecondArray,
    },
    datatypes::{
        DataType, Decimal128Type, Float64Type, Int32Type, Int64Type, TimeUnit,
        TimestampMicrosecondType,
    },
};

use super::{
    digits::{Short, decimal, padded, whole},
    values::values,
};

/// A column whose values are written as text.
pub struct Cells<'a>(Column<'a>);

/// A column by how its values are written.
enum Column<'a> {
    Text(&'a StringArray),
    /// With the day that was written last, and whether the times have a zone.
    Time(&'a TimestampMicrosecondArray, Day, bool),
    /// With the number of digits after the point, and whether zeros at their end are kept.
    Decimal(&'a Decimal128Array, u8, bool),
    Whole(&'a Int64Array),
    Small(&'a Int32Array),
    Float(&'a Float64Array),
    /// Every other type, as JSON values, and whether its texts may come from a device or a user.
    Other(Vec<serde_json::Value>, bool),
}

/// Digits after the point that the fast path writes: those of 64 bits. Only casts have more.
const MOST_DIGITS: u8 = 18;

/// The last day that was written: most times are of the same day as the one before.
#[derive(Default)]
struct Day {
    day: Option<i64>,
    text: Vec<u8>,
}

impl<'a> Cells<'a> {
    /// The values of a column; `decimals` keeps zeros at the end of decimals.
    #[must_use]
    pub fn of(column: &'a ArrayRef, decimals: bool) -> Self {
        Self(Column::of(column, decimals))
    }

    /// Writes a name and a JSON value. For null it writes nothing and returns false.
    pub fn json(&mut self, row: usize, name: &[u8], out: &mut Vec<u8>) -> bool {
        self.0.json(row, name, out)
    }

    /// Writes a CSV cell (RFC 4180); nothing for null.
    pub(super) fn csv(&mut self, row: usize, out: &mut Vec<u8>) {
        self.0.csv(row, out);
    }

    /// Writes short CSV cells from a row on, one for each of the places; none where [`Self::csv`] has to
    /// write the cell. The values of a column lie together, so reading several of one column at a time is
    /// faster than reading row by row.
    pub(super) fn shorts<'s>(
        &self,
        from: usize,
        places: impl Iterator<Item = &'s mut Option<Short>>,
    ) {
        self.0.shorts(from, places);
    }
}

impl<'a> Column<'a> {
    fn of(column: &'a ArrayRef, decimals: bool) -> Self {
        match column.data_type() {
            DataType::Utf8 => Self::Text(column.as_string()),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                let times = column.as_primitive::<TimestampMicrosecondType>();
                Self::Time(times, Day::default(), zone.is_some())
            }
            DataType::Decimal128(_, scale) => match u8::try_from(*scale) {
                Ok(scale) if scale <= MOST_DIGITS => {
                    Self::Decimal(column.as_primitive::<Decimal128Type>(), scale, decimals)
                }
                _ => Self::Other(values(column), false),
            },
            DataType::Int64 => Self::Whole(column.as_primitive::<Int64Type>()),
            DataType::Int32 => Self::Small(column.as_primitive::<Int32Type>()),
            DataType::Float64 => Self::Float(column.as_primitive::<Float64Type>()),
            of => {
                let is_plain = of.is_numeric() || of.is_temporal() || of.is_binary();
                Self::Other(values(column), !is_plain)
            }
        }
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Text(values) => values.is_null(row),
            Self::Time(values, ..) => values.is_null(row),
            Self::Decimal(values, ..) => values.is_null(row),
            Self::Whole(values) => values.is_null(row),
            Self::Small(values) => values.is_null(row),
            // JSON has neither NaN nor infinity.
            Self::Float(values) => values.is_null(row) || !values.value(row).is_finite(),
            Self::Other(values, _) => values.get(row).is_none_or(serde_json::Value::is_null),
        }
    }

    fn shorts<'s>(&self, from: usize, places: impl Iterator<Item = &'s mut Option<Short>>) {
        fn fill<'s, A: Array>(
            values: &A,
            rows: impl Iterator<Item = (usize, &'s mut Option<Short>)>,
            short: impl Fn(&A, usize) -> Option<Short>,
        ) {
            for (row, place) in rows {
                let null = values.is_null(row);
                *place = if null { Some(Short::EMPTY) } else { short(values, row) };
            }
        }
        let rows = (from..).zip(places);
        match self {
            Self::Decimal(values, scale, zeros) => {
                fill(*values, rows, |v, row| Short::decimal(v.value(row), *scale, *zeros));
            }
            Self::Whole(values) => {
                fill(*values, rows, |v, row| Short::decimal(v.value(row).into(), 0, true));
            }
            Self::Small(values) => {
                fill(*values, rows, |v, row| Short::decimal(v.value(row).into(), 0, true));
            }
            Self::Text(_) | Self::Time(..) | Self::Float(_) | Self::Other(..) => {
                rows.for_each(|(_, place)| *place = None);
            }
        }
    }

    fn csv(&mut self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            return;
        }
        match self {
            Self::Text(values) => defused(values.value(row), out),
            Self::Other(values, are_words) => match values.get(row) {
                Some(serde_json::Value::String(text)) if *are_words => defused(text, out),
                Some(serde_json::Value::String(text)) => quoted(text, out),
                Some(other) => out.extend_from_slice(other.to_string().as_bytes()),
                None => {}
            },
            plain => plain.number_or_time(row, out),
        }
    }

    fn json(&mut self, row: usize, name: &[u8], out: &mut Vec<u8>) -> bool {
        if self.is_null(row) {
            return false;
        }
        out.extend_from_slice(name);
        match self {
            // Writing to memory does not fail.
            Self::Text(values) => drop(serde_json::to_writer(&mut *out, values.value(row))),
            Self::Other(values, _) => drop(serde_json::to_writer(&mut *out, &values.get(row))),
            Self::Time(..) => {
                out.push(b'"');
                self.number_or_time(row, out);
                out.push(b'"');
            }
            plain => plain.number_or_time(row, out),
        }
        true
    }

    fn number_or_time(&mut self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Time(values, day, zoned) => {
                day.write(values.value(row), out);
                if *zoned {
                    out.push(b'Z');
                }
            }
            Self::Decimal(values, scale, zeros) => decimal(values.value(row), *scale, *zeros, out),
            Self::Whole(values) => whole(values.value(row), out),
            Self::Small(values) => whole(values.value(row).into(), out),
            Self::Float(values) => drop(serde_json::to_writer(out, &values.value(row))),
            Self::Text(_) | Self::Other(..) => {}
        }
    }
}

impl Day {
    /// RFC 3339 with milliseconds, or with microseconds if there are any, and without the `Z` of UTC.
    fn write(&mut self, ts: Micros, out: &mut Vec<u8>) {
        let day = ts.div_euclid(DAY);
        if self.day != Some(day) {
            let date = i32::try_from(day).map(acuvim_wire::time::day_text);
            self.text = date.unwrap_or_default().into_bytes();
            self.day = Some(day);
        }
        let micros = u64::try_from(ts.rem_euclid(DAY)).unwrap_or_default();
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        out.extend_from_slice(&self.text);
        out.push(b'T');
        padded(seconds / 3600, 2, out);
        out.push(b':');
        padded(seconds / 60 % 60, 2, out);
        out.push(b':');
        padded(seconds % 60, 2, out);
        out.push(b'.');
        match micros % 1000 {
            0 => padded(micros / 1000, 3, out),
            _ => padded(micros, 6, out),
        }
    }
}

/// Writes a row as a JSON object. Each column comes with its key as it stands in the object, quotes and colon
/// included; nulls are left out.
pub fn object(columns: &mut [(Cells<'_>, impl AsRef<[u8]>)], row: usize, out: &mut Vec<u8>) {
    out.push(b'{');
    let mut first = true;
    for (cells, key) in columns {
        let at = out.len();
        if !first {
            out.push(b',');
        }
        if cells.json(row, key.as_ref(), out) {
            first = false;
        } else {
            out.truncate(at);
        }
    }
    out.push(b'}');
}

/// Characters that begin a formula, which a spreadsheet would run.
const RUNS: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// A text of a device or user as a CSV cell. An apostrophe before a formula makes it a plain text: a device
/// may send any name or note, and whoever opens the file in a spreadsheet trusts it.
pub(super) fn defused(text: &str, out: &mut Vec<u8>) {
    if text.starts_with(RUNS) {
        quoted(&format!("'{text}"), out);
    } else {
        quoted(text, out);
    }
}

/// A text as a CSV cell.
fn quoted(text: &str, out: &mut Vec<u8>) {
    if text.is_empty() || text.bytes().any(|b| matches!(b, b',' | b'"' | b'\n' | b'\r')) {
        out.push(b'"');
        out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
        out.push(b'"');
    } else {
        out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn csv(array: impl Array + 'static, decimals: bool) -> Vec<String> {
        let column: ArrayRef = Arc::new(array);
        let mut cells = Cells::of(&column, decimals);
        let cell = |row| {
            let mut out = Vec::new();
            cells.csv(row, &mut out);
            String::from_utf8(out).expect("text")
        };
        (0..column.len()).map(cell).collect()
    }

    #[test]
    fn cells_are_what_they_say() {
        let decimals = || {
            Decimal128Array::from(vec![Some(23_040), None, Some(-5), Some(0), Some(9_999_999_990)])
                .with_precision_and_scale(14, 2)
                .expect("fits")
        };
        assert_eq!(csv(decimals(), false), ["230.4", "", "-0.05", "0.0", "99999999.9"]);
        assert_eq!(csv(decimals(), true), ["230.40", "", "-0.05", "0.00", "99999999.90"]);
        let times = TimestampMicrosecondArray::from(vec![1_778_951_132_250_999, -1000]);
        let local = ["2026-05-16T17:05:32.250999", "1969-12-31T23:59:59.999"];
        assert_eq!(csv(times.clone(), false), local);
        let utc = local.map(|text| format!("{text}Z"));
        assert_eq!(csv(times.with_timezone("UTC"), false), utc);
        assert_eq!(
            csv(StringArray::from(vec!["a,\"b\"", "", "c"]), false),
            ["\"a,\"\"b\"\"\"", "\"\"", "c"]
        );
        let formulas = vec!["=1+1", "+1", "-1", "@a", "\ta", "\r=a", "=\"x\"", "a=1", "'=1"];
        let cells =
            ["'=1+1", "'+1", "'-1", "'@a", "'\ta", "\"'\r=a\"", "\"'=\"\"x\"\"\"", "a=1", "'=1"];
        assert_eq!(csv(StringArray::from(formulas.clone()), false), cells);
        let views = arrow::array::StringViewArray::from(formulas);
        assert_eq!(csv(views, false), cells);
        let lengths = arrow::array::DurationSecondArray::from(vec![-5]);
        assert!(!csv(lengths, false)[0].starts_with('\''));
        let bytes = arrow::array::BinaryArray::from(vec![&[0xfb_u8][..]]);
        assert_eq!(csv(bytes, false), ["+w=="]);
        assert_eq!(
            csv(Int64Array::from(vec![i64::MIN, 0, 100]), false),
            ["-9223372036854775808", "0", "100"]
        );
        let floats = Float64Array::from(vec![1e300, 230.0, f64::NAN]);
        assert_eq!(csv(floats, false), ["1e+300", "230.0", ""]);
        let cast = Decimal128Array::from(vec![5]).with_precision_and_scale(38, 30);
        assert_eq!(csv(cast.expect("fits"), false), ["5e-30"]);
    }
}
