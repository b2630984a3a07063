use acuvim_tables::Table;
use arrow::array::{ArrayRef, StringArray};

use super::*;
use crate::{
    counter::{Doubt, Reading},
    rollup::{bucket::Bucket, rows::BucketRows},
};

/// A stored quarter whose first counter has a value, and whose state is some text.
fn quarter(state: Option<&str>) -> RecordBatch {
    let mut bucket =
        Bucket { samples: 1, last_ts: Some(9), serial: Some("m1".into()), ..Bucket::default() };
    let (at, _) = counters().next().expect("a counter");
    (bucket.cells[at].last, bucket.cells[at].seen) = (Some(Reading { ts: 9, value: 1.5 }), 9);
    let key = (Arc::<str>::from("a"), 0);
    let rows = BucketRows {
        table: Table::Rollup15m,
        keys: vec![&key],
        buckets: vec![&bucket],
        zones: None,
    };
    let rows = rows.batch().expect("rows").expect("a row");
    let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
    let at = rows.schema().index_of(rollup::COUNTER_STATE).expect("a column");
    columns[at] = Arc::new(StringArray::from(vec![state]));
    RecordBatch::try_new(rows.schema(), columns).expect("rows")
}

fn carry(state: Option<&str>) -> Carry {
    let [carry] = <[Carry; 1]>::try_from(carries(&quarter(state)).expect("carries")).expect("one");
    carry
}

#[test]
fn without_a_state_the_last_values_were_shown_at_the_last_reading() {
    let carry = carry(None);
    assert_eq!((carry.last_ts, carry.serial.as_deref(), carry.suspects), (Some(9), Some("m1"), 0));
    assert_eq!(carry.tracks[0], Track::behind(Reading { ts: 9, value: 1.5 }, 9, None));
    assert!(carry.tracks[1..].iter().all(|track| *track == Track::default()));
}

#[test]
fn a_stored_state_says_when_values_were_shown_and_what_is_in_doubt() {
    let state =
        r#"{"suspects":2,"counters":{"energy_import_kwh":{"stood":3,"seen":5,"doubt":[8,0.0,4]}}}"#;
    let carry = carry(Some(state));
    let doubt = Doubt { reading: Reading { ts: 8, value: 0.0 }, times: 4 };
    assert_eq!(carry.tracks[0], Track::behind(Reading { ts: 3, value: 1.5 }, 5, Some(doubt)));
    assert_eq!(carry.suspects, 2);
}

#[test]
fn a_state_that_can_not_be_read_is_none() {
    let plain = carry(None);
    for text in ["", "{", "null", "[]", r#"{"counters":{"energy_import_kwh":{}}}"#] {
        assert_eq!(carry(Some(text)), plain, "{text}");
    }
    let later = r#"{"suspects":0,"counters":{},"added":true}"#;
    assert_eq!(carry(Some(later)), plain, "what a later version adds is ignored");
}

#[test]
fn quarters_of_a_device_are_kept_by_their_beginning() {
    let mut stored = StoredQuarters::new();
    add_carries(&quarter(None), &mut stored).expect("add");
    let again = r#"{"suspects":7}"#;
    add_carries(&quarter(Some(again)), &mut stored).expect("add");
    let theirs = &stored[&Arc::<str>::from("a")];
    assert_eq!(theirs.keys().copied().collect::<Vec<_>>(), [0]);
    assert_eq!(theirs[&0].suspects, 7, "the one that was read last");
}
