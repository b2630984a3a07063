use arrow::array::{Int64Array, StringArray, TimestampMicrosecondArray};
use std::sync::Arc;

use super::*;

fn rows(devices: &[&str], times: &[Micros]) -> RecordBatch {
    let devices: ArrayRef = Arc::new(StringArray::from(devices.to_vec()));
    let times = TimestampMicrosecondArray::from(times.to_vec()).with_timezone("UTC");
    RecordBatch::try_from_iter([("device_id", devices), ("ts", Arc::new(times) as _)])
        .expect("rows")
}

#[test]
fn pairs_of_several_batches_come_in_their_order() {
    let batches = [rows(&["b", "a"], &[2, 1]), rows(&[], &[]), rows(&["a"], &[3])];
    let pairs = device_times(&batches).expect("pairs");
    assert_eq!(pairs, [("b", 2), ("a", 1), ("a", 3)]);
    assert!(device_times(&[]).expect("pairs").is_empty());
}

#[test]
fn a_missing_column_is_named() {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let rows = RecordBatch::try_from_iter([("n", column)]).expect("rows");
    for error in [
        times(&rows, "ts").map(drop).expect_err("no such column"),
        device_times(&[rows]).map(drop).expect_err("no such column"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.to_string().starts_with("a batch has no column `"), "{error}");
    }
}
