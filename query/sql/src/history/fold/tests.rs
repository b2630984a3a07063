//! Buckets of readings, of the rollup, and of counters whose meters change.

use super::*;
use acuvim_lakehouse::{Counter, Interval};
use acuvim_wire::time::SECOND;

fn before(newest: Micros, readings: Vec<Reading>) -> LastReadings {
    LastReadings { newest, of_columns: vec![readings] }
}

fn fold(aggregates: &[Aggregate], changes: &[Micros]) -> Fold {
    let buckets = Buckets::new(Interval::Fixed(60 * SECOND), chrono_tz::Tz::UTC).expect("regular");
    let column = Column { counter: Some(Counter::Total), scale: 2 };
    let meter = Meter { changes: changes.to_vec(), ..Meter::default() };
    Fold::new(buckets, vec![column], aggregates.to_vec(), meter)
}

fn run(mut fold: Fold, readings: &[(i64, Option<f64>)]) -> Vec<(i64, Vec<Option<f64>>)> {
    let mut rows = Vec::new();
    for (ts, value) in readings {
        fold.push(ts * SECOND, std::iter::once(*value));
        rows.extend(std::iter::from_fn(|| fold.pop()));
    }
    rows.extend(fold.finish());
    rows.into_iter().map(|row| (row.start / SECOND, row.cells)).collect()
}

fn reading(at: i64, value: f64) -> Reading {
    Reading { ts: at * SECOND, value }
}

#[test]
fn buckets_say_what_was_in_them() {
    let every: Vec<Aggregate> = Aggregate::ALL.into_iter().map(|(_, of)| of).collect();
    let rows = run(
        fold(&every, &[]),
        &[(0, Some(1.1)), (10, None), (20, Some(2.2)), (65, Some(0.5)), (130, None)],
    );
    let cells = |text: [f64; 8]| text.map(Some).to_vec();
    let Some((0, first)) = rows.first() else { panic!("{rows:?}") };
    assert!((first[0].unwrap_or(0.0) - 1.65).abs() < 1e-9);
    assert_eq!(first[1..], cells([1.65, 1.1, 2.2, 3.3, 2.0, 1.1, 2.2, 1.1])[1..]);
    // The counter fell: a reset, which counts nothing.
    assert_eq!(rows[1], (60, cells([0.5, 0.5, 0.5, 0.5, 1.0, 0.5, 0.5, 0.0])));
    let nothing = vec![None, None, None, None, Some(0.0), None, None, None];
    assert_eq!(rows[2], (120, nothing));
}

#[test]
fn what_is_counted_between_buckets_is_the_later_ones() {
    let mut fold = fold(&[Aggregate::Delta], &[]);
    fold.begin_after(&before(-5 * SECOND, vec![reading(-8, 7.0)]));
    let readings: Vec<_> = (0..20).map(|n| (n * 10, Some(10.0 + n as f64))).collect();
    let rows = run(fold, &readings);
    let deltas: Vec<f64> = rows.iter().filter_map(|(_, cells)| cells[0]).collect();
    assert_eq!(deltas, [8.0, 6.0, 6.0, 2.0]);
    assert!((deltas.iter().sum::<f64>() - (29.0 - 7.0)).abs() < 1e-9);
}

#[test]
fn a_jump_at_the_edge_of_a_bucket_counts_nothing() {
    let readings = [(0, 100.0), (50, 100.1), (59, 150.0), (60, 100.2), (70, 100.3)];
    let readings = readings.map(|(at, value)| (at, Some(value)));
    let rows = run(fold(&[Aggregate::Delta], &[]), &readings);
    assert_eq!(rows, [(0, vec![Some(0.1)]), (60, vec![Some(0.2)])]);
    // The last bucket depends on the reading after it.
    let mut cut = fold(&[Aggregate::Delta], &[]);
    for (at, value) in &readings[..3] {
        cut.push(at * SECOND, std::iter::once(*value));
    }
    assert!(!cut.is_settled());
    cut.look_at(60 * SECOND, std::iter::once(Some(0.0)));
    assert!(!cut.is_settled(), "a reset, or one of those");
    cut.look_at(70 * SECOND, std::iter::once(Some(100.3)));
    assert!(cut.is_settled());
    assert_eq!(cut.finish()[0].cells, [Some(0.1)]);
    // A jump before the history is not a reading to go on counting from.
    let mut after = fold(&[Aggregate::Delta], &[]);
    let before = [reading(-1, 41_746_432.0), reading(-10, 100.1), reading(-20, 100.0)];
    after.begin_after(&LastReadings { newest: -SECOND, of_columns: vec![before.to_vec()] });
    assert_eq!(run(after, &[(0, Some(100.2))]), [(0, vec![Some(0.1)])]);
}

