//! The decoder: every form of telemetry, every fault, and any bytes at all.

use std::collections::HashMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Decimal128Type, Int32Type, Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;

use super::*;
use acuvim_wire::{
    Position,
    telemetry::Alias,
    time::{DAY, parse_rfc3339, to_rfc3339},
};

const NOW: &str = "2026-05-17T00:00:00Z";

fn now() -> Micros {
    parse_rfc3339(NOW).expect("a time")
}

fn decode_with(decoder: &mut Decoder, payload: &[u8]) -> (RecordBatch, Vec<DeadLetter>) {
    let facts = RecordFacts {
        device_id: "d1",
        kind: "telemetry",
        topic: "acuvim/d1/telemetry",
        received_at: now(),
        epoch: 0,
        position: Position { partition: 2, offset: 7 },
    };
    let payload = Bytes::copy_from_slice(payload);
    let mut dead = Vec::new();
    decoder.push(&Source { facts, payload: &payload, resolved_ts: None }, &mut |letter| {
        dead.push(letter);
    });
    (decoder.finish().expect("schema").rows, dead)
}

fn decode(payload: &str) -> (RecordBatch, Vec<DeadLetter>) {
    decode_with(&mut Decoder::new(Limits::default(), Arc::default()), payload.as_bytes())
}

fn reason(payload: &str) -> (Reason, String) {
    let (rows, dead) = decode(payload);
    assert_eq!((rows.num_rows(), dead.len()), (0, 1), "{payload}");
    (dead[0].reason, dead[0].detail.clone().unwrap_or_default())
}

fn number(rows: &RecordBatch, name: &str, row: usize) -> Option<i128> {
    let column = rows.column_by_name(name).expect(name).as_primitive::<Decimal128Type>();
    column.is_valid(row).then(|| column.value(row))
}

fn text<'a>(rows: &'a RecordBatch, name: &str, row: usize) -> Option<&'a str> {
    let column = rows.column_by_name(name).expect(name).as_string::<i32>();
    column.is_valid(row).then(|| column.value(row))
}

#[test]
fn nested_flat_and_short_keys_are_the_same_reading() {
    for payload in [
        r#"{"ts":"2026-05-16T17:05:32.000Z","data":{"frequency_hz":50.01,"voltage_l1_v":230.4}}"#,
        r#"{"ts":1778951132,"frequency_hz":50.01,"voltage_l1_v":2.304e2}"#,
        r#"{"ts":1778951132000,"f":50.0100001,"v1":230.4000}"#,
    ] {
        let (rows, dead) = decode(payload);
        assert_eq!((rows.num_rows(), dead.len()), (1, 0), "{payload}");
        assert_eq!(number(&rows, "frequency_hz", 0), Some(50_010));
        assert_eq!(number(&rows, "voltage_l1_v", 0), Some(23_040));
        assert_eq!(number(&rows, "voltage_l2_v", 0), None);
        let ts = rows.column_by_name("ts").unwrap().as_primitive::<TimestampMicrosecondType>();
        assert_eq!(to_rfc3339(ts.value(0)), "2026-05-16T17:05:32.000Z");
        assert_eq!(text(&rows, "extra", 0), None);
        assert_eq!(text(&rows, "source", 0), Some("live"));
    }
}

#[test]
fn batches_and_lines_are_judged_item_by_item() {
    let batch =
        r#"{"batch":[{"ts":1778951132,"f":50},{"ts":"?","f":1},7,{"ts":1778951133,"f":51}]}"#;
    let lines =
        "{\"ts\":1778951132,\"f\":50}\n{\"ts\":\"?\"}\nbroken\n{\"ts\":1778951133,\"f\":51}\n";
    for payload in [batch, lines] {
        let (rows, dead) = decode(payload);
        assert_eq!(rows.num_rows(), 2);
        let items = rows.column_by_name("item").unwrap().as_primitive::<Int32Type>();
        assert_eq!(items.values().as_ref(), &[0, 3]);
        let faults: Vec<_> = dead.iter().map(|d| (d.item, d.reason)).collect();
        assert_eq!(faults, [(1, Reason::BadTs), (2, Reason::NotJson)]);
    }
}

