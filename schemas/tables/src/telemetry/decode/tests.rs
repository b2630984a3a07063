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
