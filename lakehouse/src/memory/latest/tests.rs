use super::*;
use arrow::{
    array::{StringArray, TimestampMicrosecondArray, new_null_array},
    datatypes::TimestampMicrosecondType,
};

fn batch(rows: &[(&str, Micros)]) -> RecordBatch {
    let rows: Vec<_> = rows.iter().map(|(device, ts)| (*device, *ts, *ts)).collect();
    arrived(&rows)
}

/// Readings as (device, ts, received_at).
fn arrived(rows: &[(&str, Micros, Micros)]) -> RecordBatch {
    let schema = Table::Telemetry.schema();
    let times = |get: fn(&(&str, Micros, Micros)) -> Micros| {
        let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(get));
        Arc::new(times.with_timezone("UTC")) as _
    };
    let columns = schema.fields().iter().map(|field| match field.name().as_str() {
        "device_id" => Arc::new(rows.iter().map(|r| Some(r.0)).collect::<StringArray>()) as _,
        "ts" => times(|row| row.1),
        "received_at" => times(|row| row.2),
        _ if field.is_nullable() => new_null_array(field.data_type(), rows.len()),
        _ => {
            let zeros = arrow::array::Int32Array::from(vec![0; rows.len()]);
            arrow::compute::cast(&zeros, field.data_type()).expect("a number")
        }
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).expect("rows")
}

fn times(latest: &Latest, devices: &[&str]) -> Vec<Micros> {
    let rows = latest.rows(devices.iter().copied()).expect("rows");
    let times = rows.column_by_name("ts").expect("ts");
    times.as_primitive::<TimestampMicrosecondType>().values().to_vec()
}

#[test]
fn what_is_ahead_of_its_arrival_is_not_the_latest() {
    let latest = Latest::new(4, 10);
    latest.note(&arrived(&[("a", 100, 100), ("a", 220, 101), ("b", 111, 101)])).expect("note");
    assert_eq!(times(&latest, &["a", "b"]), [100, 111], "10 is within the tolerance");
    assert_eq!((latest.ts("a"), latest.ts("none")), (Some(100), None));
    let changed = latest.note(&arrived(&[("a", 110, 110), ("c", 999, 1)])).expect("note");
    assert_eq!(changed, ["a".into()]);
    assert!(!latest.has("c"));
}

#[test]
fn late_rows_change_nothing_and_the_highest_of_many_stays() {
    let latest = Latest::new(4, 0);
    latest.note(&batch(&[("a", 5), ("b", 1), ("a", 9), ("a", 7)])).expect("note");
    let changed = latest.note(&batch(&[("a", 8), ("b", 2)])).expect("note");
    assert_eq!(changed, ["b".into()]);
    assert_eq!(times(&latest, &["b", "a", "none"]), [2, 9]);
    for n in 0..2_000 {
        latest.note(&batch(&[("a", 100 + n), ("c", n)])).expect("note");
    }
    assert_eq!(times(&latest, &["a", "b", "c"]), [2_099, 2, 1_999]);
    let held: usize = latest.partitions.iter().map(|p| p.read().expect("lock").rows).sum();
    assert!(held <= 4 * (SLACK + 8), "{held} rows for three devices");
}

#[test]
fn a_reading_of_the_same_time_does_not_replace_the_first() {
    let latest = Latest::new(1, 0);
    latest.note(&arrived(&[("a", 5, 5), ("a", 5, 7)])).expect("note");
    let changed = latest.note(&arrived(&[("a", 5, 9)])).expect("note");
    assert!(changed.is_empty());
    let rows = latest.rows(["a"]).expect("rows");
    let received = rows.column_by_name("received_at").expect("received_at");
    assert_eq!(received.as_primitive::<TimestampMicrosecondType>().values(), &[5]);
}

#[test]
fn the_tolerance_is_inclusive_and_does_not_overflow() {
    let latest = Latest::new(1, 10);
    latest.note(&arrived(&[("a", 111, 100), ("b", 110, 100)])).expect("note");
    assert!(!latest.has("a") && latest.has("b"));
    let always = Latest::new(1, Micros::MAX);
    always.note(&arrived(&[("a", Micros::MAX, 100)])).expect("note");
    assert!(always.has("a"));
}

#[test]
fn rows_come_in_the_order_in_which_they_are_asked_for_even_twice() {
    let latest = Latest::new(4, 0);
    latest.note(&batch(&[("a", 1), ("b", 2), ("c", 3)])).expect("note");
    assert_eq!(times(&latest, &["c", "a", "x", "c"]), [3, 1, 3]);
    assert_eq!(times(&latest, &[]), [0_i64; 0]);
    let mut devices = latest.devices();
    devices.sort();
    assert_eq!(devices, ["a".into(), "b".into(), "c".into()]);
}

#[test]
fn forgetting_a_partition_forgets_its_devices_alone() {
    let latest = Latest::new(4, 0);
    let names: Vec<String> = (0..20).map(|n| format!("d{n}")).collect();
    let rows: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    latest.note(&batch(&rows)).expect("note");
    latest.forget(1);
    for name in &names {
        assert_eq!(latest.has(name), partition_of(name.as_bytes(), 4) != 1, "{name}");
    }
    latest.note(&batch(&[(&names[0], 0)])).expect("an older one, of a device that may be unknown");
}

#[test]
fn rows_survive_the_compaction_of_their_batches() {
    let latest = Latest::new(1, 0);
    let names: Vec<String> = (0..50).map(|n| format!("d{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        let ts = Micros::try_from(n).expect("small");
        latest.note(&batch(&[(name, ts)])).expect("note");
    }
    // More batches than are held, all of one device.
    for n in 0..300 {
        latest.note(&batch(&[("d0", 1000 + n)])).expect("note");
    }
    let batches = latest.partitions[0].read().expect("lock").batches.len();
    assert!(batches <= MAX_BATCHES, "{batches}");
    let wanted: Vec<Micros> = std::iter::once(1299).chain(1..50).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(times(&latest, &names), wanted);
}