#[test]
fn what_is_not_a_column_is_kept() {
    let (rows, _) = decode(
        r#"{"ts":1778951132,"rssi":-61,"data":{"f":1e300,"note":"a\"b","x":[1,{"y":null}]},"uptime_ms":5}"#,
    );
    assert_eq!(number(&rows, "frequency_hz", 0), None);
    assert_eq!(
        text(&rows, "extra", 0),
        Some(r#"{"rssi":-61,"f":1e300,"note":"a\"b","x":[1,{"y":null}],"uptime_ms":5}"#)
    );
}

#[test]
fn a_missing_reading_is_null_and_never_zero() {
    for missing in ["null", r#""NaN""#, "nan", "-nan", "NaN", "inf", r#""-Infinity""#] {
        let (rows, dead) = decode(&format!(r#"{{"ts":1778951132,"f":{missing},"v1":230}}"#));
        assert_eq!(dead.len(), 0, "{missing}");
        assert_eq!(number(&rows, "frequency_hz", 0), None, "{missing}");
        assert_eq!(number(&rows, "voltage_l1_v", 0), Some(23_000));
    }
    let (rows, _) = decode(r#"{"ts":1778951132,"f":-0,"note":"nan"}"#);
    assert_eq!(number(&rows, "frequency_hz", 0), Some(0));
}

#[test]
fn each_fault_has_its_reason_and_names_the_field() {
    for (payload, want, field) in [
        ("", Reason::Empty, ""),
        ("  \n", Reason::Empty, ""),
        ("{", Reason::NotJson, "byte 1: it ends there"),
        ("[]", Reason::NotJson, "byte 0: 5b 5d ([])"),
        ("\0{\"f\":50\0}", Reason::NotJson, "byte 8: 00 7d (\\x00})"),
        ("{}", Reason::NoTs, ""),
        (r#"{"ts":null,"f":50}"#, Reason::NoTs, ""),
        (r#"{"ts":{}}"#, Reason::WrongType, "ts"),
        (r#"{"ts":true}"#, Reason::WrongType, "ts"),
        (r#"{"ts":1778951132,"v1":"230"}"#, Reason::WrongType, "v1"),
        (r#"{"ts":1778951132,"v1":true}"#, Reason::WrongType, "v1"),
        (r#"{"ts":1778951132,"v1":[230]}"#, Reason::WrongType, "v1"),
        (r#"{"ts":1778951132,"seq":"x"}"#, Reason::WrongType, "seq"),
        (r#"{"ts":1778951132,"boot":1.5}"#, Reason::WrongType, "boot"),
        (r#"{"ts":1778951132,"data":[]}"#, Reason::WrongType, "data"),
        (r#"{"ts":1778951132,"lt":3}"#, Reason::WrongType, "lt"),
        (r#"{"ts":1778951132,"device_id":"d2"}"#, Reason::IdMismatch, "d2"),
        (r#"{"boot":3,"uptime_ms":5,"f":50}"#, Reason::ClockUnset, ""),
        (r#"{"ts":"2019-12-31T23:59:59Z"}"#, Reason::TsBefore2020, "2019-12-31T23:59:59.000Z"),
        (r#"{"ts":"2026-05-18T00:00:01Z"}"#, Reason::TsInFuture, "2026-05-18T00:00:01.000Z"),
        (r#"{"ts":"2025-05-16T00:00:00Z"}"#, Reason::Expired, "2025-05-16T00:00:00.000Z"),
    ] {
        assert_eq!(reason(payload), (want, field.to_owned()), "{payload}");
    }
    let (_, dead) =
        decode_with(&mut Decoder::new(Limits::default(), Arc::default()), b"{\"a\":\"\xff\"}");
    assert_eq!(dead[0].reason, Reason::NotUtf8);
    assert_eq!(dead[0].detail.as_deref(), Some("byte 6: ff 22 7d (\\xff\\\"})"));
    for bad in [r#""2026-05-16T17:05:32""#, r#""2026-05-16T17:05:32+2""#, "1e300", "soon"] {
        let (why, detail) = reason(&format!(r#"{{"ts":{bad},"f":50}}"#));
        assert_eq!(why, Reason::BadTs, "{bad}");
        assert!(detail.starts_with("ts: ") && detail.contains("+0200"), "{detail}");
    }
}

#[test]
fn one_bad_byte_costs_one_reading() {
    let line = |n: usize| format!("{{\"ts\":{},\"f\":50}}", 1_778_951_132 + n);
    for bad in [&b"\xff"[..], b"{\"ts\":1778951132,\"n\":\"caf\xe9\"}", b"{\"n\":\"\xc3"] {
        let mut lines: Vec<Vec<u8>> = (0..499).map(|n| line(n).into_bytes()).collect();
        lines.insert(250, bad.to_vec());
        let batch = [&b"{\"batch\":["[..], &lines.join(&b","[..]), b"]}"].concat();
        for payload in [lines.join(&b'\n'), batch] {
            let mut decoder = Decoder::new(Limits::default(), Arc::default());
            let (rows, dead) = decode_with(&mut decoder, &payload);
            assert_eq!((rows.num_rows(), dead.len()), (499, 1));
            assert_eq!((dead[0].item, dead[0].reason), (250, Reason::NotUtf8));
            assert_eq!(dead[0].payload.as_ref(), bad);
        }
    }
}

#[test]
fn whole_numbers_count_in_any_form_and_a_clock_never_set_is_none() {
    let (rows, dead) =
        decode(r#"{"ts":1.778951132e9,"seq":1.2e1,"boot":17.0,"uptime_ms":5.0,"f":50}"#);
    assert!(dead.is_empty(), "{dead:?}");
    let whole =
        |name: &str| rows.column_by_name(name).unwrap().as_primitive::<Int64Type>().value(0);
    assert_eq!((whole("seq"), whole("boot")), (12, 17));
    for unset in ["0", "null", "5.5", r#""1970-01-01T02:00:07+0200""#] {
        let payload = format!(r#"{{"ts":{unset},"boot":17.0,"uptime_ms":86400000.0,"f":50}}"#);
        assert_eq!(reason(&payload).0, Reason::ClockUnset, "{unset}");
    }
    assert_eq!(reason(r#"{"ts":0,"f":50}"#).0, Reason::TsBefore2020);
    for good in [r#""2026-05-16T19:05:32+0200""#, r#""2026-05-16T17:05:32Z\u0000""#] {
        let (rows, dead) = decode(&format!(r#"{{"ts":{good},"device_id":"d1\u0000","f":50}}"#));
        assert!(dead.is_empty(), "{dead:?}");
        let ts = rows.column_by_name("ts").unwrap().as_primitive::<TimestampMicrosecondType>();
        assert_eq!(to_rfc3339(ts.value(0)), "2026-05-16T17:05:32.000Z");
    }
}

#[test]
fn a_word_in_place_of_a_number_is_null_and_kept() {
    for word in ["nan", "-inf", "ovf", "230.", ".5", "1.#QNAN", "-", "+5"] {
        for payload in [
            format!(r#"{{"ts":1778951132,"f":{word},"v1":230,"x":[{word}]}}"#),
            format!(r#"{{"ts":1778951132,"x":[{word}],"data":{{"f":{word},"v1":230}}}}"#),
        ] {
            let (rows, dead) = decode(&payload);
            assert!(dead.is_empty(), "{dead:?}");
            assert_eq!(number(&rows, "frequency_hz", 0), None, "{word}");
            assert_eq!(number(&rows, "voltage_l1_v", 0), Some(23_000), "{word}");
            let extra: serde_json::Value =
                serde_json::from_str(text(&rows, "extra", 0).expect("kept")).expect("JSON");
            assert_eq!(extra, serde_json::json!({ "f": word, "x": [word] }));
        }
    }
    assert_eq!(reason(r#"{"ts":1778951132,"v1":"230."}"#), (Reason::WrongType, "v1".into()));
    assert_eq!(reason(r#"{"ts":nan,"f":50}"#).0, Reason::NoTs);
}

#[test]
fn sizes_and_depths_are_bounded() {
    let many = (0..513).map(|i| format!("\"k{i}\":1")).collect::<Vec<_>>().join(",");
    assert_eq!(reason(&format!("{{\"ts\":1778951132,{many}}}")).0, Reason::TooManyFields);
    let deep = format!("{{\"ts\":1778951132,\"a\":{}{}}}", "[".repeat(33), "]".repeat(33));
    assert_eq!(reason(&deep), (Reason::TooDeep, "a".into()));
    let deeper = format!("{{\"a\":{}", "[".repeat(300_000));
    assert_eq!(reason(&deeper).0, Reason::NotJson);
    let items = vec!["{\"ts\":1778951132}"; 501];
    assert_eq!(reason(&items.join("\n")).0, Reason::TooManyItems);
    assert_eq!(decode(&items[..500].join("\n")).0.num_rows(), 500);
}

#[test]
fn aliases_convert_foreign_keys_and_never_hide_ours() {
    let column = READINGS.iter().position(|r| r.name == "voltage_ll_avg_v").unwrap();
    let aliases = HashMap::from([
        ("Vllavg".to_owned(), Alias { column, factor: 1000.0 }),
        ("f".to_owned(), Alias { column, factor: 1.0 }),
    ]);
    let mut decoder = Decoder::new(Limits::default(), Arc::new(aliases));
    let payload = br#"{"ts":1778951132,"Vllavg":0.4001,"f":50}"#;
    let (rows, _) = decode_with(&mut decoder, payload);
    assert_eq!(number(&rows, "voltage_ll_avg_v", 0), Some(40_010));
    assert_eq!(number(&rows, "frequency_hz", 0), Some(50_000));
}

#[test]
fn a_message_with_nothing_we_know_is_stored_and_counted() {
    let mut decoder =
        Decoder::new(Limits { max_age: 400 * DAY, ..Limits::default() }, Arc::default());
    let facts = RecordFacts {
        device_id: "d1",
        kind: "telemetry",
        topic: "t",
        received_at: now(),
        epoch: 0,
        position: Position { partition: 0, offset: 0 },
    };
    let payload = Bytes::from_static(br#"{"ts":1778951132,"Vll":1}"#);
    decoder.push(&Source { facts, payload: &payload, resolved_ts: None }, &mut |letter| {
        panic!("{letter:?}")
    });
    let decoded = decoder.finish().expect("schema");
    assert_eq!((decoded.rows.num_rows(), decoded.no_known_readings), (1, 1));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        decode_with(&mut Decoder::new(Limits::default(), Arc::default()), &bytes);
    }

    #[test]
    fn no_json_like_text_panics(text in r#"[{}\[\]",:0-9a-z.\\ \n-]{0,200}"#) {
        decode(&text);
    }

    /// Decode of encode is the identity, for any readings in any order.
    #[test]
    fn what_was_encoded_is_decoded(
        values in proptest::collection::hash_map(0..READINGS.len(), -999_999_999_i64..=999_999_999, 0..60),
        millis in 1_747_500_000_000_i64..1_778_900_000_000,
        long in any::<bool>(),
    ) {
        let fields: Vec<String> = values.iter().map(|(i, v)| {
            let r = &READINGS[*i];
            let key = if long { r.name } else { r.short };
            let unit = 10_i64.pow(u32::from(r.scale));
            let sign = if *v < 0 { "-" } else { "" };
            format!("\"{key}\":{sign}{}.{:0width$}", v.abs() / unit, v.abs() % unit,
                width = usize::from(r.scale))
        }).collect();
        let (rows, dead) = decode(&format!("{{\"ts\":{millis},\"data\":{{{}}}}}", fields.join(",")));
        prop_assert!(dead.is_empty(), "{dead:?}");
        for (i, r) in READINGS.iter().enumerate() {
            prop_assert_eq!(number(&rows, r.name, 0), values.get(&i).map(|v| i128::from(*v)));
        }
    }
}

fn whole(rows: &RecordBatch, name: &str, row: usize) -> Option<i64> {
    let column = rows.column_by_name(name).expect(name).as_primitive::<Int64Type>();
    column.is_valid(row).then(|| column.value(row))
}

fn ts(rows: &RecordBatch, row: usize) -> String {
    let column = rows.column_by_name("ts").expect("ts").as_primitive::<TimestampMicrosecondType>();
    to_rfc3339(column.value(row))
}

fn facts(device_id: &str) -> RecordFacts<'_> {
    RecordFacts {
        device_id,
        kind: "telemetry",
        topic: "t",
        received_at: now(),
        epoch: 3,
        position: Position { partition: u32::MAX, offset: 5_000_000_000 },
    }
}

#[test]
fn times_are_taken_up_to_the_limits_and_not_a_microsecond_beyond() {
    for (good, shown) in [
        ("2026-05-18T00:00:00Z", "2026-05-18T00:00:00.000Z"),
        ("2025-05-17T00:00:00Z", "2025-05-17T00:00:00.000Z"),
    ] {
        let (rows, dead) = decode(&format!(r#"{{"ts":"{good}","f":50}}"#));
        assert!(dead.is_empty(), "{dead:?}");
        assert_eq!(ts(&rows, 0), shown);
    }
    for (bad, want) in [
        ("2026-05-18T00:00:00.000001Z", Reason::TsInFuture),
        ("2025-05-16T23:59:59.999999Z", Reason::Expired),
        ("9999-12-31T23:59:59Z", Reason::TsInFuture),
    ] {
        assert_eq!(reason(&format!(r#"{{"ts":"{bad}","f":50}}"#)).0, want, "{bad}");
    }
    let limits = Limits { max_age: 10_000 * DAY, ..Limits::default() };
    let mut decoder = Decoder::new(limits, Arc::default());
    let (rows, _) = decode_with(&mut decoder, br#"{"ts":"2020-01-01T00:00:00Z"}"#);
    assert_eq!(rows.num_rows(), 1);
    let (_, dead) = decode_with(&mut decoder, br#"{"ts":"2019-12-31T23:59:59.999999Z"}"#);
    assert_eq!(dead[0].reason, Reason::TsBefore2020);
}

#[test]
fn a_time_that_became_known_later_counts_only_for_readings_without_one() {
    let resolved = parse_rfc3339("2026-05-16T12:00:00Z");
    let decode = |payload: &str, resolved_ts| {
        let mut decoder = Decoder::new(Limits::default(), Arc::default());
        let (payload, mut dead) = (Bytes::copy_from_slice(payload.as_bytes()), Vec::new());
        decoder.push(
            &Source { facts: facts("d1"), payload: &payload, resolved_ts },
            &mut |letter| {
                dead.push(letter.reason);
            },
        );
        (decoder.finish().expect("schema").rows, dead)
    };
    for clockless in [
        r#"{"boot":3,"uptime_ms":5,"f":50}"#,
        r#"{"ts":null,"boot":3,"uptime_ms":5,"f":50}"#,
        r#"{"ts":17,"boot":3,"uptime_ms":5,"f":50}"#,
    ] {
        let (rows, dead) = decode(clockless, resolved);
        assert!(dead.is_empty(), "{clockless}: {dead:?}");
        assert_eq!(ts(&rows, 0), "2026-05-16T12:00:00.000Z", "{clockless}");
        assert_eq!(decode(clockless, None).1, [Reason::ClockUnset], "{clockless}");
    }
    let (rows, _) = decode(r#"{"ts":1778951132,"boot":3,"uptime_ms":5}"#, resolved);
    assert_eq!(ts(&rows, 0), "2026-05-16T17:05:32.000Z");
    // What became known is judged as any other time.
    let late = parse_rfc3339("2030-01-01T00:00:00Z");
    assert_eq!(decode(r#"{"boot":3,"uptime_ms":5}"#, late).1, [Reason::TsInFuture]);
}

#[test]
fn boot_and_uptime_tell_a_clock_that_is_not_set_only_together() {
    for (payload, want) in [
        (r#"{"boot":3,"f":50}"#, Reason::NoTs),
        (r#"{"uptime_ms":5,"f":50}"#, Reason::NoTs),
        (r#"{"boot":3,"uptime_ms":null,"f":50}"#, Reason::NoTs),
        (r#"{"boot":null,"uptime_ms":5,"f":50}"#, Reason::NoTs),
        (r#"{"boot":3,"data":{"uptime_ms":5}}"#, Reason::NoTs),
        (r#"{"boot":3,"uptime_ms":0}"#, Reason::ClockUnset),
        (r#"{"ts":5,"boot":3}"#, Reason::TsBefore2020),
        (r#"{"ts":"1971-01-01T00:00:00Z","boot":3,"uptime_ms":5}"#, Reason::TsBefore2020),
    ] {
        assert_eq!(reason(payload).0, want, "{payload}");
    }
}

#[test]
fn broken_json_is_the_reason_even_behind_a_wrong_field() {
    for payload in [
        r#"{"ts":1778951132,"v1":"x","f":}"#,
        r#"{"ts":1778951132,"f":50} trailing"#,
        r#"{"ts":1778951132,"f":50"#,
        r#"{"ts":1778951132,"f":50,}"#,
        r#"{"ts":1778951132 "f":50}"#,
        r#"{"ts":1778951132,f:50}"#,
        r#"{"ts":1778951132,"data":{"f":}}"#,
    ] {
        let (why, detail) = reason(payload);
        assert_eq!(why, Reason::NotJson, "{payload}");
        assert!(detail.starts_with("byte "), "{payload}: {detail}");
    }
    // The place is one in what the device sent, also where words were quoted before.
    let (why, detail) = reason(r#"{"ts":1778951132,"f":nan,"v1":@}"#);
    assert_eq!((why, detail.as_str()), (Reason::NotJson, "byte 30: 40 7d (@})"));
}

#[test]
fn source_and_connection_are_known_words_and_others_are_kept() {
    for (given, source, kept) in [
        (r#""live""#, "live", None),
        (r#""sd""#, "sd", None),
        (r#""import""#, "import", None),
        ("null", "live", None),
        (r#""SD""#, "live", Some(r#"{"source":"SD"}"#)),
        (r#""usb""#, "live", Some(r#"{"source":"usb"}"#)),
        ("nan", "live", Some(r#"{"source":"nan"}"#)),
    ] {
        let (rows, dead) = decode(&format!(r#"{{"ts":1778951132,"source":{given}}}"#));
        assert!(dead.is_empty(), "{dead:?}");
        assert_eq!(
            (text(&rows, "source", 0), text(&rows, "extra", 0)),
            (Some(source), kept),
            "{given}"
        );
    }
    let (rows, _) = decode(r#"{"ts":1778951132,"connection":"gsm"}"#);
    assert_eq!(text(&rows, "connection", 0), Some("gsm"));
    let (rows, _) = decode(r#"{"ts":1778951132,"connection":"lan"}"#);
    assert_eq!(
        (text(&rows, "connection", 0), text(&rows, "extra", 0)),
        (None, Some(r#"{"connection":"lan"}"#))
    );
    for field in ["source", "connection", "device_id"] {
        let payload = format!(r#"{{"ts":1778951132,"{field}":5}}"#);
        assert_eq!(reason(&payload), (Reason::WrongType, field.to_owned()));
    }
}

/// A row is written over the one before: nothing of that may show.
#[test]
fn nothing_of_a_reading_shows_in_the_next() {
    let full = r#"{"ts":1778951132,"f":50,"lt":"inductive","source":"sd","connection":"wifi","seq":1,"boot":2,"x":1}"#;
    let (rows, dead) = decode(&format!(
        "{full}\n{{\"ts\":1778951133}}\n{{\"boot\":1,\"uptime_ms\":1}}\n{{\"f\":50}}"
    ));
    assert_eq!(
        dead.iter().map(|d| d.reason).collect::<Vec<_>>(),
        [Reason::ClockUnset, Reason::NoTs]
    );
    assert_eq!((text(&rows, "source", 1), number(&rows, "frequency_hz", 1)), (Some("live"), None));
    for name in ["load_type", "connection", "extra"] {
        assert!(text(&rows, name, 0).is_some() && text(&rows, name, 1).is_none(), "{name}");
    }
    for name in ["seq", "boot"] {
        assert!(whole(&rows, name, 0).is_some() && whole(&rows, name, 1).is_none(), "{name}");
    }
}

#[test]
fn a_row_has_the_identity_of_its_record_and_the_day_of_its_reading() {
    let mut decoder = Decoder::new(Limits::default(), Arc::default());
    let payload = Bytes::from_static(
        b"{\"batch\":[{\"ts\":\"2026-05-15T23:59:59.999Z\"},{\"ts\":\"2026-05-16T00:00:00Z\"}]}",
    );
    let source = Source { facts: facts("d1"), payload: &payload, resolved_ts: None };
    let items = decoder.push(&source, &mut |letter| panic!("{letter:?}"));
    let rows = decoder.finish().expect("schema").rows;
    assert_eq!((items, rows.num_rows()), (2, 2));
    let number = |name: &str, row| {
        rows.column_by_name(name).expect(name).as_primitive::<Int32Type>().value(row)
    };
    for row in [0, 1] {
        let item = i32::try_from(row).expect("small");
        let want = [3, i32::MAX, item];
        assert_eq!(["epoch", "partition", "item"].map(|name| number(name, row)), want);
        assert_eq!(whole(&rows, "offset", row), Some(5_000_000_000));
    }
    let days = rows.column_by_name("date").expect("date");
    let days = days.as_primitive::<arrow::datatypes::Date32Type>().values().to_vec();
    assert_eq!(days, [20_588, 20_589]);
}

#[test]
fn a_value_beyond_its_column_is_kept_and_one_with_more_digits_rounded() {
    let (rows, dead) = decode(
        r#"{"ts":1778951132,"f":1000000,"v1":9999999.994,"v2":9999999.995,"v3":230.005,"ei":-99999999.9}"#,
    );
    assert!(dead.is_empty(), "{dead:?}");
    assert_eq!(number(&rows, "voltage_l1_v", 0), Some(999_999_999));
    assert_eq!(number(&rows, "voltage_l2_v", 0), None);
    assert_eq!(number(&rows, "voltage_l3_v", 0), Some(23_000), "half to even");
    assert_eq!(number(&rows, "energy_import_kwh", 0), Some(-9_999_999_990));
    assert_eq!(text(&rows, "extra", 0), Some(r#"{"f":1000000,"v2":9999999.995}"#));
}

#[test]
fn fields_and_depth_are_taken_up_to_their_limits() {
    let fields = |n: usize| (0..n).map(|i| format!("\"k{i}\":1")).collect::<Vec<_>>().join(",");
    let (rows, dead) =
        decode(&format!("{{\"ts\":1778951132,\"seq\":1,\"data\":{{{}}}}}", fields(512)));
    assert_eq!((rows.num_rows(), dead.len()), (1, 0), "what is not a reading does not count");
    let split = format!("{{\"ts\":1778951132,\"x\":1,\"data\":{{{}}}}}", fields(512));
    assert_eq!(reason(&split).0, Reason::TooManyFields);
    let deep = format!("{{\"ts\":1778951132,\"a\":{}{}}}", "[".repeat(32), "]".repeat(32));
    assert_eq!(decode(&deep).0.num_rows(), 1);
    // Brackets within texts are no depth.
    let flat = format!("{{\"ts\":1778951132,\"a\":\"\\\"{}\"}}", "[{".repeat(100));
    assert_eq!(decode(&flat).0.num_rows(), 1);
    let (why, detail) = reason(&["{\"ts\":1778951132}"; 501].join("\n"));
    assert_eq!((why, detail.as_str()), (Reason::TooManyItems, "501 readings or more, at most 500"));
}

/// An empty list has no reading that could be lost.
#[test]
fn a_batch_without_readings_is_nothing() {
    let mut decoder = Decoder::new(Limits::default(), Arc::default());
    let payload = Bytes::from_static(b"{\"batch\":[]}");
    let source = Source { facts: facts("d1"), payload: &payload, resolved_ts: None };
    assert_eq!(decoder.push(&source, &mut |letter| panic!("{letter:?}")), 0);
    assert_eq!(decoder.finish().expect("schema").rows.num_rows(), 0);
}

#[test]
fn an_alias_takes_numbers_as_a_reading_of_ours_does() {
    let column = READINGS.iter().position(|r| r.name == "active_power_total_kw").expect("a column");
    let aliases = HashMap::from([("watts".to_owned(), Alias { column, factor: 0.001 })]);
    let mut decoder = Decoder::new(Limits::default(), Arc::new(aliases));
    for (value, want, kept) in [
        ("1500", Some(15_000), None),
        ("-0.04", Some(0), None),
        ("null", None, None),
        ("nan", None, Some(r#"{"watts":"nan"}"#)),
        (r#""NaN""#, None, Some(r#"{"watts":"NaN"}"#)),
        ("1e300", None, Some(r#"{"watts":1e300}"#)),
    ] {
        let payload = format!(r#"{{"ts":1778951132,"data":{{"watts":{value}}}}}"#);
        let (rows, dead) = decode_with(&mut decoder, payload.as_bytes());
        assert!(dead.is_empty(), "{dead:?}");
        assert_eq!(number(&rows, "active_power_total_kw", 0), want, "{value}");
        assert_eq!(text(&rows, "extra", 0), kept, "{value}");
    }
    let (_, dead) = decode_with(&mut decoder, br#"{"ts":1778951132,"watts":"much"}"#);
    assert_eq!((dead[0].reason, dead[0].detail.as_deref()), (Reason::WrongType, Some("watts")));
}

#[test]
fn of_readings_without_a_known_key_the_first_of_each_device_is_reported() {
    let mut decoder = Decoder::new(Limits::default(), Arc::default());
    let mut push = |device_id: &str, payload: &str| {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        let source = Source { facts: facts(device_id), payload: &payload, resolved_ts: None };
        decoder.push(&source, &mut |letter| panic!("{letter:?}"));
    };
    push("d0", r#"{"ts":1778951132,"f":50}"#);
    let long = "k".repeat(100);
    push("d1", &format!(r#"{{"ts":1778951132,"{long}":1,"b":1,"c":1,"d":1,"e":1,"g":1}}"#));
    push("d1", r#"{"ts":1778951133,"other":1}"#);
    // A reading of tomorrow is a wrong clock: the report has the time of its arrival.
    push("d2", r#"{"ts":"2026-05-17T12:00:00Z","x":1}"#);
    // A known key with nothing to say is known all the same.
    push("d3", r#"{"ts":1778951132,"f":null}"#);
    push("d4", r#"{"ts":1778951132,"lt":null}"#);
    for device in 0..300 {
        push(&format!("m{device}"), r#"{"ts":1778951132}"#);
    }
    let decoded = decoder.finish().expect("schema");
    assert_eq!((decoded.no_known_readings, decoded.unknown.len()), (303, MOST_UNKNOWN));
    let [first, second, ..] = &decoded.unknown[..] else { panic!("two devices") };
    assert_eq!((first.device_id.as_str(), first.row, first.keys.len()), ("d1", 1, 5));
    assert!(first.keys.iter().all(|key| key.len() <= 64));
    assert_eq!((second.device_id.as_str(), second.ts, second.row), ("d2", now(), 3));
    let again = decoder.finish().expect("schema");
    assert_eq!((again.rows.num_rows(), again.no_known_readings, again.unknown.len()), (0, 0, 0));
}

#[test]
fn a_dead_letter_keeps_its_item_and_counts_bytes_in_it() {
    let (_, dead) = decode("{\"batch\":[{\"ts\":1778951132}, {\"ts\":1778951132,\"f\":@},7]}");
    let letters: Vec<_> =
        dead.iter().map(|d| (d.item, d.payload.as_ref(), d.detail.as_deref())).collect();
    assert_eq!(
        letters,
        [
            (1, &b"{\"ts\":1778951132,\"f\":@}"[..], Some("byte 21: 40 7d (@})")),
            (2, &b"7"[..], Some("byte 0: 37 (7)")),
        ]
    );
    // A message of one reading is kept whole, padding included.
    let (_, dead) = decode(" \0{\"ts\":1778951132,\"f\":@}\0");
    assert_eq!(dead[0].payload.as_ref(), b" \0{\"ts\":1778951132,\"f\":@}\0");
    assert_eq!(dead[0].detail.as_deref(), Some("byte 23: 40 7d 00 (@}\\x00)"));
}

#[test]
fn a_checker_judges_as_the_decoder_does() {
    let mut checker = Checker::new(Limits::default(), Arc::default());
    let mut check = |reading: &str| checker.check(reading, "d1", now());
    assert_eq!(check(r#"{"ts":1778951132,"f":50}"#), Ok(()));
    assert_eq!(check(r#"{"ts":1778951132,"f":nan}"#), Ok(()));
    for (reading, want, detail) in [
        (r#"{"f":50}"#, Reason::NoTs, None),
        (r#"{"ts":1778951132,"v1":"230"}"#, Reason::WrongType, Some("v1")),
        (r#"{"ts":1778951132,"device_id":"d2"}"#, Reason::IdMismatch, Some("d2")),
        (r#"{"ts":"2026-05-18T00:00:01Z"}"#, Reason::TsInFuture, Some("2026-05-18T00:00:01.000Z")),
        ("{", Reason::NotJson, Some("byte 1: it ends there")),
        ("7", Reason::NotJson, Some("byte 0: 37 (7)")),
    ] {
        assert_eq!(check(reading), Err((want, detail.map(str::to_owned))), "{reading}");
    }
    assert_eq!(check(r#"{"ts":1778951132,"f":50}"#), Ok(()), "a fault leaves nothing behind");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The ledger must balance: whatever came is a row or a dead letter, and counted once.
    #[test]
    fn every_item_is_a_row_or_a_dead_letter(
        items in proptest::collection::vec(
            prop_oneof![
                Just(r#"{"ts":1778951132,"f":50}"#.to_owned()),
                Just(r#"{"ts":"?"}"#.to_owned()),
                Just(r#"{"f":nan}"#.to_owned()),
                "[{}\\[\\]\":,a-c0-2 ]{0,12}",
            ],
            0..6,
        ),
        form in 0_u8..3,
    ) {
        let payload = match form {
            0 => items.join("\n"),
            1 => format!("{{\"batch\":[{}]}}", items.join(",")),
            _ => format!("{{\"batch\":[{}", items.join(",")),
        };
        let mut decoder = Decoder::new(Limits::default(), Arc::default());
        let payload = Bytes::from(payload);
        let source = Source { facts: facts("d1"), payload: &payload, resolved_ts: None };
        let mut letters = Vec::new();
        let count = decoder.push(&source, &mut |letter| letters.push(letter));
        let rows = decoder.finish().expect("schema").rows.num_rows();
        prop_assert_eq!(count, rows + letters.len(), "{:?}", letters);
        for letter in letters {
            prop_assert_eq!(letter.length, letter.payload.len() as u64);
        }
    }
}
