//! The encoders against each other: what one writes, a reader of its format reads, and the values of all of
//! them are the same.

use std::sync::Arc;

use acuvim_model::ExportFormat;
use arrow::array::{
    Array, ArrayRef, AsArray as _, BinaryArray, BooleanArray, Decimal128Array, Float64Array,
    Int32Array, Int64Array, RecordBatch, StringArray, StringViewArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Float64Type, TimeUnit};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
        .expect("rows")
}

fn of(array: impl Array + 'static) -> ArrayRef {
    Arc::new(array)
}

fn texts(values: &[Option<String>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// An export of these batches.
fn exported(format: ExportFormat, batches: &[RecordBatch], decimals: bool) -> Vec<u8> {
    let schema = batches[0].schema();
    let mut encoder = Encoder::new(format, &schema, decimals).expect("an encoder");
    let mut all = encoder.take();
    for rows in batches {
        encoder.write(rows).expect("written");
        all.extend(encoder.take());
    }
    all.extend(encoder.finish().expect("an end"));
    all
}

fn csv_text(rows: RecordBatch) -> String {
    String::from_utf8(exported(ExportFormat::Csv, &[rows], false)).expect("UTF-8")
}

/// A reader of RFC 4180, as simple as the standard. Of each cell its text, and whether it was in quotes.
fn read_csv(text: &str) -> Vec<Vec<(String, bool)>> {
    let (mut rows, mut row, mut cell, mut quoted) = (vec![], vec![], String::new(), false);
    let mut chars = text.chars().peekable();
    let mut inside = false;
    while let Some(c) = chars.next() {
        match c {
            '"' if inside && chars.peek() == Some(&'"') => cell.extend(chars.next()),
            '"' => (inside, quoted) = (!inside, true),
            ',' | '\n' if !inside => {
                row.push((std::mem::take(&mut cell), std::mem::take(&mut quoted)));
                if c == '\n' {
                    rows.push(std::mem::take(&mut row));
                }
            }
            c => cell.push(c),
        }
    }
    assert!(row.is_empty() && cell.is_empty() && !inside, "the text ends with a whole line");
    rows
}

fn is_formula(text: &str) -> bool {
    text.starts_with(['=', '+', '-', '@', '\t', '\r'])
}

/// Rows of every kind of column that the fast paths write.
fn mixed(seed: &[(Option<i64>, Option<String>)]) -> RecordBatch {
    let numbers = || seed.iter().map(|(number, _)| *number);
    let small = numbers().map(|n| n.and_then(|n| i32::try_from(n % 1_000_000).ok()));
    let decimal = numbers().map(|n| n.map(|n| i128::from(n % 1_000_000_000_000_000)));
    let decimal = Decimal128Array::from_iter(decimal).with_precision_and_scale(16, 2);
    let far = numbers().map(|n| n.map(|n| n % 4_000_000_000_000_000));
    let local = TimestampMicrosecondArray::from_iter(far.clone());
    let millis = TimestampMillisecondArray::from_iter(far.clone().map(|n| n.map(|n| n / 1000)));
    let floats = numbers().map(|n| n.map(|n| (n % 1_000_000) as f64 / 8.0));
    let binary: Vec<_> = seed.iter().map(|(_, t)| t.as_deref().map(str::as_bytes)).collect();
    let words: Vec<_> = seed.iter().map(|(_, t)| t.clone()).collect();
    batch(vec![
        ("text", texts(&words)),
        ("view", of(words.iter().map(Option::as_deref).collect::<StringViewArray>())),
        ("whole", of(Int64Array::from_iter(numbers()))),
        ("small", of(Int32Array::from_iter(small))),
        ("decimal", of(decimal.expect("fits"))),
        ("float", of(Float64Array::from_iter(floats))),
        ("local", of(local.clone())),
        ("utc", of(local.with_timezone("UTC"))),
        ("millis", of(millis.with_timezone("UTC"))),
        ("flag", of(BooleanArray::from_iter(numbers().map(|n| n.map(|n| n > 0))))),
        ("bytes", of(BinaryArray::from_iter(binary))),
    ])
}

fn seeds() -> impl Strategy<Value = Vec<(Option<i64>, Option<String>)>> {
    let number = prop_oneof![Just(None), any::<i64>().prop_map(Some), (-2_i64..3).prop_map(Some)];
    proptest::collection::vec((number, proptest::option::of(".{0,12}")), 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A spreadsheet or a script reads each text as it was, but for the apostrophe before a formula; and an
    /// empty text is not a missing one.
    #[test]
    fn a_text_comes_out_of_csv_as_it_went_in(
        words in proptest::collection::vec(proptest::option::of("[=+@\t\r\n\",'a-z0-9é -]{0,10}"), 1..90),
    ) {
        let columns = vec![("a", texts(&words)), ("b", texts(&words))];
        let read = read_csv(&csv_text(batch(columns)));
        prop_assert_eq!(read.len(), words.len() + 1);
        for (cells, word) in read[1..].iter().zip(&words) {
            let wanted = match word {
                Some(text) if is_formula(text) => format!("'{text}"),
                Some(text) => text.clone(),
                None => String::new(),
            };
            for (cell, in_quotes) in cells {
                prop_assert_eq!(cell, &wanted);
                prop_assert!(!is_formula(cell));
                prop_assert_eq!(cell.is_empty() && *in_quotes, word.as_deref() == Some(""));
            }
        }
    }

    /// The fast paths write what the slow one, over JSON values, does.
    #[test]
    fn a_row_is_the_same_as_array_as_object_and_as_values(seed in seeds()) {
        let rows = mixed(&seed);
        let slow = value_rows(std::slice::from_ref(&rows));
        let mut arrays = b"[".to_vec();
        Lines::arrays().write(&rows, &mut arrays);
        arrays.push(b']');
        let fast: Vec<Vec<Value>> = serde_json::from_slice(&arrays).expect("JSON");
        prop_assert_eq!(&fast, &slow);
        let names: Vec<String> = rows.schema().fields().iter().map(|f| f.name().clone()).collect();
        let lines = exported(ExportFormat::Ndjson, std::slice::from_ref(&rows), false);
        let lines = String::from_utf8(lines).expect("UTF-8");
        prop_assert_eq!(lines.matches('\n').count(), slow.len());
        for (line, cells) in lines.lines().zip(&slow) {
            let read: Value = serde_json::from_str(line).expect("JSON");
            let there = names.iter().cloned().zip(cells.iter().cloned());
            let there: serde_json::Map<_, _> = there.filter(|(_, v)| !v.is_null()).collect();
            prop_assert_eq!(read, Value::Object(there));
        }
    }

    /// Exports are written in pieces side by side, and put together afterwards.
    #[test]
    fn lines_are_the_same_in_pieces_as_at_once(seed in seeds(), cut in 0_usize..80) {
        let rows = mixed(&seed);
        let cut = cut.min(rows.num_rows());
        for format in [ExportFormat::Csv, ExportFormat::Ndjson] {
            let lines = Encoder::new(format, &rows.schema(), true).expect("an encoder").lines();
            let lines = lines.expect("a format of lines");
            let (mut whole, mut pieces) = (Vec::new(), Vec::new());
            lines.write(&rows, &mut whole);
            lines.write(&rows.slice(0, cut), &mut pieces);
            lines.write(&rows.slice(cut, rows.num_rows() - cut), &mut pieces);
            prop_assert_eq!(whole, pieces);
        }
    }
}

#[test]
fn the_names_of_columns_are_defused_and_quoted_too() {
    let ones: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let columns = ["=cmd()", "a,b", "say \"x\"", "plain"].map(|name| (name, Arc::clone(&ones)));
    let rows = batch(columns.to_vec());
    assert_eq!(csv_text(rows.clone()), "'=cmd(),\"a,b\",\"say \"\"x\"\"\",plain\n1,1,1,1\n");
    let line = exported(ExportFormat::Ndjson, &[rows], false);
    let line: Value = serde_json::from_slice(&line).expect("JSON");
    assert_eq!(line, json!({"=cmd()": 1, "a,b": 1, "say \"x\"": 1, "plain": 1}));
}

#[test]
fn an_export_without_rows_has_a_header_and_reads_back_as_none() {
    let none = mixed(&[(Some(1), None)]).slice(0, 0);
    let csv = csv_text(none.clone());
    assert_eq!(csv.lines().count(), 1);
    assert!(csv.starts_with("text,view,whole,") && csv.ends_with('\n'), "{csv}");
    assert!(exported(ExportFormat::Ndjson, std::slice::from_ref(&none), false).is_empty());
    let stream = exported(ExportFormat::Arrow, std::slice::from_ref(&none), false);
    let reader = arrow::ipc::reader::StreamReader::try_new(stream.as_slice(), None);
    let reader = reader.expect("a stream");
    assert_eq!(reader.schema().fields().len(), none.num_columns());
    assert_eq!(reader.map(|b| b.expect("rows").num_rows()).sum::<usize>(), 0);
    let file = bytes::Bytes::from(exported(ExportFormat::Parquet, &[none], false));
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file, 100);
    assert_eq!(reader.expect("a file").count(), 0);
}

#[test]
fn decimals_are_floats_unless_they_are_asked_for() {
    let values = Decimal128Array::from(vec![Some(1), Some(99_999_999_999_999), None]);
    let values = values.with_precision_and_scale(14, 4).expect("fits");
    let rows = batch(vec![("kwh", of(values))]);
    let typed = |decimals| {
        let stream = exported(ExportFormat::Arrow, std::slice::from_ref(&rows), decimals);
        let reader = arrow::ipc::reader::StreamReader::try_new(stream.as_slice(), None);
        reader.expect("a stream").next().expect("rows").expect("rows")
    };
    assert_eq!(typed(true).schema().field(0).data_type(), &DataType::Decimal128(14, 4));
    let floats = typed(false);
    let floats = floats.column(0).as_primitive::<Float64Type>();
    assert_eq!((floats.value(0), floats.value(1)), (0.0001, 9_999_999_999.999_9));
    assert!(floats.is_null(2));
}

#[test]
fn numbers_that_json_has_not_are_null_in_every_format() {
    let odd = Float64Array::from(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0]);
    let rows = batch(vec![("x", of(odd))]);
    assert_eq!(csv_text(rows.clone()), "x\n\n\n\n-0.0\n");
    let mut arrays = Vec::new();
    Lines::arrays().write(&rows, &mut arrays);
    assert_eq!(String::from_utf8(arrays).expect("text"), "[null],[null],[null],[-0.0]");
    let lines = exported(ExportFormat::Ndjson, &[rows], false);
    assert_eq!(String::from_utf8(lines).expect("text"), "{}\n{}\n{}\n{\"x\":-0.0}\n");
}

#[test]
fn a_day_is_written_anew_whenever_it_changes() {
    let times = [0, 86_399_999_999, 86_400_000_000, 1, -1, -86_400_000_001, 1_000];
    let column: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times.to_vec()));
    let mut cells = Cells::of(&column, false);
    let written: Vec<String> = (0..times.len())
        .map(|row| {
            let mut out = Vec::new();
            assert!(cells.json(row, b"", &mut out));
            serde_json::from_slice(&out).expect("a text")
        })
        .collect();
    let wanted = [
        "1970-01-01T00:00:00.000",
        "1970-01-01T23:59:59.999999",
        "1970-01-02T00:00:00.000",
        "1970-01-01T00:00:00.000001",
        "1969-12-31T23:59:59.999999",
        "1969-12-30T23:59:59.999999",
        "1970-01-01T00:00:00.001",
    ];
    assert_eq!(written, wanted);
}

