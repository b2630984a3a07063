use acuvim_tables::ledger::Counts;
use acuvim_wire::time::DAY;

use super::*;
use crate::{
    Lake, LakeOptions, WriteGuards,
    memory::tail::Rows,
    testing::{
        T0, dead_letters, lake, lake_with, options, push, push_rows, reading, rows_of, store,
        telemetry,
    },
};

/// A batch of records that have no rows, each with counts.
fn counted(from: i64, next: i64, counts: Counts) -> TailBatch {
    let mut rows = Rows::none();
    (from..next).for_each(|offset| rows.ledger.count(None, T0, offset, &counts));
    TailBatch { from, next, rows }
}

fn pulses(from: i64, next: i64) -> TailBatch {
    counted(from, next, Counts { records: 1, internal: 1, ..Counts::default() })
}

fn ends(ends: &[(u32, i64)]) -> Covered {
    ends.iter().copied().collect()
}

#[test]
fn a_few_pulses_wait_and_many_do_not() {
    let all = ends(&[(0, MAX_IDLE_RECORDS)]);
    assert!(is_idle(&[vec![pulses(0, MAX_IDLE_RECORDS)]], &all));
    assert!(!is_idle(&[vec![pulses(0, MAX_IDLE_RECORDS + 1)]], &all));
    let two = [vec![pulses(0, MAX_IDLE_RECORDS / 2), pulses(0, MAX_IDLE_RECORDS / 2 + 1)]];
    assert!(!is_idle(&two, &all), "batches add up");
}

#[test]
fn a_message_of_a_device_never_waits_even_without_rows() {
    let all = ends(&[(0, 9)]);
    let duplicate = Counts { records: 1, received: 1, duplicates: 1, ..Counts::default() };
    assert!(!is_idle(&[vec![pulses(0, 5), counted(5, 6, duplicate)]], &all));
    let unknown = Counts { records: 1, ..Counts::default() };
    assert!(!is_idle(&[vec![counted(0, 1, unknown)]], &all), "not one of ingest itself");
    let mut with_rows = pulses(0, 1);
    with_rows.rows.telemetry = telemetry(0, 0, &[reading("a", T0)]);
    assert!(!is_idle(&[vec![with_rows]], &all));
}

#[test]
fn other_peoples_partitions_do_not_decide_whether_to_wait() {
    let mut busy = pulses(0, 1);
    busy.rows.telemetry = telemetry(1, 0, &[reading("a", T0)]);
    assert!(is_idle(&[vec![pulses(0, 5)], vec![busy]], &ends(&[(0, 5)])));
}

#[test]
fn a_tail_that_begins_behind_the_table_has_a_gap() {
    let tail = [vec![pulses(5, 9)], vec![pulses(0, 3)]];
    let check =
        |covered: &[(u32, i64)], to: &[(u32, i64)]| check_no_gap(&tail, &ends(covered), &ends(to));
    check(&[(0, 5)], &[(0, 9), (1, 3)]).expect("it begins where the table ends");
    check(&[(0, 8)], &[(0, 9)]).expect("it begins before");
    let error = check(&[(0, 4)], &[(0, 9)]).expect_err("offset 4 is missing");
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.to_string().contains("covered to 4 and its tail begins at 5"), "{error}");
    check(&[], &[(0, 9)]).expect_err("offsets 0 to 4 are missing");
    check(&[], &[(1, 3)]).expect("partition 0 is not flushed");
}

#[test]
fn steps_never_go_back() {
    let covered = ends(&[(0, 5), (1, 7), (2, 9)]);
    let steps = steps(&covered, &ends(&[(0, 6), (1, 7), (2, 8), (3, 1)]));
    assert_eq!(steps.keys().copied().collect::<Vec<_>>(), [0, 3]);
    assert_eq!(steps[&0], Step { expected: Some(5), next: 6 });
    assert_eq!(steps[&3], Step { expected: None, next: 1 });
    let forced = forced_steps(&covered, &ends(&[(0, 6), (2, 8), (3, 1)]));
    assert_eq!(forced[&2], Step { expected: Some(9), next: 9 });
    assert_eq!((forced[&0].next, forced[&3].next), (6, 1));
}

async fn stored(lake: &Lake) -> usize {
    let view = lake.view(false).expect("view");
    rows_of(&view, "SELECT ts FROM telemetry").await.iter().map(RecordBatch::num_rows).sum()
}

