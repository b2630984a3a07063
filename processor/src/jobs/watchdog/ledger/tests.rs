use super::*;
use acuvim_wire::record::Position;

fn row(first: i64, next: i64) -> LedgerRow {
    let counts = Counts { records: next - first, ..Counts::default() };
    LedgerRow { minute: 0, counts, first: Position { partition: 0, offset: first }, next }
}

#[test]
fn rows_that_overlap_are_one_span_and_what_lies_between_spans_is_named() {
    let rows = [row(0, 5), row(3, 8), row(8, 10), row(12, 15), row(15, 99)];
    let at = |spans: &[(Range<i64>, Counts)]| -> Vec<_> {
        spans.iter().map(|(s, c)| (s.start, s.end, c.records)).collect()
    };
    let spans = whole_spans(&rows, Some(0), 15);
    assert_eq!(at(&spans), [(0, 8, 10), (8, 10, 2), (12, 15, 3)]);
    let gaps = gaps(1, &spans, 0);
    let subjects: Vec<_> = gaps.iter().map(|g| g.subject.as_str()).collect();
    assert_eq!(subjects, ["1/10"]);
    // A span that telemetry covers in part is left for a later check.
    assert_eq!(at(&whole_spans(&rows, Some(8), 14)), [(8, 10, 2)]);
    assert_eq!(at(&whole_spans(&[row(5, 9), row(9, 12)], None, 20)), [(9, 12, 3)]);
    assert_eq!(runs(&[1, 2, 3, 7, 9, 10]), [(1, 3), (7, 7), (9, 10)]);
}

fn stored(all: &[(Table, i64, i64)]) -> RowCounts {
    let mut counts = RowCounts::new();
    for (table, offset, rows) in all {
        counts.entry(*table).or_default().insert(*offset, *rows);
    }
    counts
}

/// Counts of three records that balance: two readings, of which one is a duplicate, and a heartbeat.
fn balanced() -> Counts {
    let mut counts = Counts::default();
    (counts.records, counts.received) = (3, 3);
    (counts.stored, counts.duplicates, counts.heartbeats) = (1, 1, 1);
    counts
}

#[test]
fn a_span_that_balances_has_no_faults() {
    let rows = stored(&[(Table::Telemetry, 10, 1), (Table::Heartbeats, 12, 1)]);
    assert_eq!(faults(&(10..13), &balanced(), &rows), [""; 0]);
}

#[test]
fn each_difference_is_named_with_its_figures() {
    let rows = |telemetry, heartbeats, letters| {
        stored(&[
            (Table::Telemetry, 10, telemetry),
            (Table::Heartbeats, 12, heartbeats),
            (Table::DeadLetters, 11, letters),
        ])
    };
    let found = |counts: &Counts, rows: &RowCounts| faults(&(10..13), counts, rows);
    let counts = balanced();
    assert_eq!(found(&counts, &rows(2, 1, 0)), ["telemetry has 2 rows of 1 counted"]);
    assert_eq!(found(&counts, &rows(1, 0, 0)), ["heartbeats has 0 rows of 1 counted"]);
    assert_eq!(found(&counts, &rows(1, 1, 1)), ["dead_letters has 1 rows of 0 counted"]);
    let lost = Counts { received: 5, ..counts };
    assert_eq!(found(&lost, &rows(1, 1, 0)), ["of 5 received 2 are unaccounted for"]);
    let twice = Counts { records: 4, ..counts };
    assert_eq!(found(&twice, &rows(1, 1, 0)), ["4 records were counted"]);
}

#[test]
fn rows_of_other_spans_do_not_count() {
    let rows = stored(&[(Table::Telemetry, 10, 1), (Table::Heartbeats, 12, 1)]);
    let mut others = rows;
    others.entry(Table::Telemetry).or_default().extend([(9, 1), (13, 1)]);
    assert_eq!(faults(&(10..13), &balanced(), &others), [""; 0]);
}

#[test]
fn a_reading_with_the_time_of_another_is_a_dead_letter() {
    let mut counts = balanced();
    (counts.duplicates, counts.same_ts) = (0, 1);
    let rows = stored(&[
        (Table::Telemetry, 10, 1),
        (Table::DeadLetters, 11, 1),
        (Table::Heartbeats, 12, 1),
    ]);
    assert_eq!(faults(&(10..13), &counts, &rows), [""; 0]);
}

#[test]
fn one_check_compares_so_many_offsets_and_at_least_one_span() {
    let most = MAX_OFFSETS;
    let rows = [row(0, 10), row(10, most), row(most, most + 5)];
    let spans = |rows: &[LedgerRow], from| {
        let spans = whole_spans(rows, from, i64::MAX);
        spans.into_iter().map(|(span, _)| (span.start, span.end)).collect::<Vec<_>>()
    };
    assert_eq!(spans(&rows, Some(0)), [(0, 10), (10, most)]);
    assert_eq!(spans(&[row(0, 2 * most), row(2 * most, 2 * most + 1)], Some(0)), [(0, 2 * most)]);
    assert_eq!(spans(&[], Some(0)), []);
}

#[test]
fn the_oldest_span_is_left_out_only_where_it_may_be_cut_off() {
    let starts = |rows: &[LedgerRow], from| {
        whole_spans(rows, from, 100).into_iter().map(|(s, _)| s.start).collect::<Vec<_>>()
    };
    assert_eq!(starts(&[row(0, 5), row(5, 9)], None), [0, 5], "it begins with the log");
    assert_eq!(starts(&[row(3, 5), row(5, 9)], None), [5]);
    assert_eq!(starts(&[row(3, 5), row(5, 9)], Some(3)), [3, 5]);
    assert_eq!(starts(&[row(3, 5), row(5, 9)], Some(5)), [5], "the other was compared before");
}

#[test]
fn a_gap_before_the_first_span_is_found_too() {
    let spans = spans(&[row(10, 12)]);
    let found = gaps(3, &spans, 7);
    let [gap] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((gap.alert_type, gap.subject.as_str()), ("ledger_unbalanced", "3/7"));
    assert!(gap.message.contains("offsets 7 to 9: offsets 7 to 9 were never counted"));
    assert!(gaps(3, &spans, 10).is_empty());
    assert!(gaps(3, &spans, 11).is_empty(), "from within the span on");
}

#[test]
fn an_alert_names_the_first_runs_of_missing_offsets_and_lists_more() {
    let missing: Vec<i64> = (0..2000).map(|n| n * 2).collect();
    let alert = condition(1, &(0..4000), "lost", &missing);
    assert!(alert.message.contains("in no table: 0, 2, 4") && alert.message.contains(", 38."));
    let listed = alert.metadata["missing_offsets"].as_array().map(Vec::len);
    assert_eq!(listed, Some(LISTED_RUNS));
    let none = condition(1, &(5..6), "lost", &[]);
    assert!(!none.message.contains("in no table"), "{}", none.message);
    assert_eq!(
        (&none.metadata["first_offset"], &none.metadata["last_offset"]),
        (&json!(5), &json!(5))
    );
    assert_eq!(runs(&[]), []);
}