#[test]
fn a_time_beyond_every_calendar_ends_nothing() {
    let edges = vec![i64::MIN, i64::MAX, i64::MIN + 1, 253_402_300_800_000_000];
    let column: ArrayRef = Arc::new(TimestampMicrosecondArray::from(edges).with_timezone("UTC"));
    let rows = batch(vec![("ts", Arc::clone(&column))]);
    assert_eq!(values(&column).len(), 4);
    assert_eq!(read_csv(&csv_text(rows.clone())).len(), 5);
    let mut arrays = b"[".to_vec();
    Lines::arrays().write(&rows, &mut arrays);
    arrays.push(b']');
    serde_json::from_slice::<Vec<Vec<String>>>(&arrays).expect("JSON");
}

#[test]
fn times_of_every_unit_are_microseconds_or_none() {
    let nanos: ArrayRef =
        Arc::new(TimestampNanosecondArray::from(vec![Some(1999), Some(-1), None]));
    assert_eq!(micros(&nanos, TimeUnit::Nanosecond), [Some(1), Some(-1), None]);
    let millis: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![
        Some(i64::MAX / 1000),
        Some(i64::MAX / 1000 + 1),
        Some(i64::MIN),
    ]));
    let most = i64::MAX / 1000 * 1000;
    assert_eq!(micros(&millis, TimeUnit::Millisecond), [Some(most), None, None]);
}