#[tokio::test]
async fn pulses_alone_are_committed_by_the_last_flush() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    lake.push(0, pulses(0, 3)).expect("push");
    assert_eq!(lake.flush(false).await.expect("flush"), Flushed::Nothing);
    assert_eq!(lake.next_offset(0), 0);
    let done = lake.flush(true).await.expect("flush");
    assert!(matches!(done, Flushed::Done { .. }), "{done:?}");
    assert_eq!((lake.next_offset(0), lake.next_offset_of(Table::Ledger, 0)), (3, 3));
}

#[tokio::test]
async fn a_flush_says_what_it_wrote_and_empties_the_tail() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let (telemetry, letters) =
        (telemetry(1, 0, &[reading("a", T0)]), dead_letters(1, 1, &[("a", T0, "?")]));
    push_rows(&lake, 1, Rows { telemetry, dead_letters: letters, ..Rows::none() });
    let Flushed::Done { covered, rows } = lake.flush(false).await.expect("flush") else {
        panic!("there was something to write")
    };
    assert_eq!(covered, ends(&[(1, 2)]));
    assert_eq!((rows["telemetry"], rows["dead_letters"], rows["heartbeats"]), (1, 1, 0));
    assert_eq!((lake.pending_rows(), lake.tail().size().borrow().rows), (0, 0));
    assert_eq!(lake.next_offset_of(Table::Heartbeats, 1), 0, "it had no rows to cover");
}

#[tokio::test]
async fn only_owned_partitions_are_written() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let devices: Vec<String> = (0..12).map(|n| format!("d{n}")).collect();
    let readings: Vec<_> = devices.iter().map(|device| reading(device, T0)).collect();
    (1..4).for_each(|partition| lake.own(partition, false));
    push(&lake, &readings);
    let ours = devices.iter().filter(|d| lake.newest().partition(d) == 0).count();
    assert!(ours > 0 && ours < devices.len());
    assert_eq!(lake.pending_rows(), ours);
    lake.flush(true).await.expect("flush");
    assert_eq!(stored(&lake).await, ours);
    assert_eq!(lake.tail().size().borrow().rows, devices.len() - ours);
}

/// What a process that was killed in the middle of a flush has committed is not committed again.
#[tokio::test]
async fn a_flush_that_was_cut_short_goes_on_where_each_table_is() {
    let dir = tempfile::tempdir().expect("dir");
    let rows = || Rows {
        telemetry: telemetry(0, 0, &[reading("a", T0)]),
        dead_letters: dead_letters(0, 1, &[("a", T0, "?")]),
        ledger: pulses(0, 2).rows.ledger,
        ..Rows::none()
    };
    let killed = lake(dir.path()).await;
    let batches = [vec![TailBatch { from: 0, next: 2, rows: rows() }]];
    let end = ends(&[(0, 2)]);
    let options = options(dir.path());
    let tables = Tables::open(options).await.expect("open");
    let flush = Flush { tables: &tables, batches: &batches, ends: &end };
    for table in [Table::Ledger, Table::DeadLetters] {
        assert!(matches!(flush.table(table).await.expect("flush"), TableFlush::Wrote(1)));
    }
    drop(killed);
    let again = lake(dir.path()).await;
    assert_eq!((again.next_offset(0), again.next_offset_of(Table::DeadLetters, 0)), (0, 2));
    push_rows(&again, 0, rows());
    let Flushed::Done { rows, .. } = again.flush(true).await.expect("flush") else {
        panic!("telemetry was missing")
    };
    assert_eq!((rows["ledger"], rows["dead_letters"], rows["telemetry"]), (0, 0, 1));
    let view = again.view(false).expect("view");
    for table in ["ledger", "dead_letters", "telemetry"] {
        let found = rows_of(&view, &format!("SELECT * FROM {table}")).await;
        assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 1, "{table}");
    }
}

#[tokio::test]
async fn with_the_skip_switched_off_records_are_read_and_written_again() {
    let dir = tempfile::tempdir().expect("dir");
    let guards = WriteGuards::default().without_offsets();
    let open = async || lake_with(LakeOptions { guards, ..options(dir.path()) }).await;
    store(&open().await, &[reading("a", T0)]).await;
    let again = open().await;
    store(&again, &[reading("a", T0)]).await;
    assert_eq!(stored(&again).await, 2);
}

#[tokio::test]
async fn rows_of_many_days_are_one_commit() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let before = lake.snapshot(Table::Telemetry).expect("snapshot").version();
    let days: Vec<_> = (0..5).map(|day| reading("a", T0 - day * DAY)).collect();
    store(&lake, &days).await;
    let after = lake.snapshot(Table::Telemetry).expect("snapshot");
    assert_eq!((after.version(), after.file_count()), (before + 1, 5));
}
