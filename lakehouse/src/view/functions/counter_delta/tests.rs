use acuvim_wire::time::MINUTE;
use proptest::prelude::*;

use super::*;
use crate::view::meters::Meters;

fn known(end: f64, changes: &[Micros]) -> KnownMeters {
    let known = KnownMeters::default();
    let terms = MeterTerms { end, ..MeterTerms::default() };
    known.set_meters(Meters([(Arc::from("a"), terms)].into()));
    known.set_changes([(Arc::from("a"), changes.to_vec())].into());
    known
}

fn accumulator(known: &KnownMeters) -> Readings {
    Readings { known: known.clone(), counter: Counter::Total, of: BTreeMap::new() }
}

/// Rows as (device, minute, value).
type Row<'a> = (Option<&'a str>, Option<Micros>, Option<f64>);

fn columns(rows: &[Row<'_>]) -> [ArrayRef; 3] {
    let values: Float64Array = rows.iter().map(|row| row.2).collect();
    let times: TimestampMicrosecondArray =
        rows.iter().map(|row| row.1.map(|minute| minute * MINUTE)).collect();
    let devices: StringArray = rows.iter().map(|row| row.0).collect();
    [Arc::new(values), Arc::new(times.with_timezone("UTC")), Arc::new(devices)]
}

fn result(mut of: Readings) -> Option<f64> {
    match of.evaluate().expect("a result") {
        ScalarValue::Float64(counted) => counted,
        other => panic!("{other}"),
    }
}

fn counted(known: &KnownMeters, rows: &[Row<'_>]) -> Option<f64> {
    let mut readings = accumulator(known);
    readings.update_batch(&columns(rows)).expect("update");
    result(readings)
}

fn a(minute: Micros, value: f64) -> Row<'static> {
    (Some("a"), Some(minute), Some(value))
}

#[test]
fn readings_are_counted_by_time_however_they_come() {
    let known = known(1000.0, &[]);
    assert_eq!(counted(&known, &[a(3, 30.0), a(1, 10.0), a(2, 15.0)]), Some(20.0));
    assert_eq!(counted(&known, &[a(1, 10.0)]), Some(0.0), "one reading shows no consumption");
    assert_eq!(counted(&known, &[]), None, "none show nothing");
}

#[test]
fn rows_without_a_value_or_a_time_are_left_out() {
    let known = known(1000.0, &[]);
    let rows = [a(1, 10.0), (Some("a"), Some(2), None), (Some("a"), None, Some(99.0)), a(3, 12.0)];
    assert_eq!(counted(&known, &rows), Some(2.0));
    assert_eq!(counted(&known, &[(Some("a"), Some(2), None)]), None);
}

#[test]
fn each_device_is_counted_alone_by_the_limits_of_its_meter() {
    let known = known(1000.0, &[]);
    let b = |minute, value| (Some("b"), Some(minute), Some(value));
    let rows = [a(1, 999.0), b(1, 999.0), a(2, 1.0), b(2, 1.0), a(3, 2.0), b(3, 2.0)];
    // `a` rolls over at 1000, for `b` that is a reset.
    assert_eq!(counted(&known, &rows), Some(3.0 + 1.0));
}

#[test]
fn a_new_meter_begins_anew_at_the_moment_of_its_report() {
    let values = [a(1, 10.0), a(2, 12.0), a(3, 500.0), a(4, 503.0)];
    for (change, wanted) in [(2 * MINUTE + 1, 5.0), (3 * MINUTE, 5.0), (4 * MINUTE + 1, 493.0)] {
        assert_eq!(counted(&known(1e6, &[change]), &values), Some(wanted), "{change}");
    }
    assert_eq!(counted(&known(1e6, &[0]), &values), Some(493.0), "before the first reading");
    assert_eq!(counted(&known(1e6, &[MINUTE]), &values), Some(493.0), "with the first reading");
    let both = [2 * MINUTE + 1, 3 * MINUTE + 1];
    assert_eq!(counted(&known(1e6, &both), &values), Some(2.0), "two changes");
}

#[test]
fn sums_have_no_noise_of_floats() {
    let known = known(1000.0, &[]);
    let rows: Vec<_> =
        (0..11).map(|n| a(n, 0.1 * f64::from(i32::try_from(n).expect("few")))).collect();
    assert_eq!(counted(&known, &rows), Some(1.0));
}

#[test]
fn memory_grows_with_what_is_kept() {
    let known = known(1000.0, &[]);
    let mut readings = accumulator(&known);
    let empty = readings.size();
    let rows: Vec<_> = (0..1000).map(|n| a(n, 1.0)).collect();
    readings.update_batch(&columns(&rows)).expect("update");
    assert!(readings.size() >= empty + 1000 * size_of::<Reading>());
}

#[test]
fn columns_that_are_not_expected_are_refused() {
    let mut readings = accumulator(&known(1.0, &[]));
    let [values, ..] = columns(&[a(1, 1.0)]);
    readings.update_batch(std::slice::from_ref(&values)).expect_err("one column");
    readings.merge_batch(&[values]).expect_err("one state");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn parts_that_are_merged_count_as_the_whole(
        rows in prop::collection::vec(
            (prop::sample::select(vec!["a", "b"]), 0..500_i64, 0.0_f64..1000.0, 0..3_usize), 0..60),
    ) {
        let known = known(1000.0, &[250 * MINUTE]);
        // Of readings with one time the order is not defined, so each time occurs once per device.
        let mut seen = std::collections::HashSet::new();
        let rows: Vec<_> = rows.into_iter().filter(|row| seen.insert((row.0, row.1))).collect();
        let row = |(device, minute, value, _): &(&'static str, Micros, f64, usize)| {
            (Some(*device), Some(*minute), Some(*value))
        };
        let whole: Vec<Row<'_>> = rows.iter().map(row).collect();
        let mut merged = accumulator(&known);
        for part in 0..3 {
            let part: Vec<Row<'_>> = rows.iter().filter(|r| r.3 == part).map(row).collect();
            let mut readings = accumulator(&known);
            readings.update_batch(&columns(&part)).expect("update");
            let states = readings.state().expect("states");
            let states: Vec<ArrayRef> =
                states.iter().map(|state| state.to_array().expect("an array")).collect();
            merged.merge_batch(&states).expect("merge");
        }
        prop_assert_eq!(result(merged), counted(&known, &whole));
    }
}
