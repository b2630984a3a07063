use acuvim_wire::time::HOUR;
use arrow::datatypes::TimestampMicrosecondType;

use super::*;
use crate::{
    Lake,
    memory::Rows,
    testing::{Reading, T0, lake, next_of, push, push_rows, reading, store, telemetry},
};

fn day(device: &str, ts: Micros) -> DeviceDay {
    (device.into(), day_of(ts))
}

fn times_in(rows: &RecordBatch) -> Vec<Micros> {
    let times = rows.column_by_name("ts").expect("ts");
    times.as_primitive::<TimestampMicrosecondType>().values().iter().map(|ts| ts - T0).collect()
}

#[tokio::test]
async fn stored_times_are_those_of_the_whole_utc_day_in_tables_and_tail() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let midnight = T0 - 12 * HOUR;
    let edges = [midnight - 1, midnight, midnight + DAY - 1, midnight + DAY];
    store(&lake, &edges.map(|ts| reading("a", ts))).await;
    store(&lake, &[reading("b", T0)]).await;
    push(&lake, &[reading("a", T0 + 7)]);
    let wanted = HashSet::from([day("a", T0), day("none", T0)]);
    let mut found = lake.stored_times(Table::Telemetry, &wanted).await.expect("times");
    found.values_mut().for_each(|times| times.sort_unstable());
    assert_eq!(found[&day("a", T0)], [midnight, T0 + 7, midnight + DAY - 1]);
    assert_eq!(found[&day("none", T0)], [0_i64; 0], "asked for, and there are none");
    assert_eq!(found.len(), 2, "nothing that was not asked for");
}

#[tokio::test]
async fn readings_of_records_come_in_log_order_and_only_once_committed() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let push_at = |partition: u32, readings: &[Reading<'_>]| {
        let telemetry = telemetry(partition, next_of(&lake, partition), readings);
        push_rows(&lake, partition, Rows { telemetry, ..Rows::none() });
    };
    push_at(0, &[reading("b", T0 + 3), reading("a", T0 + 2), reading("a", T0 + 1)]);
    push_at(1, &[reading("a", T0 + 9)]);
    lake.flush(true).await.expect("flush");
    push_at(0, &[reading("a", T0 + 4)]);
    let of = async |from, to| times_in(&lake.stored_readings(0, from, to).await.expect("rows"));
    assert_eq!(of(0, 9).await, [3, 2, 1]);
    assert_eq!(of(1, 2).await, [2], "the end is not in it");
    assert_eq!(of(2, 2).await, [0_i64; 0]);
    let counts = lake.rows_by_offset(Table::Telemetry, 0, 1, 9).await.expect("counts");
    assert_eq!(counts, HashMap::from([(1, 1), (2, 1)]));
}

#[tokio::test]
async fn a_devices_readings_come_by_time_from_a_beginning_to_an_end() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    store(&lake, &[5, 3, 9].map(|n| reading("a", T0 + n))).await;
    push(&lake, &[reading("a", T0 + 4), reading("b", T0 + 4)]);
    let (rows, more) = lake.device_readings("a", T0 + 3, T0 + 9).await.expect("rows");
    assert_eq!((times_in(&rows), more), (vec![3, 4, 5], false));
    let (none, _) = lake.device_readings("c", T0, T0 + 9).await.expect("rows");
    assert_eq!((none.num_rows(), none.schema()), (0, Table::Telemetry.schema()));
}

/// A reading of `a` with a time, and how far it is ahead of its arrival.
fn ahead(ts: Micros, by: Micros) -> Reading<'static> {
    Reading { received_at: ts - by, ..reading("a", ts) }
}

async fn with_wrong_clock(dir: &std::path::Path) -> Lake {
    let lake = lake(dir).await;
    let max_ahead = acuvim_wire::telemetry::MAX_AHEAD;
    let readings = [ahead(T0, 0), ahead(T0 + 1, max_ahead), ahead(T0 + HOUR, max_ahead + 1)];
    store(&lake, &readings).await;
    lake
}