#[test]
fn quarters_and_readings_make_the_same_buckets() {
    let wanted = [Aggregate::Avg, Aggregate::Min, Aggregate::Max, Aggregate::Count];
    let every = [&wanted[..], &[Aggregate::Delta]].concat();
    let all = [(0, Some(1.0)), (10, Some(2.5)), (20, None), (65, Some(4.0)), (70, Some(7.0))];
    let readings = run(fold(&every, &[]), &all);
    // The first bucket as two quarters, the second as readings after them.
    let mut mixed = fold(&every, &[]);
    let rolled = |value: f64, delta: f64| Rolled {
        count: 1,
        min: value,
        max: value,
        avg: value,
        delta: Some(delta),
    };
    mixed.push_rolled(0, 5 * SECOND, std::iter::once(rolled(1.0, 0.0)));
    mixed.push_rolled(10 * SECOND, 20 * SECOND, std::iter::once(rolled(2.5, 1.5)));
    mixed.begin_after(&before(20 * SECOND, vec![reading(10, 2.5), reading(0, 1.0)]));
    assert_eq!(run(mixed, &all[3..]), readings);
    // Another meter in between: its readings do not continue those in the rollup.
    let mut parted = fold(&[Aggregate::Delta], &[60 * SECOND]);
    parted.push_rolled(0, 20 * SECOND, std::iter::once(rolled(2.5, 0.0)));
    parted.begin_after(&before(20 * SECOND, vec![reading(10, 2.5)]));
    assert_eq!(run(parted, &all[3..])[1].1, [Some(3.0)]);
}

#[test]
fn another_meter_has_counters_of_its_own() {
    let readings = [(0, Some(10.0)), (10, Some(12.0)), (20, Some(900.0)), (30, Some(901.0))];
    let rows = run(fold(&[Aggregate::Delta], &[15 * SECOND]), &readings);
    assert_eq!(rows, [(0, vec![Some(3.0)])]);
    let rows = run(fold(&[Aggregate::Delta], &[]), &readings);
    assert_eq!(rows, [(0, vec![Some(891.0)])]);
    let mut fold = fold(&[Aggregate::Delta], &[-10 * SECOND]);
    fold.begin_after(&before(-5 * SECOND, vec![reading(-20, 3.0)]));
    assert_eq!(run(fold, &readings[..2]), [(0, vec![Some(2.0)])]);
}

/// Two counters, of which the first falls silent.
fn two_counters() -> Fold {
    let buckets = Buckets::new(Interval::Fixed(60 * SECOND), chrono_tz::Tz::UTC).expect("regular");
    let column = Column { counter: Some(Counter::Total), scale: 2 };
    Fold::new(buckets, vec![column; 2], vec![Aggregate::Delta], Meter::default())
}

#[test]
fn buckets_wait_for_a_silent_counter_but_not_for_ever() {
    let mut fold = two_counters();
    fold.push(0, [Some(1.0), Some(1.0)].into_iter());
    let minute = |n: usize| i64::try_from(n).expect("few") * 60 * SECOND;
    for n in 1..=MOST_WAITING {
        fold.push(minute(n), [None, Some(1.0)].into_iter());
        assert_eq!(fold.pop(), None, "the first counter may still take its first bucket back");
    }
    fold.push(minute(MOST_WAITING + 1), [None, Some(1.0)].into_iter());
    let over: Vec<Row> = std::iter::from_fn(|| fold.pop()).collect();
    assert_eq!(over.len(), MOST_WAITING + 1);
    assert!(over.iter().zip(0..).all(|(row, n)| row.start == minute(n)), "in order");
}

