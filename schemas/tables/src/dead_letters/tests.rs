use super::*;
use acuvim_wire::{Position, Reason};
use arrow::{
    array::{Array as _, AsArray as _},
    datatypes::{Date32Type, Int32Type, Int64Type, TimestampMicrosecondType},
};
use bytes::Bytes;

fn facts(device_id: &str) -> RecordFacts<'_> {
    RecordFacts {
        device_id,
        kind: "telemetry",
        topic: "acuvim/d1/telemetry",
        received_at: 1_778_951_132_000_001,
        epoch: 3,
        position: Position { partition: 4, offset: 5_000_000_000 },
    }
}

#[test]
fn a_letter_has_its_bytes_its_reason_and_where_it_came_from() {
    let letter = DeadLetter {
        reason: Reason::TooLarge,
        detail: Some("why".to_owned()),
        item: 6,
        payload: Bytes::from_static(b"\xff\0{"),
        length: 70_000,
        sha256: Some("ab".to_owned()),
    };
    let mut rows = DeadLetterRows::default();
    rows.push(&facts("d1"), &letter);
    assert_eq!((rows.len(), rows.is_empty()), (1, false));
    let batch = rows.finish().expect("schema");
    let column = |name: &str| batch.column_by_name(name).expect(name);
    let text = |name: &str| column(name).as_string::<i32>().value(0).to_owned();
    let texts = ["device_id", "kind", "topic", "reason", "detail", "payload_sha256"].map(text);
    assert_eq!(texts, ["d1", "telemetry", "acuvim/d1/telemetry", "too_large", "why", "ab"]);
    assert_eq!(column("payload").as_binary::<i32>().value(0), b"\xff\0{");
    assert_eq!(column("payload_length").as_primitive::<Int64Type>().value(0), 70_000);
    let arrival = column("received_at").as_primitive::<TimestampMicrosecondType>().value(0);
    assert_eq!(arrival, 1_778_951_132_000_001);
    let number = |name: &str| column(name).as_primitive::<Int32Type>().value(0);
    assert_eq!(["epoch", "partition", "item"].map(number), [3, 4, 6]);
    assert_eq!(column("offset").as_primitive::<Int64Type>().value(0), 5_000_000_000);
    assert_eq!(column("date").as_primitive::<Date32Type>().value(0), 20_589);
    // The next batch begins empty.
    assert_eq!((rows.len(), rows.finish().expect("schema").num_rows()), (0, 0));
}

#[test]
fn what_is_not_known_is_null_and_not_empty() {
    let mut rows = DeadLetterRows::default();
    rows.push(&facts(""), &DeadLetter::whole(Reason::Empty, None, 0, Bytes::new()));
    let batch = rows.finish().expect("schema");
    for name in ["device_id", "detail", "payload_sha256"] {
        assert!(batch.column_by_name(name).expect(name).is_null(0), "{name}");
    }
    assert!(batch.column_by_name("payload").expect("payload").is_valid(0));
}

#[test]
fn numbers_beyond_their_column_are_the_greatest_that_it_has() {
    let mut rows = DeadLetterRows::default();
    let position = Position { partition: u32::MAX, offset: 0 };
    let letter =
        DeadLetter { length: u64::MAX, ..DeadLetter::whole(Reason::Empty, None, 0, Bytes::new()) };
    rows.push(&RecordFacts { position, ..facts("d1") }, &letter);
    let batch = rows.finish().expect("schema");
    let column = |name: &str| batch.column_by_name(name).expect(name);
    assert_eq!(column("partition").as_primitive::<Int32Type>().value(0), i32::MAX);
    assert_eq!(column("payload_length").as_primitive::<Int64Type>().value(0), i64::MAX);
}