#[tokio::test]
async fn readings_of_a_wrong_clock_are_no_evidence_of_when_a_device_was_heard() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = with_wrong_clock(dir.path()).await;
    let partition = lake.newest().partition("a");
    let newest = lake.newest_before(partition, i64::MAX).await.expect("times");
    assert_eq!(newest, HashMap::from([("a".into(), T0 + 1)]));
    let newest = lake.newest_before(partition, 1).await.expect("times");
    assert_eq!(newest, HashMap::from([("a".into(), T0)]));
    assert!(lake.newest_before(partition, 0).await.expect("times").is_empty());
    let other = (partition + 1) % 4;
    assert!(lake.newest_before(other, i64::MAX).await.expect("times").is_empty());
    let times = lake.device_times("a", T0, T0 + DAY, 9).await.expect("times");
    assert_eq!(times, [T0, T0 + 1]);
    let wanted = [(Arc::from("a"), T0 + DAY)];
    let times = lake.times_up_to(&wanted, 2 * DAY).await.expect("times");
    assert_eq!(times[&Arc::<str>::from("a")], [T0, T0 + 1]);
}

#[tokio::test]
async fn the_last_times_are_returned_in_order() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    store(&lake, &[1, 4, 2].map(|n| reading("a", T0 + n))).await;
    push(&lake, &[reading("a", T0 + 3), reading("a", T0 + 9)]);
    let last = async |n| lake.device_times("a", T0, T0 + 9, n).await.expect("times");
    assert_eq!(last(2).await, [T0 + 3, T0 + 4]);
    assert_eq!(last(9).await, [1, 2, 3, 4].map(|n| T0 + n));
    assert!(last(0).await.is_empty());
}

#[tokio::test]
async fn times_up_to_include_both_ends_and_each_device_has_its_own() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let readings: Vec<_> =
        (0..10).flat_map(|n| [reading("a", T0 + n), reading("b", T0 + n)]).collect();
    store(&lake, &readings).await;
    let wanted = [("a", 5), ("b", 2), ("c", 5)].map(|(id, n)| (Arc::from(id), T0 + n));
    let found = lake.times_up_to(&wanted, 3).await.expect("times");
    let of = |id: &str| -> Vec<Micros> {
        found.get(id).into_iter().flatten().map(|ts| ts - T0).collect()
    };
    assert_eq!(of("a"), [2, 3, 4, 5]);
    assert_eq!(of("b"), [0, 1, 2]);
    assert!(!found.contains_key("c"));
    assert!(lake.times_up_to(&[], 3).await.expect("times").is_empty());
}

#[tokio::test]
async fn readings_at_times_are_found_exactly_even_many() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let many = i64::try_from(MAX_TIMES).expect("small") + 2;
    let readings: Vec<_> = (0..many).map(|n| reading("a", T0 + 2 * n)).collect();
    store(&lake, &readings).await;
    push(&lake, &[reading("b", T0 + 1)]);
    // Every second time is one of no reading.
    let mut wanted: BTreeMap<Arc<str>, BTreeSet<Micros>> = BTreeMap::new();
    wanted.insert("a".into(), (0..2 * many).map(|n| T0 + n).collect());
    wanted.insert("b".into(), [T0, T0 + 1].into());
    wanted.insert("c".into(), BTreeSet::new());
    let found = lake.readings_at(&wanted).await.expect("rows");
    let rows: usize = found.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rows, readings.len() + 1);
    assert!(lake.readings_at(&BTreeMap::new()).await.expect("rows").is_empty());
}

#[tokio::test]
async fn the_rows_of_a_day_are_counted_from_what_is_committed() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    store(&lake, &[reading("a", T0), reading("b", T0), reading("a", T0 + DAY)]).await;
    push(&lake, &[reading("a", T0 + 1)]);
    let rows = |ts| lake.rows_of_day(Table::Telemetry, ts).expect("rows");
    assert_eq!((rows(T0), rows(T0 + DAY), rows(T0 + 2 * DAY)), (2, 1, 0));
}

#[tokio::test]
async fn the_ledger_is_read_from_an_offset_on_without_the_rows_of_devices() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let counts = acuvim_tables::ledger::Counts { records: 1, received: 1, ..Default::default() };
    for minute in 0..3 {
        let mut rows = Rows::none();
        let (offset, at) = (next_of(&lake, 0), T0 + minute * 60_000_000);
        rows.ledger.count(None, at, offset, &counts);
        rows.ledger.count(Some(&"a".into()), at, offset, &counts);
        push_rows(&lake, 0, rows);
        lake.flush(true).await.expect("flush");
    }
    let rows = lake.ledger_from(0, 1).await.expect("rows");
    let offsets: Vec<i64> = rows.iter().map(|row| row.first.offset).collect();
    assert_eq!(offsets, [1, 2]);
    assert!(rows.iter().all(|row| row.counts == counts));
    assert!(lake.ledger_from(1, 0).await.expect("rows").is_empty());
}