#[test]
fn what_waits_is_not_lost_at_the_end() {
    let mut fold = two_counters();
    fold.push(0, [Some(1.0), Some(1.0)].into_iter());
    fold.push(60 * SECOND, [None, Some(2.0)].into_iter());
    fold.push(120 * SECOND, [None, None].into_iter());
    let rows = fold.finish();
    assert_eq!(rows.iter().map(|row| row.start / SECOND).collect::<Vec<_>>(), [0, 60, 120]);
    assert_eq!(rows[1].cells, [None, Some(1.0)], "a column without readings has no delta");
}

#[test]
fn sums_have_no_more_digits_than_their_readings() {
    let readings: Vec<_> = (0..10).map(|n| (n, Some(0.1))).collect();
    assert_eq!(run(fold(&[Aggregate::Sum], &[]), &readings), [(0, vec![Some(1.0)])]);
    let negative = [(0, Some(-0.1)), (1, Some(-0.2))];
    assert_eq!(run(fold(&[Aggregate::Sum], &[]), &negative), [(0, vec![Some(-0.3)])]);
}

#[test]
fn a_bucket_ends_where_the_next_begins() {
    let readings = [(-1, Some(1.0)), (0, Some(2.0)), (59, Some(3.0)), (60, Some(4.0))];
    let rows = run(fold(&[Aggregate::First, Aggregate::Last], &[]), &readings);
    let cells = |first, last| vec![Some(first), Some(last)];
    assert_eq!(rows, [(-60, cells(1.0, 1.0)), (0, cells(2.0, 3.0)), (60, cells(4.0, 4.0))]);
}

#[test]
fn extremes_are_those_of_negative_values_too() {
    let readings = [(0, Some(-5.0)), (1, Some(-7.0)), (2, Some(-6.0))];
    let rows = run(fold(&[Aggregate::Min, Aggregate::Max], &[]), &readings);
    assert_eq!(rows, [(0, vec![Some(-7.0), Some(-5.0)])]);
    let mut rolled = fold(&[Aggregate::Min, Aggregate::Max, Aggregate::Count], &[]);
    let quarter = |min, max, count| Rolled { count, min, max, avg: min, delta: None };
    rolled.push_rolled(0, SECOND, std::iter::once(quarter(0.0, 0.0, 0)));
    rolled.push_rolled(15 * SECOND, 16 * SECOND, std::iter::once(quarter(-7.0, -5.0, 2)));
    // A quarter without values has zeros that are none.
    let row = rolled.finish().remove(0);
    assert_eq!(row.cells, [Some(-7.0), Some(-5.0), Some(2.0)]);
}

#[test]
fn a_change_of_the_meter_at_a_reading_counts_before_it() {
    let readings = [(0, Some(10.0)), (10, Some(500.0)), (20, Some(501.0))];
    let rows = run(fold(&[Aggregate::Delta], &[10 * SECOND]), &readings);
    assert_eq!(rows, [(0, vec![Some(1.0)])], "at 10 s the other meter is there");
    let rows = run(fold(&[Aggregate::Delta], &[10 * SECOND + 1]), &readings);
    assert_eq!(rows, [(0, vec![Some(490.0)])], "the change comes after that reading");
    let rows = run(fold(&[Aggregate::Delta], &[0]), &readings);
    assert_eq!(rows, [(0, vec![Some(491.0)])], "a change before the first reading parts nothing");
}

#[test]
fn a_counter_begins_anew_where_nothing_was_read_before() {
    let mut fold = fold(&[Aggregate::Delta], &[]);
    fold.begin_after(&before(-5 * SECOND, vec![reading(-8, 7.0)]));
    fold.begin();
    assert_eq!(run(fold, &[(0, Some(9.0)), (10, Some(9.5))]), [(0, vec![Some(0.5)])]);
}