#[test]
fn objects_leave_out_what_is_null_and_the_day_that_repeats_the_time() {
    let rows = batch(vec![
        ("device_id", texts(&[Some("a".into()), Some("b".into())])),
        ("date", texts(&[Some("2026-05-16".into()), None])),
        ("note", texts(&[None, Some(String::new())])),
    ]);
    let objects: Vec<Value> = row_objects(&rows).into_iter().map(Value::Object).collect();
    assert_eq!(objects, [json!({"device_id": "a"}), json!({"device_id": "b", "note": ""})]);
    assert_eq!(value_rows(&[]), Vec::<Vec<Value>>::new());
}

#[test]
fn an_object_of_nulls_is_empty_and_commas_stand_between_members_alone() {
    let rows = batch(vec![
        ("a", texts(&[None, None, Some("x".into())])),
        ("b", texts(&[None, Some("y".into()), None])),
        ("c", texts(&[None, Some("\u{1e}\"\n".into()), Some("z".into())])),
    ]);
    let lines = String::from_utf8(exported(ExportFormat::Ndjson, &[rows], false)).expect("text");
    assert_eq!(lines, "{}\n{\"b\":\"y\",\"c\":\"\\u001e\\\"\\n\"}\n{\"a\":\"x\",\"c\":\"z\"}\n");
}

#[test]
fn a_reading_without_a_column_is_written_without_that_member() {
    let rows = batch(vec![
        ("device_id", texts(&[Some("a\"b".into())])),
        ("voltage_l1_v", of(Float64Array::from(vec![230.5]))),
    ]);
    let mut readings = ReadingRows::new(&rows, ["voltage_l2_v", "voltage_l1_v"]);
    let mut out = Vec::new();
    readings.write(0, &mut out);
    let read: Value = serde_json::from_slice(&out).expect("JSON");
    assert_eq!(read, json!({"device_id": "a\"b", "data": {"voltage_l1_v": 230.5}}));
    let parts = readings.parts(0);
    assert_eq!(parts.device_id, "a\"b");
    assert_eq!(parts.data, [("voltage_l1_v", "\"voltage_l1_v\":230.5".to_owned())]);
    let mut none = Vec::new();
    ReadingRows::new(&rows.slice(0, 0), reading_names()).write_all(&mut none);
    assert!(none.is_empty());
}
