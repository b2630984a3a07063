//! Files of every format, with rows that are wrong.

use super::*;

#[test]
fn rows_that_would_be_dead_letters_are_refused_with_the_reason() {
    let csv = "device_id,ts,voltage_l1_v\n\
        d1,2026-05-01T00:00:00Z,230.4\n\
        d1,2019-05-01T00:00:00Z,230.4\n\
        d1,2026-05-01T00:00:10Z,high\n\
        d1,2099-05-01T00:00:00Z,230.4\n\
        d1,2026-05-01T00:00:20Z,nan\n";
    let (sender, mut records) = mpsc::channel(9);
    let limits = Limits { max_age: 4000 * 86_400_000_000, ..Limits::default() };
    let shape = Shape::default();
    let reader = Reader { format: Format::Csv, shape, partitions: 4, limits };
    let done = reader.rows(csv.as_bytes(), sender).expect("a file");
    assert_eq!((done.rows, done.refused, done.records), (5, 3, 1));
    let said: Vec<_> =
        done.refusals.iter().map(|r| (r.row, r.message.split(':').next().unwrap())).collect();
    assert_eq!(said, [(2, "ts_before_2020"), (3, "wrong_type"), (4, "ts_in_future")]);
    let full = records.try_recv().expect("records");
    assert_eq!(full[0].rows, [1, 5]);
}

/// What became of a file, with the telemetry items that would be appended, by device.
fn imported(
    format: Format,
    shape: Shape,
    file: &[u8],
) -> Result<(Imported, Vec<(String, Value)>), String> {
    let (sender, mut records) = mpsc::channel(1000);
    let limits = Limits { max_age: 40_000 * 86_400_000_000, ..Limits::default() };
    let done = Reader { format, shape, partitions: 4, limits }.rows(file, sender)?;
    let mut items = Vec::new();
    while let Ok(full) = records.try_recv() {
        for record in full {
            let record = acuvim_wire::Record::try_from(&record.entry).expect("a record");
            let device = String::from_utf8(record.key.to_vec()).expect("text");
            let payload: Value = serde_json::from_slice(&record.value).expect("JSON");
            let batch = payload["batch"].as_array().expect("items").iter();
            items.extend(batch.map(|item| (device.clone(), item.clone())));
        }
    }
    items.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok((done, items))
}

fn csv_file(file: &str) -> Result<(Imported, Vec<(String, Value)>), String> {
    imported(Format::Csv, Shape::default(), file.as_bytes())
}

#[test]
fn an_id_of_digits_stays_as_it_is_written() {
    let ids = ["12E5", "0012", "1e400", "-0", "123456789012345678901234", "7"];
    let rows: String = ids.iter().map(|id| format!("{id},2026-05-01T00:00:00Z,230\n")).collect();
    let (done, items) = csv_file(&format!("device_id,ts,voltage_l1_v\n{rows}")).expect("a file");
    assert_eq!(done.refused, 0, "{:?}", done.refusals);
    let mut want = ids.to_vec();
    want.sort_unstable();
    assert_eq!(items.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), want);
    let (done, _) = csv_file("device_id,ts\n ,2026-05-01T00:00:00Z\n").expect("a file");
    assert_eq!(done.refusals[0].message, "no device_id");
}

#[test]
fn a_spreadsheets_csv_is_read_with_its_mark_quotes_and_line_ends() {
    let file = "\u{feff}device_id, ts ,\"voltage_l1_v\",note\r\n\
        d1,\"2026-05-01 00:00:00+02:00\", 230.4 ,\"a, \"\"b\"\"\"\r\n\r\n\
        d2,2026-05-01T00:00:00Z,,\r\n";
    let (done, items) = csv_file(file).expect("a file");
    assert_eq!((done.rows, done.refused), (2, 0), "{:?}", done.refusals);
    assert_eq!(items[0].1["ts"], "2026-04-30T22:00:00.000000Z");
    assert_eq!(items[0].1["voltage_l1_v"], 230.4);
    assert_eq!(items[1].1.get("voltage_l1_v"), None, "an empty cell is no reading");
}

#[test]
fn a_file_without_its_columns_is_refused_as_a_whole() {
    for (file, says) in [
        ("", "no column device_id"),
        ("meter,ts\nd1,1\n", "no column device_id"),
        ("device_id,time\nd1,1\n", "no column ts"),
    ] {
        let error = csv_file(file).expect_err(file);
        assert!(error.contains(says), "{file}: {error}");
    }
    let named = Shape { device_id: "meter".into(), ts: "time".into(), ..Shape::default() };
    let file = b"meter,time,voltage_l1_v\nd1,2026-05-01T00:00:00Z,230\n";
    assert_eq!(imported(Format::Csv, named, file).expect("a file").0.records, 1);
}

