use acuvim_wire::time::DAY;
use arrow::datatypes::TimestampMicrosecondType;
use proptest::prelude::*;

use super::*;
use crate::testing::{T0, dead_letters, reading, table, telemetry};

#[test]
fn rows_are_sorted_by_day_device_and_time() {
    let rows = telemetry(
        0,
        0,
        &[
            reading("b", T0),
            reading("a", T0 + DAY),
            reading("a", T0 + 5),
            reading("b", T0 - 1),
            reading("a", T0),
        ],
    );
    let order = sorted_order(Table::Telemetry, &[rows]).expect("order");
    let rows: Vec<usize> = order.into_iter().map(|(_, row)| row).collect();
    assert_eq!(rows, [4, 2, 3, 0, 1]);
}

#[test]
fn rows_without_a_device_come_first_and_equal_ones_stay_in_the_order_of_arrival() {
    let first = dead_letters(0, 0, &[("b", T0, "x"), ("", T0 + 9, "y"), ("b", T0, "z")]);
    let second = dead_letters(1, 0, &[("b", T0, "x"), ("a", T0 + 1, "y")]);
    let order = sorted_order(Table::DeadLetters, &[first, second]).expect("order");
    assert_eq!(order, [(0, 1), (1, 1), (0, 0), (0, 2), (1, 0)]);
}

#[tokio::test]
async fn each_day_has_files_of_its_own_with_bounds() {
    let dir = tempfile::tempdir().expect("dir");
    let table = table(dir.path(), Table::Telemetry).await;
    let rows = [reading("b", T0), reading("a", T0 + DAY), reading("c", T0 + 1)];
    let adds = write_sorted(&table, &[telemetry(0, 7, &rows)]).await.expect("write");
    let mut days: Vec<_> =
        adds.iter().map(|add| add.partition_values.get(DATE).cloned().flatten()).collect();
    days.sort();
    let wanted = ["2026-05-16", "2026-05-17"].map(|day| Some(day.to_owned()));
    assert_eq!(days, wanted);
    table.append(adds, &Default::default()).await.expect("commit");
    let snapshot = table.current();
    let mut devices: Vec<_> = snapshot.data_files().map(|file| file.devices).collect();
    devices.sort();
    assert_eq!(devices, [Some(("a", "a")), Some(("b", "c"))]);
    let mut offsets: Vec<_> = snapshot.files.iter().filter_map(|f| f.bounds.offset).collect();
    offsets.sort();
    assert_eq!(offsets.iter().map(|o| (o.min, o.max)).collect::<Vec<_>>(), [(7, 9), (8, 8)]);
}

#[tokio::test]
async fn without_rows_there_are_no_files() {
    let dir = tempfile::tempdir().expect("dir");
    let table = table(dir.path(), Table::Telemetry).await;
    assert!(write_sorted(&table, &[]).await.expect("write").is_empty());
    let none = RecordBatch::new_empty(Table::Telemetry.schema());
    assert!(write_sorted(&table, &[none]).await.expect("write").is_empty());
}

#[test]
fn a_batch_that_lacks_a_column_is_refused_by_its_name() {
    let rows = telemetry(0, 0, &[reading("a", T0)]);
    let without_date = rows.project(&[0, 1]).expect("columns");
    let error = sorted_order(Table::Telemetry, &[without_date]).expect_err("no date");
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.to_string().contains("`date`"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn sorting_keeps_every_row_once(
        batches in prop::collection::vec(
            prop::collection::vec((0..3_usize, -3..3_i64), 0..8), 0..4),
    ) {
        let names = ["a", "b", "c"];
        let batches: Vec<RecordBatch> = batches.iter().map(|rows| {
            let rows: Vec<_> =
                rows.iter().map(|(d, n)| reading(names[*d], T0 + n * DAY / 2)).collect();
            telemetry(0, 0, &rows)
        }).collect();
        let order = sorted_order(Table::Telemetry, &batches).expect("order");
        let key = |(batch, row): &(usize, usize)| {
            let rows: &RecordBatch = &batches[*batch];
            let device = rows.column(0).as_string::<i32>().value(*row);
            let ts = rows.column(1).as_primitive::<TimestampMicrosecondType>().value(*row);
            (ts.div_euclid(DAY), device, ts, *batch, *row)
        };
        prop_assert!(order.windows(2).all(|pair| key(&pair[0]) < key(&pair[1])));
        prop_assert_eq!(order.len(), batches.iter().map(RecordBatch::num_rows).sum::<usize>());
    }
}