#[test]
fn a_row_that_is_wrong_is_refused_alone_with_its_number() {
    let file = "device_id,ts,voltage_l1_v\n\
        d1,2026-05-01T00:00:00Z,230\n\
        d1,2026-05-01T00:00:10Z\n\
        d 1,2026-05-01T00:00:20Z,230\n\
        d1,2026-05-01T00:00:30Z,231\n";
    let (done, items) = csv_file(file).expect("a file");
    assert_eq!((done.rows, done.refused, items.len()), (4, 2, 2));
    assert_eq!(done.refusals.iter().map(|refusal| refusal.row).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn a_quote_that_is_never_closed_ends_the_import_and_not_the_memory() {
    let mut file = b"device_id,ts,note\nd1,2026-05-01T00:00:00Z,\"".to_vec();
    file.resize(3 << 20, b'x');
    let error = imported(Format::Csv, Shape::default(), &file).expect_err("too large a row");
    assert!(error.contains("quote"), "{error}");
}

#[test]
fn what_was_read_before_a_fault_is_appended() {
    let (sender, mut records) = mpsc::channel(9);
    let limits = Limits { max_age: 40_000 * 86_400_000_000, ..Limits::default() };
    let reader = Reader { format: Format::Ndjson, shape: Shape::default(), partitions: 4, limits };
    let row = "{\"device_id\":\"d1\",\"ts\":\"2026-05-01T00:00:00Z\",\"voltage_l1_v\":230}\n";
    let mut file = row.as_bytes().to_vec();
    file.resize(2 << 20, b'x');
    let error = reader.rows(file.as_slice(), sender).expect_err("a line without end");
    assert!(error.contains("row 2"), "{error}");
    assert_eq!(records.try_recv().expect("the row before it").len(), 1);
}

#[test]
fn lines_of_json_are_rows_and_blank_lines_are_counted() {
    let file = "\n{\"device_id\":\"d1\",\"ts\":1777593600,\"data\":{\"voltage_l1_v\":230}}\n\
        \u{20}\n[1]\nnot json\n{\"device_id\":\"d1\"}\r\n\
        {\"device_id\":\"d1\",\"ts\":\"2026-05-01T00:00:10Z\",\"voltage_l1_v\":231}";
    let (done, items) =
        imported(Format::Ndjson, Shape::default(), file.as_bytes()).expect("a file");
    assert_eq!((done.rows, done.refused, items.len()), (5, 3, 2), "{:?}", done.refusals);
    let rows: Vec<u64> = done.refusals.iter().map(|refusal| refusal.row).collect();
    assert_eq!(rows, [4, 5, 6]);
    assert_eq!(items[0].1["voltage_l1_v"], 230);
}

#[test]
fn a_parquet_file_is_read_by_its_columns() {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    };
    let ts = TimestampMicrosecondArray::from(vec![1_777_593_600_000_000, 1_777_593_610_000_000]);
    let columns: [(&str, ArrayRef); 3] = [
        ("device_id", Arc::new(StringArray::from(vec![Some("d1"), None]))),
        ("ts", Arc::new(ts.with_timezone("UTC"))),
        ("voltage_l1_v", Arc::new(Float64Array::from(vec![230.4, 231.0]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("a batch");
    let mut file = Vec::new();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(&mut file, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("rows");
    writer.close().expect("a file");
    let (done, items) = imported(Format::Parquet, Shape::default(), &file).expect("a file");
    assert_eq!((done.rows, done.refused), (2, 1), "{:?}", done.refusals);
    assert_eq!(items[0].1["ts"], "2026-05-01T00:00:00.000000Z");
    assert_eq!(items[0].1["voltage_l1_v"], 230.4);
    for broken in [&b""[..], b"PAR1", &file[..file.len() - 9]] {
        let error = imported(Format::Parquet, Shape::default(), broken).expect_err("no file");
        assert!(error.contains("can't be read"), "{error}");
    }
}

#[test]
fn a_bounded_number_of_refusals_is_listed_and_all_are_counted() {
    let rows = "d 1,2026-05-01T00:00:00Z\n".repeat(REFUSALS + 50);
    let (done, _) = csv_file(&format!("device_id,ts\n{rows}")).expect("a file");
    assert_eq!(done.refused, REFUSALS as u64 + 50);
    assert_eq!(done.refusals.len(), REFUSALS);
}

#[test]
fn nobody_who_takes_records_ends_the_reading() {
    let (sender, records) = mpsc::channel(1);
    drop(records);
    let limits = Limits { max_age: 40_000 * 86_400_000_000, ..Limits::default() };
    let reader = Reader { format: Format::Csv, shape: Shape::default(), partitions: 4, limits };
    let file = "device_id,ts,voltage_l1_v\nd1,2026-05-01T00:00:00Z,230\n";
    assert!(reader.rows(file.as_bytes(), sender).is_err());
}

#[test]
fn a_format_is_known_by_its_media_type() {
    for (media_type, format) in [
        ("text/csv", Some(Format::Csv)),
        ("application/x-ndjson", Some(Format::Ndjson)),
        ("application/jsonl", Some(Format::Ndjson)),
        ("application/vnd.apache.parquet", Some(Format::Parquet)),
        ("application/json", None),
        ("", None),
    ] {
        assert_eq!(Format::of(media_type), format, "{media_type}");
    }
}
